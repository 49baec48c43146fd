"""What a catalog's run would do, without doing it."""

from __future__ import annotations

import os
import shutil
from typing import Literal

from pipelines.catalog import Night, Terms
from pipelines.forecast import Forecast, forecast
from pipelines.inventory import listing
from pipelines.items import Common
from pipelines.naming import Rendition
from pipelines.place import place_of
from pipelines.targets import target_of
from refine.limits import Limits
from refine.session import Engine
from refine.settings import Settings


def foreseen(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    settings: Settings,
    renditions: tuple[Rendition, ...],
    to: Literal["files", "zarr"] = "files",
) -> Forecast:
    """What `catalog` would do. Where there is no TARGET yet, none is left."""
    goes_to = target_of(target, to)
    night = Night(listing(source), settings, Terms(renditions, to=to), Common(Engine(), Limits(), goes_to))
    fresh = goes_to.folder is not None and not goes_to.folder.exists()
    try:
        with night.planned() as plan:
            return forecast(plan, place_of(night.found.root), night.found.skipped)
    finally:
        if fresh and goes_to.folder is not None:
            shutil.rmtree(goes_to.folder, ignore_errors=True)
