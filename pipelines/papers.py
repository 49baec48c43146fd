"""What a run on a bucket leaves on its machine beside the ledger, left in the bucket too: report, records of runs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from pipelines.errors import StoreError
from pipelines.naming import OWN_FOLDER
from pipelines.place import Found, Place
from refine.staging import publish

logger = logging.getLogger(__name__)

_RUNS, _PAPERS = "runs", ("report", "runs", "quarantine.jsonl")
_LASTING = ("runs/", "report/thumbs/")
"""Papers that never change under their name."""


def leave_papers(own: Path, place: Place) -> None:
    """Store what is new of the papers in a folder; pictures that the report shows no more go.

    Where that cannot be, it is told: the results are there all the same.
    """
    try:
        _leave(own, place, _stored(place))
    except StoreError as error:
        logger.warning("the report of %s is on this machine only, in %s: %s", place.url, own, error)


def _leave(own: Path, place: Place, there: Mapping[str, Found]) -> None:
    here = {p.relative_to(own).as_posix(): p for p in sorted(own.rglob("*")) if p.is_file()}
    for name, path in here.items():
        known = there.get(name)
        if name.startswith(_PAPERS) and not (known is not None and name.startswith(_LASTING)):
            place.publish(f"{OWN_FOLDER}/{name}", path, replacing="" if known is None else known.etag)
    for name in there.keys() - here.keys():
        if name.startswith("report/"):
            place.remove(f"{OWN_FOLDER}/{name}")


def fetch_last_run(own: Path, place: Place) -> None:
    """Have a folder that knows of no run hold the record of the last one."""
    if any((own / _RUNS).glob("*.json")):
        return
    last = max((f.path for f in place.listing(f"{OWN_FOLDER}/{_RUNS}")), default=None)
    if last is not None:
        (own / _RUNS).mkdir(parents=True, exist_ok=True)
        publish(own / _RUNS / last.rpartition("/")[2], place.read(last))


def _stored(place: Place) -> dict[str, Found]:
    """The papers in a bucket, by their names below the own folder."""
    found = [f for part in ("report", _RUNS) for f in place.listing(f"{OWN_FOLDER}/{part}")]
    listed = place.stat(f"{OWN_FOLDER}/quarantine.jsonl")
    return {f.path.removeprefix(f"{OWN_FOLDER}/"): f for f in (*found, *([listed] if listed else []))}
