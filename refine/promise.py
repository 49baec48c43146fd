"""What can be promised of a poster before it is made: how much of what is printed the picture really holds."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from refine.assessment import Assessment
from refine.decide import Action
from refine.length import digits, millimetres
from refine.order import Order, SheetPlan
from refine.sight import Sight, Verdict, eye_ppi, sharp_from
from refine.spec import ImageSpec

_VERDICTS: dict[Verdict, str] = {
    "sharp": "from there nobody sees more than the picture holds",
    "good": "from there an eye sees up to twice as fine as the picture holds: fine texture is a guess, edges are clean",
    "soft": "from there an eye sees two to four times as fine as the picture holds: it looks soft",
    "weak": "from there an eye sees more than four times as fine as the picture holds",
}


@dataclass(frozen=True, slots=True)
class Promise:
    """What a poster will be, in numbers."""

    source: tuple[int, int]
    """Height, width, px, of the picture."""
    used: tuple[int, int]
    """The same of what of it is shown."""
    effective: float | None
    """Share of each side that holds detail; None where it cannot be told, and all of it is counted."""
    sheet: tuple[int, int]
    """Height, width, px, of all that is made."""
    face: tuple[int, int]
    """The same of what is seen from the front."""
    inches: tuple[float, float]
    """Height, width of that."""
    ppi: float
    """px per inch that are printed."""
    source_ppi: float
    """px per inch that the picture has at that size."""
    honest_ppi: float
    """px per inch of them that hold detail."""
    enlargement: float
    """px made for each px of the picture, along a side."""
    distance: float
    """Inches from which it is looked at."""
    eye_ppi: float
    """px per inch that an eye tells apart from there."""
    verdict: Verdict
    """How the two compare."""
    sharp_from: float
    """Inches from which an eye sees no more than the picture holds."""
    honest: tuple[float, float]
    """Height, width, inches, of the largest print of these ppi that the picture bears."""
    action: Action
    """What is done to it, in one word."""
    reasons: tuple[str, ...]
    """Why."""

    def facts(self) -> dict[str, object]:
        """JSON values; lengths in mm."""
        return {
            "source": list(self.source),
            "used": list(self.used),
            "effective": self.effective,
            "sheet": list(self.sheet),
            "face": list(self.face),
            "face_mm": [round(side * 25.4, 3) for side in self.inches],
            "ppi": self.ppi,
            "source_ppi": round(self.source_ppi, 1),
            "honest_ppi": round(self.honest_ppi, 1),
            "enlargement": round(self.enlargement, 3),
            "distance_mm": round(self.distance * 25.4),
            "eye_ppi": round(self.eye_ppi, 1),
            "verdict": self.verdict,
            "sharp_from_mm": round(self.sharp_from * 25.4),
            "honest_mm": [round(side * 25.4) for side in self.honest],
            "decision": self.action,
            "reasons": list(self.reasons),
        }

    def lines(self) -> list[str]:
        """The same for people."""
        share = "how much of it holds detail cannot be told" if self.effective is None else (
            f"{self.effective:.0%} of each side holds detail"
        )  # fmt: skip
        weak = "; " + self.reasons[0].removeprefix("size: ") if self.action == "too-weak" else ""
        around = f", {_size(self.sheet)} px with what is round it" if self.sheet != self.face else ""
        larger = f"enlarged {self.enlargement:.3g} times, bears {_mm(self.honest, 3)} at {self.ppi:g} ppi"
        all_from = f"as sharp as an eye can see from {_distance(self.sharp_from)} on"
        return [
            f"picture    {_size(self.source)} px, {share}; {_size(self.used)} px of it are shown",
            f"paper      {_mm(self.inches)} at {self.ppi:g} ppi: {_size(self.face)} px{around}",
            f"honest     {self.honest_ppi:.0f} ppi of detail, {self.source_ppi:.0f} ppi of px; {larger}",
            f"eye        from {_distance(self.distance)} it tells {self.eye_ppi:.0f} ppi apart",
            f"verdict    {self.verdict}: {_VERDICTS[self.verdict]}; {all_from}{weak}",
        ]


def promise(order: Order, spec: ImageSpec, found: Assessment | None, plan: SheetPlan) -> Promise:
    """What a plan promises. Raises PlanError where the order is refused."""
    decision, sheet = order.decided(spec, found), plan.sheet
    scale = max(Fraction(sheet.whole[0], spec.height), Fraction(sheet.whole[1], spec.width))
    used = tuple(max(1, round(side / scale)) for side in (sheet.part.height, sheet.part.width))
    share = None if found is None else found.effective.value
    source_ppi = float(order.ppi / scale)
    honest_ppi = source_ppi * (1.0 if share is None else share)
    distance = float(order.seen_from(sheet))
    sight = Sight(honest_ppi, eye_ppi(distance))
    most = order.preset.decide.weak * (1.0 if share is None else share) / float(order.ppi)
    return Promise(
        source=(spec.height, spec.width),
        used=(used[0], used[1]),
        effective=share,
        sheet=sheet.size,
        face=sheet.face,
        inches=(float(sheet.inches[0]), float(sheet.inches[1])),
        ppi=float(order.ppi),
        source_ppi=source_ppi,
        honest_ppi=honest_ppi,
        enlargement=float(scale),
        distance=distance,
        eye_ppi=sight.eye_ppi,
        verdict=sight.verdict,
        sharp_from=sharp_from(honest_ppi),
        honest=(used[0] * most, used[1] * most),
        action=decision.action,
        reasons=decision.reasons,
    )


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"


def _mm(inches: tuple[float, float], count: int = 5) -> str:
    height, width = (float(millimetres(Fraction(side))) for side in inches)
    return f"{digits(width, count)} x {digits(height, count)} mm"


def _distance(inches: float) -> str:
    metres = inches * 0.0254
    return f"{metres:.2g} m" if metres < 10 else f"{metres:.0f} m"
