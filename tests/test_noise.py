from __future__ import annotations

import io

import numpy as np
import pytest
import strategies as made
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from refine.assessment import UNKNOWN
from refine.noise import Noise, noise, usable
from refine.sampling import Sample, sample, samples
from refine.window import Window

LUMA = np.array([0.299, 0.587, 0.114])


def sampled(pixels: np.ndarray) -> list[Sample]:
    """What is measured of a picture."""
    return list(samples(pixels, made.spec_of(pixels)))


def measured(pixels: np.ndarray) -> Noise:
    """The noise of a picture."""
    return noise(sampled(pixels))


def chart(height: int = 320, width: int = 400, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Flat patches of 40 px between 80 and 175, float."""
    patches = np.random.default_rng(seed).uniform(80, 175, (-(-height // 40), -(-width // 40), channels))
    return patches.repeat(40, axis=0).repeat(40, axis=1)[:height, :width]


def written(pixels: np.ndarray, dtype: str = "uint8") -> np.ndarray:
    """Levels of 0..255 rounded to a depth."""
    top = np.iinfo(dtype).max
    return np.clip(np.round(pixels * (top / 255)), 0, top).astype(dtype)


def white(shape: tuple[int, ...], sigma: float, seed: int = 1) -> np.ndarray:
    """White noise."""
    return np.random.default_rng(seed).normal(0, sigma, shape)


def grainy(height: int, width: int, sigma: float, blur: float = 0.7) -> np.ndarray:
    """Noise of that sigma that neighbours share, (y, x, 1)."""
    soft = ndimage.gaussian_filter(white((height, width), 1), blur, mode="wrap")
    return (soft * sigma / soft.std())[:, :, None]


def foliage(side: int = 400, seed: int = 3, blur: float = 1.3) -> np.ndarray:
    """Texture without a calm place, but livelier in some, (y, x, 1), float."""
    rng = np.random.default_rng(seed)
    leaves = ndimage.gaussian_filter(rng.normal(0, 1, (side, side)), blur)
    where = ndimage.gaussian_filter(rng.normal(0, 1, (side, side)), 12)
    strength = np.exp(1.2 * where / where.std())
    return (125 + 25 * strength * leaves / leaves.std()).clip(5, 250)[:, :, None]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sigma", [2.0, 5.0, 10.0, 20.0])
def test_noise_of_a_chart(sigma, channels, dtype):
    """On flat patches the sigma of luma and of the colour differences comes back within 5 %, and is white."""
    clean = chart(channels=channels)
    found = measured(written(clean + white(clean.shape, sigma), dtype))
    luma = sigma if channels == 1 else sigma * np.sqrt((LUMA**2).sum())
    assert found.luma.value == pytest.approx(luma, rel=0.05, abs=0.05)
    assert found.luma.confidence == "sure"
    assert found.grain.value <= 0.1
    if channels == 3:
        assert found.chroma.value == pytest.approx(sigma * np.sqrt(2), rel=0.05)


def test_noise_of_luma_alone_is_none_of_chroma():
    """What all channels share does not count as noise of colour, and colour noise alone none of luma."""
    clean = chart()
    shared = measured(written(clean + white((*clean.shape[:2], 1), 8)))
    assert shared.luma.value == pytest.approx(8, rel=0.05)
    assert shared.chroma.value <= 0.3
    coloured = white(clean.shape, 8)
    apart = measured(written(clean + coloured - (coloured @ LUMA)[:, :, None]))
    assert apart.luma.value <= 0.3
    assert apart.chroma.value == pytest.approx(8 * np.sqrt(2), rel=0.05)


def test_noise_takes_rounding_out():
    """Rounding to 8 bits adds nothing: noise of 0.4 levels reads as that and not as 0.5."""
    y, x, _ = np.mgrid[:320, :400, :1]
    assert measured(written(100 + 0.11 * x + 0.07 * y + white((320, 400, 1), 0.4))).luma.value == 0.4


@pytest.mark.parametrize("make", [chart, foliage], ids=["chart", "foliage"])
def test_noise_of_a_clean_picture(make):
    """Edges and texture are no noise."""
    found = measured(written(make()))
    assert found.luma.over(0) <= 1
    assert found.chroma.over(0) <= 1


@pytest.mark.parametrize("sigma", [2.0, 5.0, 10.0, 20.0])
def test_noise_under_texture(sigma):
    """White noise is told within half a level or 15 % though there is texture all over."""
    found = measured(written(foliage() + white((400, 400, 1), sigma)))
    assert abs(found.luma.value - sigma) <= max(0.5, 0.15 * sigma)


@pytest.mark.parametrize("sigma", [4.0, 10.0])
def test_grain_is_told_from_noise(sigma):
    """Noise that neighbours share is measured whole, and its correlation with it."""
    clean = chart(channels=1)
    found = measured(written(clean + grainy(*clean.shape[:2], sigma)))
    assert found.luma.value == pytest.approx(sigma, rel=0.15)
    assert found.grain.value == pytest.approx(0.56, abs=0.15)  # exp(-1 / (4 * 0.7^2)) is 0.6, less what sampling does
    assert found.grain.value > 0.3


@pytest.mark.parametrize("scale", [1.5, 3.0])
def test_noise_that_was_enlarged_is_seen(scale):
    """Enlarging takes the highest frequencies away and leaves the noise: it is not read as none."""
    small = written(chart(240, 240, 1) + white((240, 240, 1), 10))[:, :, 0]
    size = (int(240 * scale),) * 2
    large = np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))[:, :, None]
    found = measured(large)
    assert 0.65 * 10 <= found.luma.value <= 1.1 * 10
    assert found.luma.confidence == "fair"
    assert found.grain.value > 0.3


def test_noise_under_jpeg_is_seen():
    """What JPEG leaves of noise is read as noise, though it is weaker at the top."""
    clean = chart()
    noisy = written(clean + white((*clean.shape[:2], 1), 10))
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "jpeg", quality=75)
    decoded = np.asarray(Image.open(file))
    left = ((decoded - clean) @ LUMA).std()
    assert measured(decoded).luma.value == pytest.approx(left, rel=0.2)


def test_clipped_pixels_do_not_count():
    """Where one channel is clipped its noise is cut off: those blocks are left out, though they are the calmest."""
    clean = chart()
    clean[:200, :, 0] = 254
    found = measured(written(clean + white(clean.shape, 10)))
    assert found.luma.value == pytest.approx(10 * np.sqrt((LUMA**2).sum()), rel=0.05)
    assert found.chroma.value == pytest.approx(10 * np.sqrt(2), rel=0.05)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_usable_is_where_no_channel_is_clipped(dtype):
    """A pixel counts unless a channel is at an end of the range or it is invisible."""
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (64, 64, 4)).astype(dtype)
    pixels[:32] //= 64
    pixels[::3, :, 1] = np.iinfo(dtype).max
    (found,) = sampled(pixels)
    colour, top = pixels[:, :, :3].astype(int), int(np.iinfo(dtype).max)
    near = 2 if dtype == "uint16" else 0  # luma was rounded: at 16 bits the end is not sharp
    inside = ((colour > near) & (colour < top - near)).all(axis=2) & (pixels[:, :, 3] > 0)
    outside = ((colour == 0) | (colour == top)).any(axis=2) | (pixels[:, :, 3] == 0)
    wide = ((colour > near + 4) & (colour < top - near - 4)).all(axis=2) & (pixels[:, :, 3] > 0)
    assert not usable(found)[outside].any()
    assert usable(found)[wide].all()
    if dtype == "uint8":
        np.testing.assert_array_equal(usable(found), inside)


def test_invisible_pixels_do_not_count():
    """Noise that nobody sees is not measured, nor is calm."""
    clean = chart(channels=3)
    hidden = clean + white(clean.shape, 4)
    hidden[:, 200:] = clean[:, 200:] + white(clean[:, 200:].shape, 20)
    hidden[:160, :200] = 128
    alpha = np.full(clean.shape[:2], 255.0)
    alpha[:, 200:] = 0
    alpha[:160] = 0
    found = measured(np.dstack([written(hidden), written(alpha)]))
    assert found.luma.value == pytest.approx(4 * np.sqrt((LUMA**2).sum()), rel=0.07)
    assert measured(np.dstack([written(hidden), np.zeros_like(alpha, np.uint8)])) == Noise(UNKNOWN, UNKNOWN, UNKNOWN)


@made.QUICK
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.integers(1, 4),
    dtype=st.sampled_from(["uint8", "uint16"]),
)
def test_noise_of_any_size(height, width, channels, dtype):
    """A picture of fewer than 16 blocks is too small to tell, and no picture is an error."""
    found = measured(made.picture(height, width, channels, dtype))
    if (height // 8) * (width // 8) < 16:
        assert found.luma == UNKNOWN
        assert found.grain == UNKNOWN
    if channels < 3:
        assert found.chroma == UNKNOWN


def test_noise_of_nothing():
    """Without samples nothing can be told."""
    assert noise([]) == Noise(UNKNOWN, UNKNOWN, UNKNOWN)


def test_noise_does_not_depend_on_order():
    """Samples may come in any order, and cut on blocks they may be cut in any way."""
    clean = chart(320, 400)
    pixels = written(clean + white(clean.shape, 6))
    spec = made.spec_of(pixels)
    rows = [sample(pixels[y : y + 80], spec, Window(y, 0, y + 80, 400)) for y in range(0, 320, 80)]
    assert noise(rows) == noise(rows[::-1]) == measured(pixels)


def test_cloth_is_not_noise():
    """A fine weave all over is not the same at all high frequencies: the weakest tell the noise, and never for sure."""
    y, x = np.mgrid[:320, :400]
    weave = 7 * np.sin(2 * np.pi * (x + 0.4 * y) / 2.6) * (1 + 0.3 * np.sin(y / 40))
    found = measured(written(120 + weave[:, :, None] + white((320, 400, 1), 0.6)))
    assert found.luma.value == pytest.approx(0.6, abs=0.15)
    assert found.luma.confidence == "fair"


def test_ribs_cannot_be_told():
    """Where even the weakest of the high frequencies hold much, and far from alike, texture and noise are one."""
    ribs = ndimage.convolve1d(white((320, 400), 1), [1, -4, 6, -4, 1], axis=1)
    assert measured(written(120 + 6 * ribs[:, :, None] / ribs.std())).luma == UNKNOWN


@pytest.mark.parametrize("seed", range(4, 8))
def test_small_pictures_of_texture_cannot_be_told(seed):
    """Where no more than the few calmest blocks are alike, texture is not given out for noise."""
    assert measured(written(foliage(88, seed, 0.6))).luma.over(0) <= 1
