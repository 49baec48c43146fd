"""Sheets as PDF: pixels in ICC colour, boxes that printers cut by, marks as lines. The same sheet, the same bytes.

The pixels are written as plain streams, one after the other, into a file that holds nothing else; qpdf, by pikepdf,
makes the document of it without holding more than one of them. Lossless.

Source: ISO 32000-2:2020, 7.5 (file structure), 8.9.5 (images), 8.6.5.5 (ICCBased), 14.11.2 (page boundaries).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import imagecodecs
import numpy as np
import pikepdf
from pikepdf import Array, Dictionary, Name, Operator, Pdf, String

from refine.frame import Frame, Line, Mark, Ring, Text
from refine.framed import View
from refine.sheet import Sheet
from refine.spec import ImageSpec
from refine.staging import staged
from refine.window import Window

_HEIGHT, _WIDTH = 1024, 4096
"""px of one image at most: 33 MB of four channels of 16 bit."""
_LAP = 32
"""px that an image shows of the next ones, which are drawn over it: else viewers that smooth show a line between."""
_MOST = 14_400
"""Units a side that readers take; a larger page counts in larger units."""
_POINT = 72
_SUB = 1
"""PNG's filter: each byte less the one of the px before."""
_CIRCLE = 0.5522847498
"""How far the handles of a quarter of a circle stand, of its radius."""
_SPACES = {"grey": "/DeviceGray", "rgb": "/DeviceRGB", "cmyk": "/DeviceCMYK"}


class _Placed(NamedTuple):
    """An image of a page."""

    window: Window
    """px of the sheet."""
    page: int


@dataclass(frozen=True, slots=True)
class _Scale:
    """From px of the sheet to units of a page, whose y goes up."""

    left: int
    """px of the sheet at the page's left edge."""
    bottom: int
    """px of the sheet at its lower edge."""
    wide: Decimal
    """Units of a px."""
    high: Decimal
    """The same, down."""

    def x(self, px: float) -> Decimal:
        """Units from the left."""
        return _rounded((Decimal(px) - self.left) * self.wide)

    def y(self, px: float) -> Decimal:
        """Units from below."""
        return _rounded((self.bottom - Decimal(px)) * self.high)


def write_pdf(
    path: Path,
    pixels: View,
    spec: ImageSpec,
    sheet: Sheet,
    frames: Sequence[Frame],
    *,
    title: str,
    ordered: Callable[[Iterator[Callable[[], bytes]]], Iterable[bytes]] | None = None,
) -> None:
    """Write the frames of a sheet as the pages of a PDF; then publish it.

    spec is that of the sheet. MediaBox: all; BleedBox: what is printed; TrimBox: what is left, in exact lengths.
    ordered runs the encoding of images, by default one after the other in this thread. A few images are held at a
    time. Raises ImageWriteError where the disk refuses.
    """
    images = [placed for number, frame in enumerate(frames) for placed in _images(frame, number)]
    work = (partial(_encoded, pixels, _with_lap(one, frames), spec) for one in images)
    run = ordered or (lambda pieces: (piece() for piece in pieces))
    container = path.with_name(f".{path.name[:40]}.images.part")
    try:
        with container.open("wb") as file:
            count = _write_streams(file, run(work))
        assert count == len(images)
        with staged(path) as temporary, pikepdf.open(container, access_mode=pikepdf.AccessMode.stream) as pdf:
            _complete(pdf, images, frames, spec, sheet, title)
            pdf.save(
                temporary,
                min_version="1.6",
                deterministic_id=True,
                compress_streams=False,
                stream_decode_level=pikepdf.StreamDecodeLevel.none,
                object_stream_mode=pikepdf.ObjectStreamMode.disable,
            )
    finally:
        container.unlink(missing_ok=True)


