"""The presets and networks that travel with the package.

A wheel holds them in `refine/_data`. A checkout (or an editable install of it) has no such folder: there they are
the folders `configs` and `models/nets` themselves, so that an edit counts at once. Read them through what is
returned here, never by path: in a zip there is none.
"""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from refine.errors import RefineError


def configs() -> Traversable:
    """The folder of presets, one TOML file each. Raises RefineError where the installation holds none.

    >>> (configs() / "README.md").is_file()
    True
    """
    return _folder("configs", checkout="configs")


def nets() -> Traversable:
    """The folder of networks: `<id>.onnx`, and its card `<id>.toml`. Raises RefineError where there is none.

    >>> (nets() / "fast-x2.onnx").is_file()
    True
    """
    return _folder("nets", checkout="models/nets")


def _folder(name: str, checkout: str) -> Traversable:
    """`refine/_data/<name>` where it exists, else the folder `checkout` beside the package."""
    packaged = files("refine").joinpath("_data", name)
    if packaged.is_dir():
        return packaged
    beside = Path(__file__).parents[1] / checkout
    if beside.is_dir():
        return beside
    msg = f"this installation lacks the folder {name!r} of its package data; install refine-imaging again"
    raise RefineError(msg)
