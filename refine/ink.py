"""Pixels for a printer: turned into what its ICC profile counts in, by littlecms, and what it cannot print counted.

Each pixel for itself, so tiles equal the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, cast

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from refine.colour import cms_space, encoding, lab_profile, srgb_profile
from refine.errors import PlanError
from refine.profile import profile, usable_icc
from refine.spec import Depth, ImageSpec, Pixels

Intent = Literal["perceptual", "relative", "saturation", "absolute"]
INTENTS: dict[Intent, int] = {"perceptual": 0, "relative": 1, "saturation": 2, "absolute": 3}
"""Their numbers in ICC.1:2022, 7.2.15."""

_BLACK_POINT, _EXACT = 0x2000, 0x0100
"""littlecms: map black to black; no shortcuts through small tables. These shortcuts take a fourth of the time and
differ by up to 2.0 dE*ab, 0.2 on the mean (photographs and noise to SWOP): a print is worth more than that."""
_SPACES = {"RGB": ("rgb", 3), "CMYK": ("cmyk", 4), "GRAY": ("gray", 1)}
"""Of a profile: what imagecodecs calls it, and its channels."""
_ROWS = 128
"""px; so many rows at a time, so that temporary arrays stay small."""
_FAR = 5.0
"""dE*ab: a colour that comes out further off is out of gamut; littlecms' own measure for profiles with tables."""
_APART = 8
"""px: every eighth of every eighth row of a sheet is looked at."""
_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Press:
    """What pixels are turned into for a printer."""

    icc: bytes
    """Its profile."""
    intent: Intent = "relative"
    """What becomes of colours that it cannot print."""
    black_point: bool = True
    """Whether black becomes its black."""

    @property
    def space(self) -> str:
        """What it counts in: `RGB`, `CMYK` or `GRAY`."""
        return profile(self.icc).space

    @property
    def channels(self) -> int:
        """How many."""
        return _SPACES[self.space][1]

    @property
    def flags(self) -> int:
        """Those of littlecms."""
        return _EXACT | (_BLACK_POINT if self.black_point else 0)


def press(icc: bytes, name: str, intent: Intent = "relative", *, black_point: bool = True) -> Press:
    """The press of a profile. Raises PlanError, in one line, for one that nothing can be printed through."""
    found = profile(icc)
    if len(icc) <= 128 or icc[36:40] != b"acsp":
        raise PlanError(f"{name}: is no ICC profile; name an .icc or .icm file of the printer, ink and paper")
    if found.space not in _SPACES:
        raise PlanError(f"{name}: counts in {found.space or '?'}; a profile for RGB, CMYK or grey is needed")
    made = Press(icc, intent, black_point)
    try:
        _converted(np.zeros((1, 1, 3), np.uint16), srgb_profile(), "rgb", made, "uint16")
    except imagecodecs.CmsError as error:
        raise PlanError(f"{name}: nothing can be turned into it ({error}); name a printer's output profile") from error
    return made


def inked(pixels: Pixels, spec: ImageSpec, onto: Press, depth: Depth) -> Pixels:
    """Pixels (y, x, c) of an opaque image, 16 bit, as a press takes them. spec says what they are, not how many."""
    result = np.empty((*pixels.shape[:2], onto.channels), depth)
    source, space = encoding(spec), cms_space(spec)
    for y in range(0, len(pixels), _ROWS):
        band = _entered(pixels[y : y + _ROWS], spec)
        result[y : y + _ROWS] = _converted(band, source, space, onto, depth)
    return result


def looked_at(height: int, width: int) -> int:
    """px of a sheet that `beyond` looks at."""
    return -(-height // _APART) * -(-width // _APART)


def beyond(pixels: Pixels, spec: ImageSpec, onto: Press, y: int, x: int) -> int:
    """How many px a press cannot print within 5 dE*ab, of every eighth of every eighth row.

    pixels are a window of a sheet whose corner is y, x on it: so the counts of tiles add up to that of the whole.
    Seen as by the relative intent, whatever the intent, for others move all colours; where black becomes the
    printer's black, colours count from there.
    """
    looked = pixels[-y % _APART :: _APART, -x % _APART :: _APART]
    if not looked.size:
        return 0
    source, space = encoding(spec), cms_space(spec)
    colorimetric = Press(onto.icc, "relative", onto.black_point)
    looked = _entered(np.ascontiguousarray(looked), spec)
    meant = _lab(_transformed(looked, source, space, lab_profile(), "lab", colorimetric))
    printed = _converted(looked, source, space, colorimetric, "uint16")
    came = _lab(_transformed(printed, onto.icc, _SPACES[onto.space][0], lab_profile(), "lab", colorimetric))
    return int((((meant - came) ** 2).sum(axis=2) > _FAR**2).sum())


def proofed(pixels: Pixels, spec: ImageSpec, *, paper_white: bool = False) -> Pixels:
    """Pixels of an image as a screen shows what is printed of them: 8 bits, sRGB, (y, x, 3).

    paper_white: as light and as coloured as the paper is; otherwise paper is shown as white.
    """
    seen = Press(srgb_profile(), "absolute" if paper_white else "relative", black_point=not paper_white)
    return np.asarray(_transformed(pixels, encoding(spec), cms_space(spec), seen.icc, "rgb", seen, "uint8"))


def _entered(pixels: Pixels, spec: ImageSpec) -> Pixels:
    """Pixels as they are converted: grey without a profile as R = G = B."""
    bare = spec.model == "grey" and usable_icc(spec.icc, "grey") is None
    return np.ascontiguousarray(np.repeat(pixels, 3, axis=2) if bare else pixels)


def _converted(pixels: Pixels, source: bytes, space: str, onto: Press, depth: Depth) -> Pixels:
    return _transformed(pixels, source, space, onto.icc, _SPACES[onto.space][0], onto, depth)


def _transformed(
    pixels: Pixels, source: bytes, space: str, icc: bytes, out: str, how: Press, depth: Depth = "uint16"
) -> Pixels:
    stored = pixels[:, :, 0] if space == "gray" else pixels
    made = imagecodecs.cms_transform(
        np.ascontiguousarray(stored), source, icc, colorspace=space, outcolorspace=out, outdtype=depth,
        intent=INTENTS[how.intent], flags=how.flags,
    )  # fmt: skip
    return cast("Pixels", np.asarray(made, depth).reshape(*pixels.shape[:2], -1))


def _lab(pixels: Pixels) -> _Floats:
    """L*, a*, b* of their 16-bit encoding."""
    wide = pixels.astype(np.float64)
    wide[:, :, 0] *= 100 / 65535
    wide[:, :, 1:] = (wide[:, :, 1:] - 32896) / 257
    return wide


@lru_cache(maxsize=4)
def note(onto: Press) -> str:
    """What a report says of a conversion."""
    compensated = " with black point compensation" if onto.black_point else ""
    return f"converted to the {onto.space} profile given, {onto.intent}{compensated}"
