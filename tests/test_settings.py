from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import QUICK

from refine.assessment import Assessment, Estimate
from refine.chain import Chain
from refine.denoise import GuidedDenoise
from refine.errors import CardError, ChainError, PlanError
from refine.preset import (
    DecideSettings,
    DenoiseSettings,
    PlanSettings,
    Preset,
    RepairSettings,
    SharpenSettings,
    UpscaleSettings,
    load_preset,
)
from refine.repair import Repair
from refine.resample import Resample
from refine.settings import FAMILIES, LAST_STRETCH, MAX_NETWORK_SCALE, MAX_SCALE, Settings, Size, chain_for, networks
from refine.sharpen import UnsharpMask
from refine.spec import ImageSpec
from refine.upscale import Upscale

SPEC = ImageSpec(100, 200, 3, "uint8")
DECIDED = Preset(repair=RepairSettings(noise=4.0, quality=80.0), sharpen=SharpenSettings(1.0, 0.5, 0.01, 0.03))
"""A preset as `decide` leaves it."""


@QUICK
@given(height=st.integers(1, 20000), width=st.integers(1, 20000), scale=st.fractions("1/50", 16))
def test_scaled_size_is_nearest(height, width, scale):
    """Each side is the exact product, rounded, and at least 1 px."""
    for side, made in zip((height, width), Size(scale).of(ImageSpec(height, width, 3, "uint8")), strict=True):
        assert made == 1 or abs(made - side * scale) <= Fraction(1, 2)


@QUICK
@given(height=st.integers(1, 20000), width=st.integers(1, 20000), side=st.integers(1, 20000))
def test_long_side_is_exact(height, width, side):
    """The longer side is as wished to the pixel; the other follows."""
    made = Size(long_side=side).of(ImageSpec(height, width, 3, "uint8"))
    assert max(made) == side
    assert (made[0] >= made[1]) == (height >= width) or made[0] == made[1]


@QUICK
@given(enlargement=st.fractions("1/10", 16), family=st.sampled_from(list(FAMILIES.values())))
def test_networks_enlarge_enough(enlargement, family):
    """The networks reach the enlargement but for the last stretch, and not 4 times it; below 1 there is none."""
    nets = networks(enlargement, family)
    assert all(net.startswith(f"{family}-x") for net in nets)
    scale = Chain(tuple(Upscale(net) for net in nets)).scale
    assert scale * LAST_STRETCH >= enlargement or enlargement <= 1
    assert (nets == ()) == (enlargement <= 1)
    assert scale <= 4 * max(enlargement, 1)


def test_family_is_asked_for_by_its_word():
    """The same rule with other networks."""
    better = Settings(Preset(upscale=UpscaleSettings("standard")), Size(Fraction(4)))
    assert [step.net for step in better.plan(SPEC).chain.active if isinstance(step, Upscale)] == ["standard-x4"]


def test_no_wish_keeps_the_size():
    """Without a size the picture keeps its own, and no network runs."""
    plan = Settings().plan(SPEC)
    assert plan.output == (100, 200)
    assert plan.chain.scale == 1


@pytest.mark.parametrize(
    "wish",
    [
        pytest.param({"scale": Fraction(0)}, id="zero"),
        pytest.param({"scale": Fraction(-1)}, id="negative"),
        pytest.param({"long_side": 0}, id="no-side"),
        pytest.param({"exact": (5, 0)}, id="no-width"),
        pytest.param({"scale": Fraction(2), "long_side": 9}, id="two-wishes"),
    ],
)
def test_size_refuses(wish):
    """Sizes that are not positive, and two wishes at once, are refused."""
    with pytest.raises(PlanError):
        Size(**wish)


def test_enlargement_has_a_limit():
    """Beyond MAX_SCALE a plan is refused with both sizes; at it, it is made."""
    meant = Preset(decide=DecideSettings(too_weak="flag"))
    assert Settings(meant, Size(Fraction(MAX_SCALE))).plan(SPEC).output == (6400, 12800)
    with pytest.raises(PlanError, match=r"up to 64 times, asked for 65\.0 times .*start from a larger source"):
        Settings(meant, Size(Fraction(65))).plan(SPEC)


