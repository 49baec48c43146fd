"""How noisy an image is: sigma of luma and of the colour differences, and how alike the noise of neighbours is.

Blocks of 8 x 8 px are taken into their frequencies. Texture shows in the middle ones before it shows in the highest,
so the blocks that are calmest in the middle tell the noise at the top: white noise is as strong there as anywhere, and
independent of what the blocks were chosen by. Noise that is weaker at the top (grain, JPEG, enlarging) is measured in
the middle, in blocks between calm neighbours, and believed only if it is as strong in many of them: noise is
everywhere, texture is not. Noise coarser still is looked for in sums of 2 x 2 px.

Whatever is summed over pixels is an integer below 2^53 in float64: exact, in any order.

Source of the choice by lower frequencies: Ponomarenko et al., An automatic approach to lossy compression of AVIRIS
images, IGARSS 2007, doi 10.1109/IGARSS.2007.4422833.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, inf, sqrt
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from refine.assessment import UNKNOWN, Confidence, Estimate
from refine.sampling import Plane, Sample

Mask = NDArray[np.bool_]
"""(y, x); true where a pixel counts."""

_SIDE = 8
_HIGH = 10
"""u + v from which on noise is told from the top."""
_BANDS = _HIGH + 15
"""A band is the frequencies of one u + v; from `_HIGH` on, each of the 15 frequencies is a band of its own."""
_MIDDLE, _TOP = slice(4, 8), slice(_HIGH, _BANDS)
_PARTS = 16
"""Parts of a level that coefficients are rounded to; squares of them, over all samples, stay below 2^53."""
_SHARES = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
"""Shares of the blocks, calmest first, in which noise at the top is measured."""
_FEWEST, _MANY = 16, 64
"""Blocks: of fewer than the first nothing is said, by fewer than the second nothing for sure."""
_CAUTION = 8.0
"""Variance of a calmer share must be lower by so much over the square root of its coefficients to be preferred: 5.7
standard errors. At 5 a chart in eighty was off by more than 5 %."""
_UNLIKE = 4.5
"""Standard errors of a variance that those of white noise, the largest and the least of 15, lie apart at most."""
_WOVEN = 5.0
"""Variance of the strongest over the weakest of them from which it is cloth or a screen, not noise: these had 6 to 9,
noise in photographs up to 2."""
_COARSE = 1.35
"""Noise so many times stronger in the middle than at the top is not white."""
_VERY_COARSE = 2.0
"""The same, from where sums of 2 x 2 px are looked at."""
_PLATEAU, _PLATEAU_OF_SUMS = 1.25, 1.12
"""Sigma in the calmest tenth over that in the calmest fiftieth; what rises more is texture."""
_SPREAD, _SPREAD_OF_SUMS = 2.2, 1.9
"""Third over first quartile of the energies of calm blocks: white noise 1.45, grain 1.6, JPEG 2.2; texture from 2.
Sums of 2 x 2 px are fewer and hold more texture, hence the narrower limits."""
_ENOUGH = 24
"""Calm blocks without which quartiles mean nothing."""
_Kind = TypeVar("_Kind", bound=np.generic)

_LEVEL = 257 / 256
"""A level of 8 bits on the 16-bit scale, in the unit of 256 that shifting right gives."""
_AT_ONCE = 64
"""Blocks transformed at once: OpenBLAS shares products of more than 64^3 among threads, which took up to 8 times the
CPU time where cores were busy."""
_PLENTY = 1_500_000
"""px of samples, from which every other row of blocks will do."""
_PLENTY_OF_COLOUR = 200_000
"""px of samples, from which every fourth row of blocks will do for colour."""
_LITTLE = 1.0
"""Levels; less noise than that is told whatever it is."""
_FAINT = 0.5
"""Levels; of less noise than that, grain cannot be told."""


@dataclass(frozen=True, slots=True)
class Noise:
    """The noise of one image."""

    luma: Estimate
    """Sigma, 8-bit levels."""
    chroma: Estimate
    """Sigma of the colour differences R-G and B-G, the mean of both, 8-bit levels. UNKNOWN for grey."""
    grain: Estimate
    """Correlation of the luma noise of neighbouring pixels, 0..1. UNKNOWN where there is next to no noise."""


@dataclass(frozen=True, slots=True)
class _Blocks:
    """The blocks of a plane that count."""

    energies: NDArray[np.float64]
    """(block, band); whole numbers, squares of `_PARTS`."""
    around: NDArray[np.float64]
    """(block,); energy, top excepted, of the livelier neighbour in its row."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """What the blocks of one plane say of its noise."""

    sigma: float
    """8-bit levels."""
    grain: float | None
    """Correlation of neighbours; None where noise cannot be told from texture."""
    confidence: Confidence
    """Never `none`."""
    coarseness: float
    """Noise in the middle over noise at the top."""
    even: bool
    """Whether it is as strong in many blocks, which noise is and texture is not."""


@dataclass(frozen=True, slots=True)
class _Top:
    """Noise at the highest frequencies."""

    variance: float
    """8-bit levels squared: the mean of the frequencies, the lower quartile where they are not alike."""
    mean: float
    """The mean of the frequencies whether they are alike or not."""
    chosen: int
    """Blocks it was measured in."""
    unlike: float
    """Variance of the strongest frequency over that of the weakest."""
    flat: bool
    """Whether they differ by no more than chance. If not there is something besides white noise."""


def noise(samples: Sequence[Sample]) -> Noise:
    """The noise of an image, from its samples. Clipped and invisible pixels do not count, nor does rounding.

    Values are rounded to 0.1 level; grain to 0.01. `fair` where texture may be part of it, or noise is not white.
    """
    masks = [usable(s) for s in samples]
    size = sum(s.luma.size for s in samples)
    every = 1 if size <= _PLENTY else 2
    luma = _plane_noise([s.luma for s in samples], masks, _luma_rounding(samples), every)
    differences = [
        [s.red_green for s in samples if s.red_green is not None],
        [s.blue_green for s in samples if s.blue_green is not None],
    ]
    # Colour differences hold less texture than luma: fewer rows of blocks will do.
    sparse = every * (2 if size <= _PLENTY_OF_COLOUR else 4)
    chroma = [_plane_noise(planes, masks, 2 * _rounding(samples), sparse) for planes in differences if planes]
    return Noise(_estimate([luma]), _estimate(chroma), _grain(luma))


def _estimate(readings: Sequence[_Reading | None]) -> Estimate:
    """The mean of the readings; as sure as the least sure of them."""
    found = [r for r in readings if r is not None]
    if not found or len(found) < len(readings):
        return UNKNOWN
    sure = all(r.confidence == "sure" for r in found)
    return Estimate(round(sum(r.sigma for r in found) / len(found), 1), "sure" if sure else "fair")


def _grain(luma: _Reading | None) -> Estimate:
    if luma is None or luma.grain is None or luma.sigma < _FAINT:
        return UNKNOWN
    return Estimate(round(min(max(luma.grain, 0.0), 1.0), 2), luma.confidence)


def _rounding(samples: Sequence[Sample]) -> float:
    """Variance of rounding one channel, 8-bit levels squared."""
    return max((s.step for s in samples), default=257) ** 2 / 257**2 / 12


def _luma_rounding(samples: Sequence[Sample]) -> float:
    colour = any(s.red_green is not None for s in samples)
    return _rounding(samples) * ((299**2 + 587**2 + 114**2) / 1e6 if colour else 1.0)


def _plane_noise(planes: Sequence[Plane], masks: Sequence[Mask], rounding: float, every: int) -> _Reading | None:
    """The reading of one plane of all samples, from every so many rows of blocks."""
    pairs = zip(planes, masks, strict=True)
    fine = _reading(_joined(_blocks(p, m, 4, every) for p, m in pairs), rounding, (_PLATEAU, _SPREAD))
    if fine is not None and fine.coarseness < _VERY_COARSE:
        return fine
    # Shifted by two more: the mean of four pixels instead of their sum.
    halves = zip(map(_halved, planes), map(_halved_mask, masks), strict=True)
    limits = _PLATEAU_OF_SUMS, _SPREAD_OF_SUMS
    coarse = _reading(_joined(_blocks(p, m, 6, every) for p, m in halves), rounding / 4, limits)
    if fine is None or coarse is None or coarse.grain is None or not coarse.even or coarse.sigma <= fine.sigma:
        return fine
    # Noise that lasts over 2 px falls off with distance: to the first px it falls by less than half as far as to two.
    return _Reading(coarse.sigma, 1 - (1 - coarse.grain) / 2.5, "fair", fine.coarseness, even=True)


def usable(sample: Sample) -> Mask:
    """Where a pixel is visible and none of its channels is clipped: clipping takes noise away."""
    lowest, highest = 1000 * sample.luma, 65_535_000 - 1000 * sample.luma
    if sample.red_green is not None and sample.blue_green is not None:
        # Luma is green and so much of the differences; thousandths of the 16-bit scale fit 32 bits.
        excess = 299 * sample.red_green + 114 * sample.blue_green
        lowest += 1000 * np.minimum(0, np.minimum(sample.red_green, sample.blue_green)) - excess
        highest -= 1000 * np.maximum(0, np.maximum(sample.red_green, sample.blue_green)) - excess
    # Half a step, for luma was rounded.
    slack = 1000 * max(2, sample.step // 2)
    inside = np.minimum(lowest, highest) > slack
    return inside if sample.alpha is None else inside & (sample.alpha > 0)


def _halved(plane: Plane) -> Plane:
    """Sums of 2 x 2 px."""
    even = plane[: plane.shape[0] // 2 * 2, : plane.shape[1] // 2 * 2]
    rows = even[::2] + even[1::2]
    return rows[:, ::2] + rows[:, 1::2]


def _halved_mask(mask: Mask) -> Mask:
    even = mask[: mask.shape[0] // 2 * 2, : mask.shape[1] // 2 * 2]
    rows = even[::2] & even[1::2]
    return rows[:, ::2] & rows[:, 1::2]


def _cosines() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The transform of a block (pixel, frequency), 2^18 times too large; its bands (frequency, band); and (band,).

    The last is the correlation of neighbouring pixels in each band, a mean over its frequencies and both directions.
    """
    u, x = np.mgrid[:_SIDE, :_SIDE]
    exact = np.where(u == 0, sqrt(1 / 8), 0.5) * np.cos((2 * x + 1) * u * np.pi / 16)
    whole = np.rint(512 * exact)  # rows of them sum to exactly 0 but for the first, so that flat stays flat
    band = np.add.outer(np.arange(_SIDE), np.arange(_SIDE)).reshape(-1)
    band[band >= _HIGH] = np.arange(_HIGH, _BANDS)
    bands = (band[:, None] == np.arange(_BANDS)).astype(np.float64)
    neighbours = (exact[:, 1:] * exact[:, :-1]).sum(1) * 8 / 7
    alike = np.add.outer(neighbours, neighbours).reshape(-1) / 2
    return np.kron(whole, whole).T, bands, alike @ bands / bands.sum(0)


