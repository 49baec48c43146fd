"""What a run has to do and why: the roll of its source against the ledger and what lies in TARGET, by SQL."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from pipelines import departed
from pipelines.errors import JobError
from pipelines.identity import Difference, difference, facts_key, result_facts
from pipelines.listing import Listed
from pipelines.manifest import Manifest
from pipelines.naming import Rendition
from pipelines.records import KeyFacts, Record
from pipelines.roll import Roll
from pipelines.tasks import behaviour
from refine.errors import RefineError
from refine.preset import adjusted
from refine.session import Engine
from refine.settings import Settings, Size

REASONS = {
    "new": "new",
    "changed": "source changed",
    "touched": "source touched: done only if its content changed",
    "key": "settings or program changed",
    "missing": "result missing or not as it was written",
    "failed": "failed before",
}
"""Why a result is stale, by the words of the plan."""

# A quarantined image stands until its file or its settings change. A result that is called as another image is now
# counts as missing.
_STALE = """
INSERT INTO plan.stale
SELECT l.rank, l.path, w.rendition, CASE
        WHEN i.path IS NULL THEN 'new'
        WHEN i.size <> l.size THEN 'changed'
        WHEN CASE l.etag WHEN '' THEN i.mtime_ns <> l.mtime_ns ELSE i.etag <> l.etag END
            THEN CASE i.state WHEN 'done' THEN 'touched' ELSE 'changed' END
        WHEN i.state = 'failed' THEN 'failed'
        WHEN i.key <> w.key THEN CASE i.state WHEN 'done' THEN 'key' ELSE 'failed' END
        WHEN i.state = 'quarantined' THEN ''
        WHEN p.nbytes IS NOT i.output_nbytes THEN 'missing'
        WHEN w.renamed AND i.output <> CAST(w.prefix || l.path AS BLOB) AND EXISTS (
            SELECT 1 FROM plan.listed o WHERE o.path = CAST(substr(i.output, length(w.prefix) + 1) AS BLOB))
            THEN 'missing'
        ELSE '' END AS why, i.key, w.key
FROM plan.listed l JOIN plan.wanted w ON w.wish = l.wish
    LEFT JOIN item i ON i.path = l.path AND i.rendition = w.rendition
    LEFT JOIN plan.present p ON p.path = i.output
WHERE why <> '' ORDER BY 1, 2, 3
"""
# Results whose format the source's header decides, and that stand: their names are theirs.
_CLAIMS = """
INSERT OR IGNORE INTO plan.claim
SELECT i.output, i.path FROM item i JOIN plan.listed l ON l.path = i.path
    JOIN plan.wanted w ON w.rendition = i.rendition AND w.wish = l.wish
    LEFT JOIN plan.stale s ON s.rank = l.rank AND s.path = i.path AND s.rendition = i.rendition
WHERE w.renamed AND i.state = 'done' AND s.path IS NULL AND i.output <> CAST(w.prefix || i.path AS BLOB)
"""
_QUARANTINED = """
SELECT r.record FROM item i JOIN plan.listed l ON l.path = i.path
    JOIN plan.wanted w ON w.rendition = i.rendition AND w.wish = l.wish
    JOIN record r ON r.id = i.record
    LEFT JOIN plan.stale s ON s.rank = l.rank AND s.path = i.path AND s.rendition = i.rendition
WHERE i.state = 'quarantined' AND s.path IS NULL ORDER BY i.path
"""
_PAGE = """
SELECT s.rank, s.path, s.rendition, s.why, s.old, l.wish, l.uri, l.size, l.mtime_ns, l.etag
FROM plan.stale s JOIN plan.listed l ON l.path = s.path
WHERE (s.rank, s.path) > (?, ?) ORDER BY s.rank, s.path, s.rendition LIMIT ?
"""
_SPREAD = """
WITH numbered AS (
    SELECT *, row_number() OVER (ORDER BY rank, path, rendition) - 1 AS n, count(*) OVER () AS total
    FROM plan.stale WHERE :why IN ('', why))
