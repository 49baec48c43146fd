"""What of a ledger nothing asks for any more: results without a source, and those of other renditions or formats.

Found by SQL in the index of the ledger, beside the roll of the run.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.records import Gone

_NOTE = """
INSERT INTO plan.gone
SELECT i.path, i.rendition, i.state, i.output, l.path IS NOT NULL FROM item i
    LEFT JOIN plan.listed l ON l.path = i.path
    LEFT JOIN plan.wanted w ON w.rendition = i.rendition AND w.wish = l.wish
WHERE w.wish IS NULL
"""
# A result of another name that has not been followed by one stands for it, and a name that another source's result
# has by now is that one's.
_LEFT = """
FROM leftover f LEFT JOIN item o ON o.output = f.output AND o.state = 'done'
    LEFT JOIN item i ON i.path = f.path AND i.rendition = f.rendition
    LEFT JOIN plan.gone g ON g.path = f.path AND g.rendition = f.rendition
WHERE o.path IS NULL AND (i.path IS NULL OR i.state = 'done' OR g.path IS NOT NULL)
"""
_LOST = """
SELECT f.path, f.rendition, f.output FROM leftover f LEFT JOIN plan.present p ON p.path = f.output
WHERE p.path IS NULL
"""
# The other half of those: nothing has followed them, for their images have failed since.
_EARLIER = """
SELECT count(*) FROM leftover f JOIN plan.present p ON p.path = f.output
    JOIN item i ON i.path = f.path AND i.rendition = f.rendition AND i.state <> 'done'
    LEFT JOIN item o ON o.output = f.output AND o.state = 'done'
    LEFT JOIN plan.gone g ON g.path = f.path AND g.rendition = f.rendition
WHERE o.path IS NULL AND g.path IS NULL
"""


@dataclass(frozen=True, slots=True)
class Departure:
    """Something of the ledger that may go."""

    entry: Gone
    """What the ledger is told then."""
    output: str
    """The result to be removed; empty where there is none of its own."""


def note(index: sqlite3.Connection) -> None:
    """Note which records no run asks for, in the database of the roll."""
    index.execute(_NOTE)


def lost(index: sqlite3.Connection) -> list[Gone]:
    """Left results that somebody has taken out of TARGET."""
    return [Gone(os.fsdecode(path), name, os.fsdecode(output)) for path, name, output in index.execute(_LOST)]


def gone(index: sqlite3.Connection) -> int:
    """Finished results whose source is no longer there."""
    return _one(index, "SELECT count(*) FROM plan.gone WHERE state = 'done' AND NOT listed")


def renditions(index: sqlite3.Connection) -> list[str]:
    """Renditions of which there are results, and that are no longer asked for."""
    rows = index.execute("SELECT DISTINCT rendition FROM plan.gone WHERE state = 'done' AND listed ORDER BY 1")
    return [name for (name,) in rows]


def obsolete(index: sqlite3.Connection) -> int:
    """Results whose source is there, but of a rendition or a format that is no longer asked for."""
    return _one(index, "SELECT count(*) FROM plan.gone WHERE state = 'done' AND listed") + _one(
        index, f"SELECT count(*) {_LEFT}"
    )


def some_gone(index: sqlite3.Connection, count: int) -> list[str]:
    """The first so many of those that `gone` counts."""
    return _some(index, "SELECT output FROM plan.gone WHERE state = 'done' AND NOT listed", count)


def some_obsolete(index: sqlite3.Connection, count: int) -> list[str]:
    """The first so many of those that `obsolete` counts."""
    dropped = "SELECT output FROM plan.gone WHERE state = 'done' AND listed"
    return _some(index, f"{dropped} UNION ALL SELECT f.output {_LEFT}", count)


def earlier(index: sqlite3.Connection) -> int:
    """Results in TARGET that are of an earlier state of their images, which have failed since."""
    return _one(index, _EARLIER)


def departures(index: sqlite3.Connection) -> Iterator[Departure]:
    """Records that no run asks for, by name."""
    taken = {
        output
        for (output,) in index.execute(
            "SELECT g.output FROM plan.gone g JOIN item i ON i.output = g.output AND i.path <> g.path "
            "LEFT JOIN plan.gone o ON o.path = i.path AND o.rendition = i.rendition "
            "WHERE g.state = 'done' AND o.path IS NULL"
        )
    }
    rows = index.execute("SELECT path, rendition, output FROM plan.gone ORDER BY path, rendition")
    for path, rendition, output in rows:
        yield Departure(Gone(os.fsdecode(path), rendition), "" if output in taken else os.fsdecode(output))


def leftovers(index: sqlite3.Connection) -> Iterator[Departure]:
    """Results that have been followed by one of another name."""
    # Sorted, so all of them are read before the first is handed out: the ledger is told of them one by one.
    for path, rendition, output in index.execute(f"SELECT f.path, f.rendition, f.output {_LEFT} ORDER BY 1, 2, 3"):
        name = os.fsdecode(output)
        yield Departure(Gone(os.fsdecode(path), rendition, name), name)


def _some(index: sqlite3.Connection, query: str, count: int) -> list[str]:
    return [os.fsdecode(name) for (name,) in index.execute(f"{query} ORDER BY 1 LIMIT ?", (count,))]


def _one(index: sqlite3.Connection, query: str) -> int:
    ((count,),) = index.execute(query).fetchall()
    return int(count)
