"""The entries of a ledger, and how each is a line of its journal."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field, fields
from typing import Literal

logger = logging.getLogger(__name__)

State = Literal["done", "failed", "quarantined"]


@dataclass(frozen=True, slots=True)
class Record:
    """What became of one rendition of one source."""

    path: str
    """The source's name in the catalog: below SOURCE, or its id in a manifest."""
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
    rendition: str = ""
    """Which of the results of one source; empty where there is one."""
    etag: str = ""
    """What an object store calls this state of the source; empty for a file."""
    output_etag: str = ""
    """What an object store calls the result as it was stored; empty for a file."""
    uri: str = ""
    """Where the source lies; empty for its name below SOURCE."""
    kind: str = ""
    """Of its failure; see `pipelines.failures`."""

    def __post_init__(self) -> None:
        # JSON gives a list back.
        object.__setattr__(self, "notes", tuple(self.notes))


@dataclass(frozen=True, slots=True)
class Gone:
    """A result that is no more: nothing asks for it, or its making was undone."""

    path: str
    """The source's name in the catalog."""
    rendition: str = ""
    """Which of its results."""
    left: str = ""
    """Where it was not the last one of this name, what that was called; see `Left`."""


@dataclass(frozen=True, slots=True)
class Left:
    """A result that lies in TARGET still, though the record of its source tells of another, or of none.

    A record that replaces one of a result by another name leaves it: no line of the journal need say so.
    """

    path: str
    """The source's name in the catalog."""
    rendition: str
    """Which of its results."""
    output: str
    """Below TARGET."""


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What a key is the digest of, so that it can be told what differs; once for all records that have it."""

    key: str
    """As records have it."""
    facts: dict[str, object]
    """See `pipelines.identity.result_facts`."""


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


Entry = Record | Gone | Left | KeyFacts | ShardRecord | Forgotten
KINDS: dict[str, type[Entry]] = {
    "item": Record,
    "gone": Gone,
    "left": Left,
    "key": KeyFacts,
    "shard": ShardRecord,
    "forgotten": Forgotten,
}
"""Entries by the names that the journal has for them."""
_NAMES = {kind: name for name, kind in KINDS.items()}


def line(entry: Entry) -> bytes:
    """The line of the journal for an entry."""
    return json.dumps({_NAMES[type(entry)]: asdict(entry)}, separators=(",", ":")).encode("ascii") + b"\n"


def entries(text: bytes) -> list[Entry]:
    """The entry of a journal's line; nothing for a line that is damaged or of a later version."""
    try:
        ((name, values),) = json.loads(text).items()
        kind = KINDS[name]
        known = {f.name for f in fields(kind)}
        return [kind(**{key: value for key, value in values.items() if key in known})]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        logger.warning("a line of the ledger's journal is passed over: %s", error)
        return []
