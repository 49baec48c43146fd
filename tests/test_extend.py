"""Colour under transparent pixels never shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import oracle
import pytest
import strategies as made
from hypothesis import given, settings
from hypothesis import strategies as st

from refine.chain import Chain
from refine.denoise import GuidedDenoise
from refine.plan import planned
from refine.resample import Resample
from refine.sharpen import UnsharpMask
from refine.spec import ImageSpec
from refine.upscale import Upscale

FULL = Chain((Upscale("fast-x2"), Resample(), GuidedDenoise(2.0, 4.0, 3), UnsharpMask(1.0, 0.8)))


def disc(colour, under, dtype="uint8", side=60) -> np.ndarray:
    """A disc with a soft edge, `colour` where it is seen and `under` where it is wholly transparent."""
    top = np.iinfo(dtype).max
    y, x = np.mgrid[:side, :side]
    alpha = np.clip(side / 3 - np.hypot(y - side / 2.1, x - side / 1.9), 0, 1)
    pixels = np.empty((side, side, 4), dtype)
    pixels[:, :, 3] = np.round(alpha * top)
    pixels[:, :, :3] = np.where(pixels[:, :, 3:] > 0, np.array(colour, dtype), under)
    return pixels


def over(pixels: np.ndarray, ground) -> np.ndarray:
    """What is seen of straight alpha over a ground, 0..1."""
    unit = pixels / np.iinfo(pixels.dtype).max
    return unit[:, :, :3] * unit[:, :, 3:] + np.array(ground) * (1 - unit[:, :, 3:])


@settings(made.QUICK, max_examples=12)
@given(data=st.data())
def test_transparent_colour_changes_nothing(data):
    """Whatever colour lies under alpha 0, the result is the same, bit for bit, in every pixel."""
    chain = data.draw(made.chains())
    channels = data.draw(st.sampled_from([2, 4]))
    pixels = made.picture(20, 25, channels, "uint8", data.draw(st.integers(0, 99)))
    pixels[5:15, 8:20, -1] = 0
    output = data.draw(made.outputs(20, 25, most=60))
    if output == (20, 25) and not [s for s in chain.active if not isinstance(s, Resample)]:
        return
    other = pixels.copy()
    hidden = pixels[:, :, -1] == 0
    other[hidden, :-1] = np.random.default_rng(1).integers(0, 256, (hidden.sum(), channels - 1))
    np.testing.assert_array_equal(made.restored(other, chain, output), made.restored(pixels, chain, output))


@pytest.mark.parametrize("ground", [(0, 0, 0), (1, 1, 1), (1, 0, 0)], ids=["black", "white", "red"])
@pytest.mark.parametrize("ratio", [0.3, 0.7, 2.0, 2.5])
def test_cutout_has_no_fringe(ground, ratio):
    """A disc of one colour over any ground stays between its colour and the ground's, within one 8-bit level."""
    colour, side = (40, 160, 90), round(60 * ratio)
    garbage = np.random.default_rng(0).integers(0, 256, (60, 60, 3))
    seen = over(made.restored(disc(colour, garbage), FULL, (side, side)), ground)
    for channel in range(3):
        ends = sorted((colour[channel] / 255, ground[channel]))
        assert seen[:, :, channel].min() >= ends[0] - 1 / 255
        assert seen[:, :, channel].max() <= ends[1] + 1 / 255


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("under", [0, 255], ids=["black-under", "white-under"])
def test_white_cutout_stays_white(dtype, under):
    """A white product cut out of its ground is white to its last visible pixel."""
    top = np.iinfo(dtype).max
    result = made.restored(disc((top,) * 3, under, dtype), FULL, (150, 150), tile=64, block=50)
    assert (result[result[:, :, 3] > 0][:, :3] == top).all()


