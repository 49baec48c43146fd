from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from refine.assessment import UNKNOWN, Estimate
from refine.sampling import Sample, sample
from refine.spec import ImageSpec, Pixels
from refine.spectrum import Resolution, resolution
from refine.window import Window

KERNELS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def seen(pixels: Pixels, y: int = 0, x: int = 0) -> Sample:
    """A picture as one sample."""
    height, width, channels = pixels.shape
    spec = ImageSpec(height, width, channels, str(pixels.dtype))
    return sample(pixels, spec, Window(y, x, y + height, x + width))


def field(size: int, seed: int = 5) -> Pixels:
    """A random picture with the spectrum of photographs: power falls as 1 / f^2 along a line."""
    f = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None])
    f[0, 0] = 1
    # Along a line, the power of a field of 1 / f^3 over the plane falls as 1 / f^2.
    waves = np.fft.fft2(np.random.default_rng(seed).normal(0, 1, (size, size))) / f**1.5
    waves[0, 0] = 0
    values = np.fft.ifft2(waves).real
    return np.clip(np.rint(128 + 40 * values / values.std()), 0, 255).astype(np.uint8)[..., None]


def enlarged(pixels: Pixels, scale: float, kernel: str) -> Pixels:
    """Enlarged by Pillow, and cut so that nothing is aligned."""
    height, width = pixels.shape[:2]
    size = (round(width * scale), round(height * scale))
    return np.asarray(Image.fromarray(pixels[..., 0]).resize(size, KERNELS[kernel]))[3:, 5:, None]


def compressed(pixels: Pixels, quality: int) -> Pixels:
    """Through JPEG and back."""
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0]).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))[..., None]


@pytest.mark.parametrize("kernel", list(KERNELS))
@pytest.mark.parametrize("scale", [1.3, 1.5, 1.6, 1.8, 2, 2.3, 2.5, 3, 4])
def test_resolution_finds_the_scale_of_an_enlargement(kernel: str, scale: float) -> None:
    """Enlarged 1.3 to 4 times by any common kernel: the scale and the share of detail within 15 %."""
    found = resolution([seen(enlarged(field(256), scale, kernel))], 0.0, None)
    assert found.enlarged.value == pytest.approx(scale, rel=0.15)
    assert found.effective.value == pytest.approx(1 / scale, rel=0.15)


@pytest.mark.parametrize("seed", range(4))
def test_resolution_of_an_original_is_full(seed: int) -> None:
    """What was never enlarged reads 1 and 1."""
    assert resolution([seen(field(256, seed))], 0.0, None) == Resolution(Estimate(1.0), Estimate(1.0))


@pytest.mark.parametrize("quality", [60, 80, 95])
def test_resolution_does_not_take_blocks_for_a_lattice(quality: int) -> None:
    """The blocks of JPEG repeat every 8 px, which is no enlargement, whether their grid is known or not."""
    picture = compressed(field(256), quality)
    for grid in (None, (0, 0)):
        assert resolution([seen(picture)], 0.0, grid).enlarged.value in (None, 1.0)


def soft(pixels: Pixels, sigma: float) -> Pixels:
    """Blurred by a Gaussian."""
    return np.rint(gaussian_filter(pixels.astype(float), (sigma, sigma, 0))).astype(np.uint8)


@pytest.mark.parametrize(("sigma", "quality"), [(0.8, 50), (0.8, 70), (1.5, 70)])
def test_resolution_does_not_take_blocks_of_a_soft_picture_for_2x(sigma: float, quality: int) -> None:
    """Blocks repeat at 1/2 as well, and a soft picture has lost what 2x would have taken: still no enlargement."""
    picture = compressed(soft(field(512), sigma), quality)
    assert resolution([seen(picture)], 0.0, None).enlarged == UNKNOWN


def test_resolution_does_not_trust_the_end_of_a_compressed_spectrum() -> None:
    """JPEG fills the end of a spectrum: of a soft picture it cannot be told, of a sharp one it is not sure."""
    for quality in (60, 80):
        assert resolution([seen(compressed(soft(field(256), 1.5), quality))], 0.5, (0, 0)).effective == UNKNOWN
    assert resolution([seen(compressed(field(256), 95))], 0.5, (0, 0)).effective == Estimate(1.0, "fair")


def test_resolution_does_not_deny_an_enlargement_that_noise_may_hide() -> None:
    """Without a lattice in a noisy picture, whether it was enlarged cannot be told."""
    repeated = enlarged(field(256), 1.5, "nearest")
    noisy = repeated + np.random.default_rng(10).normal(0, 2, repeated.shape)
    picture = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    assert resolution([seen(picture)], 2.0, None).enlarged == UNKNOWN


