"""EXIF in and out of a TIFF: its directories are the file's own there, with offsets that hold in that file alone.

A block of EXIF is a small TIFF. Out of a file it is put together anew, its values byte for byte; into a file its
directories are appended behind the pixels, and the first directory is written once more with the tags added.
What a maker's note points to by an offset of its own may not be found again, as in every TIFF written anew.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import BinaryIO

import numpy as np

from refine.limits import Limits

EXIF, GPS, INTEROPERABILITY = 34_665, 34_853, 40_965
_PLACED = (274, 282, 283, 296)
"""Orientation and resolution: EXIF says them too, but a TIFF has its own, which its pixels are written with."""
_DESCRIPTIVE = (269, 270, 271, 272, 285, 305, 306, 315, 316, 18246, 18249, 33432, 37393, 40091, 40092, 40093, 40094,
                40095)  # fmt: skip
"""Tags of the first directory that describe the picture and not its storage: titles, maker, software, rights..."""
_POINTERS = {EXIF: (INTEROPERABILITY,), GPS: (), INTEROPERABILITY: ()}
"""Tags that point to a directory: those that do so in it."""
_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""Field type: bytes of one value."""
_SWAPPED = {5: 4, 10: 4}
"""Field types whose values consist of smaller numbers: their bytes. Others are swapped as a whole."""
_MAX_ENTRIES = 4096
_LONG, _LONG8 = 4, 16
_LONG_OFFSETS = (_LONG8, 18)


@dataclass(frozen=True, slots=True)
class Entry:
    """One tag of a directory."""

    tag: int
    """Its number."""
    kind: int
    """Its field type, 1..13."""
    count: int
    """How many values."""
    value: bytes = b""
    """The values, little-endian."""
    children: tuple[Entry, ...] | None = field(default=None)
    """The directory that it points to, if it does; then there are no values."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How a TIFF counts."""

    order: str
    """`<` or `>`."""
    big: bool
    """BigTIFF."""

    @property
    def head(self) -> str:
        """Struct letters of the number of entries."""
        return self.order + ("Q" if self.big else "H")

    @property
    def entry(self) -> str:
        """Struct letters of an entry before its value: tag, type, count."""
        return self.order + ("HHQ" if self.big else "HHI")

    @property
    def offset(self) -> str:
        """Struct letters of an offset."""
        return self.order + ("Q" if self.big else "I")

    @property
    def inline(self) -> int:
        """Bytes of a value that has its place in the entry."""
        return 8 if self.big else 4


def exif_of(file: BinaryIO, at: int, kind: Kind, name: str, limits: Limits) -> tuple[bytes | None, int]:
    """The EXIF of the directory at `at`, as a block of its own, and how many of its tags cannot be read.

    None where it describes nothing.
    """
    source = _Source(file, kind, name, limits)
    entries = _entries(source, at, (*_DESCRIPTIVE, *_PLACED), (EXIF, GPS))
    if all(entry.tag in _PLACED for entry in entries):
        return None, source.unreadable
    return b"II*\0" + struct.pack("<I", 8) + _packed(entries, 8, Kind("<", big=False)), source.unreadable


