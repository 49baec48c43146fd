from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import strategies as made
from hypothesis import given
from hypothesis import strategies as st

from refine.assess import assess
from refine.chain import Chain
from refine.errors import ChainError
from refine.match import Look, explained, look, median_look, towards
from refine.sampling import sample, samples
from refine.settings import Settings
from refine.tone import Tone
from refine.window import Window


def seen(pixels: np.ndarray) -> Look:
    """The look of these pixels."""
    found = look(list(samples(pixels, made.spec_of(pixels))))
    assert found is not None
    return found


def toned(pixels: np.ndarray, tone: Tone) -> np.ndarray:
    """The picture through the tone, which may be none."""
    return pixels if tone.is_identity else made.restored(pixels, Chain((tone,)), pixels.shape[:2])


def scene(seed: int = 0, *, white: bool = False, dtype: str = "uint8") -> np.ndarray:
    """A picture (96, 128, 3) with a coloured thing, a neutral wall and a dark floor; or on white."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:96, :128]
    pixels = np.full((96, 128, 3), 0.72) + rng.normal(0, 0.01, (96, 128, 1))
    pixels[60:] = 0.12 + 0.05 * np.sin(x[60:, :, None] / 9)
    thing = (y - 48) ** 2 + (x - 60) ** 2 < 35**2
    pixels[thing] = rng.uniform(0.2, 0.7, 3) * (0.7 + 0.3 * np.cos((x[thing, None] - 50) / 20))
    if white:
        pixels[~thing] = 1
    return np.round(np.clip(pixels, 0, 1) * np.iinfo(dtype).max).astype(dtype)


@st.composite
def looks(draw) -> Look:
    """Any look, even one that no image has."""
    level = st.integers(0, 65535)
    black, median, white = sorted(draw(st.tuples(level, level, level)))
    neutral = draw(st.none() | level)
    cast = st.integers(-5000, 5000) if neutral is not None else st.just(0)
    ends = (
        draw(st.lists(st.integers(low, low + 256), min_size=64, max_size=64).map(tuple)) if draw(st.booleans()) else ()
        for low in (-1, 0)
    )
    highest, lowest = ends
    if not (highest and lowest):
        highest = lowest = ()
    highest, lowest = tuple(min(v, 254) for v in highest), tuple(max(v, 1) for v in lowest)
    return Look(black, white, median, draw(st.integers(0, 3000)), neutral, draw(cast), draw(cast), highest, lowest)


@made.QUICK
@given(own=looks())
def test_look_survives_json(own):
    """A look goes through JSON and comes back equal."""
    assert Look.from_json(json.loads(json.dumps(own.as_json()))) == own


def test_look_is_of_the_px():
    """The numbers are those of the picture: ends and median of luma, and the cast of what is nearly neutral."""
    pixels = np.full((100, 100, 3), (210, 200, 190), np.uint8)
    pixels[:40] = (60, 60, 60)
    pixels[:2] = 0
    pixels[-2:] = 255
    found = seen(pixels)
    assert (found.black, found.white) == (0, 65535)
    assert found.median // 257 == 201
    assert (found.red_green, found.blue_green) == (10 * 257, -10 * 257)
    assert found.neutral // 257 == 201
    assert found.saturation == pytest.approx(1000 * 20 * 5800 / (201.85 * 5800 + 60 * 3800), abs=1)


def test_look_does_not_depend_on_order():
    """Neither the order of the windows nor that of the px in them changes a look."""
    pixels = made.picture(64, 96, 3, "uint8", 4)
    spec = made.spec_of(pixels)
    windows = [Window(0, x, 64, x + 32) for x in (0, 32, 64)]
    parts = [sample(pixels[window.slices], spec, window) for window in windows]
    turned = np.ascontiguousarray(pixels[::-1, ::-1])
    assert look(parts) == look(parts[::-1]) == seen(pixels) == seen(turned)


def test_hidden_px_have_no_look():
    """Px that are not opaque do not count; of an image with fewer than 256 others there is no look."""
    pixels = made.picture(64, 64, 4, "uint8", 1)
    pixels[:, :, 3] = 255
    pixels[:, :20, 3] = 40
    other = pixels.copy()
    other[:, :20, :3] = 255
    assert seen(pixels) == seen(other) == seen(np.ascontiguousarray(pixels[:, 20:, :3]))
    pixels[:, :61, 3] = 0
    assert look(list(samples(pixels, made.spec_of(pixels)))) is None


def test_grey_has_a_look():
    """A grey image has the look of the same image as R = G = B."""
    grey = made.smooth(60, 60, 1, "uint8")
    assert seen(grey) == seen(np.repeat(grey, 3, axis=2))
    assert seen(grey).saturation == 0


def test_median_look_is_of_every_number():
    """The look of a set is the lower median, number by number, and its cast that of the images that have one."""
    one = Look(0, 60000, 20000, 100, 50000, 300, -300)
    others = (replace(one, black=900, median=30000), replace(one, white=65535, neutral=None, red_green=0))
    found = median_look([one, *others])
    assert found == Look(0, 60000, 20000, 100, 50000, 300, -300)
    assert median_look([others[1]]).neutral is None


@made.QUICK
@given(own=looks(), reference=looks())
def test_nothing_is_done_for_nothing(own, reference):
    """Towards itself, or with strength 0, nothing is done."""
    assert towards(own, own, 1.0).is_identity
    assert towards(own, reference, 0.0).is_identity


@made.QUICK
@given(own=looks(), reference=looks(), strength=st.floats(0, 1))
def test_adjustments_are_bounded(own, reference, strength):
    """Whatever the looks, contrast changes by 0.8 to 1.25 times, casts by 0.05; a white point at full scale stays."""
    tone = towards(own, reference, strength)
    assert 0.8 - 1e-3 <= 1 / (tone.white - tone.black) <= 1.25 + 1e-3
    assert max(abs(tone.red_green), abs(tone.blue_green)) <= 0.05
    assert 0.8 <= tone.saturation <= 1.25
    assert tone.contrast == 1
    if own.white == 65535:
        assert tone.white == 1


@made.QUICK
@given(
    seed=st.integers(0, 50),
    white=st.booleans(),
    dtype=st.sampled_from(["uint8", "uint16"]),
    reference=looks(),
    strength=st.floats(0.2, 1),
)
def test_little_is_clipped_and_white_stays(seed, white, dtype, reference, strength):
    """No more than one px in 1000 comes to an end of 8 bits that was at none, and what is exactly white stays so."""
    pixels = scene(seed, white=white, dtype=dtype)
    result = toned(pixels, towards(seen(pixels), reference, strength))
    levels, before = (np.round(image / (np.iinfo(dtype).max / 255)) for image in (result, pixels))
    clipped = ((levels == 255) & (before < 255)) | ((levels == 0) & (before > 0))
    assert clipped.any(axis=2).mean() <= 0.001
    exact = (pixels == np.iinfo(dtype).max).all(axis=2)
    assert (result[exact] == np.iinfo(dtype).max).all()


@pytest.mark.parametrize(
    ("part", "reference"),
    [
        pytest.param((250, 245, 240), Look(0, 65535, 40000, 10), id="white-point"),
        pytest.param((252, 60, 50), Look(0, 60000, 60000, 10), id="brightness"),
        pytest.param((252, 60, 50), Look(0, 46000, 15000, 3000), id="saturation"),
        pytest.param((252, 130, 50), Look(0, 46000, 15000, 10, 40000, 3000, 0), id="cast"),
        pytest.param((3, 4, 3), Look(0, 46000, 15000, 10), id="black-point"),
        pytest.param((9, 120, 9), Look(0, 46000, 15000, 3000), id="saturation-below"),
    ],
)
def test_a_part_next_to_the_end_is_not_clipped(part, reference):
    """However much brighter, darker or more colourful the reference, a thing with a channel near an end keeps it."""
    pixels = scene()
    pixels[:, 90:] = part
    result = toned(pixels, towards(seen(pixels), reference, 1.0))
    assert ((result[:, 90:] > 0) & (result[:, 90:] < 255)).all()


def test_saturation_is_matched_behind_the_levels():
    """Levels that take off a veil bring back saturation with it, and that is not done twice."""
    pixels = scene()
    veiled = np.round(9 + pixels * 0.96).astype(np.uint8)
    wanted, before = seen(pixels), seen(veiled)
    after = seen(toned(veiled, towards(before, wanted, 1.0)))
    assert abs(after.saturation - wanted.saturation) < abs(before.saturation - wanted.saturation) / 3


DRIFTS = [
    pytest.param(lambda x: x * 0.9, id="underexposed"),
    pytest.param(lambda x: 0.02 + 0.96 * x, id="veiled"),
    pytest.param(lambda x: x**1.08, id="dark"),
    pytest.param(lambda x: x**0.93, id="light"),
    pytest.param(lambda x: x * [1.03, 1, 0.97], id="warm"),
    pytest.param(lambda x: x.mean(2, keepdims=True) * 0.08 + x * 0.92, id="pale"),
]


@pytest.mark.parametrize("drift", DRIFTS)
def test_a_drifted_picture_comes_back(drift):
    """A picture that was changed slightly comes nearer to itself, by a third of the difference at least."""
    pixels = scene()
    changed = np.round(np.clip(drift(pixels / 255), 0, 1) * 255).astype(np.uint8)
    back = toned(changed, towards(seen(changed), seen(pixels), 1.0))
    far, near = (np.abs(image.astype(float) - pixels).mean() for image in (changed, back))
    assert near < far * 2 / 3


def test_half_the_strength_is_half_the_way():
    """Strength says how far."""
    own, reference = Look(0, 52000, 20000, 100), Look(0, 57000, 22000, 105)
    half, whole = (towards(own, reference, strength) for strength in (0.5, 1.0))
    assert 1 / half.white == pytest.approx((1 + 1 / whole.white) / 2, abs=1e-3)
    assert half.saturation == pytest.approx((1 + whole.saturation) / 2, abs=1e-3)


def test_a_cast_is_taken_back_where_it_would_clip():
    """Red that has 5 levels left gets no more of a cast than that."""
    near = (*[-1] * 32, 250, *[-1] * 31)
    own = Look(0, 46000, 20000, 10, 40000, 0, 0, near, (256,) * 64)
    reference = replace(own, red_green=3000)
    free = towards(replace(own, highest=(-1,) * 64), reference, 1.0)
    assert 0 < towards(own, reference, 1.0).red_green * 0.701 < 5 / 255 < free.red_green * 0.701


def test_a_cast_of_white_is_left():
    """A tint of what is all but white is a background's rim, and stays."""
    own, reference = Look(0, 65535, 20000, 100, 64500, 400, -400), Look(0, 65535, 20000, 100, 50000)
    tone = towards(own, reference, 1.0)
    assert (tone.red_green, tone.blue_green) == (0, 0)
    assert towards(replace(own, neutral=45000), reference, 1.0).red_green < 0


