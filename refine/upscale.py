"""Upscaling: a trained network predicts detail; nodes behind it guarantee what it must not touch."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refine.card import load_card
from refine.graph import Graph, Value
from refine.network import guarded
from refine.step import Stage


@dataclass(frozen=True, slots=True)
class Upscale:
    """Enlarge by a network's whole factor, with the guarantees of `refine.network.guarded`."""

    net: str
    """Id of a shipped network that enlarges."""

    @property
    def stage(self) -> Stage:
        """Before all that works on pixels of the final size: predict detail from clean pixels, then work on it."""
        return Stage.UPSCALE

    @property
    def is_identity(self) -> bool:
        """Never: a network has no strength zero."""
        return False

    @property
    def scale(self) -> int:
        """Output px per input px."""
        return load_card(self.net, "enlarge").scale

    @property
    def structure(self) -> Hashable:
        """The network's bytes."""
        return "upscale", self.net, load_card(self.net, "enlarge").sha256

    def parameters(self) -> Mapping[str, NDArray[np.float32]]:
        """None: it takes clean pictures, and what is not clean is repaired first."""
        return {}

    def nodes(self, graph: Graph, image: Value, prefix: str, channels: int) -> Value:
        """Write network and guarantees."""
        return guarded(graph, image, prefix, channels, load_card(self.net, "enlarge"))
