"""What a tile costs beside its program: reading, cutting, storing."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numcodecs
import numpy as np
import pytest
from tables import cpu_seconds, write_table
from test_program_cost import picture

from pipelines import store
from refine import tiles
from refine.preset import load_preset
from refine.session import Engine, run
from refine.settings import Settings, Size
from refine.spec import Depth, ImageSpec
from refine.tiles import restored_window
from refine.window import Window, grid

pytestmark = pytest.mark.bench


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_job_cost(tmp_path: Path, dtype: Depth, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the table of what one 2048-px tile costs beside its program, ns per output px."""
    settings = Settings(load_preset("balanced"), Size(scale=Fraction(2)))
    side = 1600
    plan = settings.plan(ImageSpec(side, side, 3, dtype))
    pixels = picture(side, side, 3).astype(dtype) * (257 if dtype == "uint16" else 1)
    source = store.create(tmp_path / "source", pixels.shape, dtype, 1024, store.SOURCE_CHUNK)
    source[:, :] = pixels
    target = store.create(tmp_path / "target", (*plan.output, 3), dtype, plan.tile, store.TARGET_CHUNK)
    tile = Window(0, 0, 2048, 2048)
    done = restored_window(pixels, plan, tile)
    blocks = list(plan.blocks(tile))
    part = np.ascontiguousarray(pixels[: blocks[0].read.height, : blocks[0].read.width])
    inputs = plan.inputs(blocks[0])
    (program,) = cpu_seconds(lambda: run(plan.program, Engine(), part, inputs), rounds=3)

    # The loop alone: a program that gives its answer at once.
    answer = np.ascontiguousarray(done[: blocks[0].write.height, : blocks[0].write.width])
    monkeypatch.setattr(tiles, "run", lambda *_: (answer, 0))
    read = Window(0, 0, 1024 + plan.halo, 1024 + plan.halo)
    shard = store.shard_path(tmp_path / "target", tile, plan.tile)
    chunks = [np.ascontiguousarray(done[w.slices]) for w in grid(2048, 2048, store.TARGET_CHUNK)]
    codec = numcodecs.Blosc("zstd", 1, numcodecs.Blosc.SHUFFLE)
    # The window of a corner tile touches this many chunks of the source a side.
    touched = (-(-(1024 + plan.halo) // store.SOURCE_CHUNK)) ** 2
    stored = codec.encode(np.ascontiguousarray(pixels[: store.SOURCE_CHUNK, : store.SOURCE_CHUNK]))
    target[tile.slices] = done
    loop, reading, writing, hashing, encoding, decoding = cpu_seconds(
        lambda: restored_window(pixels, plan, tile),
        lambda: source[read.slices],
        lambda: target.__setitem__(tile.slices, done),
        lambda: store.sealed(shard),
        lambda: [codec.encode(chunk) for chunk in chunks],
        lambda: [codec.decode(stored) for _ in range(touched)],
        rounds=5,
    )
    per_px = 1e9 / tile.area
    beside = loop + reading + writing + hashing - encoding - decoding
    rows = [
        ("program", f"{program * len(blocks) * per_px:.0f}"),
        ("loop: cut, mirror, tables, put together", f"{loop * per_px:.1f}"),
        ("read the window from the working array", f"{reading * per_px:.1f}"),
        ("of it: blosc", f"{decoding * per_px:.1f}"),
        ("write the shard", f"{writing * per_px:.1f}"),
        ("of it: blosc, zstd-1 with shuffle", f"{encoding * per_px:.1f}"),
        ("fsync and digest of the shard's file", f"{hashing * per_px:.1f}"),
        ("all beside program and codec (bound 25, goal 10)", f"{beside * per_px:.1f}"),
    ]
    title = f"One tile of 2048 x 2048 px, {dtype} RGB, beside its program"
    print(write_table(f"job-cost-{dtype}", title, ("work", "CPU ns per output px"), rows))
