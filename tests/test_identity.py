"""A picture that goes through a file unchanged: every format, model and depth, read back by ours and by others."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import zlib
from dataclasses import replace
from datetime import UTC, datetime

import imagecodecs
import numpy as np
import pytest
import tifffile
from blobs import CMYK, GREY, IPTC, SRGB, XMP, exif
from PIL import Image as Pillow

from refine.ifd import parsed
from refine.imagefile import check_fits, encode_image, losses, read_image
from refine.spec import Image, ImageSpec, Metadata, Resolution

MODELS = {
    "grey": (1, "additive", GREY),
    "grey-alpha": (2, "additive", GREY),
    "rgb": (3, "additive", SRGB),
    "rgb-alpha": (4, "additive", SRGB),
    "cmyk": (4, "cmyk", CMYK),
    "lab": (3, "lab", None),
}
LOSSLESS = [
    *[("png", model, depth) for model in list(MODELS)[:4] for depth in ("uint8", "uint16")],
    *[("tiff", model, depth) for model in list(MODELS)[:5] for depth in ("uint8", "uint16")],
    ("tiff", "lab", "uint16"),
    *[("webp", model, "uint8") for model in ("rgb", "rgb-alpha")],
    *[("jpegxl", model, depth) for model in list(MODELS)[:4] for depth in ("uint8", "uint16")],
]
LOSSY = [("jpeg", "grey"), ("jpeg", "rgb"), ("webp", "rgb"), ("webp", "rgb-alpha"), ("avif", "grey"), ("avif", "rgb"),
         ("avif", "rgb-alpha"), ("jpegxl", "grey"), ("jpegxl", "rgb")]  # fmt: skip
EXIFTOOL = shutil.which("exiftool")
VIPS = shutil.which("vips")


def picture(model, depth="uint8"):
    """Noise over a ramp, carrying everything there is."""
    channels, space, icc = MODELS[model]
    top = np.iinfo(depth).max
    pixels = np.random.default_rng(3).integers(0, top // 3, (37, 45, channels))
    pixels = (pixels + np.linspace(0, top * 0.66, 45)[:, None]).astype(depth)
    carried = Metadata(exif(), XMP, IPTC)
    spec = ImageSpec(37, 45, channels, depth, "", icc, Resolution(300, 300), space=space, metadata=carried)
    return Image(pixels, spec)


def written(folder, image, kind, **options):
    """The path of the picture, written; the profile left out where the format has no place for it."""
    if kind == "jpegxl":
        image = replace(image, spec=replace(image.spec, icc=SRGB if image.spec.model == "rgb" else None))
    check_fits(image.spec, kind)
    path = folder / f"image.{kind}"
    path.write_bytes(encode_image(image, kind, **options))
    return path


def raw(path, kind):
    """The pixels (y, x, c) by a reader that shares no code with ours but the codec."""
    if kind == "tiff":
        return np.atleast_3d(tifffile.imread(path))
    if kind == "png":
        return png_pixels(path.read_bytes())
    if kind == "jpegxl":
        return np.atleast_3d(imagecodecs.jpegxl_decode(path.read_bytes()))
    with Pillow.open(path) as theirs:
        return np.atleast_3d(np.asarray(theirs))


def png_pixels(data):
    """A PNG of 8 or 16 bits without palette and interlace, decoded by the letter of its standard."""
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    at, packed = 8, b""
    while at < len(data):
        nbytes = int.from_bytes(data[at : at + 4], "big")
        packed += data[at + 8 : at + 8 + nbytes] if data[at + 4 : at + 8] == b"IDAT" else b""
        at += 12 + nbytes
    step = {0: 1, 2: 3, 4: 2, 6: 4}[colour] * bits // 8
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + width * step).astype(int)
    before, lines = [0] * width * step, []
    for kind, *row in rows.tolist():
        for i in range(len(row)):
            left, up = (row[i - step] if i >= step else 0), before[i]
            corner = before[i - step] if i >= step else 0
            nearest = min((abs(left + up - corner - p), n) for n, p in enumerate((left, up, corner)))[1]
            row[i] = (row[i] + (0, left, up, (left + up) // 2, (left, up, corner)[nearest])[kind]) % 256
        lines.append(row)
        before = row
    return np.array(lines, np.uint8).view(">u2" if bits == 16 else "u1").reshape(height, width, -1)


@pytest.mark.parametrize(("kind", "model", "depth"), LOSSLESS)
def test_identity_lossless(tmp_path, kind, model, depth):
    """Pixels, profile, resolution and blocks are those that were written, by ours and by a second reader."""
    image = picture(model, depth)
    path = written(tmp_path, image, kind, lossless=True)
    if model != "lab":
        np.testing.assert_array_equal(raw(path, kind), image.pixels)
    if kind == "jpegxl":
        return  # it is not read
    found = read_image(path)
    if model == "lab":  # 65536 steps become 65281 in the encoding that others read: within one step, and stable
        assert np.abs(found.pixels.astype(int) - image.pixels).max() <= 1
        path.write_bytes(encode_image(found, kind))
        np.testing.assert_array_equal(read_image(path).pixels, found.pixels)
    else:
        np.testing.assert_array_equal(found.pixels, image.pixels)
    spec, carried = found.spec, image.spec.metadata
    assert (spec.icc, spec.resolution, spec.model) == (image.spec.icc, image.spec.resolution, image.spec.model)
    assert spec.metadata.xmp == carried.xmp
    assert parsed(spec.metadata.exif) == parsed(carried.exif)
    assert spec.metadata.exif == carried.exif or kind == "tiff"
    assert spec.metadata.iptc == (carried.iptc if kind == "tiff" else None)
    assert losses(image.spec, kind) == (() if kind == "tiff" else (losses(image.spec, kind)[0],))


@pytest.mark.parametrize(("kind", "model"), LOSSY)
def test_identity_lossy_is_one_encoding(tmp_path, kind, model):
    """A lossy file is near its source, and writing it twice gives the same bytes: no time is in it."""
    image = picture(model)
    smooth = np.linspace(10, 240, 45)[None, :, None] + np.linspace(-9, 9, 37)[:, None, None]
    image = replace(image, pixels=np.broadcast_to(smooth.astype(np.uint8), image.pixels.shape))
    path = written(tmp_path, image, kind, quality=95)
    data = path.read_bytes()
    assert written(tmp_path, image, kind, quality=95).read_bytes() == data
    assert str(datetime.now(UTC).year).encode() not in data.replace(exif(), b"")
    found = raw(path, kind)
    assert found.shape[2] >= image.spec.channels
    assert np.abs(found[..., : image.spec.channels].astype(int) - image.pixels).max() <= 6
    if kind in ("jpeg", "webp"):
        np.testing.assert_array_equal(read_image(path).pixels, found)


@pytest.mark.slow
@pytest.mark.skipif(EXIFTOOL is None, reason="exiftool is not installed")
@pytest.mark.parametrize(("kind", "model", "depth"), [*LOSSLESS, *[(k, m, "uint8") for k, m in LOSSY]])
def test_identity_exiftool_finds_every_block(tmp_path, kind, model, depth):
    """exiftool finds all that was carried, in its place, and has nothing to warn of."""
    path = written(tmp_path, picture(model, depth), kind)
    command = [EXIFTOOL, "-j", "-G1", "-a", "-n", "-validate", "-warning", "-error", "-all", str(path)]
    tags = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)[0]
    short = {name.split(":")[-1]: value for name, value in tags.items()}
    assert short["Make"] == "Maker"
    assert short["ModifyDate"] == "2020:02:03 04:05:06"
    assert (short["ExposureTime"], short["FocalLength"], short["InteropIndex"]) == (0.004, 50, "R98")
    assert (short["GPSLatitudeRef"], short.get("Orientation", 1)) == ("N", 1)
    assert short["GPSLatitude"] == pytest.approx(1 + 2 / 60 + 3 / 3600)
    assert (short["XResolution"], short["YResolution"]) == (300, 300)
    assert tags["XMP-dc:Format"] == "image/test"
    assert "a maker's note" in str(short["MakerNoteUnknownText"])
    if kind in ("jpeg", "tiff"):
        assert (short["ObjectName"], short["Caption-Abstract"]) == ("title", "caption")
    if MODELS[model][2] is not None and kind != "jpegxl":
        assert short["ProfileDescription"] == "sRGB built-in"
    assert not [name for name in tags if name.endswith(":Error")]
    warnings = [value for name, value in tags.items() if name.endswith(":Warning")]
    # XMP's part 3 has IPTC in a TIFF as bytes; exiftool's own standard is 32-bit numbers.
    assert [text for text in warnings if "IPTC-NAA" not in text and "Missing required" not in text] == []


@pytest.mark.slow
@pytest.mark.skipif(VIPS is None, reason="vips is not installed")
@pytest.mark.parametrize(("kind", "model", "depth"), [row for row in LOSSLESS if row[0] in ("png", "tiff", "webp")])
def test_identity_vips_reads_the_same_pixels(tmp_path, kind, model, depth):
    """libvips, which shares no code with any reader of ours, finds the pixels that were written."""
    image = picture(model, depth)
    path, target = written(tmp_path, image, kind, lossless=True), tmp_path / "copy.raw"
    subprocess.run([VIPS, "rawsave", str(path), str(target)], check=True, capture_output=True)
    if model == "lab":
        lab = np.fromfile(target, np.int16).reshape(image.spec.shape)  # LABS: L* of 0..32767, a* and b* in 256ths
        ours = (image.pixels - np.array([0, 32896, 32896])) / [655.35, 257, 257]
        np.testing.assert_allclose(lab / [327.67, 256, 256], ours, atol=0.01)
    else:
        np.testing.assert_array_equal(np.fromfile(target, depth).reshape(image.spec.shape), image.pixels)
