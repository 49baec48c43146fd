from __future__ import annotations

import io
from functools import cache

import numpy as np
import pytest
import strategies as made
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageOps
from scipy import ndimage
from scipy.optimize import isotonic_regression

from refine.assessment import UNKNOWN, Estimate
from refine.compression import Jpeg, falling, jpeg
from refine.jpeg import read_spec
from refine.limits import Limits
from refine.quantisation import stored_grid, table_quality, upright_table
from refine.sampling import sample, samples
from refine.spec import ImageSpec
from refine.window import Window

NO_TRACE = Jpeg(Estimate(100, "fair"), None)


@cache
def scene(height: int = 264, width: int = 344, channels: int = 3, seed: int = 0) -> np.ndarray:
    """A picture with the spectrum of a photograph and a few edges, uint8, that was never a JPEG."""
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij")
    spectrum = 1 / np.maximum(np.hypot(y, x), 1 / width) ** 1.1
    planes = [np.fft.ifft2(np.fft.fft2(rng.normal(0, 1, (height, width))) * spectrum).real for _ in range(channels)]
    pixels = np.stack(planes, axis=2)
    pixels = 125 + 28 * (0.8 * pixels[..., :1] + 0.3 * pixels) / pixels.std()
    for _ in range(5):
        top, left = rng.integers(0, height - 40), rng.integers(0, width - 40)
        pixels[top : top + rng.integers(20, 60), left : left + rng.integers(20, 60)] += rng.uniform(-50, 50, channels)
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)


def encoded(pixels: np.ndarray, quality: int | str, **options) -> bytes:
    """The picture as a JPEG that another encoder made."""
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(
        file, "jpeg", quality=quality, **options
    )
    return file.getvalue()


def compressed(pixels: np.ndarray, quality: int | str, **options) -> np.ndarray:
    """The picture after compression."""
    decoded = np.asarray(Image.open(io.BytesIO(encoded(pixels, quality, **options))))
    return decoded.reshape(*decoded.shape[:2], -1)


def found_in(pixels: np.ndarray, spec: ImageSpec | None = None) -> Jpeg:
    """What is found in a picture, by its pixels alone unless a spec is given."""
    spec = made.spec_of(pixels) if spec is None else spec
    return jpeg(spec, list(samples(pixels, spec)))


def spec_of_file(data: bytes) -> ImageSpec:
    """What its markers say."""
    return read_spec(io.BytesIO(data), "some.jpg", Limits())


@pytest.mark.parametrize(
    ("quality", "channels"), [(10, 3), (30, 1), (30, 3), (49, 3), (60, 3), (75, 3), (85, 1), (92, 3), (95, 3)]
)
def test_jpeg_saved_again_without_loss(quality, channels):
    """Without its table, cropped anywhere, quality comes back within 3 and the grid exactly."""
    top, left = quality % 8, quality * 3 % 8
    found = found_in(compressed(scene(channels=channels), quality)[top:, left:])
    assert abs(found.quality.value - quality) <= 3
    assert found.quality.confidence == "fair"
    assert found.grid == (-top % 8, -left % 8)


@pytest.mark.parametrize("name", ["web_high", "low", "medium", "high"])
def test_jpeg_with_other_tables_saved_again(name):
    """Of other tables, the pixels tell what the file would have told, within 10."""
    data = encoded(scene(), name)
    stated = table_quality(upright_table(spec_of_file(data)))
    found = found_in(compressed(scene(), name))
    assert abs(found.quality.value - stated) <= 10
    assert found.grid == (0, 0)


def ramp(_: np.ndarray) -> np.ndarray:
    """A smooth gradient."""
    y, x = np.mgrid[:256, :320]
    return ((y + 2 * x) / 4).astype(np.uint8)[:, :, None]


def checks(_: np.ndarray) -> np.ndarray:
    """Squares of 8 px, where blocks of a JPEG would be."""
    y, x = np.mgrid[:256, :320] // 8
    return ((y + x) % 2 * 200 + 20).astype(np.uint8)[:, :, None]


def dithered(photo: np.ndarray) -> np.ndarray:
    """Black and white, by chance."""
    chance = np.random.default_rng(5).integers(0, 255, photo.shape[:2])
    return ((photo[:, :, :1] > chance[:, :, None]) * 255).astype(np.uint8)


def resized(scale: int, how: Image.Resampling, photo: np.ndarray) -> np.ndarray:
    """Part of it, enlarged."""
    side = 400 // scale
    return np.asarray(Image.fromarray(photo[:side, :side]).resize((side * scale, side * scale), how))


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda photo: photo, id="photograph"),
        pytest.param(lambda photo: photo[:, :, :1], id="grey"),
        pytest.param(lambda photo: photo.astype(np.uint16) * 257, id="16 bits"),
        pytest.param(lambda photo: photo // 16 * 16, id="few levels"),
        pytest.param(lambda photo: np.full_like(photo, 77), id="flat"),
        pytest.param(ramp, id="gradient"),
        pytest.param(checks, id="checks"),
        pytest.param(dithered, id="dithered"),
        pytest.param(lambda photo: np.tile(photo[:16, :24], (16, 12, 1)), id="tiles"),
        pytest.param(lambda photo: resized(2, Image.Resampling.NEAREST, photo), id="nearest x2"),
        pytest.param(lambda photo: resized(4, Image.Resampling.BILINEAR, photo), id="bilinear x4"),
        pytest.param(lambda photo: resized(4, Image.Resampling.BICUBIC, photo), id="bicubic x4"),
        pytest.param(lambda photo: resized(8, Image.Resampling.NEAREST, photo), id="nearest x8"),
    ],
)
def test_no_trace_where_there_was_no_jpeg(make):
    """What was never a JPEG reads 100 and has no grid: few levels, patterns and enlarging are no blocks."""
    assert found_in(np.ascontiguousarray(make(scene(seed=3)))) == NO_TRACE


