"""Two pictures of one subject, small enough to travel inside a page: all of both, and a part of both at full size."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from refine.display import Screen

WHOLE = 480
"""px of the longer side of a picture that is shown whole, at most."""
DETAIL = 480
"""px of the sides of the part that is shown at full size, at most."""
_QUALITY = 82
"""Of WebP. Ringing of the codec must not be taken for what was done to the picture."""
_METHOD = 4
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True, slots=True)
class Pair:
    """The same view of two pictures, as WebP files of the same size in px."""

    height: int
    """px."""
    width: int
    """px."""
    before: bytes
    """WebP."""
    after: bytes
    """WebP."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Before and after: whole, and where the second has more px than are shown, a part of it px for px."""

    whole: Pair
    """Both at the scale that lets them be seen whole."""
    detail: Pair | None = None
    """Both at the scale of the second; None where `whole` is that already."""

    @property
    def views(self) -> dict[str, Pair]:
        """Its pairs by name: `whole` and, where there is one, `detail`."""
        return {"whole": self.whole} | ({"detail": self.detail} if self.detail else {})

    @property
    def nbytes(self) -> int:
        """Bytes of all its files."""
        return sum(len(pair.before) + len(pair.after) for pair in self.views.values())


def comparison(before: Screen, after: Screen) -> Comparison:
    """Two pictures (y, x, c) side by side at one scale: the first is brought to the size of the second.

    The part shown at full size is the one with most in it. The same pictures give the same bytes.
    """
    first, second = _picture(before), _picture(after)
    width, height = second.size
    shrunk = min(1.0, WHOLE / max(width, height))
    size = (max(1, round(width * shrunk)), max(1, round(height * shrunk)))
    small = second.resize(size, Pillow.Resampling.LANCZOS)
    whole = _pair(first.resize(size, Pillow.Resampling.BICUBIC), small)
    if shrunk == 1:
        return Comparison(whole)
    x, y, w, h = _busiest(small, (width, height))
    by_x, by_y = first.width / width, first.height / height
    box = (x * by_x, y * by_y, (x + w) * by_x, (y + h) * by_y)
    part = first.resize((w, h), Pillow.Resampling.BICUBIC, box=box)
    return Comparison(whole, _pair(part, second.crop((x, y, x + w, y + h))))


def file_name(name: str, view: str, side: str) -> str:
    """What a file of the comparison of that name is called, by `whole` or `detail`, `before` or `after`."""
    return f"{name}-{view}-{side}.webp"


def write_comparison(folder: Path, name: str, found: Comparison) -> None:
    """Put the files of a comparison into a folder; those that are looked for first come last.

    They can be made again, so nothing waits for the disk: a file that is not whole is known by its own length.
    """
    folder.mkdir(exist_ok=True)
    for view, pair in sorted(found.views.items()):
        for side, webp in (("before", pair.before), ("after", pair.after)):
            (folder / file_name(name, view, side)).write_bytes(webp)


def read_comparison(folder: Path, name: str) -> Comparison | None:
    """The comparison of that name that was put into a folder; None where there is none, or it is damaged."""
    try:
        whole = _read_pair(folder, name, "whole")
        has_detail = (folder / file_name(name, "detail", "before")).exists()
        return Comparison(whole, _read_pair(folder, name, "detail") if has_detail else None)
    except OSError:
        return None


def _read_pair(folder: Path, name: str, view: str) -> Pair:
    before, after = ((folder / file_name(name, view, side)).read_bytes() for side in ("before", "after"))
    for webp in (before, after):
        if len(webp) < 12 or int.from_bytes(webp[4:8], "little") + 8 != len(webp):
            raise OSError("a picture for a page is not whole")
    with Pillow.open(io.BytesIO(after)) as picture:
        return Pair(picture.height, picture.width, before, after)


def data_uri(webp: bytes) -> str:
    """A WebP file as an address that holds all of it."""
    return f"data:image/webp;base64,{base64.b64encode(webp).decode('ascii')}"


def _picture(pixels: Screen) -> Pillow.Image:
    channels = pixels.shape[2]
    return Pillow.fromarray(np.ascontiguousarray(pixels[:, :, 0] if channels == 1 else pixels), _MODES[channels])


def _pair(before: Pillow.Image, after: Pillow.Image) -> Pair:
    return Pair(after.height, after.width, _webp(before), _webp(after))


def _webp(picture: Pillow.Image) -> bytes:
    stored = picture.convert("RGBA" if picture.mode in ("LA", "RGBA") else "RGB")
    file = io.BytesIO()
    stored.save(file, "WEBP", quality=_QUALITY, method=_METHOD)
    return file.getvalue()


def _busiest(small: Pillow.Image, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, width and height, px of the large picture, of the part of it with most edges in its small copy."""
    width, height = size
    w, h = min(DETAIL, width), min(DETAIL, height)
    grey = np.asarray(_flat(small).convert("L")).astype(np.int64)
    edges = np.zeros_like(grey)
    edges[1:] += np.abs(np.diff(grey, axis=0))
    edges[:, 1:] += np.abs(np.diff(grey, axis=1))
    rows, columns = (max(1, round(side * small.height / height)) for side in (h, w))
    sums = np.pad(edges.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    within = sums[rows:, columns:] - sums[:-rows, columns:] - sums[rows:, :-columns] + sums[:-rows, :-columns]
    top, left = np.unravel_index(int(within.argmax()), within.shape)
    return _placed(int(left), small.width, w, width), _placed(int(top), small.height, h, height), w, h


def _placed(at: int, side: int, part: int, whole: int) -> int:
    """Where a part begins in the large picture that begins at `at` of `side` px in the small one."""
    return min(round(at * whole / side), whole - part)


def _flat(picture: Pillow.Image) -> Pillow.Image:
    """On white, where it is transparent: what lies under is not seen."""
    if picture.mode not in ("LA", "RGBA"):
        return picture
    white = Pillow.new("RGBA", picture.size, "white")
    return Pillow.alpha_composite(white, picture.convert("RGBA"))
