"""Small networks with random weights, each a different way to look at its surroundings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import TensorProto, helper
from sketch import Sketch

Writer = Callable[[Sketch], str]


def tail(s: Sketch, x: str, scale: int = 2) -> str:
    """A 3x3 convolution and depth to space."""
    return s.op("DepthToSpace", s.conv(x, 6, 3 * scale**2), blocksize=scale, mode="CRD")


def residual(s: Sketch) -> str:
    """Two blocks of two convolutions, added to what went in."""
    x = s.conv("image", 3, 6)
    for _ in range(2):
        x = s.op("Add", x, s.conv(s.op("Relu", s.conv(x, 6, 6)), 6, 6))
    return tail(s, x)


def dilated(s: Sketch) -> str:
    """Dilations 2 and 3."""
    x = s.op("Relu", s.conv("image", 3, 6, dilations=[2, 2], pads=[2] * 4))
    return tail(s, s.conv(x, 6, 6, dilations=[3, 3], pads=[3] * 4))


def strided(s: Sketch) -> str:
    """Stride 2, a convolution at half the size, back by nearest neighbour."""
    x = s.conv(s.conv("image", 3, 6, strides=[2, 2]), 6, 6)
    return tail(s, s.resize(x, 2, "nearest", "asymmetric", nearest_mode="floor"))


def strided_same(s: Sketch) -> str:
    """Stride 3 with padding left to the operator, a 5x5 kernel."""
    x = s.op("Conv", "image", s.weights(6, 3, 5, 5), auto_pad="SAME_UPPER", strides=[3, 3])
    return tail(s, s.resize(x, 3, "nearest", "asymmetric", nearest_mode="floor"))


def unshuffled(s: Sketch) -> str:
    """Space to depth by 2 in front."""
    x = s.conv(s.op("SpaceToDepth", "image", blocksize=2), 12, 6)
    return tail(s, x, 4)


def transposed(s: Sketch) -> str:
    """A 5x5 transposed convolution, stride 2, with output padding."""
    x = s.conv("image", 3, 6)
    return s.op("ConvTranspose", x, s.weights(6, 3, 5, 5), strides=[2, 2], pads=[2] * 4, output_padding=[1, 1])


def max_pooled(s: Sketch) -> str:
    """Overlapping 3x3 maxima, stride 2, back linearly."""
    x = s.op("MaxPool", s.conv("image", 3, 6), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    return tail(s, s.resize(x, 2, "linear"))


def mean_pooled(s: Sketch) -> str:
    """Means of 4x4 px, a gate on the picture at full size."""
    x = s.conv("image", 3, 6)
    low = s.op("AveragePool", x, kernel_shape=[4, 4], strides=[4, 4])
    return tail(s, s.op("Mul", x, s.op("Sigmoid", s.resize(s.conv(low, 6, 6), 4, "linear"))))


def nearest(s: Sketch) -> str:
    """Nearest neighbour, 3 times, then a convolution."""
    return s.conv(s.resize(s.conv("image", 3, 6), 3, "nearest"), 6, 3)


def linear(s: Sketch) -> str:
    """Linear, twice."""
    return s.conv(s.resize(s.conv("image", 3, 6), 2, "linear"), 6, 3)


def cubic(s: Sketch) -> str:
    """Cubic, 4 times, and corners where they are."""
    return s.resize(s.conv("image", 3, 3), 4, "cubic", "asymmetric")


def shrunk(s: Sketch) -> str:
    """Half the size with an antialiased cubic, twice the size again."""
    return s.resize(s.resize(s.conv("image", 3, 3), 0.5, "cubic", antialias=1), 2, "linear")


def branches(s: Sketch) -> str:
    """Three depths side by side."""
    x = s.conv("image", 3, 6)
    deep = s.conv(s.op("Relu", s.conv(x, 6, 2, 5)), 2, 2)
    return tail(s, s.op("Concat", s.conv(x, 6, 2, 1), s.conv(x, 6, 2), deep, axis=1))


def channels_last(s: Sketch) -> str:
    """Pixels as rows of a matrix: normalised, mixed, put back."""
    x = s.conv("image", 3, 6)
    pixels = s.reshape(s.op("Transpose", x, perm=[0, 2, 3, 1]), 1, -1, 6)
    pixels = s.op("LayerNormalization", pixels, s.constant(np.ones(6)), axis=-1)
    pixels = s.reshape(s.op("MatMul", pixels, s.weights(6, 6)), 1, "y", "x", 6)
    return tail(s, s.op("Transpose", pixels, perm=[0, 3, 1, 2]))


def shuffled_by_hand(s: Sketch) -> str:
    """Pixel shuffle as reshape, transpose, reshape."""
    x = s.reshape(s.conv(s.conv("image", 3, 6), 6, 27), 1, 3, 3, 3, "y", "x")
    return s.reshape(s.op("Transpose", x, perm=[0, 1, 4, 2, 5, 3]), 1, 3, "y*3", "x*3")


def unshuffled_by_hand(s: Sketch) -> str:
    """Pixel unshuffle as reshape, transpose, reshape."""
    x = s.reshape("image", 1, 3, "y/2", 2, "x/2", 2)
    x = s.reshape(s.op("Transpose", x, perm=[0, 1, 3, 5, 2, 4]), 1, 12, "y/2", "x/2")
    return tail(s, s.conv(x, 12, 6), 4)


def lopsided(s: Sketch) -> str:
    """All padding before the picture."""
    x = s.conv("image", 3, 6, pads=[2, 2, 0, 0])
    return tail(s, s.conv(x, 6, 6, 5, pads=[1, 0, 3, 4]))


def lopsided_dilated(s: Sketch) -> str:
    """A dilated kernel that looks down and right only."""
    x = s.conv("image", 3, 12, dilations=[2, 3], pads=[0, 0, 4, 6])
    return s.op("DepthToSpace", x, blocksize=2)


def lopsided_same(s: Sketch) -> str:
    """A 4x4 kernel padded by the operator, 1 before and 2 after, and a kernel that looks down and right only."""
    x = s.op("Conv", "image", s.weights(6, 3, 4, 4), auto_pad="SAME_UPPER")
    return s.op("DepthToSpace", s.conv(x, 6, 12, pads=[0, 0, 2, 2]), blocksize=2)


def lopsided_linear(s: Sketch) -> str:
    """A kernel that looks up and left only, then linear, twice."""
    return s.resize(s.resize(s.conv("image", 3, 3, pads=[2, 2, 0, 0]), 2, "linear"), 2, "linear", "asymmetric")


def lopsided_transposed(s: Sketch) -> str:
    """Transposed convolutions that look up and left only."""
    x = s.op("ConvTranspose", "image", s.weights(3, 6, 3, 3), pads=[0, 0, 2, 2])
    return s.op("ConvTranspose", x, s.weights(6, 3, 3, 3), pads=[0, 0, 2, 2])


def lopsided_windows(s: Sketch) -> str:
    """A kernel that looks down and right only, then a softmax within windows of 4x4 px."""
    x = s.reshape(s.conv("image", 3, 3, pads=[0, 0, 2, 2]), 1, 3, "y/4", 4, "x/4", 4)
    x = s.reshape(s.op("Transpose", x, perm=[0, 1, 2, 4, 3, 5]), 1, 3, "y/4", "x/4", 16)
    x = s.reshape(s.op("Softmax", x, axis=-1), 1, 3, "y/4", "x/4", 4, 4)
    return s.reshape(s.op("Transpose", x, perm=[0, 1, 2, 4, 3, 5]), 1, 3, "y", "x")


def pixelwise(s: Sketch) -> str:
    """Every operator that works on channels only, behind one convolution."""
    x = s.conv("image", 3, 6)
    x = s.op("Einsum", x, s.weights(6, 6), equation="bcyx,dc->bdyx")
    x = s.op("Add", s.op("Softmax", x, axis=1), s.op("ReduceMean", x, s.constant([1], np.int64)))
    x = s.op("Mul", x, s.op("Expand", s.constant(0.5), s.op("Shape", x)))
    x = s.op("Gather", x, s.constant([5, 3, 1], np.int64), axis=1)
    x = s.op("Tile", x, s.constant([1, 4, 1, 1], np.int64))
    x = s.op("Squeeze", s.op("Unsqueeze", x, s.constant([3], np.int64)), s.constant([3], np.int64))
    return s.op("DepthToSpace", x, blocksize=2)


def even_kernel(s: Sketch) -> str:
    """4x4 kernels, padded 1 before and 2 after."""
    return tail(s, s.conv("image", 3, 6, 4, pads=[1, 1, 2, 2]))


def valid(s: Sketch) -> str:
    """Mirrored padding at once, then three convolutions without any."""
    x = s.op("Pad", "image", s.constant([0, 0, 3, 3, 0, 0, 3, 3], np.int64), mode="reflect")
    x = s.conv(s.conv(x, 3, 6, pads=[0] * 4), 6, 6, pads=[0] * 4)
    return s.op("DepthToSpace", s.conv(x, 6, 12, pads=[0] * 4), blocksize=2)


def gated(s: Sketch) -> str:
    """Parameter-free attention: sigmoid of features, less a half, times features and picture."""
    x = s.conv("image", 3, 6)
    y = s.conv(s.op("Mul", s.conv(x, 6, 6), s.op("Sigmoid", x)), 6, 6)
    gate = s.op("Sub", s.op("Sigmoid", y), s.constant(0.5))
    return tail(s, s.op("Mul", s.op("Add", x, y), gate))


def depthwise(s: Sketch) -> str:
    """A 9x9 kernel, each channel apart, batch normalisation, PReLU."""
    x = s.conv(s.conv("image", 3, 6, 1), 6, 6, 9, group=6)
    table = [s.constant(s.rng.uniform(0.5, 1, 6)) for _ in range(4)]
    x = s.op("PRelu", s.op("BatchNormalization", x, *table), s.constant(np.full((6, 1, 1), 0.2)))
    return tail(s, x)


def cropped(s: Sketch) -> str:
    """Enlarged 4 times, every second index of it taken, shifted by a crop and a pad."""
    x = s.op("DepthToSpace", s.conv("image", 3, 48), blocksize=4)
    first, last, axes, step = ([1, 1], [1 << 30] * 2, [2, 3], [2, 2])
    x = s.op("Slice", x, *(s.constant(part, np.int64) for part in (first, last, axes, step)))
    x = s.op("Slice", x, *(s.constant(part, np.int64) for part in ([5, 5], last, axes)))
    return s.op("Pad", x, s.constant([0, 0, 5, 5, 0, 0, 0, 0], np.int64), mode="edge")


def squeezed(s: Sketch) -> str:
    """A gate from the mean of the whole picture."""
    x = s.conv("image", 3, 6)
    return tail(s, s.op("Mul", x, s.op("Sigmoid", s.conv(s.op("GlobalAveragePool", x), 6, 6, 1))))


def normalised(s: Sketch) -> str:
    """Instance normalisation."""
    tables = [s.constant(np.ones(6)), s.constant(np.zeros(6))]
    return tail(s, s.op("InstanceNormalization", s.conv("image", 3, 6), *tables))


def correlated(s: Sketch) -> str:
    """Channels mixed by how they correlate over the whole picture."""
    x = s.reshape(s.conv("image", 3, 6), 1, 6, -1)
    mixed = s.op("MatMul", s.op("MatMul", x, s.op("Transpose", x, perm=[0, 2, 1])), x)
    return tail(s, s.reshape(mixed, 1, 6, "y", "x"))


def correlated_by_einsum(s: Sketch) -> str:
    """The same as an Einsum."""
    x = s.conv("image", 3, 6)
    return tail(s, s.op("Einsum", s.op("Einsum", x, x, equation="bcyx,bdyx->bcd"), x, equation="bcd,bdyx->bcyx"))


def grouped(s: Sketch) -> str:
    """Group normalisation as exporters write it: instance normalisation of a reshaped value."""
    x = s.conv("image", 3, 6)
    flat = s.op("Reshape", x, s.constant([0, 2, -1], np.int64))
    flat = s.op("InstanceNormalization", flat, s.constant(np.ones(2)), s.constant(np.zeros(2)))
    return tail(s, s.op("Reshape", flat, s.op("Shape", x)))


def attentive(s: Sketch) -> str:
    """Every pixel looks at every other."""
    x = s.reshape(s.conv("image", 3, 6), 1, 6, -1)
    weights = s.op("Softmax", s.op("MatMul", s.op("Transpose", x, perm=[0, 2, 1]), x), axis=-1)
    return tail(s, s.reshape(s.op("MatMul", x, weights), 1, 6, "y", "x"))


def foreign(s: Sketch) -> str:
    """An operator of somebody's own."""
    name = next(s.names)
    s.nodes.append(helper.make_node("Wobble", [s.conv("image", 3, 6)], [name], name="my_wobble", domain="someone"))
    return tail(s, name)


