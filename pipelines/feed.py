"""The work of a catalog's run: what is handed out next, in tasks of even length, and what becomes of what was done."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import isqrt
from pathlib import Path

from pipelines import tasks
from pipelines.assessing import Need
from pipelines.draw import Draw
from pipelines.errors import JobError, RunError
from pipelines.estimate import BATCH_S, check_ingest, check_stitch, cost_s, is_small
from pipelines.large import LargeImage, LargeImages
from pipelines.naming import output_name
from pipelines.output import output_format
from pipelines.place import Place, Spot, spot_of
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
from refine.settings import Settings
from refine.spec import ImageSpec

logger = logging.getLogger(__name__)

_BATCH = 128
"""Images in one task at most: beyond that the scheduler's share does not shrink."""
_LOOK_S, _LOOK_BYTE_S = 0.001, 1 / 400e6
"""Seconds that reading a file for its digest takes, and a byte of it."""

_GUESSED_NBYTES, _BYTE_PX = 4096, 0.35
"""Bytes by which sizes of objects are told apart; bytes of a photograph's file by its px."""

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
    unsized: int = 0
    """Images of a bucket that are out, and may come back with a header."""
    headed: deque[tuple[Restore, ImageSpec]] = field(default_factory=deque)
    """Images of a bucket whose header is known now, for they need more than one task, or another name."""

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
            elif self.large or self.looked or self.unsized:
                yield None
            elif not (self.again or self.headed):
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
        for items in self._from_all(walk):
            for item, cost in items:
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
            self.unsized += len(items)
            return [(replace(item, sized=False), _guess_s(item)) for item in items]
        spec = self._spec(items, file)
        return self._all_sized(items, spec) if spec else []

    def _all_sized(self, items: Sequence[Restore], spec: ImageSpec) -> list[tuple[Item, float]]:
        sized = [found for item in items if (found := self._sized(item, spec))]
        self.estimated |= {(item.path, item.rendition): cost for item, cost in sized}
        return [(item, cost * self.pace[0] / self.pace[1]) for item, cost in sized]

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
        try:
            return self.decoder.spec(path)
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
            file_format = self.common.target.format or output_format(plan, item.settings)
            check_fits(plan.result, file_format)
            item = self._named(item, file_format, kept=file_format == spec.format)
            if is_small(plan, allowed_mem, BATCH_S):
                return item, cost_s(plan)
            check_ingest(plan, allowed_mem)
            check_stitch(plan, file_format, allowed_mem)
        except RefineError as error:
            self._complain(item, Failure("plan", _reason(error, item)), "failed")
            return None
        self.large.add(item, plan)
        return None

    def _named(self, item: Restore, file_format: str, *, kept: bool) -> Restore:
        """The image with the name of its result. Raises JobError where that is another image's already."""
        if self.common.target.format or item.settings.preset.output.format != "source" or kept:
            return item
        name = output_name(item.path, file_format)
        if (owner := self.planned.owner(item.path, item.rendition, name)) != item.path:
            raise JobError(f"its result would be {name}, as is that of {owner}; rename one of them")
        return replace(item, output=f"{item.rendition}/{name}" if item.rendition else name)

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
        self.unsized -= isinstance(item, Restore) and not item.sized
        state: State = "quarantined" if result is None else "failed"
        if result is None:
            reason = f"its worker died, {outcome.attempts} times, the last time with no other work beside it"
            result = Failure("restore", reason)
        if isinstance(item, Restore):
            return self._small(item, result, state, outcome.attempts)
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

    def _small(self, item: Restore, result: Answer, state: State, attempts: int) -> list[Record]:
        """The record of an image that was one task; none where it turned out to be more."""
        if isinstance(result, Failure):
            return [self._complaint(item, result, state, attempts)]
        if result.header is not None:
            self.headed.append((item, result.header))
            return []
        self._keep_pace(item, result.seconds)
        return [self._praise(item, result, result.seconds, attempts)]

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
            output=item.output,
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
            output_etag=receipt.output_etag,
            uri=self._uri(item),
        )

    def _uri(self, item: Restore) -> str:
        """Where an image lies; empty for its name below the root."""
        return "" if item.source == Spot(self.source, item.path) else item.source.url

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
    return str(error).splitlines()[0].removeprefix(f"{item.source.path.rpartition('/')[2]}: ")


def _guess_s(item: Restore) -> float:
    """Seconds that an image of so many bytes should take, whose header is not known yet."""
    return _guessed_s(item.settings, 1 << (item.size // _GUESSED_NBYTES + 1).bit_length())


@lru_cache(maxsize=256)
def _guessed_s(settings: Settings, nbytes: int) -> float:
    side = max(1, isqrt(int(nbytes * _GUESSED_NBYTES / _BYTE_PX)))
    try:
        return cost_s(settings.plan(ImageSpec(side, side, 3, "uint8")))
    except RefineError:
        return BATCH_S
