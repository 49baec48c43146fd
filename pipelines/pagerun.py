"""The driver of a run over pages: each taken in, made tile by tile, its upper levels after that, and all of it noted.

A run that is killed goes on with the same command. An OME-Zarr image is made first: it is the target, or lies beside
it until what is made of it is whole.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pipelines import bag, derivative, manifest, mending, omezarr, pagetasks, progress, sources, tree
from pipelines.cluster import Cluster, connected
from pipelines.errors import JobError, RunError, StoreError
from pipelines.identity import differences
from pipelines.items import Failure, Receipt
from pipelines.manifest import Manifest
from pipelines.mending import Earlier
from pipelines.naming import OWN_FOLDER
from pipelines.pagetasks import Common, Item, Page, TakeIn, Tile, Upper, shard_group
from pipelines.progress import Progress
from pipelines.records import Forgotten, ShardRecord
from pipelines.run import Outcome, streamed
from pipelines.summary import Complaint, Summary, byte_size, counted
from pipelines.tasks import behaviour
from refine.assessment import Assessment
from refine.errors import ChainError, ImageWriteError, PlanError
from refine.order import SheetPlan
from refine.plan import Plan
from refine.session import execution_class
from refine.spec import ImageSpec

logger = logging.getLogger(__name__)

PYRAMID = 4 / 3
"""Bytes of a pyramid by those of its first level."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be made of the pages of a source."""

    source: Path
    """Only ever read."""
    target: Path
    """What the user named."""
    image: Path
    """The OME-Zarr folder: the target, or what lies beside it until that is whole."""
    common: Common
    """What all tasks share."""
    specs: tuple[ImageSpec, ...]
    """Of the pages."""
    facts: dict[str, object]
    """All that decides the result; the source's SHA-256 among them, as `source`."""
    tell: Callable[[Run, PageWork], None]
    """Says what a page will take, before it takes it. Raises JobError where that is not there."""
    finish: Callable[[Run], None]
    """Makes what was asked for of the finished images, and the record of it all."""


