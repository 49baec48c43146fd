"""Upscaling: a trained network predicts detail; nodes behind it guarantee what it must not touch."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refine.card import load_card, load_network
from refine.graph import Graph, Value
from refine.step import Stage

FLAT_RADIUS = 3
"""px of the source. A pixel with one colour this far round it keeps that colour: Lanczos-3, which reaches as
far, would keep it too, so the network may not do worse."""


@dataclass(frozen=True, slots=True)
class Upscale:
    """Enlarge by a network's whole factor, with guarantees written as nodes.

    - Where a pixel and all within FLAT_RADIUS have one colour (white, above all), the result is that colour.
    - Where colour is absent as far as the network reaches (R = G = B), only luma is written.
    - Results stay in 0..1.
    """

    net: str
    """Id of a shipped network."""

    @property
    def stage(self) -> Stage:
        """First: predict detail from clean pixels, then work on it."""
        return Stage.UPSCALE

    @property
    def is_identity(self) -> bool:
        """Never: a network has no strength zero."""
        return False

    @property
    def scale(self) -> int:
        """Output px per input px."""
        return load_card(self.net).scale

    @property
    def structure(self) -> Hashable:
        """The network's bytes."""
        return "upscale", self.net, load_card(self.net).sha256

    def parameters(self) -> Mapping[str, NDArray[np.float32]]:
        """None yet."""
        return {}

    def nodes(self, graph: Graph, image: Value, prefix: str, channels: int) -> Value:
        """Write network and guarantees. Grey goes through as R = G = B and comes back as its luma."""
        card = load_card(self.net)
        rgb = graph.stacked(image, image, image) if channels == 1 else image
        enlarged = graph.unit(graph.merge(load_network(self.net), rgb, prefix))
        luma = graph.luma_and_differences(enlarged)[0]
        flat = self._enlarged_mask(graph, _spread(graph, image, channels, FLAT_RADIUS))
        source = graph.nearest(image, card.scale)
        if channels == 1:
            return graph.op("Where", flat, source, luma)
        colour = _colour(graph, image)
        neutral = self._enlarged_mask(graph, graph.highest(colour, card.halo))
        return graph.op("Where", flat, source, graph.op("Where", neutral, luma, enlarged))

    def _enlarged_mask(self, graph: Graph, zero_where: Value) -> Value:
        return graph.op("Equal", graph.nearest(zero_where, self.scale), 0.0)


def _spread(graph: Graph, image: Value, channels: int, radius: int) -> Value:
    """Largest difference between two pixels within `radius`, summed over channels; 0 only where all are equal."""
    spread = graph.highest(image, radius) - graph.lowest(image, radius)
    return spread if channels == 1 else _sum(graph, spread)


def _colour(graph: Graph, rgb: Value) -> Value:
    """|R - G| + |B - G|: 0 only for neutral pixels."""
    _, red_green, blue_green = graph.luma_and_differences(rgb)
    return graph.op("Abs", red_green) + graph.op("Abs", blue_green)


def _sum(graph: Graph, image: Value) -> Value:
    red, green, blue = graph.channels(image, (1, 1, 1))
    return red + green + blue
