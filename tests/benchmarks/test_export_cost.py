"""What exports cost: a pyramidal TIFF by compression, depth and size, Deep Zoom, and the tiles of the viewer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from skimage import data
from tables import cpu_seconds, write_table

from pipelines import omezarr
from pipelines.view import serve
from refine.spec import ImageSpec
from refine.window import Window

pytestmark = pytest.mark.bench

_TILE = 2048
_CASES = {"grey, 16 bit": (1, "uint16"), "RGB, 8 bit": (3, "uint8"), "RGB, 16 bit": (3, "uint16")}
_KINDS = {"none": "TIFF", "zstd": "TIFF, zstd", "deflate": "TIFF, deflate", "dzi": "Deep Zoom"}
_EXPORT = """
import sys, time
from pathlib import Path
from pipelines import bigtiff, deepzoom, omezarr
from refine.spec import ImageSpec
kind, group, out, threads = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
found = omezarr.pyramid(group)
spec = ImageSpec(found.height, found.width, found.channels, found.dtype)

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024

before, wall, cpu = peak(), time.perf_counter(), time.process_time()
if kind == "dzi":
    deepzoom.export(group, out, spec, threads=threads)
else:
    bigtiff.export(group, out, spec, compression=kind, threads=threads)
print(time.perf_counter() - wall, time.process_time() - cpu, peak() - before)
"""


def photo(channels: int, dtype: str) -> np.ndarray:
    """A photograph of one tile, with the noise that 16 bits have in their last ones."""
    pixels = np.tile(data.astronaut(), (_TILE // 512, _TILE // 512, 1))[..., :channels]
    if dtype == "uint8":
        return np.ascontiguousarray(pixels)
    noise = np.random.default_rng(0).integers(0, 400, pixels.shape, dtype=np.uint16)
    return pixels.astype(np.uint16) * 250 + noise


def target(folder: Path, side: int, channels: int, dtype: str) -> Path:
    """An image of side x side px (a power of two times a tile), each of whose shards is a link to one of few files."""
    spec = ImageSpec(side, side, channels, dtype)
    (group,) = omezarr.create(folder, [spec], _TILE)
    pyramid = omezarr.pyramid(group)
    pixels = photo(channels, dtype)
    first = Window(0, 0, _TILE, _TILE)
    omezarr.write_tile(group, pyramid, first, pixels)
    for level in range(pyramid.own):
        for one in list(pyramid.shards(level))[1:]:
            step = pyramid.side(level)
            path = omezarr.shard_path(group, level, one.window.y0 // step, one.window.x0 // step)
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(omezarr.shard_path(group, level, 0, 0), path)
    for level in omezarr.upper(pyramid):
        for one in level:
            omezarr.write_upper(group, pyramid, one)
    return group


def exported(kind: str, group: Path, out: Path, threads: int) -> tuple[float, float, float]:
    """Wall and CPU seconds and the growth of the process, MB, of one export in a process of its own."""
    command = [sys.executable, "-c", _EXPORT, kind, str(group), str(out), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    wall, cpu, grown = map(float, done.stdout.split())
    return wall, cpu, grown


def plain_s(path: Path, nbytes: int) -> float:
    """Wall seconds in which the disk takes that many bytes from memory, in one file, and nothing else is done."""
    piece = np.random.default_rng(0).bytes(1 << 22)
    started = time.perf_counter()
    with path.open("wb") as file:
        for _ in range(nbytes // len(piece)):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - started
    path.unlink()
    return seconds


def test_export_cost(tmp_path: Path) -> None:
    """Write the table of exports by kind, depth and size."""
    rows = []
    # A file system in memory shows what the export itself takes, whatever the disk does.
    memory = Path("/dev/shm")  # noqa: S108  mkdtemp makes a name of its own there
    fast = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else tmp_path))
    for name, (channels, dtype) in _CASES.items():
        for side in (4096, 8192, 16384) if channels == 1 else (8192,):
            group = target(tmp_path / f"{name}-{side}.zarr", side, channels, dtype)
            kinds = _KINDS if side == 8192 else ("none",)
            for kind in kinds:
                out = tmp_path / f"out.{'dzi' if kind == 'dzi' else 'tif'}"
                wall, cpu, grown = exported(kind, group, out, 2)
                mpx = side * side / 1e6
                folder = tmp_path / "out_files"
                stored = sum(p.stat().st_size for p in folder.rglob("*.*")) if kind == "dzi" else out.stat().st_size
                subprocess.run(["rm", "-rf", out, folder], check=True)
                there = exported(kind, group, fast / out.name, 2)[0]
                shutil.rmtree(fast)
                fast.mkdir()
                ratio = stored / (side * side * channels * np.dtype(dtype).itemsize)
                alone = mpx / plain_s(tmp_path / "plain", stored)
                speeds = (f"{mpx / there:.0f}", f"{mpx / wall:.0f}", "" if kind == "dzi" else f"{alone:.0f}")
                figures = (*speeds, f"{1e9 * cpu / side / side:.1f}", f"{grown:.0f}", f"{ratio:.2f}")
                rows.append((name, f"{side:,}", _KINDS[kind], *figures))
            shutil.rmtree(group)
    fast.rmdir()
    header = (
        "image",
        "side, px",
        "export",
        "Mpx/s to memory",
        "to disk",
        "disk alone",
        "CPU, ns/px",
        "growth, MB",
        "bytes / raw bytes",
    )
    notes = (
        "px of level 0; all levels are written, by 2 threads. Disk alone: as many bytes written in one file and waited "
        "for. Growth: peak of the process above what it takes without work."
    )
    print(write_table("export-cost", "Exports of a finished image", header, rows, notes))


def test_view_cost(tmp_path: Path) -> None:
    """Write the table of one tile of the viewer."""
    rows = []
    for name, (channels, dtype) in _CASES.items():
        group = target(tmp_path / f"{name}.zarr", 4096, channels, dtype)
        with serve(group) as serving:
            page = serving._server.pages[0]
            (spent,) = cpu_seconds(lambda page=page: page.tile("after", 0, 1, 1))
            rows.append((name, f"{1e3 * spent:.1f}", f"{len(page.tile('after', 0, 1, 1)) / 1e3:.0f}"))
    header = ("image", "CPU, ms a tile", "kB")
    print(write_table("view-cost", "A tile of the viewer: read, 8 bit, JPEG", header, rows))
