"""Results whose source is gone: taken out of TARGET and out of the ledger, when it is asked for."""

from __future__ import annotations

from itertools import islice

from pipelines.errors import JobError
from pipelines.planning import Planned
from pipelines.previous import Previous
from pipelines.targets import Target

_AT_ONCE = 500
"""Results between two commits."""


def prune(plan: Planned, target: Target, previous: Previous | None) -> int:
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
                target.remove(output)
        plan.ledger.commit(gone for gone, _ in some)
        count += sum(bool(output) for _, output in some)
    return count
