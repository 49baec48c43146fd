"""TIFF: which of its many layouts are pictures for us, reading a page strip by strip or tile by tile.

Read: grey, RGB, palette, CMYK, Lab and YCbCr in JPEG; 1 to 16 bits; strips, tiles, planes; with or without alpha;
BigTIFF; every compression that imagecodecs has. A strip or tile that is missing or short is an error, never zeros.
Extra samples that are no alpha are left out, and the notes say so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast

import numpy as np
import tifffile
from numpy.typing import NDArray

from refine import jpeg
from refine.errors import ImageReadError
from refine.ifd import Kind, exif_of
from refine.limits import Limits
from refine.metadata import photoshop_iptc, resolution, with_icc
from refine.samples import depth_of, full_scale, lab_16, ramp, scale_note, unmultiply
from refine.spec import Depth, ImageSpec, Metadata, Pixels, Resolution

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _CIELAB, _ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
_COLOURS = {_RGB: 3, _CMYK: 4, _CIELAB: 3, _ICCLAB: 3}
_CMYK_INKS = 1
_REFUSED = {4: "a mask", 10: "ITU Lab", 32803: "raw sensor data",
            32844: "logarithmic grey", 32845: "logarithmic colour", 34892: "raw sensor data"}  # fmt: skip
_UNCOMPRESSED, _OLD_JPEG, _JPEG = 1, 6, 7
_TO_RGB = (_OLD_JPEG, _JPEG, 34927, 50001)
"""Compressions whose decoder turns YCbCr into RGB: JPEG and WebP."""
_SIGNED = 2
_SAMPLE_FORMATS = {_SIGNED: "signed", 3: "floating-point", 5: "complex", 6: "complex"}
_ASSOCIATED, _UNASSOCIATED = 1, 2
_UNITS = {1: "none", 2: "inch", 3: "cm"}
_SUBFILE_TYPE, _ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _UNIT, _SUB_IFDS, _ICC = 254, 274, 282, 283, 296, 330, 34675
_COLOUR_TAGS = (301, 318, 319)
"""What is said of colour elsewhere than in a profile: transfer function, white point, primaries."""
_INK_SET, _XMP, _IPTC, _PHOTOSHOP = 332, 700, 33723, 34377
_SEGMENT_TABLES = (273, 279, 324, 325)
"""Tags that grow with the picture: offsets and lengths of strips and tiles."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the stored samples of a page become grey or RGB."""

    photometric: int
    """0 grey, white is zero; 1 grey; 2 RGB (or YCbCr that the decoder turns into it); 3 palette; 5 CMYK; 8, 9 Lab."""
    bits: int
    """Of a stored sample, 1..16."""
    alpha: int | None
    """Index of the sample that is alpha."""
    associated: bool
    """Whether colour is stored multiplied by alpha."""
    left_out: int
    """Samples of a pixel that are neither colour nor alpha."""

    @property
    def colours(self) -> int:
        """Samples of a pixel that are colour."""
        return _COLOURS.get(self.photometric, 1)

    @property
    def space(self) -> Literal["additive", "cmyk", "lab"]:
        """As in `ImageSpec`."""
        if self.photometric in (_CIELAB, _ICCLAB):
            return "lab"
        return "cmyk" if self.photometric == _CMYK else "additive"

    @property
    def channels(self) -> int:
        """Channels of the picture handed out."""
        return (3 if self.photometric == _PALETTE else self.colours) + (self.alpha is not None)

    @property
    def depth(self) -> Depth:
        """Depth of the picture handed out: a palette is 8 bits whatever its indices are, Lab always 16."""
        if self.space == "lab":
            return "uint16"
        return "uint8" if self.photometric == _PALETTE else depth_of(self.bits)

    @property
    def notes(self) -> Iterator[str]:
        """What is not handed out as it is stored."""
        if self.photometric == _PALETTE:
            yield "palette expanded"
        elif self.space == "lab":
            yield "Lab re-encoded as ICC v4 Lab of 16 bits"
        else:
            yield from scale_note(self.bits)
        if self.associated:
            yield "alpha divided out of colour"
        if self.left_out:
            yield f"{self.left_out} extra channel{'s' if self.left_out > 1 else ''} left out"


def read_spec(path: Path, limits: Limits, page: int = 0) -> ImageSpec:
    """The spec of one stored page (not turned upright). Pages count from 0, in the order of the file."""
    with _opened(path, page, limits) as found:
        layout = _layout(found, path.name)
        metadata, notes = _metadata(found, path.name, limits)
        spec = ImageSpec(
            height=found.imagelength,
            width=found.imagewidth,
            channels=layout.channels,
            dtype=layout.depth,
            format="tiff",
            resolution=_resolution(found),
            orientation=_orientation(found),
            page=page,
            space=layout.space,
            metadata=metadata,
            notes=(*_page_note(found, page), *layout.notes, *notes),
        )
        return with_icc(spec, cast("bytes | None", found.tags.valueof(_ICC)))


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


