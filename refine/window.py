"""Rectangles of pixels, and the arithmetic between them. Half open; y before x; may pass the image edge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from refine.spec import Pixels


@dataclass(frozen=True, slots=True)
class Window:
    """A half-open pixel rectangle: rows y0 <= y < y1, columns x0 <= x < x1.

    May pass the image edge: the reader mirrors.

    >>> Window(0, 0, 64, 64).grow(8)
    Window(y0=-8, x0=-8, y1=72, x1=72)
    """

    y0: int
    """First row."""
    x0: int
    """First column."""
    y1: int
    """One past the last row."""
    x1: int
    """One past the last column."""

    @property
    def height(self) -> int:
        """Rows, px."""
        return self.y1 - self.y0

    @property
    def width(self) -> int:
        """Columns, px."""
        return self.x1 - self.x0

    @property
    def area(self) -> int:
        """Pixels."""
        return self.height * self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """The index of this window in an array (y, x, ...). It must lie inside the array."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def grow(self, by: int) -> Window:
        """The window with `by` more pixels on every side."""
        return Window(self.y0 - by, self.x0 - by, self.y1 + by, self.x1 + by)

    def shift(self, y: int, x: int) -> Window:
        """The window moved by y rows and x columns."""
        return Window(self.y0 + y, self.x0 + x, self.y1 + y, self.x1 + x)

    def within(self, other: Window) -> Window:
        """This window as seen from the corner of `other`.

        >>> Window(10, 10, 20, 20).within(Window(8, 4, 40, 40))
        Window(y0=2, x0=6, y1=12, x1=16)
        """
        return self.shift(-other.y0, -other.x0)

    def contains(self, other: Window) -> bool:
        """Whether `other` lies wholly inside."""
        return self.y0 <= other.y0 and self.x0 <= other.x0 and other.y1 <= self.y1 and other.x1 <= self.x1

    def clip(self, other: Window) -> Window:
        """The part of this window inside `other`; empty where they do not meet."""
        y0, x0 = max(self.y0, other.y0), max(self.x0, other.x0)
        return Window(y0, x0, max(y0, min(self.y1, other.y1)), max(x0, min(self.x1, other.x1)))


@dataclass(frozen=True, slots=True)
class Tile:
    """What one piece of work reads, keeps and writes."""

    read: Window
    """Source px; may pass the image edge, where the reader mirrors."""
    crop: Window
    """px of the program's result: what is kept of it."""
    write: Window
    """Output px. `crop` and `write` have one shape."""


def grid(height: int, width: int, side: int) -> Iterator[Window]:
    """The windows of `side` px that cover height x width, row by row; the last ones may be smaller.

    >>> [w.width for w in grid(4, 10, 4)]
    [4, 4, 2]
    """
    for y in range(0, height, side):
        for x in range(0, width, side):
            yield Window(y, x, min(y + side, height), min(x + side, width))


def even_grid(window: Window, side: int) -> Iterator[Window]:
    """The fewest windows of at most `side` px that cover `window`, as even as whole pixels allow.

    >>> [w.width for w in even_grid(Window(0, 0, 4, 10), 8)]
    [5, 5]
    """
    for y0, y1 in _even(window.y0, window.y1, side):
        for x0, x1 in _even(window.x0, window.x1, side):
            yield Window(y0, x0, y1, x1)


def _even(start: int, stop: int, side: int) -> list[tuple[int, int]]:
    count = -(-(stop - start) // side)
    cuts = [start + (stop - start) * i // count for i in range(count + 1)]
    return list(pairwise(cuts))


def mirrored(start: int, stop: int, size: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Index along one axis of `size` px for positions start..stop-1, mirrored at the edges.

    The edge pixel itself is not repeated (numpy's `reflect`), however often the image must be folded;
    an axis of 1 px repeats.

    >>> mirrored(-3, 6, 4).tolist()
    [3, 2, 1, 0, 1, 2, 3, 2, 1]
    """
    if size == 1:
        return np.zeros(stop - start, np.intp)
    folded = np.arange(start, stop) % (2 * size - 2)
    return np.minimum(folded, 2 * size - 2 - folded)


def read_mirrored(source: Pixels, window: Window) -> Pixels:
    """The pixels of `window` from source (y, x, c): a view where it lies inside, a mirrored copy where it does not.

    Only the rows and columns that are needed are touched, so source may be any array that takes slices (zarr too).
    """
    height, width = source.shape[:2]
    whole = Window(0, 0, height, width)
    if whole.contains(window):
        return np.asarray(source[window.slices])
    inner = window.clip(whole)
    far = max(inner.y0 - window.y0, window.y1 - inner.y1, inner.x0 - window.x0, window.x1 - inner.x1)
    if min(inner.height, inner.width) <= far:
        return _folded(source, window)
    # The inside is copied as it is, which is quick; only the rim beyond the edges is gathered, out of that copy.
    inside, kept = np.asarray(source[inner.slices]), inner.within(window)
    block = np.empty((window.height, window.width, *inside.shape[2:]), inside.dtype)
    block[kept.slices] = inside
    for start, stop in ((0, kept.x0), (kept.x1, window.width)):
        columns = mirrored(window.x0 + start, window.x0 + stop, width) - window.x0
        block[kept.y0 : kept.y1, start:stop] = block[kept.y0 : kept.y1, columns]
    for start, stop in ((0, kept.y0), (kept.y1, window.height)):
        block[start:stop] = block[mirrored(window.y0 + start, window.y0 + stop, height) - window.y0]
    return block


def _folded(source: Pixels, window: Window) -> Pixels:
    """As `read_mirrored`, for windows that reach so far beyond a small image that it must be folded."""
    height, width = source.shape[:2]
    rows, columns = mirrored(window.y0, window.y1, height), mirrored(window.x0, window.x1, width)
    inner = Window(int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1)
    block = np.asarray(source[inner.slices])
    return np.asarray(block[np.ix_(rows - inner.y0, columns - inner.x0)])
