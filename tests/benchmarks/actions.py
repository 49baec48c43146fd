"""Every action on a case, each at strengths from a grid and as decided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from skimage.metrics import structural_similarity
from trial import LANCZOS, OFF, Case, luma, made, psnr, repaired, rounded, sharpened

from refine.assessment import Assessment
from refine.decide import Decision, decide, number
from refine.preset import Preset, SharpenSettings
from refine.spec import Pixels

ACTIONS = ("none", "sharpen", "upscale", "both", "wrong-order")
"""Lanczos; Lanczos, then sharpening; network; network, then sharpening; sharpening, then network. At the source's own
size there are the first two."""
STRENGTHS = ((1.0, 0.3), (1.0, 1.0), (1.0, 2.0), (0.7, 4.0))
"""Sigma and amount. Sigma is a multiple of the blur that was put on the picture (at least half a px of the source)."""
WRONG_ORDER = ("repair", "sharpen", "upscale", "resample")
Way = tuple[bool, str, SharpenSettings | None]
"""Whether it was repaired first, the action, and how it was sharpened."""
Score = tuple[float, float]
"""PSNR, dB, and SSIM."""


@dataclass(frozen=True)
class Trial:
    """A case, the decision for it, and what all the ways of treating it come to."""

    case: Case
    """What was treated."""
    decision: Decision
    """For the assessment that was given."""
    ways: Mapping[Way, float]
    """PSNR of every way of the grid, dB."""
    decided: float
    """PSNR of the decided chain in one go, dB."""
    ssim: float
    """Its SSIM."""
    single: Mapping[str, Score]
    """PSNR, dB, and SSIM of each action on its own at decided strengths, and of fixed unsharp masking."""

    @property
    def action(self) -> str:
        """What the decided chain does, as one of ACTIONS."""
        return action_of(self.decision.preset, self.case)

    @cached_property
    def best(self) -> Mapping[str, float]:
        """The highest PSNR of each action, dB; that of the decided chain counts for its own."""
        found: dict[str, float] = {self.action: self.decided}
        for (_, action, _), value in self.ways.items():
            found[action] = max(found.get(action, 0.0), value)
        return found

    @property
    def label(self) -> str:
        """The action with the highest PSNR of those in the right order; of equal ones the one that does least."""
        return max(self._right_order, key=lambda action: (self.best[action], -ACTIONS.index(action)))

    @property
    def lack(self) -> float:
        """What the decided action, at its best, lacks to the best action in the right order, dB."""
        return max(self._right_order.values()) - self.best[self.action]

    @property
    def wrong_order_gain(self) -> float | None:
        """What the wrong order has over the best action in the right one, dB; None where there is one order only."""
        if "wrong-order" not in self.best:
            return None
        return self.best["wrong-order"] - max(self._right_order.values())

    @property
    def regret(self) -> float:
        """What the decided chain, as decided, lacks to the best way of all, dB."""
        return max(self.best.values()) - self.decided

    @property
    def _right_order(self) -> Mapping[str, float]:
        return {action: value for action, value in self.best.items() if action != "wrong-order"}


def action_of(preset: Preset, case: Case) -> str:
    """What a decided preset does to a case, as one of ACTIONS."""
    network = case.scale > 1 and preset.upscale.nets != ()
    sharpened_too = number(preset.sharpen.amount) > 0
    return (("none", "sharpen"), ("upscale", "both"))[network][sharpened_too]


def tried(case: Case, preset: Preset, assessments: Sequence[Assessment]) -> list[Trial]:
    """All ways of treating a case, with the decision that `preset` makes for each assessment of it."""
    ways, plain = _ways(case), {name: _scored(case, preset) for name, preset in _plain(case).items()}
    trials: list[Trial] = []
    for found in assessments:
        decision = decide(preset, case.source.shape[:2], case.truth.shape[:2], found)
        same = next((trial for trial in trials if trial.decision.preset == decision.preset), None)
        trials.append(replace(same, decision=decision) if same else _trial(case, decision, ways, plain))
    return trials


def _trial(case: Case, decision: Decision, ways: Mapping[Way, float], plain: Mapping[str, Score]) -> Trial:
    value, ssim = _scored(case, decision.preset)
    single = {name: _scored(case, preset) for name, preset in _single(case, decision.preset).items()}
    return Trial(case, decision, ways, value, ssim, {**plain, **single})


def _scored(case: Case, preset: Preset) -> Score:
    """PSNR, dB, and SSIM of what a decided preset makes of a case in one go."""
    found = made(case.source, preset, case.truth.shape[:2], "uint8")
    return psnr(found, case), float(structural_similarity(luma(found), luma(case.truth), data_range=255.0))


def _ways(case: Case) -> Mapping[Way, float]:
    output = case.truth.shape[:2]
    ways: dict[Way, float] = {}
    for clean, source in _sources(case):
        for action, enlarged in _enlarged(case, source):
            ways[clean, action, None] = psnr(rounded(enlarged), case)
            for sharpen in grid(case):
                ways[clean, _then(action), sharpen] = psnr(sharpened(enlarged, sharpen), case)
        if case.scale > 1:
            for sharpen in wrong_grid(case):
                ways[clean, "wrong-order", sharpen] = psnr(_wrong(source, sharpen, output), case)
    return ways


def grid(case: Case) -> Iterator[SharpenSettings]:
    """The strengths that are tried, for a sharpening at the size of the result."""
    finest = max(0.5, case.blur) * float(case.scale)
    threshold = 0.01 if case.noise > 10 else 0.004 if case.noise or case.quality else 0.0
    for factor, amount in STRENGTHS:
        yield SharpenSettings(max(0.5, factor * finest), amount, threshold, 1.0)


def wrong_grid(case: Case) -> Iterator[SharpenSettings]:
    """The strengths that are tried for a sharpening at the size of the source."""
    for amount in (0.5, 2.0):
        yield SharpenSettings(max(0.5, case.blur), amount, 0.004 if case.noise else 0.0, 1.0)


def _sources(case: Case) -> Iterator[tuple[bool, Pixels]]:
    """As it is; and where there is something to repair, repaired by what is known of it."""
    yield False, case.source
    if case.noise or case.quality:
        yield True, repaired(case.source, case.noise, case.quality or 100)


def _enlarged(case: Case, source: Pixels) -> Iterator[tuple[str, Pixels]]:
    output = case.truth.shape[:2]
    yield "none", made(source, LANCZOS, output)
    if case.scale > 1:
        yield "upscale", made(source, OFF, output)


def _then(action: str) -> str:
    """The action with sharpening behind it."""
    return {"none": "sharpen", "upscale": "both"}[action]


def _wrong(source: Pixels, sharpen: SharpenSettings, output: tuple[int, int]) -> Pixels:
    return made(source, replace(OFF, order="as-written", steps=WRONG_ORDER, sharpen=sharpen), output, "uint8")


def _plain(case: Case) -> Mapping[str, Preset]:
    """Single actions that nothing has to be decided for."""
    fixed = replace(LANCZOS, sharpen=SharpenSettings(1.0, 0.5, 0.0, 1.0))
    presets = {"Lanczos": LANCZOS, "Lanczos and unsharp masking (sigma 1, amount 0.5)": fixed}
    return {**presets, "network alone": OFF} if case.scale > 1 else presets


def _single(case: Case, decided: Preset) -> Mapping[str, Preset]:
    """Single actions at the decided strengths; sharpening with sigma 1 px and amount 0.5 where none was decided."""
    sharpen = decided.sharpen if number(decided.sharpen.amount) else replace(decided.sharpen, sigma=1.0, amount=0.5)
    presets = {
        "sharpening alone": replace(LANCZOS, sharpen=sharpen),
        "repair alone": replace(LANCZOS, repair=decided.repair),
    }
    if case.scale > 1:
        wrong = replace(OFF, order="as-written", steps=WRONG_ORDER, sharpen=_at_source(sharpen, case))
        presets["sharpening before the network"] = wrong
    return presets


def _at_source(sharpen: SharpenSettings, case: Case) -> SharpenSettings:
    return replace(sharpen, sigma=max(0.5, number(sharpen.sigma) / float(case.scale)))
