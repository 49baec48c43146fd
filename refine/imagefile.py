"""Image files in and out. Read: JPEG, PNG, TIFF, WebP, JPEG 2000, GIF, BMP. Written: those of `Format`.

What a file is, is told by its content. Everything that can be wrong with one is an ImageReadError of one line, or a
LimitError, raised from the header before a pixel is decoded. Pixels are handed out upright. EXIF, XMP and IPTC are
moved in and out as they are, but for the orientation, which is 1 in every file that is written.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Literal, get_args

from refine import avif, bmp, gif, jpeg, jpeg2000, jpegxl, png, segments, tiff, tiffwriter, webp
from refine.errors import ImageReadError, ImageWriteError, RefineError
from refine.limits import Limits
from refine.metadata import righted, upright, upright_spec
from refine.signature import HEAD_NBYTES, image_format
from refine.spec import Image, ImageSpec, Pixels
from refine.staging import publish, staged

__all__ = [
    "Format",
    "check_fits",
    "copies",
    "encode_image",
    "losses",
    "publish",
    "read_image",
    "read_pixels",
    "read_spec",
    "staged",
    "suffix_format",
    "write_pyramids",
    "write_tiff",
]

Format = Literal["jpeg", "png", "tiff", "webp", "avif", "jpegxl"]

_SUFFIXES: dict[str, Format] = {
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jpe": "jpeg",
    ".jfif": "jpeg",
    ".png": "png",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".webp": "webp",
    ".avif": "avif",
    ".jxl": "jpegxl",
}
_NAMES = {"jpeg2000": "JPEG 2000", "jpegxl": "JPEG XL", "webp": "WebP"}
"""Of formats that are not simply written in capitals."""
_SPECS: dict[str, Callable[[BinaryIO, str, Limits], ImageSpec]] = {
    "jpeg": jpeg.read_spec,
    "png": png.read_spec,
    "webp": webp.read_spec,
    "jpeg2000": jpeg2000.read_spec,
    "gif": gif.read_spec,
    "bmp": bmp.read_spec,
}
_PIXELS: dict[str, Callable[[bytes, str, Limits], Pixels]] = {
    "jpeg": jpeg.read_pixels,
    "png": png.read_pixels,
    "webp": webp.read_pixels,
    "jpeg2000": jpeg2000.read_pixels,
    "gif": gif.read_pixels,
    "bmp": bmp.read_pixels,
}
_COPIES = {"jpeg": 4, "jpeg2000": 6}
"""Copies of the pixels that decoding holds where it is not 2: a progressive JPEG's coefficients have 16 bits a sample,
OpenJPEG's numbers 32 (measured: 5.0)."""
_MAX_SIDES = {"jpeg": jpeg.MAX_SIDE, "png": png.MAX_SIDE, "webp": webp.MAX_SIDE, "avif": avif.MAX_SIDE,
              "jpegxl": jpegxl.MAX_SIDE}  # fmt: skip
_DEFAULT_LIMITS = Limits()


def read_spec(path: Path, limits: Limits = _DEFAULT_LIMITS, page: int = 0) -> ImageSpec:
    """What the header of a file says; no pixel is decoded.

    Raises ImageReadError for what is no readable image, LimitError for what is over the limits.
    """
    with one_line(path.name):
        return _read_spec(path, limits, page)


def read_pixels(path: Path, spec: ImageSpec, limits: Limits = _DEFAULT_LIMITS) -> Pixels:
    """The upright pixels (y, x, c) of a file whose spec was read; perhaps a view, not contiguous in memory.

    Raises ImageReadError where the file is damaged or its pixels are not what its header said.
    """
    with one_line(path.name):
        limits.check_whole(path.name, spec.nbytes)
        pixels = upright(_stored_pixels(path, spec, limits), spec.orientation)
    if pixels.shape != spec.shape or pixels.dtype != spec.dtype:
        found = f"{pixels.shape} {pixels.dtype}"
        raise ImageReadError(f"{path.name}: its header says {spec.shape} {spec.dtype}, but its pixels are {found}")
    return pixels


def copies(spec: ImageSpec) -> int:
    """How many times the bytes of its pixels decoding a file takes at most."""
    return _COPIES.get(spec.format, 2)


