"""Pyramids of pixels: the sizes of their levels, who writes which shard, and the exact mean that halves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from refine.errors import PlanError
from refine.spec import Depth, Pixels
from refine.window import Window, grid

CHUNK = 512
"""px. Side of an inner chunk; the longer side of the last level does not exceed it."""
Sums = NDArray[np.uint64]
"""Sums of pixels; as narrow as holds them, whatever the type says."""
_CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))
_BAND = 32
"""Rows of the result that are averaged at once: their sums stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class LevelShard:
    """One shard of one level: what one write makes."""

    level: int
    """0 is the full size; each further one has half the sides, rounded up."""
    window: Window
    """px of that level."""


@dataclass(frozen=True, slots=True)
class Pyramid:
    """One image's levels and their shards. Pure arithmetic.

    The task of a tile writes the tile's shards of the first levels, the own ones, whose sides halve down to one chunk.
    The shards of the upper levels have the side of a tile again, and are made of finished ones of the level below.

    >>> pyramid = Pyramid(5000, 3000, 3, "uint16", 1024)
    >>> pyramid.levels
    [(5000, 3000), (2500, 1500), (1250, 750), (625, 375), (313, 188)]
    >>> pyramid.own, [pyramid.side(level) for level in range(5)]
    (2, [1024, 512, 1024, 1024, 1024])
    """

    height: int
    """px of level 0."""
    width: int
    """px of level 0."""
    channels: int
    """2 and 4 of them end with alpha, but for inks."""
    dtype: Depth
    """Depth of a channel."""
    tile: int
    """Side of a tile, px: chunk * 2^k."""
    chunk: int = CHUNK
    """Side of an inner chunk, px; even."""
    inks: bool = False
    """Whether the channels are inks: then none of them is alpha."""

    def __post_init__(self) -> None:
        own_levels(self.tile, self.chunk)

    def halved(self, pixels: Pixels) -> Pixels:
        """Pixels of one level as those of the next; see `halved`."""
        return halved(pixels, alpha=not self.inks)

    @property
    def levels(self) -> list[tuple[int, int]]:
        """Height and width of every level, px."""
        return levels(self.height, self.width, self.chunk)

    @property
    def own(self) -> int:
        """How many levels, from 0 on, the task of a tile writes."""
        return min(own_levels(self.tile, self.chunk), len(self.levels))

    def side(self, level: int) -> int:
        """Side of the level's shards, px."""
        return self.tile >> level if level < self.own else self.tile

    def shards(self, level: int) -> Iterator[LevelShard]:
        """The level's shards, row by row."""
        return (LevelShard(level, window) for window in grid(*self.levels[level], self.side(level)))

    def own_shards(self, tile: Window) -> list[LevelShard]:
        """The shards that the task of a tile writes, level by level.

        Raises PlanError where the window is no tile of the grid.

        >>> [shard.window for shard in Pyramid(1100, 1000, 1, "uint8", 1024).own_shards(Window(1024, 0, 1100, 1000))]
        [Window(y0=1024, x0=0, y1=1100, x1=1000), Window(y0=512, x0=0, y1=550, x1=500)]
        """
        whole = Window(0, 0, self.height, self.width)
        expected = Window(tile.y0, tile.x0, tile.y0 + self.tile, tile.x0 + self.tile).clip(whole)
        if tile.y0 % self.tile or tile.x0 % self.tile or tile != expected or not tile.area:
            raise PlanError(f"{tile} is no tile of {self}; tiles are cut from the corner, {self.tile} px a side")
        return [
            LevelShard(n, Window(tile.y0 >> n, tile.x0 >> n, -(-tile.y1 >> n), -(-tile.x1 >> n)))
            for n in range(self.own)
        ]


def levels(height: int, width: int, chunk: int = CHUNK) -> list[tuple[int, int]]:
    """Height and width of every level, px: halved, rounded up, until the longer side is one chunk at most.

    >>> levels(1025, 2)
    [(1025, 2), (513, 1), (257, 1)]
    """
    sizes = [(height, width)]
    while max(sizes[-1]) > chunk:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes


