"""The results that a run replaced or pruned, kept for one night beside the ledger, and put back by `refine undo`."""

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

from pipelines import manifest
from pipelines.errors import JobError
from pipelines.manifest import Manifest
from pipelines.naming import OWN_FOLDER
from pipelines.records import Entry, Gone, Left, Record
from pipelines.report import withdraw
from pipelines.runs import mark_undone

logger = logging.getLogger(__name__)

_TABLES = """
CREATE TABLE IF NOT EXISTS before (
    path BLOB, rendition TEXT, record TEXT, kept INTEGER NOT NULL, PRIMARY KEY (path, rendition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS leftover (output BLOB PRIMARY KEY, path BLOB, rendition TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (word TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_AT_ONCE = 500
"""Results that are put back between two commits."""


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
            self.index = _opened(self.target) if self.adds else _begun(self.target)
        if left:
            if not self._has(self.index, path, rendition, left) and _linked(self.target, left):
                self.left.append((os.fsencode(left), os.fsencode(path), rendition))
            return
        record = self.ledger.record(path, rendition)
        kept = record is not None and record.state == "done" and _linked(self.target, record.output)
        told = None if record is None else json.dumps(asdict(record))
        self.pending.append((os.fsencode(path), rendition, told, int(kept)))

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


@dataclass(frozen=True, slots=True)
class Undone:
    """What an undo did. Its fields are the keys of --json."""

    restored: int
    """Results that are what they were before the run."""
    removed: int
    """Results that were new in it, or had a new name; images that failed have none."""


def check_whole(target: Path) -> None:
    """Raise JobError where an undo was interrupted: what is in TARGET is of two nights."""
    if (_folder(target) / "previous.sqlite").exists():
        with closing(_opened(target)) as index:
            if index.execute("SELECT 1 FROM state WHERE word = 'undoing'").fetchone():
                raise JobError(f"{target}: an undo was interrupted; finish it first: refine undo {target}")


def still_fits(target: Path) -> bool:
    """Whether a night is kept that can be undone: no run has changed results since without keeping them."""
    if not (_folder(target) / "previous.sqlite").exists():
        return False
    with closing(_opened(target)) as index:
        return index.execute("SELECT 1 FROM state WHERE word = 'overtaken'").fetchone() is None


def overtake(target: Path) -> None:
    """Note that a run without --keep-previous has changed results: what an earlier one put aside no longer fits."""
    if (_folder(target) / "previous.sqlite").exists():
        with closing(_opened(target)) as index:
            index.execute("INSERT OR IGNORE INTO state VALUES ('overtaken')")
            index.commit()


def undo(target: Path) -> Undone:
    """Put back what the last run with --keep-previous replaced and pruned, and take away what it added.

    The ledger follows; the report's page goes, for `refine report` can make a true one. Killed at any moment, the same
    call finishes it. Raises JobError where there is nothing to undo.
    """
    if not target.is_dir():
        raise JobError(f"{target}: there is no such folder; name the TARGET of a run with --keep-previous")
    if not (_folder(target) / "previous.sqlite").exists():
        raise JobError(f"{target}: there is nothing to undo; a run with --keep-previous can be undone, once")
    with manifest.opened(target / OWN_FOLDER) as ledger, closing(_opened(target)) as index:
        if index.execute("SELECT 1 FROM state WHERE word = 'overtaken'").fetchone():
            kept = _folder(target) / "files"
            raise JobError(
                f"{target}: a later run has changed results, so the kept ones no longer fit; they are in {kept}"
            )
        index.execute("INSERT OR IGNORE INTO state VALUES ('undoing')")
        index.commit()
        # Before anything is moved: from now on the page would tell of what is no more, killed or not.
        mark_undone(target / OWN_FOLDER)
        withdraw(target / OWN_FOLDER)
        removed = _committed(ledger, _taken_away(target, ledger, index))
        restored = _committed(ledger, _put_back(target, index))
    shutil.rmtree(_folder(target))
    return Undone(restored, removed)


def _taken_away(target: Path, ledger: Manifest, index: sqlite3.Connection) -> Iterator[tuple[Entry, int]]:
    """First all files that were not there before: one of them may have the name of one that was.

    Each entry comes with how many results were taken away.
    """
    for path, rendition, told, kept in _rows(index):
        before = None if told is None else Record(**json.loads(told))
        now = ledger.record(os.fsdecode(path), rendition)
        if now is None or (kept and before is not None and now.output in ("", before.output)):
            continue
        if now.output:
            (target / now.output).unlink(missing_ok=True)
        yield before if before is not None and not kept else Gone(now.path, now.rendition), int(bool(now.output))


def _put_back(target: Path, index: sqlite3.Connection) -> Iterator[tuple[Entry, int]]:
    # What this night left and removed comes first: its record, below, then says that it is left no more.
    for output, path, rendition in index.execute("SELECT output, path, rendition FROM leftover"):
        left = Left(os.fsdecode(path), rendition, os.fsdecode(output))
        _moved_back(target, left.output)
        yield left, 1
    for _, _, told, kept in _rows(index):
        if told is None or not kept:
            continue
        before = Record(**json.loads(told))
        _moved_back(target, before.output)
        yield before, 1


def _moved_back(target: Path, output: str) -> None:
    aside = _folder(target) / "files" / output
    if aside.exists():  # else an undo that was killed has put it back already
        (target / output).parent.mkdir(parents=True, exist_ok=True)
        aside.replace(target / output)


def _committed(ledger: Manifest, entries: Iterator[tuple[Entry, int]]) -> int:
    """Commit entries as they come, some at a time; how many results they are of."""
    count, some = 0, []
    for entry, results in entries:
        some.append(entry)
        count += results
        if len(some) == _AT_ONCE:
            ledger.commit(some)
            some = []
    ledger.commit(some)
    return count


def _rows(index: sqlite3.Connection) -> Iterator[tuple[bytes, str, str | None, int]]:
    return iter(index.execute("SELECT path, rendition, record, kept FROM before ORDER BY path, rendition"))


def _begun(target: Path) -> sqlite3.Connection:
    """The index of what this night puts aside: that of a night that was interrupted, or a new one."""
    if (_folder(target) / "previous.sqlite").exists():
        index = _opened(target)
        if not index.execute("SELECT 1 FROM state").fetchone():
            return index
        index.close()
    shutil.rmtree(_folder(target), ignore_errors=True)
    return _opened(target)


def _opened(target: Path) -> sqlite3.Connection:
    _folder(target).mkdir(parents=True, exist_ok=True)
    index = sqlite3.connect(_folder(target) / "previous.sqlite")
    index.execute("PRAGMA synchronous = FULL")
    index.executescript(_TABLES)
    return index


def _folder(target: Path) -> Path:
    return target / OWN_FOLDER / "previous"


def _linked(target: Path, output: str) -> bool:
    """Whether a result that is there is kept: a second name for the same file, which a new result does not touch."""
    aside = _folder(target) / "files" / output
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
