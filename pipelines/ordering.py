"""The options of an order: each word of the command line turned into what `refine.order` counts in, or refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial, wraps
from math import ceil
from pathlib import Path
from typing import Any, cast, get_args

import click

from pipelines.errors import JobError
from pipelines.options import Command, nets_setting, optioned
from refine.background import Rgb, rgb
from refine.errors import PlanError
from refine.finish import MEDIA, MediumName
from refine.ink import INTENTS, Intent, Press, press
from refine.length import Paper, length, paper
from refine.order import Order, check_distance
from refine.preset import load_preset
from refine.sheet import ANCHORS, Edge, Mode, Placement, Surround, Turn
from refine.sight import eye_ppi, usual_distance
from refine.spec import Depth
from refine.window import Window

_EDGES = get_args(Edge)
_file = click.Path(path_type=Path)


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a sheet is handed over."""

    panels: tuple[int, int] = (1, 1)
    """Rows and columns of them."""
    largest: tuple[Fraction, Fraction] | None = None
    """Height and width, inches, that no panel may exceed: then there are as few as can be."""
    overlap: Fraction = Fraction(0)
    """Inches that neighbours share."""
    marks: bool = False
    """Whether files have a slug with marks."""
    paper_white: bool = False
    """Whether the proof shows the colour of the paper."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for, but for the kind of target, which decides what is usual."""

    order: Callable[[Depth], Order]
    """The order, for the depth that is usual."""
    delivery: Callable[[bool], Delivery]
    """How it is handed over, by whether marks are usual."""


def _options() -> tuple[Callable[[Command], Command], ...]:
    return (
        click.option("--size", required=True, metavar="PAPER", help="24x36in, 60x90cm, A1, letter, 4x6, 720x960px."),
        click.option("--ppi", default="300", show_default=True, metavar="NUMBER",
                     help="px per inch that are printed; eye: as many as an eye tells apart."),
        click.option("--fill", is_flag=True, help="Cover the paper (usual)."),
        click.option("--fit", is_flag=True, help="Show all of the picture, paper round it."),
        click.option("--anchor", default="centre", show_default=True, metavar="WHERE",
                     help="What stays in sight, or where the picture lies: top-left, 30%,70%..."),
        click.option("--crop", metavar="WxH+X+Y", help="Only this part of the picture, px of the source."),
        click.option("--turn", type=click.Choice(get_args(Turn)), default="auto", show_default=True,
                     help="Which way the paper lies; auto: as the picture."),
        click.option("--border", metavar="LENGTH", help="Paper left free round the picture, at least."),
        click.option("--bleed", metavar="LENGTH", help="Beyond the paper, to be cut away."),
        click.option("--wrap", metavar="LENGTH", help="Beyond the paper, to go round the frame of a canvas."),
        click.option("--edge", metavar="WHAT", help=f"What is there: {', '.join(_EDGES[:3])}, or a colour: #336699."),
        click.option("--safe", metavar="LENGTH", help="Shown in the proof: what matters lies so far inside."),
        click.option("--background", metavar="COLOUR", help="Of free paper and behind transparent px: #ffffff."),
        click.option("--medium", type=click.Choice(list(MEDIA)), help="What it is printed on: sharpens for it."),
        click.option("--distance", metavar="LENGTH", help="From where it is seen; usual: 1.5 times its diagonal."),
        click.option("--profile", type=_file, help="ICC profile of the printer: RGB, CMYK or grey."),
        click.option("--intent", type=click.Choice(list(INTENTS)), default="relative", show_default=True,
                     help="What becomes of colours that the printer cannot make."),
        click.option("--no-black-point", is_flag=True, help="Leave black where the intent puts it."),
        click.option("--depth", type=click.Choice(["8", "16"]), help="Bits of a channel; usual: 16 in TIFF and zarr."),
        click.option("--panels", metavar="CxR", help="Split it into so many columns and rows."),
        click.option("--panel-size", metavar="PAPER", help="Split it into panels no larger than this."),
        click.option("--overlap", metavar="LENGTH", help="What neighbouring panels share."),
        click.option("--marks/--no-marks", default=None, help="Crop and registration marks; usual in PDF only."),
        click.option("--paper-white", is_flag=True, help="Show the paper's own colour in the proof."),
        click.option("--force", is_flag=True, help="Make it even where the picture holds far too little for it."),
        click.option("--preset", default="print", show_default=True, help="A name in configs/, or a TOML file."),
        click.option("--net", multiple=True, help="Network that enlarges, or `standard`; again for one after it."),
        click.option("--tile", type=click.IntRange(16), help="Side of a tile, px of the sheet."),
        click.option("--set", "put", multiple=True, metavar="KEY=VALUE", help="Any setting: --set sharpen.amount=0.3"),
    )  # fmt: skip


