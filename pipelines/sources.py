"""Where a job's pixels come from: images that are read in place, window by window, and those to be ingested once.

A source is opened for reading only, by the decoder's child (zarr: by this process), and known from its header.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from pipelines import ingest, zarrsource
from pipelines.errors import StoreError
from refine.decoder import Decoder
from refine.errors import ImageReadError
from refine.imagefile import copies, one_line
from refine.limits import SCAN_LIMITS, Limits
from refine.openimage import KEEP_MEM, Storage
from refine.signature import HEAD_NBYTES, image_format
from refine.spec import ImageSpec, Metadata, Pixels
from refine.window import Window

Kind = Literal["windows", "bands", "whole", "zarr"]
"""How a source is best read. `windows`: in place. `bands`: ingested, each strip decoded once on the way down. `whole`:
ingested out of one decoding of everything. `zarr`: in place, by zarr."""

_SIDE, _HALO = 1024, 24
"""px of a task's tile in the source, and what it reads beyond: what the costs are reckoned for."""
_MAX_AMPLIFICATION = 10.0
"""Decoded px for each px needed. Measured (source-cost.md): deflate takes 10 and LZW 22 ns/px, ingesting 32 to 43 more.
The program takes some 800 (200 a px of the result, twice as large): at worst LZW in place costs a sixth of that more
than ingested, without disk or waiting. JPEG 2000, at 245 ns/px, would be cheaper ingested from 1.2 on."""
_MAX_WINDOW_NBYTES = 64 << 20
"""Bytes of one strip or tile, decoded, up to which windows are read in place."""
_MAX_BAND_NBYTES = 256 << 20
"""Bytes of one strip, or row of tiles, up to which it is one of many bands and not a whole."""
_DECODER_MEM = 60_000_000
"""Bytes of a decoder's process that holds no pixels; measured (source-memory.md), with some room."""
_local = threading.local()