SELECT s.rank, s.path, s.rendition, s.why, s.old, l.wish, l.uri, l.size, l.mtime_ns, l.etag
FROM numbered s JOIN plan.listed l ON l.path = s.path
WHERE n * :count / total <> (n - 1) * :count / total OR n = 0 ORDER BY n
"""
_PAGE_ROWS = 2000
"""Stale results that are looked up at once."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one rendition of the images with the same options is made by."""

    rendition: Rendition
    """Which of the results."""
    settings: Settings
    """What is done."""
    key: str
    """Of its results."""
    key_id: int
    """The same, in the ledger's index."""


@dataclass(frozen=True, slots=True)
class Stale:
    """A result that is to be made, or made anew."""

    source: Listed
    """Its image, without priority and options."""
    wanted: Wanted
    """What it is made by."""
    why: str
    """One of REASONS."""
    old: Difference | None = None
    """What sets the key of the result that is there apart; None where nothing does, or there is none."""


@dataclass(slots=True)
class Planned:
    """A run's work, in the database, and how much it is."""

    ledger: Manifest
    """Where it is written down."""
    roll: Roll
    """The images."""
    wanted: dict[tuple[str, int], Wanted]
    """By rendition and number of the set of options."""
    differences: dict[tuple[int, int], Difference] = field(default_factory=dict)
    """Between keys that were met and those that are wanted, by their numbers."""

    @property
    def results(self) -> int:
        """Results that there are to be in the end."""
        return self.roll.images * len({rendition for rendition, _ in self.wanted})

    @property
    def counts(self) -> dict[str, int]:
        """How many results are stale, by reason."""
        return dict(self.roll.index.execute("SELECT why, count(*) FROM plan.stale GROUP BY why"))

    @property
    def replaced_nbytes(self) -> int:
        """Bytes of the results that are there and are made anew."""
        ((nbytes,),) = self.roll.index.execute(
            "SELECT ifnull(sum(p.nbytes), 0) FROM plan.stale s JOIN item i ON i.path = s.path "
            "AND i.rendition = s.rendition JOIN plan.present p ON p.path = i.output"
        )
        return int(nbytes)

    def pairs(self) -> dict[tuple[int, int], int]:
        """How many finished results are stale only for their key, by the numbers of the old and the new one."""
        rows = self.roll.index.execute("SELECT old, now, count(*) FROM plan.stale WHERE why = 'key' GROUP BY 1, 2")
        return {(old, now): count for old, now, count in rows}

    def unasked(self) -> dict[tuple[int, int], int]:
        """Those of them that only differ by what nobody asked for."""
        return {pair: count for pair, count in self.pairs().items() if not self.differences[pair].asked}

    def pace(self) -> dict[str, float]:
        """What finished results took: how many, seconds and bytes a px."""
        ((results, px, seconds, nbytes),) = self.roll.index.execute(
            "SELECT count(*), sum(output_px), sum(seconds), sum(output_nbytes) FROM item WHERE state = 'done'"
        ).fetchall()
        return {"results": results, "seconds_px": (seconds or 0) / (px or 1), "bytes_px": (nbytes or 0) / (px or 1)}

    def quarantined(self) -> Iterator[Record]:
        """Images that took their worker down and stand as they are: only another file or other settings help them."""
        for (text,) in self.roll.index.execute(_QUARANTINED):
            yield Record(**json.loads(text))

    @property
    def gone(self) -> int:
        """Finished results whose source is no longer there."""
        return departed.gone(self.roll.index)

    @property
    def dropped(self) -> list[str]:
        """Renditions of which there are results, and that are not asked for."""
        return departed.renditions(self.roll.index)

    @property
    def obsolete(self) -> int:
        """Results of images that are there, of a rendition or format that is not asked for, as of now."""
        return departed.obsolete(self.roll.index)

    def spread(self, count: int, why: str = "") -> list[Stale]:
        """Some stale results, evenly over all of them in the order of the work; of one reason, or of any."""
        rows = self.roll.index.execute(_SPREAD, {"why": why, "count": count}).fetchall()
        return [self._stale(row) for row in rows]

    def only(self, chosen: Sequence[Stale]) -> None:
        """Have nothing else to do."""
        index = self.roll.index
        index.execute(
            "CREATE TEMP TABLE IF NOT EXISTS chosen (path BLOB, rendition TEXT, PRIMARY KEY (path, rendition))"
        )
        names = [(os.fsencode(stale.source.path), stale.wanted.rendition.name) for stale in chosen]
        index.executemany("INSERT INTO chosen VALUES (?, ?)", names)
        index.execute("DELETE FROM plan.stale WHERE (path, rendition) NOT IN (SELECT path, rendition FROM chosen)")

    def only_failed(self) -> int:
        """Leave what has not failed before off the list; how many results."""
        others = (
            "DELETE FROM plan.stale WHERE NOT EXISTS (SELECT 1 FROM item i WHERE i.path = stale.path "
            "AND i.rendition = stale.rendition AND i.state = 'failed')"
        )
        return self.roll.index.execute(others).rowcount

    def keep(self) -> int:
        """Take finished results whose source is what it was off the list; how many."""
        pairs = list(self.pairs())
        kept = "DELETE FROM plan.stale WHERE why = 'key' AND old = ? AND now = ?"
        return sum(self.roll.index.execute(kept, pair).rowcount for pair in pairs)

    def stale(self) -> Iterator[list[Stale]]:
        """The stale results, image by image: the greatest priority first, then by path."""
        rank, path = -(1 << 63), b""
        group: list[Stale] = []
        while rows := self.roll.index.execute(_PAGE, (rank, path, _PAGE_ROWS)).fetchall():
            # The last image of a full page may go on beyond it.
            if len(rows) == _PAGE_ROWS and rows[0][1] != rows[-1][1]:
                rows = [row for row in rows if row[1] != rows[-1][1]]
            rank, path = rows[-1][:2]
            for row in rows:
                made = self._stale(row)
                if group and group[0].source.path != made.source.path:
                    yield group
                    group = []
                group.append(made)
        if group:
            yield group

    def standing(self, stale: Stale, source_sha256: str, *, redo: bool) -> Record | None:
        """The record, as of now, of a result whose source was touched and is what it was; None where it is to be made.

        redo: whether one that differs by what nobody asked for is made too; else it keeps its old key.
        """
        record = self.ledger.record(stale.source.path, stale.wanted.rendition.name)
        if stale.why != "touched" or record is None or record.source_sha256 != source_sha256:
            return None
        if stale.old is not None and (stale.old.asked or redo):
            return None
        if self.roll.nbytes(record.output) != record.output_nbytes:
            return None
        return replace(record, size=stale.source.size, mtime_ns=stale.source.mtime_ns, etag=stale.source.etag)

    def owner(self, path: str, rendition: str, name: str) -> str:
        """The image whose result is called `name`: `path`, which has it from now on, or one that has it already."""
        source, wanted = os.fsencode(path), os.fsencode(name)
        if source != wanted and self.roll.stamp(name):
            return name
        claim = os.fsencode(f"{rendition}/{name}" if rendition else name)
        self.roll.index.execute("INSERT OR IGNORE INTO plan.claim VALUES (?, ?)", (claim, source))
        ((owner,),) = self.roll.index.execute("SELECT source FROM plan.claim WHERE path = ?", (claim,)).fetchall()
        return os.fsdecode(owner)

    def is_foreign(self, output: str) -> bool:
        """Whether a file of TARGET was noted as one that no run has made."""
        asked = (os.fsencode(output),)
        return self.roll.index.execute("SELECT 1 FROM plan.foreign_file WHERE path = ?", asked).fetchone() is not None

    def _stale(self, row: Sequence[object]) -> Stale:
        _, path, rendition, why, old, wish, uri, size, mtime_ns, etag = row
        wanted = self.wanted[rendition, wish]  # type: ignore[index]
        source = Listed(os.fsdecode(path), size, mtime_ns, etag, os.fsdecode(uri))  # type: ignore[arg-type]
        return Stale(source, wanted, str(why), self.differences.get((old, wanted.key_id)))  # type: ignore[arg-type]


