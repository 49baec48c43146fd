"""Pyramids: sizes, shards, and a mean that is exact."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.pyramid import Pyramid, halved, levels, own_levels
from refine.errors import PlanError
from refine.window import Window, grid

SIZES = st.tuples(st.integers(1, 70), st.integers(1, 70))
DEPTHS = st.sampled_from(["uint8", "uint16"])


def noise(height, width, channels, dtype, *, seed=0, few=False):
    """Random pixels; with `few`, mostly the ends of the scale, as alpha is."""
    rng = np.random.default_rng(seed)
    top = np.iinfo(dtype).max
    if few:
        return rng.choice(np.array([0, 1, top - 1, top], dtype), (height, width, channels), p=[0.4, 0.1, 0.1, 0.4])
    return rng.integers(0, top, (height, width, channels), dtype, endpoint=True)


def four(pixels, y, x):
    """What lies below one pixel of the next level, as rows of Python integers."""
    return [
        [int(value) for value in pixel]
        for pixel in pixels[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].reshape(-1, pixels.shape[2])
    ]


def half_up(value):
    """The nearest integer, the greater one of two."""
    return floor(value + Fraction(1, 2))


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_levels_halve_until_one_chunk(height, width):
    """Each level has half the sides of the one before, rounded up; only the last one fits in a chunk."""
    found = levels(height, width)
    assert found[0] == (height, width)
    assert max(found[-1]) <= 512
    for before, after in pairwise(found):
        assert max(before) > 512
        assert all(2 * a - b in (0, 1) for a, b in zip(after, before, strict=True))


@given(SIZES, st.sampled_from([1, 3]), DEPTHS, st.booleans())
def test_halved_is_the_mean_rounded_half_up(size, channels, dtype, few):
    """Every pixel is the mean, in float, of the one, two or four below it."""
    pixels = noise(*size, channels, dtype, few=few)
    height, width = (-(-side // 2) for side in size)
    padded = np.full((2 * height, 2 * width, channels), np.nan)
    padded[: size[0], : size[1]] = pixels
    mean = np.nanmean(padded.reshape(height, 2, width, 2, channels), axis=(1, 3))
    result = halved(pixels)
    assert result.dtype == pixels.dtype
    assert np.array_equal(result, np.floor(mean + 0.5))


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)), st.sampled_from([2, 4]), DEPTHS, st.booleans(), st.integers(0, 9)
)
def test_halved_weighs_colour_with_alpha(size, channels, dtype, few, seed):
    """In fractions: colour is weighted with alpha, that of the invisible is their mean, and alpha is its own mean."""
    pixels = noise(*size, channels, dtype, seed=seed, few=few)
    result = halved(pixels)
    for y, x in np.ndindex(result.shape[:2]):
        below = four(pixels, y, x)
        weights = [pixel[-1] for pixel in below] if any(pixel[-1] for pixel in below) else [1] * len(below)
        colour = [
            half_up(Fraction(sum(w * p[c] for w, p in zip(weights, below, strict=True)), sum(weights)))
            for c in range(channels - 1)
        ]
        assert result[y, x].tolist() == [*colour, half_up(Fraction(sum(p[-1] for p in below), len(below)))]


def test_halved_keeps_invisible_colour_out_of_visible_pixels():
    """A white figure on invisible black has no grey rim at any level."""
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[13:50, 7:42] = 255
    while max(pixels.shape) > 1 and len(pixels) > 1:
        pixels = halved(pixels)
        assert (pixels[pixels[:, :, 3] > 0, :3] == 255).all()


@given(SIZES, st.sampled_from([1, 2, 3, 4]), DEPTHS, st.sampled_from([10, 16, 34]))
def test_halved_windows_equal_the_whole(size, channels, dtype, side):
    """Windows that begin at even places give the pixels of the whole image, odd edges included."""
    pixels = noise(*size, channels, dtype, few=True)
    whole = halved(pixels)
    for window in grid(*size, side):
        piece = halved(pixels[window.slices])
        at = Window(0, 0, *piece.shape[:2]).shift(window.y0 // 2, window.x0 // 2)
        assert np.array_equal(piece, whole[at.slices])


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_halved_holds_the_top_of_the_scale(dtype):
    """Sums of the greatest values do not run over."""
    top = np.iinfo(dtype).max
    pixels = np.full((80, 70, 4), top, dtype)
    pixels[::2, ::2, 3] = top - 1
    result = halved(pixels)
    assert (result[:, :, :3] == top).all()
    assert (result[:, :, 3] == top).all()


def test_halved_leaves_its_source_alone():
    """The pixels that are averaged may be read-only, and are what they were."""
    pixels = noise(33, 35, 4, "uint16", few=True)
    before = pixels.copy()
    pixels.flags.writeable = False
    halved(pixels)
    assert np.array_equal(pixels, before)


@given(SIZES, st.sampled_from([(16, 16), (32, 16), (64, 16), (8, 4)]))
def test_tiles_write_each_own_shard_once(size, sides):
    """The tiles' shards of an own level are that level's grid: none twice, none left out, none shared."""
    pyramid = Pyramid(*size, 1, "uint8", *sides)
    written = [one for tile in grid(*size, pyramid.tile) for one in pyramid.own_shards(tile)]
    wanted = [one for level in range(pyramid.own) for one in pyramid.shards(level)]
    assert sorted(written, key=repr) == sorted(wanted, key=repr)
    assert all(pyramid.side(level) >= pyramid.chunk for level in range(len(pyramid.levels)))


@pytest.mark.parametrize(
    "window",
    [Window(16, 0, 48, 32), Window(0, 0, 32, 31), Window(64, 64, 100, 100), Window(128, 0, 160, 32)],
    ids=["off the grid", "cut short", "beyond the edge", "outside"],
)
def test_own_shards_refuse_what_is_no_tile(window):
    """Another window than a tile of the grid would write into shards of other tiles."""
    with pytest.raises(PlanError, match="no tile"):
        Pyramid(90, 90, 1, "uint8", 32, 16).own_shards(window)


@pytest.mark.parametrize(("tile", "near"), [(0, 512), (256, 512), (513, 512), (1536, 2048), (3000, 4096)])
def test_own_levels_refuse_tiles_without_halves(tile, near):
    """A tile that is not 512 px times a power of two is refused, with one that would do."""
    with pytest.raises(PlanError, match=f"use {near}$"):
        own_levels(tile)
