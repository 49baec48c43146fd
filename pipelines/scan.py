"""A scan: one file of any size, page by page, into a pyramid that can be looked at; the original is only ever read.

Tiles are written as they come; a run that is killed goes on with the same command. Whatever the target is, an
OME-Zarr image is made first: it is the target, or lies beside it until the TIFF or Deep Zoom made of it is whole.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pipelines import bigtiff, deepzoom, derivative, manifest, omezarr, progress, scantasks, sources, tree
from pipelines.cluster import Cluster, connected
from pipelines.errors import JobError, RunError, StoreError
from pipelines.estimate import cost_s
from pipelines.identity import differences, result_facts
from pipelines.manifest import Forgotten, Manifest, ShardRecord
from pipelines.output import output
from pipelines.progress import Progress
from pipelines.run import Outcome, streamed
from pipelines.scantasks import Item, Page, TakeIn, Tile, Upper, shard_group
from pipelines.summary import Complaint, Summary
from pipelines.tasks import Common, Failure, Receipt, behaviour
from refine.limits import SCAN_LIMITS
from refine.plan import Plan
from refine.session import Engine, check_available, execution_class
from refine.settings import Settings
from refine.spec import ImageSpec

logger = logging.getLogger(__name__)

SUFFIXES = {".zarr": "zarr", ".tif": "tiff", ".tiff": "tiff", ".dzi": "dzi"}
"""What a target's name may end with."""
_PYRAMID = 4 / 3
"""Bytes of a pyramid by those of its first level."""


def scan(
    source: Path,
    target: Path,
    settings: Settings,
    cluster: Cluster | None = None,
    *,
    engine: Engine | None = None,
    bag: bool = False,
    quiet: bool = False,
) -> Summary:
    """Restore the pages of `source` into `target`: `.zarr`, `.tif` or `.dzi` by its name; `bag`: in a BagIt bag.

    May be killed at any time and started again. Raises JobError, ChainError or PlanError before any work where it
    cannot be done as asked, and RunError where it cannot go on; then nothing that was finished is lost.
    """
    started = time.monotonic()
    target = derivative.bagged(target) if bag else target
    form = _form(target)
    _check_apart(source, target)
    common = Common(settings, engine or Engine(), SCAN_LIMITS)
    check_available(common.engine)
    pages = _pages(source)
    if form == "dzi" and len(pages) > 1:
        raise JobError(f"Deep Zoom holds one picture, {source.name} has {len(pages)}; use a .zarr or .tif target")
    before = sources.digest(source)
    facts = result_facts(settings, behaviour(common.engine, settings.preset.plan.block)) | {"source": before}
    summary = Summary()
    if derivative.is_finished(target, facts):
        summary.unchanged = len(pages)
        return summary
    image = target if form == "zarr" else target.with_name(f".{target.name}.refine")
    image.mkdir(parents=True, exist_ok=True)
    with manifest.opened(image / tree.OWN_FOLDER) as ledger:
        _begin(image, target, ledger, facts)
        job = _Job(source, target, form, image, common, ledger, pages, facts, summary)
        _work_through(job, cluster or Cluster(), quiet=quiet)
        if not summary.failed:
            sources.check_digest(source, before)
            try:
                _finish(job)
            except StoreError:
                _forget_damaged(job)
                raise
    if not summary.failed and image != target:
        shutil.rmtree(image, ignore_errors=True)
    summary.seconds = time.monotonic() - started
    return summary


@dataclass(slots=True)
class _Job:
    """One run of one scan."""

    source: Path
    target: Path
    form: str
    image: Path
    """The OME-Zarr folder: the target, or what lies beside it until that is whole."""
    common: Common
    ledger: Manifest
    specs: list[ImageSpec]
    """Of the source's pages."""
    facts: dict[str, object]
    """All that decides the result."""
    summary: Summary
    pages: list[_PageWork] = field(default_factory=list)
    execution_class: str = ""


@dataclass(slots=True)
class _PageWork:
    """One page under way."""

    page: Page
    spec: ImageSpec
    plan: Plan | None = None
    """None until it is assessed."""
    levels: deque[list[Item]] = field(default_factory=deque)
    """What is still to be handed out: the tiles, then level by level; each needs all before it."""


