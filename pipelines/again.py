"""A run to be done again from its record: with its source, its settings and its target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Literal, cast

from pipelines.brake import Tolerance, tolerance
from pipelines.errors import JobError
from pipelines.naming import Rendition
from pipelines.runs import Run
from refine.errors import RefineError
from refine.look import Look
from refine.preset import Preset, adjusted
from refine.settings import Settings, Size

To = Literal["files", "zarr"]


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked of a run, in the form in which it can be asked again."""

    settings: Settings
    """What is done."""
    renditions: tuple[Rendition, ...]
    """The results of each source."""
    to: To
    """What results are."""
    provider: str
    """What computes."""
    max_failures: Tolerance | None = None
    """How many images may fail before it stops; None for any number."""


def packed(wish: Wish) -> dict[str, Any]:
    """A wish as JSON values."""
    settings, size = wish.settings, wish.settings.size
    return {
        "preset": asdict(settings.preset),
        "size": {"scale": size.scale and str(size.scale), "long_side": size.long_side, "exact": size.exact},
        "reference": settings.reference and settings.reference.as_json(),
        "renditions": [asdict(rendition) for rendition in wish.renditions],
        "to": wish.to,
        "provider": wish.provider,
        "max_failures": wish.max_failures and str(wish.max_failures),
    }


def unpacked(run: Run) -> Wish:
    """The wish of a run. Raises JobError where its record is of another version, whose settings mean nothing here."""
    asked = run.settings
    try:
        size = asked["size"]
        made = Settings(
            adjusted(Preset(), dict(_leaves(asked["preset"])), "the record of the last run"),
            Size(
                size["scale"] and Fraction(size["scale"]),
                size["long_side"],
                size["exact"] and (size["exact"][0], size["exact"][1]),
            ),
            asked["reference"] and Look.from_json(asked["reference"]),
        )
        renditions = tuple(Rendition(**one) for one in asked["renditions"])
        allowed = asked.get("max_failures")  # records of earlier versions have none
        return Wish(
            *(made, renditions, cast("To", asked["to"]), asked["provider"]), tolerance(allowed) if allowed else None
        )
    except (RefineError, KeyError, TypeError, ValueError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise JobError(f"the record of the last run cannot be used ({said}); use `refine catalog` itself") from error


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by dotted keys, those of renditions apart: they have been taken out already."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        elif name != "renditions":
            yield f"{prefix}{name}", list(value) if isinstance(value, tuple) else value
