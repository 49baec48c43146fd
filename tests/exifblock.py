"""EXIF blocks for tests, put together field by field, and a reader that shares no code with refine."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
EXIF, GPS, INTEROP = 0x8769, 0x8825, 0xA005
POINTERS = {EXIF: "exif", GPS: "gps", INTEROP: "interop"}


@dataclass(frozen=True)
class Field:
    """One field: its tag, its type, and its values as bytes in the block's order."""

    tag: int
    kind: int
    values: bytes
    count: int | None = None
    """What the field says; None: as many as there are."""


def short(order, tag, *values):
    """A field of 16-bit integers."""
    return Field(tag, 3, struct.pack(f"{order}{len(values)}H", *values))


def long(order, tag, *values):
    """A field of 32-bit integers."""
    return Field(tag, 4, struct.pack(f"{order}{len(values)}I", *values))


def ratio(order, tag, *values):
    """A field of fractions, given as numerators and denominators."""
    return Field(tag, 5, struct.pack(f"{order}{len(values)}I", *values))


def text(tag, value):
    """A field of text."""
    return Field(tag, 2, value.encode() + b"\0")


def block(
    order: str,
    first: Sequence[Field],
    exif: Sequence[Field] = (),
    gps: Sequence[Field] = (),
    interop: Sequence[Field] = (),
    thumbnail: bytes = b"",
) -> bytes:
    """A block: header, the first directory, those it points to, the thumbnail's, the thumbnail."""
    children = {EXIF: (exif, {INTEROP: (interop, {})}), GPS: (gps, {})}
    data, ends = _directory(order, 8, first, children)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    if not thumbnail:
        return head + data
    at = 8 + len(data)
    fields = [short(order, 0x103, 6), long(order, 0x201, 0), long(order, 0x202, len(thumbnail))]
    size = len(_directory(order, at, fields, {})[0])
    fields[1] = long(order, 0x201, at + size)
    whole = bytearray(head + data + _directory(order, at, fields, {})[0] + thumbnail)
    struct.pack_into(order + "I", whole, ends, at)
    return bytes(whole)


def _directory(order, at, fields, children):
    """A directory to lie at `at` with all it points to; and where its last offset stands."""
    pointed = {tag: child for tag, child in children.items() if child[0]}
    count = len(fields) + len(pointed)
    behind = at + 2 + 12 * count + 4
    rows, values = [], b""
    for field in fields:
        kept = field.values.ljust(4, b"\0")
        if len(field.values) > 4:
            kept = struct.pack(order + "I", behind + len(values))
            values += field.values + bytes(len(field.values) % 2)
        said = len(field.values) // SIZES[field.kind] if field.count is None else field.count
        rows.append((field.tag, struct.pack(order + "HHI", field.tag, field.kind, said) + kept))
    for tag, (child, grandchildren) in pointed.items():
        rows.append((tag, struct.pack(order + "HHII", tag, 4, 1, behind + len(values))))
        values += _directory(order, behind + len(values), child, grandchildren)[0]
    rows.sort(key=lambda row: row[0])
    data = struct.pack(order + "H", count) + b"".join(row for _, row in rows) + bytes(4) + values
    return data, behind - 4


def read(data: bytes, at: int | None = None) -> dict[tuple[str, int], tuple[int, int, bytes]]:
    """All fields by directory and tag: type, count, values. A following directory is called `next`."""
    order = "<" if data[:2] == b"II" else ">"
    found: dict[tuple[str, int], tuple[int, int, bytes]] = {}
    todo = [("first", struct.unpack_from(order + "I", data, 4)[0] if at is None else at)]
    while todo:
        name, start = todo.pop()
        (count,) = struct.unpack_from(order + "H", data, start)
        for i in range(count):
            place = start + 2 + 12 * i
            tag, kind, values = struct.unpack_from(order + "HHI", data, place)
            nbytes = values * SIZES.get(kind, 0)
            (to,) = struct.unpack_from(order + "I", data, place + 8)
            if tag in POINTERS:
                todo.append((POINTERS[tag], to))
            else:
                value = data[place + 8 : place + 8 + nbytes] if nbytes <= 4 else data[to : to + nbytes]
                found[name, tag] = (kind, values, value)
        (following,) = struct.unpack_from(order + "I", data, start + 2 + 12 * count)
        if following and name in {"first", "next"}:
            todo.append(("next", following))
    return found


def jpeg(exif: bytes | None = None, xmp: bytes | None = None) -> bytes:
    """A grey JPEG of 8 x 8 px with EXIF and XMP segments, written by hand."""
    parts = [b"\xff\xd8"]
    for head, body in ((b"Exif\0\0", exif), (b"http://ns.adobe.com/xap/1.0/\0", xmp)):
        if body is not None:
            parts.append(b"\xff\xe1" + struct.pack(">H", len(head) + len(body) + 2) + head + body)
    parts.append(b"\xff\xdb" + struct.pack(">HB", 67, 0) + b"\1" * 64)
    parts.append(b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, 8, 8, 1) + b"\1\x11\0")
    parts += [b"\xff\xc4" + struct.pack(">HB", 20, kind) + b"\1" + bytes(15) + b"\0" for kind in (0, 16)]
    parts.append(b"\xff\xda" + struct.pack(">H", 8) + b"\1\1\0\0\x3f\0" + b"\x3f" + b"\xff\xd9")
    return b"".join(parts)


def segments(data: bytes) -> dict[str, bytes]:
    """The first EXIF and XMP segment of a JPEG."""
    found: dict[str, bytes] = {}
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : end]
        for name, head in (("exif", b"Exif\0\0"), ("xmp", b"http://ns.adobe.com/xap/1.0/\0")):
            if data[at + 1] == 0xE1 and body.startswith(head):
                found.setdefault(name, body[len(head) :])
        at = end
    return found
