"""JPEG: what is read as what, and files that end before their picture does."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image as Pillow

from refine.errors import ImageReadError, LimitError
from refine.imagefile import read_image, read_spec
from refine.limits import Limits
from refine.spec import Resolution

Y, X = np.mgrid[:48, :64]
PHOTO = np.stack([X * 4 % 256, Y * 5 % 256, X + Y], axis=2).astype(np.uint8)
EXIF = b"Exif\0\0II*\0\x08\0\0\0"


@pytest.fixture
def stored(tmp_path):
    """A function that writes bytes and gives their path."""

    def store(data) -> Path:
        path = tmp_path / "image.jpg"
        path.write_bytes(data)
        return path

    return store


def saved(pixels=PHOTO, mode=None, **options):
    """A JPEG that another encoder made."""
    file = io.BytesIO()
    Pillow.fromarray(pixels).convert(mode).save(file, "jpeg", **options)
    return file.getvalue()


def segment(marker, payload):
    """A marker segment."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(payload) + 2) + payload


def with_segment(data, marker, payload):
    """The JPEG with one more segment behind its first marker."""
    return data[:2] + segment(marker, payload) + data[2:]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"subsampling": "4:4:4"},
        {"subsampling": "4:2:2"},
        {"progressive": True},
        {"restart_marker_rows": 1},
        {"keep_rgb": True},
        {"mode": "L"},
        {"mode": "L", "progressive": True},
    ],
    ids=str,
)
def test_read_image_jpeg_kinds(stored, options):
    """Subsampled, progressive, with restarts, stored as RGB, grey: the pixels are Pillow's within 4 levels."""
    data = saved(**options)
    found = read_image(stored(data))
    with Pillow.open(io.BytesIO(data)) as theirs:
        expected = np.asarray(theirs).reshape(found.spec.shape)
    assert np.abs(found.pixels.astype(int) - expected).max() <= 4


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("part", [0.3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("filling", [b"", b"\0"])
def test_read_image_jpeg_refuses_a_file_cut_short(stored, progressive, part, filling):
    """A JPEG that is cut off, or whose end is zeros, is refused; libjpeg would fill it with grey."""
    data = saved(progressive=progressive)
    kept = int(len(data) * part)
    with pytest.raises(ImageReadError, match=r"^image\.jpg: damaged JPEG: "):
        read_image(stored(data[:kept] + filling * (len(data) - kept)))


def test_read_image_jpeg_takes_what_follows_the_end(stored):
    """Bytes behind the end mark, as cameras append previews, are no damage."""
    data = saved()
    np.testing.assert_array_equal(read_image(stored(data + data)).pixels, read_image(stored(data)).pixels)


def test_read_image_jpeg_counts_scans(stored):
    """A JPEG of more scans than the limit is refused before it is decoded; at the limit it is read."""
    data = saved(progressive=True)
    scans = data.count(b"\xff\xda")
    path = stored(data)
    with pytest.raises(LimitError, match="max_scans"):
        read_image(path, Limits(max_scans=scans - 1))
    assert read_image(path, Limits(max_scans=scans)).spec.width == 64
    start = data.index(b"\xff\xda")
    stop = data.index(b"\xff", start + 2)
    with pytest.raises(LimitError, match="max_scans"):
        read_image(stored(data[:start] + data[start:stop] * 5000 + data[start:]))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xff\xd8" + segment(0xC0, struct.pack(">BHHB", 16, 9, 9, 3)), "16 bits; save"),
        (b"\xff\xd8" + segment(0xC5, struct.pack(">BHHB", 8, 9, 9, 3)), "hierarchical JPEG; save"),
        (b"\xff\xd8" + segment(0xC0, struct.pack(">BHHB", 8, 9, 9, 2)), "2 components"),
        (b"\xff\xd8" + segment(0xC0, struct.pack(">BHHB", 8, 0, 9, 3)), "0 x 9"),
        (b"\xff\xd8" + segment(0xC0, b"\x08"), "cut off"),
        (b"\xff\xd8\xff\xd9", "no picture"),
        (b"\xff\xd8\xff\xda\0\2", "before the frame"),
        (b"\xff\xd8\xff\xe0\0\0", "inside its header"),
        (b"\xff\xd8\xff\xe0\0\2" + bytes(70_000), "64 KiB"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_read_spec_jpeg_refuses(stored, data, said):
    """What is no JPEG that can be read is refused from its header, with the way out where there is one."""
    with pytest.raises(ImageReadError, match=said):
        read_spec(stored(data))


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"JFIF\0\1\1\1" + struct.pack(">HHBB", 300, 200, 0, 0), Resolution(300, 200, "inch")),
        (b"JFIF\0\1\1\2" + struct.pack(">HHBB", 118, 118, 0, 0), Resolution(118, 118, "cm")),
        (b"JFIF\0\1\1\0" + struct.pack(">HHBB", 10, 11, 0, 0), Resolution(10, 11, "none")),
        (b"JFIF\0\1\1\0" + struct.pack(">HHBB", 1, 1, 0, 0), None),
        (b"JFIF\0\1\1\1" + struct.pack(">HHBB", 0, 0, 0, 0), None),
        (b"JFIF\0", None),
    ],
)
def test_read_spec_jpeg_density(stored, payload, expected):
    """JFIF's density is read; nothing, zero and 1:1 say nothing."""
    plain = imagecodecs.jpeg8_encode(PHOTO)
    data = plain[:2] + segment(0xE0, payload) + plain[20:]
    assert read_spec(stored(data)).resolution == expected


