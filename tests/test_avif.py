"""AVIF as it is written: blocks byte for byte, pixels upright, grey in one plane."""

from __future__ import annotations

import io

import numpy as np
import pytest
from blobs import GREY, SRGB, XMP, exif
from PIL import Image as Pillow

from refine.imagefile import encode_image, losses
from refine.metadata import read_exif
from refine.spec import Image, ImageSpec, Metadata, Resolution

Y, X = np.mgrid[:20, :30]
PHOTO = np.stack([X * 8, Y * 12, X + Y, 255 - X], axis=2).astype(np.uint8)


def opened(image):
    """What Pillow makes of it."""
    return Pillow.open(io.BytesIO(encode_image(image, "avif")))


@pytest.mark.parametrize("order", ["<", ">"])
def test_avif_keeps_exif_byte_for_byte(order):
    """The block is not written anew, whatever orientation it said; the file says 1 and is not turned."""
    turned = exif(order, orientation=6)
    spec = ImageSpec(20, 30, 3, "uint8", icc=SRGB, metadata=Metadata(turned, XMP))
    with opened(Image(np.ascontiguousarray(PHOTO[..., :3]), spec)) as theirs:
        assert theirs.info["exif"] == exif(order)
        assert (theirs.info["xmp"], theirs.info["icc_profile"]) == (XMP, SRGB)
        assert theirs.size == (30, 20)


@pytest.mark.parametrize("nbytes", [8, 13, 14, 15, 40, 5000])
def test_avif_carries_exif_of_any_length(nbytes):
    """Padded and long blocks go in as they are; one that is too short to say anything is left out."""
    block = exif().ljust(nbytes, b"\7")[:nbytes] if nbytes > 40 else b"II*\0\x08\0\0\0".ljust(nbytes, b"\7")
    spec = ImageSpec(20, 30, 3, "uint8", metadata=Metadata(block))
    data = encode_image(Image(np.ascontiguousarray(PHOTO[..., :3]), spec), "avif")
    assert data.startswith(b"ftyp", 4)
    assert (block in data) == (b"Exif" in data) == (nbytes >= 14)


def test_avif_resolution_has_an_exif_of_its_own():
    """Where there is no EXIF, a resolution is written as one."""
    spec = ImageSpec(20, 30, 3, "uint8", resolution=Resolution(240, 120))
    with opened(Image(np.ascontiguousarray(PHOTO[..., :3]), spec)) as theirs:
        assert read_exif(theirs.info["exif"]).resolution == spec.resolution


def test_avif_grey_is_one_plane():
    """Grey keeps its grey profile; with alpha it becomes RGB, which is said."""
    spec = ImageSpec(20, 30, 1, "uint8", icc=GREY)
    with opened(Image(np.ascontiguousarray(PHOTO[..., :1]), spec)) as theirs:
        assert theirs.info["icc_profile"] == GREY
        assert np.abs(np.asarray(theirs.convert("L")).astype(int) - PHOTO[..., 0]).max() <= 4
    assert losses(ImageSpec(20, 30, 2, "uint8"), "avif") == ("grey stored as RGB",)
