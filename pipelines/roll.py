"""The roll of a run: all images that its source lists, in a database of its own beside the ledger's index.

It is attached to the index as `plan`, so that what is to be done is a join; memory does not grow with it.
"""

from __future__ import annotations

import os
import sqlite3
from bisect import insort
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path

from pipelines.errors import JobError
from pipelines.listing import Listed, Listing
from pipelines.naming import Rendition, fault, folded, output_name, stem

_TABLES = """
CREATE TABLE plan.listed (
    path BLOB PRIMARY KEY, uri BLOB NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, etag TEXT NOT NULL,
    rank INTEGER NOT NULL, wish INTEGER NOT NULL, stem INTEGER NOT NULL, seen INTEGER NOT NULL DEFAULT 1) WITHOUT ROWID;
CREATE TABLE plan.folder (stem INTEGER, path BLOB, PRIMARY KEY (stem, path)) WITHOUT ROWID;
CREATE TABLE plan.wish (id INTEGER PRIMARY KEY, options TEXT NOT NULL UNIQUE, place TEXT NOT NULL);
CREATE TABLE plan.wanted (
    rendition TEXT, wish INTEGER, key INTEGER NOT NULL, prefix BLOB NOT NULL, renamed INTEGER NOT NULL,
    PRIMARY KEY (rendition, wish));
CREATE TABLE plan.present (path BLOB PRIMARY KEY, nbytes INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE plan.foreign_file (path BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE plan.claim (path BLOB PRIMARY KEY, source BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE plan.gone (path BLOB, rendition TEXT, state TEXT NOT NULL, output BLOB NOT NULL, listed INTEGER NOT NULL,
    PRIMARY KEY (path, rendition)) WITHOUT ROWID;
CREATE TABLE plan.stale (
    rank INTEGER, path BLOB, rendition TEXT, why TEXT NOT NULL, old INTEGER, now INTEGER NOT NULL,
    PRIMARY KEY (rank, path, rendition)) WITHOUT ROWID;
"""
_TOLD = 20
"""Names that are told of those that are refused; more would fill the screen."""
_MASK = (1 << 63) - 1


