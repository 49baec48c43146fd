"""TIFF: which of its many layouts are pictures for us, reading a page strip by strip or tile by tile, writing one.

Read: grey, RGB, palette and YCbCr in JPEG; 1 to 16 bits; strips, tiles, planes; with or without alpha; BigTIFF;
every compression that imagecodecs has. A strip or tile that is missing or short is an error, never zeros.
Extra samples that are no alpha are left out.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import tifffile
from numpy.typing import NDArray

from refine import jpeg
from refine.errors import ImageReadError, ImageWriteError
from refine.limits import Limits
from refine.metadata import resolution, usable_icc
from refine.spec import Depth, Image, ImageSpec, Pixels, Resolution
from refine.window import grid

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_REFUSED = {4: "a mask", 5: "CMYK", 8: "CIE Lab", 9: "ICC Lab", 10: "ITU Lab", 32803: "raw sensor data",
            32844: "logarithmic grey", 32845: "logarithmic colour", 34892: "raw sensor data"}  # fmt: skip
_UNCOMPRESSED, _OLD_JPEG, _JPEG = 1, 6, 7
_TO_RGB = (_OLD_JPEG, _JPEG, 34927, 50001)
"""Compressions whose decoder turns YCbCr into RGB: JPEG and WebP."""
_SAMPLE_FORMATS = {2: "signed", 3: "floating-point", 5: "complex", 6: "complex"}
_ASSOCIATED, _UNASSOCIATED = 1, 2
_UNITS = {1: "none", 2: "inch", 3: "cm"}
_SUBFILE_TYPE, _ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _UNIT, _SUB_IFDS, _ICC = 254, 274, 282, 283, 296, 330, 34675
_SEGMENT_TABLES = (273, 279, 324, 325)
"""Tags that grow with the picture: offsets and lengths of strips and tiles."""
_ROWS = 256
"""px; alpha is divided out so many rows at a time, so that its temporary arrays stay small."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the stored samples of a page become grey or RGB."""

    photometric: int
    """0 grey, white is zero; 1 grey; 2 RGB (or YCbCr that the decoder turns into it); 3 palette."""
    bits: int
    """Of a stored sample, 1..16."""
    alpha: int | None
    """Index of the sample that is alpha."""
    associated: bool
    """Whether colour is stored multiplied by alpha."""

    @property
    def colours(self) -> int:
        """Samples of a pixel that are colour."""
        return 3 if self.photometric == _RGB else 1

    @property
    def channels(self) -> int:
        """Channels of the picture handed out."""
        return (3 if self.photometric == _PALETTE else self.colours) + (self.alpha is not None)

    @property
    def depth(self) -> Depth:
        """Depth of the picture handed out: a palette is 8 bits whatever its indices are."""
        return "uint8" if self.bits <= 8 or self.photometric == _PALETTE else "uint16"


def read_spec(path: Path, limits: Limits, page: int = 0) -> ImageSpec:
    """The spec of one stored page (not turned upright). Pages count from 0, in the order of the file."""
    with _opened(path, page, limits) as found:
        layout = _layout(found, path.name)
        return ImageSpec(
            height=found.imagelength,
            width=found.imagewidth,
            channels=layout.channels,
            dtype=layout.depth,
            format="tiff",
            icc=usable_icc(cast("bytes | None", found.tags.valueof(_ICC)), layout.channels),
            resolution=_resolution(found),
            orientation=_orientation(found),
            page=page,
        )


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
        limits.check_metadata(path.name, sum(t.valuebytecount for t in found.tags if t.code not in _SEGMENT_TABLES))
        yield found


def _layout(page: tifffile.TiffPage, name: str) -> Layout:
    """How to read a page; raises ImageReadError for what is no grey or RGB picture of up to 16 bits."""
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
    alpha, associated = _alpha(page, 3 if photometric == _RGB else 1, name)
    return Layout(photometric, bits, alpha, associated)


def _bits(page: tifffile.TiffPage, name: str) -> int:
    bits = page.bitspersample
    if page.sampleformat in _SAMPLE_FORMATS:
        raise _unusable(name, f"its samples are {_SAMPLE_FORMATS[page.sampleformat]}; save it as unsigned 16-bit")
    if bits not in range(1, 17) or page.dtype is None:  # a tuple where they differ
        raise _unusable(name, f"it has {bits} bits a sample; 1 to 16, the same for all, can be read")
    return bits


def _photometric(page: tifffile.TiffPage, name: str) -> int:
    """0..3: YCbCr counts as RGB where the decoder makes it so."""
    found = int(page.photometric)
    if found == _YCBCR:
        if page.compression not in _TO_RGB or page.samplesperpixel != 3:
            raise _unusable(name, "it is YCbCr without JPEG compression; convert it to RGB first")
        return _RGB
    if found not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE):
        what = _REFUSED.get(found, f"of photometric interpretation {found}")
        raise _unusable(name, f"it is {what}; convert it to RGB or grey first")
    return found


def _alpha(page: tifffile.TiffPage, colours: int, name: str) -> tuple[int | None, bool]:
    """Index of the alpha sample, and whether colour is multiplied by it."""
    extra = page.samplesperpixel - colours
    kinds = [int(kind) for kind in page.extrasamples][: max(extra, 0)]
    if extra == 1 and not kinds:
        kinds = [_UNASSOCIATED]  # nothing is said of it: libtiff's readers take it for alpha
    if extra < 0 or len(kinds) < extra or (colours == 1 and extra > 1):
        raise _unusable(name, f"it has {page.samplesperpixel} samples a pixel, which are not all grey, RGB or alpha")
    for i, kind in enumerate(kinds):
        if kind in (_ASSOCIATED, _UNASSOCIATED):
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
        pixels[..., 3] = _ramp(layout.bits, "uint8")[samples[..., layout.alpha]]
    return pixels


