"""Files in TARGET that no run has made: where a result would take their place, nothing is begun unless it is meant."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from pipelines.errors import JobError
from pipelines.planning import Planned
from pipelines.summary import counted, printable
from pipelines.targets import Target

_BEGUN = "begun"
"""In the own folder of a target: there is a run, or one that was killed. As old as the first that did not end."""
_TOLD = 5
_NOTED = """
INSERT INTO plan.foreign_file
SELECT path FROM plan.present
WHERE path NOT IN (SELECT output FROM item) AND path NOT IN (SELECT output FROM leftover)
"""


def begin(own: Path) -> None:
    """Note that results are made from now on of which the ledger may never hear."""
    if not (own / _BEGUN).exists():
        (own / _BEGUN).touch()


def end(own: Path) -> None:
    """Note that the ledger has heard of all."""
    (own / _BEGUN).unlink(missing_ok=True)


def check_foreign(plan: Planned, target: Target, own: Path) -> None:
    """Raise JobError, with some of them, where results would replace files of TARGET that no run has made.

    What a killed run stored and did not live to record is its own: it is no older than that run. Objects of a bucket
    say themselves who has made them.
    """
    if target.folder is None or not plan.counts:
        return
    plan.roll.index.execute(_NOTED)
    if not plan.roll.index.execute("SELECT 1 FROM plan.foreign_file LIMIT 1").fetchone():
        return
    since = (own / _BEGUN).stat().st_mtime_ns if (own / _BEGUN).exists() else None
    taken = [name for name in _taken(plan, target) if not _is_ours(target.folder / name, since)]
    if taken:
        named = printable(", ".join(islice(taken, _TOLD)) + (", ..." if len(taken) > _TOLD else ""))
        raise JobError(
            f"TARGET holds {counted(len(taken), 'file')} that no run has made, by the names of results: {named}; "
            "move them away, or replace them by --overwrite"
        )


def _taken(plan: Planned, target: Target) -> Iterator[str]:
    """Files that no record tells of, and that are called as results which are to be made."""
    for group in plan.stale():
        for stale in group:
            wanted = stale.wanted
            name = target.name(wanted.rendition, stale.source.path, wanted.settings.preset.output.format)
            if plan.is_foreign(name):
                yield name


def _is_ours(path: Path, since: int | None) -> bool:
    try:
        return since is not None and os.lstat(path).st_mtime_ns >= since
    except FileNotFoundError:
        return True
