"""A scan: one file of any size, page by page, into a pyramid that can be looked at; the original is only ever read.

Tiles are written as they come; a run that is killed goes on with the same command. Whatever the target is, an
OME-Zarr image is made first: it is the target, or lies beside it until the TIFF or Deep Zoom made of it is whole.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

from pipelines import bag, bigtiff, deepzoom, derivative, mending, omezarr, pagetasks, sources
from pipelines.cluster import Cluster
from pipelines.errors import JobError
from pipelines.estimate import cost_s
from pipelines.identity import result_facts
from pipelines.output import output
from pipelines.pagerun import PYRAMID, Job, PageWork, Run, carried_out, check_apart
from pipelines.pagetasks import Common
from pipelines.summary import Summary, byte_size, counted, duration
from pipelines.tasks import behaviour
from refine.plan import Plan
from refine.session import Engine, check_available
from refine.settings import Settings
from refine.spec import ImageSpec

logger = logging.getLogger(__name__)

SUFFIXES = {".zarr": "zarr", ".tif": "tiff", ".tiff": "tiff", ".dzi": "dzi"}
"""What a target's name may end with."""


def scan(
    source: Path,
    target: Path,
    settings: Settings,
    cluster: Cluster | None = None,
    *,
    engine: Engine | None = None,
    bagged: bool = False,
    repair: bool = False,
    quiet: bool = False,
) -> Summary:
    """Restore the pages of `source` into `target`: `.zarr`, `.tif` or `.dzi` by its name; `bagged`: in a BagIt bag.

    repair: a finished target is read whole, and what is not as it was written is made anew.

    May be killed at any time and started again. Raises JobError, ChainError or PlanError before any work where it
    cannot be done as asked, and RunError where it cannot go on; then nothing that was finished is lost.
    """
    target = bag.bagged(target) if bagged else target
    form = _form(target)
    check_apart(source, target)
    common = Common(settings, engine or Engine())
    check_available(common.engine)
    pages = _pages(source)
    if form == "dzi" and len(pages) > 1:
        raise JobError(f"Deep Zoom holds one picture, {source.name} has {len(pages)}; use a .zarr or .tif target")
    facts = result_facts(settings, behaviour(common.engine, settings.preset.plan.block))
    facts["source"] = sources.digest(source)
    image = target if form == "zarr" else target.with_name(f".{target.name}.refine")
    tell, finish = partial(_tell, settings=settings, form=form), partial(_finish, settings=settings, form=form)
    job = Job(source, target, image, common, tuple(pages), facts, tell, finish)
    return carried_out(job, cluster or Cluster(), repair=repair, quiet=quiet)


def _form(target: Path) -> str:
    form = SUFFIXES.get(target.suffix.lower())
    if form is None:
        raise JobError(f"{target.name}: its ending names no target of a scan; use .zarr, .tif or .dzi")
    if not target.parent.is_dir() and not bag.is_in_bag(target):
        raise JobError(f"{target}: its folder does not exist; make it, or name another")
    return form


def _pages(source: Path) -> list[ImageSpec]:
    found = sources.listing(source)
    if found.damaged:
        raise JobError(
            f"{'; '.join(found.damaged[:3])}; nothing was begun: repair the file, or split off its good pages"
        )
    for line in found.left_out:
        logger.warning("%s: %s", source.name, line)
    return list(found.pages)


def _tell(run: Run, work: PageWork, settings: Settings, form: str) -> None:
    """Say what a page will take, before it takes it. Raises JobError where the disk has no room."""
    plan, page = work.plan, work.page
    assert isinstance(plan, Plan)
    needed = plan.result.nbytes * PYRAMID * (1 if form == "zarr" else 2)
    decision = settings.decided(work.spec, work.found)
    taken_in = work.spec.nbytes if page.ingested else 0
    logger.warning(
        "page %d: %d x %d px from %d x %d: %s; %s, %.0f MB a worker and %.0f MB its decoder, %s of disk, "
        "%s on one core",
        *(page.number + 1, plan.output[1], plan.output[0], plan.source.width, plan.source.height),
        *(decision.action, counted(plan.tile_count, "tile"), pagetasks.worker_mem(page.source, plan) / 1e6),
        *(pagetasks.decoder_mem(page.source, plan) / 1e6, byte_size(needed + taken_in), duration(cost_s(plan))),
    )
    for reason in decision.reasons:
        logger.info("page %d: %s", page.number + 1, reason)
    run.check_room(needed)


def _finish(run: Run, settings: Settings, form: str) -> None:
    """What comes when all shards are there: attributes, the file that was asked for, and the record of it all."""
    job = run.job
    described = []
    finished = list[tuple[Path, ImageSpec]]()
    for work in run.pages:
        plan, page = work.plan, work.page
        assert isinstance(plan, Plan)
        assert work.found is not None
        decision = settings.decided(work.spec, work.found)
        described.append(derivative.told_page(plan, decision, work.found, run.execution_class))
        omezarr.finished(page.image, described[-1])
        run.summary.decided(decision.action)
        spec = output(plan, settings, run.execution_class, "tiff").spec if form == "tiff" else plan.result
        finished.append((page.image, spec))
    if form == "tiff":
        bigtiff.export_pages(finished, job.target)
    elif form == "dzi":
        if run.before is not None:
            # Its tiles would be kept for what they were, and one of them is not that.
            mending.remove_tiles(job.target)
        deepzoom.export(finished[0][0], job.target, finished[0][1])
    shards = (one for work in run.pages for one in run.written(work.page))
    written = {path.relative_to(job.image).as_posix(): shard.sha256 for _, shard, path in shards}
    derivative.record(job.target, job.source, job.facts, described, written if form == "zarr" else {})