def _scaled(samples: Pixels, layout: Layout) -> Pixels:
    """Stored samples as grey or RGB of 8 or 16 bits with straight alpha."""
    colours = layout.colours
    kept = [*range(colours), *([] if layout.alpha is None else [layout.alpha])]
    if kept != list(range(samples.shape[2])):
        samples = samples[..., kept]
    if layout.bits not in (8, 16):
        samples = _ramp(layout.bits, layout.depth)[samples]
    if layout.photometric == _WHITE_IS_ZERO:
        np.invert(samples[..., 0], out=samples[..., 0])
    if layout.associated:
        _unmultiply(samples)
    return samples


def _ramp(bits: int, depth: Depth) -> Pixels:
    """What each stored value becomes at full scale, to the nearest: 0 stays 0, all ones become all ones.

    >>> _ramp(2, "uint8").tolist()
    [0, 85, 170, 255]
    """
    top, stored = int(np.iinfo(depth).max), (1 << bits) - 1
    ramp = (np.arange(stored + 1) * top * 2 + stored) // (2 * stored)
    return ramp.astype(np.uint8) if depth == "uint8" else ramp.astype(np.uint16)


def _unmultiply(pixels: Pixels) -> None:
    """Divide alpha (the last channel) out of colour in place; where it is 0 there is no colour, and 0 is written."""
    top = np.iinfo(pixels.dtype).max
    for y in range(0, pixels.shape[0], _ROWS):
        rows = pixels[y : y + _ROWS]
        alpha = rows[..., -1:].astype(np.uint64)
        colour = (rows[..., :-1] * np.uint64(top) + alpha // 2) // np.maximum(alpha, 1)
        rows[..., :-1] = np.where(alpha == 0, 0, np.minimum(colour, top))


def encoded(image: Image) -> bytes:
    """The image as a TIFF with its ICC profile and resolution, in strips, deflate with a predictor."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file, bigtiff=_is_big(image.spec), byteorder="<") as writer:
        pixels = np.ascontiguousarray(image.pixels)
        _write_page(writer, pixels if image.spec.channels > 1 else pixels[..., 0], image.spec, tile=None)
    return file.getvalue()


def write_blocks(path: Path, spec: ImageSpec, blocks: Iterator[Pixels], tile: int, name: str) -> None:
    """Write a tiled TIFF from blocks (y, x, c), row by row of the tile grid, holding a few of them at a time.

    Blocks at the right and bottom edge may be smaller than a tile. Raises ImageWriteError where there are too many
    or too few of them, or one has another shape than its place in the grid.
    """
    with tifffile.TiffWriter(path, bigtiff=_is_big(spec), byteorder="<") as writer:
        _write_page(writer, _full_tiles(spec, blocks, tile, name), spec, tile=tile)
    if next(blocks, None) is not None:
        raise ImageWriteError(f"{name}: more blocks came than the tiles of its grid")


def _write_page(
    writer: tifffile.TiffWriter, data: Pixels | Iterator[Pixels], spec: ImageSpec, tile: int | None
) -> None:
    """One page of tags that hold no time, no software and no path: the same pixels give the same bytes."""
    found = spec.resolution
    writer.write(
        data,
        shape=spec.shape if spec.channels > 1 else spec.shape[:2],
        dtype=spec.dtype,
        photometric="rgb" if spec.channels > 2 else "minisblack",
        planarconfig="contig" if spec.channels > 1 else None,
        extrasamples=["unassalpha"] if spec.has_alpha else [],
        tile=None if tile is None else (tile, tile),
        compression="zlib",
        predictor=True,
        iccprofile=spec.icc,
        resolution=None if found is None else (found.x, found.y),
        resolutionunit=None if found is None else {"none": 1, "inch": 2, "cm": 3}[found.unit],
        software=False,
        metadata=None,
        maxworkers=1,
    )


def _full_tiles(spec: ImageSpec, blocks: Iterator[Pixels], tile: int, name: str) -> Iterator[Pixels]:
    """The blocks, those at the edges filled up by repeating their last row and column, which deflate likes best."""
    places = list(grid(spec.height, spec.width, tile))
    count = 0
    for place, block in zip(places, blocks, strict=False):
        if block.shape != (place.height, place.width, spec.channels) or block.dtype != spec.dtype:
            raise ImageWriteError(f"{name}: a block of {block.shape} {block.dtype} came where {place} was wanted")
        count += 1
        full = np.pad(block, ((0, tile - place.height), (0, tile - place.width), (0, 0)), mode="edge")
        yield full if spec.channels > 1 else full[..., 0]
    if count < len(places):
        raise ImageWriteError(f"{name}: {count} blocks came, its grid has {len(places)} tiles")


def _is_big(spec: ImageSpec) -> bool:
    """Whether the file may pass 4 GiB, where plain TIFF's offsets end; noise does not get smaller by deflating."""
    return spec.nbytes > 4_000_000_000


def _unusable(name: str, how: str) -> ImageReadError:
    return ImageReadError(f"{name}: this TIFF cannot be used: {how}")
