"""Who is at work on a bucket: an object that one run holds, renews while it lives, and takes away when it ends.

How old a sign of life is, is told by the store's own clock: those of two machines need not agree.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from pipelines.bucket import Bucket
from pipelines.errors import JobError, RunError, StoreError
from pipelines.place import ConflictError, Found

logger = logging.getLogger(__name__)

LOCK = ".refine/lock.json"
"""The object, below TARGET."""
EXPIRY_S = 300.0
"""After so long without a sign of life a run counts as dead."""
RENEWAL_S = 60.0
"""Between two signs of life."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a bucket."""

    host: str
    """Name of the machine."""
    pid: int
    """Of the process."""
    user: str
    """Who started it."""
    since: str
    """When, UTC."""
    process: str
    """The process among all that have its number; empty where that cannot be told."""
    token: str = ""
    """Drawn by the run: no two locks have the same bytes, which would be taken for one."""
    sign: int = 0
    """How many signs of life it has given."""

    @property
    def told(self) -> str:
        """For a user.

        >>> Holder("box", 12, "ann", "2026-01-02T03:04:05Z", "").told
        'pid 12 of ann on box, since 2026-01-02T03:04:05Z'
        """
        return f"pid {self.pid} of {self.user} on {self.host}, since {self.since}"


class Lease:
    """A bucket that is held by this process. Use `held`."""

    def __init__(self, bucket: Bucket, holder: Holder, found: Found) -> None:
        self._bucket, self._holder, self._found = bucket, holder, found
        self._ended = threading.Event()
        self._lost = ""
        self._thread = threading.Thread(target=self._live, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise RunError where another run has taken over: nothing more may be written."""
        if self._lost:
            raise RunError(f"{self._bucket.url}: {self._lost}; this run ends, what it finished is kept")

    def release(self) -> None:
        """Give no more signs of life, and let others in."""
        self._ended.set()
        self._thread.join()
        if not self._lost:
            try:
                self._bucket.remove(LOCK)
            except StoreError as error:
                logger.warning("%s could not be removed (%s); it expires", LOCK, error)

    def _live(self) -> None:
        seen = time.monotonic()
        while not self._ended.wait(RENEWAL_S):
            try:
                self.renew()
                seen = time.monotonic()
            except ConflictError:
                self._lost = "another run has taken over, for this one gave no sign of life"
            except StoreError as error:
                logger.warning("no sign of life could be given: %s", error)
                if time.monotonic() - seen > EXPIRY_S:
                    self._lost = "no sign of life could be given for too long"
            if self._lost:
                return

    def renew(self) -> None:
        """Give a sign of life. Raises ConflictError where another run has taken over."""
        values = asdict(self._holder)
        values["sign"] += 1
        self._holder = Holder(**values)
        self._found = self._bucket.publish(LOCK, _packed(self._holder), replacing=self._found.etag)


@contextmanager
def held(bucket: Bucket) -> Iterator[Lease]:
    """Hold a bucket. Raises JobError, saying who holds it, while another run does."""
    holder = _here()
    try:
        found = bucket.publish(LOCK, _packed(holder))
    except ConflictError as error:
        if error.found is None:  # its holder has just let go
            found = bucket.publish(LOCK, _packed(holder))
        else:
            _check_dead(bucket)
            found = _taken_over(bucket, holder, error.found)
    lease = Lease(bucket, holder, found)
    try:
        bucket.check_conditions(LOCK)
        yield lease
    finally:
        lease.release()


def _check_dead(bucket: Bucket) -> None:
    """Raise JobError unless the run that holds a bucket is dead."""
    try:
        values = json.loads(bucket.read(LOCK))
        other = Holder(**{f.name: values[f.name] for f in fields(Holder)})
    except (StoreError, ValueError, KeyError, TypeError) as error:
        logger.debug("the lock cannot be read", exc_info=error)
        other = Holder("an unknown machine", 0, "somebody", "an unknown time", "")
    if _is_dead(other):
        return
    age_s = bucket.age_s(LOCK)
    if age_s is not None and age_s < EXPIRY_S:
        raise JobError(
            f"{bucket.url}: another run is at work here ({other.told}, last sign of life {age_s:.0f} s ago); wait for "
            f"it, or end it; one that was killed elsewhere counts as dead {EXPIRY_S:.0f} s after its last sign"
        )
    logger.warning("%s: the run of %s counts as dead, this one takes over", bucket.url, other.told)


def _taken_over(bucket: Bucket, holder: Holder, found: Found) -> Found:
    try:
        return bucket.publish(LOCK, _packed(holder), replacing=found.etag)
    except ConflictError as error:
        raise JobError(f"{bucket.url}: another run has just begun here; wait for it, or end it") from error


def _here() -> Holder:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = f"user {os.getuid()}"
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Holder(socket.gethostname(), os.getpid(), user, now, _process(os.getpid()), os.urandom(8).hex())


def _is_dead(other: Holder) -> bool:
    """Whether a process of this machine is known to have ended."""
    if not other.process or other.host != socket.gethostname():
        return False
    mine, theirs = _process(os.getpid()).rpartition(":")[0], other.process.rpartition(":")[0]
    return mine == theirs and _process(other.pid) != other.process


def _process(pid: int) -> str:
    """What tells a process from all others, earlier ones of its number too: boot, namespace of numbers, start.

    Empty where the machine does not say.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = Path("/proc/self/ns/pid").readlink()
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # The name in brackets may hold spaces; the 22nd field is the start, in ticks since boot.
    return f"{boot}/{space}:{stat.rpartition(')')[2].split()[19]}"


def _packed(holder: Holder) -> bytes:
    return json.dumps(asdict(holder), indent=1).encode()