def test_networks_end_where_they_would_enlarge_their_own_work():
    """Beyond MAX_NETWORK_SCALE the exact resampling makes the rest."""
    meant = Preset(decide=DecideSettings(too_weak="flag"))
    plan = Settings(meant, Size(Fraction(40))).plan(SPEC)
    assert plan.chain.scale == MAX_NETWORK_SCALE
    assert plan.axes is not None


def test_too_weak_is_refused_by_its_size():
    """What no detail could fill is refused before anything is read, with the honest size and the way to mean it."""
    weak = Settings(size=Size(Fraction(12)))
    said = r"too weak for this size: .* up to 1600 x 800 px would be honest; .*--set decide.too_weak=flag"
    with pytest.raises(PlanError, match=said):
        weak.plan(SPEC)
    flagged = Settings(Preset(decide=DecideSettings(too_weak="flag")), weak.size)
    assert flagged.decided(SPEC, None).action == "too-weak"
    assert flagged.plan(SPEC).output == (1200, 2400)


def test_plan_follows_what_was_measured():
    """A plan holds the steps that the image needs, and those of any image where it was not assessed."""
    soft = Assessment(100, 200, blur_sigma=Estimate(1.0), noise_luma=Estimate(0.0), jpeg_quality=Estimate(100.0))
    noisy = replace(soft, blur_sigma=Estimate(0.5), noise_luma=Estimate(5.0))
    doubled = Settings(size=Size(Fraction(2)))

    def kinds(found: Assessment | None) -> list[type]:
        return [type(step) for step in doubled.plan(SPEC, found).chain.active]

    assert kinds(soft) == [Upscale, Resample, UnsharpMask]
    assert kinds(noisy) == [Repair, Upscale, Resample]
    assert kinds(None) == [Repair, Upscale, Resample, UnsharpMask]


def test_chain_follows_the_preset():
    """Cleaning, networks by the enlargement, then resampling, denoising with a radius that grows, sharpening."""
    preset = replace(DECIDED, denoise=DenoiseSettings(2.0, 3.0))
    chain = chain_for(preset, SPEC, (250, 500))
    assert [type(step) for step in chain.active] == [Repair, Upscale, Resample, GuidedDenoise, UnsharpMask]
    assert chain.active[0] == Repair("clean-x1", 4.0, 80.0)
    assert chain.active[1] == Upscale("fast-x2")
    assert chain.active[3].radius == 5
    assert chain.active[4] == UnsharpMask(1.0, 0.5, 0.01, 0.03)


def test_chain_in_a_meant_order():
    """`as-written` with other steps does them in that order; without it, they are refused."""
    steps = ("sharpen", "upscale", "resample")
    chain = chain_for(replace(DECIDED, order="as-written", steps=steps), SPEC, (200, 400))
    assert [type(step) for step in chain.active] == [UnsharpMask, Upscale, Resample]
    with pytest.raises(ChainError, match="as-written"):
        chain_for(replace(DECIDED, steps=steps), SPEC, (200, 400))


def test_unknown_steps_and_networks_are_named():
    """A step or a network that does not exist is refused with those that do."""
    with pytest.raises(ChainError, match="unknown step 'blur'; steps are repair, upscale, resample, denoise, sharpen"):
        chain_for(replace(DECIDED, steps=("blur",)), SPEC, (100, 200))
    with pytest.raises(CardError, match="no network 'huge'"):
        Settings(Preset(upscale=UpscaleSettings(("huge",)))).plan(SPEC)


def test_memory_of_the_preset_is_kept():
    """What a preset allows is what a plan may take."""
    with pytest.raises(PlanError, match="MB allowed"):
        Settings(Preset(plan=PlanSettings(allowed_mem=1_000_000))).plan(SPEC)


@pytest.mark.parametrize("side", [1, 100, 8000, 65_000])
@pytest.mark.parametrize("scale", ["0.3", "1", "2.5", "4"])
@pytest.mark.parametrize("channels", [3, 4])
def test_shipped_presets_fit_their_own_memory(side, scale, channels):
    """Whatever the size, the balanced preset's tile fits the memory it allows itself."""
    plan = Settings(load_preset("balanced"), Size(Fraction(scale))).plan(ImageSpec(side, side, channels, "uint16"))
    assert plan.projected_mem <= load_preset("balanced").plan.allowed_mem
