"""The finished pixels of a sheet as the files that were asked for: TIFF, PDF, PNG or JPEG, whole or in panels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np

from pipelines import bigtiff, derivative
from pipelines.errors import JobError
from refine.api import cores
from refine.errors import PlanError
from refine.frame import Frame
from refine.framed import Framed, View
from refine.imagefile import Format, check_fits, encode_image, publish
from refine.pdf import write_pdf
from refine.sheet import Sheet
from refine.spec import Image, ImageSpec, Pixels

Form = Literal["zarr", "tiff", "pdf", "png", "jpeg"]
FORMS: dict[str, Form] = {
    ".zarr": "zarr",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".pdf": "pdf",
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
}
"""What a target's name may end with."""


@dataclass(frozen=True, slots=True)
class Prints:
    """What is to be written of a finished sheet."""

    target: Path
    """What the user named."""
    form: Form
    """Of the files."""
    spec: ImageSpec
    """Of the whole sheet, with what goes into a file beside the pixels."""
    sheet: Sheet
    """Its geometry."""
    frames: Sequence[Frame]
    """Its files, or pages."""
    quality: int = 95
    """Of JPEG."""


def form_of(target: Path) -> Form:
    """What a target is, by its name. Raises JobError."""
    form = FORMS.get(target.suffix.lower())
    if form is None:
        raise JobError(f"{target.name}: its ending names no poster; use .tif, .pdf, .png, .jpg or .zarr")
    if not target.parent.is_dir():
        raise JobError(f"{target}: its folder does not exist; make it, or name another")
    return form


def check_form(form: Form, spec: ImageSpec, frames: Sequence[Frame], allowed_mem: int) -> None:
    """Raise PlanError or ImageWriteError where that kind of file cannot hold the sheet, or not be put together."""
    if form == "zarr":
        if len(frames) > 1 or frames[0].marks:
            raise PlanError("a .zarr holds the pixels of the sheet; panels and marks are for .tif, .pdf, .png and .jpg")
        return
    if form == "pdf":
        if spec.space == "lab":
            raise PlanError("a PDF is written in grey, RGB or CMYK, the picture is in L*a*b*; give a --profile")
        return
    for frame in frames:
        outer = frame.outer
        framed = Framed(_NOTHING, spec, frame).spec
        check_fits(framed, form)
        if form != "tiff" and 2 * framed.nbytes > max(allowed_mem, _machine_mem() // 2):
            needed = f"{outer.width} x {outer.height} px need {2 * framed.nbytes / 1e9:.1f} GB of memory"
            raise PlanError(f"{form.upper()} is written whole: {needed}; use .tif or .pdf, or more panels")


def paths(prints: Prints) -> list[Path]:
    """The files, in the order of the frames; one for all pages."""
    if prints.form == "pdf" or len(prints.frames) == 1:
        return [prints.target]
    return [derivative.panel_path(prints.target, *frame.place) for frame in prints.frames]


def write(prints: Prints, pixels: View) -> None:
    """Write all files. Each is seen whole or not at all; the same sheet gives the same bytes."""
    if prints.form == "zarr":
        return
    if prints.form == "pdf":
        write_pdf(
            prints.target, pixels, prints.spec, prints.sheet, prints.frames, title=prints.target.stem, ordered=_abreast
        )
        return
    for path, frame in zip(paths(prints), prints.frames, strict=True):
        framed = Framed(pixels, prints.spec, frame)
        if prints.form == "tiff":
            bigtiff.export_levels([([framed], framed.spec)], path, threads=cores())
        else:
            whole = framed[: framed.shape[0], : framed.shape[1]]
            image = Image(np.ascontiguousarray(whole), framed.spec)
            publish(path, encode_image(image, cast("Format", prints.form), quality=prints.quality))


def file_nbytes(prints: Prints) -> int:
    """Bytes that the files take at most, roughly."""
    if prints.form == "zarr":
        return 0
    pixel = prints.spec.nbytes // (prints.spec.height * prints.spec.width)
    px = sum(frame.outer.area for frame in prints.frames)
    # The images of a PDF lie beside it until it is whole.
    return int(px * pixel * {"tiff": 1.0, "pdf": 1.6, "png": 0.8, "jpeg": 0.3}[prints.form])


def _abreast(work: Iterator[Callable[[], bytes]]) -> Iterable[bytes]:
    with ThreadPoolExecutor(cores(), "pdf") as pool:
        yield from bigtiff.in_order(pool, work, 2 * cores())


class _Nothing:
    """Pixels of which only the description is asked for."""

    def __getitem__(self, window: tuple[slice, slice]) -> Pixels:
        raise AssertionError(window)


_NOTHING = _Nothing()


def _machine_mem() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
