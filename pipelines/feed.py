"""The work of a catalog's run: what is handed out next, in tasks of even length, and what becomes of what was done."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipelines.brake import Brake
from pipelines.chances import Chances, note
from pipelines.draw import Draw
from pipelines.entries import done_record, failed_record
from pipelines.errors import JobError, RunError
from pipelines.estimate import BATCH_S, check_ingest, check_stitch, cost_s, guess_s, is_small
from pipelines.failures import kind_of, reason_of
from pipelines.items import Common, Failure, Item, Look, Receipt, Restore, Shard
from pipelines.large import LargeImage, LargeImages
from pipelines.naming import output_name
from pipelines.output import output_format
from pipelines.place import Place, Spot, spot_of
from pipelines.planning import Planned, Stale
from pipelines.previous import Previous
from pipelines.progress import Progress
from pipelines.records import Record, State
from pipelines.run import Alone, Outcome
from pipelines.summary import Complaint, Summary, named
from refine.decoder import Decoder
from refine.errors import RefineError
from refine.imagefile import check_fits
from refine.spec import ImageSpec

logger = logging.getLogger(__name__)

_BATCH = 128
"""Images in one task at most: beyond that the scheduler's share does not shrink."""
_LOOK_S, _LOOK_BYTE_S = 0.001, 1 / 400e6
"""Seconds that reading a file for its digest takes, and a byte of it."""

_GRAVE = ("poison", "resource")
"""Kinds of failures that quarantine an image, where they come with nothing beside it too."""

Answer = Receipt | Failure