def read_pixels(path: Path, limits: Limits, page: int = 0) -> Pixels:
    """One stored page (y, x, c). 1 to 7 bits are scaled to 8, 9 to 15 to 16, rounded to the nearest."""
    with _opened(path, page, limits) as found:
        layout = _layout(found, path.name)
        samples = _samples(found, layout, path.name, limits)
        palette = found.colormap
    if layout.photometric == _PALETTE:
        return _looked_up(samples, layout, palette, path.name)
    return _scaled(samples, layout)


@contextmanager
def _opened(path: Path, page: int, limits: Limits) -> Iterator[tifffile.TiffPage]:
    """The page of a file that stays open inside the `with`."""
    with tifffile.TiffFile(path) as file:
        try:
            found = file.pages[page]
        except IndexError as error:
            raise ImageReadError(
                f"{path.name}: has no page {page}, only {len(file.pages)}; pages count from 0"
            ) from error
        if not isinstance(found, tifffile.TiffPage):
            raise _unusable(path.name, f"page {page} has no directory of its own")
        tags = [tag for tag in found.tags if tag.code not in _SEGMENT_TABLES]
        # A value that would end behind the file is read by nobody.
        inside = [tag.valuebytecount for tag in tags if tag.valueoffset + tag.valuebytecount <= file.filehandle.size]
        limits.check_metadata(path.name, sum(inside))
        yield found


def _layout(page: tifffile.TiffPage, name: str) -> Layout:
    """How to read a page; raises ImageReadError for what is no picture of up to 16 bits in a model we know."""
    if page.imagelength < 1 or page.imagewidth < 1:
        raise _unusable(name, f"it is {page.imagelength} x {page.imagewidth} px")
    if page.imagedepth != 1:
        raise _unusable(name, f"it is a volume of {page.imagedepth} planes; save them as single images")
    if page.tags.valueof(_SUBFILE_TYPE, 0) & 1 and _SUB_IFDS in page.tags:
        raise _unusable(name, "its first page is only a preview of what lies deeper, as in a camera's raw file")
    bits = _bits(page, name)
    photometric = _photometric(page, name)
    if photometric == _PALETTE and page.colormap is None:
        raise _unusable(name, "its palette is missing")
    if photometric in (_CIELAB, _ICCLAB) and bits not in (8, 16):
        raise _unusable(name, f"it is Lab of {bits} bits; 8 and 16 can be read")
    alpha, associated = _alpha(page, photometric, name)
    left_out = page.samplesperpixel - _COLOURS.get(photometric, 1) - (alpha is not None)
    return Layout(photometric, bits, alpha, associated, left_out)


def _bits(page: tifffile.TiffPage, name: str) -> int:
    bits = page.bitspersample
    # Some writers say of CIELab that it is signed, which two of its three samples are.
    signed_lab = page.sampleformat == _SIGNED and page.photometric == _CIELAB
    if page.sampleformat in _SAMPLE_FORMATS and not signed_lab:
        what = _SAMPLE_FORMATS[page.sampleformat]
        raise _unusable(name, f"its samples are {what}; convert to 16-bit integers first")
    if bits not in range(1, 17) or page.dtype is None:  # a tuple where they differ
        raise _unusable(name, f"it has {bits} bits a sample; convert to 16-bit integers first")
    return bits


def _photometric(page: tifffile.TiffPage, name: str) -> int:
    """That of `Layout`: YCbCr counts as RGB where the decoder makes it so."""
    found = int(page.photometric)
    if found == _YCBCR:
        if page.compression not in _TO_RGB or page.samplesperpixel != 3:
            raise _unusable(name, "it is YCbCr without JPEG compression; convert it to RGB first")
        return _RGB
    if found == _CMYK and page.tags.valueof(_INK_SET, _CMYK_INKS) != _CMYK_INKS:
        raise _unusable(name, "its inks are not those of CMYK; convert it to RGB first")
    if found not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _CIELAB, _ICCLAB):
        what = _REFUSED.get(found, f"of photometric interpretation {found}")
        raise _unusable(name, f"it is {what}; convert it to RGB or grey first")
    return found


def _alpha(page: tifffile.TiffPage, photometric: int, name: str) -> tuple[int | None, bool]:
    """Index of the alpha sample, and whether colour is multiplied by it."""
    colours = _COLOURS.get(photometric, 1)
    additive = photometric not in (_CMYK, _CIELAB, _ICCLAB)
    extra = page.samplesperpixel - colours
    kinds = [int(kind) for kind in page.extrasamples][: max(extra, 0)]
    if extra == 1 and not kinds and additive:
        kinds = [_UNASSOCIATED]  # nothing is said of it: libtiff's readers take it for alpha
    if extra < 0 or len(kinds) < extra or (colours == 1 and extra > 1):
        what = f"it has {page.samplesperpixel} samples a pixel, which are not all colour or alpha"
        raise _unusable(name, what)
    for i, kind in enumerate(kinds):
        if kind in (_ASSOCIATED, _UNASSOCIATED):
            if not additive:
                raise _unusable(name, "it is CMYK or Lab with alpha; convert it to RGB with alpha first")
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


