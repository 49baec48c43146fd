"""TIFF: which of its many layouts are pictures for us, and what its tags say of them.

Read: grey, RGB, palette, CMYK, Lab and YCbCr in JPEG; 1 to 16 bits; strips, tiles, planes; with or without alpha;
BigTIFF; every compression that imagecodecs has. A strip or tile that is missing or short is an error, never zeros.
Extra samples that are no alpha are left out, and the notes say so.
"""

from __future__ import annotations

import struct
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self, cast

import tifffile

from refine.errors import ImageReadError
from refine.ifd import Kind, exif_of
from refine.limits import Limits
from refine.metadata import photoshop_iptc, resolution, with_icc
from refine.spec import ImageSpec, Metadata, Pixels, Resolution
from refine.tiffwindows import (
    BLACK_IS_ZERO,
    CIELAB,
    CMYK,
    COLOURS,
    ICCLAB,
    JPEG,
    OLD_JPEG,
    PALETTE,
    RGB,
    WHITE_IS_ZERO,
    YCBCR,
    Grid,
    Kept,
    Layout,
    Stored,
    grid_of,
    unusable,
)
from refine.window import Window

Role = Literal["page", "reduced", "mask"]
"""A picture of its own, a smaller copy of another one, or what of another one is to be seen."""

_CMYK_INKS = 1
_REFUSED = {4: "a mask", 10: "ITU Lab", 32803: "raw sensor data",
            32844: "logarithmic grey", 32845: "logarithmic colour", 34892: "raw sensor data"}  # fmt: skip
_TO_RGB = (OLD_JPEG, JPEG, 34927, 50001)
"""Compressions whose decoder turns YCbCr into RGB: JPEG and WebP."""
_SIGNED = 2
_SAMPLE_FORMATS = {_SIGNED: "signed", 3: "floating-point", 5: "complex", 6: "complex"}
_ASSOCIATED, _UNASSOCIATED = 1, 2
_UNITS = {1: "none", 2: "inch", 3: "cm"}
_SUBFILE_TYPE, _ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _UNIT, _SUB_IFDS, _ICC = 254, 274, 282, 283, 296, 330, 34675
_OLD_SUBFILE_TYPE, _OLD_REDUCED, _REDUCED, _MASK = 255, 2, 1, 4
_SHORT, _MAX_TAGS = 3, 4096
_COLOUR_TAGS = (301, 318, 319)
"""What is said of colour elsewhere than in a profile: transfer function, white point, primaries."""
_INK_SET, _XMP, _IPTC, _PHOTOSHOP = 332, 700, 33723, 34377
_SEGMENT_TABLES = (273, 279, 324, 325)
"""Tags that grow with the picture: offsets and lengths of strips and tiles."""


class OpenPage:
    """A page of a TIFF whose file stays open, for windows of its pixels. Close it, or use it in a `with`."""

    def __init__(self, path: Path, limits: Limits, page: int = 0) -> None:
        self._name = path.name if page == 0 else f"{path.name}, page {page + 1}"
        self._limits = limits
        self._page_index = page
        self._file = tifffile.TiffFile(path)
        try:
            self._page = self._found(path.name)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def spec(self) -> ImageSpec:
        """What the page's tags say, as it is stored."""
        found, layout = self._page, self._layout
        metadata, notes = _metadata(found, self._name, self._limits)
        spec = ImageSpec(
            height=found.imagelength,
            width=found.imagewidth,
            channels=layout.channels,
            dtype=layout.depth,
            format="tiff",
            resolution=_resolution(found),
            orientation=_orientation(found),
            page=self._page_index,
            space=layout.space,
            metadata=metadata,
            notes=(*_page_note(found, self._page_index), *layout.notes, *notes),
        )
        return with_icc(spec, cast("bytes | None", found.tags.valueof(_ICC)))

    @property
    def whole(self) -> Window:
        """All of it, as it is stored."""
        return Window(0, 0, self._page.imagelength, self._page.imagewidth)

    @property
    def grid(self) -> Grid:
        """Its strips or tiles."""
        return self._stored.grid

    def window(self, window: Window, keep_mem: int = 0) -> Pixels:
        """The pixels (y, x, c) of a window inside the page, as it is stored: those of `read_pixels` there.

        1 to 7 bits are scaled to 8, 9 to 15 to 16, rounded to the nearest. keep_mem: bytes of decoded strips or
        tiles that are kept for the next window.
        """
        return self._stored.window(window, keep_mem)

    @cached_property
    def _layout(self) -> Layout:
        return _layout(self._page, self._name)

    @cached_property
    def _stored(self) -> Stored:
        found = self._page
        if found.compression in (JPEG, OLD_JPEG):
            tables = found.jpegtables
            if tables is not None and not tables.rstrip(b"\0").endswith(b"\xff\xd9"):
                raise unusable(self._name, "the tables of its JPEG have no end")
        grid = grid_of(found, self._layout.bits, self._name)
        return Stored(found, self._layout, grid, self._name, self._limits, Kept())

    def _found(self, name: str) -> tifffile.TiffPage:
        page = self._page_index
        try:
            found = self._file.pages[page]
        except IndexError as error:
            raise ImageReadError(
                f"{name}: has no page {page}, only {len(self._file.pages)}; pages count from 0"
            ) from error
        if not isinstance(found, tifffile.TiffPage):
            raise unusable(name, f"page {page} has no directory of its own")
        tags = [tag for tag in found.tags if tag.code not in _SEGMENT_TABLES]
        # A value that would end behind the file is read by nobody.
        inside = [
            tag.valuebytecount for tag in tags if tag.valueoffset + tag.valuebytecount <= self._file.filehandle.size
        ]
        self._limits.check_metadata(name, sum(inside))
        return found


