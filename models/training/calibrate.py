"""Calibrate the flat fields of a finished network: `python -m models.training.calibrate IN.onnx OUT.onnx`.

For networks whose last convolution, plus a skip of the image, is shuffled into pixels. Needs no torch.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper

_SIDE = 48
_RIDGE = 1e-7
"""Keeps the change small. At 1e-9 the x4 network lost 0.09 dB on Set5; at 1e-7 nothing, and is off by 6 65535ths
instead of 2."""


def calibrated(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network with a tail that gives flat fields back as they came, as nearly as a small change can.

    Least squares over greys and colours for each output channel of the tail (so for each phase) apart. What is added
    to a kernel is the same for all its taps: it sees mean values only.
    """
    tail = [node for node in model.graph.node if node.op_type == "Conv"][-1]
    weights = {w.name: w for w in model.graph.initializer}
    kernel, bias = (numpy_helper.to_array(weights[name]).astype(np.float64) for name in tail.input[1:3])
    shuffle = next(node for node in model.graph.node if node.op_type == "DepthToSpace")
    seen, made = _on_flat_fields(model, (tail.input[0], shuffle.input[0]))
    fields, importance = _fields()
    wanted = np.repeat(fields, made.shape[1] // 3, axis=1)
    design = np.hstack([seen, np.ones((len(seen), 1))]) * importance[:, None]
    price = _RIDGE * np.trace(design.T @ design) * np.eye(design.shape[1])
    change = -np.linalg.solve(design.T @ design + price, design.T @ ((made - wanted) * importance[:, None]))
    spread = (change[:-1].T / np.prod(kernel.shape[2:]))[:, :, None, None]
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for weight in result.graph.initializer:
        if weight.name == tail.input[1]:
            weight.CopyFrom(numpy_helper.from_array((kernel + spread).astype(np.float32), weight.name))
        if weight.name == tail.input[2]:
            weight.CopyFrom(numpy_helper.from_array((bias + change[-1]).astype(np.float32), weight.name))
    return result


def flat_error(model: onnx.ModelProto) -> float:
    """The greatest error of a flat grey field in any phase, in 65535ths."""
    shuffle = next(node for node in model.graph.node if node.op_type == "DepthToSpace")
    (made,) = _on_flat_fields(model, (shuffle.input[0],))
    fields, _ = _fields()
    wanted = np.repeat(fields, made.shape[1] // 3, axis=1)
    return float(np.abs(made - wanted)[:256].max() * 65535)


def _on_flat_fields(model: onnx.ModelProto, names: tuple[str, ...]) -> list[NDArray[np.float64]]:
    """The values of these names in the middle of each flat field, (fields, channels)."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    session = ort.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    rows: list[list[NDArray[np.float64]]] = [[] for _ in names]
    for field in _fields()[0]:
        image = np.broadcast_to(field[None, :, None, None], (1, 3, _SIDE, _SIDE)).astype(np.float32)
        for row, value in zip(rows, session.run(list(names), {"image": image}), strict=True):
            row.append(value[0, :, _SIDE // 2, _SIDE // 2].astype(np.float64))
    return [np.array(row) for row in rows]


def _fields() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """256 greys and 512 colours, and how much each counts: black and white most, for paper and backgrounds."""
    greys = np.repeat(np.linspace(0, 1, 256)[:, None], 3, axis=1)
    colours = np.random.default_rng(0).integers(0, 256, (512, 3)) / 255
    importance = np.concatenate([np.ones(256), np.full(512, 0.1)])
    importance[[0, 255]] = 8
    return np.vstack([greys, colours]), importance


if __name__ == "__main__":
    network = onnx.load(sys.argv[1])
    better = calibrated(network)
    Path(sys.argv[2]).write_bytes(better.SerializeToString())
    print(f"flat error, 65535ths: {flat_error(network):.1f} -> {flat_error(better):.1f}")  # noqa: T201  the answer