def _work_through(job: _Job, cluster: Cluster, *, quiet: bool) -> None:
    total = sum(job.common.settings.plan(spec).tile_count for spec in job.specs)
    work = job.image / tree.OWN_FOLDER / "work"
    for number, spec in enumerate(job.specs):
        source = sources.source_of(job.source, spec.page)
        image = job.image if len(job.specs) == 1 else job.image / str(number)
        digest = str(job.facts["source"])
        # By the source's digest: workers may live longer than this job, and remember what they read of a folder.
        page = Page(number, source.bare, image, work / f"{digest[:16]}-{number}", digest)
        job.pages.append(_PageWork(page, spec))
    with progress.shown(total, unit="tile", quiet=quiet) as shown:
        feed = _Feed(job, shown)
        with connected(cluster) as client:
            _check_class(
                job, set(client.run(behaviour, job.common.engine, job.common.settings.preset.plan.block).values())
            )
            for outcomes in streamed(client, feed.batches(), partial(scantasks.performed, common=job.common), window=2):
                feed.settle(outcomes)
    shutil.rmtree(work, ignore_errors=True) if not job.summary.failed else None


def _check_class(job: _Job, found: set[str]) -> None:
    here = behaviour(job.common.engine, job.common.settings.preset.plan.block)
    if others := found - {here}:
        told = ", ".join(sorted(others))
        raise RunError(f"workers differ from this machine, whose results are {here}: {told}; use workers of one kind")
    job.execution_class = execution_class(job.common.engine, job.common.settings.preset.plan.block)


