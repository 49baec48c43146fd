"""The results that a run replaced or pruned, kept for one night beside the ledger; see `undoing`."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipelines.errors import JobError
from pipelines.manifest import Manifest
from pipelines.naming import OWN_FOLDER

logger = logging.getLogger(__name__)

_TABLES = """
CREATE TABLE IF NOT EXISTS before (
    path BLOB, rendition TEXT, record TEXT, kept INTEGER NOT NULL, PRIMARY KEY (path, rendition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS leftover (output BLOB PRIMARY KEY, path BLOB, rendition TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (word TEXT PRIMARY KEY) WITHOUT ROWID;
"""


@dataclass(slots=True)
class Previous:
    """What a run is about to replace, put aside before it does. One night is kept: the last run that asked for it."""

    target: Path
    """The catalog's folder."""
    ledger: Manifest
    """Its ledger."""
    adds: bool = False
    """Whether it adds to the night before, which it neither begins anew nor ends: a retry of its failures."""
    pending: list[tuple[bytes, str, str | None, int]] = field(default_factory=list)
    """What was put aside and is not written down yet."""
    left: list[tuple[bytes, bytes, str]] = field(default_factory=list)
    """The same of results that the ledger had beside the last ones."""
    index: sqlite3.Connection | None = None
    """Of what was put aside; opened when there is something."""

    def put_aside(self, path: str, rendition: str = "", *, left: str = "") -> None:
        """Keep a result that is there, with its record; where there is none, that there was none.

        left: the name of one that was left there, which is kept instead.
        """
        if self.index is None:
            self.index = opened(self.target) if self.adds else _begun(self.target)
        if left:
            self._put_left_aside(path, rendition, left)
            return
        # An image that failed has an earlier result there, which the next one may replace.
        for output in self.ledger.leftovers(path, rendition):
            self._put_left_aside(path, rendition, output)
        record = self.ledger.record(path, rendition)
        kept = record is not None and record.state == "done" and _linked(self.target, record.output)
        told = None if record is None else json.dumps(asdict(record))
        self.pending.append((os.fsencode(path), rendition, told, int(kept)))

    def _put_left_aside(self, path: str, rendition: str, output: str) -> None:
        assert self.index is not None
        if not self._has(self.index, path, rendition, output) and _linked(self.target, output):
            self.left.append((os.fsencode(output), os.fsencode(path), rendition))

    @staticmethod
    def _has(index: sqlite3.Connection, path: str, rendition: str, output: str) -> bool:
        """Whether a result was put aside with its record."""
        asked = (os.fsencode(path), rendition)
        row = index.execute("SELECT record FROM before WHERE path = ? AND rendition = ? AND kept", asked).fetchone()
        return row is not None and json.loads(row[0])["output"] == output

    def commit(self) -> None:
        """Make it last: before anything is replaced."""
        if self.index is not None and (self.pending or self.left):
            # The first that a night put aside is what was there before it, however often the night was interrupted.
            self.index.executemany("INSERT OR IGNORE INTO before VALUES (?, ?, ?, ?)", self.pending)
            self.index.executemany("INSERT OR IGNORE INTO leftover VALUES (?, ?, ?)", self.left)
            self.index.commit()
            self.pending.clear()
            self.left.clear()

    def close(self, *, finished: bool) -> None:
        """Close it; the next run that keeps anything begins anew where this one has finished."""
        if self.index is not None:
            if finished and not self.adds:
                self.index.execute("INSERT OR IGNORE INTO state VALUES ('finished')")
                self.index.commit()
            self.index.close()


def check_whole(target: Path) -> None:
    """Raise JobError where an undo was interrupted: what is in TARGET is of two nights."""
    if (folder(target) / "previous.sqlite").exists():
        with closing(opened(target)) as index:
            if index.execute("SELECT 1 FROM state WHERE word = 'undoing'").fetchone():
                raise JobError(f"{target}: an undo was interrupted; finish it first: refine undo {target}")


def still_fits(target: Path) -> bool:
    """Whether a night is kept that can be undone: no run has changed results since without keeping them."""
    if not (folder(target) / "previous.sqlite").exists():
        return False
    with closing(opened(target)) as index:
        return index.execute("SELECT 1 FROM state WHERE word = 'overtaken'").fetchone() is None


def overtake(target: Path) -> None:
    """Note that a run without --keep-previous has changed results: what an earlier one put aside no longer fits."""
    if (folder(target) / "previous.sqlite").exists():
        with closing(opened(target)) as index:
            index.execute("INSERT OR IGNORE INTO state VALUES ('overtaken')")
            index.commit()


def rows(index: sqlite3.Connection) -> Iterator[tuple[bytes, str, str | None, int]]:
    """What was put aside: source, rendition, the record of then, and whether there was a result."""
    return iter(index.execute("SELECT path, rendition, record, kept FROM before ORDER BY path, rendition"))


def _begun(target: Path) -> sqlite3.Connection:
    """The index of what this night puts aside: that of a night that was interrupted, or a new one."""
    if (folder(target) / "previous.sqlite").exists():
        index = opened(target)
        if not index.execute("SELECT 1 FROM state").fetchone():
            return index
        index.close()
    shutil.rmtree(folder(target), ignore_errors=True)
    return opened(target)


def opened(target: Path) -> sqlite3.Connection:
    """The index of what was put aside, made where there is none."""
    folder(target).mkdir(parents=True, exist_ok=True)
    index = sqlite3.connect(folder(target) / "previous.sqlite")
    index.execute("PRAGMA synchronous = FULL")
    index.executescript(_TABLES)
    return index


def folder(target: Path) -> Path:
    """Where it lies."""
    return target / OWN_FOLDER / "previous"


def _linked(target: Path, output: str) -> bool:
    """Whether a result that is there is kept: a second name for the same file, which a new result does not touch."""
    aside = folder(target) / "files" / output
    if aside.exists():
        return True
    aside.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(target / output, aside)
    except FileNotFoundError:
        return False
    except OSError:  # a file system without second names
        partial = aside.with_name(aside.name + ".partial")
        shutil.copy2(target / output, partial)
        partial.replace(aside)
    return True
