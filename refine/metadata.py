"""What travels beside the pixels and bears on them: orientation, resolution, the ICC profile.

What is malformed counts as absent. EXIF, XMP and IPTC are raw blocks here: nothing of them is read but the
orientation and resolution of EXIF.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from refine.profile import usable_icc
from refine.spec import ImageSpec, Pixels, Resolution

_ORIENTATION, _X, _Y, _UNIT = 274, 282, 283, 296
_MAX_ENTRIES = 1000
_FORMATS = {3: ("H", 2), 4: ("I", 4), 5: ("II", 8)}
"""EXIF field type: struct letters and bytes of SHORT, LONG and RATIONAL. No other kind is needed."""
_UNITS: dict[int, Literal["inch", "cm", "none"]] = {1: "none", 2: "inch", 3: "cm"}
_IPTC_RESOURCE = b"8BIM\x04\x04"
"""Signature and number of the Photoshop resource that holds IPTC records."""

_UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: p[::-1].swapaxes(0, 1),
    7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: lambda p: p[:, ::-1].swapaxes(0, 1),
}


@dataclass(frozen=True, slots=True)
class Exif:
    """The two things of EXIF that bear on pixels."""

    orientation: int = 1
    """1..8; 1 where nothing sensible is said."""
    resolution: Resolution | None = None
    """Of the stored picture, before it is turned."""


def read_exif(block: bytes) -> Exif:
    """Orientation and resolution from an EXIF block (a TIFF header and its first directory)."""
    try:
        fields = _fields(block)
    except (struct.error, ValueError):
        return Exif()
    orientation = int(fields.get(_ORIENTATION, 1))
    unit = _UNITS.get(int(fields.get(_UNIT, 2)))
    found = resolution(fields.get(_X, 0), fields.get(_Y, 0), unit)
    return Exif(orientation if orientation in range(1, 9) else 1, found)


def righted(block: bytes) -> bytes:
    """The EXIF block with its orientation set to 1: two bytes of it change, or none."""
    try:
        order, places = _places(block)
    except (struct.error, ValueError):
        return block
    for tag, kind, at in places:
        if tag == _ORIENTATION and kind == 3:
            block = block[:at] + struct.pack(order + "H", 1) + block[at + 2 :]
    return block


def resolution_exif(found: Resolution) -> bytes:
    """An EXIF block that says nothing but a resolution, for containers that have no other place for it."""
    entries = b"".join(
        (
            struct.pack("<HHII", _X, 5, 1, 50),
            struct.pack("<HHII", _Y, 5, 1, 58),
            struct.pack("<HHIHH", _UNIT, 3, 1, {"none": 1, "inch": 2, "cm": 3}[found.unit], 0),
        )
    )
    numbers = [Fraction(value).limit_denominator(10_000) for value in (found.x, found.y)]
    values = b"".join(struct.pack("<II", value.numerator, value.denominator) for value in numbers)
    return b"II*\0" + struct.pack("<IH", 8, 3) + entries + bytes(4) + values


def _places(block: bytes) -> tuple[str, list[tuple[int, int, int]]]:
    """The byte order of an EXIF block, and tag, field type and place of the single numbers read of it."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        raise ValueError(block[:4])
    (start,) = struct.unpack_from(order + "I", block, 4)
    (count,) = struct.unpack_from(order + "H", block, start)
    places: list[tuple[int, int, int]] = []
    for i in range(min(count, _MAX_ENTRIES)):
        at = start + 2 + 12 * i
        tag, kind, values = struct.unpack_from(order + "HHI", block, at)
        if tag not in (_ORIENTATION, _X, _Y, _UNIT) or kind not in _FORMATS or values != 1:
            continue
        _, nbytes = _FORMATS[kind]
        if nbytes > 4:
            (at,) = struct.unpack_from(order + "I", block, at + 8)
        else:
            at += 8
        if at + nbytes <= len(block):
            places.append((tag, kind, at))
    return order, places


def _fields(block: bytes) -> dict[int, float]:
    """The numbers of the first directory by tag; a value that lies outside the block is left out."""
    order, places = _places(block)
    fields: dict[int, float] = {}
    for tag, kind, at in places:
        numbers = struct.unpack_from(order + _FORMATS[kind][0], block, at)
        if kind != 5:
            fields[tag] = numbers[0]
        elif numbers[1]:
            fields[tag] = numbers[0] / numbers[1]
    return fields


def resolution(x: float, y: float, unit: Literal["inch", "cm", "none"] | None) -> Resolution | None:
    """A resolution, or None where the numbers mean nothing (zero, no unit and square pixels)."""
    if unit is None or not (0 < x < float("inf") and 0 < y < float("inf")):
        return None
    return None if unit == "none" and x == y else Resolution(x, y, unit)


def density(found: Resolution, per_inch: float, per_cm: float) -> tuple[int, int]:
    """Whole numbers for a file format: x and y times what it counts in; for a mere ratio, the ratio.

    >>> density(Resolution(300, 300), per_inch=1 / 0.0254, per_cm=100), density(Resolution(1, 1.1, "none"), 1, 1)
    ((11811, 11811), (10, 11))
    """
    if found.unit == "none":
        ratio = Fraction(found.x / found.y).limit_denominator(1000)
        return max(1, ratio.numerator), max(1, ratio.denominator)
    unit = per_inch if found.unit == "inch" else per_cm
    return max(1, round(found.x * unit)), max(1, round(found.y * unit))


def with_icc(spec: ImageSpec, profile: bytes | None) -> ImageSpec:
    """The spec with its profile; one that cannot be true of its pixels is left out, and the notes say so."""
    usable = usable_icc(profile, spec.model)
    if profile is None or usable is not None:
        return replace(spec, icc=usable)
    return replace(spec, notes=(*spec.notes, f"an ICC profile that is not for {spec.model} was left out"))


def photoshop_iptc(resources: bytes) -> bytes | None:
    """The IPTC records among Photoshop's image resources, or None."""
    at = 0
    while at + 12 <= len(resources) and resources.startswith(b"8BIM", at):
        name_nbytes = (resources[at + 6] + 2) // 2 * 2  # its length's byte and padding to an even number
        start = at + 6 + name_nbytes + 4
        nbytes = int.from_bytes(resources[start - 4 : start], "big")
        if resources.startswith(_IPTC_RESOURCE, at):
            records = resources[start : start + nbytes]
            return records if records and len(records) == nbytes else None
        at = start + (nbytes + 1) // 2 * 2
    return None


def photoshop_resources(iptc: bytes) -> bytes:
    """IPTC records wrapped as a Photoshop image resource, which is where a JPEG has them."""
    return _IPTC_RESOURCE + b"\0\0" + struct.pack(">I", len(iptc)) + iptc + bytes(len(iptc) % 2)


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """The picture as it is meant to be looked at: a view of pixels (y, x, c), turned and mirrored as EXIF says.

    >>> import numpy as np
    >>> upright(np.arange(6, dtype=np.uint8).reshape(2, 3, 1), 6)[..., 0].tolist()
    [[3, 0], [4, 1], [5, 2]]
    """
    return _UPRIGHT[orientation](pixels) if orientation in _UPRIGHT else pixels


def upright_spec(stored: ImageSpec) -> ImageSpec:
    """The spec of the upright picture from that of the stored one: sides and resolution change places for 5..8."""
    if stored.orientation < 5:
        return stored
    found = stored.resolution
    turned = None if found is None else Resolution(found.y, found.x, found.unit)
    return replace(stored, height=stored.width, width=stored.height, resolution=turned)
