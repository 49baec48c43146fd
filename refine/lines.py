"""Samples as lines of luma along either axis: what is measured of edges and spectra is measured along lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refine.sampling import Sample

SHIFT = 5
"""Bits dropped of the 16, so that third differences fit into 16 bits."""
LEVEL = 257 / (1 << SHIFT)
"""A level of 8 bits after that."""

Lines = NDArray[np.int16]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class View:
    """A sample seen along one axis."""

    lines: Lines
    """(line, px), LEVEL to a level of 8 bits."""
    seen: Mask | None
    """Where pixels are visible; None where all are."""
    start: int
    """First px of the lines in the image."""


def views(samples: Sequence[Sample], least: int) -> tuple[list[View], list[View]]:
    """All samples of at least `least` px a side, seen along x and along y."""
    along, down = [], []
    for sample in samples:
        if min(sample.luma.shape) < least:
            continue
        lines = (sample.luma >> SHIFT).astype(np.int16)
        seen = None if sample.alpha is None else sample.alpha > 0
        along.append(View(lines, seen, sample.window.x0))
        turned = None if seen is None else np.ascontiguousarray(seen.T)
        down.append(View(np.ascontiguousarray(lines.T), turned, sample.window.y0))
    return along, down
