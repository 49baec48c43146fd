"""What is known of an image before a pixel of it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8 | np.uint16]
"""Integer pixels, (y, x, c)."""

Depth = Literal["uint8", "uint16"]

Model = Literal["grey", "rgb", "cmyk", "lab"]
"""What the channels stand for."""

_CHANNELS = {"additive": (1, 2, 3, 4), "cmyk": (4,), "lab": (3,)}


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
class Metadata:
    """What describes a picture beside its pixels, as raw blocks without the wrapping of any container."""

    exif: bytes | None = None
    """A TIFF structure: from its byte order mark on, without a leading `Exif\\0\\0`."""
    xmp: bytes | None = None
    """The XMP packet, UTF-8."""
    iptc: bytes | None = None
    """IPTC-IIM records, without Photoshop's 8BIM wrapping."""

    @property
    def nbytes(self) -> int:
        """Bytes of all blocks together."""
        return sum(len(block) for block in (self.exif, self.xmp, self.iptc) if block is not None)


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
    """1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha (straight, not premultiplied); 4 CMYK; 3 Lab."""
    dtype: Depth
    """Depth of a channel."""
    format: str = ""
    """`jpeg`, `png`, `tiff`, `webp`...; empty for an array that came from no file."""
    icc: bytes | None = None
    """The ICC profile, byte for byte."""
    resolution: Resolution | None = None
    """None where the file says nothing."""
    orientation: int = 1
    """EXIF orientation (1..8) found in the file. Pixels handed out are upright whatever it is."""
    page: int = 0
    """Index of the page or frame in its file."""
    space: Literal["additive", "cmyk", "lab"] = "additive"
    """`additive`: grey or RGB, as the channels say. `cmyk`: 0 is no ink, the top of the depth full ink. `lab`: CIE
    L*a*b* as ICC v4 stores it in 16 bits: L* is 0..65535 for 0..100, a* and b* are (value - 32896) / 257."""
    metadata: Metadata = Metadata()
    """EXIF, XMP and IPTC blocks as the file has them; of a picture to be written, those that go into its file."""
    notes: tuple[str, ...] = ()
    """What reading chose or changed, short sentences for a job's report: `frame 1 of 12`, `palette expanded`."""
    quantisation: tuple[int, ...] | None = None
    """Of a JPEG, the 64 steps of its first component, row by row of the block as it is stored; None otherwise."""

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1 or self.channels not in _CHANNELS[self.space]:
            counts = " or ".join(map(str, _CHANNELS[self.space]))
            msg = f"an image needs a height and width of at least 1 px and {counts} channels, got {self.shape}"
            raise ValueError(msg)
        if self.space == "lab" and self.dtype != "uint16":
            msg = f"Lab is handed around in 16 bits, got {self.dtype}"
            raise ValueError(msg)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.height, self.width, self.channels

    @property
    def model(self) -> Model:
        """What the channels stand for, alpha aside."""
        if self.space != "additive":
            return self.space
        return "grey" if self.channels < 3 else "rgb"

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is alpha. CMYK has four channels and none."""
        return self.space == "additive" and self.channels in (2, 4)

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