def planned(
    ledger: Manifest, roll: Roll, settings: Settings, renditions: Sequence[Rendition], engine: Engine
) -> Planned:
    """Compare the roll with the ledger. What lies in TARGET is to be noted in the roll before."""
    plan = Planned(ledger, roll, {})
    facts = []
    for wish, options, where in roll.options():
        with _told(where):
            own = with_options(settings, options, where, renditions)
            for rendition in renditions:
                made = rendition.settings(own)
                found = result_facts(made, behaviour(engine, block(made)))
                key = facts_key(found)
                plan.wanted[rendition.name, wish] = Wanted(rendition, made, key, ledger.key_id(key))
                facts.append(KeyFacts(key, found))
    ledger.commit(fact for fact in facts if not ledger.facts(ledger.key_id(fact.key)))
    index = ledger.index
    index.execute("BEGIN")
    index.executemany(
        "INSERT INTO plan.wanted VALUES (?, ?, ?, ?, ?)", [_wanted_row(*pair) for pair in plan.wanted.items()]
    )
    index.execute(_STALE)
    index.execute(_CLAIMS)
    departed.note(index)
    index.execute("COMMIT")
    ledger.commit(departed.lost(index))
    for old, now in index.execute("SELECT DISTINCT old, now FROM plan.stale WHERE old <> now").fetchall():
        plan.differences[old, now] = difference(ledger.facts(old), ledger.facts(now))
    return plan


