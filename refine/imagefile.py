"""Image files in and out: JPEG, PNG and TIFF, 8 and 16 bits, grey and RGB, with and without alpha.

What a file is, is told by its content. Everything that can be wrong with one is an ImageReadError of one line, or a
LimitError, raised from the header before a pixel is decoded. Pixels are handed out upright.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from refine import jpeg, png, tiff
from refine.errors import ImageReadError, ImageWriteError, RefineError
from refine.limits import Limits
from refine.metadata import upright, upright_spec
from refine.signature import HEAD_NBYTES, image_format
from refine.spec import Image, ImageSpec, Pixels

Format = Literal["jpeg", "png", "tiff"]

_SUFFIXES: dict[str, Format] = {
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jpe": "jpeg",
    ".jfif": "jpeg",
    ".png": "png",
    ".tif": "tiff",
    ".tiff": "tiff",
}
_DEFAULT_LIMITS = Limits()
_NAME_LENGTH = 40
"""Characters of a file's name in that of its temporary file: names end at 255 bytes."""


def read_spec(path: Path, limits: Limits = _DEFAULT_LIMITS, page: int = 0) -> ImageSpec:
    """What the header of a file says; no pixel is decoded.

    Raises ImageReadError for what is no readable image, LimitError for what is over the limits.
    """
    with _one_line(path.name):
        return _read_spec(path, limits, page)


def read_pixels(path: Path, spec: ImageSpec, limits: Limits = _DEFAULT_LIMITS) -> Pixels:
    """The upright pixels (y, x, c) of a file whose spec was read; perhaps a view, not contiguous in memory.

    Raises ImageReadError where the file is damaged or its pixels are not what its header said.
    """
    with _one_line(path.name):
        pixels = upright(_stored_pixels(path, spec, limits), spec.orientation)
    if pixels.shape != spec.shape or pixels.dtype != spec.dtype:
        found = f"{pixels.shape} {pixels.dtype}"
        raise ImageReadError(f"{path.name}: its header says {spec.shape} {spec.dtype}, but its pixels are {found}")
    return pixels


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
            raise ImageReadError(f"{name}: has no page {page}; a {found.upper()} has one, page 0")
        if found == "tiff":
            stored = tiff.read_spec(path, limits, page)
        else:
            stored = (jpeg if found == "jpeg" else png).read_spec(file, name, limits)
    spec = upright_spec(stored)
    limits.check_image(name, spec)
    return spec


def _stored_pixels(path: Path, spec: ImageSpec, limits: Limits) -> Pixels:
    if spec.format == "tiff":
        return tiff.read_pixels(path, limits, spec.page)
    data = path.read_bytes()
    if spec.format == "jpeg":
        return jpeg.read_pixels(data, path.name, limits)
    return png.read_pixels(data, path.name, limits)


@contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Turn whatever a codec raises into an ImageReadError of one line."""
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


def suffix_format(path: Path) -> Format | None:
    """The format that a name to be written asks for, or None.

    >>> suffix_format(Path("a/B.JPG")), suffix_format(Path("a.webp"))
    ('jpeg', None)
    """
    return _SUFFIXES.get(path.suffix.lower())


def check_fits(spec: ImageSpec, format: str) -> None:  # noqa: A002  the word of ImageSpec
    """Raise ImageWriteError where a format cannot hold an image: its message says which can."""
    if format not in get_args(Format):
        raise ImageWriteError(f"format {format!r} is not written; use {', '.join(get_args(Format))}")
    longer = max(spec.height, spec.width)
    if format == "jpeg" and spec.has_alpha:
        raise ImageWriteError("JPEG holds no alpha; use PNG or TIFF, or flatten the image first")
    if format == "jpeg" and spec.dtype == "uint16":
        raise ImageWriteError("JPEG holds 8 bits, the image has 16; use PNG or TIFF, or 8 bits")
    most = {"jpeg": jpeg.MAX_SIDE, "png": png.MAX_SIDE}.get(format, longer)
    if longer > most:
        raise ImageWriteError(f"{format.upper()} holds {most:,} px a side, the image has {longer:,}; use TIFF")


def encode_image(image: Image, format: str, *, quality: int = 95) -> bytes:  # noqa: A002  the word of ImageSpec
    """The bytes of an image file: upright, with the image's ICC profile and resolution; the same image, the same bytes.

    quality (1..100) is for JPEG, which is written without chroma subsampling. Raises ImageWriteError where the
    format cannot hold the image.
    """
    check_fits(image.spec, format)
    if image.pixels.shape != image.spec.shape or image.pixels.dtype != image.spec.dtype:
        found = f"{image.pixels.shape} {image.pixels.dtype}"
        raise ImageWriteError(
            f"the image is said to be {image.spec.shape} {image.spec.dtype}, but its pixels are {found}"
        )
    if format == "jpeg":
        return jpeg.encoded(image, quality)
    return png.encoded(image) if format == "png" else tiff.encoded(image)


def write_tiff(path: Path, spec: ImageSpec, blocks: Iterable[Pixels], tile: int) -> None:
    """Write a tiled TIFF (BigTIFF where it may pass 4 GB) from blocks, row by row of the tile grid; then publish it.

    tile is in px and a multiple of 16; blocks at the right and bottom edge are as large as what is left there.
    Only a few blocks are held at a time. Nothing is visible under `path` before all of them have come.
    """
    if tile < 16 or tile % 16:
        raise ImageWriteError(
            f"{path.name}: a TIFF's tile is a multiple of 16 px, not {tile}; use {tile // 16 * 16 + 16}"
        )
    with staged(path) as temporary:
        tiff.write_blocks(temporary, spec, iter(blocks), tile, path.name)


def publish(path: Path, data: bytes) -> None:
    """Write a file that is seen whole or not at all, even if the machine stops: `path` is replaced at one stroke."""
    with staged(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A temporary name in the folder of `path`: published under `path` on success, removed on error.

    A process that is killed leaves a file `.<name>.<random>.part` behind, which nobody reads.
    Raises ImageWriteError where the disk refuses.
    """
    temporary = path.with_name(f".{path.name[:_NAME_LENGTH]}.{os.urandom(6).hex()}.part")
    try:
        yield temporary
        _synchronise(temporary, os.O_RDWR)
        temporary.replace(path)
        _synchronise(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except RefineError:
        raise
    except OSError as error:
        raise ImageWriteError(f"{path.name}: cannot be stored: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _synchronise(path: Path, flags: int) -> None:
    """Have the disk write what it holds back of a file or folder."""
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