class Opened(Protocol):
    """Pixels (y, x, c) of a source, as `restored_window` and `samples` read them."""

    shape: tuple[int, int, int]
    dtype: np.dtype[np.uint8 | np.uint16]

    def __getitem__(self, index: slice | tuple[slice, slice]) -> Pixels:
        """The pixels of a window inside the image."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """One image (a page of a file, a group of a zarr) and how it is read. Pickles; nothing is open in it."""

    path: Path
    """Absolute."""
    page: int
    """Index of the page in its file; of the image in a zarr of several."""
    kind: Kind
    """How it is best read."""
    spec: ImageSpec
    """What its header says."""
    storage: Storage
    """How its pixels lie in the file."""
    limits: Limits
    """What it may ask of us."""
    size: int
    """Bytes of the file (of a zarr: of its description) when its header was read."""
    mtime_ns: int
    """When that was changed last, ns."""

    @property
    def bare(self) -> Source:
        """The source without profile and metadata, which no window needs: small enough for every task."""
        return replace(self, spec=replace(self.spec, icc=None, metadata=Metadata(), notes=()))

    def opened(self) -> Opened:
        """Its pixels, for any thread of this process. Every kind gives exact windows, not every one cheap ones.

        Reading raises StoreError where the file has changed since, and ImageReadError where it is damaged.
        """
        return _InZarr(self) if self.kind == "zarr" else _InFile(self)

    def check_unchanged(self) -> None:
        """Raise StoreError where the file is not the one whose header was read."""
        if _status(self.path) != (self.size, self.mtime_ns):
            raise StoreError(f"{self.path.name}: was changed while it was worked on; run again")


@dataclass(frozen=True, slots=True)
class Listing:
    """The pages of a file."""

    pages: tuple[ImageSpec, ...]
    """Those that are pictures of their own; `page` of each is its place in the file."""
    left_out: tuple[str, ...]
    """What else there is, short sentences: reduced copies, masks."""
    damaged: tuple[str, ...]
    """What cannot be read, a line for each, which names file and page."""


def source_of(path: Path, page: int = 0, limits: Limits = SCAN_LIMITS) -> Source:
    """How one image is read. Raises ImageReadError for what is no readable image, LimitError for what is too large."""
    path = path.absolute()
    size, mtime_ns = _status(path)
    if path.is_dir():
        spec = zarrsource.spec_of(path, page, limits)
        return Source(path, page, "zarr", spec, zarrsource.storage_of(path, page), limits, size, mtime_ns)
    spec, storage = decoder(limits).storage(path, page)
    kind = _kind(spec, storage)
    if kind in ("bands", "whole"):
        limits.check_whole(path.name, storage.row_nbytes)
    return Source(path, page, kind, spec, storage, limits, size, mtime_ns)


def listing(path: Path, limits: Limits = SCAN_LIMITS) -> Listing:
    """All pages of a file, damaged ones too. Raises ImageReadError where not one of them can be read."""
    if path.is_dir():
        found = [zarrsource.spec_of(path, page, limits) for page in range(zarrsource.count(path))]
        return Listing(tuple(found), (), ())
    child = decoder(limits)
    with one_line(path.name), path.open("rb") as file:
        kind = image_format(file.read(HEAD_NBYTES), path.name)
    if kind != "tiff":
        return Listing((child.spec(path),), (), ())
    roles, broken = child.page_roles(path)
    wanted = [page for page, role in enumerate(roles) if role == "page"] or [0]
    readable, damaged = list[ImageSpec](), list[str]()
    for page in wanted:
        try:
            readable.append(child.spec(path, page))
        except ImageReadError as error:
            if len(wanted) == 1:
                raise
            damaged.append(_page_line(path.name, page, len(roles), str(error)))
    if not readable:
        first = damaged[0].removeprefix(f"{path.name}: ")
        raise ImageReadError(f"{path.name}: none of its {len(wanted)} pages can be read; {first}")
    if broken is not None:
        damaged.append(f"{path.name}: {broken}")
    left_out = Counter(role for page, role in enumerate(roles) if page not in wanted)
    return Listing(tuple(readable), tuple(_counted(role, n) for role, n in sorted(left_out.items())), tuple(damaged))


def digest(path: Path) -> str:
    """SHA-256 of a file, hex, read in pieces. Of a folder: that of the sorted lines `<digest>  <name below it>`."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    found = hashlib.sha256()
    for below in sorted(p for p in path.rglob("*") if p.is_file()):
        found.update(f"{digest(below)}  {below.relative_to(path).as_posix()}\n".encode("utf-8", "surrogateescape"))
    return found.hexdigest()


def check_digest(path: Path, before: str) -> None:
    """Raise StoreError where a source is no longer what `digest` said before."""
    after = digest(path)
    if after != before:
        raise StoreError(
            f"{path.name}: was changed while it was worked on: SHA-256 was {before[:12]}, is {after[:12]}; run again"
        )


def decoder(limits: Limits) -> Decoder:
    """The decoder of this thread. It ends with its thread, or with the process."""
    found: Decoder | None = getattr(_local, "decoder", None)
    if found is None or found.limits != limits:
        if found is not None:
            _local.end()
        found = _local.decoder = Decoder(limits)
        # Left to itself its child would stay, at the latest as a zombie, until somebody starts another process.
        _local.end = weakref.finalize(threading.current_thread(), found.close)
    return found


def decoder_mem(source: Source, window_nbytes: int) -> int:
    """Bytes that the decoder's process holds at most while a source is ingested and windows of it are read.

    That is what a strip, a tile or the whole takes encoded, decoded and in our order of bytes, and what is kept of
    them. Nothing for a zarr, which the worker itself reads.
    """
    spec, held = source.spec, source.storage
    if source.kind == "zarr":
        return 0
    if spec.format != "tiff":
        return _DECODER_MEM + copies(spec) * held.nbytes + source.size + window_nbytes
    if held.direct:
        return _DECODER_MEM + 2 * window_nbytes
    kept = KEEP_MEM if source.kind == "windows" else ingest.kept_mem(spec, held)
    return _DECODER_MEM + 3 * held.nbytes + kept + 2 * window_nbytes


