"""Where a value of a network stands over the source picture: the arithmetic of one axis, and of axes regrouped.

A network is thought of as run on a window of an endless picture. Along each picture axis a `Span` remembers which
indices are the same as if the window had been the whole picture; what padding, or the window's own edge, has spoiled
lies outside `start`..`stop`. Every operator narrows that range by integers, and what is missing at the end is the halo.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import gcd, lcm


class MixedAxesError(ValueError):
    """Picture axes that do not line up: two scales joined, or rows torn apart by a reshape."""


@dataclass(frozen=True, slots=True)
class Span:
    """One picture axis of one value, on a window of `size / rate` source px.

    >>> Span.of(axis=0, size=48).strided(extent=3, stride=1, before=1, size=48)  # a 3x3 convolution
    Span(axis=0, size=48, rate=Fraction(1, 1), period=1, start=1, stop=47)
    """

    axis: int
    """0 for rows, 1 for columns."""
    size: int
    """Indices of the value on this window."""
    rate: Fraction
    """Indices per source px."""
    period: int
    """Source px. A window that starts on a multiple of it shifts the value by whole indices."""
    start: int
    """First index that no window edge has spoiled. May pass `stop`, on a window smaller than the reach."""
    stop: int
    """One past the last such index."""

    @classmethod
    def of(cls, axis: int, size: int) -> Span:
        """The source itself: one index per px, none spoiled."""
        return cls(axis, size, Fraction(1), 1, 0, size)

    def strided(self, extent: int, stride: int, before: int, size: int) -> Span:
        """Index j reads the `extent` indices from stride * j - before: convolution, pooling, slice."""
        start = -(-(self.start + before) // stride)
        stop = (self.stop - extent + before) // stride + 1
        return self._resized(size, Fraction(1, stride), start, stop)

    def repeated(self, times: int) -> Span:
        """Every index becomes `times` of them: depth to space, nearest neighbour."""
        return self._resized(self.size * times, Fraction(times), self.start * times, self.stop * times)

    def transposed(self, extent: int, stride: int, before: int, size: int) -> Span:
        """Index i writes the `extent` indices from stride * i - before: transposed convolution."""
        start = stride * (self.start - 1) + extent - before
        return self._resized(size, Fraction(stride), start, stride * self.stop - before)

    def shifted(self, before: int, size: int) -> Span:
        """Index j reads index j - before: padding, or with a negative `before` cropping."""
        return self._resized(size, Fraction(1), self.start + before, self.stop + before)

    def sampled(self, by: Fraction, first: Callable[[int], int], last: Callable[[int], int], size: int) -> Span:
        """Index j reads first(j)..last(j), both rising with j, `by` indices for each old one: resizing."""
        # Wider than any answer, because start and stop may lie outside a small window.
        bound = 4 * (size + int(by * (abs(self.start) + abs(self.stop) + 8)) + 8)
        indices = range(-bound, bound)
        start = indices[bisect_left(indices, self.start, key=first)]
        stop = indices[bisect_left(indices, self.stop, key=last)]
        return self._resized(size, by, start, stop)

    def joined(self, other: Span) -> Span:
        """Both, index by index. Raises MixedAxesError where they do not stand over the same pixels."""
        if (self.axis, self.size, self.rate) != (other.axis, other.size, other.rate):
            raise MixedAxesError(f"joins {self.label} with {other.label}")
        start, stop = max(self.start, other.start), min(self.stop, other.stop)
        return replace(self, period=lcm(self.period, other.period), start=start, stop=stop)

    def split(self, coarse: int) -> tuple[Span, int]:
        """The axis as `coarse` groups of neighbours: the groups, and how many indices one has."""
        fine = self.size // coarse
        return self.strided(fine, fine, 0, coarse), fine

    @property
    def label(self) -> str:
        """For messages.

        >>> Span.of(1, 8).repeated(2).label
        'columns at scale 2'
        """
        return f"{('rows', 'columns')[self.axis]} at scale {self.rate}"

    def _resized(self, size: int, by: Fraction, start: int, stop: int) -> Span:
        rate = self.rate * by
        indices = self.rate * self.period * by  # per period: whole, once the period is long enough
        period = self.period * indices.denominator
        return Span(self.axis, size, rate, period, max(start, 0), min(stop, size))


Axis = tuple[Span | int, ...]
"""What one axis of a value runs over, slowest first: picture axes, and plain counts (channels, phases of a shuffle).

