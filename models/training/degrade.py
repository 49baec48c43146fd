"""What cameras, shops and archives do to a picture, and how much of it: pairs to learn from.

`strength` says what was done: noise sigma / 50 (8-bit levels) and (100 - q) / 100 for JPEG quality q; 0, 0 is clean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import imagecodecs
import numpy as np

from models.training.data import Crops, Picture
from models.training.kernels import Array, along_axes, blur_matrix, resize_matrix

JPEG_BLOCK = 16
"""px. Squares are made this much larger and cut at random, so that block borders fall anywhere."""
SLACK = 0.15
"""How far a stated strength may be off, as a fraction: what is measured on a real picture is."""


@dataclass(frozen=True, slots=True)
class Damage:
    """How often and how strongly pictures are damaged."""

    clean: float
    """Share of pairs with bicubic shrinking and nothing else."""
    noise: float
    """Share of the damaged with noise."""
    sigma: tuple[float, float]
    """Range of the noise, 8-bit levels."""
    jpeg: float
    """Share of the damaged that went through JPEG."""
    quality: tuple[int, int]
    """Range of the JPEG quality."""
    blur: float
    """Share of the damaged with a mild blur before they were made small."""
    kernel: float
    """Share of the damaged made small by another filter than bicubic."""
    pages: float = 0.08
    """Share of drawn pages. An enlarger that saw 8 % of them drew their hatching into foliage and water: Set14's
    coastguard fell from 30.8 to 28.9 dB."""


ENLARGE = Damage(clean=0.5, noise=0.6, sigma=(1, 15), jpeg=0.65, quality=(40, 95), blur=0.35, kernel=0.3)
"""For networks that enlarge."""
CLEAN = Damage(clean=1, noise=0, sigma=(0, 0), jpeg=0, quality=(95, 95), blur=0, kernel=0, pages=0)
"""For networks that enlarge what another has repaired, or what needs no repair: bicubic shrinking and nothing else."""
REPAIR = Damage(clean=0.08, noise=0.6, sigma=(1, 50), jpeg=0.5, quality=(8, 95), blur=0, kernel=0)
"""For networks that denoise and deblock at the size of the source."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Damaged and undamaged squares."""

    low: Array
    """(n, 3, y, x), 0..1."""
    high: Array
    """(n, 3, scale y, scale x), 0..1."""
    strength: Array
    """(n, 2)."""


def batch(crops: Crops, damage: Damage, scale: int, size: tuple[int, int], rng: np.random.Generator) -> Batch:
    """`size` is (number of squares, their side in px of the damaged picture)."""
    count, side = size
    if crops.smalls:
        lows, highs = zip(*(crops.pair(rng, side, scale) for _ in range(count)), strict=True)
        return Batch(_planes(lows), _planes(highs), np.zeros((count, 2), np.float32))
    squares = [_pair(crops, damage, scale, side, rng) for _ in range(count)]
    lows, highs, strengths = zip(*squares, strict=True)
    return Batch(_planes(lows), _planes(highs), np.asarray(strengths, np.float32))


def _pair(
    crops: Crops, damage: Damage, scale: int, side: int, rng: np.random.Generator
) -> tuple[Picture, Picture, tuple[float, float]]:
    """A damaged square, the undamaged one, and the strengths to tell."""
    square = crops.draw(rng, scale * (side + JPEG_BLOCK))
    low, strength = damaged(square, damage, scale, rng)
    y, x = (int(v) for v in rng.integers(0, JPEG_BLOCK, 2))
    high = square[scale * y : scale * (y + side), scale * x : scale * (x + side)]
    return low[y : y + side, x : x + side], high, strength


def damaged(
    square: Picture, damage: Damage, scale: int, rng: np.random.Generator
) -> tuple[Picture, tuple[float, float]]:
    """The square made small and damaged, and the strengths to tell the network."""
    if rng.random() < damage.clean:
        return shrunk(square, scale), (0.0, 0.0)
    sigma = float(rng.uniform(*damage.sigma)) * (rng.random() < damage.noise)
    quality = int(rng.integers(damage.quality[0], damage.quality[1] + 1)) if rng.random() < damage.jpeg else None
    blur = rng.uniform(0.2, 0.6, 2) * scale * (rng.random() < damage.blur)
    kernel = str(rng.choice(["area", "bilinear", "lanczos"])) if rng.random() < damage.kernel else "bicubic"
    low = shrunk(square, scale, kernel, (float(blur[0]), float(blur[1])))
    low = noisy(low, sigma, rng) if sigma else low
    if quality is not None:
        low = compressed(low, quality, "420" if rng.random() < 0.6 else "444")
    return low, _stated(sigma, quality, rng)


def shrunk(square: Picture, scale: int, kernel: str = "bicubic", blur: tuple[float, float] = (0.0, 0.0)) -> Picture:
    """The picture `scale` times smaller, blurred first by `blur` px (down, across), in whole 8-bit levels."""
    if scale == 1 and not any(blur):
        return square
    axes = []
    for length, sigma in zip(square.shape, blur, strict=False):
        smaller = resize_matrix(length, length // scale, kernel)
        axes.append(smaller @ blur_matrix(length, sigma) if sigma else smaller)
    return levels(along_axes(axes[0], axes[1], square.astype(np.float32)))


def noisy(picture: Picture, sigma: float, rng: np.random.Generator) -> Picture:
    """With noise as of a sensor: partly growing with the light, sometimes the same in all channels."""
    light = picture.astype(np.float32) / 255
    shot = float(rng.uniform(0, 1)) * (rng.random() < 0.5)
    variance = (1 - shot) + shot * light / max(float(light.mean()), 0.05)
    channels = 1 if rng.random() < 0.4 else 3
    grain = rng.standard_normal((*picture.shape[:2], channels), dtype=np.float32)
    return levels(picture + grain * np.sqrt(variance) * np.float32(sigma))


def compressed(picture: Picture, quality: int, sampling: str) -> Picture:
    """Through JPEG and back; `sampling` is "420" or "444"."""
    coded = imagecodecs.jpeg8_encode(np.ascontiguousarray(picture), level=quality, subsampling=sampling)
    decoded: Picture = imagecodecs.jpeg8_decode(coded)
    return decoded


def levels(picture: Array) -> Picture:
    """Rounded and clipped to 8 bits, as files are."""
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _stated(sigma: float, quality: int | None, rng: np.random.Generator) -> tuple[float, float]:
    off = 1 + SLACK * rng.uniform(-1, 1, 2)
    return sigma / 50 * float(off[0]), (100 - quality) / 100 * float(off[1]) if quality is not None else 0.0


def _planes(squares: Sequence[Picture]) -> Array:
    return (np.stack(squares).transpose(0, 3, 1, 2).astype(np.float32)) / np.float32(255)
