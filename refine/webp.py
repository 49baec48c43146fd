"""WebP: what its chunks say, checked before libwebp sees them, and writing one.

34 bytes of a WebP can claim 16383 x 16383 px, so sizes are read from the chunks here. Of an animation the first frame
is read, on its canvas.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import imagecodecs
import numpy as np

from refine.errors import ImageReadError
from refine.limits import Limits
from refine.metadata import read_exif, resolution_exif, with_icc
from refine.spec import Image, ImageSpec, Metadata, Pixels

MAX_SIDE = 16_383
"""px; sides are written in 14 bits."""

_ANIMATION, _XMP_FLAG, _EXIF_FLAG, _ALPHA, _ICC_FLAG = 0x02, 0x04, 0x08, 0x10, 0x20
_PICTURES = (b"VP8 ", b"VP8L", b"ANMF", b"ALPH")
_METHOD = 4
"""libwebp's own default; 6 takes three times as long for 2 % fewer bytes."""


@dataclass(frozen=True, slots=True)
class Stream:
    """What the head of a VP8 or VP8L stream says."""

    height: int
    """px."""
    width: int
    """px."""
    alpha: bool
    """Whether its own bits hold alpha (VP8L)."""


def read_spec(file: BinaryIO, name: str, limits: Limits) -> ImageSpec:
    """The spec of the stored picture (not turned upright), from its chunks; pixels are stepped over."""
    chunks: dict[bytes, bytes] = {}
    frames = 0
    for kind, payload in _chunks(file, name, limits):
        chunks.setdefault(kind, payload)
        frames += kind == b"ANMF"
    height, width, alpha = _size(chunks, name)
    raw = chunks.get(b"EXIF", b"").removeprefix(b"Exif\0\0") or None
    exif = read_exif(raw or b"")
    spec = ImageSpec(
        height=height,
        width=width,
        channels=4 if alpha else 3,
        dtype="uint8",
        format="webp",
        resolution=exif.resolution,
        orientation=exif.orientation,
        metadata=Metadata(raw, chunks.get(b"XMP ") or None),
        notes=(f"frame 1 of {frames}",) if frames > 1 else (),
    )
    return with_icc(spec, chunks.get(b"ICCP"))


def read_pixels(data: bytes, name: str, limits: Limits) -> Pixels:
    """The stored picture (y, x, c), uint8; of an animation its first frame."""
    spec = read_spec(io.BytesIO(data), name, limits)
    return np.atleast_3d(imagecodecs.webp_decode(data, 0, hasalpha=spec.has_alpha))


def _chunks(file: BinaryIO, name: str, limits: Limits) -> Iterator[tuple[bytes, bytes]]:
    """Kind and payload of each chunk; of those that hold pixels, the first bytes."""
    file.seek(0, io.SEEK_END)
    size = file.tell()
    file.seek(4)
    end = 8 + int.from_bytes(file.read(4), "little")
    if end > size:
        raise _damaged(name, f"the file ends before the picture does: {size:,} of {end:,} bytes are there")
    at, metadata = 12, 0
    while at + 8 <= end:
        file.seek(at)
        head = file.read(8)
        kind, nbytes = head[:4], int.from_bytes(head[4:], "little")
        if at + 8 + nbytes > end:
            raise _damaged(name, "a chunk is longer than the file")
        metadata += 8 if kind in _PICTURES else 8 + nbytes
        limits.check_metadata(name, metadata)
        yield kind, file.read(min(nbytes, 64) if kind in _PICTURES else nbytes)
        at += 8 + nbytes + nbytes % 2


