"""PDF: boxes right to a hundredth of a millimetre, pixels exact, the same bytes, by readers that did not write it."""

from __future__ import annotations

import shutil
import subprocess
from fractions import Fraction

import numpy as np
import pikepdf
import pypdf
import pytest
from inkprofile import press_profile
from strategies_files import picture

from refine.colour import srgb_profile
from refine.frame import frames
from refine.length import length, millimetres, paper
from refine.pdf import write_pdf
from refine.sheet import Placement, Surround, sheet
from refine.spec import ImageSpec

MM = 25.4 / 72


def boxes(page):
    """Left, lower, right, upper of its boxes, mm."""
    unit = float(page.get("/UserUnit", 1)) * MM
    return {
        name: [float(value) * unit for value in page[name]] for name in ("/MediaBox", "/BleedBox", "/TrimBox")
    }  # fmt: skip


def decoded(page, spec, frame, lap=32):
    """The pixels of a page from its images, put together by where the page draws them."""
    names = sorted(page["/Resources"]["/XObject"], key=lambda name: int(name.removeprefix("/Image")))
    top = 65535 if spec.dtype == "uint16" else 255
    pixels = np.zeros((frame.window.height, frame.window.width, spec.channels), spec.dtype)
    window, number = frame.window, 0
    for y in range(window.y0 // 1024 * 1024, window.y1, 1024):
        for x in range(window.x0 // 4096 * 4096, window.x1, 4096):
            image = page["/Resources"]["/XObject"][names[number]].get_object()
            number += 1
            height, width = image["/Height"], image["/Width"]
            assert image["/BitsPerComponent"] == (16 if top > 255 else 8)
            data = np.frombuffer(image.get_data(), ">u2" if top > 255 else np.uint8).reshape(height, width, -1)
            y0, x0 = max(y, window.y0) - window.y0, max(x, window.x0) - window.x0
            pixels[y0 : y0 + height, x0 : x0 + width] = data
    assert number == len(names)
    return pixels


def written(path, text="60x40mm", *, ppi=150, spec=None, marked=True, surround=None, **more):
    """A PDF of some pixels; the sheet, its frames and pixels."""
    surround = surround or Surround(bleed=length("3mm"))
    made = sheet((60, 90), paper(text), Fraction(ppi), Placement(turn="as-given"), surround)
    found = frames(made, Fraction(ppi), marked=marked, name="a", **more)
    described = spec or {"channels": 3, "dtype": "uint8", "icc": srgb_profile()}
    spec = ImageSpec(*made.size, **described)
    pixels = picture(*made.size, spec.channels, spec.dtype)
    write_pdf(path, pixels, spec, made, found, title="a")
    return made, found, pixels, spec


@pytest.mark.parametrize(
    ("text", "ppi"),
    [
        pytest.param("A4", 72, id="a4"),
        pytest.param("8.5x11in", 100, id="letter"),
        pytest.param("24x36in", 10, id="poster"),
        pytest.param("333x777mm", 33, id="odd"),
        pytest.param("6x2m", 3, id="counts-in-larger-units"),
    ],
)
def test_boxes_are_right(tmp_path, text, ppi):
    """Trim, bleed and media boxes lie one in the other, each as large as it was ordered, to 0.01 mm."""
    made, (frame,), _, _ = written(tmp_path / "a.pdf", text, ppi=ppi)
    (page,) = pypdf.PdfReader(tmp_path / "a.pdf").pages
    found, wanted = boxes(page), paper(text)
    left, lower, right, upper = found["/TrimBox"]
    assert right - left == pytest.approx(float(millimetres(wanted.width)), abs=0.01)
    assert upper - lower == pytest.approx(float(millimetres(wanted.height)), abs=0.01)
    bleed = found["/BleedBox"]
    assert np.abs(np.subtract(bleed, [left - 3, lower - 3, right + 3, upper + 3])).max() < 0.01
    media = found["/MediaBox"]
    assert media[:2] == [0, 0]
    assert media[2] >= bleed[2]
    # The paper is cut where the px of the face begin.
    pitch = float(millimetres(wanted.width)) / made.face[1]
    assert left == pytest.approx((frame.slug + made.bleed) * pitch, abs=0.01)


def test_boxes_of_a_canvas_are_cut_beyond_its_wrap(tmp_path):
    """Of a canvas the wrap is not cut away."""
    surround = Surround(length("20mm"), length("5mm"), "mirror")
    written(tmp_path / "a.pdf", "100x80mm", surround=surround)
    (page,) = pypdf.PdfReader(tmp_path / "a.pdf").pages
    left, lower, right, upper = boxes(page)["/TrimBox"]
    assert (right - left, upper - lower) == (pytest.approx(140, abs=0.01), pytest.approx(120, abs=0.01))


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"channels": 3, "dtype": "uint8", "icc": srgb_profile()}, id="rgb"),
        pytest.param({"channels": 3, "dtype": "uint16", "icc": srgb_profile()}, id="rgb-16"),
        pytest.param({"channels": 4, "dtype": "uint8", "icc": press_profile(), "space": "cmyk"}, id="cmyk"),
        pytest.param({"channels": 1, "dtype": "uint8"}, id="grey"),
    ],
)
def test_pixels_are_exact(tmp_path, spec):
    """Read by another reader the pixels are the sheet's, in their profile, byte for byte."""
    _, (frame,), pixels, described = written(tmp_path / "a.pdf", "60x240mm", ppi=120, spec=spec)
    (page,) = pypdf.PdfReader(tmp_path / "a.pdf").pages
    assert np.array_equal(decoded(page, described, frame), pixels)
    space = page["/Resources"]["/XObject"]["/Image0"]["/ColorSpace"]
    if spec.get("icc"):
        assert space[1].get_object().get_data() == spec["icc"]
    else:
        assert space == "/DeviceGray"


