"""What a plan's result is as a file."""

from __future__ import annotations

from dataclasses import replace

from refine.plan import Plan
from refine.settings import Settings
from refine.spec import ImageSpec

TIFF_TILE = 512
"""px of a tile of a TIFF: what viewers like, whatever the plan's tile is."""


def output_spec(plan: Plan) -> ImageSpec:
    """The spec of a plan's result: the source's profile and resolution, upright."""
    height, width = plan.output
    return replace(plan.source, height=height, width=width, dtype=plan.dtype, orientation=1, page=0)


def output_format(settings: Settings, spec: ImageSpec) -> str:
    """The file format of the result of an image."""
    wished = settings.preset.output.format
    return spec.format if wished == "source" else wished
