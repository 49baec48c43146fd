"""What driver and scheduler cost an image, apart from all work on it: batches of real items, work that waits.

Driver and scheduler are one process here, so its CPU seconds are those of both. The work waits instead of computing:
it takes its time, and takes none of the processor's.
"""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client, LocalCluster
from tables import write_table

from pipelines import manifest
from pipelines.assessing import Need
from pipelines.chances import asked_key
from pipelines.cluster import _CONFIG, _NO_PAGES
from pipelines.entries import done_record
from pipelines.items import Item, Receipt, Restore
from pipelines.place import Folder, Spot
from pipelines.run import streamed
from refine.preset import load_preset
from refine.settings import Settings, Size

pytestmark = pytest.mark.bench

SETTINGS = Settings(load_preset("balanced"), Size(long_side=2000))
NEED = Need(
    "both", {"sharpen.amount": 0.41, "sharpen.sigma": 1.2, "repair.noise": 2.1}, {f"value{n}": n / 7 for n in range(14)}
)
BATCH = 128
PLACE = Folder(Path("/srv/shop/photos"))


def item(number: int) -> Restore:
    """An image, as the feed hands it out."""
    path = f"shop{number % 97:02d}/product-{number:07d}.jpg"
    return Restore(path, Spot(PLACE, path), path, 123_456, 1_700_000_000_000_000_000, SETTINGS, key="ab" * 32)


def waited(items: tuple[Item, ...], seconds: float) -> tuple[Receipt, ...]:
    """What a worker answers, after so many seconds a batch."""
    time.sleep(seconds)
    return tuple(
        Receipt("a" * 64, 2_666_000, 900_000, f"{n:064x}", "refine-0.1/x", 0.4, need=NEED) for n in range(len(items))
    )


def batches(count: int, size: int) -> Any:
    """So many batches of real items."""
    for number in range(count):
        yield tuple(item(number * size + n) for n in range(size))


def driven(workers: int, threads: int, count: int, size: int, seconds: float) -> tuple[float, float, float]:
    """User and system CPU seconds of the driver's process, and wall seconds, of so many batches."""
    with (
        dask.config.set({**_CONFIG, **_NO_PAGES}),
        LocalCluster(
            n_workers=workers, threads_per_worker=threads, host="127.0.0.1", dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):  # fmt: skip
        client.run(time.time)
        list(streamed(client, batches(workers * threads, 1), partial(waited, seconds=0.0)))
        before, wall = os.times(), time.perf_counter()
        seen = sum(
            len(outcomes) for outcomes in streamed(client, batches(count, size), partial(waited, seconds=seconds))
        )
        assert seen == count * size
        after = os.times()
        return after.user - before.user, after.system - before.system, time.perf_counter() - wall


def committed(folder: Path, count: int) -> float:
    """CPU seconds of writing so many results into a ledger, batch by batch."""
    (receipt,) = waited((item(0),), 0.0)
    with manifest.opened(folder) as ledger:
        made = [[item(n * BATCH + m) for m in range(BATCH)] for n in range(count)]
        cpu = time.process_time()
        for group in made:
            ledger.commit([done_record(one, receipt, "", 0.4, 1, ()) for one in group])
        assert asked_key(made[0][0]) == "ab" * 32
        return time.process_time() - cpu


def test_scheduler_cost(tmp_path: Path) -> None:
    """Write the table of what an image costs the driver, and how well workers are kept busy."""
    rows = []
    for workers, threads, count, size, seconds, what in (
        (2, 1, 100, BATCH, 0.05, "2 workers, batches of 128"),
        (2, 1, 100, 32, 0.05, "2 workers, batches of 32"),
        (2, 1, 200, 1, 0.05, "2 workers, one by one"),
        (2, 32, 64 * 4, BATCH, 2.5, "64 slots, batches of 128"),
    ):
        user, system, wall = driven(workers, threads, count, size, seconds)
        busy = count * seconds / (workers * threads) / wall
        told = (f"{spent / (count * size) * 1e6:.1f}" for spent in (user, system))
        rows.append((what, f"{count * size:,}", *told, f"{busy:.1%}"))
    one, two = (driven(workers, 1, 12 * workers, BATCH, 1.0)[2] for workers in (1, 2))
    rows.append(("1 worker, then 2 with twice the work", f"{12 * 3 * BATCH:,}", "", "", f"{one / two:.1%}"))
    ledger = committed(tmp_path / "ledger", 100) / (100 * BATCH)
    rows.append(("the ledger, beside it", f"{100 * BATCH:,}", f"{ledger * 1e6:.1f}", "", ""))
    print(
        write_table(
            "scheduler-cost",
            "What an image costs the driver and the scheduler, without the work on it",
            ("", "images", "µs an image, user", "µs an image, system", "of the workers' time used"),
            rows,
            "CPU of the process of driver and scheduler. Items, settings and receipts are real, the work is a wait; "
            "of the ledger user and system are one. The last share is the wall time of one worker by that of two with "
            "twice as much to do. Where the machine has much else to do, a message costs several times what it does "
            "on an idle one: compare with the line of those that go one by one.",
        )
    )
