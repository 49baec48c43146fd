"""How each ONNX operator moves the footprint of a picture: one rule an operator, by the names of the standard.

A rule gets a `Site` and returns the axes of the node's results. What it cannot follow exactly it says with
`site.far(reason)`, and returns its best guess: a network with such a node runs overlapped and is called approximate.
An operator without a rule is one of those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from refine.fold import standard
from refine.footprint import Axis, Layout, MixedAxesError, count, regrouped, spans
from refine.site import Site
from refine.windowed import (
    convolution,
    depth_to_space,
    padding,
    pooling,
    resizing,
    slicing,
    space_to_depth,
    transposed_convolution,
)

Rule = Callable[[Site], list[Layout]]


def follow(site: Site) -> None:
    """Write down the axes of the node's results."""
    rule = RULES.get(site.node.op_type) if not standard(site.node.domain) else None
    if rule is None:
        site.far("an operator that is not known here")
        layouts = [site.guess(index) for index in range(len(site.node.output))]
    else:
        layouts = _followed(rule, site)
    for name, layout in zip(site.node.output, layouts, strict=False):
        site.trace.layouts[name] = layout


def _followed(rule: Rule, site: Site) -> list[Layout]:
    try:
        return rule(site)
    except (IndexError, ValueError, ZeroDivisionError):
        # A foreign graph whose shapes are not all known, or not what the operator wants: approximate, no crash.
        site.far("a use of it that cannot be followed")
        return [site.guess(index) for index in range(len(site.node.output))]


def _pointwise(site: Site) -> list[Layout]:
    """Element by element, with numpy's broadcasting."""
    return [site.broadcast(range(len(site.node.input)))]


def _first(site: Site) -> list[Layout]:
    """Element by element on the first input; the others are small tables, one value a channel."""
    if any(site.depends(index) for index in range(1, len(site.node.input))):
        site.far("its settings depend on the picture")
    return [site.axes(0)] * len(site.node.output)


def _same(site: Site, over: Iterable[int]) -> list[Layout]:
    """A normalisation over some axes: each result depends on all of them."""
    site.flat([site.axes(0)[axis] for axis in over], "normalises over rows or columns of the picture")
    return [site.axes(0)]


def _softmax(site: Site) -> list[Layout]:
    if site.opset >= 13:
        return _same(site, [site.axis(-1)])
    return _same(site, range(site.axis(1), len(site.axes(0))))


def _last_axes(site: Site) -> list[Layout]:
    return _same(site, range(site.axis(-1), len(site.axes(0))))


def _one_axis(site: Site) -> list[Layout]:
    return _same(site, [site.axis(-1)])


def _beyond_channels(site: Site) -> list[Layout]:
    return _same(site, range(2, len(site.axes(0))))


def _mean_variance(site: Site) -> list[Layout]:
    return _same(site, site.numbers("axes") or [0, 2, 3])


def _global_pooling(site: Site) -> list[Layout]:
    site.flat(site.axes(0)[2:], "pools over the whole picture")
    return [(*site.axes(0)[:2], *((),) * (len(site.axes(0)) - 2))]


def _reduction(site: Site) -> list[Layout]:
    rank = len(site.axes(0))
    if site.node.op_type.startswith("Arg"):
        chosen: list[int] | None = [site.number("axis", 0)]
    else:
        chosen = site.listed("axes", 1)
    if chosen is None:
        site.far("what it reduces is not constant")
        return [site.guess()]
    if not chosen and site.number("noop_with_empty_axes", 0):
        return [site.axes(0)]
    over = {axis % rank for axis in chosen} or set(range(rank))
    site.flat([site.axes(0)[axis] for axis in over], "reduces rows or columns of the picture to one value")
    keep = site.number("keepdims", 1)
    return [tuple(() if k in over else axis for k, axis in enumerate(site.axes(0)) if keep or k not in over)]


def _reshape(site: Site) -> list[Layout]:
    """Reshape, Flatten, Squeeze, Unsqueeze: the same values in the same order."""
    sizes = [size for size in site.result() if size is not None]
    if not sizes or len(sizes) != len(site.result()):
        site.far("its shape is not constant")
        return [site.guess()]
    try:
        return [regrouped(site.axes(0), sizes)]
    except MixedAxesError as error:
        site.far(str(error))
        return [site.guess()]


def _transpose(site: Site) -> list[Layout]:
    axes = site.axes(0)
    order = site.numbers("perm") or list(reversed(range(len(axes))))
    return [tuple(axes[axis] for axis in order)]


def _expand(site: Site) -> list[Layout]:
    """Axes of size 1 repeated; Tile may repeat others too."""
    shape = site.result()
    axes = ((),) * (len(shape) - len(site.axes(0))) + site.axes(0)
    old = (1,) * (len(shape) - len(site.shape(0))) + site.shape(0)
    grown = [axis for axis, size, was in zip(axes, shape, old, strict=True) if size != was]
    site.flat(grown, "repeats the picture beside itself")
    same = zip(axes, shape, old, strict=True)
    return [tuple(axis if size == was or spans(axis) else count(size or 0) for axis, size, was in same)]


