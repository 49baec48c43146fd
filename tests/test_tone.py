from __future__ import annotations

from dataclasses import fields

import numpy as np
import onnx
import pytest
import strategies as made
from hypothesis import given
from hypothesis import strategies as st

from refine.chain import Chain
from refine.errors import ChainError
from refine.plan import planned
from refine.resample import Resample
from refine.sharpen import UnsharpMask
from refine.spec import ImageSpec
from refine.tone import Tone


@st.composite
def adjustments(draw, *, cast: bool = True) -> Tone:
    """Any tone."""
    black = draw(st.floats(-0.25, 0.9))
    slight = st.floats(-0.1, 0.1) if cast else st.just(0.0)
    return Tone(
        black,
        draw(st.floats(max(0.05, black + 0.05), 1.25)),
        draw(st.floats(0.2, 5)),
        draw(st.floats(0.5, 1.5)),
        draw(st.floats(0, 4)),
        draw(slight),
        draw(slight),
    )


def toned(pixels: np.ndarray, tone: Tone) -> np.ndarray:
    """The picture through the tone alone."""
    return made.restored(pixels, Chain((tone,)), pixels.shape[:2])


def expected(rgb: np.ndarray, tone: Tone) -> np.ndarray:
    """(y, x, 3) float64 from the formula, one pixel at a time."""
    result = np.empty_like(rgb)
    for at in np.ndindex(rgb.shape[:2]):
        red, green, blue = rgb[at]
        y = 0.299 * red + 0.587 * green + 0.114 * blue
        t = min(max((y - tone.black) / (tone.white - tone.black), 0.0), 1.0)
        p = t ** (1 / tone.gamma)
        after = p + (tone.contrast - 1) * 2 * p * (1 - p) * (2 * p - 1)
        gain = tone.saturation * (after + 0.0625) / (t + 0.0625) / (tone.white - tone.black)
        # The greatest value of y (1 - y^4) is at the fourth root of a fifth.
        top = 0.2**0.25
        weight = after * (1 - after**4) / (top * (1 - 0.2))
        red_green = (red - green) * gain + tone.red_green * weight
        blue_green = (blue - green) * gain + tone.blue_green * weight
        g = after - 0.299 * red_green - 0.114 * blue_green
        result[at] = (g + red_green, g, g + blue_green)
    return np.clip(result, 0, 1)


@made.QUICK
@given(tone=adjustments(), seed=st.integers(0, 99))
def test_tone_is_its_formula(tone, seed):
    """The program gives what the formula says, to 1e-5 of full scale for each unit of gain."""
    pixels = made.picture(9, 11, 3, "uint16", seed)
    plan = made.plan_for(pixels, Chain((tone,)), (9, 11))
    if tone.is_identity:
        return
    found = made.restored_float(pixels, plan)
    # A steep gamma makes much of a rounding near black.
    np.testing.assert_allclose(found, expected(pixels / 65535, tone), atol=2e-4 * max(1, tone.gamma))


def test_moderate_tone_is_exact():
    """With usual values the program and the formula differ by less than 1e-5."""
    pixels = made.smooth(30, 30, 3)
    tone = Tone(0.05, 0.95, 1.2, 1.2, 1.3, 0.02, -0.03)
    found = made.restored_float(pixels, made.plan_for(pixels, Chain((tone,)), (30, 30)))
    np.testing.assert_allclose(found, expected(pixels / 65535, tone), atol=1e-5)


def test_grey_goes_through_the_same_curve():
    """A grey image becomes what luma of the same image as R = G = B becomes; saturation and cast mean nothing."""
    grey = made.smooth(20, 20, 1)
    tone = Tone(0.1, 0.9, 1.5, 1.3)
    colour = toned(np.repeat(grey, 3, axis=2), tone)
    np.testing.assert_array_equal(toned(grey, tone), colour[:, :, :1])
    np.testing.assert_array_equal(toned(grey, Tone(0.1, 0.9, 1.5, 1.3, 2.0, 0.1, 0.1)), colour[:, :, :1])


