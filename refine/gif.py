"""GIF: its first frame on the screen that its header tells of.

Only that frame goes to the codec, which otherwise decodes all of them at once.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import BinaryIO, cast

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from refine.errors import ImageReadError
from refine.limits import Limits
from refine.spec import ImageSpec, Pixels

_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
_GRAPHIC_CONTROL = 0xF9


@dataclass(frozen=True, slots=True)
class Frame:
    """The first frame and the screen it lies on."""

    screen: tuple[int, int]
    """Height and width of the picture, px."""
    origin: tuple[int, int]
    """Its first row and column on the screen."""
    shape: tuple[int, int]
    """Its own height and width, px."""
    palette: bytes
    """Red, green and blue of each entry."""
    background: bytes
    """Red, green and blue of what it does not cover."""
    transparent: int | None
    """The index that is seen through."""
    flags: int
    """Of its descriptor: whether it is interlaced."""
    codes: bytes
    """Its compressed indices, from the code size to the end of the block."""
    is_only: bool
    """Whether nothing is drawn after it."""

    @property
    def covers(self) -> bool:
        """Whether it fills the screen."""
        return self.origin == (0, 0) and self.shape == self.screen

    @property
    def channels(self) -> int:
        """4 where something can be seen through, else 3."""
        return 3 if self.transparent is None else 4

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not handed out as it is stored."""
        filled = "transparent" if self.channels == 4 else "of the background's colour"
        return (
            "palette expanded",
            *(() if self.is_only else ("frame 1 of several",)),
            *(() if self.covers else (f"what the frame does not cover is {filled}",)),
        )


def read_spec(file: BinaryIO, name: str, limits: Limits) -> ImageSpec:
    """The spec of the first frame, from its headers; its codes are stepped over."""
    frame = _frame(file, name, limits)
    return ImageSpec(*frame.screen, frame.channels, "uint8", "gif", notes=frame.notes)


def read_pixels(data: bytes, name: str, limits: Limits) -> Pixels:
    """The first frame (y, x, c), uint8, its palette looked up, on the whole screen.

    What it does not cover is transparent where the picture has alpha; else of the background's colour, black where
    that is none of the palette.
    """
    frame = _frame(io.BytesIO(data), name, limits)
    indices = cast("Pixels", imagecodecs.gif_decode(_alone(frame), 0, asrgb=False))
    table = _table(frame)
    drawn = indices.max(initial=0)
    if indices.shape != frame.shape or drawn >= len(table):
        raise _damaged(name, f"it has {len(table)} colours, but index {drawn} is drawn")
    (height, width), (y, x) = frame.shape, frame.origin
    if frame.covers:
        return table[indices]
    pixels = np.zeros((*frame.screen, frame.channels), np.uint8)
    if frame.channels == 3:
        pixels[:] = np.frombuffer(frame.background, np.uint8)
    pixels[y : y + height, x : x + width] = table[indices]
    return pixels


def _table(frame: Frame) -> NDArray[np.uint8]:
    """The palette as (entry, channel), with alpha where the picture has it."""
    table = np.full((len(frame.palette) // 3, frame.channels), 255, np.uint8)
    table[:, :3] = np.frombuffer(frame.palette, np.uint8).reshape(-1, 3)
    if frame.transparent is not None and frame.transparent < len(table):
        table[frame.transparent] = 0
    return table


def _alone(frame: Frame) -> bytes:
    """A GIF of the frame's indices and nothing else, with a palette of the largest size that nobody looks into."""
    height, width = frame.shape
    screen = struct.pack("<HHBBB", width, height, 0xF7, 0, 0) + bytes(768)
    descriptor = struct.pack("<BHHHHB", _IMAGE, 0, 0, width, height, frame.flags & 0x40)
    return b"GIF89a" + screen + descriptor + frame.codes + bytes((_TRAILER,))


def _frame(file: BinaryIO, name: str, limits: Limits) -> Frame:
    """Walk to the first frame and over it."""
    file.seek(6)
    width, height, flags, behind, _ = struct.unpack("<HHBBB", _read(file, 7, name))
    palette = _palette(file, flags, name)
    background = palette[3 * behind : 3 * behind + 3] or b"\0\0\0"
    transparent, skipped = None, 0
    while (kind := _read(file, 1, name)[0]) != _IMAGE:
        if kind == _TRAILER:
            raise _damaged(name, "it holds no picture")
        if kind != _EXTENSION:
            raise _damaged(name, f"a block of unknown kind {kind:#x} comes before its picture")
        label = _read(file, 1, name)[0]
        payload = _blocks(file, name, limits)
        skipped += len(payload)
        limits.check_metadata(name, skipped)
        if label == _GRAPHIC_CONTROL and len(payload) >= 6:
            transparent = payload[4] if payload[1] & 1 else None
    x, y, columns, rows, flags = struct.unpack("<HHHHB", _read(file, 9, name))
    palette = _palette(file, flags, name) or palette
    if not palette:
        raise _damaged(name, "its palette is missing")
    if not (columns and rows):
        raise _damaged(name, f"its frame is {rows} x {columns} px")
    if x + columns > width or y + rows > height:
        raise _damaged(name, f"its frame ends outside the screen of {height} x {width} px")
    codes = _read(file, 1, name) + _blocks(file, name, limits)
    following = file.read(1)
    is_only = following in (b"", bytes((_TRAILER,)))
    return Frame((height, width), (y, x), (rows, columns), palette, background, transparent, flags, codes, is_only)


def _palette(file: BinaryIO, flags: int, name: str) -> bytes:
    return _read(file, 3 << ((flags & 7) + 1), name) if flags & 0x80 else b""


def _blocks(file: BinaryIO, name: str, limits: Limits) -> bytes:
    """Blocks up to the empty one, their lengths among them."""
    pieces = [b""]
    nbytes = 0
    while (length := _read(file, 1, name)) != b"\0":
        pieces += [length, _read(file, length[0], name)]
        nbytes += length[0] + 1
        limits.check_file(name, nbytes)
    return b"".join(pieces) + b"\0"


def _read(file: BinaryIO, nbytes: int, name: str) -> bytes:
    data = file.read(nbytes)
    if len(data) < nbytes:
        raise _damaged(name, "the file ends before the picture does")
    return data


def _damaged(name: str, how: str) -> ImageReadError:
    return ImageReadError(f"{name}: damaged GIF: {how}")
