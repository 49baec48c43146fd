"""A catalog as one zarr store: a group an image, OME-Zarr 0.5 with a pyramid, below `images`; an index in Parquet.

An image's group is made beside its place and put there whole. A group that is replaced is gone for the moment between
two renames; it is never seen half.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np

from pipelines import ngff, omezarr
from pipelines.errors import JobError
from pipelines.pyramid import Pyramid
from pipelines.records import Record
from refine.imagefile import publish, staged
from refine.spec import ImageSpec, Pixels
from refine.staging import synchronise
from refine.window import grid

IMAGES = "images"
"""The group that holds all images."""
INDEX = "index.parquet"
"""Beside it."""
TILE = 2048
"""px of the output. Side of a shard: most pictures of a catalog are one."""
_METADATA = "zarr.json"
_PLAIN = re.compile(rb"[A-Za-z0-9._-]")
_LONGEST = 200
"""Bytes of a part of a name; beyond, its end is its digest. File systems end at 255, and a temporary name is longer."""
_ROWS = 10_000
"""Rows of the index that are held at once."""


class Finished(Protocol):
    """Finished pixels (y, x, c), read by windows: an array, or shards that are still to be put together."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width, channels."""
        ...

    def __getitem__(self, window: tuple[slice, slice]) -> Pixels:
        """The pixels of a window inside the image."""
        ...


@dataclass(frozen=True, slots=True)
class Group:
    """What was written of an image."""

    nbytes: int
    """Of all files of its group."""
    sha256: str
    """Of the lines `<digest>  <name>` of its files, sorted by name, hex."""


def group_path(name: str) -> str:
    """The path of an image's group below the store, by its name in the catalog: letters, digits, `._-` and `~`.

    Other bytes are written `~` and two digits; so is what zarr or a file system keeps for itself.

    >>> group_path("a/Kaffee & Tee.jpg"), group_path("__x/..")
    ('images/a/Kaffee~20~26~20Tee.jpg', 'images/~5F_x/~2E.')
    """
    return "/".join([IMAGES, *(_part(part) for part in name.split("/"))])


def lay_out(store: Path) -> None:
    """Make the groups that hold the images, where they are not there. Raises JobError where something else is."""
    root = store / _METADATA
    if not root.exists() and store.exists() and any(p for p in store.iterdir() if p.name != ".refine"):
        raise JobError(f"TARGET {store} holds something else; name one that is empty, or not there")
    for folder in (store, store / IMAGES):
        _make_group(folder)


def write(store: Path, path: str, spec: ImageSpec, pixels: Pixels | Finished, told: Mapping[str, object]) -> Group:
    """Write an image's group at a path that `group_path` gave, with all levels; one that is there is replaced.

    pixels (y, x, c) are read by windows of TILE px, or are an array. told: attributes, JSON values.
    """
    place = store / path
    for parent in reversed(place.relative_to(store).parents):
        _make_group(store / parent)
    with _put_in_place(place) as folder:
        (image,) = omezarr.create(folder, [spec], TILE)
        files = dict(_shards(image, omezarr.pyramid(image), pixels))
        omezarr.finished(image, told)
        for file in image.rglob(_METADATA):
            data = file.read_bytes()
            files[file.relative_to(image).as_posix()] = len(data), sha256(data).hexdigest()
    lines = "".join(f"{digest}  {name}\n" for name, (_, digest) in sorted(files.items()))
    return Group(sum(nbytes for nbytes, _ in files.values()), sha256(lines.encode()).hexdigest())


def _shards(image: Path, pyramid: Pyramid, pixels: Pixels | Finished) -> Iterator[tuple[str, tuple[int, str]]]:
    """Write all shards of an image; name, bytes and digest of each."""
    written: list[omezarr.Written] = []
    for window in grid(pyramid.height, pyramid.width, TILE):
        written += omezarr.write_tile(image, pyramid, window, np.ascontiguousarray(pixels[window.slices]))
    for level in omezarr.upper(pyramid):
        written += [omezarr.write_upper(image, pyramid, shard) for shard in level]
    for one in written:
        side = pyramid.side(one.level)
        yield f"{one.level}/c/0/{one.y // side}/{one.x // side}", (one.nbytes, one.sha256)


