"""OME-Zarr 0.5 images: what a scan writes, tile by tile with the levels of its pyramid, and reads back by windows.

A folder holds one image, or several pages as one group each, `0`, `1`... An image is a group of arrays `0`, `1`...,
one a level. Only whole shards are ever written, each by one task and from nothing that was at its place before.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from pipelines import ngff, shard
from pipelines.errors import JobError, StoreError
from pipelines.pyramid import CHUNK, LevelShard, Pyramid
from pipelines.store import ShardFile, is_whole
from refine.spec import ImageSpec, Pixels
from refine.staging import publish
from refine.window import Window, grid

_METADATA = "zarr.json"
_KEPT = ("icc", "resolution", "space")
"""What `create` writes of the `refine` attribute."""


@dataclass(frozen=True, slots=True)
class Written:
    """A shard that is on the disk."""

    level: int
    """Of the pyramid."""
    y: int
    """First row, px of the level."""
    x: int
    """First column, px of the level."""
    nbytes: int
    """Of the file."""
    sha256: str
    """Of the file, hex."""


@dataclass(frozen=True, slots=True)
class Missing:
    """What is still to be written of an image."""

    tiles: list[Window]
    """px of level 0."""
    upper: list[list[LevelShard]]
    """Shards of the upper levels, level by level: one level's may run at once, and need the one before."""