def _size(chunks: dict[bytes, bytes], name: str) -> tuple[int, int, bool]:
    """Height and width of the picture or canvas, and whether it has alpha."""
    streams = [_stream(kind, chunks[kind], name) for kind in (b"VP8L", b"VP8 ") if kind in chunks]
    if b"VP8X" not in chunks:
        if not streams:
            raise _damaged(name, "it holds no picture")
        return streams[0].height, streams[0].width, streams[0].alpha
    head = chunks[b"VP8X"]
    if len(head) < 10:
        raise _damaged(name, "its header chunk is cut off")
    width, height = (int.from_bytes(head[at : at + 3], "little") + 1 for at in (4, 7))
    if head[0] & _ANIMATION:
        if b"ANMF" not in chunks:
            raise _damaged(name, "it is an animation without frames")
    elif not streams:
        raise _damaged(name, "it holds no picture")
    elif (height, width) != (streams[0].height, streams[0].width):
        found = f"{streams[0].height} x {streams[0].width}"
        raise _damaged(name, f"its canvas is {height} x {width} px, the picture on it {found}")
    return height, width, bool(head[0] & _ALPHA) or b"ALPH" in chunks or any(stream.alpha for stream in streams)


def _stream(kind: bytes, payload: bytes, name: str) -> Stream:
    if kind == b"VP8L" and len(payload) >= 5 and payload[0] == 0x2F:
        bits = int.from_bytes(payload[1:5], "little")
        return Stream((bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1, bool(bits >> 28 & 1))
    if kind == b"VP8 " and len(payload) >= 10 and payload[3:6] == b"\x9d\x01\x2a" and not payload[0] & 1:
        width, height = struct.unpack_from("<HH", payload, 6)
        if width & 0x3FFF and height & 0x3FFF:
            return Stream(height & 0x3FFF, width & 0x3FFF, alpha=False)
    raise _damaged(name, "its picture has no size")


def encoded(image: Image, quality: int, *, lossless: bool) -> bytes:
    """The image as a WebP with everything of its spec that has a place in one. Grey is written as RGB.

    A resolution goes into EXIF, where there is none yet into one of its own. Lossless keeps colour under alpha 0 too.
    """
    spec = image.spec
    pixels = np.ascontiguousarray(image.pixels)
    if spec.channels < 3:
        pixels = np.ascontiguousarray(pixels[..., [0, 0, 0, 1][: spec.channels + 2]])
    data = bytes(imagecodecs.webp_encode(pixels, quality, lossless=lossless, method=_METHOD))
    exif = spec.metadata.exif or (resolution_exif(spec.resolution) if spec.resolution else None)
    pictures = [chunk for chunk in _whole_chunks(data) if chunk[0] in _PICTURES]
    flags = (
        (_ICC_FLAG if spec.icc else 0)
        | (_EXIF_FLAG if exif else 0)
        | (_XMP_FLAG if spec.metadata.xmp else 0)
        | (_ALPHA if spec.has_alpha else 0)  # also where all of it is opaque, which the codec leaves out
    )
    sides = (side.to_bytes(3, "little") for side in (spec.width - 1, spec.height - 1))
    body = b"".join(
        (
            _chunk(b"VP8X", struct.pack("<I", flags) + b"".join(sides)) if flags else b"",
            _chunk(b"ICCP", spec.icc) if spec.icc else b"",
            *(_chunk(kind, payload) for kind, payload in pictures),
            _chunk(b"EXIF", exif) if exif else b"",
            _chunk(b"XMP ", spec.metadata.xmp) if spec.metadata.xmp else b"",
        )
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def _whole_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and payload of the chunks that the codec wrote."""
    at = 12
    while at < len(data):
        nbytes = int.from_bytes(data[at + 4 : at + 8], "little")
        yield data[at : at + 4], data[at + 8 : at + 8 + nbytes]
        at += 8 + nbytes + nbytes % 2


def _chunk(kind: bytes, payload: bytes) -> bytes:
    return kind + struct.pack("<I", len(payload)) + payload + bytes(len(payload) % 2)


def _damaged(name: str, how: str) -> ImageReadError:
    return ImageReadError(f"{name}: damaged WebP: {how}")
