"""Colour under transparent pixels: nobody sees it, but networks and kernels mix it into what is seen."""

from __future__ import annotations

from refine.graph import Graph, Value

VISIBLE = 1 / 32
"""Alpha below this hides the colour so well that it is replaced; it is often white or black from a cut-out tool."""
_RADII = (2, 6)
_LEAST = 1e-6
"""Mean alpha below this: nothing to see within the radius. One pixel of alpha 1/255 among 33 x 33 is above it."""


def extended(graph: Graph, colour: Value, alpha: Value, radius: int) -> Value:
    """The colour with what is invisible replaced by the mean of what is visible near it.

    blur(colour * alpha) / blur(alpha), from the smallest of a few boxes that holds something visible, the last
    of them of `radius` px: at least as far as the rest of the program reaches, so that no colour of an invisible
    pixel can get into a visible one. colour (1, c, y, x), alpha (1, 1, y, x), both 0..1.

    Source: Knutsson & Westin, Normalized and Differential Convolution, CVPR 1993.
    """
    weighted = colour * alpha
    filled: Value | None = None
    for side in sorted({*(r for r in _RADII if r < radius), radius}, reverse=True):
        weight = graph.box(alpha, side)
        mean = graph.box(weighted, side) / graph.op("Max", weight, _LEAST)
        found = graph.op("Greater", weight, _LEAST)
        filled = mean if filled is None else graph.op("Where", found, mean, filled)
    assert filled is not None
    return graph.op("Where", graph.op("GreaterOrEqual", alpha, VISIBLE), colour, filled)
