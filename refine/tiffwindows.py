"""The pixels of a window of a TIFF page: which strips or tiles hold them, and what the stored samples become.

A whole page is a window too, so both are the same pixels. Of an uncompressed strip only the bytes that are needed are
read; every other strip or tile is decoded whole. One that is missing or short is an error, never zeros.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Literal, cast

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from refine import jpeg
from refine.errors import ImageReadError
from refine.limits import Limits
from refine.samples import depth_of, full_scale, lab_16, ramp, scale_note, unmultiply
from refine.spec import Depth, Pixels
from refine.window import Window

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
COLOURS = {RGB: 3, CMYK: 4, CIELAB: 3, ICCLAB: 3}
UNCOMPRESSED, OLD_JPEG, JPEG = 1, 6, 7
_NO_PREDICTOR, _LOW_BIT_FIRST = 1, 2
_READ_NBYTES = 4 << 20
"""Bytes of uncompressed rows that are read at a time."""
_SKIPPED_NBYTES = 16 << 10
"""Bytes of a row that are rather read in vain than skipped by a call for each row."""


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
        return COLOURS.get(self.photometric, 1)

    @property
    def space(self) -> Literal["additive", "cmyk", "lab"]:
        """As in `ImageSpec`."""
        if self.photometric in (CIELAB, ICCLAB):
            return "lab"
        return "cmyk" if self.photometric == CMYK else "additive"

    @property
    def channels(self) -> int:
        """Channels of the picture handed out."""
        return (3 if self.photometric == PALETTE else self.colours) + (self.alpha is not None)

    @property
    def depth(self) -> Depth:
        """Depth of the picture handed out: a palette is 8 bits whatever its indices are, Lab always 16."""
        if self.space == "lab":
            return "uint16"
        return "uint8" if self.photometric == PALETTE else depth_of(self.bits)

    @property
    def notes(self) -> Iterator[str]:
        """What is not handed out as it is stored."""
        if self.photometric == PALETTE:
            yield "palette expanded"
        elif self.space == "lab":
            yield "Lab re-encoded as ICC v4 Lab of 16 bits"
        else:
            yield from scale_note(self.bits)
        if self.associated:
            yield "alpha divided out of colour"
        if self.left_out:
            yield f"{self.left_out} extra channel{'s' if self.left_out > 1 else ''} left out"


@dataclass(frozen=True, slots=True)
class Grid:
    """The strips or tiles of a page: plane by plane, row by row."""

    height: int
    """px of one. The last ones may pass the picture's edge."""
    width: int
    """px of one."""
    down: int
    """How many lie below one another."""
    across: int
    """How many lie side by side."""
    planes: int
    """How many times the picture is covered: by each sample apart, or once by all."""
    sample_nbytes: int
    """Bytes of a pixel of one of them, decoded."""
    direct: bool
    """Whether they are stored as they are, so that any rows and columns can be read."""

    @property
    def count(self) -> int:
        """Strips or tiles of the page."""
        return self.planes * self.down * self.across

    @property
    def nbytes(self) -> int:
        """Bytes of one of them, decoded."""
        return self.height * self.width * self.sample_nbytes

    @property
    def row_nbytes(self) -> int:
        """Bytes of a row of them from edge to edge in all planes: with these kept none is decoded twice."""
        return self.across * self.planes * self.nbytes


