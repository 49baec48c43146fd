"""The ledger of a job: what is done, so that it is not done again.

The journal, one JSON line a record, is the truth: it is appended to and synchronised first. The SQLite file beside
it is an index of the journal, brought up to date when it is opened and built anew when it is lost or damaged.
Output comes first, its record second.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from pipelines.errors import JobError
from pipelines.records import KINDS, Entry, Forgotten, Gone, KeyFacts, Left, Record, ShardRecord, State, entries, line

logger = logging.getLogger(__name__)

# Paths are bytes: a name that is no valid UTF-8 is still a file. What a run compares stands in narrow rows of its own.
_TABLES = """
CREATE TABLE IF NOT EXISTS keys (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, facts TEXT NOT NULL DEFAULT '{}');
CREATE TABLE IF NOT EXISTS item (
    path BLOB, rendition TEXT, state TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    etag TEXT NOT NULL, key INTEGER NOT NULL, output BLOB NOT NULL, output_nbytes INTEGER NOT NULL,
    output_px INTEGER NOT NULL, seconds REAL NOT NULL, record INTEGER NOT NULL, PRIMARY KEY (path, rendition))
    WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS item_state ON item (state) WHERE state <> 'done';
CREATE TABLE IF NOT EXISTS record (id INTEGER PRIMARY KEY, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS leftover (
    output BLOB PRIMARY KEY, path BLOB NOT NULL, rendition TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS leftover_item ON leftover (path, rendition);
CREATE TABLE IF NOT EXISTS shard (
    work TEXT, y INTEGER, x INTEGER, record TEXT NOT NULL, PRIMARY KEY (work, y, x)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS journal (read INTEGER NOT NULL);
"""
_FORM = 4
"""Of these tables. An index of another form is set aside, and built anew from the journal."""
_RECORDS = "SELECT r.record FROM item i JOIN record r ON r.id = i.record"
_AT_ONCE = 1000
"""Entries that are rewritten between two looks at the memory."""


class Manifest:
    """The ledger in a folder. One process at a time may hold it; see `opened`."""

    def __init__(self, folder: Path) -> None:
        """Open the ledger in a folder that exists, and bring the index up to the journal."""
        self._journal_path = folder / "journal.jsonl"
        self.index = _index(folder / "manifest.sqlite")
        self.committed: Callable[[], None] = _nothing
        """Called after each commit."""
        self._keys: dict[str, int] = {}
        self._journal: BinaryIO = self._journal_path.open("ab")
        try:
            self._catch_up()
        except sqlite3.DatabaseError as error:
            logger.warning("the ledger's index is damaged (%s); it is built anew from the journal", error)
            self.index.close()
            _set_aside(folder / "manifest.sqlite")
            self.index = _index(folder / "manifest.sqlite")
            self._keys.clear()
            self._catch_up()

    def close(self) -> None:
        """Close both files."""
        self._journal.close()
        self.index.close()

    def commit(self, made: Iterable[Entry]) -> None:
        """Make entries last: they are on the disk when this returns."""
        made = list(made)
        if not made:
            return
        self._journal.write(b"".join(line(entry) for entry in made))
        self._journal.flush()
        os.fsync(self._journal.fileno())
        self._indexed(made, self._journal.tell())
        self.committed()

    def record(self, path: str, rendition: str = "") -> Record | None:
        """The last record of a rendition of a source."""
        asked = (os.fsencode(path), rendition)
        row = self.index.execute(f"{_RECORDS} WHERE path = ? AND rendition = ?", asked).fetchone()
        return None if row is None else Record(**json.loads(row[0]))

    def leftovers(self, path: str, rendition: str) -> list[str]:
        """Results of a rendition of a source that lie there beside the last one."""
        asked = (os.fsencode(path), rendition)
        rows = self.index.execute("SELECT output FROM leftover WHERE path = ? AND rendition = ?", asked)
        return [os.fsdecode(output) for (output,) in rows]

    def records(self, state: State) -> Iterator[Record]:
        """All records in a state, by path."""
        rows = self.index.execute(
            f"{_RECORDS} WHERE state = ? ORDER BY path, rendition",
            (state,),
        )
        for (text,) in rows:
            yield Record(**json.loads(text))

    def count(self) -> int:
        """How many records there are."""
        return int(self.index.execute("SELECT count(*) FROM item").fetchone()[0])

    def key_id(self, key: str) -> int:
        """The number that stands for a key in the index."""
        found = self._keys.get(key)
        if found is None:
            self.index.execute("INSERT OR IGNORE INTO keys (key) VALUES (?)", (key,))
            ((found,),) = self.index.execute("SELECT id FROM keys WHERE key = ?", (key,)).fetchall()
            if len(self._keys) >= _AT_ONCE:
                self._keys.clear()
            self._keys[key] = found
        return found

    def facts(self, key_id: int) -> dict[str, object]:
        """What the key of that number is the digest of; empty where it is not known."""
        row = self.index.execute("SELECT facts FROM keys WHERE id = ?", (key_id,)).fetchone()
        found: dict[str, object] = {} if row is None else json.loads(row[0])
        return found

    def shard_nbytes(self) -> int:
        """Bytes of all finished tiles."""
        return sum(json.loads(text)["nbytes"] for (text,) in self.index.execute("SELECT record FROM shard"))

    def forget(self) -> None:
        """Have no tile count any more."""
        rows = self.index.execute("SELECT DISTINCT work FROM shard").fetchall()
        self.commit([Forgotten(work) for (work,) in rows])

    def shards(self, work: str) -> list[ShardRecord]:
        """The finished tiles of a work folder."""
        rows = self.index.execute("SELECT record FROM shard WHERE work = ? ORDER BY y, x", (work,))
        return [ShardRecord(**json.loads(text)) for (text,) in rows]

    def _catch_up(self) -> None:
        """Read what of the journal is not yet in the index; write the journal anew where it is the one that is lost."""
        row = self.index.execute("SELECT read FROM journal").fetchone()
        read = 0 if row is None else int(row[0])
        if row is None:
            self.index.execute("INSERT INTO journal VALUES (0)")
        _check(self.index)
        if self._journal_path.stat().st_size < read:
            logger.warning("the ledger's journal is lost or short; it is written anew from the index")
            self._rewrite_journal()
            return
        with self._journal_path.open("rb") as file:
            file.seek(read)
            for text in file:
                if not text.endswith(b"\n"):
                    # The last line of a process that was killed while it wrote.
                    self._journal.truncate(read)
                    break
                read += len(text)
                self._indexed(entries(text), read, commit=False)
        if self.index.in_transaction:
            self.index.execute("COMMIT")
        self._journal.seek(0, os.SEEK_END)

    def lines(self) -> Iterator[bytes]:
        """The lines of a journal of all that counts now, and nothing else."""
        rows = self.index.execute(
            "SELECT 'key', json_object('key', key, 'facts', json(facts)) FROM keys UNION ALL "
            "SELECT 'item', record FROM record UNION ALL SELECT 'shard', record FROM shard"
        )
        for kind, text in rows:
            yield line(KINDS[kind](**json.loads(text)))
        for path, rendition, output in self.index.execute("SELECT path, rendition, output FROM leftover"):
            yield line(Left(os.fsdecode(path), rendition, os.fsdecode(output)))

    def _rewrite_journal(self) -> None:
        self._journal.truncate(0)
        self.index.execute("UPDATE journal SET read = 0")
        lines = self.lines()
        while some := list(islice(lines, _AT_ONCE)):
            self._journal.write(b"".join(some))
        self._journal.flush()
        os.fsync(self._journal.fileno())
        self.index.execute("UPDATE journal SET read = ?", (self._journal.tell(),))

    def _indexed(self, made: Iterable[Entry], read: int, *, commit: bool = True) -> None:
        if not self.index.in_transaction:
            self.index.execute("BEGIN IMMEDIATE")
        for entry in made:
            self._put(entry)
        self.index.execute("UPDATE journal SET read = ?", (read,))
        if commit:
            self.index.execute("COMMIT")

    def _put(self, entry: Entry) -> None:
        match entry:
            case Record():
                self._put_record(entry)
            case Gone(left=""):
                gone = (os.fsencode(entry.path), entry.rendition)
                self.index.execute(
                    "DELETE FROM record WHERE id = (SELECT record FROM item WHERE path = ? AND rendition = ?)", gone
                )
                self.index.execute("DELETE FROM item WHERE path = ? AND rendition = ?", gone)
            case Gone():
                self.index.execute("DELETE FROM leftover WHERE output = ?", (os.fsencode(entry.left),))
            case Left():
                left = (os.fsencode(entry.output), os.fsencode(entry.path), entry.rendition)
                self.index.execute("INSERT OR REPLACE INTO leftover VALUES (?, ?, ?)", left)
            case KeyFacts():
                told = (json.dumps(entry.facts, sort_keys=True), self.key_id(entry.key))
                self.index.execute("UPDATE keys SET facts = ? WHERE id = ?", told)
            case ShardRecord():
                row = (entry.work, entry.y, entry.x, json.dumps(asdict(entry)))
                self.index.execute("INSERT OR REPLACE INTO shard VALUES (?, ?, ?, ?)", row)
            case Forgotten(y=None):
                self.index.execute("DELETE FROM shard WHERE work = ?", (entry.work,))
            case Forgotten():
                one = (entry.work, entry.y, entry.x)
                self.index.execute("DELETE FROM shard WHERE work = ? AND y = ? AND x = ?", one)

    def _put_record(self, entry: Record) -> None:
        name = (os.fsencode(entry.path), entry.rendition)
        known = self.index.execute("SELECT record, output FROM item WHERE path = ? AND rendition = ?", name).fetchone()
        output = os.fsencode(entry.output)
        if known is not None and known[1] not in (b"", output):
            self.index.execute("INSERT OR REPLACE INTO leftover VALUES (?, ?, ?)", (known[1], *name))
        self.index.execute("DELETE FROM leftover WHERE output = ?", (output,))
        text = json.dumps(asdict(entry), separators=(",", ":"))
        row = (None if known is None else known[0], text)
        number = self.index.execute("INSERT OR REPLACE INTO record VALUES (?, ?)", row).lastrowid
        compared = (entry.state, entry.size, entry.mtime_ns, entry.etag, self.key_id(entry.key))
        result = (output, entry.output_nbytes, entry.output_px, entry.seconds, number)
        self.index.execute(
            "INSERT OR REPLACE INTO item VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*name, *compared, *result)
        )


def _nothing() -> None:
    """What most ledgers do after a commit."""


@contextmanager
def opened(folder: Path) -> Iterator[Manifest]:
    """The ledger in a folder, made where there is none. Raises JobError while another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            msg = f"{folder.parent}: another run is at work here ({holder}); wait for it, or end it"
            raise JobError(msg) from error
        lock.truncate(0)
        since = datetime.now().astimezone().isoformat(" ", "seconds")
        lock.write(f"pid {os.getpid()} on {socket.gethostname()}, since {since}\n")
        lock.flush()
        manifest = Manifest(folder)
        try:
            yield manifest
        finally:
            manifest.close()


def _index(path: Path) -> sqlite3.Connection:
    try:
        return _connected(path)
    except sqlite3.DatabaseError as error:
        logger.warning("the ledger's index is damaged (%s); it is built anew from the journal", error)
        _set_aside(path)
        return _connected(path)


def _connected(path: Path) -> sqlite3.Connection:
    index = sqlite3.connect(path, isolation_level=None)
    try:
        index.execute("PRAGMA journal_mode = WAL")
        # The journal is the truth; after a power cut the index is at worst behind it.
        index.execute("PRAGMA synchronous = NORMAL")
        ((form, tables),) = index.execute(
            "SELECT user_version, (SELECT count(*) FROM sqlite_master) FROM pragma_user_version"
        )
        if tables and form != _FORM:
            raise sqlite3.DatabaseError(f"its form is {form}, {_FORM} is wanted")  # noqa: TRY301
        index.executescript(_TABLES + f"PRAGMA user_version = {_FORM};")
    except sqlite3.DatabaseError:
        index.close()
        raise
    return index


def _check(index: sqlite3.Connection) -> None:
    (found,) = index.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(found)


def _set_aside(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        found = path.with_name(path.name + suffix)
        if found.exists():
            found.replace(found.with_name(found.name + ".damaged"))
