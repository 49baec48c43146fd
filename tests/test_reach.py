from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from sketch import Sketch
from sketches import APPROXIMATE, EXACT, Writer, cropped, foreign, residual, squeezed, tail

from refine.errors import CardError
from refine.reach import Reach, reach

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
FOLDER = Path(__file__).parent / "graphs"
NETS = Path(__file__).parents[1] / "models" / "nets"
EXPORTED = {
    "shuffle": (2, 5, 1),
    "unshuffle": (2, 6, 2),
    "transposed": (2, 3, 1),
    "nearest": (2, 2, 1),
    "bilinear_size": (2, 2, 1),
    "bicubic_size": (2, 3, 1),
    "by_hand": (2, 2, 1),
    "pooled": (2, 4, 2),
    "windows": (2, 8, 4),
}
EXPORTED_APPROXIMATE = {"squeeze": ("Mean", "GlobalAveragePool"), "attention": ("Softmax",), "instance_norm": ("Inst",)}
EXPORTERS = ("script", "dynamo")


@cache
def sketched(writer: Writer, seed: int = 0) -> onnx.ModelProto:
    """A network of `sketches`."""
    sketch = Sketch(seed)
    return sketch.model(writer(sketch))


@cache
def exported(name: str, exporter: str) -> onnx.ModelProto:
    """A network as one of torch's exporters wrote it."""
    return onnx.load(FOLDER / f"{name}-{exporter}.onnx")


FINITE = [
    *(pytest.param(sketched(writer), id=writer.__name__) for writer in EXACT),
    *(pytest.param(exported(name, exporter), id=f"{name}-{exporter}") for name in EXPORTED for exporter in EXPORTERS),
]
# What padding fills in behind a crop depends on no pixel beyond the window, and is wrong all the same.
PROBED = [param for param in FINITE if param.id != cropped.__name__]


def runner(model: onnx.ModelProto) -> Run:
    """The network by onnxruntime, on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0].name
    return lambda image: session.run(None, {entry: np.ascontiguousarray(image)})[0]


def ceiled(size: int, step: int) -> int:
    """The next multiple of step."""
    return -(-size // step) * step


def probed(run: Run, scale: int, step: int, side: int) -> int:
    """The halo that is really needed, by poking pixels and seeing what changes.

    Windows start and end on multiples of `step`; cores may lie anywhere. A core that starts at the last output px
    that a pixel changes needs a window that holds the pixel; so does one that ends with the first.
    """
    rng = np.random.default_rng(1)
    needed = 0
    for pixel in range(middle := side // 2 // step * step, middle + step):
        for _ in range(4):
            image = rng.random((1, 3, side, side), np.float32)
            poked = image.copy()
            poked[:, :, pixel, pixel] += rng.choice([-8, 8], 3)
            changed = (run(image) != run(poked))[0].any(axis=0)
            assert changed.any(), "the network must look at every pixel"
            for axis in (0, 1):
                hit = np.flatnonzero(changed.any(axis=axis)) // scale
                assert hit[0] > 0
                assert hit[-1] < side - 1
                needed = max(needed, hit[-1] - middle - step + 1, middle - hit[0])
    return int(needed)


def tiled(run: Run, image: NDArray[np.float32], found: Reach, halo: int, tile: int) -> NDArray[np.float32]:
    """The image in tiles with so much halo, mirrored at its edges: numpy only."""
    height, width = image.shape[2:]
    padded = np.pad(image, [(0, 0), (0, 0), (halo, halo), (halo, halo)], mode="reflect")
    result = np.empty((1, 3, found.scale * height, found.scale * width), np.float32)
    for y in range(0, height, tile):
        for x in range(0, width, tile):
            block = run(padded[:, :, y : y + tile + 2 * halo, x : x + tile + 2 * halo])
            kept = [slice(found.scale * halo, found.scale * (halo + tile))] * 2
            place = [slice(found.scale * start, found.scale * (start + tile)) for start in (y, x)]
            result[:, :, *place] = block[:, :, *kept]
    return result


def picture(side: int) -> NDArray[np.float32]:
    """Noise."""
    return np.random.default_rng(2).random((1, 3, side, side), np.float32)


@pytest.mark.parametrize("writer", EXACT, ids=lambda writer: writer.__name__)
def test_reach_is_what_one_works_out_by_hand(writer):
    """Scale, halo and multiple_of of small networks are those of pencil and paper."""
    assert reach(sketched(writer)) == Reach(*EXACT[writer])


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", EXPORTED)
def test_reach_reads_both_exporters(name, exporter):
    """Both of torch's exporters, with their size arithmetic, give the same reach."""
    assert reach(exported(name, exporter)) == Reach(*EXPORTED[name])


