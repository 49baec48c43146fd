"""All that a ledger holds, counted and grouped for a page of bounded size."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple
from urllib.parse import quote

from pipelines.assessing import meaning
from pipelines.draw import Draw
from pipelines.records import Record
from pipelines.summary import named, printable

_FLAGGED = 5_000
"""Flagged results that are shown; more than anyone looks at."""
_ROWS = 150_000
"""Rows that a page's list has, those without a result or flagged before all others."""
_PACKED_NBYTES = 3_500_000
"""Of the list inside the page; in text it takes a third more."""
_GROUPS = 300
"""Reasons that are told apart."""
_NAMED = 40
"""Images that are named under one reason."""
_NUMBER = re.compile(r"\d[\d,.]*")
FLAGGED = ("too-weak",)
"""Decisions whose results deserve a look."""


@dataclass(frozen=True, slots=True)
class Row:
    """One result of a catalog, or what is instead of it."""

    record: Record
    """As the ledger has it."""

    @property
    def shown(self) -> str:
        """The name that a page shows."""
        return named(self.record.path, self.record.rendition)

    @property
    def done(self) -> bool:
        """Whether there is a result."""
        return self.record.state == "done"

    @property
    def flag(self) -> str:
        """Why the result deserves a look; empty where it does not."""
        return meaning(self.record.decision) if self.record.decision in FLAGGED else ""

    @property
    def told(self) -> str:
        """The one thing to tell of it: why it failed, why it deserves a look, or what was left out."""
        if not self.done:
            return self.record.reason
        return self.flag or "; ".join(self.record.notes)

    @property
    def said(self) -> tuple[str, ...]:
        """What was decided, in words."""
        return () if self.flag or not self.record.decision else (meaning(self.record.decision),)

    @property
    def digest(self) -> str:
        """Of source and result: the same pictures, the same name."""
        record = self.record
        return sha256(f"{record.source_sha256} {record.output_sha256} {record.output_px}".encode()).hexdigest()[:24]

    def link(self, folder: str | None) -> str | None:
        """The address of the result."""
        return None if folder is None else folder + quote(os.fsencode(self.record.output))

    def source_link(self, folder: str | None) -> str | None:
        """The address of the source; None where it does not lie under its name."""
        return None if folder is None or self.record.uri else folder + quote(os.fsencode(self.record.path))

    def line(self) -> bytes:
        """A line of the list beside the page."""
        record = self.record
        told = {
            "path": printable(record.path),
            "rendition": record.rendition,
            "state": record.state,
            "stage": record.stage,
            "kind": record.kind,
            "reason": record.reason,
            "decision": record.decision,
            "flag": self.flag,
            "notes": list(record.notes),
            "output": printable(record.output),
            "output_px": record.output_px,
            "output_nbytes": record.output_nbytes,
            "seconds": record.seconds,
            "strengths": record.strengths,
        }
        kept = {name: value for name, value in told.items() if value not in ("", [], {}) and (self.done or value != 0)}
        return json.dumps(kept, separators=(",", ":")).encode("ascii") + b"\n"


@dataclass(slots=True)
class _Group:
    """Images of which the same is to be told."""

    tag: str
    """The stage at which they failed, or what kind of group this is."""
    state: str
    """Theirs."""
    reasons: set[str]
    """As they stand in the ledger; a few of them."""
    count: int = 0
    """Images."""
    paths: list[str] = field(default_factory=list)
    """Some of them, as a page shows them."""

    def take(self, row: Row, reason: str) -> None:
        self.count += 1
        if len(self.paths) < _NAMED:
            self.paths.append(row.shown)
        if len(self.reasons) < 2:
            self.reasons.add(reason)

    def as_json(self) -> dict[str, object]:
        """As the page's script takes it: numbers that differ from image to image are not told."""
        alike = (
            next(iter(self.reasons))
            if len(self.reasons) == 1
            else _NUMBER.sub("\N{HORIZONTAL ELLIPSIS}", min(self.reasons))
        )
        what = printable(alike)
        return {"tag": self.tag, "state": self.state, "what": what, "count": self.count, "paths": self.paths}


class Line(NamedTuple):
    """A row of the list inside the page."""

    place: int
    name: str
    state: str
    decision: str
    told: str
    px: int
    nbytes: int
    output: str
    """Where it is not the name."""
    address: str
    """Of the result, where it does not follow from its name."""
    group: int
    """Of reasons; -1 for a result."""

    @property
    def reason(self) -> tuple[str, int, bool]:
        """What is told, the group of that, and whether it is flagged."""
        return self.told, self.group, self.decision in FLAGGED


