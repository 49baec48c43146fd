"""The source of a result as a layer to compare with: enlarged to the result's size by plain interpolation."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import ceil, floor
from typing import TypeVar, cast

import numpy as np
from PIL import Image as Pillow

from pipelines import sources
from pipelines.errors import JobError
from pipelines.pyramid import levels
from pipelines.sources import Source
from refine.display import Screen, shown
from refine.limits import SCAN_LIMITS
from refine.spec import Pixels
from refine.window import Window

_SIDE = 512
"""px of a tile."""
_MAX_READ = 16_000_000
"""px of the source that one tile may need: half a second, and 150 MB of 16-bit RGB."""
_MAX_KEPT_NBYTES = 1 << 30
"""Of a source that can only be decoded as a whole: it is kept in memory."""


_Found = TypeVar("_Found")


class Reader:
    """The one thread that reads sources, whoever asks: a decoder belongs to its thread, and is a process of its own."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "before")

    def found(self, work: Callable[[], _Found]) -> _Found:
        """What the work gives, done in that thread."""
        return self._thread.submit(work).result()

    def close(self) -> None:
        """Read no more."""
        self._thread.submit(lambda: sources.decoder(SCAN_LIMITS).close())
        self._thread.shutdown()


class Before:
    """The source of one page, over its result."""

    def __init__(self, source: Source, size: tuple[int, int], reader: Reader) -> None:
        """Size: height and width of the result, px."""
        self.spec = source.spec
        self._source = source
        self._size = size
        self._reader = reader
        self._kept: Pixels | None = None

    @staticmethod
    def check(source: Source) -> None:
        """Raise JobError for a source that can only be decoded as a whole, and is too large for that."""
        if source.kind in ("bands", "whole") and source.spec.nbytes > _MAX_KEPT_NBYTES:
            what = f"{source.spec.nbytes / 1e9:.1f} GB can only be decoded as a whole"
            raise JobError(f"{source.path.name}: {what}; store it as a tiled TIFF to compare it")

    @property
    def levels(self) -> int:
        """How many levels of the result there are tiles for: one tile of the next would read too much."""
        count = len(levels(*self._size))
        return next((level for level in range(1, count) if self._read_area(level) > _MAX_READ), count)

    @property
    def zoom(self) -> float:
        """Screen px per px of the result from which on there are tiles."""
        return 0.0 if self.levels == len(levels(*self._size)) else 0.5**self.levels

    @property
    def note(self) -> str:
        """What the page says of this layer."""
        by = self._size[1] / self.spec.width
        if by == 1:
            return "Before: the source, px for px under the result."
        return f"Before: the source, enlarged {by:.4g} times by bilinear interpolation to lie over the result."

    def window(self, window: Window, level: int) -> Screen:
        """The source as a screen shows it where the result has `window`, px of its level: that many px.

        Raises ImageReadError or StoreError where the source is damaged or was changed.
        """
        return self._reader.found(partial(self._enlarged, window, level))

    def _step(self, level: int) -> tuple[float, float]:
        """px of the source per px of a level, down and across."""
        return self.spec.height / self._size[0] * 2**level, self.spec.width / self._size[1] * 2**level

    def _read_area(self, level: int) -> float:
        down, across = self._step(level)
        return min(_SIDE * down, self.spec.height) * min(_SIDE * across, self.spec.width)

    def _enlarged(self, window: Window, level: int) -> Screen:
        height, width = self.spec.height, self.spec.width
        down, across = self._step(level)
        top, bottom = min(window.y0 * down, height), min(window.y1 * down, height)
        left, right = min(window.x0 * across, width), min(window.x1 * across, width)
        # Bilinear looks one pixel further, of those that it makes or of those that it has, whichever are larger.
        reach_y, reach_x = ceil(max(down, 1)) + 1, ceil(max(across, 1)) + 1
        needed = Window(
            floor(top) - reach_y, floor(left) - reach_x, ceil(bottom) + reach_y, ceil(right) + reach_x
        ).clip(Window(0, 0, height, width))
        screen = shown(self._read(needed), self.spec)
        picture = Pillow.fromarray(screen[:, :, 0] if screen.shape[2] == 1 else np.ascontiguousarray(screen))
        box = (left - needed.x0, top - needed.y0, right - needed.x0, bottom - needed.y0)
        made = picture.resize((window.width, window.height), Pillow.Resampling.BILINEAR, box)
        return cast("Screen", np.asarray(made).reshape(window.height, window.width, -1))

    def _read(self, needed: Window) -> Pixels:
        if self._source.kind not in ("bands", "whole"):
            return self._source.opened()[needed.slices]
        if self._kept is None:
            self._kept = self._source.opened()[0 : self.spec.height, 0 : self.spec.width]
        return self._kept[needed.slices]
