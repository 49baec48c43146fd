"""EXIF that is a block of its own elsewhere and part of the file in a TIFF."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import tifffile
from blobs import IPTC, SRGB, XMP, directory, entry, exif
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from refine import tiffwriter
from refine.ifd import parsed
from refine.imagefile import encode_image, losses, read_image, read_spec, write_tiff
from refine.limits import Limits
from refine.spec import Image, ImageSpec, Metadata, Resolution
from refine.window import grid


def picture(metadata):
    """A small picture that carries it."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    return Image(pixels, ImageSpec(40, 50, 3, "uint8", icc=SRGB, resolution=Resolution(300, 300), metadata=metadata))


@pytest.fixture(params=[False, True], ids=["classic", "bigtiff"])
def big(request, monkeypatch):
    """Both kinds of TIFF."""
    monkeypatch.setattr(tiffwriter, "_is_big", lambda _spec: request.param)
    return request.param


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_tiff_carries_every_block(tmp_path, big, order, streamed):
    """XMP, IPTC and profile come back byte for byte, EXIF tag for tag; a second trip changes nothing at all."""
    image = picture(Metadata(exif(order), XMP, IPTC))
    path = tmp_path / "image.tif"
    if streamed:
        write_tiff(path, image.spec, (image.pixels[w.slices] for w in grid(40, 50, 16)), 16)
    else:
        path.write_bytes(encode_image(image, "tiff"))
    assert path.read_bytes().startswith(b"II+\0" if big else b"II*\0")
    found = read_image(path)
    np.testing.assert_array_equal(found.pixels, image.pixels)
    assert (found.spec.icc, found.spec.resolution, found.spec.notes) == (SRGB, image.spec.resolution, ())
    assert (found.spec.metadata.xmp, found.spec.metadata.iptc) == (XMP, IPTC)
    assert parsed(found.spec.metadata.exif) == parsed(image.spec.metadata.exif)
    path.write_bytes(encode_image(found, "tiff"))
    assert read_spec(path).metadata == found.spec.metadata


def test_tiff_exif_is_found_by_others(tmp_path, big):
    """Pillow and tifffile find the tags of all directories, and one page."""
    path = tmp_path / "image.tif"
    path.write_bytes(encode_image(picture(Metadata(exif(">"), XMP, IPTC)), "tiff"))
    with Pillow.open(path) as theirs:
        found = theirs.getexif()
        assert (found[271], found[306]) == ("Maker", "2020:02:03 04:05:06")
        exposure, place = found.get_ifd(34665), found.get_ifd(34853)
        assert (float(exposure[33434]), float(exposure[37386]), exposure[37500]) == (
            0.004,
            50.0,
            b"a maker's note, opaque\0",
        )
        assert (place[1], place[2]) == ("N", (1.0, 2.0, 3.0))
    with tifffile.TiffFile(path) as file:
        assert len(file.pages) == 1
        tags = file.pages[0].tags
        assert (tags[700].value, tags[34675].value) == (XMP, SRGB)
        assert [tag.code for tag in tags] == sorted(tag.code for tag in tags)


def test_tiff_values_lie_at_even_places(tmp_path, big):
    """The standard wants it, and values of odd length do not shift those behind them."""
    path = tmp_path / "image.tif"
    path.write_bytes(encode_image(picture(Metadata(exif(), XMP + b" " * (1 - len(XMP) % 2), IPTC + b"\0")), "tiff"))
    with tifffile.TiffFile(path) as file:
        tags = [tag for tag in file.pages[0].tags if tag.valuebytecount > (8 if big else 4)]
        assert any(tag.valuebytecount % 2 for tag in tags)
        assert [tag.code for tag in tags if tag.valueoffset % 2] == []


def test_tiff_without_metadata_has_no_second_directory(tmp_path):
    """A plain picture is written as ever."""
    path = tmp_path / "image.tif"
    path.write_bytes(encode_image(picture(Metadata()), "tiff"))
    with tifffile.TiffFile(path) as file:
        assert file.pages[0].offset == 8
    assert read_spec(path).metadata == Metadata()


def test_tiff_leaves_out_exif_that_cannot_be_read(tmp_path):
    """A block that is no EXIF is named before, and costs no picture."""
    image = picture(Metadata(b"MM\0*\xff\xff\xff\xff"))
    assert losses(image.spec, "tiff") == ("EXIF that cannot be read left out",)
    path = tmp_path / "image.tif"
    path.write_bytes(encode_image(image, "tiff"))
    assert read_image(path).spec.metadata.exif is None


def test_parsed_keeps_what_describes_the_picture():
    """Tags that say how pixels are stored, and the thumbnail's directory, are not taken along."""
    block = b"II*\0\x08\0\0\0" + directory(
        8, [entry(256, 4, 1, struct.pack("<I", 99)), entry(271, 2, 2, b"M\0"), entry(274, 3, 1, b"\6\0")]
    )
    assert [item.tag for item in parsed(block)] == [271]


def test_exif_of_counts_what_it_cannot_read(tmp_path):
    """A value outside the file is left out and said; a pointer into nowhere is one tag."""
    path = tmp_path / "image.tif"
    path.write_bytes(encode_image(picture(Metadata(exif())), "tiff"))
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        tags = file.pages[0].tags
        date, pointer = tags[306].offset, tags[34853].offset
    data[date + 8 : date + 12] = struct.pack("<I", len(data))
    data[pointer + 8 : pointer + 12] = struct.pack("<I", len(data) + 5)
    path.write_bytes(data)
    found = read_spec(path)
    assert found.notes == ("2 unreadable tags of EXIF left out",)
    assert [item.tag for item in parsed(found.metadata.exif)] == [271, 34665]


def test_exif_of_is_bounded(tmp_path):
    """Tags that share the bytes of a large value count for each of them."""
    value = bytes(3000)
    names = [entry(tag, 2, 3000, value) for tag in range(40_091, 40_096)]
    path = tmp_path / "image.tif"
    block = b"II*\0\x08\0\0\0" + directory(8, names)
    path.write_bytes(encode_image(picture(Metadata(block)), "tiff"))
    assert read_spec(path).metadata.exif is not None
    with pytest.raises(Exception, match="max_metadata_nbytes"):
        read_spec(path, Limits(max_metadata_nbytes=14_000))


@given(st.binary(max_size=200), st.integers(0, 400), st.binary(min_size=1, max_size=12))
def test_parsed_raises_nothing_else(block, at, harm):
    """Random and harmed blocks are read or refused by ValueError, which is what callers expect."""
    whole = exif()
    for data in (block, b"II*\0" + block, whole[:at] + harm + whole[at + len(harm) :]):
        tiffwriter.is_exif(data)
