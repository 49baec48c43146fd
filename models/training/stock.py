"""All that a network is trained on, in memory: crops, the same made smaller, drawn pages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from models.training.architecture import Architecture
from models.training.data import SMALLEST, Crops, Picture, crops_of, pictures_in
from models.training.degrade import levels, shrunk
from models.training.kernels import resized
from models.training.sketch import page

DENSER = 0.6
"""Every crop is also learnt from this much smaller: sharper than a camera gives it, and with more structure to a px."""
PAGES, PAGE = 160, 640
"""How many pages are drawn for a run, and their side, px."""


def stock(folder: Path, net: Architecture, seed: int, limit: int | None = None) -> Crops:
    """The crops of a folder for a network; pages and their places depend on the seed alone."""
    crops = pictures_in(folder, limit=limit)
    rng = np.random.default_rng([seed, PAGES])
    pages = tuple(page(rng, PAGE) for _ in range(PAGES if net.damage.pages else 0))
    return with_smalls(crops_of(crops + denser(crops), pages, net.damage.pages), net)


def denser(pictures: tuple[Picture, ...]) -> tuple[Picture, ...]:
    """The pictures made smaller by DENSER, where they stay large enough."""
    sizes = [[round(DENSER * length) for length in picture.shape[:2]] for picture in pictures]
    return tuple(
        levels(resized(picture.astype(np.float32), *size))
        for picture, size in zip(pictures, sizes, strict=True)
        if min(size) >= SMALLEST
    )


def with_smalls(crops: Crops, net: Architecture) -> Crops:
    """The crops with each picture made small once, where that is all the damage there is."""
    if net.conditioned:
        return crops
    return replace(crops, smalls=tuple(shrunk(_whole(picture, net.scale), net.scale) for picture in crops.pictures))


def _whole(picture: Picture, scale: int) -> Picture:
    """The picture without the last rows and columns that make no whole px of the small one."""
    height, width = (length - length % scale for length in picture.shape[:2])
    return picture[:height, :width]
