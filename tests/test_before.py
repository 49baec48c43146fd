"""The source as a layer to compare with: where its pixels come to lie, and how much of it is read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tifffile
from omegroup import pattern
from PIL import Image as Pillow

from pipelines import before as module
from pipelines import sources
from pipelines.before import Before, Reader
from pipelines.errors import JobError
from refine.window import Window, grid


@pytest.fixture
def layer(tmp_path):
    """A function that stores pixels as a tiled TIFF and gives them as a layer below a result of a size."""
    reader = Reader()

    def make(pixels, size):
        path = tmp_path / "source.tif"
        photometric = "rgb" if pixels.shape[2] >= 3 else "minisblack"
        extra = ["unassalpha"] if pixels.shape[2] in (2, 4) else []
        stored = pixels if pixels.shape[2] > 1 else pixels[..., 0]
        tifffile.imwrite(path, stored, tile=(64, 64), photometric=photometric, extrasamples=extra, metadata=None)
        return Before(reader.found(lambda: sources.source_of(path)), size, reader)

    yield make
    reader.close()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(600, 900), (300, 450), (731, 1003)], ids=str)
def test_window_is_that_of_the_whole_enlarged(layer, channels, size):
    """Every tile of every level is that part of the whole source, enlarged or reduced by Pillow at once."""
    pixels = pattern(300, 450, channels)
    before = layer(pixels, size)
    whole = Pillow.fromarray(pixels[..., 0] if channels == 1 else pixels)
    for level in range(before.levels):
        height, width = -(-size[0] // 2**level), -(-size[1] // 2**level)
        step = 2**level
        box = (0, 0, width * step * 450 / size[1], height * step * 300 / size[0])
        for window in grid(height, width, 512):
            found = before.window(window, level)
            assert found.shape == (window.height, window.width, channels)
            inside = (min(box[2], 450), min(box[3], 300))
            if (window.height, window.width) == (height, width):
                wanted = whole.resize((width, height), Pillow.Resampling.BILINEAR, (0, 0, *inside))
                np.testing.assert_array_equal(found, np.asarray(wanted).reshape(found.shape))


def test_window_lies_over_the_result(layer):
    """A dot of the source is seen where an exact enlargement has it, across the borders of tiles."""
    pixels = np.zeros((400, 400, 1), np.uint8)
    pixels[::50, ::50] = 255
    before = layer(pixels, (1200, 1200))
    whole = np.zeros((1200, 1200))
    for window in grid(1200, 1200, 512):
        whole[window.slices] = before.window(window, 0)[..., 0]
    wanted = np.asarray(Pillow.fromarray(pixels[..., 0]).resize((1200, 1200), Pillow.Resampling.BILINEAR))
    assert np.abs(whole - wanted).max() <= 1


def test_levels_end_where_a_tile_would_read_too_much(layer, monkeypatch):
    """Of a large source there are no tiles that need more px than one tile may, and the page knows the zoom."""
    pixels = pattern(512, 2048, 1)
    before = layer(pixels, (2048, 8192))
    assert before.levels == 5
    assert before.zoom == 0
    monkeypatch.setattr(module, "_MAX_READ", 256 * 256)
    assert before.levels == 2
    assert before.zoom == 0.25
    monkeypatch.setattr(module, "_MAX_READ", 1)
    assert before.levels == 1


def test_window_reads_only_what_it_needs(layer):
    """A tile reads its own part of a source that is read in place, and a pixel or two around it."""
    before = layer(pattern(1000, 1000, 1), (2000, 2000))
    asked = []
    source = before._source

    class Watched:
        kind = "windows"

        def opened(self):
            return self

        def __getitem__(self, index):
            asked.append(index)
            return source.opened()[index]

    before._source = Watched()
    before.window(Window(512, 1024, 1024, 1536), 0)
    assert asked == [(slice(254, 514), slice(510, 770))]


def test_source_that_is_decoded_whole_is_decoded_once(layer):
    """One that has no parts is kept in memory, and one that is too large for that is refused in a line."""
    before = layer(pattern(200, 300, 3), (400, 600))
    before._source = replace(before._source, kind="whole")
    first = before.window(Window(0, 0, 400, 512), 0)
    assert before._kept is not None
    before._source = replace(before._source, path=before._source.path.with_name("gone.tif"))
    np.testing.assert_array_equal(before.window(Window(0, 0, 400, 512), 0), first)
    large = replace(before._source, spec=replace(before.spec, height=30_000, width=30_000))
    with pytest.raises(JobError, match="tiled TIFF"):
        Before.check(large)
    Before.check(replace(large, kind="windows"))
