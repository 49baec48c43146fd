"""Final adjustments: levels, contrast, saturation, and a slight cast."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refine.errors import ChainError
from refine.graph import Graph, Value
from refine.step import Stage

CAST = 0.1
"""The strongest cast, of full scale. Up to about 0.16 every channel still rises with luma."""
_NARROWEST = 0.05
"""The least that white must lie above black."""
_FOOT = 1 / 16
"""Of full scale: far below it a curve moves luma and leaves colour differences, which there are noise."""
_CAST_PEAK = 5**1.25 / 4
"""1 / the greatest value of y (1 - y^4) in 0..1."""
_BOUNDS: Mapping[str, tuple[float, float]] = {
    "black": (-0.25, 0.95),
    "white": (0.05, 1.25),
    "gamma": (0.2, 5),
    "contrast": (0.5, 1.5),
    "saturation": (0, 4),
    "red_green": (-CAST, CAST),
    "blue_green": (-CAST, CAST),
}


class Curve(NamedTuple):
    """What a tone makes of pixels of some lumas; each (n,) float64, full scale 1."""

    luma: NDArray[np.float64]
    """What luma becomes."""
    colour: NDArray[np.float64]
    """Gain on the colour differences."""
    weight: NDArray[np.float64]
    """How much of the cast is added to them, 0..1."""


@dataclass(frozen=True, slots=True)
class Tone:
    """A curve on luma y, and a gain on the colour differences d: R-G and B-G.

    t = clip((y - black) / (white - black), 0, 1); p = t^(1/gamma); l = p + 2 (contrast - 1) p (1 - p) (2 p - 1);
    d' = saturation d (l + 1/16) / (t + 1/16) / (white - black) + cast w(l), with w(l) ~ l (1 - l^4), at most 1.

    Levels alone are the linear levels of every channel; gamma and contrast keep the ratio of the channels but in the
    darkest parts, where it is noise. Contrast is a cubic S about mid grey, not a straight line, which would clip both
    ends. So l rises from 0 to 1 with y whatever the values, saturation never moves luma, and without a cast neutral
    pixels stay neutral to the last bit; a cast leaves black and white alone. R, G and B are clipped once, at the
    program's end. Grey images have no differences: for them the curve is all.

    Source: levels and gamma as in Gonzalez & Woods, Digital Image Processing, 4th ed., section 3.2.
    """

    black: float = 0.0
    """Luma that becomes 0, of full scale; below 0 it lifts the darkest parts."""
    white: float = 1.0
    """Luma that becomes 1, of full scale; beyond 1 it dims the brightest parts."""
    gamma: float = 1.0
    """Above 1 brightens what lies between."""
    contrast: float = 1.0
    """Slope of the curve at mid grey; 1 leaves it as it is."""
    saturation: float = 1.0
    """Gain on colour: 1 leaves it as it is, 0 makes grey."""
    red_green: float = 0.0
    """Added to R-G where it is added most, at two thirds of full scale; of full scale."""
    blue_green: float = 0.0
    """Added to B-G in the same way."""

    def __post_init__(self) -> None:
        for name, (lowest, highest) in _BOUNDS.items():
            value = getattr(self, name)
            if not lowest <= value <= highest:
                usual = type(self).__dataclass_fields__[name].default
                msg = f"tone: {name} must lie between {lowest} and {highest}, got {value}; {usual:g} leaves it out"
                raise ChainError(msg)
        if self.white - self.black < _NARROWEST - 1e-9:
            msg = f"tone: white must lie {_NARROWEST} above black, got black {self.black} and white {self.white}"
            raise ChainError(msg)

    @property
    def stage(self) -> Stage:
        """Last: what stands before it means its strengths for the levels of the source."""
        return Stage.TONE

    @property
    def is_identity(self) -> bool:
        """Whether every value is the one that changes nothing."""
        return self == Tone()

    @property
    def structure(self) -> Hashable:
        """One for all values."""
        return "tone"

    def curve(self, luma: NDArray[np.float64]) -> Curve:
        """The formula in numbers, for choosing values by what they would do. Pixels go through `nodes`."""
        width = self.white - self.black
        levelled = np.clip((luma - self.black) / width, 0, 1)
        powered = levelled ** (1 / self.gamma)
        curved = powered + 2 * (self.contrast - 1) * powered * (1 - powered) * (2 * powered - 1)
        colour = self.saturation * (curved + _FOOT) / (levelled + _FOOT) / width
        return Curve(curved, colour, _CAST_PEAK * curved * (1 - curved**4))

    def parameters(self) -> Mapping[str, NDArray[np.float32]]:
        """The curve in the form the nodes use, and the gain and the cast of the differences."""
        gain = 1 / (self.white - self.black)
        values = {
            "gain": gain,
            "offset": -self.black * gain,
            "power": 1 / self.gamma,
            "bend": 2 * (self.contrast - 1),
            "colour": self.saturation * gain,
            "red_green": self.red_green * _CAST_PEAK,
            "blue_green": self.blue_green * _CAST_PEAK,
        }
        return {name: np.float32(value).reshape(1) for name, value in values.items()}

    def nodes(self, graph: Graph, image: Value, prefix: str, channels: int) -> Value:
        """Write the curve; see the class for the formula."""
        if channels == 1:
            return self._curve(graph, image, prefix)[1]
        luma, *differences = graph.luma_and_differences(image)
        levelled, curved = self._curve(graph, luma, prefix)
        colour = (curved + _FOOT) / (levelled + _FOOT) * graph.input(f"{prefix}.colour", "float32", [1])
        squared = curved * curved
        weight = curved - squared * squared * curved
        moved = [
            difference * colour + weight * graph.input(f"{prefix}.{name}", "float32", [1])
            for difference, name in zip(differences, ("red_green", "blue_green"), strict=True)
        ]
        return graph.from_luma_and_differences(curved, *moved)

    def _curve(self, graph: Graph, luma: Value, prefix: str) -> tuple[Value, Value]:
        """Luma after the levels, and after all."""
        gain, offset, power, bend = (
            graph.input(f"{prefix}.{name}", "float32", [1]) for name in ("gain", "offset", "power", "bend")
        )
        levelled = graph.unit(luma * gain + offset)
        curved = graph.op("Pow", levelled, power)
        return levelled, curved + (curved - curved * curved) * (curved + curved - 1.0) * bend
