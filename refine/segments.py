"""What a JPEG carries in its application segments: JFIF, EXIF, XMP, ICC, IPTC and Adobe's word on its colour."""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from refine.metadata import density, photoshop_iptc, photoshop_resources, resolution
from refine.spec import ImageSpec, Metadata, Resolution

_APP0, _APP1, _APP2, _APP13, _APP14 = 0xE0, 0xE1, 0xE2, 0xED, 0xEE
_MAX_PAYLOAD = 65_533
"""Bytes of a segment without its length."""
_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
_EXTENSION_HEAD = len(_XMP_EXTENSION) + 32 + 4 + 4
"""Bytes before a piece of an extended packet: the label, its MD5 in hexadecimal, its length and the piece's place."""
_ICC = b"ICC_PROFILE\0"
_PHOTOSHOP = b"Photoshop 3.0\0"
_JFIF_UNITS = {"none": 0, "inch": 1, "cm": 2}
_MAX_DENSITY = 65_535

# A short packet that only points to the long one, as part 3 of the XMP specification has it.
_POINTER = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="{}"/>'
    "</rdf:RDF></x:xmpmeta>"
)
_POINTS = re.compile(rb'xmpNote:HasExtendedXMP\s*(?:=\s*["\']|>)\s*([0-9A-F]{32})')
# An XML declaration and the packet's wrapping are not part of an extended packet.
_WRAPPING = re.compile(rb"^\s*(<\?xml[^>]*\?>)?\s*(<\?xpacket begin[^>]*\?>)?\s*|\s*<\?xpacket end[^>]*\?>\s*$")


@dataclass(frozen=True, slots=True)
class Beside:
    """What the application segments of one JPEG say."""

    icc: bytes | None
    """The profile put together; None where a part is missing."""
    jfif: Resolution | None
    """None where there is no JFIF segment or it says nothing."""
    metadata: Metadata
    """EXIF, XMP and IPTC."""
    adobe: bool
    """Whether Adobe's segment is there: its CMYK is stored inverted."""
    notes: tuple[str, ...]
    """What could not be put together."""


def beside(segments: Iterable[tuple[int, bytes]]) -> Beside:
    """What is carried in the segments, marker and payload, in the order of the file."""
    jfif, exif, packet, adobe = None, None, None, False
    profile: list[bytes] = []
    extensions: list[bytes] = []
    photoshop = b""
    for marker, payload in segments:
        if marker == _APP0 and payload.startswith(b"JFIF\0"):
            jfif = _jfif_resolution(payload)
        elif marker == _APP1 and payload.startswith(_EXIF) and exif is None:
            exif = payload[len(_EXIF) :]
        elif marker == _APP1 and payload.startswith(_XMP) and packet is None:
            packet = payload[len(_XMP) :]
        elif marker == _APP1 and payload.startswith(_XMP_EXTENSION):
            extensions.append(payload)
        elif marker == _APP2 and payload.startswith(_ICC) and len(payload) > len(_ICC) + 2:
            profile.append(payload[len(_ICC) :])
        elif marker == _APP13 and payload.startswith(_PHOTOSHOP):
            photoshop += payload[len(_PHOTOSHOP) :]  # one block may be spread over segments
        elif marker == _APP14 and payload.startswith(b"Adobe"):
            adobe = True
    xmp, notes = _whole_packet(packet, extensions)
    icc = _whole_profile(profile)
    if profile and icc is None:
        notes = (*notes, "an ICC profile of which a part is missing was left out")
    return Beside(icc, jfif, Metadata(exif or None, xmp or None, photoshop_iptc(photoshop)), adobe, notes)


def _whole_profile(parts: list[bytes]) -> bytes | None:
    """The ICC profile of its numbered parts (their number and count come first)."""
    if not parts:
        return None
    numbered = {part[0]: part[2:] for part in parts}
    wanted = parts[-1][1]
    return b"".join(numbered[i] for i in sorted(numbered)) if sorted(numbered) == [*range(1, wanted + 1)] else None


