"""All that a network is trained on, in memory: crops, the same made smaller, drawn pages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from models.training.architecture import Architecture
from models.training.data import Crops, Picture, crops_of, pictures_in
from models.training.degrade import JPEG_BLOCK, levels, shrunk
from models.training.kernels import resized
from models.training.sketch import page

DENSER = {1.0: 0.74, 0.6: 0.26}
"""Every crop is also learnt from made smaller by such factors: sharper than a camera gives it, and with more structure
to a px. With the share of the squares that are drawn from each."""
DENSER_STILL = {1.0: 0.42, 0.6: 0.3, 0.35: 0.28}
"""The same for networks that repair: what they are given is mostly small, and about to be enlarged."""
PAGES, PAGE = 160, 640
"""How many pages are drawn for a run, and their side, px."""


def stock(folder: Path, net: Architecture, seed: int, limit: int | None = None) -> Crops:
    """The crops of a folder for a network; pages and their places depend on the seed alone."""
    crops = pictures_in(folder, limit=limit)
    rng = np.random.default_rng([seed, PAGES])
    pages = tuple(page(rng, PAGE) for _ in range(PAGES if net.damage.pages else 0))
    shares = DENSER_STILL if net.scale == 1 else DENSER
    groups = [(denser(crops, factor, net), share * (1 - net.damage.pages)) for factor, share in shares.items()]
    return with_smalls(crops_of(*groups, (pages, net.damage.pages)), net)


def denser(pictures: tuple[Picture, ...], factor: float, net: Architecture) -> tuple[Picture, ...]:
    """The pictures made smaller by a factor, where squares for the network can still be cut from them."""
    if factor == 1:
        return pictures
    sizes = [[round(factor * length) for length in picture.shape[:2]] for picture in pictures]
    return tuple(
        levels(resized(picture.astype(np.float32), *size))
        for picture, size in zip(pictures, sizes, strict=True)
        if min(size) >= net.scale * (net.side + JPEG_BLOCK)
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
