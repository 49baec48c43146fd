# mypy: allow-untyped-calls
# dask annotates half of what it has.
"""A restored image as a dask.array, for notebooks: nothing is computed but what is sliced."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import dask.array as da
import numpy as np

from pipelines.sources import source_of
from refine.assess import assess
from refine.chain import Chain
from refine.errors import PlanError
from refine.plan import Plan, planned
from refine.session import Engine
from refine.settings import Settings, Size
from refine.spec import ImageSpec, Pixels
from refine.tiles import restored_window
from refine.window import Window


def restored(
    source: Path | str, chain: Chain | Settings | None = None, *, size: tuple[int, int] | None = None, tile: int = 1024
) -> da.Array:
    """The restored image of a file or zarr as a dask.array (y, x, c) of its own depth, in chunks of `tile` px.

    chain is a Chain, which makes `size` (height, width, px; its own whole factor without it), or Settings, by which the
    image is assessed now. A slice reads and restores the tiles it touches, each from its own window of the source, so
    they equal the whole image; profile and metadata do not travel along. Sources that cannot be read in place are
    decoded anew for each tile: ingest those with `refine scan`.

    Raises ImageReadError, ChainError or PlanError where it cannot be done.

    >>> import numpy, tempfile, imageio.v3
    >>> from refine.sharpen import UnsharpMask
    >>> path = Path(tempfile.mkdtemp()) / "flat.tif"
    >>> imageio.v3.imwrite(path, numpy.full((300, 200, 3), 255, numpy.uint8))
    >>> restored(path, Chain((UnsharpMask(),)), tile=128)[250:300, 150:160].compute().mean()
    np.float64(255.0)
    """
    found = source_of(Path(source))
    plan = _plan(found.spec, cast("Pixels", found.opened()), chain or Settings(), size, tile)
    chunks = tuple(tuple(min(tile, length - start) for start in range(0, length, tile)) for length in plan.output)
    array: da.Array = da.map_blocks(
        partial(_tile, found, plan),
        chunks=(*chunks, (plan.result.channels,)),
        dtype=plan.dtype,
        meta=np.empty((0, 0, 0), plan.dtype),
    )
    return array


def _plan(spec: ImageSpec, pixels: Pixels, chain: Chain | Settings, size: tuple[int, int] | None, tile: int) -> Plan:
    if isinstance(chain, Chain):
        return planned(chain, spec, size or (spec.height * chain.scale, spec.width * chain.scale), tile=tile)
    if size is not None and chain.size != Size():
        msg = "a size is given with the settings or beside them: give one of them"
        raise PlanError(msg)
    # A chunk is a tile, whatever the preset has them be.
    preset = replace(chain.preset, plan=replace(chain.preset.plan, tile=tile))
    settings = Settings(preset, chain.size if size is None else Size(exact=size), chain.reference)
    return settings.plan(spec, assess(pixels, spec))


def _tile(source: Any, plan: Plan, block_info: dict[Any, Any]) -> Pixels:  # noqa: ANN401  dask passes it
    (y0, y1), (x0, x1), _ = block_info[None]["array-location"]
    return restored_window(cast("Pixels", source.opened()), plan, Window(y0, x0, y1, x1), Engine())
