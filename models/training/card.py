"""The card of a network: what a user, a plan and a lawyer ask, as TOML beside the file."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from models.training.architecture import Architecture

Value = str | int | float | bool | list[str] | Mapping[str, float]

MEM_PER_CHANNEL = 10
"""Bytes of working memory per padded px of the body and channel: 280 were measured at 32, 540 at 64; rounded up."""
PLANES = ["noise sigma / 50, sigma in 8-bit levels", "(100 - q) / 100, q the JPEG quality"]
"""What the two numbers of a conditioned network's strength mean."""
WEAKNESSES = {
    "enlarge": [
        "R = G = B does not stay neutral, flat colour moves beside strong edges; the program around it sees to both",
        "a blur stronger than about half a px of the source is not undone",
        "noise and JPEG blocks are enlarged, and sharpened, with the picture: repair it first",
    ],
    "repair": [
        "noise with structure (scanner lines, film grain larger than a px) is taken for detail",
        "a strength stated too high costs fine texture",
        "said to be noisy, what lies within sigma of black or white moves towards it, as if its noise had been clipped",
    ],
}
MOSTLY = 0.5
"""Share of drawn pages from which on a network is one for print."""
ON_PAPER = ["draws lines where there are none into foliage, water and other fine texture: not for photographs"]


def card(net_id: str, net: Architecture, network: bytes, facts: Mapping[str, Value]) -> str:
    """The card's text. `facts` are those that only the run knows: cost, scores, training, data."""
    kind = "Enlarges" if net.scale > 1 else "Removes noise and JPEG blocks from"
    on_paper = net.damage.pages > MOSTLY
    seen = "print and line art" if on_paper else "photographs and print"
    told = ", told how noisy and how compressed" if net.conditioned else ", clean input"
    known: dict[str, Value] = {
        "kind": "enlarge" if net.scale > 1 else "repair",
        "summary": f"{kind} {seen}{told}: residual, {net.channels} channels x {net.blocks} blocks, "
        "3x3 convolutions, ReLU",
        "scale": net.scale,
        "halo": net.halo,
        "multiple_of": net.unshuffle,
        "mem_per_px": MEM_PER_CHANNEL * net.channels // net.unshuffle**2,
        "licence": "Apache-2.0",
        "sha256": sha256(network).hexdigest(),
        "range": "float32, 0..1 in, not clipped out; RGB, sRGB-encoded",
        "planes": PLANES if net.conditioned else [],
        "weaknesses": ON_PAPER * on_paper + WEAKNESSES["enlarge" if net.scale > 1 else "repair"],
        "generative": False,
    }
    return f"# {net_id}\n" + "".join(_line(name, value) for name, value in {**known, **facts}.items())


def machine() -> str:
    """The processor this runs on, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return f"{names[0].split(':')[1].strip()}, {len(names)} cores" if names else platform.processor()


def recipe_commit() -> str:
    """The commit of the recipe, "unknown" outside a checkout."""
    asked = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"],  # noqa: S607 - whichever git there is
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() if asked.returncode == 0 else "unknown"


def _line(name: str, value: Value) -> str:
    if isinstance(value, Mapping):
        inside = ", ".join(f"{key} = {number:.3f}" for key, number in value.items())
        return f"{name} = {{ {inside} }}\n"
    if isinstance(value, list) and value:
        return f"{name} = [\n" + "".join(f"    {json.dumps(item, ensure_ascii=False)},\n" for item in value) + "]\n"
    return f"{name} = {json.dumps(value, ensure_ascii=False)}\n"
