"""PNG: what its chunks say, whether they are whole, and writing one.

Many decoders give a picture for a PNG of which rows are missing. libpng through imagecodecs does not, but it stops
looking after the last row, so checksums and the end mark are checked here.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import imagecodecs
import numpy as np

from refine.errors import ImageReadError
from refine.limits import Limits
from refine.metadata import density, photoshop_iptc, read_exif, resolution, with_icc
from refine.samples import depth_of, scale_note
from refine.spec import Image, ImageSpec, Metadata, Pixels, Resolution

MAX_SIDE = 1_000_000
"""px; libpng's own bound, though the format could say 2,147,483,647."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Colour type: bits of a sample it may have."""
_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_PALETTE = 3
_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
"""Chunks that decide pixels: damage in one is damage to the picture. Damage in another makes that chunk absent."""
_WANTED = (b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"pHYs", b"eXIf", b"acTL", b"iTXt", b"tEXt", b"zTXt", b"gAMA", b"cHRM",
           b"sRGB", b"cICP")  # fmt: skip
_XMP = b"XML:com.adobe.xmp\0"
_RAW_PROFILE = b"Raw profile type "
"""Keyword of the text chunks in which ImageMagick has EXIF and IPTC, in hexadecimal."""
_SRGB_GAMMA = 45_455
"""What a gAMA chunk says of a picture in sRGB."""
_SRGB_PRIMARIES = (31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000)
"""What a cHRM chunk says of a picture in sRGB."""
_SRGB_CODES = b"\1\x0d\0\1"
"""What a cICP chunk says of a picture in sRGB."""
_METRE = 0.0254
"""Metres in an inch."""
# Measured on photographs: level 1 with the Sub filter takes half the time of the default filters for 6 % more bytes.
_LEVEL, _FILTER_SUB = 1, 16


@dataclass(frozen=True, slots=True)
class Header:
    """What the first chunk says."""

    height: int
    """px."""
    width: int
    """px."""
    bits: int
    """Of a sample: 1, 2, 4, 8 or 16."""
    colour: int
    """0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGB and alpha."""


def read_spec(file: BinaryIO, name: str, limits: Limits) -> ImageSpec:
    """The spec of the stored picture (not turned upright), from its chunks; pixels are stepped over."""
    chunks: dict[bytes, bytes] = {}
    texts: list[tuple[bytes, bytes]] = []
    for kind, payload in _chunks(file, name, limits, whole=False):
        chunks.setdefault(kind, payload)
        if kind in (b"iTXt", b"tEXt", b"zTXt"):
            texts.append((kind, payload))
    header = _header(chunks.get(b"IHDR", b""), name)
    metadata, left_out = _metadata(chunks.get(b"eXIf"), texts, name, limits)
    exif = read_exif(metadata.exif or b"")
    spec = ImageSpec(
        height=header.height,
        width=header.width,
        # A key colour or transparent palette entries (tRNS) come out of the decoder as an alpha channel.
        channels=_CHANNELS[header.colour] + (b"tRNS" in chunks and header.colour in (0, 2, _PALETTE)),
        dtype=depth_of(header.bits),
        format="png",
        resolution=_physical(chunks.get(b"pHYs", b"")) or exif.resolution,
        orientation=exif.orientation,
        metadata=metadata,
        notes=(*_notes(header, chunks), *left_out),
    )
    return with_icc(spec, _inflated_icc(chunks.get(b"iCCP", b""), name, limits))


def _notes(header: Header, chunks: dict[bytes, bytes]) -> Iterator[str]:
    """What of the picture is not handed out as it is stored."""
    frames = int.from_bytes(chunks.get(b"acTL", b"")[:4], "big")
    if frames > 1:
        yield f"frame 1 of {frames}"
    if header.colour == _PALETTE:
        yield "palette expanded"
    else:
        yield from scale_note(header.bits)
        if b"tRNS" in chunks and header.colour in (0, 2):
            yield "key colour became alpha"
    yield from _colour_notes(chunks)


