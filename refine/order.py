"""What is ordered of a picture (paper, resolution, place, colour), and the plan of the sheet that this makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from hashlib import sha256

import numpy as np

from refine.assessment import Assessment
from refine.background import WHITE, Rgb, coloured
from refine.colour import srgb_profile
from refine.decide import Decision
from refine.errors import PlanError
from refine.finish import MediumName
from refine.ink import Press, note
from refine.length import Paper, millimetres, said
from refine.plan import MAX_SIDE, Plan
from refine.preset import Preset
from refine.settings import Settings, Size
from refine.sheet import Placement, Sheet, Surround, sheet
from refine.sight import usual_distance
from refine.spec import Depth, ImageSpec, Resolution
from refine.window import Window

MAX_PPI = 4800
"""px per inch; no printer places more."""
_PRESS_MEM = 16_000_000
"""Bytes that littlecms takes; measured: 5 MB with two profiles of 0.6 MB, and there are larger ones."""


def check_distance(distance: Fraction) -> None:
    """Raise PlanError for a distance, inches, from which nobody looks at a print."""
    if not Fraction(1) <= distance <= 40_000:
        raise PlanError(f"a print is looked at from 25 mm to 1 km, got {said(distance)}; check --distance")


@dataclass(frozen=True, slots=True)
class Order:
    """All that decides a poster, apart from the picture."""

    paper: Paper
    """As it is when it is cut; the front, of a canvas."""
    ppi: Fraction = Fraction(300)
    """px per inch."""
    preset: Preset = field(default_factory=Preset)
    """What is done to the picture."""
    placement: Placement = field(default_factory=Placement)
    """Where it lies."""
    surround: Surround = field(default_factory=Surround)
    """What is round it."""
    background: Rgb = WHITE
    """Of paper that the picture leaves free, and behind transparent pixels; sRGB."""
    rim: Rgb | None = None
    """What is beyond the face where that is a colour; None for the background."""
    medium: MediumName | None = None
    """What it is printed on; None: as the preset says."""
    distance: Fraction | None = None
    """Inches from which it is looked at; None: one and a half times its diagonal."""
    press: Press | None = None
    """What its colours are turned into; None: they stay as they are, with their profile."""
    depth: Depth = "uint16"
    """Of a channel."""
    force: bool = False
    """Whether it is made even where the picture holds far too little for it."""

    def __post_init__(self) -> None:
        if not 1 <= self.ppi <= MAX_PPI:
            raise PlanError(f"a print has 1 to {MAX_PPI} px per inch, asked for {float(self.ppi):g}; check --ppi")
        if self.distance is not None:
            check_distance(self.distance)
        if self.preset.output.background:
            raise PlanError(
                "a poster has a background of its own: name it with --background, and leave output.background out "
                "(--set output.background= does, whatever the preset says)"
            )
        if min(self.surround.wrap, self.surround.bleed, self.surround.safe, self.placement.border) < 0:
            raise PlanError("wrap, bleed, safe area and border are lengths from 0 on")

    def sheet(self, spec: ImageSpec) -> Sheet:
        """Its geometry for one picture. Raises PlanError."""
        made = sheet((spec.height, spec.width), self.paper, self.ppi, self.placement, self.surround)
        if max(made.size) > MAX_SIDE:
            height, width = made.size
            raise PlanError(
                f"a sheet is up to {MAX_SIDE} px a side, this would be {width} x {height}; check size or ppi"
            )
        return made

    def seen_from(self, made: Sheet) -> Fraction:
        """Inches from which it is looked at."""
        return usual_distance(*made.inches) if self.distance is None else self.distance

    def settings(self, spec: ImageSpec) -> Settings:
        """What is done to the whole picture, and how large it becomes."""
        made = self.sheet(spec)
        asked, rules = self.preset.finish, replace(self.preset.decide, too_weak="flag")
        finish = replace(
            asked,
            medium=self.medium or asked.medium,
            ppi=float(self.ppi),
            distance=float(millimetres(self.seen_from(made))),
        )
        # 16 bit up to the last step, whatever is written.
        output = replace(self.preset.output, dtype="uint16")
        return Settings(replace(self.preset, decide=rules, finish=finish, output=output), Size(exact=made.whole))

    def decided(self, spec: ImageSpec, found: Assessment | None) -> Decision:
        """What the picture needs. Raises PlanError where it holds far too little and that is not meant."""
        decision = self.settings(spec).decided(spec, found)
        if decision.hopeless and not self.force:
            why, honest = decision.reasons[0].removeprefix("size: "), ""
            if decision.honest is not None:
                height, width = (said(Fraction(side) / self.ppi) for side in decision.honest)
                honest = f", {width} x {height}"
            raise PlanError(f"too weak for this paper: {why}{honest}; fewer --ppi may do, or mean it with --force")
        return decision

    def plan(self, spec: ImageSpec, found: Assessment | None = None) -> SheetPlan:
        """The plan of its sheet, as assessed; unassessed, the plan that costs most. Raises ChainError or PlanError."""
        made = self.sheet(spec)
        # What no force can make is said first.
        plan = self.settings(spec).plan(spec, found)
        self.decided(spec, found)
        plan = replace(plan, asked=made.spans(plan.tile))
        if plan.result.space == "lab" and self.press is None and self.depth == "uint8":
            raise PlanError("L*a*b* is written in 16 bits; give a --profile, or --depth 16")
        background = _colour(self.background, plan.result)
        rim = background if self.rim is None else _colour(self.rim, plan.result)
        result = SheetPlan(plan, made, self.ppi, background, rim, self.press, self.depth)
        allowed = self.preset.plan.allowed_mem
        if result.projected_mem > allowed:
            raise PlanError(
                f"a tile of {plan.tile} px needs {result.projected_mem / 1e6:.0f} MB, allowed are {allowed / 1e6:.0f}; "
                "use a smaller --tile, or raise plan.allowed_mem"
            )
        return result

    def facts(self) -> dict[str, object]:
        """All of it that decides bytes beside the preset, JSON values."""
        press = self.press
        told = asdict(replace(self, preset=Preset(), press=None))
        del told["preset"], told["press"], told["force"], told["paper"]["name"]
        printer = press and [sha256(press.icc).hexdigest(), press.intent, press.black_point]
        return {name: _json(value) for name, value in told.items()} | {"press": printer}


@dataclass(frozen=True)
class SheetPlan:
    """How a sheet is made: a plan of the picture, and where its pixels go. Pure arithmetic."""

    plan: Plan
    """Of the whole picture; only windows of it are made."""
    sheet: Sheet
    """The geometry."""
    ppi: Fraction
    """px per inch."""
    background: tuple[int, ...]
    """16-bit levels in the encoding of the picture."""
    rim: tuple[int, ...]
    """The same, of what is beyond the face."""
    press: Press | None
    """What the pixels are turned into."""
    depth: Depth
    """Of what is written."""

    @property
    def tile(self) -> int:
        """Side of a tile, px of the sheet."""
        return self.plan.tile

    @property
    def block(self) -> int:
        """Largest side of a block's core, px."""
        return self.plan.block

    @property
    def output(self) -> tuple[int, int]:
        """Height, width of the sheet, px."""
        return self.sheet.size

    @property
    def source(self) -> ImageSpec:
        """What it is made of."""
        return self.plan.source

    def tiles(self) -> Iterator[Window]:
        """The windows of the sheet that tasks make, row by row."""
        return self.sheet.tiles(self.tile)

    @property
    def tile_count(self) -> int:
        """Tiles in all."""
        rows, columns = (-(-size // self.tile) for size in self.output)
        return rows * columns

    @cached_property
    def opaque(self) -> ImageSpec:
        """The sheet before its colours are turned into a printer's: 16 bit, no alpha."""
        picture, (height, width) = self.plan.result, self.output
        notes = (*picture.notes, "flattened onto the background") if picture.has_alpha else picture.notes
        icc = picture.icc
        if icc is None and picture.model == "rgb":
            icc = srgb_profile()
            notes = (*notes, "no profile: taken for sRGB, and said to be")
        ppi = float(self.ppi)
        channels = picture.channels - picture.has_alpha
        return replace(
            picture, height=height, width=width, channels=channels, icc=icc, notes=notes,
            resolution=Resolution(ppi, ppi, "inch"),
        )  # fmt: skip

    @cached_property
    def result(self) -> ImageSpec:
        """What is written, metadata still as the source has them."""
        if self.press is None:
            return replace(self.opaque, dtype=self.depth)
        return replace(
            self.opaque,
            channels=self.press.channels,
            dtype=self.depth,
            icc=self.press.icc,
            space="cmyk" if self.press.space == "CMYK" else "additive",
            notes=(*self.opaque.notes, note(self.press)),
        )

    @property
    def deeds(self) -> tuple[str, ...]:
        """What is done after the chain, for the record."""
        placed = f"sheet face={self.sheet.face[1]}x{self.sheet.face[0]} margin={self.sheet.margin} ppi={self.ppi}"
        if self.press is None:
            return (placed,)
        digest = sha256(self.press.icc).hexdigest()
        black = " black-point-compensation" if self.press.black_point else ""
        return placed, f"icc-convert profile-sha256={digest} intent={self.press.intent}{black}"

    @cached_property
    def projected_mem(self) -> int:
        """Bytes a worker needs at most for one tile."""
        area = int(np.prod([min(self.tile, size) for size in self.output]))
        opaque = self.opaque.channels * 2
        written = self.result.nbytes // (self.result.height * self.result.width)
        # Laid on the sheet, and folded; turned into ink; halved again and again, and encoded.
        return self.plan.projected_mem + area * (2 * opaque + 3 * written) + (_PRESS_MEM if self.press else 0)


def _colour(rgb: Rgb, spec: ImageSpec) -> tuple[int, ...]:
    return tuple(int(level) for level in coloured(rgb, spec)[0, 0])


def _json(value: object) -> object:
    """A value as JSON can hold it, exactly."""
    if isinstance(value, Fraction):
        return str(value)
    if isinstance(value, Mapping):
        return {name: _json(inner) for name, inner in value.items()}
    return [_json(inner) for inner in value] if isinstance(value, tuple | list) else value
