"""What is known of an image before a pixel of it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8 | np.uint16]
"""Integer pixels, (y, x, c)."""

Depth = Literal["uint8", "uint16"]


@dataclass(frozen=True, slots=True)
class Resolution:
    """Pixels per unit of length, as the file states it."""

    x: float
    """Pixels per unit, along a row."""
    y: float
    """Pixels per unit, down a column."""
    unit: Literal["inch", "cm", "none"] = "inch"
    """`none`: only the ratio of x to y means something."""


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """Size, channels, depth and what travels beside the pixels.

    Height and width are those of the upright picture: EXIF orientation is already applied.
    """

    height: int
    """px."""
    width: int
    """px."""
    channels: int
    """1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha (straight, not premultiplied)."""
    dtype: Depth
    """Depth of a channel."""
    format: str = ""
    """`jpeg`, `png`, `tiff`; empty for an array that came from no file."""
    icc: bytes | None = None
    """The ICC profile, byte for byte."""
    resolution: Resolution | None = None
    """None where the file says nothing."""
    orientation: int = 1
    """EXIF orientation (1..8) found in the file. Pixels handed out are upright whatever it is."""
    page: int = 0
    """Index of the page or frame in its file."""

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1 or self.channels not in (1, 2, 3, 4):
            msg = f"an image needs a height and width of at least 1 px and 1 to 4 channels, got {self.shape}"
            raise ValueError(msg)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.height, self.width, self.channels

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is alpha."""
        return self.channels in (2, 4)

    @property
    def nbytes(self) -> int:
        """Size of the decoded pixels in bytes."""
        return self.height * self.width * self.channels * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class Image:
    """Decoded pixels and what is known of them."""

    pixels: Pixels
    """(y, x, c), upright."""
    spec: ImageSpec
    """Its shape and dtype are those of `pixels`."""
