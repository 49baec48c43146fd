"""Output sharpening: as wide as medium and eye blur, last of all, and never where nobody asked for it."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine.chain import Chain
from refine.errors import ChainError
from refine.finish import MEDIA, Finish, finish
from refine.graph import Graph
from refine.preset import load_preset
from refine.settings import Settings, Size
from refine.sharpen import UnsharpMask
from refine.spec import ImageSpec
from refine.tone import Tone

media = st.sampled_from([name for name in MEDIA if name != "none"])


@given(media, st.floats(20, 1200), st.floats(250, 10_000))
def test_finish_is_as_wide_as_what_blurs(medium, ppi, distance):
    """Sigma is that of the medium and of a minute of arc together, within what masks there are."""
    made = finish(medium, ppi, distance)
    wide = math.hypot(MEDIA[medium].spread, distance * math.tan(math.radians(1 / 60))) / 25.4 * ppi
    assert made.sigma == pytest.approx(min(max(wide, 0.5), 16), abs=0.005)
    assert made.amount == pytest.approx(MEDIA[medium].amount * min(1, (wide / made.sigma) ** 2), abs=0.02)


def test_media_are_in_order():
    """The more a medium spreads, the more is given to edges, and the further they may overshoot."""
    order = [MEDIA[name] for name in ("none", "screen", "glossy", "matte", "canvas")]
    assert order == sorted(order)


def test_finish_writes_the_nodes_of_its_mask():
    """It is an unsharp mask, at another place."""
    written = []
    for step in (Finish(1.3, 0.5, 0.01, 0.04), UnsharpMask(1.3, 0.5, 0.01, 0.04)):
        graph = Graph()
        image = graph.input("image", "float32", [1, 3, "y", "x"])
        made = step.nodes(graph, image, "step", 3)
        written.append(graph.model({"made": (made, "float32", [1, 3, "y", "x"])}).SerializeToString(deterministic=True))
        assert step.parameters().keys() == {"kernel", "amount", "threshold", "overshoot"}
    assert written[0] == written[1]


def test_finish_is_last():
    """What comes after it would undo it."""
    Chain((Tone(contrast=1.1), Finish(amount=0.5)))
    with pytest.raises(ChainError, match="tone stands after finish"):
        Chain((Finish(amount=0.5), Tone(contrast=1.1)))


def test_presets_finish_for_paper_only():
    """`print` sharpens for paper, apart from what the picture needs; no other preset does."""
    spec = ImageSpec(40, 60, 3, "uint8")
    for name in ("balanced", "faithful", "crisp", "archive", "product", "print"):
        plan = Settings(load_preset(name), Size(Fraction(2))).plan(spec)
        found = [step for step in plan.chain.active if isinstance(step, Finish)]
        assert len(found) == (name == "print")


@pytest.mark.parametrize(("ppi", "distance"), [(0, 300), (300, 0), (-1, 300), (1e9, 300), (300, 1e9)])
def test_finish_refuses_nonsense(ppi, distance):
    """No resolution, and no distance."""
    with pytest.raises(ChainError, match="ppi is 1 to 10000"):
        finish("matte", ppi, distance)


def test_more_distance_is_a_wider_mask():
    """From further away halos must be wider to be seen at all."""
    sigmas = [finish("glossy", 150, distance).sigma for distance in (300, 1000, 3000)]
    assert np.all(np.diff(sigmas) > 0)
