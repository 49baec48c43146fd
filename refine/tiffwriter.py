"""Writing a TIFF or BigTIFF: whole, streamed by tiles, or pages with their pyramids; with all that a spec carries."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from math import ceil
from pathlib import Path
from typing import BinaryIO, Literal

import imagecodecs
import numpy as np
import tifffile

from refine.errors import ImageWriteError
from refine.ifd import Entry, add_tags, parsed
from refine.samples import lab_signed
from refine.spec import Image, ImageSpec, Metadata, Pixels
from refine.window import grid

_PHOTOMETRIC = {"grey": "minisblack", "rgb": "rgb", "cmyk": "separated", "lab": "cielab"}
_CODES = {"none": None, "deflate": "zlib", "zstd": "zstd"}
"""Of our words in tifffile's."""
_LEVELS = {"deflate": 1, "zstd": 1}
"""Higher ones take two to four times as long and leave the same size (16 bit: 0.89 for 0.88 of the raw bytes)."""
_BYTE, _UNDEFINED = 1, 7
_XMP, _IPTC = 700, 33_723

_MAX_PLAIN_NBYTES = 4_000_000_000

Compression = Literal["none", "deflate", "zstd"]
"""Of tiles. `zstd` is no part of the standard: libtiff, GDAL, libvips, tifffile and Bio-Formats read it."""


