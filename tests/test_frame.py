"""Frames: panels that make the sheet again, and marks where it is cut."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies_files import picture

from refine.errors import PlanError
from refine.frame import Line, Ring, Text, frames, panels_for
from refine.framed import Framed
from refine.length import length, paper
from refine.sheet import Placement, Surround, sheet
from refine.spec import ImageSpec

PPI = Fraction(100)


def made_sheet(text="90x60mm", bleed="3mm", wrap="0mm"):
    """A small sheet."""
    edge = "mirror" if wrap != "0mm" else "picture"
    return sheet((60, 90), paper(text), PPI, Placement(), Surround(length(wrap), length(bleed), edge))


def framed_of(made, marked, **more):
    """Its frames, their pixels, and those of the sheet."""
    pixels = picture(*made.size, 3)
    found = frames(made, PPI, marked=marked, name="a", **more)
    spec = ImageSpec(*pixels.shape, "uint8")
    return found, [Framed(pixels, spec, frame) for frame in found], pixels


@settings(max_examples=25)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 6))
def test_panels_make_the_sheet_again(rows, columns, overlap_mm):
    """Laid over one another panels are the sheet; their own parts cover it once; neighbours share what was asked."""
    made = made_sheet("90x60mm")
    overlap = length(f"{overlap_mm}mm")
    found, views, pixels = framed_of(made, marked=False, panels=(rows, columns), overlap=overlap)
    again, times = np.zeros_like(pixels), np.zeros(pixels.shape[:2], int)
    for frame, view in zip(found, views, strict=True):
        whole = view[: view.shape[0], : view.shape[1]]
        assert np.array_equal(whole, pixels[frame.window.slices])
        again[frame.window.slices] = whole
        times[frame.core.slices] += 1
        assert frame.window.contains(frame.core)
    assert np.array_equal(again, pixels)
    assert (times == 1).all()
    shared = round(float(overlap * PPI) + 1e-9)
    for left, right in pairwise(found):
        if left.place[0] == right.place[0]:
            assert left.window.x1 - right.window.x0 == shared


@given(st.integers(60, 400), st.integers(60, 400), st.integers(0, 30))
def test_panels_for_fit_and_are_as_few_as_can_be(width, height, overlap_mm):
    """No panel is larger than asked; with one less in a row one would be."""
    made, overlap = made_sheet("1000x700mm"), length(f"{overlap_mm}mm")
    most = length(f"{height}mm"), length(f"{width}mm")
    rows, columns = panels_for(made, PPI, most, overlap)
    found = frames(made, PPI, panels=(rows, columns), overlap=overlap, marked=False, name="a")
    for frame in found:
        assert frame.window.height <= most[0] * PPI
        assert frame.window.width <= most[1] * PPI
    shared = round(overlap * PPI)
    if columns > 1:
        assert (columns - 1) * (int(most[1] * PPI) - shared) + shared < made.size[1]


def test_panels_narrower_than_their_overlap_are_refused():
    """One line, for too many panels and for too small ones."""
    with pytest.raises(PlanError, match="fewer panels or less overlap"):
        frames(made_sheet(), PPI, panels=(1, 50), overlap=length("20mm"), marked=False, name="a")
    with pytest.raises(PlanError, match="leave nothing beside an overlap"):
        panels_for(made_sheet(), PPI, (length("10mm"), length("10mm")), length("20mm"))


def test_marks_lie_where_it_is_cut():
    """Ticks stand at the trimmed edges and the folds, outside of what is printed; there is a ring on each side."""
    made = made_sheet(wrap="10mm")
    (frame,) = frames(made, PPI, marked=True, name="a")
    lines = [mark for mark in frame.marks if isinstance(mark, Line)]
    down = sorted({mark.x0 for mark in lines if mark.x0 == mark.x1})
    across = sorted({mark.y0 for mark in lines if mark.y0 == mark.y1})
    cut, front = made.cut, made.front
    assert down == sorted({cut.x0, front.x0, front.x1, cut.x1})
    assert across == sorted({cut.y0, front.y0, front.y1, cut.y1})
    assert len([mark for mark in frame.marks if isinstance(mark, Ring)]) == 4
    for mark in lines:
        inside = frame.window.y0 < mark.y0 < frame.window.y1 and frame.window.x0 < mark.x0 < frame.window.x1
        assert not inside
        assert frame.outer.y0 <= min(mark.y0, mark.y1) <= max(mark.y0, mark.y1) <= frame.outer.y1
        assert frame.outer.x0 <= min(mark.x0, mark.x1) <= max(mark.x0, mark.x1) <= frame.outer.x1


def test_panels_say_which_they_are():
    """Each has its number, its place and what it shares in its slug; seams are marked."""
    made = made_sheet("300x200mm")
    found = frames(made, PPI, panels=(2, 3), overlap=length("10mm"), marked=True, name="wall")
    said = [next(mark.words for mark in frame.marks if isinstance(mark, Text)) for frame in found]
    assert said[4].endswith("panel 5 of 6: row 2 of 2, column 2 of 3   overlap 10 mm")
    ticks = {mark.x0 for mark in found[1].marks if isinstance(mark, Line) and mark.x0 == mark.x1}
    assert {found[1].core.x0, found[1].core.x1} <= ticks


@pytest.mark.parametrize(
    ("channels", "space", "ink"),
    [(3, "additive", (0, 0, 0)), (1, "additive", (0,)), (4, "cmyk", (255, 255, 255, 255))],
)
def test_marks_are_drawn_in_all_inks_on_white(channels, space, ink):
    """The slug is paper; ticks are of all inks; the sheet itself is not touched. Windows give the same."""
    made = made_sheet()
    (frame,) = frames(made, PPI, marked=True, name="a")
    pixels = picture(*made.size, channels)
    spec = ImageSpec(*pixels.shape, "uint8", space=space)
    view = Framed(pixels, spec, frame)
    whole = view[: view.shape[0], : view.shape[1]]
    slug = frame.slug
    assert np.array_equal(whole[slug:-slug, slug:-slug], pixels)
    paper_level = 0 if space == "cmyk" else 255
    assert (whole[0, 0] == paper_level).all()
    tick = next(mark for mark in frame.marks if isinstance(mark, Line) and mark.x0 == mark.x1)
    at = round((tick.y0 + tick.y1) / 2) - frame.outer.y0, int(tick.x0) - frame.outer.x0
    near = whole[at[0], at[1] - 1 : at[1] + 1].reshape(-1, channels).tolist()
    assert list(ink) in near
    for y in range(0, view.shape[0], 50):
        assert np.array_equal(view[y : y + 50, 7:200], whole[y : y + 50, 7:200])


def test_text_can_be_read_off_its_pixels():
    """Text is drawn in black ink alone, beneath the picture, and another text is another picture."""
    made = made_sheet()
    views = []
    for name in ("one", "another"):
        (frame,) = frames(made, PPI, marked=True, name=name)
        spec = ImageSpec(*made.size, 4, "uint8", space="cmyk")
        blank = np.zeros(spec.shape, np.uint8)
        view = Framed(blank, spec, replace(frame, marks=tuple(m for m in frame.marks if isinstance(m, Text))))
        views.append(view[: view.shape[0], : view.shape[1]])
    assert views[0][..., 3].any()
    assert not views[0][..., :3].any()
    assert not np.array_equal(*views)