def test_resolution_takes_the_spectrum_of_what_is_visible() -> None:
    """A sharp part under alpha 0 does not make a soft picture sharp."""
    picture = soft(field(256), 2.0)
    alpha = np.full_like(picture, 255)
    alpha[:, :120] = 0
    hidden = picture.copy()
    hidden[:, :120] = field(256, 11)[:, :120]
    found = resolution([seen(np.concatenate([hidden, alpha], 2))], 0.0, None)
    assert found == resolution([seen(np.concatenate([picture, alpha], 2))], 0.0, None)
    assert found.effective.value == pytest.approx(0.34, rel=0.15)


def test_resolution_finds_2x_beneath_blocks() -> None:
    """A picture enlarged twice and compressed since still says so: its lattice is stronger than the blocks."""
    picture = compressed(enlarged(field(256), 2, "bicubic"), 92)
    assert resolution([seen(picture)], 0.0, (0, 0)).enlarged.value == 2.0


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0, 2.5])
def test_resolution_of_a_blurred_picture_ends_at_a_tenth_of_the_contrast(sigma: float) -> None:
    """A Gaussian leaves a tenth of the contrast at sqrt(2 ln 10) / (2 pi sigma) cycles a px; it is no enlargement."""
    blurred = np.rint(gaussian_filter(field(256).astype(float), (sigma, sigma, 0))).astype(np.uint8)
    found = resolution([seen(blurred)], 0.0, None)
    assert found.effective.value == pytest.approx(np.sqrt(2 * np.log(10)) / (np.pi * sigma), rel=0.15)
    assert found.enlarged.value in (None, 1.0)


def test_resolution_shrinks_with_noise_to_cannot_tell() -> None:
    """Where noise hides the end of the spectrum, its end cannot be told."""
    blurred = gaussian_filter(field(256).astype(float), (0.8, 0.8, 0))
    noisy = blurred + np.random.default_rng(6).normal(0, 8, blurred.shape)
    found = resolution([seen(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))], 8.0, None)
    assert found == Resolution()


def test_resolution_of_waves_ends_where_it_begins() -> None:
    """A picture of nothing but long waves has no detail at any frequency that is looked at: very soft, and no error."""
    y, x = np.mgrid[:900, :1100]
    grey = (128 + 60 * np.sin(x / 30) + 40 * np.cos(y / 17)).astype(np.uint8)
    pixels = np.stack([grey, grey // 2 + 40, grey // 3 + 20], -1)
    found = resolution([seen(pixels)], 0.3, None).effective
    assert found.value is None or found.value <= 0.15


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (400, 1), (63, 400)])
def test_resolution_of_tiny_pictures_is_unknown(shape: tuple[int, int]) -> None:
    """Pictures of a few pixels tell nothing, and raise nothing."""
    grain = np.random.default_rng(7).integers(0, 256, (*shape, 1), dtype=np.uint8)
    assert resolution([seen(grain)], 0.0, None) == Resolution()
    assert resolution([], 0.0, None) == Resolution()


@pytest.mark.parametrize("level", [0, 100, 255])
def test_resolution_of_a_flat_picture_is_unknown(level: int) -> None:
    """A flat field holds nothing to measure."""
    found = resolution([seen(np.full((200, 200, 3), level, np.uint8))], 0.0, None)
    assert found.effective == UNKNOWN
    assert found.enlarged == UNKNOWN


def test_resolution_ignores_what_is_invisible() -> None:
    """Whatever lies under alpha 0 changes nothing."""
    picture = enlarged(field(256), 2.5, "bicubic")
    other = enlarged(field(256, 9), 3, "bicubic")[: picture.shape[0], : picture.shape[1]]
    alpha = np.full_like(picture, 255)
    alpha[:, :380] = 0
    hidden = picture.copy()
    hidden[:, :380] = other[:, :380]
    found = resolution([seen(np.concatenate([picture, alpha], 2))], 0.0, None)
    assert resolution([seen(np.concatenate([hidden, alpha], 2))], 0.0, None) == found
    assert found.enlarged.value == pytest.approx(2.5, rel=0.02)
    assert resolution([seen(hidden)], 0.0, None).enlarged.value != found.enlarged.value


def test_resolution_does_not_depend_on_order_or_depth() -> None:
    """Windows in another order, and 16 bits instead of 8, give the same answer."""
    large = enlarged(field(512), 3, "bicubic")
    places = [(0, 0), (0, 640), (640, 0), (640, 640)]
    windows = [seen(large[y : y + 512, x : x + 512], y, x) for y, x in places]
    found = resolution(windows, 0.0, None)
    assert found.enlarged.value == pytest.approx(3, rel=0.02)
    assert resolution(windows[::-1], 0.0, None) == found
    deep = [seen(large[y : y + 512, x : x + 512].astype(np.uint16) * 257, y, x) for y, x in places]
    assert resolution(deep, 0.0, None) == found
