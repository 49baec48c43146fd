"""What a network sees of each colour encoding, and how the result gets back: the table, and the code that is it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from refine.errors import ImageReadError
from refine.profile import Profile, profile, usable_icc
from refine.spec import Depth, ImageSpec, Pixels

RELATIVE = 1
"""ICC rendering intent: relative colorimetric."""
_BLACK_POINT = 0x2000
"""littlecms: map black to black."""
_EXACT = 0x0100
"""littlecms: no shortcuts through small tables."""


class Row(NamedTuple):
    """One line of the table."""

    encoding: str
    """What the file holds."""
    seen: str
    """What the network sees."""
    result: str
    """What is written."""
    promise: str
    """What is guaranteed, beside what holds for all."""


TABLE: dict[str, Row] = {
    "grey": Row("grey, any profile with a perceptual curve", "R = G = B, values as they are", "grey", "no colour"),
    "rgb": Row(
        "sRGB; Display P3, Adobe RGB, ProPhoto, eciRGB and any RGB profile with a perceptual curve; no profile",
        "values as they are",
        "the same encoding, profile byte for byte",
        "neutral stays neutral, white stays white, the gamut is the profile's own",
    ),
    "linear": Row(
        "grey or RGB with a linear profile (gamma 1.0)",
        "the same primaries with the curve of sRGB, 16 bit",
        "linear again, profile byte for byte",
        "neutral and white as above; levels within 2 of 65535",
    ),
    "lab": Row(
        "CIE L*a*b*, TIFF",
        "RGB of ProPhoto's primaries with the curve of sRGB, 16 bit, by littlecms",
        "L*a*b* again",
        "levels within 0.1 in L*, a*, b* inside that gamut",
    ),
    "cmyk": Row(
        "CMYK with a profile",
        "sRGB, 16 bit, by littlecms: relative colorimetric, black point compensated",
        "sRGB in the source's depth, with its profile; said",
        "colours beyond sRGB are clipped",
    ),
}
"""Palettes and 1 bit are grey or RGB once they are decoded. CMYK without a profile, and float, are refused."""


@dataclass(frozen=True, slots=True)
class Treatment:
    """How the pixels of one encoding go into a program and come out."""

    row: str
    """Its line in TABLE."""
    channels: int
    """Of what the program sees and of what it gives."""
    dtype: Depth
    """Depth of what the program sees."""
    icc: bytes | None
    """The profile of the result."""
    note: str = ""
    """What a report should say; empty where nothing was changed."""
    source_icc: bytes | None = None
    """The profile that conversions start from."""

    @property
    def converts(self) -> bool:
        """Whether pixels are changed on their way in or out."""
        return self.row not in ("grey", "rgb")

    def untouched(self, dtype: Depth) -> Treatment:
        """The treatment of an image of that depth to which nothing is done: what need not be converted is not."""
        return replace(self, row="rgb", dtype=dtype) if self.row in ("linear", "lab") else self

    def depth(self, wished: Depth) -> Depth:
        """The depth the program must give so that a result of the wished depth can be made of it."""
        return "uint16" if self.converts else wished

    def entered(self, pixels: Pixels) -> Pixels:
        """Pixels (y, x, c) as the file has them -> as the network is to see them. Each pixel for itself."""
        match self.row:
            case "linear":
                return _curved(pixels, _encoding(str(pixels.dtype)))
            case "lab":
                return transformed(pixels, lab_profile(), "lab", working_profile(), "rgb")
            case "cmyk":
                assert self.source_icc is not None
                return transformed(pixels, self.source_icc, "cmyk", srgb_profile(), "rgb")
            case _:
                return pixels

    def left(self, pixels: Pixels, wished: Depth) -> Pixels:
        """What the program gave -> what is written, in the wished depth."""
        match self.row:
            case "linear":
                return _curved(pixels, _decoding(wished))
            case "lab":
                return transformed(pixels, working_profile(), "rgb", lab_profile(), "lab")
            case "cmyk":
                return narrowed(pixels) if wished == "uint8" else pixels
            case _:
                return pixels


def treatment(spec: ImageSpec) -> Treatment:
    """How an image is treated. Raises ImageReadError in one line where its encoding cannot be."""
    return _treatment(spec.space, spec.channels, spec.dtype, spec.icc)


@lru_cache(maxsize=32)
def _treatment(space: str, channels: int, dtype: Depth, icc: bytes | None) -> Treatment:
    found = None if icc is None else profile(icc)
    if space == "lab":
        return Treatment("lab", 3, "uint16", icc)
    if space == "cmyk":
        return _of_cmyk(found, icc)
    if found is not None and found.linear:
        return Treatment("linear", channels, "uint16", icc)
    return Treatment("grey" if channels < 3 else "rgb", channels, dtype, icc)


def _of_cmyk(found: Profile | None, icc: bytes | None) -> Treatment:
    if found is None or found.space != "CMYK":
        came = "no profile" if icc is None else "a profile that is not for CMYK"
        msg = f"CMYK needs an ICC profile to mean colours, this has {came}; embed the profile it was made for"
        raise ImageReadError(msg)
    note = "CMYK converted to sRGB, relative colorimetric with black point compensation"
    return Treatment("cmyk", 3, "uint16", srgb_profile(), note, icc)


@lru_cache
def srgb_profile() -> bytes:
    """An ICC profile of sRGB."""
    return _timeless(imagecodecs.cms_profile("srgb"))


@lru_cache
def working_profile() -> bytes:
    """The primaries of ProPhoto RGB (ROMM, ISO 22028-2), white D50, with the curve of sRGB."""
    points = np.arange(4096) / 4095
    curve = np.round(_decoded(points) * 65535).astype(np.uint16)
    primaries = [0.7347, 0.2653, 1.0, 0.1596, 0.8404, 1.0, 0.0366, 0.0001, 1.0]
    return _timeless(
        imagecodecs.cms_profile("rgb", whitepoint=[0.3457, 0.3585, 1.0], primaries=primaries, transferfunction=curve)
    )


@lru_cache
def lab_profile() -> bytes:
    """An ICC profile of CIE L*a*b*, D50."""
    return _timeless(imagecodecs.cms_profile("lab4"))


def _timeless(made: bytes) -> bytes:
    """The profile with an empty date (bytes 24 to 35 of its header): the same result has the same bytes tomorrow."""
    return bytes(made[:24]) + bytes(12) + bytes(made[36:])


def encoding(spec: ImageSpec) -> bytes:
    """The profile of an image's pixels. Without one of their own, RGB and grey are taken for sRGB."""
    if spec.space == "lab":
        return lab_profile()
    own = usable_icc(spec.icc, spec.model)
    return own if own is not None else srgb_profile()


