"""Pixels for a screen: 8 bits, sRGB. A copy to look at, never what is kept."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from refine.colour import RELATIVE, lab_profile, srgb_profile
from refine.profile import profile
from refine.spec import ImageSpec, Pixels

Screen = NDArray[np.uint8]
"""8 bits, (y, x, c)."""

_BLACK_POINT = 0x2000
"""littlecms: map black to black. It may use small tables: on a screen nobody sees a 255th."""
_ROWS = 64
"""px; so many rows at a time, so that temporary arrays stay small."""
_PNG_LEVEL = 3
"""zlib's; 9 takes five times as long for a few percent."""


def shown(pixels: Pixels, spec: ImageSpec) -> Screen:
    """Pixels (y, x, c) of an image as a screen shows them: grey or RGB in sRGB, alpha kept, 8 bits.

    Each pixel for itself, so a window equals the same window of the whole. spec says what they are; its size does not
    matter. Without a profile, or with one that does not fit, values are taken for sRGB as they are; inks for what they
    leave of white paper.
    """
    if spec.space == "lab":
        return _transformed(pixels, lab_profile(), "lab")
    if spec.space == "cmyk":
        return _printed(pixels, spec.icc)
    if spec.icc is None or spec.icc == srgb_profile():
        return _eight(pixels)
    colours = spec.channels - spec.has_alpha
    wanted = "GRAY" if colours == 1 else "RGB"
    if profile(spec.icc).space != wanted:
        return _eight(pixels)
    colour = pixels[:, :, :colours]
    try:
        grey = colours == 1
        screen = _tones(spec.icc, str(pixels.dtype))[colour] if grey else _transformed(colour, spec.icc, "rgb")
    except imagecodecs.CmsError:
        return _eight(pixels)
    return np.concatenate([screen, _eight(pixels[:, :, colours:])], axis=2) if spec.has_alpha else screen


@lru_cache(maxsize=8)
def _tones(icc: bytes, dtype: str) -> Screen:
    """What each value of a grey profile becomes in sRGB."""
    side = 256 if dtype == "uint16" else 16
    ramp = np.arange(side * side, dtype=dtype).reshape(side, side, 1)
    converted = imagecodecs.cms_transform(
        ramp, icc, srgb_profile(), colorspace="gray", outcolorspace="rgb", outdtype="uint8", intent=RELATIVE,
        flags=_BLACK_POINT,
    )  # fmt: skip
    return np.ascontiguousarray(np.asarray(converted, np.uint8).reshape(-1, 3)[:, 1])


def _printed(pixels: Pixels, icc: bytes | None) -> Screen:
    """What inks show on paper."""
    if icc is not None and profile(icc).space == "CMYK":
        with suppress(imagecodecs.CmsError):
            return _transformed(pixels, icc, "cmyk")
    left = 255 - _eight(pixels).astype(np.uint16)
    return np.asarray((left[:, :, :3] * left[:, :, 3:] + 127) // 255, np.uint8)


def _transformed(pixels: Pixels, icc: bytes, space: str) -> Screen:
    """RGB or Lab (y, x, 3) in sRGB, by littlecms: relative colorimetric, black point compensated."""
    converted = imagecodecs.cms_transform(
        np.ascontiguousarray(pixels), icc, srgb_profile(), colorspace=space, outcolorspace="rgb", outdtype="uint8",
        intent=RELATIVE, flags=_BLACK_POINT,
    )  # fmt: skip
    return np.asarray(converted, np.uint8)


def _eight(pixels: Pixels) -> Screen:
    """8 bits, to the nearest."""
    if pixels.dtype == np.uint8:
        return np.asarray(pixels, np.uint8)
    screen = np.empty(pixels.shape, np.uint8)
    for y in range(0, len(pixels), _ROWS):
        # Equal to (p * 255 + 32767) // 65535 for every p of 16 bits, without a division.
        screen[y : y + _ROWS] = (pixels[y : y + _ROWS].astype(np.uint32) * 255 + 32_895) >> 16
    return screen


def suffix(spec: ImageSpec) -> str:
    """What the files of `tile_bytes` are named by: JPEG, or PNG where there is alpha."""
    return "png" if spec.has_alpha else "jpg"


def tile_bytes(screen: Screen, quality: int = 90) -> bytes:
    """Pixels of `shown` (y, x, c) as a file that browsers show: JPEG without chroma subsampling, or PNG for alpha."""
    stored = screen[:, :, 0] if screen.shape[2] == 1 else np.ascontiguousarray(screen)
    if screen.shape[2] in (2, 4):
        return bytes(imagecodecs.png_encode(stored, level=_PNG_LEVEL))
    return bytes(imagecodecs.jpeg8_encode(np.ascontiguousarray(stored), level=quality, subsampling="444"))
