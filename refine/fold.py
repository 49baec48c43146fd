"""What is known of every value of an ONNX graph before it is run: type, shape, and content where that is constant.

Exporters write sizes as arithmetic (Shape, Gather, Mul, Concat, ...). With the picture's size given, all of it folds
to constants here, node by node: onnx's own shape inference for the shapes, its reference evaluator for the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, inliner, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

Constant = NDArray[np.generic]

FLOAT = int(onnx.TensorProto.FLOAT)
MOST_ELEMENTS = 1 << 22
"""Values with more elements than this are not computed: no shape arithmetic is that large."""
MOST_SHOWN = 1024
"""Constants up to this many elements are shown to shape inference."""


class FoldError(ValueError):
    """A graph that fits no picture of the size it was tried at."""


@dataclass(frozen=True, slots=True)
class Fact:
    """What is known of one value."""

    type: onnx.TypeProto
    """Element type and shape, as onnx writes them."""
    tensor: onnx.TensorProto | None = None
    """The content, where it is constant and not too large."""

    @property
    def shape(self) -> tuple[int | None, ...] | None:
        """Size of every axis, None for one not known; None when not even their number is."""
        if not self.type.tensor_type.HasField("shape"):
            return None
        return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in self.type.tensor_type.shape.dim)

    @property
    def data(self) -> Constant | None:
        """The content as an array, where it is constant."""
        return None if self.tensor is None else numpy_helper.to_array(self.tensor)

    @property
    def elements(self) -> int | None:
        """Number of elements, None when not known."""
        shape = self.shape
        return None if shape is None or None in shape else math.prod(size or 0 for size in shape)


@dataclass(frozen=True, slots=True)
class Folded:
    """A graph with everything in it that does not depend on pixels worked out."""

    nodes: tuple[onnx.NodeProto, ...]
    """In order, branches of constant conditions in the place of their If."""
    facts: Mapping[str, Fact]
    """By the name of the value."""
    initializers: frozenset[str]
    """Constants that the graph holds, as against those that were computed from the picture's size."""
    opset: int
    """Version of the standard operators."""


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its local functions written out."""
    return inliner.inline_local_functions(model) if model.functions else model


def folded(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], target: str) -> Folded:
    """What `target` needs of the graph, folded with these shapes for the values named.

    A value named is taken as an input: the nodes before it are left out. Raises FoldError where the graph does not
    fit these shapes.
    """
    fold = _Fold({standard(entry.domain): entry.version for entry in model.opset_import}, shapes)
    for tensor in model.graph.initializer:
        fold.facts[tensor.name] = _held(tensor)
    initializers = frozenset(fold.facts)
    for value in model.graph.input:
        if value.name not in initializers:
            fold.facts[value.name] = fold.reshaped(value.name, value.type)
    for name in shapes.keys() - fold.facts.keys():
        fold.facts[name] = fold.reshaped(name, onnx.TypeProto())
    for node in _path(model.graph.node, shapes, target):
        fold.add(node)
    return Folded(tuple(fold.nodes), fold.facts, initializers, fold.opsets.get("", 0))


def standard(domain: str) -> str:
    """The domain of an operator, with the two spellings of the standard's own made one."""
    return "" if domain == "ai.onnx" else domain


def reads(node: onnx.NodeProto) -> list[str]:
    """Names of the values a node reads, in the bodies of loops too."""
    graphs = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    inner = [name for graph in graphs for step in graph.node for name in reads(step)]
    return [*node.input, *inner, *(result.name for graph in graphs for result in graph.output)]


def _path(nodes: Sequence[onnx.NodeProto], given: Container[str], target: str) -> list[onnx.NodeProto]:
    """The nodes that target needs, in order, as far back as the values given."""
    needed, path = {target}, []
    for node in reversed(nodes):
        if any(name in needed and name not in given for name in node.output):
            needed.update(reads(node))
            path.append(node)
    return path[::-1]


