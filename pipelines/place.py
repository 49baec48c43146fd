"""Where files lie: a folder of this machine, or a bucket (`pipelines/bucket.py`); one small protocol for both."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from pipelines.errors import JobError, StoreError
from pipelines.travel import Travelling
from refine.imagefile import publish

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Found:
    """A file or an object, seen but not opened."""

    path: str
    """Below its place, `/` between folders."""
    size: int
    """Bytes."""
    mtime_ns: int = 0
    """When it was changed last, ns; 0 in a bucket, whose ETag says more."""
    etag: str = ""
    """What a bucket calls this content of the object; empty in a folder."""


class ConflictError(StoreError):
    """What stands at an object's place is not what was recorded, or nothing is there, or something should not be."""

    def __init__(self, path: str, found: Found | None, *, ours: bool) -> None:
        what = "is gone since it was recorded" if found is None else "holds something else than was recorded"
        whose = "" if ours or found is None else ", and not written by refine"
        super().__init__(f"{path}: its object {what}{whose}; remove that, or name another TARGET")
        self.found = found
        self.ours = ours


class Place(Protocol):
    """Files below a folder or a prefix. Pickles, and holds no secret: a worker's own environment has those."""

    @property
    def url(self) -> str:
        """How a user writes it."""
        ...

    def check(self) -> None:
        """Raise JobError where nothing can be read there: before any work, not after an hour of it."""
        ...

    def listing(self, below: str = "") -> Iterator[Found]:
        """All files, those in a folder in the order of their names; never more than a page of them is held."""
        ...

    def stat(self, path: str) -> Found | None:
        """One file, or None."""
        ...

    def read(self, path: str) -> bytes:
        """All bytes of a small file. Raises StoreError where there is none."""
        ...

    def fetched(self, found: Found) -> AbstractContextManager[Path]:
        """A file of this machine with the content that was found; a copy goes when the `with` ends.

        Raises StoreError where it has changed since.
        """
        ...

    def publish(self, path: str, data: bytes | Path, *, replacing: str = "") -> Found:
        """Store a file that is seen whole or not at all, from bytes or from a file.

        replacing is the ETag of what stands there, empty for nothing; a folder does not heed it.
        """
        ...

    def remove(self, path: str) -> None:
        """Have there be no such file; one that is not there is removed already."""
        ...


@dataclass(frozen=True, slots=True)
class Spot(Travelling):
    """One file of a place, whether it is there or not. Pickles."""

    place: Place
    """The place."""
    path: str
    """Below it."""

    @property
    def url(self) -> str:
        """How a user writes it."""
        return f"{self.place.url.rstrip('/')}/{self.path}"

    @property
    def local(self) -> Path | None:
        """The file, where it is one of this machine; it may be opened as it is."""
        return self.place.path / self.path if isinstance(self.place, Folder) else None


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of this machine, or one that it has mounted."""

    path: Path
    """The folder."""

    @property
    def url(self) -> str:
        """Its path."""
        return str(self.path)

    def check(self) -> None:
        """Raise JobError where there is no such folder."""
        if not self.path.is_dir():
            raise JobError(f"{self.path} is no folder; name one that is there")

    def listing(self, below: str = "") -> Iterator[Found]:
        """All files below a folder of this place. Links to folders are not followed: they may lead round."""
        try:
            with os.scandir(self.path / below) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"folder {below or self.path}: cannot be listed: {error.strerror}") from error
        for entry in entries:
            path = f"{below}/{entry.name}" if below else entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from self.listing(path)
            elif entry.is_file():
                found = self.stat(path)
                if found is not None:  # gone since the folder was listed
                    yield found

    def stat(self, path: str) -> Found | None:
        """One file, or None."""
        try:
            status = (self.path / path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Found(path, status.st_size, status.st_mtime_ns)

    def read(self, path: str) -> bytes:
        """All bytes of a file. Raises StoreError where it cannot be read."""
        try:
            return (self.path / path).read_bytes()
        except OSError as error:
            raise StoreError(f"{path}: cannot be read: {error.strerror}") from error

    def fetched(self, found: Found) -> AbstractContextManager[Path]:
        """The file itself. Raises StoreError where it has changed since it was found."""
        now = self.stat(found.path)
        if now is None:
            raise StoreError(f"{found.path}: is gone since it was listed; run again")
        if now != found:
            raise StoreError(f"{found.path}: was changed while it was worked on; run again")
        return nullcontext(self.path / found.path)

    def publish(self, path: str, data: bytes | Path, *, replacing: str = "") -> Found:  # noqa: ARG002  of buckets
        """Write a temporary file in the same folder and put it in its place at one stroke. A given file is copied."""
        target = self.path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        publish(target, data if isinstance(data, bytes) else data.read_bytes())
        status = target.stat()
        return Found(path, status.st_size, status.st_mtime_ns)

    def remove(self, path: str) -> None:
        """Remove a file that may be there."""
        (self.path / path).unlink(missing_ok=True)


def place_of(text: str) -> Place:
    """The place that a user names: a path, or `s3://bucket/prefix`.

    Raises JobError for other schemes, for credentials in a URL, and where s3fs is missing.

    >>> place_of("s3://shop/in/").url, place_of("photos").url
    ('s3://shop/in', 'photos')
    """
    matched = _SCHEME.fullmatch(text)
    if matched is None:
        return Folder(Path(text))
    scheme, rest = matched[1].lower(), matched[2]
    if scheme == "file":
        return Folder(Path(rest))
    name, _, prefix = rest.partition("/")
    if "@" in name:
        raise JobError(
            f"{scheme}://...@{name.rpartition('@')[2]}: a URL with user or password is not taken, for it would be "
            "logged and stored; put credentials into the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
        )
    if scheme not in ("s3", "s3a"):
        raise JobError(
            f"{scheme}:// is not read or written, for only S3 is known to write on a condition; use a folder, or s3:// "
            "with AWS_ENDPOINT_URL where the store speaks S3"
        )
    if not name:
        raise JobError(f"{text}: names no bucket; write s3://bucket/prefix")
    try:
        # Here and not above, for most who use refine have no need of it.
        bucket = importlib.import_module("pipelines.bucket")
    except ModuleNotFoundError as error:
        raise JobError(f"{text}: needs {error.name}; install it with: pip install 'refine-imaging[s3]'") from error
    return cast("Place", bucket.Bucket(name, prefix.strip("/")))


def absolute(text: str) -> str:
    """A path or URL that means the same wherever one stands."""
    place = place_of(text)
    return str(place.path.absolute()) if isinstance(place, Folder) else place.url


def spot_of(text: str) -> Spot:
    """The file that a path or URL names. Raises JobError as `place_of` does.

    >>> spot_of("s3://shop/in/a.jpg"), spot_of("/in/a.jpg").local
    (Spot(place=Bucket(name='shop', prefix=''), path='in/a.jpg'), PosixPath('/in/a.jpg'))
    """
    found = place_of(text)
    if isinstance(found, Folder):
        return Spot(Folder(found.path.parent), found.path.name)
    bucket, _, path = found.url.partition("://")[2].partition("/")
    return Spot(place_of(f"s3://{bucket}"), path)