def _colour_notes(chunks: dict[bytes, bytes]) -> Iterator[str]:
    """What is said of colour elsewhere than in a profile, and is not sRGB: it is not handed on."""
    if b"iCCP" in chunks:
        return
    if b"cICP" in chunks and chunks[b"cICP"] != _SRGB_CODES:
        yield "colour given as cICP was not applied"
    elif b"sRGB" not in chunks:
        gamma = int.from_bytes(chunks.get(b"gAMA", b""), "big")
        if gamma and abs(gamma - _SRGB_GAMMA) > 500:
            yield f"a gamma of {gamma / 100_000:g} was not applied"
        primaries = chunks.get(b"cHRM", b"")
        if len(primaries) == 32:
            found = struct.unpack(">8I", primaries)
            if max(abs(a - b) for a, b in zip(found, _SRGB_PRIMARIES, strict=True)) > 500:
                yield "primaries other than those of sRGB were not applied"


def _metadata(
    exif: bytes | None, texts: list[tuple[bytes, bytes]], name: str, limits: Limits
) -> tuple[Metadata, tuple[str, ...]]:
    """EXIF, XMP and IPTC; and a note of the other texts, which have no place in what is handed on."""
    xmp, raw, others, inflated = None, dict[bytes, bytes](), list[str](), 0
    for kind, payload in texts:
        keyword, text = _text(kind, payload, limits.max_metadata_nbytes)
        inflated += len(text)
        limits.check_metadata(name, inflated)
        if keyword + b"\0" == _XMP:
            xmp = xmp or text or None
        elif keyword.startswith(_RAW_PROFILE):
            raw.setdefault(keyword.removeprefix(_RAW_PROFILE).lower(), _unhexed(text))
        else:
            others.append(keyword.decode("latin-1"))
    exif = exif or raw.get(b"exif") or raw.get(b"app1")
    iptc = photoshop_iptc(raw[b"iptc"]) if b"iptc" in raw else None
    found = Metadata(exif.removeprefix(b"Exif\0\0") or None if exif else None, xmp or raw.get(b"xmp") or None, iptc)
    notes = () if not others else (f"text left out: {', '.join(sorted(set(others)))[:100]}",)
    return found, notes


def _text(kind: bytes, payload: bytes, most: int) -> tuple[bytes, bytes]:
    """Keyword and text of a text chunk, inflated up to one byte more than `most`; empty where it is damaged."""
    keyword, _, rest = payload.partition(b"\0")
    packed = kind == b"zTXt"
    if kind == b"iTXt":
        packed, rest = rest[:1] == b"\1", rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    elif packed:
        rest = rest[1:]
    try:
        return keyword, zlib.decompressobj().decompress(rest, most + 1) if packed else rest
    except zlib.error:
        return keyword, b""


def _unhexed(text: bytes) -> bytes:
    """What a raw profile holds: behind its name and length, on lines of their own, hexadecimal digits."""
    parts = text.split(None, 2)
    try:
        return bytes.fromhex(parts[2].decode("ascii")) if len(parts) == 3 else b""
    except ValueError:
        return b""


def read_pixels(data: bytes, name: str, limits: Limits) -> Pixels:
    """The stored picture (y, x, c): palettes looked up, 1, 2 and 4 bits scaled to 8, 16 bits kept."""
    # The codec sees only what decides pixels: a broken text or animation chunk ends many a decoder.
    kept, pixels = bytearray(_SIGNATURE), False
    for kind, payload in _chunks(io.BytesIO(data), name, limits, whole=True):
        if kind in _PIXELS:
            kept += _chunk(kind, payload)
            pixels = pixels or kind == b"IDAT"
    if not pixels:
        raise _damaged(name, "it holds no pixels")
    return np.atleast_3d(imagecodecs.png_decode(kept))


