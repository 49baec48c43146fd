"""What a catalog is made of: the images of a folder, of a pattern, or of a manifest, seen but not opened.

A listing is the seam for other places: anything with these two members can be a catalog's source.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipelines import place as places
from pipelines import tree
from pipelines.errors import JobError
from pipelines.place import place_of


@dataclass(frozen=True, slots=True)
class Listed:
    """One image of a catalog, seen but not opened."""

    path: str
    """Its name in the catalog, `/` between folders: below SOURCE, or the id of a manifest."""
    size: int
    """Bytes."""
    mtime_ns: int
    """When it was changed last, ns."""
    etag: str = ""
    """What an object store calls this state of it; empty for a file. Where there is one it stands for the time."""
    uri: str = ""
    """Where it lies; empty for its name below the root."""
    priority: int = 0
    """The greater, the sooner."""
    options: str = ""
    """Settings of its own, a JSON object of dotted keys with sorted names; empty for none."""


class Listing(Protocol):
    """The images of a catalog."""

    root: str
    """The folder, or the URL, that names are below."""
    skipped: int
    """Files that are no images; known once all is listed."""

    def listed(self) -> Iterator[Listed]:
        """The images, each once a call, in an order that does not change. Raises JobError where it cannot be listed."""
        ...


@dataclass(slots=True)
class Folder:
    """All images below a folder."""

    root: str
    """The folder."""
    skipped: int = 0
    """Files that are no images."""

    def listed(self) -> Iterator[Listed]:
        """The images, folder by folder in the order of names."""
        self.skipped = 0
        for path, entry in tree.files(Path(self.root)):
            if not tree.is_image(entry):
                self.skipped += 1
                continue
            try:
                status = entry.stat()
            except FileNotFoundError:
                continue  # gone since the folder was listed
            yield Listed(path, status.st_size, status.st_mtime_ns)


@dataclass(slots=True)
class Objects:
    """All images below a prefix of a bucket, as far as their names say that they are images: none is read for that."""

    root: str
    """The URL of the prefix."""
    skipped: int = 0
    """Objects that are no images."""

    def listed(self) -> Iterator[Listed]:
        """The images in the order of their keys. Hidden ones are passed over, as hidden files are."""
        self.skipped = 0
        for found in place_of(self.root).listing():
            if found.path.startswith(".") or "/." in found.path.replace("/../", "//").replace("/./", "//"):
                continue
            if tree.says_image(found.path.rpartition("/")[2]):
                yield Listed(found.path, found.size, found.mtime_ns, found.etag)
            else:
                self.skipped += 1


def listing(source: str | os.PathLike[str]) -> Listing:
    """The images that SOURCE names. Raises JobError where it is nothing of the kind."""
    place = place_of(os.fspath(source))
    if not isinstance(place, places.Folder):
        place.check()
        return Objects(place.url)
    path = place.path
    if path.is_dir():
        return Folder(str(path))
    raise JobError(f"SOURCE {path} is no folder; for a single image use: refine restore")
