# mypy: allow-untyped-calls
# distributed annotates half of what it has.
"""The window of futures: batches in, outcomes out, and what to do when a worker dies.

Every run of every job goes through `streamed`. Nothing here knows what a batch is about.
"""

from __future__ import annotations

import logging
import pickle
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from distributed import Client, Future, KilledWorker

from pipelines.errors import RunError

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

_TICK_S = 1.0
"""Seconds without an outcome after which the cluster is looked at."""
_GATHER_S = 30.0
"""Seconds in which a small result must come over; after that its worker is taken for lost, and it is waited for."""


_PICKLE = 5
"""The protocol of batches and what comes back: every Python that this runs on has it."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Item, Result]):
    """What became of one item."""

    item: Item
    """As it was given."""
    result: Result | None
    """What the work returned; None where the item was lost with its worker every time."""
    attempts: int = 1
    """How often it was sent out."""


class Alone(tuple[Item, ...]):
    """A batch that is run with nothing beside it."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class _Sent(Generic[Item]):
    items: tuple[Item, ...]
    attempts: int = 1
    alone: bool = False
    """Run with nothing beside it."""
    losses: int = 0
    """How often it was lost like that."""


def streamed(
    client: Client,
    batches: Iterator[tuple[Item, ...] | None],
    work: Callable[[tuple[Item, ...]], tuple[Result, ...]],
    *,
    window: int = 3,
    attempts: int = 2,
    patience_s: float = 60.0,
    stall_s: float = 600.0,
) -> Iterator[tuple[Outcome[Item, Result], ...]]:
    """Outcomes of batches, as they finish, at most `window` batches a worker thread in flight.

    `batches` may yield None for "nothing now, ask again after the next outcome", and Alone. `work` returns one result
    per item and may run twice, so what it does must bear repeating. A batch is released only when the next outcomes are
    asked for: commit what was yielded before that.

    A batch whose worker dies is split and its items run one by one. An item that is lost again is run with nothing
    beside it; lost `attempts` times like that, it comes back without a result. Raises RunError where the scheduler
    is gone, where there is no worker for patience_s, where no batch ends for stall_s, and where the work itself raises.
    """
    flight = _Flight(client, work, batches, window, attempts, patience_s, stall_s)
    try:
        while flight.filled():
            future = flight.ended_one()
            if outcomes := flight.outcomes(future):
                yield outcomes
            del flight.running[future]
            future.release()
    finally:
        flight.cancel()


