"""Repair: told how bad a picture is, exact under tiling, and careful of what is not damage."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
import strategies as made
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from refine.chain import Chain
from refine.denoise import GuidedDenoise
from refine.errors import CardError, ChainError
from refine.network import FLAT_RADIUS
from refine.repair import Repair
from refine.resample import Resample
from refine.sharpen import UnsharpMask
from refine.upscale import Upscale

NET = "clean-x1"
REACH = 16
STRONG = Repair(NET, 12.0, 60.0)
FULL = (STRONG, Upscale("fast-x2"), Resample(), GuidedDenoise(2.0, 4.0, 3), UnsharpMask(1.0, 0.8))


def expected(pixels: np.ndarray, step: Repair) -> np.ndarray:
    """The network on the whole mirrored picture and its guarantees, in numpy and scipy: (y, x, c), 0..1."""
    margin = 40
    whole = np.pad(pixels / np.iinfo(pixels.dtype).max, [(margin, margin + s % 2) for s in pixels.shape[:2]] + [(0, 0)],
                   mode="reflect")  # fmt: skip
    rgb = np.repeat(whole, 3, axis=2) if pixels.shape[2] == 1 else whole
    told = np.array([step.noise / 50, 1 - step.quality / 100], np.float32).reshape(1, 2, 1, 1)
    fed = {"image": np.ascontiguousarray(rgb.astype(np.float32).transpose(2, 0, 1)[None]), "strength": told}
    clean = np.clip(oracle.network(step.net).run(None, fed)[0][0].transpose(1, 2, 0), 0, 1).astype(np.float64)
    side = 2 * FLAT_RADIUS + 1
    spread = ndimage.maximum_filter(rgb, (side, side, 1)) - ndimage.minimum_filter(rgb, (side, side, 1))
    coloured = ndimage.maximum_filter(np.ptp(rgb, axis=2), 2 * REACH + 1)[:, :, None] > 0
    clean = np.where(coloured, clean, (clean @ oracle.LUMA)[:, :, None])
    clean = np.where(spread.max(axis=2, keepdims=True) == 0, rgb, clean)
    height, width, channels = pixels.shape
    return clean[margin : margin + height, margin : margin + width, :channels]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(47, 38), (1, 1), (3, 60)], ids=str)
def test_repair_equals_oracle(size, channels, dtype):
    """Cut into blocks, a repaired picture is within 1e-5 of the network's whole one with its guarantees."""
    pixels = made.picture(*size, channels, dtype, seed=21)
    plan = made.plan_for(pixels, Chain((STRONG,)), size, tile=32, block=17)
    assert np.abs(made.restored_float(pixels, plan) - expected(pixels, STRONG)).max() <= 1e-5


def test_colour_is_kept_as_far_as_it_reaches():
    """Beside colour, only what lies farther than the reach becomes luma: as the oracle has it, px for px."""
    pixels = np.repeat(made.picture(40, 90, 1, "uint16", seed=12), 3, axis=2)
    pixels[:, :30] = np.random.default_rng(13).integers(0, 65536, (40, 30, 3))
    plan = made.plan_for(pixels, Chain((STRONG,)), (40, 90))
    result = made.restored_float(pixels, plan)
    assert np.abs(result - expected(pixels, STRONG)).max() <= 1e-5
    assert np.ptp(result[:, 30 + REACH :], axis=2).max() == 0
    assert np.ptp(result[:, 30 : 30 + REACH], axis=(0, 2)).all()


@settings(made.QUICK, max_examples=12)
@given(data=st.data())
def test_repaired_tiles_equal_whole(data):
    """Repair in front of any chain, at odd sizes and cuts, gives the bytes of the whole picture."""
    behind, (tile, block) = data.draw(made.chains()), data.draw(made.cuts())
    repair = Repair(NET, data.draw(st.sampled_from([0.0, 3.0, 50.0])), data.draw(st.sampled_from([1.0, 75.0, 99.5])))
    chain = Chain((repair, *behind.steps))
    height, width = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 70))
    output = data.draw(made.outputs(height, width, most=min(240, 4 * block)))
    pixels = made.picture(height, width, data.draw(st.integers(1, 4)), data.draw(st.sampled_from(["uint8", "uint16"])))
    whole = made.restored(pixels, chain, output)
    np.testing.assert_array_equal(made.restored(pixels, chain, output, tile=tile, block=block), whole)