def test_panels_are_pages_that_make_the_sheet_again(tmp_path):
    """A page for each panel; together they are the sheet, and only what lies at its edge is cut and bleeds."""
    _, found, pixels, spec = written(tmp_path / "a.pdf", "130x240mm", panels=(2, 2), overlap=length("8mm"))
    pages = pypdf.PdfReader(tmp_path / "a.pdf").pages
    again = np.zeros_like(pixels)
    for frame, page in zip(found, pages, strict=True):
        again[frame.window.slices] = decoded(page, spec, frame)
    assert np.array_equal(again, pixels)
    first = boxes(pages[0])
    assert np.subtract(first["/BleedBox"], first["/TrimBox"]) == pytest.approx([-3, 0, 0, 3], abs=0.01)


def test_pdf_has_the_same_bytes(tmp_path, monkeypatch):
    """No date, no random number: ids are digests, which two files of one second would not tell."""
    asked = []
    save = pikepdf.Pdf.save
    monkeypatch.setattr(pikepdf.Pdf, "save", lambda pdf, *rest, **how: (asked.append(how), save(pdf, *rest, **how)))
    for name in ("a.pdf", "b.pdf"):
        written(tmp_path / name)
    data = (tmp_path / "a.pdf").read_bytes()
    assert data == (tmp_path / "b.pdf").read_bytes()
    assert all(how["deterministic_id"] for how in asked)
    assert b"Date" not in data
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pdf", "b.pdf"]


def test_pdf_says_the_printing_condition(tmp_path):
    """The printer's profile is the output intent."""
    spec = {"channels": 4, "dtype": "uint8", "icc": press_profile(), "space": "cmyk"}
    written(tmp_path / "a.pdf", spec=spec)
    intent = pypdf.PdfReader(tmp_path / "a.pdf").trailer["/Root"]["/OutputIntents"][0]
    assert intent["/DestOutputProfile"].get_object().get_data() == press_profile()


@pytest.mark.skipif(shutil.which("pdftoppm") is None, reason="poppler is not installed")
def test_poppler_shows_the_picture(tmp_path):
    """A third reader renders the page: the picture in its place, white slug, black marks."""
    made, (frame,), pixels, _ = written(tmp_path / "a.pdf", "120x100mm", ppi=100)
    subprocess.run(["pdftoppm", "-r", "100", "-png", "a.pdf", "a"], cwd=tmp_path, check=True)
    (shown,) = tmp_path.glob("a-*.png")
    from refine.imagefile import read_image  # noqa: PLC0415  only where there is something to read

    page = read_image(shown).pixels.astype(int)
    slug = frame.slug
    inner = page[slug + 40 : slug + made.size[0] - 40, slug + 40 : slug + made.size[1] - 40]
    expected = pixels[40:-40, 40:-40]
    rows, columns = min(len(inner), len(expected)), min(inner.shape[1], expected.shape[1])
    # It resamples by a fraction of a px.
    assert np.abs(inner[:rows, :columns] - expected[:rows, :columns]).mean() < 12
    assert (page[:4] == 255).all()
    assert page[: slug - 2].min() < 100
