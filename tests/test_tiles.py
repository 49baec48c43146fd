from __future__ import annotations

import numpy as np
import pytest
import strategies as made

import refine
from refine.chain import Chain
from refine.errors import PlanError, PresetError, RefineError
from refine.preset import load_preset
from refine.resample import Resample
from refine.sharpen import UnsharpMask
from refine.tiles import restore_tile, restored_pixels
from refine.upscale import Upscale

CHAIN = Chain((Upscale("fast-x2"), Resample(), UnsharpMask()))


def test_tile_writes_its_own_pixels_only():
    """Only target[tile] changes, whichever tile it is."""
    pixels = made.picture(40, 40, 3, seed=1)
    plan = made.plan_for(pixels, CHAIN, (100, 90), tile=40, block=30)
    for tile in plan.tiles():
        target = np.full((100, 90, 3), 77, np.uint8)
        receipt = restore_tile(pixels, target, plan, tile)
        outside = np.ones((100, 90), bool)
        outside[tile.slices] = False
        assert receipt.write == tile
        assert (target[outside] == 77).all()


def test_tiles_may_run_in_any_order():
    """Last to first is first to last."""
    pixels = made.picture(40, 40, 4, seed=2)
    plan = made.plan_for(pixels, CHAIN, (100, 90), tile=40, block=30)
    target = np.zeros((100, 90, 4), np.uint8)
    for tile in reversed(list(plan.tiles())):
        restore_tile(pixels, target, plan, tile)
    np.testing.assert_array_equal(target, restored_pixels(pixels, plan))


def test_source_is_not_changed():
    """The source's pixels are read only."""
    pixels = made.picture(30, 30, 4, seed=3)
    pixels.setflags(write=False)
    before = pixels.copy()
    made.restored(pixels, CHAIN, (75, 75))
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize("source", ["uint8", "uint16"])
@pytest.mark.parametrize("target", ["uint8", "uint16"])
def test_nothing_to_do_keeps_levels(source, target):
    """Depth alone: the same depth is the same pixels; 8 bit to 16 and back is the same; 16 to 8 rounds."""
    pixels = made.picture(33, 20, 3, source, seed=4)
    result = made.restored(pixels, Chain(()), (33, 20), dtype=target, tile=16, block=16)
    top_in, top_out = np.iinfo(source).max, np.iinfo(target).max
    assert np.abs(result - pixels * (top_out / top_in)).max() <= (0 if top_out >= top_in else 0.5)
    assert result.dtype == target


def test_order_of_memory_does_not_matter():
    """Pixels turned, cut or reversed in memory are the same picture."""
    pixels = made.picture(30, 40, 3, seed=5)
    views = [np.asfortranarray(pixels), np.repeat(pixels, 2, axis=1)[:, ::2], pixels[::-1].copy()[::-1]]
    for view in views:
        np.testing.assert_array_equal(made.restored(view, CHAIN, (60, 80)), made.restored(pixels, CHAIN, (60, 80)))


@pytest.mark.parametrize("shape", [(11, 13), (11, 13, 1), (11, 13, 2), (11, 13, 3), (11, 13, 4), (1, 1), (1, 1, 4)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_restore_gives_back_what_it_got(shape, dtype):
    """Depth and channels of an array are kept, a plane stays a plane, and the size is exact."""
    array = made.picture(*shape[:2], shape[2] if len(shape) > 2 else 1, dtype).reshape(shape)
    result = refine.restore(array, scale=2.5)
    expected = [int(side * 2.5 + 0.5) for side in shape[:2]]
    assert result.shape == (*expected, *shape[2:])
    assert result.dtype == dtype


def test_restore_takes_one_size_of_three():
    """A scale, a long side or a height and width; two of them are refused."""
    array = made.picture(20, 30, 3)
    assert refine.restore(array, long_side=60).shape == (40, 60, 3)
    assert refine.restore(array, size=(17, 64)).shape == (17, 64, 3)
    assert refine.restore(array, scale=0.7).shape == (14, 21, 3)
    with pytest.raises(PlanError, match="give one of them"):
        refine.restore(array, scale=2, long_side=60)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"scale": float("nan")}, id="scale-nan"),
        pytest.param({"scale": float("inf")}, id="scale-infinite"),
        pytest.param({"scale": 0}, id="scale-zero"),
        pytest.param({"scale": -2.0}, id="scale-negative"),
        pytest.param({"scale": 17}, id="scale-beyond-16"),
        pytest.param({"size": (0, 10)}, id="no-height"),
        pytest.param({"long_side": -1}, id="long-side-negative"),
        pytest.param({"preset": "nonesuch"}, id="preset"),
        pytest.param({"settings": {"sharpen.amuont": "1"}}, id="setting"),
    ],
)
def test_restore_raises_its_own_errors(options):
    """Whatever is wrong with a wish is said in one of refine's own errors."""
    with pytest.raises(RefineError):
        refine.restore(made.picture(10, 10, 3), **options)


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(np.zeros((4, 4), np.float32), id="float"),
        pytest.param(np.zeros((4, 4, 5), np.uint8), id="five-channels"),
        pytest.param(np.zeros((0, 4, 3), np.uint8), id="no-rows"),
        pytest.param(np.zeros((2, 4, 4, 3), np.uint8), id="four-axes"),
        pytest.param(np.zeros(4, np.uint8), id="one-axis"),
        pytest.param(np.zeros((4, 4, 3), np.int8), id="signed"),
    ],
)
def test_restore_refuses_other_arrays(array):
    """What is not an image array is refused, with its shape and type."""
    with pytest.raises(RefineError, match="an image array"):
        refine.restore(array)


def test_restore_does_not_drop_settings_silently():
    """Settings go over a preset that is given as an object, or are refused: they are never just ignored."""
    array, preset = made.picture(20, 20, 3, seed=6), load_preset("balanced")
    settings = {"sharpen.amount": "0.0", "sharpen.threshold": "0.0"}
    plain = refine.restore(array, preset="balanced", settings=settings)
    try:
        both = refine.restore(array, preset=preset, settings=settings)
    except PresetError:
        return
    np.testing.assert_array_equal(both, plain)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        ([[1, 2], [3, 4]], "numpy array, got list"),
        (np.zeros((4, 4), bool), "convert a mask with"),
        (np.zeros((4, 4), np.float32), "convert floats"),
    ],
    ids=["list", "bool", "float"],
)
def test_what_is_no_image_is_refused_in_its_own_words(array, said):
    """Lists, masks and floats are refused with what makes an image of just that."""
    with pytest.raises(refine.RefineError, match=said):
        refine.restore(array)


def test_the_package_shows_what_it_promises():
    """`dir` lists the names that are meant for use, and no modules."""
    assert sorted(dir(refine)) == ["RefineError", "__version__", "restore"]
