"""One node of a graph that is being followed: its attributes, its inputs, and where they stand over the picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from typing import Concatenate, ParamSpec

import numpy as np
import onnx

from refine.fold import Constant, Folded, reads
from refine.footprint import Axis, Layout, MixedAxesError, Span, count, joined, spans

Moves = ParamSpec("Moves")


@dataclass(slots=True)
class Trace:
    """What has been found on the way through a graph."""

    graph: Folded
    """The graph, with the picture's size folded in."""
    sides: tuple[int, int]
    """Height and width of the source, px."""
    layouts: dict[str, Layout] = field(default_factory=dict)
    """Axes of every value that depends on the source, by name."""
    why: list[str] = field(default_factory=list)
    """Why tiles cannot be exact: operator, node, reason."""
    settings: dict[str, bytes] = field(default_factory=dict)
    """Constants worked out on the way that meet pixels: if the picture's size changes one, tiles are not exact."""


@dataclass(frozen=True, slots=True)
class Site:
    """A node, and everything a rule may ask about it."""

    node: onnx.NodeProto
    """The node."""
    trace: Trace
    """What is known so far."""

    @property
    def opset(self) -> int:
        """Version of the standard operators."""
        return self.trace.graph.opset

    def far(self, reason: str) -> None:
        """Note that the node's result depends on pixels without bound, or on where they are."""
        kind = f"{self.node.domain}.{self.node.op_type}" if self.node.domain else self.node.op_type
        line = f"{kind} {self.node.name or self.node.output[0]!r}: {reason}"
        if line not in self.trace.why:
            self.trace.why.append(line)

    def number(self, name: str, default: int) -> int:
        """An integer attribute."""
        return next((a.i for a in self.node.attribute if a.name == name), default)

    def numbers(self, name: str) -> list[int]:
        """An attribute of several integers; empty where it is not set."""
        return next((list(a.ints) for a in self.node.attribute if a.name == name), [])

    def text(self, name: str, default: str) -> str:
        """A text attribute."""
        return next((a.s.decode() for a in self.node.attribute if a.name == name), default)

    def has(self, index: int) -> bool:
        """Whether this optional input is given."""
        return index < len(self.node.input) and bool(self.node.input[index])

    def depends(self, index: int) -> bool:
        """Whether this input depends on the source's pixels."""
        return self.has(index) and self.node.input[index] in self.trace.layouts

    def data(self, index: int) -> Constant | None:
        """The content of an input, where it is constant."""
        fact = self.trace.graph.facts.get(self.node.input[index]) if self.has(index) else None
        return None if fact is None else fact.data

    def listed(self, name: str, index: int) -> list[int] | None:
        """Integers that older operators have as an attribute and newer ones as an input; None where not constant.

        An empty list where they are not given at all.
        """
        if not self.has(index):
            return self.numbers(name)
        data = self.data(index)
        return None if data is None else [int(value) for value in data.reshape(-1)]

    def shape(self, index: int = 0) -> tuple[int | None, ...]:
        """Shape of an input; () where it is not known."""
        return self._shape(self.node.input[index])

    def result(self, index: int = 0) -> tuple[int | None, ...]:
        """Shape of a result; () where it is not known."""
        return self._shape(self.node.output[index])

    def axes(self, index: int = 0) -> Layout:
        """Where an input's axes stand over the picture."""
        name = self.node.input[index]
        return self.trace.layouts.get(name) or tuple(count(size or 0) for size in self._shape(name))

    def axis(self, default: int, rank: int | None = None) -> int:
        """The `axis` attribute, counted from the front."""
        axis = self.number("axis", default)
        return axis if axis >= 0 else axis + (len(self.axes(0)) if rank is None else rank)

    def flat(self, axes: Iterable[Axis], reason: str) -> None:
        """Note `reason` if any of these axes runs over the picture."""
        if any(spans(axis) for axis in axes):
            self.far(reason)

    def moved(
        self,
        axis: Axis,
        size: int | None,
        move: Callable[Concatenate[Span, Moves], Span],
        *args: Moves.args,
        **kwargs: Moves.kwargs,
    ) -> Axis:
        """The axis after move(span, *args), or a plain one of `size` where it does not run over the picture."""
        if not spans(axis):
            return count(size or 0)
        if len(axis) != 1 or not isinstance(axis[0], Span):
            self.far("works along rows and columns that share an axis")
            return axis
        span = move(axis[0], *args, **kwargs)
        if span.size > 1:
            return (span,)
        self.far("covers the whole picture")
        return ()

    def broadcast(self, indices: Sequence[int]) -> Layout:
        """Axes of an element-by-element result of these inputs."""
        used = [index for index in indices if self.has(index)]
        layouts = [self.axes(index) for index in used if self.depends(index)]
        rank = max(len(self.axes(index)) for index in used)
        aligned = [((),) * (rank - len(layout)) + layout for layout in layouts]
        axes = tuple(self.together(column) for column in zip(*aligned, strict=True))
        for index in used:
            if not self.depends(index):
                axes = self.beside(index, axes)
        return axes

    def together(self, column: Iterable[Axis]) -> Axis:
        """One axis of several values put together."""
        result: Axis = ()
        for axis in column:
            try:
                result = joined(result, axis)
            except MixedAxesError as error:
                self.far(str(error))
                result = result if spans(result) else axis
        return result

    def beside(self, index: int, axes: Layout, skip: int | None = None) -> Layout:
        """The axes once an input that does not depend on the source meets them: it must not vary over the picture.

        `skip` is an axis along which it lies beside the others (concatenation) and not upon them.
        """
        shape = self.shape(index)
        known = self.trace.graph.facts[self.node.input[index]].shape is not None
        offset = len(axes) - len(shape)
        over = [k for k in range(len(shape)) if k + offset != skip and spans(axes[k + offset]) and shape[k] != 1]
        data = self.data(index)
        if not known or (over and (data is None or not _is_even(data, over))):
            self.far(f"meets {self.node.input[index]!r}, which varies over the picture by other means than its pixels")
        elif data is not None and self.node.input[index] not in self.trace.graph.initializers:
            corner = data[tuple(slice(0, 1) if k in over else slice(None) for k in range(data.ndim))]
            self.trace.settings[f"{self.node.input[index]}"] = corner.tobytes()
        widths = [shape[k - offset] or 0 if k >= offset else 1 for k in range(len(axes))]
        return tuple(axis or (() if k == skip else count(widths[k])) for k, axis in enumerate(axes))

    def guess(self, index: int = 0) -> Layout:
        """A layout for a result by its shape alone: the picture axes where their sizes fit."""
        shape = [size or 0 for size in self.result(index)]
        read = [axis for name in reads(self.node) for axis in self.trace.layouts.get(name, ())]
        found = {span.axis: span for span in sorted((s for axis in read for s in spans(axis)), key=lambda s: s.size)}
        axes = [count(size) for size in shape]
        for rows in (len(shape) - 2, len(shape) - 3):
            if len(found) == 2 and rows >= 0:
                sides = zip((0, 1), self.trace.sides, strict=True)
                parts = [fitted(found[axis], shape[rows + axis], side) for axis, side in sides]
                if parts[0] and parts[1]:
                    axes[rows : rows + 2] = (parts[0],), (parts[1],)
                    break
        return tuple(axes)

    def _shape(self, name: str) -> tuple[int | None, ...]:
        fact = self.trace.graph.facts.get(name)
        return (fact.shape or ()) if fact else ()


def fitted(span: Span, size: int, side: int) -> Span | None:
    """The picture axis made finer or coarser by a whole number, to have `size` indices for `side` source px.

    None where it cannot be.
    """
    by = Fraction(size, side) / span.rate
    if size < 2 or 1 not in (by.numerator, by.denominator):
        return None
    start, after = ceil(span.start * by), ceil((span.size - span.stop) * by)
    return Span(span.axis, size, span.rate * by, span.period * by.denominator, start, size - after)


def _is_even(data: Constant, over: Sequence[int]) -> bool:
    """Whether the content is the same everywhere along these axes."""
    first = data[tuple(slice(0, 1) if axis in over else slice(None) for axis in range(data.ndim))]
    return bool(np.array_equal(np.broadcast_to(first, data.shape), data))
