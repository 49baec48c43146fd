"""JPEG: what its markers say, whether its scans are whole, and writing one.

libjpeg decodes a file that was cut short without an error and fills the rest with grey, so the way from marker to
marker is walked here first. Damage inside a scan that leaves its markers in place is seen by no decoder.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import imagecodecs
import numpy as np

from refine.errors import ImageReadError
from refine.limits import Limits
from refine.metadata import Exif, density, read_exif, resolution, usable_icc
from refine.spec import Image, ImageSpec, Pixels, Resolution

MAX_SIDE = 65_500
"""px; libjpeg refuses more, though the format could say 65,535."""

_SOI, _EOI, _SOS, _TEM = 0xD8, 0xD9, 0xDA, 0x01
_RESTARTS = range(0xD0, 0xD8)
_APP0, _APP1, _APP2 = 0xE0, 0xE1, 0xE2
_FRAMES = {0xC0: "baseline", 0xC1: "extended", 0xC2: "progressive", 0xC9: "arithmetic", 0xCA: "arithmetic progressive"}
_OTHER_FRAMES = {0xC3: "lossless", 0xC5: "hierarchical", 0xC6: "hierarchical", 0xC7: "hierarchical",
                 0xCB: "lossless", 0xCD: "hierarchical", 0xCE: "hierarchical", 0xCF: "hierarchical"}  # fmt: skip
_MAX_JUNK = 65_536
"""Bytes between two segments that are stepped over, as libjpeg does."""
_MARKER = re.compile(rb"\xff[^\0\xd0-\xd7\xff]")
"""In a scan: 0xff 0 is a byte of it, 0xff 0xd0..0xd7 are restarts, more 0xff are padding."""
_ICC = b"ICC_PROFILE\0"
_ICC_PART = 65_519
"""Bytes of a profile in one APP2 segment."""
_JFIF_UNITS = {"none": 0, "inch": 1, "cm": 2}
_JFIF_NBYTES = 18
"""Bytes of the APP0 segment and its marker, as the codec writes it."""
_MAX_DENSITY = 65_535


@dataclass(frozen=True, slots=True)
class Frame:
    """What a start-of-frame segment says."""

    height: int
    """px."""
    width: int
    """px."""
    components: int
    """1 grey, 3 colour, 4 CMYK."""
    precision: int
    """Bits of a sample."""


def read_spec(file: BinaryIO, name: str, limits: Limits) -> ImageSpec:
    """The spec of the stored picture (not turned upright), from everything before the first scan."""
    frame: Frame | None = None
    exif, jfif = Exif(), None
    parts: dict[int, bytes] = {}
    wanted = 0
    for marker, payload in _segments(file, name, limits):
        if marker in _FRAMES or marker in _OTHER_FRAMES:
            frame = _frame(marker, payload, name)
        elif marker == _APP0 and payload.startswith(b"JFIF\0"):
            jfif = _jfif_resolution(payload)
        elif marker == _APP1 and payload.startswith(b"Exif\0\0"):
            exif = read_exif(payload[6:])
        elif marker == _APP2 and payload.startswith(_ICC) and len(payload) > len(_ICC) + 2:
            wanted = payload[len(_ICC) + 1]
            parts[payload[len(_ICC)]] = payload[len(_ICC) + 2 :]
    if frame is None:
        raise _damaged(name, "a scan comes before the frame's size")
    icc = b"".join(parts[i] for i in sorted(parts)) if sorted(parts) == list(range(1, wanted + 1)) else None
    # A camera's JFIF often says 72 dpi or nothing but a ratio where its EXIF knows better.
    found = exif.resolution or jfif
    icc = usable_icc(icc, frame.components)
    return ImageSpec(frame.height, frame.width, frame.components, "uint8", "jpeg", icc, found, exif.orientation)


def read_pixels(data: bytes, name: str, limits: Limits) -> Pixels:
    """The stored picture (y, x, c), uint8. Raises ImageReadError where the file ends before its last scan does."""
    check_scans(data, name, limits)
    pixels = imagecodecs.jpeg8_decode(data)
    return np.atleast_3d(pixels)


def check_scans(data: bytes, name: str, limits: Limits) -> None:
    """Walk from scan to scan up to the end marker; raise where it is missing or there are too many scans."""
    at, scans, nbytes = 2, 0, 0
    while True:
        found = _MARKER.search(data, at)
        if found is None:
            raise _damaged(name, "the file ends before the picture does")
        marker, at = data[found.start() + 1], found.end()
        if marker == _EOI:
            return
        if marker == _TEM:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        if length < 2 or at + length > len(data):
            raise _damaged(name, "the file ends inside a segment")
        at, nbytes, scans = at + length, nbytes + length + 2, scans + (marker == _SOS)
        limits.check_metadata(name, nbytes)
        limits.check_scans(name, scans)


def stream_frame(data: bytes, name: str) -> Frame:
    """The frame of a JPEG stream inside another file (a tile of a TIFF), whose tables may lie elsewhere."""
    at = 2
    while found := _MARKER.search(data, at):
        marker, at = data[found.start() + 1], found.end()
        length = int.from_bytes(data[at : at + 2], "big")
        if marker in _FRAMES or marker in _OTHER_FRAMES:
            return _parsed_frame(data[at + 2 : at + length], name)
        if marker == _SOS:
            break
        at += length
    raise _damaged(name, "a JPEG segment of it has no size")


def _segments(file: BinaryIO, name: str, limits: Limits) -> Iterator[tuple[int, bytes]]:
    """Marker and payload of every segment before the first scan."""
    file.seek(2)
    nbytes = 0
    while (marker := _next_marker(file, name)) != _SOS:
        if marker in (_SOI, _TEM) or marker in _RESTARTS:
            continue
        if marker == _EOI:
            raise _damaged(name, "it holds no picture")
        head = file.read(2)
        length = int.from_bytes(head, "big")
        payload = file.read(max(0, length - 2))
        if len(head) < 2 or length < 2 or len(payload) < length - 2:
            raise _damaged(name, "the file ends inside its header")
        nbytes += length + 2
        limits.check_metadata(name, nbytes)
        yield marker, payload


def _next_marker(file: BinaryIO, name: str) -> int:
    """The next marker's second byte; junk before it is stepped over."""
    previous = b""
    for _ in range(_MAX_JUNK):
        byte = file.read(1)
        if not byte:
            raise _damaged(name, "the file ends inside its header")
        if previous == b"\xff" and byte not in b"\0\xff":
            return byte[0]
        previous = byte
    raise _damaged(name, "more than 64 KiB lie between two segments of its header")


