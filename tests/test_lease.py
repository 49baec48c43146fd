"""One run at a time on a bucket: who holds it is told, and the dead are told from the living."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pipelines import lease
from pipelines.bucket import Bucket
from pipelines.errors import JobError, RunError
from pipelines.place import ConflictError


def test_second_run_is_told_who_holds(shop):
    """While one run is at work another is refused, and told by whom; when it has ended, not."""
    bucket = Bucket(shop.name, "out")
    with lease.held(bucket) as first:
        told = json.loads(shop.get("out/.refine/lock.json"))
        who = rf"pid {told['pid']} of {told['user']} on {told['host']}, since"
        with pytest.raises(JobError, match=who), lease.held(bucket):
            pytest.fail("held twice")
        first.check()
    with lease.held(bucket):
        pass
    assert shop.keys() == []


def test_killed_run_of_this_machine_is_dead_at_once(shop):
    """The lock of a process that has ended without a word stops nobody on its own machine."""
    code = (
        "import os, sys; from pipelines import lease; from pipelines.bucket import Bucket\n"
        "with lease.held(Bucket(sys.argv[1])): os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, shop.name], check=False).returncode == 9
    assert shop.keys() == [".refine/lock.json"]
    with lease.held(Bucket(shop.name)) as taken:
        taken.check()


def test_run_of_another_machine_expires(shop, monkeypatch):
    """A lock of elsewhere holds until it is too old by the store's clock, and then one run takes it."""
    bucket = Bucket(shop.name)
    with lease.held(bucket) as first:
        values = json.loads(shop.get(lease.LOCK))
        first.renew()
        assert json.loads(shop.get(lease.LOCK)) == values | {"sign": 1}
        monkeypatch.setattr(lease, "EXPIRY_S", -1.0)
        with lease.held(bucket) as second:
            second.check()
            with pytest.raises(ConflictError):
                first.renew()
        first._lost = "another run has taken over"
        with pytest.raises(RunError, match="another run has taken over"):
            first.check()


def test_thread_notices_the_loss(shop, monkeypatch):
    """A run that was taken over learns it by its next sign of life."""
    monkeypatch.setattr(lease, "RENEWAL_S", 0.01)
    with lease.held(Bucket(shop.name)) as held:
        shop.put(lease.LOCK, b"{}")
        held._thread.join()
        with pytest.raises(RunError, match="gave no sign of life"):
            held.check()
    assert shop.get(lease.LOCK) == b"{}"


def test_lock_that_cannot_be_read_holds(shop):
    """An object at the lock's place that is none is respected, until it expires."""
    shop.put(lease.LOCK, b"what is this")
    with pytest.raises(JobError, match="an unknown machine"), lease.held(Bucket(shop.name)):
        pytest.fail("held")


@pytest.mark.parametrize("header", ["If-None-Match", "If-Match"])
def test_store_that_heeds_no_condition_is_refused(shop, header):
    """A store that stores in spite of a condition is noticed before any work, and no lock is left in it."""
    with shop.failing(0.0) as proxy:
        proxy.deaf = (header.lower().encode() + b":",)
        with pytest.raises(JobError, match=f"does not heed {header}:"), lease.held(Bucket(shop.name)):
            pytest.fail("held what cannot be held")
    assert shop.keys() == []
