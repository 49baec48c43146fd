"""Training pictures in memory, and squares cut from them where something happens."""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

CELL = 16
"""px. Gradient energy is summed over cells of this size."""
ENOUGH = 12.0
"""8-bit levels per px. A cell with a stronger mean gradient is drawn no more often: beyond this lies noise."""
FLOOR = 0.5
"""8-bit levels per px, given to every cell, so that flat areas are seen now and then and stay flat."""
SMALLEST = 320
"""px. Pictures with a shorter side are left out."""


@dataclass(frozen=True, slots=True)
class Crops:
    """Pictures, and how likely each of their cells is to be drawn."""

    pictures: tuple[Picture, ...]
    """(y, x, 3) each."""
    shares: NDArray[np.float64]
    """Cumulative share of each picture, by the sum of its cells."""
    cells: tuple[NDArray[np.float64], ...]
    """Per picture, the cumulative share of its cells in row order."""
    smalls: tuple[Picture, ...] = ()
    """Per picture, the same made small by a network's scale; none where squares are damaged one by one."""

    def draw(self, rng: np.random.Generator, side: int) -> Picture:
        """A square of `side` px round a drawn cell, turned and flipped at random."""
        index, y, x = self._place(rng, side)
        return turned(self.pictures[index][y : y + side, x : x + side], int(rng.integers(8)))

    def pair(self, rng: np.random.Generator, side: int, scale: int) -> tuple[Picture, Picture]:
        """A square of `side` px of a small picture, and the square of the large one that it was made from."""
        index, y, x = self._place(rng, scale * side)
        y, x = y // scale, x // scale
        low = self.smalls[index][y : y + side, x : x + side]
        high = self.pictures[index][scale * y : scale * (y + side), scale * x : scale * (x + side)]
        way = int(rng.integers(8))
        return turned(low, way), turned(high, way)

    def _place(self, rng: np.random.Generator, side: int) -> tuple[int, int, int]:
        """A picture, and where in it a square of `side` px begins that holds a drawn cell."""
        index = int(np.searchsorted(self.shares, rng.random()))
        height, width = self.pictures[index].shape[:2]
        cell = int(np.searchsorted(self.cells[index], rng.random()))
        row, column = divmod(cell, width // CELL)
        return index, _start(rng, row, side, height), _start(rng, column, side, width)


def turned(square: Picture, way: int) -> Picture:
    """One of the eight ways to turn and flip a square."""
    square = np.rot90(square, way % 4)
    return square if way < 4 else square[:, ::-1]


def pictures_in(folder: Path, smallest: int = SMALLEST, limit: int | None = None) -> tuple[Picture, ...]:
    """The JPEG XL crops of a folder that are at least `smallest` px a side; the first `limit` by name."""
    files = sorted(folder.glob("*.jxl"))[:limit]
    decoded = (np.ascontiguousarray(imagecodecs.jpegxl_decode(file.read_bytes())[..., :3]) for file in files)
    pictures = tuple(picture for picture in decoded if min(picture.shape[:2]) >= smallest)
    if not pictures:
        raise FileNotFoundError(f"{folder}: no .jxl of at least {smallest} px a side; name a folder with --data")
    return pictures


def crops_of(*groups: tuple[tuple[Picture, ...], float]) -> Crops:
    """The pictures of all groups with the energy of their cells; a group is drawn with its share of the sum of them."""
    total = sum(share for pictures, share in groups if pictures)
    energies = [[cell_energy(picture) for picture in pictures] for pictures, _ in groups]
    weights = []
    for group, (_, share) in zip(energies, groups, strict=True):
        sums = np.array([energy.sum() for energy in group])
        weights.append(sums / max(float(sums.sum()), 1e-9) * share / total)
    shares = np.cumsum(np.concatenate(weights))
    cells = tuple(np.cumsum(energy) / energy.sum() for group in energies for energy in group)
    return Crops(tuple(picture for pictures, _ in groups for picture in pictures), shares / shares[-1], cells)


def cell_energy(picture: Picture) -> NDArray[np.float64]:
    """Mean gradient of each cell, 8-bit levels per px, between FLOOR and ENOUGH; (rows, columns) of whole cells."""
    luma = picture.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    gradient = np.zeros_like(luma)
    gradient[:-1] += np.abs(np.diff(luma, axis=0))
    gradient[:, :-1] += np.abs(np.diff(luma, axis=1))
    rows, columns = luma.shape[0] // CELL, luma.shape[1] // CELL
    cells = gradient[: rows * CELL, : columns * CELL].reshape(rows, CELL, columns, CELL).mean(axis=(1, 3))
    bounded: NDArray[np.float64] = np.clip(cells, FLOOR, ENOUGH).astype(np.float64)
    return bounded


def credits_of(folder: Path) -> list[str]:
    """One line for each set and licence of a folder's manifest: set, number of crops, licence.

    Where the licence asks for credit (CC BY), the works are named.
    """
    with (folder / "manifest.tsv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    counts = Counter((row["set"], row["licence"]) for row in rows)
    return [
        f"{name}: {count} crops, {licence}{_works(rows, name, licence)}"
        for (name, licence), count in sorted(counts.items())
    ]


def _works(rows: list[dict[str, str]], name: str, licence: str) -> str:
    if not re.match(r"CC[- ]BY", licence):
        return ""
    works = {Path(row["source"]).stem for row in rows if (row["set"], row["licence"]) == (name, licence)}
    return ": " + ", ".join(sorted(works))


def _start(rng: np.random.Generator, cell: int, side: int, length: int) -> int:
    """Where a square begins that holds the cell somewhere, and fits."""
    first = cell * CELL + CELL // 2 - int(rng.integers(side // 4, side - side // 4))
    return min(max(first, 0), length - side)
