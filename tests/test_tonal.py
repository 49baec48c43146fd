from __future__ import annotations

import numpy as np
import pytest
import strategies as made
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from refine.assessment import UNKNOWN
from refine.sampling import sample, samples
from refine.spec import ImageSpec
from refine.tonal import Tones, channels, green, tones
from refine.window import Window


def toned(pixels: np.ndarray) -> Tones:
    """The tones of these pixels."""
    return tones(list(samples(pixels, made.spec_of(pixels))), *pixels.shape[:2])


def rgba(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colour with alpha."""
    return np.concatenate([colour, alpha[:, :, None].astype(colour.dtype)], axis=2)


def page(size: int, side: int = 512, *, paper: int = 225, ink: int = 40, noise: float = 3, seed: int = 0) -> np.ndarray:
    """A printed page, (y, x, 1): lines of words `size` px high on noisy paper."""
    rng = np.random.default_rng(seed)
    image = Image.new("L", (side, side), paper)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    words = ["reader", "asks", "for", "more", "of", "letters", "than", "one", "page", "could", "hold", "while", "print"]
    for y in range(side // 10, side * 9 // 10, size * 4 // 3):
        draw.text((side // 10, y), " ".join(rng.choice(words, 12)), fill=ink, font=font)
    noisy = np.asarray(image, float) + rng.normal(0, noise, (side, side))
    return np.clip(np.round(noisy), 0, 255).astype(np.uint8)[:, :, None]


def product(height: int, width: int, ground: int, dtype: str = "uint8") -> np.ndarray:
    """A dark thing in the middle of a ground, RGB."""
    pixels = np.full((height, width, 3), ground, dtype)
    rng = np.random.default_rng(1)
    thing = pixels[height // 4 : -(height // 4), width // 4 : -(width // 4)]
    thing[:] = rng.integers(0, np.iinfo(dtype).max * 2 // 3, thing.shape)
    return pixels


@made.QUICK
@given(channel_count=st.sampled_from([3, 4]), dtype=st.sampled_from(["uint8", "uint16"]), seed=st.integers(0, 999))
def test_channels_come_back_exactly(channel_count, dtype, seed):
    """R, G and B are recovered from luma and differences without a rounding."""
    pixels = made.picture(13, 17, channel_count, dtype, seed)
    (sample,) = samples(pixels, made.spec_of(pixels))
    unit = 257 if dtype == "uint8" else 1
    np.testing.assert_array_equal(green(sample), pixels[:, :, 1].astype(int) * unit)
    np.testing.assert_array_equal(np.stack(channels(sample, None), axis=2), pixels[:, :, :3].astype(int) * unit)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_clipped_is_counted(dtype):
    """Clipped px are those of which nothing but an end of the range is left."""
    top = np.iinfo(dtype).max
    pixels = np.full((100, 100, 3), top // 3, dtype)
    pixels[:7] = 0
    pixels[-20:] = top
    pixels[50, :, 0] = top
    found = toned(pixels)
    assert (found.clipped_black.value, found.clipped_white.value) == (0.07, 0.2)
    assert found.clipped_black.confidence == "sure"


def test_some_is_neither_none_nor_all():
    """A share of 0 means none and one of 1 means all, however small the rest."""
    pixels = np.full((400, 400, 1), 128, np.uint8)
    assert toned(pixels).clipped_white.value == 0
    pixels[0, 0] = 255
    assert toned(pixels).clipped_white.value == 0.0001
    pixels[:] = 255
    assert toned(pixels).clipped_white.value == 1
    pixels[0, 0] = 128
    assert toned(pixels).clipped_white.value == 0.9999


@pytest.mark.parametrize("levels", [256, 128, 64, 40])
def test_posterised_is_the_share_of_empty_levels(levels):
    """Of a picture that holds so many levels of 256, the rest is empty."""
    rng = np.random.default_rng(0)
    held = np.round(np.linspace(0, 255, levels)).astype(np.uint8)
    found = toned(held[rng.integers(0, levels, (300, 300, 3))]).posterised
    assert found.value == pytest.approx(1 - levels / 256, abs=1e-4)
    assert found.confidence == "sure"


def test_stretched_levels_are_posterised():
    """Levels pulled apart leave gaps: by 1.3 times, three in thirteen."""
    rng = np.random.default_rng(0)
    stretched = np.clip((np.arange(256) - 30) * 1.3, 0, 255).round().astype(np.uint8)
    found = toned(stretched[rng.integers(20, 240, (300, 300, 3))]).posterised
    assert found.value == pytest.approx(3 / 13, abs=0.01)


def test_padded_depth_is_posterised():
    """8 bits spread over 16 fill one in sixteen of 4096 levels; true 16 bits fill all."""
    rng = np.random.default_rng(0)
    padded = rng.integers(0, 256, (700, 700, 1)).astype(np.uint16) * 257
    assert toned(padded).posterised.value == pytest.approx(15 / 16, abs=0.01)
    assert toned(rng.integers(0, 65536, (700, 700, 1)).astype(np.uint16)).posterised.value == 0


def test_posterised_needs_px_and_levels():
    """Too few px for the levels there are, or hardly a level, and it cannot be told."""
    rng = np.random.default_rng(0)
    assert toned(rng.integers(0, 256, (100, 100, 1)).astype(np.uint8)).posterised == UNKNOWN
    assert toned(rng.integers(100, 120, (500, 500, 1)).astype(np.uint8)).posterised == UNKNOWN
    assert toned(rng.integers(0, 65536, (300, 300, 1)).astype(np.uint16)).posterised == UNKNOWN
    # One white level in nine px of ten fills no other.
    pixels = np.full((300, 300, 1), 255, np.uint8)
    pixels[:30] = rng.integers(0, 250, (30, 300, 1))
    assert toned(pixels).posterised == UNKNOWN


@pytest.mark.parametrize(
    ("ground", "nearly", "exactly"),
    [
        pytest.param(255, 1, 1, id="white"),
        pytest.param(254, 1, 0, id="nearly"),
        pytest.param(250, 1, 0, id="just-nearly"),
        pytest.param(249, 0, 0, id="light-grey"),
    ],
)
def test_white_background(ground, nearly, exactly):
    """White all round is told from nearly white, and that from a light grey."""
    found = toned(product(96, 200, ground))
    assert (found.white_background.value, found.white_exact.value) == (nearly, exactly)
    assert found.white_background.confidence == "sure"


@made.QUICK
@given(height=st.integers(16, 150), width=st.integers(16, 150), seed=st.integers(0, 99))
def test_border_is_the_outermost_ring(height, width, seed):
    """The border is what a frame of 1/32 of the shorter side covers, and every px of it counts once."""
    rng = np.random.default_rng(seed)
    pixels = rng.choice([100, 251, 255], (height, width, 3), p=[0.1, 0.2, 0.7]).astype(np.uint8)
    deep = max(1, min(height, width) // 32)
    inside = np.ones((height - 2 * deep, width - 2 * deep), bool)
    frame = pixels[~np.pad(inside, deep)]
    found = toned(pixels)
    assert found.white_background.value == pytest.approx(float((frame >= 250).all(axis=1).mean()), abs=1e-4)
    assert found.white_exact.value == pytest.approx(float((frame == 255).all(axis=1).mean()), abs=1e-4)


def test_large_border_is_sampled():
    """Of a large image the border is known from the windows at its edges, not quite surely; a side unseen, not."""

    class Drawn:
        """A white ground with a dark middle, of any size."""

        def __init__(self, height: int, width: int) -> None:
            self.size = height, width

        def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
            near = [
                np.minimum(np.arange(cut.start, cut.stop), side - 1 - np.arange(cut.start, cut.stop))
                for cut, side in zip(index, self.size, strict=True)
            ]
            edge = np.minimum(near[0][:, None], near[1])
            return np.where(edge < min(self.size) // 20, 255, 90)[:, :, None].astype(np.uint8)

    for size, told in (((30_000, 40_000), True), ((1_000, 90_000), False)):
        spec = ImageSpec(*size, 1, "uint8")
        found = tones(list(samples(Drawn(*size), spec)), *size)
        assert (found.white_background.value == 1) == told
        assert found.white_background.confidence == ("fair" if told else "none")
        assert found.clipped_black.confidence == "fair"


@pytest.mark.parametrize("count", [2, 4])
def test_transparent_counts_as_nothing_else(count):
    """Px that are not opaque are counted as such; their colour changes nothing."""
    pixels = made.picture(200, 200, count, "uint8", 3)
    y, x = np.mgrid[:200, :200]
    hidden = (y - 100) ** 2 + (x - 100) ** 2 > 80**2
    pixels[:, :, -1] = np.where(hidden, 128, 255)
    other = pixels.copy()
    other[hidden, :-1] = 255
    found = toned(pixels)
    assert found == toned(other)
    assert found.transparent.value == pytest.approx(hidden.mean(), abs=1e-4)
    assert found.white_background == UNKNOWN


def test_opaque_alpha_is_as_none():
    """An alpha channel that is opaque all over changes nothing."""
    pixels = made.picture(120, 150, 3)
    assert toned(rgba(pixels, np.full((120, 150), 255))) == toned(pixels)
    assert toned(pixels).transparent.value == 0


@pytest.mark.parametrize("size", [10, 14, 20, 30, 45])
@pytest.mark.parametrize("inverted", [False, True])
def test_print_is_text(size, inverted):
    """Print of any usual height looks like text, dark on light and light on dark."""
    pixels = page(size)
    assert toned(255 - pixels if inverted else pixels).text.value > 0.08


def test_photographs_are_not_text():
    """Waves, noise, one hard edge, a blurred page and blank paper do not look like text."""
    rng = np.random.default_rng(0)
    edge = np.full((512, 512, 1), 30, np.uint8)
    edge[:, 200:] = 220
    blurred = np.asarray(Image.fromarray(page(20)[:, :, 0]).resize((40, 40)).resize((512, 512)))[:, :, None]
    for pixels in (
        made.smooth(512, 512, 3, "uint8"),
        rng.integers(0, 256, (512, 512, 3)).astype(np.uint8),
        edge,
        blurred,
        page(20, ink=225),
    ):
        assert toned(pixels).text.value < 0.02


@pytest.mark.parametrize("alike", [True, False])
def test_text_has_neighbours_of_its_kind(alike):
    """Strokes on one paper are text; the same strokes with another paper from place to place are not."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:512, :512]
    papers = rng.integers(120, 250, (16, 16)) if not alike else np.full((16, 16), 220)
    paper = papers.repeat(32, axis=0).repeat(32, axis=1)
    strokes = (x % 8 < 3) & (y % 16 > 4)
    pixels = np.where(strokes, paper - 100, paper).astype(np.uint8)[:, :, None]
    assert (toned(pixels).text.value > 0.5) == alike


def test_text_is_a_share():
    """Half a page of print is half as much text as a page."""
    whole = page(16)
    half = whole.copy()
    half[:, 256:] = 225
    assert toned(half).text.value == pytest.approx(toned(whole).text.value / 2, rel=0.25)


@pytest.mark.filterwarnings("error")
@made.QUICK
@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    channel_count=st.sampled_from([1, 2, 3, 4]),
    dtype=st.sampled_from(["uint8", "uint16"]),
)
def test_few_px_tell_little(height, width, channel_count, dtype):
    """However small an image, there is an answer; of fewer than 256 px it is that nothing can be told."""
    found = toned(made.picture(height, width, channel_count, dtype))
    assert found.posterised == UNKNOWN
    if height * width < 256:
        assert {found.clipped_black, found.clipped_white, found.transparent, found.text} == {UNKNOWN}
    if min(height, width) < 16:
        assert found.white_background == UNKNOWN


def test_order_of_samples_means_nothing():
    """Counts do not depend on the order in which windows come."""
    pixels = made.picture(300, 400, 3, "uint8", 5)
    spec = made.spec_of(pixels)
    windows = [Window(y, x, y1, x1) for y, y1 in ((0, 160), (160, 300)) for x, x1 in ((0, 208), (208, 400))]
    parts = [sample(pixels[window.slices], spec, window) for window in windows]
    assert tones(parts, 300, 400) == tones(parts[::-1], 300, 400)
