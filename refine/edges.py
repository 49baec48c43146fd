"""How sharp the sharpest edges are, and the halos they carry.

Profiles of steep, straight, isolated edges are cut along rows and columns. A Gaussian of sigma s gives a step of height
h the slope h / (s sqrt(2 pi)) in its middle, so the slope tells the blur; what lies beyond the level that an edge
settles at is its halo.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import pi, sqrt

import numpy as np
from numpy.typing import NDArray

from refine.assessment import UNKNOWN, Estimate
from refine.lines import LEVEL, SHIFT, Lines, Mask, View, views
from refine.sampling import Sample

REACH = 24
"""px of a profile on either side of its edge."""
MOST = 6_000
"""Edges looked at along one axis, spread evenly over all that there are."""
LEAST, MANY = 24, 100
"""Edges that a blur takes, and that make it certain."""
TEXTURE, PLAIN = 0.03, 0.1
"""Share of the edges that stand isolated: of random texture, 0.01 to 0.023, by chance; of photographs 0.05 to 0.9."""
HEIGHT = 24.0
"""8-bit levels. Lower edges are texture, or noise."""
CLEAR = 8.0
"""Sigmas of the noise that an edge is at least high."""
SLOPE = 3.0
"""8-bit levels a px, and sigmas of the noise, of the steepest step of an edge."""
SLANT = 0.3, 0.2
"""px sideways per px along the edge, at most: alone, and where rows are added up."""
QUIET = 1.5, 3.0
"""8-bit levels of noise, up to which one row is enough, and up to which three are; five above."""
FOOT = 0.08
"""An edge ends where its slope falls to this share of the steepest."""
RETURN = 0.3
"""Share of its height by which the levels beside an edge may come back within its own length: thin lines come back
altogether, and look steeper than they are."""
QUANTILE = 30
"""Percent: the sharpest edges of a picture, without those that stand steeper by chance."""
NEIGHBOURS = 0.05
"""By that much per px of sigma blur lets neighbours make edges steeper: mean of 16 training crops, sigma 0.5 to 2.5."""
PEAK, PLATEAU = 5, 11
"""px beyond the foot of an edge: a halo's crest lies before the first, the level it settles at up to the second."""
FLAT = 0.1
"""Share of an edge's height by which that level may vary."""

Planes = NDArray[np.int32]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Edges:
    """What edges are like."""

    blur_sigma: Estimate = UNKNOWN
    """Sigma of the Gaussian that the sharpest edges look blurred by, px."""
    halo: Estimate = UNKNOWN
    """Overshoot beyond the level that edges settle at, percent of their height: mean of the bright and the dark side.
    Sides that reach black or white cannot show it and do not count."""


@dataclass(frozen=True, slots=True)
class _Profiles:
    """Rising edges, (edge, px), the steepest step from px REACH - 1 to REACH."""

    values: Planes
    """LEVEL times rows to a level of 8 bits. Falling edges are mirrored."""
    first: NDArray[np.intp]
    """Last px of the low side."""
    last: NDArray[np.intp]
    """First px of the high side."""
    slant: Floats
    """px sideways per px along the edge."""
    rows: int
    """Rows added up."""

    @property
    def low(self) -> Planes:
        """Value at the foot."""
        foot: Planes = np.take_along_axis(self.values, self.first[:, None], 1)[:, 0]
        return foot

    @property
    def height(self) -> Planes:
        """From foot to head."""
        head: Planes = np.take_along_axis(self.values, self.last[:, None], 1)[:, 0]
        return head - self.low

    def where(self, kept: Mask) -> _Profiles:
        """Some of them."""
        return _Profiles(self.values[kept], self.first[kept], self.last[kept], self.slant[kept], self.rows)


