from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import QUICK

from refine.assessment import UNKNOWN, Assessment, Estimate
from refine.decide import Decision, decide, number
from refine.preset import Preset, RepairSettings, SharpenSettings, UpscaleSettings, load_preset

PRESET = Preset()
RULES = PRESET.decide

blurs = st.floats(0.3, 4).map(lambda v: round(v, 2))
sigmas = st.floats(0, 40).map(lambda v: round(v, 1))
qualities = st.integers(5, 100)
scales = st.sampled_from([1, 2, 3, 4])


def assessed(
    blur: float = 0.5, noise: float = 0.0, quality: float = 100, *, halo: float = 0.0, grain: float = 0.0
) -> Assessment:
    """What is measured on a picture of 300 x 200 px with noise alike in all channels."""
    return Assessment(
        200,
        300,
        blur_sigma=Estimate(blur),
        halo=Estimate(halo),
        noise_luma=Estimate(noise),
        noise_chroma=Estimate(0.0),
        grain=Estimate(grain),
        jpeg_quality=Estimate(quality),
    )


def decided(found: Assessment, scale: int = 1, preset: Preset = PRESET) -> Decision:
    """The decision for a result so many times as large."""
    return decide(preset, (found.height, found.width), (found.height * scale, found.width * scale), found)


def amount(found: Assessment, scale: int = 1) -> float:
    """The amount of sharpening that is decided."""
    return number(decided(found, scale).preset.sharpen.amount)


@pytest.mark.parametrize(
    ("found", "scale", "action"),
    [
        pytest.param(assessed(), 1, "none", id="good"),
        pytest.param(assessed(), 3, "upscale", id="small"),
        pytest.param(assessed(1.4), 1, "sharpen", id="large-but-soft"),
        pytest.param(assessed(1.4), 3, "both", id="small-and-soft"),
        pytest.param(assessed(noise=6), 1, "minimal", id="noisy"),
        pytest.param(assessed(quality=50), 1, "minimal", id="compressed"),
        pytest.param(assessed(0.6, halo=20), 1, "none", id="sharpened-already"),
        pytest.param(assessed(0.6, halo=20), 2, "upscale", id="small-and-sharpened-already"),
        pytest.param(assessed(0.7, halo=30), 1, "none", id="hardly-soft-and-sharpened-already"),
        pytest.param(assessed(0.7, halo=22), 1, "sharpen", id="hardly-soft-with-lines"),
        pytest.param(assessed(1.4, halo=39), 1, "sharpen", id="soft-with-lines"),
        pytest.param(assessed(1.4, halo=40), 1, "none", id="soft-and-sharpened-already"),
        pytest.param(assessed(), 9, "too-weak", id="too-weak"),
    ],
)
def test_decide_names_the_action(found, scale, action):
    """Small is enlarged, soft is sharpened, small and soft both, good left alone, and too weak said."""
    assert decided(found, scale).action == action


@QUICK
@given(low=blurs, high=blurs, noise=sigmas, quality=qualities, scale=scales)
def test_softer_is_sharpened_no_less(low, high, noise, quality, scale):
    """Of two pictures alike but for their blur, the softer one gets no smaller sigma and no smaller amount."""
    low, high = sorted((low, high))
    firm, soft = (decided(assessed(blur, noise, quality), scale).preset.sharpen for blur in (low, high))
    assert number(firm.amount) <= number(soft.amount)
    assert number(firm.amount) == 0 or number(firm.sigma) <= number(soft.sigma)


@QUICK
@given(low=sigmas, high=sigmas, blur=blurs, quality=qualities, scale=scales)
def test_noisier_is_cleaned_no_less(low, high, blur, quality, scale):
    """Of two pictures alike but for their noise, the noisier one is cleaned no less."""
    low, high = sorted((low, high))
    calm, noisy = (decided(assessed(blur, noise, quality), scale).preset for noise in (low, high))
    assert number(calm.repair.noise) <= number(noisy.repair.noise)


@QUICK
@given(low=sigmas, high=sigmas, blur=blurs, quality=qualities, scale=scales)
def test_noisier_is_sharpened_no_more(low, high, blur, quality, scale):
    """Of two pictures that nothing cleans, the noisier one is sharpened no more, and cored no less."""
    low, high = sorted((low, high))
    preset = replace(PRESET, repair=RepairSettings(""))
    calm, noisy = (decided(assessed(blur, noise, quality), scale, preset).preset.sharpen for noise in (low, high))
    assert number(calm.amount) >= number(noisy.amount)
    assert number(calm.overshoot) >= number(noisy.overshoot)
    assert number(calm.threshold) <= number(noisy.threshold)


