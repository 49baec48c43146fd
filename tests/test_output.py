"""What stands beside the pixels of a result: format and name, profile, resolution, metadata, and what is told."""

from __future__ import annotations

import json
import pickle
import sys
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
from blobs import GREY, IPTC, SRGB, XMP, exif
from inkprofile import LINEAR, ink_profile
from PIL import Image as Pillow
from strategies_files import assessed_plan, picture, write_picture

from pipelines import catalog as catalogs
from pipelines import cli, feed, identity, ingest, manifest, output, tasks
from pipelines.catalog import catalog
from pipelines.cluster import Cluster
from pipelines.identity import result_key
from pipelines.items import Common, Ingest, Restore
from pipelines.large import LargeImage, LargeImages
from pipelines.place import Folder, Spot
from pipelines.summary import Summary
from pipelines.targets import Files
from refine.card import load_card
from refine.colour import srgb_profile
from refine.imagefile import Format, encode_image, read_image
from refine.limits import Limits
from refine.preset import OutputSettings, load_preset
from refine.provenance import NAMESPACE
from refine.session import Engine
from refine.settings import Settings, Size
from refine.spec import Image, ImageSpec, Metadata, Resolution
from refine.tiles import restored_pixels

KINDS = {
    "grey.png": (1, "uint8", GREY),
    "rgb.jpg": (3, "uint8", SRGB),
    "rgb.webp": (3, "uint8", SRGB),
    "alpha.webp": (4, "uint8", SRGB),
    "deep.png": (3, "uint16", SRGB),
    "deep-alpha.png": (4, "uint16", SRGB),
    "deep.tif": (3, "uint16", SRGB),
    "linear.tif": (3, "uint16", LINEAR),
}
"""Pictures that keep their format: channels, depth, profile."""
RENAMED = {
    "moving.gif": ("moving.png", "uint8", "GIF is not written"),
    "map.bmp": ("map.png", "uint8", "BMP is not written"),
    "page.jp2": ("page.png", "uint8", "JPEG 2000 is not written"),
    "scan.jp2": ("scan.tif", "uint16", "JPEG 2000 is not written"),
    "misnamed.jpg": ("misnamed.png", "uint8", "GIF is not written"),
}
"""Pictures whose format is not written: the result's name, its depth, and what is told."""


SPEC = ImageSpec(100, 80, 3, "uint8")


def settings_for(scale=2, tile=256, **others):
    """So many times as large without a network."""
    chosen = {"upscale.nets": "[]", "sharpen.amount": "0.4", "plan.tile": str(tile), "plan.block": "64"}
    chosen |= {key.replace("__", "."): str(value) for key, value in others.items()}
    return Settings(load_preset("balanced", chosen), Size(scale=Fraction(scale)))


def described(height, width, channels, dtype="uint8", icc=SRGB, space="additive"):
    """A picture that carries all there is."""
    carried = Metadata(exif(), XMP, IPTC)
    spec = ImageSpec(height, width, channels, dtype, "", icc, Resolution(300, 300), space=space, metadata=carried)
    return Image(picture(height, width, channels, dtype), spec)


def write_described(path, *arguments, **options):
    """The same in a file, lossless but in JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".jpg": "jpeg", ".tif": "tiff"}.get(path.suffix, path.suffix[1:])
    path.write_bytes(encode_image(described(*arguments, **options), kind, lossless=True))
    return path


def write_others(folder):
    """Pictures that refine does not write, or not so: turned, in ink, in other formats."""
    pixels = picture(24, 31)
    light = Pillow.fromarray(pixels)
    light.save(folder / "turned.jpg", exif=b"Exif\0\0" + exif(orientation=6), icc_profile=SRGB, quality=95)
    Pillow.fromarray(picture(24, 31, 4), "CMYK").save(folder / "ink.jpg", icc_profile=ink_profile(), dpi=(200, 200))
    light.quantize(16).save(folder / "moving.gif", save_all=True, append_images=[light.rotate(90).quantize(16)])
    (folder / "misnamed.jpg").write_bytes((folder / "moving.gif").read_bytes())
    light.save(folder / "map.bmp")
    light.save(folder / "page.jp2")
    Pillow.fromarray(picture(24, 31, 1, "uint16")[:, :, 0]).save(folder / "scan.jp2")


@dataclass(frozen=True)
class Tree:
    """A catalog that is done."""

    source: Path
    target: Path
    summary: Summary

    @property
    def notes(self):
        """What was told, by path."""
        return {remark.path: remark.notes for remark in self.summary.notes}


@pytest.fixture(scope="module")
def tree(tmp_path_factory, client):
    """A tree of all formats that are read."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    for name, (channels, dtype, icc) in KINDS.items():
        write_described(source / name, 24, 31, channels, dtype, icc)
    write_others(source)
    summary = catalog(source, target, settings_for(output__lossless="true"), Cluster(client.scheduler.address))
    assert summary.failed == []
    return Tree(source, target, summary)


