"""Files in and out: round trips, what is refused, how a file is published."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL import ImageCms, ImageOps

from refine.errors import ImageReadError, ImageWriteError, LimitError
from refine.imagefile import (
    check_fits,
    encode_image,
    read_image,
    read_spec,
    suffix_format,
    write_tiff,
)
from refine.limits import Limits
from refine.metadata import upright
from refine.spec import Image, ImageSpec, Resolution
from refine.window import grid

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def picture(height, width, channels, dtype="uint8", seed=0):
    """Noise over a gradient, with a spec that fits."""
    top = np.iinfo(dtype).max
    ramp = np.linspace(0, top / 2, height * width * channels).reshape(height, width, channels)
    noise = np.random.default_rng(seed).integers(0, top // 2, (height, width, channels))
    return Image((ramp + noise).astype(dtype), ImageSpec(height, width, channels, dtype))


def stored(folder, image, kind):
    """The path of the image, written."""
    path = folder / f"image.{kind}"
    path.write_bytes(encode_image(image, kind))
    return path


@pytest.mark.parametrize("kind", ["png", "tiff"])
@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    channels=st.integers(1, 4),
    dtype=st.sampled_from(["uint8", "uint16"]),
)
def test_encode_image_keeps_every_pixel(tmp_path_factory, kind, height, width, channels, dtype):
    """PNG and TIFF give back the pixels they were given, in the depth they were given."""
    image = picture(height, width, channels, dtype)
    found = read_image(stored(tmp_path_factory.mktemp("r"), image, kind))
    assert found.spec == replace(image.spec, format=kind)
    np.testing.assert_array_equal(found.pixels, image.pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_encode_image_jpeg_is_read_alike_by_another_decoder(tmp_path, channels):
    """A JPEG of ours has, in Pillow, the pixels it has with us, is near its source, and has no chroma subsampling."""
    y, x = np.mgrid[:40, :60]
    pixels = np.stack([y * 4, x * 4, y + x], axis=2).astype(np.uint8)[..., :channels]
    path = stored(tmp_path, Image(pixels, ImageSpec(40, 60, channels, "uint8")), "jpeg")
    ours = read_image(path).pixels
    with Pillow.open(path) as theirs:
        assert theirs.mode == ("L" if channels == 1 else "RGB")
        assert all(component[1:3] == (1, 1) for component in theirs.layer)
        assert np.abs(np.asarray(theirs).reshape(ours.shape).astype(int) - ours).max() <= 2
    assert np.abs(ours.astype(int) - pixels).max() <= 12


@pytest.mark.parametrize("kind", ["png", "tiff"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_encode_image_is_read_alike_by_another_decoder(tmp_path, kind, channels):
    """8-bit PNG and TIFF of ours hold the same pixels for Pillow."""
    image = picture(11, 7, channels)
    with Pillow.open(stored(tmp_path, image, kind)) as theirs:
        pixels = np.asarray(theirs)
        assert "A" in theirs.getbands() or channels in (1, 3)
    np.testing.assert_array_equal(pixels.reshape(image.pixels.shape), image.pixels)


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff"])
@pytest.mark.parametrize("unit", ["inch", "cm", "none"])
def test_encode_image_keeps_profile_and_resolution(tmp_path, kind, unit):
    """The ICC profile travels byte for byte; the resolution means the same afterwards; the picture is upright."""
    spec = ImageSpec(4, 6, 3, "uint8", icc=SRGB, resolution=Resolution(300, 200, unit), orientation=6)
    path = stored(tmp_path, Image(picture(4, 6, 3).pixels, spec), kind)
    found = read_spec(path)
    assert (found.icc, found.orientation) == (SRGB, 1)
    assert found.resolution.x / found.resolution.y == pytest.approx(1.5)
    if unit != "none":
        per_inch = found.resolution.x * (1 if found.resolution.unit == "inch" else 2.54)
        assert per_inch == pytest.approx(300 if unit == "inch" else 300 * 2.54, rel=1e-5)
    with Pillow.open(path) as theirs:
        assert theirs.info["icc_profile"] == SRGB
        assert theirs.getexif().get(274, 1) == 1


def test_encode_image_jpeg_splits_a_large_profile(tmp_path):
    """A profile of more than 64 kB is spread over segments, which Pillow puts together again."""
    profile = SRGB + os.urandom(150_000)
    spec = ImageSpec(4, 6, 3, "uint8", icc=profile)
    path = stored(tmp_path, Image(picture(4, 6, 3).pixels, spec), "jpeg")
    assert read_spec(path).icc == profile
    with Pillow.open(path) as theirs:
        assert theirs.info["icc_profile"] == profile


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff"])
def test_encode_image_gives_the_same_bytes_again(kind):
    """The same image gives the same bytes: no time, no name of ours in them."""
    image = picture(9, 9, 3)
    data = encode_image(image, kind)
    assert data == encode_image(image, kind)
    assert b"20" + b"26:" not in data
    assert b"tifffile" not in data


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff"])
def test_read_image_turns_upright(tmp_path, kind, orientation):
    """All eight EXIF orientations come out as Pillow's exif_transpose has them, resolution turned along."""
    path, exif = tmp_path / f"turned.{kind}", Pillow.Exif()
    exif[274] = orientation
    y, x = np.mgrid[:16, :24]
    options = {"quality": 95, "subsampling": 0} if kind == "jpeg" else {}
    Pillow.fromarray((y * 9 + x * 3).astype(np.uint8)).save(path, kind, exif=exif, dpi=(300, 100), **options)
    found = read_image(path)
    with Pillow.open(io.BytesIO(path.read_bytes())) as theirs:
        theirs.load()  # turns a TIFF upright of itself, unless it maps the file
        expected = np.asarray(ImageOps.exif_transpose(theirs))
    assert np.abs(found.pixels[..., 0].astype(int) - expected).max() <= (2 if kind == "jpeg" else 0)
    assert found.spec.orientation == orientation
    assert (found.spec.height, found.spec.width) == expected.shape
    x_per_inch = round(found.spec.resolution.x)
    assert x_per_inch == (100 if orientation >= 5 else 300)


