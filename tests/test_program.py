from __future__ import annotations

from dataclasses import replace

import onnx
import pytest
import strategies as made
from hypothesis import given, settings

from refine.chain import Chain
from refine.denoise import GuidedDenoise
from refine.plan import planned
from refine.program import _compiled
from refine.resample import Resample
from refine.sharpen import UnsharpMask
from refine.spec import ImageSpec
from refine.upscale import Upscale

SPEC = ImageSpec(40, 50, 3, "uint8")


def program(*steps, spec=SPEC, output=(100, 125)):
    """The program of these steps for a picture of 40 x 50 px."""
    return planned(Chain(steps), spec, output).program


def kinds(model: bytes) -> list[str]:
    """Operators of its nodes."""
    return [node.op_type for node in onnx.load_model_from_string(model).graph.node]


def test_zero_strength_is_not_in_the_graph():
    """A step of strength zero adds no node: the program is the one without it, byte for byte."""
    base = program(Upscale("fast-x2"), Resample())
    idle = program(Upscale("fast-x2"), Resample(), GuidedDenoise(0, 0), UnsharpMask(amount=0))
    assert idle.model == base.model
    assert len(kinds(program(Upscale("fast-x2"), Resample(), UnsharpMask()).model)) > len(kinds(base.model))


def test_half_a_denoise_is_half_in_the_graph():
    """Without chroma strength, only luma is filtered."""
    half, full = (program(Resample(), GuidedDenoise(2.0, chroma)) for chroma in (0.0, 2.0))
    assert kinds(half.model).count("AveragePool") < kinds(full.model).count("AveragePool")


STRENGTHS = [
    pytest.param(UnsharpMask(1.0, 0.3), UnsharpMask(1.0, 2.0, 0.1, 0.2), True, id="sharpen-strengths"),
    pytest.param(UnsharpMask(0.70), UnsharpMask(0.95), True, id="sigma-of-one-kernel-length"),
    pytest.param(UnsharpMask(1.0), UnsharpMask(3.0), False, id="sigma-of-another-length"),
    pytest.param(GuidedDenoise(2.0, 3.0), GuidedDenoise(9.0, 1.0), True, id="denoise-strengths"),
    pytest.param(GuidedDenoise(2.0, 3.0), GuidedDenoise(2.0, 0.0), False, id="denoise-planes"),
    pytest.param(GuidedDenoise(2.0, 3.0, 2), GuidedDenoise(2.0, 3.0, 5), False, id="denoise-radius"),
]


@pytest.mark.parametrize(("one", "other", "same"), STRENGTHS)
def test_strengths_do_not_recompile(one, other, same):
    """Strengths are inputs of one program; what decides a kernel's length is another program."""
    assert (program(Resample(), one).digest == program(Resample(), other).digest) == same


def test_strengths_change_the_pixels():
    """One program, two strengths, two results."""
    pixels = made.smooth(20, 20, 3)
    weak, strong = (Chain((UnsharpMask(1.0, amount),)) for amount in (0.2, 3.0))
    assert (made.restored(pixels, weak, (20, 20)) != made.restored(pixels, strong, (20, 20))).any()


def test_digest_is_the_same_when_compiled_again():
    """Compiling is deterministic: the digest can be part of a result's key."""
    first = program(Upscale("fast-x2"), Resample(), UnsharpMask())
    _compiled.cache_clear()
    assert program(Upscale("fast-x2"), Resample(), UnsharpMask()).digest == first.digest


def test_one_program_serves_many_sizes():
    """Pictures of other sizes, enlarged by other ratios, share a program."""
    one = program(Upscale("fast-x2"), Resample())
    assert (
        program(Upscale("fast-x2"), Resample(), spec=replace(SPEC, height=333), output=(999, 101)).digest == one.digest
    )


@settings(made.QUICK, max_examples=6)
@given(chain=made.chains())
def test_programs_are_valid_onnx(chain):
    """Every program passes ONNX's own checker, with shapes inferred."""
    for channels in (1, 4):
        plan = planned(chain, ImageSpec(30, 30, channels, "uint16"), (41, 37))
        onnx.checker.check_model(onnx.load_model_from_string(plan.program.model), full_check=True)
        assert plan.exact
