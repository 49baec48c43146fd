"""Peak memory of a scan's workers as the page grows, against what the plan says."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from scanning import SETTINGS, cluster, measured, page
from tables import write_table

from pipelines import scan as scan_job
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
SIDE = 8192
INGESTED = {
    "JPEG, grey": (1, "jpeg"),
    "JPEG, RGB": (3, "jpeg"),
    "TIFF, one strip, deflate, 16-bit grey": (1, SIDE),
    "TIFF, one strip, deflate, 16-bit RGB": (3, SIDE),
    "TIFF, strips of 2048 rows, deflate, 16-bit RGB": (3, 2048),
}
"""Sources that are ingested: channels, and the format or rows of a strip."""


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


def stored(path: Path, channels: int, how: str | int) -> Path:
    """A page that is ingested: lines of print with the grain of a scanner."""
    page(path.with_suffix(".raw"), SIDE, SIDE, channels)
    pixels = tifffile.imread(path.with_suffix(".raw"))
    path.with_suffix(".raw").unlink()
    if how == "jpeg":
        path.write_bytes(imagecodecs.jpeg8_encode((pixels >> 8).astype(np.uint8), level=92))
    else:
        photometric = "rgb" if channels == 3 else "minisblack"
        tifffile.imwrite(path, pixels, rowsperstrip=how, compression="zlib", photometric=photometric)
    return path


def test_scan_ingest_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the table of peaks beside what is told, of sources that are decoded once before."""
    rows, said = [], list[str]()
    monkeypatch.setattr(scan_job.logger, "warning", lambda line, *facts: said.append(line % facts))
    for name, (channels, how) in INGESTED.items():
        path, target = stored(tmp_path / "page", channels, how), tmp_path / "page.zarr"
        with cluster() as (client, place):
            spent = measured(client, lambda to=target, at=place, of=path: scan(of, to, SETTINGS, at, quiet=True))
        worker, decoder = map(int, re.search(r"(\d+) MB a worker and (\d+) MB its decoder", said[-1]).groups())
        peaks = (max(spent.peaks) / 1e6, max(spent.children) / 1e6)
        rows.append(
            (name, f"{peaks[0]:.0f}", f"{worker}", f"{peaks[1]:.0f}", f"{decoder}", f"{spent.driver / 1e6:.0f}")
        )
        path.unlink()
        shutil.rmtree(target)
        assert peaks[0] <= worker
        assert peaks[1] <= decoder
    header = ("source", "worker, MB", "told, MB", "its decoder, MB", "told, MB", "driver, MB")
    notes = (
        f"Peak resident memory (VmHWM) of two fresh workers over one whole scan of {SIDE} x {SIDE} px: the greater of "
        "the two, and of their decoders, beside what the scan tells before its first tile. Preset as for pages that "
        "are read in place."
    )
    print(write_table("scan-ingest-memory", "Memory of a scan that decodes its source first", header, rows, notes))
