"""The steps that a JPEG's coefficients were divided by: what quality a table stands for, and where its blocks begin."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from refine.spec import ImageSpec

Table = NDArray[np.int64]
"""(vertical, horizontal frequency): steps of quantisation, 8-bit levels."""
Grid = tuple[int, int]
"""y, x of the first corner of its blocks, 0..7."""

_SIDE = 8
_BASE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
"""Luma table of ITU-T T.81, table K.1: quality 50."""
_HIGHEST_BAND = 6
"""Frequencies u + v beyond it are mostly quantised to nothing."""
FREQUENCIES: NDArray[np.int64] = np.flatnonzero(
    [0 < u + v <= _HIGHEST_BAND for u in range(_SIDE) for v in range(_SIDE)]
)
"""Places in a table of the frequencies that tell quality."""


def table_quality(table: Table) -> int:
    """The IJG quality whose luma table has the least squares from it, 1..100.

    The lower frequencies decide, as they do in pixels; higher ones, where other makers' tables stop rising, break ties.
    """
    off = (tables() - table.reshape(-1)) ** 2
    low, whole = off[:, FREQUENCIES].sum(axis=1), off.sum(axis=1)
    return 1 + int(np.lexsort((whole, low))[0])


def upright_table(spec: ImageSpec) -> Table | None:
    """The quantisation table (vertical, horizontal frequency) of the upright picture; None without one."""
    if spec.quantisation is None:
        return None
    stored = np.array(spec.quantisation, np.int64).reshape(_SIDE, _SIDE)
    return stored.T if spec.orientation >= 5 else stored


def stored_grid(spec: ImageSpec) -> Grid:
    """Where the blocks of a JPEG begin once it has been turned upright: at the other edge where it was mirrored."""
    y = spec.height % _SIDE if spec.orientation in (3, 4, 7, 8) else 0
    x = spec.width % _SIDE if spec.orientation in (2, 3, 6, 7) else 0
    return y, x


@cache
def tables() -> NDArray[np.int64]:
    """(quality - 1, frequency): the luma tables of the Independent JPEG Group."""
    qualities = np.arange(1, 101)
    scales = np.where(qualities < 50, 5000 // qualities, 200 - 2 * qualities)
    steps: NDArray[np.int64] = np.clip((scales[:, None] * _BASE.reshape(-1) + 50) // 100, 1, 255)
    return steps
