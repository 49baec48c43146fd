"""What an eye sees, against trigonometry written out."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine.sight import Sight, eye_ppi, sharp_from


@given(st.floats(1, 10_000))
def test_eye_ppi_is_one_px_a_minute(distance):
    """Two px next to one another are seen a minute of arc apart."""
    angle = math.degrees(math.atan(1 / eye_ppi(distance) / distance)) * 60
    assert angle == pytest.approx(1, rel=1e-6)
    assert sharp_from(eye_ppi(distance)) == pytest.approx(distance)


@pytest.mark.parametrize(
    ("share", "verdict"), [(2, "sharp"), (1, "sharp"), (0.99, "good"), (0.5, "good"), (0.3, "soft"), (0.1, "weak")]
)
def test_verdict_falls_by_halves(share, verdict):
    """Each verdict ends where half of the detail is left."""
    assert Sight(100 * share, 100).verdict == verdict
