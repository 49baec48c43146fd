"""How near noise and JPEG quality are told on pictures that no constant was chosen by."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import strategies as made
from PIL import Image
from scipy import ndimage
from tables import write_table

from refine.assessment import Estimate
from refine.compression import jpeg
from refine.jpeg import read_spec
from refine.limits import Limits
from refine.noise import Noise, noise
from refine.sampling import samples
from refine.spec import ImageSpec

pytestmark = pytest.mark.bench

_DATA = Path(__file__).parents[3] / "shared" / "data"
_SIGMAS = (2.0, 5.0, 10.0, 20.0)
_QUALITIES = (10, 20, 30, 50, 70, 80, 85, 90, 92, 95)
_LUMA = np.array([0.299, 0.587, 0.114])
_PLAIN = {
    "Kodak": "eval/kodak/*.png",
    "Set14": "eval/set14/x2/*_HR.png",
    "old photographs": "samples/oldphotos/*.png",
    "scanned pages": "samples/pages/*.*",
    "products, cut out": "samples/products/*.png",
    "shop photographs (JPEG), halved": "samples/tiny/*.jpg",
}
Damage = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


def pictures(pattern: str) -> list[np.ndarray]:
    """The pictures of a set, (y, x, c) uint8."""
    paths = sorted(_DATA.glob(pattern))
    if not paths:
        pytest.skip(f"needs {pattern} of the data beside the checkout")
    return [pixels_of(path) for path in paths]


def pixels_of(path: Path) -> np.ndarray:
    """The pixels of a file, RGB or with alpha."""
    with Image.open(path) as opened:
        return np.asarray(opened.convert("RGBA" if opened.mode in ("LA", "RGBA", "P") else "RGB"))


def halved(pixels: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 px: half of its own grain, and no blocks."""
    even = pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2].astype(float)
    means = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4
    return np.round(means).astype(np.uint8)


def written(pixels: np.ndarray) -> np.ndarray:
    """Rounded to 8 bits."""
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)


def compressed(pixels: np.ndarray, quality: int) -> np.ndarray:
    """After JPEG, chroma at half the size as encoders do."""
    return np.asarray(Image.open(io.BytesIO(encoded(pixels, quality))))


def encoded(pixels: np.ndarray, quality: int) -> bytes:
    """The JPEG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "jpeg", quality=quality)
    return file.getvalue()


def in_luma(pixels: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """The same white noise in all channels."""
    return written(pixels + rng.normal(0, sigma, (*pixels.shape[:2], 1)))


def in_channels(pixels: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """White noise, another in each channel."""
    return written(pixels + rng.normal(0, sigma, pixels.shape))


def as_grain(pixels: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Noise that is blurred by 0.7 px, in all channels."""
    soft = ndimage.gaussian_filter(rng.normal(0, 1, pixels.shape[:2]), 0.7)
    return written(pixels + (sigma * soft / soft.std())[:, :, None])


