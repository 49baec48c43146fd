"""The catalog: the plain loop's pixels, only what changed, and no half file whatever happens."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from strategies_files import assessed_plan, picture, read_picture, small_tree, write_picture

from pipelines import catalog as catalogs
from pipelines import estimate, failures, feed, graph, manifest, place, store, tasks
from pipelines.brake import Brake
from pipelines.catalog import catalog
from pipelines.errors import JobError, RunError
from pipelines.items import Common, Failure, Ingest, Receipt, Restore, Shard, Stitch
from pipelines.large import LargeImages, work_name
from pipelines.place import Folder, Spot
from pipelines.planning import Planned
from pipelines.records import ShardRecord
from pipelines.run import Outcome
from pipelines.summary import Summary
from pipelines.targets import Files
from pipelines.tasks import performed
from refine.errors import PlanError, ShortOfMemoryError
from refine.imagefile import read_image
from refine.limits import Limits
from refine.preset import load_preset
from refine.session import Engine
from refine.settings import Settings, Size
from refine.spec import ImageSpec
from refine.tiles import restored_pixels


def settings_for(tile=256, **others):
    """Twice as large without a network: what is tested here costs the same, the rest less."""
    chosen = {"upscale.nets": "[]", "plan.tile": str(tile), "plan.block": "128"}
    chosen |= {key.replace("__", "."): str(value) for key, value in others.items()}
    return Settings(load_preset("balanced", chosen), Size(scale=Fraction(2)))


def pixel_digests(folder):
    """SHA-256 of the decoded pixels of every file, by name."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and ".refine" not in p.parts)
    return {str(p.relative_to(folder)): hashlib.sha256(read_picture(p).tobytes()).hexdigest() for p in files}


def plain_digests(folder, settings):
    """The same for the plain loop over each image's plan; a JPEG is encoded and decoded on the way."""
    digests = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        image = read_image(path)
        pixels = restored_pixels(image.pixels, assessed_plan(settings, image))
        if path.suffix == ".jpg":
            pixels = read_picture(write_picture(path.parents[1] / "jpeg" / "expected.jpg", pixels))
        digests[str(path.relative_to(folder))] = hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()
    return digests


def only_lossless(folder, digests):
    """Without JPEGs: their pixels depend on the encoder's settings too."""
    return {name: digest for name, digest in digests.items() if not name.endswith(".jpg")}


@pytest.fixture
def everything_is_large(monkeypatch):
    """Make every image of more than one tile go the way of the large ones."""
    monkeypatch.setattr(feed, "BATCH_S", 0.0)


def test_catalog_equals_the_plain_loop(tmp_path, shared):
    """Every result has the pixels that the plain loop gives, under the name of its source."""
    source = small_tree(tmp_path / "source")
    summary = catalog(source, tmp_path / "target", settings_for(), shared)
    assert (summary.done, summary.failed) == (5, [])
    found, expected = pixel_digests(tmp_path / "target"), plain_digests(source, settings_for())
    assert found.keys() == expected.keys()
    assert only_lossless(source, found) == only_lossless(source, expected)


@pytest.mark.parametrize("tile", [128, 256, 512])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.usefixtures("everything_is_large")
def test_tiled_catalog_equals_the_plain_loop(tmp_path, shared, tile, suffix):
    """Tiled by several workers into zarr and stitched, the pixels are those of the plain loop, whatever the tile."""
    source = tmp_path / "source"
    write_picture(source / f"tall{suffix}", picture(400, 90, 3, "uint16" if suffix == ".tif" else "uint8"))
    summary = catalog(source, tmp_path / "target", settings_for(tile), shared)
    assert summary.complete
    assert pixel_digests(tmp_path / "target") == plain_digests(source, settings_for(256))
    assert not (tmp_path / "target" / ".refine" / "work").exists()


@pytest.mark.usefixtures("everything_is_large")
def test_tiled_image_short_of_memory_is_begun_anew(tmp_path, inline, monkeypatch):
    """Where a tile does not get the memory for its block, all are made in smaller ones, and the result says so."""
    write_picture(tmp_path / "source" / "tall.png", picture(400, 90))
    plainly, asked = tasks.restore_tile, []

    def cramped(source, target, plan, *rest):
        asked.append(plan.block)
        if len(asked) == 3:
            raise ShortOfMemoryError("there is not the memory for a block")
        return plainly(source, target, plan, *rest)

    monkeypatch.setattr(tasks, "restore_tile", cramped)
    wish = settings_for(256, plan__block="256")
    summary = catalog(tmp_path / "source", tmp_path / "target", wish, inline)
    assert (summary.done, summary.failed, summary.quarantined) == (1, [], [])
    assert asked == 3 * [256] + 4 * [128], "what was made in blocks of another size counts no more"
    assert summary.notes[0].notes[-1].startswith("computed in blocks of 128 px")
    assert pixel_digests(tmp_path / "target") == plain_digests(tmp_path / "source", settings_for(256))
    monkeypatch.setattr(tasks, "restore_tile", None)
    assert catalog(tmp_path / "source", tmp_path / "target", wish, inline).unchanged == 1


