"""The definition of correct: a plain loop over a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np

from refine.background import flattened
from refine.boxes import Floats, read_boxed
from refine.errors import NonFiniteError
from refine.plan import Plan
from refine.session import Engine, run
from refine.spec import Pixels
from refine.window import Tile, Window, read_mirrored


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one task returns: facts, no pixels."""

    write: Window
    """What was written, output px."""
    blocks: int
    """Runs of the program."""


def restored_window(source: Pixels, plan: Plan, window: Window, engine: Engine | None = None) -> Pixels:
    """The restored pixels of one output window, (y, x, c) as `plan.result` says.

    source is the whole image (y, x, c); only what the window needs is read from it, once, so it may be any array
    that takes slices. Raises NonFiniteError where the program yields NaN or infinity.
    """
    engine = engine or Engine()
    blocks = list(plan.blocks(window))
    around = _bounds([block.read for block in blocks])
    pixels = read_window(source, plan, around)
    result = np.empty((window.height, window.width, plan.result.channels), plan.dtype)
    for block in blocks:
        result[block.write.within(window).slices] = _restored_block(pixels, around, plan, block, engine)
    return result


def read_window(source: Pixels, plan: Plan, window: Window) -> Pixels | Floats:
    """What a plan reads of a source for a window of it: its pixels, or the means of their boxes, as `plan.boxes` says.

    Past the edge the source is mirrored.
    """
    if plan.boxes == (1, 1):
        return read_mirrored(source, window)
    return read_boxed(source, window, plan.boxes, plan.colour.entered)


def restore_tile(source: Pixels, target: Pixels, plan: Plan, tile: Window, engine: Engine | None = None) -> Receipt:
    """Restore one tile: read its window from source (mirrored past the edge), write its pixels into target.

    source and target are (y, x, c) integers. Only target[tile] changes, and in one write, so the tiles of one plan
    may run in any order and at once. Raises NonFiniteError where the program yields NaN or infinity.
    """
    target[tile.slices] = restored_window(source, plan, tile, engine)
    return Receipt(tile, sum(1 for _ in plan.blocks(tile)))


def restored_pixels(source: Pixels, plan: Plan, engine: Engine | None = None) -> Pixels:
    """The whole restored image, tile after tile."""
    target = np.empty((*plan.output, plan.result.channels), plan.dtype)
    for tile in plan.tiles():
        restore_tile(source, target, plan, tile, engine)
    return target


def _restored_block(pixels: Pixels | Floats, around: Window, plan: Plan, block: Tile, engine: Engine) -> Pixels:
    (down, across), read = plan.boxes, block.read.within(around)
    rows, columns = slice(read.y0 // down, read.y1 // down), slice(read.x0 // across, read.x1 // across)
    view = np.ascontiguousarray(pixels[rows, columns])
    if plan.boxes == (1, 1):
        view = plan.colour.entered(cast("Pixels", view))
    restored, nonfinite = run(plan.program, engine, view, plan.inputs(block))
    if nonfinite:
        msg = (
            f"the program gave {nonfinite} values that are NaN or infinite in {block.write}; "
            "nothing of this image was written: check the network and the strengths"
        )
        raise NonFiniteError(msg)
    made = plan.colour.left(restored, plan.dtype)
    return made if plan.behind is None else flattened(made, plan.behind)


def _bounds(windows: list[Window]) -> Window:
    return Window(
        min(w.y0 for w in windows),
        min(w.x0 for w in windows),
        max(w.y1 for w in windows),
        max(w.x1 for w in windows),
    )
