"""Where the results of a catalog go: files of a folder, objects of a bucket, or groups of one zarr store."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np

from pipelines import tree, zarrcatalog
from pipelines.checked import file_sha256
from pipelines.errors import JobError
from pipelines.naming import OWN_FOLDER, Rendition, output_name
from pipelines.output import TIFF_TILE, Output, encoded
from pipelines.place import ConflictError, Folder, Found, Place, place_of
from pipelines.records import Record
from pipelines.zarrcatalog import Finished
from refine.imagefile import Format, write_tiff
from refine.settings import Settings
from refine.spec import Pixels
from refine.window import grid


@dataclass(frozen=True, slots=True)
class Result:
    """An image that is to be stored."""

    pixels: Pixels | Finished
    """What it shows."""
    made: Output
    """Its file, apart from the pixels."""
    settings: Settings
    """How it is encoded."""
    told: dict[str, object]
    """What is said of it where a file has no place for it; JSON values."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What was stored."""

    nbytes: int
    """Bytes."""
    sha256: str
    """Of the file, hex; of a group, of the sorted lines `<digest>  <name>` of its files."""
    etag: str = ""
    """Of an object."""


class Target(Protocol):
    """Where results go. Pickles."""

    format: ClassVar[Format | None]
    """The format that is not asked for, but follows from the kind of target."""

    @property
    def place(self) -> Place:
        """What it lies in, or is."""
        ...

    @property
    def folder(self) -> Path | None:
        """The folder of this machine that it is; None for a bucket."""
        ...

    def name(self, rendition: Rendition, path: str, file_format: str) -> str:
        """Where the result of a source lies, below the target."""
        ...

    def begin(self) -> None:
        """Make ready for results. Raises JobError where that cannot be."""
        ...

    def present(self) -> Iterator[tuple[str, int]]:
        """What lies there with its bytes; what killed processes left there goes."""
        ...

    def remove(self, output: str) -> None:
        """Have there be no such result."""
        ...

    def store(self, output: str, result: Result, replacing: str) -> Stored:
        """Store a result, seen whole or not at all. replacing: the ETag of what an earlier run stored there."""
        ...

    def finish(self, done: Iterator[Record], *, changed: bool) -> None:
        """Write what tells of all results, at the end of a run; changed: whether it may have changed some."""
        ...


@dataclass(frozen=True, slots=True)
class Files:
    """Each result is a file of a folder, or an object of a bucket."""

    place: Place
    """Where they lie."""
    format: ClassVar[Format | None] = None

    @property
    def folder(self) -> Path | None:
        """The folder; None for a bucket."""
        return self.place.path if isinstance(self.place, Folder) else None

    def name(self, rendition: Rendition, path: str, file_format: str) -> str:
        """The source's own name, but for the suffix where the format is another."""
        return rendition.output(output_name(path, file_format))

    def begin(self) -> None:
        """Make the folder, or see that the bucket answers."""
        if isinstance(self.place, Folder):
            try:
                self.place.path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                path = self.place.path
                raise JobError(f"TARGET {path} cannot be made: {error.strerror}; name a folder elsewhere") from error
        else:
            self.place.check()

    def present(self) -> Iterator[tuple[str, int]]:
        """The files or objects, those of the ledger apart."""
        if isinstance(self.place, Folder):
            yield from tree.present(self.place.path)
            return
        for found in self.place.listing():
            if not found.path.startswith(f"{OWN_FOLDER}/"):
                yield found.path, found.size

    def remove(self, output: str) -> None:
        """Remove a file, with folders that hold nothing any more, or an object."""
        self.place.remove(output)
        if isinstance(self.place, Folder):
            _remove_empty((self.place.path / output).parent, self.place.path)

    def store(self, output: str, result: Result, replacing: str) -> Stored:
        """Encode a result and store it with one rename, or one PUT. A large TIFF is never held whole."""
        made, pixels = result.made, result.pixels
        if isinstance(pixels, np.ndarray) or made.format != "tiff":
            data = encoded(_whole(pixels, made), made, result.settings)
            found = _published(self.place, output, data, replacing)
            return Stored(len(data), sha256(data).hexdigest(), found.etag)
        if isinstance(self.place, Folder):
            path = self.place.path / output
            path.parent.mkdir(parents=True, exist_ok=True)
            write_tiff(path, made.spec, _blocks(pixels), TIFF_TILE)
            return Stored(path.stat().st_size, file_sha256(path))
        with tempfile.TemporaryDirectory(prefix="refine-") as folder:
            path = Path(folder) / "result.tif"
            write_tiff(path, made.spec, _blocks(pixels), TIFF_TILE)
            found = _published(self.place, output, path, replacing)
            return Stored(found.size, file_sha256(path), found.etag)

    def finish(self, done: Iterator[Record], *, changed: bool) -> None:
        """Nothing: files speak for themselves."""


