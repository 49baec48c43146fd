"""Noise reduction: smooth what lies below the noise, keep what stands above it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from refine.errors import ChainError
from refine.graph import Graph, Value
from refine.step import Stage

_LEVEL = 1 / 255
_KEEP = 2.0
"""eps = (_KEEP * sigma)^2: on a flat field of that noise, a guided filter keeps 1 / (1 + _KEEP^2) of it."""
_FLOOR = 1e-12
"""Added to every variance, so that a flat field is 0 / floor and not 0 / 0."""


@dataclass(frozen=True, slots=True)
class GuidedDenoise:
    """The guided filter, each plane guiding itself: mean(a) * i + mean(b), a = var / (var + eps).

    Planes are luma and the two colour differences R-G and B-G, so neutral pixels stay neutral exactly.
    Enlarged noise is coarser, so the radius grows with the enlargement.

    Source: He, Sun, Tang, Guided Image Filtering, ECCV 2010, doi 10.1007/978-3-642-15549-9_1.
    """

    luma: float = 0.0
    """Noise to take out of luma: sigma in 8-bit levels."""
    chroma: float = 0.0
    """Noise to take out of the colour differences: sigma in 8-bit levels. Without meaning for grey."""
    radius: int = 2
    """Half side of the box, px of this step's input. Structure."""

    def __post_init__(self) -> None:
        for name in ("luma", "chroma"):
            if not 0 <= getattr(self, name) <= 64:
                msg = f"denoise: {name} is a sigma in 8-bit levels between 0 and 64, got {getattr(self, name)}"
                raise ChainError(msg)
        if not 1 <= self.radius <= 32:
            msg = f"denoise: radius must lie between 1 and 32 px, got {self.radius}"
            raise ChainError(msg)

    @property
    def stage(self) -> Stage:
        """After enlarging, before sharpening."""
        return Stage.DENOISE

    @property
    def is_identity(self) -> bool:
        """Whether there is nothing to take out."""
        return self.luma == 0 and self.chroma == 0

    @property
    def structure(self) -> Hashable:
        """The box, and which planes are filtered."""
        return "guided", self.radius, self.luma > 0, self.chroma > 0

    def parameters(self) -> Mapping[str, NDArray[np.float32]]:
        """eps of each plane, (1, planes, 1, 1)."""
        sigmas = np.array([self.luma, self.chroma, self.chroma]) * _LEVEL
        eps = np.asarray((_KEEP * sigmas) ** 2 + _FLOOR, np.float32)
        return {"luma_eps": eps[:1].reshape(1, 1, 1, 1), "chroma_eps": eps[1:].reshape(1, 2, 1, 1)}

    def nodes(self, graph: Graph, image: Value, prefix: str, channels: int) -> Value:
        """Write the filter; see the class for the formula."""
        if channels == 1:
            return self._filtered(graph, image, f"{prefix}.luma_eps", 1) if self.luma else image
        luma, red_green, blue_green = graph.luma_and_differences(image)
        clean = self._filtered(graph, luma, f"{prefix}.luma_eps", 1) if self.luma else luma
        if not self.chroma:
            return image + (clean - luma)
        differences = self._filtered(graph, graph.stacked(red_green, blue_green), f"{prefix}.chroma_eps", 2)
        return graph.from_luma_and_differences(clean, *graph.channels(differences, (1, 1)))

    def _filtered(self, graph: Graph, planes: Value, eps_name: str, count: int) -> Value:
        eps = graph.input(eps_name, "float32", [1, count, 1, 1])
        mean = graph.box(planes, self.radius)
        # Rounding can make a variance slightly negative; a negative one would amplify.
        variance = graph.op("Max", graph.box(planes * planes, self.radius) - mean * mean, 0.0)
        gain = variance / (variance + eps)
        offset = mean - gain * mean
        return graph.box(gain, self.radius) * planes + graph.box(offset, self.radius)


def denoise_radius(enlargement: Fraction) -> int:
    """The box radius for an image enlarged so many times: 2 px of the source, at least 2 px.

    >>> denoise_radius(Fraction(1)), denoise_radius(Fraction(5, 2))
    (2, 5)
    """
    return min(32, max(2, round(2 * enlargement)))
