"""What an eye resolves at a distance, and what a picture's detail is worth there."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import pi, tan
from typing import Literal

_MINUTE = tan(pi / 180 / 60)
"""Of arc: what an eye of normal acuity (20/20) tells apart."""
_NEAREST = Fraction(10)
"""Inches: nearer than 25 cm nobody looks."""

Verdict = Literal["sharp", "good", "soft", "weak"]


@dataclass(frozen=True, slots=True)
class Sight:
    """A picture of so much detail, seen from a distance."""

    detail_ppi: float
    """px of detail in the source per inch of paper."""
    eye_ppi: float
    """px per inch that an eye tells apart from there."""

    @property
    def share(self) -> float:
        """How much of what the eye could see is there, along a side; above 1 there is more than it sees."""
        return self.detail_ppi / self.eye_ppi

    @property
    def verdict(self) -> Verdict:
        """`sharp`: no eye sees more from there. `good`: down to half of that. `soft`: down to a quarter. Or `weak`."""
        if self.share >= 1:
            return "sharp"
        if self.share >= 0.5:
            return "good"
        return "soft" if self.share >= 0.25 else "weak"


def eye_ppi(distance: float) -> float:
    """px per inch that an eye tells apart from `distance` inches: one px a minute of arc.

    >>> [round(eye_ppi(cm / 2.54)) for cm in (30, 50, 100, 200, 300)]
    [291, 175, 87, 44, 29]
    """
    return 1 / (distance * _MINUTE)


def sharp_from(ppi: float) -> float:
    """The distance, inches, from which an eye tells no more apart than so many px per inch."""
    return 1 / (ppi * _MINUTE)


def usual_distance(height: Fraction, width: Fraction) -> Fraction:
    """From where a picture of that size, inches, is looked at: one and a half times its diagonal, 25 cm at least.

    >>> float(usual_distance(Fraction(36), Fraction(24))), usual_distance(Fraction(4), Fraction(3))
    (64.9, Fraction(10, 1))
    """
    diagonal = Fraction(round(float(height**2 + width**2) ** 0.5 * 15), 10)
    return max(_NEAREST, diagonal)
