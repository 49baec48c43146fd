"""What output sharpening gives back of what medium and eye take: edges and lines, printed and looked at in numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d
from tables import write_table

from refine.chain import Chain
from refine.finish import MEDIA, finish
from refine.plan import planned
from refine.resample import Resample
from refine.spec import ImageSpec
from refine.tiles import restored_pixels

pytestmark = pytest.mark.bench

FINE = 8
"""Places of the eye's picture to a px of the print."""
MINUTE = math.tan(math.radians(1 / 60))
EYE = 0.4
"""Sigma of what an eye blurs, of a minute of arc: its point spread at a pupil of 3 mm."""


def seen(line: np.ndarray, ppi: float, medium: str, distance: float) -> np.ndarray:
    """A row of px as an eye sees it: px with sharp borders, spread by the medium, then by the eye."""
    mm = 25.4 / ppi / FINE
    printed = gaussian_filter1d(line.repeat(FINE), max(MEDIA[medium].spread / mm, 1e-3), mode="nearest")
    return gaussian_filter1d(printed, EYE * distance * MINUTE / mm, mode="nearest")


def sharpened(line: np.ndarray, ppi: float, medium: str, distance: float) -> np.ndarray:
    """A row of px after output sharpening, by the program itself."""
    pixels = np.round(np.broadcast_to(line, (64, len(line)))[..., None] * 65535).astype(np.uint16)
    spec = ImageSpec(*pixels.shape, "uint16")
    plan = planned(Chain((Resample(), finish(medium, ppi, distance))), spec, (spec.height, spec.width))
    return restored_pixels(pixels, plan)[32, :, 0] / 65535


def steepness(line: np.ndarray) -> float:
    """The steepest place of an edge, of its height a place."""
    return float(np.abs(np.diff(line)).max())


def overshoot(line: np.ndarray, low: float, high: float) -> float:
    """How far an edge goes beyond its own levels, as it is seen, % of its height."""
    return 100 * max(line.max() - high, low - line.min()) / (high - low)


def edge(width: float) -> np.ndarray:
    """An edge as an enlargement gives it, blurred by so many px."""
    x = np.arange(-120, 120) + 0.5
    return 0.3 + 0.4 * np.array([0.5 * (1 + math.erf(v / width / math.sqrt(2))) for v in x])


def test_output_sharpening() -> None:
    """Write the table: of an edge on paper, seen by an eye, what of its steepness medium and eye leave."""
    rows = []
    for medium in ("screen", "glossy", "matte", "canvas"):
        for ppi, distance in ((300, 300), (300, 600), (150, 1000), (100, 2000)):
            line = edge(0.7)
            ideal = steepness(gaussian_filter1d(line.repeat(FINE), 1.0, mode="nearest"))
            plain = seen(line, ppi, medium, distance)
            made = seen(sharpened(line, ppi, medium, distance), ppi, medium, distance)
            step = finish(medium, ppi, distance)
            before, after = steepness(plain) / ideal, steepness(made) / ideal
            rows.append(
                (medium, f"{ppi}", f"{distance / 10:g}", f"{step.sigma:.2f}", f"{step.amount:.2f}", f"{before:.2f}",
                 f"{after:.2f}", f"{overshoot(made, 0.3, 0.7):.1f}")
            )  # fmt: skip
            assert after > before
    header = ("medium", "ppi", "from, cm", "sigma, px", "amount", "left without", "left with", "seen beyond, %")
    notes = (
        "An edge of 40 % of full scale, 0.7 px soft as enlargements are, in px with sharp borders, spread by a medium "
        "(sigma 0, 0.03, 0.06 and 0.12 mm) and by an eye (0.4 minutes of arc). Left: its steepest place, of that seen "
        "through a magnifier on a medium that spreads nothing. Seen beyond: how far the edge then goes beyond its own "
        "levels. Output sharpening alone; what the picture's own softness needs comes before it."
    )
    print(write_table("output-sharpening", "What output sharpening gives back", header, rows, notes))
