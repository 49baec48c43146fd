"""Tones: what is clipped, posterised, white all round, transparent, and what looks like text.

Everything is counted, in integers, over the fixed samples of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refine.assessment import UNKNOWN, Confidence, Estimate
from refine.sampling import Plane, Sample

FULL = 65535
"""White, and opaque, on the scale of a sample."""
LEVEL = 257
"""One level of 8 bits on that scale."""
NEARLY_WHITE = 250 * LEVEL
"""A colour is nearly white when all its channels are at least this."""

_ENOUGH = 256
"""px. Of fewer nothing is told."""
_RING = 32
"""The border is the outermost shorter side / _RING px."""
_TAIL = 1000
"""One pixel in so many lies beyond the darkest and the brightest level that count."""
_FEW, _MANY = 64, 256
"""px for each level in between: with fewer, levels are empty by chance; with more, it is sure that they are not."""
_SPAN = 32
"""Levels. A flatter image has too few of them to miss any."""
_FOLDED = 16
"""Levels of 16 bits that are counted as one: 4096 remain, which a megapixel can fill."""

_CELL = 16
"""px. Side of a cell that is text or not. It holds strokes of 2 to 8 px; at half the size, of twice as many."""
# How a cell of text looks, found on rendered text (10 to 90 px, blurred, noisy, on paper) against photographs of the
# training set. Of a cell's 256 px:
_CONTRAST = 60
"""Levels of 8 bits between its darkest and its lightest px, at least."""
_CROSSINGS = 24
"""Changes between dark and light from px to px, at least: an edge across the cell has 16."""
_BETWEEN = 72
"""px in the middle fifths of the contrast, at most."""
_PAPER = 140
"""px within 0.15 of the contrast from the mean of the side that has more of them, at least."""
_ALIKE = 4
"""Neighbours, of 8, with the same paper and the same ink, at least: a page goes on, a twig against the sky does not."""
_SAME_PAPER = 10
"""Levels of 8 bits."""

Levels = NDArray[np.uint8]
"""(y, x), luma rounded to levels of 8 bits."""
_Cells = NDArray[np.int32]
_Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Tones:
    """Fields of an assessment, by their names there."""

    clipped_black: Estimate
    """Share of the opaque px, 0..1."""
    clipped_white: Estimate
    """Share of the opaque px, 0..1."""
    posterised: Estimate
    """Share of levels between the darkest and the brightest that no px has, 0..1."""
    white_background: Estimate
    """Share of the border that is white or nearly so, 0..1."""
    white_exact: Estimate
    """Share of the border that is exactly white, 0..1."""
    transparent: Estimate
    """Share of px that are not opaque, 0..1."""
    text: Estimate
    """Share of cells of 16 x 16 px that look like text or line art, 0..1."""


def tones(samples: Sequence[Sample], height: int, width: int) -> Tones:
    """The tones of an image of that size, px, from its samples.

    Px that are not opaque are counted as transparent and as nothing else. Shares are told to 0.0001; 0 and 1 mean
    none and all. UNKNOWN is what too few px tell, or a border of which a side was not seen or is not opaque.
    """
    visible = [opaque(sample) for sample in samples]
    levels = [np.asarray((sample.luma + LEVEL // 2) // LEVEL, np.uint8) for sample in samples]
    seen = sum(sample.luma.size for sample in samples)
    sure: Confidence = "sure" if seen == height * width else "fair"
    counts = sum((_counts(of, mask, 256) for of, mask in zip(levels, visible, strict=True)), np.zeros(256, np.int64))
    total = int(counts.sum())
    nearly, exactly = _border(samples, visible, height, width)
    return Tones(
        clipped_black=_share(int(counts[0]), total, sure),
        clipped_white=_share(int(counts[-1]), total, sure),
        posterised=_posterised(samples, visible, sure),
        white_background=nearly,
        white_exact=exactly,
        transparent=_share(seen - total, seen, sure),
        text=_text(levels, visible),
    )


def green(sample: Sample) -> Plane:
    """The green channel of a sample, exactly as it was; grey where there is no colour."""
    if sample.red_green is None or sample.blue_green is None:
        return sample.luma
    # 299 R + 587 G + 114 B = 1000 G + 299 (R - G) + 114 (B - G): the rounding of luma drops out.
    return np.asarray(sample.luma - (299 * sample.red_green + 114 * sample.blue_green + 500) // 1000, np.int32)


def channels(sample: Sample, mask: _Mask | None) -> list[Plane]:
    """R, G, B of the px of a sample where the mask is true, (n,) each, or of all; one channel for grey."""
    chosen = [
        plane if mask is None or plane is None else plane[mask] for plane in (sample.red_green, sample.blue_green)
    ]
    g = green(sample)
    g = g if mask is None else g[mask]
    return [g] if chosen[0] is None or chosen[1] is None else [g + chosen[0], g, g + chosen[1]]


def opaque(sample: Sample) -> _Mask | None:
    """Where a sample is opaque, (y, x); None where it is everywhere."""
    return None if sample.alpha is None else np.asarray(sample.alpha == FULL)


def _counts(levels: NDArray[np.integer], mask: _Mask | None, bins: int) -> NDArray[np.int64]:
    return np.bincount((levels if mask is None else levels[mask]).ravel(), minlength=bins)


def _share(count: int, total: int, confidence: Confidence, least: int = _ENOUGH) -> Estimate:
    """count / total to four places, but never 0 for some or 1 for not all."""
    if total < least:
        return UNKNOWN
    if count in (0, total):
        return Estimate(float(count == total), confidence)
    return Estimate(min(max(round(count / total, 4), 0.0001), 0.9999), confidence)


def _border(
    samples: Sequence[Sample], visible: Sequence[_Mask | None], height: int, width: int
) -> tuple[Estimate, Estimate]:
    """Share of the border that is nearly, and that is exactly white."""
    ring = max(1, min(height, width) // _RING)
    total = nearly = exactly = 0
    sides: set[str] = set()
    for sample, mask in zip(samples, visible, strict=True):
        window = sample.window
        rows, columns = np.arange(window.y0, window.y1), np.arange(window.x0, window.x1)
        edge = ((rows < ring) | (rows >= height - ring))[:, None] | (columns < ring) | (columns >= width - ring)
        darkest = np.minimum.reduce(channels(sample, edge if mask is None else edge & mask))
        total += darkest.size
        nearly += int((darkest >= NEARLY_WHITE).sum())
        exactly += int((darkest == FULL).sum())
        ends = {"top": window.y0 == 0, "left": window.x0 == 0, "low": window.y1 == height, "right": window.x1 == width}
        sides |= {side for side, reached in ends.items() if reached}
    if len(sides) < 4 or min(height, width) < _CELL:
        return UNKNOWN, UNKNOWN
    whole = sum(sample.luma.size for sample in samples) == height * width
    confidence: Confidence = "sure" if whole else "fair"
    return _share(nearly, total, confidence, _CELL), _share(exactly, total, confidence, _CELL)


def _posterised(samples: Sequence[Sample], visible: Sequence[_Mask | None], sure: Confidence) -> Estimate:
    """Empty levels of green between its points of 0.1 and 99.9 %: luma would mix the levels of three channels."""
    step = max((sample.step for sample in samples), default=1)
    unit = LEVEL if step > 1 else _FOLDED
    bins = FULL // unit + 1
    counts = np.zeros(bins, np.int64)
    for sample, mask in zip(samples, visible, strict=True):
        counts += _counts(green(sample) // unit, mask, bins)
    total = int(counts.sum())
    if total < _TAIL:
        return UNKNOWN
    below = np.cumsum(counts)
    first = int(np.searchsorted(below, total // _TAIL, side="right"))
    last = int(np.searchsorted(below, total - total // _TAIL, side="left"))
    inner = counts[first : last + 1]
    # A background of one level fills no other.
    each = (int(inner.sum()) - int(inner.max())) / inner.size
    if inner.size < _SPAN or each < _FEW:
        return UNKNOWN
    return _share(int((inner == 0).sum()), inner.size, sure if each >= _MANY else "fair", _SPAN)


def _text(levels: Sequence[Levels], visible: Sequence[_Mask | None]) -> Estimate:
    """The larger of the shares at the image's own size and at half of it: print comes in all sizes."""
    found, cells = [0, 0], [0, 0]
    for plane, mask in zip(levels, visible, strict=True):
        shown = plane if mask is None else np.where(mask, plane, np.uint8(0))
        for reduced in (0, 1):
            inside = _whole_cells(mask, plane.shape, _CELL << reduced)
            found[reduced] += int((_cells_of_text(_halved(shown) if reduced else shown) & inside).sum())
            cells[reduced] += int(inside.sum())
    shares = [_share(hits, total, "fair", _CELL) for hits, total in zip(found, cells, strict=True)]
    return max(shares, key=lambda share: share.over(-1.0))


