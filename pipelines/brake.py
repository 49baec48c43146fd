"""What stops a run before its work is done, so that it ends in order: the time, too many failures, a full disk."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from pipelines.errors import JobError
from pipelines.summary import Summary, counted

_RESERVE_NBYTES = 200_000_000
"""Bytes of the disk that are left free: for what is under way, the ledger and the report."""
_LOOK_S = 1.0
"""Seconds between two looks at the disk."""
_SHARE_FROM = 100
"""Images after which a share of failures is one."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How many images may fail before a run stops."""

    count: float
    """Images, or percent of those that were tried."""
    is_share: bool = False
    """Whether it is percent."""

    def is_passed(self, failed: int, tried: int) -> bool:
        """Whether too many have failed.

        >>> Tolerance(5, True).is_passed(6, 99), Tolerance(5, True).is_passed(6, 100), Tolerance(5).is_passed(6, 6)
        (False, True, True)
        """
        if self.is_share:
            return tried >= _SHARE_FROM and 100 * failed > self.count * tried
        return failed > self.count

    def __str__(self) -> str:
        """As `tolerance` reads it.

        >>> str(Tolerance(2_000_001)), str(Tolerance(2.5, True))
        ('2000001', '2.5%')
        """
        return f"{self.count:.15g}{'%' if self.is_share else ''}"


def tolerance(text: str) -> Tolerance:
    """How many may fail, as it is written on the command line: 50 or 2.5%.

    >>> tolerance("50"), tolerance("2.5%")
    (Tolerance(count=50.0, is_share=False), Tolerance(count=2.5, is_share=True))
    """
    try:
        count = float(text.removesuffix("%"))
    except ValueError:
        count = -1.0
    is_share = text.endswith("%")
    if not (0 <= count <= 100 if is_share else count >= 0 and count.is_integer()):
        raise JobError(f"--max-failures takes a number of images or a share of them, got {text!r}; write 50 or 2%")
    return Tolerance(count, is_share)


def deadline(text: str, now: datetime) -> datetime:
    """The next time that a clock on the wall shows so.

    >>> noon = datetime(2026, 3, 1, 12, 0)
    >>> str(deadline("06:00", noon)), str(deadline("23:30", noon))
    ('2026-03-02 06:00:00', '2026-03-01 23:30:00')
    """
    try:
        at = datetime.strptime(text, "%H:%M").time()  # noqa: DTZ007  the zone is that of `now`
    except ValueError as error:
        raise JobError(f"--deadline takes a time of day, got {text!r}; write 06:00") from error
    # By the clock on the wall: a night in which the clocks change is an hour shorter or longer.
    day = now.date() + timedelta(days=at <= now.time())
    return datetime.combine(day, at) if now.tzinfo is None else datetime.combine(day, at).astimezone()


@dataclass(slots=True)
class Brake:
    """Looks, between batches, whether a run is to go on."""

    target: Path
    """Where results go."""
    summary: Summary
    """What the run has done."""
    until: float | None = None
    """When nothing is to be under way any more, s since 1970; None for no such time."""
    allowed: Tolerance | None = None
    """How many images may fail; None for any number."""
    clock: Callable[[], float] = time.time
    """Gives the time."""
    time_is_up: bool = False
    """Whether work was left because of the time."""
    reason: str = ""
    """Why the run cannot go on; empty where it can."""
    standing: int = field(init=False)
    """Images that were without a result when the run began, and are not tried."""
    _is_failing: bool = False
    """Whether the reason is that too many have failed."""
    _looked: float = float("-inf")

    def __post_init__(self) -> None:
        self.standing = len(self.summary.quarantined)

    @property
    def is_on(self) -> bool:
        """Whether nothing more is to be begun."""
        return self.time_is_up or bool(self.reason)

    def has_time(self, seconds: float) -> bool:
        """Whether work that ends so many seconds from now is in time."""
        return self.until is None or self.clock() + seconds <= self.until

    def look(self) -> None:
        """Note whether the run has to stop."""
        if self.reason:
            return
        failed = self._failed
        if self.allowed is not None and self.allowed.is_passed(failed, failed + self.summary.done):
            self.reason, self._is_failing = self._too_many(), True
            return
        now = time.monotonic()
        if now - self._looked >= _LOOK_S:
            self._looked = now
            free = shutil.disk_usage(self.target).free
            if free < _RESERVE_NBYTES:
                self.reason = f"the disk of TARGET has {free / 1e6:.0f} MB left, {_RESERVE_NBYTES / 1e6:.0f} stay free"

    def end(self) -> str:
        """Why the run stopped, in the numbers of its end: what was under way has failed since, or was done."""
        why = self._too_many() if self._is_failing else self.reason
        left = f"; {counted(self.summary.left, 'result')} left undone" if self.summary.left else ""
        return f"{why}{left}: see to it, and start the same command again"

    @property
    def _failed(self) -> int:
        """Images that failed in this run."""
        return len(self.summary.failed) + len(self.summary.quarantined) - self.standing

    def _too_many(self) -> str:
        failed = self._failed
        return (
            f"{failed} of {failed + self.summary.done} images have failed, allowed are {self.allowed} (--max-failures)"
        )


def check_space(target: Path, nbytes: int) -> str:
    """What is to be said of the room for results that take about so many bytes; empty where there is enough.

    Raises JobError where not even half of them has room: estimates are not that wrong.
    """
    free = max(0, shutil.disk_usage(target).free - _RESERVE_NBYTES)
    if nbytes <= free:
        return ""
    told = f"results take about {nbytes / 1e9:.2f} GB, the disk of TARGET has {free / 1e9:.2f} GB for them"
    if nbytes / 2 > free:
        raise JobError(f"{told}; make room, or choose smaller results, another output.format or another TARGET")
    return f"{told}: if they do not fit the run stops in time, and can be started again"
