"""TIFF: layouts and depths, alpha, and strips or tiles that are missing or short."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from refine.errors import ImageReadError
from refine.imagefile import read_image, read_spec
from refine.spec import Resolution

RANDOM = np.random.default_rng(3)
COLOUR = RANDOM.integers(0, 256, (37, 53, 3), dtype=np.uint8)


@pytest.fixture
def stored(tmp_path):
    """A function that writes a page with tifffile and gives its path."""

    def store(pixels, **options) -> Path:
        path = tmp_path / "image.tif"
        file_options = {key: options.pop(key) for key in ("bigtiff", "byteorder") if key in options}
        if "photometric" not in options:
            options["photometric"] = "rgb" if pixels.ndim == 3 else "minisblack"
        tifffile.imwrite(path, pixels, metadata=None, **file_options, **options)
        return path

    return store


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rowsperstrip": 5},
        {"tile": (16, 32)},
        {"bigtiff": True},
        {"byteorder": ">"},
        {"compression": "lzw", "predictor": True},
        {"compression": "zlib", "rowsperstrip": 7},
        {"compression": "zstd", "tile": (16, 16), "predictor": True},
        {"compression": "packbits"},
        {"compression": "lzma"},
        {"compression": "jpegxl", "compressionargs": {"lossless": True}},
        {"compression": "jpeg2000"},
        {"compression": "png", "tile": (16, 16)},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_read_image_tiff_layouts(stored, options, dtype):
    """Strips, tiles, both byte orders, BigTIFF and the lossless compressions give the pixels that were written."""
    pixels = COLOUR.astype(dtype) * (1 if dtype == np.uint8 else 251)
    np.testing.assert_array_equal(read_image(stored(pixels, **options)).pixels, pixels)


@pytest.mark.parametrize("options", [{}, {"tile": (16, 32)}, {"rowsperstrip": 5, "compression": "zlib"}], ids=str)
def test_read_image_tiff_planes(stored, options):
    """A plane for each colour is the same picture."""
    path = stored(np.moveaxis(COLOUR, 2, 0).copy(), planarconfig="separate", photometric="rgb", **options)
    np.testing.assert_array_equal(read_image(path).pixels, COLOUR)


@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}, {"rowsperstrip": 16}], ids=str)
def test_read_image_tiff_jpeg(stored, options):
    """YCbCr in JPEG comes out as RGB, near what went in."""
    y, x = np.mgrid[:48, :64]
    pixels = np.stack([x * 2, y * 3, x + y], axis=2).astype(np.uint8)
    found = read_image(stored(pixels, compression="jpeg", compressionargs={"level": 95}, **options))
    assert np.abs(found.pixels.astype(int) - pixels).max() <= 12


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 10, 12, 14])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_read_image_tiff_scales_depths(stored, bits, photometric):
    """1 to 7 bits become 8, 9 to 15 become 16, rounded to the nearest; white is white, whichever way it is stored."""
    values = np.arange(max(64, 1 << bits)) % (1 << bits)
    pixels = values.reshape(-1, 16).astype(np.uint8 if bits <= 8 else np.uint16)
    path = stored(pixels, bitspersample=bits, photometric=photometric)
    top = 255 if bits <= 8 else 65535
    expected = np.rint(pixels / ((1 << bits) - 1) * top)
    found = read_image(path)
    assert found.spec.dtype == ("uint8" if bits <= 8 else "uint16")
    np.testing.assert_array_equal(found.pixels[..., 0], expected if photometric == "minisblack" else top - expected)


def test_read_image_tiff_undoes_the_predictor_modulo_its_bits(stored):
    """A falling row of 12-bit samples, whose differences wrap, is read as it was."""
    pixels = np.array([[4000, 100, 4095, 0]] * 2, np.uint16)
    differences = np.diff(pixels, axis=1, prepend=np.uint16(0)) & 4095
    path = stored(differences, bitspersample=12)
    _claim_predictor(path)
    np.testing.assert_array_equal(read_image(path).pixels[..., 0], np.rint(pixels / 4095 * 65535))


def _claim_predictor(path):
    """Turn the tag with the writer's name into one that says: these are differences."""
    with tifffile.TiffFile(path) as file:
        at = file.pages[0].tags["Software"].offset
    data = path.read_bytes()
    path.write_bytes(data[:at] + (317).to_bytes(2, "little") + b"\3\0\1\0\0\0\2\0\0\0" + data[at + 12 :])


