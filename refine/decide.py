"""What an image needs, decided from what was measured on it, with the reason for each part.

The rules are data: `[decide]` of a preset. A setting that is not `auto` was chosen by someone: it stays, and is said.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import hypot, sqrt
from typing import Literal

from refine.assessment import Assessment
from refine.preset import Auto, DecideSettings, Preset, RepairSettings, SharpenSettings, UpscaleSettings

Action = Literal["upscale", "sharpen", "both", "minimal", "none", "too-weak"]

_CHROMA = 0.277
"""White noise of a channel has the variance v of luma and w of a colour difference, v + 0.277 w: with the same noise
in all channels w is 0, with independent noise luma has 0.447 and a difference 2 of the variance of a channel."""
_LEAST_SIGMA = 0.5
"""px of the result. A finer mask sees nothing; for less softness the amount falls instead, with its square."""
_MOST_SIGMA = 16.0
"""px of the result: the coarsest mask there is."""
_MOST_NOISE = 50.0
"""Sigma, 8-bit levels, that the network knows."""
_DEAREST_SIGMA = 2.0
"""px of the result: the mask that a plan without an assessment allows for."""
_ENLARGED_FROM = 1.2
"""A picture that was enlarged less than this is not said to have been."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is done to one image, and why."""

    action: Action
    """In one word."""
    preset: Preset
    """The preset with a value in the place of every `auto`, but for networks that go by the enlargement."""
    reasons: tuple[str, ...]
    """A sentence for each part, with the numbers and thresholds that made it. The first is about the size."""
    overridden: tuple[str, ...] = ()
    """Settings that were chosen by someone, and so not decided here."""
    honest: tuple[int, int] | None = None
    """Height, width, px: the largest result that the source holds detail for; None without an assessment."""
    hopeless: bool = False
    """Whether it is too weak by its px alone, those that an earlier enlargement added not counted. A picture that only
    looks soft or smooth may be so on purpose."""

    @property
    def strengths(self) -> dict[str, float]:
        """The strengths of the steps, by setting."""
        preset = self.preset
        return {
            "repair.noise": number(preset.repair.noise),
            "repair.quality": number(preset.repair.quality),
            "denoise.luma": preset.denoise.luma,
            "denoise.chroma": preset.denoise.chroma,
            "sharpen.sigma": number(preset.sharpen.sigma),
            "sharpen.amount": number(preset.sharpen.amount),
            "sharpen.threshold": number(preset.sharpen.threshold),
            "sharpen.overshoot": number(preset.sharpen.overshoot),
        }


@dataclass(frozen=True, slots=True)
class _Need:
    """What the rules go by: an assessment in the units of the steps."""

    enlargement: float
    """Result px per source px, the larger of both directions."""
    noise: float | None
    """Sigma of a channel, 8-bit levels; None where it cannot be told."""
    grain: float
    """Correlation of neighbours; 0 where it cannot be told."""
    quality: float | None
    """JPEG quality; None where it cannot be told."""
    softness: float | None
    """Sigma, px of the source, of the blur beyond that of a sharp picture; None where it cannot be told."""


def decide(preset: Preset, source: tuple[int, int], output: tuple[int, int], found: Assessment | None) -> Decision:
    """The decision for an image of `source` (height, width, px) that becomes `output`.

    Without an assessment every `auto` gets what costs most: a plan must allow for it. What cannot be told is left as
    it is: no cleaning, no sharpening, no refusal.
    """
    enlargement = max(Fraction(output[0], source[0]), Fraction(output[1], source[1]))
    weak, honest, size_reason = _size(preset, found, source, enlargement)
    if found is None:
        allowed = enlargement >= preset.decide.repair_from
        return _unassessed(preset, "too-weak" if weak else "both", size_reason, repaired=allowed)
    need = _need(preset.decide, found, float(enlargement))
    noise, noise_reason = _noise(preset, need)
    quality, quality_reason = _quality(preset, need)
    repair = replace(preset.repair, noise=noise, quality=quality)
    nets, nets_reason = _networks(preset, need)
    sharpen, soft, sharpen_reason = _sharpening(preset, repair, need, found)
    reasons = (size_reason, noise_reason, quality_reason, nets_reason, sharpen_reason)
    return Decision(
        "too-weak" if weak else _action(need, repair, sharpen, soft=soft),
        replace(preset, repair=repair, upscale=nets, sharpen=sharpen),
        tuple(reason for reason in reasons if reason),
        _overridden(preset),
        honest,
        weak and float(enlargement) * max(1.0, found.enlarged.over(1.0)) > preset.decide.weak,
    )