class Tally:
    """Rows, taken in one after the other by name; only what a page shows of them is kept."""

    def __init__(self, wanted: frozenset[str]) -> None:
        """Wanted: sources that are to be shown before others."""
        self._wanted = wanted
        self.states: Counter[str] = Counter()
        self.total = self.output_px = self.output_nbytes = 0
        self.seconds = 0.0
        self._decisions: Counter[str] = Counter()
        self._failures: dict[tuple[str, str, str], _Group] = {}
        self._numbers: dict[tuple[str, str, str], int] = {}
        self._notes: dict[str, _Group] = {}
        self._flagged: list[Row] = []
        self._drawn: Draw[Row] = Draw()
        self._first: list[Line] = []
        self._rest: list[Line] = []

    def add(self, row: Row) -> None:
        """Take in a row."""
        self.total += 1
        record = row.record
        self.states[record.state] += 1
        if not row.done:
            self._list(row, self._failed(row), first=True)
            return
        self.output_px += record.output_px
        self.output_nbytes += record.output_nbytes
        self.seconds += record.seconds
        self._decisions[record.decision] += 1
        for note in record.notes:
            key = _NUMBER.sub("", note)
            if key in self._notes or len(self._notes) < _GROUPS:
                self._notes.setdefault(key, _Group("note", "done", set())).take(row, note)
        if not row.flag:
            self._drawn.take(os.fsencode(record.path), row, first=record.path in self._wanted)
        elif len(self._flagged) < _FLAGGED:
            self._flagged.append(row)
        self._list(row, -1, first=bool(row.flag))

    def pairs(self) -> list[tuple[str, str, list[Row], int]]:
        """What the page shows with before and after: name, title, rows, and how many there are of the kind."""
        flagged = sum(self._decisions[word] for word in FLAGGED)
        drawn = self._drawn.drawn()
        return [
            ("flagged", "Flagged: these deserve a look", self._flagged, flagged),
            ("sample", "A sample of the results", drawn, self.states["done"] - flagged),
        ]

    def decided(self) -> list[dict[str, object]]:
        """Decisions and how often each was made."""
        return [{"what": meaning(word), "count": count} for word, count in _often(self._decisions) if word]

    def failed(self) -> list[dict[str, object]]:
        """Reasons for which there is no result, the one that is met most often first; `group` is that of the list."""
        found = [group.as_json() | {"group": self._numbers[key]} for key, group in self._failures.items()]
        return sorted(found, key=lambda group: -int(str(group["count"])))

    def noted(self) -> list[dict[str, object]]:
        """Notes, the one that is met most often first."""
        return sorted((group.as_json() for group in self._notes.values()), key=lambda group: -int(str(group["count"])))

    def packed(self, beside: str) -> dict[str, Any]:
        """The list inside the page: as many rows as it bears, by name; `beside` is the file that has all."""
        first = self._first[:_ROWS]
        rest = self._rest[: _ROWS - len(first)]
        while True:
            lines = sorted([*first, *rest])
            states, decisions, packed = _packed(lines)
            if len(packed) <= _PACKED_NBYTES or len(lines) < 2:
                break
            first, rest = (first, rest[: len(rest) // 2]) if rest else (first[: len(first) // 2], rest)
        told = "The whole catalog, as the ledger has it."
        if len(lines) < self.total:
            told += f" Here are {len(lines):,} of {self.total:,}, those without a result before all others."
        return {
            "states": states,
            "decisions": decisions,
            "packed": base64.b64encode(packed).decode("ascii"),
            "told": f"{told} Each with all that is known of it: {beside}, beside this.",
        }

    def _failed(self, row: Row) -> int:
        record = row.record
        key = (record.state, record.stage, _NUMBER.sub("", record.reason))
        if key not in self._failures and len(self._failures) >= _GROUPS:
            key = (record.state, record.stage, "")
        reason = record.reason if key[2] else "other reasons"
        tag = ", ".join(
            filter(None, (record.state if record.state != "failed" else "", record.stage, _told(record.kind)))
        )
        self._failures.setdefault(key, _Group(tag, record.state, set())).take(row, reason)
        return self._numbers.setdefault(key, len(self._numbers))

    def _list(self, row: Row, group: int, *, first: bool) -> None:
        rows = self._first if first else self._rest
        if len(rows) >= _ROWS:
            return
        record = row.record
        shown = printable(record.output)
        line = Line(
            self.total,
            row.shown,
            record.state,
            record.decision,
            printable(row.told),
            record.output_px,
            record.output_nbytes,
            output="" if record.output == record.path else shown,
            address="" if shown == record.output else quote(os.fsencode(record.output)),
            group=group,
        )
        rows.append(line)


def _told(kind: str) -> str:
    """A kind of failure; nothing for the one that most are of."""
    return "" if kind == "deterministic" else kind


def _packed(lines: list[Line]) -> tuple[list[str], list[str], bytes]:
    """States and decisions, each once, and the rows and what is told of them as gzip of JSON, by their numbers."""
    states, decisions = sorted({line.state for line in lines}), sorted({line.decision for line in lines})
    told = sorted({line.reason for line in lines})
    numbers = {reason: number for number, reason in enumerate(told)}
    rows = []
    for line in lines:
        row = [line.name, states.index(line.state), decisions.index(line.decision), numbers[line.reason]]
        row += [line.px, line.nbytes, line.output, line.address]
        while row[-1] == "":
            row.pop()
        rows.append(row)
    reasons = [{"text": text, "group": group, "flag": flag} for text, group, flag in told]
    text = json.dumps({"reasons": reasons, "rows": rows}, separators=(",", ":")).encode("ascii")
    return states, decisions, gzip.compress(text, 6, mtime=0)


def _often(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
