"""How strongly an image has been compressed as JPEG: from its file's tables, and from its pixels.

A JPEG's coefficients lie on multiples of its quantisation steps. Saved again without loss they still do, to within
rounding, if one looks at blocks that begin where its blocks began. So the 64 places are tried, and the qualities whose
steps fit the histograms of coefficients best are told by likelihood. No other picture prefers a place.

Coefficients come of integer matrices and are counted; weights of the counts are whole: exact, in any order.

Source: Fan, de Queiroz, Identification of bitmap compression history: JPEG detection and quantizer estimation,
IEEE Transactions on Image Processing 12(2), 2003, doi 10.1109/TIP.2002.807361.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from math import ceil, sqrt
from typing import TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from refine.assessment import UNKNOWN, Estimate
from refine.quantisation import FREQUENCIES, Grid, Table, stored_grid, table_quality, tables, upright_table
from refine.sampling import Plane, Sample
from refine.spec import ImageSpec

Counts = NDArray[np.float64]
"""(frequency, bin); whole numbers: how many coefficients have that size, of either sign."""
Fits = NDArray[np.float64]
"""(place, spread, frequency, step): log-likelihood of the step over chance."""
Line = NDArray[np.float64]
"""(multiple,): how many coefficients are so many steps large."""
Blocks = NDArray[np.int32]
"""(block, pixel), 16-bit scale."""
_SIDE = 8
_PLACES = tuple(product(range(_SIDE), range(_SIDE)))
"""Where blocks may begin."""
_BINS = 4
"""Bins of a level."""
_LIMIT = 300
"""Levels; larger coefficients are not counted."""
_SPREADS = (0.4, 1.2, 2.5)
"""Sigma, levels, of coefficients about their steps: rounding to 8 bits gives 0.35, a second compression more."""
_STRAY = 0.05
"""Share of coefficients that lie anywhere, by clipping and the like."""
_WEIGHT = 64
"""Parts of a unit of log-likelihood that weights are rounded to."""
_SEARCHED, _COUNTED = 128, 6000
"""Blocks looked at for each place; blocks counted at the best one."""
_FEWEST = 16
"""Blocks without which nothing is said of pixels."""
_TRACE, _TRACE_EACH, _TRACE_STEP = 100.0, 0.25, 10.0
"""Log-likelihood that steps must win by: at all, for each block, and for a single step to be known."""
_SEARCHED_LIMIT = 100
"""Levels; larger coefficients are not looked at in the search."""
_ONE_PLACE = 4.0
"""Times that steps must fit better in one place than in most: few levels, as of a dither, fit steps everywhere."""
_FLOOR = 0.1
"""Coefficients expected where there are none."""
_STRONGER = 5
"""Qualities by which an older compression must be lower to count."""
_BLOCKY = 5.0
"""Standard errors by which steps at one column of eight exceed those at every other for blocks to be seen."""
_BARE = 0.05
"""Share of them that there is at least inside blocks of a picture; a pattern may have nothing there."""
_ONE_THREAD = 64**3
"""Multiplications; OpenBLAS shares larger products among threads."""
_Number = TypeVar("_Number", np.float32, np.float64)

_STEEP = 40 * 257
"""What a step between blocks counts at most: edges are no blocks."""


@dataclass(frozen=True, slots=True)
class Jpeg:
    """The strongest JPEG compression found."""

    quality: Estimate
    """IJG quality, 1..100; 100 where there are no traces; UNKNOWN where there are and it cannot be told."""
    grid: Grid | None
    """Where its blocks begin; None where there are none."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A compression that the pixels show."""

    quality: int
    """1..100."""
    grid: Grid
    """Where its blocks begin."""