def ordered(command: Command) -> Command:
    """Put `asked` into a command: what is ordered, and how it is handed over."""

    @wraps(command)
    def parsed(**options: Any) -> None:  # noqa: ANN401  click's own
        ours = {name: options.pop(name) for name in _OURS}
        command(asked=asked_for(ours), **options)

    return optioned(_options(), parsed)


_OURS = frozenset(
    (
        "size", "ppi", "fill", "fit", "anchor", "crop", "turn", "border", "bleed", "wrap", "edge", "safe", "background",
        "medium", "distance", "profile", "intent", "no_black_point", "depth", "panels", "panel_size", "overlap",
        "marks", "paper_white", "force", "preset", "net", "tile", "put",
    )
)  # fmt: skip


def asked_for(options: dict[str, Any]) -> Asked:
    """What the options ask for. Raises PlanError, PresetError or JobError, in one line, for what means nothing."""
    if options["fill"] and options["fit"]:
        raise PlanError("--fill covers the paper, --fit shows all of the picture: give one of them")
    mode: Mode = "fit" if options["fit"] else "fill"
    edge, rim = _edge(options["edge"], wrapped=bool(options["wrap"]), mode=mode)
    wish = {name: _length(options[name]) for name in ("border", "bleed", "wrap", "safe", "overlap")}
    onto = _press(options["profile"], options["intent"], black_point=not options["no_black_point"])
    size, distance = paper(options["size"]), None if options["distance"] is None else length(options["distance"])
    order = partial(
        Order,
        size,
        _ppi(options["ppi"], size, distance),
        load_preset(options["preset"], _settings(options)),
        Placement(
            mode,
            _anchor(options["anchor"]),
            _crop(options["crop"]),
            cast("Turn", options["turn"]),
            wish["border"],
        ),
        Surround(wish["wrap"], wish["bleed"], edge, wish["safe"]),
        background=rgb(options["background"] or "#ffffff"),
        rim=rim,
        medium=cast("MediumName | None", options["medium"]),
        distance=distance,
        press=onto,
        force=options["force"],
    )
    depth: Depth | None = options["depth"] and cast("Depth", f"uint{options['depth']}")
    panels, largest = _panels(options["panels"], options["panel_size"])
    if options["overlap"] is not None and panels == (1, 1) and largest is None:
        raise PlanError(
            "--overlap is what neighbouring panels share, and there are none; give --panels or --panel-size"
        )
    delivery = partial(Delivery, panels, largest, wish["overlap"], paper_white=options["paper_white"])
    marks: bool | None = options["marks"]
    return Asked(
        lambda usual: order(depth=depth or usual),
        lambda usual: delivery(marks=usual if marks is None else marks),
    )


def _length(text: str | None) -> Fraction:
    return length(text) if text else Fraction(0)


def _settings(options: dict[str, Any]) -> dict[str, str]:
    chosen = {}
    for text in options["put"]:
        key, equals, value = text.partition("=")
        if not equals:
            raise JobError(f"--set takes key=value, got {text!r}; for example --set sharpen.sigma=0.8")
        chosen[key.strip()] = value.strip()
    if (nets := nets_setting(options["net"])) is not None:
        chosen["upscale.nets"] = nets
    if options["tile"] is not None:
        chosen["plan.tile"] = str(options["tile"])
    return chosen


