from __future__ import annotations

import itertools

import pytest

from refine.chain import Chain
from refine.denoise import GuidedDenoise
from refine.errors import ChainError
from refine.repair import Repair
from refine.resample import Resample
from refine.sharpen import UnsharpMask
from refine.tone import Tone
from refine.upscale import Upscale

STEPS = {
    "repair": Repair("clean-x1", 4.0),
    "upscale": Upscale("fast-x2"),
    "resample": Resample(),
    "denoise": GuidedDenoise(2.0),
    "sharpen": UnsharpMask(),
    "tone": Tone(contrast=1.2),
}


@pytest.mark.parametrize("names", list(itertools.permutations(STEPS, 2)), ids="-".join)
def test_chain_refuses_other_orders(names):
    """Of any two steps, one order is right; the other is refused by both names, with why and the way out."""
    steps = tuple(STEPS[name] for name in names)
    if list(STEPS).index(names[0]) < list(STEPS).index(names[1]):
        assert Chain(steps).active == steps
        return
    with pytest.raises(ChainError) as refused:
        Chain(steps)
    said = str(refused.value)
    assert said.startswith(f"{names[1]} stands after {names[0]}")
    if names not in (("resample", "upscale"), ("resample", "repair")):
        assert "belongs before it: " in said
        assert said.endswith("or mean it with order = 'as-written'")
        assert Chain(steps, "as-written").active == steps


def test_chain_refuses_upscaling_after_resampling_even_if_meant():
    """A network after the exact size would undo it: that is refused in any order."""
    with pytest.raises(ChainError, match="resample last"):
        Chain((Resample(), Upscale("fast-x2")), "as-written")


def test_chain_resamples_once():
    """Two resamplings are refused with their number and the way out."""
    with pytest.raises(ChainError, match="got 2 resample steps: keep the last"):
        Chain((Resample(), Resample("bicubic")))


def test_chain_names_the_orders():
    """An unknown order is refused with the two there are."""
    with pytest.raises(ChainError, match="order is checked or as-written, got 'free'"):
        Chain((), "free")


def test_zero_strength_is_no_step():
    """A step of strength zero has no place: neither in the active steps nor in the order."""
    idle = (UnsharpMask(amount=0), GuidedDenoise(0, 0))
    assert Chain(idle).active == ()
    assert Chain((*idle, Upscale("fast-x2"))).active == (Upscale("fast-x2"),)
    assert Chain(idle).parameters() == {}


def test_chain_scale_is_the_product_of_its_networks():
    """Two networks in a row multiply."""
    assert Chain((Upscale("fast-x4"), Upscale("fast-x2"))).scale == 8
    assert Chain((Resample(),)).scale == 1


def test_strengths_are_parameters_and_not_structure():
    """Chains that differ in strengths have one structure and other parameters; a longer kernel is other structure."""
    soft, hard, wide = (Chain((UnsharpMask(*options),)) for options in ((1.0, 0.3), (1.0, 2.0), (2.0, 0.3)))
    assert soft.structure == hard.structure != wide.structure
    assert soft.parameters()["step0.amount"] != hard.parameters()["step0.amount"]
