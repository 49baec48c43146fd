"""A finished OME-Zarr image as a tiled TIFF with its pyramid: one writer, tiles decoded and encoded beside it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Protocol

from pipelines import omezarr
from pipelines.errors import StoreError
from refine.imagefile import write_pyramids
from refine.spec import ImageSpec, Pixels
from refine.tiffwriter import Compression, encoded_tile
from refine.window import Window, grid

TILE = 512
"""px of a tile: that of the chunks, each of which then is decoded once."""


class Level(Protocol):
    """Pixels (y, x, c) that are read by windows."""

    shape: tuple[int, int, int]

    def __getitem__(self, window: tuple[slice, slice]) -> Pixels:
        """The pixels of a window, from any thread."""
        ...


_AHEAD = 3
"""Tiles a thread that are encoded before their turn: 2 MB each at most."""


def export(image: Path, path: Path, spec: ImageSpec, *, compression: Compression = "none", threads: int = 2) -> None:
    """Write the image group `image` as a tiled TIFF with its levels in SubIFDs; BigTIFF where it may pass 4 GB.

    spec is that of the result, with what goes into the file beside the pixels. Uncompressed is the default: every
    reader knows it, it is what archives ask for, and 16-bit scans deflate by a tenth only, at a quarter of the speed.
    The same image gives the same bytes, whatever `threads`; a few tiles are held, however large it is. Nothing is
    visible under `path` before it is whole.

    Raises StoreError where the image is damaged or not what spec says, ImageWriteError where the disk refuses.
    """
    export_pages([(image, spec)], path, compression=compression, threads=threads)


def export_pages(
    pages: Sequence[tuple[Path, ImageSpec]], path: Path, *, compression: Compression = "none", threads: int = 2
) -> None:
    """As `export`, several images into one file: its pages, in their order."""
    export_levels([(_levels(image, spec), spec) for image, spec in pages], path, compression, threads)


def export_levels(
    pages: Sequence[tuple[Sequence[Level], ImageSpec]], path: Path, compression: Compression = "none", threads: int = 2
) -> None:
    """As `export_pages`, of pixels that are read window by window from anywhere: of each page, its levels."""
    described = [(spec, [level.shape[:2] for level in levels]) for levels, spec in pages]
    with ThreadPoolExecutor(max(threads, 1), "tiff") as pool:
        work = (
            partial(_tile, level, spec, window, compression)
            for levels, spec in pages
            for level in levels
            for window in grid(*level.shape[:2], TILE)
        )
        tiles = in_order(pool, work, _AHEAD * max(threads, 1))
        write_pyramids(path, described, tiles, TILE, compression)


def _levels(image: Path, spec: ImageSpec) -> list[omezarr.LevelArray]:
    pyramid = omezarr.pyramid(image)
    was = (pyramid.height, pyramid.width, pyramid.channels)
    if (was, pyramid.dtype) != (spec.shape, spec.dtype):
        result = f"{spec.shape} {spec.dtype}"
        raise StoreError(f"{image.name}: is {was} {pyramid.dtype}, its result should be {result}; run the job again")
    return [omezarr.LevelArray(image, pyramid, level) for level in range(len(pyramid.levels))]


def _tile(level: Level, spec: ImageSpec, window: Window, compression: Compression) -> bytes:
    return encoded_tile(level[window.slices], spec, TILE, compression)


def in_order(pool: ThreadPoolExecutor, work: Iterator[Callable[[], bytes]], ahead: int) -> Iterator[bytes]:
    """What each piece of work gives, in their order; at most `ahead` of them are done before they are asked for."""
    waiting: deque[Future[bytes]] = deque()
    try:
        for piece in work:
            waiting.append(pool.submit(piece))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
