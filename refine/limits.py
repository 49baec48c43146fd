"""What a source file may ask of us, checked from its header before a pixel is decoded."""

from __future__ import annotations

from dataclasses import dataclass

from refine.errors import LimitError
from refine.spec import ImageSpec

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one source file. A file over one of them is refused with `LimitError`, which names the field.

    >>> Limits().decode_s(200_000_000)
    50.0
    """

    max_pixels: int = 200_000_000
    """px, height x width, of an image."""
    max_side: int = 65_500
    """px of the longer side; the largest libjpeg takes."""
    max_whole_nbytes: int = 2 << 30
    """Bytes of the pixels of an image that cannot be read window by window, hence is held whole."""
    max_pages: int = 10_000
    """Pages of one file."""
    max_file_nbytes: int = 2 << 30
    """Bytes of the file."""
    max_metadata_nbytes: int = 16 << 20
    """Bytes of everything in a file that is not pixels (ICC, EXIF, text), inflated."""
    max_scans: int = 100
    """Scans of a progressive JPEG. Each is a pass over the whole picture, and 33 kB can hold thousands."""
    decode_base_s: float = 30.0
    """Seconds any file may take."""
    decode_s_per_megapixel: float = 0.1
    """Seconds more for every 1,000,000 px."""
    headroom_mem: int = 512 << 20
    """Bytes the decoder may use beyond its size at rest, the file, and the copies of the pixels its format needs."""

    def decode_s(self, pixels: int) -> float:
        """Seconds in which an image of so many px must be decoded."""
        return self.decode_base_s + self.decode_s_per_megapixel * pixels / MB

    def decode_mem(self, nbytes: int, file_nbytes: int, copies: int = 2) -> int:
        """Bytes of address space for a picture of `nbytes` in a file of `file_nbytes`, beyond the decoder's at rest.

        Two copies of the pixels: as the codec gives them and as they are handed over; some codecs work in wider
        numbers and need more. The file itself is held too.
        """
        return copies * nbytes + file_nbytes + self.headroom_mem

    def check_file(self, name: str, nbytes: int) -> None:
        """Raise LimitError where a file is too large to be looked at."""
        _check(name, "file bytes", nbytes, "max_file_nbytes", self.max_file_nbytes)

    def check_metadata(self, name: str, nbytes: int) -> None:
        """Raise LimitError where a file holds too much that is not pixels."""
        _check(name, "metadata bytes", nbytes, "max_metadata_nbytes", self.max_metadata_nbytes)

    def check_scans(self, name: str, scans: int) -> None:
        """Raise LimitError where a progressive JPEG has too many scans."""
        _check(name, "scans", scans, "max_scans", self.max_scans)

    def check_pages(self, name: str, pages: int) -> None:
        """Raise LimitError where a file has too many pages."""
        _check(name, "pages", pages, "max_pages", self.max_pages)

    def check_whole(self, name: str, nbytes: int) -> None:
        """Raise LimitError where pixels, or strips that are decoded in one piece, are too large to be held at once."""
        _check(name, "bytes of pixels to be held at once", nbytes, "max_whole_nbytes", self.max_whole_nbytes)

    def check_image(self, name: str, spec: ImageSpec) -> None:
        """Raise LimitError where an image is too large."""
        size = f"px ({spec.height} x {spec.width})"
        _check(name, f"{size} on a side", max(spec.height, spec.width), "max_side", self.max_side)
        _check(name, size, spec.height * spec.width, "max_pixels", self.max_pixels)


def _check(name: str, what: str, found: int, field: str, limit: int) -> None:
    if found > limit:
        scans = limit < getattr(SCAN_LIMITS, field) and found <= getattr(SCAN_LIMITS, field)
        way = "`refine scan` takes such a file" if scans else f"if you trust the file: Limits({field}=...) in Python"
        msg = f"{name}: {found:,} {what} is over the limit of {limit:,} ({field}); {way}"
        raise LimitError(msg)


SCAN_LIMITS = Limits(
    max_pixels=100_000_000_000,
    max_side=1_000_000,
    max_file_nbytes=4 << 40,
    max_metadata_nbytes=64 << 20,
)
"""For archives, whose images are read window by window: `max_whole_nbytes` alone bounds what is held at once."""
