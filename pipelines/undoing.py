"""The way back: what the last run with --keep-previous replaced or pruned is put in its place again."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pipelines import manifest
from pipelines.errors import JobError
from pipelines.manifest import Manifest
from pipelines.naming import OWN_FOLDER
from pipelines.previous import folder, opened, rows
from pipelines.records import Entry, Gone, Left, Record
from pipelines.report import withdraw
from pipelines.runs import mark_undone

_AT_ONCE = 500
"""Results that are put back between two commits."""


@dataclass(frozen=True, slots=True)
class Undone:
    """What an undo did. Its fields are the keys of --json."""

    restored: int
    """Results that are what they were before the run."""
    removed: int
    """Results that were new in it, or had a new name; images that failed have none."""


def undo(target: Path) -> Undone:
    """Put back what the last run with --keep-previous replaced and pruned, and take away what it added.

    The ledger follows; the report's page goes, for `refine report` can make a true one. Killed at any moment, the same
    call finishes it. Raises JobError where there is nothing to undo.
    """
    if not target.is_dir():
        raise JobError(f"{target}: there is no such folder; name the TARGET of a run with --keep-previous")
    if not (folder(target) / "previous.sqlite").exists():
        raise JobError(f"{target}: there is nothing to undo; a run with --keep-previous can be undone, once")
    with manifest.opened(target / OWN_FOLDER) as ledger, closing(opened(target)) as index:
        if index.execute("SELECT 1 FROM state WHERE word = 'overtaken'").fetchone():
            kept = folder(target) / "files"
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
    shutil.rmtree(folder(target))
    return Undone(restored, removed)


def _taken_away(target: Path, ledger: Manifest, index: sqlite3.Connection) -> Iterator[tuple[Entry, int]]:
    """First all files that were not there before: one of them may have the name of one that was.

    Each entry comes with how many results were taken away.
    """
    for path, rendition, told, kept in rows(index):
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
        yield left, int(_moved_back(target, left.output))
    for _, _, told, kept in rows(index):
        if told is None or not kept:
            continue
        before = Record(**json.loads(told))
        _moved_back(target, before.output)
        yield before, 1


def _moved_back(target: Path, output: str) -> bool:
    """Whether something else, or nothing, was there."""
    aside, place = folder(target) / "files" / output, target / output
    if not aside.exists():  # an undo that was killed has put it back already
        return False
    same = place.exists() and place.samefile(aside)
    place.parent.mkdir(parents=True, exist_ok=True)
    aside.replace(place)
    return not same


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
