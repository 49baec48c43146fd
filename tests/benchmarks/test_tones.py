"""What the measures of tone say of pictures they were not made with, and how near a drifted picture comes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import strategies as made
from PIL import Image
from skimage.color import rgb2lab
from tables import write_table

from refine.assessment import Estimate
from refine.chain import Chain
from refine.match import look, towards
from refine.sampling import Sample, samples
from refine.tonal import tones

pytestmark = pytest.mark.bench

_DATA = Path(__file__).parents[3] / "shared" / "data"
_SETS = {
    "Kodak": "eval/kodak/*.png",
    "old photographs": "samples/oldphotos/*.png",
    "scanned pages": "samples/pages/*.*",
    "products, cut out": "samples/products/*.png",
    "shop, small, on white": "samples/tiny/*.jpg",
}


def pictures(pattern: str) -> list[np.ndarray]:
    """The pictures of a set, (y, x, c) uint8."""
    paths = sorted(_DATA.glob(pattern))
    if not paths:
        pytest.skip(f"needs {pattern} of the data beside the checkout")
    return [pixels_of(path) for path in paths]


def pixels_of(path: Path) -> np.ndarray:
    """The pixels of a file; a palette becomes RGB, with alpha if it has any."""
    with Image.open(path) as opened:
        clear = isinstance(opened.info.get("transparency"), bytes) or opened.mode in ("LA", "RGBA")
        pixels = np.asarray(opened if opened.mode == "L" else opened.convert("RGBA" if clear else "RGB"))
    return pixels.reshape(*pixels.shape[:2], -1)


def sampled(pixels: np.ndarray) -> list[Sample]:
    """What is measured of them."""
    return list(samples(pixels, made.spec_of(pixels)))


def test_tones_held_out() -> None:
    """Write the table of what is said of each held-out set, and of its pictures at 64 levels."""
    rows, spent, seen = [], 0.0, 0
    for name, pattern in _SETS.items():
        found, posterised = [], []
        for pixels in pictures(pattern):
            parts = sampled(pixels)
            start = time.process_time()
            found.append(tones(parts, *pixels.shape[:2]))
            spent += time.process_time() - start
            seen += sum(part.luma.size for part in parts)
            coarse = pixels.copy()
            coarse[..., :3] = coarse[..., :3] // 4 * 4
            posterised.append(tones(sampled(coarse), *pixels.shape[:2]).posterised)
        columns = ([getattr(one, field) for one in found] for field in ("text", "posterised", "white_exact"))
        rows.append((name, str(len(found)), *map(said, (*columns, posterised)), over([one.text for one in found])))
    header = (
        "set",
        "pictures",
        "text",
        "posterised",
        "border exactly white",
        "posterised at 64 levels",
        "text over 2 %",
    )
    notes = (
        "Least, median, greatest; in brackets, of how many it could not be told. At 64 levels, 0.75 is right, and more "
        "where a picture had empty levels before: those of the products are palettes. Under the scanned pages are a "
        f"photograph, a blank page and two covers with few and large letters. {spent / seen * 1e6:.3f} CPU seconds for "
        "a sampled megapixel."
    )
    print(write_table("tones", "Tones and text of held-out pictures", header, rows, notes))


def said(estimates: list[Estimate]) -> str:
    """Least, median, greatest, and how many could not be told."""
    told = [one.value for one in estimates if one.value is not None]
    missing = f" ({len(estimates) - len(told)})" if len(told) < len(estimates) else ""
    return f"{min(told):.3f} {np.median(told):.3f} {max(told):.3f}{missing}" if told else "-"


def over(estimates: list[Estimate]) -> str:
    """How many are above 2 %."""
    return str(sum(one.over(0) > 0.02 for one in estimates))


def test_match_held_out() -> None:
    """Write the table of pictures with a drift, before and after they were matched to themselves without."""
    rows = []
    for name in ("Kodak", "scanned pages", "shop, small, on white"):
        drawn = np.random.default_rng(5)
        results = [_returned(pixels[:1500, :1500, :3], _drift(drawn)) for pixels in pictures(_SETS[name])]
        far, near, clipped = np.array(results).T
        worse = int((near > far).sum())
        each = (
            f"{np.median(far):.2f}",
            f"{np.median(near):.2f}",
            f"{near.max():.2f}",
            str(worse),
            f"{clipped.max():.3f}",
        )
        rows.append((name, str(len(results)), *each))
    header = (
        "set",
        "pictures",
        "dE76 drifted",
        "dE76 matched",
        "worst matched",
        "worse than before",
        "newly clipped, % at most",
    )
    notes = (
        "Drift: gamma 0.88 to 1.12, full scale to 0.88 to 0.97, black up to 0.02, red and blue by 4 % apart, "
        "saturation by 8 %, all at once and at random. Medians over pictures of means over px. Strength 1."
    )
    print(write_table("match", "A drifted picture, matched to itself", header, rows, notes))


def _drift(rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    gamma, lift, white = rng.uniform(0.88, 1.12), rng.uniform(0, 0.02), rng.uniform(0.88, 0.97)
    cast, colour = np.array([rng.uniform(0.96, 1.04), 1, rng.uniform(0.96, 1.04)]), rng.uniform(0.92, 1.08)

    def drifted(pixels: np.ndarray) -> np.ndarray:
        values = (lift + (pixels / 255) ** gamma * white) * cast
        luma = (values @ [0.299, 0.587, 0.114])[..., None]
        return np.clip(np.round((luma + (values - luma) * colour) * 255), 0, 255).astype(np.uint8)

    return drifted


def _returned(pixels: np.ndarray, drift: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float, float]:
    """Mean colour difference of a picture to itself with a drift, and to that matched; percent of px newly clipped."""
    changed = drift(pixels)
    own, reference = look(sampled(changed)), look(sampled(pixels))
    assert own is not None
    assert reference is not None
    tone = towards(own, reference, 1.0)
    back = changed if tone.is_identity else made.restored(changed, Chain((tone,)), changed.shape[:2])
    clipped = ((back == 255) & (changed < 255)) | ((back == 0) & (changed > 0))
    lab = [rgb2lab(image[::2, ::2]) for image in (pixels, changed, back)]
    far, near = (float(np.sqrt(((other - lab[0]) ** 2).sum(axis=2)).mean()) for other in lab[1:])
    return far, near, 100 * float(clipped.any(axis=2).mean())
