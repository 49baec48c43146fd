"""What a network must not touch, it does not touch."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import strategies as made
from onnx import numpy_helper

import refine.network
from refine.card import load_network
from refine.chain import Chain
from refine.denoise import GuidedDenoise
from refine.errors import CardError, NonFiniteError
from refine.network import FLAT_RADIUS
from refine.plan import planned
from refine.program import _compiled
from refine.resample import Resample
from refine.sharpen import UnsharpMask
from refine.spec import ImageSpec
from refine.tiles import restore_tile, restored_pixels
from refine.upscale import Upscale

NETS = ["fast-x2", "fast-x4"]
FINISH = (Resample(), GuidedDenoise(2.0, 4.0, 5), UnsharpMask(1.0, 0.8))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("net", NETS)
def test_neutral_stays_neutral(net, dtype):
    """A picture with R = G = B comes out with R = G = B everywhere, through every step at 2.5x."""
    grey = made.picture(50, 44, 1, dtype, seed=11)
    result = made.restored(np.repeat(grey, 3, axis=2), Chain((Upscale(net), *FINISH)), (125, 110), tile=64, block=50)
    assert np.count_nonzero(result != result[:, :, :1]) == 0


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_neutral_region_stays_neutral(dtype):
    """Beside a colourful region, what is neutral farther than the reach stays so."""
    pixels = np.repeat(made.picture(40, 80, 1, dtype, seed=12), 3, axis=2)
    pixels[:, :30] = made.picture(40, 30, 3, dtype, seed=13)
    result = made.restored(pixels, Chain((Upscale("fast-x2"),)), (80, 160))[:, 2 * (30 + 12) :]
    assert np.count_nonzero(result != result[:, :, :1]) == 0


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_grey_in_is_grey_out(dtype):
    """One channel comes out as one channel: the luma of what the same picture as RGB becomes, within one level."""
    grey = made.picture(40, 36, 1, dtype, seed=14)
    chain = Chain((Upscale("fast-x2"), Resample(), UnsharpMask()))
    one, three = (made.restored(pixels, chain, (100, 90)) for pixels in (grey, np.repeat(grey, 3, axis=2)))
    assert one.shape == (100, 90, 1)
    assert np.abs(one.astype(int) - three[:, :, :1]).max() <= 1


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_flat_fields_stay_what_they_are(dtype):
    """A field of any of 32 colours is that colour to the last bit, through the whole chain, tiled."""
    top = np.iinfo(dtype).max
    colours = np.random.default_rng(15).integers(0, top + 1, (32, 3))
    colours[:4] = [[0, 0, 0], [top, top, top], [top // 2, top // 2, top // 2], [top, 0, 1]]
    for colour in colours:
        field = np.empty((16, 12, 3), dtype)
        field[:] = colour
        result = made.restored(field, Chain((Upscale("fast-x4"), *FINISH)), (40, 30), tile=24, block=24)
        assert (result == colour).all(), colour


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (200, 31, 90)], ids=str)
@pytest.mark.parametrize("net", NETS)
def test_flat_colour_beside_an_edge_stays(net, colour):
    """Beside a hard edge, a flat colour is that colour from FLAT_RADIUS px on."""
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:, :20] = (90, 90, 10)
    pixels[:, 20:] = colour
    scale = Upscale(net).scale
    result = made.restored(pixels, Chain((Upscale(net),)), (40 * scale, 40 * scale))
    assert (result[:, (20 + FLAT_RADIUS) * scale :] == colour).all()
    assert (result[:, : (20 - FLAT_RADIUS) * scale] == (90, 90, 10)).all()


def test_white_ground_stays_white_through_the_chain():
    """White beside black is 255 everywhere beyond the reach of the edge and of the steps after the network."""
    pixels = np.full((60, 60, 3), 255, np.uint8)
    pixels[20:40, 20:40] = 0
    chain = Chain((Upscale("fast-x4"), Resample(), UnsharpMask(1.0, 0.8)))
    result = made.restored(pixels, chain, (150, 150), tile=64, block=64)
    # The network's flat radius, Lanczos on the enlarged picture, and the mask: px of the source.
    reach = FLAT_RADIUS + 2 + 2
    outside = np.ones((60, 60), bool)
    outside[20 - reach : 40 + reach, 20 - reach : 40 + reach] = False
    outside = outside[(np.arange(150) * 0.4).astype(int)][:, (np.arange(150) * 0.4).astype(int)]
    assert (result[outside] == 255).all()


@pytest.fixture
def spoilt(monkeypatch):
    """Puts a value into the last bias of the networks that chains compile from now on."""

    def spoil(value: float) -> None:
        def load(net: str) -> onnx.ModelProto:
            model = onnx.ModelProto()
            model.CopyFrom(load_network(net))
            used = {name for node in model.graph.node if node.op_type == "Conv" for name in node.input[2:]}
            bias = [w for w in model.graph.initializer if w.name in used][-1]
            changed = numpy_helper.to_array(bias).copy()
            changed[0] = value
            bias.CopyFrom(numpy_helper.from_array(changed, bias.name))
            return model

        monkeypatch.setattr(refine.network, "load_network", load)
        _compiled.cache_clear()

    yield spoil
    monkeypatch.undo()
    _compiled.cache_clear()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("steps", [(), FINISH], ids=["alone", "full"])
def test_nonfinite_network_writes_nothing(spoilt, value, channels, steps):
    """NaN or infinity in a network fails the image, whatever stands behind it, and no pixel is written."""
    spoilt(value)
    pixels = made.picture(24, 24, channels, seed=16)
    plan = made.plan_for(pixels, Chain((Upscale("fast-x2"), *steps)), (48, 48), tile=32, block=32)
    target = np.full((48, 48, channels), 77, np.uint8)
    with pytest.raises(NonFiniteError, match="NaN or infinite"):
        restore_tile(pixels, target, plan, next(plan.tiles()))
    assert (target == 77).all()


def test_spoilt_network_is_another_when_finite(spoilt):
    """The test above would see a network that is spoilt only a little: the bias does reach the pixels."""
    pixels = made.picture(24, 24, 3, seed=16)
    before = made.restored(pixels, Chain((Upscale("fast-x2"),)), (48, 48))
    spoilt(0.2)
    assert (made.restored(pixels, Chain((Upscale("fast-x2"),)), (48, 48)) != before).any()


def test_one_pixel_image_is_flat():
    """A single pixel is a flat field: its colour fills the result."""
    pixels = np.array([[[13, 200, 77]]], np.uint8)
    plan = planned(Chain((Upscale("fast-x4"), *FINISH)), ImageSpec(1, 1, 3, "uint8"), (5, 3))
    assert (restored_pixels(pixels, plan) == pixels).all()


def test_upscale_names_the_networks_there_are():
    """A network that does not exist is refused with those that do."""
    with pytest.raises(CardError, match="no network 'fast-x3'; there are fast-x2, fast-x4"):
        Chain((Upscale("fast-x3"),)).scale  # noqa: B018