@pytest.mark.usefixtures("everything_is_large")
def test_black_and_transparent_tiles_are_tiles(tmp_path, shared):
    """A cut-out whose outer tiles are all zeros, alpha too, comes out as the plain loop makes it."""
    pixels = np.zeros((300, 260, 4), np.uint8)
    pixels[100:160, 100:160] = picture(60, 60, 4)
    write_picture(tmp_path / "source" / "cut.png", pixels)
    assert catalog(tmp_path / "source", tmp_path / "target", settings_for(128), shared).complete
    assert pixel_digests(tmp_path / "target") == plain_digests(tmp_path / "source", settings_for(128))


def test_second_run_does_nothing(tmp_path, shared, monkeypatch):
    """Unchanged images are neither decoded nor written, and no cluster is started for them."""
    source = small_tree(tmp_path / "source")
    catalog(source, tmp_path / "target", settings_for(), shared)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "target").rglob("*.png")}
    monkeypatch.setattr(catalogs, "connected", None)
    summary = catalog(source, tmp_path / "target", settings_for(), shared)
    assert (summary.done, summary.unchanged) == (0, 5)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "target").rglob("*.png")} == before


def test_changes_are_noticed(tmp_path, shared):
    """A source that was touched, a result that is gone or cut off, and other settings: these and only these again."""
    source, target = small_tree(tmp_path / "source"), tmp_path / "target"
    catalog(source, target, settings_for(), shared)
    os.utime(source / "b" / "0.jpg", ns=(1, 1))
    (target / "a" / "1.png").unlink()
    (target / "b" / "2.tif").write_bytes(b"II*\0")
    summary = catalog(source, target, settings_for(), shared)
    assert (summary.done, summary.unchanged) == (2, 3), "a file that was only touched is not decoded again"
    assert catalog(source, target, settings_for(tile=512), shared).unchanged == 5, "no byte depends on the tile"
    assert catalog(source, target, settings_for(sharpen__amount=0.9), shared).done == 5


