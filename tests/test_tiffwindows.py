"""Windows of TIFF pages: the pixels of the whole page, out of no more of the file than they need."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from strategies import LONG, QUICK

from refine.decoder import Decoder
from refine.errors import ImageReadError
from refine.limits import Limits
from refine.tiff import OpenPage, read_pixels
from refine.tiffwindows import Stored
from refine.window import Window, grid

DATA = Path(__file__).parents[1] / "../shared/data"
LIMITS = Limits()
SAMPLES = {"minisblack": 1, "miniswhite": 1, "palette": 1, "rgb": 3, "separated": 4, "cielab": 3, "icclab": 3}


@st.composite
def layouts(draw):
    """Pixels, and how tifffile is to store them."""
    photometric = draw(st.sampled_from([*SAMPLES, "rgb", "minisblack"]))
    lab = photometric in ("cielab", "icclab")
    bits = draw(st.sampled_from([8, 16] if lab or SAMPLES[photometric] > 1 else [1, 2, 4, 8, 12, 16]))
    bits = 8 if photometric == "palette" else bits  # the writer knows no other palettes
    extra = draw(st.sampled_from([[], [], ["unassalpha"], ["assocalpha"]])) if photometric == "rgb" else []
    count = SAMPLES[photometric] + len(extra)
    height, width = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    pixels = np.random.default_rng(draw(st.integers(0, 9))).integers(0, 1 << bits, (height, width, count))
    options = {"photometric": photometric, "byteorder": draw(st.sampled_from("<>")), "bigtiff": draw(st.booleans())}
    options |= {"extrasamples": extra} if extra else {}
    if photometric == "palette":
        options["colormap"] = np.random.default_rng(1).integers(0, 65536, (3, 1 << bits), dtype=np.uint16)
    if bits in (8, 16):
        options["compression"] = draw(st.sampled_from([None, None, "lzw", "zlib", "zstd", "packbits"]))
        options["predictor"] = draw(st.booleans()) and options["compression"] in ("lzw", "zlib", "zstd")
    else:
        options["bitspersample"] = bits
    if draw(st.booleans()):
        options["tile"] = draw(st.sampled_from([(16, 16), (16, 32), (32, 16), (64, 64)]))
    else:
        options["rowsperstrip"] = draw(st.integers(1, height))
    if count > 1 and draw(st.booleans()):
        return np.moveaxis(pixels, 2, 0).astype(np.uint8 if bits <= 8 else np.uint16), options | {
            "planarconfig": "separate"
        }
    pixels = pixels if count > 1 else pixels[..., 0]
    options |= {"planarconfig": "contig"} if count > 1 else {}
    return pixels.astype(np.uint8 if bits <= 8 else np.uint16), options


@st.composite
def windows(draw, height, width):
    """A window inside a picture."""
    y0, x0 = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    return Window(y0, x0, draw(st.integers(y0 + 1, height)), draw(st.integers(x0 + 1, width)))


def check_windows(folder, data):
    """One layout, several windows of it, with strips kept and without."""
    pixels, options = data.draw(layouts())
    path = folder / "image.tif"
    _store(path, pixels, **options)
    whole = read_pixels(path, LIMITS)
    stored = np.moveaxis(pixels, 0, 2) if options.get("planarconfig") == "separate" else np.atleast_3d(pixels)
    if options["photometric"] in ("rgb", "separated", "minisblack") and "bitspersample" not in options:
        kept = "assocalpha" in options.get("extrasamples", [])
        np.testing.assert_array_equal(whole[..., -1] if kept else whole, stored[..., -1] if kept else stored)
    with OpenPage(path, LIMITS) as page:
        for _ in range(4):
            window = data.draw(windows(*whole.shape[:2]))
            found = page.window(window, data.draw(st.sampled_from([0, 5000, 1 << 20])))
            assert found.dtype == whole.dtype
            np.testing.assert_array_equal(found, whole[window.slices])


def _store(path, pixels, **options):
    file_options = {key: options.pop(key) for key in ("bigtiff", "byteorder") if key in options}
    tifffile.imwrite(path, pixels, metadata=None, **file_options, **options)


@QUICK
@given(data=st.data())
def test_window_is_the_picture_there(tmp_path_factory, data):
    """A window of any layout has the pixels of the whole page, and those are the ones that were written."""
    check_windows(tmp_path_factory.mktemp("tiff"), data)


@pytest.mark.slow
@LONG
@given(data=st.data())
def test_window_is_the_picture_there_long(tmp_path_factory, data):
    """The same for many more layouts."""
    check_windows(tmp_path_factory.mktemp("tiff"), data)


@pytest.mark.parametrize("options", [{"tile": (16, 32)}, {"rowsperstrip": 8}, {}], ids=str)
@pytest.mark.parametrize("compression", ["jpeg", "png", "jpeg2000", "lzma"])
def test_window_of_image_codecs(tmp_path, options, compression):
    """Strips and tiles that are JPEG, PNG or JPEG 2000 give windows too."""
    path = tmp_path / "image.tif"
    pixels = np.random.default_rng(2).integers(0, 256, (48, 70, 3), dtype=np.uint8)
    _store(path, pixels, photometric="rgb", compression=compression, **options)
    whole = read_pixels(path, LIMITS)
    with OpenPage(path, LIMITS) as page:
        for window in [*grid(48, 70, 13), Window(0, 0, 48, 70)]:
            np.testing.assert_array_equal(page.window(window), whole[window.slices])


@pytest.mark.parametrize("bits", [1, 8, 16])
def test_window_of_bytes_with_the_low_bit_first(tmp_path, bits):
    """Uncompressed bytes whose bits lie the other way round are turned, for a part of a row as for all rows."""
    path = tmp_path / "image.tif"
    pixels = np.random.default_rng(2).integers(0, 1 << bits, (9, 40)).astype(np.uint16 if bits == 16 else np.uint8)
    _store(path, pixels, photometric="minisblack", bitspersample=bits)
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        place, start, nbytes = page.tags["Software"].offset, page.dataoffsets[0], page.databytecounts[0]
    data = bytearray(path.read_bytes())
    data[place : place + 12] = (266).to_bytes(2, "little") + b"\3\0\1\0\0\0\2\0\0\0"
    turned = np.packbits(np.unpackbits(np.frombuffer(data[start : start + nbytes], np.uint8)).reshape(-1, 8)[:, ::-1])
    data[start : start + nbytes] = turned.tobytes()
    path.write_bytes(data)
    expected = pixels * (255 if bits == 1 else 1)
    with OpenPage(path, LIMITS) as page:
        np.testing.assert_array_equal(page.window(Window(0, 0, 9, 40))[..., 0], expected)
        np.testing.assert_array_equal(page.window(Window(2, 11, 7, 29))[..., 0], expected[2:7, 11:29])


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("layout", [{"rowsperstrip": 8}, {"tile": (16, 16)}], ids=str)
def test_window_looks_at_what_it_needs(tmp_path, compression, layout):
    """A file cut off in its last strip or tile gives the windows before it, and an error for those in it."""
    path = tmp_path / "image.tif"
    pixels = np.random.default_rng(3).integers(0, 256, (64, 64), dtype=np.uint8)
    _store(path, pixels, photometric="minisblack", compression=compression, **layout)
    os.truncate(path, path.stat().st_size - 20)
    with OpenPage(path, LIMITS) as page:
        np.testing.assert_array_equal(page.window(Window(0, 0, 48, 64))[..., 0], pixels[:48])
        with pytest.raises(ImageReadError, match=r"^image\.tif: .*(short|ends inside|cannot|corrupted)"):
            _one_line(page, Window(40, 40, 64, 64))


def _one_line(page, window):
    try:
        page.window(window)
    except ImageReadError:
        raise
    except Exception as error:
        raise ImageReadError(f"image.tif: cannot be decoded: {error}") from error


def test_window_of_a_large_raw_strip_reads_its_rows_only(tmp_path):
    """Of rows longer than some 16 kB only the part that is needed is read, from a strip of any size."""
    path = tmp_path / "image.tif"
    side = 40_000
    tifffile.imwrite(path, shape=(side, side), dtype=np.uint16, metadata=None, photometric="minisblack")
    with path.open("r+b") as file, tifffile.TiffFile(path) as tiff:  # a file with a hole: 3.2 GB that take no disk
        for row in range(20_000, 20_010):
            file.seek(tiff.pages[0].dataoffsets[0] + (row * side + 30_000) * 2)
            file.write(np.arange(row, row + 50, dtype="<u2").tobytes())
    with OpenPage(path, Limits(max_file_nbytes=1 << 40)) as page:
        found = page.window(Window(20_000, 30_000, 20_010, 30_050))
    np.testing.assert_array_equal(found[..., 0], np.arange(20_000, 20_010)[:, None] + np.arange(50))


@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_bands_decode_each_strip_once(tmp_path, planes, monkeypatch):
    """On the way down, with one row of strips kept, none is decoded twice, however bands and strips lie."""
    path = tmp_path / "image.tif"
    pixels = np.random.default_rng(3).integers(0, 256, (3, 100, 20), dtype=np.uint8)
    data = pixels if planes == "separate" else np.moveaxis(pixels, 0, 2)
    _store(path, data, photometric="rgb", compression="zlib", rowsperstrip=7, planarconfig=planes)
    decoded, plain = [], Stored._decoded
    monkeypatch.setattr(Stored, "_decoded", lambda self, index: (decoded.append(index), plain(self, index))[1])
    with OpenPage(path, LIMITS) as page:
        bands = [page.window(Window(y, 0, min(y + 16, 100), 20), page.grid.row_nbytes) for y in range(0, 100, 16)]
    np.testing.assert_array_equal(np.concatenate(bands), np.moveaxis(pixels, 0, 2))
    assert sorted(decoded) == list(range(15 if planes == "contig" else 45))


def test_kept_strips_stay_in_their_memory(tmp_path, monkeypatch):
    """No more bytes of decoded tiles are kept than allowed; what was used last is."""
    path = tmp_path / "image.tif"
    _store(path, np.zeros((64, 64), np.uint8), photometric="minisblack", compression="zlib", tile=(16, 16))
    decoded, plain = [], Stored._decoded
    monkeypatch.setattr(Stored, "_decoded", lambda self, index: (decoded.append(index), plain(self, index))[1])
    with OpenPage(path, LIMITS) as page:
        for x in (0, 16, 0, 32, 0, 16):
            page.window(Window(0, x, 16, x + 16), 2 * 256)
    assert decoded == [0, 1, 2, 1]


def test_window_of_a_fax(tmp_path):
    """Group 4 in strips, white as zero: strips are decoded apart, inverted, and scaled as in the whole."""
    path = tmp_path / "image.tif"
    page = np.full((80, 64), 255, np.uint8)
    page[10:20, 5:50] = 0
    Pillow.fromarray(page).convert("1").save(path, compression="group4", tiffinfo={278: 16})
    with OpenPage(path, LIMITS) as found:
        np.testing.assert_array_equal(found.window(Window(9, 3, 30, 60))[..., 0], page[9:30, 3:60])


@pytest.mark.slow
@pytest.mark.skipif(not DATA.exists(), reason="the files are not part of the project")
def test_windows_of_a_corpus():
    """Every TIFF of a corpus of odd files, and every scanned page, gives in windows what it gives whole."""
    rng, compared = np.random.default_rng(0), 0
    with Decoder() as decoder:
        for path in sorted(p for name in ("badinput", "samples/pages") for p in (DATA / name).rglob("*")):
            if not path.is_file() or path.read_bytes()[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
                continue
            try:
                whole = decoder.read(path).pixels
            except ImageReadError:
                continue
            for _ in range(6):
                y, x = (np.sort(rng.choice(n + 1, 2, replace=False)) for n in whole.shape[:2])
                window = Window(int(y[0]), int(x[0]), int(y[1]), int(x[1]))
                np.testing.assert_array_equal(decoder.window(path, window), whole[window.slices])
                compared += 1
    assert compared > 500
