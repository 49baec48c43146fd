"""A frame of a sheet as pixels: the sheet's own, on white paper, with the marks drawn on it."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import ceil, floor
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from refine.frame import Frame, Line, Mark, Ring, Text
from refine.spec import ImageSpec, Pixels
from refine.window import Window


class View(Protocol):
    """Pixels (y, x, c) of a sheet that are read by windows."""

    def __getitem__(self, window: tuple[slice, slice]) -> Pixels:
        """The pixels of a window, from any thread."""
        ...


class Framed:
    """The pixels of a frame, slug and marks included; takes two slices. Threads may share it."""

    def __init__(self, sheet: View, spec: ImageSpec, frame: Frame) -> None:
        """Spec is that of the whole sheet."""
        self._sheet, self._frame = sheet, frame
        self._paper, self._all, self._black = (_level(spec, what) for what in ("paper", "all", "black"))
        outer = frame.outer
        self.spec = replace(spec, height=outer.height, width=outer.width)
        self.shape = self.spec.shape
        self.dtype = np.dtype(spec.dtype)

    def __getitem__(self, window: tuple[slice, slice]) -> Pixels:
        (y0, y1, _), (x0, x1, _) = (part.indices(size) for part, size in zip(window, self.shape, strict=False))
        outer = self._frame.outer
        wanted = Window(y0, x0, y1, x1).shift(outer.y0, outer.x0)
        seen = wanted.clip(self._frame.window)
        if seen == wanted:
            return self._sheet[wanted.slices]
        pixels = np.empty((wanted.height, wanted.width, self.shape[2]), self.dtype)
        pixels[:] = self._paper
        if seen.area:
            pixels[seen.within(wanted).slices] = self._sheet[seen.slices]
        for mark in self._frame.marks:
            place, mask = _drawn(mark, self._frame.thin)
            part = place.clip(wanted)
            if part.area:
                ink = self._black if isinstance(mark, Text) else self._all
                pixels[part.within(wanted).slices][mask[part.within(place).slices]] = ink
        return pixels


@lru_cache(maxsize=256)
def _drawn(mark: Mark, thin: float) -> tuple[Window, NDArray[np.bool_]]:
    """Where a mark lies, px of the sheet, and which of its px it covers."""
    wide = max(1, round(thin))
    match mark:
        case Line():
            y0, x0 = (floor(start - (wide / 2 if start == stop else 0) + 0.5) for start, stop in _ends(mark))
            height, width = (max(wide, round(stop - start)) for start, stop in _ends(mark))
            return Window(y0, x0, y0 + height, x0 + width), np.ones((height, width), bool)
        case Ring():
            side = 2 * ceil(mark.radius * 1.5) + 1
            y0, x0 = floor(mark.y) - side // 2, floor(mark.x) - side // 2
            y, x = np.ogrid[:side, :side]
            y, x = y + y0 + 0.5 - mark.y, x + x0 + 0.5 - mark.x
            on = np.abs(np.hypot(y, x) - mark.radius) <= wide / 2
            return Window(y0, x0, y0 + side, x0 + side), on | (np.abs(y) <= wide / 2) | (np.abs(x) <= wide / 2)
        case Text():
            return _written(mark)


def _ends(line: Line) -> tuple[tuple[float, float], tuple[float, float]]:
    return (line.y0, line.y1), (line.x0, line.x1)


def _written(text: Text) -> tuple[Window, NDArray[np.bool_]]:
    font = ImageFont.load_default(size=max(6.0, text.height))
    left, top, right, bottom = font.getbbox(text.words, anchor="ls")
    canvas = Pillow.new("L", (max(1, ceil(right - left)), max(1, ceil(bottom - top))))
    ImageDraw.Draw(canvas).text((-left, -top), text.words, fill=255, font=font, anchor="ls")
    mask = np.asarray(canvas) >= 128
    y0, x0 = floor(text.y + top), floor(text.x + left)
    return Window(y0, x0, y0 + mask.shape[0], x0 + mask.shape[1]), mask


def _level(spec: ImageSpec, what: str) -> Pixels:
    """Levels of white paper, of all inks together, or of black."""
    top = int(np.iinfo(spec.dtype).max)
    levels: tuple[int, ...]
    if spec.space == "cmyk":
        levels = {"paper": (0, 0, 0, 0), "all": (top, top, top, top), "black": (0, 0, 0, top)}[what]
    elif spec.space == "lab":
        levels = (top if what == "paper" else 0, 32896, 32896)
    else:
        levels = (top if what == "paper" else 0,) * spec.channels
    return np.array(levels, spec.dtype)
