"""From a preset and a wished size to the chain and the exact output of one image."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction

from refine.assessment import Assessment
from refine.background import rgb
from refine.chain import Chain
from refine.decide import Decision, decide, number
from refine.denoise import GuidedDenoise, denoise_radius
from refine.errors import ChainError, PlanError
from refine.finish import finish
from refine.look import Look
from refine.match import explained, towards
from refine.plan import Plan, planned
from refine.preset import Preset
from refine.repair import Repair
from refine.resample import Resample
from refine.sharpen import UnsharpMask
from refine.spec import ImageSpec
from refine.step import Step
from refine.tone import Tone
from refine.upscale import Upscale

MAX_SCALE = 64
"""Beyond this there is nothing of a picture left."""
MAX_NETWORK_SCALE = 16
"""What is beyond is left to the exact resampling: networks would only enlarge what networks have made."""
FAMILIES = {"auto": "fast", "standard": "standard"}
"""Of networks, by the words of `upscale.nets`."""
LAST_STRETCH = Fraction(5, 4)
"""How much the exact resample may add to what the networks made. At 2.5 times, x2 then 1.25 costs 0.7 of x4 then
0.625 and lies 0.03 dB below it (12 Kodak photographs); at 3 times it lies 0.06 dB below."""


@dataclass(frozen=True, slots=True)
class Size:
    """A wished size: at most one of the three. None of them keeps the size."""

    scale: Fraction | None = None
    """Output px per input px."""
    long_side: int | None = None
    """The longer side of the result, px; the other one follows."""
    exact: tuple[int, int] | None = None
    """Height, width, px; may change the shape of the picture."""

    def __post_init__(self) -> None:
        if sum(wish is not None for wish in (self.scale, self.long_side, self.exact)) > 1:
            msg = "a size is a scale, a long side or an exact height and width: give one of them"
            raise PlanError(msg)
        sides = [side for side in (self.long_side, *(self.exact or ())) if side is not None]
        if (self.scale is not None and self.scale <= 0) or any(side < 1 for side in sides):
            got = self.scale if self.scale is not None else self.long_side
            msg = f"a size must be positive, got {'x'.join(map(str, self.exact[::-1])) if self.exact else got}"
            raise PlanError(msg)

    def of(self, spec: ImageSpec) -> tuple[int, int]:
        """Height and width of the result, px: halves round up, nothing falls below 1.

        >>> Size(scale=Fraction(5, 2)).of(ImageSpec(101, 200, 3, "uint8"))
        (253, 500)
        """
        if self.exact is not None:
            return self.exact
        scale = self.scale if self.scale is not None else Fraction(1)
        if self.long_side is not None:
            scale = Fraction(self.long_side, max(spec.height, spec.width))
        return _rounded(spec.height * scale), _rounded(spec.width * scale)


@dataclass(frozen=True, slots=True)
class Settings:
    """All that decides a result, apart from the image."""

    preset: Preset = field(default_factory=Preset)
    """What is done."""
    size: Size = field(default_factory=Size)
    """How large it becomes."""
    reference: Look | None = None
    """The look that images are brought nearer to, by `tone.match`; None for their own."""

    def decided(self, spec: ImageSpec, found: Assessment | None) -> Decision:
        """What one image needs. Raises PlanError where it is too weak for its size and that is to be refused."""
        decision = decide(self.preset, (spec.height, spec.width), self.size.of(spec), found)
        if decision.hopeless and self.preset.decide.too_weak == "refuse":
            why = decision.reasons[0].removeprefix("size: ")
            msg = f"too weak for this size: {why}; or mean it with --set decide.too_weak=flag"
            raise PlanError(msg)
        told: list[str] = []
        if self.reference is not None and found is not None and found.look is not None:
            told.append(explained(found.look, self.reference, self.preset.tone.match))
        if spec.has_alpha and self.preset.output.background:
            shown = self.preset.output.background
            told.append(f"background: output.background was set to {shown}: the picture is laid on it, alpha goes")
        return replace(decision, reasons=(*decision.reasons, *told))

    def plan(self, spec: ImageSpec, found: Assessment | None = None) -> Plan:
        """The plan of one image, as assessed; unassessed, the plan that costs most. Raises ChainError or PlanError."""
        output = self.size.of(spec)
        cut, wished = self.preset.plan, self.preset.output
        dtype = None if wished.dtype == "source" else wished.dtype
        chain = chain_for(self.decided(spec, found).preset, spec, output, self.tone(found))
        return planned(
            chain, spec, output, dtype=dtype, tile=cut.tile, block=cut.block, allowed_mem=cut.allowed_mem,
            background=rgb(wished.background) if wished.background else None,
        )  # fmt: skip

    def tone(self, found: Assessment | None) -> Tone:
        """The final adjustments of one image: those of the preset, or those that bring it nearer to the reference."""
        asked = self.preset.tone
        own = Tone(asked.black, asked.white, asked.gamma, asked.contrast, asked.saturation)
        if self.reference is None:
            return own
        if not own.is_identity:
            msg = "an image is adjusted by hand or matched to a reference, not both; leave out the one or the other"
            raise ChainError(msg)
        if found is None:
            return Tone(contrast=1.1)  # any adjustment: a plan must allow for one
        return Tone() if found.look is None else towards(found.look, self.reference, asked.match)


def chain_for(preset: Preset, spec: ImageSpec, output: tuple[int, int], tone: Tone | None = None) -> Chain:
    """The chain that a decided preset means for an image that becomes `output` (height, width, px), tone last."""
    enlargement = max(Fraction(output[0], spec.height), Fraction(output[1], spec.width))
    if enlargement > MAX_SCALE:
        msg = (
            f"an image can be enlarged up to {MAX_SCALE} times, asked for {float(enlargement):.1f} times "
            f"({spec.width} x {spec.height} to {output[1]} x {output[0]} px); start from a larger source"
        )
        raise PlanError(msg)
    repair: list[Step | Resample] = []
    if preset.repair.net:
        repair = [Repair(preset.repair.net, number(preset.repair.noise), number(preset.repair.quality))]
    nets = preset.upscale.nets
    if not isinstance(nets, tuple):
        nets = networks(min(enlargement, Fraction(MAX_NETWORK_SCALE)), FAMILIES[nets])
    asked = preset.finish
    made: dict[str, list[Step | Resample]] = {
        "repair": repair,
        "upscale": [Upscale(net) for net in nets],
        "resample": [Resample(preset.resample.kernel)],
        "denoise": [GuidedDenoise(preset.denoise.luma, preset.denoise.chroma, denoise_radius(enlargement))],
        "sharpen": [UnsharpMask(*_values(preset))],
        "tone": [tone or Tone()],
        "finish": [finish(asked.medium, asked.ppi, asked.distance, number(preset.sharpen.threshold))],
    }
    if unknown := [name for name in preset.steps if name not in made]:
        msg = f"unknown step {unknown[0]!r}; steps are {', '.join(made)}"
        raise ChainError(msg)
    return Chain(tuple(step for name in preset.steps for step in made[name]), preset.order)


def networks(enlargement: Fraction, family: str = "fast") -> tuple[str, ...]:
    """Ids of the networks for an enlargement, first to last. Their product may fall short by up to LAST_STRETCH.

    family: what comes before their scale.

    >>> networks(Fraction(1)), networks(Fraction(5, 2)), networks(Fraction(3)), networks(Fraction(8))
    ((), ('fast-x2',), ('fast-x4',), ('fast-x4', 'fast-x2'))
    """
    nets: list[str] = []
    while enlargement > 2 * LAST_STRETCH:
        nets.append(f"{family}-x4")
        enlargement /= 4
    wanted = enlargement > (LAST_STRETCH if nets else 1)
    return (*nets, f"{family}-x2") if wanted else tuple(nets)


def _values(preset: Preset) -> tuple[float, float, float, float]:
    sharpen = preset.sharpen
    return number(sharpen.sigma), number(sharpen.amount), number(sharpen.threshold), number(sharpen.overshoot)


def _rounded(length: Fraction) -> int:
    return max(1, int(length + Fraction(1, 2)))
