"""Posters: exact px and resolutions by other readers, the plain loop's files, and every refusal in one line."""

from __future__ import annotations

import json

import imagecodecs
import numpy as np
import pypdf
import pytest
import tifffile
from inkprofile import press_profile
from PIL import Image
from strategies_files import picture, write_picture

from pipelines import derivative, omezarr, printfiles
from pipelines import poster as posters
from pipelines.derivative import verified
from pipelines.errors import JobError
from pipelines.ordering import asked_for
from pipelines.poster import offered, poster
from refine.assess import assess
from refine.errors import RefineError
from refine.imagefile import read_image
from refine.printed import printed_pixels

SIZES = [
    ("24x36in", 300, (7200, 10800)),
    ("24x36in", 150, (3600, 5400)),
    ("A0", 100, (3311, 4681)),
    ("A1", 300, (7016, 9933)),
    ("A1", 360, (8419, 11920)),
    ("A2", 300, (4961, 7016)),
    ("A3", 254, (2970, 4200)),
    ("A4", 300, (2480, 3508)),
    ("A5", 600, (3496, 4961)),
    ("B1", 72, (2004, 2835)),
    ("B2", 200, (3937, 5567)),
    ("letter", 300, (2550, 3300)),
    ("tabloid", 240, (2640, 4080)),
    ("arch-e", 72, (2592, 3456)),
    ("4x6", 300, (1200, 1800)),
    ("8x10", 360, (2880, 3600)),
    ("60x90cm", 127, (3000, 4500)),
    ("500x700mm", 150, (2953, 4134)),
    ("1x1.5m", 100, (3937, 5906)),
    ("3000x4000px", 180, (3000, 4000)),
]
"""Twenty papers and resolutions, and the width and height, px, worked out by hand (ISO 216, ASME Y14.1)."""


def words(**others):
    """What was asked for, as the command line gives it."""
    usual = {
        "size": "60x45mm", "ppi": "150", "fill": False, "fit": False, "anchor": "centre", "crop": None, "turn": "auto",
        "border": None, "bleed": None, "wrap": None, "edge": None, "safe": None, "background": None, "medium": None,
        "distance": None, "profile": None, "intent": "relative", "no_black_point": False, "depth": None, "panels": None,
        "panel_size": None, "overlap": None, "marks": None, "paper_white": False, "force": False, "preset": "print",
        "net": (), "tile": 512, "put": ("plan.block=256", 'repair.net=""', "upscale.nets=[]"),
    }  # fmt: skip
    return asked_for(usual | others)


@pytest.fixture
def photo(tmp_path):
    """A small picture, in the profile of a printer's own."""
    return write_picture(tmp_path / "photo.png", picture(150, 200))


@pytest.fixture
def profile(tmp_path):
    """An ICC profile of inks."""
    (tmp_path / "ink.icc").write_bytes(press_profile())
    return tmp_path / "ink.icc"


def expected(path, asked, usual="uint16"):
    """The plain loop's sheet, its plan, and what is printed."""
    image = read_image(path)
    plan = asked.order(usual).plan(image.spec, assess(image.pixels, image.spec))
    return printed_pixels(image.pixels, plan), plan


def resolution_of(path, size):
    """Px and resolution of a file, by a reader that did not write it."""
    with Image.open(path) as image:
        assert image.size == size
        return image.info["dpi"]


