"""Output sharpening: what a medium and the eye's distance will take from edges is given to them beforehand.

Apart from the sharpening that answers the source's softness: that brings back what the picture had, this gives more.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from math import hypot, pi, tan
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refine.errors import ChainError
from refine.graph import Graph, Value
from refine.sharpen import UnsharpMask
from refine.step import Stage

MediumName = Literal["none", "screen", "glossy", "matte", "canvas"]
_MINUTE = tan(pi / 180 / 60)
"""Of arc."""
_MM = 25.4
_LEAST_SIGMA, _MOST_SIGMA = 0.5, 16.0
"""px. For less the amount falls with the square, as the finest mask sees as much less; more there is no mask for."""


class Medium(NamedTuple):
    """What a picture is shown on."""

    spread: float
    """Sigma of what it blurs, mm."""
    amount: float
    """Of sharpening."""
    overshoot: float
    """Of full scale."""


MEDIA: dict[MediumName, Medium] = {
    "none": Medium(0.0, 0.0, 0.0),
    "screen": Medium(0.0, 0.25, 0.02),
    "glossy": Medium(0.03, 0.45, 0.03),
    "matte": Medium(0.06, 0.65, 0.045),
    "canvas": Medium(0.12, 0.85, 0.06),
}
"""Ink spreads least on coated paper, more on uncoated, most on cloth. As it is seen, an edge gets a tenth
(screen) to a third (canvas) steeper, and goes beyond its levels by less than a tenth (output-sharpening.md)."""


@dataclass(frozen=True, slots=True)
class Finish:
    """An unsharp mask whose width is that of what the medium and the eye blur; see `UnsharpMask` for the formula.

    sigma = hypot(spread, distance * tan(1')) of the medium, in px. Wider is seen as a halo, finer is not seen at all.

    Source: the separation of capture and output sharpening of Fraser, Real World Image Sharpening, 2006.
    """

    sigma: float = 1.0
    """px of the result."""
    amount: float = 0.0
    """As that of `UnsharpMask`; 0 leaves it out."""
    threshold: float = 0.0
    """As that of `UnsharpMask`: what noise is left shall not be raised."""
    overshoot: float = 0.03
    """As that of `UnsharpMask`."""

    def __post_init__(self) -> None:
        _ = self._mask

    @property
    def _mask(self) -> UnsharpMask:
        return UnsharpMask(self.sigma, self.amount, self.threshold, self.overshoot)

    @property
    def kernel_radius(self) -> int:
        """Half length of the compiled kernel, px: what it costs grows with that."""
        return self._mask.kernel_radius

    @property
    def stage(self) -> Stage:
        """Last of all: it is meant for the tones and the pixels that are printed."""
        return Stage.FINISH

    @property
    def is_identity(self) -> bool:
        """Whether nothing would be added."""
        return self.amount == 0

    @property
    def structure(self) -> Hashable:
        """That of the mask."""
        return "finish", self._mask.structure

    def parameters(self) -> Mapping[str, NDArray[np.float32]]:
        """Those of the mask."""
        return self._mask.parameters()

    def nodes(self, graph: Graph, image: Value, prefix: str, channels: int) -> Value:
        """Write the mask."""
        return self._mask.nodes(graph, image, prefix, channels)


def finish(medium: MediumName, ppi: float, distance: float, threshold: float = 0.0) -> Finish:
    """The output sharpening for a medium of so many px per inch, seen from `distance` mm.

    Raises ChainError for what is no resolution or distance.

    >>> finish("matte", 300, 300)
    Finish(sigma=1.25, amount=0.65, threshold=0.0, overshoot=0.045)
    """
    if not (0 < ppi <= 10_000 and 0 < distance <= 1_000_000):
        msg = f"finish: ppi is 1 to 10000 and distance up to 1000 m, got {ppi:g} ppi and {distance:g} mm"
        raise ChainError(msg)
    asked = MEDIA[medium]
    wide = hypot(asked.spread, distance * _MINUTE) * ppi / _MM
    sigma = min(max(wide, _LEAST_SIGMA), _MOST_SIGMA)
    amount = asked.amount * min(1.0, (wide / sigma) ** 2)
    return Finish(round(sigma, 2), round(amount, 2), round(threshold, 4), asked.overshoot)
