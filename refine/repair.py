"""Repair: a trained network takes noise and JPEG blocks out at the size of the source, told how much there is."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refine.card import load_card
from refine.errors import ChainError
from refine.graph import Graph, Value
from refine.network import guarded
from refine.step import Stage

MAX_NOISE = 50
"""Sigma in 8-bit levels: as strong as networks are trained against."""


@dataclass(frozen=True, slots=True)
class Repair:
    """Take out noise of a sigma, and what JPEG of a quality leaves, with the guarantees of `refine.network.guarded`.

    Both are one value for a whole picture, an input of the program: (noise / 50, (100 - quality) / 100).

    Source: the strength as an input is that of Zhang, Zuo, Zhang, FFDNet, IEEE TIP 2018, doi 10.1109/TIP.2018.2839891.
    """

    net: str
    """Id of a shipped network that repairs; empty for none."""
    noise: float = 0.0
    """Sigma of the source's noise, 8-bit levels, 0..50; 0 for none."""
    quality: float = 100.0
    """IJG quality of the source's JPEG compression, 1..100; 100 for none."""

    def __post_init__(self) -> None:
        if not 0 <= self.noise <= MAX_NOISE:
            msg = f"repair: noise is a sigma in 8-bit levels between 0 and {MAX_NOISE}, got {self.noise}; 0 for none"
            raise ChainError(msg)
        if not 1 <= self.quality <= 100:
            msg = f"repair: quality is that of a JPEG, between 1 and 100, got {self.quality}; 100 for none"
            raise ChainError(msg)

    @property
    def stage(self) -> Stage:
        """First: what is not taken out is enlarged."""
        return Stage.REPAIR

    @property
    def is_identity(self) -> bool:
        """Whether there is nothing to take out, or nothing to do it with."""
        return not self.net or (self.noise == 0 and self.quality == 100)

    @property
    def structure(self) -> Hashable:
        """The network's bytes."""
        return "repair", self.net, load_card(self.net, "repair").sha256

    def parameters(self) -> Mapping[str, NDArray[np.float32]]:
        """What the network is told, (1, 2, 1, 1)."""
        told = [self.noise / 50, (100 - self.quality) / 100]
        return {"strength": np.asarray(told, np.float32).reshape(1, 2, 1, 1)}

    def nodes(self, graph: Graph, image: Value, prefix: str, channels: int) -> Value:
        """Write network and guarantees."""
        strength = graph.input(f"{prefix}.strength", "float32", [1, 2, 1, 1])
        return guarded(graph, image, prefix, channels, load_card(self.net, "repair"), {"strength": strength})