@pytest.mark.parametrize(("size", "ppi", "px"), SIZES, ids=[f"{size}-{ppi}" for size, ppi, _ in SIZES])
def test_px_and_resolution_are_exact(tmp_path, monkeypatch, size, ppi, px):
    """TIFF, PNG and JPEG hold just the px of the paper, and say its px per inch as exactly as they can."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    blank = write_picture(tmp_path / "blank.png", np.full((300, 200, 1), 200, np.uint8))
    asked = words(size=size, ppi=str(ppi), force=True, turn="as-given")
    image = read_image(blank)
    plan = asked.order("uint8").plan(image.spec, assess(image.pixels, image.spec))
    assert plan.output == px[::-1]
    flat = np.broadcast_to(np.uint8(200), (*plan.output, 1))
    frames = posters._ask(asked, tmp_path / "a.tif").frames(plan)
    for suffix in (".tif", ".png", ".jpg"):
        path = tmp_path / f"a{suffix}"
        printfiles.write(printfiles.Prints(path, printfiles.form_of(path), plan.result, plan.sheet, frames), flat)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        tags = file.pages[0].tags
        assert (tags["XResolution"].value, tags["YResolution"].value) == ((ppi, 1), (ppi, 1))
        assert tags["ResolutionUnit"].value == 2
    assert resolution_of(tmp_path / "a.tif", px) == (ppi, ppi)
    assert resolution_of(tmp_path / "a.jpg", px) == (ppi, ppi)
    # PNG counts px per metre: as near as that is.
    assert resolution_of(tmp_path / "a.png", px) == pytest.approx((ppi, ppi), abs=0.0254)


@pytest.mark.parametrize(
    ("name", "usual"), [("a.tif", "uint16"), ("a.zarr", "uint16"), ("a.png", "uint8"), ("a.pdf", "uint8")]
)
def test_poster_equals_the_plain_loop(tmp_path, photo, shared, name, usual):
    """Whatever it becomes, a poster has the px of the plain loop; a proof and a record lie beside it."""
    asked = words(bleed="3mm", depth=None)
    summary, offer = poster(photo, tmp_path / name, asked, shared, quiet=True)
    assert (summary.done, summary.failed) == (1, [])
    wanted, plan = expected(photo, asked, usual)
    if name == "a.zarr":
        made = omezarr.opened(tmp_path / name)[:, :]
    elif name == "a.pdf":
        images = pypdf.PdfReader(tmp_path / name).pages[0]["/Resources"]["/XObject"]
        made = np.frombuffer(images["/Image0"].get_object().get_data(), np.uint8).reshape(wanted.shape)
    else:
        made = read_image(tmp_path / name).pixels
    assert np.array_equal(made, wanted)
    assert offer.plan.output == plan.output
    with Image.open(tmp_path / f"{name}.proof.png") as proof:
        assert max(proof.size) < 2000
    assert verified(tmp_path / name).wrong == ()
    assert not list(tmp_path.glob(".*"))
    assert poster(photo, tmp_path / name, asked, shared, quiet=True)[0].unchanged == 1


def test_poster_in_ink(tmp_path, photo, profile, shared):
    """A CMYK poster is a TIFF of inks with the printer's profile; its record says what cannot be printed."""
    asked = words(profile=profile, depth="8")
    poster(photo, tmp_path / "a.tif", asked, shared, quiet=True)
    wanted, plan = expected(photo, asked)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        page = file.pages[0]
        assert page.photometric.name == "SEPARATED"
        assert page.iccprofile == press_profile()
        assert np.array_equal(page.asarray(), wanted)
    record = json.loads((tmp_path / "a.tif.provenance.json").read_text())
    (told,) = record["pages"]
    assert 0 <= told["out_of_gamut"] <= 1
    assert any("icc-convert" in deed for deed in told["sheet"])
    assert plan.result.channels == 4


def test_profile_is_kept_byte_for_byte(tmp_path, shared):
    """Without a printer's profile the picture's own is in every kind of file."""
    icc = bytes(imagecodecs.cms_profile("rgb", whitepoint=[0.3127, 0.329, 1], gamma=2.2,
                                        primaries=[0.64, 0.33, 1, 0.21, 0.71, 1, 0.15, 0.06, 1]))  # fmt: skip
    Image.fromarray(picture(150, 200)).save(tmp_path / "photo.jpg", icc_profile=icc, quality=95)
    for name in ("a.tif", "a.png", "a.jpg"):
        poster(tmp_path / "photo.jpg", tmp_path / name, words(), shared, quiet=True)
        with Image.open(tmp_path / name) as image:
            assert image.info["icc_profile"] == icc
    poster(tmp_path / "photo.jpg", tmp_path / "a.pdf", words(), shared, quiet=True)
    image = pypdf.PdfReader(tmp_path / "a.pdf").pages[0]["/Resources"]["/XObject"]["/Image0"]
    assert image["/ColorSpace"][1].get_object().get_data() == icc


