from __future__ import annotations

from fractions import Fraction
from math import ceil, floor

import numpy as np
import oracle
import pytest
import strategies as made
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from refine.chain import Chain
from refine.errors import ChainError
from refine.graph import Graph
from refine.resample import KERNELS, Axis, Resample, resampled

PILLOW = {"lanczos3": Image.Resampling.LANCZOS, "bicubic": Image.Resampling.BICUBIC}
KERNEL = st.sampled_from(sorted(KERNELS))


@made.QUICK
@given(size_in=st.integers(1, 5000), size_out=st.integers(1, 5000), kernel=KERNEL, start=st.integers(-200, 5200))
def test_axis_weights_sum_to_one(size_in, size_out, kernel, start):
    """The taps of a result share out exactly one pixel, so that a flat field stays what it is."""
    axis = Axis(size_in, size_out, kernel)
    low, high = axis.backward(start, start + 5)
    weight = axis.table(start, start + 5, low, high - low).weight.astype(np.float64)
    np.testing.assert_allclose(weight.sum(axis=0), 1, atol=1e-6)


@made.QUICK
@given(size_in=st.integers(1, 3000), size_out=st.integers(1, 3000), kernel=KERNEL, start=st.integers(-50, 3000))
def test_axis_backward_holds_every_tap(size_in, size_out, kernel, start):
    """Every input within the kernel's reach of an output, by exact fractions, is in the interval it reads."""
    axis = Axis(size_in, size_out, kernel)
    low, high = axis.backward(start, start + 1)
    centre = (start + Fraction(1, 2)) * axis.ratio / axis.box - Fraction(1, 2)
    reach = KERNELS[kernel][1] * max(Fraction(1), axis.ratio / axis.box)
    first, last = floor(centre - reach) + 1, ceil(centre + reach) - 1
    assert low <= first * axis.box
    assert (last + 1) * axis.box <= high
    assert high - low <= (ceil(2 * reach) + 1) * axis.box + axis.box


@made.QUICK
@given(size_in=st.integers(1, 900), size_out=st.integers(40, 900), kernel=KERNEL, start=st.integers(-70, 900))
def test_axis_table_does_not_depend_on_window(size_in, size_out, kernel, start):
    """A result has the same taps and the same bits of weight whatever range it is asked for in."""
    axis = Axis(size_in, size_out, kernel)
    low, high = axis.backward(start - 33, start + 77)
    wide = axis.table(start - 33, start + 77, low, high - low)
    alone = axis.table(start, start + 1, low, high - low)
    np.testing.assert_array_equal(wide.place[:, 33], alone.place[:, 0])
    np.testing.assert_array_equal(wide.weight[:, 33], alone.weight[:, 0])


AXES = [
    pytest.param(1_000_000, 999_983, 999_900, id="at-the-largest-side"),
    pytest.param(4_000_000, 999_983, 999_900, id="x4-of-the-largest-and-back"),
    pytest.param(4_000_037, 999_983, 999_900, id="with-nothing-in-common"),
    pytest.param(1_000_003, 62_501, 62_400, id="shrinking-through-boxes"),
    pytest.param(61, 3_000_000_000, 2_999_999_900, id="beyond-32-bit"),
]


@pytest.mark.parametrize(("size_in", "size_out", "start"), AXES)
def test_axis_is_exact_at_large_sizes(size_in, size_out, start):
    """At any size that a plan allows, the taps lie round the centre that exact fractions give."""
    axis = Axis(size_in, size_out)
    low, high = axis.backward(start, start + 1)
    centre = (start + Fraction(1, 2)) * axis.ratio
    assert low <= centre <= high
    assert abs(Fraction(low + high, 2) - centre) <= 2 * axis.box
    place, weight = axis.table(start, start + 1, low, high - low)
    at = (place[:, 0] + Fraction(1, 2)) * axis.box + low
    assert abs(float(sum(at * weight[:, 0].astype(float)) - centre)) <= max(0.02 * axis.ratio, 1e-5)


def stretched(plane: np.ndarray, output: tuple[int, int], kernel: str, margin: int) -> np.ndarray:
    """Pillow's resize of the mirrored plane: boxes first where the ratio says so, then its kernel."""
    padded = np.pad(plane, margin, mode="reflect")
    # One box for both sides, as the tests below choose their ratios.
    box = max(1, floor(plane.shape[0] * 2 / (output[0] * 3))) if plane.shape[0] > 2 * output[0] else 1
    if margin % box:
        raise ValueError("the boxes must start with the picture")
    small = Image.fromarray(padded.astype(np.float32), mode=None)
    small = small.reduce(box) if box > 1 else small
    corner = margin / box
    inner = (corner, corner, corner + plane.shape[1] / box, corner + plane.shape[0] / box)
    return np.asarray(small.resize(output[::-1], PILLOW[kernel], box=inner))


