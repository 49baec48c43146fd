"""The colour that transparent pixels show: as it is written, in the encoding of a picture, and behind its pixels.

Each pixel for itself, so tiles equal the whole.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import cast

import imagecodecs
import numpy as np

from refine.colour import cms_space, encoding, narrowed, srgb_profile, transformed
from refine.errors import PlanError
from refine.profile import usable_icc
from refine.spec import ImageSpec, Pixels

Rgb = tuple[int, int, int]
"""A colour of sRGB, 8 bits."""
WHITE: Rgb = (255, 255, 255)
_NAMED: dict[str, Rgb] = {"white": WHITE, "black": (0, 0, 0), "grey": (128, 128, 128)}
_BAND = 128
"""Rows that are blended at once: temporary arrays stay small."""


def rgb(text: str) -> Rgb:
    """A colour as it is written. Raises PlanError for what is none.

    >>> rgb("#336699"), rgb("white")
    ((51, 102, 153), (255, 255, 255))
    """
    if text.lower() in _NAMED:
        return _NAMED[text.lower()]
    found = re.fullmatch(r"#?([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})", text.lower())
    if found is None:
        raise PlanError(f"{text!r} is no colour; write #336699, {', '.join([*_NAMED][:-1])} or {[*_NAMED][-1]}")
    red, green, blue = (int(part, 16) for part in found.groups())
    return red, green, blue


def hexed(colour: Rgb) -> str:
    """A colour in the one form that all its names stand for.

    >>> hexed(rgb("White"))
    '#ffffff'
    """
    return f"#{bytes(colour).hex()}"


def coloured(colour: Rgb, spec: ImageSpec) -> Pixels:
    """A colour as one 16-bit pixel (1, 1, c) of an image, alpha aside.

    Raises PlanError where the image is grey and the colour is not, and where nothing can be turned into its profile.
    """
    wanted = np.array([[colour]], np.uint16) * 257
    if spec.model == "grey" and len(set(colour)) > 1:
        raise PlanError(f"the picture is grey, but the colour beside it is not: {hexed(colour)}; name a grey")
    if spec.space != "lab" and usable_icc(spec.icc, spec.model) is None:
        return wanted[:, :, :1] if spec.model == "grey" else wanted
    if colour == WHITE and spec.space != "lab":
        # White is white, whatever a profile's white point does to it on the way.
        return np.full((1, 1, 1 if spec.model == "grey" else 3), 65535, np.uint16)
    try:
        made = transformed(wanted, srgb_profile(), "rgb", encoding(spec), cms_space(spec))
    except imagecodecs.CmsError as error:
        raise PlanError(
            f"no colour can be turned into the picture's ICC profile ({error}); name white, which needs no turning"
        ) from error
    return cast("Pixels", made.reshape(1, 1, -1))


def behind(colour: Rgb, spec: ImageSpec) -> Pixels:
    """One pixel (1, 1, c) of what an image with alpha is laid on, in its encoding and depth, to the nearest level.

    c is 3, though the image is grey, where the colour is not and no grey profile says what its levels mean: R = G = B
    then say it as well. Raises PlanError as `coloured` does.
    """
    if spec.model == "grey" and len(set(colour)) > 1 and usable_icc(spec.icc, "grey") is None:
        spec = replace(spec, channels=4, icc=None)
    level = coloured(colour, spec)
    return level if spec.dtype == "uint16" else narrowed(level)


def flattened(pixels: Pixels, level: Pixels) -> Pixels:
    """Pixels (y, x, c) laid over a colour where they are transparent, alpha gone; those without alpha as they are.

    level is that colour as one pixel (1, 1, c) of the same depth: c alpha + level (1 - alpha), in integers, to the
    nearest; full scale is odd, so nothing lies halfway. Opaque pixels keep their levels, invisible ones have the
    colour's. Grey on a level of three channels becomes R = G = B.
    """
    if pixels.shape[2] not in (2, 4):
        return pixels
    top = np.iinfo(pixels.dtype).max
    opaque = np.empty((*pixels.shape[:2], level.shape[2]), pixels.dtype)
    ground = level.astype(np.uint32)
    for y in range(0, len(pixels), _BAND):
        band = pixels[y : y + _BAND].astype(np.uint32)
        alpha = band[:, :, -1:]
        # 65535 * 65535 + 32767 still fits 32 bits.
        opaque[y : y + _BAND] = (band[:, :, :-1] * alpha + ground * (top - alpha) + top // 2) // top
    return opaque
