from __future__ import annotations

import socket
import subprocess
from itertools import combinations

import numpy as np
import pytest
from PIL import Image as Picture

from pipelines import demo
from pipelines.contact_sheet import Crop, alpha_edges, before_after, contact_sheet
from pipelines.errors import JobError
from refine.errors import ImageReadError
from refine.imagefile import encode_image, read_image, read_spec
from refine.spec import Image, ImageSpec

CELLS = 2, 3


def offline(*_: object) -> None:
    """What a socket does here."""
    pytest.fail("the demo opened a connection")


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """The demo's catalog with a small mosaic, written without a network."""
    folder = tmp_path_factory.mktemp("demo") / "catalog"
    with pytest.MonkeyPatch.context() as patched:
        for name in ("connect", "connect_ex", "sendto"):
            patched.setattr(socket.socket, name, offline)
        patched.setattr(socket, "getaddrinfo", offline)
        demo.write_catalog(folder, CELLS)
    return folder


def saved(path, pixels):
    """The path, after the pixels were written there as a PNG."""
    path.write_bytes(encode_image(Image(pixels, ImageSpec(*pixels.shape, "uint8")), "png"))
    return path


@pytest.mark.parametrize(
    ("path", "shape", "dtype"),
    [
        pytest.param("people/astronaut.jpg", (410, 410, 3), "uint8", id="colour JPEG"),
        pytest.param("people/thumbnail-64.png", (64, 64, 3), "uint8", id="tiny"),
        pytest.param("products/cup-cutout.png", (396, 436, 4), "uint8", id="cut-out"),
        pytest.param("products/cup-on-white.jpg", (396, 436, 3), "uint8", id="white background"),
        pytest.param("phone/rocket-turned.jpg", (427, 640, 3), "uint8", id="turned, as seen upright"),
        pytest.param("archive/cameraman-grey.jpg", (410, 410, 1), "uint8", id="grey JPEG"),
        pytest.param("archive/page-grey.png", (191, 384, 1), "uint8", id="grey PNG"),
        pytest.param("archive/retina-16-bit.tif", (705, 705, 3), "uint16", id="16 bit"),
        pytest.param("archive/mosaic.jpg", (500, 750, 3), "uint8", id="mosaic, here 2 x 3 cells"),
    ],
)
def test_catalog_holds_each_kind(catalog, path, shape, dtype):
    """Every kind of image that a catalog meets is in it."""
    spec = read_spec(catalog / path)
    assert (spec.shape, spec.dtype) == (shape, dtype)


def test_catalog_mosaic_is_large():
    """The mosaic of the real demo has 12 megapixels, so that it is tiled, and no cell ends where a tile does."""
    rows, columns = demo.MOSAIC_CELLS
    assert rows * columns * demo.CELL**2 >= 12_000_000
    assert 1024 % demo.CELL


def test_catalog_turned_photo_is_upright(catalog):
    """The photo with EXIF orientation 6 is stored lying and shows the launch pad at its bottom, not at a side."""
    path = catalog / "phone/rocket-turned.jpg"
    assert read_spec(path).orientation == 6
    with Picture.open(path) as stored:
        assert stored.size == (427, 640)
    top, bottom = np.array_split(read_image(path).pixels.astype(float), 2)
    assert bottom[..., 0].std() > 1.5 * top[..., 0].std()


def test_catalog_16_bit_holds_more_than_8(catalog):
    """Most values of the 16-bit TIFF are none that 8 bits can hold, and it has its profile."""
    image = read_image(catalog / "archive/retina-16-bit.tif")
    lit = image.pixels[image.pixels > 0]
    assert (lit % 257 != 0).mean() > 0.5
    assert image.spec.icc is not None
    assert image.spec.icc[36:40] == b"acsp"


def test_catalog_cutout_is_soft_and_hides_white(catalog):
    """The cut-out has half-transparent edge pixels, and white under what is transparent."""
    pixels = read_image(catalog / "products/cup-cutout.png").pixels
    alpha = pixels[..., 3]
    assert np.count_nonzero((alpha > 0) & (alpha < 255)) > 500
    assert (pixels[alpha == 0] == (255, 255, 255, 0)).all()
    assert (pixels[alpha == 255][:, :3].mean(axis=0) < 200).all()


