"""Working arrays: one writer a shard, and no damage without an error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import zarr
from strategies_files import picture, write_picture

from pipelines import ingest, store
from pipelines.errors import StoreError
from refine.decoder import Decoder
from refine.errors import PlanError
from refine.window import Window, grid

TILE = 256


@pytest.fixture
def pixels():
    """Three by two tiles, the last ones cut off."""
    return picture(2 * TILE + 70, TILE + 30)


@pytest.fixture
def path(tmp_path, pixels):
    """A filled array."""
    array = store.create(tmp_path / "target.zarr", pixels.shape, "uint8", TILE, 128)
    for tile in grid(*pixels.shape[:2], TILE):
        array[tile.slices] = pixels[tile.slices]
    return tmp_path / "target.zarr"


def test_store_gives_back_what_was_written(path, pixels):
    """A second reader, zarr itself, sees the same pixels."""
    assert np.array_equal(zarr.open_array(path, mode="r")[:], pixels)


def test_store_has_one_file_a_tile(path, pixels):
    """Every tile is one shard file, at the place that `shard_path` says, and there are no others."""
    tiles = list(grid(*pixels.shape[:2], TILE))
    expected = {store.shard_path(path, tile, TILE) for tile in tiles}
    assert {found for found in (path / "c").rglob("*") if found.is_file()} == expected


@pytest.mark.parametrize("reopened", [False, True], ids=["as created", "opened again"])
def test_store_writes_black_tiles_too(tmp_path, reopened):
    """An all-zero tile has a file: otherwise a lost one could not be told from it."""
    path = tmp_path / "a.zarr"
    array = store.create(path, (TILE, TILE, 3), "uint16", TILE, 128)
    if reopened:
        array = store.opened(path, "r+")
    array[0:TILE, 0:TILE] = np.zeros((TILE, TILE, 3), np.uint16)
    assert store.shard_path(path, Window(0, 0, TILE, TILE), TILE).stat().st_size > 0


def test_flipped_byte_is_an_error(path):
    """One bit turned anywhere in a shard's pixels is an error when they are read, never other pixels."""
    shard = store.shard_path(path, Window(0, 0, TILE, TILE), TILE)
    data = bytearray(shard.read_bytes())
    for position in (10, len(data) // 2, len(data) - 10):
        data[position] ^= 1
        shard.write_bytes(data)
        with pytest.raises(ValueError, match="checksum"):
            _ = store.opened(path)[0:TILE, 0:TILE]
        data[position] ^= 1


def test_lost_shard_is_seen_by_the_ledger_only(path, pixels):
    """zarr reads a lost shard as zeros without a word, so `is_whole` must say that it is not there."""
    tile = Window(TILE, 0, 2 * TILE, TILE)
    shard = store.shard_path(path, tile, TILE)
    nbytes = store.sealed(shard).nbytes
    assert store.is_whole(shard, nbytes)
    shard.unlink()
    assert not store.opened(path)[tile.slices].any()
    assert pixels[tile.slices].any()
    assert not store.is_whole(shard, nbytes)


def test_short_shard_is_not_whole(path):
    """A shard file that was cut off does not pass."""
    shard = store.shard_path(path, Window(0, 0, TILE, TILE), TILE)
    nbytes = store.sealed(shard).nbytes
    shard.write_bytes(shard.read_bytes()[:-1])
    assert not store.is_whole(shard, nbytes)


@pytest.mark.parametrize("tile", [TILE // 2, 2 * TILE, 300])
def test_two_writers_in_a_shard_are_refused(path, tile):
    """Tiles that are not the array's shards are refused before one is written."""
    with pytest.raises(PlanError, match=f"tiles of {tile} px"):
        store.check_one_writer(store.opened(path), tile)


def test_two_writers_in_a_shard_lose_pixels(tmp_path):
    """The reason for the rule: of two that write halves of one shard at once, one is lost."""
    path = tmp_path / "a.zarr"
    store.create(path, (TILE, TILE, 1), "uint8", TILE, 128)
    shard = store.shard_path(path, Window(0, 0, TILE, TILE), TILE)
    ones = np.ones((TILE // 2, TILE, 1), np.uint8)
    store.opened(path, "r+")[0 : TILE // 2, 0:TILE] = ones
    # The second writer looked when there was no shard yet.
    shard.unlink()
    store.opened(path, "r+")[TILE // 2 : TILE, 0:TILE] = ones
    assert store.opened(path)[0:TILE, 0:TILE].mean() == 0.5


def test_shard_path_refuses_tiles_off_the_grid(path):
    """A tile that begins inside a shard has no file of its own."""
    with pytest.raises(PlanError, match="one grid"):
        store.shard_path(path, Window(10, 0, TILE, TILE), TILE)


@pytest.mark.parametrize("tile", [1021, 2 * 523])
def test_chunk_side_refuses_tiles_without_divisors(tile):
    """A tile that no chunk of a useful size divides is refused, with one that would do."""
    with pytest.raises(PlanError, match="use 1024"):
        store.chunk_side(tile, 512)


def test_opened_refuses_what_is_no_array(tmp_path):
    """A work folder without its array is an error of one line."""
    with pytest.raises(StoreError, match="lost or damaged"):
        store.opened(tmp_path / "none.zarr")


def test_ingest_marks_only_what_is_complete(tmp_path):
    """The marker appears after the last band; a decoder that fails half way leaves none."""
    pixels = picture(ingest.SHARD + 50, 40)
    source = write_picture(tmp_path / "a.png", pixels)
    came_from = ingest.Origin("a.png", 1, 2, "key", "sha")
    work = tmp_path / "work"
    with Decoder() as decoder:
        spec = decoder.spec(source)
        ingest.ingest(source, spec, work, decoder, came_from)
        assert ingest.origin(work) == came_from
        assert np.array_equal(ingest.ingested(work)[0 : spec.height], pixels)

        class Failing:
            storage = decoder.storage

            def window(self, *_, **__):
                raise OSError("gone")

        with pytest.raises(OSError, match="gone"):
            ingest.ingest(source, spec, work, Failing(), replace(came_from, key="other"))
    assert ingest.origin(work) is None
    with pytest.raises(StoreError, match="not complete"):
        ingest.ingested(work)