def _samples(page: tifffile.TiffPage, layout: Layout, name: str, limits: Limits) -> Pixels:
    """The stored samples (y, x, sample), every strip or tile decoded and seen to be there."""
    count = int(np.prod(page.chunked))
    if len(page.dataoffsets) < count or len(page.databytecounts) < count:
        raise _unusable(name, f"{min(len(page.dataoffsets), len(page.databytecounts))} of {count} strips are listed")
    planes, _, height, width, contiguous = page.shaped
    shape = height, width, planes * contiguous
    samples: Pixels = np.empty(shape, np.uint8) if layout.bits <= 8 else np.empty(shape, np.uint16)
    is_jpeg = page.compression in (_JPEG, _OLD_JPEG)
    if is_jpeg and page.jpegtables is not None and not page.jpegtables.rstrip(b"\0").endswith(b"\xff\xd9"):
        raise _unusable(name, "the tables of its JPEG have no end")
    tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader} if is_jpeg else {}
    for index in range(count):
        data = _segment(page, index, name)
        if page.compression == _JPEG:
            _check_jpeg(data, page, name, limits)
        block, (plane, _, y, x, _), _ = page.decode(data, index, **tables)
        if block is None or block.dtype.itemsize != samples.itemsize:
            raise _unusable(name, f"strip or tile {index + 1} of {count} does not hold the samples its header tells of")
        rows, columns = min(block.shape[1], height - y), min(block.shape[2], width - x)
        c = plane if planes > 1 else slice(None)
        samples[y : y + rows, x : x + columns, c] = block[0, :rows, :columns, 0 if planes > 1 else slice(None)]
    if layout.bits not in (8, 16):
        # The predictor's sums were taken modulo 8 or 16 bits, not modulo what a sample holds.
        samples &= (1 << layout.bits) - 1
    return samples


def _segment(page: tifffile.TiffPage, index: int, name: str) -> bytes:
    """The bytes of one strip or tile."""
    offset, nbytes = page.dataoffsets[index], page.databytecounts[index]
    if offset == 0 or nbytes == 0:
        raise _unusable(name, f"strip or tile {index + 1} of {len(page.dataoffsets)} is missing")
    handle = page.parent.filehandle
    assert handle is not None
    # Some writers state too many bytes for the last uncompressed strip; whether these suffice is seen in decoding.
    if offset + nbytes > handle.size and page.compression != _UNCOMPRESSED:
        raise _unusable(name, f"the file ends inside strip or tile {index + 1} of {len(page.dataoffsets)}")
    handle.seek(offset)
    data = handle.read(max(0, min(nbytes, handle.size - offset)))
    if page.compression == _OLD_JPEG and not data.startswith(b"\xff\xd8"):
        raise _unusable(name, "it holds JPEG in the old way, its tables apart; save it with another compression")
    return data


def _check_jpeg(data: bytes, page: tifffile.TiffPage, name: str, limits: Limits) -> None:
    """A JPEG stream that is cut short, or says to be larger than its place, is not decoded."""
    jpeg.check_scans(data, name, limits)
    frame = jpeg.stream_frame(data, name)
    height, width = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    if frame.height > height + 15 or frame.width > width + 15:
        raise _unusable(
            name, f"a strip or tile of {height} x {width} px holds a JPEG of {frame.height} x {frame.width}"
        )


def _looked_up(samples: Pixels, layout: Layout, palette: NDArray[np.uint16] | None, name: str) -> Pixels:
    """Palette indices as 8-bit RGB, with alpha where there is one."""
    if palette is None or palette.shape[1] < 1 << layout.bits:
        raise _unusable(name, "its palette is too short")
    # The standard wants 16 bits; files with 8-bit values are about, and no value above 255 tells them.
    table = (palette >> 8 if palette.max() > 255 else palette).astype(np.uint8).T
    pixels = np.empty((*samples.shape[:2], layout.channels), np.uint8)
    pixels[..., :3] = table[samples[..., 0]]
    if layout.alpha is not None:
        pixels[..., 3] = ramp(layout.bits, "uint8")[samples[..., layout.alpha]]
    return pixels


def _scaled(samples: Pixels, layout: Layout) -> Pixels:
    """Stored samples in the model and depth that are handed out, with straight alpha."""
    colours = layout.colours
    kept = [*range(colours), *([] if layout.alpha is None else [layout.alpha])]
    if kept != list(range(samples.shape[2])):
        samples = samples[..., kept]
    if layout.space == "lab":
        return lab_16(samples, signed=layout.photometric == _CIELAB)
    samples = full_scale(samples, layout.bits)
    if layout.photometric == _WHITE_IS_ZERO:
        np.invert(samples[..., 0], out=samples[..., 0])
    if layout.associated:
        unmultiply(samples)
    return samples


def _unusable(name: str, how: str) -> ImageReadError:
    return ImageReadError(f"{name}: this TIFF cannot be used: {how}")
