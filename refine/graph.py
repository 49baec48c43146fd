"""An ONNX graph under construction, and values that can be added up like numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from refine.errors import ProgramError

if TYPE_CHECKING:
    from numpy.typing import NDArray

OPSET = 17
IR_VERSION = 8
LUMA = (0.299, 0.587, 0.114)
"""Weights of R, G, B in luma: ITU-R BT.601."""

_ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min"})
"""Operators that broadcast."""

Dim = int | str
Attribute = int | str | Sequence[int]


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the graph. Arithmetic with values and plain numbers writes nodes."""

    graph: Graph
    """Where the nodes go."""
    name: str
    """Its name in the ONNX graph."""

    def __add__(self, other: Value | float) -> Value:
        return self.graph.op("Add", self, other)

    def __sub__(self, other: Value | float) -> Value:
        return self.graph.op("Sub", self, other)

    def __mul__(self, other: Value | float) -> Value:
        return self.graph.op("Mul", self, other)

    def __truediv__(self, other: Value | float) -> Value:
        return self.graph.op("Div", self, other)

    def __neg__(self) -> Value:
        return self.graph.op("Neg", self)


@dataclass(slots=True)
class Graph:
    """Collects the nodes of one program. Images in it are float32 (1, c, y, x), full scale = 1."""

    _nodes: list[onnx.NodeProto] = field(default_factory=list)
    _inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    _initializers: list[onnx.TensorProto] = field(default_factory=list)
    _constants: dict[tuple[str, tuple[int, ...], bytes], str] = field(default_factory=dict)
    _count: int = 0

    def input(self, name: str, dtype: str, shape: Sequence[Dim]) -> Value:
        """A runtime input. It may change values from image to image, never support."""
        element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self._inputs.append(helper.make_tensor_value_info(name, element, list(shape)))
        return Value(self, name)

    def constant(self, array: NDArray[np.generic] | np.int64 | float | Sequence[int]) -> Value:
        """A constant; Python floats become float32, integers int64. Equal constants are stored once."""
        value = np.asarray(array)
        if value.dtype == np.float64:
            value = value.astype(np.float32)
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._constants:
            name = self._fresh("constant")
            self._constants[key] = name
            self._initializers.append(numpy_helper.from_array(value.copy(order="C"), name))
        return Value(self, self._constants[key])

    def op(self, kind: str, *operands: Value | float, **attributes: Attribute) -> Value:
        """Write one node with one output and give that output."""
        return self.ops(kind, 1, *operands, **attributes)[0]

    def ops(self, kind: str, outputs: int, *operands: Value | float, **attributes: Attribute) -> list[Value]:
        """Write one node with several outputs and give them in order."""
        names = [self._operand(kind, v).name for v in operands]
        results = [self._fresh(kind.lower()) for _ in range(outputs)]
        node = helper.make_node(kind, names, results, name=results[0])
        node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
        self._nodes.append(node)
        return [Value(self, name) for name in results]

    def _operand(self, kind: str, operand: Value | float) -> Value:
        if isinstance(operand, Value):
            return operand
        # onnxruntime walks a plane and a number without axes ten times slower than a plane and a vector of one.
        return self.constant(np.full(1, operand, np.float32) if kind in _ARITHMETIC else float(operand))

    def merge(
        self, model: onnx.ModelProto, image: Value, prefix: str, others: Mapping[str, Value] | None = None
    ) -> Value:
        """Write a whole network into this graph; gives its first output.

        `others` feeds inputs by their names, `image` the one that is left. Raises ProgramError where an input is
        left without a value or a value without an input, and where the opset is not ours: operators could mean
        something else here.
        """
        opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), None)
        if opset != OPSET:
            msg = f"network {prefix!r} is of opset {opset}, a program of opset {OPSET}; export it with opset {OPSET}"
            raise ProgramError(msg)
        graph = model.graph
        names = {"": "", **_fed(graph, image, prefix, others or {})}
        for weight in graph.initializer:
            copy = onnx.TensorProto()
            copy.CopyFrom(weight)
            copy.name = names.setdefault(weight.name, f"{prefix}/{weight.name}")
            self._initializers.append(copy)
        for node in graph.node:
            copy_node = onnx.NodeProto()
            copy_node.CopyFrom(node)
            copy_node.name = f"{prefix}/{node.name or node.output[0]}"
            copy_node.input[:] = [names[name] for name in node.input]
            copy_node.output[:] = [names.setdefault(name, f"{prefix}/{name}") for name in node.output]
            self._nodes.append(copy_node)
        return Value(self, names[graph.output[0].name])

    def model(self, outputs: dict[str, tuple[Value, str, Sequence[Dim]]]) -> onnx.ModelProto:
        """The finished model; `outputs` maps a name to its value, dtype and shape."""
        declared = []
        for name, (value, dtype, shape) in outputs.items():
            self._nodes.append(helper.make_node("Identity", [value.name], [name], name=name))
            element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
            declared.append(helper.make_tensor_value_info(name, element, list(shape)))
        graph = helper.make_graph(self._nodes, "refine", self._inputs, declared, self._initializers)
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="refine")

    def cast(self, value: Value, dtype: str) -> Value:
        """The value as another type."""
        return self.op("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def unit(self, image: Value) -> Value:
        """The image clipped to 0..1. Infinity becomes NaN, not 1, so that it can still be counted at the end."""
        return self.op("Clip", image, 0.0, 1.0) + (image - image)

    def box(self, image: Value, radius: int) -> Value:
        """The mean over (2 radius + 1) squared, rows and columns in turn, each channel apart."""
        side = 2 * radius + 1
        rows = self.op("AveragePool", image, kernel_shape=[side, 1], pads=[radius, 0, radius, 0], count_include_pad=1)
        return self.op("AveragePool", rows, kernel_shape=[1, side], pads=[0, radius, 0, radius], count_include_pad=1)

    def highest(self, image: Value, radius: int) -> Value:
        """The maximum over (2 radius + 1) squared, each channel apart."""
        side = 2 * radius + 1
        rows = self.op("MaxPool", image, kernel_shape=[side, 1], pads=[radius, 0, radius, 0])
        return self.op("MaxPool", rows, kernel_shape=[1, side], pads=[0, radius, 0, radius])

    def lowest(self, image: Value, radius: int) -> Value:
        """The minimum over (2 radius + 1) squared, each channel apart."""
        return -self.highest(-image, radius)

    def separable(self, plane: Value, kernel: Value, radius: int) -> Value:
        """Correlate a single-channel plane with a symmetric kernel (2 radius + 1,), down and across."""
        side = 2 * radius + 1
        down = self.op("Reshape", kernel, self.constant([1, 1, side, 1]))
        across = self.op("Reshape", kernel, self.constant([1, 1, 1, side]))
        rows = self.op("Conv", plane, down, kernel_shape=[side, 1], pads=[radius, 0, radius, 0])
        return self.op("Conv", rows, across, kernel_shape=[1, side], pads=[0, radius, 0, radius])

    def channels(self, image: Value, counts: Sequence[int]) -> list[Value]:
        """The image cut into groups of channels."""
        return self.ops("Split", len(counts), image, self.constant(list(counts)), axis=1)

    def parts(self, vector: Value, counts: Sequence[int]) -> list[Value]:
        """A vector cut into pieces."""
        return self.ops("Split", len(counts), vector, self.constant(list(counts)), axis=0)

    def stacked(self, *planes: Value) -> Value:
        """The planes as channels of one image."""
        return self.op("Concat", *planes, axis=1)

    def nearest(self, image: Value, scale: int) -> Value:
        """Each pixel repeated scale x scale times."""
        scales = self.constant(np.array([1, 1, scale, scale], np.float32))
        empty = self.constant(np.zeros(0, np.float32))
        return self.op(
            "Resize",
            image,
            empty,
            scales,
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        )

    def luma_and_differences(self, rgb: Value) -> tuple[Value, Value, Value]:
        """Luma, R-G and B-G of an RGB image.

        Written so that a neutral pixel (R = G = B) has luma exactly G and both differences exactly 0:
        what is added back to it then keeps it neutral to the last bit.
        """
        red, green, blue = self.channels(rgb, (1, 1, 1))
        red_green, blue_green = red - green, blue - green
        return green + red_green * LUMA[0] + blue_green * LUMA[2], red_green, blue_green

    def from_luma_and_differences(self, luma: Value, red_green: Value, blue_green: Value) -> Value:
        """The inverse of `luma_and_differences`."""
        green = luma - red_green * LUMA[0] - blue_green * LUMA[2]
        return self.stacked(green + red_green, green, green + blue_green)

    def _fresh(self, stem: str) -> str:
        self._count += 1
        return f"{stem}_{self._count}"


def _fed(network: onnx.GraphProto, image: Value, prefix: str, others: Mapping[str, Value]) -> dict[str, str]:
    """The name in our graph of what feeds each input of the network."""
    weights = {w.name for w in network.initializer}
    inputs = [i.name for i in network.input if i.name not in weights]
    left = [name for name in inputs if name not in others]
    if len(left) != 1 or not others.keys() <= set(inputs):
        msg = (
            f"network {prefix!r} has the inputs {', '.join(inputs)}: one takes the image, and each of the rest a value "
            f"under its name; given were {', '.join(sorted(others)) or 'none'}"
        )
        raise ProgramError(msg)
    return {left[0]: image.name, **{name: value.name for name, value in others.items()}}
