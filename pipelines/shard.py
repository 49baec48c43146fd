"""The bytes of a shard, made and read here: chunks with checksums behind an index, one file, seen whole or not at all.

The format is zarr's `sharding_indexed` with `blosc` and `crc32c`, and zarr reads what is written here. Written here
because it takes less time (tests/benchmarks/results/pyramid-cost.md), because the file is on the disk and whole when
`write` returns, and because a shard that is lost is an error, where zarr gives zeros.

Source: the specification of zarr 3, codecs sharding-indexed 1.0, blosc 1.0 and crc32c 1.0.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import google_crc32c
import imagecodecs
import numpy as np
from numpy.typing import NDArray

from pipelines.errors import StoreError
from pipelines.store import ShardFile
from refine.spec import Depth, Pixels
from refine.staging import staged
from refine.window import Window, grid

_ABSENT = 2**64 - 1
"""Offset and length of a chunk that lies wholly beyond the image."""
_CHECK = 4
"""Bytes of a checksum."""


@dataclass(frozen=True, slots=True)
class Form:
    """What all shards of an array have in common."""

    side: int
    """px of a shard."""
    chunk: int
    """px of an inner chunk; divides `side`."""
    channels: int
    """Channels, interleaved inside a chunk."""
    dtype: Depth
    """Depth of a channel."""

    @property
    def index_nbytes(self) -> int:
        """Bytes of the index at a shard's end."""
        return 16 * (self.side // self.chunk) ** 2 + _CHECK

    @property
    def shuffle(self) -> str:
        """What blosc does with a chunk before it compresses.

        Single bits are gathered of 8-bit samples: 6 % fewer bytes on enlarged photographs, at the same speed. Of 16-bit
        ones bytes are: gathering bits saves 5 % there, and takes 1.5 times as long.
        """
        return "bitshuffle" if self.dtype == "uint8" else "shuffle"

    def codecs(self) -> list[Mapping[str, object]]:
        """The inner codecs of the array, as zarr's metadata name them, after any that reorders axes."""
        endian = {} if self.dtype == "uint8" else {"configuration": {"endian": "little"}}
        blosc = {
            "typesize": np.dtype(self.dtype).itemsize,
            "cname": "zstd",
            "clevel": 1,
            "shuffle": self.shuffle,
            "blocksize": 0,
        }
        return [{"name": "bytes", **endian}, {"name": "blosc", "configuration": blosc}, {"name": "crc32c"}]


def write(path: Path, pixels: Pixels, form: Form) -> ShardFile:
    """Write a shard's pixels (y, x, c), at most `side` px, as its file: on the disk, whole, under its name at once.

    Whatever was there before is replaced, and not read. Raises ImageWriteError where the disk refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    chunks = form.side // form.chunk
    index = np.full((chunks, chunks, 2), _ABSENT, "<u8")
    digest, nbytes = hashlib.sha256(), 0
    with staged(path) as temporary, temporary.open("wb") as file:
        for window in grid(len(pixels), pixels.shape[1], form.chunk):
            data = _encoded(pixels[window.slices], form)
            index[window.y0 // form.chunk, window.x0 // form.chunk] = nbytes, len(data)
            nbytes += len(data)
            digest.update(data)
            file.write(data)
        end = _sealed(index.tobytes())
        digest.update(end)
        file.write(end)
    return ShardFile(nbytes + len(end), digest.hexdigest())


def read(path: Path, window: Window, form: Form, pixels: Pixels) -> None:
    """Fill `pixels` (y, x, c) with a window of a shard, px from the shard's corner; only its chunks are decoded.

    Raises StoreError where the shard, or a chunk that is needed, is lost or damaged.
    """
    first = Window(0, 0, form.chunk, form.chunk)
    try:
        with path.open("rb") as file:
            index = _index(file.fileno(), path, form)
            for y in range(window.y0 // form.chunk, -(-window.y1 // form.chunk)):
                for x in range(window.x0 // form.chunk, -(-window.x1 // form.chunk)):
                    chunk = first.shift(y * form.chunk, x * form.chunk)
                    part = window.clip(chunk)
                    decoded = _chunk(file.fileno(), index[y, x], path, form)
                    pixels[part.within(window).slices] = decoded[part.within(chunk).slices]
    except FileNotFoundError as error:
        raise _damaged(path, "is lost") from error


def _encoded(pixels: Pixels, form: Form) -> bytes:
    """One chunk; beyond the edge of the image it holds zeros."""
    chunk = np.ascontiguousarray(pixels)
    if chunk.shape[:2] != (form.chunk, form.chunk):
        chunk = np.zeros((form.chunk, form.chunk, form.channels), form.dtype)
        chunk[: pixels.shape[0], : pixels.shape[1]] = pixels
    # The array itself: of plain bytes it would not know how many make a sample.
    samples = cast("bytes", chunk)
    return _sealed(bytes(imagecodecs.blosc_encode(samples, 1, compressor="zstd", shuffle=form.shuffle, numthreads=1)))


def _chunk(descriptor: int, place: NDArray[np.uint64], path: Path, form: Form) -> Pixels:
    """The pixels of the chunk that an entry of the index points at."""
    offset, nbytes = (int(number) for number in place)
    if offset == _ABSENT:
        raise _damaged(path, "lacks a chunk")
    data = _unsealed(os.pread(descriptor, nbytes, offset), path)
    pixels: Pixels = np.frombuffer(imagecodecs.blosc_decode(data), form.dtype)
    if pixels.size != form.chunk * form.chunk * form.channels:
        raise _damaged(path, "is that of another array")
    return pixels.reshape(form.chunk, form.chunk, form.channels)


def _index(descriptor: int, path: Path, form: Form) -> NDArray[np.uint64]:
    """Offset and length of each chunk (y, x, 2)."""
    start = os.fstat(descriptor).st_size - form.index_nbytes
    data = _unsealed(os.pread(descriptor, form.index_nbytes, start) if start > 0 else b"", path)
    chunks = form.side // form.chunk
    return np.frombuffer(data, "<u8").reshape(chunks, chunks, 2)


def _sealed(data: bytes) -> bytes:
    """The bytes, and their checksum behind them."""
    return data + _check(data)


def _unsealed(data: bytes, path: Path) -> bytes:
    """The bytes without their checksum, which must be right. Raises StoreError."""
    content = data[:-_CHECK]
    if _check(content) != data[-_CHECK:]:
        raise _damaged(path, "fails its checksum")
    return content


def _check(data: bytes) -> bytes:
    return int(google_crc32c.value(data)).to_bytes(_CHECK, "little")


def _damaged(path: Path, what: str) -> StoreError:
    place = "/".join(path.parts[-5:])
    return StoreError(f"shard {place} {what}; run the job again, which makes it anew")
