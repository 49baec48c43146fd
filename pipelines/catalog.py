"""A catalog of images, restored into a tree of the same names: only what changed, and every failure with its reason."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal

from distributed import Client

from pipelines import foreign, progress, tasks, tree
from pipelines.again import To, Wish
from pipelines.brake import Brake, Tolerance, check_space
from pipelines.cluster import Cluster, connected
from pipelines.draw import Draw
from pipelines.errors import JobError, RunError
from pipelines.feed import Feed
from pipelines.forecast import bytes_to_write
from pipelines.holding import held_ledger, ledger_folder
from pipelines.ingest import Origin
from pipelines.inventory import listing
from pipelines.items import Common
from pipelines.large import LargeImages, sweep_work
from pipelines.listing import Listing
from pipelines.manifest import Manifest
from pipelines.naming import Rendition
from pipelines.papers import fetch_last_run
from pipelines.place import absolute, place_of
from pipelines.planning import Planned, block, planned, release
from pipelines.previous import Previous, check_whole, overtake, still_fits
from pipelines.pruning import prune, prune_leftovers
from pipelines.recording import Asked, recorded
from pipelines.roll import Roll
from pipelines.run import streamed
from pipelines.runs import last_run
from pipelines.store import TARGET_CHUNK, chunk_side
from pipelines.summary import Complaint, Summary, counted
from pipelines.targets import Files, Target, target_of
from refine.decoder import Decoder
from refine.limits import Limits
from refine.session import Engine, check_available
from refine.settings import Settings

logger = logging.getLogger(__name__)

MANY = 20
"""Results without a source that --prune removes without a question, though they are more than the images there are."""
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
    until: float | None = None
    """When nothing is to be under way any more, s since 1970; None for no such time."""
    max_failures: Tolerance | None = None
    """How many images may fail before the run stops; None for any number."""
    metrics: Path | None = None
    """File for the run's metrics; None for none."""
    to: To = "files"
    """What results are: files or objects of their sources' names, or the groups of one zarr store."""
    state: Path | None = None
    """Folder of this machine for the ledgers of buckets; None for the usual one."""
    overwrite: bool = False
    """Whether results may replace files of TARGET that no run has made."""
    retry: Literal["", "failed", "quarantined"] = ""
    """Whether only what has no result is done: what has failed, or what is quarantined, too."""


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
    terms, engine, limits = terms or Terms(), engine or Engine(), limits or Limits()
    night = Night(listing(source), settings, terms, Common(engine, limits, target_of(target, terms.to)))
    asked = Asked(
        *(os.fspath(source), night.found.root, night.target, night.own),
        *(Wish(settings, terms.renditions, terms.to, engine.provider, terms.max_failures), limits),
        *(cluster or Cluster(), night.terms.metrics),
    )
    with night.planned() as plan:
        if night.target.folder is None:
            fetch_last_run(night.own, night.target.place)
        night.check_pruned(plan, os.fspath(source))
        with recorded(asked, plan.ledger, night.summary, night.drawn):
            night.check_unasked(plan)
            run(night, plan, asked.cluster, quiet=quiet)
            changed = bool(plan.counts or night.summary.pruned)
            night.target.finish(plan.ledger.records("done"), changed=changed)
    return night.summary


