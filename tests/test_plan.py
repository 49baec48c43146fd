from __future__ import annotations

import re
from itertools import islice, pairwise

import numpy as np
import pytest
import strategies as made
from hypothesis import given, settings
from hypothesis import strategies as st

from refine.chain import Chain
from refine.denoise import GuidedDenoise
from refine.errors import PlanError
from refine.plan import MAX_SIDE, planned
from refine.resample import Resample
from refine.sharpen import UnsharpMask
from refine.spec import ImageSpec
from refine.upscale import Upscale
from refine.window import Window

FULL = Chain((Upscale("fast-x2"), Resample(), GuidedDenoise(2.0, 4.0, 3), UnsharpMask()))


def spec(height: int, width: int, channels: int = 3) -> ImageSpec:
    """An 8-bit picture of that size."""
    return ImageSpec(height, width, channels, "uint8")


@settings(made.QUICK, max_examples=14)
@given(data=st.data())
def test_blocks_cover_the_output_once_in_one_shape(data):
    """The blocks of all tiles write each pixel once; what they read has one shape and starts on a whole period."""
    chain, (tile, block) = data.draw(made.chains()), data.draw(made.cuts())
    height, width = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 200))
    output = data.draw(made.outputs(height, width, most=300))
    plan = planned(chain, spec(height, width, data.draw(st.integers(1, 4))), output, tile=tile, block=block)
    written, shapes = np.zeros(output, int), set()
    for cell in plan.tiles():
        for piece in plan.blocks(cell):
            written[piece.write.slices] += 1
            shapes.add((piece.read.height, piece.read.width))
            assert cell.contains(piece.write)
            assert piece.read.contains(plan.source_window(piece.write))
            assert (piece.crop.height, piece.crop.width) == (piece.write.height, piece.write.width)
            assert piece.read.y0 % plan.multiple_of[0] == piece.read.x0 % plan.multiple_of[1] == 0
    assert (written == 1).all()
    assert len(shapes) == 1
    assert plan.tile_count == len(list(plan.tiles()))


PROBED = [
    pytest.param((Upscale("fast-x2"),), (96, 96), Window(40, 44, 50, 52), id="x2"),
    pytest.param((Resample(),), (67, 67), Window(30, 30, 37, 36), id="1.4"),
    pytest.param((Resample("bicubic"),), (21, 21), Window(9, 9, 12, 11), id="0.44"),
    pytest.param((Resample(),), (15, 15), Window(7, 6, 9, 8), id="0.31-through-boxes"),
    pytest.param((GuidedDenoise(3.0, 0.0, 3),), (48, 48), Window(20, 20, 26, 24), id="denoise"),
    pytest.param((UnsharpMask(1.0, 2.0, 0.0, 0.5),), (48, 48), Window(20, 20, 26, 24), id="sharpen"),
    pytest.param((Resample(), GuidedDenoise(3.0, 0.0, 2)), (67, 67), Window(30, 30, 37, 36), id="1.4-denoise"),
    pytest.param((Upscale("fast-x2"), Resample()), (67, 67), Window(30, 30, 37, 36), id="x2-resample"),
]


@pytest.mark.parametrize(("steps", "output", "window"), PROBED)
def test_source_window_is_what_is_read(steps, output, window):
    """Pixels turned over one row or column at a time: none outside the source window matters, and its ends do."""
    pixels = np.random.default_rng(0).integers(16384, 49152, (48, 48, 1)).astype(np.uint16)
    plan = made.plan_for(pixels, Chain(tuple(steps)), output)
    said = plan.source_window(window)
    rows, columns = made.brute_window(pixels, plan, window)
    assert said.y0 <= rows.y0 <= rows.y1 <= said.y1
    assert said.x0 <= columns.x0 <= columns.x1 <= said.x1
    # A network with an even scale, two roundings to whole px, and taps added to make their number even.
    slack = 2 * max(plan.multiple_of) + 1
    for missing in (rows.y0 - said.y0, said.y1 - rows.y1, columns.x0 - said.x0, said.x1 - columns.x1):
        assert missing <= slack


def test_bytes_do_not_depend_on_where_a_tile_lies():
    """A window in the middle of a picture is the same window of the same pixels as a picture's middle."""
    pixels = made.picture(90, 90, 3, seed=3)
    plan = made.plan_for(pixels, FULL, (225, 225), tile=45, block=45)
    whole = made.restored(pixels, FULL, (225, 225))
    assert len(list(plan.tiles())) == 25
    np.testing.assert_array_equal(made.restored(pixels, FULL, (225, 225), tile=45, block=45), whole)