@pytest.mark.parametrize(
    ("first", "second", "shift"),
    [(50, 90, (0, 0)), (70, 95, (0, 0)), (30, 75, (0, 0)), (50, 90, (3, 6)), (70, 95, (3, 6)), (30, 90, (5, 0))],
    ids=str,
)
def test_older_compression_counts_where_it_is_stronger(first, second, shift):
    """A better JPEG of a worse one is as bad as the worse one, whatever its own table says."""
    once = np.ascontiguousarray(compressed(scene(), first)[shift[0] :, shift[1] :])
    data = encoded(once, second)
    found = found_in(compressed(once, second), spec_of_file(data))
    assert abs(found.quality.value - first) <= 5
    assert found.quality.confidence == "fair"
    assert found.grid == (-shift[0] % 8, -shift[1] % 8)


@pytest.mark.parametrize(("first", "second"), [(None, 75), (None, 40), (95, 60), (58, 60)])
def test_table_counts_where_nothing_stronger_is_beneath(first, second):
    """A JPEG of a picture that was better before, or hardly worse, reads as its table says, for sure."""
    before = np.ascontiguousarray((scene(seed=2) if first is None else compressed(scene(seed=2), first))[3:, 5:])
    found = found_in(compressed(before, second), spec_of_file(encoded(before, second)))
    assert found == Jpeg(Estimate(second, "sure"), (0, 0))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_grid_of_a_picture_turned_upright(orientation):
    """Turned or mirrored, blocks begin where the pixels show them, and the table's rows stay the picture's rows."""
    tags = Image.Exif()
    tags[0x0112] = orientation
    skewed = [1 + i // 8 + 3 * (i % 8) for i in range(64)]
    data = encoded(scene(251, 333), 50, exif=tags, qtables=[skewed, skewed])
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    stored = spec_of_file(data)
    spec = ImageSpec(*upright.shape, "uint8", "jpeg", orientation=orientation, quantisation=stored.quantisation)
    assert found_in(upright).grid == stored_grid(spec)
    transposed = orientation >= 5
    np.testing.assert_array_equal(
        upright_table(spec), np.reshape(skewed, (8, 8)).T if transposed else np.reshape(skewed, (8, 8))
    )


def test_grid_is_that_of_the_image():
    """Windows of a large image may begin anywhere: the grid is counted from the image's first pixel."""
    pixels, spec = compressed(scene(400, 400), 60)[2:, 5:], None
    spec = made.spec_of(pixels)
    windows = [Window(3, 7, 180, 390), Window(205, 15, 390, 390)]
    found = jpeg(spec, [sample(pixels[w.slices], spec, w) for w in windows])
    assert found == Jpeg(Estimate(60, "fair"), (6, 3))


def test_blocks_without_steps_cannot_be_told():
    """Where blocks are seen but nothing lies on steps any more, the quality is unknown and the grid is told."""
    blocky = compressed(scene(), 12)[3:, 1:].astype(float)
    lit = ndimage.gaussian_filter(blocky, (0.7, 0.7, 0)) ** 0.6 * 255**0.4
    noisy = lit + np.random.default_rng(1).normal(0, 6, lit.shape)
    assert found_in(np.clip(np.round(noisy), 0, 255).astype(np.uint8)) == Jpeg(UNKNOWN, (5, 7))


def test_invisible_compression_does_not_count():
    """A compression that nobody sees is none."""
    pixels = scene(264, 512, seed=4)
    pixels[:, 256:] = compressed(pixels, 30)[:, 256:]
    alpha = np.full((*pixels.shape[:2], 1), 255, np.uint8)
    assert found_in(np.concatenate([pixels, alpha], axis=2)).grid == (0, 0)
    alpha[:, 256:] = 0
    assert found_in(np.concatenate([pixels, alpha], axis=2)).quality == Estimate(100, "fair")


def test_invisible_texture_hides_no_compression():
    """What nobody sees is not searched instead of what is there, however lively it is."""
    pixels = compressed(scene(264, 512, seed=4), 60)
    pixels = np.concatenate([np.random.default_rng(0).integers(0, 256, pixels.shape, np.uint8), pixels])
    alpha = np.repeat(np.array([0, 255], np.uint8), 264)[:, None, None]
    alpha = np.broadcast_to(alpha, (528, 512, 1))
    assert found_in(np.concatenate([pixels, alpha], axis=2)) == Jpeg(Estimate(60, "fair"), (0, 0))


@made.QUICK
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.integers(1, 4),
    dtype=st.sampled_from(["uint8", "uint16"]),
)
def test_jpeg_of_any_size(height, width, channels, dtype):
    """No picture is an error; of a few blocks nothing is said unless there is a table."""
    pixels = made.picture(height, width, channels, dtype)
    assert found_in(pixels) in (NO_TRACE, Jpeg(UNKNOWN, None))
    if (height // 8) * (width // 8) < 16:
        assert found_in(pixels) == Jpeg(UNKNOWN, None)


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (8, 8)], ids=str)
def test_table_of_a_tiny_picture(size):
    """A table says the quality of any picture."""
    data = encoded(scene(64, 512)[: size[0], : size[1]], 42)
    assert found_in(compressed(scene(64, 512)[: size[0], : size[1]], 42), spec_of_file(data)).quality == Estimate(42)


@given(arrays.arrays(np.float64, st.integers(1, 30), elements=st.integers(0, 50).map(float)))
def test_falling_is_the_closest_line_that_falls(counts):
    """It is the isotonic regression, whatever the counts."""
    np.testing.assert_allclose(falling(counts), isotonic_regression(counts, increasing=False).x, atol=1e-9)