def _action(need: _Need, repair: RepairSettings, sharpen: SharpenSettings, *, soft: bool) -> Action:
    sharpened = number(sharpen.amount) > 0
    if need.enlargement > 1:
        return "both" if sharpened and soft else "upscale"
    if sharpened and soft:
        return "sharpen"
    cleaned = repair.net != "" and (number(repair.noise) > 0 or number(repair.quality) < 100)
    return "minimal" if sharpened or cleaned else "none"


def _unassessed(preset: Preset, action: Action, size_reason: str, *, repaired: bool) -> Decision:
    wanted, rules = preset.sharpen, preset.decide
    noise, quality = (_MOST_NOISE, 1.0) if repaired else (0.0, 100.0)
    repair = replace(
        preset.repair, noise=_chosen(preset.repair.noise, noise), quality=_chosen(preset.repair.quality, quality)
    )
    sharpen = SharpenSettings(
        _chosen(wanted.sigma, _DEAREST_SIGMA),
        _chosen(wanted.amount, max(rules.amount, rules.least)),
        _chosen(wanted.threshold, 0.0),
        _chosen(wanted.overshoot, rules.overshoot),
    )
    reasons = (size_reason, "not assessed yet: every step that may be needed is allowed for")
    decided = replace(preset, repair=repair, sharpen=sharpen)
    return Decision(action, decided, reasons, _overridden(preset), hopeless=action == "too-weak")


def _need(rules: DecideSettings, found: Assessment, enlargement: float) -> _Need:
    luma, blur = found.noise_luma.value, found.blur_sigma.value
    return _Need(
        enlargement,
        None if luma is None else round(hypot(luma, sqrt(_CHROMA) * found.noise_chroma.over(0.0)), 1),
        found.grain.over(0.0),
        found.jpeg_quality.value,
        None if blur is None else round(sqrt(max(blur**2 - rules.sharp_sigma**2, 0.0)), 2),
    )


def _size(
    preset: Preset, assessed: Assessment | None, source: tuple[int, int], enlargement: Fraction
) -> tuple[bool, tuple[int, int], str]:
    found = assessed or Assessment(*source)
    share, limit = found.effective.over(1.0), preset.decide.weak
    detail = float(enlargement) / share
    honest = max(1, int(found.height * share * limit)), max(1, int(found.width * share * limit))
    said = f"size: {found.width} x {found.height} px"
    known = found.effective.value is not None
    if known:
        said += f", {share:.0%} of each side holds detail"
    if (before := found.enlarged.over(1.0)) >= _ENLARGED_FROM:
        small = f"{round(found.width / before)} x {round(found.height / before)}"
        said += f", enlarged {before:g} times before ({small} px would hold the same)"
    if enlargement <= 1:
        return False, honest, f"{said}: not enlarged" if enlargement == 1 else f"{said}: made smaller"
    untold = " (how many hold detail cannot be told)" if assessed else ""
    each = "detail" if known else f"the source{untold}"
    said += f": to be enlarged {float(enlargement):.3g} times, {detail:.3g} px for each px of {each}"
    if detail > limit:
        return True, honest, f"{said}, more than {limit:g}; up to {honest[1]} x {honest[0]} px would be honest"
    return False, honest, f"{said}, up to {limit:g} are honest"