def thirds(s: Sketch) -> str:
    """Linear, 3 times: float32 rounds its weights in another way at every position."""
    return s.conv(s.resize("image", 3, "linear"), 3, 3)


def cornered(s: Sketch) -> str:
    """Linear with aligned corners: where samples lie depends on the size."""
    return s.conv(s.resize("image", 2, "linear", "align_corners"), 3, 3)


def sized(s: Sketch) -> str:
    """The width of the picture as a value among pixels."""
    width = s.op("Gather", s.op("Shape", "image"), s.constant(3, np.int64))
    share = s.op("Div", s.constant(1.0), s.op("Cast", width, to=TensorProto.FLOAT))
    return tail(s, s.op("Mul", s.conv("image", 3, 6), share))


def placed(s: Sketch) -> str:
    """A ramp over the columns, added."""
    width = s.op("Gather", s.op("Shape", "image"), s.constant(3, np.int64))
    ramp = s.op("Range", s.constant(0, np.int64), width, s.constant(1, np.int64))
    return tail(s, s.op("Add", s.conv("image", 3, 6), s.op("Cast", ramp, to=TensorProto.FLOAT)))


def rolled(s: Sketch) -> str:
    """Columns moved round by four."""
    x = s.conv("image", 3, 6)
    axes = s.constant([3], np.int64)
    first = s.op("Slice", x, s.constant([4], np.int64), s.constant([1 << 30], np.int64), axes)
    rest = s.op("Slice", x, s.constant([0], np.int64), s.constant([4], np.int64), axes)
    return tail(s, s.op("Concat", first, rest, axis=3))


