"""A finished OME-Zarr image as Deep Zoom: a `.dzi` file and a folder of small pictures for viewers on the web.

Rows of tiles are written apart, by any number of workers, and may be written again. The `.dzi` comes last: where it
is, all is there.

Source: the Deep Zoom file format, http://schemas.microsoft.com/deepzoom/2008.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from pipelines import omezarr
from pipelines.errors import JobError, StoreError
from refine.display import Screen, shown, suffix, tile_bytes
from refine.imagefile import publish
from refine.spec import ImageSpec, Pixels
from refine.window import Window

_ABREAST = 8
"""Tiles of a row that are read at once: so they touch 9 chunks from left to right, and not 16."""
_PROGRESS = ".progress"
"""In the folder of tiles while it is made: what is being made, and which rows are finished."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of tiles: what one task writes."""

    level: int
    """Deep Zoom's number: 0 is one pixel, the greatest is the full size."""
    index: int
    """From the top."""


@dataclass(frozen=True, slots=True)
class DeepZoom:
    """What is to be made of an image. May be sent to workers."""

    image: Path
    """The image group."""
    path: Path
    """The `.dzi` file; its tiles lie beside it in a folder of that name with `_files` in place of the suffix."""
    spec: ImageSpec
    """Of the image."""
    tile: int = 510
    """px that a tile adds; with its overlaps it is as wide as a chunk."""
    overlap: int = 1
    """px that it shows of each neighbour."""
    quality: int = 90
    """Of JPEG, 1..100."""

    @property
    def folder(self) -> Path:
        """Where the tiles lie."""
        return self.path.with_name(f"{self.path.stem}_files")

    @property
    def levels(self) -> int:
        """How many there are: as many as halving takes to come to one pixel, and the first."""
        return (max(self.spec.height, self.spec.width) - 1).bit_length() + 1

    def size(self, level: int) -> tuple[int, int]:
        """Height and width of a level, px: those of the image halved, and rounded up.

        >>> DeepZoom(Path("a"), Path("a.dzi"), ImageSpec(600, 5, 1, "uint8")).size(9)
        (300, 3)
        """
        by = 1 << (self.levels - 1 - level)
        return ceil(self.spec.height / by), ceil(self.spec.width / by)

    def rows(self) -> list[Row]:
        """All there is to write, in any order."""
        return [Row(n, i) for n in reversed(range(self.levels)) for i in range(ceil(self.size(n)[0] / self.tile))]


def export(image: Path, path: Path, spec: ImageSpec, *, quality: int = 90, threads: int = 2) -> None:
    """Write the image group `image` as Deep Zoom. Started again after a kill, it goes on where it was.

    What is finished already is left alone. Tiles are sRGB of 8 bits whatever the image is: JPEG, or PNG where there is
    alpha. Raises JobError where something else lies at `path`, StoreError where the image is damaged or not what spec
    says.
    """
    plan = DeepZoom(image, path, spec, quality=quality)
    missing = begin(plan)
    with ThreadPoolExecutor(max(threads, 1), "dzi") as pool:
        for _ in pool.map(lambda row: write_row(plan, row), missing):
            pass
    finish(plan)


def begin(plan: DeepZoom) -> list[Row]:
    """Make room for the tiles; gives the rows that an earlier run of the same has not finished.

    Raises JobError where something else lies there, or the name does not end in `.dzi`. None are left where an
    earlier run came to its end.
    """
    if plan.path.suffix.lower() != ".dzi":
        raise JobError(f"{plan.path.name}: the name of a Deep Zoom image ends in .dzi")
    found = omezarr.opened(plan.image)
    if found.shape != plan.spec.shape or found.dtype != plan.spec.dtype:
        raise StoreError(f"{plan.image.name}: is {found.shape} {found.dtype}, its result should be {plan.spec.shape}")
    progress = plan.folder / _PROGRESS
    if _is_published(plan):
        shutil.rmtree(progress, ignore_errors=True)
        return []
    if plan.path.exists() or (plan.folder.exists() and not progress.is_dir()):
        there = plan.path if plan.path.exists() else plan.folder
        raise JobError(f"{there.name} is there already; remove it and its tiles, or name another target")
    key = _key(plan)
    if not (progress / key).exists():
        shutil.rmtree(plan.folder, ignore_errors=True)
        progress.mkdir(parents=True)
        (progress / key).touch()
    return [row for row in plan.rows() if not _is_finished(plan, row)]