def encoded(image: Image) -> bytes:
    """The image as a TIFF with everything that its spec carries, in strips, deflate with a predictor."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file, bigtiff=_is_big(image.spec), byteorder="<") as writer:
        pixels = _stored(np.ascontiguousarray(image.pixels), image.spec)
        _write_page(writer, pixels if image.spec.channels > 1 else pixels[..., 0], image.spec, tile=None)
    _carry(file, image.spec.metadata)
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
    with path.open("r+b") as file:
        _carry(file, spec.metadata)


def encoded_tile(block: Pixels, spec: ImageSpec, tile: int, compression: Compression) -> bytes:
    """A tile's bytes as they lie in a TIFF: a block (y, x, c) filled up at the edges of the image, and compressed.

    The same block gives the same bytes, in whichever thread.
    """
    height, width = block.shape[:2]
    if (height, width) != (tile, tile):
        block = np.pad(block, ((0, tile - height), (0, tile - width), (0, 0)), mode="edge")
    stored = np.ascontiguousarray(_stored(block, spec))
    if compression == "none":
        return stored.tobytes()
    # Differences along the row: half of what makes deflate worth its time (8-bit photographs: 0.60 for 0.80).
    differences = imagecodecs.delta_encode(stored, axis=1)
    encode = imagecodecs.deflate_encode if compression == "deflate" else imagecodecs.zstd_encode
    return bytes(encode(differences.tobytes(), level=_LEVELS[compression]))


def write_pyramids(
    path: Path,
    pages: Sequence[tuple[ImageSpec, Sequence[tuple[int, int]]]],
    tiles: Iterator[bytes],
    tile: int,
    compression: Compression,
) -> None:
    """Write a tiled TIFF of pages with smaller levels, each page's in its SubIFDs, from tiles that are encoded already.

    pages: the spec of each, and (height, width) of its levels, the largest first. tiles come in the order of pages,
    levels, rows and columns. Raises ImageWriteError where there are too few of them.
    """
    raw = sum(_raw_nbytes(spec, sizes, tile) for spec, sizes in pages)
    with tifffile.TiffWriter(path, bigtiff=raw > _MAX_PLAIN_NBYTES, byteorder="<") as writer:
        for spec, sizes in pages:
            for index, (height, width) in enumerate(sizes):
                count = ceil(height / tile) * ceil(width / tile)
                level = _reduced(spec, height, width) if index else spec
                levels = None if index else len(sizes) - 1
                _write_page(writer, _counted(tiles, count, path.name), level, tile, compression, levels)
    with path.open("r+b") as file:
        for index, (spec, _) in enumerate(pages):
            _carry(file, spec.metadata, index)


def is_exif(block: bytes) -> bool:
    """Whether EXIF can be read, and so be written into a TIFF."""
    try:
        parsed(block)
    except (ValueError, struct.error):
        return False
    return True


def _carry(file: BinaryIO, metadata: Metadata, page: int = 0) -> None:
    """Add EXIF, XMP and IPTC to a page that was written."""
    entries = list(parsed(metadata.exif)) if metadata.exif is not None and is_exif(metadata.exif) else []
    if metadata.xmp is not None:
        entries.append(Entry(_XMP, _BYTE, len(metadata.xmp), metadata.xmp))
    if metadata.iptc is not None:
        entries.append(Entry(_IPTC, _UNDEFINED, len(metadata.iptc), metadata.iptc))
    if entries:
        add_tags(file, entries, page)


def _write_page(
    writer: tifffile.TiffWriter,
    data: Pixels | Iterator[Pixels] | Iterator[bytes],
    spec: ImageSpec,
    tile: int | None,
    compression: Compression = "deflate",
    levels: int | None = 0,
) -> None:
    """One page of tags that hold no time, no software and no path: the same pixels give the same bytes.

    levels: how many smaller ones follow, of which this is the full size; None: this is one of them.
    """
    found = spec.resolution
    writer.write(
        data,
        shape=spec.shape if spec.channels > 1 else spec.shape[:2],
        dtype=spec.dtype,
        photometric=_PHOTOMETRIC[spec.model],
        planarconfig="contig" if spec.channels > 1 else None,
        extrasamples=["unassalpha"] if spec.has_alpha else [],
        tile=None if tile is None else (tile, tile),
        compression=_CODES[compression],
        predictor=compression != "none",
        iccprofile=spec.icc,
        resolution=None if found is None else (found.x, found.y),
        resolutionunit=None if found is None else {"none": 1, "inch": 2, "cm": 3}[found.unit],
        subifds=levels or None,
        subfiletype=1 if levels is None else 0,
        software=False,
        metadata=None,
        maxworkers=1,
    )


def _reduced(spec: ImageSpec, height: int, width: int) -> ImageSpec:
    """The spec of a smaller level: what is said of the page once is not said again."""
    found = spec.resolution
    finer = None
    if found is not None:
        finer = replace(found, x=found.x * width / spec.width, y=found.y * height / spec.height)
    return replace(spec, height=height, width=width, resolution=finer, icc=None, metadata=Metadata())


def _counted(tiles: Iterator[bytes], count: int, name: str) -> Iterator[bytes]:
    """So many of the tiles. Raises ImageWriteError where they end before."""
    taken = 0
    for encoded_one in islice(tiles, count):
        taken += 1
        yield encoded_one
    if taken < count:
        raise ImageWriteError(f"{name}: a level has {count} tiles, but only {taken} came")


def _stored(pixels: Pixels, spec: ImageSpec) -> Pixels:
    """The pixels as they are stored: Lab in the signed encoding that all readers know."""
    return lab_signed(pixels) if spec.model == "lab" else pixels


def _full_tiles(spec: ImageSpec, blocks: Iterator[Pixels], tile: int, name: str) -> Iterator[Pixels]:
    """The blocks, those at the edges filled up by repeating their last row and column, which deflate likes best."""
    places = list(grid(spec.height, spec.width, tile))
    count = 0
    for place, block in zip(places, blocks, strict=False):
        if block.shape != (place.height, place.width, spec.channels) or block.dtype != spec.dtype:
            raise ImageWriteError(f"{name}: a block of {block.shape} {block.dtype} came where {place} was wanted")
        count += 1
        full = np.pad(block, ((0, tile - place.height), (0, tile - place.width), (0, 0)), mode="edge")
        yield _stored(full, spec) if spec.channels > 1 else full[..., 0]
    if count < len(places):
        raise ImageWriteError(f"{name}: {count} blocks came, its grid has {len(places)} tiles")


def _raw_nbytes(spec: ImageSpec, sizes: Sequence[tuple[int, int]], tile: int) -> int:
    """Bytes of the tiles of all levels of a page, before they are compressed."""
    pixel = spec.nbytes // (spec.height * spec.width)
    return sum(ceil(height / tile) * ceil(width / tile) for height, width in sizes) * tile * tile * pixel


def _is_big(spec: ImageSpec) -> bool:
    """Whether the file may pass 4 GiB, where plain TIFF's offsets end; noise does not get smaller by deflating."""
    return spec.nbytes > _MAX_PLAIN_NBYTES
