"""Image files that stay open, for windows of their upright pixels.

A TIFF gives a window from the strips or tiles that hold it; of every other format the picture is decoded once and kept.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from refine.errors import ImageReadError
from refine.imagefile import copies, one_line, read_pixels, read_spec
from refine.limits import Limits
from refine.metadata import upright
from refine.spec import ImageSpec, Pixels
from refine.tiff import OpenPage
from refine.window import Window

KEEP_MEM = 32 << 20
"""Bytes of decoded strips or tiles that are kept for the next window, where nothing else is asked for."""
_OPEN = 4
"""Files that stay open."""


@dataclass(frozen=True, slots=True)
class Storage:
    """How the pixels of an image lie in its file: what reading a window of it costs."""

    height: int
    """px of the upright picture; rows of what is decoded at once: a strip, a tile, or the whole."""
    width: int
    """px of the same."""
    nbytes: int
    """Bytes of it, decoded."""
    row_nbytes: int
    """Bytes of all that lie side by side as stored, in all planes: with these kept, none is decoded twice."""
    direct: bool = False
    """Stored as it is: any rows and columns are read without the rest."""
    sideways: bool = False
    """What lies side by side as stored lies one below another in the upright picture."""


class OpenImage:
    """One image (a page of a file) that stays open. Close it, or use it in a `with`."""

    def __init__(self, path: Path, limits: Limits, page: int = 0) -> None:
        with one_line(path.name):
            self.identity = _identity(path)
        self.spec = read_spec(path, limits, page)
        self._path, self._limits = path, limits
        self._whole: Pixels | None = None
        self._page: OpenPage | None = None
        if self.spec.format == "tiff":
            with one_line(path.name):
                self._page = OpenPage(path, limits, page)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, and let go of all that was decoded."""
        self._whole = None
        if self._page is not None:
            self._page.close()

    @property
    def storage(self) -> Storage:
        """How its pixels lie in the file. Raises ImageReadError where strips or tiles are not even listed."""
        spec = self.spec
        if self._page is None:
            return Storage(spec.height, spec.width, spec.nbytes, spec.nbytes)
        with one_line(self._path.name):
            grid = self._page.grid
        sideways = spec.orientation >= 5
        height, width = (grid.width, grid.height) if sideways else (grid.height, grid.width)
        return Storage(height, width, grid.nbytes, grid.row_nbytes, grid.direct, sideways)

    def decoded_px(self, window: Window) -> int:
        """Pixels that are decoded for a window, at most."""
        if self._page is None:
            return self.spec.height * self.spec.width
        held = self.storage
        return (window.height + 2 * held.height) * (window.width + 2 * held.width)

    def decode_mem(self, window: Window, keep_mem: int) -> int:
        """Bytes of address space for decoding a window, beyond what is in use.

        Raises LimitError where a strip or tile of it is too large to be held.
        """
        limits, held = self._limits, self.storage
        if self._page is None:
            return limits.decode_mem(held.nbytes, self.identity[2], copies(self.spec))
        if held.direct:
            return limits.decode_mem(self._nbytes(window), 0)
        limits.check_whole(self._path.name, held.nbytes)
        # Encoded, decoded, and decoded with the bytes of a sample in our order.
        return limits.decode_mem(self._nbytes(window), 3 * held.nbytes + keep_mem)

    def window(self, window: Window, keep_mem: int = KEEP_MEM) -> Pixels:
        """The upright pixels (y, x, c) of a window inside the image: those of `imagefile.read_pixels` there.

        keep_mem: bytes of decoded strips or tiles to keep for the windows to come. Raises ImageReadError where what
        holds the window is damaged; the rest of the file is not looked at.
        """
        spec = self.spec
        if not Window(0, 0, spec.height, spec.width).contains(window) or window.height < 1 or window.width < 1:
            raise ImageReadError(f"{self._path.name}: has {spec.height} x {spec.width} px, {window} is not inside")
        if self._page is None:
            if self._whole is None:
                self._whole = read_pixels(self._path, spec, self._limits)
            return self._whole[window.slices]
        with one_line(self._path.name):
            stored = self._page.window(_stored(window, spec), keep_mem)
            return upright(stored, spec.orientation)

    def _nbytes(self, window: Window) -> int:
        return self.spec.nbytes // (self.spec.height * self.spec.width) * window.area


class OpenImages:
    """The images that were read last, still open. One is opened anew where its file has changed."""

    def __init__(self) -> None:
        self._images: OrderedDict[tuple[Path, int, Limits], OpenImage] = OrderedDict()

    def opened(self, path: Path, limits: Limits, page: int = 0) -> OpenImage:
        """The image, from its file as it is now. Raises as `imagefile.read_spec` does."""
        key = path, page, limits
        found = self._images.get(key)
        with one_line(path.name):
            current = _identity(path)
        if found is not None and found.identity == current:
            self._images.move_to_end(key)
            return found
        if found is not None:
            self._images.pop(key).close()
        # A picture that is held whole is not held beside another one.
        for other in [key for key, image in self._images.items() if image.spec.format != "tiff"]:
            self._images.pop(other).close()
        while len(self._images) >= _OPEN:
            self._images.popitem(last=False)[1].close()
        self._images[key] = OpenImage(path, limits, page)
        return self._images[key]

    def close_all(self) -> None:
        """Close them."""
        while self._images:
            self._images.popitem()[1].close()


def _identity(path: Path) -> tuple[int, int, int, int]:
    """What tells a file from another one of its name, or from itself before it was changed."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _stored(window: Window, spec: ImageSpec) -> Window:
    """The place in the stored picture of a window of the upright one; spec is that of the upright picture."""
    orientation = spec.orientation
    if orientation >= 5:
        window = Window(window.x0, window.y0, window.x1, window.y1)
        height, width = spec.width, spec.height
    else:
        height, width = spec.height, spec.width
    if orientation in (3, 4, 6, 7):
        window = Window(height - window.y1, window.x0, height - window.y0, window.x1)
    if orientation in (2, 3, 7, 8):
        window = Window(window.y0, width - window.x1, window.y1, width - window.x0)
    return window
