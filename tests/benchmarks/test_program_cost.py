"""What the steps of a program cost beside its network."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnxruntime as ort
import pytest
from tables import cpu_seconds, write_table

from refine.card import load_network
from refine.preset import load_preset
from refine.session import Engine, run
from refine.settings import Settings, Size
from refine.spec import ImageSpec, Pixels

pytestmark = pytest.mark.bench

_SIDE = 1000
_CHAINS = (
    ("network and guarantees", "2", 3, {"sharpen.amount": "0.0"}),
    ("+ luma sharpening", "2", 3, {}),
    ("+ luma sharpening, luma denoising", "2", 3, {"denoise.luma": "2"}),
    ("+ chroma denoising", "2", 3, {"denoise.luma": "2", "denoise.chroma": "2"}),
    ("all of it, resampled to 2.5", "2.5", 3, {"denoise.luma": "2", "denoise.chroma": "2"}),
    ("all of it, resampled to 1.5", "1.5", 3, {"denoise.luma": "2", "denoise.chroma": "2"}),
    ("all of it, grey", "2", 1, {"denoise.luma": "2"}),
    ("all of it, RGB with alpha", "2", 4, {"denoise.luma": "2", "denoise.chroma": "2"}),
)


def test_program_cost() -> None:
    """Write the table of what each chain costs beside its network on the same block."""
    rows = [_row(*chain) for chain in _CHAINS]
    header = ("chain (net fast-x2)", "network, ms/out MP", "program, ms/out MP", "ratio on the block", "per ideal MP")
    notes = (
        "`ratio on the block`: program against the bare network on the same padded block (bound: 1.3 with luma steps, "
        "2.0 with chroma and 2.5). `per ideal MP`: program per output MP against the network without any halo."
    )
    print(write_table("program-cost", "Cost of a program beside its network", header, rows, notes))


def _row(name: str, scale: str, channels: int, strengths: dict[str, str]) -> tuple[str, ...]:
    settings = Settings(load_preset("balanced", strengths), Size(scale=Fraction(scale)))
    plan = settings.plan(ImageSpec(_SIDE, _SIDE, channels, "uint8"))
    block = next(plan.blocks(next(plan.tiles())))
    pixels = picture(block.read.height, block.read.width, channels)
    bare = _network(pixels)
    ideal = _network(picture(256, 256, 3))
    inputs, engine = plan.inputs(block), Engine()
    network, program, whole = cpu_seconds(bare, lambda: run(plan.program, engine, pixels, inputs), ideal)
    megapixels = block.write.area / 1e6
    return (
        name,
        f"{network / megapixels * 1e3:.0f}",
        f"{program / megapixels * 1e3:.0f}",
        f"{program / network:.2f}",
        f"{program / megapixels / (whole / (512 * 512 / 1e6)):.2f}",
    )


def picture(height: int, width: int, channels: int) -> Pixels:
    """Something with edges, flat parts and noise, uint8 (y, x, c)."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:height, :width]
    waves = 127 + 80 * np.sin(x / 9.0) * np.cos(y / 13.0) + 40 * ((x // 24 + y // 31) % 2)
    noisy = waves[:, :, None] + rng.normal(0, 3, (height, width, channels))
    pixels = np.clip(noisy, 0, 255).astype(np.uint8)
    if channels in (2, 4):
        pixels[:, :, -1] = np.where((x - width / 2) ** 2 + (y - height / 2) ** 2 < (height / 3) ** 2, 255, 0)
    return pixels


def _network(pixels: Pixels):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    model = load_network("fast-x2").SerializeToString()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    rgb = np.repeat(pixels[:, :, :1], 3, axis=2) if pixels.shape[2] < 3 else pixels[:, :, :3]
    image = np.ascontiguousarray(rgb.transpose(2, 0, 1)[None] / np.float32(255), np.float32)
    return lambda: session.run(None, {"image": image})