@QUICK
@given(noise=sigmas, blur=blurs, quality=qualities, scale=scales)
def test_cleaned_is_sharpened_no_less(noise, blur, quality, scale):
    """Where noise and blocks are taken out, as much is sharpened as without, or more: less of them is raised."""
    cleaned, uncleaned = (
        decided(assessed(blur, noise, quality), scale, preset).preset.sharpen
        for preset in (PRESET, replace(PRESET, repair=RepairSettings("")))
    )
    assert number(cleaned.amount) >= number(uncleaned.amount)
    assert number(cleaned.threshold) <= number(uncleaned.threshold)


@QUICK
@given(low=qualities, high=qualities, blur=blurs, noise=sigmas, scale=scales)
def test_worse_jpeg_is_sharpened_no_more(low, high, blur, noise, scale):
    """Of two pictures alike but for their JPEG, the worse one is repaired no less and sharpened no more."""
    low, high = sorted((low, high))
    bad, good = (decided(assessed(blur, noise, quality), scale).preset for quality in (low, high))
    assert number(bad.repair.quality) <= number(good.repair.quality)
    assert number(bad.sharpen.amount) <= number(good.sharpen.amount)


@QUICK
@given(blur=blurs, noise=sigmas, quality=qualities, scale=scales, name=st.sampled_from(["balanced", "crisp", "print"]))
def test_decided_strengths_are_allowed(blur, noise, quality, scale, name):
    """Whatever was measured, what is decided lies within what the steps take, and leaves no `auto` in a strength."""
    decision = decided(assessed(blur, noise, quality), scale, load_preset(name))
    strengths = decision.strengths
    assert 0 <= strengths["repair.noise"] <= 50
    assert 1 <= strengths["repair.quality"] <= 100
    assert 0.2 <= strengths["sharpen.sigma"] <= 16
    assert 0 <= strengths["sharpen.amount"] <= 5
    assert 0 <= strengths["sharpen.threshold"] <= 1
    assert 0 <= strengths["sharpen.overshoot"] <= 1


def test_what_cannot_be_told_is_left():
    """An image of which nothing is known is neither cleaned nor sharpened nor refused, and each part says so."""
    decision = decided(Assessment(200, 300))
    assert decision.action == "none"
    assert decision.strengths["repair.noise"] == 0
    assert decision.strengths["repair.quality"] == 100
    assert decision.strengths["sharpen.amount"] == 0
    assert [reason.partition(":")[0] for reason in decision.reasons if "cannot be told" in reason] == [
        "noise",
        "JPEG",
        "sharpening",
    ]


@QUICK
@given(blur=blurs, noise=sigmas, quality=qualities, scale=scales)
@pytest.mark.parametrize("name", ["blur_sigma", "noise_luma", "jpeg_quality"])
def test_less_knowledge_is_no_bolder(name, blur, noise, quality, scale):
    """Where one estimate is missing, what follows from it is done no more strongly than with it."""
    found = assessed(blur, noise, quality)
    known, unknown = (decided(f, scale).strengths for f in (found, replace(found, **{name: UNKNOWN})))
    part = {"blur_sigma": "sharpen.amount", "noise_luma": "repair.noise", "jpeg_quality": "repair.quality"}[name]
    sign = -1 if part == "repair.quality" else 1
    assert sign * unknown[part] <= sign * known[part]


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        pytest.param({"sharpen": SharpenSettings(amount=0.3)}, {"sharpen.amount": 0.3}, id="amount"),
        pytest.param({"sharpen": SharpenSettings(1.5, 0.0)}, {"sharpen.sigma": 1.5, "sharpen.amount": 0.0}, id="off"),
        pytest.param(
            {"sharpen": SharpenSettings(threshold=0.02, overshoot=0.01)},
            {"sharpen.threshold": 0.02, "sharpen.overshoot": 0.01},
            id="limits",
        ),
        pytest.param({"repair": RepairSettings(noise=3.0)}, {"repair.noise": 3.0}, id="noise"),
        pytest.param({"repair": RepairSettings(quality=40.0)}, {"repair.quality": 40.0}, id="quality"),
    ],
)
@pytest.mark.parametrize("found", [assessed(), assessed(2, 10, 50), Assessment(200, 300), None])
def test_overrides_stay_and_are_recorded(settings, keys, found):
    """What someone chose is done whatever was measured, is listed, and nothing else is."""
    preset = replace(PRESET, **settings)
    decision = decide(preset, (200, 300), (400, 600), found)
    assert decision.overridden == tuple(keys)
    assert {key: decision.strengths[key] for key in keys} == keys


