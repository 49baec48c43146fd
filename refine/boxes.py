"""Means of whole boxes of pixels, read strip by strip: what a picture that is made much smaller is first brought to."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from refine.spec import Pixels
from refine.window import Window, mirrored, read_mirrored

Boxes = tuple[int, int]
"""Height, width of a box, px."""
Floats = NDArray[np.float32]

STRIP_PX = 1 << 20
"""Px that are read at once, or a row of them."""


def read_boxed(source: Pixels, window: Window, boxes: Boxes, entered: Callable[[Pixels], Pixels]) -> Floats:
    """The mean of each box of a window (y, x, c), 0..1; of colour under alpha the mean of what is seen of it.

    window is in px of the source, starts and ends on boxes, and may pass the edge, where the source is mirrored.
    entered is what pixels become before they are counted, each for itself. Sums are of integers: however a picture
    is cut into windows, a box has one mean.
    """
    down, across = boxes
    columns = mirrored(window.x0, window.x1, source.shape[1])
    low, high = int(columns.min()), int(columns.max()) + 1
    rows = []
    for y0, y1 in _bands(window.y0, window.y1, down, high - low):
        parts = (entered(read_mirrored(source, part)) for part in _parts(y0, y1, low, high))
        summed, weight, full = _added(parts, max(1, (y1 - y0) // down))
        summed, weight = (_across(sums, columns - low, across) for sums in (summed, weight))
        rows.append(_means(summed, weight, down * across, full))
    return np.concatenate(rows)


def _bands(start: int, stop: int, down: int, width: int) -> Iterator[tuple[int, int]]:
    """Rows of boxes, as many at once as a strip may hold, and one at least."""
    step = max(1, STRIP_PX // (width * down)) * down
    for row in range(start, stop, step):
        yield row, min(row + step, stop)


def _parts(y0: int, y1: int, low: int, high: int) -> Iterator[Window]:
    """A band in one, or in pieces where one row of boxes is more than a strip may hold."""
    step = max(1, STRIP_PX // (high - low))
    for y in range(y0, y1, step):
        yield Window(y, low, min(y + step, y1), high)


def _added(parts: Iterator[Pixels], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Sums of `count` rows of boxes, of colour (weighted by alpha) and of alpha; and full scale.

    More than one row comes in one part.
    """
    summed = weight = None
    full = 0
    for pixels in parts:
        full = int(np.iinfo(pixels.dtype).max)
        wide = pixels.reshape(count, -1, *pixels.shape[1:]) if count > 1 else pixels[None]
        if pixels.shape[2] in (2, 4):
            alpha = wide[..., -1:].astype(np.int64)
            more, shares = (wide[..., :-1] * alpha).sum(axis=1), alpha.sum(axis=1)
        else:
            more, shares = wide.sum(axis=1, dtype=np.int64), np.zeros((count, pixels.shape[1], 0), np.int64)
        summed, weight = (more, shares) if summed is None or weight is None else (summed + more, weight + shares)
    assert summed is not None
    assert weight is not None
    return summed, weight, full


def _across(sums: NDArray[np.int64], columns: NDArray[np.intp], across: int) -> NDArray[np.int64]:
    """Sums of columns, added up box by box; columns may be named more than once."""
    if not sums.shape[2]:
        return sums[:, : columns.size // across]
    return np.asarray(sums[:, columns].reshape(len(sums), -1, across, sums.shape[2]).sum(axis=2))


def _means(summed: NDArray[np.int64], weight: NDArray[np.int64], area: int, full: int) -> Floats:
    if not weight.shape[2]:
        return (summed / (area * full)).astype(np.float32)
    # Where nothing is seen there is no colour to tell: the program puts that of its neighbours there.
    colour = summed / np.maximum(weight * full, 1)
    return np.concatenate([colour, weight / (area * full)], axis=2).astype(np.float32)