Counts of 1 are left out, so () is an axis of size 1.
"""

Layout = tuple[Axis, ...]
"""The axes of a value, in order."""


def size_of(part: Span | int) -> int:
    """Indices of one part of an axis."""
    return part if isinstance(part, int) else part.size


def count(size: int) -> Axis:
    """An axis of `size` that has nothing to do with the picture's rows and columns."""
    return () if size == 1 else (size,)


def spans(axis: Axis) -> tuple[Span, ...]:
    """The picture axes within one axis of a value."""
    return tuple(part for part in axis if isinstance(part, Span))


def joined(one: Axis, other: Axis) -> Axis:
    """The axis of an element-by-element result. Raises MixedAxesError."""
    if not one or not other:
        return one or other
    if len(one) != len(other):
        raise MixedAxesError("joins values whose rows and columns are laid out in different ways")
    return tuple(_joined(a, b) for a, b in zip(one, other, strict=True))


def _joined(one: Span | int, other: Span | int) -> Span | int:
    if isinstance(one, Span) and isinstance(other, Span):
        return one.joined(other)
    if isinstance(one, int) and isinstance(other, int):
        return one
    raise MixedAxesError("joins rows or columns of the picture with something else of the same size")


def regrouped(layout: Layout, shape: Sequence[int]) -> Layout:
    """The axes after a reshape to `shape`. Raises MixedAxesError where a row is cut at no whole number of groups.

    >>> y, x = Span.of(0, 48), Span.of(1, 72)
    >>> [spans(axis)[0].label for axis in regrouped(((12,), (y,), (2,), (x,), (2,)), (12, 96, 144))[1:]]
    ['rows at scale 2', 'columns at scale 2']
    """
    parts = [part for axis in layout for part in axis]
    return tuple(_merged(_taken(parts, size)) for size in shape)


def _taken(parts: list[Span | int], size: int) -> list[Span | int]:
    """The leading parts that make up `size` indices, taken off the list; the last may be split."""
    taken: list[Span | int] = []
    while size > 1:
        if not parts:
            raise MixedAxesError("makes more of the picture than there is")
        part = _whole_count(parts)
        common = gcd(size, size_of(part))
        if common == size_of(part):
            taken.append(part)
        elif common == size:
            coarse, fine = part.split(size) if isinstance(part, Span) else (size, part // size)
            taken.append(coarse)
            parts.insert(0, fine)
        else:
            raise MixedAxesError("cuts rows or columns at no whole number of groups")
        size //= common
    return taken


def _whole_count(parts: list[Span | int]) -> Span | int:
    """The first part, taken off the list; neighbouring counts are one."""
    part = parts.pop(0)
    while isinstance(part, int) and parts and isinstance(parts[0], int):
        part *= size_of(parts.pop(0))
    return part


def finer(axis: Axis, times: int) -> Axis:
    """The axis with `times` indices in the place of each."""
    return _merged([*axis, times]) if times > 1 else axis


def _merged(parts: list[Span | int]) -> Axis:
    """One axis: neighbouring counts are one, and a picture axis with phases behind it is that axis, finer."""
    merged: list[Span | int] = []
    while parts:
        merged.append(_whole_count(parts))
    if len(merged) == 2 and isinstance(merged[0], Span) and isinstance(merged[1], int):
        return (merged[0].repeated(merged[1]),)
    return tuple(merged)
