"""Random pictures, chains and sizes; and refine run in the ways that tests compare."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256

import numpy as np
import onnx
import onnxruntime as ort
from hypothesis import settings
from hypothesis import strategies as st

from refine.chain import Chain
from refine.denoise import GuidedDenoise
from refine.plan import Plan, planned
from refine.resample import Resample
from refine.sharpen import UnsharpMask
from refine.spec import ImageSpec
from refine.tiles import read_window, restored_pixels
from refine.upscale import Upscale
from refine.window import Window

QUICK = settings(max_examples=24, deadline=None, derandomize=True, database=None)
"""For a property that every run checks: always the same examples."""
LONG = settings(max_examples=1500, deadline=None)
"""For the same property, in the slow run: always others."""
RATIOS = (0.3, 0.7, 1.37, 2.0, 2.5, 4.0)
"""Output px per source px: shrinking through boxes, shrinking, odd, whole, one and a half networks."""


def picture(height: int, width: int, channels: int, dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    """A picture with all that is treated apart: noise, flat and white fields, grey, hard edges, holes in alpha."""
    rng = np.random.default_rng(seed)
    top = np.iinfo(dtype).max
    pixels = rng.integers(0, top + 1, (height, width, channels)).astype(dtype)
    for kind in rng.integers(0, 5, 6):
        y, x = rng.integers(0, height), rng.integers(0, width)
        patch = pixels[y : y + 1 + height // 2, x : x + 1 + width // 2]
        colours = patch if channels in (1, 3) else patch[:, :, :-1]
        if kind == 0:
            colours[:] = rng.integers(0, top + 1, colours.shape[2])
        elif kind == 1:
            colours[:] = top
        elif kind == 2:
            colours[:] = colours[:, :, :1]
        elif kind == 3:
            colours[:, : 1 + colours.shape[1] // 2] = 0
        elif channels in (2, 4):
            patch[:, :, -1] = rng.choice([0, 0, top, top // 100])
    return pixels


def smooth(height: int, width: int, channels: int, dtype: str = "uint16", seed: int = 0) -> np.ndarray:
    """A picture of slow waves with a little noise: what a photograph is like to a filter."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    planes = [0.5 + 0.35 * np.sin(y / (5 + i) + i) * np.cos(x / (7 - i)) for i in range(channels)]
    noisy = np.stack(planes, axis=2) + rng.normal(0, 0.02, (height, width, channels))
    return np.round(np.clip(noisy, 0, 1) * np.iinfo(dtype).max).astype(dtype)


def plan_for(
    pixels: np.ndarray, chain: Chain, output: tuple[int, int], *, tile: int = 2048, block: int = 2048, dtype=None
) -> Plan:
    """The plan that makes `output` of these pixels; by default in one piece."""
    return planned(chain, spec_of(pixels), output, dtype=dtype, tile=tile, block=block)


def spec_of(pixels: np.ndarray) -> ImageSpec:
    """What a file would say of these pixels."""
    return ImageSpec(*pixels.shape, dtype=pixels.dtype.name)


def restored(pixels: np.ndarray, chain: Chain, output: tuple[int, int], **cut) -> np.ndarray:
    """The restored picture, by default in one piece."""
    return restored_pixels(pixels, plan_for(pixels, chain, output, **cut))


def restored_float(pixels: np.ndarray, plan: Plan) -> np.ndarray:
    """The restored picture as it is before rounding: (y, x, c) float32, full scale 1."""
    session = _before_rounding(plan.program.model)
    result = np.empty((*plan.output, pixels.shape[2]), np.float32)
    names = {i.name for i in session.get_inputs()}
    for tile in plan.tiles():
        for block in plan.blocks(tile):
            fed = {name: value for name, value in plan.inputs(block).items() if name in names}
            fed["pixels"] = np.ascontiguousarray(read_window(pixels, plan, block.read))[None]
            result[block.write.slices] = session.run(["unrounded"], fed)[0][0].transpose(1, 2, 0)
    return result / np.float32(np.iinfo(plan.dtype).max)