def flipped(s: Sketch) -> str:
    """Columns in reverse."""
    last, first, axes, step = (s.constant([value], np.int64) for value in (-1, -(1 << 30), 3, -1))
    return tail(s, s.op("Slice", s.conv("image", 3, 6), last, first, axes, step))


def adaptive(s: Sketch) -> str:
    """Means over a fixed number of parts, however large the picture."""
    x = s.reshape(s.conv("image", 3, 6), 1, 6, "y", 4, -1)
    x = s.op("Sub", x, s.op("ReduceMean", x, s.constant([-1], np.int64)))
    return tail(s, s.reshape(x, 1, 6, "y", "x"))


EXACT: dict[Writer, tuple[int, int, int]] = {
    residual: (2, 6, 1),  # 1 + 2 * 2 + 1
    dilated: (2, 6, 1),  # 2 + 3 + 1
    strided: (2, 6, 2),  # 1 of the tail, 2 of a half-size pixel, 1 of the stride, and the phase
    strided_same: (2, 6, 3),  # 1 of the tail, 2 of the kernel, and the phase
    unshuffled: (2, 4, 2),  # 2 convolutions at half the size
    transposed: (2, 2, 1),
    max_pooled: (2, 4, 2),
    mean_pooled: (2, 12, 4),
    nearest: (3, 2, 1),
    linear: (2, 2, 1),
    cubic: (4, 3, 1),
    shrunk: (1, 6, 2),
    branches: (2, 5, 1),
    channels_last: (2, 2, 1),
    shuffled_by_hand: (3, 2, 1),
    unshuffled_by_hand: (2, 4, 2),
    lopsided: (2, 5, 1),  # at the right: 0 + 4 + 1
    lopsided_dilated: (2, 6, 1),
    lopsided_same: (2, 4, 1),
    lopsided_linear: (4, 3, 1),
    lopsided_transposed: (1, 4, 1),
    lopsided_windows: (1, 4, 4),
    pixelwise: (2, 1, 1),
    even_kernel: (2, 3, 1),
    valid: (2, 3, 1),
    gated: (2, 4, 1),
    depthwise: (2, 5, 1),
    cropped: (2, 3, 1),
}
"""Networks whose reach is finite: scale, halo, multiple_of."""

APPROXIMATE: dict[Writer, str] = {
    squeezed: "GlobalAveragePool",
    normalised: "InstanceNormalization",
    correlated: "MatMul",
    correlated_by_einsum: "Einsum",
    grouped: "InstanceNormalization",
    attentive: "Softmax",
    foreign: "someone.Wobble 'my_wobble'",
    thirds: "Resize",
    cornered: "align_corners",
    sized: "size of the picture",
    placed: "varies over the picture",
    rolled: "Concat",
    flipped: "turns rows or columns round",
    adaptive: "depends on the size of the picture",
}
"""Networks without an exact halo, and a word of the reason."""