def _images(frame: Frame, page: int) -> Iterator[_Placed]:
    """The images of a frame, cut on the grid of the sheet, so that its chunks are decoded once."""
    window = frame.window
    for y in range(window.y0 // _HEIGHT * _HEIGHT, window.y1, _HEIGHT):
        for x in range(window.x0 // _WIDTH * _WIDTH, window.x1, _WIDTH):
            yield _Placed(Window(y, x, y + _HEIGHT, x + _WIDTH).clip(window), page)


def _with_lap(one: _Placed, frames: Sequence[Frame]) -> Window:
    window = one.window
    return Window(window.y0, window.x0, window.y1 + _LAP, window.x1 + _LAP).clip(frames[one.page].window)


def _encoded(pixels: View, window: Window, spec: ImageSpec) -> bytes:
    """An image's bytes: rows behind PNG's filter, deflated."""
    found = pixels[window.slices]
    stored = np.ascontiguousarray(found.astype(">u2") if spec.dtype == "uint16" else found)
    rows = stored.view(np.uint8).reshape(len(found), -1)
    step = rows.shape[1] // found.shape[1]
    filtered = np.empty((len(rows), rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = _SUB
    filtered[:, 1 : 1 + step] = rows[:, :step]
    np.subtract(rows[:, step:], rows[:, :-step], out=filtered[:, 1 + step :])
    return bytes(imagecodecs.zlib_encode(filtered.tobytes(), level=1))


def _write_streams(file: BinaryIO, streams: Iterable[bytes]) -> int:
    """A file of nothing but streams that qpdf can open: they are the array `Images` of its catalogue. How many."""
    file.write(b"%PDF-1.6\n%\xe2\xe3\xcf\xd3\n")
    places = []
    for number, data in enumerate(streams, 3):
        places.append(file.tell())
        file.write(b"%d 0 obj\n<</Length %d>>\nstream\n" % (number, len(data)))
        file.write(data)
        file.write(b"\nendstream\nendobj\n")
    listed = b" ".join(b"%d 0 R" % number for number in range(3, 3 + len(places)))
    root = file.tell()
    file.write(b"1 0 obj\n<</Type/Catalog/Pages 2 0 R/Images[" + listed + b"]>>\nendobj\n")
    tree = file.tell()
    file.write(b"2 0 obj\n<</Type/Pages/Kids[]/Count 0>>\nendobj\n")
    table = file.tell()
    entries = b"".join(b"%010d 00000 n \n" % place for place in (root, tree, *places))
    size = 3 + len(places)
    file.write(b"xref\n0 %d\n0000000000 65535 f \n" % size + entries)
    file.write(b"trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (size, table))
    return len(places)


def _complete(
    pdf: Pdf, images: Sequence[_Placed], frames: Sequence[Frame], spec: ImageSpec, sheet: Sheet, title: str
) -> None:
    """Make a document of the streams."""
    streams = list(pdf.Root.Images)
    del pdf.Root.Images
    space = _space(pdf, spec)
    for one, stream in zip(images, streams, strict=True):
        window = _with_lap(one, frames)
        stream.Type, stream.Subtype = Name.XObject, Name.Image
        stream.Width, stream.Height = window.width, window.height
        stream.BitsPerComponent, stream.ColorSpace = 8 * np.dtype(spec.dtype).itemsize, space
        stream.Filter = Name.FlateDecode
        stream.DecodeParms = Dictionary(
            Predictor=15, Colors=spec.channels, BitsPerComponent=stream.BitsPerComponent, Columns=window.width
        )
    for number, frame in enumerate(frames):
        own = [(one, stream) for one, stream in zip(images, streams, strict=True) if one.page == number]
        _add_page(pdf, frame, frames, own, sheet)
    if spec.space == "cmyk" and spec.icc is not None:
        pdf.Root.OutputIntents = Array([_intent(pdf, spec.icc)])
    pdf.docinfo["/Title"] = String(title)


def _space(pdf: Pdf, spec: ImageSpec) -> pikepdf.Object:
    """The colour space of the pixels: by their profile, where they have one."""
    plain = Name(_SPACES[spec.model])
    if spec.icc is None:
        return plain
    profile = pdf.make_stream(spec.icc, N=spec.channels, Alternate=plain)
    return pdf.make_indirect(Array([Name.ICCBased, profile]))


def _intent(pdf: Pdf, icc: bytes) -> Dictionary:
    return Dictionary(
        Type=Name.OutputIntent,
        S=Name("/GTS_PDFX"),
        OutputConditionIdentifier=String("Custom"),
        Info=String("the printer profile given"),
        DestOutputProfile=pdf.make_stream(icc, N=4),
    )


def _add_page(
    pdf: Pdf,
    frame: Frame,
    frames: Sequence[Frame],
    images: Sequence[tuple[_Placed, pikepdf.Object]],
    sheet: Sheet,
) -> None:
    cut, outer = sheet.cut, frame.outer
    height, width = (side + 2 * sheet.surround.wrap for side in sheet.inches)
    wide = Decimal(width.numerator) * _POINT / width.denominator / cut.width
    high = Decimal(height.numerator) * _POINT / height.denominator / cut.height
    unit = max(1, -(-int(max(outer.width * wide, outer.height * high) + 1) // _MOST))
    scale = _Scale(outer.x0, outer.y1, wide / unit, high / unit)
    page = pdf.add_blank_page(page_size=(scale.x(outer.x1), scale.y(outer.y0)))
    trim = _box(scale, frame.trim)
    page.TrimBox = Array(trim)
    page.BleedBox = Array(_bleed(scale, frame, sheet, unit))
    page.MediaBox = Array(_box(scale, outer))
    if unit > 1:
        page.UserUnit = unit
    names = {f"/Image{n}": stream for n, (_, stream) in enumerate(images)}
    page.Resources = Dictionary(
        XObject=Dictionary(names), ColorSpace=Dictionary(All=_registration(pdf)), Font=Dictionary(Text=_font(pdf))
    )
    drawn = [line for n, (one, _) in enumerate(images) for line in _draw(scale, _with_lap(one, frames), f"/Image{n}")]
    marks = [line for mark in frame.marks for line in _mark(scale, mark)]
    thin = _rounded(Decimal(frame.thin) * scale.wide)
    prelude: list[_Instruction] = [([Name.All], Operator("CS")), ([1], Operator("SCN")), ([Name.All], Operator("cs")),
               ([1], Operator("scn")), ([thin], Operator("w"))]  # fmt: skip
    said = cast("list[tuple[list[pikepdf.Object], Operator]]", [*drawn, *(prelude if marks else []), *marks])
    page.Contents = pdf.make_stream(pikepdf.unparse_content_stream(said))


def _box(scale: _Scale, window: Window) -> list[Decimal]:
    """Left, lower, right, upper."""
    return [scale.x(window.x0), scale.y(window.y1), scale.x(window.x1), scale.y(window.y0)]


def _bleed(scale: _Scale, frame: Frame, sheet: Sheet, unit: int) -> list[Decimal]:
    """The box of what is printed: the bleed as it was ordered, where the frame ends with the sheet."""
    left, lower, right, upper = _box(scale, frame.trim)
    bleed = sheet.surround.bleed * _POINT / unit
    more = _rounded(Decimal(bleed.numerator) / bleed.denominator)
    window, cut = frame.window, sheet.cut
    beyond = (window.x0 < cut.x0, window.y1 > cut.y1, window.x1 > cut.x1, window.y0 < cut.y0)
    signs = (-1, -1, 1, 1)
    box = (left, lower, right, upper)
    return [edge + sign * more if out else edge for edge, sign, out in zip(box, signs, beyond, strict=True)]


def _registration(pdf: Pdf) -> pikepdf.Object:
    """All inks at once, whatever they are."""
    blend = Dictionary(FunctionType=2, Domain=[0, 1], C0=[0, 0, 0, 0], C1=[1, 1, 1, 1], N=1)
    return pdf.make_indirect(Array([Name.Separation, Name.All, Name.DeviceCMYK, blend]))


def _font(pdf: Pdf) -> pikepdf.Object:
    return pdf.make_indirect(
        Dictionary(Type=Name.Font, Subtype=Name.Type1, BaseFont=Name.Helvetica, Encoding=Name.WinAnsiEncoding)
    )


_Instruction = tuple[list[object], Operator]


def _draw(scale: _Scale, window: Window, name: str) -> Iterator[_Instruction]:
    left, lower, right, upper = _box(scale, window)
    yield [], Operator("q")
    yield [right - left, 0, 0, upper - lower, left, lower], Operator("cm")
    yield [Name(name)], Operator("Do")
    yield [], Operator("Q")


def _mark(scale: _Scale, mark: Mark) -> Iterator[_Instruction]:
    match mark:
        case Line():
            yield [scale.x(mark.x0), scale.y(mark.y0)], Operator("m")
            yield [scale.x(mark.x1), scale.y(mark.y1)], Operator("l")
            yield [], Operator("S")
        case Ring():
            yield from _ring(scale, mark)
        case Text():
            size = _rounded(Decimal(mark.height) * scale.high)
            yield [], Operator("BT")
            yield [Name.Text, size], Operator("Tf")
            yield [scale.x(mark.x), scale.y(mark.y)], Operator("Td")
            yield [String(mark.words.encode("cp1252", "replace"))], Operator("Tj")
            yield [], Operator("ET")


def _ring(scale: _Scale, ring: Ring) -> Iterator[_Instruction]:
    x, y = float(scale.x(ring.x)), float(scale.y(ring.y))
    radius = ring.radius * float(scale.wide)
    handle, arm = radius * _CIRCLE, radius * 1.5
    corners = [(radius, 0.0), (0.0, radius), (-radius, 0.0), (0.0, -radius), (radius, 0.0)]
    yield _points(x, y, corners[0]), Operator("m")
    for (ax, ay), (bx, by) in pairwise(corners):
        share = handle / radius
        yield (
            _points(x, y, (ax + bx * share, ay + by * share), (bx + ax * share, by + ay * share), (bx, by)),
            Operator("c"),
        )
    yield [], Operator("S")
    for ends in (((-arm, 0.0), (arm, 0.0)), ((0.0, -arm), (0.0, arm))):
        yield _points(x, y, ends[0]), Operator("m")
        yield _points(x, y, ends[1]), Operator("l")
        yield [], Operator("S")


def _points(x: float, y: float, *points: tuple[float, float]) -> list[object]:
    return [_rounded(Decimal(value)) for dx, dy in points for value in (x + dx, y + dy)]


def _rounded(value: Decimal) -> Decimal:
    """To a millionth of a unit: a third of a nanometre."""
    return round(value, 6)
