from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import QUICK

from refine.window import Window, even_grid, grid, mirrored, read_mirrored

CORNERS = st.integers(-1000, 1000)
SIDES = st.integers(1, 300)


@st.composite
def windows(draw) -> Window:
    """Any window that is not empty."""
    y, x = draw(CORNERS), draw(CORNERS)
    return Window(y, x, y + draw(SIDES), x + draw(SIDES))


@QUICK
@given(height=st.integers(1, 90), width=st.integers(1, 90), side=st.integers(3, 100))
def test_grid_covers_each_pixel_once(height, width, side):
    """The windows of a grid hold every pixel exactly once, row by row, and none is larger than asked."""
    count = np.zeros((height, width), int)
    cells = list(grid(height, width, side))
    for cell in cells:
        count[cell.slices] += 1
        assert max(cell.height, cell.width) <= side
    assert (count == 1).all()
    assert cells == sorted(cells, key=lambda w: (w.y0, w.x0))


@QUICK
@given(window=windows(), side=st.integers(1, 90))
def test_even_grid_is_even(window, side):
    """The cells cover the window once, as few as there can be, and their sides differ by at most one pixel."""
    cells = list(even_grid(window, side))
    assert sum(cell.area for cell in cells) == window.area
    assert all(window.contains(cell) for cell in cells)
    assert len(cells) == -(-window.height // side) * -(-window.width // side)
    for sides in ([c.height for c in cells], [c.width for c in cells]):
        assert max(sides) <= side
        assert max(sides) - min(sides) <= 1


@QUICK
@given(size=st.integers(1, 12), before=st.integers(0, 60), after=st.integers(0, 60))
def test_mirrored_is_numpys_reflect(size, before, after):
    """However often an axis must be folded, the index is that of np.pad with `reflect`."""
    expected = np.pad(np.arange(size), (before, after), mode="reflect")
    np.testing.assert_array_equal(mirrored(-before, size + after, size), expected)


def test_mirrored_is_periodic_far_out():
    """A window far from the image, as tiles padded to one shape may have, mirrors as one close by."""
    np.testing.assert_array_equal(mirrored(10**12, 10**12 + 7, 4), mirrored(10**12 % 6, 10**12 % 6 + 7, 4))


@QUICK
@given(window=windows(), height=st.integers(1, 40), width=st.integers(1, 40))
def test_read_mirrored_equals_padding(window, height, width):
    """A window past the edges reads what np.pad would have put there."""
    source = np.arange(height * width * 2, dtype=np.uint16).reshape(height, width, 2)
    before, after = max(0, -window.y0), max(0, window.y1 - height)
    left, right = max(0, -window.x0), max(0, window.x1 - width)
    padded = np.pad(source, ((before, after), (left, right), (0, 0)), mode="reflect")
    expected = padded[window.shift(before, left).slices]
    np.testing.assert_array_equal(read_mirrored(source, window), expected)


class Witness:
    """An array that takes slices, as a zarr array does, and remembers what was read."""

    def __init__(self, pixels):
        self.pixels, self.shape, self.read = pixels, pixels.shape, 0

    def __getitem__(self, key):
        part = self.pixels[key]
        self.read += part.size
        return part


@pytest.mark.parametrize("window", [Window(5, 5, 20, 20), Window(-4, 80, 10, 104)], ids=["inside", "past-a-corner"])
def test_read_mirrored_reads_little(window):
    """Only rows and columns that are needed are read from the source."""
    source = Witness(np.zeros((100, 100, 1), np.uint8))
    assert read_mirrored(source, window).shape == (window.height, window.width, 1)
    assert source.read <= window.area


@QUICK
@given(window=windows(), other=windows(), by=st.integers(0, 50))
def test_window_arithmetic_agrees_with_sets(window, other, by):
    """Growing, shifting, clipping and containing are what they are for sets of pixels."""
    clipped = window.clip(other)
    assert window.grow(by).contains(window)
    assert window.grow(by).area == (window.height + 2 * by) * (window.width + 2 * by)
    assert clipped.area == 0 or (window.contains(clipped) and other.contains(clipped))
    assert window.contains(other) == (clipped.area == other.area)
    assert window.within(other).shift(other.y0, other.x0) == window
