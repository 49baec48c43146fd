"""How far a run is: a bar on a terminal, a line of the log every ten seconds elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

from tqdm import tqdm

from pipelines.summary import duration

logger = logging.getLogger(__name__)

_EVERY_S = 10.0
"""Seconds between two lines of the log."""

# tqdm's own lock is one for several processes, whose semaphore stays behind when a run is interrupted.
tqdm.set_lock(RLock())


class Progress:
    """Counts images, or tiles of one; shows rate and time left. Use `shown`."""

    def __init__(self, total: int, *, bar: bool, unit: str = "image") -> None:
        self._total, self._unit = total, unit
        self._started = self._said = time.monotonic()
        self._settled = self._worked = 0
        self._px = 0
        self._bar = tqdm(total=total, unit=unit, file=sys.stderr, dynamic_ncols=True) if bar else None

    def passed(self, images: int = 1) -> None:
        """Count images that needed no work."""
        self._settled += images
        if self._bar is not None:
            self._bar.update(images)

    def worked(self, *, images: int = 0, px: int = 0, note: str = "") -> None:
        """Count work: images that are settled, px that were made, and where large images stand."""
        self._settled += images
        self._worked += images
        self._px += px
        if self._bar is not None:
            rate = self._px / 1e6 / max(1e-3, time.monotonic() - self._started)
            self._bar.set_postfix_str(f"{rate:.2f} Mpx/s{', ' if note else ''}{note}", refresh=False)
            self._bar.update(images)
        elif time.monotonic() - self._said > _EVERY_S:
            self._said = time.monotonic()
            logger.info("%s%s%s", self.line(), ", " if note else "", note)

    def line(self) -> str:
        """Where the run stands, in words.

        >>> Progress(4, bar=False).line()
        '0 of 4 images, 0.00 Mpx/s'
        """
        spent = max(1e-3, time.monotonic() - self._started)
        said = f"{self._settled} of {self._total} {self._unit}s, {self._px / 1e6 / spent:.2f} Mpx/s"
        if not self._worked:
            return said
        left = (self._total - self._settled) * spent / self._worked
        return f"{said}, about {duration(left)} left"

    def close(self) -> None:
        """Take the bar down."""
        if self._bar is not None:
            self._bar.close()


@contextmanager
def shown(total: int, *, unit: str = "image", quiet: bool = False) -> Iterator[Progress]:
    """Progress over `total` images or tiles, on stderr; a bar only where a person looks."""
    progress = Progress(total, bar=not quiet and sys.stderr.isatty(), unit=unit)
    try:
        yield progress
    finally:
        progress.close()
