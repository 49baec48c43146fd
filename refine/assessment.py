"""What was measured on an image: values with their units, and how far they can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from refine.look import Look

Confidence = Literal["sure", "fair", "none"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured value. `none` with no value: it cannot be told, which is an answer too."""

    value: float | None
    """In the unit of its field, already rounded as it is printed: decisions see the rounded value."""
    confidence: Confidence = "sure"
    """`sure`: read from the file, or measured with room to spare; `fair`: good enough to decide by."""

    def __post_init__(self) -> None:
        if (self.value is None) != (self.confidence == "none"):
            msg = f"an estimate has a value unless its confidence is 'none', got {self.value} and {self.confidence!r}"
            raise ValueError(msg)

    def over(self, default: float) -> float:
        """The value, or `default` where it cannot be told."""
        return default if self.value is None else self.value


UNKNOWN = Estimate(None, "none")
"""What cannot be told."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """What an image is like, from the source alone. Of the image, never of a tile."""

    height: int
    """px."""
    width: int
    """px."""
    effective: Estimate = UNKNOWN
    """Where the spectrum ends, as a share of what its pixels could hold: 1 full, 0.5 as after enlarging twice."""
    enlarged: Estimate = UNKNOWN
    """How many times it has been enlarged already; 1 not at all."""
    blur_sigma: Estimate = UNKNOWN
    """Sigma of the Gaussian that its sharpest edges look blurred by, px of the image."""
    halo: Estimate = UNKNOWN
    """Overshoot that edges carry already, percent of the edge's height."""
    noise_luma: Estimate = UNKNOWN
    """Sigma of the noise of luma, 8-bit levels."""
    noise_chroma: Estimate = UNKNOWN
    """Sigma of the noise of the colour differences R-G and B-G (their mean), 8-bit levels."""
    grain: Estimate = UNKNOWN
    """Correlation of the noise of neighbouring pixels, 0..1: sensor noise is near 0, film grain above 0.3."""
    jpeg_quality: Estimate = UNKNOWN
    """IJG quality 1..100 of the strongest JPEG compression found; 100 where there are no traces of any."""
    jpeg_grid: tuple[int, int] | None = None
    """y, x of the first corner of its 8 px blocks, 0..7; None where there are none."""
    clipped_black: Estimate = UNKNOWN
    """Share of pixels at the lower end of the range, 0..1."""
    clipped_white: Estimate = UNKNOWN
    """Share of pixels at the upper end of the range, 0..1."""
    posterised: Estimate = UNKNOWN
    """Share of the levels between the darkest and the brightest that no pixel has, 0..1."""
    white_background: Estimate = UNKNOWN
    """Share of the border that is white or nearly so, 0..1."""
    white_exact: Estimate = UNKNOWN
    """Share of the border that is exactly white, 0..1."""
    transparent: Estimate = UNKNOWN
    """Share of pixels that are not opaque, 0..1; 0 without alpha."""
    text: Estimate = UNKNOWN
    """Share of the picture that looks like text or line art, 0..1."""

    look: Look | None = None
    """Its tones, by which a set is brought to one look; None where too little is opaque."""

    @property
    def effective_long_side(self) -> int | None:
        """The longer side that would hold the same detail, px; None where it cannot be told."""
        share = self.effective.value
        return None if share is None else max(1, round(max(self.height, self.width) * share))