def jpeg(spec: ImageSpec, samples: Sequence[Sample]) -> Jpeg:
    """The strongest compression that the file's table or the pixels tell of.

    `sure` from a table; from pixels `fair`. Without a table, what is weaker than 95 may read as none.
    """
    stated = None
    table = upright_table(spec)
    if table is not None:
        stated = _Found(table_quality(table), stored_grid(spec))
    tried = _tried(samples)
    newest = stated or _searched(samples, tried)
    if newest is None:
        seen = blocks_seen(samples)
        enough = sum(len(blocks) for blocks in _blocks(samples, (0, 0), _COUNTED)) >= _FEWEST
        return Jpeg(Estimate(100, "fair") if enough and seen is None else UNKNOWN, seen)
    if table is None:
        table = tables()[newest.quality - 1]
    older = (_searched(samples, tried, newest), _beneath(samples, newest, table))
    strongest = min((newest, *filter(None, older)), key=lambda found: found.quality)
    return Jpeg(Estimate(strongest.quality, "sure" if strongest is stated else "fair"), strongest.grid)


def _tried(samples: Sequence[Sample]) -> Fits:
    """Fits of every place that blocks may begin at, of `_PLACES`; none without samples."""
    strips = _liveliest(samples)
    if not strips:
        return np.zeros((0, 1, len(FREQUENCIES), 1))
    counts = _counts_of([_strip_blocks(strips, grid) for grid in _PLACES], _SEARCHED_LIMIT * _BINS)
    return _likelihoods(counts, [_SPREADS[::2]])


def _searched(samples: Sequence[Sample], tried: Fits, newest: _Found | None = None) -> _Found | None:
    """The compression whose blocks begin where coefficients prefer steps most; an older one if a newest is given."""
    if not len(tried):
        return None
    places = [at for at, grid in enumerate(_PLACES) if newest is None or grid != newest.grid]
    fits = tried[places]
    # Tables first: where little but flat blocks is left, their edges lie on steps of their own in other places.
    for rated, quality_at in ((_by_table(fits).max(axis=2), _table_at), (_by_step(fits), _steps_at)):
        scores = rated.max(axis=1)
        quality = None
        if scores.max() > _ONE_PLACE * max(0.0, float(np.median(scores))):
            grid = _PLACES[places[int(np.argmax(scores))]]
            quality = quality_at(samples, grid)
        if quality is not None and (newest is None or quality <= newest.quality - _STRONGER):
            return _Found(quality, grid)
    return None


def _by_table(fits: Fits) -> NDArray[np.float64]:
    """Log-likelihood (place, spread, quality - 1) of the tables."""
    steps = tables()[:, FREQUENCIES]
    known = np.where(steps < fits.shape[3], steps, 0)
    by_table: NDArray[np.float64] = fits[:, :, np.arange(len(FREQUENCIES)), known].sum(axis=3)
    return by_table


def _by_step(fits: Fits) -> NDArray[np.float64]:
    """Log-likelihood (place, spread) of the steps that fit each frequency best, whatever table they make."""
    by_step: NDArray[np.float64] = fits.max(axis=3).clip(min=0).sum(axis=2)
    return by_step


def _table_at(samples: Sequence[Sample], grid: Grid) -> int | None:
    """The quality whose table fits the blocks on a grid best, if it fits nearly as well as any steps do."""
    blocks = [*_blocks(samples, grid, _COUNTED)]
    fits = _likelihoods(_counts(blocks)[None], [(spread,) for spread in _SPREADS])
    by_table = _by_table(fits)[0].max(axis=0)
    fair = by_table.max() >= max(_needed(blocks), _by_step(fits).max() / 2)
    return 1 + int(np.argmax(by_table)) if fair else None


def _steps_at(samples: Sequence[Sample], grid: Grid) -> int | None:
    """The quality whose table is nearest to the steps found in the blocks on a grid, as with a file's own table."""
    blocks = [*_blocks(samples, grid, _COUNTED)]
    fits = _likelihoods(_counts(blocks)[None], [(spread,) for spread in _SPREADS])
    by_step = _by_step(fits)[0]
    if by_step.max() < _needed(blocks):
        return None
    best = fits[0, int(np.argmax(by_step))]
    off = tables()[:, FREQUENCIES] - best.argmax(axis=1)
    return 1 + int(np.argmin((off**2 * (best.max(axis=1) > _TRACE_STEP)).sum(axis=1)))


