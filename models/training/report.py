"""The tables of models/README.md: what was measured here, beside what others published.

    python -m models.training.report --nets models/nets --data ../shared/data/eval --readme models/README.md

All but the column of CPU seconds is the same in every run.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
from PIL import Image

from models.training.card import machine
from models.training.evaluate import (
    KODAK,
    Network,
    Scores,
    cost_s,
    damaged,
    networks,
    plain,
    published,
    repaired_first,
    repairing,
)
from models.training.pages import DRAWN, SCANNED, printed, scans_beside

BEGIN, END = "<!-- written by `make eval` -->", "<!-- end of what `make eval` writes -->"
Row = Mapping[str, str]


class Published(NamedTuple):
    """What somebody else's network reaches."""

    id: str
    """Its name."""
    set5: str
    """PSNR-Y, dB."""
    set14: str
    """PSNR-Y, dB."""
    macs: float
    """Multiplications, 10^9, for an output of 1280 x 720 px; NaN where the source does not say."""
    source: str
    """Where it was read."""


PUBLISHED = {
    2: [
        Published("FSRCNN", "37.00", "32.63", 6.0, "FALSR, README"),
        Published("NinaSR-B0", "37.72", "33.24", math.nan, "torchSR, README"),
        Published("CARN-M", "37.53", "33.26", 91.2, "FALSR, README"),
        Published("IMDN", "38.00", "33.63", 158.8, "SwinIR, ICCVW 2021"),
        Published("SwinIR-light", "38.14", "33.86", 195.6, "SwinIR, ICCVW 2021"),
        Published("EDSR-baseline", "37.98", "33.57", 316.0, "torchSR, README; GMAC: PLKSR"),
    ],
    4: [
        Published("NinaSR-B0", "31.77", "28.28", math.nan, "torchSR, README"),
        Published("CFSR", "32.33", "28.73", 17.5, "CFSR, README"),
        Published("BSRN", "32.35", "28.73", 19.4, "LKDN, README"),
        Published("ShuffleMixer", "32.21", "28.66", 28.0, "CFSR, README"),
        Published("ECBSR-M16C64", "31.92", "28.34", 34.7, "CFSR, README"),
        Published("IMDN", "32.21", "28.58", 40.9, "SwinIR, ICCVW 2021"),
        Published("SwinIR-light", "32.44", "28.77", 49.6, "SwinIR, ICCVW 2021"),
    ],
}
"""By scale and cost. Trained for days on GPUs, on DIV2K or DF2K, which are for research only."""
DAMAGE = {
    "kodak-clean": "clean",
    "kodak-jpeg": "JPEG 75",
    "kodak-noise": "noise 10",
    "kodak-both": "both",
    "kodak-low": "both, told 30 % less",
    "kodak-high": "both, told 30 % more",
    "kodak-blur": "blur 0.4 px",
}
PRINT, PRINTED = {"pages-drawn": "drawn", "pages-scanned": "scanned"}, 2
"""Columns of the table of print, and the enlargement that has one."""
REPAIRED = {
    "kodak-sigma10-rgb": "noise 10",
    "kodak-sigma25-rgb": "noise 25",
    "kodak-q10-gain": "JPEG 10: gain",
    "kodak-q40-gain": "JPEG 40: gain",
    "kodak-q75-gain": "JPEG 75: gain",
    "kodak-untouched": "clean, told so",
}


def gigamacs(model: onnx.ModelProto) -> float:
    """Multiplications of the convolutions, 10^9 per megapixel of output."""
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    for axis, length in zip(sized.graph.input[0].type.tensor_type.shape.dim, (1, 3, 64, 64), strict=True):
        axis.dim_value = length
    sized = onnx.shape_inference.infer_shapes(sized, data_prop=True)
    known = [*sized.graph.value_info, *sized.graph.output]
    sizes = {v.name: [axis.dim_value for axis in v.type.tensor_type.shape.dim] for v in known}
    weights = {w.name: math.prod(w.dims) for w in sized.graph.initializer}
    done = sum(
        math.prod(sizes[node.output[0]][2:]) * weights[node.input[1]]
        for node in sized.graph.node
        if node.op_type == "Conv"
    )
    return float(done / math.prod(sizes[sized.graph.output[0].name][2:]) / 1e3)


