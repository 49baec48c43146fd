"""The window of futures: everything comes back once, whatever dies."""

from __future__ import annotations

import os
import pickle
import signal
from dataclasses import fields
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
from distributed import LocalCluster
from distributed.client import FutureCancelledError
from distributed.comm import CommClosedError

from pipelines.assessing import Need
from pipelines.cluster import Cluster, connected
from pipelines.errors import RunError
from pipelines.items import Receipt, Restore
from pipelines.place import Folder, Spot
from pipelines.run import Alone, streamed
from refine.settings import Settings


def doubled(items):
    """Work that only works."""
    return tuple(item * 2 for item in items)


def deadly(items, poison, folder, times=10**9):
    """Work that kills its process at a poisonous item, as often as `times` says; notes every start of an item."""
    for item in items:
        started = Path(folder, f"{item}")
        with started.open("a", encoding="ascii") as file:
            file.write("x")
        if item in poison and len(started.read_text(encoding="ascii")) <= times:
            os.kill(os.getpid(), signal.SIGKILL)
    return tuple(items)


def raising(items):
    """Work that no worker can do."""
    raise LookupError("no such thing")


def _batches(count, size):
    numbers = range(count)
    return iter([tuple(numbers[start : start + size]) for start in range(0, count, size)])


def _by_item(outcomes):
    flat = [outcome for batch in outcomes for outcome in batch]
    assert len({outcome.item for outcome in flat}) == len(flat), "an item came back twice"
    return {outcome.item: outcome for outcome in flat}


def test_streamed_gives_every_item_once(client):
    """Each item comes back with its own result, tried once."""
    found = _by_item(streamed(client, _batches(50, 7), doubled))
    assert {item: outcome.result for item, outcome in found.items()} == {n: 2 * n for n in range(50)}
    assert {outcome.attempts for outcome in found.values()} == {1}


def test_streamed_keeps_to_its_window(client):
    """No more batches are taken than the window holds, and each outcome lets in one more."""
    taken = 0

    def counted():
        nonlocal taken
        for batch in _batches(40, 1):
            taken += 1
            yield batch

    for seen, _ in enumerate(streamed(client, counted(), doubled, window=2), 1):
        assert taken <= seen - 1 + 2 * 2


def test_streamed_waits_for_a_feed_that_has_nothing_yet(client):
    """None means: ask again after the next outcome. A feed may hand out work that outcomes have made."""
    follow_up = []

    def feed():
        yield (1,)
        while not follow_up:
            yield None
        yield tuple(follow_up)

    for outcomes in streamed(client, feed(), doubled):
        if not follow_up:
            follow_up.append(outcomes[0].result)
            continue
        assert [outcome.result for outcome in outcomes] == [4]


def test_items_travel_by_their_fields():
    """What travels by the thousand comes back equal, and costs a word for each field rather than its name."""
    need = Need("both", {"sharpen.amount": 0.5}, {"noise": None})
    item = Restore("a.png", Spot(Folder(Path("shop")), "a.png"), "a.png", 5, 7, Settings(), "page", "ab", sized=False)
    for thing in (need, item, item.source, Receipt("a" * 64, 5, need=need, notes=("one",))):
        assert pickle.loads(pickle.dumps(thing)) == thing  # noqa: S301
    assert item.__reduce__() == (Restore, tuple(getattr(item, field.name) for field in fields(item)))


class _Counted:
    """A client whose work is done at once, and that knows what is out when something is sent."""

    status = "running"

    def __init__(self):
        self.out = 0
        self.beside = {}

    def nthreads(self):
        return {"a": 2}

    def submit(self, sealed, work, items, **_):
        self.beside[pickle.loads(items)] = self.out  # noqa: S301
        self.out += 1
        future = Mock(status="finished", result=lambda **_: sealed(work, items), release=self._released)
        future.add_done_callback = lambda call: call(future)
        return future

    def _released(self):
        self.out -= 1


def test_streamed_runs_one_alone():
    """A batch that is to be alone is sent when nothing else is out, and nothing is sent beside it."""
    client = _Counted()
    batches = [Alone((99,)) if number == 20 else (number,) for number in range(40)]
    found = _by_item(streamed(client, iter(batches), doubled))
    assert set(found) == {*range(20), *range(21, 40), 99}
    assert client.beside[(99,)] == 0
    assert client.beside[(21,)] == 0, "the first one after it"
    assert max(client.beside.values()) == 3 * 2 - 1


