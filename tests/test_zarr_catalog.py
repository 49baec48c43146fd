"""A catalog as one zarr store: as zarr and the standard's validator read it, its index, and what a second run does."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pyarrow.parquet
import pytest
import zarr
from ome_zarr_models.v05.image import Image
from strategies_files import assessed_plan, picture, small_tree, write_picture
from test_catalog import settings_for

from pipelines import catalog as catalogs
from pipelines import zarrcatalog
from pipelines.catalog import Terms, catalog
from pipelines.derivative import Verified
from pipelines.errors import JobError
from pipelines.naming import Rendition
from pipelines.targets import Groups
from pipelines.verifying import verified_catalog
from pipelines.zarrcatalog import group_path
from refine.imagefile import read_image
from refine.spec import ImageSpec
from refine.tiles import restored_pixels

ZARR = Terms(to="zarr")


def index_of(store):
    """The rows of a store's index, by id and rendition."""
    rows = pyarrow.parquet.read_table(store / "index.parquet").to_pylist()
    return {(row["id"], row["rendition"]): row for row in rows}


def state_of(store):
    """Bytes and time of every file but the ledger's."""
    files = (p for p in store.rglob("*") if p.is_file() and ".refine" not in p.parts)
    return {str(p.relative_to(store)): (p.read_bytes(), p.stat().st_mtime_ns) for p in files}


def test_store_holds_the_plain_loops_pixels(tmp_path, shared):
    """Each image is a group that zarr reads and the validator accepts, with the plain loop's pixels, and indexed."""
    source, store = small_tree(tmp_path / "source"), tmp_path / "shop.zarr"
    write_picture(source / "b/Kaffee & Tee.png", picture(600, 300))
    summary = catalog(source, store, settings_for(tile=1024), shared, terms=ZARR)
    assert (summary.done, summary.failed) == (6, [])
    index = index_of(store)
    assert {name for name, _ in index} == {str(p.relative_to(source)) for p in source.rglob("*.*")}
    for (name, _), row in index.items():
        image = read_image(source / name)
        expected = restored_pixels(image.pixels, assessed_plan(settings_for(), image))
        group = zarr.open_group(store, mode="r")[row["group"]]
        Image.from_zarr(group)
        assert np.array_equal(np.moveaxis(group["0"][:], 0, 2), expected)
        assert row["px"] == expected.shape[0] * expected.shape[1]
        told = group.attrs["refine"]
        assert (told["source"]["sha256"], told["decision"]) == (row["source_sha256"], row["decision"])
        assert set(dict(row["measured"])) >= {"grain", "blur_sigma"}
        assert len(row["key"]) == len(row["sha256"]) == 64
    assert len(list(zarr.open_group(store / "images" / "b" / "Kaffee~20~26~20Tee.png", mode="r").arrays())) == 3
    assert {name for name, _ in zarr.open_group(store / "images", mode="r").members()} == {"a", "b"}


def test_only_what_changed_is_written(tmp_path, shared, monkeypatch):
    """A second run writes nothing; a changed, a damaged and a pruned image change their groups and the index only."""
    source, store = small_tree(tmp_path / "source"), tmp_path / "shop.zarr"
    catalog(source, store, settings_for(), shared, terms=ZARR)
    before = state_of(store)
    with monkeypatch.context() as patch:
        patch.setattr(catalogs, "connected", None)
        assert catalog(source, store, settings_for(), shared, terms=ZARR).unchanged == 5
    assert state_of(store) == before
    write_picture(source / "b/0.jpg", picture(40, 50, seed=77))
    (store / "images/b/2.tif/0/c/0/0/0").unlink()
    (source / "a/1.png").unlink()
    shutil.rmtree(store / "images/a/3.png")
    summary = catalog(source, store, settings_for(), shared, terms=Terms(to="zarr", prune=True))
    assert (summary.done, summary.unchanged, summary.pruned) == (3, 1, 1)
    after = state_of(store)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert {"/".join(name.split("/")[:3]) for name in changed} == {
        *("images/b/0.jpg", "images/b/2.tif", "images/a/1.png", "images/a/3.png", "index.parquet"),
    }
    assert before["images/b/2.tif/0/c/0/0/0"][0] == after["images/b/2.tif/0/c/0/0/0"][0]
    assert ("a/1.png", "") not in index_of(store)
    assert zarr.open_group(store / "images/b/0.jpg", mode="r")["0"].shape == (3, 80, 100)


def test_verify_names_what_is_damaged(tmp_path, shared):
    """Each group is read again: one changed bit, a shard that lacks, a group that is gone are named; else none."""
    source, store = small_tree(tmp_path / "source"), tmp_path / "shop.zarr"
    catalog(source, store, settings_for(), shared, terms=ZARR)
    assert verified_catalog(Groups(store), None) == Verified(5, ())
    shard = store / "images/b/0.jpg/0/c/0/0/0"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    (store / "images/b/2.tif/0/c/0/0/0").unlink()
    shutil.rmtree(store / "images/a/3.png")
    found = verified_catalog(Groups(store), None)
    assert [(one.path, one.why.split()[-1]) for one in found.wrong] == [
        *(("images/a/3.png", "there"), ("images/b/0.jpg", "written"), ("images/b/2.tif", "written")),
    ]
    said = subprocess.run([sys.executable, "-m", "pipelines.cli", "verify", store], capture_output=True, check=False)
    assert (said.returncode, said.stdout.splitlines()[-1]) == (1, b"5 files checked, 3 wrong")
    assert b"delete these from TARGET" in said.stderr
    for one in found.wrong:
        shutil.rmtree(store / one.path, ignore_errors=True)
    assert catalog(source, store, settings_for(), shared, terms=ZARR).done == 3
    assert verified_catalog(Groups(store), None) == Verified(5, ())


