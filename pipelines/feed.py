"""The work of a catalog's run: what is handed out next, in tasks of even length, and what becomes of what was done."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipelines import tasks
from pipelines.assessing import Need
from pipelines.draw import Draw
from pipelines.errors import JobError, RunError
from pipelines.estimate import check_ingest, check_stitch, cost_s, whole_mem
from pipelines.large import LargeImage, LargeImages
from pipelines.naming import output_name
from pipelines.output import output_format
from pipelines.planning import Planned, Stale
from pipelines.previous import Previous
from pipelines.progress import Progress
from pipelines.records import Record, State
from pipelines.run import Outcome
from pipelines.summary import Complaint, Summary
from pipelines.tasks import Common, Failure, Item, Look, Receipt, Restore
from refine.decoder import Decoder
from refine.errors import RefineError
from refine.imagefile import check_fits
from refine.spec import ImageSpec

logger = logging.getLogger(__name__)

_BATCH = 128
"""Images in one task at most: beyond that the scheduler's share does not shrink."""
BATCH_S = 5.0
"""Seconds of work in one task: what is lost with a worker, and what an image may take that is not tiled."""
_LOOK_S, _LOOK_BYTE_S = 0.001, 1 / 400e6
"""Seconds that reading a file for its digest takes, and a byte of it."""

Answer = Receipt | Failure