def _concat(site: Site) -> list[Layout]:
    inputs = range(len(site.node.input))
    along = site.axis(0, rank=len(site.result()))
    layouts = [site.axes(index) for index in inputs if site.depends(index)]
    if any(spans(layout[along]) for layout in layouts):
        site.far("lays rows or columns of the picture beside others")
        return [site.guess()]
    axes = tuple(() if k == along else site.together(column) for k, column in enumerate(zip(*layouts, strict=True)))
    for index in inputs:
        if not site.depends(index):
            axes = site.beside(index, axes, skip=along)
    return [(*axes[:along], count(site.result()[along] or 0), *axes[along + 1 :])]


def _split(site: Site) -> list[Layout]:
    along = site.axis(0)
    axes = site.axes(0)
    if spans(axes[along]):
        site.far("cuts the picture in parts")
        return [site.guess(index) for index in range(len(site.node.output))]
    sizes = [site.result(index)[along] or 0 for index in range(len(site.node.output))]
    return [(*axes[:along], count(size), *axes[along + 1 :]) for size in sizes]


def _gather(site: Site) -> list[Layout]:
    """Take by index: channels of a value, or entries of a table for every pixel."""
    axis = site.axis(0)
    axes = site.axes(0)
    indices = site.axes(1)
    site.flat([axes[axis]], "takes rows or columns by index")
    if spans(axes[axis]):
        return [site.guess()]
    return [(*axes[:axis], *indices, *axes[axis + 1 :])]


def _matmul(site: Site) -> list[Layout]:
    one, other = site.axes(0), site.axes(1)
    if len(one) < 2 or len(other) < 2:
        site.far("multiplies by a vector")
        return [site.guess()]
    site.flat([one[-1], other[-2]], "sums over rows or columns of the picture")
    batch = _batch(site, one[:-2], other[:-2])
    return [(*batch, one[-2], other[-1])]


def _batch(site: Site, one: Layout, other: Layout) -> Layout:
    rank = max(len(one), len(other))
    padded = [((),) * (rank - len(layout)) + layout for layout in (one, other)]
    return tuple(site.together(column) for column in zip(*padded, strict=True))


def _gemm(site: Site) -> list[Layout]:
    one, other = (
        layout[::-1] if site.number(name, 0) else layout
        for layout, name in ((site.axes(0), "transA"), (site.axes(1), "transB"))
    )
    site.flat([one[-1], other[0]], "sums over rows or columns of the picture")
    axes: Layout = (one[0], other[-1])
    return [site.beside(2, axes) if site.has(2) and not site.depends(2) else axes]


def _einsum(site: Site) -> list[Layout]:
    left, _, right = site.text("equation", "").replace(" ", "").partition("->")
    terms = left.split(",")
    if not right or "." in left or any(len(set(term)) < len(term) for term in terms):
        site.far("its equation is not one that can be followed")
        return [site.guess()]
    columns: dict[str, list[Axis]] = {}
    for index, term in enumerate(terms):
        for label, axis in zip(term, site.axes(index), strict=True):
            columns.setdefault(label, []).append(axis)
    axes = {label: site.together(column) for label, column in columns.items()}
    site.flat([axis for label, axis in axes.items() if label not in right], "sums over rows or columns of the picture")
    return [tuple(axes[label] for label in right)]


RULES: dict[str, Rule] = {
    "AveragePool": pooling,
    "BatchNormalization": _first,
    "Cast": _first,
    "CastLike": _first,
    "Concat": _concat,
    "Conv": convolution,
    "ConvInteger": convolution,
    "ConvTranspose": transposed_convolution,
    "DepthToSpace": depth_to_space,
    "DequantizeLinear": _first,
    "Dropout": _first,
    "Einsum": _einsum,
    "Expand": _expand,
    "Flatten": _reshape,
    "Gather": _gather,
    "Gemm": _gemm,
    "GroupNormalization": _beyond_channels,
    "Hardmax": _softmax,
    "InstanceNormalization": _beyond_channels,
    "LRN": _first,
    "LayerNormalization": _last_axes,
    "LogSoftmax": _softmax,
    "LpNormalization": _one_axis,
    "LpPool": pooling,
    "MatMul": _matmul,
    "MaxPool": pooling,
    "MeanVarianceNormalization": _mean_variance,
    "Pad": padding,
    "QuantizeLinear": _first,
    "RMSNormalization": _last_axes,
    "Reshape": _reshape,
    "Resize": resizing,
    "Slice": slicing,
    "Softmax": _softmax,
    "SpaceToDepth": space_to_depth,
    "Split": _split,
    "Squeeze": _reshape,
    "Tile": _expand,
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
    "Upsample": resizing,
}
"""What follows each operator."""

POINTWISE = """
    Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Ceil Celu Clip Cos
    Cosh Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu
    Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Shrink Sigmoid Sign
    Sin Sinh Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor
"""
REDUCTIONS = """
    ArgMax ArgMin ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare
"""
RULES |= dict.fromkeys(POINTWISE.split(), _pointwise)
RULES |= dict.fromkeys(REDUCTIONS.split(), _reduction)
RULES |= dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), _global_pooling)
