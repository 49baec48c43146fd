"""A tree of images, restored into a tree of the same names: only what changed, and every failure with its reason."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path

from distributed import Client

from pipelines import manifest, progress, tasks, tree
from pipelines.assessing import Need
from pipelines.cluster import Cluster, connected
from pipelines.errors import JobError, RunError
from pipelines.estimate import check_ingest, check_stitch, cost_s, whole_mem
from pipelines.identity import result_key
from pipelines.large import LargeImage, LargeImages, sweep_work
from pipelines.manifest import Manifest, Record, State
from pipelines.output import output_format
from pipelines.progress import Progress
from pipelines.run import Outcome, streamed
from pipelines.store import TARGET_CHUNK, chunk_side
from pipelines.summary import Complaint, Summary
from pipelines.tasks import Common, Failure, Item, Receipt, Restore
from refine.decoder import Decoder
from refine.errors import RefineError
from refine.imagefile import check_fits
from refine.limits import Limits
from refine.session import Engine, check_available
from refine.settings import Settings

logger = logging.getLogger(__name__)

_BATCH = 128
"""Images in one task at most: beyond that the scheduler's share does not shrink."""
BATCH_S = 5.0
"""Seconds of work in one task: what is lost with a worker, and what an image may take that is not tiled."""


def catalog(
    source: Path,
    target: Path,
    settings: Settings,
    cluster: Cluster | None = None,
    *,
    engine: Engine | None = None,
    limits: Limits | None = None,
    quiet: bool = False,
) -> Summary:
    """Restore every image below source into target, under its own name; what has not changed is left alone.

    May be killed at any time and started again: what was finished is kept. Raises JobError, ChainError or PlanError
    before any work where it cannot be done as asked, and RunError where it cannot go on.
    """
    started = time.monotonic()
    tree.check_apart(source, target)
    chunk_side(settings.preset.plan.tile, TARGET_CHUNK)
    found = tree.survey(source, settings.preset.output.format)
    common = Common(settings, engine or Engine(), limits or Limits())
    check_available(common.engine)
    key = result_key(settings, tasks.behaviour(common.engine, _block(settings)))
    target.mkdir(parents=True, exist_ok=True)
    summary = Summary(skipped=found.skipped)
    with (
        manifest.opened(target / tree.OWN_FOLDER) as ledger,
        Decoder(common.limits) as decoder,
        progress.shown(found.images, quiet=quiet) as shown,
    ):
        work = target / tree.OWN_FOLDER / "work"
        swept = tree.sweep(target), sweep_work(work, key, source)
        logger.debug("swept %d files and %d work folders of runs that were killed", *swept)
        feed = _Feed(
            *(source, target, common, key, ledger, decoder, shown, found.images, summary),
            *(LargeImages(work, ledger), tree.Names(source)),
        )
        _work_through(feed, cluster or Cluster())
        if not any(work.glob("*")):
            shutil.rmtree(work, ignore_errors=True)
        if feed.lost:
            tree.sweep(target)
    summary.seconds = time.monotonic() - started
    return summary


def _work_through(feed: _Feed, cluster: Cluster) -> None:
    batches = feed.batches()
    try:
        first = next(batches)
    except StopIteration:
        return  # nothing changed: no cluster is started
    with connected(cluster) as client:
        feed.behaviour = _agreed(client, feed.common)
        for outcomes in streamed(client, chain([first], batches), partial(tasks.performed, common=feed.common)):
            feed.settle(outcomes)


def _agreed(client: Client, common: Common) -> str:
    """The execution class of all workers, which must be that of this process: results are keyed by it."""
    here = tasks.behaviour(common.engine, _block(common.settings))
    found = set(client.run(tasks.behaviour, common.engine, _block(common.settings)).values())
    if found - {here}:
        others = ", ".join(sorted(found - {here}))
        raise RunError(f"workers differ from this machine, whose results are {here}: {others}; use workers of one kind")
    return here


def _block(settings: Settings) -> int:
    return min(settings.preset.plan.block, settings.preset.plan.tile)