@pytest.mark.parametrize("name", KINDS)
def test_catalog_keeps_what_describes(tree, name):
    """Format, depth, profile bytes, resolution, EXIF and XMP are the source's, by Pillow; what was done is told."""
    channels, dtype, icc = KINDS[name]
    found = read_image(tree.target / name).spec
    assert (found.format, found.dtype, found.channels) == (read_image(tree.source / name).spec.format, dtype, channels)
    with Pillow.open(tree.target / name) as shown:
        said = shown.getexif()
        assert shown.size == (62, 48)
        assert shown.info["icc_profile"] == icc
    assert (said[271], said[306], said.get(274, 1)) == ("Maker", "2020:02:03 04:05:06", 1)
    assert float(said[282]) == pytest.approx(300)
    assert found.resolution.x == pytest.approx(300, rel=1e-4)
    assert b"image/test" in found.metadata.xmp, "the source's own packet is kept"
    for told in (NAMESPACE.encode(), b"resample kernel=lanczos3", b"unsharp-mask sigma=1 amount=0.4", b"onnxruntime-"):
        assert told in found.metadata.xmp
    assert name not in tree.notes, "nothing was lost, nothing is told"


def test_catalog_keeps_iptc_where_it_has_a_place(tree):
    """JPEG and TIFF hold IPTC records; where a format has no place for them, the notes say so."""
    for name in KINDS:
        kept = read_image(tree.source / name).spec.metadata.iptc == IPTC
        assert kept == (Path(name).suffix in (".jpg", ".tif"))
        assert (read_image(tree.target / name).spec.metadata.iptc == IPTC) == kept


def test_catalog_turns_once(tree):
    """A photograph that lies on its side is turned, and no reader turns it again."""
    source, result = read_image(tree.source / "turned.jpg"), read_image(tree.target / "turned.jpg")
    assert source.spec.orientation == 6
    assert result.spec.orientation == 1
    assert result.spec.shape == (2 * 31, 2 * 24, 3)
    expected = restored_pixels(source.pixels, assessed_plan(settings_for(), source))
    assert np.abs(result.pixels.astype(int) - expected).mean() < 2


def test_catalog_turns_ink_to_light_and_says_so(tree):
    """A CMYK JPEG with its profile becomes an sRGB JPEG with sRGB's: ink of nothing is white."""
    assert read_image(tree.source / "ink.jpg").spec.space == "cmyk"
    result = read_image(tree.target / "ink.jpg").spec
    assert (result.format, result.shape, result.icc) == ("jpeg", (48, 62, 3), srgb_profile())
    assert result.resolution.x == 200
    assert any("CMYK converted to sRGB" in note for note in tree.notes["ink.jpg"])


@pytest.mark.parametrize("name", RENAMED)
def test_catalog_writes_the_nearest_format_and_says_so(tree, name):
    """What is not written comes out lossless in its own depth, under a name that says what it is."""
    renamed, dtype, told = RENAMED[name]
    found = read_image(tree.target / renamed)
    assert found.spec.dtype == dtype
    source = read_image(tree.source / name)
    assert np.array_equal(found.pixels, restored_pixels(source.pixels, assessed_plan(settings_for(), source)))
    assert any(note.endswith(told) for note in tree.notes[name])
    assert not (tree.target / name).exists()


def test_catalog_tells_which_frame(tree):
    """What reading chose is told with the rest."""
    assert any(note.startswith("frame 1 of") for note in tree.notes["moving.gif"])


def test_notes_are_in_ledger_and_report(tree):
    """The ledger has each image's notes, and --json a list of them."""
    assert {"path": "map.bmp", "notes": ("written as PNG: BMP is not written",)} in tree.summary.facts()["notes"]
    with manifest.opened(tree.target / ".refine") as ledger:
        assert ledger.record("map.bmp").notes == tree.notes["map.bmp"]


def test_renamed_results_are_unchanged_in_the_next_run(tree, monkeypatch):
    """A result is looked for under the name it was given, not the one its source would suggest."""
    monkeypatch.setattr(catalogs, "connected", None)
    summary = catalog(tree.source, tree.target, settings_for(output__lossless="true"))
    assert (summary.done, summary.unchanged) == (0, tree.summary.done)


