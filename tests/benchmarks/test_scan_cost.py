"""Where the time of a scan's workers goes, ns per px of the result: reading, program, writing, pyramid."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import pytest
from distributed import Worker
from scanning import SETTINGS, cluster, measured, page
from tables import write_table

from pipelines import bigtiff, omezarr, pagetasks, pyramid, shard
from pipelines.scan import scan
from refine import tiles
from refine.spec import ImageSpec

pytestmark = pytest.mark.bench

SIDE = 8192
_PARTS = (
    *("take in", "read", "program", "write", "of it: chunks", "pyramid of the tile", "written beside level 0"),
    *("upper levels", "task"),
)


def _watch(dask_worker: Worker) -> None:
    """Have this worker note what each part of its tasks takes: wall seconds, and CPU seconds of its thread."""
    spent = dask_worker.spent = Counter()
    under, here = [], threading.local()

    def watched(name: str, work: Callable[..., object]) -> Callable[..., object]:
        @wraps(work)
        def timed(*args: object, **others: object) -> object:
            part = name
            if name == "write" and args[2].level:
                part = "written beside level 0" if not under else "upper levels, writing"
            elif name == "halved" and under:
                part = "upper levels, halving"
            elif name == "halved":
                part = "pyramid of the tile"
            elif name == "of it: chunks" and (under or getattr(here, "level", 0)):
                part = "other chunks"
            if name == "write":
                here.level = args[2].level
            under.append(1) if name == "upper levels" else None
            wall, cpu = time.perf_counter(), time.thread_time()
            try:
                return work(*args, **others)
            finally:
                spent[part, "wall"] += time.perf_counter() - wall
                spent[part, "cpu"] += time.thread_time() - cpu
                under.pop() if name == "upper levels" else None

        return timed

    for module, name, part in (
        (pagetasks, "_taken_in", "take in"),
        (tiles, "read_mirrored", "read"),
        (tiles, "run", "program"),
        (omezarr, "_written", "write"),
        (shard, "_encoded", "of it: chunks"),
        (pyramid, "halved", "halved"),
        (omezarr, "_awaited", "pyramid of the tile"),
        (omezarr, "write_upper", "upper levels"),
        (pagetasks, "_done", "task"),
    ):
        setattr(module, name, watched(part, getattr(module, name)))


def _seen(dask_worker: Worker) -> Counter[tuple[str, str]]:
    return dask_worker.spent


def test_scan_cost(tmp_path: Path) -> None:
    """Write the table of a scan's parts, and the speed of the export of what it made."""
    path, target = page(tmp_path / "page.tif", SIDE, SIDE), tmp_path / "page.zarr"
    with cluster() as (client, place):
        client.run(_watch)
        started = time.perf_counter()
        took = measured(client, lambda: scan(path, target, SETTINGS, place, quiet=True))
        wall = time.perf_counter() - started
        spent = sum(client.run(_seen).values(), Counter[tuple[str, str]]())
    per_px = 1e9 / SIDE / SIDE
    task = spent["task", "wall"]
    rows = [
        (part, *(f"{spent[part, kind] * per_px:.1f}" for kind in ("wall", "cpu")), f"{spent[part, 'wall'] / task:.1%}")
        for part in _PARTS
    ]
    pyramid = sum(spent[part, "wall"] for part in ("pyramid of the tile", "upper levels"))
    rows.append(("pyramid, all of it", f"{pyramid * per_px:.1f}", "", f"{pyramid / task:.1%}"))
    rows.append(("workers with their decoders, CPU", "", f"{took.cpu_s * per_px:.1f}", ""))
    rows.append(("the whole scan", f"{wall * per_px:.1f}", "", ""))
    started, cpu = time.perf_counter(), time.process_time()
    bigtiff.export(target, tmp_path / "page.tif2", ImageSpec(SIDE, SIDE, 1, "uint16"))
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    rows.append(("export to BigTIFF", f"{seconds * per_px:.1f}", f"{cpu * per_px:.1f}", ""))
    notes = (
        f"{SIDE} x {SIDE} px, 16-bit grey, archive with sharpen.amount = 0.5, two workers; wall seconds of the two are "
        "added up, and waits for the disk and for other programs of this machine are in them. Read: with the decoder's "
        "process waited for. Pyramid of the tile: halving, and waiting for the levels that are written beside level 0. "
        f"BigTIFF: {SIDE * SIDE / seconds / 1e6:.0f} Mpx/s by the clock, "
        f"{2 * SIDE * SIDE / cpu / 1e6:.0f} Mpx/s were both cores free."
    )
    header = ("part", "wall, ns/px", "CPU of its thread, ns/px", "share of the tasks' wall")
    print(write_table("scan-cost", "Parts of a scan", header, rows, notes))
