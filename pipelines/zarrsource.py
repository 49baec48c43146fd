"""zarr arrays and OME-Zarr images as sources: which axis is what, and windows (y, x, c) of them."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import zarr

from pipelines import omezarr
from pipelines.errors import StoreError
from refine.errors import ImageReadError
from refine.limits import Limits
from refine.openimage import Storage
from refine.spec import ImageSpec, Metadata, Pixels, Resolution

_DESCRIPTIONS = ("zarr.json", ".zarray", ".zgroup")
"""Files that say what a folder of zarr is."""
_MAX_CHUNK_NBYTES = 256 << 20
"""Bytes of a chunk, decoded: a window decodes whole ones."""
_MICROMETRES = 25_400.0
"""In an inch."""


@dataclass(frozen=True, slots=True)
class Found:
    """An array that is a picture."""

    array: zarr.Array[Any]
    """Level 0."""
    axes: tuple[str, ...]
    """`y`, `x`, and perhaps `c`; others have length 1."""
    resolution: Resolution | None
    """As its group says."""
    kept: Mapping[str, object] | None
    """The `refine` attribute of its group, with profile, resolution and space; None for an array without a group."""

    @property
    def channels(self) -> int:
        """1 where there is no axis of channels."""
        return int(self.array.shape[self.axes.index("c")]) if "c" in self.axes else 1

    def length(self, axis: str) -> int:
        """px along `y` or `x`."""
        return int(self.array.shape[self.axes.index(axis)])


class Windows:
    """The pixels (y, x, c) of an array whose axes are in any order."""

    def __init__(self, found: Found) -> None:
        self._found = found
        self.shape = (found.length("y"), found.length("x"), found.channels)
        self.dtype = np.dtype(found.array.dtype).newbyteorder("=")

    def __getitem__(self, index: tuple[slice, slice]) -> Pixels:
        wanted = {"y": index[0], "x": index[1], "c": slice(None)}
        block = np.asarray(self._found.array[tuple(wanted.get(axis, 0) for axis in self._found.axes)])
        axes = [axis for axis in self._found.axes if axis in wanted]
        if "c" not in axes:
            block, axes = block[..., None], [*axes, "c"]
        return np.ascontiguousarray(block.transpose([axes.index(axis) for axis in "yxc"]), self.dtype)


def description(path: Path) -> Path:
    """The file that says what a folder of zarr is. Raises ImageReadError for another folder."""
    for name in _DESCRIPTIONS:
        if (path / name).is_file():
            return path / name
    raise ImageReadError(f"{path.name}: is a folder, but no zarr: it has neither {', nor '.join(_DESCRIPTIONS)}")


def count(path: Path) -> int:
    """How many images a zarr holds."""
    return len(_images(path))


def spec_of(path: Path, page: int, limits: Limits) -> ImageSpec:
    """What is known of an image of a zarr.

    Raises ImageReadError for what is no picture, LimitError for what is too large a one.
    """
    found = _found(path, page)
    kept = found.kept or {}
    spec = ImageSpec(
        height=found.length("y"),
        width=found.length("x"),
        channels=found.channels,
        dtype="uint8" if found.array.dtype.itemsize == 1 else "uint16",
        format="zarr",
        icc=base64.b64decode(cast("str", kept["icc"])) if kept.get("icc") else None,
        resolution=_kept_resolution(kept.get("resolution")) or found.resolution,
        page=page,
        space=cast("Literal['additive', 'cmyk', 'lab']", kept.get("space", "additive")),
        metadata=Metadata(),
    )
    limits.check_image(path.name, spec)
    return spec


def storage_of(path: Path, page: int) -> Storage:
    """The chunks of an image of a zarr."""
    found = _found(path, page)
    sides = dict(zip(found.axes, found.array.chunks, strict=True))
    nbytes = math.prod(found.array.chunks) * found.array.dtype.itemsize
    return Storage(sides["y"], sides["x"], nbytes, nbytes * -(-found.length("x") // sides["x"]))


def windows(path: Path, page: int) -> omezarr.LevelArray | Windows:
    """The pixels (y, x, c) of an image of a zarr.

    Of one that refine wrote a lost shard is a StoreError. In another one chunks that are not there are read as its
    fill value: the format says so.
    """
    group = _images(path)[page]
    try:
        return omezarr.opened(path / group if group else path)
    except StoreError:
        return Windows(_found(path, page))


def _images(path: Path) -> list[str]:
    """The groups of the images below a folder; an empty name for the folder itself."""
    description(path)
    ome = _ome(_node(path))
    if ome.get("bioformats2raw.layout") is None:
        return [""]
    series = _ome(_node(path / "OME")).get("series") if (path / "OME").is_dir() else None
    if isinstance(series, list) and all(isinstance(name, str) for name in series):
        return [name for name in series if "/" not in name and ".." not in name]
    return sorted((p.name for p in path.iterdir() if p.is_dir() and p.name.isdigit()), key=int)


def _found(path: Path, page: int) -> Found:
    return _found_then(path, page, description(path).stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _found_then(path: Path, page: int, _mtime_ns: int) -> Found:
    groups = _images(path)
    if page not in range(len(groups)):
        raise ImageReadError(f"{path.name}: has no image {page}, only {len(groups)}; they count from 0")
    node = _node(path / groups[page] if groups[page] else path)
    if isinstance(node, zarr.Array):
        found = Found(node, _array_axes(path.name, node), None, None)
    else:
        found = _level_0(path.name, node)
    _check(path.name, found)
    return found


def _node(path: Path) -> zarr.Array[Any] | zarr.Group:
    try:
        return zarr.open(path, mode="r")
    except Exception as error:  # zarr raises many classes for what is damaged.
        raise ImageReadError(f"{path.name}: this zarr cannot be read: {str(error).splitlines()[0][:200]}") from error


def _ome(node: zarr.Array[Any] | zarr.Group) -> dict[str, Any]:
    """The OME metadata: below `ome` since 0.5, at the top before."""
    attributes = cast("dict[str, Any]", node.attrs.asdict())
    return cast("dict[str, Any]", attributes.get("ome", attributes))


def _level_0(name: str, group: zarr.Group) -> Found:
    """Level 0 of an OME-Zarr image."""
    try:
        scales = _ome(group)["multiscales"][0]
        first = scales["datasets"][0]
        array = group[first["path"]]
        axes = tuple(axis if isinstance(axis, str) else axis["name"] for axis in scales["axes"])
    except (LookupError, TypeError) as error:
        raise ImageReadError(f"{name}: is a zarr group without an OME-Zarr image; name the array in it") from error
    if not isinstance(array, zarr.Array) or len(axes) != array.ndim:
        raise ImageReadError(f"{name}: its level 0 is no array with the axes {', '.join(axes)}")
    kept = group.attrs.asdict().get("refine", {})
    return Found(array, axes, _scaled_resolution(scales, axes), kept if isinstance(kept, dict) else {})


def _array_axes(name: str, array: zarr.Array[Any]) -> tuple[str, ...]:
    """The axes of a plain array: as it names them, else (y, x), (y, x, c) or (c, y, x) by their lengths."""
    named = getattr(array.metadata, "dimension_names", None)
    if named and all(named):
        return tuple(str(axis).lower() for axis in named)
    if array.ndim == 2:
        return "y", "x"
    if array.ndim == 3:
        return ("y", "x", "c") if array.shape[2] <= 4 else ("c", "y", "x")
    raise ImageReadError(
        f"{name}: its array has {array.ndim} axes without names; (y, x), (y, x, c), (c, y, x) are read"
    )


def _check(name: str, found: Found) -> None:
    """Raise ImageReadError for what is no picture of 8 or 16 bits, or can only be read in huge pieces."""
    array, shape = found.array, found.array.shape
    if np.dtype(array.dtype).kind != "u" or np.dtype(array.dtype).itemsize > 2:
        raise ImageReadError(f"{name}: its samples are {array.dtype}; convert to 8- or 16-bit unsigned integers first")
    others = [a for a, n in zip(found.axes, shape, strict=True) if a not in ("y", "x", "c") and n != 1]
    if others or "y" not in found.axes or "x" not in found.axes or len(set(found.axes)) != len(found.axes):
        raise ImageReadError(f"{name}: has axes {', '.join(found.axes)} of {shape}; (c, y, x) or (y, x) are a picture")
    if 0 in shape or found.channels > 4:
        raise ImageReadError(f"{name}: is {shape} along {', '.join(found.axes)}; 1 to 4 channels are a picture")
    if found.channels in (2, 4) and found.kept is not None and "space" not in found.kept:
        what = f"has {found.channels} channels and does not say that the last one is alpha"
        raise ImageReadError(f"{name}: {what}; grey and RGB can be read")
    nbytes = math.prod(array.chunks) * array.dtype.itemsize
    if nbytes > _MAX_CHUNK_NBYTES:
        raise ImageReadError(
            f"{name}: its chunks of {array.chunks} hold {nbytes:,} bytes; chunk it anew in pieces of 1024 px"
        )


def _kept_resolution(found: object) -> Resolution | None:
    if not isinstance(found, Mapping):
        return None
    return Resolution(float(found["x"]), float(found["y"]), found["unit"])


def _scaled_resolution(scales: Mapping[str, Any], axes: Sequence[str]) -> Resolution | None:
    """From the size of a pixel, where it is told in micrometres."""
    try:
        units = {axis["name"]: axis.get("unit") for axis in scales["axes"]}
        transformations = scales["datasets"][0]["coordinateTransformations"]
        scale = next(t["scale"] for t in transformations if t["type"] == "scale")
        y, x = (float(scale[axes.index(axis)]) for axis in ("y", "x"))
    except (LookupError, TypeError, ValueError, StopIteration):
        return None
    if units.get("y") != "micrometer" or units.get("x") != "micrometer" or not (x > 0 and y > 0):
        return None
    return Resolution(_MICROMETRES / x, _MICROMETRES / y, "inch")
