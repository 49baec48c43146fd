"""Sharpening: raise the contrast of edges that exist."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from refine.errors import ChainError
from refine.graph import Graph, Value
from refine.step import Stage

_RADII = (2, 3, 4, 6, 9, 12, 18, 24, 36, 48)
"""Kernel radii that programs are compiled for. A kernel of a radius between two is padded with zeros."""


@dataclass(frozen=True, slots=True)
class UnsharpMask:
    """Add back what a Gaussian blur took away, on luma: y + amount * core(y - blur(y), threshold).

    Overshoot beyond the extrema of the neighbourhood is capped at `overshoot`, so an edge gets steeper
    and not ringed. The same difference is added to R, G and B, so hue stays and neutral stays neutral.

    Source: Gonzalez & Woods, Digital Image Processing, 4th ed., section 3.6; coring by soft threshold
    as in Donoho, De-noising by soft-thresholding, 1995.
    """

    sigma: float = 1.0
    """Blur radius, px of this step's input. Decides the kernel's length, hence structure."""
    amount: float = 0.5
    """1.0 doubles the detail. An input of the program, as are threshold and overshoot."""
    threshold: float = 0.01
    """Detail below this (full scale = 1) is left alone; what is above it is reduced by it."""
    overshoot: float = 0.03
    """How far beyond the local extrema a result may go (full scale = 1)."""

    def __post_init__(self) -> None:
        if not 0.2 <= self.sigma <= _RADII[-1] / 3:
            msg = f"sharpen: sigma must lie between 0.2 and {_RADII[-1] // 3} px, got {self.sigma}"
            raise ChainError(msg)
        for name in ("amount", "threshold", "overshoot"):
            value = getattr(self, name)
            highest = 5 if name == "amount" else 1
            if not 0 <= value <= highest:
                msg = f"sharpen: {name} must lie between 0 and {highest}, got {value}; 0 leaves it out"
                raise ChainError(msg)

    @property
    def stage(self) -> Stage:
        """After cleaning: sharpened noise is noise that no filter takes back."""
        return Stage.SHARPEN

    @property
    def is_identity(self) -> bool:
        """Whether nothing would be added."""
        return self.amount == 0

    @property
    def kernel_radius(self) -> int:
        """Half length of the compiled kernel, px: 3 sigma, up to the next compiled radius."""
        return next(r for r in _RADII if r >= ceil(3 * self.sigma))

    @property
    def extrema_radius(self) -> int:
        """How far the neighbourhood reaches whose extrema cap the overshoot, px."""
        return max(1, round(self.sigma))

    @property
    def structure(self) -> Hashable:
        """The kernel's length and the neighbourhood's."""
        return "unsharp", self.kernel_radius, self.extrema_radius

    def parameters(self) -> Mapping[str, NDArray[np.float32]]:
        """The kernel and the three strengths."""
        return {
            "kernel": gaussian(self.sigma, self.kernel_radius),
            "amount": np.float32(self.amount).reshape(1),
            "threshold": np.float32(self.threshold).reshape(1),
            "overshoot": np.float32(self.overshoot).reshape(1),
        }

    def nodes(self, graph: Graph, image: Value, prefix: str, channels: int) -> Value:
        """Write the mask; see the class for the formula."""
        radius, side = self.kernel_radius, 2 * self.kernel_radius + 1
        amount, threshold, overshoot = (
            graph.input(f"{prefix}.{name}", "float32", [1]) for name in ("amount", "threshold", "overshoot")
        )
        luma = image if channels == 1 else graph.luma_and_differences(image)[0]
        kernel = graph.input(f"{prefix}.kernel", "float32", [side])
        detail = luma - graph.separable(luma, kernel, radius)
        # Soft threshold: d - clip(d, -t, t).
        cored = detail - graph.op("Max", graph.op("Min", detail, threshold), -threshold)
        highest = graph.highest(luma, self.extrema_radius) + overshoot
        lowest = graph.lowest(luma, self.extrema_radius) - overshoot
        capped = graph.op("Max", graph.op("Min", luma + cored * amount, highest), lowest)
        return image + (capped - luma)


def gaussian(sigma: float, radius: int) -> NDArray[np.float32]:
    """A Gaussian of `sigma` px sampled at -radius..radius, sum 1, zero beyond 3 sigma (rounded up)."""
    x = np.arange(-radius, radius + 1, dtype=np.float64)
    weights = np.where(np.abs(x) <= ceil(3 * sigma), np.exp(-0.5 * (x / sigma) ** 2), 0.0)
    return np.asarray(weights / weights.sum(), np.float32)
