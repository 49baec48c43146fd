"""ICC profiles for tests: one of ink, put together by hand, and one of light without a curve."""

from __future__ import annotations

import struct
from functools import lru_cache
from itertools import product

import imagecodecs
import numpy as np

LINEAR = bytes(
    imagecodecs.cms_profile(
        "rgb",
        whitepoint=[0.3127, 0.329, 1.0],
        primaries=[0.64, 0.33, 1.0, 0.3, 0.6, 1.0, 0.15, 0.06, 1.0],
        transferfunction=np.array([0, 65535], np.uint16),
    )
)
"""The primaries of sRGB, gamma 1.0."""


def ink_profile() -> bytes:
    """A CMYK profile whose table has the 16 corners of ink only: L*a*b* of (1 - ink)(1 - black) in sRGB."""
    return _profile({b"A2B0": _from_inks(2)})


@lru_cache
def press_profile() -> bytes:
    """The same inks in finer tables, 9 of each ink, with the way back: of 17 L*, a* and b*; grey is black ink alone."""
    return _profile({b"A2B0": _from_inks(9), b"B2A0": _to_inks()})


def _profile(tables: dict[bytes, bytes]) -> bytes:
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    text = b"text" + bytes(4) + b"none\0"
    desc = b"desc" + bytes(4) + struct.pack(">I", 4) + b"ink\0"
    tags = {**tables, b"wtpt": white, b"cprt": text, b"desc": desc}
    head, body = b"", b""
    for name, data in tags.items():
        head += name + struct.pack(">2I", 132 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(">I4sI4s4s4s", 132 + len(head) + len(body), b"", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    header = header.ljust(36, b"\0") + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + head + body


def _from_inks(side: int) -> bytes:
    steps = np.arange(side) / (side - 1)
    seen = [_lab(*((1 - ink) * (1 - black) for ink in inks)) for *inks, black in product(steps, repeat=4)]
    table = np.round(np.clip(np.add(seen, [0, 128, 128]), 0, [100, 255.99, 255.99]) * [652.8, 256, 256])
    return _lut(4, 3, side, table)


def _to_inks() -> bytes:
    steps = np.arange(17) / 16
    inks = [_inks(100.4 * light, 256 * a - 128, 256 * b - 128) for light, a, b in product(steps, repeat=3)]
    return _lut(3, 4, 17, np.round(np.multiply(inks, 65535)))


def _lut(channels: int, results: int, side: int, table: np.ndarray) -> bytes:
    """A table of 16 bits as ICC.1:2022, 10.10, has it, all of its curves straight."""
    line = struct.pack(">2H", 0, 65535)
    identity = struct.pack(">9i", *(65536, 0, 0, 0, 65536, 0, 0, 0, 65536))
    lut = b"mft2" + bytes(4) + bytes((channels, results, side, 0)) + identity + struct.pack(">2H", 2, 2)
    return lut + line * channels + table.astype(">u2").tobytes() + line * results


def _inks(light: float, a: float, b: float) -> tuple[float, ...]:
    """The inks of a colour, the nearest there are: the inverse of `_lab`, clipped."""
    fy = (light + 16) / 116
    x, y, z = (
        scale * (f**3 if f > 6 / 29 else (f - 16 / 116) / 7.787)
        for scale, f in ((0.9642, fy + a / 500), (1.0, fy), (0.8251, fy - b / 200))
    )
    linear = np.linalg.solve([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]], [x, y, z])
    missing = 1 - np.clip(linear, 0, 1)
    black = missing.min()
    return (*((missing - black) / max(1 - black, 1e-6)).tolist(), float(black))


def _lab(red: float, green: float, blue: float) -> tuple[float, float, float]:
    """L*a*b* (D50) of linear sRGB, by its matrix adapted with Bradford."""
    x = (0.4361 * red + 0.3851 * green + 0.1431 * blue) / 0.9642
    y = 0.2225 * red + 0.7169 * green + 0.0606 * blue
    z = (0.0139 * red + 0.0971 * green + 0.7141 * blue) / 0.8251
    fx, fy, fz = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)
