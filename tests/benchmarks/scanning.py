"""What the benchmarks of scans share: pages on the disk, clusters that are looked into, and what those took."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import tifffile
from distributed import Client, Worker

from pipelines.cluster import Cluster, connected
from refine.preset import load_preset
from refine.settings import Settings

TILE = 512
WORKERS = 2
SETTINGS = Settings(load_preset("archive", {"sharpen.amount": "0.5"}))
"""The preset of archives with a little sharpening: the least program that computes something."""


def page(path: Path, height: int, width: int, channels: int = 1) -> Path:
    """A page of 16 bit as an uncompressed BigTIFF of tiles: lines of print, a ramp, grain; never held whole."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:TILE, :TILE]
    print_like = ((x // 7 + y // 11) % 3 == 0) * (y % 32 < 18)
    grains = rng.normal(0, 500, (8, TILE, TILE, channels))
    tiles = [np.clip(52_000 - 38_000 * print_like[..., None] + grain, 0, 65_535).astype("uint16") for grain in grains]
    count = -(-height // TILE) * -(-width // TILE)
    tifffile.imwrite(
        path,
        (tiles[n * 5 % 8] for n in range(count)),
        shape=(height, width, channels) if channels > 1 else (height, width),
        dtype="uint16",
        tile=(TILE, TILE),
        photometric="rgb" if channels == 3 else "minisblack",
        bigtiff=True,
        resolution=(600, 600),
    )
    return path


@dataclass(frozen=True, slots=True)
class Spent:
    """What processes took for a piece of work."""

    cpu_s: float
    """CPU seconds of all workers and of their children."""
    peaks: tuple[int, ...]
    """Bytes: peak resident memory of each worker."""
    children: tuple[int, ...]
    """Bytes: that of each worker's children, added up."""
    driver: int
    """Bytes: that of this process."""
    sent: int
    """Bytes that workers sent to one another."""


@contextmanager
def cluster(threads: int = WORKERS) -> Iterator[tuple[Client, Cluster]]:
    """Fresh workers as a job starts them: a client, and what a job is told."""
    with connected(Cluster(workers=threads)) as client:
        yield client, Cluster(address=client.scheduler.address)


def measured(client: Client, work: Callable[[], object]) -> Spent:
    """Do it, and see what the processes took."""
    before = client.run(_state)
    _forget_peak(os.getpid())
    work()
    after = client.run(_state)
    return Spent(
        sum(after[w][0] - before[w][0] for w in after),
        tuple(found[1] for found in after.values()),
        tuple(found[2] for found in after.values()),
        _peak(os.getpid()),
        sum(after[w][3] - before[w][3] for w in after),
    )


def _state(dask_worker: Worker) -> tuple[float, int, int, int]:
    """Of a worker: CPU seconds with its children, its peak, theirs, bytes sent. dask fills in the argument."""
    me = psutil.Process()
    below = me.children(recursive=True)
    times = [process.cpu_times() for process in (me, *below)]
    cpu = sum(t.user + t.system for t in times) + times[0].children_user + times[0].children_system
    sent = int(dask_worker.transfer_outgoing_bytes_total)
    return cpu, _peak(me.pid), sum(_peak(child.pid) for child in below), sent


def _peak(pid: int) -> int:
    """VmHWM, bytes. Not ru_maxrss: that of the process which started it is counted in."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def _forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
