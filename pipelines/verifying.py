"""Whether the results of a catalog are still what was written: each read again, and compared with the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipelines import sources
from pipelines.checked import Verified, Wrong
from pipelines.errors import JobError
from pipelines.holding import held_ledger, ledger_folder
from pipelines.place import Spot
from pipelines.records import Record
from pipelines.targets import Target
from refine.errors import RefineError

_OF_SCANS = ("provenance.json", ".refine/run.json")
"""What lies in the folder of a scan or poster, finished or begun."""


def is_catalog(target: Target, state: Path | None) -> bool:
    """Whether a target has the ledger of a catalog, and no record of a single derivative."""
    if target.folder is not None and any((target.folder / name).exists() for name in _OF_SCANS):
        return False
    return target.folder is None or (ledger_folder(target, state) / "journal.jsonl").exists()


def verified_catalog(target: Target, state: Path | None) -> Verified:
    """Read every result that the ledger has again, and compare. What else lies in TARGET is not looked at.

    Raises JobError where the ledger knows of no result, or another run is at work there.
    """
    with held_ledger(target, state) as ledger:
        checked, wrong = 0, list[Wrong]()
        for record in ledger.records("done"):
            checked += 1
            wrong += _wrong(target, record)
    if not checked:
        raise JobError(f"{target.place.url}: its ledger knows of no result; name the TARGET of a catalog")
    return Verified(checked, tuple(wrong))


def _wrong(target: Target, record: Record) -> Iterator[Wrong]:
    """What is wrong with a result; nothing, if it is what was written."""
    spot = Spot(target.place, record.output)
    try:
        if (path := spot.local) is not None:
            if not path.exists():
                yield Wrong(record.output, "is not there")
            elif sources.digest(path) != record.output_sha256:
                yield Wrong(record.output, "its SHA-256 differs from what was written")
            return
        found = spot.place.stat(record.output)
        if found is None:
            yield Wrong(record.output, "is not there")
            return
        with spot.place.fetched(found) as copy:
            if sources.digest(copy) != record.output_sha256:
                yield Wrong(record.output, "its SHA-256 differs from what was written")
    except (RefineError, OSError) as error:
        yield Wrong(record.output, f"cannot be read: {str(error).splitlines()[0]}")