@dataclass(slots=True)
class _Flight(Generic[Item, Result]):
    """What is in the air, and what waits to go up again."""

    client: Client
    work: Callable[[tuple[Item, ...]], tuple[Result, ...]]
    batches: Iterator[tuple[Item, ...] | None]
    window: int
    attempts: int
    patience_s: float
    stall_s: float
    running: dict[Future[Any], _Sent[Item]] = field(default_factory=dict)
    ended: SimpleQueue[Future[Any]] = field(default_factory=SimpleQueue)
    again: deque[_Sent[Item]] = field(default_factory=deque)
    suspects: deque[_Sent[Item]] = field(default_factory=deque)
    exhausted: bool = False
    slots: int = 0
    looked: float = float("-inf")
    manned: float = field(default_factory=time.monotonic)
    """When there was a worker last."""
    moved: float = field(default_factory=time.monotonic)
    """When a batch ended last."""

    def filled(self) -> bool:
        """Send out what there is room for. False where all is done."""
        self._look(every_s=5 * _TICK_S)
        while len(self.running) < self.window * max(1, self.slots):
            sent = self._next()
            if sent is None:
                break
            self._send(sent)
            if sent.alone:
                break
        assert self.running or self.exhausted, "the feed says to wait, but nothing is on its way"
        return bool(self.running)

    def _send(self, sent: _Sent[Item]) -> None:
        future = self.client.submit(_sealed, self.work, pickle.dumps(sent.items, _PICKLE), pure=False, retries=0)
        self.running[future] = sent
        future.add_done_callback(self.ended.put)

    def _next(self) -> _Sent[Item] | None:
        if self.suspects:
            # Alone: who dies now has nobody else to blame, and harms nobody else.
            return None if self.running else self.suspects.popleft()
        if any(sent.alone for sent in self.running.values()):
            return None
        if self.again:
            return self.again.popleft()
        if self.exhausted:
            return None
        return self._asked()

    def _asked(self) -> _Sent[Item] | None:
        """What the feed hands out."""
        try:
            items = next(self.batches)
        except StopIteration:
            self.exhausted = True
            return None
        if isinstance(items, Alone):
            self.suspects.append(_Sent(tuple(items), alone=True))
            return self._next()
        return None if items is None else _Sent(items)

    def ended_one(self) -> Future[Any]:
        """The next future to end. Raises RunError where none ever can."""
        while True:
            try:
                future = self.ended.get(timeout=_TICK_S)
            except Empty:
                self._look(every_s=_TICK_S)
                self._check_moving()
            else:
                self.moved = time.monotonic()
                return future

    def outcomes(self, future: Future[Any]) -> tuple[Outcome[Item, Result], ...]:
        """What a future that has ended says; nothing where its items go out again."""
        sent = self.running[future]
        if future.status == "finished":
            return self._gathered(future, sent)
        if future.status == "error":
            error = future.exception()
            if isinstance(error, KilledWorker):
                return self._lost(sent)
            msg = f"the workers cannot do this work: {type(error).__name__}: {error}; nothing that is done is lost"
            raise RunError(msg) from error
        self._check_scheduler()
        return self._lost(sent)

    def _gathered(self, future: Future[Any], sent: _Sent[Item]) -> tuple[Outcome[Item, Result], ...]:
        try:
            results = pickle.loads(future.result(timeout=_GATHER_S))  # noqa: S301  dask pickles too
        except TimeoutError:
            # Its worker died with the result: the scheduler has it done again, which takes as long as it takes.
            self._send(sent)
            return ()
        except KilledWorker:
            return self._lost(sent)
        except (OSError, CancelledError) as error:
            # A result comes through the scheduler, which may die between a batch's end and its handing over.
            raise _gone() from error
        assert len(results) == len(sent.items)
        return tuple(Outcome(i, r, sent.attempts) for i, r in zip(sent.items, results, strict=True))

    def _lost(self, sent: _Sent[Item]) -> tuple[Outcome[Item, Result], ...]:
        attempts = sent.attempts + 1
        if len(sent.items) > 1:
            logger.info("a worker died; its %d items are run one by one", len(sent.items))
            self.again.extend(_Sent((item,), attempts) for item in sent.items)
            return ()
        losses = sent.losses + sent.alone
        if losses < self.attempts:
            self.suspects.append(_Sent(sent.items, attempts, alone=True, losses=losses))
            return ()
        return (Outcome(sent.items[0], None, sent.attempts),)

    def _look(self, every_s: float) -> None:
        now = time.monotonic()
        if now - self.looked < every_s:
            return
        self._check_scheduler()
        try:
            self.slots = sum(self.client.nthreads().values())
        except (OSError, TimeoutError) as error:
            raise _gone() from error
        self.looked = now
        if self.slots:
            self.manned = now
        elif now - self.manned > self.patience_s:
            msg = f"no worker for {self.patience_s:g} s; what is done is kept: see why they end, and start it again"
            raise RunError(msg)

    def _check_moving(self) -> None:
        if time.monotonic() - self.moved > self.stall_s:
            out = min(len(self.running), self.slots)
            msg = f"no progress for {self.stall_s:g} s: {out} tasks hang; what is done is kept: see the workers' log"
            raise RunError(msg)

    def _check_scheduler(self) -> None:
        if self.client.status != "running":
            raise _gone()

    def cancel(self) -> None:
        """Take back what is still out."""
        if self.running and self.client.status == "running":
            self.client.cancel(list(self.running), force=True)
        self.running.clear()


def _sealed(work: Callable[[Any], Any], items: bytes) -> bytes:
    # dask walks through tuples and sends each item as a message of its own, which cost it three times the rest.
    return pickle.dumps(work(pickle.loads(items)), _PICKLE)  # noqa: S301  as dask would


def _gone() -> RunError:
    return RunError("the scheduler is gone; what is done is kept: start the same command again")