def _frame(marker: int, payload: bytes, name: str) -> Frame:
    frame = _parsed_frame(payload, name)
    if marker in _OTHER_FRAMES:
        way_out = f"is a {_OTHER_FRAMES[marker]} JPEG; save it as baseline or progressive"
    elif frame.precision != 8:
        way_out = f"is a JPEG of {frame.precision} bits; save it with 8, or as a 16-bit TIFF"
    elif frame.components == 4:
        way_out = "is a CMYK JPEG; convert it to RGB by its ICC profile first"
    elif frame.components not in (1, 3):
        way_out = f"is a JPEG of {frame.components} components; 1 (grey) and 3 (colour) can be read"
    else:
        return frame
    msg = f"{name}: {way_out}"
    raise ImageReadError(msg)


def _parsed_frame(payload: bytes, name: str) -> Frame:
    try:
        precision, height, width, components = struct.unpack_from(">BHHB", payload)
    except struct.error as error:
        raise _damaged(name, "the frame's size is cut off") from error
    if height == 0 or width == 0:
        raise _damaged(name, f"it is {height} x {width} px")
    return Frame(height, width, components, precision)


def _jfif_resolution(payload: bytes) -> Resolution | None:
    try:
        unit, x, y = struct.unpack_from(">BHH", payload, 7)
    except struct.error:
        return None
    return resolution(x, y, {0: "none", 1: "inch", 2: "cm"}.get(unit))  # type: ignore[arg-type]


def _damaged(name: str, how: str) -> ImageReadError:
    return ImageReadError(f"{name}: damaged JPEG: {how}")


def encoded(image: Image, quality: int) -> bytes:
    """The image as a baseline JPEG without chroma subsampling, with its ICC profile and density."""
    pixels = np.ascontiguousarray(image.pixels)
    data = imagecodecs.jpeg8_encode(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels, quality, subsampling="444")
    rest = 2 + _JFIF_NBYTES
    return b"".join((data[:2], _app0(image.spec.resolution), *_icc_segments(image.spec.icc), data[rest:]))


def _app0(found: Resolution | None) -> bytes:
    """The JFIF segment. Its density is whole; one it cannot hold is left out, as the file then says nothing."""
    unit, (x, y) = 0, (1, 1)
    if found is not None and max(density(found, 1, 1)) <= _MAX_DENSITY:
        unit, (x, y) = _JFIF_UNITS[found.unit], density(found, 1, 1)
    return b"\xff\xe0\0\x10JFIF\0\1\1" + struct.pack(">BHHBB", unit, x, y, 0, 0)


def _icc_segments(profile: bytes | None) -> Iterator[bytes]:
    parts = [profile[i : i + _ICC_PART] for i in range(0, len(profile), _ICC_PART)] if profile else []
    for i, part in enumerate(parts, 1):
        payload = _ICC + bytes((i, len(parts))) + part
        yield b"\xff\xe2" + struct.pack(">H", len(payload) + 2) + payload
