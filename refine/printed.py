"""The pixels of a sheet: the picture in its place, what is round it, in the colours of the printer. A plain loop.

This is the definition of correct for posters, as `refine.tiles` is for pictures.
"""

from __future__ import annotations

import numpy as np

from refine.background import flattened
from refine.ink import beyond, inked
from refine.order import SheetPlan
from refine.session import Engine
from refine.sheet import WEIGHTS, Fold
from refine.spec import Pixels
from refine.tiles import restored_window
from refine.window import Window

_BAND = 128
"""Rows that are narrowed at once: temporary arrays stay small."""


def printed_window(source: Pixels, plan: SheetPlan, window: Window, engine: Engine | None = None) -> tuple[Pixels, int]:
    """The pixels (y, x, c) of a window of the sheet, as `plan.result` says, and how many could not be printed truly.

    The window is a tile of the sheet. Of the source (y, x, c) only what it needs is read, once. The count is of those
    that `ink.beyond` looks at; 0 where colours stay as they are. Raises NonFiniteError as `restored_window` does.
    """
    pixels = sheet_window(source, plan, window, engine)
    if plan.press is None:
        return (pixels if plan.depth == "uint16" else _narrowed(pixels)), 0
    count = beyond(pixels, plan.opaque, plan.press, window.y0, window.x0)
    return inked(pixels, plan.opaque, plan.press, plan.depth), count


def printed_pixels(source: Pixels, plan: SheetPlan, engine: Engine | None = None) -> Pixels:
    """The whole sheet, tile after tile."""
    target = np.empty(plan.result.shape, plan.result.dtype)
    for tile in plan.tiles():
        target[tile.slices] = printed_window(source, plan, tile, engine)[0]
    return target


def sheet_window(source: Pixels, plan: SheetPlan, window: Window, engine: Engine | None = None) -> Pixels:
    """A window of the sheet before its colours are turned into a printer's: 16 bit, no alpha."""
    sheet = plan.sheet
    content = sheet.content(window)
    pixels: Pixels = np.empty((content.height, content.width, plan.opaque.channels), np.uint16)
    seen, wanted = content.clip(sheet.placed), sheet.picture(window)
    if seen != content:
        pixels[:] = np.array(plan.background, np.uint16)
    if wanted.area:
        restored = restored_window(source, plan.plan, wanted, engine)
        pixels[seen.within(content).slices] = flattened(restored, np.array([[plan.background]], np.uint16))
        del restored
    rows, columns = sheet.folds(window)
    pixels = _folded(_folded(pixels, rows, 0), columns, 1)
    if sheet.edge == "colour":
        _paint_around(pixels, sheet.front.clip(window).within(window), plan.rim)
    return pixels


def _folded(pixels: Pixels, fold: Fold, axis: int) -> Pixels:
    """The pixels that an axis is made of, in their order."""
    if (
        len(fold.first) == pixels.shape[axis]
        and (fold.first == np.arange(len(fold.first))).all()
        and not fold.weight.any()
    ):
        return pixels
    made = pixels.take(fold.first, axis)
    (stretched,) = np.nonzero(fold.weight)
    if len(stretched):
        shape = (-1, 1, 1) if axis == 0 else (1, -1, 1)
        weight = fold.weight[stretched].reshape(shape).astype(np.uint32)
        first, second = (pixels.take(part[stretched], axis).astype(np.uint32) for part in (fold.first, fold.second))
        blended = ((first * (WEIGHTS - weight) + second * weight + WEIGHTS // 2) // WEIGHTS).astype(np.uint16)
        made[(stretched,) if axis == 0 else (slice(None), stretched)] = blended
    return made


def _paint_around(pixels: Pixels, inside: Window, colour: tuple[int, ...]) -> None:
    """Paint all but a window."""
    level = np.array(colour, np.uint16)
    pixels[: inside.y0], pixels[inside.y1 :] = level, level
    pixels[:, : inside.x0], pixels[:, inside.x1 :] = level, level


def _narrowed(pixels: Pixels) -> Pixels:
    """16 bits to the nearest 8."""
    narrow = np.empty(pixels.shape, np.uint8)
    for y in range(0, len(pixels), _BAND):
        # Equal to (p * 255 + 32767) // 65535 for every p of 16 bits, without a division.
        narrow[y : y + _BAND] = (pixels[y : y + _BAND].astype(np.uint32) * 255 + 32_895) >> 16
    return narrow
