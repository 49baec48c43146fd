"""A trained network inside a program, and the nodes that guarantee what it must not touch."""

from __future__ import annotations

from collections.abc import Mapping

from refine.card import ModelCard, load_network
from refine.graph import Graph, Value

FLAT_RADIUS = 3
"""px of the source. A pixel with one colour this far round it keeps that colour: Lanczos-3, which reaches as
far, would keep it too, so the network may not do worse."""


def guarded(
    graph: Graph, image: Value, prefix: str, channels: int, card: ModelCard, others: Mapping[str, Value] | None = None
) -> Value:
    """What a network makes of an image (1, channels, y, x), `card.scale` times as large; what it must not touch stays.

    - Where a pixel and all within FLAT_RADIUS have one colour (white, above all), the result is that colour.
    - Where colour is absent as far as the network reaches (R = G = B), only luma is written.
    - Results stay in 0..1.

    Grey (channels = 1) goes through as R = G = B and comes back as its luma. `others` feeds inputs beside the image.
    """
    rgb = graph.stacked(image, image, image) if channels == 1 else image
    made = graph.unit(graph.merge(load_network(card.id), rgb, prefix, others))
    luma = graph.luma_and_differences(made)[0]
    flat = _enlarged_mask(graph, _spread(graph, image, channels, FLAT_RADIUS), card.scale)
    source = _enlarged(graph, image, card.scale)
    if channels == 1:
        return graph.op("Where", flat, source, luma)
    neutral = _enlarged_mask(graph, graph.highest(_colour(graph, image), card.halo), card.scale)
    return graph.op("Where", flat, source, graph.op("Where", neutral, luma, made))


def _enlarged(graph: Graph, image: Value, scale: int) -> Value:
    return graph.nearest(image, scale) if scale > 1 else image


def _enlarged_mask(graph: Graph, zero_where: Value, scale: int) -> Value:
    return graph.op("Equal", _enlarged(graph, zero_where, scale), 0.0)


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