def test_colour_of_a_cutout_is_near_at_16_bit():
    """Near the edge of alpha a field of one colour is that colour within 5 of 65,535 levels."""
    colour = np.array((21845, 32767, 13107))
    result = made.restored(disc(colour, 0, "uint16"), FULL, (150, 150)).astype(int)
    assert np.abs(result[result[:, :, 3] > 0][:, :3] - colour).max() <= 5


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize(
    ("output", "steps"), [((51, 44), FULL.steps), ((31, 27), FULL.steps[2:]), ((12, 9), FULL.steps[1:])]
)
def test_program_equals_oracle_with_alpha(channels, output, steps):
    """With holes in alpha, the chain is within 1e-5 of the oracle's, which extends as far by other means."""
    chain, pixels = Chain(tuple(steps)), made.smooth(31, 27, channels)
    pixels[8:20, 5:15, -1] = 0
    pixels[:9, 20:, -1] = np.linspace(0, 65535, 7).astype(np.uint16)
    plan = made.plan_for(pixels, chain, output, tile=40, block=30)
    found = made.restored_float(pixels, plan)
    expected = oracle.restored(pixels, output, made.steps_of(chain), extension_radius(plan), margin=24)
    assert np.abs(found - expected).max() <= 1e-5


def extension_radius(plan) -> int:
    """How far colour is extended: what alpha adds to the halo of the same chain without it."""
    channels = plan.source.channels - 1
    opaque = planned(plan.chain, replace(plan.source, channels=channels), plan.output)
    return plan.program.before.halo - opaque.program.before.halo


@pytest.mark.parametrize("kernel", ["lanczos3", "bicubic"])
@pytest.mark.parametrize("nets", [(), ("fast-x2",), ("fast-x4",)], ids=str)
def test_extension_covers_the_reach(kernel, nets):
    """Colour is extended at least as far as everything behind it reaches, so that none of the rest is seen."""
    for side, radius, sigma in [(345, 16, 10.0), (120, 2, 1.0)]:
        steps = (*(Upscale(net) for net in nets), Resample(kernel), GuidedDenoise(2.0, 2.0, radius), UnsharpMask(sigma))
        opaque, cutout = (
            planned(Chain(steps), ImageSpec(1000, 1000, channels, "uint8"), (side, side)) for channels in (3, 4)
        )
        extension = cutout.program.before.halo - opaque.program.before.halo
        assert opaque.axes is not None
        behind = float(opaque.axes[0].support) * opaque.axes[0].box / opaque.chain.scale
        needed = opaque.program.before.halo + behind + opaque.program.after.halo * 1000 / side
        needed /= opaque.boxes[0]  # px that the program sees
        assert extension >= needed - 1


@pytest.mark.parametrize("output", [(20, 30), (40, 60), (50, 75), (14, 21)], ids=["1", "2", "2.5", "0.7"])
@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_takes_the_resampling_only(output, channels):
    """Alpha is the resampling of the source's alpha alone, whatever networks and filters do to colour."""
    pixels = made.picture(20, 30, channels, "uint16", seed=8)
    result = made.restored(pixels, FULL, output)
    expected = oracle.restored(pixels, output, [("resampled", "lanczos3")], 16)[:, :, -1]
    assert np.abs(result[:, :, -1] / 65535 - expected).max() <= 1e-5


@pytest.mark.parametrize("ratio", made.RATIOS)
def test_alpha_does_not_ring(ratio):
    """A cut-out with a hard edge has alpha 0 and full beyond the edge itself: no halo of a few per cent."""
    pixels = np.full((60, 60, 4), 255, np.uint8)
    pixels[:, :30, 3] = 0
    side = round(60 * ratio)
    alpha = made.restored(pixels, Chain((Resample(),)), (side, side))[:, :, 3].astype(int)
    assert (np.diff(alpha, axis=1) >= 0).all()
    edge = 30 * side // 60
    assert (alpha[:, : edge - max(2, round(ratio)) - 1] == 0).all()
    assert (alpha[:, edge + max(2, round(ratio)) + 1 :] == 255).all()


def test_nothing_to_do_leaves_hidden_colour_alone():
    """A chain of nothing gives the picture back bit for bit, colour under alpha 0 included."""
    pixels = made.picture(33, 40, 4, "uint16", seed=9)
    chain = Chain((Resample(), GuidedDenoise(0, 0), UnsharpMask(amount=0)))
    np.testing.assert_array_equal(made.restored(pixels, chain, (33, 40), tile=16, block=16), pixels)


def test_faint_picture_keeps_its_colour():
    """Where all of a picture is almost transparent, its colours are still its own."""
    pixels = np.full((20, 20, 4), (200, 100, 50, 3), np.uint8)
    result = made.restored(pixels, FULL, (50, 50))
    assert np.abs(result.astype(int) - (200, 100, 50, 3)).max() <= 1