def _needed(blocks: Sequence[Blocks]) -> float:
    return _TRACE + _TRACE_EACH * sum(map(len, blocks))


def _beneath(samples: Sequence[Sample], newest: _Found, table: Table) -> _Found | None:
    """An older, stronger compression with the same blocks: of the newest steps only those near its own are taken."""
    blocks = [*_blocks(samples, newest.grid, _COUNTED)]
    fits = np.zeros(100)
    for row, frequency in zip(_counts(blocks), FREQUENCIES, strict=True):
        step = int(table.reshape(-1)[frequency])
        taken = np.bincount(np.rint(_SIZES / step).astype(np.int64), weights=row).astype(np.float64)
        older, where = np.unique(tables()[:, frequency], return_inverse=True)
        fits += _rounded_fits(taken, older / step, step)[where]
    quality = 1 + int(np.argmax(fits))
    found = fits[quality - 1] >= _needed(blocks) and quality <= newest.quality - _STRONGER
    return _Found(quality, newest.grid) if found else None


def _rounded_fits(taken: Line, ratios: Line, step: int) -> Line:
    """Log-likelihoods, one a ratio, that multiples of it were rounded to whole steps, over the usual fall.

    taken: how many coefficients are 0, 1, 2.. steps large. Near 0 all pictures have many, so that says nothing.
    """
    places = np.arange(len(taken))
    usual = falling(taken) + _FLOOR
    nearest = np.rint(places / ratios[:, None]).astype(np.int64)
    off, spread = places - nearest * ratios[:, None], _SPREADS[0] / step
    # A logistic curve in place of the normal one: 1.7 makes them differ by less than 0.01.
    edges = 1 / (1 + np.exp(np.clip(-1.7 / spread * np.stack((off + 0.5, off - 0.5)), -50, 50)))
    # Each ratio's multiples in bins of their own.
    own = nearest + (nearest.max() + 1) * np.arange(len(ratios))[:, None]
    chance = usual / np.bincount(own.ravel(), weights=np.broadcast_to(usual, own.shape).ravel())[own]
    gain = np.log((1 - _STRAY) * (edges[0] - edges[1]) / chance + _STRAY)
    likelihoods: Line = np.where(nearest > 0, gain, 0.0) @ taken
    return likelihoods


def falling(counts: Line) -> Line:
    """The closest line that never rises: what a histogram of sizes is like without an older compression.

    The least, over all starts, of the greatest mean over all ends (Barlow et al., Statistical Inference under Order
    Restrictions, 1972, theorem 1.4).

    >>> falling(np.array([9.0, 2, 4, 1]))
    array([9., 3., 3., 1.])
    """
    sums = np.concatenate(([0.0], np.cumsum(counts)))
    starts, ends = np.indices((len(counts), len(counts)))
    means = np.where(ends >= starts, (sums[ends + 1] - sums[starts]) / np.maximum(ends - starts + 1, 1), -1.0)
    greatest = np.maximum.accumulate(means[:, ::-1], axis=1)[:, ::-1]
    return np.minimum.accumulate(greatest, axis=0).diagonal().copy()


@cache
def _weights(spreads: tuple[float, ...]) -> NDArray[np.float32]:
    """Log-likelihood (bin, step) of a coefficient where that step was used, over one that may lie anywhere.

    Any of the spreads is as likely. 0 for steps too small to stand apart, and about 0, where every picture has many.
    """
    weights = np.zeros((len(_SIZES), 256), np.float32)
    for step in range(ceil(3 * min(spreads)), 256):
        nearest = np.rint(_SIZES / step)
        off, offsets = _SIZES - nearest * step, np.arange(step * _BINS) / _BINS - step / 2
        shares = [np.exp(-((off / s) ** 2) / 2) / np.exp(-((offsets / s) ** 2) / 2).mean() for s in spreads]
        weight = np.rint(_WEIGHT * np.log((1 - _STRAY) * sum(shares) / len(spreads) + _STRAY))
        weights[:, step] = np.where(nearest == 0, 0, weight)
    return weights


