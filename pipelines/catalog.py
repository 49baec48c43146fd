"""A catalog of images, restored into a tree of the same names: only what changed, and every failure with its reason."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal

from distributed import Client

from pipelines import manifest, progress, tasks, tree
from pipelines.cluster import Cluster, connected
from pipelines.draw import Draw
from pipelines.errors import JobError, RunError
from pipelines.feed import Feed
from pipelines.forecast import Forecast, forecast
from pipelines.ingest import Origin
from pipelines.inventory import listing
from pipelines.large import LargeImages, sweep_work
from pipelines.listing import Listing
from pipelines.naming import OWN_FOLDER, Rendition
from pipelines.planning import Planned, block, planned
from pipelines.previous import Previous, check_whole, overtake
from pipelines.pruning import prune
from pipelines.recording import Asked, recorded
from pipelines.roll import Roll
from pipelines.run import streamed
from pipelines.store import TARGET_CHUNK, chunk_side
from pipelines.summary import Complaint, Summary
from pipelines.tasks import Common
from refine.decoder import Decoder
from refine.limits import Limits
from refine.session import Engine, check_available
from refine.settings import Settings

logger = logging.getLogger(__name__)

UNASKED = 100
"""Finished results that may be made anew without being asked for; more would be a night's work nobody expects."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How a run treats what it finds, beside what is done to each image."""

    renditions: tuple[Rendition, ...] = (Rendition(),)
    """The results of each source."""
    unasked: Literal["refuse", "redo", "keep"] = "refuse"
    """What becomes of many finished results that differ only by what nobody asked for: network, version, processor."""
    prune: bool = False
    """Whether results whose source is gone are removed."""
    keep_previous: bool = False
    """Whether what is replaced or removed is kept for one night; see `pipelines.previous`."""
    metrics: Path | None = None
    """File for the run's metrics; None for none."""


def catalog(
    source: str | os.PathLike[str],
    target: Path,
    settings: Settings,
    cluster: Cluster | None = None,
    *,
    terms: Terms | None = None,
    engine: Engine | None = None,
    limits: Limits | None = None,
    quiet: bool = False,
) -> Summary:
    """Restore every image of a source into target, under its own name; what has not changed is left alone.

    May be killed at any time and started again: what was finished is kept. Raises JobError, ChainError or PlanError
    before any work where it cannot be done as asked, and RunError where it cannot go on.
    """
    night = Night(listing(source), target, settings, terms or Terms(), Common(engine or Engine(), limits or Limits()))
    asked = Asked(
        os.fspath(source), Path(night.found.root), target, settings, cluster or Cluster(), night.terms.metrics
    )
    with night.planned() as plan, recorded(asked, plan.ledger, night.summary, night.drawn):
        night.check_unasked(plan)
        run(night, plan, asked.cluster, quiet=quiet)
    return night.summary


def foreseen(
    source: str | os.PathLike[str], target: Path, settings: Settings, renditions: tuple[Rendition, ...]
) -> Forecast:
    """What `catalog` would do. Where there is no ledger yet, nothing is left where it would be."""
    night = Night(listing(source), target, settings, Terms(renditions), Common(Engine(), Limits()))
    fresh = not target.exists()
    try:
        with night.planned() as plan:
            return forecast(plan, Path(night.found.root), night.found.skipped)
    finally:
        if fresh:
            shutil.rmtree(target, ignore_errors=True)


