"""The same promises on CUDA. Skipped without one."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import strategies as made

from refine.chain import Chain
from refine.denoise import GuidedDenoise
from refine.resample import Resample
from refine.session import Engine
from refine.sharpen import UnsharpMask
from refine.tiles import restored_pixels
from refine.upscale import Upscale

pytestmark = pytest.mark.skipif(
    "CUDAExecutionProvider" not in ort.get_available_providers(), reason="onnxruntime here has no CUDA provider"
)
CHAINS = {
    "x2": (Upscale("fast-x2"),),
    "resample": (Resample(),),
    "filters": (GuidedDenoise(2.0, 4.0, 3), UnsharpMask(1.0, 0.8)),
    "full": (Upscale("fast-x4"), Resample(), GuidedDenoise(2.0, 4.0, 3), UnsharpMask(1.0, 0.8)),
}


def in_tiles_and_whole(steps, output, pixels) -> list[np.ndarray]:
    """Restored on CUDA tile by tile, on CUDA in one piece, and on the CPU."""
    plans = [made.plan_for(pixels, Chain(steps), output, tile=cut, block=cut) for cut in (200, 2048)]
    engines = [(plans[0], Engine("cuda")), (plans[1], Engine("cuda")), (plans[1], Engine("cpu"))]
    return [restored_pixels(pixels, plan, engine).astype(int) for plan, engine in engines]


@pytest.mark.parametrize("steps", CHAINS.values(), ids=CHAINS)
def test_cuda_tiles_equal_whole(steps, capsys):
    """On CUDA, tiles are within one 16-bit level of the whole, and CUDA within 8 of the CPU. Prints both."""
    pixels = made.smooth(230, 260, 3, "uint16", seed=1)
    scale = 2.5 if any(isinstance(step, Resample) for step in steps) else Chain(steps).scale
    output = round(230 * scale), round(260 * scale)
    tiled, whole, cpu = in_tiles_and_whole(steps, output, pixels)
    seam, other = np.abs(tiled - whole), np.abs(whole - cpu)
    with capsys.disabled():
        print(  # noqa: T201
            f"\nCUDA tiled and whole differ by at most {seam.max()} of 65535 in {np.mean(seam > 0):.4%} of values; "
            f"CUDA and CPU by at most {other.max()} in {np.mean(other > 0):.4%}"
        )
    assert seam.max() <= 1
    assert other.max() <= 8