def write_row(plan: DeepZoom, row: Row) -> None:
    """Write one row of tiles, and then that it is there. Raises StoreError where the image is damaged there."""
    folder = plan.folder / str(row.level)
    folder.mkdir(exist_ok=True)
    sizes = []
    for index, screen in enumerate(_tiles(plan, row)):
        data = tile_bytes(screen, plan.quality)
        (folder / f"{index}_{row.index}.{suffix(plan.spec)}").write_bytes(data)
        sizes.append(len(data))
    publish(_marker(plan, row), json.dumps(sizes).encode("ascii"))


def finish(plan: DeepZoom) -> None:
    """Have the disk write what it holds back, see that all tiles are there, and publish the `.dzi`.

    Raises StoreError where rows are missing.
    """
    if _is_published(plan):
        return
    # One for all: a hundred thousand small files, each synchronised by itself, take minutes.
    os.sync()
    missing = [row for row in plan.rows() if not _is_finished(plan, row)]
    if missing:
        raise StoreError(f"{plan.path.name}: {len(missing)} rows of tiles are missing; run it again")
    publish(plan.path, _description(plan).encode("ascii"))
    shutil.rmtree(plan.folder / _PROGRESS)


def _description(plan: DeepZoom) -> str:
    """What the `.dzi` says."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="{suffix(plan.spec)}" '
        f'Overlap="{plan.overlap}" TileSize="{plan.tile}">'
        f'<Size Height="{plan.spec.height}" Width="{plan.spec.width}"/></Image>\n'
        f"<!-- refine {_key(plan)} -->\n"
    )


def _is_published(plan: DeepZoom) -> bool:
    """Whether an earlier run of the same came to its end: the `.dzi` says what it was made of."""
    try:
        return plan.path.read_bytes() == _description(plan).encode("ascii")
    except OSError:
        return False


def _tiles(plan: DeepZoom, row: Row) -> Iterator[Screen]:
    """The tiles of a row from left to right, each with its overlaps, as a screen shows them."""
    height, width = plan.size(row.level)
    source = _level(plan, row.level)
    first, last = max(row.index * plan.tile - plan.overlap, 0), (row.index + 1) * plan.tile + plan.overlap
    whole = Window(0, 0, height, width)
    for x in range(0, width, _ABREAST * plan.tile):
        stop = x + _ABREAST * plan.tile
        band = Window(first, x - plan.overlap, last, stop + plan.overlap).clip(whole)
        screen = shown(source[band.slices], plan.spec)
        for left in range(x, min(stop, width), plan.tile):
            tile = Window(first, left - plan.overlap, last, left + plan.tile + plan.overlap).clip(whole)
            yield screen[tile.within(band).slices]


def _level(plan: DeepZoom, level: int) -> omezarr.LevelArray | Pixels:
    """The pixels of a level: those of the pyramid, or its last one halved further."""
    pyramid = omezarr.pyramid(plan.image)
    from_full, last = plan.levels - 1 - level, len(pyramid.levels) - 1
    array = omezarr.LevelArray(plan.image, pyramid, min(from_full, last))
    if from_full <= last:
        return array
    height, width, _ = array.shape
    pixels = array[:height, :width]
    for _ in range(from_full - last):
        pixels = pyramid.halved(pixels)
    return pixels


def _key(plan: DeepZoom) -> str:
    """Digest of what the tiles depend on: the plan, and the image's metadata, which name what it was made of."""
    spec = plan.spec
    said = repr((spec.shape, spec.dtype, spec.space, plan.tile, plan.overlap, plan.quality))
    digest = hashlib.sha256(said.encode())
    digest.update(spec.icc or b"")
    digest.update((plan.image / "zarr.json").read_bytes())
    return digest.hexdigest()


def _marker(plan: DeepZoom, row: Row) -> Path:
    return plan.folder / _PROGRESS / f"{row.level}-{row.index}"


def _is_finished(plan: DeepZoom, row: Row) -> bool:
    """Whether a row was written, and its tiles are as long as they were."""
    try:
        sizes = json.loads(_marker(plan, row).read_bytes())
        folder, end = plan.folder / str(row.level), f"{row.index}.{suffix(plan.spec)}"
        found = [(folder / f"{index}_{end}").stat().st_size for index in range(len(sizes))]
    except (OSError, ValueError, TypeError):
        return False
    return bool(found == sizes)
