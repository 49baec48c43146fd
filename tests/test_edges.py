from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import norm

from refine.assessment import UNKNOWN
from refine.edges import edges
from refine.sampling import Sample, sample
from refine.spec import ImageSpec, Pixels
from refine.window import Window


def seen(pixels: Pixels, y: int = 0, x: int = 0) -> Sample:
    """A picture as one sample."""
    height, width, channels = pixels.shape
    spec = ImageSpec(height, width, channels, str(pixels.dtype))
    return sample(pixels, spec, Window(y, x, y + height, x + width))


def levels(values: np.ndarray, dtype: type = np.uint8) -> Pixels:
    """Values 0..1 as a grey picture."""
    top = np.iinfo(dtype).max
    return np.clip(np.rint(values * top), 0, top).astype(dtype)[..., None]


def bars(sigma: float, slant: float = 0.06, size: int = 256) -> np.ndarray:
    """Broad slanted bars both ways, 0.2..0.8, whose edges are integrals of a Gaussian: exact, not filtered."""
    y, x = np.mgrid[:size, :size].astype(float)
    up = norm.cdf((x - 70 - slant * y) / sigma) - norm.cdf((x - 150 - slant * y) / sigma)
    down = norm.cdf((y - 60 - slant * x) / sigma) - norm.cdf((y - 180 - slant * x) / sigma)
    return 0.2 + 0.3 * up + 0.3 * down


@pytest.mark.parametrize("sigma", [0.6, 0.8, 1.0, 1.5, 2.0, 2.5])
def test_edges_measure_the_sigma_of_drawn_edges(sigma: float) -> None:
    """Edges drawn as integrals of a Gaussian give its sigma within 15 %, and no halo."""
    found = edges([seen(levels(bars(sigma)))], 0.0)
    assert found.blur_sigma.value == pytest.approx(sigma, rel=0.15)
    assert found.blur_sigma.confidence == "sure"
    assert found.halo.value is not None
    assert found.halo.value < 1.5


@pytest.mark.parametrize("sigma", [0.8, 1.5, 2.0])
def test_edges_see_through_noise(sigma: float) -> None:
    """Noise of 5 levels moves the sigma by no more than 20 %, and the answer is no longer sure."""
    noise = np.random.default_rng(1).normal(0, 5 / 255, (256, 256))
    found = edges([seen(levels(bars(sigma) + noise))], 5.0)
    assert found.blur_sigma.value == pytest.approx(sigma, rel=0.2)
    assert found.blur_sigma.confidence == "fair"


@pytest.mark.parametrize(("amount", "radius"), [(0.5, 1.0), (1.0, 1.0), (1.0, 2.0), (0.5, 3.0)])
def test_edges_measure_the_overshoot_of_an_unsharp_mask(amount: float, radius: float) -> None:
    """The halo is how far an unsharp mask lifts an edge beyond its level, which the error function tells."""
    at = np.linspace(-15, 15, 3001)
    profile = (1 + amount) * norm.cdf(at) - amount * norm.cdf(at / np.hypot(1, radius))
    overshoot = 100 * (profile.max() - 1)
    blurred = bars(1.0)
    sharpened = blurred + amount * (blurred - gaussian_filter(blurred, radius))
    found = edges([seen(levels(sharpened))], 0.0)
    assert found.halo.value == pytest.approx(overshoot, rel=0.2, abs=1.5)


def test_edges_know_nothing_of_halos_that_white_cuts_off() -> None:
    """Where all crests end at black or white, the halo cannot be told."""
    page = np.where(bars(0.8) > 0.45, 1.0, 0.0)
    assert edges([seen(levels(page))], 0.0).halo == UNKNOWN


@pytest.mark.parametrize("kind", ["flat", "ramp", "grain", "waves"])
def test_edges_cannot_tell_without_edges(kind: str) -> None:
    """Flat, smooth or densely textured pictures have no edge to measure."""
    y, x = np.mgrid[:200, :200]
    grain = gaussian_filter(np.random.default_rng(2).normal(0, 1, (200, 200)), 1.5)
    picture = {
        "flat": np.full((200, 200), 0.5),
        "ramp": x / 400 + y / 400,
        "grain": 0.5 + 0.15 * grain / grain.std(),
        "waves": 0.5 + 0.3 * np.sin(x / 2) * np.sin(y / 2),
    }[kind]
    assert edges([seen(levels(picture))], 0.0).blur_sigma == UNKNOWN


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (30, 30), (55, 300)])
def test_edges_of_tiny_pictures_are_unknown(shape: tuple[int, int]) -> None:
    """Pictures of a few pixels tell nothing, and raise nothing."""
    found = edges([seen(levels(np.random.default_rng(3).random(shape)))], 0.0)
    assert found.blur_sigma == UNKNOWN
    assert edges([], 0.0).halo == UNKNOWN


def test_edges_do_not_depend_on_depth_axis_or_order() -> None:
    """8 and 16 bits, a picture and its transpose, samples in another order: one answer."""
    picture, other = bars(1.2), bars(1.4, slant=-0.04)
    first = edges([seen(levels(picture)), seen(levels(other), x=300)], 0.0)
    assert edges([seen(levels(other), x=300), seen(levels(picture))], 0.0) == first
    assert edges([seen(levels(picture.T)), seen(levels(other.T), y=300)], 0.0) == first
    deep = edges([seen(levels(picture, np.uint16)), seen(levels(other, np.uint16), x=300)], 0.0)
    assert deep.blur_sigma.value == pytest.approx(first.blur_sigma.value, abs=0.03)


def test_edges_ignore_what_is_invisible() -> None:
    """Sharp edges under alpha 0, and the border of the visible, change nothing."""
    colour = levels(bars(2.0))
    alpha = np.full_like(colour, 255)
    hidden = colour.copy()
    hidden[:50] = levels(np.random.default_rng(4).random((50, 256)) > 0.5)
    alpha[:50] = 0
    shown = colour.copy()
    shown[:50] = 127
    found = edges([seen(np.concatenate([hidden, alpha], 2))], 0.0)
    assert found == edges([seen(np.concatenate([shown, alpha], 2))], 0.0)
    assert found.blur_sigma.value == pytest.approx(2.0, rel=0.15)