def parsed(block: bytes) -> tuple[Entry, ...]:
    """The tags of an EXIF block that can be written into a TIFF. Raises ValueError or struct.error."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        raise ValueError(f"an EXIF block begins with a TIFF's header, not {block[:4]!r}")
    kind = Kind(order, big=False)
    (at,) = struct.unpack_from(kind.offset, block, 4)
    # Values may share bytes, which are given out once for each.
    limits = Limits(max_metadata_nbytes=2 * len(block))
    return _entries(_Source(io.BytesIO(block), kind, "EXIF", limits), at, _DESCRIPTIVE, (EXIF, GPS))


class _Source:
    """A file that directories are read from, and how much of it still may be."""

    def __init__(self, file: BinaryIO, kind: Kind, name: str, limits: Limits) -> None:
        self.file, self.kind, self.name, self.limits = file, kind, name, limits
        self.size = file.seek(0, io.SEEK_END)
        self.taken = 0
        self.unreadable = 0

    def value(self, inline: bytes, nbytes: int) -> bytes:
        """The bytes of a value, which is `inline` where it has room there. Raises ValueError where it is not there."""
        if nbytes <= self.kind.inline:
            return inline[:nbytes]
        (at,) = struct.unpack(self.kind.offset, inline)
        if at + nbytes > self.size:
            raise ValueError("a value lies outside the file")
        self.taken += nbytes
        self.limits.check_metadata(self.name, self.taken)
        self.file.seek(at)
        return self.file.read(nbytes)


def _entries(source: _Source, at: int, wanted: tuple[int, ...] | None, pointers: tuple[int, ...]) -> tuple[Entry, ...]:
    """The wanted tags of one directory (None: all) and its pointers, by number; of one given twice the first.

    Those that cannot be read are counted.
    Raises struct.error where there is no directory.
    """
    kind, file = source.kind, source.file
    file.seek(at)
    (count,) = struct.unpack(kind.head, file.read(struct.calcsize(kind.head)))
    width = struct.calcsize(kind.entry) + kind.inline
    table = file.read(width * min(count, _MAX_ENTRIES))
    found: dict[int, Entry] = {}
    for start in range(0, len(table) - width + 1, width):
        (tag,) = struct.unpack_from(kind.order + "H", table, start)
        is_wanted = tag in pointers if tag in _POINTERS else wanted is None or tag in wanted
        if is_wanted and tag not in found:
            try:
                found[tag] = _entry(source, table[start : start + width])
            except (ValueError, struct.error):
                source.unreadable += 1
    return tuple(found[tag] for tag in sorted(found))


def _entry(source: _Source, row: bytes) -> Entry:
    kind = source.kind
    tag, letter, count = struct.unpack_from(kind.entry, row)
    inline = row[-kind.inline :]
    if tag in _POINTERS:
        (at,) = struct.unpack_from(kind.offset if letter in _LONG_OFFSETS else kind.order + "I", inline)
        before = source.unreadable
        children = _entries(source, at, None, _POINTERS[tag])
        if source.unreadable - before > len(children):
            raise ValueError("what it points to is no directory")
        return Entry(tag, _LONG, 1, children=children)
    if letter not in _WIDTHS:
        raise ValueError(f"field type {letter} is not in the standard")
    return Entry(tag, letter, count, _little(source.value(inline, count * _WIDTHS[letter]), letter, kind))


def _little(data: bytes, letter: int, kind: Kind) -> bytes:
    width = _SWAPPED.get(letter, _WIDTHS[letter])
    if kind.order == "<" or width == 1:
        return data
    return np.frombuffer(data, f">u{width}").astype(f"<u{width}").tobytes()


def _packed(entries: Sequence[Entry], at: int, kind: Kind, raw: Sequence[bytes] = (), following: int = 0) -> bytes:
    """A directory to lie at `at` with the values and directories behind it; raw entries are taken as they are.

    following is where the next directory of the file lies, 0 for none.
    """
    width = struct.calcsize(kind.entry) + kind.inline
    count = len(entries) + len(raw)
    behind = at + struct.calcsize(kind.head) + count * width + struct.calcsize(kind.offset)
    rows = list(raw)
    values: list[bytes] = []
    for entry in entries:
        if entry.children is None and len(entry.value) <= kind.inline:
            inline = entry.value.ljust(kind.inline, b"\0")
        else:
            value = entry.value if entry.children is None else _packed(entry.children, behind, kind)
            inline = struct.pack(kind.offset, behind)
            value += bytes(len(value) % 2)  # values lie at even places
            values.append(value)
            behind += len(value)
        letter = _LONG8 if entry.children is not None and kind.big else entry.kind
        rows.append(struct.pack(kind.entry, entry.tag, letter, entry.count) + inline)
    rows.sort(key=lambda row: struct.unpack_from(kind.order + "H", row))
    return b"".join(chain([struct.pack(kind.head, count)], rows, [struct.pack(kind.offset, following)], values))


def add_tags(file: BinaryIO, entries: Sequence[Entry], page: int = 0) -> None:
    """Write the directory of a page of a little-endian TIFF once more, behind all else, with tags added.

    Those it has already are kept, and so are the pages behind it. What the old one takes up stays in the file, unused.
    """
    file.seek(0)
    kind = Kind("<", big=file.read(4) == b"II+\0")
    place, size = 8 if kind.big else 4, struct.calcsize(kind.offset)
    width = struct.calcsize(kind.entry) + kind.inline
    for index in range(page + 1):
        file.seek(place)
        (at,) = struct.unpack(kind.offset, file.read(size))
        file.seek(at)
        (count,) = struct.unpack(kind.head, file.read(struct.calcsize(kind.head)))
        if index < page:
            place = file.tell() + count * width
    raw = [file.read(width) for _ in range(count)]
    (following,) = struct.unpack(kind.offset, file.read(size))
    taken = {struct.unpack_from("<H", row)[0] for row in raw}
    end = file.seek(0, io.SEEK_END)
    at = end + end % 2
    added = [entry for entry in entries if entry.tag not in taken]
    file.write(bytes(at - end) + _packed(added, at, kind, raw, following))
    file.seek(place)
    file.write(struct.pack(kind.offset, at))
