"""Scans: the plain loop's pixels in every target, the original untouched, and every refusal in one line."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from strategies_files import assessed_plan, picture, write_picture

from pipelines import derivative, omezarr, pagerun
from pipelines import scan as scans
from pipelines.derivative import verified
from pipelines.errors import JobError
from pipelines.scan import scan
from refine.errors import ImageWriteError, RefineError
from refine.imagefile import read_image
from refine.preset import load_preset
from refine.settings import Settings, Size
from refine.tiles import restored_pixels


def settings_for(**others):
    """Sharpened at its own size, in tiles of one chunk: several tiles of small pictures."""
    chosen = {"plan.tile": "512", "plan.block": "256", "repair.net": "", "sharpen.amount": "0.5"}
    return Settings(load_preset("archive", chosen | {k.replace("__", "."): str(v) for k, v in others.items()}))


def expected_pixels(path, settings):
    """The plain loop over the image's plan."""
    image = read_image(path)
    return restored_pixels(image.pixels, assessed_plan(settings, image))


def whole(group):
    """All pixels of a finished image."""
    return omezarr.opened(group)[:, :]


@pytest.fixture
def source(tmp_path):
    """A grey page of 16 bit, larger than one tile, stored in strips."""
    path = tmp_path / "page.tif"
    tifffile.imwrite(path, picture(900, 700, 1, "uint16")[..., 0], rowsperstrip=16, resolution=(300, 300))
    return path


def test_scan_equals_the_plain_loop(tmp_path, source, shared):
    """Level 0 has the pixels of the plain loop; the source has the bytes it had; the record says derivative."""
    before = source.read_bytes()
    summary = scan(source, tmp_path / "page.zarr", settings_for(), shared, quiet=True)
    assert (summary.done, summary.failed) == (1, [])
    assert np.array_equal(whole(tmp_path / "page.zarr"), expected_pixels(source, settings_for()))
    assert source.read_bytes() == before
    record = json.loads((tmp_path / "page.zarr" / "provenance.json").read_text())
    assert record["kind"] == "derivative"
    assert record["source"]["sha256"] == hashlib.sha256(before).hexdigest()
    assert "master" not in json.dumps(record)
    assert not (tmp_path / "page.zarr" / ".refine").exists()


@pytest.mark.parametrize("kind", ["tiles", "one-strip", "png"])
def test_sources_of_all_kinds_give_the_same(tmp_path, shared, kind):
    """However the pixels lie in the file, the result is the plain loop's."""
    pixels = picture(600, 530, 3)
    path = tmp_path / ("a.png" if kind == "png" else "a.tif")
    if kind == "tiles":
        tifffile.imwrite(path, pixels, tile=(64, 64), compression="zlib")
    elif kind == "one-strip":
        tifffile.imwrite(path, pixels, rowsperstrip=600, compression="lzw")
    else:
        write_picture(path, pixels)
    scan(path, tmp_path / "a.zarr", settings_for(), shared, quiet=True)
    assert np.array_equal(whole(tmp_path / "a.zarr"), expected_pixels(path, settings_for()))


