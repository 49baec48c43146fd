"""A catalog of real photographs with broken files among them, killed again and again at moments that a seed decides.

Every good one is done, every bad one is named, and the bytes are those of a run that nobody disturbs; nobody who looks
into TARGET meanwhile finds half a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from pipelines import catalog as catalogs
from pipelines.catalog import catalog
from pipelines.cluster import Cluster
from refine.preset import load_preset
from refine.settings import Settings, Size

pytestmark = pytest.mark.chaos

SLOW = pytest.mark.slow
PRESET = {"upscale.nets": "[]", "repair.net": '""', "decide.too_weak": "flag", "plan.tile": "256", "plan.block": "256"}
SETTINGS = Settings(load_preset("balanced", PRESET), Size(long_side=400))
DRIVER = """
import sys
from pathlib import Path
from pipelines import catalog as catalogs, feed, estimate
from pipelines.cluster import Cluster
from refine.preset import load_preset
from refine.settings import Settings, Size

if __name__ == "__main__":
    settings = Settings(load_preset("balanced", {preset!r}), Size(long_side=400))
    summary = catalogs.catalog(Path(sys.argv[1]), Path(sys.argv[2]), settings, Cluster(workers=2), quiet=True)
    sys.exit(0 if len(summary.failed) == int(sys.argv[3]) else 3)
"""


def photographs(checkout):
    """Files of products, tiny photographs, and pictures of scikit-image."""
    shared = checkout.parent / "shared" / "data" / "samples"
    if not shared.is_dir():
        pytest.skip("the photographs of ../shared/data are not here")
    skimage = pytest.importorskip("skimage", reason="scikit-image, with its photographs, is not installed")
    inside = Path(skimage.__file__).parent / "data"
    own = [p for p in sorted(inside.glob("*")) if p.suffix in (".png", ".jpg") and p.stat().st_size < 300_000]
    return [*sorted((shared / "products").iterdir()), *sorted((shared / "tiny").iterdir()), *own]


def planted(checkout, folder, count, share):
    """A catalog of `count` photographs, and so many broken files that they are that share of all; the names of both."""
    files = photographs(checkout)
    rng = random.Random(7)  # noqa: S311  drawn again and again
    good, bad = [], []
    for number in range(count):
        file = files[number % len(files)]
        path = folder / f"shop{number % 4}" / f"{number:03d}{file.suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with Pillow.open(file) as picture:
            small = picture.convert("RGBA" if picture.mode in ("RGBA", "P", "LA") else "RGB")
            small.thumbnail((200, 200))
        small.convert("RGB" if file.suffix == ".jpg" else small.mode).save(path)
        good.append(path)
    for number in range(max(1, round(count * share / (1 - share)))):
        whole = rng.choice(good)
        data = bytearray(whole.read_bytes())
        path = folder / f"shop{number % 4}" / f"bad{number:03d}{whole.suffix}"
        path.write_bytes(_broken(data, number % 4, rng))
        bad.append(path)
    return [str(p.relative_to(folder)) for p in good], [str(p.relative_to(folder)) for p in bad]


def _broken(data, way, rng):
    """Bytes of a picture that no longer is one: cut short, empty, other bytes, or its head gone."""
    if way == 0:
        return bytes(data[: len(data) // 2])
    if way == 1:
        return b""
    return rng.randbytes(500) if way == 2 else bytes(data[40:])


def digests(target):
    """SHA-256 of every result."""
    files = [p for p in target.rglob("*") if p.is_file() and ".refine" not in p.parts]
    return {str(p.relative_to(target)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.parametrize(
    ("count", "share"),
    [(40, 0.01), pytest.param(40, 0.2), pytest.param(300, 0.01, marks=SLOW), pytest.param(300, 0.2, marks=SLOW)],
)
def test_every_good_one_is_done_and_every_bad_one_named(checkout, tmp_path, shared, count, share):
    """However many are broken: the others are done and can be read, and each broken one is told with its reason."""
    good, bad = planted(checkout, tmp_path / "source", count, share)
    target = tmp_path / "target"
    summary = catalog(tmp_path / "source", target, SETTINGS, shared)
    assert (summary.done, summary.quarantined) == (len(good), [])
    assert {complaint.path for complaint in summary.failed} == set(bad)
    assert all(complaint.reason for complaint in summary.failed)
    for name in good:
        with Pillow.open(target / name) as picture:
            assert max(picture.size) == 400
            np.asarray(picture)
    assert set(digests(target)) == set(good)
    page = (target / ".refine/report/report.html").read_text(encoding="utf-8")
    assert f'"count":{len(bad)}' in page or sum(page.count(name) for name in bad) >= len(bad)


def started(tmp_path, expected):
    """A driver in a process group of its own, all of which can be killed."""
    script = tmp_path / "driver.py"
    script.write_text(DRIVER.replace("{preset!r}", repr(PRESET)))
    words = [sys.executable, str(script), str(tmp_path / "source"), str(tmp_path / "target"), str(expected)]
    environment = os.environ | {"PYTHONPATH": str(Path(catalogs.__file__).parents[1])}
    return subprocess.Popen(words, start_new_session=True, env=environment, stderr=subprocess.PIPE)


def lines(target):
    """Of the ledger's journal."""
    journal = target / ".refine" / "journal.jsonl"
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def watched(driver, target, more, spins, expected):
    """Look at the results until the ledger has so many lines more, then so many times more, or until the end.

    What can be seen must be whole. How many were looked at.
    """
    until, looked = lines(target) + more, 0
    while driver.poll() is None and spins > 0:
        spins -= lines(target) >= until
        for name in expected:
            if (target / name).exists():
                assert hashlib.sha256((target / name).read_bytes()).hexdigest() == expected[name]
                looked += 1
    return looked


