"""Source and result of a catalog as a page shows them, beside each other."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from pipelines import zarrsource
from pipelines.checked import file_sha256
from pipelines.place import Folder, Found, Place, Spot, spot_of
from pipelines.records import Record
from pipelines.report import Places
from pipelines.tally import Row
from pipelines.targets import Target
from pipelines.thumbnail import Comparison, comparison
from refine.decoder import Decoder
from refine.display import Screen, shown
from refine.errors import RefineError
from refine.limits import SCAN_LIMITS

_MAX_PX = 60_000_000
"""Of a picture that is decoded for a page: two seconds, and less than half a gigabyte."""


@dataclass(frozen=True, slots=True)
class CatalogLook:
    """Before and after, wherever they lie, read in the decoder's process; the groups of a zarr store in this one."""

    source: Place
    """What names of sources are below."""
    target: Target
    """TARGET."""
    decoder: Decoder
    """What reads them."""

    def __call__(self, row: Row) -> Comparison | None:
        """Before and after of a row; None where one is too large, or it would be another before.

        Raises RefineError or OSError.
        """
        record, spot = row.record, self._spot(row)
        # An object is fetched by its ETag, and by no other; a file is whatever lies there.
        if spot.local is not None and self.since(row):
            return None
        before = self._picture(spot, Found(spot.path, record.size, record.mtime_ns, record.etag))
        result = Spot(self.target.place, record.output)
        after = self._picture(result, Found(record.output, record.output_nbytes, 0, record.output_etag))
        return None if before is None or after is None else comparison(before, after)

    def since(self, row: Row) -> str:
        """What has become of the source of a row since it was recorded; empty where it is that, or cannot be told."""
        spot = self._spot(row)
        try:
            now = spot.place.stat(spot.path)
            if now is None:
                return "source gone"
            return "source changed since" if _differs(row.record, now, spot.local) else ""
        except (RefineError, OSError):
            return ""

    def _spot(self, row: Row) -> Spot:
        return spot_of(row.record.uri) if row.record.uri else Spot(self.source, row.record.path)

    def _picture(self, spot: Spot, found: Found) -> Screen | None:
        if spot.local is not None:
            return picture(self.decoder, spot.local)
        with spot.place.fetched(found) as path:
            return picture(self.decoder, path)


def _differs(record: Record, now: Found, path: Path | None) -> bool:
    """Whether a source has other bytes than were recorded; its file is read where only its time is another."""
    if (now.size, now.etag) != (record.size, record.etag):
        return True
    if path is None or now.mtime_ns == record.mtime_ns or not record.source_sha256:
        return False
    return file_sha256(path) != record.source_sha256


def picture(decoder: Decoder, path: Path) -> Screen | None:
    """A picture as a screen shows it; None where it is too large for that. Raises as `Decoder.read` does."""
    is_group = path.is_dir()
    spec = zarrsource.spec_of(path, 0, SCAN_LIMITS) if is_group else decoder.spec(path)
    if spec.height * spec.width > _MAX_PX:
        return None
    if is_group:
        return shown(zarrsource.windows(path, 0)[:, :], spec)
    image = decoder.read(path)
    return shown(image.pixels, image.spec)


def places(source: Place, target: Target, page: Path) -> Places:
    """Where SOURCE and TARGET lie, seen from the page's folder; None for what no browser opens from there."""
    before = source.path if isinstance(source, Folder) else None
    after = target.folder if target.format is None else None
    return Places(*(None if root is None else _relative(root, page.parent) for root in (before, after)))


def _relative(root: Path, folder: Path) -> str:
    return quote(os.fsencode(os.path.relpath(root.absolute(), folder.absolute()))) + "/"
