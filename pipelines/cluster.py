# mypy: allow-untyped-calls
# distributed annotates half of what it has.
"""Where tasks run: a scheduler that is there already, or processes of this machine for the time of one job."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import resource_tracker

import dask
from distributed import Client, LocalCluster, Status
from tornado.ioloop import PeriodicCallback

from pipelines.errors import JobError, RunError
from refine.api import cores

logger = logging.getLogger(__name__)

_CONFIG = {
    # A task that is lost is ours to judge: dask must not run it again on its own, nor count its failures.
    "distributed.scheduler.allowed-failures": 0,
    # A worker holds only what it runs, so that a dying one takes no waiting task with it.
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.work-stealing": False,
    # Receipts are all that workers keep: there is nothing to spill. A runaway process is ended before the system is.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    # After this time dask gives up a worker that is not there at that moment, even one that has died a second time and
    # is being started again: a run with two bad files was left without any worker.
    "distributed.deploy.lost-worker-timeout": "1 week",
    "distributed.worker.profile.enabled": False,
    "distributed.admin.low-level-log-length": 0,
    # Fifty wake-ups a second of scheduler and of each worker's nanny, only to see whether they wake up in time.
    "distributed.admin.tick.interval": "1s",
    # Figures of the machine that dask's own page draws; at its usual pace half of what an idle cluster costs.
    "distributed.admin.system-monitor.interval": "5s",
    # Bytes. With what dask asks of the allocator each array from 128 KB on is new pages of the system, to be cleared:
    # half of the time in which chunks were encoded. Measured on scans: larger values are quicker still by a tenth, and
    # keep 20 MB more.
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 1 << 20,
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 4 << 20,
}
_NO_PAGES: dict[str, object] = {"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []}
"""Nothing to see, and nothing to run code through."""
_TEND_S = 5
"""Seconds between two looks after the workers."""
_CONNECT_S = 15
"""Seconds in which a scheduler must answer."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the work is done."""

    address: str | None = None
    """Of a scheduler; None for processes of this machine."""
    workers: int | None = None
    """How many processes; None for one per core."""
    dashboard: bool = False
    """Whether dask shows its own page, on 127.0.0.1."""


@contextmanager
def connected(cluster: Cluster) -> Iterator[Client]:
    """A client of the scheduler at an address, or of local processes that end with the context.

    The local cluster has one thread a worker and as many workers as cores where none are asked for. It listens on
    127.0.0.1 only, its dashboard too. Raises JobError where no scheduler answers.
    """
    if cluster.address is None:
        with _local(cluster.workers or cores(), dashboard=cluster.dashboard) as client:
            yield client
        return
    try:
        client = Client(cluster.address, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        said = str(error).splitlines()[0]
        msg = f"no scheduler answers at {cluster.address}: {said}; start one, or leave --scheduler out"
        raise JobError(msg) from error
    with client:
        yield client


@contextmanager
def _local(workers: int, *, dashboard: bool) -> Iterator[Client]:
    with (
        dask.config.set(_CONFIG if dashboard else {**_CONFIG, **_NO_PAGES}),
        _processes(workers, dashboard=dashboard) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        if dashboard:
            logger.warning("dashboard: %s", cluster.dashboard_link)
        tending = PeriodicCallback(partial(_replenish, cluster, workers), _TEND_S * 1000)
        cluster.loop.add_callback(tending.start)
        try:
            yield client
        finally:
            cluster.loop.add_callback(tending.stop)


def _processes(workers: int, *, dashboard: bool) -> LocalCluster:
    # An interrupt at the terminal reaches every process of its group, but is the driver's business: the workers, those
    # that are started later too, inherit this mask from the thread that starts them. For the driver it only waits.
    # Starting this later would unmask the thread that starts it.
    resource_tracker.ensure_running()
    unmasked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            # None would mean port 8787 and all pages but the prettiest, which a second run would find taken.
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": dashboard},
            silence_logs=logging.CRITICAL,
        )
    except RuntimeError as error:
        raise RunError(
            f"the workers of this machine did not start: {error}; start it again, or see the memory"
        ) from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, unmasked)


def _replenish(cluster: LocalCluster, workers: int) -> None:
    """Put new workers in the place of those whose keeper has given up."""
    given_up = [name for name, nanny in cluster.workers.items() if nanny.status in (Status.closed, Status.failed)]
    for name in given_up:
        logger.info("worker %s could not be started again; another takes its place", name)
        del cluster.workers[name]
    if given_up:
        cluster.scale(workers)