def test_chosen_networks_stay():
    """Networks that someone named are used on whatever picture, and are listed."""
    found = assessed(2, 10, 50)
    assert decided(found, 2).preset.upscale.nets == ()
    chosen = decided(found, 2, replace(PRESET, upscale=UpscaleSettings(("fast-x2",))))
    assert chosen.preset.upscale.nets == ("fast-x2",)
    assert chosen.overridden == ("upscale.nets",)


@QUICK
@given(blur=blurs, noise=sigmas, quality=qualities, more=st.floats(0, 2), worse=sigmas)
def test_networks_enlarge_what_is_sharp(blur, noise, quality, more, worse):
    """Where a picture is too soft or too damaged for a network, so is one that is softer or more damaged."""
    if decided(assessed(blur, noise, quality), 2).preset.upscale.nets == ():
        assert decided(assessed(blur + more, noise, quality), 2).preset.upscale.nets == ()
        assert decided(assessed(blur, noise + worse, quality), 2).preset.upscale.nets == ()


def test_family_of_networks_is_no_exception_from_the_rules():
    """Asked for by its word it is used where networks are, and only there, and nothing is overridden."""
    better = replace(PRESET, upscale=UpscaleSettings("standard"))
    sharp, soft = decided(assessed(), 2, better), decided(assessed(2.5), 2, better)
    assert (sharp.preset.upscale.nets, soft.preset.upscale.nets) == ("standard", ())
    assert sharp.overridden == soft.overridden == ()


@pytest.mark.parametrize(
    ("found", "nets"),
    [
        pytest.param(assessed(), "auto", id="good"),
        pytest.param(assessed(noise=40, quality=20), "auto", id="sharp-but-damaged"),
        pytest.param(assessed(0.9), "auto", id="a-bit-soft"),
        pytest.param(assessed(0.9, 20), (), id="a-bit-soft-and-damaged"),
        pytest.param(assessed(2.5), (), id="soft"),
        pytest.param(Assessment(200, 300), "auto", id="unknown"),
    ],
)
def test_networks_need_something_to_see(found, nets):
    """Soft pictures are enlarged by the kernel, damaged ones if they are but a bit soft; sharp ones by networks."""
    assert decided(found, 2).preset.upscale.nets == nets


def test_colour_noise_counts():
    """Noise that is independent in each channel is told to the network as that of a channel, not of luma."""
    found = replace(assessed(), noise_luma=Estimate(6.7), noise_chroma=Estimate(14.1))
    assert decided(found).strengths["repair.noise"] == pytest.approx(10, abs=0.1)
    assert decided(assessed(noise=10)).strengths["repair.noise"] == 10


def test_grain_is_kept():
    """Noise whose neighbours agree is grain, which is part of the picture."""
    assert decided(assessed(noise=10, grain=0.5)).strengths["repair.noise"] == 0
    assert decided(assessed(noise=10, grain=0.1)).strengths["repair.noise"] == 10


def test_sharpened_pictures_are_not_sharpened():
    """Where edges overshoot already, not even the least amount is added."""
    crisp = load_preset("crisp")
    assert decided(assessed(halo=0), preset=crisp).strengths["sharpen.amount"] > 0
    assert decided(assessed(halo=20), preset=crisp).strengths["sharpen.amount"] == 0


def test_least_amount_is_minimal():
    """Where a picture needs nothing, the preset's least is done, and called so."""
    decision = decided(assessed(), preset=load_preset("crisp"))
    assert decision.action == "minimal"
    assert decision.strengths["sharpen.amount"] == load_preset("crisp").decide.least


def test_too_weak_gives_the_honest_size():
    """A result beyond what the detail holds is said with the largest size that is honest; that size is accepted."""
    found = replace(assessed(), effective=Estimate(0.5))
    decision = decided(found, 5)
    assert decision.action == "too-weak"
    assert decision.honest == (800, 1200)
    assert decision.reasons[0] == (
        "size: 300 x 200 px, 50% of each side holds detail: to be enlarged 5 times, 10 px for each px of detail, "
        "more than 8; up to 1200 x 800 px would be honest"
    )
    assert decide(PRESET, (200, 300), decision.honest, found).action == "upscale"


