"""A plan as a Dask graph: for looking at, and for small runs. Large runs stream the same work through a window."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import cast

from dask.delayed import Delayed, delayed

from pipelines import store
from refine.plan import Plan
from refine.spec import Metadata, Pixels
from refine.tiles import Receipt, restore_tile
from refine.window import Window


def graph(plan: Plan, source: Path, target: Path) -> Delayed:
    """The graph that fills the array at `target` from the array at `source`: one task a tile, then one that checks.

    Computed, it gives the number of tiles. Tiles depend on nothing and share nothing, so any scheduler may run them.
    """
    # Without what the plan has worked out for itself: each task would carry the compiled program. Nor metadata.
    bare = replace(plan, source=replace(plan.source, metadata=Metadata()))
    tiles = [
        delayed(_tile)(bare, source, target, window, dask_key_name=f"tile-{window.y0}-{window.x0}")
        for window in plan.tiles()
    ]
    stitch: Delayed = delayed(_stitched)(tiles, plan.tile_count, dask_key_name="stitch")
    return stitch


def dot(plan: Plan) -> str:
    """The graph in Graphviz's language: what each tile reads and writes.

    Draw it with `dot -Tsvg`.
    """
    lines = ["digraph plan {", "  rankdir=LR; node [shape=box, fontname=monospace];"]
    height, width = plan.source.height, plan.source.width
    lines.append(f'  source [label="source\\n{width} x {height} px"];')
    for tile in plan.tiles():
        name = f"tile_{tile.y0}_{tile.x0}"
        lines.append(f'  {name} [label="tile {_said(tile)}\\nreads {_said(plan.source_window(tile))}"];')
        lines.append(f"  source -> {name}; {name} -> stitch;")
    height, width = plan.output
    return "\n".join([*lines, f'  stitch [label="stitch\\n{width} x {height} px"];', "}", ""])


def _said(window: Window) -> str:
    return f"y {window.y0}..{window.y1} x {window.x0}..{window.x1}"


def _tile(plan: Plan, source: Path, target: Path, window: Window) -> Receipt:
    array = store.opened(target, "r+")
    store.check_one_writer(array, plan.tile)
    return restore_tile(cast("Pixels", store.opened(source)), cast("Pixels", array), plan, window)


def _stitched(receipts: Iterable[Receipt], count: int) -> int:
    written = {receipt.write for receipt in receipts}
    assert len(written) == count
    return count
