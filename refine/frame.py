"""What of a sheet goes into one file or page: all of it or a panel, and the marks in the slug round it. Arithmetic.

Places are px of the sheet, fractions of them too; the slug lies beyond.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from refine.errors import PlanError
from refine.length import length, rounded, said
from refine.sheet import Sheet
from refine.window import Window

SLUG = length("10mm")
"""Inches beyond the bleed, for marks."""
_GAP, _TICK = length("2mm"), length("5mm")
"""From the bleed to a mark, and how long that is."""
_RING = length("1.6mm")
"""Radius of a registration mark."""
_THIN = Fraction(1, 288)
"""A quarter of a point: the width of a line."""
_TEXT = length("2.6mm")
"""Height of letters."""


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line, down or across."""

    y0: float
    """Its beginning."""
    x0: float
    """The same."""
    y1: float
    """Its end."""
    x1: float
    """The same."""


@dataclass(frozen=True, slots=True)
class Ring:
    """A circle with a cross through it: inks that do not meet on it do not meet anywhere."""

    y: float
    """Its centre."""
    x: float
    """The same."""
    radius: float
    """px."""


@dataclass(frozen=True, slots=True)
class Text:
    """A line of text, from left to right."""

    y: float
    """Its base line."""
    x: float
    """Where it begins."""
    height: float
    """Of its letters, px."""
    words: str
    """What it says."""


Mark = Line | Ring | Text


@dataclass(frozen=True, slots=True)
class Frame:
    """One file or page of a sheet."""

    window: Window
    """px of the sheet."""
    trim: Window
    """What of it is left when it is cut, px of the sheet."""
    core: Window
    """What of the sheet is this panel's own, half of each overlap included."""
    place: tuple[int, int] = (1, 1)
    """Row and column among the panels, from 1."""
    slug: int = 0
    """px round it for marks; 0: none."""
    thin: float = 1.0
    """px: width of a line."""
    marks: tuple[Mark, ...] = ()
    """What is drawn in the slug."""

    @property
    def outer(self) -> Window:
        """Window and slug, px of the sheet."""
        return self.window.grow(self.slug)


def frames(
    sheet: Sheet,
    ppi: Fraction,
    *,
    panels: tuple[int, int] = (1, 1),
    overlap: Fraction = Fraction(0),
    marked: bool,
    name: str,
) -> list[Frame]:
    """The frames of a sheet, row by row: `panels` rows and columns of them, sharing `overlap` inches.

    Raises PlanError where panels would be narrower than what they share.
    """
    shared = rounded(overlap * ppi)
    rows, columns = (_split(size, count, shared) for size, count in zip(sheet.size, panels, strict=True))
    slug = rounded(SLUG * ppi) if marked else 0
    made = []
    for row, (y, core_y) in enumerate(rows, 1):
        for column, (x, core_x) in enumerate(columns, 1):
            window, core = Window(y[0], x[0], y[1], x[1]), Window(core_y[0], core_x[0], core_y[1], core_x[1])
            words = _words(sheet, ppi, name, (row, column), panels, overlap)
            bare = Frame(window, window.clip(sheet.cut), core, (row, column), slug, max(1.0, float(_THIN * ppi)))
            marks = tuple(_marks(bare, sheet, ppi, words)) if marked else ()
            made.append(Frame(window, bare.trim, core, bare.place, slug, bare.thin, marks))
    return made


def panels_for(sheet: Sheet, ppi: Fraction, largest: tuple[Fraction, Fraction], overlap: Fraction) -> tuple[int, int]:
    """Rows and columns of the fewest panels that are no larger than (height, width) inches.

    Raises PlanError where the overlap leaves nothing of a panel.
    """
    counts = []
    for size, most in zip(sheet.size, largest, strict=True):
        room, shared = int(most * ppi), rounded(overlap * ppi)
        if room <= shared:
            raise PlanError(
                f"panels of {said(most)} leave nothing beside an overlap of {said(overlap)}; make it smaller"
            )
        counts.append(max(1, -(-(size - shared) // (room - shared))))
    return counts[0], counts[1]


def _split(size: int, count: int, shared: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Start and stop of each panel along an axis, all alike to a px, and of its core."""
    if count == 1:
        return [((0, size), (0, size))]
    step = (size - shared) // count
    if step <= shared // 2:
        each = max(0, step) + shared
        raise PlanError(
            f"{count} panels over {size} px are {each} px each and share {shared}; use fewer panels or less overlap"
        )
    cuts = [(size - shared) * n // count for n in range(count + 1)]
    # A seam lies amid what two panels share.
    seams = [0, *(cut + shared // 2 for cut in cuts[1:-1]), size]
    return [((cuts[n], cuts[n + 1] + shared), (seams[n], seams[n + 1])) for n in range(count)]


def _words(
    sheet: Sheet, ppi: Fraction, name: str, place: tuple[int, int], panels: tuple[int, int], overlap: Fraction
) -> str:
    size = " x ".join(said(side) for side in sheet.inches[::-1])
    words = f"{name}   {size}   {float(ppi):g} ppi"
    if panels == (1, 1):
        return words
    number = (place[0] - 1) * panels[1] + place[1]
    return (
        f"{words}   panel {number} of {panels[0] * panels[1]}: row {place[0]} of {panels[0]}, "
        f"column {place[1]} of {panels[1]}   overlap {said(overlap)}"
    )


def _marks(frame: Frame, sheet: Sheet, ppi: Fraction, words: str) -> Iterator[Mark]:
    """Ticks where it is cut, folded or joined; a ring amid each side; what it is."""
    window = frame.window
    gap, tick, ring = (float(part * ppi) for part in (_GAP, _TICK, _RING))
    for x in sorted({*_edges(frame.trim, 1), *_edges(sheet.front, 1), *_edges(frame.core.clip(sheet.cut), 1)}):
        if window.x0 <= x <= window.x1:
            yield Line(window.y0 - gap - tick, x, window.y0 - gap, x)
            yield Line(window.y1 + gap, x, window.y1 + gap + tick, x)
    for y in sorted({*_edges(frame.trim, 0), *_edges(sheet.front, 0), *_edges(frame.core.clip(sheet.cut), 0)}):
        if window.y0 <= y <= window.y1:
            yield Line(y, window.x0 - gap - tick, y, window.x0 - gap)
            yield Line(y, window.x1 + gap, y, window.x1 + gap + tick)
    middle_y, middle_x, out = (window.y0 + window.y1) / 2, (window.x0 + window.x1) / 2, gap + tick / 2
    yield Ring(window.y0 - out, middle_x, ring)
    yield Ring(window.y1 + out, middle_x, ring)
    yield Ring(middle_y, window.x0 - out, ring)
    yield Ring(middle_y, window.x1 + out, ring)
    # As large as there is room for all of it: a letter is half as wide as it is high.
    height = min(float(_TEXT * ppi), window.width / (0.55 * len(words)))
    yield Text(window.y1 + gap + tick + height * 0.8, window.x0 + gap, height, words)


def _edges(window: Window, axis: int) -> tuple[int, int]:
    return (window.x0, window.x1) if axis else (window.y0, window.y1)