def test_failures_are_listed_and_harm_nothing(tmp_path, shared):
    """A file that is no image, a damaged one and an empty one fail with their reasons; the others are done."""
    source = small_tree(tmp_path / "source", 3)
    whole = (source / "a" / "1.png").read_bytes()
    (source / "a" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (source / "empty.jpg").write_bytes(b"")
    (source / "text.tif").write_text("no image")
    (source / "old.gif").write_bytes(b"GIF89a")
    (source / "list.csv").write_text("a,b")
    (source / ".hidden.png").write_bytes(whole)
    (source / "unnamed").write_bytes(whole)
    summary = catalog(source, tmp_path / "target", settings_for(), shared)
    assert {complaint.path for complaint in summary.failed} == {"a/cut.png", "empty.jpg", "text.tif", "old.gif"}
    assert all(complaint.reason and "\n" not in complaint.reason for complaint in summary.failed)
    assert (summary.done, summary.skipped) == (4, 1)
    assert not list((tmp_path / "target").rglob("cut.png"))
    again = catalog(source, tmp_path / "target", settings_for(), shared)
    assert (again.unchanged, len(again.failed)) == (4, 4), "failures are tried, and told, again"


def test_format_changes_the_suffix_only_where_it_must(tmp_path, shared):
    """With another output format the name keeps its stem; a name that fits already stays."""
    source = small_tree(tmp_path / "source", 3)
    catalog(source, tmp_path / "target", settings_for(output__format="tiff"), shared)
    assert set(pixel_digests(tmp_path / "target")) == {"b/0.tif", "a/1.tif", "b/2.tif"}


def test_clashing_names_are_refused_at_once(tmp_path):
    """Two sources of one result are listed, all of them, before anything is done."""
    source = tmp_path / "source"
    for name in ("a.png", "a.tif", "b.png", "b.tif", "c.png"):
        write_picture(source / name, picture(4, 4))
    told = r"^several sources would have one result.*: a.jpg from a.png and a.tif; b.jpg from b.png and b.tif; rename"
    with pytest.raises(JobError, match=told):
        catalog(source, tmp_path / "target", settings_for(output__format="jpeg"))
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("place", [".", "inside", ".."])
def test_target_in_source_is_refused(tmp_path, place):
    """TARGET equal to SOURCE, below it or above it could overwrite the originals."""
    source = small_tree(tmp_path / "outer" / "source", 1)
    with pytest.raises(JobError, match="lie in one another"):
        catalog(source, source / place, settings_for())


def test_leftovers_of_killed_runs_are_swept(tmp_path, shared):
    """Temporary files and work folders that nobody will go on with are gone after the next run; others stay."""
    source, target = small_tree(tmp_path / "source", 2), tmp_path / "target"
    catalog(source, target, settings_for(), shared)
    stale = target / "a" / ".1.png.0123456789ab.part"
    stale.write_bytes(b"half")
    theirs = target / "a" / "download.part"
    theirs.write_bytes(b"not ours")
    work = target / ".refine" / "work" / "abc"
    work.mkdir(parents=True)
    catalog(source, target, settings_for(), shared)
    assert not stale.exists()
    assert not work.exists()
    assert theirs.exists()


def test_full_disk_stops_the_run(tmp_path):
    """Where no image can be written any more, the run ends and says so, instead of failing image by image."""
    item = Restore("a.png", Spot(Folder(tmp_path), "a.png"), "b.png", 0, 0, settings_for())
    with manifest.opened(tmp_path) as ledger:
        planned = Planned(ledger, None, {})
        common = Common(Engine(), Limits(), Files(Folder(tmp_path)))
        large, summary = LargeImages(tmp_path, ledger), Summary()
        brake = Brake(tmp_path, summary)
        made = feed.Feed(Folder(tmp_path), common, planned, None, _Silent(), summary, large, brake)
        failure = Failure("write", "No space left on device", stops_run=True)
        with pytest.raises(RunError, match="No space left"):
            made.settle((Outcome(item, failure),))


class _Silent:
    def worked(self, **_):
        pass


class _Large:
    """One image cut into tiles by hand, task by task."""

    def __init__(self, folder, settings):
        self.common = Common(Engine(), Limits(), Files(Folder(folder / "target")))
        source = write_picture(folder / "source" / "a.png", picture(300, 200))
        status = source.stat()
        spot = Spot(Folder(source.parent), source.name)
        self.item = Restore("a.png", spot, "a.png", status.st_size, status.st_mtime_ns, settings)
        self.spec = read_image(source).spec
        self.plan = assessed_plan(settings, read_image(source))
        self.work = folder / "work" / work_name(self.item)
        self.ingested = self.do(Ingest(self.item, self.work))
        self.shards = {}

    def do(self, item):
        (answer,) = performed((item,), self.common)
        return answer

    def do_tile(self, tile):
        receipt = self.do(Shard(self.item, self.work, tile))
        assert isinstance(receipt, Receipt), receipt
        self.shards[tile.y0, tile.x0] = receipt.output_nbytes

    def stitched(self):
        shards = tuple((y, x, nbytes) for (y, x), nbytes in self.shards.items())
        return self.do(Stitch(self.item, self.work, shards))

    def shard(self, tile):
        return store.shard_path(tasks.target_path(self.work), tile, self.plan.tile)


@pytest.fixture
def large(tmp_path):
    """A picture of 3 x 2 tiles, all of them done."""
    image = _Large(tmp_path, settings_for())
    for tile in image.plan.tiles():
        image.do_tile(tile)
    return image


def test_stitch_equals_the_plain_loop(large):
    """Task by task, without a cluster, the same pixels."""
    assert isinstance(large.stitched(), Receipt)
    expected = restored_pixels(read_image(large.item.source.local).pixels, large.plan)
    assert np.array_equal(read_picture(large.common.target.folder / large.item.output), expected)


@pytest.mark.parametrize("damage", ["lost", "short", "flipped"])
def test_damaged_shard_is_found_and_made_again(large, damage):
    """A shard that is lost, cut off or has one bit turned stops the stitch, is named, and can be made again."""
    tile = list(large.plan.tiles())[3]
    shard = large.shard(tile)
    data = bytearray(shard.read_bytes())
    if damage == "lost":
        shard.unlink()
    else:
        data[len(data) // 2] ^= 1
        shard.write_bytes(data[:-1] if damage == "short" else data)
    failure = large.stitched()
    assert isinstance(failure, Failure)
    assert failure.damaged == (tile,)
    assert not (large.common.target.folder / large.item.output).exists()
    large.do_tile(tile)
    assert isinstance(large.stitched(), Receipt)


def test_tile_that_the_ledger_does_not_have_is_missing(large):
    """A shard's file is no proof: without its record it is made again."""
    tile = next(large.plan.tiles())
    del large.shards[tile.y0, tile.x0]
    assert large.stitched().damaged == (tile,)


def test_source_that_changes_meanwhile_fails(large):
    """A source that is replaced between ingest and the next look at it gives no result of two halves."""
    write_picture(large.item.source.local, picture(300, 200, seed=9))
    failure = large.do(large.item)
    assert isinstance(failure, Failure)
    assert "changed" in failure.reason


def test_tiles_of_another_size_are_refused(large):
    """A task whose tiles are not the array's shards does not write one pixel."""
    other = replace(large.item, settings=settings_for(tile=128))
    (failure,) = performed((Shard(other, large.work, next(large.plan.tiles())),), large.common)
    assert isinstance(failure, Failure)
    assert "need shards of that size" in failure.reason


def test_large_image_resumes_at_its_missing_tiles(large, tmp_path):
    """What the ledger and the disk both have is not done again; a lost shard is."""
    tiles = list(large.plan.tiles())
    with manifest.opened(tmp_path / "ledger") as ledger:
        for tile in tiles[:4]:
            nbytes = large.shards[tile.y0, tile.x0]
            ledger.commit([ShardRecord(large.work.name, tile.y0, tile.x0, nbytes, "sha")])
        large.shard(tiles[1]).unlink()
        images = LargeImages(large.work.parent, ledger)
        images.add(large.item, large.plan)
        handed = []
        while (item := images.next()) is not None:
            handed.append(item)
    assert [item.tile for item in handed] == [tiles[1], *tiles[4:]]


def test_one_failure_keeps_no_other_from_being_done(tmp_path, monkeypatch):
    """In one batch the image after a failing one is done, whatever the failure is."""
    monkeypatch.setattr(failures, "_PAUSE_S", 0)
    common = Common(Engine(), Limits(), Files(Folder(tmp_path / "out")))
    items = []
    for name in ("a.png", "b.png"):
        path = write_picture(tmp_path / name, picture(8, 8))
        status = path.stat()
        items.append(
            Restore(name, Spot(Folder(tmp_path), name), name, status.st_size, status.st_mtime_ns, settings_for())
        )
    items[0].source.local.unlink()
    failure, receipt = performed(tuple(items), common)
    assert (failure.stage, failure.reason) == ("read", "is gone since it was listed; run again")
    assert receipt.output_sha256 == hashlib.sha256((tmp_path / "out" / "b.png").read_bytes()).hexdigest()


def test_disk_that_refuses_for_a_moment_is_asked_again(tmp_path, monkeypatch):
    """An error of the disk that passes costs a second try, not the image."""
    monkeypatch.setattr(failures, "_PAUSE_S", 0)
    publish, refused = place.publish, []

    def refusing_once(path, data):
        if not refused:
            refused.append(path)
            raise OSError(5, "Input/output error")
        publish(path, data)

    monkeypatch.setattr(place, "publish", refusing_once)
    path = write_picture(tmp_path / "a.png", picture(8, 8))
    status = path.stat()
    item = Restore(
        "a.png", Spot(Folder(tmp_path), "a.png"), "out.png", status.st_size, status.st_mtime_ns, settings_for()
    )
    (receipt,) = performed((item,), Common(Engine(), Limits(), Files(Folder(tmp_path))))
    assert receipt.tries == 2


def test_twelve_megapixels_are_tiled():
    """A photograph of 12 MP at twice its size is too much for one task; a shop's picture is not."""
    settings = Settings(load_preset("balanced"), Size(scale=Fraction(2)))
    assert estimate.cost_s(settings.plan(ImageSpec(3000, 4000, 3, "uint8"))) > feed.BATCH_S
    assert estimate.cost_s(settings.plan(ImageSpec(1000, 1000, 3, "uint8"))) < feed.BATCH_S


def test_result_too_large_for_memory_is_refused_with_a_way_out():
    """A PNG is written whole: one that memory cannot hold is refused, and TIFF offered, which is streamed."""
    plan = settings_for(tile=2048).plan(ImageSpec(10000, 10000, 3, "uint8"))
    with pytest.raises(PlanError, match=r"output\.format=tiff"):
        estimate.check_stitch(plan, "png", 10**9)
    estimate.check_stitch(plan, "tiff", 10**9)


def test_graph_equals_the_plain_loop(tmp_path):
    """The Dask graph of a plan, run by threads, writes the pixels of the plain loop."""
    image = _Large(tmp_path, settings_for())
    made = graph.graph(image.plan, image.work / "source.zarr", tasks.target_path(image.work))
    assert made.compute(scheduler="threads", num_workers=2) == image.plan.tile_count
    expected = restored_pixels(read_image(image.item.source.local).pixels, image.plan)
    written = store.opened(tasks.target_path(image.work))[0 : image.plan.output[0], 0 : image.plan.output[1]]
    assert np.array_equal(written, expected)
    assert len(json.dumps(graph.dot(image.plan)).split("-> stitch")) == image.plan.tile_count + 1
