"""The central promise: tiles are the whole, bit for bit, and the whole is what an independent oracle makes of it."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
import strategies as made
from hypothesis import given
from hypothesis import strategies as st

import refine.resample
from refine.chain import Chain
from refine.denoise import GuidedDenoise
from refine.plan import Plan
from refine.resample import Axis, Resample, Taps
from refine.session import Engine
from refine.sharpen import UnsharpMask
from refine.tiles import restored_pixels
from refine.upscale import Upscale

FULL = Chain((Upscale("fast-x4"), Resample(), GuidedDenoise(2.0, 4.0, 3), UnsharpMask(1.0, 0.8)))
"""Every step; the network enlarges too far, and the resampling comes back."""


def tiles_and_whole(data: st.DataObject) -> None:
    """Draw everything, restore twice, compare."""
    chain, (tile, block) = data.draw(made.chains()), data.draw(made.cuts())
    height, width = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 70))
    channels = data.draw(st.integers(1, 4))
    depth, target = data.draw(st.sampled_from(["uint8", "uint16"])), data.draw(st.sampled_from(["uint8", "uint16"]))
    output = data.draw(made.outputs(height, width, most=min(240, 4 * block)))
    pixels = made.picture(height, width, channels, depth, data.draw(st.integers(0, 999)))
    whole = made.restored(pixels, chain, output, dtype=target)
    tiled = made.restored(pixels, chain, output, dtype=target, tile=tile, block=block)
    np.testing.assert_array_equal(tiled, whole)


@made.QUICK
@given(data=st.data())
def test_tiles_equal_whole(data):
    """Restoring tile by tile gives the same pixels as restoring the whole image."""
    tiles_and_whole(data)


@pytest.mark.slow
@made.LONG
@given(data=st.data())
def test_tiles_equal_whole_at_length(data):
    """The same, for many more chains, sizes and cuts."""
    tiles_and_whole(data)


@pytest.mark.parametrize("ratio", made.RATIOS)
def test_tiles_equal_whole_at_every_ratio(ratio):
    """The whole chain, over several tiles a side, gives the whole's bytes at every ratio."""
    pixels = made.picture(83, 61, 4, "uint16", seed=5)
    output = round(83 * ratio), round(61 * ratio)
    whole = made.restored(pixels, FULL, output)
    np.testing.assert_array_equal(
        made.restored(pixels, FULL, output, tile=max(16, min(100, output[0] - 2)), block=60), whole
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 2), (3, 5)], ids=str)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_smallest_pictures_are_restored(shape, channels):
    """A picture smaller than any halo is mirrored as often as it takes."""
    pixels = made.picture(*shape, channels, seed=1)
    output = tuple(round(side * 2.5) for side in shape)
    whole = made.restored(pixels, FULL, output)
    assert whole.shape == (*output, channels)
    np.testing.assert_array_equal(made.restored(pixels, FULL, output, tile=16, block=16), whole)


@pytest.mark.parametrize("net", ["fast-x2", "fast-x4"])
def test_threads_do_not_change_bytes(net):
    """Two threads inside the operators give the bytes of one."""
    chain = Chain((Upscale(net), Resample(), GuidedDenoise(2.0, 4.0, 3), UnsharpMask(2.0, 0.8)))
    pixels = made.picture(97, 131, 3, "uint16", seed=2)
    plan = made.plan_for(pixels, chain, (242, 327), tile=200, block=150)
    one, two = (restored_pixels(pixels, plan, Engine(threads=threads)) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)