@pytest.mark.parametrize(
    ("names", "loser", "owner"),
    [
        pytest.param(["a.gif", "a.png"], "a.gif", "a.png", id="another keeps its own name"),
        pytest.param(["a.bmp", "a.gif"], "a.gif", "a.bmp", id="two are renamed"),
    ],
)
def test_renamed_results_never_overwrite(tmp_path, shared, names, loser, owner):
    """Of two images with one result's name one fails and names the other, in every run."""
    source = tmp_path / "source"
    source.mkdir()
    for name in names:
        Pillow.fromarray(picture(9, 9)).save(source / name)
    for expected in ((1, 0), (0, 1)):
        summary = catalog(source, tmp_path / "target", settings_for(), shared)
        assert (summary.done, summary.unchanged) == expected
        assert [(c.path, c.stage) for c in summary.failed] == [(loser, "plan")]
        assert f"as is that of {owner}; rename" in summary.failed[0].reason


def test_image_that_takes_a_name_later_gets_it(tmp_path, shared):
    """A result under another's name gives way when that image comes, and is not called unchanged."""
    source = tmp_path / "source"
    source.mkdir()
    Pillow.fromarray(picture(9, 9)).save(source / "a.gif")
    catalog(source, tmp_path / "target", settings_for(), shared)
    write_picture(source / "a.png", picture(12, 9))
    summary = catalog(source, tmp_path / "target", settings_for(), shared)
    assert (summary.done, [c.path for c in summary.failed]) == (1, ["a.gif"])
    assert read_image(tmp_path / "target" / "a.png").spec.height == 24


@pytest.mark.parametrize(
    ("name", "space", "channels", "dtype", "icc"),
    [
        pytest.param("ink.tif", "cmyk", 4, "uint8", ink_profile(), id="cmyk"),
        pytest.param("ink.tif", "cmyk", 4, "uint16", ink_profile(), id="cmyk, 16 bit"),
        pytest.param("light.tif", "additive", 3, "uint8", LINEAR, id="linear"),
        pytest.param("light.png", "additive", 4, "uint16", LINEAR, id="linear, alpha"),
        pytest.param("plain.jpg", "additive", 3, "uint8", SRGB, id="nothing to convert"),
    ],
)
def test_tiled_equals_untiled(tmp_path, shared, monkeypatch, name, space, channels, dtype, icc):
    """Colours converted tile by tile are those of the whole; so are profile, metadata and notes."""
    added = []
    add = LargeImages.add
    monkeypatch.setattr(LargeImages, "add", lambda *given: (added.append(given), add(*given)))
    source = tmp_path / "source"
    write_described(source / name, 150, 90, channels, dtype, icc, space)
    whole = catalog(source, tmp_path / "whole", settings_for(), shared)
    monkeypatch.setattr(feed, "BATCH_S", 0.0)
    tiled = catalog(source, tmp_path / "tiled", settings_for(tile=64), shared)
    assert (whole.failed, tiled.failed) == ([], [])
    one, other = read_image(tmp_path / "whole" / name), read_image(tmp_path / "tiled" / name)
    assert one.spec == other.spec
    assert np.array_equal(one.pixels, other.pixels)
    assert whole.notes == tiled.notes
    assert len(added) == 1


def test_tasks_of_tiles_are_small(tmp_path):
    """Profile and metadata lie in the work folder once: no task carries them, and every task finds them there."""
    heavy = Metadata(exif(), XMP, IPTC * 5000)
    image = described(80, 90, 3)
    path = tmp_path / "a.tif"
    path.write_bytes(encode_image(replace(image, spec=replace(image.spec, metadata=heavy)), "tiff"))
    status = path.stat()
    item = Restore(
        "a.tif", Spot(Folder(tmp_path), "a.tif"), "out.tif", status.st_size, status.st_mtime_ns, settings_for()
    )
    spec, work = read_image(path).spec, tmp_path / "work"
    (receipt,) = tasks.performed((Ingest(item, work),), Common(Engine(), Limits(), Files(Folder(tmp_path))))
    assert receipt.source_sha256
    assert ingest.source_spec(work) == spec
    plan = settings_for(tile=64).plan(spec)
    under_way = LargeImage(item, plan, work, {(0, 0): next(plan.tiles())})
    of_settings = len(pickle.dumps(item.settings))
    assert max(len(pickle.dumps(task)) for task in [*under_way.tiles, Ingest(item, work)]) < 1500 + of_settings


