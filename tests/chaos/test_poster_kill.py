"""A poster whose worker or driver is killed at any moment ends with the bytes of one left in peace."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from inkprofile import press_profile
from strategies_files import picture, write_picture

from pipelines.derivative import verified

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

TILES = 42
WORDS = [
    *("--size", "300x250mm", "--ppi", "260", "--bleed", "3mm", "--panels", "2x1", "--overlap", "10mm", "--tile", "512"),
    *("--set", "plan.block=512", "--set", 'repair.net=""', "--set", "upscale.nets=[]", "-q"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A picture, a profile of inks, and what an undisturbed run makes of them."""
    folder = tmp_path_factory.mktemp("poster")
    write_picture(folder / "photo.png", picture(500, 620))
    (folder / "ink.icc").write_bytes(press_profile())
    subprocess.run(words(folder, "calm"), check=True)
    return folder


def words(folder, name):
    """The command. Every target has one name, which its files tell of themselves, in a folder of its own."""
    (folder / name).mkdir(exist_ok=True)
    target, profile = folder / name / "wall.pdf", folder / "ink.icc"
    command = [sys.executable, "-m", "pipelines.cli", "poster", str(folder / "photo.png"), str(target)]
    return [*command, *WORDS, "--profile", str(profile), "--workers", "2"]


def digests(folder):
    """SHA-256 of every file of a target."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir() if p.is_file()}


def finished(folder):
    """Tiles in the ledger."""
    journal = folder / ".wall.pdf.refine" / ".refine" / "journal.jsonl"
    lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
    shards = [json.loads(line).get("shard") for line in lines]
    return [(s["y"], s["x"]) for s in shards if s and s["work"] == "0/0"]


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


@pytest.mark.parametrize("seed", range(8))
def test_killed_poster_ends_with_the_same_bytes(folder, seed):
    """After some tiles, or while files are written: started again, nothing differs, and little is done twice."""
    rng = random.Random(seed)  # noqa: S311  a test, not a secret
    victim, after = ("driver", "worker")[seed % 2], rng.randrange(1, TILES)
    target = folder / f"killed-{seed}"
    if seed == 6:  # while the PDF is written
        after = TILES
    with subprocess.Popen(words(folder, target.name), start_new_session=True) as driver:
        while driver.poll() is None and len(finished(target)) < after:
            time.sleep(0.005)
        if victim == "worker":
            for pid in workers_of(driver.pid)[:1]:
                os.kill(pid, signal.SIGKILL)
        else:
            os.killpg(driver.pid, signal.SIGKILL)
        code = driver.wait()
    assert code == {"worker": 0, "driver": -signal.SIGKILL}[victim]
    if victim == "driver":
        done = len(finished(target))
        subprocess.run(words(folder, target.name), check=True)
        assert done >= after
    made = {name: digest for name, digest in digests(target).items() if not name.endswith(".part")}
    assert made == digests(folder / "calm")
    assert verified(target / "wall.pdf").wrong == ()
    assert not (target / ".wall.pdf.refine").exists()