def ended(group):
    """Whether no process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(("count", "kills"), [(24, 2), pytest.param(120, 20, marks=SLOW)])
def test_kills_at_random_moments_change_no_byte(checkout, tmp_path, count, kills):
    """SIGKILL of the driver with all its workers and decoders, so many times, then once in peace."""
    good, bad = planted(checkout, tmp_path / "source", count, 0.1)
    undisturbed = catalog(tmp_path / "source", tmp_path / "undisturbed", SETTINGS, Cluster(workers=1))
    assert (undisturbed.done, len(undisturbed.failed)) == (len(good), len(bad))
    expected = digests(tmp_path / "undisturbed")
    target, looked, killed = tmp_path / "target", 0, 0
    rng = random.Random(11)  # noqa: S311  drawn again and again
    for _ in range(kills):
        with started(tmp_path, len(bad)) as driver:
            more, spins = rng.randrange(count // kills), rng.randrange(12)
            looked += watched(driver, target, more, spins, expected)
            killed += driver.poll() is None
            with suppress(ProcessLookupError):  # it has ended before that, where the machine is slow to look
                os.killpg(driver.pid, signal.SIGKILL)
            driver.wait()
        while not ended(driver.pid):
            pass
        visible = {name: d for name, d in digests(target).items() if not name.endswith(".part")}
        assert visible.items() <= expected.items()
    with started(tmp_path, len(bad)) as driver:
        looked += watched(driver, target, 10**9, 1, expected)
        assert driver.wait() == 0, driver.stderr.read().decode()
    assert digests(target) == expected
    assert 2 * killed >= kills, "most of the kills met a run at work"
    records = [json.loads(line) for line in (target / ".refine/journal.jsonl").read_text().splitlines()]
    done = [r["item"]["path"] for r in records if r.get("item", {}).get("state") == "done"]
    assert sorted(done) == sorted(set(done)), "what was finished was not done again"
    assert set(done) == set(good)
    print(f"{killed} kills, {looked} looks at results, {len(good)} good, {len(bad)} broken")  # noqa: T201  for `-s`