@pytest.mark.parametrize("bits", [4, 8])
def test_read_image_tiff_palette(tmp_path, bits):
    """A palette comes out as 8-bit RGB, as Pillow has it."""
    path = tmp_path / "image.tif"
    indices = Pillow.fromarray(RANDOM.integers(0, 1 << bits, (9, 10), dtype=np.uint8)).convert("P")
    indices.putpalette(RANDOM.bytes(768))
    indices.save(path)
    with Pillow.open(path) as theirs:
        np.testing.assert_array_equal(read_image(path).pixels, np.asarray(theirs.convert("RGB")))


def test_read_image_tiff_bilevel_fax(tmp_path):
    """Group 4 fax, white stored as zero, is black on white."""
    path = tmp_path / "image.tif"
    page = np.full((40, 64), 255, np.uint8)
    page[10:20, 5:50] = 0
    Pillow.fromarray(page).convert("1").save(path, compression="group4")
    np.testing.assert_array_equal(read_image(path).pixels[..., 0], page)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_read_image_tiff_divides_alpha_out(stored, dtype):
    """Colour multiplied by alpha is divided, to the nearest; nothing stays under alpha 0; straight alpha is kept."""
    top = np.iinfo(dtype).max
    pixels = RANDOM.integers(0, top + 1, (20, 30, 4)).astype(dtype)
    pixels[..., :3] = np.minimum(pixels[..., :3], pixels[..., 3:])
    pixels[0, :10, 3] = 0
    straight = read_image(stored(pixels, extrasamples=["unassalpha"])).pixels
    np.testing.assert_array_equal(straight, pixels)
    found = read_image(stored(pixels, extrasamples=["assocalpha"])).pixels
    alpha = pixels[..., 3:].astype(float)
    expected = np.where(alpha == 0, 0, np.floor(pixels[..., :3] * float(top) / np.maximum(alpha, 1) + 0.5))
    np.testing.assert_array_equal(found[..., :3], np.minimum(expected, top))
    np.testing.assert_array_equal(found[..., 3], pixels[..., 3])


def test_read_image_tiff_leaves_other_samples_out(stored):
    """A fourth sample that is not said to be alpha is none; an alpha behind it is found."""
    pixels = RANDOM.integers(0, 256, (8, 9, 5), dtype=np.uint8)
    found = read_image(stored(pixels[..., :4], extrasamples=["unspecified"]))
    np.testing.assert_array_equal(found.pixels, pixels[..., :3])
    found = read_image(stored(pixels, extrasamples=["unspecified", "unassalpha"]))
    np.testing.assert_array_equal(found.pixels, pixels[..., [0, 1, 2, 4]])


