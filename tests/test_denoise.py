from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import strategies as made

from refine.chain import Chain
from refine.denoise import GuidedDenoise, denoise_radius
from refine.errors import ChainError


def cleaned(pixels: np.ndarray, luma: float = 0.0, chroma: float = 0.0, radius: int = 3) -> np.ndarray:
    """The picture through the filter alone."""
    return made.restored(pixels, Chain((GuidedDenoise(luma, chroma, radius),)), pixels.shape[:2])


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("strength", [1e-30, 1e-3, 3.0, 64.0])
def test_flat_field_stays(dtype, strength):
    """Where the variance is 0 the filter is 0 / (0 + eps), never 0 / 0: one colour stays that colour."""
    top = np.iinfo(dtype).max
    for colour in ((0, 0, 0), (top, top, top), (top // 3, 7, top // 2)):
        pixels = np.empty((20, 20, 3), dtype)
        pixels[:] = colour
        assert (cleaned(pixels, strength, strength) == colour).all()


def test_noise_below_the_strength_goes():
    """Of noise of the sigma that it is told, little is left; a step ten times as high stays."""
    rng = np.random.default_rng(1)
    clean = np.full((64, 64, 1), 90.0)
    clean[:, 32:] = 160
    noisy = np.clip(np.round(clean + rng.normal(0, 5, clean.shape)), 0, 255).astype(np.uint8)
    left = cleaned(noisy, luma=5.0) - clean
    assert left[8:-8, 8:24].std() < 2
    assert abs(left[:, :28].mean()) < 1
    assert abs(left[:, 36:].mean()) < 1


def test_chroma_only_leaves_luma():
    """Cleaning the colour differences moves luma by rounding only."""
    pixels = (made.picture(30, 30, 3, "uint16", seed=2) // 2 + 16000).astype(np.uint16)
    weights = np.array([0.299, 0.587, 0.114])
    moved = (cleaned(pixels, chroma=6.0).astype(float) - pixels) @ weights
    assert np.abs(moved).max() <= 1
    assert (cleaned(pixels, chroma=6.0) != pixels).any()


def test_chroma_means_nothing_for_grey():
    """A grey picture under chroma denoising alone is unchanged."""
    pixels = made.picture(30, 30, 1, "uint8", seed=3)
    np.testing.assert_array_equal(cleaned(pixels, chroma=6.0), pixels)


def test_radius_grows_with_enlargement():
    """Enlarged noise is coarser: the radius covers 2 px of the source, between 2 and 32."""
    radii = [denoise_radius(Fraction(ratio)) for ratio in ("0.3", "1", "2", "2.5", "4", "16")]
    assert radii == sorted(radii)
    assert radii[0] == 2
    assert radii[-1] == 32


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param({"luma": -1.0}, "luma is a sigma in 8-bit levels between 0 and 64, got -1.0", id="luma"),
        pytest.param({"chroma": 65.0}, "chroma is a sigma in 8-bit levels between 0 and 64, got 65.0", id="chroma"),
        pytest.param({"luma": float("nan")}, "got nan", id="nan"),
        pytest.param({"luma": 1.0, "radius": 0}, "radius must lie between 1 and 32 px, got 0", id="radius"),
    ],
)
def test_denoise_refuses(options, said):
    """A strength out of range is refused with its name, unit and range."""
    with pytest.raises(ChainError, match=said):
        GuidedDenoise(**options)