def present(store: Path) -> Iterator[tuple[str, int]]:
    """Path and bytes of every image's group: a shard that lacks, or is cut short, is seen by them."""
    waiting = [IMAGES]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(store / folder) as scan:
                below = [e.name for e in scan if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")]
        except FileNotFoundError:
            continue
        if "0" in below and (store / folder / "0" / "c").is_dir():
            yield folder, sum(file.stat().st_size for file in (store / folder).rglob("*") if file.is_file())
        else:
            waiting += [f"{folder}/{name}" for name in below]


def remove(store: Path, path: str) -> None:
    """Have there be no such image."""
    place = store / path
    old = _beside(place, "old")
    try:
        place.rename(old)
    except FileNotFoundError:
        return
    shutil.rmtree(old)


def sweep(store: Path) -> int:
    """Remove what killed processes left beside the groups; how many folders."""
    found = [Path(folder, name) for folder, names, _ in os.walk(store / IMAGES) for name in names if _is_left(name)]
    for path in found:
        shutil.rmtree(path, ignore_errors=True)
    return len(found)


def write_index(store: Path, records: Iterable[Record]) -> int:
    """Write the index of all finished images, whole or not at all; how many rows. Raises JobError without pyarrow."""
    check_indexed()
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    floats, text = arrow.map_(arrow.string(), arrow.float64()), arrow.string()
    schema = arrow.schema(
        {
            "id": text,
            "rendition": text,
            "group": text,
            "source_sha256": text,
            "source_nbytes": arrow.int64(),
            "sha256": text,
            "nbytes": arrow.int64(),
            "px": arrow.int64(),
            "decision": text,
            "strengths": floats,
            "measured": floats,
            "notes": arrow.list_(text),
            "key": text,
        }
    )
    count = 0
    with staged(store / INDEX) as temporary, parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
        rows: list[dict[str, object]] = []
        for record in records:
            rows.append(_row(record))
            if len(rows) == _ROWS:
                writer.write_table(arrow.Table.from_pylist(rows, schema))
                count, rows = count + len(rows), []
        writer.write_table(arrow.Table.from_pylist(rows, schema))
    return count + len(rows)


def check_indexed() -> None:
    """Raise JobError where no index can be written."""
    try:
        import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        raise JobError(
            "--to zarr writes an index in Parquet and needs pyarrow; pip install 'refine-imaging[parquet]'"
        ) from error


def _row(record: Record) -> dict[str, object]:
    return {
        "id": record.path,
        "rendition": record.rendition,
        "group": record.output,
        "source_sha256": record.source_sha256,
        "source_nbytes": record.size,
        "sha256": record.output_sha256,
        "nbytes": record.output_nbytes,
        "px": record.output_px,
        "decision": record.decision,
        "strengths": list(record.strengths.items()),
        "measured": list(record.measured.items()),
        "notes": list(record.notes),
        "key": record.key,
    }


def _part(part: str) -> str:
    data = part.encode("utf-8", "surrogateescape")
    hidden = data.startswith((b"__", b"."))
    plain = [chr(b) if _PLAIN.fullmatch(bytes([b])) and (n or not hidden) else f"~{b:02X}" for n, b in enumerate(data)]
    named = "".join(plain)
    return named if len(named) <= _LONGEST else f"{named[:150]}~~{sha256(data).hexdigest()[:32]}"


def _make_group(folder: Path) -> None:
    if not (folder / _METADATA).exists():
        folder.mkdir(parents=True, exist_ok=True)
        publish(folder / _METADATA, json.dumps(ngff.group({}), indent=1).encode("ascii"))


@contextmanager
def _put_in_place(place: Path) -> Iterator[Path]:
    """A folder beside a place, which is put there whole on success and goes on error."""
    made, old = _beside(place, "new"), _beside(place, "old")
    try:
        yield made
        if place.exists():
            place.rename(old)
        made.rename(place)
        synchronise(place.parent, os.O_RDONLY | os.O_DIRECTORY)
    finally:
        shutil.rmtree(made, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _beside(place: Path, what: str) -> Path:
    return place.with_name(f".{place.name[:150]}.{os.urandom(6).hex()}.{what}")


def _is_left(name: str) -> bool:
    return name.startswith(".") and name.endswith((".new", ".old"))
