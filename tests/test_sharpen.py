from __future__ import annotations

import numpy as np
import pytest
import strategies as made
from hypothesis import given
from hypothesis import strategies as st

from refine.chain import Chain
from refine.errors import ChainError
from refine.sharpen import UnsharpMask, gaussian


def sharpened(pixels: np.ndarray, **options) -> np.ndarray:
    """The picture through the mask alone."""
    return made.restored(pixels, Chain((UnsharpMask(**options),)), pixels.shape[:2])


@made.QUICK
@given(sigma=st.floats(0.2, 16))
def test_kernel_holds_three_sigma(sigma):
    """The kernel sums to 1, is symmetric, and holds all of 3 sigma within its compiled radius."""
    mask = UnsharpMask(sigma)
    kernel = gaussian(sigma, mask.kernel_radius)
    assert mask.kernel_radius >= 3 * sigma
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(kernel, kernel[::-1])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("overshoot", [0.0, 0.03])
def test_overshoot_is_capped(channels, overshoot):
    """No luma leaves the extrema of its neighbourhood by more than the overshoot, however strong the mask."""
    pixels = np.full((30, 30, channels), 60, np.uint8)
    pixels[:, 15:] = 180
    result = sharpened(pixels, amount=5.0, threshold=0.0, overshoot=overshoot)
    assert result.min() >= 60 - 255 * overshoot - 0.5
    assert result.max() <= 180 + 255 * overshoot + 0.5
    assert overshoot == 0 or result.max() > 180


def test_threshold_leaves_fine_detail_alone():
    """Detail below the threshold is given back as it came, bit for bit."""
    rng = np.random.default_rng(0)
    pixels = (30000 + rng.integers(-200, 200, (40, 40, 3))).astype(np.uint16)
    np.testing.assert_array_equal(sharpened(pixels, amount=5.0, threshold=0.02), pixels)


def test_sharpening_keeps_hue():
    """The same difference is added to R, G and B, so colour differences stay, where nothing clips."""
    pixels = (made.smooth(40, 40, 3).astype(int) // 2 + 16000).astype(np.uint16)
    result = sharpened(pixels, amount=2.0).astype(int)
    before, after = (image[:, :, :2].astype(int) - image[:, :, 1:] for image in (pixels, result))
    assert np.abs(before - after).max() <= 2
    assert (result != pixels).any()


def test_stronger_is_steeper():
    """More amount, more contrast across an edge."""
    pixels = np.round(made.smooth(40, 40, 1, "uint8", seed=2)).astype(np.uint8)
    spreads = [float(sharpened(pixels, amount=amount, threshold=0.0).astype(float).std()) for amount in (0.5, 1.5, 3.0)]
    assert float(pixels.astype(float).std()) < spreads[0] < spreads[1] < spreads[2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param({"sigma": 0.1}, "sigma must lie between 0.2 and 16 px, got 0.1", id="sigma-low"),
        pytest.param({"sigma": 17.0}, "sigma must lie between 0.2 and 16 px, got 17.0", id="sigma-high"),
        pytest.param({"amount": -1.0}, "amount must lie between 0 and 5, got -1.0; 0 leaves it out", id="amount"),
        pytest.param({"threshold": 2.0}, "threshold must lie between 0 and 1", id="threshold"),
        pytest.param({"overshoot": float("nan")}, "overshoot must lie between 0 and 1, got nan", id="nan"),
    ],
)
def test_sharpen_refuses(options, said):
    """A strength out of range is refused with its name, the range and what came."""
    with pytest.raises(ChainError, match=said):
        UnsharpMask(**options)
