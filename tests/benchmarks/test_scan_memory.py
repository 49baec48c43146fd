"""Peak memory of a scan's workers as the page grows, against what the plan says."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from scanning import SETTINGS, cluster, measured, page
from tables import write_table

from pipelines import sources
from pipelines.scan import scan

pytestmark = pytest.mark.bench

SIZES = [
    (4096, 4096, 1),
    (8192, 8192, 1),
    (16384, 16384, 1),
    (16384, 16384, 3),
    (2000, 100_000, 1),
    (32768, 32768, 1),
]
"""Height, width, channels."""


def test_scan_memory(tmp_path: Path) -> None:
    """Write the table of workers' peaks by the size of the page."""
    rows = []
    for height, width, channels in SIZES:
        path = page(tmp_path / "page.tif", height, width, channels)
        target = tmp_path / "page.zarr"
        spec = sources.source_of(path).spec
        with cluster() as (client, place):
            started = time.monotonic()
            spent = measured(client, lambda to=target, at=place, of=path: scan(of, to, SETTINGS, at, quiet=True))
            wall = time.monotonic() - started
        plan = SETTINGS.plan(spec)
        peaks = ", ".join(f"{peak / 1e6:.0f}" for peak in sorted(spent.peaks))
        children = ", ".join(f"{peak / 1e6:.0f}" for peak in sorted(spent.children))
        bound, driver = f"{plan.projected_mem / 1e6:.0f}", f"{spent.driver / 1e6:.0f}"
        kind = "grey" if channels == 1 else "RGB"
        size = (f"{width:,} x {height:,}", kind, f"{plan.tile_count}")
        rows.append((*size, peaks, bound, children, driver, f"{wall:.0f}"))
        header = ("page, px", "16 bit", "tiles", "peak, MB", "plan, MB", "children, MB", "driver, MB", "wall, s")
        notes = (
            "Peak resident memory (VmHWM) of each of two fresh workers over one whole scan: preset archive with "
            "sharpen.amount = 0.5, tiles of 2048 px, source an uncompressed tiled BigTIFF read in place. Children: the "
            "decoder of each worker, apart. Driver: the process with the scheduler in it; it sees facts, no pixels."
        )
        print(write_table("scan-memory", "Memory of a scan's workers", header, rows, notes))
        path.unlink()
        shutil.rmtree(target)
