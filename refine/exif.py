"""EXIF of a result: what its source said, put right for another size and an upright picture.

Values are changed where they stand, and nothing that stays is moved: a MakerNote is full of offsets, most of them
counted from the start of the block, and only its maker knows which. Pillow's `Image.Exif` parses a block into values
and writes a new one: offsets move, fields of bytes lose their type, and two of 34 odd but readable blocks are refused.

- Orientation becomes 1; pixel and image dimensions, where stated, become those of the result.
- Resolution, where stated, becomes that of the result; so the ppi value stays unless the caller gives another one.
- Dropped: the thumbnail and all other pictures; how the source stored its samples, its XMP, ICC and Photoshop blocks,
  which travel on their own or not at all; and, unless the frame is the same, where in it the subject was.
- All else stays byte for byte: GPS, MakerNote, UserComment, unknown tags, values that lie outside the block; Software,
  which says what made the source (what was done to it stands in the XMP history); pixels per length on the sensor,
  which everyone leaves as the camera wrote them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from refine.metadata import read_exif
from refine.spec import Resolution

_WIDTHS, _HEIGHTS = (0x0100, 0xA002), (0x0101, 0xA003)
_ORIENTATION, _X, _Y, _UNIT = 0x0112, 0x011A, 0x011B, 0x0128
_POINTERS = (0x8769, 0x8825, 0xA005)
"""Exif, GPS and interoperability directory."""
_SUBJECT = frozenset((0x9214, 0xA214))
"""SubjectArea and SubjectLocation, in px of the source."""
_STORAGE = frozenset((
    254, 255, 258, 259, 262, 273, 277, 278, 279, 284, 288, 289, 317, 320, 322, 323, 324, 325,
    330, 338, 339, 347, 513, 514, 700, 34377, 34675,
))  # fmt: skip
"""Of the first directory: where and how the source's samples lie, sub-images, XMP, Photoshop resources, ICC."""
_OFFSETS, _LENGTHS = (0x111, 0x144, 0x201), (0x117, 0x145, 0x202)
"""Where a thumbnail's bytes lie, and how many they are."""
_NBYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""Bytes of a value by field type."""
_INTEGERS = {1: "B", 3: "H", 4: "I"}
_RATIONAL = 5
_MAX_ENTRIES = 500
"""More than any camera writes in one directory, and few enough to compare all with all."""

_Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Entry:
    """One field of a directory."""

    at: int
    """Where its 12 bytes begin."""
    tag: int
    kind: int
    """TIFF field type."""
    count: int
    """Values."""
    span: _Span
    """First byte of its values and one past the last; empty where they lie outside the block."""


@dataclass(frozen=True, slots=True)
class _Directory:
    """The fields that lie wholly inside the block; none, where there are too many."""

    span: _Span
    entries: tuple[_Entry, ...]
    following: int
    """Offset of the next directory, 0 for none."""
    whole: bool
    """Whether all of it lies inside the block and has been read; others are left as they are."""


def exif_for(block: bytes, height: int, width: int, resolution: Resolution | None) -> bytes:
    """The block put right for an upright result of (height, width) px. Resolution None leaves it as it stands.

    Says the same when applied twice. Raises ValueError where the block's first directory cannot be read.
    """
    draft = _Draft(block)
    turn = read_exif(block).orientation
    stored = draft.frame()
    freed = draft.drop(frozenset() if (turn, stored) == (1, (height, width)) else _SUBJECT)
    draft.erase(freed + draft.drop_pictures())
    for entry in draft.entries():
        numbers = {_ORIENTATION: 1} | dict.fromkeys(_WIDTHS, width) | dict.fromkeys(_HEIGHTS, height)
        if entry.tag in numbers:
            draft.write_integer(entry, numbers[entry.tag])
    if resolution is not None:
        draft.state(resolution)
    return bytes(draft.data)


def rational(value: Fraction | float) -> tuple[int, int]:
    """Numerator and denominator, each of at most 32 bits, as near to a positive number as need be.

    >>> rational(300.0), rational(11811 * 0.0254), rational(1e-5)
    ((300, 1), (1499997, 5000), (1, 100000))
    """
    exact = Fraction(value)
    if exact < Fraction(1, 1000):
        return 1, min(round(1 / exact), 2**32 - 1)
    near = exact.limit_denominator(10_000 if exact < 400_000 else 1)
    return min(near.numerator, 2**32 - 1), near.denominator


class _Draft:
    """A block being put right: bytes that change in place, and what is found in them."""

    def __init__(self, block: bytes) -> None:
        order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
        if order is None or len(block) < 14:
            raise ValueError("EXIF does not begin with a TIFF header")
        self.data = bytearray(block)
        self.order = order
        self.walked: list[_Directory] = []
        if not self.directory(self.integer(4)).whole:
            raise ValueError(f"the first directory of EXIF is cut off, or of more than {_MAX_ENTRIES} entries")

    def integer(self, at: int, letter: str = "I") -> int:
        """The unsigned number at an offset."""
        return int(struct.unpack_from(self.order + letter, self.data, at)[0])

    def directory(self, at: int) -> _Directory:
        """What can be read of the directory at an offset."""
        inside = 8 <= at <= len(self.data) - 2
        count = self.integer(at, "H") if inside else 0
        if count > _MAX_ENTRIES:
            return _Directory((at, at + 4), (), 0, whole=False)
        end = at + 2 + 12 * count
        fit = range(at + 2, min(end, len(self.data) - 11), 12)
        # Some writers leave out the last offset where the block ends.
        following = self.integer(end) if end + 4 <= len(self.data) else 0
        whole = inside and count == len(fit)
        return _Directory((at, end + 4), tuple(map(self.entry, fit)), following if whole else 0, whole)

    def entry(self, at: int) -> _Entry:
        """The field whose 12 bytes begin at an offset."""
        tag, kind, count, value = struct.unpack_from(self.order + "HHII", self.data, at)
        nbytes = count * _NBYTES.get(kind, 0)
        start = at + 8 if nbytes <= 4 else value
        inside = start + nbytes <= len(self.data)
        return _Entry(at, tag, kind, count, (start, start + nbytes) if inside else (start, start))

    def directories(self) -> list[_Directory]:
        """The first directory and those it points to, but none that is a picture's."""
        if self.walked:
            return self.walked
        found = {}
        offsets = [self.integer(4)]
        while offsets:
            at = offsets.pop()
            if at in found:
                continue
            found[at] = self.directory(at)
            offsets += [self.integer(e.at + 8) for e in reversed(found[at].entries) if e.tag in _POINTERS]
            if len(found) > len(_POINTERS) + 1:
                raise ValueError("EXIF points to more directories than there are kinds of")
        spans = sorted((d.span[0], d.span[1] - 4) for d in found.values())
        if any(start < end for (_, end), (start, _) in pairwise(spans)):
            raise ValueError("directories of EXIF overlap")
        self.walked = list(found.values())
        return self.walked

    def entries(self) -> list[_Entry]:
        """All fields, in the order of the block's directories."""
        return [entry for directory in self.directories() for entry in directory.entries]

    def number(self, entry: _Entry) -> int | None:
        """The value of a field that holds one unsigned integer."""
        letter = _INTEGERS.get(entry.kind)
        return self.integer(entry.at + 8, letter) if letter and entry.count == 1 else None

    def fraction(self, entry: _Entry) -> Fraction | None:
        """The value of a field that holds one positive fraction."""
        if entry.kind != _RATIONAL or entry.count != 1 or entry.span[0] == entry.span[1]:
            return None
        top, bottom = struct.unpack_from(self.order + "II", self.data, entry.span[0])
        return Fraction(top, bottom) if top and bottom else None

    def frame(self) -> tuple[int, int] | None:
        """Height and width of the stored picture, where EXIF states them."""
        stated = {entry.tag: self.number(entry) for entry in self.entries()}
        height, width = stated.get(_HEIGHTS[1]), stated.get(_WIDTHS[1])
        return (height, width) if height and width else None

    def drop(self, subject: frozenset[int]) -> list[_Span]:
        """Take fields out of their directories, and return where their values lay."""
        freed = []
        for number, directory in enumerate(self.directories()):
            gone = subject if number else subject | _STORAGE
            # Backwards, for those behind a field that goes move up.
            for entry in reversed(directory.entries):
                if entry.tag in gone and directory.whole:
                    freed.append(entry.span)
                    self.remove(directory.span[0], entry)
        return freed

    def remove(self, start: int, entry: _Entry) -> None:
        """Take one field out of the directory at `start`."""
        count = self.integer(start, "H")
        end = min(start + 2 + 12 * count + 4, len(self.data))
        self.data[entry.at : end] = self.data[entry.at + 12 : end] + bytes(12)
        self.pack("H", start, count - 1)
        self.walked = []

    def drop_pictures(self) -> list[_Span]:
        """Cut the chain of pictures behind the first directory, and return where they lay."""
        freed: list[_Span] = []
        first = self.directory(self.integer(4))
        at, seen = first.following, {first.span[0]}
        if at:
            self.pack("I", first.span[1] - 4, 0)
        while at and at not in seen and len(seen) < 10:
            seen.add(at)
            found = self.directory(at)
            freed += [found.span, *(entry.span for entry in found.entries)]
            freed += self.samples(found)
            at = found.following
        return freed

    def samples(self, picture: _Directory) -> list[_Span]:
        """Where the bytes of a thumbnail lie."""
        stated = {e.tag: self.number(e) for e in picture.entries}
        places = [(stated.get(o), stated.get(n)) for o, n in zip(_OFFSETS, _LENGTHS, strict=True)]
        return [(start, start + nbytes) for start, nbytes in places if start and nbytes]

    def erase(self, freed: list[_Span]) -> None:
        """Zero bytes that nothing uses any more, and cut them off where the block ends with them."""
        directories = self.directories()
        used = [(0, 8), *(d.span for d in directories), *(e.span for d in directories for e in d.entries)]
        for start, end in _without(_merged(freed), _merged(used)):
            if end >= len(self.data):
                del self.data[start:]
            else:
                self.data[start:end] = bytes(end - start)

    def state(self, resolution: Resolution) -> None:
        """Write a resolution into the fields that are there; without a unit among them it is per inch, or not said."""
        unit = {"none": 1, "inch": 2, "cm": 3}[resolution.unit]
        units = [entry for entry in self.entries() if entry.tag == _UNIT]
        if unit == 1 and not units:
            return
        for entry in units:
            self.write_integer(entry, unit)
        to_inch = Fraction(254, 100) if unit == 3 and not units else Fraction(1)
        entries = self.entries()
        used = {(0, 8), *(directory.span for directory in self.directories())}
        for entry in entries:
            if entry.tag in (_X, _Y):
                value = Fraction(resolution.x if entry.tag == _X else resolution.y) * to_inch
                self.write_fraction(entry, value, used.union(e.span for e in entries if e is not entry))

    def may_grow(self) -> bool:
        """Whether nothing reaches past the end, where bytes that are added would be taken for it."""
        others = (entry for entry in self.entries() if entry.tag not in (_X, _Y))
        return all(d.whole for d in self.directories()) and all(e.span[0] < e.span[1] or not e.count for e in others)

    def write_integer(self, entry: _Entry, value: int) -> None:
        """Make a field the one integer, in its own four bytes."""
        if self.number(entry) == value:
            return
        kind = 4 if entry.kind == 4 or value >= 2**16 else 3
        self.pack("HI", entry.at + 2, kind, 1)
        self.data[entry.at + 8 : entry.at + 12] = bytes(4)
        self.pack(_INTEGERS[kind], entry.at + 8, value)

    def write_fraction(self, entry: _Entry, value: Fraction, used: set[_Span]) -> None:
        """Make a field the one fraction: where its value lies, or at the end where something else lies there too."""
        found = self.fraction(entry)
        if found is not None and abs(found - value) < value / 10**6:
            return
        start, end = entry.span
        alone = not any(first < end and start < last for first, last in used)
        if not (entry.kind == _RATIONAL and entry.count == 1 and start < end and alone):
            if not self.may_grow():
                return
            start = len(self.data) + len(self.data) % 2
            self.data += bytes(start + 8 - len(self.data))
            self.pack("HII", entry.at + 2, _RATIONAL, 1, start)
        self.pack("II", start, *rational(value))

    def pack(self, letters: str, at: int, *values: int) -> None:
        """Write numbers at an offset."""
        struct.pack_into(self.order + letters, self.data, at, *values)


def _merged(spans: list[_Span]) -> list[_Span]:
    """The same bytes as sorted spans that do not touch."""
    merged: list[_Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        elif start < end:
            merged.append((start, end))
    return merged


def _without(spans: list[_Span], taken: list[_Span]) -> list[_Span]:
    """What is in `spans` and not in `taken`, both merged; last first."""
    left = []
    for first, last in spans:
        start = first
        for t0, t1 in taken:
            if t1 > start and t0 < last:
                left.append((start, t0))
                start = t1
        left.append((start, last))
    return [(start, end) for start, end in reversed(left) if start < end]
