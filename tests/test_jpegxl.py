"""JPEG XL as it is written: sRGB only, with boxes for EXIF and XMP."""

from __future__ import annotations

import struct

import imagecodecs
import numpy as np
import pytest
from blobs import SRGB, XMP, exif
from PIL import ImageCms

from refine.errors import ImageWriteError
from refine.imagefile import check_fits, encode_image, losses
from refine.jpegxl import is_srgb
from refine.metadata import read_exif
from refine.spec import Image, ImageSpec, Metadata, Resolution

PIXELS = np.random.default_rng(0).integers(0, 65_536, (11, 13, 3)).astype(np.uint16)


def boxes(data):
    """Kind and payload of each box."""
    at, found = 0, {}
    while at < len(data):
        nbytes = struct.unpack_from(">I", data, at)[0] or len(data) - at
        found[data[at + 4 : at + 8]] = data[at + 8 : at + nbytes]
        at += nbytes
    return found


def test_jpegxl_carries_blocks_in_boxes():
    """EXIF behind four zeros and XMP stand in boxes of their own, and the codec reads past them."""
    spec = ImageSpec(11, 13, 3, "uint16", icc=SRGB, metadata=Metadata(exif(), XMP))
    data = encode_image(Image(PIXELS, spec), "jpegxl", lossless=True)
    found = boxes(data)
    assert (found[b"Exif"], found[b"xml "]) == (bytes(4) + exif(), XMP)
    np.testing.assert_array_equal(imagecodecs.jpegxl_decode(data), PIXELS)
    assert losses(spec, "jpegxl") == ("sRGB profile left out: JPEG XL says sRGB of itself",)


def test_jpegxl_quality_matters():
    """A lower quality makes a smaller file; a resolution alone makes an EXIF."""
    smooth = np.linspace(0, 65_535, 64 * 64 * 3).reshape(64, 64, 3).astype(np.uint16) ^ 511
    spec = ImageSpec(64, 64, 3, "uint16", resolution=Resolution(72, 72))
    sizes = [len(encode_image(Image(smooth, spec), "jpegxl", quality=q)) for q in (10, 50, 95)]
    assert sizes == sorted(set(sizes))
    block = boxes(encode_image(Image(smooth, spec), "jpegxl"))[b"Exif"][4:]
    assert read_exif(block).resolution == spec.resolution


def test_is_srgb_tells_profiles_apart():
    """No profile and sRGB are sRGB; another profile, a broken one and one for other pixels are not."""
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    xyz = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    assert is_srgb(ImageSpec(1, 1, 3, "uint8"))
    assert is_srgb(ImageSpec(1, 1, 3, "uint8", icc=SRGB))
    # Red and green change their primaries: a profile like sRGB in all but the colours.
    swapped = SRGB.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")
    for other in (lab, xyz, swapped, SRGB[:200], b"no profile"):
        assert not is_srgb(ImageSpec(1, 1, 3, "uint8", icc=other))
    with pytest.raises(ImageWriteError, match="sRGB only"):
        check_fits(ImageSpec(1, 1, 3, "uint8", icc=xyz), "jpegxl")