@dataclass(frozen=True, slots=True)
class Groups:
    """Each result is an OME-Zarr image in one zarr store on a disk."""

    path: Path
    """The folder of the store."""
    format: ClassVar[Format | None] = "tiff"
    """No file is written, but what a TIFF holds a group does."""

    @property
    def place(self) -> Place:
        """The folder of the store."""
        return Folder(self.path)

    @property
    def folder(self) -> Path:
        """The folder of the store."""
        return self.path

    def name(self, rendition: Rendition, path: str, file_format: str) -> str:  # noqa: ARG002  holds any pixels
        """The path of the image's group."""
        return zarrcatalog.group_path(rendition.output(path))

    def begin(self) -> None:
        """Lay out the store, and see that its index can be written."""
        zarrcatalog.check_indexed()
        zarrcatalog.lay_out(self.path)

    def present(self) -> Iterator[tuple[str, int]]:
        """The groups of images."""
        zarrcatalog.sweep(self.path)
        return zarrcatalog.present(self.path)

    def remove(self, output: str) -> None:
        """Remove an image's group."""
        zarrcatalog.remove(self.path, output)

    def store(self, output: str, result: Result, replacing: str) -> Stored:  # noqa: ARG002  of buckets
        """Write an image's group beside its place, and put it there whole."""
        group = zarrcatalog.write(self.path, output, result.made.spec, result.pixels, result.told)
        return Stored(group.nbytes, group.sha256)

    def finish(self, done: Iterator[Record], *, changed: bool) -> None:
        """The index of all images."""
        if changed or not (self.path / zarrcatalog.INDEX).exists():
            zarrcatalog.write_index(self.path, done)


def target_of(text: str | os.PathLike[str], to: str = "files") -> Target:
    """The target that a user names. Raises JobError where it does not go with the kind of results."""
    place = place_of(os.fspath(text))
    is_zarr = place.url.rstrip("/").lower().endswith(".zarr")
    if to == "zarr":
        if not isinstance(place, Folder):
            raise JobError(f"TARGET {place.url}: a zarr store of a catalog is written to a folder; copy it to a bucket")
        if not is_zarr:
            raise JobError(f"TARGET {place.url}: a zarr store is named *.zarr")
        return Groups(place.path)
    if is_zarr:
        raise JobError(f"TARGET {place.url} is named as a zarr store; add --to zarr, or name a folder")
    return Files(place)


def target_named(text: str) -> Target:
    """The target of a run that has been: a zarr store by its name, else files."""
    return target_of(text, "zarr" if text.rstrip("/").lower().endswith(".zarr") else "files")


def _remove_empty(folder: Path, target: Path) -> None:
    """Remove a folder of TARGET that holds nothing any more, and those above it."""
    while folder != target:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def _published(place: Place, output: str, data: bytes | Path, replacing: str) -> Found:
    """Publish a file. What is gone is created; what a killed run stored, and did not live to record, is replaced."""
    try:
        return place.publish(output, data, replacing=replacing)
    except ConflictError as error:
        if error.found is not None and not error.ours:
            raise
        return place.publish(output, data, replacing="" if error.found is None else error.found.etag)


def _whole(pixels: Pixels | Finished, made: Output) -> Pixels:
    if isinstance(pixels, np.ndarray):
        return pixels
    whole = np.empty(made.spec.shape, made.spec.dtype)
    for window in grid(made.spec.height, made.spec.width, TIFF_TILE * 4):
        whole[window.slices] = pixels[window.slices]
    return whole


def _blocks(pixels: Finished) -> Iterator[Pixels]:
    for window in grid(pixels.shape[0], pixels.shape[1], TIFF_TILE):
        yield pixels[window.slices]