def test_read_spec_jpeg_believes_exif_before_jfif(stored):
    """Where both state a resolution, EXIF's is taken: many cameras write 72 into JFIF."""
    block = EXIF + struct.pack("<H", 2) + struct.pack("<HHII", 282, 5, 1, 38) + struct.pack("<HHII", 283, 5, 1, 38)
    block += bytes(4) + struct.pack("<II", 600, 2)
    data = with_segment(saved(dpi=(72, 72)), 0xE1, block)
    assert read_spec(stored(data)).resolution == Resolution(300, 300, "inch")


@pytest.mark.parametrize(
    "block",
    [
        b"",
        EXIF,
        EXIF + b"\xff\xff",
        EXIF + struct.pack("<HHHIHH", 1, 274, 3, 1, 9, 0),  # no such orientation
        EXIF + struct.pack("<HHHII", 1, 282, 5, 1, 9999),  # a value outside
        EXIF + struct.pack("<HHHII", 1, 282, 5, 1, 8) + bytes(8),
        b"Exif\0\0MM*\0" + bytes(8),
        EXIF[:-4] + b"\xff\xff\xff\x7f",
    ],
)
def test_read_image_jpeg_outlives_bad_exif(stored, block):
    """Nonsense in EXIF counts as absent and costs no picture."""
    found = read_image(stored(with_segment(saved(), 0xE1, block)))
    assert (found.spec.orientation, found.spec.resolution) == (1, None)


def test_read_spec_jpeg_drops_a_profile_with_a_part_missing(stored):
    """A profile is put together in the order of its parts, and only if all are there."""
    profile = bytes(12) + b"mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(range(200))
    first, second = (b"ICC_PROFILE\0" + bytes((i, 2)) for i in (1, 2))
    data = with_segment(saved(), 0xE2, first + profile[:100])
    assert read_spec(stored(data)).icc is None
    assert read_spec(stored(with_segment(data, 0xE2, second + profile[100:]))).icc == profile


def test_read_spec_jpeg_bounds_metadata(stored):
    """Segments beyond the limit are refused, in front of the first scan and between scans."""
    data = saved(progressive=True)
    path = stored(data)
    many = segment(0xFE, bytes(60_000)) * 300
    with pytest.raises(LimitError, match="max_metadata_nbytes"):
        read_spec(stored(data[:2] + many + data[2:]))
    second = data.index(b"\xff\xc4", data.index(b"\xff\xda"))
    path = stored(data[:second] + many + data[second:])
    assert read_spec(path).width == 64
    with pytest.raises(LimitError, match="max_metadata_nbytes"):
        read_image(path)


def test_read_image_jpeg_deep(stored):
    """12 bits and lossless JPEG of 16 come out at full scale of 16, the lossless one exactly."""
    deep = (PHOTO.astype(np.uint16) * 16) | 5
    found = read_image(stored(imagecodecs.jpeg8_encode(deep, 100, bitspersample=12, subsampling="444")))
    assert (found.spec.dtype, found.spec.notes) == ("uint16", ("12 bits scaled to 16",))
    assert np.abs(found.pixels / 65535 - deep / 4095).max() < 0.005
    found = read_image(stored(imagecodecs.jpeg8_encode(deep * 15, lossless=True, bitspersample=16)))
    np.testing.assert_array_equal(found.pixels, deep * 15)
    assert found.spec.notes == ()


@pytest.mark.parametrize("transform", ["CMYK", "YCCK"])
def test_read_image_jpeg_cmyk_is_ink(stored, transform):
    """With Adobe's marker CMYK and YCCK are stored inverted, and come out with 255 for full ink, as in Pillow."""
    ink = np.dstack([PHOTO, PHOTO[::-1, :, 1]])
    data = imagecodecs.jpeg8_encode(np.ascontiguousarray(255 - ink), 98, colorspace="CMYK", outcolorspace=transform)
    assert b"Adobe" in data
    found = read_image(stored(data))
    assert (found.spec.model, found.spec.channels, found.spec.has_alpha) == ("cmyk", 4, False)
    assert np.abs(found.pixels.astype(int) - ink).max() < 60
    with Pillow.open(io.BytesIO(data)) as theirs:
        np.testing.assert_array_equal(found.pixels, np.asarray(theirs))


def test_read_image_jpeg_cmyk_without_a_marker_says_so(stored):
    """Without Adobe's marker nothing is inverted, and the notes say what was assumed."""
    ink = np.dstack([PHOTO, PHOTO[::-1, :, 1]])
    data = imagecodecs.jpeg8_encode(ink, 98, colorspace="CMYK", outcolorspace="CMYK")
    start = data.index(b"\xff\xee")
    bare = data[:start] + data[start + 16 :]
    found = read_image(stored(bare))
    assert np.abs(found.pixels.astype(int) - ink).mean() < 8
    assert found.spec.notes == ("CMYK without Adobe's marker: 0 taken for no ink",)