@pytest.mark.parametrize("tile", [16, 24, 40, 100, 512, 2048])
def test_largest_tile_that_fits_is_named(tile):
    """A plan refused for memory names a tile, and that tile is accepted; or it names the memory, and that is enough."""
    source, output = spec(3000, 3000), (6000, 6000)
    smallest, largest = (planned(FULL, source, output, tile=t).projected_mem for t in (16, tile))
    for allowed in {smallest - 1, smallest, (smallest + largest) // 2, largest - 1}:
        if allowed >= largest:
            continue
        with pytest.raises(PlanError) as refused:
            planned(FULL, source, output, tile=tile, allowed_mem=allowed)
        said = str(refused.value)
        assert said.startswith(f"a task with tile {tile} needs ")
        if named := re.search(r"the largest tile that fits is (\d+)", said):
            assert planned(FULL, source, output, tile=int(named[1]), allowed_mem=allowed).projected_mem <= allowed
        else:
            megabytes = re.search(r"allow at least (\d+) MB", said)
            assert megabytes
            assert int(megabytes[1]) >= smallest // 1_000_000


def test_memory_does_not_grow_with_the_picture():
    """Beyond one tile, a larger picture needs no more memory per task."""
    small, large = (planned(FULL, spec(side, side), (2 * side, 2 * side)).projected_mem for side in (4_000, 400_000))
    assert large <= small * 1.01
    needs = [planned(FULL, spec(4000, 4000), (8000, 8000), tile=t, block=t).projected_mem for t in (256, 512, 1024)]
    assert all(less < more for less, more in pairwise(needs))


@pytest.mark.parametrize("source", [160_000, 400_000, 399_989])
def test_huge_plans_are_lazy(source):
    """A picture of 400,000 px a side is planned without its tiles being listed; they come one by one, in order."""
    plan = planned(FULL, spec(source, source), (400_000, 400_000), allowed_mem=2_000_000_000)
    assert plan.tile_count == 196**2
    tiles = plan.tiles()
    first = list(islice(tiles, 3))
    assert first == [Window(0, 2048 * i, 2048, 2048 * (i + 1)) for i in range(3)]
    last = Window(399_360, 399_360, 400_000, 400_000)
    read = list(plan.blocks(last))[-1].read
    assert abs(read.y1 - source) <= plan.halo + 600
    assert plan.source_window(last).contains(Window(source - 200, source - 200, source, source))


def test_far_corner_of_a_huge_picture_is_restored():
    """The last window of a picture too large to hold has the pixels of a small picture's corner of equal phase."""

    class Wide:
        """`tile`, repeated for ever, as an array that takes slices."""

        def __init__(self, tile, side):
            self.tile, self.shape, self.dtype = tile, (side, side, 3), tile.dtype

        def __getitem__(self, key):
            rows, columns = (np.arange(part.start, part.stop) % 64 for part in key)
            return self.tile[np.ix_(rows, columns)]

    from refine.tiles import restored_window  # noqa: PLC0415

    block = made.picture(64, 64, 3, seed=7)
    near, far = 64 * 4, 64 * 4096
    results = []
    for side in (near, far):
        plan = planned(FULL, spec(side, side), (side * 5 // 4,) * 2, tile=64, block=64)
        low = side * 5 // 4 - 64
        results.append(restored_window(Wide(block, side), plan, Window(low, low, low + 64, low + 64)))
    np.testing.assert_array_equal(results[0], results[1])


@pytest.mark.parametrize(
    ("output", "options", "said"),
    [
        pytest.param((0, 5), {}, f"a result is 1 to {MAX_SIDE} px a side, asked for 5 x 0", id="nothing"),
        pytest.param((5, MAX_SIDE + 1), {}, "check the scale or size", id="too-large"),
        pytest.param((20, 20), {"tile": 8}, "at least 16 px a side, got tile 8", id="tile"),
        pytest.param((20, 20), {"block": 0}, "and block 0", id="block"),
    ],
)
def test_plan_refuses(output, options, said):
    """Sizes and cuts that make no sense are refused with what came."""
    with pytest.raises(PlanError, match=said):
        planned(FULL, spec(10, 10), output, **options)


def test_plan_without_resampling_makes_whole_factors_only():
    """A chain without a resample step is refused for other sizes, with the sizes and the way out."""
    with pytest.raises(PlanError, match="makes 20 x 20 px of this image, not 25 x 25; add a resample step"):
        made.restored(made.picture(10, 10, 3), Chain((Upscale("fast-x2"),)), (25, 25))
