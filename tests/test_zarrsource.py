"""zarr arrays and OME-Zarr images as sources: any order of axes, and nothing that is no picture."""

from __future__ import annotations

import base64

import numpy as np
import pytest
import zarr
from blobs import SRGB
from strategies_files import picture

from pipelines import omezarr, sources
from pipelines.errors import StoreError
from refine.errors import ImageReadError, LimitError
from refine.limits import Limits
from refine.spec import ImageSpec, Resolution
from refine.window import Window

PIXELS = picture(90, 70, dtype="uint16")
RGB = "c", "y", "x"


def array(path, data, names=None, **options):
    """The path of a zarr array."""
    made = zarr.create_array(path, shape=data.shape, dtype=data.dtype, chunks=options.pop("chunks", (16,) * data.ndim),
                             dimension_names=names, **options)  # fmt: skip
    made[...] = data
    return path


def image(path, data, axes=RGB, *, unit=None, scale=None, version="0.5"):
    """The path of an OME-Zarr image of one level."""
    described = [{"name": axis, "type": "space" if axis in "xyz" else "channel"} for axis in axes]
    if unit:
        described = [axis | ({"unit": unit} if axis["type"] == "space" else {}) for axis in described]
    transformations = [{"type": "scale", "scale": scale or [1.0] * len(axes)}]
    scales = [{"axes": described, "datasets": [{"path": "0", "coordinateTransformations": transformations}]}]
    ome = {"multiscales": scales, "version": version}
    group = zarr.create_group(path, zarr_format=3 if version == "0.5" else 2,
                              attributes={"ome": ome} if version == "0.5" else ome)  # fmt: skip
    group.create_array("0", shape=data.shape, dtype=data.dtype, chunks=(16,) * data.ndim)[...] = data
    return path


@pytest.mark.parametrize(
    ("data", "names", "expected"),
    [
        (PIXELS, None, PIXELS),
        (np.moveaxis(PIXELS, 2, 0), None, PIXELS),
        (PIXELS[..., 0], None, PIXELS[..., :1]),
        (np.moveaxis(PIXELS, 0, 2), ("x", "c", "y"), PIXELS.transpose(0, 1, 2)),
        (PIXELS.astype(">u2"), ("y", "x", "c"), PIXELS),
        (picture(3, 4, 3), None, picture(3, 4, 3)),
    ],
    ids=["y x c", "c y x", "y x", "x c y by name", "other byte order", "tiny"],
)
def test_array_is_read_in_any_order(tmp_path, data, names, expected):
    """Plain arrays are pictures by the names of their axes, else by their lengths."""
    source = sources.source_of(array(tmp_path / "a.zarr", data, names))
    opened = source.opened()
    assert (source.kind, opened.shape, opened.dtype) == ("zarr", expected.shape, expected.dtype)
    window = Window(2, 1, min(60, len(expected)), expected.shape[1])
    np.testing.assert_array_equal(opened[window.slices], expected[window.slices])


def test_array_of_another_byte_order_is_read_in_ours(tmp_path):
    """Big-endian arrays of zarr 2 give pixels as a program takes them."""
    path = array(tmp_path / "a.zarr", PIXELS.astype(">u2"), zarr_format=2)
    found = sources.source_of(path).opened()[0:90, 3:70]
    assert found.dtype == np.uint16
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, PIXELS[0:90, 3:70])


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", [RGB, ("t", "c", "z", "y", "x"), ("y", "x")], ids="".join)
def test_ome_zarr_is_read(tmp_path, axes, version):
    """An OME-Zarr image is its level 0, whichever axes of length 1 it has besides."""
    data = PIXELS[..., 0] if len(axes) == 2 else np.moveaxis(PIXELS, 2, 0)
    data = data[None, :, None] if len(axes) == 5 else data
    source = sources.source_of(image(tmp_path / "a.zarr", data, axes, version=version))
    np.testing.assert_array_equal(source.opened()[5:80, 9:70], PIXELS[5:80, 9:70, : source.spec.channels])


def test_ome_zarr_says_its_resolution(tmp_path):
    """Micrometres a pixel are pixels an inch; another unit says nothing."""
    data = np.moveaxis(PIXELS, 2, 0)
    path = image(tmp_path / "a.zarr", data, unit="micrometer", scale=[1, 25.4, 50.8])
    assert sources.source_of(path).spec.resolution == Resolution(500, 1000)
    path = image(tmp_path / "b.zarr", data, unit="millimeter", scale=[1, 25.4, 50.8])
    assert sources.source_of(path).spec.resolution is None


