"""The three-line form for Python users."""

from __future__ import annotations

import os
from collections.abc import Mapping
from fractions import Fraction

import numpy as np

from refine.assess import assess
from refine.errors import ImageReadError, PlanError, PresetError
from refine.preset import Preset, load_preset
from refine.session import Engine
from refine.settings import Settings, Size
from refine.spec import Depth, ImageSpec, Pixels
from refine.tiles import restored_pixels

_CONVERTED = {
    "f": "; convert floats of 0 to 1 with (x * 65535).round().astype('uint16')",
    "b": "; convert a mask with x.astype('uint8') * 255",
    "i": "; convert with x.clip(0, 65535).astype('uint16'), if it is of 16 bits",
}
"""By the kind of a numpy type, what makes pixels of it."""


def restore(
    array: Pixels,
    *,
    scale: float | Fraction | None = None,
    long_side: int | None = None,
    size: tuple[int, int] | None = None,
    preset: str | Preset = "balanced",
    settings: Mapping[str, str] | None = None,
) -> Pixels:
    """The array enlarged, cleaned and sharpened as the preset says.

    array is (y, x) grey or (y, x, c): grey, grey and alpha, RGB, RGB and alpha; uint8 or uint16, sRGB-encoded;
    so is what comes back, without alpha where output.background is a colour. At most one of scale, long_side and size
    (height, width) says how large it becomes. settings puts single values over the preset: {"sharpen.amount": "0.6"}.

    Raises ImageReadError for arrays of another shape or type, and what a preset, a chain or a plan raises.

    >>> import numpy as np
    >>> import refine
    >>> refine.restore(np.full((8, 12, 3), 255, np.uint8), scale=2.5).shape
    (20, 30, 3)
    """
    if not isinstance(array, np.ndarray):
        msg = f"an image is a numpy array, got {type(array).__name__}; make one with numpy.asarray(image, 'uint8')"
        raise ImageReadError(msg)
    pixels = array[:, :, None] if array.ndim == 2 else array
    if pixels.ndim != 3 or pixels.dtype not in (np.uint8, np.uint16) or pixels.shape[2] not in (1, 2, 3, 4):
        msg = (
            f"an image array is (y, x) or (y, x, 1 to 4), uint8 or uint16; got {array.shape} {array.dtype}"
            f"{_CONVERTED.get(array.dtype.kind, '')}"
        )
        raise ImageReadError(msg)
    depth: Depth = "uint8" if pixels.dtype == np.uint8 else "uint16"
    if min(pixels.shape) < 1:
        msg = f"an image array has at least one pixel, got shape {array.shape}"
        raise ImageReadError(msg)
    wished = Size(None if scale is None else _exact(scale), long_side, size)
    if isinstance(preset, Preset) and settings:
        msg = "settings go over a preset given by name; give load_preset(name, settings) instead of both"
        raise PresetError(msg)
    chosen = preset if isinstance(preset, Preset) else load_preset(preset, settings)
    spec = ImageSpec(pixels.shape[0], pixels.shape[1], pixels.shape[2], depth)
    plan = Settings(chosen, wished).plan(spec, assess(pixels, spec))
    restored = restored_pixels(pixels, plan, Engine(threads=cores()))
    return restored[:, :, 0] if array.ndim == 2 else restored


def _exact(scale: float | Fraction) -> Fraction:
    try:
        # By its digits: 1.1 means eleven tenths, not the float nearest to it.
        return Fraction(str(scale))
    except ValueError as error:
        msg = f"a scale is a positive number, got {scale}"
        raise PlanError(msg) from error


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