@dataclass(slots=True)
class _Fold:
    opsets: dict[str, int]
    shapes: Mapping[str, Sequence[int]]
    facts: dict[str, Fact] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    def add(self, node: onnx.NodeProto) -> None:
        branch = self._branch(node)
        if branch is None:
            self.nodes.append(node)
            self.facts.update(self._results(node))
            return
        for tensor in branch.initializer:
            self.facts[tensor.name] = _held(tensor)
        for inner in branch.node:
            self.add(inner)
        for outer, result in zip(node.output, branch.output, strict=True):
            self.add(helper.make_node("Identity", [result.name], [outer]))

    def reshaped(self, name: str, kind: onnx.TypeProto) -> Fact:
        if name not in self.shapes:
            return Fact(kind)
        return Fact(helper.make_tensor_type_proto(kind.tensor_type.elem_type or FLOAT, self.shapes[name]))

    def _branch(self, node: onnx.NodeProto) -> onnx.GraphProto | None:
        if node.op_type != "If" or standard(node.domain):
            return None
        condition = self._data(node.input[0])
        if condition is None:
            return None
        wanted = "then_branch" if bool(condition.reshape(-1)[0]) else "else_branch"
        branch: onnx.GraphProto = next(attribute.g for attribute in node.attribute if attribute.name == wanted)
        return branch

    def _data(self, name: str) -> Constant | None:
        return self.facts[name].data if name in self.facts else None

    def _results(self, node: onnx.NodeProto) -> dict[str, Fact]:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            return {node.output[0]: _held(node.attribute[0].t)}
        types = self._types(node)
        if not self._is_constant(node, types):
            return {name: Fact(kind) for name, kind in types.items()}
        return {name: Fact(types[name], tensor) for name, tensor in self._computed(node, types).items()}

    def _types(self, node: onnx.NodeProto) -> dict[str, onnx.TypeProto]:
        domain = standard(node.domain)
        try:
            schema = onnx.defs.get_schema(node.op_type, self.opsets.get(domain, 1), domain)
        except onnx.defs.SchemaError:
            return self._guess(node)
        if any(attribute.HasField("g") for attribute in node.attribute):
            return self._guess(node)
        inputs = {name: self.facts[name] for name in node.input if name in self.facts}
        try:
            found = shape_inference.infer_node_outputs(
                schema,
                node,
                {name: fact.type for name, fact in inputs.items()},
                {name: tensor for name, fact in inputs.items() if (tensor := _shown(fact)) is not None},
                opset_imports=[helper.make_opsetid(domain, version) for domain, version in self.opsets.items()],
            )
        except (shape_inference.InferenceError, KeyError) as error:
            raise FoldError(f"{node.op_type} {node.name or node.output[0]!r}: {error}") from error
        return {name: kind for name, kind in found.items() if name}

    def _guess(self, node: onnx.NodeProto) -> dict[str, onnx.TypeProto]:
        """For loops and operators of somebody's own: that they keep the shape of the largest thing they get."""
        inputs = [self.facts[name] for name in node.input if name in self.facts]
        if not inputs:
            return {}
        largest = max(inputs, key=lambda fact: fact.elements or 0)
        return {name: largest.type for name in node.output if name}

    def _is_constant(self, node: onnx.NodeProto, types: Mapping[str, onnx.TypeProto]) -> bool:
        """Whether the node's results can be computed now. Shape needs no content, only a known shape."""
        if standard(node.domain) or not types or any(attribute.HasField("g") for attribute in node.attribute):
            return False
        if any((Fact(kind).elements or 0) > MOST_ELEMENTS for kind in types.values()):
            return False
        inputs = [self.facts.get(name) for name in node.input if name]
        if node.op_type in ("Shape", "Size"):
            return inputs[0] is not None and inputs[0].elements is not None
        known = all(fact and fact.tensor and (fact.elements or 0) <= MOST_ELEMENTS for fact in inputs)
        return known and not node.op_type.startswith(("Random", "Multinomial", "Bernoulli"))

    def _computed(
        self, node: onnx.NodeProto, types: Mapping[str, onnx.TypeProto]
    ) -> dict[str, onnx.TensorProto | None]:
        if node.op_type in ("Shape", "Size"):
            return {node.output[0]: numpy_helper.from_array(self._shape(node))}
        names = list(dict.fromkeys(name for name in node.input if name))
        graph = helper.make_graph(
            [node],
            node.op_type,
            [helper.make_value_info(name, self.facts[name].type) for name in names],
            [helper.make_value_info(name, kind) for name, kind in types.items()],
        )
        try:
            results = ReferenceEvaluator(graph, opsets=self.opsets).run(
                None, {name: self._data(name) for name in names}
            )
        except (NotImplementedError, RuntimeError, ValueError, TypeError):
            return dict.fromkeys(types)  # not known is safe: what needs the number will say so
        return {name: _tensor(result) for name, result in zip(types, results, strict=True)}

    def _shape(self, node: onnx.NodeProto) -> Constant:
        shape = np.array(self.facts[node.input[0]].shape, np.int64)
        if node.op_type == "Size":
            return np.array(shape.prod(), np.int64)
        bounds = {attribute.name: attribute.i for attribute in node.attribute}
        return shape[bounds.get("start", 0) : bounds.get("end")]


def _held(tensor: onnx.TensorProto) -> Fact:
    return Fact(helper.make_tensor_type_proto(tensor.data_type, tensor.dims), tensor)


def _shown(fact: Fact) -> onnx.TensorProto | None:
    return fact.tensor if (fact.elements or 0) <= MOST_SHOWN else None


def _tensor(result: object) -> onnx.TensorProto | None:
    return numpy_helper.from_array(np.asarray(result)) if isinstance(result, (np.ndarray, np.generic)) else None
