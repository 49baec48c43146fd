"""Results whose source is gone: taken out of TARGET and out of the ledger, when it is asked for."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from pipelines.errors import JobError
from pipelines.planning import Planned
from pipelines.previous import Previous

_AT_ONCE = 500
"""Results between two commits."""


def prune(plan: Planned, target: Path, previous: Previous | None) -> int:
    """Remove the results whose source is gone, and what the ledger says of it; how many results.

    Raises JobError where no source is there at all: then it is the source that is not there, not its images.
    """
    if plan.gone and not plan.roll.images:
        raise JobError(f"SOURCE holds no image, and {plan.gone} results would go; see that SOURCE is what you mean")
    count = 0
    departed = plan.departed()
    while some := list(islice(departed, _AT_ONCE)):
        if previous is not None:
            for gone, output in some:
                if output:
                    previous.put_aside(gone.path, gone.rendition)
            previous.commit()
        for _, output in some:
            if output:
                (target / output).unlink(missing_ok=True)
                _remove_empty((target / output).parent, target)
        plan.ledger.commit(gone for gone, _ in some)
        count += sum(bool(output) for _, output in some)
    return count


def _remove_empty(folder: Path, target: Path) -> None:
    """Remove a folder of TARGET that holds nothing any more, and those above it."""
    while folder != target:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
