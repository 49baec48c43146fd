"""Killed at any moment, a run on a bucket goes on from the bucket alone, and ends with the bytes of a calm one."""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from strategies_files import small_tree

from pipelines import catalog as catalogs
from pipelines.catalog import catalog
from pipelines.cluster import Cluster
from refine.preset import load_preset
from refine.settings import Settings, Size

pytestmark = pytest.mark.chaos

SETTINGS = {"upscale.nets": "[]", "plan.tile": "128", "plan.block": "128"}
IMAGES, KILLS = 160, 20
DRIVER = """
import sys
from fractions import Fraction
from pathlib import Path
from pipelines import catalog as catalogs
from pipelines import feed, mirror
from pipelines.cluster import Cluster
from refine.preset import load_preset
from refine.settings import Settings, Size

if __name__ == "__main__":
    feed._BATCH = 2  # commits come often, and so does the journal
    mirror.PUSH_S = 0.0
    settings = Settings(load_preset("balanced", {settings!r}), Size(scale=Fraction(2)))
    url, state = sys.argv[1:]
    terms = catalogs.Terms(state=Path(state))
    summary = catalogs.catalog(url + "/in", url + "/out", settings, Cluster(workers=1), terms=terms)
    print(summary.done, summary.unchanged)
    sys.exit("\\n".join(summary.lines()) or 0)
"""


@pytest.fixture
def expected(tmp_path, stall, client):
    """Fills the bucket, and gives the digests of what a run on folders makes of the same files."""

    def made(count):
        source = small_tree(tmp_path / "source", count)
        for path in (p for p in source.rglob("*") if p.is_file()):
            stall.put(f"in/{path.relative_to(source)}", path.read_bytes())
        settings = Settings(load_preset("balanced", SETTINGS), Size(scale=Fraction(2)))
        assert catalog(source, tmp_path / "local", settings, Cluster(client.scheduler.address)).done == count
        return {
            str(p.relative_to(tmp_path / "local")): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in (tmp_path / "local").rglob("*")
            if p.is_file() and ".refine" not in p.parts
        }

    return made


def results(stall):
    """Digests of what is in the bucket, the ledger apart."""
    contents = {k: v for k, v in stall.contents("out/").items() if not k.startswith(".refine/")}
    return {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}


def started(tmp_path, stall, state):
    """A driver in a process group of its own, with the ledger of a machine of that name."""
    script = tmp_path / "driver.py"
    script.write_text(DRIVER.replace("{settings!r}", repr(SETTINGS)))
    words = [sys.executable, str(script), stall.url, str(tmp_path / state)]
    environment = os.environ | {"PYTHONPATH": str(Path(catalogs.__file__).parents[1])}
    return subprocess.Popen(
        words, start_new_session=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def killed(tmp_path, stall, state, expected, count):
    """Kill a driver and its workers when so many objects more are there; every object is whole then.

    False where it ended before.
    """
    wanted = len(results(stall)) + count
    with started(tmp_path, stall, state) as driver:
        while driver.poll() is None:
            keys = [key.removeprefix("out/") for key in stall.keys("out/")]
            noted = any(key.startswith(".refine/journal/") for key in keys)
            if noted and sum(not key.startswith(".refine/") for key in keys) >= wanted:
                os.killpg(driver.pid, signal.SIGKILL)
        driver.communicate()
    assert results(stall).items() <= expected.items()
    return driver.returncode == -signal.SIGKILL


def finished(tmp_path, stall, state):
    """Done and unchanged of a run that nobody disturbs."""
    with started(tmp_path, stall, state) as driver:
        out, err = driver.communicate()
        assert driver.returncode == 0, err.decode()
    return tuple(map(int, out.split()))


def test_killed_driver_is_resumed_elsewhere(market, stall, tmp_path, expected):
    """SIGKILL of driver and workers: another machine goes on from the bucket alone, and redoes only what was out."""
    wanted = expected(24)
    assert killed(tmp_path, stall, "one", wanted, 6)
    done, unchanged = finished(tmp_path, stall, "two")
    assert done + unchanged == 24
    assert unchanged >= 2
    assert results(stall) == wanted
    assert finished(tmp_path, stall, "one") == (0, 24)


@pytest.mark.slow
def test_many_kills_and_faults(market, stall, tmp_path, expected, capsys):
    """Kills at seeded moments, on three machines in turn, with 20 % of requests failing: the same bytes."""
    wanted = expected(IMAGES)
    market.proxy.share = 0.2
    draw = np.random.default_rng(7)
    kills = 0
    for machine in itertools.islice(itertools.cycle(("one", "two", "three")), KILLS):
        kills += killed(tmp_path, stall, machine, wanted, int(draw.integers(1, 6)))
    done, unchanged = finished(tmp_path, stall, "four")
    assert done + unchanged == IMAGES
    # On a busy machine more gets done between two looks, and the last runs find nothing left.
    assert kills >= KILLS // 3
    market.proxy.share = 0.0
    assert results(stall) == wanted
    with capsys.disabled():
        faults = dict(market.proxy.faults)
        print(f"\n{kills} kills, {sum(market.proxy.asked.values())} requests, {faults}, last run {done}")  # noqa: T201