@dataclass(slots=True)
class Run:
    """A job under way."""

    job: Job
    """What is to be done."""
    ledger: Manifest
    """What is done."""
    summary: Summary
    """What is told of it."""
    before: Earlier | None = None
    """What an earlier run finished, where that is made whole again."""
    pages: list[PageWork] = field(default_factory=list)
    """In the order of the target."""
    execution_class: str = ""
    """What the bytes are promised for."""

    def check_room(self, nbytes: float) -> None:
        """Raise JobError where the disk has no room for what a run writes in all."""
        free = shutil.disk_usage(self.job.image).free
        # A second run has most of it on the disk already.
        left = nbytes - self.ledger.shard_nbytes()
        if left > free:
            need = f"{self.job.target.name} needs {byte_size(left)} more of disk, {byte_size(free)} are free"
            raise JobError(f"{need}; make room, or name a target elsewhere")

    def written(self, page: Page) -> Iterator[tuple[int, ShardRecord, Path]]:
        """Level, record and file of every shard of a page that is in the ledger."""
        if not (page.image / "0").exists():
            return
        pyramid = omezarr.pyramid(page.image)
        for level in range(len(pyramid.levels)):
            side = pyramid.side(level)
            for shard in self.ledger.shards(shard_group(page.number, level)):
                yield level, shard, omezarr.shard_path(page.image, level, shard.y // side, shard.x // side)


@dataclass(slots=True)
class PageWork:
    """One page under way."""

    page: Page
    """As tasks know it."""
    spec: ImageSpec
    """What its header says."""
    found: Assessment | None = None
    """What it is like; None until it is assessed."""
    plan: Plan | SheetPlan | None = None
    """None until it is assessed."""
    levels: deque[list[Item]] = field(default_factory=deque)
    """What is still to be handed out: the tiles, then level by level; each needs all before it."""


def carried_out(job: Job, cluster: Cluster, *, repair: bool = False, quiet: bool = False) -> Summary:
    """Do a job, or what is left of it. Raises JobError before any work, and RunError where it cannot go on.

    repair: a finished target is read whole, and what is not as it was written is made anew.
    """
    started = time.monotonic()
    summary = Summary()
    under_way = (job.image / OWN_FOLDER / "run.json").exists()
    _check_same(job)
    finished = derivative.is_finished(job.target, job.facts) and not under_way
    before = None if finished and not repair else mending.earlier(job.target, job.facts, repair=repair)
    if finished and not (before and before.wrong):
        _close(job, anew=repair)
        summary.unchanged = len(job.specs)
        return summary
    if before and before.wrong:
        told = "; ".join(f"{one.path}: {one.why}" for one in before.wrong[:3])
        count = counted(len(before.wrong), "file")
        logger.warning("%s: is made whole again, %s wrong: %s", job.target.name, count, told)
    with _held(job) as ledger:
        _begin(job, ledger, before)
        run = Run(job, ledger, summary, before)
        _work_through(run, cluster, quiet=quiet)
        if not summary.failed:
            sources.check_digest(job.source, str(job.facts["source"]))
            # A worker that died in this run left what it was writing.
            tree.sweep(job.image)
            try:
                job.finish(run)
            except StoreError:
                _forget_damaged(run)
                raise
            summary.done = len(job.specs)
    if not summary.failed:
        _close(job, anew=True)
    summary.seconds = time.monotonic() - started
    return summary


@contextmanager
def _held(job: Job) -> Iterator[Manifest]:
    """The ledger of a job, made where there is none; where the job is refused, nothing stays that is new.

    Raises ImageWriteError where the disk refuses.
    """
    own = job.image / OWN_FOLDER
    new = [path for path in (own, *own.parents) if not path.exists()]
    with ExitStack() as stack:
        try:
            own.mkdir(parents=True, exist_ok=True)
            ledger = stack.enter_context(manifest.opened(own))
        except (OSError, sqlite3.OperationalError) as error:
            shutil.rmtree(new[-1], ignore_errors=True) if new else None
            why = (isinstance(error, OSError) and error.strerror) or error
            raise ImageWriteError(f"{job.target.name}: cannot be stored: {why}; name a target elsewhere") from error
        try:
            yield ledger
        except (JobError, PlanError, ChainError):
            if new and not ledger.shard_nbytes():
                shutil.rmtree(new[-1], ignore_errors=True)
            raise


def _close(job: Job, *, anew: bool) -> None:
    """Remove what served to make a finished target, and close its bag if it lies in one."""
    # All that counts is in the record now; and a bag has no files that change.
    shutil.rmtree(job.image / OWN_FOLDER if job.image == job.target else job.image, ignore_errors=True)
    if bag.is_in_bag(job.target) and (anew or not bag.is_closed(job.target)):
        bag.close(job.target)


def check_apart(source: Path, target: Path) -> None:
    """Raise JobError where the target is the source, lies in it, or holds it, or lies in another target."""
    inner, outer = target.resolve(), source.resolve()
    if inner == outer or inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise JobError(f"TARGET {target} is, holds or lies in SOURCE {source}; name a TARGET beside it")
    around = target.absolute().parents
    for folder in reversed(around[2:] if bag.is_in_bag(target) else around):
        if derivative.is_target(folder):
            raise JobError(f"TARGET {target} lies in {folder.name}, which is a result itself; name a TARGET beside it")


def _work_through(run: Run, cluster: Cluster, *, quiet: bool) -> None:
    job = run.job
    total = sum(job.common.wish.plan(spec).tile_count for spec in job.specs)
    work = job.image / OWN_FOLDER / "work"
    for number, spec in enumerate(job.specs):
        source = sources.source_of(job.source, spec.page)
        image = job.image if len(job.specs) == 1 else job.image / str(number)
        digest = str(job.facts["source"])
        # By the source's digest: workers may live longer than this job, and remember what they read of a folder.
        page = Page(number, source.bare, image, work / f"{digest[:16]}-{number}", digest)
        run.pages.append(PageWork(page, spec))
    with progress.shown(total, unit="tile", quiet=quiet) as shown:
        feed = _Feed(run, shown)
        with connected(cluster) as client:
            engine, block = job.common.engine, _block(job)
            _check_class(run, set(client.run(behaviour, engine, block).values()))
            for outcomes in streamed(client, feed.batches(), partial(pagetasks.performed, common=job.common), window=2):
                feed.settle(outcomes)
    shutil.rmtree(work, ignore_errors=True) if not run.summary.failed else None


def _block(job: Job) -> int:
    return job.common.wish.preset.plan.block


def _check_class(run: Run, found: set[str]) -> None:
    engine, block = run.job.common.engine, _block(run.job)
    here = behaviour(engine, block)
    if others := found - {here}:
        told = ", ".join(sorted(others))
        raise RunError(f"workers differ from this machine, whose results are {here}: {told}; use workers of one kind")
    run.execution_class = execution_class(engine, block)


@dataclass(slots=True)
class _Feed:
    """What is to be done next, and what becomes of what was done. Pages follow one another."""

    run: Run
    shown: Progress
    ready: deque[Item] = field(default_factory=deque)
    flying: int = 0
    current: int = -1

    def batches(self) -> Iterator[tuple[Item, ...] | None]:
        """One item at a time; None while the next ones wait for those that are out."""
        while True:
            if self.ready:
                self.flying += 1
                yield (self.ready.popleft(),)
            elif self.flying:
                yield None
            elif not self._advance():
                return

    def _advance(self) -> bool:
        """Make the next items ready: the page's next level, or the next page. False where all is done."""
        work = self.run.pages[self.current] if self.current >= 0 else None
        if work is not None and work.plan is not None and work.levels and not self.run.summary.failed:
            self.ready.extend(work.levels.popleft())
            return True
        if self.run.summary.failed or self.current + 1 == len(self.run.pages):
            return False
        self.current += 1
        work = self.run.pages[self.current]
        self.ready.append(TakeIn(work.page, work.spec))
        return True

    def settle(self, outcomes: tuple[Outcome[Item, Receipt | Failure], ...]) -> None:
        """Commit what was done. Raises RunError where nothing more can be written."""
        for outcome in outcomes:
            self.flying -= 1
            result = outcome.result or Failure("restore", f"its worker died {outcome.attempts} times")
            if isinstance(result, Failure):
                self._failed(outcome.item, result)
            elif isinstance(outcome.item, TakeIn):
                assert result.found is not None
                work = self.run.pages[outcome.item.page.number]
                work.found = result.found
                pagetasks.note_page(work.page, work.spec, result.found)
                self._planned(work)
            else:
                self.run.ledger.commit(result.shards)
                self._count(outcome.item)

    def _failed(self, item: Item, failure: Failure) -> None:
        run = self.run
        if failure.stops_run:
            raise RunError(f"TARGET cannot be written: {failure.reason}; see to it, and start again")
        if not run.summary.failed:
            name = str(run.job.source) + (f", page {item.page.source.page + 1}" if len(run.pages) > 1 else "")
            run.summary.failed.append(Complaint(name, failure.stage, failure.reason))
            if failure.stage == "pyramid":
                _forget_damaged(run)
        self.ready.clear()

    def _count(self, item: Item) -> None:
        if isinstance(item, Tile):
            self.run.summary.output_px += item.window.area
            self.shown.worked(images=1, px=item.window.area)

    def _planned(self, work: PageWork) -> None:
        """Plan a page that is assessed, say what it takes, and find what is still to do of it."""
        job, page = self.run.job, work.page
        work.plan = plan = job.common.wish.plan(work.spec, work.found)
        if self.run.before is not None and job.image == job.target:
            kept = self.run.before.entries(job.image, page, omezarr.pyramid_of(plan.result, plan.tile))
            self.run.ledger.commit(kept)
        job.tell(self.run, work)
        omezarr.create(job.image, [job.common.wish.plan(spec).result for spec in job.specs], plan.tile)
        pyramid = omezarr.pyramid(page.image)
        recorded = [
            (level, shard.y, shard.x, shard.nbytes)
            for level in range(len(pyramid.levels))
            for shard in self.run.ledger.shards(shard_group(page.number, level))
        ]
        missing = omezarr.missing(page.image, pyramid, recorded)
        self.shown.passed(plan.tile_count - len(missing.tiles))
        if missing.tiles and recorded:
            logger.warning(
                "page %d: %d of %d tiles are still to do", page.number + 1, len(missing.tiles), plan.tile_count
            )
        upper = omezarr.upper(pyramid) if missing.tiles else missing.upper
        work.levels.append([Tile(page, tile) for tile in missing.tiles])
        work.levels.extend([Upper(page, shard) for shard in level] for level in upper)


def _check_same(job: Job) -> None:
    """Raise JobError where the target is finished, and of other facts."""
    record = derivative.noted(derivative.provenance_path(job.target)) or {}
    if record and derivative.is_whole(record) and (changed := differences(record["facts"], job.facts)):
        told = ", ".join(changed)
        raise JobError(f"{job.target.name}: is the result of another run ({told} differ); name another target")


def _begin(job: Job, ledger: Manifest, before: Earlier | None) -> None:
    """See that what is there already is part of this very run; what is not is begun anew, and that is said."""
    image, target = job.image, job.target
    noted = image / OWN_FOLDER / "run.json"
    facts = derivative.noted(noted)
    if facts is None and before is None:
        strangers = [p.name for p in image.iterdir() if p.name != OWN_FOLDER]
        if strangers or (target != image and any(derivative.files(target))):
            damaged = derivative.provenance_path(target).exists()
            why = "its record is damaged" if damaged else "not of this job"
            way = "start with --repair to make all of it anew" if damaged else "name another target, or remove it"
            raise JobError(f"{target.name}: is there already and {why}; {way}")
    elif facts is not None and (changed := differences(facts, job.facts)):
        told = ", ".join(changed)
        logger.warning("%s: an unfinished run was of another kind (%s differ); it is begun anew", target.name, told)
        _clear(image)
        ledger.forget()
    tree.sweep(image)
    derivative.note(noted, job.facts)
    if before is not None:
        mending.clear(target, image, before)
        ledger.forget() if not before.record else None


def _clear(image: Path) -> None:
    for path in image.iterdir():
        if path.name == OWN_FOLDER:
            shutil.rmtree(path / "work", ignore_errors=True)
        else:
            mending.remove(path)


def _forget_damaged(run: Run) -> None:
    """Have each shard made again by the next run that is not what the ledger says, though it may be as long."""
    forgotten = []
    for page in (work.page for work in run.pages):
        for level, shard, path in run.written(page):
            if not path.exists() or sources.digest(path) != shard.sha256:
                forgotten.append(Forgotten(shard_group(page.number, level), shard.y, shard.x))
    run.ledger.commit(forgotten)
