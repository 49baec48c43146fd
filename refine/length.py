"""Lengths and papers as people write them, in exact inches: `24x36in`, `A2`, `60x90cm`, `4x6`, `7200x10800px`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction

from refine.errors import PlanError

_MM = Fraction(5, 127)
"""Inches of a millimetre: an inch is 25.4 mm by definition."""
_UNITS = {
    "mm": _MM,
    "cm": 10 * _MM,
    "m": 1000 * _MM,
    "in": Fraction(1),
    "inch": Fraction(1),
    '"': Fraction(1),
    "ft": Fraction(12),
    "pt": Fraction(1, 72),
}
"""Inches of each unit."""
_NUMBER = r"\d+(?:\.\d+)?(?:/\d+)?|\.\d+"
_LENGTH = re.compile(rf"({_NUMBER})\s*([a-z\"]*)")
_PAPER = re.compile(rf"({_NUMBER})\s*([a-z\"]*)\s*[x\u00d7]\s*({_NUMBER})\s*([a-z\"]*)")
_A = ((841, 1189), (594, 841), (420, 594), (297, 420), (210, 297), (148, 210), (105, 148), (74, 105), (52, 74))
_B = ((1000, 1414), (707, 1000), (500, 707), (353, 500), (250, 353), (176, 250), (125, 176), (88, 125), (62, 88))
_INCHES = {
    "letter": ("8.5", "11"),
    "legal": ("8.5", "14"),
    "tabloid": ("11", "17"),
    "ledger": ("17", "11"),
    "ansi-c": ("17", "22"),
    "ansi-d": ("22", "34"),
    "ansi-e": ("34", "44"),
    "arch-a": ("9", "12"),
    "arch-b": ("12", "18"),
    "arch-c": ("18", "24"),
    "arch-d": ("24", "36"),
    "arch-e": ("36", "48"),
}
_PHOTOS = ("3.5x5", "4x6", "5x7", "6x8", "8x8", "8x10", "8x12", "10x15", "11x14", "12x12", "12x16", "12x18", "16x20",
           "16x24", "18x24", "20x24", "20x30", "24x30", "24x36", "27x40", "30x40", "40x60")  # fmt: skip
"""Sizes that shops name by their inches alone."""
_LEAST, _MOST = 5 * _MM, 100_000 * _MM
"""5 mm and 100 m: a side beyond these is a slip of the keyboard."""


@dataclass(frozen=True, slots=True)
class Paper:
    """A sheet of paper as it is when all is cut."""

    width: Fraction
    """Inches; where `px` is given, of no account."""
    height: Fraction
    """Inches; where `px` is given, of no account."""
    name: str
    """As it was written."""
    px: tuple[int, int] | None = None
    """Height, width in px, where they were given instead of lengths."""

    @property
    def turned(self) -> Paper:
        """The same sheet, on its other side."""
        px = None if self.px is None else self.px[::-1]
        return Paper(self.height, self.width, self.name, px)

    def size(self, ppi: Fraction) -> tuple[Fraction, Fraction]:
        """Height and width, inches, at so many px per inch."""
        if self.px is not None:
            return self.px[0] / ppi, self.px[1] / ppi
        return self.height, self.width

    def face(self, ppi: Fraction) -> tuple[int, int]:
        """Height and width, px: to the nearest, halves up.

        >>> paper("24x36in").face(Fraction(300)), paper("A4").face(Fraction(300))
        ((10800, 7200), (3508, 2480))
        """
        height, width = self.size(ppi)
        return rounded(height * ppi), rounded(width * ppi)


def paper(text: str) -> Paper:
    """The paper of that name or size. Raises PlanError for what is none, in one line.

    >>> paper("60 x 90 cm").name, float(paper("a5").width * 127 / 5)
    ('60 x 90 cm', 148.0)
    """
    written = text.strip().lower()
    if (named := _named(written)) is not None:
        return Paper(*named, text)
    found = _PAPER.fullmatch(written)
    if found is None:
        near = get_close_matches(written, [*_INCHES, *(f"a{n}" for n in range(9))], n=1)
        hint = f"did you mean {near[0]!r}?" if near else "write 24x36in, 60x90cm, A2, letter, 4x6 or 7200x10800px"
        raise PlanError(f"{text!r} is no size of paper; {hint}")
    first, second = found[2] or found[4], found[4]
    if not first and not second:
        raise PlanError(
            f"{text!r} has no unit, and is none of the photo sizes that go without (4x6, 8x10, 20x30...: inches); "
            f"write {written}in or {written}cm"
        )
    if (first == "px") != (second == "px"):
        raise PlanError(f"{text!r}: px on one side and a length on the other; give both in one kind of unit")
    if second == "px":
        sides = _number(found[1], text), _number(found[3], text)
        if any(side.denominator != 1 or side < 1 for side in sides):
            raise PlanError(f"{text!r}: a size in px is two whole numbers from 1 on")
        return Paper(Fraction(0), Fraction(0), text, (int(sides[1]), int(sides[0])))
    width, height = (_inches(number, unit, text) for number, unit in ((found[1], first), (found[3], second)))
    for side in (width, height):
        if not _LEAST <= side <= _MOST:
            raise PlanError(f"{text!r}: a side of paper is 5 mm to 100 m, got {said(side)}; check number and unit")
    return Paper(width, height, text)


def length(text: str) -> Fraction:
    """A length in inches. Raises PlanError for what is none.

    >>> length("3mm"), length("1/8 in"), length("2m") * 127 / 5
    (Fraction(15, 127), Fraction(1, 8), Fraction(2000, 1))
    """
    found = _LENGTH.fullmatch(text.strip().lower())
    if found is None:
        raise PlanError(f"{text!r} is no length; write a number and its unit: 3mm, 1.5in, 2m")
    return _inches(found[1], found[2], text)


def said(inches: Fraction) -> str:
    """A length for people, metric.

    >>> said(length("3mm")), said(length("24in")), said(length("1234mm")), said(length("5m"))
    ('3 mm', '610 mm', '1234 mm', '5 m')
    >>> said(length("1000m"))
    '1000 m'
    """
    mm = float(inches / _MM)
    return f"{digits(mm / 1000, 3)} m" if mm >= 2000 else f"{digits(mm, 3)} mm"


def digits(value: float, count: int) -> str:
    """A number in so many digits, or as many more as stand before its point: never with an exponent.

    >>> digits(1036.4, 3), digits(609.64, 3), digits(0.5, 3)
    ('1036', '610', '0.5')
    """
    return f"{value:.0f}" if abs(value) >= 10**count else f"{value:.{count}g}"


def millimetres(inches: Fraction) -> Fraction:
    """A length in mm, exactly."""
    return inches / _MM


def rounded(number: Fraction) -> int:
    """The nearest whole number, halves up."""
    return int((number + Fraction(1, 2)) // 1)


def _named(written: str) -> tuple[Fraction, Fraction] | None:
    """Width and height of a paper that has a name."""
    series = re.fullmatch(r"(?:iso\s*)?([ab])\s*(\d)", written)
    if series is not None and int(series[2]) < len(_A):
        width, height = (_A if series[1] == "a" else _B)[int(series[2])]
        return width * _MM, height * _MM
    name = re.sub(r"^us[\s-]*|[\s-]*size$", "", written).replace(" ", "-")
    if name in _INCHES:
        width_in, height_in = _INCHES[name]
        return Fraction(width_in), Fraction(height_in)
    if written.replace(" ", "") in _PHOTOS:
        width_in, _, height_in = written.replace(" ", "").partition("x")
        return Fraction(width_in), Fraction(height_in)
    return None


def _inches(number: str, unit: str, text: str) -> Fraction:
    if unit not in _UNITS:
        what = "no unit" if not unit else f"the unit {unit!r}"
        raise PlanError(f"{text!r} has {what}; use mm, cm, m, in, ft or pt")
    return _number(number, text) * _UNITS[unit]


def _number(number: str, text: str) -> Fraction:
    try:
        whole, _, below = number.partition("/")
        return Fraction(whole) / Fraction(below) if below else Fraction(whole)
    except ZeroDivisionError as error:
        raise PlanError(f"{text!r}: a fraction over 0 is no number") from error
