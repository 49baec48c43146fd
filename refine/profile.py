"""The few facts of an ICC profile that decide how its pixels are treated."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from refine.spec import Model

_HEADER = 128
_SPACES: dict[Model, bytes] = {"grey": b"GRAY", "rgb": b"RGB ", "cmyk": b"CMYK", "lab": b"Lab "}
_CURVES = (b"rTRC", b"gTRC", b"bTRC", b"kTRC")
_NEARLY = 0.02
"""How far a curve may lie from a straight line and still be one, full scale = 1."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a profile says of the pixels it belongs to."""

    space: str
    """`RGB`, `GRAY`, `CMYK`, `Lab`...: the data colour space signature."""
    linear: bool
    """Whether every tone curve is a straight line."""


def profile(icc: bytes) -> Profile:
    """The facts. A profile that cannot be read has an empty space and is not linear: its pixels stay as they are.

    Source: ICC.1:2022, sections 7.2 (header), 7.3 (tag table), 10.6 (curveType), 10.18 (parametricCurveType).
    """
    try:
        space = icc[16:20].decode("ascii").strip()
        (count,) = struct.unpack_from(">I", icc, _HEADER)
        tags = [struct.unpack_from(">4sII", icc, _HEADER + 4 + 12 * i) for i in range(min(count, 100))]
        curves = [icc[offset : offset + size] for name, offset, size in tags if name in _CURVES]
        return Profile(space, bool(curves) and all(_straight(curve) for curve in curves))
    except (struct.error, UnicodeDecodeError):
        return Profile("", linear=False)


def usable_icc(icc: bytes | None, model: Model) -> bytes | None:
    """The profile, byte for byte, or None where it is no ICC profile or one for another kind of pixels.

    A CMYK profile on RGB pixels, or an RGB one on grey, says nothing true of them; readers differ in what they
    make of it, so it is not handed on.
    """
    if icc is None or len(icc) <= _HEADER or icc[36:40] != b"acsp":
        return None
    return icc if icc[16:20] == _SPACES[model] else None


def _straight(curve: bytes) -> bool:
    kind = curve[:4]
    if kind == b"curv":
        (count,) = struct.unpack_from(">I", curve, 8)
        if count == 0:
            return True
        if count == 1:
            return bool(abs(struct.unpack_from(">H", curve, 12)[0] / 256 - 1) < _NEARLY)
        points = struct.unpack_from(f">{count}H", curve, 12)
        return all(abs(point / 65535 - i / (count - 1)) < _NEARLY for i, point in enumerate(points))
    if kind == b"para":
        function, gamma = struct.unpack_from(">HxxI", curve, 8)
        # Only type 0, a bare power: what has a toe is no straight line.
        return bool(function == 0 and abs(gamma / 65536 - 1) < _NEARLY)
    return False