def test_scan_writes_a_tiff_with_its_pyramid(tmp_path, source, shared):
    """A second reader finds the pixels, the levels, the resolution; nothing is left beside the file and its record."""
    target = tmp_path / "out.tif"
    scan(source, target, settings_for(), shared, quiet=True)
    with tifffile.TiffFile(target) as file:
        assert np.array_equal(file.pages[0].asarray(), expected_pixels(source, settings_for())[..., 0])
        assert [page.shape for page in file.pages[0].pages] == [(450, 350)]
        assert file.pages[0].tags["XResolution"].value == (300, 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.tif", "out.tif.provenance.json", "page.tif"]
    assert scan(source, target, settings_for(), shared, quiet=True).unchanged == 1


def test_scan_keeps_pages(tmp_path, shared):
    """Each page is an image of its own, and a page of the TIFF."""
    path = tmp_path / "pages.tif"
    pages = [picture(300, 200, 1, seed=n)[..., 0] for n in range(3)]
    with tifffile.TiffWriter(path) as file:
        for page in pages:
            file.write(page, photometric="minisblack", metadata=None)
    assert scan(path, tmp_path / "pages.zarr", settings_for(), shared, quiet=True).done == 3
    for number in range(3):
        expected = restored_pixels(
            pages[number][..., None],
            assessed_plan(settings_for(), replace(read_image(path), pixels=pages[number][..., None])),
        )
        assert np.array_equal(whole(tmp_path / "pages.zarr" / str(number)), expected)
    with pytest.raises(JobError, match=r"Deep Zoom holds one picture, pages\.tif has 3"):
        scan(path, tmp_path / "pages.dzi", settings_for(), shared, quiet=True)


def test_litter_of_a_dead_worker_is_swept(tmp_path, source, shared, monkeypatch):
    """What a worker that died in this very run was writing is no part of the result."""
    target = tmp_path / "page.zarr"
    litter = target / "0" / "c" / "0" / "0" / ".1.0123456789ab.part"
    advance = pagerun._Feed._advance
    monkeypatch.setattr(
        pagerun._Feed, "_advance", lambda feed: (litter.parent.exists() and litter.touch(), advance(feed))[1]
    )
    scan(source, target, settings_for(), shared, quiet=True)
    assert not litter.exists()
    assert verified(target).wrong == ()
    assert "part" not in json.dumps(json.loads((target / "provenance.json").read_text())["files"])


def test_finished_scan_is_left_alone(tmp_path, source, shared):
    """The same command again does nothing; other settings on a finished target are refused, with what differs."""
    target = tmp_path / "page.zarr"
    scan(source, target, settings_for(), shared, quiet=True)
    before = {p: p.stat().st_mtime_ns for p in target.rglob("*") if p.is_file()}
    assert scan(source, target, settings_for(), shared, quiet=True).unchanged == 1
    assert {p: p.stat().st_mtime_ns for p in target.rglob("*") if p.is_file()} == before
    with pytest.raises(JobError, match=r"result of another run \(preset differ\)"):
        scan(source, target, settings_for(sharpen__amount=0.7), shared, quiet=True)


def test_unfinished_scan_of_another_kind_is_begun_anew(tmp_path, source, shared, monkeypatch):
    """What an interrupted run of other settings left is not mixed in; that is said."""
    target = tmp_path / "page.zarr"
    monkeypatch.setattr(scans, "_finish", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        scan(source, target, settings_for(), shared, quiet=True)
    monkeypatch.undo()
    said = []
    monkeypatch.setattr(pagerun.logger, "warning", lambda text, *values: said.append(text % values))
    scan(source, target, settings_for(sharpen__amount=0.7), shared, quiet=True)
    assert said[0] == "page.zarr: an unfinished run was of another kind (preset differ); it is begun anew"
    assert np.array_equal(whole(target), expected_pixels(source, settings_for(sharpen__amount=0.7)))


def test_resumed_scan_redoes_what_is_missing(tmp_path, source, shared, monkeypatch):
    """After an interrupt only the tiles without a record, or whose shard is lost, are made again."""
    target = tmp_path / "page.zarr"
    monkeypatch.setattr(scans, "_finish", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        scan(source, target, settings_for(), shared, quiet=True)
    monkeypatch.undo()
    lost = omezarr.shard_path(target, 0, 1, 0)
    kept = omezarr.shard_path(target, 0, 0, 0)
    lost.unlink()
    before = kept.stat().st_mtime_ns
    summary = scan(source, target, settings_for(), shared, quiet=True)
    assert summary.output_px == (900 - 512) * 512
    assert kept.stat().st_mtime_ns == before
    assert np.array_equal(whole(target), expected_pixels(source, settings_for()))
    assert verified(target).wrong == ()


@pytest.mark.parametrize("name", ["page.tif", "page.tif/inside.zarr", "no/such.zarr", "page.jpg"])
def test_scan_refuses_targets(tmp_path, source, shared, name):
    """A target that is the source, lies in it, has no folder, or an unknown ending is refused before any work."""
    with pytest.raises(JobError, match=r"name|use|make") as refused:
        scan(source, tmp_path / name, settings_for(), shared, quiet=True)
    assert len(str(refused.value).splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["page.tif"]


@pytest.mark.parametrize("name", ["a.zarr/b.zarr", "a.zarr/0/b.tif", "a.zarr.bag/b.zarr", "a.zarr.bag/data/b.zarr"])
def test_scan_refuses_to_write_into_a_target(tmp_path, source, shared, name):
    """Nothing may come into a finished result, nor into its bag: both would no longer be what was recorded."""
    bagged = ".bag" in name
    scan(source, tmp_path / "a.zarr", settings_for(), shared, bagged=bagged, quiet=True)
    before = contents(tmp_path / "a.zarr")
    with pytest.raises(JobError, match=r"lies in a\.zarr.*, which is a result itself; name a TARGET beside it"):
        scan(source, tmp_path / name, settings_for(), shared, quiet=True)
    assert contents(tmp_path / "a.zarr") == before


@pytest.mark.parametrize("bagged", [False, True])
@pytest.mark.parametrize("name", ["a.zarr", "a.tif"])
def test_scan_says_that_the_disk_has_no_room(tmp_path, source, shared, monkeypatch, name, bagged):
    """Bytes are told in units that fit them, and nothing is left of what was begun."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6, 21_500))
    with pytest.raises(JobError, match=r"a\.\w+ needs [\d.]+ MB more of disk, 21\.5 kB are free; make room"):
        scan(source, tmp_path / name, settings_for(), shared, bagged=bagged, quiet=True)
    assert [p.name for p in tmp_path.iterdir()] == ["page.tif"]


@pytest.mark.parametrize("name", ["a.zarr", "a.tif"])
@pytest.mark.parametrize("call", ["mkdir", "open"])
def test_targets_that_cannot_be_written_are_refused_in_one_line(tmp_path, source, shared, monkeypatch, name, call):
    """A folder without the right to write: the same words as of any other result."""
    real = getattr(Path, call)

    def refused(path, *args, **more):
        if ".refine" in path.parts:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *args, **more)

    monkeypatch.setattr(Path, call, refused)
    with pytest.raises(
        ImageWriteError, match=rf"^{name}: cannot be stored: Permission denied; name a target elsewhere$"
    ):
        scan(source, tmp_path / name, settings_for(), shared, quiet=True)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["page.tif"]


def test_targets_in_proc_are_refused_in_one_line(source, shared):
    """A file system that takes no folders."""
    with pytest.raises(ImageWriteError, match=r"^x\.zarr: cannot be stored: "):
        scan(source, Path("/proc/x.zarr"), settings_for(), shared, quiet=True)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_scan_keeps_the_depth(tmp_path, shared, dtype):
    """What a channel holds stays as it is, by the preset that scans have."""
    path = tmp_path / "page.tif"
    tifffile.imwrite(path, picture(300, 200, 3, dtype), photometric="rgb")
    scan(path, tmp_path / "a.tif", settings_for(), shared, quiet=True)
    assert tifffile.imread(tmp_path / "a.tif").dtype == dtype


def test_scan_refuses_a_strangers_folder(tmp_path, source, shared):
    """A folder that holds something else is not written into."""
    (tmp_path / "page.zarr").mkdir()
    (tmp_path / "page.zarr" / "letter.txt").write_text("dear")
    with pytest.raises(JobError, match="not of this job"):
        scan(source, tmp_path / "page.zarr", settings_for(), shared, quiet=True)
    assert (tmp_path / "page.zarr" / "letter.txt").read_text() == "dear"


def test_scan_names_a_damaged_page(tmp_path, shared):
    """A page that cannot be read is named before anything is begun."""
    path = tmp_path / "pages.tif"
    with tifffile.TiffWriter(path) as file:
        for n in range(2):
            file.write(picture(64, 64, 1, seed=n)[..., 0], metadata=None)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        data[file.pages[1].tags["ImageLength"].offset + 8] = 0
        data[file.pages[1].tags["ImageLength"].offset + 9] = 0
    path.write_bytes(data)
    with pytest.raises(RefineError, match="page 2"):
        scan(path, tmp_path / "pages.zarr", settings_for(), shared, quiet=True)
    assert not (tmp_path / "pages.zarr").exists()


def test_changed_source_fails_the_scan(tmp_path, source, shared, monkeypatch):
    """A source that changes under the work ends it with the reason, and no record of a finished derivative."""
    monkeypatch.setattr(scans, "_tell", lambda *_, **__: os.utime(source, ns=(1, 1)))
    summary = scan(source, tmp_path / "page.zarr", settings_for(), shared, quiet=True)
    assert "changed while it was worked on" in summary.failed[0].reason
    assert not derivative.provenance_path(tmp_path / "page.zarr").exists()


def check_bag(bag):
    """See that a bag is valid by RFC 8493: payload and tags are what the manifests say, and nothing else lies there."""
    assert (bag / "bagit.txt").read_text() == "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
    listed = {}
    for manifest in ("manifest-sha256.txt", "tagmanifest-sha256.txt"):
        lines = [line.split("  ", 1) for line in (bag / manifest).read_text().splitlines()]
        listed[manifest] = {name: digest for digest, name in lines}
        assert len(listed[manifest]) == len(lines)
        for name, digest in listed[manifest].items():
            assert hashlib.sha256((bag / name).read_bytes()).hexdigest() == digest
    there = {p.relative_to(bag).as_posix(): p.stat().st_size for p in bag.rglob("*") if not p.is_dir()}
    payload = {name: size for name, size in there.items() if name.startswith("data/")}
    assert payload.keys() == listed["manifest-sha256.txt"].keys()
    tags = {"bagit.txt", "bag-info.txt", "manifest-sha256.txt"}
    assert listed["tagmanifest-sha256.txt"].keys() == tags
    assert there.keys() - payload.keys() == tags | {"tagmanifest-sha256.txt"}
    assert f"Payload-Oxum: {sum(payload.values())}.{len(payload)}\n" in (bag / "bag-info.txt").read_text()


@pytest.mark.parametrize("name", ["page.zarr", "page.tif", "page.dzi"])
def test_bag_lists_what_lies_in_it(tmp_path, source, shared, name):
    """Whatever the target is, its bag is valid: all of `data` is listed, and nothing that is gone."""
    shutil.copy(source, tmp_path / "source.tif")
    source = tmp_path / "source.tif"
    scan(source, tmp_path / name, settings_for(), shared, bagged=True, quiet=True)
    bag = tmp_path / f"{name}.bag"
    check_bag(bag)
    assert verified(bag).wrong == ()
    assert scan(source, tmp_path / name, settings_for(), shared, bagged=True, quiet=True).unchanged == 1
    check_bag(bag)


def test_bag_is_closed_by_the_next_run(tmp_path, source, shared, monkeypatch):
    """A run that is killed before its bag has its manifests leaves that to the same command."""
    with monkeypatch.context() as patch:
        patch.setattr(pagerun, "_close", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            scan(source, tmp_path / "a.tif", settings_for(), shared, bagged=True, quiet=True)
    assert scan(source, tmp_path / "a.tif", settings_for(), shared, bagged=True, quiet=True).failed == []
    check_bag(tmp_path / "a.tif.bag")


def test_verify_of_a_bag_names_every_kind_of_damage(tmp_path, source, shared):
    """Flipped, lost, strange payload and changed tags are each named; a bag without a manifest is refused."""
    scan(source, tmp_path / "page.zarr", settings_for(), shared, bagged=True, quiet=True)
    bag = tmp_path / "page.zarr.bag"
    flip(bag / "data/page.zarr/0/c/0/0/0")
    (bag / "data/page.zarr/1/c/0/0/0").unlink()
    (bag / "data/letter.txt").write_text("dear")
    info = (bag / "bag-info.txt").read_text()
    (bag / "bag-info.txt").write_text(info.replace("Payload-Oxum: ", "Payload-Oxum: 1"))
    whys = {(one.path, one.why.split(",")[0]) for one in verified(bag).wrong}
    assert ("data/page.zarr/0/c/0/0/0", "its SHA-256 differs from the bag's manifest") in whys
    assert ("data/page.zarr/1/c/0/0/0", "is not there") in whys
    assert ("data/letter.txt", "is not in the bag's manifest") in whys
    assert ("bag-info.txt", "its SHA-256 differs from the bag's manifest") in whys
    assert any(path == "bag-info.txt" and why.startswith("says 1") for path, why in whys)
    assert len(whys) == 5
    (bag / "tagmanifest-sha256.txt").unlink()
    assert ("tagmanifest-sha256.txt", "is not there") in {(one.path, one.why) for one in verified(bag).wrong}
    (bag / "manifest-sha256.txt").unlink()
    with pytest.raises(JobError, match="a bag without a manifest-sha256"):
        verified(bag)


def test_verify_names_every_kind_of_damage(tmp_path, source, shared):
    """Flipped, short, lost, swapped and strange files are each named; an untouched target has none."""
    target = tmp_path / "page.zarr"
    scan(source, target, settings_for(), shared, quiet=True)
    assert verified(target).wrong == ()
    shards = [omezarr.shard_path(target, 0, y, x) for y in (0, 1) for x in (0, 1)]
    data = bytearray(shards[0].read_bytes())
    data[len(data) // 2] ^= 1
    shards[0].write_bytes(data)
    shards[1].write_bytes(shards[1].read_bytes()[:-1])
    shards[2].unlink()
    (target / "strange.txt").write_text("hello")
    (target / "zarr.json").write_bytes((target / "0" / "zarr.json").read_bytes())
    whys = {one.path: one.why for one in verified(target).wrong}
    assert whys["0/c/0/0/0"] == "its SHA-256 differs from what was written"
    assert "bytes, was" in whys["0/c/0/0/1"]
    assert whys["0/c/0/1/0"] == "is not there"
    assert whys["strange.txt"] == "was not written by the job"
    assert "zarr.json" in whys
    assert len(whys) == 5
    record = target / "provenance.json"
    record.write_text(record.read_text().replace('"derivative"', '"Derivative"', 1))
    assert "the record itself was changed" in {one.why for one in verified(target).wrong}
    record.write_text(record.read_text().replace('"nbytes"', '"nbxtes"', 1))
    with pytest.raises(JobError, match="is damaged"):
        verified(target)
    record.unlink()
    with pytest.raises(JobError, match=r"has no record provenance\.json"):
        verified(target)


def test_verify_says_why_there_is_nothing_to_compare(tmp_path, source, shared):
    """A file that is absent, one that never was a result, a part of a target and a renamed target are told apart."""
    scan(source, tmp_path / "a.zarr", settings_for(), shared, quiet=True)
    for name, said in (
        ("absent.tif", "is not there; name the TARGET of a catalog, of a finished scan or poster, or a bag$"),
        ("page.tif", "is no TARGET of a catalog, .* nor of a finished scan or poster"),
        ("a.zarr/0/c/0/0/0", "is a part of .*a.zarr, whose record"),
    ):
        with pytest.raises(JobError, match=said) as refused:
            verified(tmp_path / name)
        assert len(str(refused.value).splitlines()) == 1
    scan(source, tmp_path / "a.dzi", settings_for(), shared, quiet=True)
    assert verified(tmp_path / "a.dzi").wrong == ()
    for end in (".dzi", ".dzi.provenance.json", "_files"):
        (tmp_path / f"a{end}").rename(tmp_path / f"b{end}")
    with pytest.raises(JobError, match=r"files with other names \(a\.dzi, \d+ in all\): it was copied or renamed"):
        verified(tmp_path / "b.dzi")


def test_enlarged_scan_equals_the_plain_loop(tmp_path, source, shared):
    """A scan may be enlarged; its plan says what that takes."""
    settings = replace(settings_for(upscale__nets="[]"), size=Size(long_side=1100))
    scan(source, tmp_path / "page.zarr", settings, shared, quiet=True)
    assert np.array_equal(whole(tmp_path / "page.zarr"), expected_pixels(source, settings))


def interrupted(monkeypatch, *args):
    """Run a scan up to its last step."""
    with monkeypatch.context() as patch:
        patch.setattr(scans, "_finish", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            scan(*args, quiet=True)


def flip(path):
    """Change one bit of a file, and not its length."""
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("level", [0, 1])
def test_damaged_shard_is_made_again(tmp_path, source, shared, monkeypatch, level):
    """A shard that is as long as it was but damaged is never recorded as the result: the next run makes it again."""
    target = tmp_path / "page.zarr"
    interrupted(monkeypatch, source, target, settings_for(), shared)
    flip(omezarr.shard_path(target, level, 0, 0))
    with pytest.raises(RefineError, match=rf"{level}/c/0/0/0: is not what was written; run the job again"):
        scan(source, target, settings_for(), shared, quiet=True)
    assert not derivative.provenance_path(target).exists()
    assert scan(source, target, settings_for(), shared, quiet=True).failed == []
    assert np.array_equal(whole(target), expected_pixels(source, settings_for()))
    assert verified(target).wrong == ()


def contents(target):
    """SHA-256 of every file of a target, and of what lies beside it and belongs to it."""
    files = [p for p in target.parent.rglob("*") if p.is_file() and p != target.parent / "page.tif"]
    return {str(p.relative_to(target.parent)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


DAMAGE = {
    "byte": lambda target: flip(target / "0/c/0/0/0"),
    "upper-byte": lambda target: flip(target / "1/c/0/0/0"),
    "lost": lambda target: (target / "0/c/0/1/0").unlink(),
    "byte-and-lost": lambda target: (flip(target / "0/c/0/0/0"), (target / "1/c/0/0/0").unlink()),
    "metadata": lambda target: (flip(target / "0/zarr.json"), (target / "1/zarr.json").unlink()),
    "record": lambda target: (flip(target / "provenance.json"), flip(target / "0/c/0/0/1")),
    "record-cut": lambda target: (target / "provenance.json").write_text("{"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_repair_makes_a_finished_scan_whole(tmp_path, source, shared, kind):
    """Of a finished scan that is damaged only what is wrong is made anew, and every byte is as it was."""
    target = tmp_path / "page.zarr"
    scan(source, target, settings_for(), shared, quiet=True)
    before = contents(target)
    kept = omezarr.shard_path(target, 0, 1, 1)
    untouched = kept.stat().st_mtime_ns
    DAMAGE[kind](target)
    summary = scan(source, target, settings_for(), shared, repair=True, quiet=True)
    assert (summary.done, summary.failed) == (1, [])
    assert contents(target) == before
    if "record" not in kind:
        assert kept.stat().st_mtime_ns == untouched
        assert summary.output_px == {"byte": 512 * 512, "lost": 388 * 512, "byte-and-lost": 512 * 512}.get(kind, 0)
    assert scan(source, target, settings_for(), shared, repair=True, quiet=True).unchanged == 1


def test_lost_shard_has_the_next_scan_read_all(tmp_path, source, shared):
    """Where a file is lost, the same command by itself makes anew that and what else is wrong."""
    target = tmp_path / "page.zarr"
    scan(source, target, settings_for(), shared, quiet=True)
    before = contents(target)
    DAMAGE["byte-and-lost"](target)
    assert scan(source, target, settings_for(), shared, quiet=True).done == 1
    assert contents(target) == before


def test_repair_that_is_killed_goes_on(tmp_path, source, shared, monkeypatch):
    """A damaged shard of the right length is not taken for finished after a kill, without --repair too."""
    target = tmp_path / "page.zarr"
    scan(source, target, settings_for(), shared, quiet=True)
    before = contents(target)
    flip(target / "0/c/0/0/0")
    with monkeypatch.context() as patch:
        patch.setattr(pagerun, "_work_through", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            scan(source, target, settings_for(), shared, repair=True, quiet=True)
    assert scan(source, target, settings_for(), shared, quiet=True).done == 1
    assert contents(target) == before


@pytest.mark.parametrize("name", ["out.tif", "out.dzi"])
def test_repair_of_a_file_makes_it_anew(tmp_path, source, shared, name):
    """A TIFF with a changed byte, a Deep Zoom with a changed tile: made again, byte for byte."""
    target = tmp_path / name
    scan(source, target, settings_for(), shared, quiet=True)
    before = contents(target)
    flip(target if name == "out.tif" else next((tmp_path / "out_files").rglob("0_0.*")))
    assert len(verified(target).wrong) == 1
    assert scan(source, target, settings_for(), shared, quiet=True).unchanged == 1
    assert scan(source, target, settings_for(), shared, repair=True, quiet=True).done == 1
    assert contents(target) == before


def test_repair_of_a_bag_closes_it_again(tmp_path, source, shared):
    """A bag whose payload and tags were damaged is valid again."""
    scan(source, tmp_path / "a.zarr", settings_for(), shared, bagged=True, quiet=True)
    bag = tmp_path / "a.zarr.bag"
    before = contents(bag)
    flip(bag / "data/a.zarr/0/c/0/0/0")
    (bag / "bag-info.txt").write_text("")
    scan(source, tmp_path / "a.zarr", settings_for(), shared, bagged=True, repair=True, quiet=True)
    check_bag(bag)
    assert contents(bag) == before


def test_strange_files_are_no_part_of_a_repair(tmp_path, source, shared):
    """A file that came in is neither removed nor recorded as a result."""
    target = tmp_path / "page.zarr"
    scan(source, target, settings_for(), shared, quiet=True)
    record = (target / "provenance.json").read_bytes()
    (target / "letter.txt").write_text("dear")
    for repair in (False, True):
        with pytest.raises(JobError, match=r"letter\.txt was not written by the job; move it away"):
            scan(source, target, settings_for(), shared, repair=repair, quiet=True)
    assert (target / "letter.txt").read_text() == "dear"
    assert (target / "provenance.json").read_bytes() == record


def test_damage_found_while_halving_is_made_good(tmp_path, source, shared, monkeypatch):
    """Where an upper level cannot be made of a damaged one, the next run makes the damaged shard anew."""
    target = tmp_path / "page.zarr"
    advance = pagerun._Feed._advance

    def damaging(feed):
        if omezarr.shard_path(target, 0, 1, 1).exists():
            flip(omezarr.shard_path(target, 0, 0, 0))
        return advance(feed)

    with monkeypatch.context() as patch:
        patch.setattr(pagerun._Feed, "_advance", damaging)
        (failed,) = scan(source, target, settings_for(), shared, quiet=True).failed
    assert (failed.stage, "fails its checksum" in failed.reason) == ("pyramid", True)
    assert scan(source, target, settings_for(), shared, quiet=True).failed == []
    assert np.array_equal(whole(target), expected_pixels(source, settings_for()))


def test_damaged_working_array_is_made_again(tmp_path, shared, monkeypatch):
    """A working array that fails its checksum ends the run in one line, and the next run decodes the source anew."""
    path, target = write_picture(tmp_path / "page.png", picture(900, 700, 1, "uint16")), tmp_path / "page.zarr"
    real = pagerun._Feed._planned

    def damaging(feed, work):
        for shard in (work.page.work / "source.zarr" / "c").rglob("*"):
            flip(shard) if shard.is_file() else None
        real(feed, work)

    with monkeypatch.context() as patch:
        patch.setattr(pagerun._Feed, "_planned", damaging)
        (failed,) = scan(path, target, settings_for(), shared, quiet=True).failed
    assert failed.reason == "the source's working array fails its checksum; run again to decode it anew"
    assert scan(path, target, settings_for(), shared, quiet=True).failed == []
    assert np.array_equal(whole(target), expected_pixels(path, settings_for()))


def test_workers_keep_nothing_of_an_earlier_source(tmp_path, shared):
    """Another page at the same places, restored by the same workers, is planned by its own size."""
    path, target = tmp_path / "page.tif", tmp_path / "page.zarr"
    settings = replace(settings_for(upscale__nets="[]"), size=Size(scale=2))
    for side in (320, 280):
        tifffile.imwrite(path, picture(side, side, 1, "uint16", seed=side)[..., 0])
        scan(path, target, settings, shared, quiet=True)
        assert np.array_equal(whole(target), expected_pixels(path, settings))
        shutil.rmtree(target)


def test_scan_keeps_many_pages(tmp_path, shared):
    """Of more pages than a process remembers the facts of, each has its record."""
    path = tmp_path / "pages.tif"
    with tifffile.TiffWriter(path) as file:
        for n in range(10):
            file.write(picture(40, 30, 1, seed=n)[..., 0], photometric="minisblack", metadata=None)
    assert scan(path, tmp_path / "pages.zarr", settings_for(), shared, quiet=True).done == 10
    assert verified(tmp_path / "pages.zarr").wrong == ()