def edges(samples: Sequence[Sample], noise_sigma: float, jpeg_grid: tuple[int, int] | None = None) -> Edges:
    """Blur and halo of the sharpest edges of an image.

    noise_sigma: of the luma, 8-bit levels; edges must stand clear of it. jpeg_grid: first corner of the blocks of a
    JPEG, None where there are none. With noise or blocks no blur is sure. Below 0.5 px blur reads about 0.4. Without
    enough isolated edges, in smooth or densely textured pictures: none.
    """
    sigmas, halos, sharpness, hidden, number = [], [], [], 0, 0
    for axis in views(samples, 2 * REACH + 8):
        for view in axis:
            profiles = _tall(_profiles(view, noise_sigma, MOST // len(axis)), noise_sigma)
            number += len(profiles.slant)
            sigmas.append(_sigmas(profiles.where(_isolated(profiles))))
            for beyond, sigma, clipped in _sides(profiles):
                halos.append(beyond)
                sharpness.append(sigma)
                hidden += clipped
    if not sigmas:
        return Edges()
    clean = noise_sigma <= QUIET[0] and jpeg_grid is None
    blur = _blur(np.concatenate(sigmas), number, clean=clean)
    return Edges(blur, _halo(np.concatenate(halos), np.concatenate(sharpness), hidden))


def _blur(sigmas: Floats, number: int, *, clean: bool) -> Estimate:
    """From the isolated among so many edges."""
    if len(sigmas) < max(LEAST, TEXTURE * number):
        return UNKNOWN
    seen = float(np.percentile(sigmas, QUANTILE))
    sure = clean and len(sigmas) >= max(MANY, PLAIN * number)
    return Estimate(round(seen * (1 + NEIGHBOURS * seen), 2), "sure" if sure else "fair")


def _halo(beyond: Floats, sigmas: Floats, hidden: int) -> Estimate:
    if len(beyond) < max(LEAST, hidden):
        return UNKNOWN
    crest = float(np.median(beyond[sigmas <= np.median(sigmas)]))
    # A share of the height from crest to crest; of the height from level to level it is more.
    share = max(crest, 0) / max(1 - 2 * crest, 0.2)
    return Estimate(round(100 * share, 1), "sure" if len(beyond) >= MANY else "fair")


def _profiles(view: View, noise_sigma: float, most: int) -> _Profiles:
    """The steepest places of a sample along one axis, at most so many."""
    rows = 1 if noise_sigma <= QUIET[0] else 3 if noise_sigma <= QUIET[1] else 5
    lines = _added(view.lines, rows)
    step = lines[:, 1:] - lines[:, :-1]
    steep = np.abs(step)
    needed = SLOPE * max(1, noise_sigma / sqrt(rows)) * LEVEL * rows
    top = (steep[:, 1:-1] >= steep[:, :-2]) & (steep[:, 1:-1] > steep[:, 2:]) & (steep[:, 1:-1] > needed)
    if view.seen is not None:
        top &= _clear(view.seen, rows)[:, 1:-2]
    top[:2] = top[-2:] = False
    top[:, : REACH - 1] = top[:, top.shape[1] - REACH + 1 :] = False
    found = np.flatnonzero(top)
    y, x = np.divmod(found[:: max(1, -(-len(found) // most))], top.shape[1])
    x += 1
    pairs = lines[:, 1:] + lines[:, :-1]
    slant = (pairs[y + 2, x] - pairs[y - 2, x]) / (8.0 * step[y, x])
    straight = np.abs(slant) <= SLANT[rows > 1]
    y, x, slant = y[straight], x[straight], slant[straight]
    values = lines[y[:, None], x[:, None] + np.arange(1 - REACH, 1 + REACH)].astype(np.int32)
    values[step[y, x] < 0] *= -1
    first, last = _feet(values)
    return _Profiles(values, first, last, slant, rows)


def _added(lines: Lines, rows: int) -> Lines | Planes:
    """Each row and its neighbours, `rows` in all: noise falls by the root of them."""
    if rows == 1:
        return lines
    high = lines.shape[0] - rows + 1
    total = lines[:high].astype(np.int32)
    for k in range(1, rows):
        total += lines[k : high + k]
    return total


def _clear(seen: Mask, rows: int) -> Mask:
    """Where every px of a profile is visible, and 2 rows on either side of it."""
    high, wide = seen.shape
    down = np.cumsum(np.pad(~seen, ((1, 0), (1, 0))), axis=0, dtype=np.int32).cumsum(1)
    y = np.arange(high - rows + 1)[:, None]
    x = np.arange(wide)[None]
    y0, y1 = np.maximum(y - 2, 0), np.minimum(y + rows + 2, high)
    x0, x1 = np.maximum(x - REACH, 0), np.minimum(x + REACH + 1, wide)
    hidden = down[y1, x1] - down[y0, x1] - down[y1, x0] + down[y0, x0]
    return np.asarray(hidden == 0)


def _feet(values: Planes) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where the rise around the middle begins and ends."""
    step = values[:, 1:] - values[:, :-1]
    rising = step > FOOT * step[:, REACH - 1 : REACH]
    last = REACH - 1 + np.logical_and.accumulate(rising[:, REACH - 1 :], axis=1).sum(1)
    first = REACH - np.logical_and.accumulate(rising[:, REACH - 1 :: -1], axis=1).sum(1)
    return first, last


def _tall(profiles: _Profiles, noise_sigma: float) -> _Profiles:
    unit = LEVEL * profiles.rows
    return profiles.where(profiles.height > max(HEIGHT, CLEAR * noise_sigma / sqrt(profiles.rows)) * unit)


def _isolated(profiles: _Profiles) -> Mask:
    """Whether both sides stay on their side for the length of the edge."""
    length = np.maximum(profiles.last - profiles.first, 3)
    place = np.arange(2 * REACH)
    before = (place < profiles.first[:, None]) & (place >= (profiles.first - length)[:, None])
    behind = (place > profiles.last[:, None]) & (place <= (profiles.last + length)[:, None])
    ends = np.iinfo(np.int32)
    up = np.where(before, profiles.values, ends.min).max(1)
    down = np.where(behind, profiles.values, ends.max).min(1)
    height, low = profiles.height, profiles.low
    within = (profiles.first >= length) & (profiles.last + length < 2 * REACH)
    return np.asarray(within & (up < low + RETURN * height) & (down > low + (1 - RETURN) * height))


def _sigmas(profiles: _Profiles) -> Floats:
    """Sigma of the Gaussian with the slope of each edge, px: h / (sqrt(2 pi) slope), across the edge."""
    steepest = (profiles.values[:, 1:] - profiles.values[:, :-1])[:, REACH - 1]
    seen = profiles.height / (sqrt(2 * pi) * steepest) / np.sqrt(1 + profiles.slant**2)
    # A difference of neighbours is a mean over 1 px, which has a variance of 1 / 12.
    sigma: Floats = np.sqrt(np.maximum(seen**2 - 1 / 12, 0))
    return sigma


def _sides(profiles: _Profiles) -> Iterator[tuple[Floats, Floats, int]]:
    """Of the high and of the low side: how far crests lie beyond the level behind them, and the sigmas of their edges.

    The first is a share of the height. The third is how many sides there are whose crest is cut off by black or white.
    """
    sigma, height = _sigmas(profiles), profiles.height
    white = (65_535 >> SHIFT) * profiles.rows
    for start, foot, sign in ((profiles.last, profiles.first, 1), (profiles.first, profiles.last, -1)):
        place = start[:, None] + sign * np.arange(PLATEAU)
        inside = ((place >= 0) & (place < 2 * REACH)).all(1)
        beside = np.take_along_axis(profiles.values, np.clip(place, 0, 2 * REACH - 1), 1)
        # Falling edges are mirrored, so that their values are negative; the ends of the range stay 0 and white.
        bright = np.abs(beside[:, :PEAK])
        clipped = (bright.min(1) == 0) | (bright.max(1) == white)
        beside *= sign
        level = beside[:, PEAK:]
        settled = level.mean(1)
        rise = settled - sign * np.take_along_axis(profiles.values, foot[:, None], 1)[:, 0]
        flat = inside & (np.ptp(level, axis=1) < FLAT * height) & (rise > height / 2)
        kept = flat & ~clipped
        beyond = (beside[:, :PEAK].max(1) - settled) / height
        yield beyond[kept], sigma[kept], int((flat & clipped).sum())