def test_panels_are_files_that_make_the_poster_again(tmp_path, photo, shared):
    """Each panel is a file under its place; they overlap, and together are the poster. A sheet shows how."""
    asked = words(panels="3x2", overlap="4mm")
    poster(photo, tmp_path / "wall.tif", asked, shared, quiet=True)
    wanted, plan = expected(photo, asked)
    frames = posters._ask(asked, tmp_path / "wall.tif").frames(plan)
    again = np.zeros_like(wanted)
    for frame in frames:
        path = tmp_path / f"wall.panel-{frame.place[0]}-{frame.place[1]}.tif"
        again[frame.window.slices] = tifffile.imread(path)
    assert np.array_equal(again, wanted)
    assert sorted(p.name for p in tmp_path.glob("wall*")) == sorted(
        [*(f"wall.panel-{row}-{column}.tif" for row in (1, 2) for column in (1, 2, 3)),
         "wall.tif.assembly.png", "wall.tif.proof.png", "wall.tif.provenance.json"]
    )  # fmt: skip
    assert verified(tmp_path / "wall.tif").wrong == ()
    (tmp_path / "wall.panel-1-2.tif").unlink()
    assert [wrong.path for wrong in verified(tmp_path / "wall.tif").wrong] == ["wall.panel-1-2.tif"]


def test_panels_of_a_pdf_are_its_pages(tmp_path, photo, shared):
    """One page for each panel, with marks."""
    poster(photo, tmp_path / "wall.pdf", words(panel_size="40x30mm", overlap="4mm"), shared, quiet=True)
    pages = pypdf.PdfReader(tmp_path / "wall.pdf").pages
    assert len(pages) == 4
    assert "panel 4 of 4: row 2 of 2, column 2 of 2" in pages[3].extract_text()


def test_marks_are_drawn_where_they_are_asked_for(tmp_path, photo, shared):
    """A TIFF has marks only where they are asked for, a PDF but where they are not."""
    poster(photo, tmp_path / "a.tif", words(marks=True), shared, quiet=True)
    wanted, _ = expected(photo, words())
    slug = round(10 / 25.4 * 150)
    made = tifffile.imread(tmp_path / "a.tif")
    assert np.array_equal(made[slug:-slug, slug:-slug], wanted)
    assert made[:slug].min() == 0
    poster(photo, tmp_path / "a.pdf", words(marks=False), shared, quiet=True)
    (page,) = pypdf.PdfReader(tmp_path / "a.pdf").pages
    assert page["/MediaBox"] == page["/TrimBox"]


def test_interrupted_poster_goes_on(tmp_path, photo, shared, monkeypatch):
    """After an interrupt only what is missing is made; the result is the same, count of colours and all."""
    (tmp_path / "ink.icc").write_bytes(press_profile())
    asked = words(profile=tmp_path / "ink.icc", size="180x140mm", force=True)
    poster(photo, tmp_path / "calm.tif", asked, shared, quiet=True)
    with monkeypatch.context() as patch:
        patch.setattr(posters, "_finish", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            poster(photo, tmp_path / "a.tif", asked, shared, quiet=True)
    image = tmp_path / ".a.tif.refine"
    omezarr.shard_path(image, 0, 1, 0).unlink()
    summary, offer = poster(photo, tmp_path / "a.tif", asked, shared, quiet=True)
    assert 0 < summary.output_px < offer.plan.output[0] * offer.plan.output[1] / 2
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "calm.tif").read_bytes()
    told = [json.loads((tmp_path / f"{name}.tif.provenance.json").read_text())["pages"][0] for name in ("calm", "a")]
    assert told[0]["out_of_gamut"] == told[1]["out_of_gamut"] > 0


def test_another_order_is_not_mixed_in(tmp_path, photo, shared):
    """A finished poster of another order is refused, and what differs is named."""
    poster(photo, tmp_path / "a.tif", words(), shared, quiet=True)
    with pytest.raises(JobError, match=r"result of another run \(order, size differ\)"):
        poster(photo, tmp_path / "a.tif", words(bleed="1mm"), shared, quiet=True)
    with pytest.raises(JobError, match=r"result of another run \(delivery differ\)"):
        poster(photo, tmp_path / "a.tif", words(panels="2x1"), shared, quiet=True)
    (tmp_path / "b.tif").write_text("dear")
    with pytest.raises(JobError, match="is there already and not of this job"):
        poster(photo, tmp_path / "b.tif", words(), shared, quiet=True)
    assert (tmp_path / "b.tif").read_text() == "dear"
    assert not list(tmp_path.glob(".*"))


