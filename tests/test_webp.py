"""WebP: sizes read before libwebp sees a file, what is carried, and what is refused."""

from __future__ import annotations

import io
import struct

import imagecodecs
import numpy as np
import pytest
from blobs import SRGB, XMP, exif
from PIL import Image as Pillow

from refine.errors import ImageReadError, LimitError
from refine.imagefile import encode_image, losses, read_image, read_spec
from refine.limits import Limits
from refine.spec import Image, ImageSpec, Metadata, Resolution

Y, X = np.mgrid[:30, :40]
PHOTO = np.stack([X * 6 % 256, Y * 8 % 256, X + Y, 255 - X], axis=2).astype(np.uint8)


@pytest.fixture
def stored(tmp_path):
    """A function that writes bytes and gives their path."""

    def store(data):
        path = tmp_path / "image.webp"
        path.write_bytes(data)
        return path

    return store


def chunk(kind, payload):
    """One chunk."""
    return kind + struct.pack("<I", len(payload)) + payload + bytes(len(payload) % 2)


def riff(*chunks):
    """A file of chunks."""
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def claims(height, width):
    """The head of a VP8L stream of that size."""
    return b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("opaque", [False, True])
def test_webp_lossless_keeps_every_pixel(stored, channels, opaque):
    """Lossless gives back what it was given, colour under alpha 0 and alpha that is all opaque too; grey as RGB."""
    pixels = np.random.default_rng(1).integers(0, 256, (9, 11, channels), dtype=np.uint8)
    if channels in (2, 4):
        pixels[..., -1] = 255 if opaque else pixels[..., -1] // 128 * 255
    path = stored(encode_image(Image(pixels, ImageSpec(9, 11, channels, "uint8")), "webp", lossless=True))
    expected = pixels if channels > 2 else pixels[..., [0, 0, 0, 1][: channels + 2]]
    found = read_image(path)
    np.testing.assert_array_equal(found.pixels, expected)
    with Pillow.open(path) as theirs:
        shown = np.asarray(theirs)
        visible = expected[..., -1] > 0 if channels in (2, 4) else np.ones((9, 11), bool)
        np.testing.assert_array_equal(shown[visible][:, : expected.shape[2]], expected[visible][:, : shown.shape[2]])


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("alpha", [False, True])
def test_webp_carries_every_block(stored, lossless, alpha):
    """Profile, EXIF and XMP come back byte for byte, and Pillow finds them."""
    carried = Metadata(exif(), XMP)
    pixels = np.ascontiguousarray(PHOTO[..., : 3 + alpha])
    spec = ImageSpec(30, 40, 3 + alpha, "uint8", icc=SRGB, resolution=Resolution(300, 300), metadata=carried)
    path = stored(encode_image(Image(pixels, spec), "webp", lossless=lossless))
    found = read_image(path)
    assert (found.spec.metadata, found.spec.icc, found.spec.resolution) == (carried, SRGB, spec.resolution)
    with Pillow.open(path) as theirs:
        assert (theirs.info["icc_profile"], theirs.info["xmp"], theirs.info["exif"]) == (SRGB, XMP, carried.exif)
        np.testing.assert_array_equal(np.asarray(theirs), found.pixels)


def test_webp_equals_one_encoding(stored):
    """A lossy file has the pixels that the codec gives for one encoding at that quality."""
    pixels = np.ascontiguousarray(PHOTO[..., :3])
    path = stored(encode_image(Image(pixels, ImageSpec(30, 40, 3, "uint8")), "webp", quality=80))
    again = imagecodecs.webp_decode(imagecodecs.webp_encode(pixels, 80, lossless=False, method=4))
    np.testing.assert_array_equal(read_image(path).pixels, again)


def test_webp_resolution_has_an_exif_of_its_own(stored):
    """Where there is no EXIF, a resolution is written as one; IPTC is named as lost."""
    spec = ImageSpec(30, 40, 3, "uint8", resolution=Resolution(118.11, 59, "cm"), metadata=Metadata(iptc=b"x"))
    found = read_spec(stored(encode_image(Image(np.ascontiguousarray(PHOTO[..., :3]), spec), "webp")))
    assert found.resolution == spec.resolution
    assert losses(spec, "webp") == ("IPTC left out: WebP has no place for it",)


def test_webp_of_34_bytes_is_refused_before_it_is_decoded(stored, monkeypatch):
    """A header that claims 16383 x 16383 px meets the limit; the codec is not called."""
    monkeypatch.setattr("imagecodecs.webp_decode", None)
    bomb = riff(chunk(b"VP8L", claims(16_383, 16_383) + bytes(9)))
    assert len(bomb) == 34
    with pytest.raises(LimitError, match="max_pixels"):
        read_image(stored(bomb))
    extended = chunk(b"VP8X", bytes(4) + b"\xfe\xff\xff" * 2)
    with pytest.raises(ImageReadError, match="canvas is 16777215 x 16777215"):
        read_image(stored(riff(extended, chunk(b"VP8L", claims(5, 5)))))


def test_webp_animation_gives_its_first_frame(stored):
    """The first frame on its canvas, and the notes say so."""
    frames = [Pillow.fromarray(PHOTO), Pillow.fromarray(PHOTO[::-1].copy())]
    file = io.BytesIO()
    frames[0].save(file, "webp", save_all=True, append_images=frames[1:], lossless=True, duration=100, exact=True)
    found = read_image(stored(file.getvalue()))
    assert found.spec.notes == ("frame 1 of 2",)
    np.testing.assert_array_equal(found.pixels, PHOTO)
    with pytest.raises(ImageReadError, match="no page 1"):
        read_image(stored(file.getvalue()), page=1)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (riff(chunk(b"VP8L", claims(5, 5)))[:-1], "ends before"),
        (riff(), "holds no picture"),
        (riff(chunk(b"VP8X", bytes(10))), "holds no picture"),
        (riff(chunk(b"VP8X", b"\2" + bytes(9))), "without frames"),
        (riff(chunk(b"VP8X", bytes(9))), "cut off"),
        (riff(chunk(b"VP8L", b"\x2e" + bytes(9))), "no size"),
        (riff(chunk(b"VP8 ", bytes(3) + b"\x9d\x01\x2a" + bytes(4))), "no size"),
        (riff(b"VP8L" + struct.pack("<I", 99) + bytes(9)), "longer than the file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_webp_damaged_is_refused(stored, data, said):
    """Chunks that cannot be are refused from the header, in one line."""
    with pytest.raises(ImageReadError, match=said):
        read_spec(stored(data))


def test_webp_cut_short_is_refused(stored):
    """A file that ends early is refused wherever it ends, also where its header is made to agree."""
    for lossless in (False, True):
        data = encode_image(Image(PHOTO, ImageSpec(30, 40, 4, "uint8")), "webp", lossless=lossless)
        for nbytes in range(12, len(data) - 1, 37):
            with pytest.raises(ImageReadError):
                read_image(stored(data[:nbytes]))
            with pytest.raises(ImageReadError):
                read_image(stored(b"RIFF" + struct.pack("<I", nbytes - 8) + data[8:nbytes]))


def test_webp_metadata_is_bounded(stored):
    """Chunks beyond the limit are refused."""
    data = riff(chunk(b"VP8L", claims(5, 5)), *[chunk(b"JUNK", bytes(60_000))] * 5)
    assert read_spec(stored(data)).width == 5
    with pytest.raises(LimitError, match="max_metadata_nbytes"):
        read_spec(stored(data), Limits(max_metadata_nbytes=299_999))
