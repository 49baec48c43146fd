"""What a plan's result becomes as a file: its format, what goes into it beside the pixels, and what is to be told."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import cast, get_args

from refine._version import __version__
from refine.background import hexed
from refine.errors import ImageWriteError
from refine.imagefile import Format, check_fits, encode_image, losses
from refine.plan import Plan
from refine.preset import Preset
from refine.provenance import Deed, carried, stamped, stripped
from refine.resample import Resample
from refine.settings import Settings
from refine.spec import Image, ImageSpec, Metadata, Pixels

logger = logging.getLogger(__name__)

TIFF_TILE = 512
"""px of a tile of a TIFF: what viewers like, whatever the plan's tile is."""
_MAX_SIDE = 65_500
"""px of the longer side of a result that is written whole for want of its source's format; beyond, a TIFF is."""
_NAMES = {"jpeg2000": "JPEG 2000", "jpegxl": "JPEG XL", "webp": "WebP"}
"""Of formats that are not simply written in capitals."""


@dataclass(frozen=True, slots=True)
class Output:
    """The file of a result, apart from its pixels."""

    spec: ImageSpec
    """Of the result, with the metadata that go into its file."""
    format: Format
    """Of the file."""
    notes: tuple[str, ...]
    """What was changed or left out on the way from the source's file to this one; short sentences."""


def output_format(plan: Plan, settings: Settings) -> Format:
    """The format of a result's file: as it is wished, or the source's, or the nearest that can hold the result."""
    return _format_and_why(plan, settings)[0]


def output(plan: Plan, settings: Settings, execution_class: str, file_format: Format | None = None) -> Output:
    """The file of a plan's result. Trouble with metadata is told in its notes, and stops nothing.

    file_format is for results whose name decides it. Raises ImageWriteError where the format cannot hold the result,
    and ImageReadError where the source's colours mean nothing.
    """
    chosen, why = (file_format, ()) if file_format is not None else _format_and_why(plan, settings)
    check_fits(plan.result, chosen)
    return described(plan.source, plan.result, deed(plan, execution_class), settings.preset, chosen, why)


def described(
    source: ImageSpec, result: ImageSpec, done: Deed, preset: Preset, chosen: Format, why: tuple[str, ...] = ()
) -> Output:
    """The file of a result that a format can hold: the source's metadata as far as they hold for it, and the deed.

    why is told beside what was changed or left out.
    """
    strip = preset.output.metadata == "strip"
    metadata, notes = (stripped(source.metadata), ()) if strip else _described(source, result, done)
    spec = replace(result, metadata=metadata)
    told = (*result.notes, *why, *notes, *losses(spec, chosen))
    return Output(spec, chosen, tuple(dict.fromkeys(told)))


def encoded(pixels: Pixels, made: Output, settings: Settings) -> bytes:
    """The bytes of a result's file."""
    wished = settings.preset.output
    return encode_image(Image(pixels, made.spec), made.format, quality=wished.quality, lossless=wished.lossless)


def deed(plan: Plan, execution_class: str) -> Deed:
    """What a plan does to a picture, to be written into its result."""
    return Deed(
        program="refine",
        version=__version__,
        scale=max(plan.output) / max(plan.source.height, plan.source.width),
        steps=tuple(_steps(plan)),
        nets=tuple((card.id, card.sha256) for card in plan.chain.cards),
        generative=any(card.generative for card in plan.chain.cards),
        execution_class=execution_class,
    )


def _format_and_why(plan: Plan, settings: Settings) -> tuple[Format, tuple[str, ...]]:
    """The format, and a note where it is neither the one wished nor the source's."""
    wished, result = settings.preset.output.format, plan.result
    if wished != "source":
        return wished, ()
    reason = f"{_name(result.format)} is not written"
    if result.format in get_args(Format):
        try:
            check_fits(result, result.format)
        except ImageWriteError as error:
            reason = str(error).partition(";")[0]
        else:
            return cast("Format", result.format), ()
    small = result.dtype == "uint8" and max(result.height, result.width) <= _MAX_SIDE
    nearest: Format = "png" if small and result.space == "additive" else "tiff"
    return nearest, (f"written as {_name(nearest)}: {reason}",)


def _name(file_format: str) -> str:
    """A format as one writes it."""
    return _NAMES.get(file_format, file_format.upper())


def _described(source: ImageSpec, result: ImageSpec, done: Deed) -> tuple[Metadata, tuple[str, ...]]:
    """The source's metadata, as far as they hold for the result, with what was done; and notes."""
    try:
        kept, notes = carried(source.metadata, result.height, result.width, result.resolution, source.orientation)
        written, more = stamped(kept, done)
    except Exception as error:  # No metadata, however odd, may cost the picture.
        logger.debug("metadata left out", exc_info=error)
        return Metadata(), (f"EXIF, XMP and IPTC left out: {type(error).__name__} while they were carried over",)
    return written, (*notes, *more)


def _steps(plan: Plan) -> Iterator[str]:
    """The steps that do something, with their strengths: `unsharp-mask sigma=1 amount=0.4`."""
    for step in plan.chain.active:
        if isinstance(step, Resample) and plan.axes is None:
            continue  # the networks' factor gives the size
        assert is_dataclass(step)
        name = re.sub("(?<=[a-z])(?=[A-Z])", "-", type(step).__name__).lower()
        yield " ".join([name, *(f"{field.name}={_said(getattr(step, field.name))}" for field in fields(step))])
    if plan.background is not None and plan.behind is not None:
        yield f"flatten background={hexed(plan.background)}"


def _said(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