def test_repair_needs_its_halo_and_its_period():
    """Windows start on even pixels; one period less halo changes at least one value."""
    pixels = made.picture(91, 83, 3, "uint16", seed=4)
    chain = Chain((STRONG, Upscale("fast-x2")))
    whole = made.restored_float(pixels, made.plan_for(pixels, chain, (182, 166)))
    plan = made.plan_for(pixels, chain, (182, 166), tile=50, block=50)
    assert plan.multiple_of == (2, 2)
    assert plan.program.before.halo == REACH + 12
    np.testing.assert_array_equal(made.restored_float(pixels, plan), whole)
    assert (made.restored_float(pixels, made.with_halo(plan, before=-2)) != whole).any()


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_neutral_stays_neutral_when_repaired(dtype):
    """A picture with R = G = B comes out with R = G = B, and as one channel it comes out the same within a level."""
    grey = made.picture(44, 37, 1, dtype, seed=22)
    three = made.restored(np.repeat(grey, 3, axis=2), Chain(FULL), (110, 93), tile=64, block=40)
    assert np.count_nonzero(three != three[:, :, :1]) == 0
    one, three = (made.restored(pixels, Chain((STRONG,)), (44, 37)) for pixels in (grey, np.repeat(grey, 3, axis=2)))
    assert np.abs(one.astype(int) - three[:, :, :1]).max() <= 1


@pytest.mark.parametrize("strength", [(50.0, 100.0), (0.0, 5.0), (12.0, 60.0)], ids=str)
def test_flat_ground_stays_when_repaired(strength):
    """White, black and any flat colour beside damage are what they were, FLAT_RADIUS px away, at any strength."""
    rng = np.random.default_rng(23)
    for colour in ((255, 255, 255), (0, 0, 0), (200, 31, 90)):
        pixels = np.empty((40, 50, 3), np.uint8)
        pixels[:] = colour
        pixels[:, :20] = rng.integers(0, 256, (40, 20, 3))
        result = made.restored(pixels, Chain((Repair(NET, *strength),)), (40, 50))
        assert (result[:, 20 + FLAT_RADIUS :] == colour).all()
        assert (result[:, :20] != pixels[:, :20]).any()


def test_alpha_is_not_repaired():
    """Alpha comes back byte for byte, and colour that nobody sees changes nothing that is seen."""
    pixels = made.picture(40, 41, 4, seed=24)
    pixels[:, :16, 3] = 0
    hidden = pixels.copy()
    hidden[:, :16, :3] = 255 - hidden[:, :16, :3]
    one, other = (made.restored(each, Chain((STRONG,)), (40, 41), tile=24, block=24) for each in (pixels, hidden))
    np.testing.assert_array_equal(one[:, :, 3], pixels[:, :, 3])
    np.testing.assert_array_equal(one[:, 16:], other[:, 16:])


@pytest.mark.parametrize("step", [Repair(NET), Repair(""), Repair("", 20.0, 40.0)], ids=["clean", "none", "no-net"])
def test_repair_of_nothing_is_not_compiled(step):
    """Without damage, or without a network, the step is not in the graph."""
    assert step.is_identity
    assert Chain((step, Upscale("fast-x2"))).structure == Chain((Upscale("fast-x2"),)).structure


def test_one_program_serves_every_strength():
    """Strengths are inputs of the program: another one gives another picture from the same bytes of program."""
    pixels = made.smooth(32, 32, 3, "uint8", seed=25)
    mild, hard = (made.plan_for(pixels, Chain((Repair(NET, noise, 90.0),)), (32, 32)) for noise in (2.0, 30.0))
    assert mild.program is hard.program
    assert (made.restored_float(pixels, mild) != made.restored_float(pixels, hard)).any()


def test_repair_takes_noise_out():
    """Noise of the stated sigma on soft waves falls to under half; with strength zero the picture is left alone."""
    y, x = np.mgrid[:96, :96] / 96
    waves = np.stack([0.5 + 0.3 * np.sin(5 * y + i) * np.cos(4 * x) for i in range(3)], axis=2)
    noisy = np.rint(np.clip(waves * 255 + np.random.default_rng(26).normal(0, 15, waves.shape), 0, 255)).astype("uint8")
    plan = made.plan_for(noisy, Chain((Repair(NET, 15.0),)), (96, 96))
    left = (made.restored_float(noisy, plan) - waves)[8:-8, 8:-8].std() * 255
    assert left < 7.5
    np.testing.assert_array_equal(made.restored(noisy, Chain((Repair(NET),)), (96, 96)), noisy)


@pytest.mark.parametrize(("noise", "quality"), [(-1, 90), (51, 90), (float("nan"), 90), (5, 0), (5, 101)], ids=str)
def test_strength_outside_its_range_is_refused(noise, quality):
    """A sigma beyond what networks learnt, or a quality no JPEG has, is refused with the range."""
    with pytest.raises(ChainError, match=r"repair: (noise is a sigma .* 0 and 50|quality .* 1 and 100), got"):
        Repair(NET, noise, quality)


def test_networks_of_the_other_kind_are_refused():
    """A network that enlarges does not repair, nor the other way round: the error names those that do."""
    with pytest.raises(CardError, match="'fast-x2' is a network to enlarge, asked for one to repair; there are clean"):
        Repair("fast-x2", 5.0).structure  # noqa: B018
    with pytest.raises(CardError, match="'clean-x1' is a network to repair, asked for one to enlarge; there are fast"):
        Chain((Upscale(NET),)).scale  # noqa: B018
