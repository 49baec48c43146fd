"""Pictures with a known truth, damaged in known ways, and what each action makes of them.

Held-out truths come from the photographs of the evaluation set and from the samples; rules are tuned on crops of the
training set alone. Every action is done by refine's own steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from io import BytesIO
from itertools import product
from math import hypot, log10
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from models.training.kernels import resized
from refine.assessment import Assessment, Estimate
from refine.jpeg import read_spec
from refine.limits import Limits
from refine.plan import planned
from refine.preset import Preset, RepairSettings, SharpenSettings, UpscaleSettings
from refine.session import Engine
from refine.settings import chain_for
from refine.spec import ImageSpec, Pixels
from refine.tiles import restored_pixels

DATA = Path(__file__).parents[3] / "shared" / "data"
SIDE = 256
"""px, about: side of a truth."""
SCALES = tuple(Fraction(s) for s in ("1", "3/2", "2", "3", "4"))
BLURS = (0.0, 0.6, 1.0, 1.5, 2.0)
"""Sigma, px of the source."""
NOISES = (0.0, 3.0, 6.0, 12.0)
"""Sigma of each channel, 8-bit levels."""
QUALITIES = (None, 95, 85, 60)
PHOTOGRAPHS = ("clic2025", "cq100", "quantette", "squeeze", "saleor", "popos")
"""What the names of photographs in the training set begin with; the rest are drawings."""
MIDDLE = 1200
"""px. So much of a large sample is looked at."""
SHARP = 0.5
"""px. What a picture made small looks blurred by, and so what an assessment reads where no blur was added."""
HIGHEST = 60.0
"""dB. Beyond this results differ by less than the rounding to 8 bits, and count as alike."""


@dataclass(frozen=True, slots=True)
class Case:
    """A damaged source and the truth it came from."""

    name: str
    """Of the truth."""
    truth: Pixels
    """(y, x, 3) uint8, at the size of the result."""
    source: Pixels
    """(y, x, 3) uint8."""
    scale: Fraction
    """Truth px per source px."""
    blur: float
    """Sigma, px of the source."""
    noise: float
    """Sigma of each channel, 8-bit levels."""
    quality: int | None
    """Of the JPEG it went through last; None for none."""
    whole: Pixels
    """(y, x, 3) uint8: the picture that the truth was cut from, damaged alike. Images are assessed as wholes."""

    @property
    def label(self) -> str:
        """What was done, in short."""
        return f"{self.name} /{float(self.scale):g} blur {self.blur:g} noise {self.noise:g} q {self.quality or '-'}"

    @property
    def spec(self) -> ImageSpec:
        """What its file's header would say, the tables of a JPEG included."""
        steps = None if self.quality is None else _steps(self.quality)
        return ImageSpec(*self.whole.shape, "uint8", quantisation=steps)

    @property
    def known(self) -> Assessment:
        """The assessment as it would be without any error of measurement."""
        weights = np.array([0.299, 0.587, 0.114])
        return Assessment(
            *self.whole.shape[:2],
            blur_sigma=Estimate(round(hypot(SHARP, self.blur), 2)),
            halo=Estimate(0.0),
            noise_luma=Estimate(round(self.noise * float(np.linalg.norm(weights)), 1)),
            noise_chroma=Estimate(round(self.noise * 2**0.5, 1)),
            grain=Estimate(0.0),
            jpeg_quality=Estimate(float(self.quality or 100)),
        )


