"""Lengths and papers: exact, and everything that means nothing refused in one line."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine.errors import PlanError
from refine.length import length, millimetres, paper, rounded, said

MM = Fraction(10, 254)


@pytest.mark.parametrize(
    ("text", "mm"),
    [
        pytest.param("A0", (841, 1189), id="iso-a"),
        pytest.param("a5", (148, 210), id="lower-case"),
        pytest.param("B1", (707, 1000), id="iso-b"),
        pytest.param("Letter", (Fraction(2159, 10), Fraction(2794, 10)), id="us"),
        pytest.param("US legal", (Fraction(2159, 10), Fraction(3556, 10)), id="us-named-so"),
        pytest.param("ARCH D", (Fraction(6096, 10), Fraction(9144, 10)), id="arch"),
        pytest.param("4x6", (Fraction(1016, 10), Fraction(1524, 10)), id="photo"),
        pytest.param("24x36in", (Fraction(6096, 10), Fraction(9144, 10)), id="inches"),
        pytest.param('24" x 36"', (Fraction(6096, 10), Fraction(9144, 10)), id="quotes"),
        pytest.param("60x90cm", (600, 900), id="one-unit"),
        pytest.param("60cm x 0.9m", (600, 900), id="two-units"),
        pytest.param("8 1/2in x 11in", None, id="no-such-spelling"),
        pytest.param("1/2in x 3/4ft", (Fraction(127, 10), Fraction(2286, 10)), id="fractions"),
        pytest.param("720x1440pt", (254, 508), id="points"),
    ],
)
def test_paper_is_exact(text, mm):
    """A paper has the width and height that its name says, to no rounding at all."""
    if mm is None:
        with pytest.raises(PlanError, match="no size of paper"):
            paper(text)
        return
    found = paper(text)
    assert (millimetres(found.width), millimetres(found.height)) == mm


@pytest.mark.parametrize(
    ("text", "said_so"),
    [
        pytest.param("", "no size of paper", id="nothing"),
        pytest.param("huge", "no size of paper", id="a-word"),
        pytest.param("lettr", "did you mean 'letter'", id="a-slip"),
        pytest.param("24x36", None, id="photo-size-needs-no-unit"),
        pytest.param("13x17", "no unit", id="no-unit"),
        pytest.param("0x10in", "5 mm to 100 m", id="zero"),
        pytest.param("-5x10in", "no size of paper", id="negative"),
        pytest.param("1000x1000m", "5 mm to 100 m", id="a-field"),
        pytest.param("10x20furlong", "the unit 'furlong'", id="unknown-unit"),
        pytest.param("10pxx20in", "give both in one kind", id="mixed"),
        pytest.param("10.5x20px", "two whole numbers", id="half-a-px"),
        pytest.param("1/0in x 4in", "over 0", id="over-nothing"),
        pytest.param("nanxnanin", "no size of paper", id="nan"),
    ],
)
def test_paper_refuses_nonsense(text, said_so):
    """What means nothing is refused in one line that says what to write."""
    if said_so is None:
        assert paper(text).width == 24
        return
    with pytest.raises(PlanError, match=said_so) as refused:
        paper(text)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["", "3", "mm", "3 parsec", "3mm4", "1/0mm", "three mm"])
def test_length_refuses_nonsense(text):
    """A length is a number and its unit."""
    with pytest.raises(PlanError):
        length(text)


@given(st.integers(1, 4000), st.integers(1, 4000), st.sampled_from([72, 150, 254, 300, 360, 720]))
def test_face_is_the_nearest_px(width, height, ppi):
    """The face differs from the paper by half a px at most, and a paper in px by nothing."""
    sheet = paper(f"{width + 5}x{height + 5}mm")
    for side, mm in zip(sheet.face(Fraction(ppi)), (height + 5, width + 5), strict=True):
        assert abs(side - mm * MM * ppi) <= Fraction(1, 2)
    assert paper(f"{width}x{height}px").face(Fraction(ppi)) == (height, width)


@given(st.fractions(0, 10_000))
def test_rounded_halves_go_up(number):
    """The nearest whole number, and of two the greater one."""
    assert -Fraction(1, 2) < rounded(number) - number <= Fraction(1, 2)


def test_said_is_metric():
    """Lengths are said in millimetres, long ones in metres."""
    assert (said(length("1in")), said(length("3.5m"))) == ("25.4 mm", "3.5 m")
