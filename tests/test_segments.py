"""What a JPEG carries in its application segments, in and out."""

from __future__ import annotations

import os
import struct

import numpy as np
import pytest
from blobs import IPTC, SRGB, XMP, exif
from PIL import Image as Pillow

from refine.imagefile import encode_image, losses, read_spec
from refine.metadata import photoshop_iptc, photoshop_resources
from refine.segments import beside
from refine.spec import Image, ImageSpec, Metadata


def stored(folder, metadata, icc=None):
    """The path of a small JPEG that carries it."""
    spec = ImageSpec(8, 9, 3, "uint8", icc=icc, metadata=metadata)
    path = folder / "image.jpg"
    path.write_bytes(encode_image(Image(np.zeros((8, 9, 3), np.uint8), spec), "jpeg"))
    return path


@pytest.mark.parametrize("order", ["<", ">"])
def test_jpeg_carries_every_block(tmp_path, order):
    """EXIF, XMP, IPTC and the profile come back byte for byte, and Pillow finds them."""
    carried = Metadata(exif(order), XMP, IPTC)
    path = stored(tmp_path, carried, SRGB)
    found = read_spec(path)
    assert (found.metadata, found.icc, found.notes) == (carried, SRGB, ())
    with Pillow.open(path) as theirs:
        assert theirs.info["exif"] == b"Exif\0\0" + carried.exif
        assert theirs.info["xmp"] == XMP
        assert theirs.info["photoshop"][0x0404] == IPTC
        assert theirs.getexif()[271] == "Maker"


@pytest.mark.parametrize("nbytes", [65_504, 65_505, 200_000])
def test_jpeg_carries_long_xmp(tmp_path, nbytes):
    """A packet that is too long for its segment goes into an extended one and comes back without its wrapping."""
    packet = XMP.replace(b"image/test", b"x" * (nbytes - len(XMP) + 10))
    assert len(packet) == nbytes
    found = read_spec(stored(tmp_path, Metadata(xmp=packet))).metadata.xmp
    body = packet[packet.index(b"<x:") : packet.index(b"<?xpacket end")]
    assert found == (packet if nbytes == 65_504 else body)


def test_jpeg_drops_an_extended_packet_that_is_harmed(tmp_path):
    """A long packet that does not have its digest is left out, and the notes say so."""
    path = stored(tmp_path, Metadata(xmp=XMP.replace(b"image/test", b"x" * 90_000)))
    data = path.read_bytes()
    at = data.rindex(b"xxxx")
    path.write_bytes(data[:at] + b"y" + data[at + 1 :])
    found = read_spec(path)
    assert len(found.metadata.xmp) < 1000
    assert found.notes == ("the extended part of its XMP was left out",)


def test_jpeg_says_that_an_extended_packet_is_left_out(tmp_path):
    """A short packet with more than a pointer is kept; of the long one, the notes say that it is left out."""
    packet = XMP.replace(b'dc:format="image/test"', b'xmlns:xmpNote="n" xmpNote:HasExtendedXMP="' + b"A" * 32 + b'"')
    found = read_spec(stored(tmp_path, Metadata(xmp=packet)))
    assert found.metadata.xmp == packet
    assert found.notes == ("the extended part of its XMP was left out",)


def test_jpeg_iptc_longer_than_a_segment(tmp_path):
    """IPTC of more than 64 kB is spread over segments and put together again."""
    records = b"\x1c\x02\x78\x7f\xff" + os.urandom(0x7FFF)
    carried = Metadata(iptc=records * 4)
    assert read_spec(stored(tmp_path, carried)).metadata == carried


def test_jpeg_exif_that_is_too_long_is_said(tmp_path):
    """EXIF that fits into no segment is left out and named before anything is written."""
    long = Metadata(exif() + bytes(65_600))
    assert losses(ImageSpec(8, 9, 3, "uint8", metadata=long), "jpeg")[0].startswith("EXIF of")
    assert read_spec(stored(tmp_path, long)).metadata.exif is None
    fits = Metadata(exif().ljust(65_527, b"\0"))
    assert losses(ImageSpec(8, 9, 3, "uint8", metadata=fits), "jpeg") == ()
    assert read_spec(stored(tmp_path, fits)).metadata == fits


def test_encode_image_never_turns_a_picture_twice(tmp_path):
    """Whatever orientation the block says, the file says 1; two bytes of it change."""
    for order in "<>":
        turned = exif(order, orientation=6)
        found = read_spec(stored(tmp_path, Metadata(turned)))
        assert found.orientation == 1
        assert found.metadata.exif == exif(order, orientation=1)


def test_photoshop_resources_hold_iptc():
    """Records come out of the resource they were put into, whatever lies before it; nonsense gives none."""
    other = b"8BIM\x03\xed\x05named" + struct.pack(">I", 3) + b"abc\0"
    assert photoshop_iptc(other + photoshop_resources(IPTC)) == IPTC
    assert photoshop_iptc(other) is None
    assert photoshop_iptc(photoshop_resources(IPTC)[:-9]) is None
    assert photoshop_iptc(b"8BIM\x04\x04" + b"\xff" * 40) is None


def test_beside_outlives_nonsense():
    """Segments that begin right and go on wrong carry nothing, and raise nothing."""
    starts = (b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0", b"ICC_PROFILE\0",
              b"Photoshop 3.0\0", b"JFIF\0", b"Adobe")  # fmt: skip
    rng = np.random.default_rng(0)
    for _ in range(200):
        segments = [
            (int(marker), start + rng.bytes(int(rng.integers(0, 60))))
            for start in starts
            for marker in (0xE0, 0xE1, 0xE2, 0xED, 0xEE)
        ]
        found = beside(segments)
        assert found.icc is None or isinstance(found.icc, bytes)