def _chunks(file: BinaryIO, name: str, limits: Limits, *, whole: bool) -> Iterator[tuple[bytes, bytes]]:
    """Kind and payload of each chunk up to the end mark.

    With `whole`, every chunk is read and its checksum compared; otherwise pixels and what nobody asks for are
    stepped over, and their payload is empty. Raises ImageReadError where the file ends early.
    """
    file.seek(0, io.SEEK_END)
    size = file.tell()
    at, metadata = len(_SIGNATURE), 0
    while True:
        file.seek(at)
        head = file.read(8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if len(head) < 8 or at + 12 + length > size:
            raise _damaged(name, "the file ends before the picture does")
        metadata += 12 + (length if kind != b"IDAT" else 0)
        limits.check_metadata(name, metadata)
        if whole or kind in _WANTED:
            payload = _checked(file.read(length + 4), kind, name)
            if payload is not None:
                yield kind, payload
        else:
            yield kind, b""
        if kind == b"IEND":
            return
        at += 12 + length


def _checked(payload: bytes, kind: bytes, name: str) -> bytes | None:
    """The payload without its checksum; None for a damaged chunk that the pixels do not depend on."""
    if zlib.crc32(memoryview(payload)[:-4], zlib.crc32(kind)) == int.from_bytes(payload[-4:], "big"):
        return payload[:-4]
    if kind not in _PIXELS:
        return None
    raise _damaged(name, f"the checksum of a {kind.decode('ascii')} chunk is wrong")


def _header(payload: bytes, name: str) -> Header:
    if len(payload) != 13:
        raise _damaged(name, "its header chunk is missing or of the wrong length")
    width, height, bits, colour = struct.unpack_from(">IIBB", payload)
    if not (0 < height < 2**31 and 0 < width < 2**31):
        raise _damaged(name, f"it is {height} x {width} px")
    if bits not in _DEPTHS.get(colour, ()) or payload[10:12] != b"\0\0" or payload[12] > 1:
        raise _damaged(name, f"colour type {colour} with {bits} bits is not in the standard")
    return Header(height, width, bits, colour)


def _physical(payload: bytes) -> Resolution | None:
    if len(payload) != 9:
        return None
    x, y, unit = struct.unpack(">IIB", payload)
    if unit != 1:
        return resolution(x, y, "none")
    return resolution(_per_inch(x), _per_inch(y), "inch")


def _per_inch(per_metre: int) -> float:
    """Pixels per inch; whole where the nearest whole number is stored as the same pixels per metre.

    >>> _per_inch(11811), _per_inch(11800)
    (300.0, 299.71999999999997)
    """
    found = per_metre * _METRE
    return float(round(found)) if round(round(found) / _METRE) == per_metre else found


def _inflated_icc(payload: bytes, name: str, limits: Limits) -> bytes | None:
    label, _, rest = payload.partition(b"\0")
    if not label or rest[:1] != b"\0":
        return None
    try:
        stream = zlib.decompressobj()
        profile = stream.decompress(rest[1:], limits.max_metadata_nbytes + 1)
    except zlib.error:
        return None
    limits.check_metadata(name, len(profile))
    # One without its checksum is whole if it is as long as it says: such files are about, and readers take them.
    stated = int.from_bytes(profile[:4], "big")
    return profile if stream.eof or stated == len(profile) else None


def _damaged(name: str, how: str) -> ImageReadError:
    return ImageReadError(f"{name}: damaged PNG: {how}")


def encoded(image: Image) -> bytes:
    """The image as a PNG with everything of its spec that has a place in one (IPTC has none)."""
    # A copy: the encoder wants writable memory, and strides that mean something on axes of one pixel too.
    pixels = np.array(image.pixels, order="C")
    data = imagecodecs.png_encode(pixels, _LEVEL, filter=_FILTER_SUB)
    start = len(_SIGNATURE) + 25  # behind the header chunk
    carried = image.spec.metadata
    return b"".join(
        (
            data[:start],
            b"" if image.spec.icc is None else _chunk(b"iCCP", b"ICC\0\0" + zlib.compress(image.spec.icc, 9)),
            _physical_chunk(image.spec.resolution),
            b"" if carried.exif is None else _chunk(b"eXIf", carried.exif),
            b"" if carried.xmp is None else _chunk(b"iTXt", _XMP + bytes(4) + carried.xmp),
            data[start:],
        )
    )


def _chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def _physical_chunk(found: Resolution | None) -> bytes:
    if found is None:
        return b""
    x, y = density(found, per_inch=1 / _METRE, per_cm=100)
    if max(x, y) >= 2**31:
        return b""
    return _chunk(b"pHYs", struct.pack(">IIB", x, y, found.unit != "none"))