def _noise(preset: Preset, need: _Need) -> tuple[float, str]:
    wanted, start, sigma = preset.repair.noise, preset.decide.noise_from, need.noise
    if wanted != "auto":
        return wanted, f"noise: repair.noise was set to {wanted:g}"
    if sigma is None:
        return 0.0, "noise: cannot be told: left alone"
    if sigma < start:
        return 0.0, f"noise: sigma {sigma:g} levels a channel, below {start:g}: left alone"
    if need.grain >= preset.decide.grain_from:
        grain = f"neighbours agree by {need.grain:g}, from {preset.decide.grain_from:g} on it is grain"
        return 0.0, f"noise: sigma {sigma:g} levels a channel, {grain}: left alone"
    if but := _unrepaired(preset, need):
        return 0.0, f"noise: sigma {sigma:g} levels a channel, from {start:g} on it is taken out, but {but}"
    said = f"noise: sigma {sigma:g} levels a channel, from {start:g} on"
    return min(sigma, _MOST_NOISE), f"{said}: taken out before anything else"


def _quality(preset: Preset, need: _Need) -> tuple[float, str]:
    wanted, start, quality = preset.repair.quality, preset.decide.quality_below, need.quality
    if wanted != "auto":
        return wanted, f"JPEG: repair.quality was set to {wanted:g}"
    if quality is None:
        return 100.0, "JPEG: cannot be told: left alone"
    if quality >= 100:
        return 100.0, "JPEG: no traces"
    if quality >= start:
        return 100.0, f"JPEG: quality {quality:g}, from {start:g} on: left alone"
    if but := _unrepaired(preset, need):
        return 100.0, f"JPEG: quality {quality:g}, below {start:g} its blocks are taken out, but {but}"
    return max(quality, 1.0), f"JPEG: quality {quality:g}, below {start:g}: its blocks are taken out first"


def _unrepaired(preset: Preset, need: _Need) -> str:
    """Why nothing is repaired that deserves it; empty where it is."""
    if not preset.repair.net:
        return "repair.net names no network"
    if need.enlargement < preset.decide.repair_from:
        return f"a result of less than {preset.decide.repair_from:g} times the size averages it out"
    return ""


def _networks(preset: Preset, need: _Need) -> tuple[UpscaleSettings, str]:
    """Which networks enlarge: none where there is nothing for them to see."""
    rules, wanted = preset.decide, preset.upscale
    if need.enlargement <= 1:
        return wanted, ""
    if isinstance(wanted.nets, tuple):
        return wanted, f"network: upscale.nets was set to {', '.join(wanted.nets) or 'none'}"
    damage = _damage(rules, need)
    if need.softness is None:
        return wanted, "network: blur cannot be told: enlarged by a network"
    # Rounded as it is printed, so that the sentence is true of its own numbers.
    limit = round(rules.plain_from / (1 + damage / rules.plain_half), 2)
    why = f"the limit where noise and JPEG count as {damage:.2g} levels of noise"
    if need.softness >= limit:
        said = f"network: softness {need.softness:g} px, from {limit:g} px on ({why})"
        return UpscaleSettings(()), f"{said} it has no detail to go by: enlarged by {preset.resample.kernel} alone"
    return wanted, f"network: softness {need.softness:g} px, below {limit:g} px ({why}): enlarged by a network"


def _damage(rules: DecideSettings, need: _Need, repair: RepairSettings | None = None) -> float:
    """Noise and JPEG as a sigma in 8-bit levels: as they are, or what a repair leaves of them."""
    noise, jpeg = need.noise or 0.0, rules.quality_noise * (100 - (100.0 if need.quality is None else need.quality))
    if repair is None or not repair.net:
        return noise + jpeg
    noise *= rules.left if number(repair.noise) > 0 else 1.0
    return noise + jpeg * (rules.left if number(repair.quality) < 100 else 1.0)