def test_streamed_survives_the_death_of_a_worker(client, tmp_path):
    """Where a worker is killed once under a batch, every item still comes back, and only that batch is run again."""
    work = partial(deadly, poison={5}, folder=str(tmp_path), times=1)
    found = _by_item(streamed(client, _batches(24, 4), work))
    assert {item: outcome.result for item, outcome in found.items()} == {n: n for n in range(24)}
    again = {int(path.name) for path in tmp_path.iterdir() if len(path.read_text(encoding="ascii")) > 1}
    assert again <= {4, 5, 6, 7}


@pytest.mark.chaos
@pytest.mark.slow
def test_streamed_quarantines_exactly_the_poison(client, tmp_path):
    """An item that kills its worker every time comes back without a result; all others come back with theirs."""
    poison = {3, 9}
    found = _by_item(streamed(client, _batches(16, 4), partial(deadly, poison=poison, folder=str(tmp_path))))
    assert {item for item, outcome in found.items() if outcome.result is None} == poison
    assert set(found) == set(range(16))
    # In its batch, where that was not lost before it began; once by itself; twice with nothing beside it.
    assert {len((tmp_path / str(item)).read_text(encoding="ascii")) for item in poison} <= {3, 4}


def test_streamed_stops_where_the_work_itself_raises(client):
    """An error of the work is no image's fault: the run stops and says what it was."""
    with pytest.raises(RunError, match="LookupError: no such thing"):
        list(streamed(client, _batches(3, 1), raising))


def test_streamed_stops_without_workers():
    """Where no worker is left and none comes, the run ends with a reason instead of waiting for ever."""
    with (
        LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as empty,
        connected(Cluster(address=empty.scheduler_address)) as client,
        pytest.raises(RunError, match="no worker for 0 s"),
    ):
        list(streamed(client, _batches(3, 1), doubled, patience_s=0.0))


def test_streamed_stops_without_its_scheduler():
    """Where the scheduler goes away, the run ends at once and says that it can be started again."""
    with (
        LocalCluster(n_workers=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as short_lived,
        connected(Cluster(address=short_lived.scheduler_address)) as client,
    ):
        outcomes = streamed(client, _batches(10**6, 1), doubled)
        next(outcomes)
        short_lived.close()
        with pytest.raises(RunError, match="scheduler is gone"):
            list(outcomes)


@pytest.mark.parametrize("error", [CommClosedError("reset by peer"), FutureCancelledError("key", "lost")])
def test_streamed_stops_where_a_result_is_lost_with_its_scheduler(error):
    """A scheduler that dies between the end of a batch and its handing over is told as any dead scheduler is."""
    done = Mock(status="finished", result=Mock(side_effect=error))
    done.add_done_callback = lambda call: call(done)
    client = Mock(status="running", nthreads=lambda: {"a": 1}, submit=lambda *_, **__: done)
    with pytest.raises(RunError, match="the scheduler is gone"):
        list(streamed(client, iter([(1,)]), str))


def test_streamed_cancels_what_is_out_when_it_is_left(client):
    """A run that is left in the middle leaves nothing behind on the scheduler."""
    outcomes = streamed(client, _batches(100, 1), doubled)
    next(outcomes)
    outcomes.close()
    assert not client.futures


def waiting(items, gate):
    """Work that hangs until somebody writes to a pipe."""
    Path(gate).read_bytes()
    return tuple(items)


def test_streamed_ends_where_nothing_moves(client, tmp_path):
    """Work that hangs ends the run with the reason, and is not waited for for ever."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with pytest.raises(RunError, match=r"no progress for 0\.5 s: 1 tasks hang"):
        list(streamed(client, _batches(1, 1), partial(waiting, gate=gate), stall_s=0.5))
    # The hanging process goes on; one that has not come to the pipe yet finds a file in its place.
    descriptor = os.open(gate, os.O_RDWR)
    os.write(descriptor, b"x")
    (tmp_path / "open").write_bytes(b"x")
    (tmp_path / "open").replace(gate)
    os.close(descriptor)
