"""What windows of a TIFF cost beside reading it whole, what ingesting costs, and the memory of the decoder's child."""

from __future__ import annotations

import itertools
import time
import zlib
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile
from skimage import data
from tables import write_table

from pipelines import ingest, sources
from refine.decoder import Decoder
from refine.limits import SCAN_LIMITS
from refine.window import Window, grid

pytestmark = pytest.mark.bench

_SIDE, _TILE, _HALO = 4096, 1024, 24
_KEEP_MEM = 8 << 20
"""Bytes of tiles kept: less than a row of windows needs, as for a large image."""
_HUGE = 32_768
_LAYOUTS = {
    "raw, one strip": {},
    "raw, strips of 8 rows": {"rowsperstrip": 8},
    "raw, tiles of 256": {"tile": (256, 256)},
    "LZW, strips of 8 rows": {"compression": "lzw", "predictor": True, "rowsperstrip": 8},
    "LZW, tiles of 512": {"compression": "lzw", "predictor": True, "tile": (512, 512)},
    "deflate, strips of 64 rows": {"compression": "zlib", "predictor": True, "rowsperstrip": 64},
    "deflate, tiles of 256": {"compression": "zlib", "predictor": True, "tile": (256, 256)},
    "deflate, tiles of 512": {"compression": "zlib", "predictor": True, "tile": (512, 512)},
    "deflate, tiles of 2048": {"compression": "zlib", "predictor": True, "tile": (2048, 2048)},
}


def test_source_cost(tmp_path: Path) -> None:
    """Write the table of CPU ns a source pixel: whole, in windows with and without kept tiles, and ingested."""
    tile = data.camera().astype(np.uint16) * 257
    grain = np.random.default_rng(0).integers(0, 300, (_SIDE, _SIDE), dtype=np.uint16)
    pixels = np.minimum(np.tile(tile, (_SIDE // 512, _SIDE // 512)), 65_000) + grain
    rows = []
    for name, options in _LAYOUTS.items():
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, pixels, photometric="minisblack", metadata=None, **options)
        with Decoder(SCAN_LIMITS) as decoder:
            spec, storage = decoder.storage(path)
            times = [
                _ns(decoder, lambda d=decoder, p=path: d.read(p)),
                *(_ns(decoder, lambda d=decoder, p=path, k=keep: _windows(d, p, k)) for keep in (_KEEP_MEM, 0)),
                _ns(decoder, lambda d=decoder, p=path: _ingested(d, p, tmp_path / "work")),
            ]
        kind, vain = sources.source_of(path).kind, sources.amplification(spec, storage)
        rows.append((name, kind, f"{vain:.1f}", *(f"{spent:.1f}" for spent in times)))
    header = (
        "layout",
        "kind",
        "amplification",
        "whole",
        "windows, neighbours' tiles kept",
        "windows, none kept",
        "ingest",
    )
    notes = (
        f"Grey, 16 bit, {_SIDE} px a side; windows of {_TILE} px with a halo of {_HALO}. ns of CPU a source pixel, both"
        " processes together, handing over included; ingest with checksums, digests and fsync, without the assessment."
    )
    print(write_table("source-cost", "Windows of a TIFF, beside the whole and ingest", header, rows, notes))
    sources.decoder(SCAN_LIMITS).close()


def test_source_memory(tmp_path: Path) -> None:
    """Write the table of what the child holds while windows of a huge TIFF are read."""
    rows = []
    for name, high, wide in (("tiles of 512", 512, 512), ("strips of 8 rows", 8, _HUGE), ("raw", _HUGE, _HUGE)):
        path = tmp_path / "huge.tif"
        options = {"shape": (_HUGE, _HUGE), "dtype": np.uint16, "metadata": None, "photometric": "minisblack"}
        if name == "raw":
            tifffile.imwrite(path, **options)
        else:
            blocks = itertools.repeat(zlib.compress(bytes(high * wide * 2)), (_HUGE // high) * (_HUGE // wide))
            layout = {"tile": (high, wide)} if wide < _HUGE else {"rowsperstrip": high}
            tifffile.imwrite(path, blocks, compression="zlib", **layout, **options)
        with Decoder(SCAN_LIMITS) as decoder:
            decoder.spec(path)
            child = psutil.Process(decoder._child.pid)
            rest, most = child.memory_info().rss, 0
            for y, x in itertools.product(range(0, 8192, _TILE), repeat=2):
                decoder.window(path, Window(y, x, y + _TILE + 48, x + _TILE + 48))
                most = max(most, child.memory_info().rss)
            spec, storage = decoder.storage(path)
            decoder.rest()
            kept, band = ingest.kept_mem(spec, storage), 0
            for y in range(0, 4096, ingest.SHARD):
                decoder.window(path, Window(y, 0, y + ingest.SHARD, _HUGE), keep_mem=kept)
                band = max(band, child.memory_info().rss)
        rows.append((name, *(f"{nbytes / 1e6:.0f}" for nbytes in (rest, most - rest, band - rest))))
        path.unlink()
    header = ("layout", "at rest, MB", "windows, MB more", "bands of 512 rows, MB more")
    notes = f"Grey, 16 bit, {_HUGE} px a side: 2,147 MB of pixels. Resident memory of the child after each window."
    print(write_table("source-memory", "Memory of the decoder's child on a huge TIFF", header, rows, notes))


def _windows(decoder: Decoder, path: Path, keep_mem: int) -> None:
    decoder.rest()
    whole = Window(0, 0, _SIDE, _SIDE)
    for tile in grid(_SIDE, _SIDE, _TILE):
        decoder.window(path, tile.grow(_HALO).clip(whole), keep_mem=keep_mem)


def _ingested(decoder: Decoder, path: Path, work: Path) -> None:
    decoder.rest()
    (work / "source.journal").unlink(missing_ok=True)
    spec, storage = decoder.storage(path)
    array, _ = ingest._begun(work, spec, ingest.Origin("a", 1, 2, "", ""))
    intake = ingest._Intake(path, spec, storage, decoder, work / "source.zarr", array)
    for slab in ingest.slabs(spec, storage):
        intake.taken(slab)


def _ns(decoder: Decoder, work: object) -> float:
    """CPU ns a pixel, the best of two runs, those of the child included."""
    decoder.rest()
    child = psutil.Process(decoder._child.pid)

    def now() -> float:
        times = child.cpu_times()
        return time.process_time() + times.user + times.system

    spent = []
    for _ in range(2):
        start = now()
        work()
        spent.append(now() - start)
    return 1e9 * min(spent) / _SIDE**2
