"""What works in this installation, and what does not."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from refine._version import __version__
from refine.api import cores, restore
from refine.card import card_ids, load_network
from refine.decoder import Decoder
from refine.imagefile import encode_image, publish
from refine.preset import load_preset, preset_names
from refine.session import Engine, execution_class, providers
from refine.spec import Image, ImageSpec

_LIBRARIES = ("onnxruntime", "numpy", "zarr", "dask", "distributed", "imagecodecs", "tifffile", "pikepdf")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    """Its name."""
    good: bool
    """Whether it works."""
    said: str
    """What was found, one line."""


def findings() -> list[Finding]:
    """All that can be checked in a few seconds."""
    checks: dict[str, Callable[[], str]] = {
        "versions": _versions,
        "processor": lambda: f"{cores()} cores; {execution_class(Engine(), 512)}",
        "providers": lambda: ", ".join(providers()),
        "presets": lambda: ", ".join(load_preset(name).name for name in preset_names()),
        "networks": _networks,
        "decoder": _decoded,
        "restoring": _restored,
    }
    return [_finding(what, check) for what, check in checks.items()]


def _finding(what: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(what, good=True, said=check())
    except Exception as error:  # noqa: BLE001  whatever is wrong here is what was asked for
        said = str(error).strip().splitlines()
        return Finding(what, good=False, said=f"{type(error).__name__}: {said[0] if said else ''}")


def _versions() -> str:
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return f"refine {__version__}, Python {platform.python_version()}, {libraries}"


def _networks() -> str:
    for net in card_ids():
        load_network(net)
    return ", ".join(card_ids())


def _decoded() -> str:
    """That the decoder's process starts, and gives back the pixels that were written."""
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    with tempfile.TemporaryDirectory() as folder, Decoder() as decoder:
        path = Path(folder, "check.png")
        publish(path, encode_image(Image(pixels, ImageSpec(4, 4, 3, "uint8")), "png"))
        if not np.array_equal(decoder.read(path).pixels, pixels):
            raise ValueError("a PNG came back with other pixels")
    return "its process answers, and a PNG comes back as it was"


def _restored() -> str:
    white = restore(np.full((16, 16, 3), 255, np.uint8), scale=2)
    if white.shape != (32, 32, 3) or white.min() != 255:
        raise ValueError("a white image does not stay white")
    return "a white image twice as large is white"