def read_spec(path: Path, limits: Limits, page: int = 0) -> ImageSpec:
    """The spec of one stored page (not turned upright). Pages count from 0, in the order of the file."""
    with OpenPage(path, limits, page) as found:
        return found.spec


def read_pixels(path: Path, limits: Limits, page: int = 0) -> Pixels:
    """One stored page (y, x, c). 1 to 7 bits are scaled to 8, 9 to 15 to 16, rounded to the nearest."""
    with OpenPage(path, limits, page) as found:
        return found.window(found.whole)


def page_roles(path: Path, limits: Limits) -> tuple[list[Role], str | None]:
    """What the pages chained in a file are to one another, and what is wrong behind the last one, if anything is.

    Pages below others (SubIFDs) are not in the chain. Raises LimitError for more than `limits.max_pages`.
    """
    roles, seen = list[Role](), set[int]()
    with path.open("rb") as file:
        kind = _kind(file.read(4))
        file.seek(8 if kind.big else 4)
        (at,) = struct.unpack(kind.offset, file.read(struct.calcsize(kind.offset)))
        while at:
            limits.check_pages(path.name, len(roles) + 1)
            try:
                role, following = _directory(file, at, kind)
            except struct.error:
                return roles, f"the link behind page {len(roles)} leads nowhere; what came there is lost"
            seen.add(at)
            roles.append(role)
            if following in seen:
                return roles, f"the link behind page {len(roles)} leads back to an earlier one"
            at = following
    return roles, None


def _kind(head: bytes) -> Kind:
    order = "<" if head[:2] == b"II" else ">"
    return Kind(order, big=struct.unpack(order + "H", head[2:4])[0] == 43)


def _directory(file: BinaryIO, at: int, kind: Kind) -> tuple[Role, int]:
    """What the directory at `at` says its page is, and where the next one begins; 0 where there is none."""
    file.seek(at)
    (count,) = struct.unpack(kind.head, file.read(struct.calcsize(kind.head)))
    nbytes = struct.calcsize(kind.entry) + kind.inline
    if count > _MAX_TAGS:
        raise struct.error("no directory has so many tags")
    entries = file.read(count * nbytes)
    rest = file.read(struct.calcsize(kind.offset))
    # Some files end where the last directory should say that none follows.
    following = struct.unpack(kind.offset, rest)[0] if rest else 0
    flags = 0
    for start in range(0, len(entries), nbytes):
        tag, kind_of_value, _ = struct.unpack_from(kind.entry, entries, start)
        if tag in (_SUBFILE_TYPE, _OLD_SUBFILE_TYPE):
            letter = "H" if kind_of_value == _SHORT else "I"
            (value,) = struct.unpack_from(kind.order + letter, entries, start + struct.calcsize(kind.entry))
            flags |= value if tag == _SUBFILE_TYPE else int(value == _OLD_REDUCED)
    if flags & _MASK:
        return "mask", following
    return ("reduced" if flags & _REDUCED else "page"), following


def _page_note(found: tifffile.TiffPage, page: int) -> tuple[str, ...]:
    """Which page it is, in a file of several. They are not counted: a chain of them may be long."""
    if page > 0:
        return (f"page {page + 1} of several",)
    try:
        found.parent.pages[1]
    except (IndexError, tifffile.TiffFileError):  # the second for a link that leads nowhere
        return ()
    return ("page 1 of several",)


def _metadata(found: tifffile.TiffPage, name: str, limits: Limits) -> tuple[Metadata, tuple[str, ...]]:
    """EXIF, XMP and IPTC of a page, and a note of what cannot be read."""
    handle = found.parent.filehandle
    kind = Kind(found.parent.byteorder, found.parent.is_bigtiff)
    exif, unreadable = exif_of(cast("BinaryIO", handle), found.offset, kind, name, limits)
    notes = (f"{unreadable} unreadable tags of EXIF left out",) if unreadable else ()
    if _ICC not in found.tags and any(tag in found.tags for tag in _COLOUR_TAGS):
        notes = (*notes, "white point, primaries or transfer function were not applied")
    blocks = {tag: _raw(found, tag) for tag in (_XMP, _IPTC, _PHOTOSHOP)}
    return Metadata(exif, blocks[_XMP] or None, blocks[_IPTC] or photoshop_iptc(blocks[_PHOTOSHOP])), notes


