"""A scan beside what dask has for the same: `map_overlap` over the same tiles, and `store` into zarr."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from distributed import Client
from scanning import SETTINGS, Spent, cluster, measured, page
from tables import write_table
from zarr.codecs import BloscCodec, Crc32cCodec

from pipelines import omezarr, sources
from pipelines.pyramid import CHUNK
from pipelines.scan import scan
from refine.assess import assess
from refine.plan import Plan
from refine.spec import Pixels
from refine.tiles import restored_window
from refine.window import Window

pytestmark = pytest.mark.bench

SIDES = (8192,)


class _Shifted:
    """A block with its halo, as if it were the whole image; only what it holds can be read."""

    def __init__(self, block: Pixels, y: int, x: int, shape: tuple[int, int, int]) -> None:
        self._block, self._y, self._x = block, y, x
        self.shape, self.dtype = shape, block.dtype

    def __getitem__(self, window: tuple[slice, slice]) -> Pixels:
        rows, columns = window
        found = self._block[
            rows.start - self._y : rows.stop - self._y, columns.start - self._x : columns.stop - self._x
        ]
        assert found.shape[:2] == (rows.stop - rows.start, columns.stop - columns.start)
        return found


class _Planes:
    """A source as `dask.array.from_array` takes it."""

    def __init__(self, source: sources.Source) -> None:
        self._opened = source.bare.opened()
        self.shape, self.dtype, self.ndim = self._opened.shape, self._opened.dtype, 3

    def __getitem__(self, window: tuple[slice, slice, slice]) -> Pixels:
        return self._opened[window[:2]]


def _restored(block: Pixels, plan: Plan, depth: int, block_info: Any = None) -> Pixels:
    row, column, _ = block_info[0]["chunk-location"]
    y, x = row * plan.tile, column * plan.tile
    tile = Window(y, x, min(y + plan.tile, plan.output[0]), min(x + plan.tile, plan.output[1]))
    source = _Shifted(block, max(y - depth, 0), max(x - depth, 0), plan.source.shape)
    return restored_window(source, plan, tile)


def by_overlap(client: Client, path: Path, target: Path) -> None:
    """The same chain by `map_overlap` and `store`: a shard a block, the codecs of a scan; no pyramid, no record."""
    source = sources.source_of(path)
    spec = source.spec
    plan = SETTINGS.plan(spec, assess(source.opened(), spec))
    reads = [(tile, block.read) for tile in plan.tiles() for block in plan.blocks(tile)]
    depth = max(max(t.y0 - r.y0, t.x0 - r.x0, r.y1 - t.y1, r.x1 - t.x1) for t, r in reads)
    plane = da.from_array(_Planes(source), (plan.tile, plan.tile, spec.channels), asarray=False, name="source")
    halo = da.overlap.overlap(plane, depth={0: depth, 1: depth}, boundary="none")
    empty = np.empty((0, 0, 0), plan.dtype)
    # The two halves of map_overlap apart: a block must know where it lies.
    made = da.map_blocks(_restored, halo, plan, depth, dtype=plan.dtype, chunks=plane.chunks, meta=empty)
    shard, inner = (plan.tile, plan.tile, spec.channels), (CHUNK, CHUNK, spec.channels)
    codecs = [BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"), Crc32cCodec()]
    array = zarr.create_array(
        target, shape=spec.shape, dtype=plan.dtype, chunks=inner, shards=shard, compressors=codecs
    )
    client.compute(da.store(made, array, lock=False, compute=False), sync=True)


def test_scan_beside_map_overlap(tmp_path: Path) -> None:
    """Write the table of both on the same pages, in turn."""
    rows = []
    for side in SIDES:
        path = page(tmp_path / "page.tif", side, side)
        ours, theirs = tmp_path / "ours.zarr", tmp_path / "theirs.zarr"
        works: dict[str, Callable[..., object]] = {
            "scan": lambda _, place, of=path, to=ours: scan(of, to, SETTINGS, place, quiet=True),
            "map_overlap + store": lambda client, _, of=path, to=theirs: by_overlap(client, of, to),
        }
        for name, work in works.items():
            with cluster() as (client, place):
                started, cpu = time.perf_counter(), time.process_time()
                spent = measured(client, lambda work=work, client=client, place=place: work(client, place))
                rows.append(_row(side, name, spent, time.perf_counter() - started, time.process_time() - cpu))
        level, other = omezarr.opened(ours), zarr.open_array(theirs, mode="r")
        for y in range(0, side, 1024):
            assert np.array_equal(level[y : y + 1024, :], other[y : y + 1024])
        for target in (ours, theirs):
            shutil.rmtree(target)
    header = ("side, px", "by", "wall, s", "CPU of workers, s", "of the driver, s", "peaks of workers, MB",
              "decoders, MB", "driver, MB", "between workers, MB")  # fmt: skip
    notes = (
        "The same page (16-bit grey), plan, tiles, codecs and two fresh workers of one thread, in turn; the "
        "pixels of both are equal. The scan also assesses on a worker, writes all levels of its pyramid, waits for the "
        "disk, keeps a ledger and digests source and result; the other assesses in the driver, and does none of that."
    )
    print(write_table("scan-overlap", "A scan beside map_overlap and store", header, rows, notes))


def _row(side: int, name: str, spent: Spent, wall: float, cpu: float) -> tuple[str, ...]:
    peaks, children = (
        ", ".join(f"{one / 1e6:.0f}" for one in sorted(found)) for found in (spent.peaks, spent.children)
    )
    figures = (f"{wall:.1f}", f"{spent.cpu_s:.1f}", f"{cpu:.1f}", peaks, children)
    return (f"{side:,}", name, *figures, f"{spent.driver / 1e6:.0f}", f"{spent.sent / 1e6:.1f}")