def cases(truths: list[tuple[str, Pixels]], seed: int) -> Iterator[Case]:
    """Every combination of size, blur, noise and JPEG once, sizes slowest, over truths (y, x, 3) taken in turn."""
    combinations = product(SCALES, BLURS, NOISES, QUALITIES)
    for index, (scale, blur, noise, quality) in enumerate(combinations):
        # A step that shares no factor with the combinations, so that no picture meets one damage alone.
        name, picture = truths[(index * 37 + index // len(truths)) % len(truths)]
        rng = np.random.default_rng(seed + index)
        truth = _square(picture, scale, rng)
        source = damaged(truth, scale, (blur, noise, quality), rng)
        sides = (length // scale.numerator * scale.numerator for length in picture.shape[:2])
        whole = damaged(picture[: next(sides), : next(sides)], scale, (blur, noise, quality), rng)
        yield Case(name, truth, source, scale, blur, noise, quality, whole)


def damaged(
    truth: Pixels, scale: Fraction, damage: tuple[float, float, int | None], rng: np.random.Generator
) -> Pixels:
    """A picture (y, x, 3) blurred and made small, then with noise, then through JPEG."""
    blur, noise, quality = damage
    picture = truth.astype(np.float32)
    if blur:
        picture = ndimage.gaussian_filter(picture, (blur * float(scale),) * 2 + (0,), mode="mirror")
    if scale != 1:
        picture = resized(picture, *(int(length / scale) for length in truth.shape[:2]))
    picture = picture + noise * rng.standard_normal(picture.shape, np.float32)
    source = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    if quality is not None:
        source = imagecodecs.jpeg8_decode(imagecodecs.jpeg8_encode(source, level=quality, subsampling="420"))
    return source


@lru_cache
def _steps(quality: int) -> tuple[int, ...] | None:
    """The quantisation steps of the encoder at a quality, as the reader of files gives them."""
    coded = imagecodecs.jpeg8_encode(np.zeros((16, 16, 3), np.uint8), level=quality, subsampling="420")
    return read_spec(BytesIO(coded), "", Limits()).quantisation


def _square(picture: Pixels, scale: Fraction, rng: np.random.Generator) -> Pixels:
    """The liveliest of four squares drawn at random, a whole multiple of the scale a side."""
    side = SIDE // scale.numerator * scale.numerator
    drawn = []
    for _ in range(4):
        y, x = (int(rng.integers(0, length - side + 1)) for length in picture.shape[:2])
        square = picture[y : y + side, x : x + side]
        drawn.append((float(np.abs(np.diff(square[..., 1].astype(np.int16))).mean()), y, x))
    _, y, x = max(drawn)
    return np.ascontiguousarray(picture[y : y + side, x : x + side])


OFF = Preset(repair=RepairSettings("", 0.0, 100.0), sharpen=SharpenSettings(1.0, 0.0, 0.0, 1.0))
"""Nothing but the networks that the size asks for and the exact resample."""
LANCZOS = replace(OFF, upscale=UpscaleSettings(()))


def made(pixels: Pixels, preset: Preset, output: tuple[int, int], dtype: str = "uint16") -> Pixels:
    """What a decided preset makes of the pixels (y, x, 3), on one thread."""
    spec = ImageSpec(*pixels.shape, str(pixels.dtype))
    plan = planned(chain_for(preset, spec, output), spec, output, dtype=dtype)
    return restored_pixels(pixels, plan, Engine())


def sharpened(pixels: Pixels, sharpen: SharpenSettings, dtype: str = "uint8") -> Pixels:
    """The pixels sharpened at their own size, and nothing else."""
    return made(pixels, replace(LANCZOS, sharpen=sharpen), pixels.shape[:2], dtype)


def repaired(pixels: Pixels, noise: float, quality: float) -> Pixels:
    """The pixels cleaned at their own size, and nothing else; uint16."""
    return made(pixels, replace(LANCZOS, repair=RepairSettings(noise=noise, quality=quality)), pixels.shape[:2])


def rounded(pixels: Pixels) -> Pixels:
    """uint16 to uint8."""
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def psnr(found: Pixels, case: Case) -> float:
    """PSNR of luma (BT.601, 16..235) in dB, without the outermost px of the source, at most HIGHEST."""
    border = int(np.ceil(case.scale))
    inside = slice(border, -border)
    error = (luma(found) - luma(case.truth))[inside, inside]
    return min(HIGHEST, 10 * log10(255**2 / max(float(np.mean(error**2)), 1e-10)))


def luma(picture: Pixels) -> NDArray[np.float64]:
    """Y of BT.601, 16..235, of uint8 or uint16."""
    full = np.iinfo(picture.dtype).max
    return 16 + picture.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / full


@lru_cache
def held_out() -> list[tuple[str, Pixels]]:
    """Kodak as it is; products, pages and old photographs at half their size, to be free of their own damage."""
    truths = [(f"kodak-{file.stem}", _rgb(file)) for file in sorted((DATA / "eval" / "kodak").glob("*.png"))]
    for folder, count in (("products", 8), ("pages", 6), ("oldphotos", 6)):
        halves = [(file.stem, _half(_rgb(file))) for file in sorted((DATA / "samples" / folder).iterdir())]
        truths += [(name, half) for name, half in halves if min(half.shape[:2]) >= SIDE][:count]
    return truths


@lru_cache
def training(count: int) -> list[tuple[str, Pixels]]:
    """So many photographs of the training set, spread evenly."""
    files = [f for f in sorted((DATA / "train").glob("*.jxl")) if f.name.startswith(PHOTOGRAPHS)]
    chosen = [files[i * len(files) // count] for i in range(count)]
    pictures = [(file.stem, imagecodecs.jpegxl_decode(file.read_bytes())[..., :3]) for file in chosen]
    return [(name, picture) for name, picture in pictures if min(picture.shape[:2]) >= SIDE]


def _half(picture: Pixels) -> Pixels:
    """The middle of a picture, up to MIDDLE px a side, at half its size."""
    y, x = (max(0, length - MIDDLE) // 2 for length in picture.shape[:2])
    middle = picture[y : y + MIDDLE, x : x + MIDDLE].astype(np.float32)
    half = resized(middle, *(length // 2 for length in middle.shape[:2]))
    return np.clip(np.rint(half), 0, 255).astype(np.uint8)


def _rgb(file: Path) -> Pixels:
    """On white where it is transparent."""
    with Image.open(file) as opened:
        picture = opened.convert("RGBA")
    return np.array(Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB"))
