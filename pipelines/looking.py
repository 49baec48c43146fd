"""Source and result of a catalog as a page shows them, beside each other."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from pipelines.report import Places
from pipelines.tally import Row
from pipelines.thumbnail import Comparison, comparison
from refine.decoder import Decoder
from refine.display import Screen, shown

_MAX_PX = 60_000_000
"""Of a picture that is decoded for a page: two seconds, and less than half a gigabyte."""


@dataclass(frozen=True, slots=True)
class FilesLook:
    """Before and after, both files of this machine, read in the decoder's process."""

    source: Path
    """SOURCE."""
    target: Path
    """TARGET."""
    decoder: Decoder
    """What reads them."""

    def __call__(self, row: Row) -> Comparison | None:
        """Before and after of a row; None where one is too large. Raises ImageReadError or OSError."""
        before = picture(self.decoder, self.source / row.record.path)
        after = picture(self.decoder, self.target / row.record.output)
        return None if before is None or after is None else comparison(before, after)


def picture(decoder: Decoder, path: Path) -> Screen | None:
    """A picture file as a screen shows it; None where it is too large for that. Raises as `Decoder.read` does."""
    spec = decoder.spec(path)
    if spec.height * spec.width > _MAX_PX:
        return None
    image = decoder.read(path)
    return shown(image.pixels, image.spec)


def places(source: Path | None, target: Path | None, page: Path) -> Places:
    """Where SOURCE and TARGET lie, seen from the page's folder; None for what is not on this machine."""
    return Places(*(None if root is None else _relative(root, page.parent) for root in (source, target)))


def _relative(root: Path, folder: Path) -> str:
    return quote(os.fsencode(os.path.relpath(root.absolute(), folder.absolute()))) + "/"
