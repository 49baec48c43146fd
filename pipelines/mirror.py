"""The journal of a ledger, mirrored into the bucket that the ledger is of: from it another machine goes on.

The journal's lines are stored in numbered objects, each created once. Now and then all that counts is stored as one
object, and those before it go. What is in the bucket is the truth; the ledger's folder is a copy that can do more.
"""

from __future__ import annotations

import gzip
import json
import logging
import re
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pipelines.bucket import Bucket
from pipelines.errors import RunError
from pipelines.place import ConflictError, Found
from refine.staging import publish

logger = logging.getLogger(__name__)

JOURNAL = ".refine/journal"
"""The objects, below TARGET."""
PUSH_S = 10.0
"""Between two objects: what is lost with a machine, of work that is then done again."""
PUSH_NBYTES = 4 << 20
"""Bytes of lines, before that time is over."""
COMPACT_AFTER = 200
"""Objects, before they are made one."""
_NAME = re.compile(r"(\d{12})\.(jsonl|all\.jsonl\.gz)")


@dataclass(frozen=True, slots=True)
class _Mark:
    """How far the journal of a folder is in the bucket."""

    last: int = 0
    """Number of the last object."""
    etag: str = ""
    """Its own."""
    pushed: int = 0
    """Bytes of the journal that are in the objects up to there."""


class Mirror:
    """The journal in a ledger's folder and the objects it is mirrored by. Pull before the ledger is opened."""

    def __init__(self, bucket: Bucket, folder: Path) -> None:
        self._bucket, self._folder = bucket, folder
        self._journal = folder / "journal.jsonl"
        self._mark_path = folder / "mirror.json"
        self._mark = _mark(self._mark_path)
        self._objects = 0
        self._pushed_at = time.monotonic()

    def pull(self) -> None:
        """Have the folder hold what the bucket does; lines of a killed run that only the folder has stay, if they can.

        They go where another machine has worked on since: what they tell of is then done again.
        """
        snapshot, later = self._listed()
        self._objects = len(later)
        every = [*([snapshot] if snapshot else []), *later]
        known = {(_number(found), found.etag) for found in every}
        here = self._size()
        if not every and not self._mark.last:
            return
        if (self._mark.last, self._mark.etag) not in known or here < self._mark.pushed:
            self._restart(every)
        elif newer := [found for found in every if _number(found) > self._mark.last]:
            self._resume(newer)

    def push(self, *, now: bool = False) -> None:
        """Store what the journal has more than the bucket, if it is much, or some time ago; or now."""
        size = self._size()
        waiting = size - self._mark.pushed
        if waiting <= 0:
            return
        if now or waiting >= PUSH_NBYTES or time.monotonic() - self._pushed_at >= PUSH_S:
            with self._journal.open("rb") as file:
                file.seek(self._mark.pushed)
                lines = file.read(waiting)
            found = self._created(f"{JOURNAL}/{self._mark.last + 1:012}.jsonl", lines)
            self._note(_Mark(self._mark.last + 1, found.etag, size))
            self._objects += 1

    def compact(self, lines: Iterable[bytes]) -> None:
        """Store all that counts as one object and remove those before, where they have become many."""
        if self._objects < COMPACT_AFTER:
            return
        self.push(now=True)
        with TemporaryDirectory(prefix="refine-") as folder:
            path = Path(folder) / "all.jsonl.gz"
            with gzip.open(path, "wb", compresslevel=6) as file:
                file.writelines(lines)
            found = self._created(f"{JOURNAL}/{self._mark.last + 1:012}.all.jsonl.gz", path)
        self._note(_Mark(self._mark.last + 1, found.etag, self._mark.pushed))
        for older in list(self._bucket.listing(JOURNAL)):
            if _number(older) < self._mark.last:
                self._bucket.remove(older.path)
        self._objects = 0

    def _listed(self) -> tuple[Found | None, list[Found]]:
        """The last object that holds all, and those after it, in order."""
        found = sorted((f for f in self._bucket.listing(JOURNAL) if _number(f)), key=_number)
        whole = [f for f in found if f.path.endswith(".gz")]
        snapshot = whole[-1] if whole else None
        return snapshot, [f for f in found if snapshot is None or _number(f) > _number(snapshot)]

    def _created(self, path: str, data: bytes | Path) -> Found:
        try:
            return self._bucket.publish(path, data)
        except ConflictError as error:
            raise RunError(f"{path}: another run has written on; this one ends, what it finished is kept") from error

    def _resume(self, newer: list[Found]) -> None:
        """Go on with what another machine has written since."""
        if self._size() > self._mark.pushed:
            logger.warning("the end of the local ledger is dropped: another machine has worked on %s", self._bucket.url)
            with self._journal.open("r+b") as file:
                file.truncate(self._mark.pushed)
            self._drop_index()
        self._append(newer)

    def _restart(self, objects: list[Found]) -> None:
        """Begin the folder's ledger anew from objects."""
        if self._size():
            logger.warning("the local ledger is not that of %s; it is made anew", self._bucket.url)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._journal.write_bytes(b"")
        self._mark = _Mark()
        self._drop_index()
        self._append(objects)

    def _append(self, objects: list[Found]) -> None:
        with self._journal.open("ab") as journal:
            for found in objects:
                with (
                    self._bucket.fetched(found) as path,
                    (gzip.open if path.suffix == ".gz" else open)(path, "rb") as f,
                ):
                    shutil.copyfileobj(f, journal)
        size = self._size()
        self._note(_Mark(_number(objects[-1]), objects[-1].etag, size) if objects else _Mark(pushed=size))

    def _size(self) -> int:
        return self._journal.stat().st_size if self._journal.exists() else 0

    def _drop_index(self) -> None:
        for path in self._folder.glob("manifest.sqlite*"):
            path.unlink()

    def _note(self, mark: _Mark) -> None:
        publish(self._mark_path, json.dumps([mark.last, mark.etag, mark.pushed]).encode())
        self._mark = mark
        self._pushed_at = time.monotonic()


def _mark(path: Path) -> _Mark:
    try:
        return _Mark(*json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return _Mark()


def _number(found: Found) -> int:
    """The number of an object of the journal; 0 for another one."""
    matched = _NAME.fullmatch(found.path.rpartition("/")[2])
    return int(matched[1]) if matched else 0