def under_jpeg(pixels: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """White noise in all channels, and JPEG of quality 90 after it."""
    return compressed(in_luma(pixels, sigma, rng), 90)


def measured(pixels: np.ndarray) -> Noise:
    """The noise that is told."""
    return noise(list(samples(pixels, made.spec_of(pixels))))


def told(found: list[Estimate], truths: list[float], share: float = 0.15, least: float = 0.5) -> tuple[str, ...]:
    """How many lie within the bound, how many are sure, how many none, and the spread of the rest."""
    values = [(e.value, truth) for e, truth in zip(found, truths, strict=True) if e.value is not None]
    inside = sum(abs(value - truth) <= max(least, share * truth) for value, truth in values)
    wrong = sum(
        e.confidence == "sure" and abs(e.value - truth) > max(least, share * truth)
        for e, truth in zip(found, truths, strict=True)
    )
    sure = sum(e.confidence == "sure" for e in found)
    low, middle, high = np.quantile([value for value, _ in values], [0.05, 0.5, 0.95]) if values else (np.nan,) * 3
    return (
        f"{inside} of {len(found)}",
        f"{wrong} of {sure}",
        str(len(found) - len(values)),
        f"{low:.1f} .. **{middle:.1f}** .. {high:.1f}",
    )


def left_over(damaged: np.ndarray, clean: np.ndarray) -> float:
    """Sigma of what was done to luma, where nothing is clipped."""
    open_ = ((damaged > 0) & (damaged < 255)).all(axis=2)
    return float(((damaged.astype(float) - clean) @ _LUMA)[open_].std())


def noise_rows(name: str, photographs: list[np.ndarray]) -> Iterator[tuple[str, ...]]:
    """A row for each damage and sigma."""
    rng = np.random.default_rng(0)
    kinds: dict[str, tuple[Damage, float, float]] = {
        "white, luma": (in_luma, 1.0, 0.0),
        "white, each channel": (in_channels, float(np.sqrt((_LUMA**2).sum())), np.sqrt(2)),
        "grain": (as_grain, 1.0, 0.0),
        "white, then q90": (under_jpeg, 1.0, 0.0),
    }
    for kind, (damage, luma, chroma) in kinds.items():
        for sigma in _SIGMAS:
            damaged = [damage(p, sigma, rng) for p in photographs]
            found = [measured(p) for p in damaged]
            truths = [luma * sigma] * len(found)
            if damage is under_jpeg:
                truths = [left_over(d, p) for d, p in zip(damaged, photographs, strict=True)]
            grain = [f.grain.value for f in found if f.grain.value is not None]
            middle = f"{np.median(grain):.2f}" if grain else "-"
            yield (name, kind, f"{np.median(truths):.1f}", *told([f.luma for f in found], truths), middle)
            if chroma:
                truths = [chroma * sigma] * len(found)
                yield (name, "its chroma", f"{truths[0]:.1f}", *told([f.chroma for f in found], truths), "")


def chart(seed: int) -> np.ndarray:
    """Flat patches of 64 px."""
    patches = np.random.default_rng(seed).uniform(80, 175, (8, 12, 3))
    return patches.repeat(64, axis=0).repeat(64, axis=1)


def test_noise_estimates() -> None:
    """Write the table of noise told against noise added."""
    kodak = pictures(_PLAIN["Kodak"])
    rows = [*noise_rows("Kodak, halved", [halved(p) for p in kodak]), *noise_rows("Kodak", kodak)]
    rng = np.random.default_rng(1)
    for sigma in _SIGMAS:
        found = [measured(in_channels(chart(seed), sigma, rng)) for seed in range(12)]
        luma = sigma * float(np.sqrt((_LUMA**2).sum()))
        rows.append(
            ("charts, 5 %", "white", f"{luma:.2f}", *told([f.luma for f in found], [luma] * 12, 0.05, 0.05), "")
        )
        chroma = sigma * np.sqrt(2)
        rows.append(("", "its chroma", f"{chroma:.2f}", *told([f.chroma for f in found], [chroma] * 12, 0.05, 0), ""))
    for name, pattern in _PLAIN.items():
        shrink = halved if "halved" in name else (lambda p: p)
        found = [measured(shrink(p)) for p in pictures(pattern)]
        rows.append((name, "as it is", "?", *told([f.luma for f in found], [0.0] * len(found), least=1.0), ""))
    small = [measured(halved(p)) for p in kodak]
    rows.append(("Kodak, halved", "as it is", "?", *told([f.luma for f in small], [0.0] * len(small), least=1.0), ""))
    spent = 0.0
    for pixels in kodak:
        found_samples = list(samples(pixels, made.spec_of(pixels)))
        started = time.process_time()
        noise(found_samples)
        spent += time.process_time() - started
    area = sum(p.shape[0] * p.shape[1] for p in kodak) / 1e6
    header = ("pictures", "noise", "truth", "within bound", "sure and wrong", "cannot tell", "told: 5 %, median, 95 %")
    notes = (
        "Levels of 8 bits. The bound is half a level or 15 %, 5 % on charts, and for pictures as they are: at most 1. "
        "The truth is what was added (after JPEG: the deviation from the clean picture, with JPEG's own error), so the "
        "grain that photographs have already counts as an error. Grain: correlation of neighbours, median. "
        f"Cost: {spent / area * 1e3:.0f} ms CPU a megapixel."
    )
    print(write_table("noise-estimates", "Noise told of pictures held out", (*header, "grain"), rows, notes))


def file_told(pixels: np.ndarray, quality: int) -> tuple[Estimate, tuple[int, int] | None]:
    """What is said of a JPEG with its table."""
    data = encoded(pixels, quality)
    spec = read_spec(io.BytesIO(data), "some.jpg", Limits())
    decoded = np.asarray(Image.open(io.BytesIO(data)))
    found = jpeg(spec, list(samples(decoded, spec)))
    return found.quality, found.grid


def pixels_told(pixels: np.ndarray) -> tuple[Estimate, tuple[int, int] | None]:
    """What is said of a picture by its pixels."""
    spec: ImageSpec = made.spec_of(pixels)
    found = jpeg(spec, list(samples(pixels, spec)))
    return found.quality, found.grid


def row(name: str, found: list[tuple[Estimate, object]], truth: int, grids: list[object] | None) -> tuple[str, ...]:
    """How near the quality is told, and how often the grid."""
    values = np.array([e.value for e, _ in found if e.value is not None])
    within = [str(int((abs(values - truth) <= bound).sum())) for bound in (3, 10)]
    right = "" if grids is None else str(sum(g == grid for (_, g), grid in zip(found, grids, strict=True)))
    silent = int((values == 100).sum()) if truth != 100 else 0
    return name, str(truth), str(len(found)), *within, right, str(len(found) - len(values)), str(silent)


def crops(photographs: list[np.ndarray], done: Callable[[np.ndarray], np.ndarray], seed: int) -> tuple[list, list]:
    """What is told of each after `done` and a crop to another grid, and the grids."""
    rng, found, grids = np.random.default_rng(seed), [], []
    for pixels in photographs:
        y, x = (int(v) for v in rng.integers(0, 8, 2))
        found.append(pixels_told(np.ascontiguousarray(done(pixels)[y:, x:])))
        grids.append((-y % 8, -x % 8))
    return found, grids


def twice(first: int, second: int, shift: int) -> Callable[[np.ndarray], np.ndarray]:
    """Compression, a crop of so many px, and compression."""
    return lambda pixels: compressed(np.ascontiguousarray(compressed(pixels, first)[shift:, shift:]), second)


def test_jpeg_estimates() -> None:
    """Write the table of qualities told, with tables and without, and of false alarms."""
    kodak, rows = pictures(_PLAIN["Kodak"]), []
    rows += [row("file", [file_told(p, q) for p in kodak], q, [(0, 0)] * len(kodak)) for q in _QUALITIES]
    for quality in _QUALITIES:
        found, grids = crops(kodak, lambda p, q=quality: compressed(p, q), quality)
        rows.append(row("pixels, cropped", found, quality, grids))
    small = [p[100:300, 100:300] for p in kodak]
    for quality in (30, 75, 90):
        found, grids = crops(small, lambda p, q=quality: compressed(np.ascontiguousarray(p), q), quality)
        rows.append(row("pixels, cropped, 200 px", found, quality, grids))
    for first, second, shift in ((50, 90, 0), (75, 95, 0), (80, 90, 0), (50, 90, 3), (75, 95, 3), (80, 90, 3)):
        name = f"pixels, q{first}, {'cropped, ' if shift else ''}q{second}"
        found = [pixels_told(twice(first, second, shift)(p)) for p in kodak]
        rows.append(row(name, found, first, [(-shift % 8,) * 2] * len(kodak)))
    rng = np.random.default_rng(2)
    later: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "then noise of 2": lambda p: written(p + rng.normal(0, 2, p.shape)),
        "then 10 % brighter": lambda p: written(p * 1.1),
        "then blurred by 0.6 px": lambda p: written(ndimage.gaussian_filter(p.astype(float), (0.6, 0.6, 0))),
        "then halved": halved,
        "then enlarged 1.5 times": lambda p: np.asarray(Image.fromarray(p).resize((p.shape[1] * 3 // 2, 768))),
    }
    for name, change in later.items():
        rows.append(row(name, [pixels_told(change(compressed(p, 60))) for p in kodak], 60, None))
    spent = time.process_time()
    rows.append(row("never: Kodak", [pixels_told(p) for p in kodak], 100, [None] * len(kodak)))
    spent = (time.process_time() - spent) / sum(p.shape[0] * p.shape[1] for p in kodak) * 1e6
    for name, pattern in list(_PLAIN.items())[1:]:
        found = [pixels_told(halved(p) if "halved" in name else p) for p in pictures(pattern)]
        rows.append(row(f"as they are: {name}", found, 100, [None] * len(found)))
    plain = [chart(seed) for seed in range(6)] + [chart(s) + rng.normal(0, 3, (512, 768, 3)) for s in range(6)]
    plain += [np.add.outer(np.arange(400) * a, np.arange(600) * b)[:, :, None] for a, b in ((0.1, 0.2), (0.3, 0.1))]
    rows.append(row("never: charts, gradients", [pixels_told(written(p)) for p in plain], 100, [None] * len(plain)))
    header = ("what", "truth", "pictures", "within 3", "within 10", "grid right", "cannot tell", "says 100")
    notes = (
        "IJG qualities, chroma at half the size. Pixels: saved again without loss. Two compressions: the stronger, "
        "older one is the truth. Of pictures as they are nobody knows whether they were JPEGs before; 100 is no "
        f"trace. Cost without a table, no trace: {spent * 1e3:.0f} ms CPU a megapixel (0.4 Mpx each), samples included."
    )
    print(write_table("jpeg-estimates", "JPEG quality told of pictures held out", header, rows, notes))