def _ppi(text: str, size: Paper, distance: Fraction | None) -> Fraction:
    """px per inch; of `eye` as many as it tells apart, whole ones, from where the print is looked at."""
    if text == "eye":
        if distance is not None:
            check_distance(distance)
        if size.px is not None:
            raise PlanError("--ppi eye needs a size of paper: px say nothing of how large it is; write 24x36in or A1")
        return Fraction(ceil(eye_ppi(float(usual_distance(size.height, size.width) if distance is None else distance))))
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise PlanError(f"--ppi is a number of px per inch, got {text!r}; write 300, 254 or eye") from error


def _anchor(text: str) -> tuple[Fraction, Fraction]:
    """How far down and across, by name, or as percent across and down.

    >>> _anchor("top"), _anchor("30%,75%")
    ((Fraction(0, 1), Fraction(1, 2)), (Fraction(3, 4), Fraction(3, 10)))
    """
    if text in ANCHORS:
        return ANCHORS[text]
    found = re.fullmatch(r"(\d+(?:\.\d+)?)%,\s*(\d+(?:\.\d+)?)%", text.strip())
    across, down = (Fraction(part) / 100 for part in found.groups()) if found else (Fraction(-1), Fraction(-1))
    if not (0 <= across <= 1 and 0 <= down <= 1):
        raise PlanError(f"{text!r} is no anchor; write {', '.join(ANCHORS)}, or 30%,70% across and down")
    return down, across


def _edge(text: str | None, *, wrapped: bool, mode: str) -> tuple[Edge, Rgb | None]:
    """What is beyond the face. Usual: the picture goes on into the bleed, and is mirrored round a frame."""
    if text is None:
        return ("mirror" if wrapped else "picture" if mode == "fill" else "colour"), None
    if text in _EDGES:
        return cast("Edge", text), None
    try:
        return "colour", rgb(text)
    except PlanError as error:
        raise PlanError(
            f"--edge is {', '.join(_EDGES[:-1])} or a colour, got {text!r}; write mirror or #336699"
        ) from error


def _crop(text: str | None) -> Window | None:
    """A part of the source, px.

    >>> _crop("600x400+10+20")
    Window(y0=20, x0=10, y1=420, x1=610)
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)x(\d+)\+(\d+)\+(\d+)", text.strip())
    if found is None:
        raise PlanError(f"{text!r} is no crop; write width x height + left + top in px of the picture: 600x400+10+20")
    width, height, x, y = map(int, found.groups())
    return Window(y, x, y + height, x + width)


def _press(path: Path | None, intent: str, *, black_point: bool) -> Press | None:
    if path is None:
        return None
    try:
        icc = path.read_bytes()
    except OSError as error:
        raise PlanError(f"{path.name}: the profile cannot be read: {error.strerror}; name an .icc file") from error
    return press(icc, path.name, cast("Intent", intent), black_point=black_point)


def _panels(count: str | None, size: str | None) -> tuple[tuple[int, int], tuple[Fraction, Fraction] | None]:
    if count and size:
        raise PlanError("--panels says how many there are, --panel-size how large they may be: give one of them")
    if size:
        sheet = paper(size)
        if sheet.px is not None:
            raise PlanError(f"--panel-size is a size of paper, got {size!r}; write 24x36in, A0 or 100x150cm")
        return (1, 1), (sheet.height, sheet.width)
    if not count:
        return (1, 1), None
    found = re.fullmatch(r"(\d+)x(\d+)", count.strip().lower())
    if found is None or not all(0 < int(part) <= 100 for part in found.groups()):
        raise PlanError(f"{count!r} are no panels; write columns x rows, 1 to 100 each: 3x2")
    return (int(found[2]), int(found[1])), None