def pillow_s(scale: int, kernel: Image.Resampling, side: int = 1024) -> float:
    """CPU seconds per output megapixel of Pillow's resizing, the least of several runs."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8))
    seconds = []
    for _ in range(5):
        before = time.process_time()
        picture.resize((side * scale, side * scale), kernel)
        seconds.append(time.process_time() - before)
    return min(seconds) / (side * scale) ** 2 * 1e6


def clean_rows(scale: int, enlarging: list[Network], nets: Path, data: Path) -> Iterator[Row]:
    """Set5 and Set14: interpolation, our networks, and others by their cost."""
    for kernel, resampling in (("bicubic", Image.Resampling.BICUBIC), ("lanczos", Image.Resampling.LANCZOS)):
        cost = {"CPU s": f"{pillow_s(scale, resampling):.3f}"}
        yield {**_clean(kernel, published(plain(kernel, scale), scale, data)), **cost, "from": "here; CPU s: Pillow"}
    for network in enlarging:
        cost = {"GMAC": f"{gigamacs(onnx.load(nets / f'{network.id}.onnx')):.1f}", "CPU s": f"{cost_s(network):.3f}"}
        yield {**_clean(f"**{network.id}**", published(network, scale, data)), **cost, "from": "here"}
    for other in PUBLISHED.get(scale, []):
        cost = {} if math.isnan(other.macs) else {"GMAC": f"{other.macs / 0.9216:.1f}"}
        yield {"": other.id, "Set5": other.set5, "Set14": other.set14, **cost, "from": other.source}


def _clean(name: str, scored: Scores) -> Row:
    return {"": name, "Set5": f"{scored['set5']:.2f}", "Set14": f"{scored['set14']:.2f}", "GMAC": ""}


def damaged_rows(
    scale: int, enlarging: list[Network], repairs: list[Network], data: Path, pictures: int
) -> Iterator[Row]:
    """Kodak, damaged: interpolation, our networks, and ours behind one that repairs."""
    for kernel in ("bicubic", "lanczos"):
        yield _named(kernel, damaged(plain(kernel, scale), scale, data, pictures, told=False), DAMAGE)
    for network in enlarging:
        yield _named(f"**{network.id}**", damaged(network, scale, data, pictures, told=network.told), DAMAGE)
        for first in repairs:
            found = damaged(repaired_first(first, network), scale, data, pictures, told=True)
            yield _named(f"**{first.id} + {network.id}**", found, DAMAGE)


def print_rows(scale: int, enlarging: list[Network], scans: Path) -> Iterator[Row]:
    """Pages: interpolation and our networks."""
    for kernel in ("bicubic", "lanczos"):
        yield _named(kernel, printed(plain(kernel, scale), scale, scans), PRINT)
    for network in enlarging:
        yield _named(f"**{network.id}**", printed(network, scale, scans), PRINT)


def _named(name: str, scored: Scores, columns: Mapping[str, str]) -> Row:
    return {"": name} | {title: f"{scored[key]:.2f}" if key in scored else "" for key, title in columns.items()}


def table(rows: Iterator[Row]) -> str:
    """Markdown: one line for each row, a column for each of their keys."""
    held = list(rows)
    columns = list(dict.fromkeys(name for row in held for name in row))
    lines = [columns, ["---"] * len(columns), *([row.get(name, "") for name in columns] for row in held)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def section(nets: Path, data: Path, pictures: int = KODAK) -> str:
    """All tables, as models/README.md has them."""
    found = list(networks(nets))
    repairs = [network for network in found if network.scale == 1]
    parts = [f"CPU s: one thread, {machine()}, onnxruntime {onnxruntime.__version__}."]
    for scale in sorted({network.scale for network in found} - {1}):
        enlarging = [network for network in found if network.scale == scale]
        parts.append(f"### x{scale}, clean\n\n{table(clean_rows(scale, enlarging, nets, data))}")
        parts.append(
            f"### x{scale}, {pictures} Kodak photographs, damaged\n\n"
            + table(damaged_rows(scale, enlarging, repairs, data, pictures))
        )
        if scale == PRINTED:
            scans = scans_beside(data)
            of = f"{DRAWN} drawn pages, {len(SCANNED)} scanned ones"
            parts.append(f"### x{scale}, print\n\nPSNR-Y of {of}.\n\n{table(print_rows(scale, enlarging, scans))}")
    if repairs:
        rows = (_repaired_row(network, nets, data, pictures) for network in repairs)
        parts.append(f"### x1, {pictures} Kodak photographs, repaired\n\n{table(rows)}")
    return "\n\n".join(parts)


def _repaired_row(network: Network, nets: Path, data: Path, pictures: int) -> Row:
    cost = {"GMAC": f"{gigamacs(onnx.load(nets / f'{network.id}.onnx')):.1f}", "CPU s": f"{cost_s(network):.3f}"}
    return {**_named(f"**{network.id}**", repairing(network, data, pictures), REPAIRED), **cost}


def main() -> None:
    """Print the tables, and write them into a file between its two marks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", type=Path, required=True, help="folder of networks with their cards")
    parser.add_argument("--data", type=Path, required=True, help="folder with set5, set14 and kodak")
    parser.add_argument("--readme", type=Path, help="file with the two marks, written in place")
    parser.add_argument("--pictures", type=int, default=KODAK, help="how many of Kodak's photographs are scored")
    given = parser.parse_args()
    made = section(given.nets, given.data, given.pictures)
    print(made)  # noqa: T201 - what the command gives
    if given.readme:
        before, rest = given.readme.read_text(encoding="utf-8").split(BEGIN)
        after = rest.split(END)[1]
        given.readme.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