@dataclass(slots=True)
class _Feed:
    """What is to be done next, and what becomes of what was done. Pages follow one another."""

    job: _Job
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
        work = self.job.pages[self.current] if self.current >= 0 else None
        if work is not None and work.plan is not None and work.levels and not self.job.summary.failed:
            self.ready.extend(work.levels.popleft())
            return True
        if self.job.summary.failed or self.current + 1 == len(self.job.pages):
            return False
        self.current += 1
        work = self.job.pages[self.current]
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
                work = self.job.pages[outcome.item.page.number]
                scantasks.note_page(work.page, work.spec, result.found)
                self._planned(work)
            else:
                self.job.ledger.commit(result.shards)
                self._count(outcome.item)

    def _failed(self, item: Item, failure: Failure) -> None:
        if failure.stops_run:
            raise RunError(f"TARGET cannot be written: {failure.reason}; see to it, and start again")
        if not self.job.summary.failed:
            name = str(self.job.source) + (f", page {item.page.source.page + 1}" if len(self.job.pages) > 1 else "")
            self.job.summary.failed.append(Complaint(name, failure.stage, failure.reason))
            if failure.stage == "pyramid":
                _forget_damaged(self.job)
        self.ready.clear()

    def _count(self, item: Item) -> None:
        if isinstance(item, Tile):
            self.job.summary.output_px += item.window.area
            self.shown.worked(images=1, px=item.window.area)

    def _planned(self, work: _PageWork) -> None:
        """Plan a page that is assessed, say what it takes, and find what is still to do of it."""
        job, page = self.job, work.page
        work.plan = plan = scantasks.page_plan(page.work, job.common)
        _tell(job, work, plan)
        omezarr.create(job.image, [job.common.settings.plan(spec).result for spec in job.specs], plan.tile)
        pyramid = omezarr.pyramid(page.image)
        recorded = [
            (level, shard.y, shard.x, shard.nbytes)
            for level in range(len(pyramid.levels))
            for shard in job.ledger.shards(shard_group(page.number, level))
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


def _form(target: Path) -> str:
    form = SUFFIXES.get(target.suffix.lower())
    if form is None:
        raise JobError(f"{target.name}: its ending names no target of a scan; use .zarr, .tif or .dzi")
    if not target.parent.is_dir() and not derivative.is_in_bag(target):
        raise JobError(f"{target}: its folder does not exist; make it, or name another")
    return form


def _check_apart(source: Path, target: Path) -> None:
    """Raise JobError where the target is the source, lies in it, or holds it."""
    inner, outer = target.resolve(), source.resolve()
    if inner == outer or inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise JobError(f"TARGET {target} is, holds or lies in SOURCE {source}; name a TARGET beside it")


def _pages(source: Path) -> list[ImageSpec]:
    found = sources.listing(source)
    if found.damaged:
        raise JobError(
            f"{'; '.join(found.damaged[:3])}; nothing was begun: repair the file, or split off its good pages"
        )
    for line in found.left_out:
        logger.warning("%s: %s", source.name, line)
    return list(found.pages)


def _begin(image: Path, target: Path, ledger: Manifest, facts: dict[str, object]) -> None:
    """See that what is there already is part of this very run; what is not is begun anew, and that is said."""
    noted = image / tree.OWN_FOLDER / "scan.json"
    before = derivative.noted(noted)
    if before is None:
        strangers = [p.name for p in image.iterdir() if p.name != tree.OWN_FOLDER]
        if strangers or (target != image and target.exists()):
            raise JobError(f"{target.name}: is there already and not of a scan; name another target, or remove it")
    elif changed := differences(before, facts):
        told = ", ".join(changed)
        if derivative.provenance_path(target).exists():
            raise JobError(f"{target.name}: is the result of another run ({told} differ); name another target")
        logger.warning("%s: an unfinished run was of another kind (%s differ); it is begun anew", target.name, told)
        _clear(image)
        ledger.forget()
    tree.sweep(image)
    derivative.note(noted, facts)


def _clear(image: Path) -> None:
    for path in image.iterdir():
        if path.name == tree.OWN_FOLDER:
            shutil.rmtree(path / "work", ignore_errors=True)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _tell(job: _Job, work: _PageWork, plan: Plan) -> None:
    """Say what a page will take, before it takes it. Raises JobError where the disk has no room."""
    levels = plan.result.nbytes * _PYRAMID
    needed = levels * (1 if job.form == "zarr" else 2)
    free = shutil.disk_usage(job.image).free
    decision = job.common.settings.decided(work.spec, scantasks.noted_page(work.page.work)[1])
    taken_in = work.spec.nbytes if work.page.ingested else 0
    logger.warning(
        "page %d: %d x %d px from %d x %d: %s; %d tiles, %.0f MB a worker and %.0f MB its decoder, %.1f GB of disk, "
        "%.0f s on one core",
        *(work.page.number + 1, plan.output[1], plan.output[0], plan.source.width, plan.source.height),
        *(decision.action, plan.tile_count, scantasks.worker_mem(work.page, plan) / 1e6),
        *(scantasks.decoder_mem(work.page, plan) / 1e6, (needed + taken_in) / 1e9, cost_s(plan)),
    )
    for reason in decision.reasons:
        logger.info("page %d: %s", work.page.number + 1, reason)
    # A second run has most of it on the disk already.
    if needed - job.ledger.shard_nbytes() > free:
        raise JobError(f"{job.target.name} needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; make room")


def _forget_damaged(job: _Job) -> None:
    """Have each shard made again by the next run that is not what the ledger says, though it may be as long."""
    forgotten = []
    for page in (work.page for work in job.pages):
        for level, shard, path in _written(job, page):
            if not path.exists() or sources.digest(path) != shard.sha256:
                forgotten.append(Forgotten(shard_group(page.number, level), shard.y, shard.x))
    job.ledger.commit(forgotten)


def _written(job: _Job, page: Page) -> Iterator[tuple[int, ShardRecord, Path]]:
    """Level, record and file of every shard of a page that is in the ledger."""
    if not (page.image / "0").exists():
        return
    pyramid = omezarr.pyramid(page.image)
    for level in range(len(pyramid.levels)):
        side = pyramid.side(level)
        for shard in job.ledger.shards(shard_group(page.number, level)):
            yield level, shard, omezarr.shard_path(page.image, level, shard.y // side, shard.x // side)


def _finish(job: _Job) -> None:
    """What comes when all shards are there: attributes, the file that was asked for, and the record of it all."""
    # A worker that died in this run left what it was writing.
    tree.sweep(job.image)
    described = []
    finished = list[tuple[Path, ImageSpec]]()
    for work in job.pages:
        plan = scantasks.page_plan(work.page.work, job.common)
        found = scantasks.noted_page(work.page.work)[1]
        decision = job.common.settings.decided(work.spec, found)
        described.append(derivative.told_page(plan, decision, found, job.execution_class))
        omezarr.finished(work.page.image, described[-1])
        job.summary.decided(decision.action)
        spec = (
            output(plan, job.common.settings, job.execution_class, "tiff").spec if job.form == "tiff" else plan.result
        )
        finished.append((work.page.image, spec))
    if job.form == "tiff":
        bigtiff.export_pages(finished, job.target)
    elif job.form == "dzi":
        deepzoom.export(finished[0][0], job.target, finished[0][1])
    shards = (one for work in job.pages for one in _written(job, work.page))
    written = {path.relative_to(job.image).as_posix(): shard.sha256 for _, shard, path in shards}
    derivative.record(job.target, job.source, job.facts, described, written if job.form == "zarr" else {})
    job.summary.done = len(job.pages)