def read_image(path: Path, limits: Limits = _DEFAULT_LIMITS, page: int = 0) -> Image:
    """The upright pixels of a file and what is known of them, decoded in this process.

    For files from anywhere use `refine.decoder`, which decodes in a process of its own.
    """
    spec = read_spec(path, limits, page)
    return Image(read_pixels(path, spec, limits), spec)


def _read_spec(path: Path, limits: Limits, page: int) -> ImageSpec:
    name = path.name
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ImageReadError(f"{name}: is no file but {'a folder' if stat.S_ISDIR(status.st_mode) else 'a device'}")
    limits.check_file(name, status.st_size)
    with path.open("rb") as file:
        found = image_format(file.read(HEAD_NBYTES), name)
        if page < 0 or (page > 0 and found != "tiff"):
            raise ImageReadError(f"{name}: has no page {page}; of a {_name(found)} one is read, page 0")
        stored = tiff.read_spec(path, limits, page) if found == "tiff" else _SPECS[found](file, name, limits)
    spec = upright_spec(stored)
    limits.check_image(name, spec)
    return spec


def _stored_pixels(path: Path, spec: ImageSpec, limits: Limits) -> Pixels:
    if spec.format == "tiff":
        return tiff.read_pixels(path, limits, spec.page)
    return _PIXELS[spec.format](path.read_bytes(), path.name, limits)


@contextmanager
def one_line(name: str) -> Iterator[None]:
    """Turn whatever a codec raises inside the `with` into an ImageReadError of one line."""
    try:
        yield
    except (RefineError, MemoryError):
        raise
    except OSError as error:
        raise ImageReadError(f"{name}: cannot be read: {error.strerror or _condensed(error)}") from error
    except Exception as error:  # Codecs raise some thirty classes, bare Exception among them.
        raise ImageReadError(f"{name}: cannot be decoded: {_condensed(error)}") from error