def own_levels(tile: int, chunk: int = CHUNK) -> int:
    """How many levels a tile of that side can write alone: as long as its piece of them is whole chunks.

    Raises PlanError unless tile is chunk * 2^k: the pieces of other tiles would share a shard, and so lose pixels.

    >>> own_levels(512), own_levels(2048)
    (1, 3)
    """
    count = (tile // chunk).bit_length()
    if tile < chunk or tile != chunk << (count - 1):
        near = chunk << max(0, round(np.log2(max(tile, 1) / chunk)))
        raise PlanError(f"a tile of a pyramid is {chunk} px times a power of two, got {tile}; use {near}")
    return count


def halved(pixels: Pixels, *, alpha: bool = True) -> Pixels:
    """The pixels (y, x, c) at half the size, rounded up: means of 2 x 2, in integers, rounded half up.

    Of an odd side, the last row or column is averaged over what is there. Where the last of 2 or 4 channels, alpha,
    differs among the four, colour is weighted with it: sum(alpha * colour) / sum(alpha). Where it does not, that is
    the plain mean, which invisible pixels have among themselves too. Windows that begin at even rows and columns of an
    image give the same pixels as the whole image.
    """
    height, width, channels = pixels.shape
    result = np.empty((-(-height // 2), -(-width // 2), channels), pixels.dtype)
    for first in range(0, len(result), _BAND):
        band, mean = pixels[2 * first : 2 * (first + _BAND)], result[first : first + _BAND]
        _average(band, mean)
        if alpha and channels in (2, 4):
            _weigh(band, mean)
    return result


def _average(band: Pixels, mean: Pixels) -> None:
    """Write the plain means of a band of rows."""
    upper, lower = band[0::2], band[1::2]
    # A last row or column without a neighbour counts twice, which is the mean of what is there.
    sums = _widened(upper, np.uint16, np.uint32)
    sums[: len(lower)] += lower
    sums[len(lower) :] *= 2
    pairs = band.shape[1] // 2
    # One channel at a time: numpy walks long rows quickly, and three neighbours slowly.
    for channel in range(band.shape[2]):
        plane = sums[:, :, channel]
        four = plane[:, 0 : 2 * pairs : 2] + plane[:, 1::2]
        four += 2
        four >>= 2
        mean[:, :pairs, channel] = four
    mean[:, pairs:] = (sums[:, 2 * pairs :] + 1) >> 1


def _weigh(band: Pixels, mean: Pixels) -> None:
    """Write the weighted colour where alpha differs among the four."""
    height, width = band.shape[:2]
    alpha = np.pad(band[:, :, -1], ((0, height % 2), (0, width % 2)), mode="edge")
    first = alpha[0::2, 0::2]
    mixed = (first != alpha[0::2, 1::2]) | (first != alpha[1::2, 0::2]) | (first != alpha[1::2, 1::2])
    rows, columns = np.nonzero(mixed)
    if not len(rows):
        return
    flat = band.reshape(-1, band.shape[2])
    places = [
        np.minimum(2 * rows + y, height - 1) * width + np.minimum(2 * columns + x, width - 1) for y, x in _CORNERS
    ]
    # Channels first, so that numpy walks along the pixels.
    a, b, c, d = (_widened(flat.take(place, axis=0).T, np.uint32, np.uint64) for place in places)
    weight = a[-1] + b[-1] + c[-1] + d[-1]
    colour = a[:-1] * a[-1] + b[:-1] * b[-1] + c[:-1] * c[-1] + d[:-1] * d[-1]
    # At least one of the four is visible, for their alphas differ.
    mean[rows, columns, :-1] = ((colour + weight // 2) // weight).T


def _widened(pixels: Pixels, for_8: type[np.unsignedinteger], for_16: type[np.unsignedinteger]) -> Sums:
    """The pixels in a depth that holds what is added up of them."""
    return cast("Sums", pixels.astype(for_8 if pixels.dtype == np.uint8 else for_16, order="C"))
