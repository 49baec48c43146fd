"""Files that end, hold up or swell the process that decodes them, among many that do not: they and only they go."""

from __future__ import annotations

import json
import os

import pytest
from strategies_files import picture, write_picture

from pipelines.catalog import Terms, catalog
from pipelines.cluster import Cluster
from refine.limits import Limits
from refine.preset import load_preset
from refine.settings import Settings, Size

pytestmark = pytest.mark.chaos

SETTINGS = Settings(load_preset("balanced", {"upscale.nets": "[]"}), Size(scale=2))
LIMITS = Limits(decode_base_s=4.0, headroom_mem=96 << 20)
POISON = {"die": "poison", "hang": "poison", "eat": "resource"}
# Every Python reads this at its start; the one that decodes then meets its fate by the name of the file.
FATE = """
import sys
if "refine.decode_child" in sys.orig_argv:
    import os, signal
    from refine import imagefile
    real = imagefile.read_pixels

    def read_pixels(path, spec, limits):
        with open(os.environ["FATE_LOG"], "a", encoding="utf-8") as log:
            log.write(path.name + "\\n")
        if path.name.startswith("die"):
            os.kill(os.getpid(), signal.SIGSEGV)
        if path.name.startswith("hang"):
            signal.pause()
        if path.name.startswith("eat"):
            held = [bytearray(1 << 24) for _ in range(1 << 20)]
        return real(path, spec, limits)

    imagefile.read_pixels = read_pixels
"""


def poisoned(tmp_path, monkeypatch, good, each):
    """A catalog of whole pictures, `each` of every poison between them; their names."""
    (tmp_path / "fate").mkdir()
    (tmp_path / "fate/sitecustomize.py").write_text(FATE)
    monkeypatch.setenv("FATE_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "fate"), os.environ.get("PYTHONPATH", "")]))
    for number in range(good):
        write_picture(tmp_path / f"source/{number % 5}/good{number:02d}.png", picture(12, 12, seed=number))
    names = {}
    for kind, fate in POISON.items():
        for number in range(each):
            path = f"{number % 5}/{kind}{number}.png"
            write_picture(tmp_path / "source" / path, picture(12, 12))
            names[path] = fate
    return names


def check(tmp_path, target, poison, good):
    """Exactly the poison is quarantined, twice tried and no more; all else is done; the file says so."""
    summary = catalog(tmp_path / "source", target, SETTINGS, Cluster(workers=2), limits=LIMITS)
    assert {c.path: c.kind for c in summary.quarantined} == poison
    assert (summary.done, summary.failed, summary.left) == (good, [], 0)
    assert len(list(target.rglob("good*.png"))) == good
    lines = [json.loads(line) for line in (target / ".refine/quarantine.jsonl").read_text().splitlines()]
    assert {(line["path"], line["state"], line["kind"]) for line in lines} == {
        (path, "quarantined", kind) for path, kind in poison.items()
    }


def test_poison_and_only_poison_is_quarantined(tmp_path, monkeypatch):
    """One that dies, one that hangs, one that eats memory: each is tried twice, the second time alone, and stands."""
    poison = poisoned(tmp_path, monkeypatch, good=9, each=1)
    check(tmp_path, tmp_path / "target", poison, 9)
    tried = (tmp_path / "log").read_text().split()
    assert {name: tried.count(name) for name in {path.rpartition("/")[2] for path in poison}} == {
        "die0.png": 2,
        "hang0.png": 2,
        "eat0.png": 2,
    }
    assert all(tried.count(f"good{n:02d}.png") <= 3 for n in range(9)), "once, and for the page of the report"
    (tmp_path / "log").unlink()
    again = catalog(tmp_path / "source", tmp_path / "target", SETTINGS, Cluster(workers=2), limits=LIMITS)
    assert ({c.path for c in again.quarantined}, again.unchanged) == (set(poison), 9)
    assert not (tmp_path / "log").exists(), "what is quarantined is not touched again"


@pytest.mark.slow
def test_poison_among_eighty_ten_times(tmp_path, monkeypatch):
    """Six of eighty, ten times over: never one too many or too few, and no run hangs."""
    poison = poisoned(tmp_path, monkeypatch, good=74, each=2)
    for number in range(10):
        check(tmp_path, tmp_path / f"target{number}", poison, 74)


@pytest.mark.slow
def test_quarantined_is_released_by_its_cure(tmp_path, monkeypatch):
    """Asked for by name it is tried again; cured, it is done."""
    poison = poisoned(tmp_path, monkeypatch, good=2, each=1)
    target = tmp_path / "target"
    check(tmp_path, target, poison, 2)
    (tmp_path / "fate/sitecustomize.py").write_text("")
    terms = Terms(retry="quarantined")
    cured = catalog(tmp_path / "source", target, SETTINGS, Cluster(workers=1), limits=LIMITS, terms=terms)
    assert (cured.done, cured.quarantined) == (3, [])