@lru_cache(maxsize=16)
def _before_rounding(data: bytes) -> ort.InferenceSession:
    """The same program with one more output: what its one Round node reads."""
    model = onnx.load_model_from_string(data)
    (node,) = [node for node in model.graph.node if node.op_type == "Round"]
    model.graph.node.append(onnx.helper.make_node("Identity", [node.input[0]], ["unrounded"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("unrounded", onnx.TensorProto.FLOAT, None))
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_mem_pattern = False
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def steps_of(chain: Chain) -> list[tuple]:
    """The chain in the words of the oracle."""
    said = []
    for step in chain.active:
        if isinstance(step, Upscale):
            said.append(("upscaled", step.net))
        elif isinstance(step, Resample):
            said.append(("resampled", step.kernel))
        elif isinstance(step, GuidedDenoise):
            said.append(("denoised", step.luma, step.chroma, step.radius))
        elif isinstance(step, UnsharpMask):
            said.append(("sharpened", step.sigma, step.amount, step.threshold, step.overshoot))
    return said


def with_halo(plan: Plan, *, before: int = 0, after: int = 0) -> Plan:
    """The same plan, believing in halos that differ by so many px. A planted bug."""
    program = plan.program
    wrong = Plan(plan.chain, plan.source, plan.output, plan.dtype, plan.tile, plan.block)
    wrong.__dict__["program"] = replace(
        program,
        before=replace(program.before, halo=program.before.halo + before),
        after=replace(program.after, halo=program.after.halo + after),
    )
    return wrong


def brute_window(pixels: np.ndarray, plan: Plan, window: Window) -> Iterator[Window]:
    """Rows, then columns, of the source that change something in an output window when they are turned over."""
    base = restored_float(pixels, plan)[window.slices]
    for axis in (0, 1):
        moved = []
        for at in range(pixels.shape[axis]):
            turned = np.moveaxis(pixels.copy(), axis, 0)
            turned[at] = np.iinfo(pixels.dtype).max - turned[at]
            if not np.array_equal(restored_float(np.moveaxis(turned, 0, axis), plan)[window.slices], base):
                moved.append(at)
        yield Window(min(moved), 0, max(moved) + 1, 1) if axis == 0 else Window(0, min(moved), 1, max(moved) + 1)


def digest(pixels: np.ndarray) -> str:
    """Of the pixels, in order."""
    return sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


NETS = st.sampled_from([(), ("fast-x2",), ("fast-x4",)])


@st.composite
def chains(draw) -> Chain:
    """Any subset of the steps, in order, of any strength."""
    kernel = draw(st.sampled_from(["lanczos3", "bicubic"]))
    steps = [*(Upscale(net) for net in draw(NETS)), Resample(kernel)]
    if draw(st.booleans()):
        luma, chroma = draw(st.sampled_from([(3.0, 0.0), (0.0, 5.0), (2.0, 8.0)]))
        steps.append(GuidedDenoise(luma, chroma, draw(st.sampled_from([1, 2, 5]))))
    if draw(st.booleans()):
        sigma = draw(st.sampled_from([0.5, 1.0, 2.2]))
        steps.append(UnsharpMask(sigma, draw(st.floats(0.1, 4)), draw(st.sampled_from([0.0, 0.01])), 0.05))
    return Chain(tuple(steps))


@st.composite
def cuts(draw) -> tuple[int, int]:
    """Sides of tile and block, output px."""
    block = draw(st.sampled_from([16, 23, 32, 50, 64, 128]))
    return draw(st.sampled_from([block, block + 9, 2 * block, 3 * block])), block


@st.composite
def outputs(draw, height: int, width: int, most: int) -> tuple[int, int]:
    """A size to make of a picture: one ratio for both sides, or an odd one each; at most `most` px a side."""
    down = draw(st.sampled_from(RATIOS))
    across = draw(st.one_of(st.just(down), st.floats(0.2, 4)))
    sides = ((height, down), (width, across))
    return tuple(max(1, min(most, int(size * ratio + 0.5))) for size, ratio in sides)