_TRANSFORM, _BAND_OF, _ALIKE = _cosines()
_SIZES = _BAND_OF.sum(0)
"""Frequencies of each band."""
_NONE = _Blocks(np.zeros((0, _BANDS)), np.zeros(0))


def _blocks(plane: Plane, mask: Mask, shift: int, every: int) -> _Blocks:
    """The blocks of every so many rows of them that lie in the mask as a whole.

    shift: bits to drop from a sum of pixels, to leave `_PARTS` parts of a level.
    """
    rows, columns = plane.shape[0] // _SIDE, plane.shape[1] // _SIDE
    if not rows * columns:
        return _NONE
    counts = np.array([_cut(mask, row, columns).all(axis=1) for row in range(0, rows, every)])
    energies = np.concatenate([_energies(_cut(plane, row, columns) >> shift) for row in range(0, rows, every)])
    activity = energies[:, 1:8].sum(axis=1).reshape(counts.shape)
    beside = np.pad(activity, ((0, 0), (1, 1)), mode="edge")
    around = np.maximum(beside[:, :-2], beside[:, 2:])
    return _Blocks(energies[counts.reshape(-1)], around[counts])


def _energies(pixels: NDArray[np.int32]) -> NDArray[np.float64]:
    """Energy of each band (block, band) of blocks (block, pixel)."""
    energies = np.empty((len(pixels), _BANDS))
    for start in range(0, len(pixels), _AT_ONCE):
        few = slice(start, start + _AT_ONCE)
        coefficients = pixels[few].astype(np.float64) @ _TRANSFORM
        coefficients *= 2.0**-18
        np.rint(coefficients, out=coefficients)
        np.square(coefficients, out=coefficients)
        energies[few] = coefficients @ _BAND_OF
    return energies


