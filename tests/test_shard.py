"""Shards made here: zarr reads them, and no damage goes unseen."""

from __future__ import annotations

from hashlib import sha256

import imagecodecs
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from strategies_files import picture
from zarr.codecs import BloscCodec, Crc32cCodec

from pipelines import shard
from pipelines.errors import StoreError
from pipelines.shard import Form
from refine.window import Window, grid

SIDE, CHUNK = 64, 16
KINDS = [(1, "uint8"), (2, "uint8"), (3, "uint16"), (4, "uint16")]


def zarr_array(path, shape, dtype):
    """An array (y, x, c) of that form, made by zarr."""
    shuffle = "bitshuffle" if dtype == "uint8" else "shuffle"
    return zarr.create_array(
        path,
        shape=shape,
        dtype=dtype,
        shards=(SIDE, SIDE, shape[2]),
        chunks=(CHUNK, CHUNK, shape[2]),
        compressors=[BloscCodec(cname="zstd", clevel=1, shuffle=shuffle), Crc32cCodec()],
        fill_value=0,
    )


@pytest.fixture
def path(tmp_path):
    """A shard cut off by the edge of its image: 3 x 4 of its 4 x 4 chunks are there."""
    found = tmp_path / "c" / "0" / "1"
    shard.write(found, picture(40, SIDE, 3), Form(SIDE, CHUNK, 3, "uint8"))
    return found


@pytest.mark.parametrize(("channels", "dtype"), KINDS)
def test_zarr_reads_what_is_written(tmp_path, channels, dtype):
    """Shards written here are those of an array that zarr made the metadata of."""
    pixels = picture(150, 70, channels, dtype)
    zarr_array(tmp_path / "a", pixels.shape, dtype)
    for tile in grid(150, 70, SIDE):
        file = tmp_path / "a" / "c" / str(tile.y0 // SIDE) / str(tile.x0 // SIDE) / "0"
        shard.write(file, pixels[tile.slices], Form(SIDE, CHUNK, channels, dtype))
    assert np.array_equal(zarr.open_array(tmp_path / "a", mode="r")[:], pixels)


@pytest.mark.parametrize(("channels", "dtype"), KINDS)
def test_read_gives_what_zarr_wrote(tmp_path, channels, dtype):
    """Shards written by zarr are read here."""
    pixels = picture(SIDE, SIDE, channels, dtype)
    zarr_array(tmp_path / "a", pixels.shape, dtype)[:] = pixels
    found = np.empty_like(pixels)
    shard.read(tmp_path / "a/c/0/0/0", Window(0, 0, SIDE, SIDE), Form(SIDE, CHUNK, channels, dtype), found)
    assert np.array_equal(found, pixels)


@given(data=st.data())
def test_read_gives_any_window(tmp_path_factory, data):
    """A window at any place is that part of what was written."""
    form, pixels = Form(SIDE, CHUNK, 2, "uint16"), picture(50, 60, 2, "uint16")
    file = tmp_path_factory.getbasetemp() / "windows" / "0"
    if not file.exists():
        shard.write(file, pixels, form)
    y0, x0 = data.draw(st.integers(0, 49)), data.draw(st.integers(0, 59))
    window = Window(y0, x0, data.draw(st.integers(y0 + 1, 50)), data.draw(st.integers(x0 + 1, 60)))
    found = np.empty((window.height, window.width, 2), np.uint16)
    shard.read(file, window, form, found)
    assert np.array_equal(found, pixels[window.slices])


def test_write_tells_what_the_file_is(tmp_path):
    """Length and digest are those of the file, and the same pixels give the same bytes."""
    form, pixels = Form(SIDE, CHUNK, 1, "uint8"), picture(SIDE, SIDE, 1)
    first, second = (shard.write(tmp_path / name, pixels, form) for name in "ab")
    data = (tmp_path / "a").read_bytes()
    assert first == second
    assert (first.nbytes, first.sha256) == (len(data), sha256(data).hexdigest())


def test_black_shards_have_their_chunks(tmp_path):
    """Black pixels are written like any others, for what is absent counts as lost."""
    form = Form(SIDE, CHUNK, 1, "uint8")
    shard.write(tmp_path / "0", np.zeros((SIDE, SIDE, 1), np.uint8), form)
    found = np.ones((SIDE, SIDE, 1), np.uint8)
    shard.read(tmp_path / "0", Window(0, 0, SIDE, SIDE), form, found)
    assert not found.any()


def test_chunks_hold_zeros_beyond_the_edge(path):
    """The part of a chunk beyond the image is zero, so that bytes depend on nothing but the pixels."""
    found = np.ones((8, SIDE, 3), np.uint8)
    shard.read(path, Window(40, 0, 48, SIDE), Form(SIDE, CHUNK, 3, "uint8"), found)
    assert not found.any()


def test_any_flipped_byte_is_an_error(path):
    """A bit turned anywhere in the file is an error when all of it is read, never other pixels."""
    good, form = path.read_bytes(), Form(SIDE, CHUNK, 3, "uint8")
    index = range(len(good) - form.index_nbytes, len(good))
    for position in (*range(0, len(good), 97), *index[::11]):
        data = bytearray(good)
        data[position] ^= 4
        path.write_bytes(data)
        with pytest.raises(StoreError, match="checksum"):
            shard.read(path, Window(0, 0, 40, SIDE), form, np.empty((40, SIDE, 3), np.uint8))


@pytest.mark.parametrize("kept", [0, 3, 100, -300, -1])
def test_short_shards_are_an_error(path, kept):
    """A file that was cut off at any place is an error."""
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(StoreError, match="fails its checksum; run the job again"):
        shard.read(path, Window(0, 0, 4, 4), Form(SIDE, CHUNK, 3, "uint8"), np.empty((4, 4, 3), np.uint8))


def test_lost_shards_are_an_error(path):
    """A file that is gone is an error, where zarr gives zeros."""
    path.unlink()
    with pytest.raises(StoreError, match="c/0/1 is lost"):
        shard.read(path, Window(0, 0, 4, 4), Form(SIDE, CHUNK, 3, "uint8"), np.empty((4, 4, 3), np.uint8))


@pytest.mark.parametrize(
    ("form", "window", "message"),
    [
        (Form(SIDE, CHUNK, 3, "uint8"), Window(40, 0, 64, 4), "lacks a chunk"),
        (Form(SIDE, CHUNK, 4, "uint8"), Window(0, 0, 4, 4), "that of another array"),
        (Form(SIDE // 2, CHUNK, 3, "uint8"), Window(0, 0, 4, 4), "fails its checksum"),
    ],
    ids=["beyond the edge", "other channels", "other side"],
)
def test_shards_of_other_arrays_are_an_error(path, form, window, message):
    """A shard that another array's place holds is not read as if it were its own."""
    pixels = np.empty((window.height, window.width, form.channels), np.uint8)
    with pytest.raises(StoreError, match=message):
        shard.read(path, window, form, pixels)


def test_failed_write_leaves_the_old_shard(path, monkeypatch):
    """A write that fails half way changes nothing, and leaves no file behind."""
    before, count, encode = path.read_bytes(), iter(range(9)), imagecodecs.blosc_encode

    def failing(*arguments, **options):
        if next(count) == 5:
            raise OSError(28, "no space left")
        return encode(*arguments, **options)

    monkeypatch.setattr(imagecodecs, "blosc_encode", failing)
    with pytest.raises(OSError, match="no space left"):
        shard.write(path, picture(SIDE, SIDE, 3, seed=1), Form(SIDE, CHUNK, 3, "uint8"))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
