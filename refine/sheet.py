"""The geometry of a sheet: where on it which pixel of the picture lies, and what is round it. Integers and rationals.

A sheet is the face (what is seen from the front), round it the wrap (what goes round the frame of a canvas), and
round that the bleed (what is cut away). A picture, enlarged as a whole, shows a part of itself on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refine.errors import PlanError
from refine.length import Paper, rounded
from refine.window import Window, grid

Mode = Literal["fill", "fit"]
Edge = Literal["picture", "mirror", "stretch", "colour"]
"""What is beyond the face: more of the picture, the picture mirrored, its rim mirrored and stretched, or a colour."""
Turn = Literal["auto", "portrait", "landscape", "as-given"]

ANCHORS = {
    "centre": (Fraction(1, 2), Fraction(1, 2)),
    "top": (Fraction(0), Fraction(1, 2)),
    "bottom": (Fraction(1), Fraction(1, 2)),
    "left": (Fraction(1, 2), Fraction(0)),
    "right": (Fraction(1, 2), Fraction(1)),
    "top-left": (Fraction(0), Fraction(0)),
    "top-right": (Fraction(0), Fraction(1)),
    "bottom-left": (Fraction(1), Fraction(0)),
    "bottom-right": (Fraction(1), Fraction(1)),
}
"""Name -> how far down and across, of the room there is."""
STRETCH = 8
"""How many times `stretch` stretches: a wrap shows the outermost eighth of itself of the picture."""
WEIGHTS = 2 * STRETCH
"""The centres of stretched px lie so many to a px."""
Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Placement:
    """How a picture is put on paper."""

    mode: Mode = "fill"
    """`fill`: it covers the paper, and what hangs over is cut off. `fit`: all of it is seen, and paper round it."""
    anchor: tuple[Fraction, Fraction] = ANCHORS["centre"]
    """What stays in sight, or where it lies: how far down and across of the room there is, 0..1."""
    crop: Window | None = None
    """px of the source: all there is of the picture."""
    turn: Turn = "auto"
    """Which way the paper lies; `auto`: as the picture."""
    border: Fraction = Fraction(0)
    """Inches of paper left white inside the face, at least."""


@dataclass(frozen=True, slots=True)
class Surround:
    """What is round the face, all lengths in inches."""

    wrap: Fraction = Fraction(0)
    """Round the frame of a canvas, on each side."""
    bleed: Fraction = Fraction(0)
    """Cut away, on each side."""
    edge: Edge = "picture"
    """What is there."""
    safe: Fraction = Fraction(0)
    """What matters should lie so far inside the face: shown in the proof."""

    @property
    def margin(self) -> Fraction:
        """Beyond the face, on each side."""
        return self.wrap + self.bleed


@dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet in pixels: pure arithmetic."""

    face: tuple[int, int]
    """Height, width, px, of what is seen from the front."""
    wrap: int
    """px beyond it on each side, to go round a frame."""
    bleed: int
    """px beyond that on each side, to be cut away."""
    edge: Edge
    """What is beyond the face."""
    whole: tuple[int, int]
    """Height, width, px, of the whole picture, enlarged."""
    part: Window
    """What of that is on the sheet."""
    at: tuple[int, int]
    """The place of its first row and column on the sheet."""
    inches: tuple[Fraction, Fraction]
    """Height, width of the face."""
    surround: Surround
    """What is round it, in inches."""

    @property
    def margin(self) -> int:
        """px beyond the face, on each side."""
        return self.wrap + self.bleed

    @property
    def size(self) -> tuple[int, int]:
        """Height, width of all of it, px."""
        return self.face[0] + 2 * self.margin, self.face[1] + 2 * self.margin

    @property
    def front(self) -> Window:
        """The face, px of the sheet."""
        margin = self.margin
        return Window(margin, margin, margin + self.face[0], margin + self.face[1])

    @property
    def cut(self) -> Window:
        """What is left when it is cut: face and wrap, px of the sheet."""
        return self.front.grow(self.wrap)

    @property
    def placed(self) -> Window:
        """Where the part of the picture lies, px of the sheet."""
        return Window(0, 0, self.part.height, self.part.width).shift(*self.at)

    def content(self, window: Window) -> Window:
        """Of which px of the sheet, beyond-face ones folded back, a window is made."""
        spans = [_span(self._axis(n), *cut) for n, cut in enumerate(_sides(window))]
        return Window(spans[0][0], spans[1][0], spans[0][1], spans[1][1])

    def picture(self, window: Window) -> Window:
        """What of the enlarged picture a window of the sheet needs; of no area where it shows none."""
        seen = self.content(window).clip(self.placed)
        return seen.shift(self.part.y0 - self.at[0], self.part.x0 - self.at[1])

    def spans(self, tile: int) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]:
        """The rows and the columns of the enlarged picture that the tiles of the sheet need, of tiles of that side."""
        rows = {_sides(self.picture(w))[0] for w in grid(self.size[0], 1, tile)}
        columns = {_sides(self.picture(w))[1] for w in grid(1, self.size[1], tile)}
        # A row of tiles may show none of the picture while a column does.
        return tuple(sorted(s for s in rows if s[1] > s[0])), tuple(sorted(s for s in columns if s[1] > s[0]))

    def folds(self, window: Window) -> tuple[Fold, Fold]:
        """Of which rows, and of which columns, of its content a window is made."""
        content = self.content(window)
        rows, columns = _sides(window)
        return _fold(self._axis(0), *rows, content.y0), _fold(self._axis(1), *columns, content.x0)

    def tiles(self, tile: int) -> Iterator[Window]:
        """The windows of the sheet that tasks make, row by row."""
        return grid(*self.size, tile)

    def _axis(self, n: int) -> _Axis:
        edge = self.edge if self.edge in ("mirror", "stretch") else "picture"
        return _Axis(self.margin, self.face[n], edge)


