"""Pictures that show what each step does: crops at 1:1 side by side, one row a photograph, one column a way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import refine
from refine.imagefile import read_image
from refine.preset import load_preset
from refine.spec import Pixels

SCALE = Fraction(5, 2)
"""Of the contact sheet and the before-after picture."""
AMOUNT = 0.8
"""Sharpening on the contact sheet: twice the default, so that it is seen at a glance."""
_WRONG_ORDER = {"order": "as-written", "steps": '["sharpen", "upscale", "resample", "denoise"]'}
_BACKGROUNDS = {"black": (0, 0, 0), "white": (255, 255, 255), "green": (0, 200, 0)}
_EDGE = 36
"""Side of the crop that shows a cut-out's edge, px of the source."""
_ZOOM = 8
"""Px of the picture per px of that crop."""
_GAP = 4
_LINE = 17
"""Height of a line of a caption, px."""


@dataclass(frozen=True, slots=True)
class Crop:
    """A square of a photograph to be looked at."""

    path: Path
    """The photograph: grey or RGB, 8 bit."""
    y: int
    """First row, px of the photograph; even, so that it falls on a whole px at 2.5 times."""
    x: int
    """First column, px of the photograph; even."""
    caption: str
    """What it is."""
    denoise: float = 0.0
    """Sigma in 8-bit levels, for the columns that denoise; 0 for clean photographs."""


@dataclass(frozen=True, slots=True)
class Column:
    """One way to enlarge, and its caption."""

    caption: str
    """Two lines: the name, then what it is made of."""
    enlarged: Callable[[Pixels, Crop], Pixels]
    """The whole photograph (y, x, c), enlarged SCALE times."""


def contact_sheet(crops: Sequence[Crop], cell: int = 260) -> Image.Image:
    """The argument in one picture: six ways to enlarge each photograph, cut out at 1:1.

    cell is the side of a crop in px of the result, a multiple of 5.
    """
    columns = (
        Column("source\nevery pixel repeated", _nearest),
        Column("Lanczos\nno network, no sharpening", _lanczos),
        Column(f"sharpening only\nLanczos, sharpen {AMOUNT}", _sharpened({"upscale.nets": "[]"}, denoise=False)),
        Column("upscaling only\nnetwork x2, Lanczos to x2.5", _faithful),
        Column(f"both, right order\nnetwork, denoise, sharpen {AMOUNT}", _sharpened({})),
        Column(f"both, wrong order\nsharpen {AMOUNT}, network, denoise", _sharpened(_WRONG_ORDER)),
    )
    return _compared(crops, columns, cell)


def before_after(crops: Sequence[Crop], cell: int = 260) -> Image.Image:
    """Source, Lanczos and the default preset side by side at 1:1; cell as in `contact_sheet`."""
    columns = (
        Column("source, every pixel repeated", _nearest),
        Column("Lanczos x2.5", _lanczos),
        Column("Refine x2.5, default preset", lambda pixels, _: refine.restore(pixels, scale=SCALE)),
    )
    return _compared(crops, columns, cell)


def alpha_edges(source: Path, restored: Path, y: int, x: int) -> Image.Image:
    """The edge of a cut-out over black, white and green: before, enlarged channel by channel, and as restored.

    source and restored are RGBA files, restored twice as large; y and x say where the crop begins, px of the source.
    """
    small, large = read_image(source).pixels, read_image(restored).pixels
    naive = np.dstack([_resized(np.ascontiguousarray(small[:, :, c : c + 1]), large.shape[:2]) for c in range(4)])
    whole = ((small, 1), (naive, 2), (large, 2))
    edges = [(pixels[y * s : (y + _EDGE) * s, x * s : (x + _EDGE) * s], _ZOOM // s) for pixels, s in whole]
    cells = [[_repeated(_over(edge, colour), zoom) for edge, zoom in edges] for colour in _BACKGROUNDS.values()]
    heads = [
        f"source\n{_ZOOM} x",
        f"Lanczos x2, each channel\n{_ZOOM // 2} x",
        f"refine catalog --scale 2\n{_ZOOM // 2} x",
    ]
    return _grid(cells, heads, [f"over {name}" for name in _BACKGROUNDS])


def _compared(crops: Sequence[Crop], columns: Sequence[Column], cell: int) -> Image.Image:
    rows = []
    for crop in crops:
        pixels = read_image(crop.path).pixels
        y, x = int(crop.y * SCALE), int(crop.x * SCALE)
        rows.append([column.enlarged(pixels, crop)[y : y + cell, x : x + cell] for column in columns])
    return _grid(rows, [column.caption for column in columns], [crop.caption for crop in crops])


def _nearest(pixels: Pixels, _: Crop) -> Pixels:
    return _resized(pixels, _size(pixels), Image.Resampling.NEAREST)


def _lanczos(pixels: Pixels, _: Crop) -> Pixels:
    return _resized(pixels, _size(pixels))


def _faithful(pixels: Pixels, _: Crop) -> Pixels:
    return refine.restore(pixels, scale=SCALE, preset="faithful")


def _sharpened(settings: Mapping[str, str], *, denoise: bool = True) -> Callable[[Pixels, Crop], Pixels]:
    def enlarged(pixels: Pixels, crop: Crop) -> Pixels:
        sigma = str(crop.denoise if denoise else 0.0)
        strengths = {"sharpen.amount": str(AMOUNT), "denoise.luma": sigma, "denoise.chroma": sigma}
        return refine.restore(pixels, scale=SCALE, preset=load_preset("balanced", {**strengths, **settings}))

    return enlarged


def _size(pixels: Pixels) -> tuple[int, int]:
    """Height and width at SCALE, halves rounded up as refine does."""
    return tuple(int(side * SCALE + Fraction(1, 2)) for side in pixels.shape[:2])  # type: ignore[return-value]


def _resized(pixels: Pixels, size: tuple[int, ...], kernel: Image.Resampling = Image.Resampling.LANCZOS) -> Pixels:
    resized = np.asarray(_picture(pixels).resize((size[1], size[0]), kernel))
    return resized.reshape(*resized.shape[:2], pixels.shape[2])


def _repeated(pixels: Pixels, times: int) -> Pixels:
    return pixels.repeat(times, axis=0).repeat(times, axis=1)


def _over(rgba: Pixels, colour: tuple[int, int, int]) -> Pixels:
    """Straight-alpha 8-bit RGBA laid over one colour, as a browser does it."""
    alpha = rgba[:, :, 3:] / 255
    return np.rint(rgba[:, :, :3] * alpha + np.array(colour) * (1 - alpha)).astype(np.uint8)


def _picture(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _grid(rows: Sequence[Sequence[Pixels]], heads: Sequence[str], sides: Sequence[str]) -> Image.Image:
    """Cells of one size, captions of the columns above them and of the rows beneath them."""
    height, width = rows[0][0].shape[:2]
    top = _LINE * (1 + max(head.count("\n") for head in heads)) + _GAP
    step = height + _LINE + 2 * _GAP
    sheet = Image.new("RGB", (len(heads) * (width + _GAP) + _GAP, top + len(rows) * step), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    for c, head in enumerate(heads):
        draw.multiline_text((_GAP + c * (width + _GAP), 1), head, "black", font, spacing=2)
    for r, row in enumerate(rows):
        for c, cell in enumerate(row):
            sheet.paste(_picture(cell), (_GAP + c * (width + _GAP), top + r * step))
        draw.text((_GAP, top + r * step + height + 1), sides[r], "black", font)
    return sheet
