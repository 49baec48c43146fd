"""What an image needs, for the jobs: measured from its file or its working array, decided, and told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.travel import Travelling
from refine.assess import assess
from refine.assessment import Assessment, Estimate
from refine.decide import Decision
from refine.decoder import Decoder
from refine.errors import ImageReadError
from refine.look import Look
from refine.sampling import sample_windows
from refine.spec import ImageSpec, Pixels
from refine.window import Window

_WHOLE = 200_000_000
"""Bytes. A file whose pixels take more is read band by band, and only the windows that are looked at are kept."""
_BAND = 512
"""Rows of a band."""


@dataclass(frozen=True, slots=True)
class Need(Travelling):
    """What was found of one image and what was decided, as the ledger holds it: JSON values only.

    The reasons are not kept: they follow from these and the settings, by `refine.decide`.
    """

    decision: str
    """In one word."""
    strengths: dict[str, float]
    """By setting."""
    measured: dict[str, float | None]
    """What was measured, by the names of `Assessment`; None where it cannot be told."""


def need(decision: Decision, found: Assessment) -> Need:
    """Assessment and decision in one."""
    return Need(decision.action, decision.strengths, measured(found))


def measured(found: Assessment) -> dict[str, float | None]:
    """The values that were measured, by their names."""
    return {name: estimate.value for name, estimate in _estimates(found)}


def flag(decision: Decision) -> str:
    """Why a result deserves a look; empty where it does not."""
    return decision.reasons[0] if decision.action == "too-weak" else ""


def packed(found: Assessment) -> dict[str, Any]:
    """An assessment as JSON values."""
    return asdict(found)


def unpacked(values: dict[str, Any]) -> Assessment:
    """The assessment of `packed`. Raises TypeError where it is none."""
    grid = values["jpeg_grid"]
    look = values["look"] and Look.from_json(values["look"])
    estimates: dict[str, Any] = {
        name: Estimate(**value) for name, value in values.items() if isinstance(value, dict) and name != "look"
    }
    found = Assessment(values["height"], values["width"], jpeg_grid=None if grid is None else (grid[0], grid[1]))
    return replace(found, look=look, **estimates)


def assess_file(decoder: Decoder, path: Path, spec: ImageSpec) -> Assessment:
    """Assess an image file of any size, in memory that does not grow with it. Raises ImageReadError."""
    if spec.nbytes <= _WHOLE:
        return assess(decoder.read(path).pixels, spec)
    return assess(_windows(decoder, path, spec), spec)


def reference_look(path: Path) -> Look:
    """The look of an image file, for others to be brought to. Raises ImageReadError where it has none."""
    with Decoder() as decoder:
        found = assess_file(decoder, path, decoder.spec(path)).look
    if found is None:
        raise ImageReadError(f"{path.name}: has too few opaque pixels to match others to; name another image")
    return found


def facts(path: str, spec: ImageSpec, found: Assessment, decision: Decision) -> dict[str, object]:
    """What `assess --json` says of one image."""
    return {
        "path": path,
        "height": spec.height,
        "width": spec.width,
        "effective_long_side": found.effective_long_side,
        "decision": decision.action,
        "reasons": list(decision.reasons),
        "strengths": decision.strengths,
        "overridden": list(decision.overridden),
        "honest_size": None if decision.honest is None else list(decision.honest),
        **measured(found),
        "noise_sigma": found.noise_luma.value,
        "jpeg_grid": None if found.jpeg_grid is None else list(found.jpeg_grid),
        "confidence": {name: estimate.confidence for name, estimate in _estimates(found)},
    }


def told(stated: dict[str, Any]) -> list[str]:
    """`facts` for people: what was measured, what was decided, and why."""
    lines = [f"{stated['path']}: {stated['width']} x {stated['height']} px: {meaning(stated['decision'])}"]
    for name, (label, unit) in _LABELS.items():
        doubt = " (roughly)" if stated["confidence"][name] == "fair" else ""
        lines.append(f"  {label:22} {_shown(name, stated[name], unit)}{doubt}")
    return [*lines, *(f"  - {reason}" for reason in stated["reasons"])]


def meaning(action: str) -> str:
    """A decision in words: `both (enlarged, then sharpened)`. Any other word stays as it is."""
    return f"{action} ({_MEANING[action]})" if action in _MEANING else action


def readings(measured: Mapping[str, object]) -> dict[str, object]:
    """Measured values for people, with their units, by what they are called. Others stay as they are, behind them."""
    told: dict[str, object] = {}
    for name, (label, unit) in _LABELS.items():
        value = measured.get(name, "")
        if value is None or isinstance(value, int | float):
            told[label] = _shown(name, value, unit)
    return told | {name: value for name, value in measured.items() if name not in _LABELS}


def _shown(name: str, value: float | None, unit: str) -> str:
    """A measured value for people. Shares that only round to none or all are not said to be that."""
    if value is None:
        return "cannot be told"
    if (name, value) in _UNTOUCHED:
        return "no traces"
    if unit != "%":
        return f"{value:g}{unit}"
    return "below 1%" if 0 < value < 0.01 else "above 99%" if 0.99 < value < 1 else f"{value:.0%}"


def _estimates(found: Assessment) -> Iterator[tuple[str, Estimate]]:
    for field in fields(found):
        if isinstance(value := getattr(found, field.name), Estimate):
            yield field.name, value


_MEANING: dict[str, str] = {
    "upscale": "enlarged, not sharpened",
    "sharpen": "sharpened, not enlarged",
    "both": "enlarged, then sharpened",
    "minimal": "touched up only",
    "none": "good as it is",
    "too-weak": "holds too little detail for that size",
}
"""What a decision means, for those who meet the word for the first time."""
_UNTOUCHED = (("enlarged", 1.0), ("jpeg_quality", 100.0))
"""Values that mean that nothing was done to the picture."""
_LABELS = {
    "effective": ("effective resolution", "%"),
    "enlarged": ("earlier enlargement", " times"),
    "blur_sigma": ("blur", " px"),
    "halo": ("halo", " % of an edge"),
    "noise_luma": ("noise of luma", " levels"),
    "noise_chroma": ("noise of colour", " levels"),
    "grain": ("grain", " of 1"),
    "jpeg_quality": ("JPEG quality", ""),
    "clipped_black": ("clipped to black", "%"),
    "clipped_white": ("clipped to white", "%"),
    "posterised": ("levels missing", "%"),
    "white_background": ("white along the border", "%"),
    "white_exact": ("exactly white there", "%"),
    "transparent": ("transparent", "%"),
    "text": ("text", "%"),
}
"""What measured values are called, and their units; "%" for shares."""


class _Windows:
    """The windows that an assessment looks at, kept while the bands of a file went by."""

    def __init__(self, held: dict[Window, Pixels]) -> None:
        self._held = held

    def __getitem__(self, index: tuple[slice, slice]) -> Pixels:
        rows, columns = index
        return self._held[Window(rows.start, columns.start, rows.stop, columns.stop)]


def _windows(decoder: Decoder, path: Path, spec: ImageSpec) -> _Windows:
    held = {
        window: np.empty((window.height, window.width, spec.channels), spec.dtype)
        for window in sample_windows(spec.height, spec.width)
    }
    y = 0
    for band in decoder.rows(path, _BAND, spec.page):
        for window, pixels in held.items():
            top, bottom = max(window.y0, y), min(window.y1, y + len(band))
            if top < bottom:
                pixels[top - window.y0 : bottom - window.y0] = band[top - y : bottom - y, window.x0 : window.x1]
        y += len(band)
    return _Windows(held)
