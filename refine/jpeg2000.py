"""JPEG 2000: what its boxes and its codestream's header say, checked before OpenJPEG sees them."""

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
from refine.metadata import read_exif, resolution, with_icc
from refine.samples import depth_of, full_scale, scale_note, unmultiply
from refine.spec import ImageSpec, Metadata, Pixels, Resolution

_CODESTREAM = b"\xff\x4f\xff\x51"
_END = b"\xff\xd9"
_SUPERBOXES = (b"jp2h", b"res ")
_WANTED = (b"colr", b"cdef", b"pclr", b"resc", b"resd", b"uuid", b"xml ")
_XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_EXIF_UUID = b"JpgTiffExif->JP2"
_IPTC_UUID = bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38")
_SPACES = {16: (3, 4), 17: (1, 2)}
"""Enumerated colour space and the channels it may have: sRGB and grey."""
_OTHER_SPACES = {12: "CMYK", 14: "Lab", 18: "YCbCr"}
_COLOUR, _OPACITY, _PREMULTIPLIED = 0, 1, 2
_METRE = 0.0254
"""Metres in an inch."""
_MAX_DEPTH = 2


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of the picture before it is decoded."""

    height: int
    """px."""
    width: int
    """px."""
    channels: int
    """1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha."""
    bits: int
    """Of a sample."""
    premultiplied: bool
    """Whether colour is stored multiplied by alpha."""
    boxes: dict[bytes, bytes]
    """The first of each kind of box that is wanted."""
    uuids: dict[bytes, bytes]
    """The payload of UUID boxes by their UUID."""


def read_spec(file: BinaryIO, name: str, limits: Limits) -> ImageSpec:
    """The spec of the picture, from its boxes."""
    header = _header(file, name, limits)
    exif = header.uuids.get(_EXIF_UUID, b"").removeprefix(b"Exif\0\0") or None
    found = Metadata(exif, header.uuids.get(_XMP_UUID) or None, header.uuids.get(_IPTC_UUID) or None)
    orientation = read_exif(exif or b"")
    stated = _resolution(header.boxes.get(b"resc", b"")) or _resolution(header.boxes.get(b"resd", b""))
    notes = (*scale_note(header.bits), *(("alpha divided out of colour",) if header.premultiplied else ()))
    spec = ImageSpec(
        height=header.height,
        width=header.width,
        channels=header.channels,
        dtype=depth_of(header.bits),
        format="jpeg2000",
        resolution=stated or orientation.resolution,
        orientation=orientation.orientation,
        metadata=found,
        notes=notes,
    )
    colour = header.boxes.get(b"colr", b"")
    return with_icc(spec, colour[3:] if colour[:1] == b"\2" else None)


def read_pixels(data: bytes, name: str, limits: Limits) -> Pixels:
    """The picture (y, x, c); 9 to 15 bits are scaled to 16, fewer than 8 to 8."""
    header = _header(io.BytesIO(data), name, limits)
    pixels = np.atleast_3d(full_scale(imagecodecs.jpeg2k_decode(data), header.bits))
    if header.premultiplied:
        unmultiply(pixels)
    return pixels


def _header(file: BinaryIO, name: str, limits: Limits) -> Header:
    """The header, once the picture is seen to be of a kind that is read."""
    boxes: dict[bytes, bytes] = {}
    uuids: dict[bytes, bytes] = {}
    file.seek(0, io.SEEK_END)
    size = file.tell()
    file.seek(0)
    if file.read(4) == _CODESTREAM:
        file.seek(0)
        boxes |= _stream_ends(file, 0, size)
    else:
        for kind, payload in _boxes(file, 0, size, name, limits):
            if kind == b"uuid":
                uuids.setdefault(payload[:16], payload[16:])
            boxes.setdefault(kind, payload)
    if b"jp2c" not in boxes:
        raise _unusable(name, "it holds no picture")
    height, width, channels, bits = _stream(boxes[b"jp2c"], name)
    # OpenJPEG decodes a stream whose tail is zeros to a smear, without an error.
    if boxes[b"end "] != _END:
        raise _unusable(name, "its codestream has no end mark: the file ends before the picture does")
    if b"pclr" in boxes:
        raise _unusable(name, "it has a palette; save it as PNG")
    alpha, premultiplied = _alpha(boxes.get(b"cdef", b""), channels, name)
    _check_space(boxes.get(b"colr", b""), channels, alpha=alpha, name=name)
    return Header(height, width, channels, bits, premultiplied, boxes, uuids)


def _boxes(
    file: BinaryIO, at: int, end: int, name: str, limits: Limits, depth: int = 0
) -> Iterator[tuple[bytes, bytes]]:
    """Kind and payload of the boxes that are wanted; of the codestream its beginning."""
    metadata = 0
    while at + 8 <= end:
        file.seek(at)
        head = file.read(16)
        nbytes, kind = int.from_bytes(head[:4], "big"), head[4:8]
        start = at + 8
        if nbytes == 1:
            nbytes, start = int.from_bytes(head[8:16], "big"), at + 16
        stop = end if nbytes == 0 else at + nbytes
        if stop > end or stop < start:
            raise _unusable(name, "the file ends before the picture does")
        metadata += 0 if kind == b"jp2c" else stop - at
        limits.check_metadata(name, metadata)
        file.seek(start)
        if kind in _SUPERBOXES and depth < _MAX_DEPTH:
            yield from _boxes(file, start, stop, name, limits, depth + 1)
        elif kind == b"jp2c":
            yield from _stream_ends(file, start, stop).items()
        elif kind in _WANTED:
            yield kind, file.read(stop - start)
        at = stop


def _stream_ends(file: BinaryIO, start: int, stop: int) -> dict[bytes, bytes]:
    """The beginning and the last two bytes of a codestream, under names of boxes."""
    file.seek(start)
    head = file.read(min(stop - start, 64 << 10))
    file.seek(max(start, stop - 2))
    return {b"jp2c": head, b"end ": file.read(min(stop - start, 2))}


def _stream(head: bytes, name: str) -> tuple[int, int, int, int]:
    """Height, width, components and bits of the codestream, all components alike."""
    try:
        x1, y1, x0, y0, *_, components = struct.unpack_from(">8IH", head, 8)
        parts = [struct.unpack_from(">BBB", head, 42 + 3 * i) for i in range(min(components, 5))]
    except struct.error as error:
        raise _unusable(name, "its header is cut off") from error
    if not head.startswith(_CODESTREAM) or x1 <= x0 or y1 <= y0 or not parts:
        raise _unusable(name, "its codestream has no size")
    if any((dx, dy) != (1, 1) for _, dx, dy in parts):
        raise _unusable(name, "its colour is subsampled; convert it to RGB without subsampling")
    depths = {depth for depth, _, _ in parts}
    depth = depths.pop()
    if depths or depth & 0x80 or depth >= 16:
        raise _unusable(name, "its samples are signed, differ or have more than 16 bits; convert to 16-bit integers")
    if components > 4:
        raise _unusable(name, f"it has {components} components; grey and RGB with or without alpha can be read")
    return y1 - y0, x1 - x0, components, depth + 1


def _alpha(definitions: bytes, channels: int, name: str) -> tuple[bool, bool]:
    """Whether the last channel is alpha, and whether colour is multiplied by it."""
    kinds = [_COLOUR] * channels
    for at in range(2, len(definitions) - 5, 6):
        channel, kind, _ = struct.unpack_from(">HHH", definitions, at)
        if channel < channels:
            kinds[channel] = kind
    if any(kind != _COLOUR for kind in kinds[:-1]) or kinds[-1] not in (_COLOUR, _OPACITY, _PREMULTIPLIED):
        raise _unusable(name, "its channels are not colour followed by alpha")
    return kinds[-1] != _COLOUR, kinds[-1] == _PREMULTIPLIED


def _check_space(colour: bytes, channels: int, *, alpha: bool, name: str) -> None:
    """Raise where the channels are no grey or RGB, with or without alpha. Without a word on it, they are."""
    if colour[:1] == b"\1":
        space = int.from_bytes(colour[3:7], "big")
        if channels not in _SPACES.get(space, ()):
            what = _OTHER_SPACES.get(space, f"of colour space {space}")
            raise _unusable(name, f"it is {what} with {channels} channels; convert it to RGB or grey first")
    elif colour[3:].startswith(b"CMYK", 16):
        raise _unusable(name, "it is CMYK; convert it to RGB first")
    if alpha and channels not in (2, 4):
        raise _unusable(name, f"it has {channels} channels with alpha; grey and RGB can be read")


def _resolution(payload: bytes) -> Resolution | None:
    """From a resolution box: numerators, denominators and exponents of y and x, per metre."""
    try:
        up, over, across, under, up_power, across_power = struct.unpack(">HHHHbb", payload)
    except struct.error:
        return None
    if not (over and under):
        return None
    y, x = up / over * 10.0**up_power * _METRE, across / under * 10.0**across_power * _METRE
    return resolution(round(x, 3), round(y, 3), "inch")


def _unusable(name: str, how: str) -> ImageReadError:
    return ImageReadError(f"{name}: this JPEG 2000 cannot be used: {how}")