@pytest.mark.parametrize("strength", [-0.1, 1.5, float("nan")])
def test_match_refuses(strength):
    """A strength outside 0..1 is refused with what came."""
    with pytest.raises(ChainError, match="strength must lie between 0 and 1, got"):
        towards(Look(0, 65535, 20000, 100), Look(0, 65535, 20000, 100), strength)


def test_what_holds_a_match_back_is_told():
    """The sentence has the medians, what comes of them, and that more would clip; strength and bounds are named."""
    pixels = np.full((100, 100, 3), (80, 70, 60), np.uint8)
    pixels[:50] = (250, 70, 4)
    own, reference = seen(pixels), seen(np.full((100, 100, 3), (150, 140, 130), np.uint8))
    told = explained(own, reference, 1.0)
    assert told.startswith(
        f"tones: tone.match 1 of the way to the reference (median {round(own.median / 257)} of 255 to 14"
    )
    assert "within bounds (contrast 0.8 to 1.25, median and saturation 10%, cast 5% of full scale)" in told
    assert "would clip colours)" in told
    assert "would clip" not in explained(own, own, 1.0)
    settings = Settings(reference=reference)
    found = assess(pixels, made.spec_of(pixels))
    assert settings.decided(made.spec_of(pixels), found).reasons[-1] == explained(found.look, reference, 0.5)
