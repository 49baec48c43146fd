"""A catalog of images, restored into a tree of the same names: only what changed, and every failure with its reason."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal

from distributed import Client

from pipelines import progress, tasks, tree, zarrcatalog
from pipelines.cluster import Cluster, connected
from pipelines.errors import JobError, RunError
from pipelines.feed import Feed
from pipelines.holding import held_ledger, ledger_folder
from pipelines.ingest import Origin
from pipelines.large import LargeImages, sweep_work
from pipelines.listing import Listing, listing
from pipelines.naming import Rendition
from pipelines.place import place_of
from pipelines.planning import Planned, block, planned
from pipelines.roll import Roll
from pipelines.run import streamed
from pipelines.store import TARGET_CHUNK, chunk_side
from pipelines.summary import Complaint, Summary
from pipelines.targets import Target, check_apart, target_of
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
    to: Literal["files", "zarr"] = "files"
    """What results are: files or objects of their sources' names, or the groups of one zarr store."""
    state: Path | None = None
    """Folder of this machine for the ledgers of buckets; None for the usual one."""


def catalog(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
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
    started = time.monotonic()
    terms = terms or Terms()
    found = listing(source)
    goes_to = target_of(target, terms.to)
    check_apart(place_of(found.root), goes_to)
    settings = _for_target(settings, terms, goes_to)
    chunk_side(settings.preset.plan.tile, TARGET_CHUNK)
    common = Common(engine or Engine(), limits or Limits(), goes_to)
    check_available(common.engine)
    summary = Summary()
    with _planned(found, common, settings, terms) as plan:
        _check_unasked(plan, terms, summary)
        _run(plan, found, common, cluster or Cluster(), summary, terms=terms, quiet=quiet)
        if terms.to == "zarr":
            assert goes_to.folder is not None
            zarrcatalog.write_index(goes_to.folder, plan.ledger.records("done"))
    summary.seconds = time.monotonic() - started
    return summary


def _for_target(settings: Settings, terms: Terms, target: Target) -> Settings:
    """The settings for a kind of target. Raises JobError where a format is wished and none is written."""
    if target.format is None:
        return settings
    wished = [settings.preset.output.format, *(r.format or "source" for r in terms.renditions)]
    if any(wish != "source" for wish in wished):
        raise JobError("a zarr store holds pixels, not files of a format; leave out output.format and :FORMAT")
    output = replace(settings.preset.output, format=target.format)
    return replace(settings, preset=replace(settings.preset, output=output))


@contextmanager
def _planned(found: Listing, common: Common, settings: Settings, terms: Terms) -> Iterator[Planned]:
    """The plan of a run, its ledger held. Where it is refused no TARGET is left that was not there."""
    target = common.target
    fresh = target.folder is not None and not target.folder.exists()
    target.begin()
    # Of a zarr store, names keep the suffix, whatever a group holds.
    format_of_names = "source" if target.format else settings.preset.output.format
    try:
        with held_ledger(target, terms.state) as ledger:
            roll = Roll(ledger.index, ledger_folder(target, terms.state))
            roll.call(found, terms.renditions, format_of_names)
            roll.note_present(target.present())
            plan = planned(ledger, roll, settings, terms.renditions, common.engine)
            fresh = False
            yield plan
    finally:
        if fresh and target.folder is not None:
            shutil.rmtree(target.folder, ignore_errors=True)


def _check_unasked(plan: Planned, terms: Terms, summary: Summary) -> None:
    """Raise JobError where many finished results would be made anew that nobody asked to change."""
    pairs = plan.unasked()
    count = sum(pairs.values())
    if terms.unasked == "keep":
        summary.kept = plan.keep()
    elif terms.unasked == "refuse" and count > UNASKED:
        told = dict.fromkeys(line for pair in pairs for line in plan.differences[pair].told)
        raise JobError(
            f"{count} finished results would be made anew, though nobody asked for it: {'; '.join(told)}; "
            "see first what it changes: --canary 20; then --redo to make them anew, or --keep to leave them"
        )


def _run(
    plan: Planned,
    found: Listing,
    common: Common,
    cluster: Cluster,
    summary: Summary,
    *,
    terms: Terms,
    quiet: bool,
) -> None:
    total = sum(plan.counts.values())
    summary.skipped = found.skipped
    summary.quarantined += [Complaint(r.path, r.stage, r.reason, r.rendition) for r in plan.quarantined()]
    summary.unchanged = plan.results - total - summary.kept - len(summary.quarantined)
    folder = ledger_folder(common.target, terms.state)
    work = folder / "work"
    with Decoder(common.limits) as decoder, progress.shown(plan.results, quiet=quiet) as shown:
        shown.passed(plan.results - total)
        swept = tree.sweep(folder), sweep_work(work, partial(_goes_on, plan))
        logger.debug("swept %d files and %d work folders of runs that were killed", *swept)
        large = LargeImages(work, plan.ledger)
        feed = Feed(place_of(found.root), common, plan, decoder, shown, summary, large, total)
        feed.redo = terms.unasked == "redo"
        _work_through(feed, cluster)
    if not any(work.glob("*")):
        shutil.rmtree(work, ignore_errors=True)
    if feed.lost and common.target.folder is not None:
        tree.sweep(common.target.folder)


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