@dataclass(slots=True)
class Feed:
    """What is to be done next, and what becomes of what was done."""

    source: Path
    """The folder that names are below."""
    target: Path
    """Where results go."""
    common: Common
    """What all tasks share."""
    planned: Planned
    """What is to be done."""
    decoder: Decoder
    """Reads headers."""
    shown: Progress
    """How far it is."""
    summary: Summary
    """What was done."""
    large: LargeImages
    """Images that take more than one task."""
    previous: Previous | None = None
    """Where what is replaced is kept; None where it is not."""
    drawn: Draw[str] = field(default_factory=Draw)
    """Images of this run that its report shows."""
    total: int = 0
    """Stale results."""
    redo: bool = False
    """Whether what nobody asked to change is done again, where a touched source is what it was."""
    seen: int = 0
    """Stale results that were handed out."""
    lost: int = 0
    """Tasks that were lost with their worker."""
    behaviour: str = ""
    """The execution class of the workers."""
    estimated: dict[tuple[str, str], float] = field(default_factory=dict)
    """Seconds that images in flight should take, by path and rendition."""
    pace: tuple[float, float] = (1.0, 1.0)
    """Seconds that images took, and should have taken: how slow this machine is."""
    looked: dict[str, list[Stale]] = field(default_factory=dict)
    """Images whose content is being looked at, by path."""
    again: deque[list[Stale]] = field(default_factory=deque)
    """Images whose content turned out to be another."""

    def batches(self) -> Iterator[tuple[Item, ...] | None]:
        """Work for the window: tasks of large images first, small images in batches between them."""
        walk = self._walk()
        while True:
            item = self.large.next()
            batch = self._batch(walk) if item is None else (item,)
            if batch:
                yield batch
            elif (item := self.large.next()) is not None:
                yield (item,)
            elif self.large or self.looked:
                yield None
            elif not self.again:
                return

    def _walk(self) -> Iterator[list[Stale]]:
        """Images, renditions of one together."""
        for group in self.planned.stale():
            self.seen += len(group)
            yield group

    def _batch(self, walk: Iterator[list[Stale]]) -> tuple[Item, ...]:
        """Small images, up to a few seconds of work; large ones met on the way are put aside."""
        batch: list[Item] = []
        seconds = 0.0
        for group in self._from_both(walk):
            for item, cost in self._items(group):
                batch.append(item)
                seconds += cost
            # Towards the end batches shrink, so that the workers finish together.
            if batch and (seconds >= BATCH_S / 2 or len(batch) >= min(_BATCH, 1 + (self.total - self.seen) // 8)):
                break
            if not batch and self.large:
                break
        if self.previous is not None:
            self.previous.commit()
        return tuple(batch)

    def _from_both(self, walk: Iterator[list[Stale]]) -> Iterator[list[Stale]]:
        while (group := self.again.popleft() if self.again else next(walk, None)) is not None:
            yield group

    def _items(self, group: list[Stale]) -> list[tuple[Item, float]]:
        """The items of one image for a batch, and the seconds they should take."""
        path = group[0].source.path
        if any(stale.why == "touched" for stale in group):
            self.looked[path] = group
            images = tuple(self._restore(stale) for stale in group)
            return [(Look(images), _LOOK_S + _LOOK_BYTE_S * images[0].size)]
        items = [self._restore(stale) for stale in group]
        if self.previous is not None:
            for item in items:
                self.previous.put_aside(item.path, item.rendition)
        spec = self._spec(items)
        sized = [found for item in items if spec and (found := self._sized(item, spec))]
        self.estimated |= {(item.path, item.rendition): cost for item, cost in sized}
        return [(item, cost * self.pace[0] / self.pace[1]) for item, cost in sized]

    def _restore(self, stale: Stale) -> Restore:
        seen, wanted = stale.source, stale.wanted
        name = output_name(seen.path, wanted.settings.preset.output.format)
        return Restore(
            seen.path,
            Path(seen.uri) if seen.uri else self.source / seen.path,
            self.target / wanted.rendition.output(name),
            seen.size,
            seen.mtime_ns,
            wanted.settings,
            wanted.rendition.name,
            wanted.key,
            seen.etag,
        )

    def _spec(self, items: Sequence[Restore]) -> ImageSpec | None:
        """The header of an image. None, and told, where it cannot be read."""
        try:
            return self.decoder.spec(items[0].source)
        except RefineError as error:
            for item in items:
                self._complain(item, Failure("read", _reason(error, item)), "failed")
            return None

    def _sized(self, item: Restore, spec: ImageSpec) -> tuple[Restore, float] | None:
        """An image with the name of its result, and the seconds it will take in a batch.

        None where it is large, or has failed here already.
        """
        try:
            plan = item.settings.plan(spec)
            allowed_mem = item.settings.preset.plan.allowed_mem
            file_format = output_format(plan, item.settings)
            check_fits(plan.result, file_format)
            item = self._named(item, file_format, kept=file_format == spec.format)
            cost = cost_s(plan)
            if plan.tile_count == 1 or (cost <= BATCH_S and whole_mem(plan) <= allowed_mem):
                return item, cost
            check_ingest(plan, allowed_mem)
            check_stitch(plan, file_format, allowed_mem)
        except RefineError as error:
            self._complain(item, Failure("plan", _reason(error, item)), "failed")
            return None
        self.large.add(item, plan)
        return None

    def _named(self, item: Restore, file_format: str, *, kept: bool) -> Restore:
        """The image with the name of its result. Raises JobError where that is another image's already."""
        if item.settings.preset.output.format != "source" or kept:
            return item
        name = output_name(item.path, file_format)
        if (owner := self.planned.owner(item.path, item.rendition, name)) != item.path:
            raise JobError(f"its result would be {name}, as is that of {owner}; rename one of them")
        return replace(item, target=self.target / (f"{item.rendition}/{name}" if item.rendition else name))

    def settle(self, outcomes: tuple[Outcome[Item, Answer], ...]) -> None:
        """Commit what was done. Raises RunError where nothing more can be written."""
        records = [record for outcome in outcomes for record in self._records(outcome)]
        self.planned.ledger.commit(records)
        for outcome in outcomes:
            if isinstance(outcome.result, Failure) and outcome.result.stops_run:
                raise RunError(f"TARGET cannot be written: {outcome.result.reason}; see to it, and start again")

    def _records(self, outcome: Outcome[Item, Answer]) -> list[Record]:
        """The records that an outcome gives; those of large images are committed on the way."""
        item, result = outcome.item, outcome.result
        self.lost += outcome.attempts > 1
        state: State = "quarantined" if result is None else "failed"
        if result is None:
            reason = f"its worker died, {outcome.attempts} times, the last time with no other work beside it"
            result = Failure("restore", reason)
        if isinstance(item, Restore):
            if isinstance(result, Failure):
                return [self._complaint(item, result, state, outcome.attempts)]
            self._keep_pace(item, result.seconds)
            return [self._praise(item, result, result.seconds, outcome.attempts)]
        if isinstance(item, Look):
            group = self.looked.pop(item.image.path)
            if isinstance(result, Failure):
                return [self._complaint(image, result, state, outcome.attempts) for image in item.images]
            return self._recognised(group, result.source_sha256)
        if isinstance(result, Failure):
            image = self.large.failed(item, result)
            if image is not None:
                self._complain(image.item, result, state)
                self.large.settle(image)
            return []
        self._follow(self.large.took(item, result), item, result)
        return []

    def _recognised(self, group: list[Stale], source_sha256: str) -> list[Record]:
        """Records of touched images that are what they were, with the new time; the others are to be made."""
        made, kept = [], []
        for stale in group:
            record = self.planned.standing(stale, source_sha256, redo=self.redo)
            if record is None:
                made.append(stale)
                continue
            kept.append(record)
            self.summary.unchanged += 1
            self.shown.passed()
        if made:
            # They have been looked at: what they are now is what is made.
            self.again.append([replace(stale, why="changed") for stale in made])
        return kept

    def _follow(self, image: LargeImage | None, item: Item, receipt: Receipt) -> None:
        if image is None:
            px = receipt.output_px if isinstance(item, tasks.Shard) else 0
            self.shown.worked(px=px, note=self.large.note)
            return
        self.planned.ledger.commit([self._praise(image.item, receipt, image.seconds, 1, px_shown=0)])
        self.large.settle(image)

    def _keep_pace(self, item: Restore, seconds: float) -> None:
        took, should = self.pace
        self.pace = took + seconds, should + self.estimated.pop((item.path, item.rendition), 0.0)

    def _praise(
        self, item: Restore, receipt: Receipt, seconds: float, attempts: int, px_shown: int | None = None
    ) -> Record:
        if receipt.execution_class != self.behaviour:
            raise RunError(f"a worker of another kind has joined: {receipt.execution_class}; use workers of one kind")
        self.summary.done += 1
        self.drawn.take(os.fsencode(item.path), item.path)
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
            item.key,
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
            rendition=item.rendition,
            etag=item.etag,
            uri=self._uri(item),
        )

    def _uri(self, item: Restore) -> str:
        """Where an image lies; empty for its name below the root."""
        return "" if item.source == self.source / item.path else str(item.source)

    def _complain(self, item: Restore, failure: Failure, state: State) -> None:
        self.planned.ledger.commit([self._complaint(item, failure, state)])

    def _complaint(self, item: Restore, failure: Failure, state: State, attempts: int = 1) -> Record:
        complaint = Complaint(item.path, failure.stage, failure.reason, item.rendition)
        (self.summary.quarantined if state == "quarantined" else self.summary.failed).append(complaint)
        self.shown.worked(images=1, note=self.large.note)
        return Record(
            item.path,
            item.size,
            item.mtime_ns,
            item.key,
            state,
            failure.stage,
            failure.reason,
            seconds=round(failure.seconds, 4),
            attempts=max(attempts, failure.tries),
            rendition=item.rendition,
            etag=item.etag,
            uri=self._uri(item),
        )


def _reason(error: RefineError, item: Restore) -> str:
    return str(error).splitlines()[0].removeprefix(f"{item.source.name}: ")
