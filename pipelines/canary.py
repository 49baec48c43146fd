"""A few results of a catalog made anew beside the old ones, before all of them are: what would it change?"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

from pipelines import manifest
from pipelines.catalog import Night, Terms, run
from pipelines.cluster import Cluster
from pipelines.errors import JobError
from pipelines.inventory import listing
from pipelines.naming import OWN_FOLDER
from pipelines.planning import Stale
from pipelines.records import Record
from pipelines.summary import Summary
from pipelines.tasks import Common
from refine.limits import Limits
from refine.session import Engine
from refine.settings import Settings

FOLDER = "canary"
"""Below the ledger's folder: the new results, and the page that shows them beside the old ones."""


def tried(
    source: str | os.PathLike[str],
    target: Path,
    settings: Settings,
    cluster: Cluster,
    count: int,
    *,
    terms: Terms,
    engine: Engine,
    quiet: bool = False,
) -> Summary:
    """Make `count` of the finished results that would be made anew, spread over the catalog, beside the old ones.

    They lie in TARGET/.refine/canary with a page of before and after; results and ledger stay as they are. Raises
    JobError where no finished result would be made anew.
    """
    started = time.monotonic()
    night = Night(listing(source), target, settings, terms, Common(engine, Limits()))
    place = target / OWN_FOLDER / FOLDER
    with night.planned() as plan:
        chosen = plan.spread(count, "key")
        if not chosen:
            raise JobError(f"{target}: no finished result would be made anew by these settings: nothing to try")
        told = dict.fromkeys(line for stale in chosen if stale.old for line in stale.old.told)
        plan.only(chosen)
        shutil.rmtree(place, ignore_errors=True)
        apart = replace(night, target=place, terms=replace(terms, prune=False, keep_previous=False))
        with manifest.opened(place / OWN_FOLDER) as ledger:
            run(apart, replace(plan, ledger=ledger), cluster, quiet=quiet)
            pairs = [(stale, *_both(stale, plan.ledger, ledger)) for stale in chosen]
        night.summary.unchanged = night.summary.gone = 0
    night.summary.report = str(_page(pairs, target, place, list(told)))
    night.summary.seconds = time.monotonic() - started
    return night.summary


def _both(stale: Stale, before: manifest.Manifest, after: manifest.Manifest) -> tuple[Record | None, Record | None]:
    asked = (stale.source.path, stale.wanted.rendition.name)
    return before.record(*asked), after.record(*asked)


def _page(pairs, target, place, told):
    return place / "report.html"