def test_weak_pictures_are_flagged_where_they_are_meant(tmp_path, photo, shared):
    """Too little for the paper is refused; meant, it is made, and called so in summary and record."""
    with pytest.raises(RefineError, match=r"too weak for this paper: .* mean it with --force"):
        poster(photo, tmp_path / "a.tif", words(size="400x300mm"), shared, quiet=True)
    assert not list(tmp_path.glob("*a.tif*"))
    summary, offer = poster(photo, tmp_path / "a.tif", words(size="400x300mm", force=True), shared, quiet=True)
    assert offer.promise.action == "too-weak"
    assert "more than 8" in summary.flagged[0]["reason"]
    record = json.loads((tmp_path / "a.tif.provenance.json").read_text())
    assert record["pages"][0]["decision"] == "too-weak"


def test_the_promise_is_worked_out(photo):
    """Resolution, distance and verdict are arithmetic that a reader can do."""
    offer = offered(photo, words(size="4x3in", ppi="300", distance="1m"))
    made = offer.promise
    assert (made.source, made.used, made.face) == ((150, 200), (150, 200), (900, 1200))
    assert (made.source_ppi, made.enlargement) == (50, 6)
    assert made.eye_ppi == pytest.approx(87.3, abs=0.1)
    assert made.verdict == ("good" if made.honest_ppi > 43.7 else "soft")
    facts = offer.facts()
    assert json.loads(json.dumps(facts)) == facts
    assert {"output", "tiles", "tile", "halo", "exact", "projected_mem", "seconds_estimate", "bytes_estimate"} <= set(
        facts
    )
    text = "\n".join(offer.lines())
    assert "200 x 150 px" in text
    assert "from 1 m it tells 87 ppi apart" in text