def grid_of(page: tifffile.TiffPage, bits: int, name: str) -> Grid:
    """The grid of a page. Raises ImageReadError where it has none, or lists fewer strips or tiles than it has."""
    planes, _, height, width, contiguous = page.shaped
    high, wide = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, width)
    if high < 1 or wide < 1:
        raise unusable(name, f"its strips or tiles have {high} x {wide} px")
    direct = (
        not page.is_tiled
        and page.compression == UNCOMPRESSED
        and page.predictor == _NO_PREDICTOR
        and not page.is_subsampled
    )
    grid = Grid(high, wide, -(-height // high), -(-width // wide), planes, contiguous * (1 + (bits > 8)), direct)
    listed = min(len(page.dataoffsets), len(page.databytecounts))
    if listed < grid.count:
        raise unusable(name, f"{listed} of {grid.count} strips are listed")
    return grid


class Kept:
    """The strips or tiles decoded last, so that neighbouring windows need not decode them again."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[int, Pixels] = OrderedDict()
        self._nbytes = 0

    def block(self, index: int, decoded: Callable[[int], Pixels], allowed_mem: int) -> Pixels:
        """The strip or tile `index`, by `decoded` where it is not kept. Keeps at most `allowed_mem` bytes."""
        if index in self._blocks:
            self._blocks.move_to_end(index)
            return self._blocks[index]
        block = decoded(index)
        self._blocks[index] = block
        self._nbytes += block.nbytes
        while self._nbytes > allowed_mem:
            self._nbytes -= self._blocks.popitem(last=False)[1].nbytes
        return block


@dataclass(frozen=True, slots=True)
class Stored:
    """The stored samples of a page whose file is open."""

    page: tifffile.TiffPage
    """Its directory."""
    layout: Layout
    """What its samples are."""
    grid: Grid
    """Where they lie."""
    name: str
    """Of the file and, if it is not the first, the page: errors begin with it."""
    limits: Limits
    """For the JPEG streams in it."""
    kept: Kept
    """Strips or tiles that were decoded before."""

    def window(self, window: Window, keep_mem: int) -> Pixels:
        """The pixels (y, x, c) of a window inside the page, in the model and depth that are handed out.

        1 to 7 bits are scaled to 8, 9 to 15 to 16, rounded to the nearest. keep_mem: bytes of decoded strips or
        tiles kept for the windows to come. Raises ImageReadError where one that is needed is missing or damaged.
        """
        samples = self._samples(window, keep_mem)
        if self.layout.photometric == PALETTE:
            return _looked_up(samples, self.layout, self.page.colormap, self.name)
        return _scaled(samples, self.layout)

    def _samples(self, window: Window, keep_mem: int) -> Pixels:
        """The stored samples (y, x, sample) of a window."""
        grid, bits = self.grid, self.layout.bits
        shape = window.height, window.width, grid.planes * self.page.shaped[4]
        samples: Pixels = np.empty(shape, np.uint8) if bits <= 8 else np.empty(shape, np.uint16)
        whole = Window(0, 0, self.page.imagelength, self.page.imagewidth)
        for index, place in _places(grid, window):
            part = place.clip(whole).clip(window)
            if grid.direct:
                block = self._rows(index, part.within(place))
            else:
                block = self.kept.block(index, self._decoded, keep_mem)[part.within(place).slices]
            target = samples[part.within(window).slices]
            if grid.planes > 1:
                plane = index // (grid.down * grid.across)
                target[..., plane] = block[..., 0]
            else:
                target[...] = block
        if bits not in (8, 16):
            # The predictor's sums were taken modulo 8 or 16 bits, not modulo what a sample holds.
            samples &= (1 << bits) - 1
        return samples

    def _decoded(self, index: int) -> Pixels:
        """A whole strip or tile (y, x, sample); at least as large as its part of the picture."""
        page = self.page
        offset, nbytes = self._extent(index)
        handle = page.parent.filehandle
        handle.seek(offset)
        data = handle.read(nbytes)
        tables = {}
        if page.compression in (JPEG, OLD_JPEG):
            _check_jpeg(data, page, self.name, self.limits)
            tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
        block, (_, _, y, x, _), _ = page.decode(data, index, **tables)
        high, wide = min(self.grid.height, page.imagelength - y), min(self.grid.width, page.imagewidth - x)
        itemsize = 1 + (self.layout.bits > 8)
        if block is None or block.dtype.itemsize != itemsize or block.shape[1] < high or block.shape[2] < wide:
            raise self._unusable(f"{self._which(index)} does not hold the samples its header tells of")
        return cast("Pixels", block[0])

    def _rows(self, index: int, part: Window) -> Pixels:
        """A part (y, x, sample) of an uncompressed strip."""
        page, bits = self.page, self.layout.bits
        samples, width = int(page.shaped[4]), page.imagewidth
        row_nbytes = (width * samples * bits + 7) // 8
        offset, nbytes = self._extent(index)
        if part.y1 * row_nbytes > nbytes:
            raise self._unusable(f"{self._which(index)} is too short for its rows")
        pixel_nbytes = samples * bits // 8
        unneeded = row_nbytes - part.width * pixel_nbytes
        # Samples that are packed into bytes are cut when they are unpacked.
        narrow = bits in (8, 16) and unneeded > _SKIPPED_NBYTES
        first, length = (part.x0 * pixel_nbytes, part.width * pixel_nbytes) if narrow else (0, row_nbytes)
        columns = slice(None) if narrow else slice(part.x0, part.x1)
        result = np.empty((part.height, part.width, samples), np.uint8 if bits <= 8 else np.uint16)
        step = max(1, _READ_NBYTES // length)
        for y in range(part.y0, part.y1, step):
            rows = np.empty((min(step, part.y1 - y), length), np.uint8)
            for number, target in enumerate(rows) if narrow else [(0, rows.reshape(-1))]:
                self._read(target.data, offset + (y + number) * row_nbytes + first)
            values = self._unpacked(rows, width * samples).reshape(len(rows), -1, samples)
            result[y - part.y0 : y - part.y0 + len(rows)] = values[:, columns]
        return result

    def _read(self, target: memoryview, offset: int) -> None:
        """Fill `target` with the bytes of the file from `offset` on."""
        descriptor = self.page.parent.filehandle.fileno()
        while target:  # a call may give less than there is
            nbytes = os.preadv(descriptor, [target], offset)
            if nbytes == 0:
                raise self._unusable("the file has become shorter while it was read")
            target, offset = target[nbytes:], offset + nbytes

    def _unpacked(self, rows: NDArray[np.uint8], run: int) -> NDArray[np.generic]:
        """The samples in bytes of uncompressed rows; run: samples in a row, each of which begins with a byte."""
        page, bits = self.page, self.layout.bits
        if page.fillorder == _LOW_BIT_FIRST:
            rows = imagecodecs.bitorder_decode(rows)
        if bits in (8, 16):
            return rows.view(f"{page.parent.byteorder}u{bits // 8}")
        dtype = np.dtype(f"{page.parent.byteorder}u{1 + (bits > 8)}")
        return np.asarray(imagecodecs.packints_decode(rows.tobytes(), dtype, bits, runlen=run))

    def _extent(self, index: int) -> tuple[int, int]:
        """Where the bytes of a strip or tile begin in the file, and how many there are."""
        page = self.page
        offset, nbytes = int(page.dataoffsets[index]), int(page.databytecounts[index])
        if offset == 0 or nbytes == 0:
            raise self._unusable(f"{self._which(index)} is missing")
        size = page.parent.filehandle.size
        # Some writers state too many bytes for the last uncompressed strip; whether these suffice is seen in decoding.
        if offset + nbytes > size and page.compression != UNCOMPRESSED:
            raise self._unusable(f"the file ends inside {self._which(index)}")
        return offset, max(0, min(nbytes, size - offset))

    def _which(self, index: int) -> str:
        return f"strip or tile {index + 1} of {len(self.page.dataoffsets)}"

    def _unusable(self, how: str) -> ImageReadError:
        return unusable(self.name, how)


def _places(grid: Grid, window: Window) -> Iterator[tuple[int, Window]]:
    """Index and place of the strips or tiles that meet a window."""
    rows = range(window.y0 // grid.height, -(-window.y1 // grid.height))
    columns = range(window.x0 // grid.width, -(-window.x1 // grid.width))
    # Rows first: those that reach into the next window below are the last ones, and stay kept.
    for y, plane, x in product(rows, range(grid.planes), columns):
        place = Window(0, 0, grid.height, grid.width).shift(y * grid.height, x * grid.width)
        yield (plane * grid.down + y) * grid.across + x, place


def _check_jpeg(data: bytes, page: tifffile.TiffPage, name: str, limits: Limits) -> None:
    """A JPEG stream that is cut short, or says to be larger than its place, is not decoded."""
    if page.compression == OLD_JPEG:
        if not data.startswith(b"\xff\xd8"):
            raise unusable(name, "it holds JPEG in the old way, its tables apart; save it with another compression")
        return
    jpeg.check_scans(data, name, limits)
    frame = jpeg.stream_frame(data, name)
    height, width = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    if frame.height > height + 15 or frame.width > width + 15:
        raise unusable(name, f"a strip or tile of {height} x {width} px holds a JPEG of {frame.height} x {frame.width}")


def _looked_up(samples: Pixels, layout: Layout, palette: NDArray[np.uint16] | None, name: str) -> Pixels:
    """Palette indices as 8-bit RGB, with alpha where there is one."""
    if palette is None or palette.shape[1] < 1 << layout.bits:
        raise unusable(name, "its palette is too short")
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
        return lab_16(samples, signed=layout.photometric == CIELAB)
    samples = full_scale(samples, layout.bits)
    if layout.photometric == WHITE_IS_ZERO:
        np.invert(samples[..., 0], out=samples[..., 0])
    if layout.associated:
        unmultiply(samples)
    return samples


def unusable(name: str, how: str) -> ImageReadError:
    """The error of a TIFF that is not read, and why."""
    return ImageReadError(f"{name}: this TIFF cannot be used: {how}")
