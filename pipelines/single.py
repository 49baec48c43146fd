"""One image from file to file: a plain loop over its plan, in this process, with all its cores."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipelines.assessing import flag
from pipelines.errors import JobError
from pipelines.estimate import check_stitch
from pipelines.failures import reason_of
from pipelines.output import TIFF_TILE, Output, encoded, output
from pipelines.progress import Progress, shown
from pipelines.summary import Complaint, Summary
from refine.api import cores
from refine.assess import assess
from refine.assessment import Assessment
from refine.decoder import Decoder
from refine.errors import ImageReadError, ImageWriteError, NonFiniteError
from refine.imagefile import Format, check_fits, publish, suffix_format, write_tiff
from refine.limits import Limits
from refine.plan import Plan
from refine.session import Engine, execution_class
from refine.settings import Settings
from refine.spec import Image, ImageSpec, Pixels
from refine.tiles import restore_tile, restored_window
from refine.window import grid

logger = logging.getLogger(__name__)

_SUFFIXES = ".jpg, .png, .tif, .webp, .avif or .jxl"


def restore_file(
    source: Path,
    target: Path,
    settings: Settings,
    limits: Limits | None = None,
    *,
    overwrite: bool = False,
    quiet: bool = False,
) -> Summary:
    """Restore one image file into another, which appears when it is complete; overwrite: where there is one already.

    What is wrong with the image is in the summary. Raises JobError, ChainError or PlanError where it cannot be done
    as asked.
    """
    started = time.monotonic()
    file_format = _format(source, target, settings, overwrite=overwrite)
    summary = Summary()
    stage = "read"
    try:
        with Decoder(limits) as decoder:
            # What is refused by its header is refused before a pixel is read.
            check_fits(_plan(settings, decoder.spec(source), file_format, None).result, file_format)
            image = decoder.read(source)
            stage = "assess"
            found = assess(image.pixels, image.spec)
            plan = _plan(settings, image.spec, file_format, found)
            engine = Engine(threads=cores())
            made = output(plan, settings, execution_class(engine, plan.block), file_format)
            decision = settings.decided(image.spec, found)
        stage = "restore"
        with shown(plan.tile_count, unit="tile", quiet=quiet) as progress:
            _write(image, plan, target, made, settings, engine, progress)
    except (ImageReadError, ImageWriteError, NonFiniteError) as error:
        reason = reason_of(error, source.name)
        summary.failed.append(Complaint(str(source), "write" if isinstance(error, ImageWriteError) else stage, reason))
    else:
        (height, width), took = plan.output, time.monotonic() - started
        summary.done, summary.output_px = 1, height * width
        summary.single = f"{target}: {width} x {height} px, {decision.action}; {took:.1f} s"
        summary.remark(str(source), made.notes)
        summary.decided(decision.action)
        for reason in decision.reasons:
            logger.info("%s: %s", source, reason)
        if flag(decision):
            summary.flagged.append({"path": str(source), "reason": flag(decision)})
    summary.seconds = time.monotonic() - started
    return summary


def _format(source: Path, target: Path, settings: Settings, *, overwrite: bool) -> Format:
    """The format that the target's name and the settings ask for."""
    file_format = suffix_format(target)
    wished = settings.preset.output.format
    if not source.is_file():
        raise JobError(f"{source}: {'is a folder' if source.is_dir() else 'there is no such file'}; name an image")
    if target.is_dir():
        raise JobError(f"{target}: is a folder; name a file in it, such as {target / source.name}")
    if file_format is None:
        raise JobError(f"{target.name}: its ending names no format that is written; use {_SUFFIXES}")
    if wished not in ("source", file_format):
        raise JobError(
            f"{target.name} is {file_format.upper()} by its name, but output.format says {wished!r}; drop one"
        )
    if not target.parent.is_dir():
        raise JobError(f"{target}: its folder does not exist; name a file in one that does")
    if target.exists() and target.samefile(source):
        raise JobError(f"{target}: is SOURCE itself; name another file, for the original is never overwritten")
    if os.path.lexists(target) and not overwrite:
        raise JobError(f"{target}: there is such a file already; name another one, or mean it with --overwrite")
    return file_format


def _plan(settings: Settings, spec: ImageSpec, file_format: Format, found: Assessment | None) -> Plan:
    plan = settings.plan(spec, found)
    if file_format == "tiff" and plan.tile != TIFF_TILE:
        # Tiles are streamed into the file as they come.
        preset = replace(settings.preset, plan=replace(settings.preset.plan, tile=TIFF_TILE))
        plan = replace(settings, preset=preset).plan(spec, found)
    check_stitch(plan, file_format, max(settings.preset.plan.allowed_mem, _machine_mem() // 2))
    return plan


def _write(
    image: Image, plan: Plan, target: Path, made: Output, settings: Settings, engine: Engine, progress: Progress
) -> None:
    if made.format == "tiff":
        write_tiff(target, made.spec, _windows(image.pixels, plan, engine, progress), TIFF_TILE)
        return
    pixels = np.empty(made.spec.shape, made.spec.dtype)
    for tile in plan.tiles():
        restore_tile(image.pixels, pixels, plan, tile, engine)
        progress.worked(images=1, px=tile.area)
    publish(target, encoded(pixels, made, settings))


def _windows(source: Pixels, plan: Plan, engine: Engine, progress: Progress) -> Iterator[Pixels]:
    for window in grid(*plan.output, TIFF_TILE):
        yield restored_window(source, plan, window, engine)
        progress.worked(images=1, px=window.area)


def _machine_mem() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