@dataclass(slots=True)
class _Feed:
    """What is to be done next, and what becomes of what was done."""

    source: Path
    target: Path
    common: Common
    key: str
    ledger: Manifest
    decoder: Decoder
    shown: Progress
    total: int
    summary: Summary
    large: LargeImages
    names: tree.Names
    seen: int = 0
    lost: int = 0
    behaviour: str = ""
    estimated: dict[str, float] = field(default_factory=dict)
    """Seconds that images in flight should take, by path."""
    pace: tuple[float, float] = (1.0, 1.0)
    """Seconds that images took, and should have taken: how slow this machine is."""

    def batches(self) -> Iterator[tuple[Item, ...] | None]:
        """Work for the window: tasks of large images first, small images in batches between them."""
        walk = self._changed()
        while True:
            item = self.large.next()
            batch = self._batch(walk) if item is None else (item,)
            if batch:
                yield batch
            elif not self.large:
                return
            elif (item := self.large.next()) is None:
                yield None
            else:
                yield (item,)

    def _batch(self, walk: Iterator[Restore]) -> tuple[Item, ...]:
        """Small images, up to a few seconds of work; large ones met on the way are put aside."""
        batch: list[Item] = []
        seconds = 0.0
        for seen in walk:
            sized = self._sized(seen)
            if sized is not None:
                item, cost = sized
                batch.append(item)
                self.estimated[item.path] = cost
                seconds += cost * self.pace[0] / self.pace[1]
            # Towards the end batches shrink, so that the workers finish together.
            if batch and (seconds >= BATCH_S / 2 or len(batch) >= min(_BATCH, 1 + (self.total - self.seen) // 8)):
                break
            if not batch and self.large:
                break
        return tuple(batch)

    def _sized(self, item: Restore) -> tuple[Restore, float] | None:
        """An image with the name of its result, and the seconds it will take in a batch.

        None where it is large, or has failed here already.
        """
        stage = "read"
        try:
            spec = self.decoder.spec(item.source)
            stage = "plan"
            plan = self.common.settings.plan(spec)
            preset = self.common.settings.preset
            file_format = output_format(plan, self.common.settings)
            check_fits(plan.result, file_format)
            item = self._named(item, file_format, kept=file_format == spec.format)
            cost = cost_s(plan)
            if plan.tile_count == 1 or (cost <= BATCH_S and whole_mem(plan) <= preset.plan.allowed_mem):
                return item, cost
            check_ingest(plan, preset.plan.allowed_mem)
            check_stitch(plan, file_format, preset.plan.allowed_mem)
        except RefineError as error:
            reason = str(error).splitlines()[0].removeprefix(f"{item.source.name}: ")
            self._complain(item, Failure(stage, reason), "failed")
            return None
        self.large.add(item, plan, self.key)
        return None

    def _named(self, item: Restore, file_format: str, *, kept: bool) -> Restore:
        """The image with the name of its result. Raises JobError where that is another image's already."""
        if self.common.settings.preset.output.format != "source" or kept:
            return item
        name = tree.output_name(item.path, file_format)
        owner = self.names.owner(item.path, name)
        if owner != item.path:
            raise JobError(f"its result would be {name}, as is that of {owner}; rename one of them")
        return replace(item, target=self.target / name)

    def _changed(self) -> Iterator[Restore]:
        for file in tree.source_files(self.source):
            self.seen += 1
            name = tree.output_name(file.path, self.common.settings.preset.output.format)
            record = self.ledger.record(file.path)
            known = record is not None and (record.size, record.mtime_ns, record.key) == (
                file.size,
                file.mtime_ns,
                self.key,
            )
            if known and record is not None and self._stands(record):
                continue
            yield Restore(file.path, self.source / file.path, self.target / name, file.size, file.mtime_ns)

    def _stands(self, record: Record) -> bool:
        """Whether a record of this very source and these settings still holds."""
        if record.state == "quarantined":
            # It has taken workers down: only another file or other settings give it another chance.
            self.summary.quarantined.append(Complaint(record.path, record.stage, record.reason))
        elif record.state == "done" and self._is_there(record):
            self.summary.unchanged += 1
        else:
            return False
        self.shown.passed()
        return True

    def _is_there(self, record: Record) -> bool:
        """Whether a result is where it was put, under a name that is still its own."""
        try:
            found = (self.target / record.output).stat().st_size
        except OSError:
            return False
        named = self.common.settings.preset.output.format != "source"
        return found == record.output_nbytes and (named or self.names.owner(record.path, record.output) == record.path)

    def settle(self, outcomes: tuple[Outcome[Item, Receipt | Failure], ...]) -> None:
        """Commit what was done. Raises RunError where nothing more can be written."""
        records = [record for outcome in outcomes if (record := self._record(outcome))]
        self.ledger.commit(records)
        for outcome in outcomes:
            if isinstance(outcome.result, Failure) and outcome.result.stops_run:
                raise RunError(f"TARGET cannot be written: {outcome.result.reason}; see to it, and start again")

    def _record(self, outcome: Outcome[Item, Receipt | Failure]) -> Record | None:
        """The record of an image that was one task; those of large images go through the images under way."""
        item, result = outcome.item, outcome.result
        self.lost += outcome.attempts > 1
        if result is None:
            reason = f"its worker died, {outcome.attempts} times, the last time with no other work beside it"
            result = Failure("restore", reason)
        if isinstance(item, Restore):
            if isinstance(result, Failure):
                state: State = "quarantined" if outcome.result is None else "failed"
                return self._complain(item, result, state, commit=False, attempts=outcome.attempts)
            self._keep_pace(item.path, result.seconds)
            return self._praise(item, result, result.seconds, outcome.attempts)
        if isinstance(result, Failure):
            image = self.large.failed(item, result)
            if image is not None:
                self._complain(image.item, result, "quarantined" if outcome.result is None else "failed")
                self.large.settle(image)
            return None
        self._follow(self.large.took(item, result), item, result)
        return None

    def _follow(self, image: LargeImage | None, item: Item, receipt: Receipt) -> None:
        if image is None:
            px = receipt.output_px if isinstance(item, tasks.Shard) else 0
            self.shown.worked(px=px, note=self.large.note)
            return
        self.ledger.commit([self._praise(image.item, receipt, image.seconds, 1, px_shown=0)])
        self.large.settle(image)

    def _keep_pace(self, path: str, seconds: float) -> None:
        took, should = self.pace
        self.pace = took + seconds, should + self.estimated.pop(path, 0.0)

    def _praise(
        self, item: Restore, receipt: Receipt, seconds: float, attempts: int, px_shown: int | None = None
    ) -> Record:
        if receipt.execution_class != self.behaviour:
            raise RunError(f"a worker of another kind has joined: {receipt.execution_class}; use workers of one kind")
        self.summary.done += 1
        self.summary.output_px += receipt.output_px
        logger.info("%s: done in %.1f s", item.path, seconds)
        self.summary.remark(item.path, receipt.notes)
        if receipt.flag:
            self.summary.flagged.append({"path": item.path, "reason": receipt.flag})
        found = receipt.need or Need("", {}, {})
        self.summary.decided(found.decision)
        self.shown.worked(images=1, px=receipt.output_px if px_shown is None else px_shown, note=self.large.note)
        return Record(
            item.path,
            item.size,
            item.mtime_ns,
            self.key,
            "done",
            source_sha256=receipt.source_sha256,
            output=item.target.relative_to(self.target).as_posix(),
            output_px=receipt.output_px,
            output_nbytes=receipt.output_nbytes,
            output_sha256=receipt.output_sha256,
            seconds=round(seconds, 4),
            attempts=attempts,
            notes=receipt.notes,
            decision=found.decision,
            strengths=found.strengths,
            measured=found.measured,
        )

    def _complain(
        self, item: Restore, failure: Failure, state: State, *, commit: bool = True, attempts: int = 1
    ) -> Record:
        complaint = Complaint(item.path, failure.stage, failure.reason)
        (self.summary.quarantined if state == "quarantined" else self.summary.failed).append(complaint)
        self.shown.worked(images=1, note=self.large.note)
        record = Record(
            item.path,
            item.size,
            item.mtime_ns,
            self.key,
            state,
            failure.stage,
            failure.reason,
            seconds=round(failure.seconds, 4),
            attempts=max(attempts, failure.tries),
        )
        if commit:
            self.ledger.commit([record])
        return record