@dataclass(slots=True)
class Night:
    """One run of a catalog."""

    found: Listing
    """Its source."""
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

    @property
    def target(self) -> Target:
        """Where results go."""
        return self.common.target

    @property
    def own(self) -> Path:
        """The folder of this machine for its ledger and its working arrays."""
        return ledger_folder(self.target, self.terms.state)

    @contextmanager
    def planned(self) -> Iterator[Planned]:
        """Its plan, the ledger held. Where it is refused no TARGET is left that was not there."""
        self.found.check_apart(self.target.place)
        settings = self._settings()
        chunk_side(settings.preset.plan.tile, TARGET_CHUNK)
        check_available(self.common.engine)
        folder = self.target.folder
        fresh = folder is not None and not folder.exists()
        self.target.begin()
        try:
            with held_ledger(self.target, self.terms.state) as ledger:
                plan = self._compared(ledger, settings)
                fresh = False
                yield plan
        finally:
            if fresh and folder is not None:
                shutil.rmtree(folder, ignore_errors=True)

    def _compared(self, ledger: Manifest, settings: Settings) -> Planned:
        if self.target.folder is not None:
            check_whole(self.target.folder)
        roll = Roll(ledger.index, self.own)
        # Of a zarr store, names keep their suffix, whatever a group holds.
        named = "source" if self.target.format else settings.preset.output.format
        roll.call(self.found, self.terms.renditions, named)
        roll.note_present(self.target.present())
        if self.terms.retry == "quarantined":
            release(ledger)
        plan = planned(ledger, roll, settings, self.terms.renditions, self.common.engine)
        self.summary.skipped, self.summary.gone = self.found.skipped, plan.gone
        if self.terms.retry:
            self.summary.left = plan.only_failed()
        if not self.terms.overwrite:
            foreign.check_foreign(plan, self.target, self.own)
        return plan

    def _settings(self) -> Settings:
        """The settings for this kind of target. Raises JobError for what is wished and cannot be."""
        target, wished = self.target, self.settings.preset.output
        if self.terms.keep_previous and not (isinstance(target, Files) and target.folder):
            raise JobError("--keep-previous is for folders; in a bucket, switch on its versioning")
        if target.format is None:
            return self.settings
        if any(wish not in ("", "source") for wish in (wished.format, *(r.format for r in self.terms.renditions))):
            raise JobError("a zarr store holds pixels, not files of a format; leave out output.format and :FORMAT")
        preset = replace(self.settings.preset, output=replace(wished, format=target.format))
        return replace(self.settings, preset=preset)

    def check_pruned(self, plan: Planned, source: str) -> None:
        """Raise JobError where results would be removed because SOURCE or renditions are not those of the last time."""
        last = last_run(self.own) if self.terms.prune and plan.roll.images else None
        if last is None:
            return
        meant, gone, now = "if that is meant, run it once without --prune first", plan.gone, absolute(source)
        if gone and os.path.normpath(last.source) != os.path.normpath(now):
            raise JobError(
                f"SOURCE was {last.source} the last time and is {now} now: --prune would remove "
                f"{counted(gone, 'result')} that {'is' if gone == 1 else 'are'} not in it; {meant}"
            )
        told = 0 if last.summary["pruned"] else last.summary["gone"]
        # Half of a disk that is not there looks like this; a run without --prune has told of them.
        if gone >= MANY and gone > plan.roll.images and gone > told:
            raise JobError(
                f"SOURCE has {counted(plan.roll.images, 'image')} and --prune would remove {gone} results that are "
                f"not in it any more; {meant}"
            )
        dropped = set(plan.dropped) & {one["name"] for one in last.settings["renditions"]}
        if dropped:
            named = ", ".join(name or "without a name" for name in sorted(dropped))
            raise JobError(
                f"the last run made renditions that this one does not, {named}: --prune would remove them; {meant}"
            )

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
    total, summary, own = sum(plan.counts.values()), night.summary, night.own
    summary.quarantined += [Complaint(r.path, r.stage, r.reason, r.rendition) for r in plan.quarantined()]
    summary.unchanged = plan.results - total - summary.kept - summary.left - len(summary.quarantined)
    swept = tree.sweep(own / "work"), sweep_work(own / "work", partial(_goes_on, plan))
    logger.debug("swept %d files and %d work folders of runs that were killed", *swept)
    with (
        Decoder(night.common.limits) as decoder,
        progress.shown(plan.results, quiet=quiet) as shown,
        _kept_previous(night, plan, total) as previous,
    ):
        shown.passed(plan.results - total)
        if night.terms.prune:
            summary.pruned = prune(plan, night.target, previous, night.found.absent)
        large = LargeImages(own / "work", plan.ledger)
        brake = Brake(night.target.folder or own, summary, night.terms.until, night.terms.max_failures)
        feed = Feed(place_of(night.found.root), night.common, plan, decoder, shown, summary, large, brake)
        feed.drawn, feed.previous, feed.total, feed.redo = night.drawn, previous, total, night.terms.unasked == "redo"
        _check_space(night, plan, total)
        if total:
            foreign.begin(own)
        _work_through(feed, cluster)
        foreign.end(own)
        if night.terms.prune:
            summary.pruned += prune_leftovers(plan, night.target, previous)
        summary.obsolete = 0 if night.terms.prune else plan.obsolete
    summary.left += total - feed.settled
    if not any((own / "work").glob("*")):
        shutil.rmtree(own / "work", ignore_errors=True)
    if feed.lost and night.target.folder is not None:
        tree.sweep(night.target.folder)
    if brake.reason:
        for line in summary.lines():
            logger.warning("%s", line)
        raise RunError(brake.end())


def _check_space(night: Night, plan: Planned, total: int) -> None:
    """Raise JobError where TARGET has not the room for half of the results; say so where it may be too little."""
    folder = night.target.folder
    if total and folder is not None and (said := check_space(folder, bytes_to_write(plan, night.found.root))):
        logger.warning("%s", said)


@contextmanager
def _kept_previous(night: Night, plan: Planned, total: int) -> Iterator[Previous | None]:
    """Where what is replaced is kept, if it is to be."""
    folder = night.target.folder
    # A retry belongs to the night before: undo takes back both together, or the retry would make it impossible.
    adds = folder is not None and bool(night.terms.retry) and still_fits(folder)
    if folder is None or not (night.terms.keep_previous or adds):
        if folder is not None and (total or (night.terms.prune and plan.gone + plan.obsolete)):
            overtake(folder)
        yield None
        return
    previous = Previous(folder, plan.ledger, adds=adds)
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
        feed.behaviour, feed.slots = _agreed(client, feed), _slots(client)
        for outcomes in streamed(client, chain([first], batches), partial(tasks.performed, common=feed.common)):
            feed.settle(outcomes)


def _slots(client: Client) -> int:
    """How many tasks run at once."""
    count: dict[str, int] = client.nthreads()  # type: ignore[no-untyped-call]
    return max(1, sum(count.values()))


def _agreed(client: Client, feed: Feed) -> str:
    """The execution class of all workers, which must be that of this process: results are keyed by it."""
    engine, side = feed.common.engine, block(next(iter(feed.planned.wanted.values())).settings)
    here = tasks.behaviour(engine, side)
    found = set(client.run(tasks.behaviour, engine, side).values())
    if found - {here}:
        others = ", ".join(sorted(found - {here}))
        raise RunError(f"workers differ from this machine, whose results are {here}: {others}; use workers of one kind")
    return here
