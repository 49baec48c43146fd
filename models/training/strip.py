"""The picture of models/README.md: source, Lanczos and the networks, side by side, twice the size, at 1:1.

    python -m models.training.strip models/strip.png

The photographs lie in scikit-image's wheel: those of the extra `demo`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from models.training.data import Picture
from models.training.degrade import compressed, levels, shrunk
from models.training.evaluate import CLEAN, plain
from refine.chain import Chain
from refine.plan import planned
from refine.repair import Repair
from refine.spec import ImageSpec
from refine.tiles import restored_pixels
from refine.upscale import Upscale

CELL = (112, 168)
"""Height, width of a picture, px."""
ROUND = 24
"""px of the source, cut along and cut off again: as far as the networks look."""
_GAP, _LINE = 4, 16


@dataclass(frozen=True, slots=True)
class Subject:
    """A piece of a photograph."""

    caption: str
    """What it is, and what was done to it."""
    file: str
    """In scikit-image's data."""
    y: int
    """First row, px of the source."""
    x: int
    """First column, px of the source."""
    shrink: int = 2
    """The photograph is made so much smaller first: at 1:1 it is soft."""
    noise: float = 0.0
    """Sigma put on the source, 8-bit levels."""
    quality: int = 100
    """The source went through JPEG of this quality; 100: it did not."""

    def source(self, folder: Path) -> Picture:
        """The piece with its surroundings, (y, x, 3)."""
        with Image.open(folder / self.file) as photograph:
            small = shrunk(np.asarray(photograph.convert("RGB")), self.shrink)
        grain = self.noise * np.random.default_rng(0).standard_normal(small.shape)
        small = levels((small + grain).astype(np.float32)) if self.noise else small
        small = compressed(small, self.quality, "420") if self.quality < 100 else small
        height, width = (side // 2 + 2 * ROUND for side in CELL)
        mirrored = np.pad(small, [(ROUND, ROUND), (ROUND, ROUND), (0, 0)], mode="symmetric")
        return np.ascontiguousarray(mirrored[self.y : self.y + height, self.x : self.x + width])


SUBJECTS = (
    Subject("product", "coffee.png", 70, 90),
    Subject("face", "astronaut.png", 22, 65),
    Subject("scanned print", "page.png", 4, 4, shrink=1),
    Subject("foliage", "grass.png", 60, 60),
    Subject("JPEG 50, repaired", "astronaut.png", 150, 40, quality=50),
    Subject("noise 12, repaired", "rocket.jpg", 120, 70, noise=12),
)


def strip(folder: Path) -> Image.Image:
    """The picture: a row for each subject."""
    height, width = CELL
    sheet = Image.new("RGB", (3 * (width + _GAP) - _GAP, len(SUBJECTS) * (height + _LINE)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for row, subject in enumerate(SUBJECTS):
        source = subject.source(folder)
        cells = [np.repeat(np.repeat(source, 2, 0), 2, 1), plain("lanczos", 2)(source, CLEAN), _ours(source, subject)]
        names = [f"{subject.caption}: source", "Lanczos", "Refine"]
        for column, (cell, name) in enumerate(zip(cells, names, strict=True)):
            at = column * (width + _GAP), row * (height + _LINE)
            draw.text(at, name, fill="black", font=font)
            inside = cell[2 * ROUND : 2 * ROUND + height, 2 * ROUND : 2 * ROUND + width]
            sheet.paste(Image.fromarray(inside), (at[0], at[1] + _LINE))
    return sheet


def _ours(source: Picture, subject: Subject) -> Picture:
    """Through the program, with its guarantees; no other step."""
    chain = Chain((Repair("clean-x1", subject.noise, subject.quality), Upscale("fast-x2")))
    height, width, channels = source.shape
    plan = planned(chain, ImageSpec(height, width, channels, "uint8"), (2 * height, 2 * width))
    return np.asarray(restored_pixels(source, plan), np.uint8)


def main() -> None:
    """Write the picture."""
    import skimage.data  # noqa: PLC0415 - for where it lies only

    strip(Path(skimage.data.__file__).parent).save(sys.argv[1], optimize=True)


if __name__ == "__main__":
    main()
