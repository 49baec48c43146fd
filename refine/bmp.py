"""BMP: uncompressed pixels of Windows' kind, their size checked against the file before they are read."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import BinaryIO

import imagecodecs
import numpy as np

from refine.errors import ImageReadError
from refine.limits import Limits
from refine.metadata import resolution, with_icc
from refine.spec import ImageSpec, Pixels, Resolution

_RGB, _BITFIELDS, _ALPHA_BITFIELDS = 0, 3, 6
_COMPRESSIONS = {1: "run lengths", 2: "run lengths", 4: "JPEG", 5: "PNG"}
_BITS = {_RGB: (1, 4, 8, 16, 24, 32), _BITFIELDS: (16, 32), _ALPHA_BITFIELDS: (16, 32)}
_CORE, _V3, _V5 = 12, 56, 124
"""Bytes of the header: that of OS/2, the first with an alpha mask, the one with a profile."""
_EMBEDDED = b"DEBM"
_METRE = 0.0254
"""Metres in an inch."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the two headers say."""

    height: int
    """px."""
    width: int
    """px."""
    bits: int
    """Of a pixel."""
    alpha: bool
    """Whether a mask for alpha is given."""
    resolution: Resolution | None
    """None where nothing is said."""
    icc: bytes | None
    """The embedded profile."""


def read_spec(file: BinaryIO, name: str, limits: Limits) -> ImageSpec:
    """The spec of the picture, from its headers."""
    header = _header(file, name, limits)
    notes = ("palette expanded",) if header.bits <= 8 else ()
    channels = 4 if header.alpha else 3
    spec = ImageSpec(header.height, header.width, channels, "uint8", "bmp", None, header.resolution, notes=notes)
    return with_icc(spec, header.icc)


def read_pixels(data: bytes, name: str, limits: Limits) -> Pixels:
    """The picture (y, x, c), uint8: RGB, palettes looked up, with alpha where a mask for it is given."""
    _header(io.BytesIO(data), name, limits)
    return np.atleast_3d(imagecodecs.bmp_decode(data, asrgb=True))


def _header(file: BinaryIO, name: str, limits: Limits) -> Header:
    """The header, once it is seen to be of a kind that is read and the pixels to be there."""
    file.seek(0, io.SEEK_END)
    size = file.tell()
    file.seek(0)
    head = file.read(14 + _V5)
    start, nbytes = struct.unpack_from("<II", head, 10)
    if nbytes == _CORE:
        raise _unusable(name, "it is of OS/2's kind; save it as PNG")
    if len(head) < 14 + 40:
        raise _unusable(name, "the file ends inside its header")
    width, height, planes, bits, compression = struct.unpack_from("<iiHHI", head, 18)
    if compression in _COMPRESSIONS:
        raise _unusable(name, f"its pixels are compressed as {_COMPRESSIONS[compression]}; save it as PNG")
    if bits not in _BITS.get(compression, ()) or planes != 1:
        raise _unusable(name, f"{bits} bits a pixel with compression {compression} is not in the standard")
    rows = abs(height)
    if width < 1 or rows < 1:
        raise _unusable(name, f"it is {rows} x {width} px")
    if start + rows * ((width * bits + 31) // 32 * 4) > size:
        raise _unusable(name, "the file ends before the picture does")
    alpha = nbytes >= _V3 and compression != _RGB and head[66:70] != bytes(4)
    x, y = struct.unpack_from("<ii", head, 38)
    found = resolution(round(x * _METRE, 3), round(y * _METRE, 3), "inch")
    return Header(rows, width, bits, alpha, found, _icc(file, head, nbytes, name, limits))


def _icc(file: BinaryIO, head: bytes, nbytes: int, name: str, limits: Limits) -> bytes | None:
    if nbytes < _V5 or head[70:74] != _EMBEDDED:
        return None
    at, length = struct.unpack_from("<II", head, 126)
    limits.check_metadata(name, length)
    file.seek(14 + at)
    return file.read(length)


def _unusable(name: str, how: str) -> ImageReadError:
    return ImageReadError(f"{name}: this BMP cannot be used: {how}")