@pytest.mark.parametrize(
    ("asked", "name", "said"),
    [
        pytest.param({"size": "huge"}, "a.tif", "no size of paper", id="size"),
        pytest.param({"size": "0x0mm"}, "a.tif", "5 mm to 100 m", id="zero"),
        pytest.param({"size": "1x1m", "ppi": "1200"}, "a.tif", "up to 64 times, asked for", id="beyond-reach"),
        pytest.param({"size": "1x1m", "force": True, "ppi": "1200"}, "a.tif", "up to 64 times", id="no-force-will-do"),
        pytest.param({"ppi": "0"}, "a.tif", "1 to 4800 px per inch", id="ppi"),
        pytest.param({"ppi": "fine"}, "a.tif", "number of px per inch, got 'fine'", id="ppi-word"),
        pytest.param({"fit": True, "fill": True}, "a.tif", "give one of them", id="fit-and-fill"),
        pytest.param({"overlap": "20mm"}, "a.tif", "and there are none; give --panels", id="overlap-of-nothing"),
        pytest.param({"distance": "0m"}, "a.tif", "from 25 mm to 1 km, got 0 mm", id="distance"),
        pytest.param({"distance": "0m", "ppi": "eye"}, "a.tif", "from 25 mm to 1 km", id="distance-of-an-eye"),
        pytest.param({"size": "10x10"}, "a.tif", "none of the photo sizes.*10x10in or 10x10cm", id="size-unit"),
        pytest.param({"size": "1x1000m"}, "a.tif", "got 1000 m", id="size-large"),
        pytest.param({"edge": "foo"}, "a.tif", "picture, mirror, stretch or a colour, got 'foo'", id="edge"),
        pytest.param({"ppi": "eye", "size": "60x45px"}, "a.tif", "needs a size of paper", id="eye-of-px"),
        pytest.param({"anchor": "120%,0%"}, "a.tif", "is no anchor", id="anchor"),
        pytest.param({"bleed": "3"}, "a.tif", "no unit", id="bleed"),
        pytest.param({"crop": "900x900+0+0"}, "a.tif", "inside the picture", id="crop"),
        pytest.param({"crop": "all"}, "a.tif", "is no crop", id="crop-word"),
        pytest.param({"edge": "#12"}, "a.tif", "or a colour, got '#12'", id="colour"),
        pytest.param({"panels": "0x2"}, "a.tif", "are no panels", id="panels"),
        pytest.param({"panels": "2x2", "panel_size": "A4"}, "a.tif", "give one of them", id="panels-twice"),
        pytest.param({"panels": "2x2"}, "a.zarr", "pixels of the sheet; panels and marks are for", id="zarr-panels"),
        pytest.param({"border": "40mm"}, "a.tif", "leaves nothing", id="border"),
        pytest.param({"put": ("finish.ppj=1",)}, "a.tif", "did you mean 'finish.ppi'", id="setting"),
        pytest.param({"put": ("plan.tile=600",), "tile": None}, "a.tif", "512 px times a power of two", id="tile"),
        pytest.param({}, "a.gif", "names no poster", id="target"),
        pytest.param({}, "no/such/a.tif", "its folder does not exist", id="folder"),
    ],
)
def test_nonsense_is_refused_in_one_line(tmp_path, photo, shared, asked, name, said):
    """Before any work, in one line that says what would do; nothing is left behind."""
    with pytest.raises(RefineError, match=said) as refused:
        poster(photo, tmp_path / name, words(**asked), shared, quiet=True)
    assert len(str(refused.value).splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["photo.png"]


def test_an_eye_s_resolution_can_be_ordered(photo):
    """`--ppi eye` prints just what an eye tells apart from where it looks, and no more."""
    assert offered(photo, words(size="4x3in", ppi="eye", distance="1m")).promise.ppi == 88
    # 5 in of diagonal are looked at from 25 cm.
    assert offered(photo, words(size="4x3in", ppi="eye")).promise.ppi == 344


@pytest.mark.parametrize(
    ("content", "said"), [(None, "the profile cannot be read: No such file"), (b"dear", "is no ICC profile")]
)
def test_missing_profiles_are_refused_in_one_line(tmp_path, content, said):
    """A profile that is not there, or none."""
    if content is not None:
        (tmp_path / "a.icc").write_bytes(content)
    with pytest.raises(RefineError, match=said) as refused:
        words(profile=tmp_path / "a.icc")
    assert len(str(refused.value).splitlines()) == 1


def test_inks_are_for_tiff_and_pdf(tmp_path, photo, profile, shared):
    """PNG and JPEG hold no inks here: said before any work."""
    with pytest.raises(RefineError, match="PNG is not written in CMYK; use TIFF"):
        poster(photo, tmp_path / "a.png", words(profile=profile), shared, quiet=True)


def test_companions_are_part_of_the_target(tmp_path, photo, shared):
    """A proof that was changed is named by `verify`."""
    poster(photo, tmp_path / "a.tif", words(), shared, quiet=True)
    proof = derivative.companion(tmp_path / "a.tif", "proof")
    proof.write_bytes(proof.read_bytes() + b"\0")
    assert [wrong.path for wrong in verified(tmp_path / "a.tif").wrong] == ["a.tif.proof.png"]


def test_verify_of_a_panel_names_the_poster(tmp_path, photo, shared):
    """A panel and a proof are verified with the poster they belong to."""
    poster(photo, tmp_path / "wall.tif", words(panels="2x1"), shared, quiet=True)
    assert verified(tmp_path / "wall.tif").wrong == ()
    for name in ("wall.panel-1-2.tif", "wall.tif.proof.png"):
        with pytest.raises(RefineError, match=r"is a part of .*wall\.tif, whose record has all its files"):
            verified(tmp_path / name)


def test_repair_of_a_poster_in_ink(tmp_path, photo, profile, shared):
    """Only the damaged tile is made anew; what was counted over all tiles is what it was."""
    target = tmp_path / "a.zarr"
    asked = words(profile=profile, ppi="600")
    poster(photo, target, asked, shared, quiet=True)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert json.loads(before[target / "provenance.json"])["pages"][0]["out_of_gamut"] > 0
    shard = target / "0/c/0/0/0"
    shard.write_bytes(shard.read_bytes()[::-1])
    summary, _ = poster(photo, target, asked, shared, repair=True, quiet=True)
    assert (summary.done, summary.output_px) == (1, 512 * 512)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_what_a_proof_says_stays_on_it(tmp_path, photo, shared):
    """Long lines are broken: beside the words nothing is written up to the edge of the picture."""
    poster(photo, tmp_path / "a.tif", words(size="400x300mm", force=True), shared, quiet=True)
    with Image.open(tmp_path / "a.tif.proof.png") as proof:
        pixels = np.asarray(proof.convert("L"))
    assert (pixels[:, -40:] == 255).all()
    assert (pixels[-70:-30, 48:300] < 128).any()