def _cut(plane: NDArray[_Kind], row: int, columns: int) -> NDArray[_Kind]:
    """The blocks (block, pixel) of one row of them."""
    strip = plane[row * _SIDE : (row + 1) * _SIDE, : columns * _SIDE]
    return strip.reshape(_SIDE, columns, _SIDE).swapaxes(0, 1).reshape(columns, _SIDE**2)


def _joined(parts: Iterable[_Blocks]) -> _Blocks:
    found = [_NONE, *parts]
    return _Blocks(np.concatenate([p.energies for p in found]), np.concatenate([p.around for p in found]))


def _reading(blocks: _Blocks, rounding: float, limits: tuple[float, float]) -> _Reading | None:
    """What the blocks say; None where there are too few, or they are all texture.

    rounding: variance to be taken out, levels squared; limits: plateau and spread that noise keeps to.
    """
    if len(blocks.around) < _FEWEST:
        return None
    found = _top(blocks.energies)
    top = max(0.0, found.variance - rounding)
    calm, even = _calm(blocks, *limits)
    middle = max(0.0, _mean(calm, _MIDDLE) - rounding)
    highest = max(0.0, found.mean - rounding)
    coarseness = sqrt(middle / highest) if highest > 0 else (inf if middle > 0 else 1.0)
    if coarseness <= _COARSE:
        if found.unlike > _WOVEN and found.chosen >= _MANY and top > _LITTLE**2:
            return None
        sure = found.flat and found.chosen >= _MANY
        return _Reading(sqrt(top), 0.0, "sure" if sure else "fair", coarseness, even)
    if not even:
        # With no more than the calmest few alike, what is left in them was texture in 4 of 5 small pictures.
        told = found.chosen > _FEWEST or top <= _LITTLE**2
        return _Reading(sqrt(top), None, "fair", coarseness, even) if told else None
    sigma, grain = _coarse(np.maximum(0.0, calm - rounding), middle, coarseness)
    return _Reading(sigma, grain, "fair", coarseness, even)