def test_upright_turns_back():
    """6 and 8 undo each other, and all others undo themselves."""
    pixels = picture(3, 5, 3).pixels
    for orientation, back in enumerate((1, 2, 3, 4, 5, 8, 7, 6), 1):
        np.testing.assert_array_equal(upright(upright(pixels, orientation), back), pixels)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"hello, world\n", "is a text file"),
        (bytes(900), "all zeros"),
        (b"GIF89a" + bytes(20), "damaged GIF"),
        (b"BM" + bytes(12) + b"\x28\0\0\0" + bytes(40), "this BMP"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "damaged WebP"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "this JPEG 2000"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "is JPEG XL; convert it"),
        (b"\0\0\0\x20ftypavif", "is AVIF; convert it"),
        (b"\0\0\0\x18ftypheic", "is HEIC; export it as JPEG"),
        (b"%PDF-1.7\n", "is PDF; take its images out"),
        (b'<?xml version="1.0"?>\n<svg xmlns="...">', "is SVG; it is no picture of pixels"),
        (b"8BPS\0\x01", "Photoshop document; save it flattened"),
        (b"%!PS-Adobe-3.0", "PostScript; render it"),
        (b"II*\0\x10\0\0\0CR\x02\0", "raw file; develop it"),
        (b"\x89PNG\n\x1a\n", "transfer as text"),
        (b"\xff\xd8\xff", "ends inside its header"),
        (b"\x89PNG\r\n\x1a\n", "the file ends before"),
        (b"II*\0", "cannot be decoded"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_read_spec_says_what_a_file_is(tmp_path, data, said):
    """What cannot be read is refused in one line that begins with its name and says what it is and what to do."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageReadError) as caught:
        read_spec(path)
    assert str(caught.value).startswith("photo.jpg: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_read_image_believes_content_not_the_name(tmp_path):
    """A PNG called .tif is read as the PNG it is."""
    path = tmp_path / "image.tif"
    path.write_bytes(encode_image(picture(3, 3, 3), "png"))
    assert read_image(path).spec.format == "png"


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda _: None])
def test_read_spec_refuses_what_is_no_file(tmp_path, make):
    """A folder, a pipe (which would hang) and nothing at all are errors of one line."""
    path = tmp_path / "thing.png"
    make(path)
    with pytest.raises(ImageReadError, match=r"^thing\.png: "):
        read_spec(path)


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff"])
def test_read_image_refuses_another_page(tmp_path, kind):
    """A page that a file does not have is an error that says how many there are."""
    path = stored(tmp_path, picture(3, 3, 3), kind)
    with pytest.raises(ImageReadError, match="no page 1"):
        read_image(path, page=1)


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff"])
def test_read_spec_refuses_over_the_limits(tmp_path, kind):
    """Limits are checked from the header, before a pixel; at the limit a file is read."""
    path = stored(tmp_path, picture(10, 20, 3), kind)
    size = path.stat().st_size
    for over, field in (
        (Limits(max_pixels=199), "max_pixels"),
        (Limits(max_side=19), "max_side"),
        (Limits(max_file_nbytes=size - 1), "max_file_nbytes"),
        (Limits(max_metadata_nbytes=1), "max_metadata_nbytes"),
    ):
        with pytest.raises(LimitError, match=field):
            read_spec(path, over)
    assert read_spec(path, Limits(max_pixels=200, max_side=20, max_file_nbytes=size)).width == 20


@pytest.mark.parametrize(
    ("spec", "kind", "said"),
    [
        (ImageSpec(9, 9, 4, "uint8"), "jpeg", "alpha"),
        (ImageSpec(9, 9, 3, "uint16"), "jpeg", "8 bits"),
        (ImageSpec(9, 65_501, 3, "uint8"), "jpeg", "65,500"),
        (ImageSpec(1_000_001, 9, 3, "uint8"), "png", "use TIFF"),
        (ImageSpec(9, 9, 3, "uint8"), "gif", "jpeg, png, tiff"),
        (ImageSpec(9, 9, 3, "uint16"), "webp", "8 bits"),
        (ImageSpec(9, 9, 3, "uint16"), "avif", "at most 12 bits"),
        (ImageSpec(9, 16_384, 3, "uint8"), "webp", "16,383"),
        (ImageSpec(9, 9, 4, "uint8", space="cmyk"), "jpeg", "CMYK; use TIFF"),
        (ImageSpec(9, 9, 3, "uint16", space="lab"), "png", "Lab; use TIFF"),
        (ImageSpec(9, 9, 1, "uint8", icc=b"grey"), "webp", "grey ICC"),
        (ImageSpec(9, 9, 2, "uint8", icc=b"grey"), "avif", "grey ICC"),
        (ImageSpec(9, 9, 3, "uint8", icc=b"any"), "jpegxl", "another ICC"),
    ],
)
def test_check_fits_refuses_and_says_the_way_out(spec, kind, said):
    """What a format cannot hold is refused before anything is computed."""
    with pytest.raises(ImageWriteError, match=said):
        check_fits(spec, kind)


def test_suffix_format_knows_its_endings():
    """Endings are read without case; one that cannot be written is None."""
    names = ["a.JPG", "a.jpeg", "a.png", "a.tif", "a.TIFF", "a.webp", "a.avif", "a.jxl", "a.gif", "a"]
    assert [suffix_format(Path(name)) for name in names] == [
        "jpeg", "jpeg", "png", "tiff", "tiff", "webp", "avif", "jpegxl", None, None
    ]  # fmt: skip


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(16, 16), (5, 70), (100, 33)])
def test_write_tiff_streams_blocks(tmp_path, shape, channels):
    """Blocks written tile by tile are the picture, for us and for tifffile."""
    image = picture(*shape, channels, "uint16")
    spec = replace(image.spec, icc=SRGB if channels > 2 else None, resolution=Resolution(300, 300))
    path = tmp_path / "large.tif"
    write_tiff(path, spec, (image.pixels[w.slices] for w in grid(*shape, 32)), 32)
    found = read_image(path)
    np.testing.assert_array_equal(found.pixels, image.pixels)
    assert found.spec == replace(spec, format="tiff")
    np.testing.assert_array_equal(tifffile.imread(path).reshape(image.pixels.shape), image.pixels)


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: [*b, b[0]], lambda b: [b[0][:-1], *b[1:]]])
def test_write_tiff_refuses_blocks_off_the_grid(tmp_path, change):
    """One block too few, too many or of another shape is an error, and no file is left."""
    image = picture(40, 40, 3)
    blocks = change([image.pixels[w.slices] for w in grid(40, 40, 16)])
    with pytest.raises(ImageWriteError, match=r"^large\.tif: "):
        write_tiff(tmp_path / "large.tif", image.spec, blocks, 16)
    assert not list(tmp_path.iterdir())


def test_read_image_condenses_any_exception(tmp_path, monkeypatch):
    """Whatever a codec raises becomes one line; running out of memory stays what it is."""
    path = stored(tmp_path, picture(3, 3, 3), "png")

    def fail(error):
        def decode(_data):
            raise error

        monkeypatch.setattr("imagecodecs.png_decode", decode)

    fail(ZeroDivisionError("first\nsecond"))
    with pytest.raises(ImageReadError, match=r"^image\.png: cannot be decoded: first$"):
        read_image(path)
    fail(MemoryError())
    with pytest.raises(MemoryError):
        read_image(path)


def test_read_image_compares_pixels_with_the_header(tmp_path, monkeypatch):
    """Pixels of another shape than the header's are refused."""
    path = stored(tmp_path, picture(3, 3, 3), "png")
    monkeypatch.setattr("imagecodecs.png_decode", lambda _data: np.zeros((2, 3, 3), np.uint8))
    with pytest.raises(ImageReadError, match="its header says"):
        read_image(path)


def test_encode_image_takes_a_view():
    """A picture that is not contiguous in memory is written as what it looks like."""
    pixels = picture(6, 8, 3).pixels[::-1, ::2]
    data = encode_image(Image(pixels, ImageSpec(6, 4, 3, "uint8")), "png")
    with Pillow.open(io.BytesIO(data)) as theirs:
        np.testing.assert_array_equal(np.asarray(theirs), pixels)