ORACLE_CHAINS = [
    pytest.param((Upscale("fast-x2"),), (74, 82), id="x2"),
    pytest.param((Upscale("fast-x4"),), (148, 164), id="x4"),
    pytest.param((Resample(),), (51, 56), id="lanczos-1.37"),
    pytest.param((Resample("bicubic"),), (26, 29), id="bicubic-0.7"),
    pytest.param((Resample(),), (11, 12), id="lanczos-0.3-through-boxes"),
    pytest.param((Resample(),), (50, 11), id="one-side-up-one-down"),
    pytest.param((GuidedDenoise(3.0, 0.0, 2),), (37, 41), id="denoise-luma"),
    pytest.param((GuidedDenoise(0.0, 5.0, 4),), (37, 41), id="denoise-chroma"),
    pytest.param((GuidedDenoise(1.0, 8.0, 1),), (37, 41), id="denoise-both"),
    pytest.param((UnsharpMask(0.5, 3.0, 0.01, 0.05),), (37, 41), id="sharpen-fine"),
    pytest.param((UnsharpMask(2.2, 1.5, 0.0, 0.02),), (37, 41), id="sharpen-wide"),
    pytest.param((Upscale("fast-x2"), Resample(), UnsharpMask()), (51, 56), id="x2-resample-sharpen"),
    # Boxes do not line up with the network's factor and halo by themselves.
    pytest.param((Upscale("fast-x2"), Resample()), (7, 8), id="x2-then-boxes-of-7"),
    pytest.param(FULL.steps, (93, 103), id="full-2.5"),
    pytest.param(FULL.steps, (19, 21), id="full-0.5"),
    pytest.param((Upscale("fast-x2"), GuidedDenoise(2.0, 4.0, 3), UnsharpMask()), (74, 82), id="no-resample"),
]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("steps", "output"), ORACLE_CHAINS)
def test_program_equals_oracle(steps, output, channels):
    """Tiled, and before rounding, a chain is within 1e-5 of the oracle's whole picture; rounded, within one level."""
    chain, pixels = Chain(tuple(steps)), made.picture(37, 41, channels, "uint16", seed=3)
    plan = made.plan_for(pixels, chain, output, tile=64, block=40)
    expected = oracle.restored(pixels, output, made.steps_of(chain), margin=20)
    assert np.abs(made.restored_float(pixels, plan) - expected).max() <= 1e-5
    levels = restored_pixels(pixels, plan).astype(int) - np.round(expected * 65535).astype(int)
    assert np.abs(levels).max() <= 1


def test_program_equals_oracle_with_two_networks():
    """Two networks in a row, 8x and back to an odd size, are within 1e-5 of the oracle."""
    chain = Chain((Upscale("fast-x4"), Upscale("fast-x2"), Resample("bicubic"), UnsharpMask()))
    pixels = made.smooth(7, 9, 3)
    plan = made.plan_for(pixels, chain, (37, 48), tile=24, block=24)
    expected = oracle.restored(pixels, (37, 48), made.steps_of(chain), margin=16)
    assert np.abs(made.restored_float(pixels, plan) - expected).max() <= 1e-5


def test_program_equals_oracle_in_a_meant_order():
    """Steps in another order are done in that order."""
    steps = (UnsharpMask(), GuidedDenoise(2.0, 4.0, 2), Upscale("fast-x2"), Resample())
    chain, pixels = Chain(steps, "as-written"), made.smooth(31, 28, 3)
    expected = oracle.restored(pixels, (70, 61), made.steps_of(chain))
    assert np.abs(made.restored_float(pixels, made.plan_for(pixels, chain, (70, 61))) - expected).max() <= 1e-5


HALO_CHAINS = [
    pytest.param((Upscale("fast-x2"),), (160, 160), {"before": -1}, id="x2"),
    pytest.param((Upscale("fast-x4"),), (320, 320), {"before": -1}, id="x4"),
    pytest.param((GuidedDenoise(3.0, 0.0, 2),), (80, 80), {"before": -1}, id="denoise"),
    pytest.param((UnsharpMask(1.0, 2.0, 0.0, 0.1),), (80, 80), {"before": -1}, id="sharpen"),
    pytest.param((Upscale("fast-x2"), Resample()), (200, 200), {"before": -1}, id="x2-before-resample"),
    pytest.param((Resample(), GuidedDenoise(3.0, 0.0, 2)), (110, 110), {"after": -1}, id="denoise-after-resample"),
    pytest.param((Resample(), UnsharpMask(1.0, 2.0, 0.0, 0.1)), (110, 110), {"after": -1}, id="sharpen-after-resample"),
    # The source window is rounded to whole px twice, which hides one: two less are seen.
    pytest.param(FULL.steps, (200, 200), {"before": -2}, id="full-before"),
    pytest.param(FULL.steps, (200, 200), {"after": -1}, id="full-after"),
]


@pytest.mark.parametrize(("steps", "output", "missing"), HALO_CHAINS)
def test_halo_is_needed(steps, output, missing):
    """One pixel less halo changes at least one value, on either side of the resampling."""
    pixels = made.picture(80, 80, 3, "uint16", seed=4)
    chain = Chain(tuple(steps))
    whole = made.restored_float(pixels, made.plan_for(pixels, chain, output))
    plan = made.plan_for(pixels, chain, output, tile=48, block=48)
    np.testing.assert_array_equal(made.restored_float(pixels, plan), whole)
    assert (made.restored_float(pixels, made.with_halo(plan, **missing)) != whole).any()