@dataclass(slots=True)
class Feed:
    """What is to be done next, and what becomes of what was done."""

    source: Place
    """What names are below."""
    common: Common
    """What all tasks share, the target among it."""
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
    brake: Brake
    """When to stop."""
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
    slots: int = 1
    """Workers."""
    settled: int = 0
    """Stale results of which it is known what became of them."""
    out: int = 0
    """Items that are on their way."""
    chances: Chances = field(default_factory=Chances)
    """Images that are tried again."""
    headed: deque[tuple[Restore, ImageSpec]] = field(default_factory=deque)
    """Images of a bucket whose header is known now, for they need more than one task, or another name."""

    def batches(self) -> Iterator[tuple[Item, ...] | None]:
        """Work for the window: tasks of large images first, small images in batches between them."""
        walk = self._walk()
        while True:
            batch = None if self.brake.is_on else self._next(walk)
            if batch is not None:
                self.out += len(batch)
                yield batch
            elif self.out:
                # What is under way may have to be tried again, or makes work.
                yield None
            elif self.brake.is_on or not (self.again or self.headed or self.chances.waiting):
                return

    def _next(self, walk: Iterator[list[Stale]]) -> tuple[Item, ...] | None:
        if self.chances.waiting:
            chance = self.chances.waiting.popleft()
            return Alone((chance.item,)) if chance.alone else (chance.item,)
        return self._task() or self._batch(walk) or self._task()

    def _task(self) -> tuple[Item, ...] | None:
        """A task of an image that takes more than one."""
        item = self.large.next()
        if item is None:
            return None
        assert not isinstance(item, Look | Restore)
        if not self._has_time(self.large.task_s(item)):
            self.brake.time_is_up = True
            return None
        return Alone((item,)) if self.chances.is_alone(item.image) else (item,)

    def _walk(self) -> Iterator[list[Stale]]:
        """Images, renditions of one together."""
        for group in self.planned.stale():
            self.seen += len(group)
            yield group

    def _batch(self, walk: Iterator[list[Stale]]) -> tuple[Item, ...]:
        """Small images, up to a few seconds of work; large ones met on the way are put aside."""
        batch: list[Item] = []
        seconds = 0.0
        for items in self._from_all(walk):
            cost = sum(cost for _, cost in items)
            if items and not self._has_time(seconds + cost):
                self.brake.time_is_up = True
                break
            seconds += cost
            batch += [item for item, _ in items]
            self.estimated |= {(item.path, item.rendition): s for item, s in items if isinstance(item, Restore)}
            # Towards the end batches shrink, so that the workers finish together.
            paced_s = seconds * self.pace[0] / self.pace[1]
            most = 1 if self._is_blind else min(_BATCH, 1 + (self.total - self.seen) // 8)
            if batch and (paced_s >= BATCH_S / 2 or len(batch) >= most):
                break
            if not batch and self.large:
                break
        if self.previous is not None:
            self.previous.commit()
        return tuple(batch)

    def _from_all(self, walk: Iterator[list[Stale]]) -> Iterator[list[tuple[Item, float]]]:
        """What is to be done next, and the seconds it should take; image by image."""
        while True:
            if self.headed:
                item, spec = self.headed.popleft()
                yield self._all_sized([replace(item, sized=True)], spec)
            elif (group := self.again.popleft() if self.again else next(walk, None)) is not None:
                yield self._items(group)
            else:
                return

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
        if (file := items[0].source.local) is None:
            # An object is fetched once, by the worker that restores it, which then knows its size.
            return [(replace(item, sized=False), guess_s(item.settings, item.size)) for item in items]
        spec = self._spec(items, file)
        return self._all_sized(items, spec) if spec else []

    def _all_sized(self, items: Sequence[Restore], spec: ImageSpec) -> list[tuple[Item, float]]:
        return [found for item in items if (found := self._sized(item, spec))]

    @property
    def _is_blind(self) -> bool:
        """Whether a deadline is to be kept, and nothing has told yet how slow this machine is."""
        return self.brake.until is not None and self.pace == (1.0, 1.0)

    def _has_time(self, seconds: float) -> bool:
        """Whether work that should take so many seconds ends in time, behind what is under way."""
        if self.brake.until is None:
            return True
        before_s = sum(self.estimated.values()) / self.slots
        return self.brake.has_time((before_s + seconds) * self.pace[0] / self.pace[1])

    def _restore(self, stale: Stale) -> Restore:
        seen, wanted = stale.source, stale.wanted
        known = self.planned.ledger.record(seen.path, wanted.rendition.name) if self._replaces(stale) else None
        return Restore(
            seen.path,
            spot_of(seen.uri) if seen.uri else Spot(self.source, seen.path),
            self.common.target.name(wanted.rendition, seen.path, wanted.settings.preset.output.format),
            seen.size,
            seen.mtime_ns,
            wanted.settings,
            wanted.rendition.name,
            wanted.key,
            seen.etag,
            known.output_etag if known else "",
        )

    def _replaces(self, stale: Stale) -> bool:
        """Whether a result goes to a bucket where an earlier run may have stored one."""
        return self.common.target.folder is None and stale.why != "new"

    def _spec(self, items: Sequence[Restore], path: Path) -> ImageSpec | None:
        """The header of an image. None, and told, where it cannot be read."""
        for again in (True, False):
            try:
                return self.decoder.spec(path)
            except RefineError as error:
                failure = Failure("read", _reason(error, items[0]), kind=kind_of(error))
                # What ended a decoder is read once more, by a new one, which has nothing beside it.
                if again and failure.kind in _GRAVE:
                    continue
                for item in items:
                    self._complain(item, failure)
                break
        return None

    def _sized(self, item: Restore, spec: ImageSpec) -> tuple[Restore, float] | None:
        """An image with the name of its result, and the seconds it will take in a batch.

        None where it is large, or has failed here already.
        """
        try:
            plan = item.settings.plan(spec)
            allowed_mem = item.settings.preset.plan.allowed_mem
            file_format = self.common.target.format or output_format(plan, item.settings)
            check_fits(plan.result, file_format)
            item = self._named(item, file_format, kept=file_format == spec.format)
            if is_small(plan, allowed_mem, BATCH_S):
                return item, cost_s(plan)
            check_ingest(plan, allowed_mem)
            check_stitch(plan, file_format, allowed_mem)
        except RefineError as error:
            self._complain(item, Failure("plan", _reason(error, item)))
            return None
        if self._has_time(cost_s(plan) / self.slots):
            self.large.add(item, plan)
        return None

    def _named(self, item: Restore, file_format: str, *, kept: bool) -> Restore:
        """The image with the name of its result. Raises JobError where that is another image's already."""
        if self.common.target.format or item.settings.preset.output.format != "source" or kept:
            return item
        name = output_name(item.path, file_format)
        if (owner := self.planned.owner(item.path, item.rendition, name)) != item.path:
            raise JobError(f"its result would be {name}, as is that of {owner}; rename one of them")
        output = f"{item.rendition}/{name}" if item.rendition else name
        if self.planned.is_foreign(output):
            raise JobError(f"its result would be {output}, a file that no run has made; move that away, or --overwrite")
        return replace(item, output=output)

    def settle(self, outcomes: tuple[Outcome[Item, Answer], ...]) -> None:
        """Commit what was done. Raises RunError where nothing more can be written."""
        self.out -= len(outcomes)
        records = [record for outcome in outcomes for record in self._records(outcome)]
        self.planned.ledger.commit(records)
        for outcome in outcomes:
            if isinstance(outcome.result, Failure) and outcome.result.stops_run:
                raise RunError(f"TARGET cannot be written: {outcome.result.reason}; see to it, and start again")
        self.brake.look()

    def _records(self, outcome: Outcome[Item, Answer]) -> list[Record]:
        """The records that an outcome gives; those of large images are committed on the way."""
        item, result = outcome.item, outcome.result
        self.lost += outcome.attempts > 1
        final = result is None  # the window of futures has had it run with nothing beside it already
        if result is None:
            reason = f"its worker died, {outcome.attempts} times, the last time with no other work beside it"
            result = Failure("restore", reason, kind="poison")
        if isinstance(item, Restore):
            return self._small(item, result, outcome.attempts, final=final)
        if isinstance(item, Look):
            group = self.looked.pop(item.image.path)
            if isinstance(result, Failure):
                return [self._complaint(image, result, outcome.attempts) for image in item.images]
            return self._recognised(group, result.source_sha256)
        if isinstance(result, Failure):
            self._fail_large(item, result, outcome.attempts, final=final)
        else:
            self._follow(self.large.took(item, result), item, result)
        return []

    def _small(self, item: Restore, result: Answer, attempts: int, *, final: bool) -> list[Record]:
        """The record of an image that was one task; none where it turned out to be more, or is tried again."""
        should_s = self.estimated.pop((item.path, item.rendition), 0.0)
        if isinstance(result, Receipt):
            if result.header is not None:
                self.headed.append((item, result.header))
                return []
            self.pace = self.pace[0] + result.seconds, self.pace[1] + should_s
            return [self._praise(item, result, result.seconds, attempts)]
        chance = None if final else self.chances.another(item, result, attempts)
        if chance is None:
            return [self._complaint(item, result, attempts)]
        logger.info("%s: %s; tried again %s", named(item.path, item.rendition), result.reason, chance.how)
        self.chances.waiting.append(chance)
        return []

    def _fail_large(self, item: Item, failure: Failure, attempts: int, *, final: bool) -> None:
        """Have an image of many tasks begun anew, or told."""
        image = self.large.failed(item, failure)
        if image is None:
            return
        chance = None if final else self.chances.another(image.item, failure, attempts)
        if chance is None:
            self._complain(image.item, failure)
        self.large.settle(image)
        if chance is not None:
            logger.info(
                "%s: %s; begun anew %s", named(image.item.path, image.item.rendition), failure.reason, chance.how
            )
            self.large.add(chance.item, chance.item.settings.plan(image.plan.source))

    def _recognised(self, group: list[Stale], source_sha256: str) -> list[Record]:
        """Records of touched images that are what they were, with the new time; the others are to be made."""
        made, kept = [], []
        for stale in group:
            record = self.planned.standing(stale, source_sha256, redo=self.redo)
            if record is None:
                made.append(stale)
                continue
            kept.append(record)
            self.settled += 1
            self.summary.unchanged += 1
            self.shown.passed()
        if made:
            # They have been looked at: what they are now is what is made.
            self.again.append([replace(stale, why="changed") for stale in made])
        return kept

    def _follow(self, image: LargeImage | None, item: Item, receipt: Receipt) -> None:
        if image is None:
            px = receipt.output_px if isinstance(item, Shard) else 0
            self.shown.worked(px=px, note=self.large.note)
            return
        self.planned.ledger.commit([self._praise(image.item, receipt, image.seconds, 1, px_shown=0)])
        self.large.settle(image)

    def _praise(
        self, item: Restore, receipt: Receipt, seconds: float, attempts: int, px_shown: int | None = None
    ) -> Record:
        # A block that was made smaller for want of memory is of this machine's kind, too.
        if receipt.execution_class.rpartition("/")[0] != self.behaviour.rpartition("/")[0]:
            raise RunError(f"a worker of another kind has joined: {receipt.execution_class}; use workers of one kind")
        self.summary.done += 1
        self.drawn.take(os.fsencode(item.path), item.path)
        self.summary.output_px += receipt.output_px
        logger.info("%s: done in %.1f s", named(item.path, item.rendition), seconds)
        notes = (*receipt.notes, *note(item))
        self.settled += 1
        self.summary.remark(item.path, notes)
        if receipt.flag:
            self.summary.flagged.append({"path": item.path, "reason": receipt.flag})
        self.summary.decided(receipt.need.decision if receipt.need else "")
        self.shown.worked(images=1, px=receipt.output_px if px_shown is None else px_shown, note=self.large.note)
        return done_record(item, receipt, self._uri(item), seconds, attempts, notes)

    def _uri(self, item: Restore) -> str:
        """Where an image lies; empty for its name below the root."""
        return "" if item.source == Spot(self.source, item.path) else item.source.url

    def _complain(self, item: Restore, failure: Failure) -> None:
        self.planned.ledger.commit([self._complaint(item, failure)])

    def _complaint(self, item: Restore, failure: Failure, attempts: int = 1) -> Record:
        state: State = "quarantined" if failure.kind in _GRAVE else "failed"
        self.settled += 1
        complaint = Complaint(item.path, failure.stage, failure.reason, item.rendition, failure.kind)
        (self.summary.quarantined if state == "quarantined" else self.summary.failed).append(complaint)
        self.shown.worked(images=1, note=self.large.note)
        tries = max(attempts, failure.tries, self.chances.attempts(item))
        return failed_record(item, failure, state, self._uri(item), tries)


def _reason(error: RefineError, item: Restore) -> str:
    return reason_of(error, item.source.path.rpartition("/")[2])