@dataclass(slots=True)
class Night:
    """One run of a catalog."""

    found: Listing
    """Its source."""
    target: Path
    """Where results go."""
    settings: Settings
    """What is done."""
    terms: Terms
    """How it treats what it finds."""
    common: Common
    """What all tasks share."""
    summary: Summary = field(default_factory=Summary)
    """What was done."""
    drawn: Draw[str] = field(default_factory=Draw)
    """Images of this run that its report shows."""

    @contextmanager
    def planned(self) -> Iterator[Planned]:
        """Its plan, the ledger held. Where it is refused no TARGET is left that was not there."""
        self.found.check_apart(self.target)
        chunk_side(self.settings.preset.plan.tile, TARGET_CHUNK)
        check_available(self.common.engine)
        fresh = not self.target.exists()
        own = self.target / OWN_FOLDER
        with manifest.opened(own) as ledger:
            check_whole(self.target)
            try:
                roll = Roll(ledger.index, own)
                roll.call(self.found, self.terms.renditions, self.settings.preset.output.format)
                roll.note_present(tree.present(self.target))
                plan = planned(ledger, roll, self.settings, self.terms.renditions, self.common.engine)
            except BaseException:
                if fresh:
                    shutil.rmtree(self.target, ignore_errors=True)
                raise
            self.summary.skipped, self.summary.gone = self.found.skipped, plan.gone
            yield plan

    def check_unasked(self, plan: Planned) -> None:
        """Raise JobError where many finished results would be made anew that nobody asked to change."""
        pairs = plan.unasked()
        count = sum(pairs.values())
        if self.terms.unasked == "keep":
            self.summary.kept = plan.keep()
        elif self.terms.unasked == "refuse" and count > UNASKED:
            told = dict.fromkeys(line for pair in pairs for line in plan.differences[pair].told)
            raise JobError(
                f"{count} finished results would be made anew, though nobody asked for it: {'; '.join(told)}; "
                "see first what it changes: --canary 20; then --redo to make them anew, or --keep to leave them"
            )


def run(night: Night, plan: Planned, cluster: Cluster, *, quiet: bool) -> None:
    """Do what is planned."""
    total, summary, own = sum(plan.counts.values()), night.summary, night.target / OWN_FOLDER
    summary.quarantined += [Complaint(r.path, r.stage, r.reason, r.rendition) for r in plan.quarantined()]
    summary.unchanged = plan.results - total - summary.kept - len(summary.quarantined)
    swept = tree.sweep(own / "work"), sweep_work(own / "work", partial(_goes_on, plan))
    logger.debug("swept %d files and %d work folders of runs that were killed", *swept)
    with (
        Decoder(night.common.limits) as decoder,
        progress.shown(plan.results, quiet=quiet) as shown,
        _kept_previous(night, plan, total) as previous,
    ):
        shown.passed(plan.results - total)
        if night.terms.prune:
            summary.pruned = prune(plan, night.target, previous)
        large = LargeImages(own / "work", plan.ledger)
        feed = Feed(Path(night.found.root), night.target, night.common, plan, decoder, shown, summary, large)
        feed.drawn, feed.previous, feed.total, feed.redo = night.drawn, previous, total, night.terms.unasked == "redo"
        _work_through(feed, cluster)
    if not any((own / "work").glob("*")):
        shutil.rmtree(own / "work", ignore_errors=True)
    if feed.lost:
        tree.sweep(night.target)


@contextmanager
def _kept_previous(night: Night, plan: Planned, total: int) -> Iterator[Previous | None]:
    """Where what is replaced is kept, if it is to be."""
    if not night.terms.keep_previous:
        if total or (night.terms.prune and plan.gone):
            overtake(night.target)
        yield None
        return
    previous = Previous(night.target, plan.ledger)
    finished = False
    try:
        yield previous
        finished = True
    finally:
        previous.close(finished=finished)


def _goes_on(plan: Planned, came_from: Origin) -> bool:
    """Whether a work folder belongs to an image as it is now."""
    known = plan.roll.stamp(came_from.path) == (came_from.size, came_from.mtime_ns)
    return known and came_from.key in {wanted.key for wanted in plan.wanted.values()}


def _work_through(feed: Feed, cluster: Cluster) -> None:
    batches = feed.batches()
    try:
        first = next(batches)
    except StopIteration:
        return  # nothing changed: no cluster is started
    with connected(cluster) as client:
        feed.behaviour = _agreed(client, feed)
        for outcomes in streamed(client, chain([first], batches), partial(tasks.performed, common=feed.common)):
            feed.settle(outcomes)


def _agreed(client: Client, feed: Feed) -> str:
    """The execution class of all workers, which must be that of this process: results are keyed by it."""
    engine, side = feed.common.engine, block(next(iter(feed.planned.wanted.values())).settings)
    here = tasks.behaviour(engine, side)
    found = set(client.run(tasks.behaviour, engine, side).values())
    if found - {here}:
        others = ", ".join(sorted(found - {here}))
        raise RunError(f"workers differ from this machine, whose results are {here}: {others}; use workers of one kind")
    return here