def test_catalog_background_is_white(catalog):
    """The corners of the product photo are pure white, JPEG or not."""
    pixels = read_image(catalog / "products/cup-on-white.jpg").pixels
    assert all((pixels[y, x] == 255).all() for y in (0, -1) for x in (0, -1))


def test_catalog_broken_file_does_not_decode(catalog):
    """The broken file has a header, and no more than a part of its pixels."""
    read_spec(catalog / demo.BROKEN)
    with pytest.raises(ImageReadError):
        read_image(catalog / demo.BROKEN)


def test_catalog_written_again_is_unchanged(catalog):
    """Writing the catalog a second time touches no file, so a second demo finds all of it done."""
    before = {path: path.stat().st_mtime_ns for path in catalog.rglob("*.*")}
    listed = demo.write_catalog(catalog, CELLS)
    assert {path: path.stat().st_mtime_ns for path in catalog.rglob("*.*")} == before
    assert sorted(catalog / path for path in listed) == sorted(before)


def test_catalog_without_photographs_says_how(monkeypatch, tmp_path):
    """Without scikit-image the demo says what to install."""
    monkeypatch.setattr(demo, "find_spec", lambda _: None)
    with pytest.raises(JobError, match=r"refine-imaging\[demo\]"):
        demo.write_catalog(tmp_path)


@pytest.mark.parametrize("drawn", [contact_sheet, before_after])
def test_sheet_has_a_cell_for_each_way(drawn, catalog):
    """A sheet is as many cells wide as there are ways, as many high as there are photographs, and no two are alike."""
    crop = Crop(catalog / "people/thumbnail-64.png", 10, 20, "face", denoise=6)
    sheet = np.asarray(drawn((crop, crop), cell=60))
    count = 6 if drawn is contact_sheet else 3
    height = (sheet.shape[0] - drawn((crop,), cell=60).height) * 2
    assert sheet.shape[1] == count * 64 + 4
    assert height == 2 * (60 + 25)
    top = sheet.shape[0] - height
    cells = [sheet[top : top + 60, 4 + 64 * c : 64 * (c + 1)] for c in range(count)]
    assert not any(np.array_equal(one, other) for one, other in combinations(cells, 2))
    # The first column is the source, every pixel at least twice.
    assert (cells[0][1] == cells[0][0]).all()
    source = read_image(crop.path).pixels
    assert (cells[0][0, 0] == source[10, 20]).all()


def test_alpha_edges_show_no_hidden_colour(tmp_path):
    """What is fully transparent shows the colour it lies on, whatever is hidden there."""
    small = np.zeros((36, 36, 4), np.uint8)
    small[..., 1] = 255
    small[:, 18:] = 40, 50, 60, 255
    large = small.repeat(2, axis=0).repeat(2, axis=1)
    sheet = alpha_edges(saved(tmp_path / "small.png", small), saved(tmp_path / "large.png", large), 0, 0)
    pixels = np.asarray(sheet)
    assert sheet.width == 3 * 292 + 4
    top, step = sheet.height - 3 * (288 + 25), 288 + 25
    for row, colour in enumerate([(0, 0, 0), (255, 255, 255), (0, 200, 0)]):
        for column in (0, 2):
            y, x = top + row * step, 4 + column * 292
            assert (pixels[y : y + 288, x : x + 144] == colour).all()
            assert (pixels[y : y + 288, x + 144 : x + 288] == (40, 50, 60)).all()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        pytest.param(0, "ended with 0", id="the broken file went unnoticed"),
        pytest.param(2, "ended with 2", id="refused"),
        pytest.param(1, "cat.jpg", id="more failed than the broken file"),
    ],
)
def test_demonstrate_fails_when_the_command_does(monkeypatch, tmp_path, code, message):
    """The demo fails unless the command names the one broken file and restores all the others."""
    monkeypatch.setattr(demo, "write_catalog", lambda _: [demo.Path("cat.jpg"), demo.BROKEN])
    monkeypatch.setattr(demo.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess((), code))
    with pytest.raises(JobError, match=message):
        demo.demonstrate(tmp_path)
