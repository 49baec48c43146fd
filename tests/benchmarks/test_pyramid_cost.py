"""What the pyramid adds to writing a tile, where the time goes, and what zarr would take for the same shard."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import imagecodecs
import numpy as np
import pytest
import zarr
from skimage import data
from tables import cpu_seconds, write_table
from zarr.codecs import BloscCodec, Crc32cCodec, TransposeCodec

from pipelines import ngff, omezarr, shard, store
from pipelines.pyramid import CHUNK, halved
from refine.spec import ImageSpec, Pixels
from refine.window import Window, grid

pytestmark = pytest.mark.bench

_TILE = 2048
_KINDS = [(1, "uint16"), (3, "uint16"), (1, "uint8"), (3, "uint8"), (4, "uint8")]
_NETWORK_NS = 183
"""ns per output px that the fastest network takes for RGB of the same tile; from the table of the program's cost."""


def enlarged(channels: int, dtype: str) -> Pixels:
    """A tile of photographs enlarged twice by splines, with the grain of a scanner in 16 bits."""
    photo = np.asarray(data.astronaut(), np.float32)
    tiled = np.tile(photo, (2, 2, 1))
    smooth = np.stack([_doubled(tiled[:, :, c % 3]) for c in range(channels)], 2)
    rng = np.random.default_rng(0)
    values = smooth * 257 + rng.normal(0, 60, smooth.shape) if dtype == "uint16" else smooth
    pixels = np.clip(np.round(values), 0, np.iinfo(dtype).max).astype(dtype)
    if channels == 4:
        y, x = np.ogrid[:_TILE, :_TILE]
        distance = np.hypot(y - _TILE / 2, x - _TILE / 2) - 700
        pixels[:, :, 3] = np.clip(128 - 40 * distance, 0, 255)
    return pixels


def _doubled(plane: np.ndarray) -> np.ndarray:
    """A plane at twice its sides, by cubic splines."""
    from scipy.ndimage import zoom  # noqa: PLC0415  slow to load, and only here

    return zoom(plane, 2, order=3, mode="grid-mirror", grid_mode=True)


def zarr_array(path: Path, pixels: Pixels) -> zarr.Array:
    """An array of one shard with the same codecs, by zarr; made before anything is measured."""
    channels = pixels.shape[2]
    return zarr.create_array(
        path,
        shape=(channels, *pixels.shape[:2]),
        dtype=pixels.dtype,
        shards=(channels, _TILE, _TILE),
        chunks=(channels, CHUNK, CHUNK),
        filters=[TransposeCodec(order=(1, 2, 0))],
        compressors=[BloscCodec(cname="zstd", clevel=1), Crc32cCodec()],
        fill_value=0,
        config={"write_empty_chunks": True},
    )


def wall_seconds(*works: Callable[[], object], rounds: int = 9) -> list[float]:
    """Median wall seconds of each work, in turn."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for spent, work in zip(times, works, strict=True):
            start = time.perf_counter()
            work()
            spent.append(time.perf_counter() - start)
    return [median(spent) for spent in times]


def works(folder: Path, pixels: Pixels) -> list[Callable[[], object]]:
    """What is measured of a tile, in the order of the table's columns."""
    dtype = str(pixels.dtype)
    (image,) = omezarr.create(folder / "tile", [ImageSpec(*pixels.shape, dtype)], _TILE)
    (quarter,) = omezarr.create(folder / "quarter", [ImageSpec(2 * CHUNK, 2 * CHUNK, pixels.shape[2], dtype)], CHUNK)
    tile, small = omezarr.pyramid(image), omezarr.pyramid(quarter)
    for window in grid(2 * CHUNK, 2 * CHUNK, CHUNK):
        omezarr.write_tile(quarter, small, window, pixels[window.slices])
    chunks = [np.ascontiguousarray(pixels[window.slices]) for window in grid(_TILE, _TILE, CHUNK)]
    path, form, above = omezarr.shard_path(image, 0, 0, 0), ngff.form(tile, 0), omezarr.upper(small)[0][0]
    half, theirs, sealed = halved(pixels), zarr_array(folder / "zarr", pixels), folder / "zarr" / "c" / "0" / "0" / "0"
    return [
        lambda: [imagecodecs.blosc_encode(c, 1, compressor="zstd", shuffle=form.shuffle, numthreads=1) for c in chunks],
        lambda: theirs.__setitem__(slice(None), np.moveaxis(pixels, 2, 0)),
        lambda: (theirs.__setitem__(slice(None), np.moveaxis(pixels, 2, 0)), store.sealed(sealed)),
        lambda: shard.write(path, pixels, form),
        lambda: omezarr.write_tile(image, tile, Window(0, 0, _TILE, _TILE), pixels),
        lambda: (halved(pixels), halved(half)),
        lambda: omezarr.opened(image)[:, :],
        lambda: theirs[:],
        lambda: omezarr.write_upper(quarter, small, above),
    ]


def synced(path: Path) -> None:
    """Write a little, and wait for the disk."""
    with path.open("wb") as file:
        file.write(b"x" * 100_000)
        os.fsync(file.fileno())


def test_pyramid_cost(tmp_path: Path) -> None:
    """Write the table of a tile's cost with and without its pyramid, per px of the tile."""
    rows, waits = [], []
    for channels, dtype in _KINDS:
        folder = tmp_path / f"{channels}{dtype}"
        measured = works(folder, enlarged(channels, dtype))
        *spent, above = (1e9 * s / _TILE**2 for s in cpu_seconds(*measured))
        added = spent[4] - spent[3]
        # An upper shard is measured at its smallest, and costs as much per px at any size.
        cells = [*spent, above * _TILE**2 / CHUNK**2, added]
        rows.append((f"{channels} x {dtype}", *(f"{cell:.1f}" for cell in cells), f"{added / _NETWORK_NS:.1%}"))
        alone, levels = wall_seconds(measured[3], measured[4])
        waits.append(f"{channels} x {dtype} {1e3 * alone:.0f} and {1e3 * levels:.0f}")
        shutil.rmtree(folder)
    (fsync,) = wall_seconds(lambda: synced(tmp_path / "a"))
    header = (
        "pixels",
        "blosc",
        "zarr",
        "zarr, sealed",
        "ours",
        "ours, 3 levels",
        "halving",
        "read",
        "zarr reads",
        "upper",
        "adds",
        "share",
    )
    notes = (
        f"CPU ns per px of a tile of {_TILE} px: blosc alone; the shard by zarr; the same with the fsync "
        "and SHA-256 of store.sealed; the shard by ours, fsync, SHA-256 and rename "
        "included; the same with two further levels, of which the halving alone; reading it; an upper shard out of the "
        "level below, per px of the shard, of which there is 1 for 48 px of the image; what the two levels add, "
        f"and its share of the {_NETWORK_NS} ns that the fastest network takes for an RGB px. Wall ms of a tile "
        f"without and with its levels, 2 and 6 waits for the disk of about {1e3 * fsync:.1f} ms: {'; '.join(waits)}."
    )
    print(write_table("pyramid-cost", "Cost of a tile's shards and levels", header, rows, notes))
