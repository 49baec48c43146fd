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
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import BinaryIO, Literal

from pipelines.errors import JobError

logger = logging.getLogger(__name__)

State = Literal["done", "failed", "quarantined"]


@dataclass(frozen=True, slots=True)
class Record:
    """What became of one source file."""

    path: str
    """Below SOURCE."""
    size: int
    """Bytes of the source."""
    mtime_ns: int
    """When the source was changed last, ns."""
    key: str
    """Digest of all that decides the result apart from the source."""
    state: State
    """What became of it."""
    stage: str = ""
    """Where it failed."""
    reason: str = ""
    """Why it failed, one line."""
    source_sha256: str = ""
    """Of the source file, hex."""
    output: str = ""
    """Below TARGET."""
    output_px: int = 0
    """px of the result."""
    output_nbytes: int = 0
    """Bytes of the result's file."""
    output_sha256: str = ""
    """Of the result's file, hex."""
    seconds: float = 0.0
    """Work it took."""
    attempts: int = 1
    """How often it was tried in the run that gave this record."""
    notes: tuple[str, ...] = ()
    """What was changed or left out on the way, short sentences."""
    decision: str = ""
    """What was done, in one word."""
    strengths: dict[str, float] = field(default_factory=dict)
    """How much of it, by setting."""
    measured: dict[str, float | None] = field(default_factory=dict)
    """What was measured on the source, by the names of `Assessment`."""

    def __post_init__(self) -> None:
        # JSON gives a list back.
        object.__setattr__(self, "notes", tuple(self.notes))


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """One finished tile of an image too large for one task."""

    work: str
    """Name of the image's work folder: another source or other settings, another name."""
    y: int
    """First row of the tile, output px."""
    x: int
    """First column of the tile, output px."""
    nbytes: int
    """Bytes of the shard's file."""
    sha256: str
    """Of the shard's file, hex."""
    seconds: float = 0.0
    """Work it took."""
    beyond: int = 0
    """Of a poster: px that were looked at, whose colours the printer cannot make."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """All shards of a work folder, or one of them, that count no more."""

    work: str
    """Name of the work folder."""
    y: int | None = None
    """First row of the one tile; None for all."""
    x: int | None = None
    """First column of the one tile; None for all."""


Entry = Record | ShardRecord | Forgotten
_KINDS: dict[str, type[Entry]] = {"item": Record, "shard": ShardRecord, "forgotten": Forgotten}
_NAMES = {kind: name for name, kind in _KINDS.items()}

# Paths are bytes: a name that is no valid UTF-8 is still a file.
_TABLES = """
CREATE TABLE IF NOT EXISTS item (path BLOB PRIMARY KEY, state TEXT NOT NULL, record TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS shard (
    work TEXT, y INTEGER, x INTEGER, record TEXT NOT NULL, PRIMARY KEY (work, y, x)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS journal (read INTEGER NOT NULL);
"""


class Manifest:
    """The ledger in a folder. One process at a time may hold it; see `opened`."""

    def __init__(self, folder: Path) -> None:
        """Open the ledger in a folder that exists, and bring the index up to the journal."""
        self._journal_path = folder / "journal.jsonl"
        self._index = _index(folder / "manifest.sqlite")
        self._journal: BinaryIO = self._journal_path.open("ab")
        try:
            self._catch_up()
        except sqlite3.DatabaseError as error:
            logger.warning("the ledger's index is damaged (%s); it is built anew from the journal", error)
            self._index.close()
            _set_aside(folder / "manifest.sqlite")
            self._index = _index(folder / "manifest.sqlite")
            self._catch_up()

    def close(self) -> None:
        """Close both files."""
        self._journal.close()
        self._index.close()

    def commit(self, entries: Iterable[Entry]) -> None:
        """Make entries last: they are on the disk when this returns."""
        entries = list(entries)
        if not entries:
            return
        self._journal.write(b"".join(_line(entry) for entry in entries))
        self._journal.flush()
        os.fsync(self._journal.fileno())
        self._indexed(entries, self._journal.tell())

    def record(self, path: str) -> Record | None:
        """The last record of a source file."""
        row = self._index.execute("SELECT record FROM item WHERE path = ?", (os.fsencode(path),)).fetchone()
        return None if row is None else Record(**json.loads(row[0]))

    def records(self, state: State) -> Iterator[Record]:
        """All records in a state, by path."""
        for (text,) in self._index.execute("SELECT record FROM item WHERE state = ? ORDER BY path", (state,)):
            yield Record(**json.loads(text))

    def shard_nbytes(self) -> int:
        """Bytes of all finished tiles."""
        return sum(json.loads(text)["nbytes"] for (text,) in self._index.execute("SELECT record FROM shard"))

    def forget(self) -> None:
        """Have no tile count any more."""
        rows = self._index.execute("SELECT DISTINCT work FROM shard").fetchall()
        self.commit([Forgotten(work) for (work,) in rows])

    def shards(self, work: str) -> list[ShardRecord]:
        """The finished tiles of a work folder."""
        rows = self._index.execute("SELECT record FROM shard WHERE work = ? ORDER BY y, x", (work,))
        return [ShardRecord(**json.loads(text)) for (text,) in rows]

    def _catch_up(self) -> None:
        """Read what of the journal is not yet in the index; write the journal anew where it is the one that is lost."""
        row = self._index.execute("SELECT read FROM journal").fetchone()
        read = 0 if row is None else int(row[0])
        if row is None:
            self._index.execute("INSERT INTO journal VALUES (0)")
        _check(self._index)
        if self._journal_path.stat().st_size < read:
            logger.warning("the ledger's journal is lost or short; it is written anew from the index")
            self._rewrite_journal()
            return
        with self._journal_path.open("rb") as file:
            file.seek(read)
            for line in file:
                if not line.endswith(b"\n"):
                    # The last line of a process that was killed while it wrote.
                    self._journal.truncate(read)
                    break
                read += len(line)
                self._indexed(_entries(line), read, commit=False)
        if self._index.in_transaction:
            self._index.execute("COMMIT")
        self._journal.seek(0, os.SEEK_END)

    def _rewrite_journal(self) -> None:
        self._journal.truncate(0)
        self._index.execute("UPDATE journal SET read = 0")
        rows = self._index.execute("SELECT 'item', record FROM item UNION ALL SELECT 'shard', record FROM shard")
        self.commit([_KINDS[kind](**json.loads(text)) for kind, text in rows])

    def _indexed(self, entries: Iterable[Entry], read: int, *, commit: bool = True) -> None:
        if not self._index.in_transaction:
            self._index.execute("BEGIN IMMEDIATE")
        for entry in entries:
            self._put(entry)
        self._index.execute("UPDATE journal SET read = ?", (read,))
        if commit:
            self._index.execute("COMMIT")

    def _put(self, entry: Entry) -> None:
        match entry:
            case Record():
                values = (os.fsencode(entry.path), entry.state, json.dumps(asdict(entry)))
                self._index.execute("INSERT OR REPLACE INTO item VALUES (?, ?, ?)", values)
            case ShardRecord():
                row = (entry.work, entry.y, entry.x, json.dumps(asdict(entry)))
                self._index.execute("INSERT OR REPLACE INTO shard VALUES (?, ?, ?, ?)", row)
            case Forgotten(y=None):
                self._index.execute("DELETE FROM shard WHERE work = ?", (entry.work,))
            case Forgotten():
                one = (entry.work, entry.y, entry.x)
                self._index.execute("DELETE FROM shard WHERE work = ? AND y = ? AND x = ?", one)


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
        lock.write(f"pid {os.getpid()} on {socket.gethostname()}\n")
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
        index.executescript(_TABLES)
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


def _line(entry: Entry) -> bytes:
    return json.dumps({_NAMES[type(entry)]: asdict(entry)}, separators=(",", ":")).encode("ascii") + b"\n"


def _entries(line: bytes) -> list[Entry]:
    """The entry of a journal's line; nothing for a line that is damaged or of a later version."""
    try:
        ((name, values),) = json.loads(line).items()
        kind = _KINDS[name]
        known = {f.name for f in fields(kind)}
        return [kind(**{key: value for key, value in values.items() if key in known})]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        logger.warning("a line of the ledger's journal is passed over: %s", error)
        return []