def cms_space(spec: ImageSpec) -> str:
    """What imagecodecs calls an image's pixels beside `encoding`: grey without a profile of its own is R = G = B."""
    if spec.space in ("cmyk", "lab"):
        return spec.space
    return "gray" if spec.model == "grey" and usable_icc(spec.icc, "grey") is not None else "rgb"


def transformed(pixels: Pixels, source: bytes, space: str, target: bytes, target_space: str) -> Pixels:
    """Pixels by littlecms, 16 bit: relative colorimetric, black point compensated. Spaces are imagecodecs' words."""
    converted = imagecodecs.cms_transform(
        np.ascontiguousarray(pixels),
        source,
        target,
        colorspace=space,
        outcolorspace=target_space,
        outdtype="uint16",
        intent=RELATIVE,
        flags=_BLACK_POINT | _EXACT,
    )
    return np.asarray(converted, np.uint16)


def _encoded(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """The curve of sRGB, IEC 61966-2-1, on 0..1."""
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055)


def _decoded(encoded: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of `_encoded`."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


@lru_cache
def _encoding(dtype: str) -> Pixels:
    top = 65535 if dtype == "uint16" else 255
    return np.round(_encoded(np.arange(top + 1) / top) * 65535).astype(np.uint16)


@lru_cache
def _decoding(wished: Depth) -> Pixels:
    top = 65535 if wished == "uint16" else 255
    return np.round(_decoded(np.arange(65536) / 65535) * top).astype(wished)


def _curved(pixels: Pixels, table: Pixels) -> Pixels:
    """Each colour channel through a table; alpha, the last of two or four, only brought to the table's depth."""
    channels = pixels.shape[2]
    curved = table[pixels]
    if channels in (2, 4):
        alpha = pixels[:, :, -1]
        if table.dtype != pixels.dtype:
            alpha = alpha.astype(np.uint16) * 257 if table.dtype == np.uint16 else narrowed(alpha)
        curved[:, :, -1] = alpha
    return curved


def narrowed(pixels: Pixels) -> Pixels:
    """16 bits to the nearest 8."""
    return ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
