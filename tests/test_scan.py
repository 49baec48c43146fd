"""Scans: the plain loop's pixels in every target, the original untouched, and every refusal in one line."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from strategies_files import assessed_plan, picture, write_picture

from pipelines import derivative, omezarr, pagerun
from pipelines import scan as scans
from pipelines.derivative import verified
from pipelines.errors import JobError
from pipelines.scan import scan
from refine.errors import RefineError
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
    assert not list((tmp_path / "page.zarr" / ".refine").glob("work/*"))


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


def test_bag_is_complete(tmp_path, source, shared):
    """A bag's manifests name every payload and tag file with its digest."""
    scan(source, tmp_path / "page.zarr", settings_for(), shared, bag=True, quiet=True)
    bag = tmp_path / "page.zarr.bag"
    assert (bag / "bagit.txt").read_text() == "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
    named = {}
    for manifest in ("manifest-sha256.txt", "tagmanifest-sha256.txt"):
        for line in (bag / manifest).read_text().splitlines():
            digest, name = line.split("  ", 1)
            assert hashlib.sha256((bag / name).read_bytes()).hexdigest() == digest
            named[name] = digest
    there = {p.relative_to(bag).as_posix() for p in bag.rglob("*") if p.is_file() and ".refine" not in p.parts}
    assert there - named.keys() == {"tagmanifest-sha256.txt"}


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
    with pytest.raises(JobError, match="is not there"):
        verified(target)


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
