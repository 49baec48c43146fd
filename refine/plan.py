"""The plan of one image: its tiles, the source windows they need, and the memory they take. Integers only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import gcd, lcm, prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from refine.background import Rgb, behind, hexed
from refine.boxes import STRIP_PX, Boxes
from refine.chain import Chain
from refine.colour import Treatment, treatment
from refine.errors import PlanError
from refine.program import Layout, Program, Taps2, compiled
from refine.resample import Axis, Resample
from refine.spec import Depth, ImageSpec, Pixels
from refine.window import Tile, Window, even_grid, grid

Cuts = tuple[tuple[int, int], ...]
"""Starts and stops along one axis."""
MAX_SIDE = 1_000_000
"""px. Beyond this a size is taken for a slip of the keyboard."""
RESERVED_MEM = 260_000_000
"""Bytes a worker holds before it has done anything: interpreter, libraries, an open session."""
STEP_MEM_PER_PX = 150
"""Bytes per px of a block's result that the steps after the network hold at their peak; measured."""
STRIP_MEM_PER_PX = 100
"""Bytes per px of a strip of the source whose boxes are averaged: its pixels, weighted by alpha, and their sums."""
SHRUNK_PX = 1024
"""px of what is resampled: no block reaches over more of them but for its halo, however much smaller it comes out."""


