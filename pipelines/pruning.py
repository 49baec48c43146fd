"""Results that no run asks for any more: taken out of TARGET and out of the ledger, when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from pipelines import departed
from pipelines.departed import Departure
from pipelines.errors import JobError
from pipelines.planning import Planned
from pipelines.previous import Previous
from pipelines.summary import counted
from pipelines.targets import Target

_AT_ONCE = 500
"""Results between two commits."""


def prune(plan: Planned, target: Target, previous: Previous | None, absent: Sequence[str] = ()) -> int:
    """Remove results whose source or rendition is gone, and what the ledger says of them; how many results.

    absent: links of the source that lead nowhere. Raises JobError where no source is there at all, or results are of
    what lay behind such a link: then it is the source that is not there, not its images.
    """
    for link in absent:
        _check_reached(plan, link)
    if plan.gone and not plan.roll.images:
        raise JobError(f"SOURCE holds no image, and {plan.gone} results would go; see that SOURCE is what you mean")
    return _removed(plan, target, previous, departed.departures(plan.roll.index))


def _check_reached(plan: Planned, link: str) -> None:
    """Raise JobError where results are of images below a link that leads nowhere."""
    if count := departed.gone_below(plan.roll.index, link):
        raise JobError(
            f"{link} is a link that leads nowhere, and {counted(count, 'result')} of images below it would go; "
            "mount what it leads to, or remove the link"
        )


def prune_leftovers(plan: Planned, target: Target, previous: Previous | None) -> int:
    """Remove results that have been followed by one of another name, at the end of the run that made these; how many.

    What is followed by nothing, because its source cannot be restored any more, stays.
    """
    return _removed(plan, target, previous, departed.leftovers(plan.roll.index))


def _removed(plan: Planned, target: Target, previous: Previous | None, departures: Iterator[Departure]) -> int:
    count = 0
    while some := list(islice(departures, _AT_ONCE)):
        if previous is not None:
            for one in some:
                if one.output:
                    previous.put_aside(one.entry.path, one.entry.rendition, left=one.entry.left)
            previous.commit()
        for one in some:
            if one.output:
                target.remove(one.output)
        plan.ledger.commit(one.entry for one in some)
        count += sum(bool(one.output) for one in some)
    return count