def _whole_packet(packet: bytes | None, extensions: list[bytes]) -> tuple[bytes | None, tuple[str, ...]]:
    """The XMP packet: the long one where the short one says nothing but that there is a long one."""
    found = None if packet is None else _POINTS.search(packet)
    if packet is None or found is None:
        return packet, ()
    long = _extended(found[1], extensions)
    if long is not None and packet == _POINTER.format(found[1].decode("ascii")).encode("ascii"):
        return long, ()
    return packet, ("the extended part of its XMP was left out",)


def _extended(digest: bytes, extensions: list[bytes]) -> bytes | None:
    """The extended packet of that MD5, or None where it is not whole."""
    pieces: dict[int, bytes] = {}
    for payload in extensions:
        if payload[len(_XMP_EXTENSION) :].startswith(digest) and len(payload) > _EXTENSION_HEAD:
            at = int.from_bytes(payload[_EXTENSION_HEAD - 4 : _EXTENSION_HEAD], "big")
            pieces[at] = payload[_EXTENSION_HEAD:]
    data = b"".join(pieces[at] for at in sorted(pieces))
    return data if _digest(data) == digest else None


def _digest(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).hexdigest().upper().encode("ascii")


def _jfif_resolution(payload: bytes) -> Resolution | None:
    try:
        unit, x, y = struct.unpack_from(">BHH", payload, 7)
    except struct.error:
        return None
    return resolution(x, y, {0: "none", 1: "inch", 2: "cm"}.get(unit))  # type: ignore[arg-type]


def written(spec: ImageSpec) -> bytes:
    """The application segments of a JPEG with everything that its spec carries, in the order readers expect."""
    carried = spec.metadata
    segments = [_app0(spec.resolution)]
    if carried.exif is not None and fits_exif(carried.exif):
        segments.append(_segment(_APP1, _EXIF + carried.exif))
    if carried.xmp is not None:
        segments += _xmp_segments(carried.xmp)
    if carried.iptc is not None:
        segments += _split(_APP13, _PHOTOSHOP, photoshop_resources(carried.iptc))
    if spec.icc is not None:
        segments += _icc_segments(spec.icc)
    return b"".join(segments)


def fits_exif(exif: bytes) -> bool:
    """Whether an EXIF block fits into its one segment."""
    return len(_EXIF) + len(exif) <= _MAX_PAYLOAD


def _segment(marker: int, payload: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(payload) + 2) + payload


def _split(marker: int, label: bytes, data: bytes) -> Iterator[bytes]:
    """The data over as many segments as it needs, each with the label."""
    room = _MAX_PAYLOAD - len(label)
    for at in range(0, len(data), room):
        yield _segment(marker, label + data[at : at + room])


def _app0(found: Resolution | None) -> bytes:
    """The JFIF segment. Its density is whole; one it cannot hold is left out, as the file then says nothing."""
    unit, (x, y) = 0, (1, 1)
    if found is not None and max(density(found, 1, 1)) <= _MAX_DENSITY:
        unit, (x, y) = _JFIF_UNITS[found.unit], density(found, 1, 1)
    return _segment(_APP0, b"JFIF\0\1\1" + struct.pack(">BHHBB", unit, x, y, 0, 0))


def _xmp_segments(packet: bytes) -> Iterator[bytes]:
    """The packet in its segment; one of more than 64 kB as an extended packet, which has a digest for a name."""
    if len(_XMP) + len(packet) <= _MAX_PAYLOAD:
        yield _segment(_APP1, _XMP + packet)
        return
    long = _WRAPPING.sub(b"", packet)
    digest = _digest(long)
    yield _segment(_APP1, _XMP + _POINTER.format(digest.decode("ascii")).encode("ascii"))
    room = _MAX_PAYLOAD - _EXTENSION_HEAD
    for at in range(0, len(long), room):
        head = _XMP_EXTENSION + digest + struct.pack(">II", len(long), at)
        yield _segment(_APP1, head + long[at : at + room])


def _icc_segments(profile: bytes) -> Iterator[bytes]:
    room = _MAX_PAYLOAD - len(_ICC) - 2
    parts = [profile[at : at + room] for at in range(0, len(profile), room)]
    for i, part in enumerate(parts, 1):
        yield _segment(_APP2, _ICC + bytes((i, len(parts))) + part)
