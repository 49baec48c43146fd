"""What travels beside the pixels: EXIF orientation and resolution, the ICC profile. Malformed counts as absent."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from refine.spec import ImageSpec, Pixels, Resolution

_ORIENTATION, _X, _Y, _UNIT = 274, 282, 283, 296
_MAX_ENTRIES = 1000
_FORMATS = {3: ("H", 2), 4: ("I", 4), 5: ("II", 8)}
"""EXIF field type: struct letters and bytes of SHORT, LONG and RATIONAL. No other kind is needed."""
_UNITS: dict[int, Literal["inch", "cm", "none"]] = {1: "none", 2: "inch", 3: "cm"}
_ICC_HEADER = 128
_ICC_SPACES = {1: b"GRAY", 2: b"GRAY", 3: b"RGB ", 4: b"RGB "}

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


def _fields(block: bytes) -> dict[int, float]:
    """The numbers of the first directory by tag; a value that lies outside the block is left out."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        raise ValueError(block[:4])
    (start,) = struct.unpack_from(order + "I", block, 4)
    (count,) = struct.unpack_from(order + "H", block, start)
    fields: dict[int, float] = {}
    for i in range(min(count, _MAX_ENTRIES)):
        at = start + 2 + 12 * i
        tag, kind, values = struct.unpack_from(order + "HHI", block, at)
        if tag not in (_ORIENTATION, _X, _Y, _UNIT) or kind not in _FORMATS or values != 1:
            continue
        letters, nbytes = _FORMATS[kind]
        if nbytes > 4:
            (at,) = struct.unpack_from(order + "I", block, at + 8)
        else:
            at += 8
        if at + nbytes > len(block):
            continue
        numbers = struct.unpack_from(order + letters, block, at)
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


def usable_icc(profile: bytes | None, channels: int) -> bytes | None:
    """The profile, byte for byte, or None where it is no ICC profile or one for another kind of pixels.

    A CMYK profile on RGB pixels, or an RGB one on grey, says nothing true of them; readers differ in what they
    make of it, so it is not handed on.
    """
    if profile is None or len(profile) <= _ICC_HEADER or profile[36:40] != b"acsp":
        return None
    return profile if profile[16:20] == _ICC_SPACES[channels] else None


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
