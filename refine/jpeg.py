"""JPEG: what its markers say, whether its scans are whole, and writing one.

libjpeg decodes a file that was cut short without an error and fills the rest with grey, so the way from marker to
marker is walked here first. Damage inside a scan that leaves its markers in place is seen by no decoder.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import imagecodecs
import numpy as np

from refine.errors import ImageReadError
from refine.limits import Limits
from refine.metadata import read_exif, with_icc
from refine.samples import depth_of, full_scale, scale_note
from refine.segments import beside, written
from refine.spec import Image, ImageSpec, Pixels

MAX_SIDE = 65_500
"""px; libjpeg refuses more, though the format could say 65,535."""

_SOI, _EOI, _SOS, _TEM, _DQT = 0xD8, 0xD9, 0xDA, 0x01, 0xDB
_RESTARTS = range(0xD0, 0xD8)
_LOSSLESS = 0xC3
_FRAMES = {0xC0: "baseline", 0xC1: "extended", 0xC2: "progressive", 0xC9: "arithmetic", 0xCA: "arithmetic progressive",
           _LOSSLESS: "lossless"}  # fmt: skip
_OTHER_FRAMES = {0xC5: "hierarchical", 0xC6: "hierarchical", 0xC7: "hierarchical", 0xCB: "lossless arithmetic",
                 0xCD: "hierarchical", 0xCE: "hierarchical", 0xCF: "hierarchical"}  # fmt: skip
_ZIGZAG = sorted(range(64), key=lambda i: (i // 8 + i % 8, i // 8 if (i // 8 + i % 8) % 2 else i % 8))
"""Place in the block of each step of a table as it is stored (T.81, figure A.6)."""
_MAX_JUNK = 65_536
"""Bytes between two segments that are stepped over, as libjpeg does."""
_MARKER = re.compile(rb"\xff[^\0\xd0-\xd7\xff]")
"""In a scan: 0xff 0 is a byte of it, 0xff 0xd0..0xd7 are restarts, more 0xff are padding."""
_JFIF_NBYTES = 18
"""Bytes of the APP0 segment and its marker, as the codec writes it."""
_UNMARKED_CMYK = "CMYK without Adobe's marker: 0 taken for no ink"


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

    @property
    def is_cmyk(self) -> bool:
        """Whether it is CMYK, or YCCK, which the decoder turns into it."""
        return self.components == 4


def read_spec(file: BinaryIO, name: str, limits: Limits) -> ImageSpec:
    """The spec of the stored picture (not turned upright), from everything before the first scan."""
    frame, segments = _header(file, name, limits)
    found = beside(segments)
    exif = read_exif(found.metadata.exif or b"")
    notes = (*scale_note(frame.precision), *found.notes)
    if frame.is_cmyk and not found.adobe:
        notes = (*notes, _UNMARKED_CMYK)
    spec = ImageSpec(
        height=frame.height,
        width=frame.width,
        channels=frame.components,
        dtype=depth_of(frame.precision),
        format="jpeg",
        # A camera's JFIF often says 72 dpi or nothing but a ratio where its EXIF knows better.
        resolution=exif.resolution or found.jfif,
        orientation=exif.orientation,
        space="cmyk" if frame.is_cmyk else "additive",
        metadata=found.metadata,
        notes=notes,
        quantisation=_quantisation(segments),
    )
    return with_icc(spec, found.icc)


def read_pixels(data: bytes, name: str, limits: Limits) -> Pixels:
    """The stored picture (y, x, c). Raises ImageReadError where the file ends before its last scan does.

    YCCK becomes CMYK; in CMYK 0 is no ink, whichever way round it is stored.
    """
    frame, segments = _header(io.BytesIO(data), name, limits)
    check_scans(data, name, limits)
    pixels = np.atleast_3d(full_scale(imagecodecs.jpeg8_decode(data), frame.precision))
    if frame.is_cmyk and beside(segments).adobe:
        np.invert(pixels, out=pixels)
    return pixels


def _header(file: BinaryIO, name: str, limits: Limits) -> tuple[Frame, list[tuple[int, bytes]]]:
    """The frame, and the marker and payload of the segments before the first scan."""
    frame: Frame | None = None
    segments = []
    for marker, payload in _segments(file, name, limits):
        segments.append((marker, payload))
        if marker in _FRAMES or marker in _OTHER_FRAMES:
            frame = _frame(marker, payload, name)
    if frame is None:
        raise _damaged(name, "a scan comes before the frame's size")
    return frame, segments


def _quantisation(segments: list[tuple[int, bytes]]) -> tuple[int, ...] | None:
    """The steps of the first component, row by row; None where they are missing, as in a lossless JPEG."""
    tables: dict[int, tuple[int, ...]] = {}
    wanted = 0
    for marker, payload in segments:
        if marker in _FRAMES:
            wanted = payload[8] if len(payload) > 8 else 0
        while marker == _DQT and payload:
            form = ">64H" if payload[0] >> 4 else ">64B"
            nbytes = 1 + struct.calcsize(form)
            if len(payload) < nbytes:
                break
            tables[payload[0] & 15] = struct.unpack_from(form, payload, 1)
            payload = payload[nbytes:]  # noqa: PLW2901 one segment may hold several tables
    found = tables.get(wanted)
    return None if found is None else tuple(step for _, step in sorted(zip(_ZIGZAG, found, strict=True)))


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
    readable = range(2, 17) if marker == _LOSSLESS else (8, 12)
    if marker in _OTHER_FRAMES:
        way_out = f"is a {_OTHER_FRAMES[marker]} JPEG; save it as baseline or progressive"
    elif frame.precision not in readable:
        way_out = f"is a JPEG of {frame.precision} bits; save it with 8 or 12, or as a 16-bit TIFF"
    elif frame.components not in (1, 3, 4):
        way_out = f"is a JPEG of {frame.components} components; 1 (grey), 3 (colour) and 4 (CMYK) can be read"
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


def _damaged(name: str, how: str) -> ImageReadError:
    return ImageReadError(f"{name}: damaged JPEG: {how}")


def encoded(image: Image, quality: int) -> bytes:
    """The image as a baseline JPEG without chroma subsampling, with everything that its spec carries."""
    pixels = np.ascontiguousarray(image.pixels)
    data = imagecodecs.jpeg8_encode(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels, quality, subsampling="444")
    return b"".join((data[:2], written(image.spec), data[2 + _JFIF_NBYTES :]))