class Roll:
    """The listed images of a run. Use `called`."""

    def __init__(self, index: sqlite3.Connection, folder: Path) -> None:
        """Begin an empty roll beside the ledger whose index is given."""
        self.index = index
        self.images = 0
        """How many are listed."""
        path = folder / "plan.sqlite"
        for suffix in ("", "-journal"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        index.execute("ATTACH ? AS plan", (str(path),))
        # It is made anew by every run: nothing of it need survive one.
        index.execute("PRAGMA plan.journal_mode = OFF")
        index.execute("PRAGMA plan.synchronous = OFF")
        index.execute("PRAGMA plan.cache_size = -32768")
        index.executescript(_TABLES)

    def call(self, listing: Listing, renditions: Sequence[Rendition], file_format: str) -> None:
        """List a source. Raises JobError, with all of them, where names are refused or results would share one."""
        refused = _Refused()
        self.index.execute("BEGIN")
        self.index.executemany(
            "INSERT INTO plan.listed (path, uri, size, mtime_ns, etag, rank, wish, stem) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET seen = seen + 1",
            self._rows(listing, refused),
        )
        self.index.execute("CREATE INDEX plan.by_stem ON listed (stem)")
        self.index.execute("COMMIT")
        twice = self.index.execute("SELECT path, seen FROM plan.listed WHERE seen > 1 ORDER BY path")
        for path, seen in twice:
            refused.shared.add(f"{os.fsdecode(path)} is listed {seen} times")
        formats = {r.format or file_format for r in renditions}
        for told in self._clashes(sorted(formats)):
            refused.shared.add(told)
        refused.check(listing.remedy)

    def options(self) -> list[tuple[int, str, str]]:
        """The sets of options that some image has: number, options, and where they are met first."""
        return self.index.execute("SELECT id, options, place FROM plan.wish ORDER BY id").fetchall()

    def note_present(self, files: Iterable[tuple[str, int]]) -> None:
        """Note what lies in TARGET."""
        self.index.execute("BEGIN")
        rows = ((os.fsencode(path), nbytes) for path, nbytes in files)
        self.index.executemany("INSERT OR REPLACE INTO plan.present VALUES (?, ?)", rows)
        self.index.execute("COMMIT")

    def nbytes(self, path: str) -> int | None:
        """Bytes of a file in TARGET; None where there is none."""
        row = self.index.execute("SELECT nbytes FROM plan.present WHERE path = ?", (os.fsencode(path),)).fetchone()
        return None if row is None else int(row[0])

    def stamp(self, path: str) -> tuple[int, int] | None:
        """Bytes and time of change of a listed image; None where it is not listed."""
        asked = (os.fsencode(path),)
        row = self.index.execute("SELECT size, mtime_ns FROM plan.listed WHERE path = ?", asked).fetchone()
        return None if row is None else (row[0], row[1])

    def _rows(self, listing: Listing, refused: _Refused) -> Iterator[tuple[object, ...]]:
        wishes: dict[str, int] = {}
        last = ""
        for seen in listing.listed():
            # The names of files in a folder are the file system's own; others are anybody's.
            if (seen.uri or seen.etag) and (wrong := fault(seen.path)):
                refused.names.add(f"{seen.path!r} {wrong}")
                continue
            self.images += 1
            folder = seen.path.rpartition("/")[0]
            if folder != last:
                last = folder
                self._note_folder(folder)
            wish = wishes.get(seen.options)
            if wish is None:
                wish = wishes[seen.options] = self._wish(seen)
            yield self._row(seen, wish)

    def _row(self, seen: Listed, wish: int) -> tuple[object, ...]:
        name, place = os.fsencode(seen.path), os.fsencode(seen.uri)
        return name, place, seen.size, seen.mtime_ns, seen.etag, -seen.priority, wish, hash(stem(seen.path))

    def _note_folder(self, folder: str) -> None:
        while folder:
            known = (hash(stem(folder)), os.fsencode(folder))
            if not self.index.execute("INSERT OR IGNORE INTO plan.folder VALUES (?, ?)", known).rowcount:
                return
            folder = folder.rpartition("/")[0]

    def _wish(self, seen: Listed) -> int:
        put = "INSERT INTO plan.wish (options, place) VALUES (?, ?) RETURNING id"
        found = self.index.execute(put, (seen.options, seen.where)).fetchone()
        return int(found[0])

    def _clashes(self, formats: list[str]) -> Iterator[str]:
        """Results that would have one name, or the name of a folder, each told in a line."""
        rows = self.index.execute(
            "SELECT stem, path, 0 FROM plan.listed WHERE stem IN ("
            "SELECT stem FROM plan.listed GROUP BY stem HAVING count(*) > 1 "
            "UNION SELECT stem FROM plan.folder JOIN plan.listed USING (stem)) "
            "UNION ALL SELECT DISTINCT folder.stem, folder.path, 1 FROM plan.folder JOIN plan.listed USING (stem) "
            "ORDER BY 1, 3, 2"
        )
        for _, group in groupby(rows, key=lambda row: row[0]):
            # Many files of one stem, in one folder, are already a list that nobody reads.
            some = [(os.fsdecode(path), bool(folder)) for _, path, folder in islice(group, 1000)]
            told = dict.fromkeys(line for file_format in formats for line in _shared(some, file_format))
            yield from told


class _Told:
    """Lines of one reason for a refusal: how many, and the first of them in the order of the alphabet."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    def add(self, line: str) -> None:
        self.count += 1
        insort(self.first, line)
        del self.first[_TOLD:]

    def __str__(self) -> str:
        more = f"; and {self.count - len(self.first)} more" if self.count > len(self.first) else ""
        return "; ".join(self.first) + more


class _Refused:
    """What no run can do, by reason."""

    def __init__(self) -> None:
        self.names = _Told()
        self.shared = _Told()

    def check(self, remedy: str) -> None:
        said = []
        if self.names.count:
            said.append(f"no result can have these names: {self.names}")
        if self.shared.count:
            said.append(
                "several sources would have one result, for names are compared whatever their case and Unicode form: "
                f"{self.shared}"
            )
        if said:
            raise JobError(f"{'; '.join(said)}; {remedy}")


def _shared(names: list[tuple[str, bool]], file_format: str) -> Iterator[str]:
    """The results among some names that would share one, in a format; folders keep their names."""
    results: dict[str, list[str]] = {}
    folders: dict[str, str] = {}
    for name, is_folder in names:
        if is_folder:
            folders.setdefault(folded(name), name)
        else:
            results.setdefault(folded(output_name(name, file_format)), []).append(name)
    for key, paths in results.items():
        output = output_name(paths[0], file_format)
        if len(paths) > 1:
            yield f"{output} from {' and '.join(sorted(paths))}"
        if key in folders:
            yield f"{output} from {paths[0]}, which is a folder of others"