@pytest.mark.parametrize(("name", "scale"), [("fast-x2", 2), ("fast-x4", 4)])
def test_reach_of_shipped_networks(name, scale):
    """The shipped networks look 12 px far."""
    assert reach(onnx.load(NETS / f"{name}.onnx")) == Reach(scale, 12, 1)


@pytest.mark.parametrize("model", PROBED)
def test_halo_holds_what_a_probe_finds(model):
    """No pixel changes anything beyond the halo, and the halo is less than a step of the phase larger than needed."""
    found = reach(model)
    step = found.multiple_of
    needed = probed(runner(model), found.scale, step, side=ceiled(4 * found.halo + 4 * step, step))
    assert needed > 0
    assert needed <= found.halo < needed + step


@pytest.mark.parametrize("model", FINITE)
def test_tiles_are_the_whole(model):
    """Tiles with the halo, put together, are the whole bit for bit."""
    found, run = reach(model), runner(model)
    tile = ceiled(11, found.multiple_of)
    image = picture(4 * tile)
    whole = tiled(run, image, found, found.halo, tile=4 * tile)
    assert np.array_equal(tiled(run, image, found, found.halo, tile), whole)


@pytest.mark.parametrize("model", FINITE)
def test_less_halo_shows(model):
    """One step less halo changes at least one value."""
    found, run = reach(model), runner(model)
    tile = ceiled(11, found.multiple_of)
    image = picture(4 * tile)
    whole = tiled(run, image, found, found.halo, tile=4 * tile)
    assert not np.array_equal(tiled(run, image, found, found.halo - found.multiple_of, tile), whole)


@pytest.mark.parametrize("writer", APPROXIMATE, ids=lambda writer: writer.__name__)
def test_far_reaching_networks_are_called_approximate(writer):
    """A network without a finite halo, or that may have none, says so and names the node; it still has a scale."""
    found = reach(sketched(writer))
    assert not found.exact
    assert found.scale in (2, 3)
    assert found.halo >= 1
    assert APPROXIMATE[writer] in " ".join(found.why)


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", EXPORTED_APPROXIMATE)
def test_far_reaching_exports_are_called_approximate(name, exporter):
    """Global pooling, attention over pixels and instance normalisation are seen through both exporters."""
    found = reach(exported(name, exporter))
    assert (found.scale, found.halo, found.exact) == (2, 2, False)
    assert any(word in found.why[0] for word in EXPORTED_APPROXIMATE[name])


@pytest.mark.parametrize(
    "writer", [writer for writer in APPROXIMATE if writer is not foreign], ids=lambda writer: writer.__name__
)
def test_approximate_means_tiles_differ(writer):
    """What is called approximate really differs between tiles and whole, where onnxruntime can run it at all."""
    found, run = reach(sketched(writer)), runner(sketched(writer))
    image, halo = picture(48), min(found.halo, 4)
    assert not np.array_equal(tiled(run, image, found, halo, tile=12), tiled(run, image, found, halo, tile=48))


def test_reach_between_two_values():
    """Source and target may be any values of the graph: what lies before the source does not count."""
    model = sketched(residual)
    first, last = model.graph.node[0].output[0], model.graph.node[-2].output[0]
    assert reach(model, first, last) == Reach(1, 5, 1)
    assert reach(model, target=first) == Reach(1, 1, 1)


def test_reach_behind_a_gather_of_runtime_indices():
    """A source whose size is settled at run time only is followed from there on."""
    sketch = Sketch()
    gathered = sketch.op("Gather", sketch.conv("image", 3, 6), "rows", axis=2)
    model = sketch.model(tail(sketch, gathered))
    model.graph.input.append(helper.make_tensor_value_info("rows", TensorProto.INT64, ["n"]))
    assert reach(model, source=gathered) == Reach(2, 1, 1)