def release(ledger: Manifest) -> int:
    """Have all that is quarantined count as failed, so that it is tried again; how many results."""
    held = list(ledger.records("quarantined"))
    ledger.commit(replace(record, state="failed") for record in held)
    return len(held)


def with_options(settings: Settings, options: str, where: str, renditions: Sequence[Rendition]) -> Settings:
    """The settings of images that have options of their own, given in a file and line. Raises where one is none."""
    if not options:
        return settings
    values = dict(json.loads(options))
    sizes = {name: values.pop(name) for name in ("scale", "long_side", "size") if name in values}
    if sizes and any(r.long_side for r in renditions):
        raise JobError(f"gives {' and '.join(sizes)}, and so do renditions; leave out one of them")
    if own := next((name for name in values if name.startswith("plan.")), None):
        raise JobError(f"{own} is that of the run, not of single images; leave it out of the manifest")
    made = replace(settings, preset=adjusted(settings.preset, values, where))
    return replace(made, size=_size(sizes)) if sizes else made


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Have what is refused inside say where it was asked for; empty where that is the command itself."""
    try:
        yield
    except RefineError as error:
        if not where:
            raise
        raise JobError(f"{where}: {str(error).removeprefix(f'{where}: ')}") from error


def block(settings: Settings) -> int:
    """px that are computed at once, on which bytes depend."""
    return min(settings.preset.plan.block, settings.preset.plan.tile)


def _size(values: Mapping[str, object]) -> Size:
    """A size as a manifest writes it. Raises JobError where a value is none."""
    read: dict[str, Callable[[str], object]] = {"scale": Fraction, "long_side": int, "size": _extent}
    made = dict[str, Any]()
    for name, value in values.items():
        try:
            made[name] = read[name](str(value))
        except (ValueError, ZeroDivisionError) as error:
            wanted = {"scale": "2, 2.5 or 5/2", "long_side": "whole px: 1600", "size": "width x height in px: 1600x900"}
            raise JobError(f"{name} is {value!r}; write {wanted[name]}") from error
    return Size(made.get("scale"), made.get("long_side"), made.get("size"))


def _extent(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    return int(height), int(width)


def _wanted_row(name: tuple[str, int], wanted: Wanted) -> tuple[object, ...]:
    prefix = wanted.rendition.output("").encode()
    return *name, wanted.key_id, prefix, wanted.settings.preset.output.format == "source"