class Fold(NamedTuple):
    """Where the px of one axis come from: (first * (WEIGHTS - weight) + second * weight) / WEIGHTS."""

    first: Index
    """Places in the content."""
    second: Index
    """The same, of the other px."""
    weight: Index
    """0..WEIGHTS - 1; 0 wherever nothing is stretched."""


class _Axis(NamedTuple):
    margin: int
    face: int
    edge: Edge


def sheet(source: tuple[int, int], paper: Paper, ppi: Fraction, placement: Placement, surround: Surround) -> Sheet:
    """The sheet that shows a source of (height, width) px on paper. Raises PlanError for what cannot be.

    Whole px: the face to the nearest; the wrap too; the bleed at least. The picture is enlarged as a whole, evenly to
    half a px of its result, and what of it is shown is a window of that: nothing is resampled twice.
    """
    crop = placement.crop or Window(0, 0, *source)
    if not (Window(0, 0, *source).contains(crop) and crop.height > 0 and crop.width > 0):
        raise PlanError(
            f"a crop lies inside the picture of {source[1]} x {source[0]} px; asked for {crop.width} x {crop.height} "
            f"px at {crop.x0}, {crop.y0}"
        )
    paper = _turned(paper, crop, placement.turn)
    face = paper.face(ppi)
    wrap, bleed = rounded(surround.wrap * ppi), ceil(surround.bleed * ppi)
    area = _area(face, wrap + bleed, rounded(placement.border * ppi), placement, surround)
    scales = Fraction(area.height, crop.height), Fraction(area.width, crop.width)
    scale = max(scales) if placement.mode == "fill" else min(scales)
    whole = max(1, rounded(source[0] * scale)), max(1, rounded(source[1] * scale))
    part = _part(crop, scale, whole, area, placement)
    room = area.height - part.height, area.width - part.width
    at = tuple(start + int(r * a) for start, r, a in zip((area.y0, area.x0), room, placement.anchor, strict=True))
    return Sheet(face, wrap, bleed, surround.edge, whole, part, (at[0], at[1]), paper.size(ppi), surround)


def _turned(paper: Paper, crop: Window, turn: Turn) -> Paper:
    """The paper as it is to lie."""
    if turn == "as-given":
        return paper
    height, width = paper.px or (paper.height, paper.width)
    if turn == "auto":
        wanted = (crop.width > crop.height) - (crop.width < crop.height)
    else:
        wanted = 1 if turn == "landscape" else -1
    lies = (width > height) - (width < height)
    return paper.turned if wanted * lies < 0 else paper


def _area(face: tuple[int, int], margin: int, border: int, placement: Placement, surround: Surround) -> Window:
    """Where the picture may lie, px of the sheet."""
    front = Window(margin, margin, margin + face[0], margin + face[1])
    if placement.mode == "fill" and not border:
        return front.grow(margin) if surround.edge == "picture" else front
    inner = front.grow(-border)
    if min(inner.height, inner.width) < 1:
        raise PlanError(f"a border of {border} px leaves nothing of a paper of {face[1]} x {face[0]} px; narrow it")
    return inner


def _part(crop: Window, scale: Fraction, whole: tuple[int, int], area: Window, placement: Placement) -> Window:
    """What of the enlarged picture is shown: as much of the crop as the area takes, anchored."""
    sides = []
    for n, (start, stop) in enumerate(_sides(crop)):
        room = area.height if n == 0 else area.width
        length = min(max(1, rounded((stop - start) * scale)), room, whole[n])
        first = rounded(start * scale + ((stop - start) * scale - length) * placement.anchor[n])
        sides.append((min(max(first, 0), whole[n] - length), length))
    (y, height), (x, width) = sides
    return Window(y, x, y + height, x + width)


def _sides(window: Window) -> tuple[tuple[int, int], tuple[int, int]]:
    return (window.y0, window.y1), (window.x0, window.x1)


def _span(axis: _Axis, start: int, stop: int) -> tuple[int, int]:
    """First and one past the last px of the sheet that a stretch of it is made of."""
    fold = _fold(axis, start, stop, 0)
    return int(min(fold.first.min(), fold.second.min())), int(max(fold.first.max(), fold.second.max())) + 1


def _fold(axis: _Axis, start: int, stop: int, origin: int) -> Fold:
    """Where the px start..stop-1 come from, as places from `origin` on."""
    place = np.arange(start, stop)
    none = np.zeros(len(place), np.intp)
    if axis.edge == "picture":
        return Fold(place - origin, place - origin, none)
    # Folded at the edge of the face, which lies between two px: both sides of it show the same px.
    low, high = axis.margin, axis.margin + axis.face
    depth = np.maximum(low - 1 - place, place - high)
    beyond = depth >= 0
    upper = place >= high
    if axis.edge == "mirror":
        # A wrap deeper than the face goes back and forth.
        turned = (place - low) % (2 * axis.face)
        folded = low + np.minimum(turned, 2 * axis.face - 1 - turned)
        return Fold(folded - origin, folded - origin, none)
    # A centre at d + 1/2 beyond the edge shows what is (d + 1/2) / STRETCH inside it, where the first centre is at 1/2.
    inward, weight = np.divmod(np.maximum(2 * depth + 1 - STRETCH, 0), WEIGHTS)
    one, two = (np.minimum(inward + n, axis.face - 1) for n in (0, 1))
    first = np.where(beyond, np.where(upper, high - 1 - one, low + one), place)
    second = np.where(beyond, np.where(upper, high - 1 - two, low + two), place)
    return Fold(first - origin, second - origin, np.where(beyond, weight, 0))
