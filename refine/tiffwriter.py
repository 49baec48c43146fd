"""Writing a TIFF or BigTIFF of one page: whole, or streamed tile by tile, with everything that its spec carries."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tifffile

from refine.errors import ImageWriteError
from refine.ifd import Entry, add_tags, parsed
from refine.samples import lab_signed
from refine.spec import Image, ImageSpec, Metadata, Pixels
from refine.window import grid

_PHOTOMETRIC = {"grey": "minisblack", "rgb": "rgb", "cmyk": "separated", "lab": "cielab"}
_BYTE, _UNDEFINED = 1, 7
_XMP, _IPTC = 700, 33_723


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


def is_exif(block: bytes) -> bool:
    """Whether EXIF can be read, and so be written into a TIFF."""
    try:
        parsed(block)
    except (ValueError, struct.error):
        return False
    return True


def _carry(file: BinaryIO, metadata: Metadata) -> None:
    """Add EXIF, XMP and IPTC to the page that was written."""
    entries = list(parsed(metadata.exif)) if metadata.exif is not None and is_exif(metadata.exif) else []
    if metadata.xmp is not None:
        entries.append(Entry(_XMP, _BYTE, len(metadata.xmp), metadata.xmp))
    if metadata.iptc is not None:
        entries.append(Entry(_IPTC, _UNDEFINED, len(metadata.iptc), metadata.iptc))
    if entries:
        add_tags(file, entries)


def _write_page(
    writer: tifffile.TiffWriter, data: Pixels | Iterator[Pixels], spec: ImageSpec, tile: int | None
) -> None:
    """One page of tags that hold no time, no software and no path: the same pixels give the same bytes."""
    found = spec.resolution
    writer.write(
        data,
        shape=spec.shape if spec.channels > 1 else spec.shape[:2],
        dtype=spec.dtype,
        photometric=_PHOTOMETRIC[spec.model],
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


def _is_big(spec: ImageSpec) -> bool:
    """Whether the file may pass 4 GiB, where plain TIFF's offsets end; noise does not get smaller by deflating."""
    return spec.nbytes > 4_000_000_000