@pytest.mark.parametrize("kernel", sorted(KERNELS))
@pytest.mark.parametrize(
    ("shape", "output"),
    [
        pytest.param((40, 30), (100, 75), id="2.5"),
        pytest.param((40, 30), (80, 60), id="2"),
        pytest.param((40, 30), (160, 120), id="4"),
        pytest.param((37, 41), (51, 56), id="odd"),
        pytest.param((40, 30), (28, 21), id="0.7"),
        pytest.param((64, 96), (16, 24), id="0.25-through-boxes"),
        pytest.param((120, 180), (12, 18), id="0.1-through-boxes"),
        pytest.param((40, 30), (20, 60), id="down-and-up"),
        pytest.param((1, 9), (3, 14), id="one-row"),
    ],
)
def test_resample_equals_pillow(shape, output, kernel):
    """Antialiased or not, the result is Pillow's on the mirrored picture, within 1e-5."""
    pixels = np.random.default_rng(1).integers(16384, 49152, (*shape, 1)).astype(np.uint16)
    found = made.restored_float(pixels, made.plan_for(pixels, Chain((Resample(kernel),)), output, tile=32, block=32))
    expected = np.clip(stretched(pixels[:, :, 0] / 65535, output, kernel, margin=60), 0, 1)
    assert np.abs(found[:, :, 0] - expected).max() <= 1e-5


@pytest.mark.parametrize(("shape", "output"), [((20, 30), (50, 75)), ((20, 30), (14, 21)), ((64, 64), (16, 16))])
def test_oracle_equals_pillow(shape, output):
    """The oracle's direct loop, which serves all other tests, is Pillow's resize."""
    plane = np.random.default_rng(2).random(shape) / 2 + 0.25
    sheet = oracle.resampled(oracle.Sheet.of(plane[:, :, None], 60), output, "lanczos3", 0)
    assert np.abs(sheet.picture[:, :, 0] - stretched(plane, output, "lanczos3", 60)).max() <= 1e-5


@pytest.mark.parametrize("ratio", made.RATIOS)
@pytest.mark.parametrize("kernel", sorted(KERNELS))
def test_resample_keeps_flat_fields(ratio, kernel):
    """One colour stays that colour to the last bit, at 16 bit, at any ratio."""
    for level in (1, 257, 21845, 32768, 54321, 65534, 65535):
        pixels = np.full((23, 31, 1), level, np.uint16)
        output = max(1, round(23 * ratio)), max(1, round(31 * ratio))
        assert np.unique(made.restored(pixels, Chain((Resample(kernel),)), output)).tolist() == [level]


def test_resample_writes_no_nodes_for_the_same_size():
    """A picture that has its exact size already goes through untouched, and no node is there to touch it."""
    pixels = made.picture(20, 30, 4)
    plan = made.plan_for(pixels, Chain((Resample(),)), (20, 30))
    assert plan.axes is None
    np.testing.assert_array_equal(made.restored(pixels, Chain((Resample(),)), (20, 30)), pixels)


def test_resample_adds_in_a_fixed_order():
    """The sum over taps is a row of additions: no matrix product, no convolution, whose blocking could move."""
    graph = Graph()
    image = graph.input("image", "float32", [1, 1, "y", "x"])
    graph.model({"out": (resampled(graph, image, "r", ((6, 1), (8, 1))), "float32", [1, 1, "a", "b"])})
    kinds = [node.op_type for node in graph._nodes]
    assert not {"MatMul", "Gemm", "Conv", "Einsum", "ReduceSum"} & set(kinds)
    assert kinds.count("Add") == 5 + 7


@pytest.mark.parametrize(
    ("made_wrong", "said"),
    [
        pytest.param(lambda: Resample("sinc"), "unknown kernel 'sinc'; use one of lanczos3, bicubic", id="kernel"),
        pytest.param(lambda: Axis(5, 0), "at least 1 px, got 5 -> 0", id="size"),
    ],
)
def test_resample_refuses(made_wrong, said):
    """What cannot be resampled is refused with what came and what can be used."""
    with pytest.raises(ChainError, match=said):
        made_wrong()
