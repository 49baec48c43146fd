"""BMP: the kinds that are read, and their size checked against the file."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from blobs import SRGB
from PIL import Image as Pillow

from refine.errors import ImageReadError, LimitError
from refine.imagefile import read_image, read_spec
from refine.spec import Resolution

PHOTO = np.random.default_rng(0).integers(0, 256, (12, 15, 3), dtype=np.uint8)


@pytest.fixture
def stored(tmp_path):
    """A function that writes bytes and gives their path."""

    def store(data):
        path = tmp_path / "image.bmp"
        path.write_bytes(data)
        return path

    return store


def saved(image, **options):
    """A BMP that another encoder made."""
    file = io.BytesIO()
    image.save(file, "bmp", **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_bmp_is_read_as_pillow_reads_it(stored, mode):
    """1, 8 and 24 bits come out as RGB, with the resolution."""
    image = Pillow.fromarray(PHOTO)
    image = image.quantize(7) if mode == "P" else image.convert(mode)
    found = read_image(stored(saved(image, dpi=(300, 300))))
    np.testing.assert_array_equal(found.pixels, np.asarray(image.convert("RGB")))
    assert found.spec.notes == (() if mode == "RGB" else ("palette expanded",))
    assert found.spec.resolution == Resolution(pytest.approx(300, abs=0.02), pytest.approx(300, abs=0.02))


def test_bmp_top_down_and_profile(stored):
    """Rows may run downwards, 32 bits may have alpha, and a profile may be embedded."""
    pixels = np.dstack([PHOTO, 255 - PHOTO[..., 0]])
    head = struct.pack("<IiiHHIIiiII", 124, 15, -12, 1, 32, 3, 15 * 12 * 4, 0, 0, 0, 0)
    head += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"DEBM" + bytes(48)
    head += struct.pack("<IIII", 0, 124 + pixels.nbytes, len(SRGB), 0)
    data = b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + 124) + head + pixels[..., [2, 1, 0, 3]].tobytes() + SRGB
    found = read_image(stored(data))
    np.testing.assert_array_equal(found.pixels, pixels)
    assert found.spec.icc == SRGB


def changed(**fields):
    """A BMP of 24 bits with other numbers in its header."""
    data = bytearray(saved(Pillow.fromarray(PHOTO)))
    places = {
        "width": ("<i", 18),
        "height": ("<i", 22),
        "bits": ("<H", 28),
        "compression": ("<I", 30),
        "size": ("<I", 14),
    }
    for name, value in fields.items():
        letters, at = places[name]
        struct.pack_into(letters, data, at, value)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (changed(compression=1), "run lengths; save it as PNG"),
        (changed(compression=4), "compressed as JPEG"),
        (changed(bits=7), "not in the standard"),
        (changed(width=0), "12 x 0 px"),
        (changed(width=-15), "12 x -15 px"),
        (changed(height=13), "ends before the picture does"),
        (changed(size=12), "OS/2"),
        (changed()[:40], "inside its header"),
        (changed()[:-1], "ends before the picture does"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bmp_refuses(stored, data, said):
    """What is compressed, cannot be or is not all there is refused from its header, in one line."""
    with pytest.raises(ImageReadError, match=said):
        read_spec(stored(data))


def test_bmp_claim_is_bounded(stored):
    """Pixels that are not there are refused, however many are claimed; sparse files meet the limit."""
    path = stored(changed(width=65_000, height=65_000))
    with pytest.raises(ImageReadError, match="ends before"):
        read_spec(path)
    with path.open("r+b") as file:
        file.truncate(65_000 * 65_000 * 3 + 1000)
    with pytest.raises(LimitError, match="max_file_nbytes"):
        read_spec(path)