def test_levels_are_linear_levels_of_each_channel():
    """Black and white alone do to R, G and B what levels do everywhere, where nothing clips."""
    pixels = (made.smooth(30, 30, 3).astype(int) // 2 + 16000).astype(np.uint16)
    wanted = (pixels / 65535 - 0.2) / (0.85 - 0.2)
    np.testing.assert_allclose(toned(pixels, Tone(black=0.2, white=0.85)) / 65535, wanted, atol=1e-5)


@made.QUICK
@given(tone=adjustments(cast=False))
def test_neutral_stays_neutral(tone):
    """Without a cast, R = G = B comes back as R = G = B, bit for bit, whatever the values."""
    grey = np.linspace(0, 65535, 400).astype(np.uint16).reshape(20, 20, 1)
    if not tone.is_identity:
        result = made.restored_float(
            np.repeat(grey, 3, axis=2),
            made.plan_for(np.repeat(grey, 3, axis=2), Chain((tone,)), (20, 20)),
        )
        assert np.ptp(result, axis=2).max() == 0


@made.QUICK
@given(tone=adjustments())
def test_every_channel_rises(tone):
    """Of two neutral pixels, the lighter one is never the darker one afterwards, in any channel."""
    ramp = np.repeat(np.linspace(0, 65535, 900).astype(np.uint16).reshape(1, 900, 1), 3, axis=2)
    assert np.diff(toned(ramp, tone)[0].astype(int), axis=0).min() >= 0


@made.QUICK
@given(gamma=st.floats(0.2, 5), contrast=st.floats(0.5, 1.5), saturation=st.floats(0, 4), cast=st.floats(-0.1, 0.1))
def test_black_and_white_stay(gamma, contrast, saturation, cast):
    """Where levels say nothing, 0 stays 0 and full scale stays full scale, in every channel, even under a cast."""
    for level in (0, 65535):
        pixels = np.full((3, 3, 3), level, np.uint16)
        assert (toned(pixels, Tone(0, 1, gamma, contrast, saturation, cast, -cast)) == level).all()


def test_contrast_turns_about_mid_grey():
    """More contrast darkens the dark, lightens the light and leaves mid grey; its value is the slope there."""
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    result = toned(ramp, Tone(contrast=1.4)).ravel().astype(int)
    assert result[16384] < 16384
    assert result[49152] > 49152
    assert result[33024] - result[32512] == pytest.approx(1.4 * 512, abs=2)
    assert abs(result[32768] - 32768) <= 1


@pytest.mark.parametrize("saturation", [0.0, 0.5, 1.5])
def test_saturation_keeps_luma(saturation):
    """Colour moves about luma, which stays, where nothing clips; 0 leaves none."""
    pixels = (made.smooth(30, 30, 3).astype(int) // 4 + 24000).astype(np.uint16)
    result = toned(pixels, Tone(saturation=saturation)).astype(float)
    weights = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(result @ weights, pixels @ weights, atol=1.1)
    spread = (np.ptp(image.astype(int), axis=2).astype(float) for image in (result, pixels))
    np.testing.assert_allclose(next(spread), saturation * next(spread), atol=1.6)


def test_usual_values_are_not_in_the_graph():
    """A tone of the usual values is no step at all, and each other value is one."""
    assert Tone().is_identity
    others = {"black": 0.1, "white": 0.9}
    assert all(
        not Tone(**{field.name: others.get(field.name, 0.05 + field.default)}).is_identity for field in fields(Tone)
    )
    spec = ImageSpec(20, 20, 3, "uint8")
    base, idle = (planned(Chain(steps), spec, (30, 30)).program for steps in ((Resample(),), (Resample(), Tone())))
    assert idle.model == base.model


def test_all_tones_share_a_program():
    """Every value is a runtime input, float32 of one element."""
    spec = ImageSpec(20, 20, 3, "uint8")
    one, other = (
        planned(Chain((tone,)), spec, (20, 20)).program
        for tone in (Tone(gamma=2.0), Tone(0.1, 0.9, 1.1, 1.2, 0.0, 0.1, 0.1))
    )
    assert one.digest == other.digest
    assert Tone(gamma=2.0).structure == Tone(0.1, 0.9, 1.1, 1.2, 0.0, 0.1, 0.1).structure
    assert all(value.dtype == np.float32 and value.shape == (1,) for value in Tone().parameters().values())
    assert one.inputs >= {f"step0.{name}" for name in Tone().parameters()}
    onnx.checker.check_model(onnx.load_model_from_string(one.model), full_check=True)


@made.QUICK
@given(tone=adjustments(), cut=made.cuts(), channels=st.sampled_from([1, 2, 3, 4]), seed=st.integers(0, 99))
def test_tiles_equal_whole(tone, cut, channels, seed):
    """A tone looks at one pixel at a time: no halo, and tiles are the whole, bit for bit."""
    pixels = made.picture(45, 70, channels, "uint8", seed)
    tile, block = cut
    plan = made.plan_for(pixels, Chain((tone,)), (45, 70))
    assert (plan.halo, plan.exact) == (0, True)
    whole = made.restored(pixels, Chain((tone,)), (45, 70))
    np.testing.assert_array_equal(made.restored(pixels, Chain((tone,)), (45, 70), tile=tile, block=block), whole)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_one_pixel(channels, dtype):
    """One pixel, of any kind, is adjusted, and its alpha is left alone."""
    pixels = np.full((1, 1, channels), np.iinfo(dtype).max // 2, dtype)
    result = toned(pixels, Tone(gamma=2.0))
    colours = channels - 1 if channels in (2, 4) else channels
    assert (result[..., :colours] > pixels[..., :colours]).all()
    np.testing.assert_array_equal(result[..., colours:], pixels[..., colours:])


def test_tone_is_last():
    """A tone before sharpening is refused, with the reason."""
    Chain((UnsharpMask(), Tone(gamma=2.0)))
    with pytest.raises(ChainError, match="sharpen stands after tone, but belongs before it"):
        Chain((Tone(gamma=2.0), UnsharpMask()))


def test_curve_is_what_the_nodes_do():
    """The numbers by which values are chosen are those of the program."""
    tone = Tone(0.1, 1.1, 0.8, 1.3, 1.7, 0.05, -0.04)
    grey = np.arange(0, 65536, 97).astype(np.uint16).reshape(1, -1, 1)
    curve = tone.curve(grey.ravel() / 65535)
    plan = made.plan_for(grey, Chain((tone,)), grey.shape[:2])
    np.testing.assert_allclose(made.restored_float(grey, plan).ravel(), curve.luma, atol=1e-6)
    assert curve.weight.max() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param({"black": -0.3}, "black must lie between -0.25 and 0.95, got -0.3; 0 leaves it out", id="black"),
        pytest.param({"white": 2.0}, "white must lie between 0.05 and 1.25, got 2.0; 1 leaves it out", id="white"),
        pytest.param({"black": 0.5, "white": 0.52}, "white must lie 0.05 above black, got black 0.5", id="narrow"),
        pytest.param({"gamma": 0.0}, "gamma must lie between 0.2 and 5, got 0.0", id="gamma"),
        pytest.param({"contrast": 2.0}, "contrast must lie between 0.5 and 1.5, got 2.0", id="contrast"),
        pytest.param({"saturation": -1.0}, "saturation must lie between 0 and 4", id="saturation"),
        pytest.param({"red_green": 0.2}, "red_green must lie between -0.1 and 0.1", id="cast"),
        pytest.param({"gamma": float("nan")}, "gamma must lie between 0.2 and 5, got nan", id="nan"),
    ],
)
def test_tone_refuses(options, said):
    """A value out of range is refused with its name, the range, what came, and what leaves it out."""
    with pytest.raises(ChainError, match=said):
        Tone(**options)
