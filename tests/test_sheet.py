"""Sheets: every px of them accounted for, against folding written out px by px."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refine.errors import PlanError
from refine.length import length, paper
from refine.sheet import ANCHORS, STRETCH, Placement, Surround, sheet
from refine.window import Window, grid

sides = st.integers(1, 300)
ppis = st.sampled_from([Fraction(25), Fraction(50), Fraction(72), Fraction(300, 7)])
placements = st.builds(
    Placement,
    st.sampled_from(["fill", "fit"]),
    st.sampled_from(sorted(ANCHORS.values())),
    st.none(),
    st.sampled_from(["auto", "portrait", "landscape", "as-given"]),
)
surrounds = st.builds(
    Surround,
    st.fractions(0, 1, max_denominator=8),
    st.fractions(0, 1, max_denominator=8),
    st.sampled_from(["picture", "mirror", "stretch", "colour"]),
)


@st.composite
def sheets(draw):
    """A sheet of some small picture."""
    text = f"{draw(st.integers(20, 150))}x{draw(st.integers(20, 150))}mm"
    return sheet((draw(sides), draw(sides)), paper(text), draw(ppis), draw(placements), draw(surrounds))


def folded(place, margin, face, edge):
    """Which px of an axis one of its px shows: written out for one px, as (first, second, share of the second)."""
    if edge in ("picture", "colour") or margin <= place < margin + face:
        return place, place, Fraction(0)
    depth = margin - 1 - place if place < margin else place - margin - face
    if edge == "mirror":
        back, within = divmod(depth, face)
        inward = within if back % 2 == 0 else face - 1 - within
        inner = (inward, inward, Fraction(0))
    else:
        middle = max(Fraction(0), (depth + Fraction(1, 2)) / STRETCH - Fraction(1, 2))
        first = int(middle)
        inner = (min(first, face - 1), min(first + 1, face - 1), middle - first)
    low = place < margin
    one, two = (margin + i if low else margin + face - 1 - i for i in inner[:2])
    return one, two, inner[2]


@given(sheets(), st.sampled_from([7, 16, 40]))
def test_folds_are_what_one_px_after_another_says(made, tile):
    """Windows of any size show the px that the rule for a single px names."""
    edge = made.edge
    for window in list(grid(*made.size, tile))[:40]:
        content = made.content(window)
        for fold, start, stop, origin, face in zip(
            made.folds(window),
            (window.y0, window.x0),
            (window.y1, window.x1),
            (content.y0, content.x0),
            made.face,
            strict=True,
        ):
            wanted = [folded(place, made.margin, face, edge) for place in range(start, stop)]
            assert (fold.first + origin).tolist() == [w[0] for w in wanted]
            share = [Fraction(int(w), 2 * STRETCH) for w in fold.weight]
            assert share == [w[2] for w in wanted]
            assert all(
                second + origin == w[1] for second, w, part in zip(fold.second, wanted, share, strict=True) if part
            )


@settings(max_examples=40)
@given(sheets(), st.sampled_from([7, 16, 40]))
def test_spans_name_all_that_tiles_need(made, tile):
    """The rows and columns of every tile's window of the picture are among the spans, and lie in the picture's part."""
    rows, columns = made.spans(tile)
    for window in made.tiles(tile):
        wanted = made.picture(window)
        if wanted.area:
            assert (wanted.y0, wanted.y1) in rows
            assert (wanted.x0, wanted.x1) in columns
            assert made.part.contains(wanted)
            assert max(wanted.height, wanted.width) <= tile


@given(sides, sides, ppis, st.sampled_from(sorted(ANCHORS.values())))
def test_fill_covers_and_fit_shows_all(height, width, ppi, anchor):
    """`fill` leaves no px of the paper free; `fit` leaves no px of the picture out, and touches two edges."""
    filled = sheet((height, width), paper("90x70mm"), ppi, Placement("fill", anchor), Surround())
    assert filled.placed == Window(0, 0, *filled.size)
    fitted = sheet((height, width), paper("90x70mm"), ppi, Placement("fit", anchor), Surround())
    assert (fitted.part.height, fitted.part.width) == fitted.whole
    assert fitted.front.contains(fitted.placed)
    assert fitted.face[0] == fitted.part.height or fitted.face[1] == fitted.part.width


@given(sides, sides, ppis)
def test_the_picture_keeps_its_shape(height, width, ppi):
    """Both sides are enlarged alike, to half a px of the result: of a side of one px there is no less than one."""
    made = sheet((height, width), paper("90x70mm"), ppi, Placement(), Surround())
    down, across = Fraction(made.whole[0], height), Fraction(made.whole[1], width)
    assert abs(down * width - made.whole[1]) <= Fraction(width, 2 * height) + Fraction(1, 2)
    assert abs(across * height - made.whole[0]) <= Fraction(height, 2 * width) + Fraction(1, 2)


def test_px_are_exact():
    """Face, bleed and wrap of common sheets, counted by hand."""
    made = sheet((2000, 3000), paper("24x36in"), Fraction(300), Placement(), Surround(bleed=length("3mm")))
    # 3 mm are 35.4 px: a bleed is no less than was ordered.
    assert (made.face, made.bleed, made.size) == ((7200, 10800), 36, (7272, 10872))
    canvas = sheet(
        (2000, 3000), paper("24x36in"), Fraction(300), Placement(), Surround(wrap=length("1.5in"), edge="mirror")
    )
    assert (canvas.size, canvas.cut, canvas.front) == (
        (8100, 11700),
        Window(0, 0, 8100, 11700),
        Window(450, 450, 7650, 11250),
    )
    # Of 24 x 36 a picture of 4:3 shows all of its height, and of its width nine eighths of that.
    photo = sheet((3000, 4000), paper("24x36in"), Fraction(100), Placement(anchor=ANCHORS["left"]), Surround())
    assert (photo.whole, photo.part) == ((2700, 3600), Window(150, 0, 2550, 3600))


@pytest.mark.parametrize(
    ("turn", "source", "lies"),
    [
        pytest.param("auto", (10, 20), "landscape", id="as-a-wide-picture"),
        pytest.param("auto", (20, 10), "portrait", id="as-a-high-picture"),
        pytest.param("auto", (10, 10), "portrait", id="a-square-says-nothing"),
        pytest.param("portrait", (10, 20), "portrait", id="portrait"),
        pytest.param("as-given", (10, 20), "portrait", id="as-given"),
    ],
)
def test_paper_lies_as_it_should(turn, source, lies):
    """The paper is turned by the picture, or as it is told."""
    height, width = sheet(source, paper("A4"), Fraction(72), Placement(turn=turn), Surround()).face
    assert ("landscape" if width > height else "portrait") == lies


def test_crop_is_all_there_is():
    """Of a crop just as large as the paper's shape exactly its px are shown, whatever lies round it."""
    placement = Placement(crop=Window(10, 20, 110, 170))
    made = sheet((400, 500), paper("300x200px"), Fraction(72), placement, Surround())
    assert (made.whole, made.part) == ((800, 1000), Window(20, 40, 220, 340))
    with pytest.raises(PlanError, match="inside the picture of 500 x 400 px"):
        sheet((400, 500), paper("300x200px"), Fraction(72), Placement(crop=Window(0, 0, 401, 10)), Surround())


def test_border_may_not_eat_the_paper():
    """A border leaves something of the paper."""
    wide = Placement("fit", border=length("50mm"))
    with pytest.raises(PlanError, match="leaves nothing"):
        sheet((10, 10), paper("100x100mm"), Fraction(72), wide, Surround())
    some = sheet((10, 10), paper("100x100mm"), Fraction(254), Placement("fit", border=length("5mm")), Surround())
    assert some.placed == Window(50, 50, 950, 950)


def test_folds_fit_arrays():
    """The index of a fold takes every px of its content at most once out of bounds: none."""
    made = sheet((9, 9), paper("9x9px"), Fraction(1), Placement(), Surround(wrap=Fraction(20), edge="mirror"))
    rows = made.folds(Window(0, 0, *made.size))[0]
    content = made.content(Window(0, 0, *made.size))
    assert np.array_equal(np.unique(rows.first), np.arange(content.height))
