"""The ledger of a target, held by one run: in the target's own folder, or, of a bucket, in one of this machine.

A bucket has the journal's lines too, from which another machine goes on, and an object that says who is at work.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pipelines import manifest
from pipelines.errors import RunError, StoreError
from pipelines.manifest import Manifest
from pipelines.naming import OWN_FOLDER
from pipelines.targets import Files, Target

if TYPE_CHECKING:  # s3fs may be missing where no bucket is named
    from pipelines.bucket import Bucket
    from pipelines.lease import Lease
    from pipelines.mirror import Mirror

logger = logging.getLogger(__name__)


def ledger_folder(target: Target, state: Path | None) -> Path:
    """The folder of a target's ledger.

    Of a bucket it is one below `state`, by the bucket's URL; without it, below where the user's programs keep state.
    """
    if target.folder is not None:
        return target.folder / OWN_FOLDER
    usual = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    base = state if state is not None else Path(usual) / "refine"
    return base / sha256(target.place.url.encode()).hexdigest()[:24]


def held_ledger(target: Target, state: Path | None) -> AbstractContextManager[Manifest]:
    """The ledger of a target. Raises JobError, saying who it is, while another run holds it."""
    folder = ledger_folder(target, state)
    if target.folder is not None:
        return manifest.opened(folder)
    assert isinstance(target, Files)
    return _held_bucket(cast("Bucket", target.place), folder)


@contextmanager
def _held_bucket(bucket: Bucket, folder: Path) -> Iterator[Manifest]:
    """The ledger of a bucket, as all machines that worked on it have left it."""
    from pipelines.lease import held  # noqa: PLC0415  s3fs may be missing
    from pipelines.mirror import Mirror  # noqa: PLC0415  the same

    with held(bucket) as lease:
        folder.mkdir(parents=True, exist_ok=True)
        mirror = Mirror(bucket, folder)
        mirror.pull()
        with manifest.opened(folder) as ledger:
            ledger.committed = _following(lease, mirror)
            try:
                yield ledger
            except BaseException:
                _pushed_or_warned(mirror)
                raise
            lease.check()
            mirror.push(now=True)
            mirror.compact(ledger.lines())


def _following(lease: Lease, mirror: Mirror) -> Callable[[], None]:
    """What comes after each commit: see that nobody has taken over, and have the bucket know."""

    def followed() -> None:
        lease.check()
        try:
            mirror.push()
        except StoreError as error:
            raise RunError(f"the ledger cannot be stored in TARGET: {error}") from error

    return followed


def _pushed_or_warned(mirror: Mirror) -> None:
    """Push what is there after an error, which is the one that is to be told."""
    try:
        mirror.push(now=True)
    except Exception as error:  # noqa: BLE001  see above
        logger.warning("the end of the ledger is on this machine only: %s", error)
