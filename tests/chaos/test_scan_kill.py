"""A scan whose worker, scheduler or driver is killed at any moment ends with the bytes of one left in peace."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import tifffile
from strategies_files import picture

from pipelines.derivative import verified

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

SIDE = 4096
TILES = 64
WORDS = [
    "--set",
    "plan.tile=512",
    "--set",
    "plan.block=512",
    "--set",
    "sharpen.amount=0.5",
    "--set",
    'repair.net=""',
    "-q",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A page of 64 tiles, stored in strips so long that it is ingested, and the digests of an undisturbed run."""
    folder = tmp_path_factory.mktemp("scan")
    tile = picture(512, 512, 1, "uint16")[..., 0]
    page = tile.repeat(8, 0).repeat(8, 1)[:SIDE, :SIDE]
    tifffile.imwrite(folder / "page.tif", page, rowsperstrip=2048, compression="zlib")
    subprocess.run(words(folder, "calm.zarr", "--workers", "2"), check=True)
    return folder


@pytest.fixture(scope="module")
def expected(folder):
    """SHA-256 of every file of the undisturbed run."""
    return digests(folder / "calm.zarr")


def words(folder, target, *more):
    """The command."""
    return [
        sys.executable,
        "-m",
        "pipelines.cli",
        "scan",
        str(folder / "page.tif"),
        str(folder / target),
        *WORDS,
        *more,
    ]


def digests(target):
    """SHA-256 of every file but the ledger's."""
    files = [p for p in target.rglob("*") if p.is_file() and ".refine" not in p.relative_to(target).parts]
    return {str(p.relative_to(target)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def finished(target):
    """Shards in the ledger, each time they were written."""
    journal = target / ".refine" / "journal.jsonl"
    lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
    shards = [json.loads(line).get("shard") for line in lines]
    return [(s["work"], s["y"], s["x"]) for s in shards if s]


def workers_of(pid):
    """Processes below a driver that run tasks."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            try:
                if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(int(child))
            except FileNotFoundError:
                continue
    return found


def wait_for(driver, condition):
    """Look again and again until a condition holds or the driver has ended."""
    while driver.poll() is None and not condition():
        time.sleep(0.005)


def own_cluster(stack, folder):
    """A scheduler and two workers in processes of their own; the scheduler's process and address."""
    note = folder / f"scheduler-{time.monotonic_ns()}.json"
    tool = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = stack.enter_context(subprocess.Popen([*tool, "--no-dashboard", "--scheduler-file", str(note)], **quiet))
    stack.callback(scheduler.kill)
    while not note.exists() or not note.read_text():
        time.sleep(0.05)
    address = json.loads(note.read_text())["address"]
    for _ in range(2):
        tool = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-nanny", "--nthreads", "1"]
        worker = stack.enter_context(subprocess.Popen([*tool, "--no-dashboard", "--death-timeout", "60"], **quiet))
        stack.callback(worker.kill)
    return scheduler, address


@pytest.mark.parametrize("seed", range(30))
def test_killed_scan_ends_with_the_same_bytes(folder, expected, seed):
    """Worker, driver or scheduler dies after some shards: started again, at most what was in flight is done again."""
    rng = random.Random(seed)  # noqa: S311  a test, not a secret
    victim, after = ("driver", "worker", "scheduler")[seed % 3], rng.randrange(1, TILES)
    target = folder / f"killed-{seed}.zarr"
    with ExitStack() as stack:
        scheduler, places = None, ["--workers", "2"]
        if victim == "scheduler":
            scheduler, address = own_cluster(stack, folder)
            places = ["--scheduler", address]
        command = words(folder, target.name, "--json", *places)
        driver = stack.enter_context(subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE))
        wait_for(driver, lambda: len(finished(target)) >= after)
        if victim == "worker":
            for pid in workers_of(driver.pid)[:1]:
                os.kill(pid, signal.SIGKILL)
        elif victim == "driver":
            os.killpg(driver.pid, signal.SIGKILL)
        else:
            scheduler.kill()
        said = driver.communicate()[0]
        code = driver.returncode
    assert code == {"worker": 0, "driver": -signal.SIGKILL, "scheduler": 130}[victim]
    done = [shard for shard in finished(target) if shard[0] == "0/0"]
    assert len(done) == len(set(done))
    if victim != "worker":
        command = words(folder, target.name, "--json", "--workers", "2")
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    assert digests(target) == expected
    assert verified(target).wrong == ()
    assert not list(target.rglob("*.part"))
    # In flight are two tasks for each of two workers.
    made = len(done) + json.loads(said)["output_px"] // 512**2
    assert TILES <= made <= TILES + 4