@dataclass(frozen=True)
class Plan:
    """How one image is restored. Pure arithmetic: two plans of the same arguments are the same plan.

    A tile is what one task writes (a shard); a block is what one run of the program computes. Bytes of the
    result depend on neither.
    """

    chain: Chain
    """What is done."""
    source: ImageSpec
    """What it is done to."""
    output: tuple[int, int]
    """Height, width of the result, px."""
    dtype: Depth
    """Depth of the result."""
    tile: int
    """Side of a tile, output px."""
    block: int
    """Largest side of a block's core, output px."""
    asked: tuple[Cuts, Cuts] | None = None
    """Rows, and columns, of the result that windows are made of, where these are not the tiles; start and stop of
    each, none longer than a tile."""
    background: Rgb | None = None
    """What a picture with alpha is laid on at the very end; None: its alpha stays."""

    @cached_property
    def colour(self) -> Treatment:
        """How the source's encoding goes into the program and comes out; raises ImageReadError where it cannot."""
        found = treatment(self.source)
        idle = not any(not isinstance(step, Resample) for step in self.chain.active) and self.output == self.source_size
        # Where nothing is to be done, nothing is converted either: the result is the source.
        return found.untouched(self.source.dtype) if idle else found

    @property
    def source_size(self) -> tuple[int, int]:
        """Height, width of the source, px."""
        return self.source.height, self.source.width

    @cached_property
    def seen(self) -> ImageSpec:
        """What the program sees of the source."""
        colour = self.colour
        return replace(self.source, channels=colour.channels, dtype=colour.dtype, space="additive", icc=None)

    @cached_property
    def boxes(self) -> Boxes:
        """Height, width of the boxes of source px whose means the program sees; (1, 1): it sees the source itself.

        Where nothing stands before a resampling that averages boxes, its reader does that: a result much smaller than
        its source then takes memory for the result, not for the source.
        """
        first = next(iter(self.chain.active), None)
        if self.axes is None or not isinstance(first, Resample):
            return 1, 1
        return self.axes[0].box, self.axes[1].box

    @cached_property
    def result(self) -> ImageSpec:
        """What is written, metadata still as the source has them."""
        made = self._restored
        if self.background is None or self.behind is None:
            return made
        channels = self.behind.shape[2]
        icc = made.icc if channels == made.channels - 1 else None
        return replace(made, channels=channels, icc=icc, notes=(*made.notes, f"laid on {hexed(self.background)}"))

    @cached_property
    def behind(self) -> Pixels | None:
        """What transparent pixels show: one pixel (1, 1, c) in encoding and depth of the result. None: alpha stays.

        Raises PlanError where the background cannot be said in the encoding of the picture.
        """
        if self.background is None or not self._restored.has_alpha:
            return None
        return behind(self.background, self._restored)

    @cached_property
    def _restored(self) -> ImageSpec:
        """What the chain makes; alpha, where the source has it, is still there."""
        height, width = self.output
        space: Literal["additive", "lab"] = "lab" if self.source.space == "lab" else "additive"
        notes = (*self.source.notes, self.colour.note) if self.colour.note else self.source.notes
        return replace(
            self.source,
            height=height,
            width=width,
            channels=self.colour.channels,
            dtype=self.dtype,
            icc=self.colour.icc,
            space=space,
            orientation=1,
            page=0,
            notes=notes,
            quantisation=None,
        )

    @cached_property
    def axes(self) -> tuple[Axis, Axis] | None:
        """The resampling of y and x to the exact size; None where the networks' factor gives it."""
        enlarged = self.source.height * self.chain.scale, self.source.width * self.chain.scale
        if enlarged == self.output:
            return None
        if self.chain.kernel is None:
            msg = (
                f"the chain makes {enlarged[1]} x {enlarged[0]} px of this image, not {self.output[1]} x "
                f"{self.output[0]}; add a resample step for sizes that are no whole multiple"
            )
            raise PlanError(msg)
        return self._axes_from(*enlarged, kernel=self.chain.kernel)

    @cached_property
    def alpha_axes(self) -> tuple[Axis, Axis] | None:
        """The resampling of alpha, from the source straight to the exact size; None where none is needed."""
        # Where colour is resampled back to the source's own size, alpha must follow it to the same positions.
        same = self.source_size == self.output and self.axes is None
        if same or not self.seen.has_alpha:
            return None
        return self._axes_from(self.source.height, self.source.width, kernel=self.chain.kernel or "lanczos3")

    def _axes_from(self, height: int, width: int, kernel: str) -> tuple[Axis, Axis]:
        return Axis(height, self.output[0], kernel), Axis(width, self.output[1], kernel)

    @cached_property
    def program(self) -> Program:
        """The compiled chain."""
        boxed = self.boxes != (1, 1)
        taps, alpha = (None if axes is None else _structure(axes, boxed=boxed) for axes in (self.axes, self.alpha_axes))
        target = self.colour.depth(self.dtype)
        layout = Layout(self.seen.channels, "float32" if boxed else self.seen.dtype, target, taps, alpha)
        return compiled(self.chain, layout)

    @property
    def exact(self) -> bool:
        """Whether tiles give the same bytes as the whole image."""
        return self.program.before.exact and self.program.after.exact

    @cached_property
    def multiple_of(self) -> tuple[int, int]:
        """Rows, and columns, of the source that every window starts and ends on multiples of: for strides and boxes."""
        before = self.program.before
        multiples = []
        for axis in range(2):
            boxes = [] if self.axes is None else [self.axes[axis].box // gcd(self.axes[axis].box, before.scale)]
            boxes += [] if self.alpha_axes is None else [self.alpha_axes[axis].box]
            multiples.append(lcm(before.multiple_of, *boxes))
        return multiples[0], multiples[1]

    @property
    def halo(self) -> int:
        """Source px read beyond the edge of the image, and so beyond any tile, at most."""
        whole = self.source_window(Window(0, 0, *self.output))
        return max(-whole.y0, -whole.x0, whole.y1 - self.source.height, whole.x1 - self.source.width)

    def tiles(self) -> Iterator[Window]:
        """Output windows, one per task, row by row."""
        return grid(*self.output, self.tile)

    @property
    def tile_count(self) -> int:
        """Tiles in all."""
        rows, columns = (-(-size // self.tile) for size in self.output)
        return rows * columns

    def source_window(self, window: Window) -> Window:
        """The backward walk: the source pixels that an output window needs. May pass the image edge."""
        y0, y1 = self._read_axis(0, window.y0, window.y1)
        x0, x1 = self._read_axis(1, window.x0, window.x1)
        return Window(y0, x0, y1, x1)

    def _read_axis(self, axis: int, start: int, stop: int) -> tuple[int, int]:
        before, after = self.program.before, self.program.after
        low, high = start - after.halo, stop + after.halo
        reads = []
        if self.axes is not None:
            low, high = self.axes[axis].backward(low, high)
        halo = before.halo * self.boxes[axis]
        reads.append((low // before.scale - halo, -(-high // before.scale) + halo))
        if self.alpha_axes is not None:
            reads.append(self.alpha_axes[axis].backward(start, stop))
        low, high = min(r[0] for r in reads), max(r[1] for r in reads)
        step = self.multiple_of[axis]
        # Snap outward: strides and boxes read their phase from the window's first row.
        return low // step * step, -(-high // step) * step

    def blocks(self, tile: Window) -> Iterator[Tile]:
        """The pieces of a tile that the program computes one by one. All read windows of a plan have one shape."""
        height, width = self._read_shape
        for core in even_grid(tile, self.block):
            read = self.source_window(core)
            read = Window(read.y0, read.x0, read.y0 + height, read.x0 + width)
            y, x = self._result_start(core, read)
            yield Tile(read, core.shift(-y, -x), core)

    @cached_property
    def _read_shape(self) -> tuple[int, int]:
        shape = []
        for axis in range(2):
            reads = [self._read_axis(axis, *core) for core in self._cores(axis)]
            shape.append(max(high - low for low, high in reads))
        return shape[0], shape[1]

    @cached_property
    def _core_shape(self) -> tuple[int, int]:
        sides = [max(stop - start for start, stop in self._cores(axis)) for axis in range(2)]
        return sides[0], sides[1]

    def _cores(self, axis: int) -> Cuts:
        """What blocks write along an axis."""
        size = self.output[axis]
        tiles = tuple((start, min(start + self.tile, size)) for start in range(0, size, self.tile))
        return _cuts(tiles if self.asked is None else self.asked[axis], self.block)

    def _result_start(self, core: Window, read: Window) -> tuple[int, int]:
        """The output px that is the first of the program's result for a block."""
        if self.axes is None:
            return read.y0 * self.program.before.scale, read.x0 * self.program.before.scale
        return core.y0 - self.program.after.halo, core.x0 - self.program.after.halo

    def inputs(self, block: Tile) -> Mapping[str, NDArray[np.generic]]:
        """The runtime inputs of the program for one block: strengths, resampling tables, crop."""
        fed: dict[str, NDArray[np.generic]] = dict(self.chain.parameters())
        fed["crop"] = np.array([block.crop.y0, block.crop.x0, block.crop.y1, block.crop.x1], np.int64)
        start = self._result_start(block.write, block.read)
        if self.axes is not None:
            fed |= self._tables("colour", self.axes, block.read, start, self.program.before.scale)
        if self.alpha_axes is not None:
            fed |= self._tables("alpha", self.alpha_axes, block.read, start, 1)
        return fed

    def _tables(
        self, name: str, axes: tuple[Axis, Axis], read: Window, start: tuple[int, int], scale: int
    ) -> dict[str, NDArray[np.generic]]:
        tables: dict[str, NDArray[np.generic]] = {}
        origins, sizes = (read.y0 * scale, read.x0 * scale), (read.height * scale, read.width * scale)
        for axis, direction in enumerate(("rows", "columns")):
            stop = start[axis] + self._result_shape[axis]
            index, weight = axes[axis].table(start[axis], stop, origins[axis], sizes[axis])
            tables[f"{name}.{direction}.index"] = index
            tables[f"{name}.{direction}.weight"] = weight[:, :, None]
        return tables

    @cached_property
    def _result_shape(self) -> tuple[int, int]:
        """Height, width of the program's result for one block, before it is cropped."""
        if self.axes is None:
            height, width = self._read_shape
            return height * self.program.before.scale, width * self.program.before.scale
        around = 2 * self.program.after.halo
        return self._core_shape[0] + around, self._core_shape[1] + around

    @cached_property
    def projected_mem(self) -> int:
        """Bytes a worker needs at most for one tile: its source, one block in the program, its result."""
        return RESERVED_MEM + self._block_mem + self._tile_mem

    @property
    def _block_mem(self) -> int:
        height, width = (side // box for side, box in zip(self._read_shape, self.boxes, strict=True))
        scale, network = 1, 0
        for card in self.chain.cards:
            network = max(network, card.mem_per_px * height * width * scale**2)
            scale *= card.scale
        enlarged = height * width * scale**2
        result = self._result_shape[0] * self._result_shape[1]
        return network + STEP_MEM_PER_PX * max(enlarged, result)

    @property
    def _tile_mem(self) -> int:
        side = min(self.tile, self.output[0]), min(self.tile, self.output[1])
        read = self.source_window(Window(0, 0, *side))
        source = read.area * self.source.channels * np.dtype(self.source.dtype).itemsize
        if self.boxes != (1, 1):
            source = (
                read.area // prod(self.boxes) * self.seen.channels * 4 + max(STRIP_PX, read.width) * STRIP_MEM_PER_PX
            )
        result = side[0] * side[1] * self.result.channels * np.dtype(self.dtype).itemsize
        # Twice the result: once as pixels, once as the encoded shard.
        return source + 2 * result


def _structure(axes: tuple[Axis, Axis], *, boxed: bool) -> Taps2:
    """What a program is compiled for; boxes that are averaged before are none to it."""
    rows, columns = axes[0].structure, axes[1].structure
    return ((rows[0], 1), (columns[0], 1)) if boxed else (rows, columns)


@lru_cache(maxsize=1024)
def _cuts(whole: Cuts, block: int) -> Cuts:
    """The block cores along one axis."""
    windows = (Window(0, start, 1, stop) for start, stop in whole)
    return tuple((w.x0, w.x1) for one in windows for w in even_grid(one, block))


def planned(
    chain: Chain,
    source: ImageSpec,
    output: tuple[int, int],
    *,
    dtype: Depth | None = None,
    tile: int = 2048,
    block: int = 512,
    allowed_mem: int | None = None,
    background: Rgb | None = None,
) -> Plan:
    """The plan that makes `output` (height, width, px) of `source`, laid on a background where it has alpha.

    tile and block are sides in output px. Raises PlanError where a task would need more than allowed_mem bytes
    (naming the largest tile that fits), and for sizes that no chain can give.
    """
    if min(output) < 1 or max(output) > MAX_SIDE:
        msg = f"a result is 1 to {MAX_SIDE} px a side, asked for {output[1]} x {output[0]}; check the scale or size"
        raise PlanError(msg)
    if block < 16 or tile < 16:
        msg = f"tile and block are at least 16 px a side, got tile {tile} and block {block}"
        raise PlanError(msg)
    if source.space == "lab" and dtype == "uint8":
        msg = "L*a*b* is written in 16 bits, asked for uint8; leave output.dtype at 'source'"
        raise PlanError(msg)
    plan = Plan(chain, source, output, dtype or source.dtype, tile, min(block, tile), background=background)
    plan = replace(plan, block=_block(plan))
    if allowed_mem is not None and plan.projected_mem > allowed_mem:
        raise PlanError(_too_much(plan, allowed_mem))
    return plan


def _block(plan: Plan) -> int:
    """The side of a block: as it is asked for, or smaller, where networks look at a source that is made smaller."""
    if plan.axes is None:
        return plan.block
    ratio = max(axis.ratio / box for axis, box in zip(plan.axes, plan.boxes, strict=True))
    return max(1, min(plan.block, int(SHRUNK_PX / ratio)))


def _too_much(plan: Plan, allowed_mem: int) -> str:
    tile = min(plan.tile, max(plan.output))
    needs, allowed = nbytes_said(plan.projected_mem), nbytes_said(allowed_mem)
    message = f"a task with tile {tile} needs {needs}, more than the {allowed} allowed"

    def needed(tile: int) -> int:
        return replace(plan, tile=tile, block=min(plan.block, tile)).projected_mem

    # Whole chunks can be made of a multiple of 64; below that any multiple of 16 will do.
    sides = [16, 32, 48, *range(64, plan.tile, 64)]
    fitting = next((side for side in reversed(sides) if side < plan.tile and needed(side) <= allowed_mem), None)
    if fitting is not None:
        return f"{message}; the largest tile that fits is {fitting}"
    if plan.chain.cards and min(plan.source_size) > max(plan.output):
        return (
            f"{message}: for a result so small its networks look at much of the source at once; leave out --net and "
            "--denoise, for a smaller picture averages noise out"
        )
    least = needed(16)
    return f"{message}, and no smaller tile fits; allow at least {nbytes_said(least)}: plan.allowed_mem={least}"


def nbytes_said(nbytes: int) -> str:
    """Bytes as people say them, rounded up and finely: what is needed must not read like what is allowed.

    >>> nbytes_said(1_499_999_999), nbytes_said(16_281_500_000)
    ('1500 MB', '16.3 GB')
    """
    return f"{-(-nbytes // 1_000_000)} MB" if nbytes < 10**10 else f"{-(-nbytes // 10**8) / 10} GB"
