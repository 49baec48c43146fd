"""A chain compiled: one ONNX graph from integer pixels to integer pixels, and what it reaches."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import Literal, NamedTuple

import numpy as np
import onnx

from refine.chain import Chain, prefix
from refine.extend import extended
from refine.graph import Dim, Graph, Value
from refine.reach import Reach, reach
from refine.resample import KERNELS, Resample, resampled
from refine.spec import Depth

Taps2 = tuple[tuple[int, int], tuple[int, int]]
"""(taps, box) of the y and of the x axis."""

_EXTENSIONS = (8, 16, 24, 32, 48, 64, 96, 128)
"""Radii that colour is extended by under alpha; the smallest that covers the reach is compiled."""


class Layout(NamedTuple):
    """What a program is compiled for, beside its chain."""

    channels: int
    """1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha."""
    source: Depth | Literal["float32"]
    """Depth of the pixels that go in; float32: means of them, full scale 1."""
    target: Depth
    """Depth of those that come out."""
    colour_taps: Taps2 | None
    """Structure of the resampling to the exact size; None where the networks' factor is exact."""
    alpha_taps: Taps2 | None
    """Structure of the resampling of alpha, from the source straight to the exact size."""


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled chain. Immutable, known by its digest; sessions are opened from it per process."""

    model: bytes = field(repr=False)
    """The ONNX model."""
    digest: str
    """sha256 of `model`, hex."""
    before: Reach
    """From the source pixels to the resampling, or to the end where there is none."""
    after: Reach
    """From the resampling to the end."""
    inputs: frozenset[str]
    """Names of its runtime inputs."""


def compiled(chain: Chain, layout: Layout) -> Program:
    """The program of a chain for a layout. Cached by structure: strengths are runtime inputs and do not matter."""
    return _compiled(_Key(chain.structure, layout, chain))


@dataclass(frozen=True, slots=True)
class _Key:
    structure: Hashable
    layout: Layout
    chain: Chain = field(compare=False)


class _Draft(NamedTuple):
    model: onnx.ModelProto
    joint: tuple[str, str] | None
    """The values before and after the resampling."""
    result: str
    """The whole result, before it is cropped."""


@lru_cache(maxsize=64)
def _compiled(key: _Key) -> Program:
    chain, layout = key.chain, key.layout
    draft = _written(chain, layout, radius=0)
    before, after = _reaches(draft)
    if layout.channels in (2, 4) and (before.halo or after.halo or draft.joint or layout.alpha_taps):
        radius = _extension(chain, layout, before, after)
        draft = _written(chain, layout, radius)
        before, after = _reaches(draft)
    data = draft.model.SerializeToString(deterministic=True)
    inputs = frozenset(i.name for i in draft.model.graph.input)
    return Program(data, sha256(data).hexdigest(), before, after, inputs)


def _extension(chain: Chain, layout: Layout, before: Reach, after: Reach) -> int:
    """How far colour must be extended, source px: at least as far as all the rest reaches."""
    needed = before.halo
    if layout.colour_taps is not None and chain.kernel is not None:
        taps, box = (max(of_axis) for of_axis in zip(*layout.colour_taps, strict=True))
        # A kernel stretched n times has n times the taps, and a px behind it is n px before it.
        stretch = box * -(-taps // (2 * KERNELS[chain.kernel][1]))
        needed += -(-(taps * box // 2 + after.halo * stretch) // before.scale)
    return next((r for r in _EXTENSIONS if r >= needed), needed)


def _reaches(draft: _Draft) -> tuple[Reach, Reach]:
    if draft.joint is None:
        return reach(draft.model, "pixels", draft.result), Reach(1, 0, 1)
    entered, left = draft.joint
    return reach(draft.model, "pixels", entered), reach(draft.model, left, draft.result)


def _written(chain: Chain, layout: Layout, radius: int) -> _Draft:
    graph = Graph()
    colour, alpha = _loaded(graph, layout)
    if alpha is not None and radius:
        colour = extended(graph, colour, alpha, radius)
    joint: tuple[str, str] | None = None
    for position, step in enumerate(chain.active):
        if not isinstance(step, Resample):
            colour = step.nodes(graph, colour, prefix(position), 1 if layout.channels < 3 else 3)
        elif layout.colour_taps is not None:
            entered = colour
            colour = graph.unit(resampled(graph, colour, "colour", layout.colour_taps))
            joint = entered.name, colour.name
    result = colour.name
    if alpha is not None:
        if layout.alpha_taps is not None:
            alpha = graph.unit(resampled(graph, alpha, "alpha", layout.alpha_taps, monotone=True))
        colour = graph.stacked(colour, alpha)
    return _Draft(_quantised(graph, colour, layout), joint, result)


def _loaded(graph: Graph, layout: Layout) -> tuple[Value, Value | None]:
    """Integers (1, y, x, c) to float (1, c, y, x) with full scale 1, colour and alpha apart."""
    pixels = graph.input("pixels", layout.source, [1, "y", "x", layout.channels])
    planes = graph.op("Transpose", graph.cast(pixels, "float32"), perm=[0, 3, 1, 2])
    if layout.source != "float32":
        planes = planes * (1 / float(np.iinfo(layout.source).max))
    if layout.channels in (1, 3):
        return planes, None
    colour, alpha = graph.channels(planes, (layout.channels - 1, 1))
    return colour, alpha


def _quantised(graph: Graph, image: Value, layout: Layout) -> onnx.ModelProto:
    """Crop, count what is not finite, round to integers (1, y, x, c)."""
    starts, ends = graph.parts(graph.input("crop", "int64", [4]), (2, 2))
    image = graph.unit(graph.op("Slice", image, starts, ends, graph.constant([2, 3])))
    # Counted here, for a cast turns NaN into a colour.
    count = graph.op("ReduceSum", graph.cast(graph.op("IsNaN", image), "int64"), keepdims=0)
    levels = graph.op("Round", image * float(np.iinfo(layout.target).max))
    integers = graph.cast(graph.op("Transpose", levels, perm=[0, 2, 3, 1]), layout.target)
    shape: list[Dim] = [1, "out_y", "out_x", layout.channels]
    return graph.model({"restored": (integers, layout.target, shape), "nonfinite": (count, "int64", [])})
