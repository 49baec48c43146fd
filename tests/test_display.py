"""Pixels for a screen: 8 bits, sRGB, whatever they come from."""

from __future__ import annotations

import io

import imagecodecs
import numpy as np
import pytest
from blobs import CMYK, SRGB
from PIL import Image as Pillow

from refine.colour import lab_profile, srgb_profile, working_profile
from refine.display import shown, suffix, tile_bytes
from refine.spec import ImageSpec

SRGB_XYZ = np.array(
    [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
)
"""Linear sRGB to XYZ under D50, as ICC profiles have it."""
WIDE_XYZ = np.array([[0.7976749, 0.1351917, 0.0313534], [0.2880402, 0.7118741, 0.0000857], [0.0, 0.0, 0.8252100]])
"""Linear ProPhoto to XYZ, ISO 22028-2."""


def curved(linear):
    """The curve of sRGB."""
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055)


def spec(channels, dtype="uint8", **more):
    """A spec for pixels of any size."""
    return ImageSpec(1, 1, channels, dtype, **more)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_shown_rounds_16_bits_to_the_nearest_8(channels):
    """Without a profile each of the 65536 values becomes the nearest of 256, alpha included."""
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    found = shown(np.dstack([values] * channels), spec(channels, "uint16"))
    assert found.dtype == np.uint8
    for channel in range(channels):
        np.testing.assert_array_equal(found[..., channel], np.rint(values / 257))


def test_shown_leaves_8_bits_of_srgb_alone():
    """8 bits in sRGB, or without a profile, are what they were."""
    pixels = np.random.default_rng(1).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    for icc in (None, srgb_profile(), CMYK):
        np.testing.assert_array_equal(shown(pixels, spec(3, icc=icc)), pixels)


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_shown_makes_srgb_of_other_primaries(dtype, alpha):
    """A colour of a wide space becomes the sRGB colour that looks the same, and alpha stays."""
    top = np.iinfo(dtype).max
    linear = np.array([[0.2, 0.4, 0.1], [0.5, 0.5, 0.5], [0.05, 0.02, 0.3]])
    wide = np.linalg.solve(WIDE_XYZ, SRGB_XYZ @ linear.T).T
    pixels = np.rint(curved(wide) * top).astype(dtype)[None]
    if alpha:
        pixels = np.dstack([pixels, np.full((1, 3), top // 2, dtype)])
    found = shown(pixels, spec(3 + alpha, dtype, icc=working_profile()))
    assert np.abs(found[0, :, :3] - curved(linear) * 255).max() <= 2.5  # 8 bits of a wide space are coarse
    assert not alpha or set(found[..., 3].ravel()) <= {127, 128}


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_shown_brings_grey_to_the_curve_of_srgb(dtype):
    """Linear grey gets brighter, as sRGB encodes it, and stays one channel."""
    icc = bytes(imagecodecs.cms_profile("gray", gamma=1.0))
    top = np.iinfo(dtype).max
    share = np.linspace(0, 1, 11)
    pixels = np.rint(share * top).astype(dtype).reshape(1, -1, 1)
    found = shown(pixels, spec(1, dtype, icc=icc))
    assert found.shape == pixels.shape
    assert np.abs(found.ravel() - curved(share) * 255).max() <= 1.5


def test_shown_makes_srgb_of_lab():
    """L*a*b* is seen as the colour it means."""
    lab = np.array([[[50.0, 20, 30], [80, -20, 10], [0, 0, 0], [100, 0, 0]]])
    stored = np.stack([lab[..., 0] * 655.35, lab[..., 1] * 257 + 32896, lab[..., 2] * 257 + 32896], axis=2)
    pixels = np.rint(stored).astype(np.uint16)
    found = shown(pixels, spec(3, "uint16", space="lab", icc=lab_profile()))
    f = (lab[..., 0] + 16) / 116
    f = np.stack([f + lab[..., 1] / 500, f, f - lab[..., 2] / 200], axis=2)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.9642, 1.0, 0.8249]
    expected = curved(np.clip(xyz @ np.linalg.inv(SRGB_XYZ).T, 0, 1))
    assert np.abs(found - expected * 255).max() <= 2


def test_shown_survives_a_broken_profile():
    """A profile that littlecms refuses is none: a screen shows something anyway."""
    pixels = np.full((2, 2, 3), 7, np.uint8)
    np.testing.assert_array_equal(shown(pixels, spec(3, icc=SRGB[:200])), pixels)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_tile_bytes_is_what_a_browser_shows(channels):
    """Opaque pixels become JPEG, those with alpha PNG, exactly; and the name says which."""
    y, x = np.mgrid[:40, :50]
    pixels = np.dstack([(y * 2 + x * c) % 200 for c in range(channels)]).astype(np.uint8)
    with Pillow.open(io.BytesIO(tile_bytes(pixels, 95))) as picture:
        kind, found = picture.format, np.asarray(picture).reshape(pixels.shape)
    assert {"jpg": "JPEG", "png": "PNG"}[suffix(spec(channels))] == kind
    if channels in (2, 4):
        np.testing.assert_array_equal(found, pixels)
    else:
        assert np.abs(found.astype(int) - pixels).mean() < 4
