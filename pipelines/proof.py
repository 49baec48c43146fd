"""Small pictures to look at before anything is printed: a proof of the sheet, and how its panels go together.

What a screen can show of the printed colours, with thin lines where it is cut, folded and joined. Not to be printed.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipelines import omezarr
from refine.frame import Frame
from refine.imagefile import publish
from refine.ink import proofed
from refine.length import rounded
from refine.order import SheetPlan
from refine.spec import Pixels
from refine.window import Window

_LONGEST = 1400
"""px of the longer side of the picture in a proof, at most."""
_MARGIN, _LINE, _TEXT = 48, 22, 14
"""px: white round it, from line to line of what is said below, and the height of letters."""
_CUT, _FOLD, _SAFE, _SEAM = (230, 0, 120), (0, 120, 230), (0, 160, 60), (255, 140, 0)
"""Colours of lines."""


def write_proof(path: Path, image: Path, plan: SheetPlan, words: Sequence[str], *, paper_white: bool = False) -> None:
    """A picture of the finished sheet, with its lines, and what is said of it. The same sheet, the same bytes."""
    picture = _Picture(image, plan, paper_white=paper_white)
    sheet = plan.sheet
    if sheet.margin:
        picture.outline(sheet.cut, _CUT)
    if sheet.wrap:
        picture.outline(sheet.front, _FOLD, dash=6)
    safe = rounded(sheet.surround.safe * plan.ppi)
    if safe:
        picture.outline(sheet.front.grow(-safe), _SAFE, dash=2)
    lines = {
        "cut": _CUT if sheet.margin else None,
        "fold": _FOLD if sheet.wrap else None,
        "safe": _SAFE if safe else None,
    }
    publish(path, picture.data(words, {name: colour for name, colour in lines.items() if colour}))


def write_assembly(path: Path, image: Path, plan: SheetPlan, frames: Sequence[Frame], words: Sequence[str]) -> None:
    """A picture of the sheet with its panels: their numbers, and what they share."""
    picture = _Picture(image, plan)
    for frame in frames:
        picture.outline(frame.window, _SEAM, dash=4)
    for number, frame in enumerate(frames, 1):
        picture.outline(frame.core, _CUT)
        picture.number(frame.core, f"{number}", f"row {frame.place[0]}, column {frame.place[1]}")
    said = [*words, *_panel_lines(frames, plan)]
    publish(path, picture.data(said, {"seam": _CUT, "end of a panel": _SEAM}))


def _panel_lines(frames: Sequence[Frame], plan: SheetPlan) -> list[str]:
    sizes = sorted({(frame.window.width, frame.window.height) for frame in frames})
    mm = 25.4 / float(plan.ppi)
    told = ", ".join(f"{w * mm:.1f} x {h * mm:.1f} mm" for w, h in sizes[:4])
    return [f"{len(frames)} panels of {told}; join them at the seams, from left to right and downwards"]


class _Picture:
    """The sheet, small, on white, with room for lines and words."""

    def __init__(self, image: Path, plan: SheetPlan, *, paper_white: bool = False) -> None:
        pixels = _small(image)
        screen = proofed(pixels, plan.result, paper_white=paper_white)
        made = Image.fromarray(np.ascontiguousarray(screen))
        share = min(1.0, _LONGEST / max(made.size))
        if share < 1:
            made = made.resize(
                (max(1, round(made.width * share)), max(1, round(made.height * share))), Image.Resampling.BOX
            )
        self._made, self._scale = made, max(made.size) / max(plan.sheet.size)
        self._draw: list[tuple[Window, tuple[int, int, int], int]] = []
        self._numbers: list[tuple[Window, str, str]] = []

    def outline(self, window: Window, colour: tuple[int, int, int], dash: int = 0) -> None:
        """Draw round a window of the sheet."""
        self._draw.append((window, colour, dash))

    def number(self, window: Window, large: str, small: str) -> None:
        """Write into a window of the sheet."""
        self._numbers.append((window, large, small))

    def data(self, words: Sequence[str], legend: dict[str, tuple[int, int, int]]) -> bytes:
        """The PNG."""
        width = max(self._made.width + 2 * _MARGIN, 720)
        font = ImageFont.load_default(_TEXT)
        words = [line for text in words for line in _wrapped(text, font, width - 2 * _MARGIN)]
        canvas = Image.new(
            "RGB", (width, self._made.height + 2 * _MARGIN + _LINE * (len(words) + bool(legend))), "white"
        )
        left = (width - self._made.width) // 2
        canvas.paste(self._made, (left, _MARGIN))
        draw = ImageDraw.Draw(canvas)
        for window, colour, dash in self._draw:
            _rectangle(draw, self._on_canvas(window, left), colour, dash)
        for window, large, small in self._numbers:
            _inscribe(draw, self._on_canvas(window, left), large, small)
        y, x = self._made.height + _MARGIN + 14, _MARGIN
        for name, colour in legend.items():
            draw.line((x, y + 8, x + 24, y + 8), colour, 2)
            draw.text((x + 30, y), name, (60, 60, 60), font)
            x += 60 + round(draw.textlength(name, font))
        for number, line in enumerate(words, bool(legend)):
            draw.text((_MARGIN, y + _LINE * number), line, (60, 60, 60), font)
        file = io.BytesIO()
        canvas.save(file, "PNG")
        return file.getvalue()

    def _on_canvas(self, window: Window, left: int) -> tuple[float, float, float, float]:
        scale = self._scale
        return (
            left + window.x0 * scale,
            _MARGIN + window.y0 * scale,
            left + window.x1 * scale - 1,
            _MARGIN + window.y1 * scale - 1,
        )


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """The text in lines that are no wider."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _small(image: Path) -> Pixels:
    """The pixels of the smallest level that is no smaller than a proof."""
    levels = omezarr.pyramid(image).levels
    level = max([n for n, size in enumerate(levels) if max(size) >= _LONGEST], default=0)
    return omezarr.opened(image, level)[:, :]


def _rectangle(
    draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], colour: tuple[int, int, int], dash: int
) -> None:
    x0, y0, x1, y1 = box
    for ax, ay, bx, by in ((x0, y0, x1, y0), (x1, y0, x1, y1), (x0, y1, x1, y1), (x0, y0, x0, y1)):
        if not dash:
            draw.line((ax, ay, bx, by), colour, 1)
            continue
        length = max(bx - ax, by - ay)
        for start in range(0, int(length), 2 * dash):
            stop = min(start + dash, length)
            draw.line(
                (ax + (bx > ax) * start, ay + (by > ay) * start, ax + (bx > ax) * stop, ay + (by > ay) * stop),
                colour,
                1,
            )


def _inscribe(draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], large: str, small: str) -> None:
    x0, y0, x1, y1 = box
    middle, centre = (x0 + x1) / 2, (y0 + y1) / 2
    size = min(x1 - x0, y1 - y0)
    font, below = (
        ImageFont.load_default(max(14.0, size * 0.3)),
        ImageFont.load_default(max(10.0, min(16.0, size * 0.1))),
    )
    draw.text((middle, centre), large, "white", font, anchor="mm", stroke_width=2, stroke_fill=(40, 40, 40))
    offset = max(14.0, size * 0.3) * 0.75
    draw.text((middle, centre + offset), small, "white", below, anchor="mm", stroke_width=2, stroke_fill=(40, 40, 40))