def _raw(found: tifffile.TiffPage, tag: int) -> bytes:
    """The bytes of a tag's value, whatever type it says they are; none where it is absent."""
    entry = found.tags.get(tag)
    if entry is None:
        return b""
    handle = found.parent.filehandle
    handle.seek(entry.valueoffset)
    return handle.read(entry.valuebytecount)


def _layout(page: tifffile.TiffPage, name: str) -> Layout:
    """How to read a page; raises ImageReadError for what is no picture of up to 16 bits in a model we know."""
    if page.imagelength < 1 or page.imagewidth < 1:
        raise unusable(name, f"it is {page.imagelength} x {page.imagewidth} px")
    if page.imagedepth != 1:
        raise unusable(name, f"it is a volume of {page.imagedepth} planes; save them as single images")
    if page.tags.valueof(_SUBFILE_TYPE, 0) & 1 and _SUB_IFDS in page.tags:
        raise unusable(name, "its first page is only a preview of what lies deeper, as in a camera's raw file")
    bits = _bits(page, name)
    photometric = _photometric(page, name)
    if photometric == PALETTE and page.colormap is None:
        raise unusable(name, "its palette is missing")
    if photometric in (CIELAB, ICCLAB) and bits not in (8, 16):
        raise unusable(name, f"it is Lab of {bits} bits; 8 and 16 can be read")
    alpha, associated = _alpha(page, photometric, name)
    left_out = page.samplesperpixel - COLOURS.get(photometric, 1) - (alpha is not None)
    return Layout(photometric, bits, alpha, associated, left_out)


def _bits(page: tifffile.TiffPage, name: str) -> int:
    bits = page.bitspersample
    # Some writers say of CIELab that it is signed, which two of its three samples are.
    signed_lab = page.sampleformat == _SIGNED and page.photometric == CIELAB
    if page.sampleformat in _SAMPLE_FORMATS and not signed_lab:
        what = _SAMPLE_FORMATS[page.sampleformat]
        raise unusable(name, f"its samples are {what}; convert to 16-bit integers first")
    if bits not in range(1, 17) or page.dtype is None:  # a tuple where they differ
        raise unusable(name, f"it has {bits} bits a sample; convert to 16-bit integers first")
    return bits


def _photometric(page: tifffile.TiffPage, name: str) -> int:
    """That of `Layout`: YCbCr counts as RGB where the decoder makes it so."""
    found = int(page.photometric)
    if found == YCBCR:
        if page.compression not in _TO_RGB or page.samplesperpixel != 3:
            raise unusable(name, "it is YCbCr without JPEG compression; convert it to RGB first")
        return RGB
    if found == CMYK and page.tags.valueof(_INK_SET, _CMYK_INKS) != _CMYK_INKS:
        raise unusable(name, "its inks are not those of CMYK; convert it to RGB first")
    if found not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, CIELAB, ICCLAB):
        what = _REFUSED.get(found, f"of photometric interpretation {found}")
        raise unusable(name, f"it is {what}; convert it to RGB or grey first")
    return found


def _alpha(page: tifffile.TiffPage, photometric: int, name: str) -> tuple[int | None, bool]:
    """Index of the alpha sample, and whether colour is multiplied by it."""
    colours = COLOURS.get(photometric, 1)
    additive = photometric not in (CMYK, CIELAB, ICCLAB)
    extra = page.samplesperpixel - colours
    kinds = [int(kind) for kind in page.extrasamples][: max(extra, 0)]
    if extra == 1 and not kinds and additive:
        kinds = [_UNASSOCIATED]  # nothing is said of it: libtiff's readers take it for alpha
    if extra < 0 or len(kinds) < extra or (colours == 1 and extra > 1):
        what = f"it has {page.samplesperpixel} samples a pixel, which are not all colour or alpha"
        raise unusable(name, what)
    for i, kind in enumerate(kinds):
        if kind in (_ASSOCIATED, _UNASSOCIATED):
            if not additive:
                raise unusable(name, "it is CMYK or Lab with alpha; convert it to RGB with alpha first")
            return colours + i, kind == _ASSOCIATED
    return None, False


def _resolution(page: tifffile.TiffPage) -> Resolution | None:
    try:
        x, y = (n / d for n, d in (page.tags.valueof(_X_RESOLUTION), page.tags.valueof(_Y_RESOLUTION)))
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return resolution(x, y, _UNITS.get(page.tags.valueof(_UNIT, 2)))  # type: ignore[arg-type]


def _orientation(page: tifffile.TiffPage) -> int:
    found = page.tags.valueof(_ORIENTATION, 1)
    return int(found) if found in range(1, 9) else 1