@pytest.fixture
def called(monkeypatch, capsys):
    """`refine restore` in this process: its report."""

    def call(*words):
        words = ["refine", "restore", *words, "--json", "--set", "upscale.nets=[]", "--scale", "2"]
        monkeypatch.setattr(sys, "argv", list(map(str, words)))
        monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capsys.readouterr()
        assert not left.value.code, said.err
        return json.loads(said.out), said.err

    return call


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp", "a.avif"])
def test_strip_leaves_colour_and_resolution(tmp_path, called, name):
    """With --strip no EXIF, XMP or IPTC is left, not even what refine did; profile and resolution are."""
    source = write_described(tmp_path / "source.tif", 20, 30, 3)
    called(source, tmp_path / name, "--strip")
    with Pillow.open(tmp_path / name) as shown:
        said = dict(shown.getexif())
        assert shown.info["icc_profile"] == SRGB
        assert "xmp" not in shown.info
        assert float(said.get(282) or shown.info["dpi"][0]) == pytest.approx(300, rel=1e-4)
    assert 271 not in said
    assert 34853 not in said
    assert NAMESPACE.encode() not in (tmp_path / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        pytest.param("a.png", ["IPTC left out: PNG has no place for it"], id="png"),
        pytest.param("a.webp", ["IPTC left out: WebP has no place for it"], id="webp"),
        pytest.param("a.tif", [], id="tiff"),
    ],
)
def test_restore_tells_what_is_lost(tmp_path, called, name, lost):
    """`--json` has what did not go into the file, and -v a line for each."""
    source = write_described(tmp_path / "source.tif", 20, 30, 3)
    report, err = called(source, tmp_path / name, "-v")
    assert report["notes"] == ([{"path": str(source), "notes": lost}] if lost else [])
    assert [line for line in err.splitlines() if "left out" in line] == [f"{source}: {note}" for note in lost]


@pytest.mark.parametrize(("suffix", "options"), [(".avif", []), (".jxl", []), (".webp", ["output.lossless=true"])])
def test_restore_writes_formats_by_their_suffix(tmp_path, called, suffix, options):
    """AVIF, JPEG XL and WebP are made where TARGET is called so."""
    source = write_picture(tmp_path / "a.png", picture(20, 30))
    called(source, tmp_path / f"b{suffix}", *(word for option in options for word in ("--set", option)))
    head = (tmp_path / f"b{suffix}").read_bytes()[:16]
    assert {".avif": b"ftypavif", ".jxl": b"JXL ", ".webp": b"WEBP"}[suffix] in head


def test_metadata_trouble_costs_no_picture(tmp_path, called, monkeypatch):
    """Where metadata cannot be carried over for a reason nobody thought of, the picture is made and says so."""

    def broken(*_):
        raise RuntimeError("bug")

    monkeypatch.setattr(output, "carried", broken)
    source = write_described(tmp_path / "a.png", 20, 30, 3)
    report, _ = called(source, tmp_path / "b.png")
    assert (report["done"], len(report["notes"])) == (1, 1)
    assert "EXIF, XMP and IPTC left out: RuntimeError" in report["notes"][0]["notes"][0]
    assert read_image(tmp_path / "b.png").spec.metadata == Metadata()


def test_deed_says_networks_and_strengths():
    """What was done is said in the order it was done, with strengths; a step that did nothing is not in it."""
    plan = Settings(load_preset("balanced", {"denoise.luma": "2"}), Size(scale=Fraction(5, 2))).plan(SPEC)
    deed = output.deed(plan, "class")
    assert [step.split()[0] for step in deed.steps] == [
        "repair",
        "upscale",
        "resample",
        "guided-denoise",
        "unsharp-mask",
    ]
    assert deed.steps[3].startswith("guided-denoise luma=2 chroma=0 ")
    assert deed.nets == tuple((net, load_card(net).sha256) for net in ("clean-x1", "fast-x2"))
    assert (deed.program, deed.scale, deed.execution_class) == ("refine", 2.5, "class")
    twice = output.deed(Settings(size=Size(scale=Fraction(2))).plan(SPEC), "class")
    assert [step.split()[0] for step in twice.steps] == ["repair", "upscale", "unsharp-mask"]


def test_output_formats_are_those_written():
    """The preset offers every format that is written, and no other."""
    offered = get_args(get_type_hints(OutputSettings)["format"])
    assert offered == ("source", *get_args(Format))


@pytest.mark.parametrize("change", ["output.metadata=strip", "output.lossless=true", "output.format=webp"])
def test_result_key_has_the_output_options(change):
    """What changes the bytes of a file changes its key: such results are made again."""
    key, value = change.split("=")
    assert result_key(settings_for(**{key.replace(".", "__"): value}), "class") != result_key(settings_for(), "class")


@pytest.mark.parametrize(("word", "family"), [("auto", "fast"), ("standard", "standard")])
def test_result_key_has_the_networks_of_the_family(word, family):
    """A new network of a family makes new results where it may have a part in them."""
    facts = identity.result_facts(settings_for(upscale__nets=word), "class")
    assert set(facts["networks"]) == {"clean-x1", f"{family}-x2", f"{family}-x4"}


def test_result_key_has_the_behaviour(monkeypatch):
    """Results of a version before metadata and colour were heeded are made again."""
    assert identity.BEHAVIOUR >= 2
    before = result_key(settings_for(), "class")
    monkeypatch.setattr(identity, "BEHAVIOUR", identity.BEHAVIOUR + 1)
    assert result_key(settings_for(), "class") != before
