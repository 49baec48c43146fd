"""PNG: every kind of pixel, and damage that other decoders do not see."""

from __future__ import annotations

import io
import itertools
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from blobs import IPTC, XMP, exif
from PIL import Image as Pillow

from refine.errors import ImageReadError, LimitError
from refine.imagefile import read_image, read_spec
from refine.limits import Limits
from refine.metadata import photoshop_resources
from refine.spec import Metadata

DEPTHS = ((0, 1), (0, 2), (0, 4), (0, 8), (2, 8), (3, 1), (3, 2), (3, 4), (3, 8), (4, 8), (6, 8))
"""Colour type and bits of a sample."""
KINDS = [(*kind, False) for kind in DEPTHS] + [(*kind, True) for kind in DEPTHS if kind[0] < 4]
"""The same, without and with a key colour or transparent palette entries."""
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind, payload):
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def png(height, width, rows, *, bits=8, colour=2, before=(), behind=()):
    """A PNG of filtered rows; `before` and `behind` its pixels stand other chunks."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = (chunk(b"IHDR", header), *before, chunk(b"IDAT", zlib.compress(rows)), *behind, chunk(b"IEND", b""))
    return SIGNATURE + b"".join(chunks)


def noise(height, row_nbytes):
    """Rows without a filter."""
    random = np.random.default_rng(1)
    return b"".join(b"\0" + random.bytes(row_nbytes) for _ in range(height))


@pytest.fixture
def stored(tmp_path):
    """A function that writes bytes and gives their path."""

    def store(data) -> Path:
        path = tmp_path / "image.png"
        path.write_bytes(data)
        return path

    return store


@pytest.mark.parametrize(("colour", "bits", "transparent"), KINDS)
def test_read_image_png_kinds(stored, colour, bits, transparent):
    """Every 8-bit kind, palettes and key colours among them, has the pixels that Pillow gives it."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    before = []
    if colour == 3:
        before.append(chunk(b"PLTE", np.random.default_rng(2).bytes(3 << bits)))
    if transparent:
        before.append(chunk(b"tRNS", {0: b"\0\1", 2: b"\0\1\0\2\0\3", 3: b"\x80\0"}[colour]))
    data = png(9, 11, noise(9, -(-11 * samples * bits // 8)), bits=bits, colour=colour, before=before)
    found = read_image(stored(data))
    with Pillow.open(io.BytesIO(data)) as theirs:
        kind = {0: "L", 2: "RGB", 3: "RGB", 4: "LA", 6: "RGBA"}[colour]
        if transparent:
            kind = "LA" if colour == 0 else "RGBA"
        expected = np.asarray(theirs.convert("RGBA" if kind == "LA" and bits < 8 else kind))
    if expected.ndim == 3 and expected.shape[2] == 4 and found.spec.channels == 2:
        expected = expected[..., [0, 3]].copy()
    if transparent and colour == 0 and bits < 8:
        # The key (1) is a stored sample; Pillow takes it for a scaled one.
        expected[..., 1] = np.where(expected[..., 0] == 255 // (2**bits - 1), 0, 255)
    np.testing.assert_array_equal(found.pixels, expected.reshape(found.spec.shape))


def test_read_image_png_keeps_16_bits(stored):
    """16-bit samples come out as they were written."""
    pixels = np.random.default_rng(0).integers(0, 65536, (5, 6, 3)).astype(">u2")
    data = png(5, 6, b"".join(b"\0" + row.tobytes() for row in pixels), bits=16)
    np.testing.assert_array_equal(read_image(stored(data)).pixels, pixels)


@pytest.mark.parametrize(
    "harm",
    [
        lambda data: data[:-12],  # no end mark
        lambda data: data[: len(data) // 2],
        lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
        lambda data: data[:-20] + b"\1" + data[-19:],  # in the checksum of the pixels, or just before it
    ],
    ids=["end mark", "half", "zeros", "flipped"],
)
def test_read_image_png_refuses_damage(stored, harm):
    """A PNG that is cut short, filled with zeros or has a wrong checksum is refused."""
    data = harm(png(100, 64, noise(100, 192)))
    with pytest.raises(ImageReadError, match=r"^image\.png: "):
        read_image(stored(data))


@pytest.mark.parametrize("rows", [10, 99])
def test_read_image_png_refuses_missing_rows(stored, rows):
    """A PNG with right checksums and too few rows, from which others make a picture, is refused."""
    with pytest.raises(ImageReadError, match=r"^image\.png: "):
        read_image(stored(png(100, 64, noise(rows, 192))))


def test_read_image_png_flips_are_all_seen(stored):
    """Any byte changed in a chunk that decides pixels is seen."""
    data = png(4, 4, noise(4, 12))
    for at, change in itertools.product(range(8, len(data)), (1, 0x80)):
        harmed = bytearray(data)
        harmed[at] ^= change
        with pytest.raises(ImageReadError):
            read_image(stored(harmed))


@pytest.mark.parametrize("kind", [b"tEXt", b"eXIf", b"iCCP", b"acTL", b"pHYs"])
@pytest.mark.parametrize("whole", [False, True])
def test_read_image_png_outlives_bad_metadata(stored, kind, whole):
    """Nonsense, or a wrong checksum, in a chunk that pixels do not depend on counts as absent."""
    bad = chunk(kind, b"\xff" * 8)
    data = png(4, 4, noise(4, 12), before=[bad if whole else bad[:-1] + b"?"])
    plain = png(4, 4, noise(4, 12))
    found = read_image(stored(data))
    assert (found.spec.icc, found.spec.resolution, found.spec.orientation) == (None, None, 1)
    np.testing.assert_array_equal(found.pixels, read_image(stored(plain)).pixels)


def test_read_spec_png_sees_exif_behind_the_pixels(stored):
    """An orientation is found on either side of the pixels."""
    exif = b"MM\0*\0\0\0\x08\0\1" + struct.pack(">HHIHH", 274, 3, 1, 6, 0)
    for place in ("before", "behind"):
        spec = read_spec(stored(png(4, 8, noise(4, 24), **{place: [chunk(b"eXIf", exif)]})))
        assert (spec.orientation, spec.height, spec.width) == (6, 8, 4)


def test_read_spec_png_bounds_an_inflated_profile(stored):
    """A profile of zeros that inflates beyond the limit is refused, and only unpacked up to it."""
    bomb = chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(20_000_000)))
    path = stored(png(4, 4, noise(4, 12), before=[bomb]))
    tracemalloc.start()
    with pytest.raises(LimitError, match="max_metadata_nbytes"):
        read_spec(path, Limits(max_metadata_nbytes=100_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


def test_read_spec_png_bounds_the_number_of_chunks(stored):
    """Very many empty chunks are over the limit of metadata."""
    data = png(4, 4, noise(4, 12), before=[chunk(b"tEXt", b"")] * 100)
    with pytest.raises(LimitError, match="max_metadata_nbytes"):
        read_spec(stored(data), Limits(max_metadata_nbytes=1000))


@pytest.mark.parametrize("header", [b"", b"\0" * 13, struct.pack(">IIBBBBB", 4, 4, 3, 2, 0, 0, 0)])
def test_read_spec_png_refuses_a_bad_header(stored, header):
    """No size, no pixels, or a depth outside the standard is refused."""
    with pytest.raises(ImageReadError, match="damaged PNG"):
        read_spec(stored(SIGNATURE + chunk(b"IHDR", header) + chunk(b"IEND", b"")))


def test_read_spec_png_drops_a_profile_of_another_kind(stored):
    """A grey profile on colour is not handed on."""
    profile = bytes(12) + b"mntrGRAYXYZ " + bytes(12) + b"acsp" + bytes(160)
    packed = [chunk(b"iCCP", b"x\0\0" + zlib.compress(profile))]
    assert read_spec(stored(png(4, 4, noise(4, 12), before=packed))).icc is None
    assert read_spec(stored(png(4, 4, noise(4, 4), colour=0, before=packed))).icc == profile


@pytest.mark.parametrize("packed", [False, True])
def test_read_spec_png_finds_blocks(stored, packed):
    """EXIF has its chunk, XMP a text, packed or not; ImageMagick's hexadecimal texts hold EXIF and IPTC."""
    text = zlib.compress(XMP) if packed else XMP
    xmp = chunk(b"iTXt", b"XML:com.adobe.xmp\0" + bytes((packed, 0)) + b"\0\0" + text)
    found = read_spec(stored(png(1, 1, bytes(4), before=(chunk(b"eXIf", exif()), xmp)))).metadata
    assert found == Metadata(exif(), XMP)
    raw = [
        chunk(b"zTXt", b"Raw profile type " + name + b"\0\0" + zlib.compress(lines))
        for name, data in ((b"exif", b"Exif\0\0" + exif()), (b"iptc", photoshop_resources(IPTC)))
        for lines in (b"\n" + name + b"\n%8d\n" % len(data) + data.hex().encode() + b"\n",)
    ]
    assert read_spec(stored(png(1, 1, bytes(4), before=raw))).metadata == Metadata(exif(), None, IPTC)


@pytest.mark.parametrize(
    ("before", "notes"),
    [
        ([], ()),
        ([chunk(b"gAMA", struct.pack(">I", 45_455))], ()),
        ([chunk(b"gAMA", struct.pack(">I", 100_000))], ("a gamma of 1 was not applied",)),
        ([chunk(b"gAMA", struct.pack(">I", 100_000)), chunk(b"sRGB", b"\0")], ()),
        ([chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))],
         ("primaries other than those of sRGB were not applied",)),
        ([chunk(b"cICP", b"\x0c\x0d\0\1")], ("colour given as cICP was not applied",)),
        ([chunk(b"cICP", b"\1\x0d\0\1")], ()),
        ([chunk(b"acTL", struct.pack(">II", 3, 0))], ("frame 1 of 3",)),
        ([chunk(b"tEXt", b"Title\0x"), chunk(b"tEXt", b"Author\0y")], ("text left out: Author, Title",)),
        ([chunk(b"tRNS", bytes(6))], ("key colour became alpha",)),
    ],
)  # fmt: skip
def test_read_spec_png_says_what_it_chose(stored, before, notes):
    """What is chosen, expanded or not handed on is said."""
    assert read_spec(stored(png(1, 1, bytes(4), before=before))).notes == notes


def test_read_spec_png_bounds_inflated_texts(stored):
    """Texts that inflate beyond the limit are refused, one alone and many together."""
    one = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(900_000), 9))
    path = stored(png(1, 1, bytes(4), before=[one] * 5))
    assert read_spec(path).width == 1
    with pytest.raises(LimitError, match="max_metadata_nbytes"):
        read_spec(path, Limits(max_metadata_nbytes=4_000_000))
    with pytest.raises(LimitError, match="max_metadata_nbytes"):
        read_spec(stored(png(1, 1, bytes(4), before=[one])), Limits(max_metadata_nbytes=500_000))
