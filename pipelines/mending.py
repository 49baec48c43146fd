"""A finished target that is no longer what was written: what of it still is, so that only the rest is made again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines import derivative, omezarr
from pipelines.checked import Wrong
from pipelines.errors import JobError
from pipelines.naming import OWN_FOLDER
from pipelines.pagetasks import Page, shard_group
from pipelines.pyramid import Pyramid
from pipelines.records import Entry, Forgotten, ShardRecord


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier run finished, after all of it was read again."""

    wrong: tuple[Wrong, ...]
    """What is not as it was written."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """Its record; empty where that is damaged: then nothing of the target can be trusted."""

    @property
    def intact(self) -> dict[str, tuple[int, str]]:
        """Bytes and SHA-256 of each file that is as it was written, by its name below the target."""
        wrong = {one.path for one in self.wrong}
        listed = derivative.recorded(self.record) or {}
        return {name: facts for name, facts in listed.items() if name not in wrong}

    def entries(self, image: Path, page: Page, pyramid: Pyramid) -> Iterator[Entry]:
        """What a ledger has to say of the shards of a page: that they are there, or to be made."""
        intact = self.intact
        for level in range(len(pyramid.levels)):
            group, side = shard_group(page.number, level), pyramid.side(level)
            for shard in pyramid.shards(level):
                y, x = shard.window.y0, shard.window.x0
                path = omezarr.shard_path(page.image, level, y // side, x // side)
                known = intact.get(path.relative_to(image).as_posix())
                yield ShardRecord(group, y, x, *known) if known else Forgotten(group, y, x)


def earlier(target: Path, facts: Mapping[str, object], *, repair: bool) -> Earlier | None:
    """What an earlier run of these facts finished; None where none did. Reads all of the target.

    repair: a target whose record is damaged counts as of these facts. Raises JobError where files have come in:
    they are not ours to remove, and not to be recorded as results.
    """
    path = derivative.provenance_path(target)
    record = derivative.noted(path)
    same = record is not None and record.get("facts") == json.loads(json.dumps(facts))
    if record is None or derivative.recorded(record) is None or not (same or derivative.is_whole(record)):
        return Earlier((Wrong(path.name, "is damaged"),)) if repair and path.exists() else None
    if not same:
        return None
    found = derivative.verified(target)
    if strangers := [one.path for one in found.wrong if one.why == derivative.STRANGE]:
        more = f" and {len(strangers) - 1} more" if len(strangers) > 1 else ""
        raise JobError(f"{target.name}: {strangers[0]}{more} was not written by the job; move it away, and start again")
    return Earlier(found.wrong, record if derivative.is_whole(record) else {})


def clear(target: Path, image: Path, before: Earlier) -> None:
    """Remove what stands in the way of what is made anew; shards stay until they are replaced."""
    if image != target:
        return
    if not before.record:
        for path in image.iterdir():
            if path.name != OWN_FOLDER:
                remove(path)
        return
    for one in before.wrong:
        if "/c/" not in one.path:
            (image / one.path).unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all it holds."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def remove_tiles(target: Path) -> None:
    """Remove a Deep Zoom, but for its record."""
    for path in (target, target.with_name(f"{target.stem}_files")):
        if path.exists():
            remove(path)
