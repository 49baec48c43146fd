"""The lazy view: the plain loop's pixels, and only the tiles that are asked for."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import tifffile
from strategies_files import assessed_plan, picture

from pipelines import lazy
from refine.chain import Chain
from refine.errors import PlanError
from refine.imagefile import read_image
from refine.plan import planned
from refine.preset import load_preset
from refine.resample import Resample
from refine.settings import Settings, Size
from refine.sharpen import UnsharpMask
from refine.tiles import restored_pixels


@pytest.fixture
def source(tmp_path):
    """A tiled TIFF."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture(300, 220, 3, "uint16"), tile=(64, 64))
    return path


@pytest.mark.parametrize("kind", ["chain", "settings"])
def test_lazy_equals_the_plain_loop(source, kind):
    """The whole array is the plain loop's, whatever its chunks, for a chain and for settings."""
    image = read_image(source)
    if kind == "chain":
        chain = Chain((Resample("lanczos3"), UnsharpMask()))
        found = lazy.restored(source, chain, size=(450, 330), tile=128)
        expected = restored_pixels(image.pixels, planned(chain, image.spec, (450, 330)))
    else:
        settings = Settings(load_preset("balanced", {"upscale.nets": "[]"}), Size(scale=Fraction(3, 2)))
        found = lazy.restored(source, settings, tile=128)
        expected = restored_pixels(image.pixels, assessed_plan(settings, image))
    assert (found.shape, found.dtype, found.chunks[0]) == ((450, 330, 3), np.uint16, (128, 128, 128, 66))
    assert np.array_equal(found.compute(scheduler="synchronous"), expected)


@pytest.mark.parametrize(("tile", "of_the_preset"), [(256, 2048), (320, 192)])
def test_lazy_takes_its_own_tile(source, tile, of_the_preset):
    """Chunks are as wide as they are asked for, whatever the tile of the settings; the pixels are the same."""
    preset = load_preset("balanced", {"upscale.nets": "[]", "plan.block": "128", "plan.tile": str(of_the_preset)})
    settings = Settings(preset, Size(Fraction(2)))
    image = read_image(source)
    found = lazy.restored(source, settings, tile=tile).compute(scheduler="synchronous")
    assert np.array_equal(found, restored_pixels(image.pixels, assessed_plan(settings, image)))


def test_lazy_computes_what_is_sliced(source, monkeypatch):
    """A slice inside one tile restores that tile alone."""
    restored = []
    real = lazy.restored_window
    monkeypatch.setattr(lazy, "restored_window", lambda *a: restored.append(a[2]) or real(*a))
    lazy.restored(source, Chain((UnsharpMask(),)), tile=100)[210:290, 10:90].compute(scheduler="synchronous")
    assert [(w.y0, w.x0) for w in restored] == [(200, 0)]


def test_lazy_wants_one_size(source):
    """Two sizes are one too many."""
    with pytest.raises(PlanError, match="give one of them"):
        lazy.restored(source, Settings(size=Size(scale=Fraction(2))), size=(10, 10))
