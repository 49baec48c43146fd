"""What an assessment costs beside the fast chain that it decides about."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from tables import cpu_seconds, write_table
from trial import OFF, made

from refine.assess import assess
from refine.sampling import sample_windows
from refine.settings import Size
from refine.spec import ImageSpec, Pixels

pytestmark = pytest.mark.bench

KODAK = Path(__file__).parents[3] / "shared" / "data" / "eval" / "kodak"
SIZES = ((448, 672), (816, 1224), (1632, 2448), (2832, 4248))
"""Height, width, px: 0.3, 1, 4 and 12 megapixels; the third is just below and the last beyond what is read whole."""
QUALITY = 80
"""Of the JPEG that the second kind of picture went through: its blocks are looked for, and at."""
BLOCK = 512
"""px. Side of the source whose chain is timed: the chain costs the same for every px but for its edges."""
BOUND = 0.1
"""Of the fast chain's CPU."""


@pytest.mark.skipif(not KODAK.is_dir(), reason="the evaluation pictures are not here")
def test_assess_cost() -> None:
    """Write the table of the cost of assessing photographs of several sizes, against enlarging them twice."""
    rows = [row for height, width in SIZES for row in _rows(_photograph(height, width))]
    header = (
        "size",
        "kind",
        "px looked at",
        "assess, CPU s",
        "ms a source Mpx",
        "fast chain, ms a source Mpx",
        "share",
    )
    notes = (
        "Photographs are Kodak's 24 side by side. `fast chain`: fast-x2 at scale 2 with nothing else, timed on a "
        f"square of {BLOCK} px of the same picture in the same rounds, single thread. Noise has sigma 6. Bound of "
        f"the share: {BOUND:.0%}."
    )
    print(write_table("assess-cost", "Cost of an assessment beside the fast chain", header, rows, notes))


def _rows(photograph: Pixels) -> list[tuple[str, ...]]:
    spec = ImageSpec(*photograph.shape, "uint8")
    rng = np.random.default_rng(3)
    noisy = np.clip(np.rint(photograph + 6 * rng.standard_normal(photograph.shape, np.float32)), 0, 255)
    coded = imagecodecs.jpeg8_decode(imagecodecs.jpeg8_encode(photograph, level=QUALITY, subsampling="420"))
    kinds = {"clean": photograph, "noise": noisy.astype(np.uint8), f"JPEG {QUALITY}, saved anew": coded}
    rounds = 3 if photograph.size > 10_000_000 else 5
    return [_row(kind, pixels, spec, rounds) for kind, pixels in kinds.items()]


def _row(kind: str, pixels: Pixels, spec: ImageSpec, rounds: int) -> tuple[str, ...]:
    side = min(BLOCK, *pixels.shape[:2])
    square = np.ascontiguousarray(pixels[:side, :side])
    output = Size(scale=Fraction(2)).of(ImageSpec(*square.shape, "uint8"))
    spent, chain = cpu_seconds(lambda: assess(pixels, spec), lambda: made(square, OFF, output, "uint8"), rounds=rounds)
    megapixels = spec.height * spec.width / 1e6
    looked = sum(window.area for window in sample_windows(spec.height, spec.width)) / 1e6
    each, fast = spent / megapixels, chain / (side**2 / 1e6)
    return (
        f"{megapixels:.1f} Mpx",
        kind,
        f"{looked:.1f} Mpx",
        f"{spent:.3f}",
        f"{each * 1e3:.0f}",
        f"{fast * 1e3:.0f}",
        f"{each / fast:.1%}",
    )


def _photograph(height: int, width: int) -> Pixels:
    """A photograph of that size (y, x, 3): Kodak's side by side, cut. Enlarging them would leave nothing to find."""
    files = sorted(KODAK.glob("*.png"))
    pictures = [imagecodecs.png_decode(file.read_bytes())[..., :3] for file in files]
    lying = [p if p.shape[0] < p.shape[1] else np.ascontiguousarray(p.swapaxes(0, 1)) for p in pictures]
    tall, wide = -(-height // 512), -(-width // 768)
    rows = [[lying[(wide * y + x) % len(lying)] for x in range(wide)] for y in range(tall)]
    whole = np.concatenate([np.concatenate(row, axis=1) for row in rows])
    return np.ascontiguousarray(whole[:height, :width])
