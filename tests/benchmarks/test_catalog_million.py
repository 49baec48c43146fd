"""A catalog of a million images: what a night costs when nothing changed, when 1 % did; and planning ten million."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from strategies_files import picture, write_picture
from tables import write_table

pytestmark = pytest.mark.bench

MILLION = int(os.environ.get("REFINE_BENCH_IMAGES", "1000000"))
PREPARE = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[5:]
from synthetic import SETTINGS, linked, write_ledger
from pipelines import manifest
from pipelines.catalog import catalog
from pipelines.cluster import Cluster
folder, count = Path(sys.argv[1]), int(sys.argv[2])
if __name__ == "__main__":
    assert catalog(folder / "one", folder / "made", SETTINGS, Cluster(workers=1)).done == 1
    with manifest.opened(folder / "made" / ".refine") as ledger:
        (record,) = ledger.records("done")
    linked(folder / "source", folder / "one" / "a.png", count)
    linked(folder / "target", folder / "made" / "a.png", count)
    write_ledger(folder / "source", folder / "target", record, count)
    print("{}")
"""
NIGHT = """
import json, sys, time
from pathlib import Path
sys.path[:0] = sys.argv[5:]
from synthetic import SETTINGS, peak_mem
from pipelines import tree
from pipelines.catalog import catalog
from pipelines.cluster import Cluster
from pipelines.inventory import listing
from refine.decoder import Decoder
folder, workers = Path(sys.argv[1]), int(sys.argv[3])
if __name__ == "__main__":
    opened = []
    spec = Decoder.spec
    Decoder.spec = lambda *given: (opened.append(1), spec(*given))[1]
    begun = time.process_time()
    for _ in listing(folder / "source").listed(): pass
    for _ in tree.present(folder / "target"): pass
    looked = time.process_time() - begun
    begun, wall = time.process_time(), time.monotonic()
    done = catalog(folder / "source", folder / "target", SETTINGS, Cluster(workers=workers), quiet=True)
    print(json.dumps({"looked": round(looked, 1), "all": time.process_time() - begun, "wall": time.monotonic() - wall,
        "mem": peak_mem() // 10**6 * 10**6, "opened": len(opened), "done": done.done, "unchanged": done.unchanged,
        "failed": len(done.failed)}))
"""
PLANNED = """
import json, os, sys, time
from pathlib import Path
sys.path[:0] = sys.argv[5:]
from synthetic import SETTINGS, Synthetic, peak_mem
from pipelines import manifest
from pipelines.naming import Rendition
from pipelines.planning import planned
from pipelines.roll import Roll
from refine.session import Engine
folder, count = Path(sys.argv[1]), int(sys.argv[2])
with manifest.opened(folder) as ledger:
    # What the program needs before there is any row.
    SETTINGS.plan(__import__("refine.spec", fromlist=["ImageSpec"]).ImageSpec(64, 64, 3, "uint8")).program
    before, begun = peak_mem(), time.process_time()
    roll = Roll(ledger.index, folder)
    roll.call(Synthetic(count), (Rendition(),), "source")
    plan = planned(ledger, roll, SETTINGS, (Rendition(),), Engine())
    planning = time.process_time() - begun
    begun = time.process_time()
    handed = sum(len(group) for group in plan.stale())
    assert handed == sum(plan.counts.values()) == count
    print(json.dumps({"planning": planning, "handing": time.process_time() - begun, "mem": peak_mem(),
        "before": before, "database": sum(p.stat().st_size for p in folder.glob("*.sqlite*"))}))
"""


def ran(code: str, folder: Path, count: int, workers: int = 0) -> dict[str, float]:
    """What a script says in a process of its own."""
    script = folder / "script.py"
    script.write_text(code)
    here = Path(__file__).parent
    words = [sys.executable, str(script), str(folder), str(count), str(workers), "", str(here), str(here.parent)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here.parents[1]), str(here), str(here.parent)])}
    said = subprocess.run(words, check=True, stdout=subprocess.PIPE, env=environment, text=True).stdout
    return json.loads(said.splitlines()[-1])


def test_million(tmp_path: Path) -> None:
    """Write the table of nights over a million images: nothing changed, then 1 %."""
    write_picture(tmp_path / "one" / "a.png", picture(8, 8))
    ran(PREPARE, tmp_path, MILLION)
    ran(NIGHT, tmp_path, MILLION, 1)  # makes the page, with the pictures of a sample
    still = ran(NIGHT, tmp_path, MILLION, 1)
    assert (still["done"], still["unchanged"], still["opened"]) == (0, MILLION, 0)
    changed = MILLION // 100
    for number, path in enumerate(sorted((tmp_path / "source").glob("*/*"))):
        for file in sorted(path.iterdir())[: changed * 1000 // MILLION]:
            file.unlink()
            write_picture(file, picture(8, 9, seed=number))
    some = ran(NIGHT, tmp_path, MILLION, 2)
    assert (some["done"], some["unchanged"]) == (changed, MILLION - changed)
    assert changed <= some["opened"] < changed + 1000, "beside those that changed only the sample on the page is opened"
    rows = [
        (what, *(f"{night[key] / scale:g}" for key, scale in FIGURES), f"{night['all'] - night['looked']:.1f}")
        for what, night in (("nothing changed", still), ("1 % changed", some))
    ]
    header = ("night", "done", "unchanged", "headers read", "listing and stat, CPU s", "peak MB of the driver")
    title = f"A night over {MILLION:,} images of 8 x 8 px, each with its result there"
    note = "The rest: CPU seconds of the driver beside listing and stat, all of the 1 % included (bound 60 for none)."
    print(write_table("catalog-million", title, (*header, "the rest, CPU s"), rows, note))


FIGURES = (("done", 1), ("unchanged", 1), ("opened", 1), ("looked", 1), ("mem", 1e6))


def test_ten_million(tmp_path: Path) -> None:
    """Write the table of planning ten million images that are only listed."""
    rows = []
    for count in (MILLION, 10 * MILLION):
        found = ran(PLANNED, tmp_path, count)
        per = 1e6 / count
        beside = (found["mem"] - found["before"]) / 1e6
        cost = (f"{found['planning'] * per:.1f}", f"{found['handing'] * per:.1f}")
        rows.append(
            (f"{count:,}", *cost, f"{found['mem'] / 1e6:.0f}", f"{beside:.0f}", f"{found['database'] / 1e9:.2f}")
        )
        for path in tmp_path.glob("*.sqlite*"):
            path.unlink()
    header = ("images, all new", "planning, CPU us an image", "handing out, CPU us", "peak MB", "MB beyond the program",
              "GB of database")  # fmt: skip
    print(write_table("catalog-planning", "Planning images that are only listed (bound 300 MB)", header, rows))
