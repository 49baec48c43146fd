"""Working arrays on disk: zarr, one shard a tile, every chunk with a checksum."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from pipelines.errors import StoreError
from refine.errors import PlanError
from refine.spec import Depth, Pixels
from refine.window import Window

SOURCE_CHUNK = 256
"""px. Small, for a tile's halo decodes whole chunks."""
TARGET_CHUNK = 512
"""px."""
_LEAST_CHUNK = 64
"""px. Smaller chunks cost more than they save."""


@dataclass(frozen=True, slots=True)
class ShardFile:
    """What a shard's file was when it was written."""

    nbytes: int
    """Bytes."""
    sha256: str
    """Of the file, hex."""


class PixelArray:
    """Pixels (y, x, c) in a zarr array: what takes and gives slices of plain numpy pixels."""

    def __init__(self, array: zarr.Array[Any]) -> None:
        self._array = array
        self.shape: tuple[int, ...] = array.shape
        self.dtype: np.dtype[Any] = array.dtype
        self.shards: tuple[int, ...] = array.shards or ()

    def __getitem__(self, window: slice | tuple[slice, slice]) -> Pixels:
        return np.asarray(self._array[window])

    def __setitem__(self, window: slice | tuple[slice, slice], pixels: Pixels) -> None:
        self._array[window] = pixels


def create(path: Path, shape: tuple[int, int, int], dtype: Depth, shard: int, chunk: int) -> PixelArray:
    """A new array (y, x, c) whose shards have sides of `shard` px and inner chunks of at most `chunk`.

    Anything at `path` goes.
    """
    inner = chunk_side(shard, chunk)
    shutil.rmtree(path, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    array = zarr.create_array(
        path,
        shape=shape,
        dtype=dtype,
        shards=(shard, shard, shape[2]),
        chunks=(inner, inner, shape[2]),
        compressors=[BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"), Crc32cCodec()],
        fill_value=0,
        # Without it a black shard has no file, and a lost one looks like it.
        config={"write_empty_chunks": True},
    )
    return PixelArray(array)


def opened(path: Path, mode: str = "r") -> PixelArray:
    """The array at `path`; mode is `r` or `r+`. Raises StoreError where there is none."""
    try:
        array = zarr.open_array(path, mode="r+" if mode == "r+" else "r")
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"{path.name}: the working array is lost or damaged; remove its folder") from error
    # Not kept with the array, and open_array takes it without heeding it.
    return PixelArray(array.with_config({"write_empty_chunks": True}))


def chunk_side(shard: int, chunk: int) -> int:
    """The largest side of at most `chunk` px that divides the shard's. Raises PlanError where it would be tiny.

    >>> chunk_side(2048, 512), chunk_side(256, 512), chunk_side(1200, 512)
    (512, 256, 400)
    """
    side = next(s for s in range(min(shard, chunk), 0, -1) if shard % s == 0)
    if side < min(shard, _LEAST_CHUNK):
        near = max(chunk, round(shard / chunk) * chunk)
        raise PlanError(f"a tile of {shard} px cannot be cut into even chunks of at most {chunk} px; use {near}")
    return side


def check_one_writer(array: PixelArray, tile: int) -> None:
    """Raise PlanError unless tiles of that side are the shards of the array: two writers in one shard lose pixels."""
    if array.shards[:2] != (tile, tile):
        found = f"shards of {array.shards[0]} x {array.shards[1]} px" if array.shards else "no shards"
        raise PlanError(f"tiles of {tile} px need shards of that size, the array has {found}; make it anew")


def shard_path(path: Path, tile: Window, side: int) -> Path:
    """The file of the shard that is one tile of the array at `path`."""
    if tile.y0 % side or tile.x0 % side:
        raise PlanError(f"{tile} starts inside a shard of {side} px; tiles and shards are one grid")
    return path / "c" / str(tile.y0 // side) / str(tile.x0 // side) / "0"


def sealed(shard: Path) -> ShardFile:
    """What a shard's file is, once the disk has it. Raises StoreError where it was not written."""
    try:
        descriptor = os.open(shard, os.O_RDONLY)
    except FileNotFoundError as error:
        raise StoreError(f"shard {shard.parent.parent.name}/{shard.parent.name} was not written") from error
    with os.fdopen(descriptor, "rb") as file:
        os.fsync(descriptor)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return ShardFile(file.tell(), digest)


def is_whole(shard: Path, nbytes: int) -> bool:
    """Whether a shard's file is there, as long as it was written. Its checksums are read with its pixels."""
    try:
        return shard.stat().st_size == nbytes
    except FileNotFoundError:
        return False