def _sharpening(
    preset: Preset, repair: RepairSettings, need: _Need, found: Assessment
) -> tuple[SharpenSettings, bool, str]:
    """The settings of the sharpening, whether it answers a softness, and why."""
    rules, wanted = preset.decide, preset.sharpen
    softness = need.softness or 0.0
    overshot = _is_overshot(rules, need, found)
    soft = softness >= rules.soft_from and not overshot
    left = _damage(rules, need, repair)
    calm = 1 / (1 + (left / rules.half) ** 2)
    if soft:
        wide = softness * need.enlargement
        sigma = min(max(wide, _LEAST_SIGMA), _MOST_SIGMA)
        # A reading near the threshold may be wrong: there a little too little is better than too much.
        sure = _how_soft(rules, need)
        amount, overshoot = rules.amount * calm * sure * min(1.0, (wide / sigma) ** 2), rules.overshoot * calm
    else:
        sigma, amount, overshoot = rules.least_sigma, rules.least * calm, rules.least_overshoot
    if overshot:
        amount = 0.0
    decided = SharpenSettings(
        round(_chosen(wanted.sigma, sigma), 2),
        round(_chosen(wanted.amount, amount), 2),
        round(_chosen(wanted.threshold, min(1.0, rules.coring * left / 255)), 4),
        round(_chosen(wanted.overshoot, overshoot), 3),
    )
    return decided, soft, _said(preset, decided, need, found, left)


def _how_soft(rules: DecideSettings, need: _Need) -> float:
    """How much of the sharpening a softness gets: 0 at the threshold, 1 where it cannot be mistaken."""
    beyond = (need.softness or 0.0) - rules.soft_from
    return min(max(beyond / max(rules.soft_full - rules.soft_from, 1e-9), 0.0), 1.0)


def _halo_limit(rules: DecideSettings, need: _Need) -> float:
    """Percent of overshoot from which nothing is sharpened, rounded as it is printed.

    What was sharpened too much is not soft. Where a picture is, lines beside edges pass for overshoot, and it takes
    twice as much to be one.
    """
    return round(rules.halo_from * (1 + _how_soft(rules, need)), 1)


def _is_overshot(rules: DecideSettings, need: _Need, found: Assessment) -> bool:
    return found.halo.over(0.0) >= _halo_limit(rules, need)


def _said(preset: Preset, decided: SharpenSettings, need: _Need, found: Assessment, left: float) -> str:
    rules, amount = preset.decide, number(decided.amount)
    if preset.sharpen.amount != "auto":
        return f"sharpening: sharpen.amount was set to {amount:g}"
    if _is_overshot(rules, need, found):
        overshot = f"edges overshoot by {found.halo.over(0.0):g} % already"
        return f"sharpening: {overshot}, from {_halo_limit(rules, need):g} % on: none"
    done = f"amount {amount:g}, sigma {number(decided.sigma):g} px of the result" if amount else "none"
    if need.softness is None:
        return f"sharpening: blur cannot be told: {done}"
    said = f"sharpening: blur of sigma {found.blur_sigma.over(0.0):g} px is {need.softness:g} px of softness beyond a "
    said += f"sharp picture's {rules.sharp_sigma:g}"
    if need.softness < rules.soft_from:
        return f"{said}, below {rules.soft_from:g}: {done}"
    grows = f"from {rules.soft_from:g} on, in full from {rules.soft_full:g}"
    return f"{said}, {grows}, less for {left:.2g} levels of noise left: {done}"


def _chosen(value: Auto, automatic: float) -> float:
    return automatic if value == "auto" else value


def number(value: Auto) -> float:
    """The strength of a preset that was decided; it has no `auto` any more."""
    assert value != "auto"
    return value


def _overridden(preset: Preset) -> tuple[str, ...]:
    values = {
        "repair.noise": preset.repair.noise,
        "repair.quality": preset.repair.quality,
        # A family is a wish within the rules: they still say whether networks enlarge at all.
        "upscale.nets": preset.upscale.nets if isinstance(preset.upscale.nets, tuple) else "auto",
        "sharpen.sigma": preset.sharpen.sigma,
        "sharpen.amount": preset.sharpen.amount,
        "sharpen.threshold": preset.sharpen.threshold,
        "sharpen.overshoot": preset.sharpen.overshoot,
    }
    return tuple(name for name, value in values.items() if value != "auto")