class LevelArray:
    """One level's pixels (y, x, c): takes two slices, and gives plain numpy pixels. Threads and processes may share it.

    A shard that is lost or damaged is a StoreError, never other pixels.
    """

    def __init__(self, folder: Path, pyramid: Pyramid, level: int) -> None:
        self._folder = folder
        self._level = level
        self._side = pyramid.side(level)
        self._form = ngff.form(pyramid, level)
        self.shape = (*pyramid.levels[level], pyramid.channels)
        self.dtype = np.dtype(pyramid.dtype)

    def __getitem__(self, window: tuple[slice, slice]) -> Pixels:
        (y0, y1, _), (x0, x1, _) = (part.indices(size) for part, size in zip(window, self.shape, strict=False))
        wanted = Window(y0, x0, max(y0, y1), max(x0, x1))
        pixels = np.empty((wanted.height, wanted.width, self.shape[2]), self.dtype)
        for y in range(wanted.y0 // self._side * self._side, wanted.y1, self._side):
            for x in range(wanted.x0 // self._side * self._side, wanted.x1, self._side):
                whole = Window(y, x, y + self._side, x + self._side)
                part = wanted.clip(whole)
                path = shard_path(self._folder, self._level, y // self._side, x // self._side)
                shard.read(path, part.within(whole), self._form, pixels[part.within(wanted).slices])
        return pixels


def create(folder: Path, pages: Sequence[ImageSpec], tile: int, chunk: int = CHUNK) -> list[Path]:
    """Lay out the images of one or several pages below `folder`; gives the folder of each, in order.

    pages are what is written. May be called again: what is there already is kept. Raises JobError where something
    else is there, PlanError for a tile that is not chunk * 2^k px.
    """
    documents: dict[Path, ngff.Document] = {}
    images = [folder] if len(pages) == 1 else [folder / str(page) for page in range(len(pages))]
    for page, (path, spec) in enumerate(zip(images, pages, strict=True)):
        pyramid = pyramid_of(spec, tile, chunk)
        documents |= {path / str(n) / _METADATA: ngff.array(pyramid, n) for n in range(len(pyramid.levels))}
        documents[path / _METADATA] = ngff.image(spec, pyramid, f"page {page + 1}")
    if len(pages) > 1:
        documents[folder / "OME" / _METADATA] = ngff.series(len(pages))
        # The root comes last: who finds it finds all that it speaks of.
        documents[folder / _METADATA] = ngff.collection()
    lacking = [path for path, document in documents.items() if not _is_there(path, document, folder)]
    for path in lacking:
        path.parent.mkdir(parents=True, exist_ok=True)
        publish(path, _bytes(documents[path]))
    return images


def pyramid_of(spec: ImageSpec, tile: int, chunk: int = CHUNK) -> Pyramid:
    """The pyramid of an image."""
    inks = spec.space == "cmyk"
    return Pyramid(spec.height, spec.width, spec.channels, spec.dtype, tile, chunk, inks)


def groups(folder: Path) -> list[Path]:
    """The image groups below `folder`: itself, or those of its pages in their order.

    Raises StoreError where it holds none.
    """
    try:
        node = json.loads((folder / "0" / _METADATA).read_bytes())["node_type"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise _foreign(folder) from error
    if node == "array":
        return [folder]
    return sorted((path for path in folder.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name))


def pyramid(folder: Path) -> Pyramid:
    """The pyramid of the image in a folder. Raises StoreError where there is none that was made here."""
    found = _document(folder / "0" / _METADATA)
    try:
        channels, height, width = found["shape"]
        sharding = found["codecs"][0]["configuration"]
        tile, chunk = found["chunk_grid"]["configuration"]["chunk_shape"][1], sharding["chunk_shape"][1]
        inks = described(folder)["space"] == "cmyk"
        made = Pyramid(height, width, channels, found["data_type"], tile, chunk, inks)
        same = _holds(found, ngff.array(made, 0))
    except (LookupError, TypeError, ValueError) as error:
        raise _foreign(folder) from error
    if not same:
        raise _foreign(folder)
    return made


def write_tile(folder: Path, pyramid: Pyramid, tile: Window, pixels: Pixels) -> tuple[Written, ...]:
    """Write a tile's pixels (y, x, c) as its shard, and its own levels as theirs; all are on the disk on return.

    tile is in px of level 0. Tiles may be written in any order, at once, and again.
    Raises PlanError where the window is no tile, ImageWriteError where the disk refuses.
    """
    assert pixels.shape == (tile.height, tile.width, pyramid.channels)
    assert pixels.dtype == pyramid.dtype
    first, *others = pyramid.own_shards(tile)
    # To write a small level is mostly to wait for the disk, which goes on beside level 0.
    with ThreadPoolExecutor(1) as beside:
        smaller, levels = pixels, []
        for one in others:
            smaller = pyramid.halved(smaller)
            levels.append(beside.submit(_written, folder, pyramid, one, smaller))
        return _written(folder, pyramid, first, pixels), *_awaited(levels)


def _awaited(levels: Iterable[Future[Written]]) -> tuple[Written, ...]:
    return tuple(level.result() for level in levels)


def upper(pyramid: Pyramid) -> list[list[LevelShard]]:
    """The shards that no tile writes, level by level: one level's may run at once, and need the one before."""
    return [list(pyramid.shards(level)) for level in range(pyramid.own, len(pyramid.levels))]


def write_upper(folder: Path, pyramid: Pyramid, one: LevelShard) -> Written:
    """Write one shard of an upper level out of the level below, which must be finished where it is read.

    Holds the shard's pixels and four chunks. Raises StoreError where a shard below is lost or damaged.
    """
    below = LevelArray(folder, pyramid, one.level - 1)
    window = one.window
    pixels = np.empty((window.height, window.width, pyramid.channels), pyramid.dtype)
    for piece in grid(window.height, window.width, pyramid.chunk):
        at = piece.shift(window.y0, window.x0)
        pixels[piece.slices] = pyramid.halved(below[2 * at.y0 : 2 * at.y1, 2 * at.x0 : 2 * at.x1])
    return _written(folder, pyramid, one, pixels)


def missing(folder: Path, pyramid: Pyramid, recorded: Iterable[tuple[int, int, int, int]]) -> Missing:
    """What is still to be written after a ledger's records: level, y, x, nbytes of the file.

    That is each shard without a record, and each whose file is lost or of another length; all shards of its tile are
    then written again. Checksums are read with the pixels.
    """
    known = {(level, y, x): nbytes for level, y, x, nbytes in recorded}

    def lacks(one: LevelShard) -> bool:
        nbytes = known.get((one.level, one.window.y0, one.window.x0))
        return nbytes is None or not is_whole(_path(folder, pyramid, one), nbytes)

    tiles = [one.window for one in pyramid.shards(0) if any(map(lacks, pyramid.own_shards(one.window)))]
    return Missing(tiles, [[one for one in level if lacks(one)] for level in upper(pyramid)])


def opened(folder: Path, level: int = 0) -> LevelArray:
    """One level of the image in a folder. Raises StoreError where there is none."""
    found = pyramid(folder)
    if level not in range(len(found.levels)):
        raise StoreError(f"{folder.name}: has levels 0 to {len(found.levels) - 1}, asked for {level}")
    return LevelArray(folder, found, level)


def finished(folder: Path, attributes: Mapping[str, object]) -> None:
    """Put JSON-able attributes beside the profile, resolution and space in the `refine` attribute of an image's group.

    Those of an earlier call go.
    """
    document = _document(folder / _METADATA)
    kept = {key: value for key, value in document["attributes"]["refine"].items() if key in _KEPT}
    document["attributes"]["refine"] = {**attributes, **kept}
    publish(folder / _METADATA, _bytes(document))


def described(folder: Path) -> dict[str, object]:
    """The `refine` attribute of an image's group: profile (base64), resolution, space, and what the job put there.

    Raises StoreError where there is none.
    """
    try:
        return cast("dict[str, object]", _document(folder / _METADATA)["attributes"]["refine"])
    except LookupError as error:
        raise _foreign(folder) from error


def shard_path(folder: Path, level: int, row: int, column: int) -> Path:
    """The file of a shard, by its place in the grid of its level's shards."""
    return folder / str(level) / "c" / "0" / str(row) / str(column)


def _path(folder: Path, pyramid: Pyramid, one: LevelShard) -> Path:
    side = pyramid.side(one.level)
    return shard_path(folder, one.level, one.window.y0 // side, one.window.x0 // side)


def _written(folder: Path, pyramid: Pyramid, one: LevelShard, pixels: Pixels) -> Written:
    file: ShardFile = shard.write(_path(folder, pyramid, one), pixels, ngff.form(pyramid, one.level))
    return Written(one.level, one.window.y0, one.window.x0, file.nbytes, file.sha256)


def _is_there(path: Path, document: ngff.Document, folder: Path) -> bool:
    """Whether a file of metadata is there and says what it should. Raises JobError where it says something else."""
    if not path.exists():
        return False
    try:
        same = _holds(_document(path), document)
    except StoreError:
        same = False
    if not same:
        place = path.relative_to(folder)
        raise JobError(f"{folder.name}: holds another image ({place} differs); name another target or remove that one")
    return True


def _holds(found: object, document: object) -> bool:
    """Whether what was found says all that the document says; it may say more, as `finished` adds to it."""
    if isinstance(document, Mapping):
        return isinstance(found, Mapping) and all(k in found and _holds(found[k], v) for k, v in document.items())
    return found == document


def _document(path: Path) -> dict[str, Any]:
    try:
        return cast("dict[str, Any]", json.loads(path.read_bytes()))
    except (OSError, ValueError) as error:
        place = "/".join(path.parts[-3:])
        raise StoreError(f"{place}: is lost or damaged; run the job again, or name the folder of an image") from error


def _bytes(document: ngff.Document) -> bytes:
    return json.dumps(document, indent=1, allow_nan=False).encode("ascii")


def _foreign(folder: Path) -> StoreError:
    return StoreError(f"{folder.name}: is no OME-Zarr image that refine wrote; name the folder of one")
