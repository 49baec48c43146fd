from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from scipy import ndimage

from refine.errors import ProgramError
from refine.graph import Graph


def computed(write, *images: np.ndarray) -> np.ndarray:
    """What `write`, given a graph and its image inputs, makes of images (1, c, y, x)."""
    graph = Graph()
    values = [
        graph.input(f"in{i}", "float32", [1, image.shape[1], "y", "x"])
        if image.ndim == 4
        else graph.input(f"in{i}", "float32", list(image.shape))
        for i, image in enumerate(images)
    ]
    model = graph.model({"out": (write(graph, *values), "float32", [1, "c", "oy", "ox"])})
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {f"in{i}": image.astype(np.float32) for i, image in enumerate(images)})[0]


@pytest.fixture
def image():
    """Random pixels, (1, 3, 20, 24)."""
    return np.random.default_rng(0).random((1, 3, 20, 24)).astype(np.float32)


@pytest.mark.parametrize("radius", [1, 2, 5])
def test_box_highest_lowest_are_scipys(image, radius):
    """Box mean, maximum and minimum are scipy's, inside the edge."""
    size, inner = (1, 1, 2 * radius + 1, 2 * radius + 1), (..., slice(radius, -radius), slice(radius, -radius))
    pairs = [
        (lambda g, v: g.box(v, radius), ndimage.uniform_filter(image.astype(float), size)),
        (lambda g, v: g.highest(v, radius), ndimage.maximum_filter(image, size)),
        (lambda g, v: g.lowest(v, radius), ndimage.minimum_filter(image, size)),
    ]
    for write, expected in pairs:
        np.testing.assert_allclose(computed(write, image)[inner], expected[inner], atol=1e-6)


def test_separable_is_scipys_correlation(image):
    """A kernel down and across is two correlations."""
    kernel = np.array([1, 2, 4, 2, 1], np.float32) / 10
    plane = image[:, :1]
    expected = ndimage.correlate1d(ndimage.correlate1d(plane.astype(float), kernel, axis=2), kernel, axis=3)
    found = computed(lambda g, v, k: g.separable(v, k, 2), plane, kernel)
    np.testing.assert_allclose(found[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], atol=1e-6)


def test_nearest_repeats_pixels(image):
    """Each pixel becomes a square."""
    np.testing.assert_array_equal(computed(lambda g, v: g.nearest(v, 3), image), image.repeat(3, 2).repeat(3, 3))


def test_luma_and_differences_invert(image):
    """There and back is the picture; a neutral one has differences of exactly 0, and stays exactly neutral."""

    def there_and_back(graph, value):
        return graph.from_luma_and_differences(*graph.luma_and_differences(value))

    np.testing.assert_allclose(computed(there_and_back, image), image, atol=1e-6)
    neutral = np.repeat(image[:, :1], 3, axis=1)
    assert not computed(lambda g, v: g.luma_and_differences(v)[1], neutral).any()
    np.testing.assert_array_equal(computed(there_and_back, neutral), neutral)
    np.testing.assert_array_equal(computed(lambda g, v: g.luma_and_differences(v)[0], neutral), neutral[:, :1])


def test_luma_is_the_standards(image):
    """Luma is that of ITU-R BT.601."""
    expected = np.tensordot([0.299, 0.587, 0.114], image[0], 1)
    np.testing.assert_allclose(computed(lambda g, v: g.luma_and_differences(v)[0], image)[0, 0], expected, atol=1e-6)


def test_unit_clips_and_keeps_what_is_not_finite():
    """Values are clipped to 0..1; NaN stays NaN, and infinity becomes it, so that both can be counted."""
    image = np.array([-1, 0, 0.5, 1, 2, np.nan, np.inf, -np.inf], np.float32).reshape(1, 1, 1, 8)
    found = computed(lambda g, v: g.unit(v), image).ravel()
    np.testing.assert_array_equal(found, [0, 0, 0.5, 1, 1, np.nan, np.nan, np.nan])


def test_arithmetic_writes_nodes(image):
    """Values add up like numbers, with each other and with plain ones."""
    found = computed(lambda _, v: -((v + 1.0) * v - v / 2.0), image)
    np.testing.assert_allclose(found, -((image + 1) * image - image / 2), atol=1e-6)


def test_equal_constants_are_stored_once():
    """The same number of the same type is one initializer; another type or shape is another."""
    graph = Graph()
    names = [graph.constant(value).name for value in (1.0, 1.0, [1], np.float32([1.0]), np.int64(1))]
    assert names[0] == names[1]
    assert len(set(names)) == 4


def test_merge_refuses_another_opset():
    """A network of another opset is refused, with both numbers and the way out."""
    node = helper.make_node("Relu", ["a"], ["b"])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, "y", "x"]) for name in "ab"]
    model = helper.make_model(
        helper.make_graph([node], "g", ends[:1], ends[1:]), opset_imports=[helper.make_opsetid("", 13)]
    )
    graph = Graph()
    with pytest.raises(
        ProgramError, match="network 'mine' is of opset 13, a program of opset 17; export it with opset 17"
    ):
        graph.merge(model, graph.input("image", "float32", [1, 3, "y", "x"]), "mine")


def test_merge_keeps_two_copies_apart(image):
    """One network merged twice is applied twice: its names do not collide."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1], [2.0])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, "y", "x"]) for name in "ab"]
    body = helper.make_graph([helper.make_node("Mul", ["a", "w"], ["b"])], "g", ends[:1], ends[1:], [weight])
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)])
    found = computed(lambda g, v: g.merge(model, g.merge(model, v, "one"), "two"), image)
    np.testing.assert_array_equal(found, image * 4)


def told_network() -> onnx.ModelProto:
    """A network that multiplies its image by what it is told; the image is not its first input."""
    shapes = {"told": [1, 1, 1, 1], "a": [1, 3, "y", "x"], "b": [1, 3, "y", "x"]}
    told, entry, end = (helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in shapes.items())
    body = helper.make_graph([helper.make_node("Mul", ["a", "told"], ["b"])], "g", [told, entry], [end])
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)])


def test_merge_feeds_every_input(image):
    """An input beside the image takes the value under its name, whatever their order."""
    found = computed(
        lambda g, v, s: g.merge(told_network(), v, "net", {"told": s}), image, np.full((1, 1, 1, 1), 0.25, np.float32)
    )
    np.testing.assert_array_equal(found, image / 4)


@pytest.mark.parametrize("fed", [(), ("told", "more"), ("told", "a")], ids=["too-few", "unknown", "all"])
def test_merge_refuses_what_does_not_fit(fed):
    """An input that nobody feeds, or a value for none, is refused with the inputs there are."""
    graph = Graph()
    value = graph.input("image", "float32", [1, 3, "y", "x"])
    with pytest.raises(ProgramError, match="network 'net' has the inputs told, a: one takes the image"):
        graph.merge(told_network(), value, "net", dict.fromkeys(fed, value))
