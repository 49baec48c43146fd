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
# Outputs have no index, which would cost at every commit: they are asked for as lists (IN), never joined by.
_LEFT = """
FROM leftover f LEFT JOIN item i ON i.path = f.path AND i.rendition = f.rendition
    LEFT JOIN plan.gone g ON g.path = f.path AND g.rendition = f.rendition
    LEFT JOIN plan.listed l ON l.path = f.path
WHERE f.output NOT IN (SELECT output FROM item WHERE state = 'done')
    AND (i.path IS NULL OR i.state = 'done' OR g.path IS NOT NULL)
"""
_GONE = "SELECT output FROM plan.gone WHERE state = 'done' AND NOT listed"
# An image that failed before it went left its earlier result.
_ALL_GONE = f"{_GONE} UNION ALL SELECT f.output {_LEFT} AND l.path IS NULL"
_BELOW = f"""
{_GONE} AND path >= :first AND path < :last
UNION ALL SELECT f.output {_LEFT} AND l.path IS NULL AND f.path >= :first AND f.path < :last
"""
_OBSOLETE = "SELECT output FROM plan.gone WHERE state = 'done' AND listed"
_ALL_OBSOLETE = f"{_OBSOLETE} UNION ALL SELECT f.output {_LEFT} AND l.path IS NOT NULL"
# Names that are another's by now: of a result, or of what an image that has failed left there.
_TAKEN = """
SELECT g.output FROM plan.gone g WHERE g.state = 'done' AND (g.output IN (
        SELECT output FROM item WHERE (path, rendition) NOT IN (SELECT path, rendition FROM plan.gone))
    OR g.output IN (
        SELECT output FROM leftover WHERE (path, rendition) NOT IN (SELECT path, rendition FROM plan.gone)))
"""
_LOST = """
SELECT f.path, f.rendition, f.output FROM leftover f LEFT JOIN plan.present p ON p.path = f.output
WHERE p.path IS NULL
"""
# The other half of those: nothing has followed them, for their images have failed since.
_EARLIER = """
SELECT f.output FROM leftover f JOIN plan.present p ON p.path = f.output
    JOIN item i ON i.path = f.path AND i.rendition = f.rendition AND i.state <> 'done'
    LEFT JOIN plan.gone g ON g.path = f.path AND g.rendition = f.rendition
WHERE g.path IS NULL AND f.output NOT IN (
    SELECT output FROM item WHERE state = 'done' AND (path, rendition) NOT IN (SELECT path, rendition FROM plan.gone))
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
    """Results whose source is no longer there; earlier ones of images that failed before they went among them."""
    return _counted(index, _ALL_GONE)


def gone_below(index: sqlite3.Connection, folder: str) -> int:
    """How many of these are of images below a folder."""
    # All names below it, for "0" is the character after "/".
    return _counted(index, _BELOW, {"first": os.fsencode(f"{folder}/"), "last": os.fsencode(f"{folder}0")})


def renditions(index: sqlite3.Connection) -> list[str]:
    """Renditions of which there are results, and that are no longer asked for."""
    rows = index.execute("SELECT DISTINCT rendition FROM plan.gone WHERE state = 'done' AND listed ORDER BY 1")
    return [name for (name,) in rows]


def obsolete(index: sqlite3.Connection) -> int:
    """Results whose source is there, but of a rendition or a format that is no longer asked for."""
    return _counted(index, _ALL_OBSOLETE)


def some_gone(index: sqlite3.Connection, count: int) -> list[str]:
    """The first so many of those that `gone` counts."""
    return _some(index, _ALL_GONE, count)


def some_obsolete(index: sqlite3.Connection, count: int) -> list[str]:
    """The first so many of those that `obsolete` counts."""
    return _some(index, _ALL_OBSOLETE, count)


def earlier(index: sqlite3.Connection) -> int:
    """Results in TARGET that are of an earlier state of their images, which have failed since."""
    return _counted(index, _EARLIER)


def departures(index: sqlite3.Connection) -> Iterator[Departure]:
    """Records that no run asks for, by name."""
    taken = {output for (output,) in index.execute(_TAKEN)}
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


def _counted(index: sqlite3.Connection, query: str, values: dict[str, bytes] | None = None) -> int:
    return sum(1 for _ in index.execute(query, values or {}))
