"""Scores on print: pages that the recipe draws, and squares of scanned ones, made small and enlarged again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from models.training.data import Picture
from models.training.degrade import shrunk
from models.training.evaluate import CLEAN, Method, Scores, luma, means, picture_of, psnr
from models.training.sketch import page

DRAWN, SIDE = 24, 256
"""How many pages are drawn, and their side, px. No run learns from these."""
SCANNED = (
    "0004.tif",
    "INPUT_0017.tif",
    "OCR-D-IMG-bengel_abriss01_1751-0007.jpg",
    "OCR-D-IMG-corvinus_frauenzimmer_1715-0054.jpg",
    "OCR-D-IMG_0002.tif",
    "OCR-D-IMG_1555_003.jpg",
    "OCR-D-IMG_PR4.png",
    "OCR-D-IMG_PR6.png",
)
"""Scans with print in their middle."""
SQUARE = 512
"""px: the middle of a scan that is looked at."""


def scans_beside(data: Path) -> Path:
    """The folder of scans that belongs to a folder of test pictures."""
    return data.parent / "samples" / "pages"


def printed(method: Method, scale: int, scans: Path) -> Scores:
    """`pages-drawn`, and `pages-scanned` where the folder of scans is there: PSNR-Y, dB, as for photographs."""
    groups = {"pages-drawn": list(drawn()), "pages-scanned": list(scanned(scans))}
    return means({name: [_score(method, one, scale) for one in group] for name, group in groups.items() if group})


def drawn() -> Iterator[Picture]:
    """Pages (SIDE, SIDE, 3), the same in every run, that are no run's own."""
    for number in range(DRAWN):
        yield page(np.random.default_rng([DRAWN, SIDE, number]), SIDE)


def scanned(folder: Path) -> Iterator[Picture]:
    """The middle of scanned pages (y, x, 3), SQUARE px and less; nothing where there is no such folder."""
    for name in SCANNED if folder.is_dir() else ():
        whole = picture_of(folder / name)
        first = [max(0, (length - SQUARE) // 2) // 4 * 4 for length in whole.shape[:2]]
        last = [start + min(SQUARE, length) // 4 * 4 for start, length in zip(first, whole.shape[:2], strict=True)]
        yield whole[first[0] : last[0], first[1] : last[1]]


def _score(method: Method, wanted: Picture, scale: int) -> float:
    return psnr(luma(method(shrunk(wanted, scale), CLEAN)), luma(wanted), scale)
