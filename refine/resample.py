"""Exact resampling: taps at global pixel positions, found with integers, gathered in a fixed order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, reduce
from math import ceil, floor
from operator import add
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refine.errors import ChainError
from refine.graph import Graph, Value
from refine.step import Stage

Floats = NDArray[np.float64]
_ALIGNED = 64
"""Weights are computed for whole groups of so many positions: a vector unit then treats a position alike
whatever window it is asked for in, and its weights are the same bits."""


def lanczos3(x: Floats) -> Floats:
    """Lanczos' kernel with three lobes, 0 beyond |x| = 3."""
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


def bicubic(x: Floats) -> Floats:
    """The cubic convolution kernel of Keys (1981) with a = -0.5, 0 beyond |x| = 2."""
    t = np.abs(x)
    near = (1.5 * t - 2.5) * t * t + 1
    far = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return np.where(t < 1, near, np.where(t < 2, far, 0.0))


KERNELS: Mapping[str, tuple[Callable[[Floats], Floats], int]] = {"lanczos3": (lanczos3, 3), "bicubic": (bicubic, 2)}
"""Name -> kernel and its support, px at ratio 1."""


class Taps(NamedTuple):
    """Which pixels make a result, and how much of each."""

    place: NDArray[np.int64]
    """(taps, n): position along the axis."""
    weight: NDArray[np.float32]
    """(taps, n), sum over taps is 1."""