def _condensed(error: Exception) -> str:
    """The first line of an exception, of at most 200 characters."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]


def _name(found: str) -> str:
    """A format as one writes it."""
    return _NAMES.get(found, found.upper())


def suffix_format(path: Path) -> Format | None:
    """The format that a name to be written asks for, or None.

    >>> suffix_format(Path("a/B.JPG")), suffix_format(Path("a.gif"))
    ('jpeg', None)
    """
    return _SUFFIXES.get(path.suffix.lower())


def check_fits(spec: ImageSpec, format: str) -> None:  # noqa: A002  the word of ImageSpec
    """Raise ImageWriteError where a format cannot hold an image: its message says which can."""
    if format not in get_args(Format):
        raise ImageWriteError(f"format {format!r} is not written; use {', '.join(get_args(Format))}")
    name, model, longer = _name(format), spec.model, max(spec.height, spec.width)
    if model in ("cmyk", "lab") and format != "tiff":
        what = {"cmyk": "CMYK", "lab": "Lab"}[model]
        raise ImageWriteError(f"{name} is not written in {what}; use TIFF, or convert the image to RGB first")
    if format == "jpeg" and spec.has_alpha:
        raise ImageWriteError(
            "JPEG holds no alpha; lay it on a colour with --set output.background=#ffffff, or use PNG, WebP or TIFF"
        )
    if format in ("jpeg", "webp", "avif") and spec.dtype == "uint16":
        bits = "at most 12" if format == "avif" else "8"
        raise ImageWriteError(f"{name} holds {bits} bits, the image has 16; use PNG, TIFF or JPEG XL, or 8 bits")
    if longer > _MAX_SIDES.get(format, longer):
        raise ImageWriteError(f"{name} holds {_MAX_SIDES[format]:,} px a side, the image has {longer:,}; use TIFF")
    if spec.icc is not None and model == "grey" and (format == "webp" or (format == "avif" and spec.has_alpha)):
        raise ImageWriteError(
            f"{name} stores this grey as RGB, where its grey ICC profile is not valid; use PNG or TIFF"
        )
    if format == "jpegxl" and not jpegxl.is_srgb(spec):
        raise ImageWriteError("JPEG XL is written in sRGB only, the image has another ICC profile; use PNG or TIFF")


def losses(spec: ImageSpec, format: str) -> tuple[str, ...]:  # noqa: A002  the word of ImageSpec
    """What of a spec does not go into a file of that format, or goes there changed: short sentences for a report."""
    name, carried = _name(format), spec.metadata
    found = []
    if carried.exif is not None and format == "jpeg" and not segments.fits_exif(carried.exif):
        found.append(f"EXIF of {len(carried.exif):,} bytes left out: a JPEG holds less than 64 kB")
    if carried.exif is not None and format == "tiff" and not tiffwriter.is_exif(carried.exif):
        found.append("EXIF that cannot be read left out")
    if carried.iptc is not None and format not in ("jpeg", "tiff"):
        found.append(f"IPTC left out: {name} has no place for it")
    if spec.icc is not None and format == "jpegxl":
        found.append("sRGB profile left out: JPEG XL says sRGB of itself")
    if spec.model == "grey" and (format == "webp" or (format == "avif" and spec.has_alpha)):
        found.append("grey stored as RGB")
    return tuple(found)


def encode_image(image: Image, format: str, *, quality: int = 95, lossless: bool = False) -> bytes:  # noqa: A002
    """The bytes of an image file: upright, with all of its spec that `losses` does not name; same image, same bytes.

    quality (1..100) is for JPEG, WebP, AVIF and JPEG XL, which are written without chroma subsampling (but for lossy
    WebP, which has no other way); lossless for WebP and JPEG XL. Raises ImageWriteError where the format cannot hold
    the image.
    """
    check_fits(image.spec, format)
    if image.pixels.shape != image.spec.shape or image.pixels.dtype != image.spec.dtype:
        found = f"{image.pixels.shape} {image.pixels.dtype}"
        raise ImageWriteError(
            f"the image is said to be {image.spec.shape} {image.spec.dtype}, but its pixels are {found}"
        )
    image = Image(image.pixels, _righted(image.spec))
    if format == "jpeg":
        return jpeg.encoded(image, quality)
    if format == "webp":
        return webp.encoded(image, quality, lossless=lossless)
    if format == "avif":
        return avif.encoded(image, quality)
    if format == "jpegxl":
        return jpegxl.encoded(image, quality, lossless=lossless)
    return png.encoded(image) if format == "png" else tiffwriter.encoded(image)


def _righted(spec: ImageSpec) -> ImageSpec:
    """The spec with an EXIF that agrees with pixels which are upright."""
    exif = spec.metadata.exif
    return spec if exif is None else replace(spec, metadata=replace(spec.metadata, exif=righted(exif)))


def write_tiff(path: Path, spec: ImageSpec, blocks: Iterable[Pixels], tile: int) -> None:
    """Write a tiled TIFF (BigTIFF where it may pass 4 GB) from blocks, row by row of the tile grid; then publish it.

    tile is in px and a multiple of 16; blocks at the right and bottom edge are as large as what is left there.
    Only a few blocks are held at a time. Nothing is visible under `path` before all of them have come.
    """
    check_fits(spec, "tiff")
    _check_tile(path, tile)
    with staged(path) as temporary:
        tiffwriter.write_blocks(temporary, _righted(spec), iter(blocks), tile, path.name)


def write_pyramids(
    path: Path,
    pages: Sequence[tuple[ImageSpec, Sequence[tuple[int, int]]]],
    tiles: Iterable[bytes],
    tile: int,
    compression: tiffwriter.Compression = "none",
) -> None:
    """Write a tiled TIFF of pages, each with its smaller levels in SubIFDs; then publish it.

    pages: the spec of each, and (height, width) of its levels, the largest first. tiles: `tiffwriter.encoded_tile` of
    each, in the order of pages, levels, rows and columns. BigTIFF where it may pass 4 GB. Only one tile is held at a
    time, and nothing is visible under `path` before all of them have come.
    """
    _check_tile(path, tile)
    for spec, _ in pages:
        check_fits(spec, "tiff")
    with staged(path) as temporary:
        righted_pages = [(_righted(spec), sizes) for spec, sizes in pages]
        tiffwriter.write_pyramids(temporary, righted_pages, iter(tiles), tile, compression)


def _check_tile(path: Path, tile: int) -> None:
    if tile < 16 or tile % 16:
        raise ImageWriteError(
            f"{path.name}: a TIFF's tile is a multiple of 16 px, not {tile}; use {tile // 16 * 16 + 16}"
        )
