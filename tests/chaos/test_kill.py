"""Killed at any moment and started again, a run ends with the bytes of one that was left in peace."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from strategies_files import picture, read_picture, small_tree, write_picture

from pipelines import catalog as catalogs
from pipelines import feed
from pipelines.catalog import catalog
from pipelines.cluster import Cluster
from refine.preset import load_preset
from refine.settings import Settings, Size

pytestmark = pytest.mark.chaos

SLOW = pytest.mark.slow
SETTINGS = {"upscale.nets": "[]", "plan.tile": "128", "plan.block": "128"}
IMAGES = 8
DRIVER = """
import sys
from fractions import Fraction
from pathlib import Path
from pipelines import catalog as catalogs
from pipelines import feed
from pipelines.cluster import Cluster
from refine.preset import load_preset
from refine.settings import Settings, Size

if __name__ == "__main__":
    feed.BATCH_S = 0.0  # everything of more than one tile is large
    settings = Settings(load_preset("balanced", {settings!r}), Size(scale=Fraction(2)))
    summary = catalogs.catalog(Path(sys.argv[1]), Path(sys.argv[2]), settings, Cluster(workers=2))
    sys.exit("\\n".join(summary.lines()) or 0)
"""


@pytest.fixture
def source(tmp_path):
    """A few small pictures, and two of many tiles: one stitched whole, one streamed."""
    source = small_tree(tmp_path / "source", IMAGES - 2)
    write_picture(source / "tall.png", picture(700, 120))
    write_picture(source / "wide.tif", picture(130, 600, 3, "uint16"))
    return source


@pytest.fixture
def expected(tmp_path, source, monkeypatch):
    """The bytes of a run with one worker that nobody disturbs."""
    monkeypatch.setattr(feed, "BATCH_S", 0.0)
    settings = Settings(load_preset("balanced", SETTINGS), Size(scale=Fraction(2)))
    assert catalog(source, tmp_path / "undisturbed", settings, Cluster(workers=1)).done == IMAGES
    return digests(tmp_path / "undisturbed")


def digests(target):
    """SHA-256 of every file, hidden ones too, the ledger's apart."""
    files = [p for p in target.rglob("*") if p.is_file() and ".refine" not in p.parts]
    return {str(p.relative_to(target)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def journal(target):
    """The lines of the ledger's journal that tell of work, and not only of what keys mean."""
    path = target / ".refine" / "journal.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in lines if not line.startswith('{"key"')]


def started(tmp_path, source):
    """A driver in a process group of its own."""
    script = tmp_path / "driver.py"
    script.write_text(DRIVER.replace("{settings!r}", repr(SETTINGS)))
    words = [sys.executable, str(script), str(source), str(tmp_path / "target")]
    environment = os.environ | {"PYTHONPATH": str(Path(catalogs.__file__).parents[1])}
    return subprocess.Popen(words, start_new_session=True, env=environment, stderr=subprocess.PIPE)


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
    """Look again and again until a condition holds; the driver must not end before."""
    while not condition():
        if driver.poll() is not None:
            return False
    return True


@pytest.mark.parametrize("lines", [pytest.param(1, marks=SLOW), 5, pytest.param(12, marks=SLOW)])
def test_killed_driver_is_resumed(tmp_path, source, expected, lines):
    """SIGKILL of the driver after some commits: what is visible is whole, and the next run ends with the same bytes."""
    target = tmp_path / "target"
    with started(tmp_path, source) as driver:
        wait_for(driver, lambda: len(journal(target)) >= lines)
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
    visible = {name: digest for name, digest in digests(target).items() if not name.endswith(".part")}
    assert visible.items() <= expected.items()
    kept = {line for line in journal(target) if line.endswith("}")}
    with started(tmp_path, source) as driver:
        assert driver.wait() == 0, driver.stderr.read().decode()
    assert digests(target) == expected
    assert again(kept, journal(target)[len(kept) :]) == set()


def again(kept, later):
    """What was in the ledger as done, and was done once more."""

    def finished(lines):
        entries = [json.loads(line) for line in lines]
        items = {entry["item"]["path"] for entry in entries if entry.get("item", {}).get("state") == "done"}
        shards = {(e["shard"]["work"], e["shard"]["y"], e["shard"]["x"]) for e in entries if "shard" in e}
        return items | shards

    return finished(kept) & finished(later)


@SLOW
def test_killed_workers_lose_nothing(tmp_path, source, expected):
    """SIGKILL of a worker after every few commits: all images are done, with the same bytes, and none is blamed."""
    target = tmp_path / "target"
    with started(tmp_path, source) as driver:
        for lines in (3, 9):
            if wait_for(driver, lambda lines=lines: len(journal(target)) >= lines and workers_of(driver.pid)):
                os.kill(workers_of(driver.pid)[0], signal.SIGKILL)
        assert driver.wait() == 0, driver.stderr.read().decode()
    assert digests(target) == expected


@SLOW
def test_reader_never_sees_half_a_file(tmp_path, source, expected):
    """Whoever looks into TARGET while it is being filled can read every file in it."""
    target = tmp_path / "target"
    looked = 0
    with started(tmp_path, source) as driver:
        while driver.poll() is None:
            for name in expected:
                if (target / name).exists():
                    read_picture(target / name)
                    looked += 1
        assert driver.returncode == 0, driver.stderr.read().decode()
    assert looked


@SLOW
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_says_so_and_goes_on(tmp_path, source, number):
    """Ctrl-C and SIGTERM: exit code 130, one line, no traceback, nothing left behind; then it goes on."""
    target = tmp_path / "target"
    words = [sys.executable, "-m", "pipelines.cli", "catalog", str(source), str(target), "--workers", "2", "--scale"]
    words += ["2", *(word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")), "--json"]
    with subprocess.Popen(words, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as driver:
        assert wait_for(driver, lambda: journal(target))
        os.killpg(driver.pid, number)
        out, err = driver.communicate()
    assert (driver.returncode, out) == (130, b""), err.decode()
    (line,) = err.decode().split("\n")[-2:-1]
    assert line.startswith("refine: interrupted")
    assert b"Traceback" not in err
    second = subprocess.run(words, capture_output=True, check=True)
    said = json.loads(second.stdout)
    assert said["done"] + said["unchanged"] == IMAGES
    assert said["unchanged"] > 0


@SLOW
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_change_no_byte(tmp_path, source, expected, workers, monkeypatch):
    """One, two and four workers write the same bytes."""
    monkeypatch.setattr(feed, "BATCH_S", 0.0)
    settings = Settings(load_preset("balanced", SETTINGS), Size(scale=Fraction(2)))
    catalog(source, tmp_path / "target", settings, Cluster(workers=workers))
    assert digests(tmp_path / "target") == expected