def test_shapes_settled_at_run_time_are_approximate():
    """What cannot be followed for want of a shape is named, and no crash."""
    sketch = Sketch()
    moved = sketch.op("Reshape", sketch.conv("image", 3, 6), "shape")
    model = sketch.model(tail(sketch, sketch.op("Add", sketch.conv("image", 3, 6), sketch.conv(moved, 6, 6))))
    model.graph.input.append(helper.make_tensor_value_info("shape", TensorProto.INT64, [4]))
    found = reach(model)
    assert (found.scale, found.halo, found.exact) == (2, 2, False)
    assert "Reshape" in found.why[0]


def test_runtime_settings_have_no_reach():
    """An input that is one value for the whole picture changes nothing; one that varies over it does."""
    sketch = Sketch()
    model = sketch.model(tail(sketch, sketch.op("Mul", sketch.conv("image", 3, 6), "amount")))
    model.graph.input.append(helper.make_tensor_value_info("amount", TensorProto.FLOAT, []))
    assert reach(model) == Reach(2, 2, 1)
    model.graph.input[1].CopyFrom(helper.make_tensor_value_info("amount", TensorProto.FLOAT, [1, 1, "h", "w"]))
    assert "'amount', which varies" in reach(model).why[0]


def test_pixels_may_come_channels_last():
    """Integer pixels (1, y, x, c) are recognised by their last axis."""
    sketch = Sketch()
    sketch.op("Transpose", "image", perm=[0, 3, 1, 2])
    result = tail(sketch, sketch.conv("v0", 3, 6))
    assert reach(sketch.model(result, dims=(1, "y", "x", 3))) == Reach(2, 2, 1)


def test_fixed_sizes_are_taken_as_they_are():
    """A graph that fixes its size is looked at in that size."""
    sketch = Sketch()
    assert reach(sketch.model(residual(sketch), dims=(1, 3, 64, 96))) == Reach(2, 6, 1)


def test_reach_may_pass_the_sizes_tried():
    """A network that looks further than the pictures it is tried at are large has its halo all the same."""
    sketch = Sketch()
    x = "image"
    for _ in range(200):
        x = sketch.conv(x, 3, 3, 7)
    assert reach(sketch.model(sketch.conv(x, 3, 3))) == Reach(1, 601, 1)


def test_branches_of_a_constant_condition_are_followed():
    """An If that hangs on the size alone is the branch it takes."""
    sketch = Sketch()
    x = sketch.conv("image", 3, 6)
    channels = sketch.op("Gather", sketch.op("Shape", x), sketch.constant(1, np.int64))
    branches = []
    for kind in ("Relu", "GlobalAveragePool"):
        result = helper.make_empty_tensor_value_info(f"{kind}_of")
        branches.append(helper.make_graph([helper.make_node(kind, [x], [result.name])], kind, [], [result]))
    taken = sketch.op("Equal", channels, sketch.constant(6, np.int64))
    x = sketch.op("If", taken, then_branch=branches[0], else_branch=branches[1])
    assert reach(sketch.model(tail(sketch, x))) == Reach(2, 2, 1)


@pytest.mark.parametrize(
    ("pads", "message"),
    [([0] * 4, "is 476 x 956 px for 240 x 480"), ([0, 1, 0, 1], "is 476 x 960 px for")],
    ids=["both axes shrink", "one axis shrinks"],
)
def test_shrinking_networks_are_refused(pads, message):
    """A network that gives less than the whole picture is refused, with the way out."""
    sketch = Sketch()
    result = sketch.op("DepthToSpace", sketch.conv("image", 3, 12, pads=pads), blocksize=2)
    with pytest.raises(CardError, match=f"{message}.*pad its convolutions"):
        reach(sketch.model(result))


def test_graphs_without_an_image_are_refused():
    """No input of four axes, an output that no pixel reaches, an unknown name: each is a CardError in one line."""
    sketch = Sketch()
    with pytest.raises(CardError, match="image input of four axes"):
        reach(sketch.model(sketch.op("Relu", "image"), dims=(3, "y", "x")))
    model = sketched(squeezed)
    with pytest.raises(CardError, match="does not depend on 'image'"):
        reach(model, target=model.graph.initializer[0].name)
    with pytest.raises(CardError, match="there is no 'nowhere'"):
        reach(model, source="nowhere")
    with pytest.raises(CardError, match="must be a picture"):
        reach(model, target=model.graph.node[1].output[0])
