"""The metadata of OME-Zarr 0.5 images, as the values that their `zarr.json` files hold. No file is touched here.

Source: OME-NGFF 0.5, https://ngff.openmicroscopy.org/0.5/ (multiscales, omero, bioformats2raw.layout).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from math import isfinite

import numpy as np

from pipelines.pyramid import Pyramid
from pipelines.shard import Form
from refine.spec import ImageSpec, Resolution

Document = dict[str, object]
"""What a `zarr.json` holds."""
_VERSION = "0.5"
_AXES = ("c", "y", "x")
_MICROMETRES = {"inch": 25_400.0, "cm": 10_000.0}
_CHANNELS = {
    "grey": (("Grey", "FFFFFF"),),
    "rgb": (("Red", "FF0000"), ("Green", "00FF00"), ("Blue", "0000FF")),
    # No viewer knows inks: it adds them up like light.
    "cmyk": (("Cyan", "00FFFF"), ("Magenta", "FF00FF"), ("Yellow", "FFFF00"), ("Black", "FFFFFF")),
    # No viewer knows the space. Lightness alone is a picture.
    "lab": (("L*", "FFFFFF"), ("a*", "FF0000"), ("b*", "FFFF00")),
}


def array(pyramid: Pyramid, level: int) -> Document:
    """The array of one level: axes (c, y, x), pixels interleaved within a chunk by transposing it."""
    height, width = pyramid.levels[level]
    chunk = [pyramid.channels, pyramid.chunk, pyramid.chunk]
    shards = [pyramid.channels, pyramid.side(level), pyramid.side(level)]
    sharding = {
        "chunk_shape": chunk,
        "codecs": [{"name": "transpose", "configuration": {"order": [1, 2, 0]}}, *form(pyramid, level).codecs()],
        "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
        "index_location": "end",
    }
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [pyramid.channels, height, width],
        "data_type": pyramid.dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shards}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "attributes": {},
        "dimension_names": list(_AXES),
        "storage_transformers": [],
    }


def form(pyramid: Pyramid, level: int) -> Form:
    """The form of the shards of one level."""
    return Form(pyramid.side(level), pyramid.chunk, pyramid.channels, pyramid.dtype)


def image(spec: ImageSpec, pyramid: Pyramid, name: str) -> Document:
    """The group of one image: its levels, where they lie, and how its channels are shown."""
    unit, pixel = _pixel(spec.resolution)
    space = {"type": "space"} if unit is None else {"type": "space", "unit": unit}
    multiscale = {
        "name": name,
        "axes": [{"name": "c", "type": "channel"}, {"name": "y", **space}, {"name": "x", **space}],
        "datasets": [
            {"path": str(level), "coordinateTransformations": _placed(pixel, level)}
            for level in range(len(pyramid.levels))
        ],
        "type": "mean",
        "metadata": {"description": "means of 2 x 2 px in integers, rounded half up, colour weighted with alpha"},
    }
    ome = {"version": _VERSION, "multiscales": [multiscale], "omero": _shown(spec)}
    return group({"ome": ome, "refine": _kept(spec)})


def collection() -> Document:
    """The root of several pages."""
    return group({"ome": {"version": _VERSION, "bioformats2raw.layout": 3}})


def series(count: int) -> Document:
    """The group `OME` beside several pages: their names in order."""
    return group({"ome": {"version": _VERSION, "series": [str(page) for page in range(count)]}})


def group(attributes: Mapping[str, object]) -> Document:
    """A group with attributes."""
    return {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}


def _pixel(resolution: Resolution | None) -> tuple[str | None, tuple[float, float]]:
    """The unit, and how high and wide a pixel of level 0 is in it; without a unit only their ratio means something."""
    if resolution is None or not all(isfinite(value) and value > 0 for value in (resolution.x, resolution.y)):
        return None, (1.0, 1.0)
    if resolution.unit == "none":
        return None, (resolution.x / resolution.y, 1.0)
    length = _MICROMETRES[resolution.unit]
    return "micrometer", (length / resolution.y, length / resolution.x)


def _placed(pixel: tuple[float, float], level: int) -> list[Document]:
    """Size of a level's pixels, and the centre of its first one: the mean of those that it was made of."""
    scale = [1.0, *(side * 2**level for side in pixel)]
    centre = [0.0, *(side * (2**level - 1) / 2 for side in pixel)]
    moved: list[Document] = [{"type": "translation", "translation": centre}] if level else []
    return [{"type": "scale", "scale": scale}, *moved]


def _shown(spec: ImageSpec) -> Document:
    """How viewers show the channels: each in its colour over the whole depth, alpha not at all."""
    top = int(np.iinfo(spec.dtype).max)
    window = {"min": 0, "max": top, "start": 0, "end": top}
    named = [*_CHANNELS[spec.model], *([("Alpha", "FFFFFF")] if spec.has_alpha else [])]
    hidden = {"Alpha", "a*", "b*"}
    channels = [{"label": n, "color": c, "active": n not in hidden, "window": window} for n, c in named]
    return {"channels": channels, "rdefs": {"model": "greyscale" if spec.model == "grey" else "color"}}


def _kept(spec: ImageSpec) -> Document:
    """What the standard has no place for, of what travels with an image."""
    found = spec.resolution
    return {
        "icc": None if spec.icc is None else base64.b64encode(spec.icc).decode("ascii"),
        "resolution": None if found is None else {"x": found.x, "y": found.y, "unit": found.unit},
        "space": spec.space,
    }