def _whole_cells(mask: _Mask | None, shape: tuple[int, ...], side: int) -> _Mask:
    """Which cells are opaque all over."""
    rows, columns = shape[0] // side, shape[1] // side
    if mask is None:
        return np.ones((rows, columns), np.bool_)
    cut = mask[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return np.asarray(cut.all(axis=(1, 3)))


def _halved(levels: Levels) -> Levels:
    """Means of 2 x 2 px, rounded."""
    even = levels[: levels.shape[0] // 2 * 2, : levels.shape[1] // 2 * 2].astype(np.uint16)
    rows = even[::2] + even[1::2]
    return np.asarray((rows[:, ::2] + rows[:, 1::2] + 2) >> 2, np.uint8)


def _cells_of_text(levels: Levels) -> _Mask:
    """Which cells look like text: two peaks, many sharp edges, little in between, and neighbours of the same kind."""
    rows, columns = levels.shape[0] // _CELL, levels.shape[1] // _CELL
    cells = levels[: rows * _CELL, : columns * _CELL].reshape(rows, _CELL, columns, _CELL)
    if not cells.size:
        return np.zeros((rows, columns), np.bool_)
    darkest, lightest = (pick(pick(cells, axis=1), axis=2).astype(np.int32) for pick in (np.min, np.max))
    # What follows is done only where there is contrast, which is nowhere on most of a page.
    sharp = lightest - darkest >= _CONTRAST
    some = cells.swapaxes(1, 2)[sharp]
    paper, ink, two_peaked = _peaks(some, darkest[sharp], lightest[sharp])
    likely = np.zeros((rows, columns), np.bool_)
    likely[sharp] = two_peaked
    looks = np.zeros((3, rows, columns), np.int32)
    looks[:, sharp] = paper, ink, (lightest - darkest)[sharp]
    return np.asarray(likely & (_alike(likely, looks) >= _ALIKE))


def _peaks(cells: Levels, darkest: _Cells, lightest: _Cells) -> tuple[_Cells, _Cells, _Mask]:
    """Mean levels of paper and of ink of cells (n, 16, 16), and which cells have two peaks and many sharp edges."""
    contrast = lightest - darkest
    light = cells >= ((darkest + lightest + 1) // 2).astype(np.uint8)[:, None, None]
    across = np.count_nonzero(light[:, :, 1:] != light[:, :, :-1], axis=(1, 2))
    crossings = across + np.count_nonzero(light[:, 1:] != light[:, :-1], axis=(1, 2))
    lights = np.count_nonzero(light, axis=(1, 2)).astype(np.int32)
    bright = (cells * light).sum(axis=(1, 2), dtype=np.int32)
    darks = cells.sum(axis=(1, 2), dtype=np.int32) - bright
    means = bright // np.maximum(lights, 1), darks // np.maximum(_CELL * _CELL - lights, 1)
    paper = np.where(lights * 2 >= _CELL * _CELL, *means)
    ink = means[0] + means[1] - paper
    near = 3 * contrast // 20
    between = _within(cells, darkest + 2 * contrast // 5 + 1, lightest - 2 * contrast // 5 - 1)
    peaked = (between <= _BETWEEN) & (_within(cells, paper - near, paper + near) >= _PAPER)
    return paper, ink, np.asarray(peaked & (crossings >= _CROSSINGS) & (2 * abs(paper - ink) >= contrast))


def _within(cells: Levels, lowest: _Cells, highest: _Cells) -> _Cells:
    """How many px of each cell lie in lowest..highest, both included."""
    bounds = (np.clip(bound, 0, 255).astype(np.uint8)[:, None, None] for bound in (lowest, highest))
    inside = (cells >= next(bounds)) & (cells <= next(bounds))
    return np.asarray(np.count_nonzero(inside, axis=(1, 2)), np.int32)


def _alike(likely: _Mask, looks: _Cells) -> NDArray[np.int32]:
    """How many of its 8 neighbours have the paper and the ink of each cell; looks are paper, ink, contrast."""
    rows, columns = likely.shape
    around, wide = np.pad(likely, 1), np.pad(looks, ((0, 0), (1, 1), (1, 1)))
    counts = np.zeros((rows, columns), np.int32)
    for y, x in ((y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1)):
        at = np.s_[y : y + rows, x : x + columns]
        paper, ink = abs(wide[0][at] - looks[0]), abs(wide[1][at] - looks[1])
        counts += np.asarray(around[at] & (paper <= _SAME_PAPER) & (25 * ink <= 3 * looks[2]), np.int32)
    return counts
