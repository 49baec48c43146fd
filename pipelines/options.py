"""Options that several commands share, and what they mean: each decorator puts one value into a command."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial, wraps
from pathlib import Path

import click

from pipelines.assessing import reference_look
from pipelines.cluster import Cluster
from pipelines.errors import JobError
from refine.preset import load_preset
from refine.session import PROVIDERS
from refine.settings import FAMILIES, Settings, Size

Command = Callable[..., None]


def ratio(text: str) -> Fraction:
    """How many times as large, exactly.

    >>> ratio("2.5"), ratio("4/3")
    (Fraction(5, 2), Fraction(4, 3))
    """
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise click.BadParameter(f"{text!r} is no number; write 2, 2.5 or 5/2") from error


def extent(text: str) -> tuple[int, int]:
    """Height, width from width x height, px.

    >>> extent("1600x1200")
    (1200, 1600)
    """
    width, _, height = text.lower().partition("x")
    if not all(side.isascii() and side.isdigit() for side in (width, height)):
        raise click.BadParameter(f"{text!r} is no size; write width x height in px: 1600x1200")
    return int(height), int(width)


@dataclass(frozen=True, slots=True)
class Talk:
    """How much is said, and how."""

    as_json: bool
    """The result as one JSON value."""
    quiet: bool
    """Errors only."""
    verbose: int
    """1: a line per image; 2: everything."""


_file = click.Path(path_type=Path)
_WISHES = (
    click.option("--scale", type=ratio, metavar="RATIO", help="Times as large: 2, 2.5, 5/2."),
    click.option("--long-side", type=click.IntRange(1), help="Longer side of the result, px."),
    click.option("--size", type=extent, metavar="WxH", help="Exact size of the result, px: width x height."),
    click.option("--net", multiple=True, help="Network that enlarges, or `standard`; again for one after it."),
    click.option("--denoise", type=click.FloatRange(0, 50), help="Sigma of the noise to take out, 8-bit levels."),
    click.option("--sharpen", type=click.FloatRange(0), help="Amount of sharpening; 1 doubles the detail."),
    click.option("--match", type=_file, metavar="IMAGE", help="Bring tones and colours nearer to those of this image."),
    click.option("--strip", is_flag=True, help="Leave EXIF, XMP and IPTC out of the result."),
    click.option("--tile", type=click.IntRange(16), help="Side of a tile of a large image, px of the output."),
    click.option("--set", "put", multiple=True, metavar="KEY=VALUE", help="Any setting: --set sharpen.sigma=0.8"),
)
_PLACES = (
    click.option("--scheduler", metavar="ADDRESS", help="A Dask scheduler; without it, processes of this machine."),
    click.option("--workers", type=click.IntRange(1), help="Processes of this machine; without it, one per core."),
    click.option("--dashboard", is_flag=True, help="Show Dask's own page on 127.0.0.1; its address is printed."),
)
_TALK = (
    click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON value on stdout."),
    click.option("-q", "--quiet", is_flag=True, help="No progress: errors only."),
    click.option("-v", "--verbose", count=True, help="A line per image; twice: everything, tracebacks too."),
)
provider = click.option(
    "--provider", type=click.Choice(sorted(PROVIDERS)), default="cpu", show_default=True, help="What computes."
)
"""Puts `provider` into a command."""
repairing = click.option(
    "--repair", is_flag=True, help="Read a finished TARGET whole, and make anew what is not as it was written."
)
"""Puts `repair` into a command."""
bounded = click.option(
    "--max-failures", "allowed", metavar="N|P%", help="Stop where more images fail: so many, or percent."
)
"""Puts `allowed` into a command: how many images may fail, for `tolerance` to read."""


def wished(command: Command) -> Command:
    """Put `settings` into a command: what shall be done, and how large it shall become."""
    return wished_with("balanced")(command)


def wished_with(usual: str) -> Callable[[Command], Command]:
    """As `wished`, with another preset where none is named."""
    return partial(_wished, usual=usual)


def _wished(command: Command, usual: str) -> Command:
    @wraps(command)
    def parsed(  # noqa: PLR0913  one for each option
        *,
        scale: Fraction | None,
        long_side: int | None,
        size: tuple[int, int] | None,
        preset: str | None,
        put: tuple[str, ...],
        net: tuple[str, ...],
        denoise: float | None,
        sharpen: float | None,
        strip: bool,
        match: Path | None,
        tile: int | None,
        **others: object,
    ) -> None:
        options = {
            "--net": ("upscale.nets", nets_setting(net)),
            "--denoise": ("repair.noise", None if denoise is None else str(denoise)),
            "--sharpen": ("sharpen.amount", None if sharpen is None else str(sharpen)),
            "--strip": ("output.metadata", "strip" if strip else None),
            "--tile": ("plan.tile", None if tile is None else str(tile)),
        }
        chosen = _chosen(put, options)
        reference = None if match is None else reference_look(match)
        asked = Settings(load_preset(preset or usual, chosen), Size(scale, long_side, size), reference)
        command(settings=asked, **others)

    named = click.option("--preset", help=f"A name in configs/, or a TOML file; without it: {usual}.")
    return optioned((*_WISHES, named), parsed)


def nets_setting(named: Sequence[str]) -> str | None:
    """What `upscale.nets` becomes by `--net`; None where it is not given.

    >>> nets_setting(["standard"]), nets_setting(["fast-x4", "fast-x2"]), nets_setting([])
    ('standard', '["fast-x4", "fast-x2"]', None)
    """
    if len(named) == 1 and named[0] in FAMILIES:
        return named[0]
    return json.dumps(list(named)) if named else None


def placed(command: Command) -> Command:
    """Put `cluster` into a command: where the work is done."""

    @wraps(command)
    def parsed(*, scheduler: str | None, workers: int | None, dashboard: bool, **others: object) -> None:
        if scheduler and (workers or dashboard):
            raise JobError("--workers and --dashboard are for processes of this machine; leave out --scheduler or them")
        command(cluster=Cluster(scheduler, workers, dashboard), **others)

    return optioned(_PLACES, parsed)


def talking(command: Command) -> Command:
    """Put `talk` into a command: how much is said."""

    @wraps(command)
    def parsed(*, as_json: bool, quiet: bool, verbose: int, **others: object) -> None:
        command(talk=Talk(as_json, quiet, verbose), **others)

    return optioned(_TALK, parsed)


def optioned(options: Sequence[Callable[[Command], Command]], command: Command) -> Command:
    """The command with options, in that order."""
    for option in reversed(options):
        command = option(command)
    return command


def _chosen(put: Sequence[str], options: Mapping[str, tuple[str, str | None]]) -> dict[str, str]:
    """All settings, by key. Raises JobError where one key is given two values."""
    chosen: dict[str, tuple[str, str]] = {}
    named = [(option, key, value) for option, (key, value) in options.items() if value is not None]
    for given, key, value in [*((f"--set {text}", *_pair(text)) for text in put), *named]:
        before, _ = chosen.get(key, ("", ""))
        if before:
            raise JobError(f"{before} and {given} are both for {key}; leave one of them out")
        chosen[key] = given, value
    return {key: value for key, (_, value) in chosen.items()}


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise JobError(f"--set takes key=value, got {text!r}; for example --set sharpen.sigma=0.8")
    return key.strip(), value.strip()
