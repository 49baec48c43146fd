"""ONNX graphs by hand, in a few lines."""

from __future__ import annotations

from itertools import count

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 18


class Sketch:
    """An ONNX graph under construction: every method writes a node and gives the name of its result."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.held: list[onnx.TensorProto] = []
        self.names = (f"v{n}" for n in count())

    def constant(self, array: object, dtype: type = np.float32) -> str:
        """A constant."""
        name = next(self.names)
        self.held.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def op(self, kind: str, *inputs: str, **attributes: object) -> str:
        """A node with one result."""
        name = next(self.names)
        self.nodes.append(helper.make_node(kind, inputs, [name], name=f"{kind}_{name}", **attributes))
        return name

    def weights(self, *shape: int) -> str:
        """Random weights that keep values near 1."""
        return self.constant(self.rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape))

    def conv(self, x: str, inputs: int, outputs: int, kernel: int = 3, **attributes: object) -> str:
        """A convolution with positive biases (no dead ReLU), keeping the size unless attributes say otherwise."""
        dilation = attributes.get("dilations", [1, 1])[0]
        before = dilation * (kernel - 1) // 2
        attributes.setdefault("pads", [before] * 4)
        weights = self.weights(outputs, inputs // attributes.get("group", 1), kernel, kernel)
        return self.op("Conv", x, weights, self.constant(self.rng.uniform(0.5, 1, outputs)), **attributes)

    def resize(self, x: str, scale: float, mode: str, coordinates: str = "half_pixel", **attributes: object) -> str:
        """Enlarge or shrink."""
        scales = self.constant([1, 1, scale, scale])
        return self.op("Resize", x, "", scales, mode=mode, coordinate_transformation_mode=coordinates, **attributes)

    def reshape(self, x: str, *shape: int | str) -> str:
        """To a shape written as exporters do: numbers, or `y` and `x` with a factor, read from the image's shape."""
        whole = self.op("Shape", "image")
        parts = [self._size(whole, part) for part in shape]
        return self.op("Reshape", x, self.op("Concat", *parts, axis=0))

    def _size(self, whole: str, part: int | str) -> str:
        if isinstance(part, int):
            return self.constant([part], np.int64)
        size = self.op("Gather", whole, self.constant([{"y": 2, "x": 3}[part[0]]], np.int64))
        kind, number = {"*": "Mul", "/": "Div"}.get(part[1:2], "Mul"), int(part[2:] or 1)
        return self.op(kind, size, self.constant([number], np.int64))

    def model(self, result: str, dims: tuple[object, ...] = (1, 3, "y", "x")) -> onnx.ModelProto:
        """The finished model."""
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, dims)
        enlarged = helper.make_tensor_value_info(result, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "sketch", [image], [enlarged], self.held)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("someone", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)
