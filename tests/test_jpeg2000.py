"""JPEG 2000: what its boxes say, and the depths and channels that come out."""

from __future__ import annotations

import io
import struct

import imagecodecs
import numpy as np
import pytest
from blobs import IPTC, SRGB, XMP, exif
from PIL import Image as Pillow

from refine.errors import ImageReadError, LimitError
from refine.imagefile import read_image, read_spec
from refine.limits import Limits
from refine.spec import Metadata, Resolution

RANDOM = np.random.default_rng(0)


@pytest.fixture
def stored(tmp_path):
    """A function that writes bytes and gives their path."""

    def store(data):
        path = tmp_path / "image.jp2"
        path.write_bytes(data)
        return path

    return store


def pixels(channels, dtype="uint8", bits=None):
    """Noise."""
    return RANDOM.integers(0, 1 << (bits or np.dtype(dtype).itemsize * 8), (12, 15, channels)).astype(dtype)


def encoded(image, **options):
    """A lossless JPEG 2000."""
    image = image[..., 0] if image.shape[2] == 1 else image
    return imagecodecs.jpeg2k_encode(image, 0, reversible=True, **options)


def box(kind, payload):
    """One box."""
    return struct.pack(">I", 8 + len(payload)) + kind + payload


@pytest.mark.parametrize("container", ["jp2", "j2k"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_jpeg2000_lossless_is_exact(stored, container, dtype, channels):
    """Grey and RGB of 8 and 16 bits come out as they went in, from a file and a bare codestream."""
    image = pixels(channels, dtype)
    found = read_image(stored(encoded(image, codecformat=container)))
    np.testing.assert_array_equal(found.pixels, image)
    assert found.spec.notes == ()


def test_jpeg2000_other_depths_are_scaled(stored):
    """12 bits fill 16."""
    image = pixels(3, "uint16", bits=12)
    found = read_image(stored(encoded(image, bitspersample=12)))
    np.testing.assert_array_equal(found.pixels, np.rint(image / 4095 * 65535))
    assert found.spec.notes == ("12 bits scaled to 16",)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_jpeg2000_alpha_is_straight(stored, mode):
    """Alpha is the last channel; premultiplied colour has it divided out, and the notes say so."""
    image = pixels(len(mode))
    file = io.BytesIO()
    Pillow.fromarray(image, mode).save(file, "jpeg2000", irreversible=False)
    data = file.getvalue()
    np.testing.assert_array_equal(read_image(stored(data)).pixels, image)
    alpha = struct.pack(">HHH", len(mode) - 1, 1, 0)
    multiplied = data.replace(alpha, struct.pack(">HHH", len(mode) - 1, 2, 0), 1)
    assert multiplied != data
    found = read_image(stored(multiplied))
    assert found.spec.notes == ("alpha divided out of colour",)
    full = image[..., -1] == 255
    np.testing.assert_array_equal(found.pixels[full], image[full])


def test_jpeg2000_carries_every_block(stored):
    """EXIF, XMP and IPTC in UUID boxes, the profile and the resolution are found."""
    data = encoded(pixels(3))
    start = data.index(b"jp2h") - 4
    size = struct.unpack_from(">I", data, start)[0]
    header = data[start + 8 : start + size]
    colour = header.index(b"colr") - 4
    resc = box(b"res ", box(b"resc", struct.pack(">HHHHbb", 11811, 1, 11811, 1, 0, 0)))
    header = header[:colour] + box(b"colr", b"\2\0\0" + SRGB) + resc
    boxes = (
        box(b"uuid", bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + XMP),
        box(b"uuid", b"JpgTiffExif->JP2" + exif()),
        box(b"uuid", bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38") + IPTC),
    )
    path = stored(data[:start] + box(b"jp2h", header) + b"".join(boxes) + data[start + size :])
    found = read_spec(path)
    assert (found.metadata, found.icc) == (Metadata(exif(), XMP, IPTC), SRGB)
    assert found.resolution == Resolution(pytest.approx(300, abs=0.01), pytest.approx(300, abs=0.01))
    assert read_image(path).spec.width == 15


def replaced(old, new, image=None):
    """A JPEG 2000 with some bytes of its boxes changed."""
    data = encoded(pixels(3) if image is None else image)
    assert old in data
    return data.replace(old, new, 1)


SRGB_BOX = b"colr\1\0\0\0\0\0\x10"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (replaced(SRGB_BOX, SRGB_BOX[:-1] + b"\x12"), "YCbCr with 3 channels"),
        (replaced(SRGB_BOX, SRGB_BOX[:-1] + b"\x0c"), "CMYK with 3 channels"),
        (replaced(b"\x07\x01\x01", b"\x07\x02\x02"), "subsampled"),
        (replaced(b"\x07\x01\x01", b"\x87\x01\x01"), "signed"),
        (replaced(b"\x07\x01\x01", b"\x1f\x01\x01"), "more than 16 bits"),
        (replaced(b"\xff\x4f\xff\x51", b"\xff\x4f\xff\x52"), "no size"),
        (replaced(b"colr", b"pclr"), "palette"),
        (encoded(pixels(3))[:-1], "ends before"),
        (encoded(pixels(3), codecformat="j2k")[:-1], "no end mark"),
        (encoded(pixels(3))[:-90] + bytes(90), "no end mark"),
        (encoded(pixels(3)).replace(b"\xff\x93", b"\xff\x94"), "cannot be decoded"),
        (encoded(pixels(3), codecformat="j2k")[:40], "cut off"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_jpeg2000_refuses(stored, data, said):
    """Models and depths that are not read, and files that end early, are refused in one line."""
    with pytest.raises(ImageReadError, match=said) as caught:
        read_image(stored(data))
    assert "\n" not in str(caught.value)


def test_jpeg2000_claim_is_bounded(stored, monkeypatch):
    """Size and metadata are bounded before the codec is called."""
    monkeypatch.setattr("imagecodecs.jpeg2k_decode", None)
    claim = struct.pack(">II", 15, 12)
    with pytest.raises(LimitError, match="max_pixels"):
        read_image(stored(replaced(b"\0\0" + claim, b"\0\0" + struct.pack(">II", 60_000, 60_000))))
    data = encoded(pixels(3)) + box(b"free", bytes(5000))
    with pytest.raises(LimitError, match="max_metadata_nbytes"):
        read_image(stored(data), Limits(max_metadata_nbytes=4000))
