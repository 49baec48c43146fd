"""Peak memory of the worker that makes tiles, as the image grows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tables import write_table
from test_program_cost import picture

pytestmark = pytest.mark.bench

_SIDES = {1: 1000, 4: 2000, 16: 4000, 64: 8000}
_SCRIPT = """
import json, sys
from fractions import Fraction
from pathlib import Path
import distributed  # a worker has it loaded
from pipelines import tasks
from pipelines.place import Folder, Spot
from pipelines.targets import Files
from pipelines.items import Common, Ingest, Receipt, Restore, Shard
from refine.decoder import Decoder
from refine.limits import Limits
from refine.preset import load_preset
from refine.session import Engine
from refine.settings import Settings, Size

source, work, tiled = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "tiled"
settings = Settings(load_preset(), Size(scale=Fraction(2)))
common = Common(Engine(), Limits(), Files(Folder(work)))
with Decoder() as decoder:
    spec = decoder.spec(source)
plan = settings.plan(spec)
status = source.stat()
spot = Spot(Folder(source.parent), source.name)
image = Restore(source.name, spot, "out.tif", status.st_size, status.st_mtime_ns, settings)
if tiled:
    items = [Ingest(image, work), *(Shard(image, work, t) for t in list(plan.tiles())[:3])]
else:
    items = [image]
for item in items:
    (answer,) = tasks.performed((item,), common)
    assert isinstance(answer, Receipt), answer
# Not ru_maxrss: that of the process which started this one is counted in.
status = Path("/proc/self/status").read_text()
peak = 1024 * int(status.partition("VmHWM:")[2].split()[0])
from pipelines import ingest
from pipelines.estimate import whole_mem
bound = max(plan.projected_mem, ingest.projected_mem(spec)) if tiled else whole_mem(plan)
print(json.dumps({"peak": peak, "bound": bound, "tiles": plan.tile_count}))
"""


def test_worker_memory(tmp_path: Path) -> None:
    """Write the table of a worker's peak memory, whole and tiled, against the plan's bound."""
    rows = []
    for megapixels, side in _SIDES.items():
        path = tmp_path / f"{megapixels}.tif"
        tifffile.imwrite(path, np.tile(picture(1000, 1000, 3), (side // 1000, side // 1000, 1)), photometric="rgb")
        tiled = megapixels > 1
        work = tmp_path / f"work{megapixels}"
        work.mkdir()
        command = [sys.executable, "-c", _SCRIPT, str(path), str(work), "tiled" if tiled else "whole"]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        row = (str(megapixels), "tiled" if tiled else "whole", str(found["tiles"]))
        rows.append((*row, f"{found['peak'] / 1e6:.0f}", f"{found['bound'] / 1e6:.0f}"))
    header = ("input MP, RGB 8 bit", "how", "tiles", "peak, MB", "bound of the plan, MB")
    notes = "Peak resident memory of one process that ingests the image and makes three tiles at scale 2."
    print(write_table("worker-memory", "Memory of a worker", header, rows, notes))