def amplification(spec: ImageSpec, storage: Storage) -> float:
    """Decoded px for each px needed, when a task's window is read in place; 1 where nothing is decoded in vain.

    >>> spec = ImageSpec(32_768, 32_768, 1, "uint8")
    >>> round(amplification(spec, Storage(512, 512, 1 << 18, 1 << 24)), 2)
    2.39
    >>> round(amplification(spec, Storage(8, 32_768, 1 << 18, 1 << 18)), 1)
    33.7
    """
    if storage.direct:
        return 1.0
    return _touched(storage.height, spec.height) * _touched(storage.width, spec.width)


def _touched(block: int, length: int) -> float:
    """px decoded for each px needed along one axis: a window of any phase, with halo, in blocks."""
    window = min(_SIDE + 2 * _HALO, length)
    return min(window - 1 + block, -(-length // block) * block) / min(_SIDE, length)


class _InFile:
    """The pixels of a file, decoded in the child of the thread that asks."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.shape = source.spec.shape
        self.dtype = np.dtype(source.spec.dtype)

    def __getitem__(self, index: slice | tuple[slice, slice]) -> Pixels:
        source, window = self._source, _window(index, self.shape)
        source.check_unchanged()
        pixels = decoder(source.limits).window(source.path, window, source.page)
        source.check_unchanged()
        if pixels.dtype != self.dtype or pixels.shape[2] != self.shape[2]:
            raise StoreError(f"{source.path.name}: was another image when its header was read; run again")
        return pixels


class _InZarr:
    """The pixels of a zarr, decoded in this process."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._windows = zarrsource.windows(source.path, source.page)
        self.shape = source.spec.shape
        self.dtype = np.dtype(source.spec.dtype)

    def __getitem__(self, index: slice | tuple[slice, slice]) -> Pixels:
        self._source.check_unchanged()
        return self._windows[_window(index, self.shape).slices]


def _window(index: slice | tuple[slice, slice], shape: tuple[int, int, int]) -> Window:
    rows, columns = index if isinstance(index, tuple) else (index, slice(None))
    (y0, y1, down), (x0, x1, across) = rows.indices(shape[0]), columns.indices(shape[1])
    if (down, across) != (1, 1):
        raise IndexError("a window takes each row and column: a step other than 1 is not read")
    return Window(y0, x0, y1, x1)


def _kind(spec: ImageSpec, storage: Storage) -> Kind:
    """The kind of a source that is a file."""
    if spec.format == "tiff":
        small = storage.direct or storage.nbytes <= _MAX_WINDOW_NBYTES
        if small and amplification(spec, storage) <= _MAX_AMPLIFICATION:
            return "windows"
        length, block = (spec.width, storage.width) if storage.sideways else (spec.height, storage.height)
        if storage.row_nbytes <= _MAX_BAND_NBYTES and block < length:
            return "bands"
    return "whole"


def _status(path: Path) -> tuple[int, int]:
    """Bytes, and time of the last change in ns, of a file; of a zarr's description."""
    try:
        status = (zarrsource.description(path) if path.is_dir() else path).stat()
    except OSError as error:
        raise ImageReadError(f"{path.name}: cannot be read: {error.strerror or error}") from error
    return status.st_size, status.st_mtime_ns


def _page_line(name: str, page: int, count: int, said: str) -> str:
    """One line that names file and page."""
    why = said.removeprefix(f"{name}, page {page + 1}: ").removeprefix(f"{name}: ")
    return f"{name}: page {page + 1} of {count}: {why}"


def _counted(role: str, count: int) -> str:
    what = {"reduced": ("reduced copy", "reduced copies"), "mask": ("mask", "masks")}[role]
    return f"{count} {what[count > 1]} left out"
