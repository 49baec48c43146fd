"""Results much smaller than their source: within the memory allowed, and equal to the plain definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import oracle
import pytest
import strategies as made

from refine.chain import Chain
from refine.denoise import GuidedDenoise
from refine.errors import PlanError
from refine.finish import finish
from refine.plan import planned
from refine.preset import load_preset
from refine.repair import Repair
from refine.resample import Resample
from refine.settings import Settings, Size
from refine.sharpen import UnsharpMask
from refine.spec import ImageSpec
from refine.tiles import read_window, restored_pixels
from refine.window import Window

ALLOWED = 1_500_000_000
SMALL = Chain((Resample(), UnsharpMask(1.0, 0.8)))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("side", [500, 100, 50, 10, 1])
@pytest.mark.parametrize("preset", ["balanced", "print", "product"])
def test_any_smaller_size_fits_the_memory_allowed(preset, side, channels):
    """A photograph of 12 Mpx, and one of 200, become any smaller size by the settings as they are."""
    settings = Settings(load_preset(preset, {"finish.medium": "matte"}), Size(long_side=side))
    for height, width in ((3000, 4000), (14_000, 14_000)):
        plan = settings.plan(ImageSpec(height, width, channels, "uint8"))
        assert max(plan.output) == side
        assert plan.projected_mem < ALLOWED


@pytest.mark.parametrize("output", [(30, 4000), (3000, 40), (1, 4000), (3000, 4)])
def test_one_side_alone_fits_the_memory_allowed(output):
    """The sides have boxes of their own, and no common multiple of them is read."""
    plan = Settings(size=Size(exact=output)).plan(ImageSpec(3000, 4000, 3, "uint8"))
    assert plan.projected_mem < ALLOWED


@pytest.mark.parametrize("side", [500, 100])
def test_cleaning_by_hand_fits_the_memory_allowed(side):
    """Where a network has to see the source before it is made smaller, blocks are smaller too."""
    settings = Settings(load_preset("balanced", {"repair.noise": "2"}), Size(long_side=side))
    plan = settings.plan(ImageSpec(3000, 4000, 3, "uint8"))
    assert plan.projected_mem < ALLOWED
    assert plan == settings.plan(ImageSpec(3000, 4000, 3, "uint8"))


def test_what_no_block_makes_is_refused_in_words():
    """Sizes that only the whole source at once could give are refused, in units that can be read, with a way out."""
    settings = Settings(load_preset("balanced", {"repair.noise": "2"}), Size(long_side=1))
    with pytest.raises(PlanError, match=r"a task with tile 1 needs [\d.]+ GB, more than the 1500 MB .*--denoise"):
        settings.plan(ImageSpec(3000, 4000, 3, "uint8"))


@pytest.mark.parametrize("output", [(25, 20), (5, 4), (2, 3), (1, 1), (3, 53), (70, 1)])
@pytest.mark.parametrize(("channels", "dtype"), [(1, "uint16"), (3, "uint8")])
def test_smaller_equals_oracle(output, channels, dtype):
    """Before rounding, tiled, it is within 1e-5 of the oracle's whole picture."""
    pixels = made.picture(67, 53, channels, dtype, seed=7)
    plan = replace(made.plan_for(pixels, SMALL, output, tile=16), block=7)
    expected = oracle.restored(pixels, output, made.steps_of(SMALL), margin=6)
    assert np.abs(made.restored_float(pixels, plan) - expected).max() <= 1e-5


@pytest.mark.parametrize(("channels", "cleaned"), [(1, False), (2, False), (3, False), (4, False), (3, True)])
def test_smaller_is_the_same_however_it_is_cut(channels, cleaned):
    """Tiles, blocks and strips change no byte, output sharpening included."""
    first = (Repair("clean-x1", 3.0, 80.0),) if cleaned else ()
    chain = Chain((*first, Resample(), GuidedDenoise(2.0, 4.0, 1), UnsharpMask(), finish("matte", 300, 300, 0.0)))
    pixels = made.picture(120, 150, channels, "uint8", seed=9)
    whole = made.restored(pixels, chain, (21, 27))
    for tile, block in ((16, 16), (40, 5)):
        plan = replace(made.plan_for(pixels, chain, (21, 27), tile=tile), block=block)
        np.testing.assert_array_equal(restored_pixels(pixels, plan), whole)


def test_strips_change_no_byte(monkeypatch):
    """Read in strips of a few px, boxes have the same means."""
    pixels = made.picture(170, 230, 4, "uint16", seed=9)
    plan = made.plan_for(pixels, SMALL, (9, 12))
    window = plan.source_window(Window(0, 0, 9, 12))
    whole = read_window(pixels, plan, window)
    for strip in (1, 300, 5000):
        monkeypatch.setattr("refine.boxes.STRIP_PX", strip)
        np.testing.assert_array_equal(read_window(pixels, plan, window), whole)


@pytest.mark.parametrize("level", [1, 77, 200, 254, 255])
@pytest.mark.parametrize("output", [(1, 1), (7, 9), (100, 133)])
def test_flat_stays_flat_when_made_smaller(level, output):
    """However many pixels are averaged, one level stays that level."""
    pixels = np.full((600, 800, 3), level, np.uint8)
    assert (made.restored(pixels, SMALL, output) == level).all()


def test_hidden_colour_is_in_no_mean():
    """A box half of which is transparent has the colour of the other half."""
    pixels = np.zeros((120, 120, 4), np.uint8)
    pixels[:, :, :3] = np.random.default_rng(0).integers(0, 256, (120, 120, 3))
    pixels[:, 35:] = (40, 160, 90, 255)
    result = made.restored(pixels, SMALL, (12, 12))
    assert np.abs(result[result[:, :, 3] > 0][:, :3].astype(int) - (40, 160, 90)).max() <= 1


def test_memory_follows_the_result():
    """A plan that averages boxes first needs no more for a source of ten times the side."""
    small, large = (
        planned(SMALL, ImageSpec(side, side, 3, "uint8"), (200, 200)).projected_mem for side in (2_000, 20_000)
    )
    assert large < small + 100_000_000


def test_converted_colours_are_averaged_after_their_conversion():
    """What the program sees of an encoding that is converted is averaged, not the numbers of the file."""
    import imagecodecs  # noqa: PLC0415

    icc = bytes(imagecodecs.cms_profile("rgb", gamma=1.0))
    spec = ImageSpec(90, 90, 3, "uint16", icc=icc)
    pixels = np.zeros((90, 90, 3), np.uint16)
    pixels[::2] = 65535
    plan = planned(Chain((Resample(),)), spec, (9, 9))
    seen = read_window(pixels, plan, plan.source_window(Window(0, 0, 9, 9)))
    assert np.abs(seen - 0.5).max() < 1e-6
    assert restored_pixels(pixels, plan).dtype == np.uint16
