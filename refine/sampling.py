"""The pixels that an assessment looks at: all of a small image, windows on a fixed grid of a large one. Integers only.

The grid depends on the size of the image and on nothing else, so neither tiles nor workers change what is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from refine.spec import ImageSpec, Pixels
from refine.window import Window

WHOLE = 4_000_000
"""px. Up to this an image is looked at whole."""
SIDE = 512
"""px. Side of a window of a larger one: a multiple of 8, so that every window shows the blocks of a JPEG alike."""
COUNT = 16
"""Windows of a larger one."""

Plane = NDArray[np.int32]
"""(y, x), 16-bit scale: full scale is 65535, a level of 8 bits is 257."""


class Source(Protocol):
    """Pixels (y, x, c) that windows are cut from: an array in memory, or one in storage."""

    def __getitem__(self, index: tuple[slice, slice]) -> Pixels:
        """The pixels of a window."""
        ...


@dataclass(frozen=True, slots=True)
class Sample:
    """One window of the image, as planes."""

    window: Window
    """Where it lies."""
    luma: Plane
    """(299 R + 587 G + 114 B) / 1000, rounded; grey as it is."""
    red_green: Plane | None
    """R - G; None for grey."""
    blue_green: Plane | None
    """B - G; None for grey."""
    alpha: Plane | None
    """None where there is none."""
    step: int
    """Distance of two levels of the source: 257 for 8 bits, 1 for 16."""


def sample_windows(height: int, width: int) -> tuple[Window, ...]:
    """The windows of an image of that size: one, or COUNT of SIDE px spread evenly from edge to edge.

    >>> sample_windows(1000, 1500)
    (Window(y0=0, x0=0, y1=1000, x1=1500),)
    >>> len(sample_windows(100_000, 100_000)), sample_windows(100_000, 100_000)[-1].x1
    (16, 100000)
    """
    if height * width <= WHOLE:
        return (Window(0, 0, height, width),)
    rows = min(COUNT, max(1, round(sqrt(COUNT * height / width))))
    return tuple(
        Window(y, x, min(y + SIDE, height), min(x + SIDE, width))
        for y in _starts(height, rows)
        for x in _starts(width, ceil(COUNT / rows))
    )


def samples(source: Source, spec: ImageSpec) -> Iterator[Sample]:
    """The samples of an image of grey or RGB, with alpha or without. Other encodings are converted before."""
    for window in sample_windows(spec.height, spec.width):
        yield sample(np.asarray(source[window.slices]), spec, window)


def sample(pixels: Pixels, spec: ImageSpec, window: Window) -> Sample:
    """The planes of the pixels (y, x, c) of a window."""
    step = 257 if pixels.dtype == np.uint8 else 1
    # Plane by plane, so that each is in one piece and fits the caches.
    planes = [_scaled(pixels[..., channel], step) for channel in range(pixels.shape[2])]
    alpha = planes.pop() if spec.has_alpha else None
    if spec.channels < 3:
        return Sample(window, planes[0], None, None, alpha, step)
    red, green, blue = planes
    luma = 299 * red
    luma += 587 * green
    luma += 114 * blue
    luma += 500
    luma //= 1000
    red -= green
    blue -= green
    return Sample(window, luma, red, blue, alpha, step)


def _scaled(channel: Pixels, step: int) -> Plane:
    plane = channel.astype(np.int32)
    plane *= step
    return plane


def _starts(length: int, count: int) -> list[int]:
    """First px of `count` windows from one edge to the other, on multiples of 8 but for the last."""
    last = max(0, length - SIDE)
    if count == 1:
        return [last // 16 * 8]
    even = [last * i // (count - 1) // 8 * 8 for i in range(count - 1)]
    return sorted({*even, last})