@pytest.mark.parametrize(
    ("pixels", "options", "said"),
    [
        (COLOUR.astype(np.float32), {}, "floating-point"),
        (COLOUR[..., 0].astype(np.int16), {}, "signed"),
        (COLOUR[..., 0].astype(np.uint32), {}, "32 bits"),
        (np.dstack([COLOUR, COLOUR[..., :2]]), {"photometric": "separated", "extrasamples": [2]}, "CMYK or Lab with"),
        (
            np.dstack([COLOUR, COLOUR[..., :1]]),
            {"photometric": "separated", "extratags": [(332, 3, 1, 2, True)]},
            "inks",
        ),
        (np.dstack([COLOUR, COLOUR[..., :1]]), {"photometric": "cielab", "extrasamples": [2]}, "CMYK or Lab with"),
        (COLOUR, {"photometric": "ycbcr"}, "YCbCr without JPEG"),
        (COLOUR, {"photometric": "minisblack", "planarconfig": "contig"}, "3 samples"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_read_spec_tiff_refuses(stored, pixels, options, said):
    """What is no picture of up to 16 bits in a model we know is refused from its header, in one line."""
    with pytest.raises(ImageReadError, match=said) as caught:
        read_spec(stored(pixels, **options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits", "jpeg", "zstd"])
@pytest.mark.parametrize("layout", [{"rowsperstrip": 8}, {"tile": (16, 16)}], ids=str)
def test_read_image_tiff_refuses_a_file_cut_short(stored, compression, layout):
    """A TIFF whose last bytes of pixels are gone, or that says less of them than there must be, is refused."""
    path = stored(COLOUR, compression=compression, **layout)
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        last = max(page.dataoffsets)
        counts = page.tags["TileByteCounts" if "tile" in layout else "StripByteCounts"]
        place, each = counts.valueoffset, counts.valuebytecount // counts.count
        nbytes = page.databytecounts[-1]
    data = path.read_bytes()
    for harmed in (data[: last + 3], _overwritten(data, place + each * (counts.count - 1), nbytes // 2, each)):
        path.write_bytes(harmed)
        with pytest.raises(ImageReadError, match=r"^image\.tif: "):
            read_image(path)


def test_read_image_tiff_refuses_jpeg_tables_without_an_end(stored):
    """Tables that end in zeros, as at the end of a file that was never written out, are refused."""
    path = stored(COLOUR, compression="jpeg")
    with tifffile.TiffFile(path) as file:
        tag = file.pages[0].tags.get("JPEGTables")
    data = path.read_bytes()
    if tag is None:  # the writer puts whole streams into its strips: give it tables of their own
        tables = b"\xff\xd8" + bytes(20)
        path = stored(COLOUR, compression="jpeg", extratags=[(347, 7, len(tables), tables, True)])
    else:
        path.write_bytes(data[: tag.valueoffset + 9] + bytes(len(data) - tag.valueoffset - 9))
    with pytest.raises(ImageReadError, match=r"tables of its JPEG have no end"):
        read_image(path)


@pytest.mark.parametrize("what", ["Offsets", "ByteCounts"])
def test_read_image_tiff_refuses_missing_tiles(stored, what):
    """A tile that is not there (offset or length 0) is an error, not zeros."""
    path = stored(COLOUR, tile=(16, 16))
    with tifffile.TiffFile(path) as file:
        tag = file.pages[0].tags[f"Tile{what}"]
    each = tag.valuebytecount // tag.count
    path.write_bytes(_overwritten(path.read_bytes(), tag.valueoffset + 2 * each, 0, each))
    with pytest.raises(ImageReadError, match="3 of 12 is missing"):
        read_image(path)


def _overwritten(data, at, value, nbytes):
    return data[:at] + value.to_bytes(nbytes, "little") + data[at + nbytes :]


def test_read_image_tiff_refuses_a_jpeg_larger_than_its_tile(stored):
    """A tile that holds a JPEG of other dimensions is refused before it is decoded."""
    path = stored(COLOUR, compression="jpeg", tile=(16, 16))
    data = bytearray(path.read_bytes())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = b"\xff\x00\xff\x00"
    path.write_bytes(data)
    with pytest.raises(ImageReadError, match="16 x 16 px holds a JPEG of 65280 x 65280"):
        read_image(path)


def test_read_image_tiff_pages(tmp_path):
    """The first page is read unless another is asked for; the spec says which."""
    path = tmp_path / "pages.tif"
    with tifffile.TiffWriter(path) as writer:
        for page in (COLOUR, COLOUR[:5, :7, 0]):
            writer.write(page, photometric="rgb" if page.ndim == 3 else "minisblack", metadata=None)
    assert (read_spec(path).page, read_spec(path).shape) == (0, (37, 53, 3))
    second = read_image(path, page=1)
    assert (second.spec.page, second.spec.shape) == (1, (5, 7, 1))
    np.testing.assert_array_equal(second.pixels[..., 0], COLOUR[:5, :7, 0])
    with pytest.raises(ImageReadError, match="no page 2, only 2"):
        read_spec(path, page=2)


def test_read_spec_tiff_refuses_a_raw_file_with_a_preview(tmp_path):
    """A reduced first page with pages below it is a camera's preview, not the picture."""
    path = tmp_path / "raw.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(COLOUR, photometric="rgb", subfiletype=1, subifds=1, metadata=None)
        writer.write(np.tile(COLOUR, (2, 2, 1)), photometric="rgb", metadata=None)
    with pytest.raises(ImageReadError, match="only a preview"):
        read_spec(path)


@pytest.mark.parametrize(("unit", "name"), [(1, "none"), (2, "inch"), (3, "cm")])
def test_read_spec_tiff_resolution(stored, unit, name):
    """The resolution is read in its own unit."""
    assert read_spec(stored(COLOUR, resolution=(300, 200), resolutionunit=unit)).resolution == Resolution(
        300, 200, name
    )


def test_read_image_tiff_agrees_with_another_reader(tmp_path):
    """What Pillow writes, with its own compressions and orders, is read as Pillow reads it."""
    for mode, compression in (("RGB", "tiff_lzw"), ("L", "packbits"), ("RGBA", "tiff_adobe_deflate"), ("I;16", None)):
        path = tmp_path / "image.tif"
        if mode == "I;16":
            image = Pillow.fromarray(RANDOM.integers(0, 65536, (20, 30), dtype=np.uint16))
        else:
            image = Pillow.fromarray(np.dstack([COLOUR, COLOUR[..., 0]])).convert(mode)
        image.save(path, compression=compression)
        found = read_image(path)
        with Pillow.open(io.BytesIO(path.read_bytes())) as theirs:
            np.testing.assert_array_equal(found.pixels, np.asarray(theirs).reshape(found.spec.shape))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_read_image_tiff_cmyk_is_ink(stored, dtype, planes):
    """CMYK comes out as it is stored, 0 without ink; four channels, none of them alpha."""
    ink = RANDOM.integers(0, np.iinfo(dtype).max + 1, (8, 9, 4)).astype(dtype)
    data = ink if planes == "contig" else np.moveaxis(ink, 2, 0)
    found = read_image(stored(data, photometric="separated", planarconfig=planes))
    assert (found.spec.model, found.spec.has_alpha, found.spec.notes) == ("cmyk", False, ())
    np.testing.assert_array_equal(found.pixels, ink)


def test_read_image_tiff_cmyk_leaves_other_samples_out(stored):
    """A fifth ink that is no alpha is left out, and the notes say so."""
    ink = RANDOM.integers(0, 256, (8, 9, 5), dtype=np.uint8)
    found = read_image(stored(ink, photometric="separated", extrasamples=["unspecified"]))
    np.testing.assert_array_equal(found.pixels, ink[..., :4])
    assert found.spec.notes == ("1 extra channel left out",)


@pytest.mark.parametrize("photometric", ["cielab", "icclab"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_read_image_tiff_lab_is_one_encoding(stored, photometric, dtype):
    """All four encodings of Lab come out as ICC v4 Lab of 16 bits, within half a step of what is stored."""
    lab = np.array([[[0, 0, 0], [100, -128, 127], [53.2, 80.1, 67.2], [50, -0.5, 0.25]]])
    if dtype == "uint8":
        scaled = [255 / 100, 1, 1], [0, 0, 0] if photometric == "cielab" else [0, 128, 128]
    else:
        scaled = ([655.35, 256, 256], [0, 0, 0]) if photometric == "cielab" else ([652.8, 256, 256], [0, 32768, 32768])
    kept = np.rint(lab * scaled[0] + scaled[1])
    found = read_image(stored((kept.astype(np.int64) & np.iinfo(dtype).max).astype(dtype), photometric=photometric))
    assert (found.spec.model, found.spec.dtype) == ("lab", "uint16")
    said = (kept - scaled[1]) / scaled[0]
    read = (found.pixels - np.array([0, 32896, 32896])) / [655.35, 257, 257]
    np.testing.assert_allclose(read, said, atol=0.5 / 257)


def test_read_spec_tiff_says_what_it_chose(stored, tmp_path):
    """Pages, palettes, few bits and divided-out alpha are said in the notes; a plain picture has none."""
    assert read_spec(stored(COLOUR)).notes == ()
    assert read_spec(stored(COLOUR[..., 0] // 16, bitspersample=4)).notes == ("4 bits scaled to 8",)
    assert read_spec(stored(np.dstack([COLOUR, COLOUR[..., :1]]), extrasamples=["assocalpha"])).notes == (
        "alpha divided out of colour",
    )
    path = tmp_path / "pages.tif"
    for _ in range(2):
        tifffile.imwrite(path, COLOUR, append=path.exists())
    assert [read_spec(path, page=i).notes for i in (0, 1)] == [("page 1 of several",), ("page 2 of several",)]


def test_read_spec_tiff_ignores_a_tag_longer_than_the_file(stored):
    """A tag that claims gigabytes which are not there costs no picture and passes no limit."""
    path = stored(COLOUR, extratags=[(305, 2, 60, "x" * 60, True)], software=False)
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].tags[305].offset
    path.write_bytes(_overwritten(path.read_bytes(), place + 4, 4_000_000_000, 4))
    found = read_image(path)
    np.testing.assert_array_equal(found.pixels, COLOUR)
    assert found.spec.metadata.exif is None