@dataclass(frozen=True, slots=True)
class Axis:
    """The resampling of one axis from size_in to size_out px. Centres of first and last px meet their scaled places.

    Where the axis shrinks by 3 or more, whole boxes of `box` px are averaged first and the kernel works on these.
    When it shrinks at all, the kernel is stretched to the ratio (antialiasing).

    >>> Axis(100, 250).backward(0, 250)
    (-3, 103)
    """

    size_in: int
    """px."""
    size_out: int
    """px."""
    kernel: str = "lanczos3"
    """A name in KERNELS."""

    def __post_init__(self) -> None:
        if self.kernel not in KERNELS:
            msg = f"resample: unknown kernel {self.kernel!r}; use one of {', '.join(KERNELS)}"
            raise ChainError(msg)
        if self.size_in < 1 or self.size_out < 1:
            msg = f"resample: sizes must be at least 1 px, got {self.size_in} -> {self.size_out}"
            raise ChainError(msg)

    @property
    def ratio(self) -> Fraction:
        """Input px per output px."""
        return Fraction(self.size_in, self.size_out)

    @property
    def box(self) -> int:
        """Side of the boxes averaged first, px; 1 means none.

        At least 1.5x is left to the kernel, so that it and not the box decides what is sharp.
        """
        return max(1, floor(self.ratio / Fraction(3, 2))) if self.ratio > 2 else 1

    @property
    def _boxed(self) -> Fraction:
        return self.ratio / self.box

    @property
    def support(self) -> Fraction:
        """Half width of the stretched kernel, px of the boxed input."""
        return KERNELS[self.kernel][1] * max(Fraction(1), self._boxed)

    @property
    def taps(self) -> int:
        """Taps per result, an even number so that few programs serve many ratios."""
        needed = ceil(2 * self.support)
        return needed + needed % 2

    @property
    def structure(self) -> tuple[int, int]:
        """What a program is compiled for: taps and box."""
        return self.taps, self.box

    def backward(self, start: int, stop: int) -> tuple[int, int]:
        """The input positions (half open, not clipped) that outputs start..stop-1 read."""
        first, last = self._first(np.array([start, stop - 1]))
        return int(first) * self.box, (int(last) + self.taps) * self.box

    def table(self, start: int, stop: int, origin: int, size: int) -> Taps:
        """The taps of outputs start..stop-1, as positions in a block of `size` px whose first px is `origin`.

        Positions are of boxes where there are any; origin and size are always px of the input.
        Taps outside the block are moved to its edge: only results that are cropped away have such.
        """
        origin, size = origin // self.box, size // self.box
        low = start // _ALIGNED * _ALIGNED
        high = -(-stop // _ALIGNED) * _ALIGNED
        index, weight = _table(self, low, high)
        kept = slice(start - low, stop - low)
        inside = np.clip(index[kept] - origin, 0, max(size - 1, 0))
        return Taps(np.ascontiguousarray(inside.T), np.ascontiguousarray(weight[kept].T))

    def _first(self, out: NDArray[np.int64]) -> NDArray[np.int64]:
        # Centre of output i, in boxed px: ((2 i + 1) a - b) / 2 b with a / b = _boxed. The support is the kernel's
        # times max(a, b) / b. First tap: the smallest integer above centre - support; all of it in integers.
        a, b = self._boxed.numerator, self._boxed.denominator
        numerator = (2 * out + 1) * a - b - 2 * KERNELS[self.kernel][1] * max(a, b)
        return np.asarray(numerator // (2 * b) + 1)


@lru_cache(maxsize=256)
def _table(axis: Axis, low: int, high: int) -> Taps:
    out = np.arange(low, high, dtype=np.int64)
    a, b = axis._boxed.numerator, axis._boxed.denominator  # noqa: SLF001  (one module)
    index = axis._first(out)[:, None] + np.arange(axis.taps, dtype=np.int64)  # noqa: SLF001
    # The distance from the centre as one division of exact integers.
    distance = (2 * b * index - ((2 * out + 1) * a - b)[:, None]) / (2.0 * b)
    kernel = KERNELS[axis.kernel][0]
    weight = kernel(distance / float(max(Fraction(1), axis._boxed)))  # noqa: SLF001
    weight /= weight.sum(axis=1, keepdims=True)
    return Taps(index, weight.astype(np.float32))


@dataclass(frozen=True, slots=True)
class Resample:
    """Bring the image to its exact size. Which size is a matter of the plan, not of the chain.

    Source: Duchon, Lanczos Filtering in One and Two Dimensions, 1979; Keys, Cubic Convolution Interpolation, 1981.
    """

    kernel: str = "lanczos3"
    """`lanczos3` or `bicubic`."""

    def __post_init__(self) -> None:
        if self.kernel not in KERNELS:
            msg = f"resample: unknown kernel {self.kernel!r}; use one of {', '.join(KERNELS)}"
            raise ChainError(msg)

    @property
    def stage(self) -> Stage:
        """After the networks, which know whole factors only."""
        return Stage.RESAMPLE


def resampled(
    graph: Graph,
    image: Value,
    prefix: str,
    structure: tuple[tuple[int, int], tuple[int, int]],
    *,
    monotone: bool = False,
) -> Value:
    """Write a resampling of rows, then columns: sum over taps of gathered pixels times weight.

    structure is (taps, box) of the y and of the x axis. Declares the tables `prefix.rows.index`, `.weight`,
    `prefix.columns.index`, `.weight`. Additions stand in a fixed order, one after the other: their sum does not
    depend on the window, as that of a matrix product would. With `monotone`, no result leaves the range of the
    pixels under the kernel's main lobe: it neither rings nor overshoots, and edges stay as steep.
    """
    (_, box_y), (_, box_x) = structure
    if box_y > 1 or box_x > 1:
        image = graph.op("AveragePool", image, kernel_shape=[box_y, box_x], strides=[box_y, box_x])
    for axis, name in ((2, "rows"), (3, "columns")):
        image = _gathered(graph, image, f"{prefix}.{name}", axis, structure[axis - 2][0], monotone=monotone)
    return image


def _gathered(graph: Graph, image: Value, name: str, axis: int, taps: int, *, monotone: bool) -> Value:
    index = graph.input(f"{name}.index", "int64", [taps, f"{name}.n"])
    weight = graph.input(f"{name}.weight", "float32", [taps, f"{name}.n", 1])
    if axis == 3:
        # Gathering single pixels is slow; turned by a quarter they are rows.
        image = graph.op("Transpose", image, perm=[0, 1, 3, 2])
    places = [graph.constant(np.int64(tap)) for tap in range(taps)]
    rows = [graph.op("Gather", image, graph.op("Gather", index, at, axis=0), axis=2) for at in places]
    parts = [row * graph.op("Gather", weight, at, axis=0) for row, at in zip(rows, places, strict=True)]
    total = reduce(add, parts)
    if monotone:
        main = rows[taps // 2 - ceil(taps / 6) : taps // 2 + ceil(taps / 6)]
        total = graph.op("Max", graph.op("Min", total, graph.op("Max", *main)), graph.op("Min", *main))
    return graph.op("Transpose", total, perm=[0, 1, 3, 2]) if axis == 3 else total