def _likelihoods(counts: Counts, spreads: Sequence[tuple[float, ...]]) -> Fits:
    """Log-likelihood of every step within the bins, for counts (place, frequency, bin)."""
    largest = min(255, counts.shape[2] // _BINS)
    # Whole numbers below 2^24, as float32 holds them: 6000 blocks of weights below 320.
    whole = counts.astype(np.float32)
    weights = [_weights(alike)[: counts.shape[2], : largest + 1] for alike in spreads]
    rows = whole.reshape(-1, whole.shape[2])
    fits = [_product(rows, one).reshape(*whole.shape[:2], -1) for one in weights]
    return np.stack(fits, axis=1).astype(np.float64) / _WEIGHT


def _product(left: NDArray[_Number], right: NDArray[_Number]) -> NDArray[_Number]:
    """left @ right, in pieces that OpenBLAS does not share among threads, which cost more than they give."""
    rows, inner = left.shape
    columns = right.shape[1]
    if rows * inner < _ONE_THREAD:
        width = _ONE_THREAD // max(1, rows * inner)
        return np.concatenate([left @ right[:, at : at + width] for at in range(0, columns, width)], axis=1)
    height = max(1, _ONE_THREAD // (inner * columns))
    return np.concatenate([left[at : at + height] @ right for at in range(0, rows, height)])


def _transform() -> NDArray[np.float64]:
    """The transform (pixel, frequency) of a block into the frequencies looked at, 2^16 times too large."""
    u, x = np.mgrid[:_SIDE, :_SIDE]
    cosines = np.where(u == 0, sqrt(1 / 8), 0.5) * np.cos((2 * x + 1) * u * np.pi / 16)
    whole: NDArray[np.float64] = np.rint(2**16 * np.kron(cosines, cosines))[FREQUENCIES].T
    return whole


_TRANSFORM = _transform()
_SIZES = np.arange(_LIMIT * _BINS) / _BINS
"""Levels of each bin."""


def _counts(blocks: Sequence[Blocks]) -> Counts:
    """How often coefficients have each size."""
    (counts,) = _counts_of([blocks], len(_SIZES))
    return np.asarray(counts)


def _counts_of(groups: Sequence[Sequence[Blocks]], sizes: int) -> Counts:
    """(group, frequency, bin): the same for each group of blocks; only so many sizes."""
    lengths = [sum(map(len, blocks)) for blocks in groups]
    every = [block for blocks in groups for block in blocks]
    pixels = np.concatenate([*every, np.zeros((0, _SIDE**2), np.int32)]).astype(np.float64)
    coefficients = np.abs(_product(pixels, _TRANSFORM))
    places = np.minimum(np.rint(coefficients * (_BINS / 257 / 2**16)), sizes).astype(np.int64)
    group = np.repeat(np.arange(len(groups)), lengths)[:, None] * len(FREQUENCIES)
    places += (group + np.arange(len(FREQUENCIES))) * (sizes + 1)
    counts = np.bincount(places.ravel(), minlength=len(groups) * len(FREQUENCIES) * (sizes + 1))
    kept: Counts = counts.reshape(len(groups), len(FREQUENCIES), -1)[:, :, :-1].astype(np.float64)
    return kept


def _blocks(samples: Sequence[Sample], grid: Grid, count: int) -> Iterator[Blocks]:
    """Visible blocks (block, pixel) that begin on a grid, at least `count` where there are so many, spread evenly."""
    every = max(1, sum(s.luma.size for s in samples) // _SIDE**2 // count)
    for s in samples:
        y, x = ((start - at) % _SIDE for start, at in zip(grid, (s.window.y0, s.window.x0), strict=True))
        for top in range(y, s.luma.shape[0] - _SIDE + 1, _SIDE * every):
            yield _row(s, top, x)


def _row(sample: Sample, top: int, left: int) -> Blocks:
    """Visible blocks (block, pixel) beside each other from a corner on."""
    count = (sample.luma.shape[1] - left) // _SIDE
    place = slice(top, top + _SIDE), slice(left, left + count * _SIDE)

    def cut(plane: Plane) -> Blocks:
        return plane[place].reshape(_SIDE, count, _SIDE).swapaxes(0, 1).reshape(count, _SIDE**2)

    blocks = cut(sample.luma)
    return blocks if sample.alpha is None else blocks[(cut(sample.alpha) > 0).all(axis=1)]


def _liveliest(samples: Sequence[Sample]) -> list[tuple[Sample, int]]:
    """Rows of samples, on multiples of 16, from which strips of 15 rows show most; enough of them to search."""
    rated = []
    for s in samples:
        middles = slice(7, s.luma.shape[0] - 7, 16)
        steps = np.minimum(np.abs(np.diff(s.luma[middles], axis=1)), _STEEP)
        if s.alpha is not None:
            steps = steps * (s.alpha[middles, 1:] > 0)
        steep = steps.sum(axis=1, dtype=np.int64)
        rated += [(-int(sum_), s.window.y0, s.window.x0, i * 16, s) for i, sum_ in enumerate(steep)]
    rated.sort(key=lambda one: one[:4])
    strips, count = [], 0
    for *_, top, s in rated:
        if count < _SEARCHED:
            strips.append((s, top))
            count += s.luma.shape[1] // _SIDE
    return strips


def _strip_blocks(strips: Sequence[tuple[Sample, int]], grid: Grid) -> list[Blocks]:
    """The blocks of the strips that begin on a grid."""
    return [_row(s, top + (grid[0] - s.window.y0 - top) % _SIDE, (grid[1] - s.window.x0) % _SIDE) for s, top in strips]


def blocks_seen(samples: Sequence[Sample]) -> Grid | None:
    """Where blocks begin, if pixels change more from one to the next than inside them, along both axes."""
    y = _column_seen([_groups(s.luma.T, None if s.alpha is None else s.alpha.T, s.window.y0) for s in samples])
    x = _column_seen([_groups(s.luma, s.alpha, s.window.x0) for s in samples])
    return None if y is None or x is None else (y, x)


def _groups(plane: Plane, alpha: Plane | None, start: int) -> NDArray[np.int64]:
    """Sums of the steps (group of eight columns, column) from a pixel to the next where eight in a row are visible."""
    # The first step is the one into column 2.
    first = (-2 - start) % _SIDE
    count = max(0, plane.shape[1] - 3 - first) // _SIDE
    if count == 0:
        return np.zeros((0, _SIDE), np.int64)
    lines, within = plane[::2], slice(first, first + count * _SIDE)
    steps = np.minimum(np.abs(lines[:, :-3] - lines[:, 3:] + 3 * (lines[:, 2:-1] - lines[:, 1:-2])), _STEEP)
    groups = steps[:, within].reshape(len(lines), count, _SIDE)
    if alpha is not None:
        lowest = sliding_window_view(alpha[::2], 4, axis=1).min(axis=2)[:, within]
        groups = groups * (lowest.reshape(groups.shape).min(axis=2, keepdims=True) > 0)
    sums: NDArray[np.int64] = groups.sum(axis=0, dtype=np.int64)
    return sums


def _column_seen(groups: Sequence[NDArray[np.int64]]) -> int | None:
    """The column of eight that blocks begin with."""
    sums = np.concatenate([*groups, np.zeros((0, _SIDE), np.int64)])
    if len(sums) < _FEWEST:
        return None
    means = sums.mean(axis=0)
    column = int(np.argmax(means))
    # Against each other column of its own group: enlarged pictures and patterns have several such columns, or nothing
    # between them, and steps differ more from place to place of a picture than blocks make them.
    above = np.delete(sums[:, column, None] - sums, column, axis=1)
    errors = above.std(axis=0) / sqrt(len(above))
    stands = (above.mean(axis=0) > _BLOCKY * errors).all() and means.min() > _BARE * means[column]
    return column if stands else None