@pytest.mark.parametrize("pages", [1, 3])
def test_own_images_come_back(tmp_path, pages):
    """What a scan has written is a source with its profile, resolution and alpha, page by page."""
    pixels = picture(70, 90, 4)
    spec = ImageSpec(70, 90, 4, "uint8", icc=SRGB, resolution=Resolution(300, 299.5, "cm"))
    folder = tmp_path / "a.ome.zarr"
    for number, path in enumerate(omezarr.create(folder, [spec] * pages, 64, 64)):
        pyramid = omezarr.pyramid(path)
        for one in pyramid.shards(0):
            omezarr.write_tile(path, pyramid, one.window, pixels[one.window.slices] + np.uint8(number))
    found = sources.listing(folder).pages
    assert [(one.shape, one.icc, one.resolution, one.page) for one in found] == [
        (spec.shape, SRGB, spec.resolution, page) for page in range(pages)
    ]
    opened = sources.source_of(folder, pages - 1).opened()
    np.testing.assert_array_equal(opened[3:70, 60:90], pixels[3:70, 60:90] + np.uint8(pages - 1))
    with pytest.raises(ImageReadError, match=rf"^a\.ome\.zarr: has no image {pages}, only {pages}"):
        sources.source_of(folder, pages)


def test_lost_shard_of_an_own_image_is_an_error(tmp_path):
    """zarr would read it as zeros."""
    spec = ImageSpec(64, 128, 1, "uint8")
    folder = tmp_path / "a.ome.zarr"
    omezarr.create(folder, [spec], 64, 64)
    pyramid = omezarr.pyramid(folder)
    omezarr.write_tile(folder, pyramid, Window(0, 0, 64, 64), np.ones((64, 64, 1), np.uint8))
    opened = sources.source_of(folder).opened()
    assert opened[0:64, 0:64].all()
    with pytest.raises(StoreError):
        _ = opened[0:64, 60:70]


def test_changed_zarr_gives_no_pixels(tmp_path):
    """A zarr that is described anew is another one."""
    path = array(tmp_path / "a.zarr", PIXELS)
    opened = sources.source_of(path).opened()
    zarr.open_array(path, mode="r+").attrs["x"] = 1
    with pytest.raises(StoreError, match=r"^a\.zarr: was changed"):
        _ = opened[0:5, 0:5]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: p.mkdir(), "is a folder, but no zarr"),
        (lambda p: array(p, PIXELS.astype(np.float32)), "float32"),
        (lambda p: array(p, PIXELS.astype(np.int16)), "int16"),
        (lambda p: array(p, PIXELS[None]), "4 axes without names"),
        (lambda p: array(p, PIXELS, ("z", "y", "x")), "a picture"),
        (lambda p: array(p, np.zeros((9, 10, 11), np.uint8)), "1 to 4 channels"),
        (lambda p: image(p, np.zeros((4, 9, 9), np.uint8)), "does not say that the last one is alpha"),
        (zarr.create_group, "without an OME-Zarr image"),
        (lambda p: zarr.create_array(p, shape=(1, 1), dtype="u1", chunks=(20_000, 20_000)), "chunk it anew"),
        (lambda p: (p.mkdir(), (p / "zarr.json").write_text("{")), "cannot be read"),
    ],
    ids=["folder", "float", "signed", "unnamed", "volume", "stack", "four channels", "group", "one chunk", "broken"],
)
def test_what_is_no_picture_is_refused(tmp_path, make, said):
    """A zarr that is no picture of 8 or 16 bits is refused in one line, with its name."""
    make(tmp_path / "a.zarr")
    with pytest.raises(ImageReadError, match=rf"^a\.zarr: .*{said}") as caught:
        sources.source_of(tmp_path / "a.zarr")
    assert "\n" not in str(caught.value)


def test_limits_hold_for_zarr(tmp_path):
    """A zarr over the limits is refused as a file is."""
    with pytest.raises(LimitError, match=r"^a\.zarr: .*max_pixels"):
        sources.source_of(array(tmp_path / "a.zarr", PIXELS), limits=Limits(max_pixels=6299))


def test_profile_is_kept_as_bytes(tmp_path):
    """The profile of a group's `refine` attribute is the one that was put there."""
    path = image(tmp_path / "a.zarr", np.moveaxis(PIXELS, 2, 0))
    kept = {"icc": base64.b64encode(SRGB).decode(), "resolution": {"x": 3.0, "y": 2.0, "unit": "none"}}
    zarr.open_group(path, mode="r+").attrs["refine"] = kept
    spec = sources.source_of(path).spec
    assert (spec.icc, spec.resolution) == (SRGB, Resolution(3, 2, "none"))