def test_renditions_are_groups(tmp_path, shared):
    """Renditions of an image are groups of their own."""
    source, store = small_tree(tmp_path / "source", 2), tmp_path / "shop.zarr"
    terms = Terms((Rendition("zoom", 60), Rendition("thumb", 10)), to="zarr")
    assert catalog(source, store, settings_for(), shared, terms=terms).done == 4
    assert {row["group"] for row in index_of(store).values()} == {
        *("images/zoom/b/0.jpg", "images/zoom/a/1.png", "images/thumb/b/0.jpg", "images/thumb/a/1.png"),
    }
    assert max(zarr.open_group(store / "images/thumb/b/0.jpg", mode="r")["0"].shape[1:]) == 10


def test_tiles_of_a_large_image_become_its_group(tmp_path, shared, monkeypatch):
    """An image that takes many tasks gives the group, byte for byte, that it gives as one task."""
    write_picture(tmp_path / "source" / "tall.png", picture(400, 90))
    assert catalog(tmp_path / "source", tmp_path / "whole.zarr", settings_for(128), shared, terms=ZARR).done == 1
    monkeypatch.setattr("pipelines.feed.BATCH_S", 0.0)
    assert catalog(tmp_path / "source", tmp_path / "tiled.zarr", settings_for(128), shared, terms=ZARR).done == 1
    whole, tiled = state_of(tmp_path / "whole.zarr"), state_of(tmp_path / "tiled.zarr")
    contents = [{k: v[0] for k, v in one.items() if k.startswith("images/")} for one in (whole, tiled)]
    assert contents[0] == contents[1]


NAMES = ["a b.jpg", "a~20b.jpg", "A B.jpg", "ä.png", "__meta.png", "..png", ".x.png", "~.png", "%41.png", "A.png"]


def test_group_names_are_safe_and_differ():
    """Whatever an id is, its group has a name that zarr and file systems take, and no two ids share one."""
    names = [*NAMES, "x" * 300 + ".png", "x" * 301 + ".png", "a/b", "a~2Fb"]
    paths = [group_path(name) for name in names]
    assert len(set(paths)) == len(names)
    for path in paths:
        for part in path.split("/"):
            assert part.isascii()
            assert len(part) <= 200
            assert not part.startswith(("__", "."))
            assert set(part) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-~")


def test_group_is_seen_whole_or_not_at_all(tmp_path, monkeypatch):
    """A write that fails leaves the old group as it was and nothing beside it; a sweep removes what a kill leaves."""
    old, new = picture(30, 40, seed=1), picture(50, 20, seed=2)
    zarrcatalog.lay_out(tmp_path / "s.zarr")
    store = tmp_path / "s.zarr"
    zarrcatalog.write(store, group_path("x.png"), ImageSpec(30, 40, 3, "uint8"), old, {"n": 1})
    before = state_of(store)
    with monkeypatch.context() as patch:
        patch.setattr(zarrcatalog.omezarr, "finished", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError, match="full"):
            zarrcatalog.write(store, group_path("x.png"), ImageSpec(50, 20, 3, "uint8"), new, {"n": 2})
    assert state_of(store) == before
    shutil.copytree(store / "images/x.png", store / "images/.x.png.0123456789ab.new")
    assert zarrcatalog.sweep(store) == 1
    assert list(zarrcatalog.present(store)) == [
        ("images/x.png", sum(len(v[0]) for k, v in before.items() if "x.p" in k))
    ]
    group = zarrcatalog.write(store, group_path("x.png"), ImageSpec(50, 20, 3, "uint8"), new, {"n": 2})
    assert list(zarrcatalog.present(store)) == [("images/x.png", group.nbytes)]
    assert json.loads((store / "images/x.png/zarr.json").read_text())["attributes"]["refine"]["n"] == 2


@pytest.mark.parametrize(
    ("target", "terms", "said"),
    [
        ("shop", ZARR, "named"),
        ("shop.zarr", Terms(), "add --to zarr"),
        ("full.zarr", ZARR, "holds something else"),
        ("shop.zarr", Terms((Rendition("a", 9, "jpeg"),), to="zarr"), "not files of a format"),
        ("shop.zarr", Terms(to="zarr", keep_previous=True), "for folders"),
    ],
    ids=["no name of a zarr", "files into a zarr", "something else there", "a format", "no undo"],
)
def test_what_makes_no_store_is_refused(tmp_path, shared, target, terms, said):
    """What does not go with a zarr store is refused before any work, and nothing is left."""
    source = small_tree(tmp_path / "source", 1)
    (tmp_path / "full.zarr").mkdir()
    (tmp_path / "full.zarr" / "notes").write_text("mine")
    with pytest.raises(JobError, match=said):
        catalog(source, tmp_path / target, settings_for(), shared, terms=terms)
    assert not (tmp_path / "shop").exists()
    assert not (tmp_path / "shop.zarr").exists()