def test_enlarged_before_is_said():
    """A picture that was enlarged already is told the size that would hold the same."""
    said = decided(replace(assessed(), enlarged=Estimate(2.0))).reasons[0]
    assert "enlarged 2 times before (150 x 100 px would hold the same)" in said
    assert "before" not in decided(replace(assessed(), enlarged=Estimate(1.0))).reasons[0]


@QUICK
@given(blur=blurs, noise=sigmas, quality=st.integers(5, 99), scale=st.integers(2, 10))
def test_reasons_hold_the_numbers(blur, noise, quality, scale):
    """Each part has a sentence, with what was measured and the threshold it was held against."""
    size, clean, jpeg, net, sharp = decided(assessed(blur, noise, quality), scale).reasons
    assert "300 x 200" in size
    assert f"{scale} times" in size
    assert f"{RULES.weak:g}" in size
    assert f"sigma {noise:g} levels" in clean
    assert f"{RULES.noise_from:g}" in clean
    assert f"quality {quality:g}" in jpeg
    assert f"{RULES.quality_below:g}" in jpeg
    limit = RULES.plain_from / (1 + (noise + RULES.quality_noise * (100 - quality)) / RULES.plain_half)
    assert f" {round(limit, 2):g} px" in net
    assert f"sigma {blur:g} px" in sharp
    assert f"{RULES.soft_from:g}" in sharp


def test_unassessed_allows_for_every_step():
    """Before anything is measured, a plan holds repair, networks and sharpening; what someone left out stays out."""
    decision = decide(PRESET, (200, 300), (400, 600), None)
    assert decision.strengths["repair.noise"] > 0
    assert decision.strengths["sharpen.amount"] > 0
    assert decision.honest is None or decision.honest[0] >= 400
    without = replace(PRESET, sharpen=SharpenSettings(amount=0.0))
    assert decide(without, (200, 300), (400, 600), None).strengths["sharpen.amount"] == 0


def test_faithful_decides_nothing():
    """The faithful preset enlarges by networks and does nothing else, whatever was measured."""
    faithful = load_preset("faithful")
    for found in (assessed(), assessed(2, 10, 50), Assessment(200, 300), None):
        decision = decide(faithful, (200, 300), (400, 600), found)
        assert decision.action == "upscale" or found is None
        assert decision.preset.upscale.nets == "auto"
        assert decision.preset.repair.net == ""
        assert decision.strengths["sharpen.amount"] == 0


@QUICK
@given(blur=blurs, noise=sigmas, quality=qualities, scale=scales)
def test_decisions_are_final(blur, noise, quality, scale):
    """A decision depends on its arguments alone, and a preset that was decided decides itself."""
    found = assessed(blur, noise, quality)
    decision = decided(found, scale)
    assert decided(found, scale) == decision
    assert decided(found, scale, decision.preset).preset == decision.preset


def test_strengths_name_settings():
    """Every strength is a key of a preset, and says what that key was decided to."""
    decision = decided(assessed(1.4, 5, 60), 2)
    for key, value in decision.strengths.items():
        table, _, name = key.partition(".")
        assert name in {f.name for f in fields(getattr(decision.preset, table))}
        assert getattr(getattr(decision.preset, table), name) == value


@pytest.mark.parametrize("found", [assessed(noise=10, quality=40), None])
def test_small_results_are_not_repaired(found):
    """A result that averages noise out is made without the cost of a repair, assessed or not; a larger one is not."""
    small, large = (decide(PRESET, (200, 300), size, found).strengths for size in ((90, 135), (120, 180)))
    assert (small["repair.noise"], small["repair.quality"]) == (0, 100)
    assert large["repair.noise"] > 0
    assert large["repair.quality"] < 100


def test_only_pixels_are_hopeless():
    """A picture that looks smooth is flagged, not refused; few px, or px that an enlargement added, are hopeless."""
    smooth = decide(Preset(), (400, 400), (1200, 1200), replace(assessed(), effective=Estimate(0.2, "fair")))
    assert (smooth.action, smooth.hopeless) == ("too-weak", False)
    enlarged = replace(assessed(), effective=Estimate(0.3), enlarged=Estimate(3.3))
    assert decide(Preset(), (400, 400), (1200, 1200), enlarged).hopeless
    assert decide(Preset(), (400, 400), (4000, 4000), assessed()).hopeless
    assert not decide(Preset(), (400, 400), (1200, 1200), assessed()).hopeless