def _top(energies: NDArray[np.float64]) -> _Top:
    """Noise at the top, in the share of blocks, calmest in the middle, that has the lowest upper limit."""
    order = np.argsort(energies[:, _MIDDLE].sum(axis=1), kind="stable")
    sums = np.cumsum(energies[order, _TOP], axis=0)
    counts = np.unique([min(len(order), max(_FEWEST, int(share * len(order)))) for share in _SHARES])
    each = sums[counts - 1] / counts[:, None] / (_PARTS * _LEVEL) ** 2
    means = each.mean(axis=1)
    best = int(np.argmin(means * (1 + _CAUTION / np.sqrt(counts * each.shape[1]))))
    chosen, ranked = int(counts[best]), np.sort(each[best])
    unlike = float(ranked[-1] / ranked[0]) if ranked[0] > 0 else inf
    flat = unlike <= exp(_UNLIKE * sqrt(2 / chosen) + 0.1)
    mean = float(means[best])
    return _Top(mean if flat else float(ranked[len(ranked) // 4]), mean, chosen, unlike, flat)


def _calm(blocks: _Blocks, plateau: float, spread: float) -> tuple[NDArray[np.float64], bool]:
    """Variance of each band in the twentieth of the blocks with the calmest neighbours; whether it is even there."""
    count = len(blocks.around)
    order = np.argsort(blocks.around, kind="stable")[: max(_FEWEST, count // 10)]
    chosen = blocks.energies[order]
    sums, counts = np.cumsum(chosen, axis=0), [min(len(chosen), max(_FEWEST, count // part)) for part in (50, 20, 10)]
    few, some, many = (sums[n - 1] / (n * _SIZES) / (_PARTS * _LEVEL) ** 2 for n in counts)
    energies = np.sort(chosen[: counts[1], _MIDDLE].sum(axis=1))
    low, high = energies[counts[1] // 4], energies[3 * counts[1] // 4]
    level = _mean(many, _MIDDLE) <= plateau**2 * _mean(few, _MIDDLE)
    return some, bool(level and counts[1] >= _ENOUGH and high <= spread * low)


def _mean(spectrum: NDArray[np.float64], bands: slice) -> float:
    return float((spectrum * _SIZES)[bands].sum() / _SIZES[bands].sum())


def _coarse(spectrum: NDArray[np.float64], middle: float, coarseness: float) -> tuple[float, float]:
    """Sigma, and correlation of neighbours, of noise with that spectrum.

    The lowest bands hold shading as well: they count as no more than noise that goes on rising as it does from the
    top to the middle, and no more than 4 times the middle (grain of 0.7 px measured 4.2).
    """
    lowest = spectrum[:4].clip(max=middle * min(4.0, coarseness))
    lowest[0] = lowest[1]
    powers = np.concatenate((lowest, spectrum[4:])) * _SIZES
    total = float(powers.sum())
    return sqrt(total / _SIDE**2), float(powers @ _ALIKE) / total
