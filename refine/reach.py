"""How far a network looks, read off the nodes of its ONNX graph.

The graph is followed at two sizes of picture. At each, everything that depends on the size alone is folded to numbers
(`fold`), and every operator says where its result stands over the picture and what its padding has spoiled
(`operators`, `footprint`). What is spoiled at the end is the halo. Nothing is run, so nothing hides behind weights that
happen to be zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, lcm, prod

import onnx

from refine.errors import CardError
from refine.fold import FoldError, folded, inlined, reads
from refine.footprint import Layout, Span, count, size_of, spans
from refine.operators import follow
from refine.site import Site, Trace

UNITS = (240, 448, 1584)
"""Picture sizes to try are small multiples of one of these, px: divisible by 2 to 16, by 64 and 7, by 9 and 11."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What a network's result depends on, in px of its source.

    A tile is exact if its read window starts and ends on multiples of `multiple_of`, and holds `halo` more px on every
    side than the result that is kept.
    """

    scale: int
    """Output px per source px, the same down and across."""
    halo: int
    """Source px needed round a tile: a multiple of `multiple_of`."""
    multiple_of: int
    """Source px: the step of strides, pooling and pixel-unshuffle."""
    exact: bool = True
    """Whether tiles put together are the whole, bit for bit. If not, `halo` is that of the local part."""
    why: tuple[str, ...] = ()
    """What is in the way of exactness: operator, node, reason."""


def reach(model: onnx.ModelProto, source: str | None = None, target: str | None = None) -> Reach:
    """The reach of `target` over `source`, two values of the graph: by default its image input and first output.

    Raises CardError where there is no telling: no image goes in, or what comes out is not a picture of `scale` times
    the size.
    """
    model = inlined(model)
    image = _image(model)
    target = target or model.graph.output[0].name
    surveys = _surveys(model, image, source or image.name, target)
    first, last = surveys[0], surveys[-1]
    if first.scale != last.scale:
        raise CardError(
            f"the output must be a whole number of times the input, whatever the picture; {target!r} is "
            f"{first.scale} times a small one and {last.scale} times a larger one; use a network without a fixed size"
        )
    why = dict.fromkeys(line for survey in surveys for line in survey.why)
    if (first.period, first.halo, first.why) != (last.period, last.halo, last.why):
        why["the network: how far it looks depends on the size of the picture"] = None
    for name, setting in first.settings.items():
        if setting != last.settings.get(name, setting):
            why[f"the network: {name!r}, which meets pixels, is computed from the size of the picture"] = None
    halo = ceil(Fraction(first.halo, first.period)) * first.period
    return Reach(first.scale, halo, first.period, not why, tuple(why))


@dataclass(frozen=True, slots=True)
class _Survey:
    """What one size of picture shows."""

    scale: int
    halo: int
    period: int
    why: tuple[str, ...]
    settings: Mapping[str, bytes]


def _image(model: onnx.ModelProto) -> onnx.ValueInfoProto:
    held = {tensor.name for tensor in model.graph.initializer}
    value: onnx.ValueInfoProto
    for value in model.graph.input:
        if value.name not in held and len(value.type.tensor_type.shape.dim) == 4:
            return value
    shapes = {value.name: len(value.type.tensor_type.shape.dim) for value in model.graph.input}
    raise CardError(f"a network needs an image input of four axes; this one has inputs of {shapes}; export it with one")


def _surveys(model: onnx.ModelProto, image: onnx.ValueInfoProto, source: str, target: str) -> list[_Survey]:
    misfit: FoldError | None = None
    for unit in UNITS:
        try:
            surveys = [_survey(model, image.name, shape, source, target) for shape in _shapes(image, unit)]
            period = lcm(*(survey.period for survey in surveys))
            if unit % period == 0:
                return surveys
            # A stride did not go into these sizes: where it stands at the far end shows only where it does.
            shapes = _shapes(image, lcm(unit, period))
            return [_survey(model, image.name, shape, source, target) for shape in shapes]
        except FoldError as error:
            misfit = misfit or error
    raise CardError(
        f"a network must take pictures of any size, or say its size; this one takes none of {UNITS} px ({misfit}); "
        "export it with dynamic height and width"
    ) from misfit


def _shapes(image: onnx.ValueInfoProto, unit: int) -> list[tuple[int, ...]]:
    """Shapes of the image input to look at: two, or one where the graph fixes the size."""
    dims = [dim.dim_value for dim in image.type.tensor_type.shape.dim]
    rows = _rows(dims)
    shapes = []
    for height, width in ((unit, 2 * unit), (2 * unit, 3 * unit)):
        shape = [dims[0] or 1, 3, 3, 3]
        shape[1 if rows == 2 else 3] = dims[1 if rows == 2 else 3] or 3
        shape[rows], shape[rows + 1] = dims[rows] or height, dims[rows + 1] or width
        shapes.append(tuple(shape))
    return list(dict.fromkeys(shapes))


def _rows(shape: Sequence[int | None]) -> int:
    """Where rows stand among four axes, by their sizes (0 or None: any): 2 for (n, c, y, x), 1 for (n, y, x, c)."""
    second, last = shape[1] or 0, shape[3] or 0
    few = range(1, 5)
    return 1 if second not in few and (last in few or (last and not second)) else 2


def _survey(model: onnx.ModelProto, image: str, shape: tuple[int, ...], source: str, target: str) -> _Survey:
    layout, given = _picture(shape), {image: shape}
    if source != image:
        rows = _rows(shape)
        layout = _inner(_trace(model, given, layout, source), source, shape[rows : rows + 2])
        given[source] = tuple(prod(map(size_of, axis)) for axis in layout)
    trace = _trace(model, given, layout, target)
    if target not in trace.layouts:
        raise CardError(f"a network's output must come from its image; {target!r} does not depend on {source!r}")
    before, after = _sides(layout, source), _sides(trace.layouts[target], target)
    scale = _scale(before, after, target)
    halo = max(max(span.start, span.size - span.stop) for span in after)
    period = lcm(*(span.period for span in after))
    return _Survey(scale, -(-halo // scale), period, tuple(trace.why), trace.settings)


def _trace(model: onnx.ModelProto, given: Mapping[str, tuple[int, ...]], layout: Layout, target: str) -> Trace:
    """The graph followed to target, from the last of the values given, which has this layout."""
    graph = folded(model, given, target)
    source = list(given)[-1]
    height, width = (span.size for span in _sides(layout, source))
    trace = Trace(graph, (height, width), {source: layout})
    for node in graph.nodes:
        constant = all(name in graph.facts and graph.facts[name].tensor for name in node.output if name)
        if not constant and any(name in trace.layouts for name in reads(node)):
            follow(Site(node, trace))
    return trace


def _picture(shape: Sequence[int | None]) -> Layout:
    rows = _rows(shape)
    axes = [count(size or 0) for size in shape]
    for axis in (0, 1):
        axes[rows + axis] = (Span.of(axis, shape[rows + axis] or 0),)
    return tuple(axes)


def _inner(trace: Trace, source: str, sizes: Sequence[int]) -> Layout:
    """A value inside the graph taken as the source: what it owes to the image before it does not count.

    `sizes` are the height and width it gets where its own are settled at run time only.
    """
    if source not in trace.graph.facts:
        raise CardError(f"source and target must be values of the graph; there is no {source!r} in it")
    layout = trace.layouts.get(source, ())
    if any(spans(axis) for axis in layout):
        sides = {span.axis: Span.of(span.axis, span.size) for span in _sides(layout, source)}
        return tuple((sides[axis[0].axis],) if axis and isinstance(axis[0], Span) else axis for axis in layout)
    shape = list(trace.graph.facts[source].shape or ())
    if len(shape) != 4:
        raise CardError(f"a source must be a picture of four axes; {source!r} has {len(shape)}; name another value")
    rows = _rows(shape)
    shape[rows : rows + 2] = [own or given for own, given in zip(shape[rows : rows + 2], sizes, strict=True)]
    return _picture(shape)


def _sides(layout: Layout, name: str) -> tuple[Span, Span]:
    """Rows and columns of a value."""
    sides = [axis[0] for axis in layout if len(axis) == 1 and isinstance(axis[0], Span)]
    if [span.axis for span in sides] != [0, 1]:
        raise CardError(f"a network's output must be a picture, rows before columns; {name!r} is not; name one that is")
    return sides[0], sides[1]


def _scale(before: Sequence[Span], after: Sequence[Span], target: str) -> int:
    scales = [Fraction(new.size, old.size) for old, new in zip(before, after, strict=True)]
    rates = [span.rate for span in after]
    if scales[0] != scales[1] or scales[0].denominator > 1 or scales != rates:
        came = " x ".join(str(span.size) for span in after)
        fits = " x ".join(str(span.size) for span in before)
        raise CardError(
            f"a network's output must be a whole number of times its input, the same down and across; {target!r} is "
            f"{came} px for {fits} px; pad its convolutions so that they keep the size, or crop or resize its output"
        )
    return int(scales[0])