@pytest.mark.parametrize("output", [(200, 200), (56, 56), (24, 24)], ids=["2.5", "0.7", "0.3"])
def test_resampling_reads_all_it_needs(monkeypatch, output):
    """One pixel less than `backward` says changes at least one value."""
    pixels = made.picture(80, 80, 3, "uint16", seed=4)
    plan = made.plan_for(pixels, Chain((Resample(),)), output, tile=16, block=16)
    whole = made.restored_float(pixels, plan)
    honest = Axis.backward

    def short(axis: Axis, start: int, stop: int) -> tuple[int, int]:
        low, high = honest(axis, start, stop)
        return low + axis.box, high - axis.box

    monkeypatch.setattr(Axis, "backward", short)
    again = made.plan_for(pixels, Chain((Resample(),)), output, tile=16, block=16)
    assert (made.restored_float(pixels, again) != whole).any()


def half_pixel_shift(monkeypatch):
    """Weights as if pixel i lay at i and not at i + 0.5."""
    honest = refine.resample._table

    def shifted(axis: Axis, low: int, high: int) -> Taps:
        place, _ = honest(axis, low, high)
        distance = place - np.arange(low, high)[:, None] * float(axis.ratio)
        weight = refine.resample.lanczos3(distance)
        return Taps(place, (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32))

    monkeypatch.setattr(refine.resample, "_table", shifted)


def wrong_mirror(monkeypatch):
    """The edge pixel repeated: numpy's `symmetric`."""

    def mirrored(start: int, stop: int, size: int) -> np.ndarray:
        folded = np.arange(start, stop) % (2 * size)
        return np.minimum(folded, 2 * size - 1 - folded)

    monkeypatch.setattr("refine.window.mirrored", mirrored)


def wrong_crop(monkeypatch):
    """The result cut one row too low."""
    honest = Plan.inputs
    monkeypatch.setattr(
        Plan, "inputs", lambda plan, block: {**honest(plan, block), "crop": honest(plan, block)["crop"] + [1, 0, 1, 0]}
    )


def other_kernel(monkeypatch):
    """Lanczos with two lobes taken for three."""
    kernels = {
        **refine.resample.KERNELS,
        "lanczos3": (lambda x: np.where(abs(x) < 2, np.sinc(x) * np.sinc(x / 2), 0), 3),
    }
    monkeypatch.setattr(refine.resample, "KERNELS", kernels)


@pytest.mark.parametrize("bug", [half_pixel_shift, wrong_mirror, wrong_crop, other_kernel])
def test_oracle_catches(monkeypatch, bug):
    """What tiles and whole would get wrong alike, the oracle sees."""
    pixels, chain, output = made.smooth(40, 40, 1, seed=6), Chain((Resample(), UnsharpMask())), (55, 55)
    expected = oracle.restored(pixels, output, made.steps_of(chain))
    assert np.abs(made.restored_float(pixels, made.plan_for(pixels, chain, output)) - expected).max() <= 1e-5
    # The honest table has cached this axis; the planted bugs are in it, or past it.
    refine.resample._table.cache_clear()
    bug(monkeypatch)
    found = np.abs(made.restored_float(pixels, made.plan_for(pixels, chain, output)) - expected).max()
    assert found > 1e-3


def centroid(plane: np.ndarray) -> np.ndarray:
    """Where the weight of a blob lies, (y, x), in px: its ground is taken off, and what is as faint as noise."""
    weight = plane.astype(float) - plane[0, 0]
    weight[np.abs(weight) < 2e-3] = 0
    return np.array([(weight * at).sum() for at in np.mgrid[: len(plane), : plane.shape[1]]]) / weight.sum()


GEOMETRIES = {
    "resample": (Resample(),),
    "bicubic": (Resample("bicubic"),),
    "x2": (Upscale("fast-x2"), Resample()),
    "x4": (Upscale("fast-x4"), Resample()),
    "full": FULL.steps,
}


@pytest.mark.parametrize("ratio", made.RATIOS)
@pytest.mark.parametrize("steps", GEOMETRIES.values(), ids=GEOMETRIES)
def test_nothing_moves(steps, ratio):
    """A blob off centre stays where it was, scaled, within 0.02 px of the result, and the size is exact."""
    y, x = np.mgrid[:70, :80]
    blob = 0.1 + 0.7 * np.exp(-((y - 31.3) ** 2 + (x - 44.6) ** 2) / 2 / 4.0**2)
    pixels = np.round(blob * 65535).astype(np.uint16)[:, :, None]
    output = round(70 * ratio), round(80 * ratio)
    result = made.restored_float(pixels, made.plan_for(pixels, Chain(tuple(steps)), output))[:, :, 0]
    scales = np.array(output) / (70, 80)
    expected = (centroid(pixels[:, :, 0] / 65535) + 0.5) * scales - 0.5
    assert result.shape == output
    assert np.abs(centroid(result) - expected).max() <= 0.02
