"""Catalogs from and to a bucket: the bytes that a folder gets, only what changed, and on from the bucket alone."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from buckets import KEY_ID, SECRET
from PIL import Image as Pillow
from strategies_files import picture, small_tree, write_picture
from test_catalog import settings_for

from pipelines import catalog as catalogs
from pipelines import lease, recording, s3
from pipelines.bucket import Bucket
from pipelines.catalog import Terms
from pipelines.derivative import Verified
from pipelines.errors import JobError
from pipelines.items import Common, Failure, Restore
from pipelines.naming import Rendition
from pipelines.place import Spot
from pipelines.targets import target_named
from pipelines.tasks import performed
from pipelines.verifying import verified_catalog
from refine.limits import Limits
from refine.session import Engine


@pytest.fixture
def run(market, stall, tmp_path):
    """A run from one prefix of the bucket to another, unless it is told otherwise, with a state folder of its own."""

    def made(source=None, target=None, settings=None, state="state", **terms):
        return catalogs.catalog(
            source or f"{stall.url}/in",
            target or f"{stall.url}/out",
            settings or settings_for(),
            market.cluster,
            terms=Terms(state=tmp_path / state, **terms),
            quiet=True,
        )

    return made


def upload(stall, folder, prefix="in"):
    """Put a folder's files into the bucket."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        stall.put(f"{prefix}/{path.relative_to(folder)}", path.read_bytes())
    return folder


def digests(contents):
    """SHA-256 of files by name; the ledger's apart, and the reader's help when they differ."""
    return {
        name: hashlib.sha256(data).hexdigest() for name, data in contents.items() if not name.startswith(".refine/")
    }


def of_folder(folder):
    """The same of a folder."""
    return digests({str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()})


def fetched(market, stall, prefix="in/"):
    """Sources that were fetched since the proxy was cleared."""
    start = f"/{stall.name}/{prefix}"
    return sorted(
        target.removeprefix(start) for method, target in market.proxy.seen if method == "GET" and start in target
    )


@pytest.fixture
def no_report(monkeypatch):
    """A report fetches some of what it shows; here each fetch is counted."""
    monkeypatch.setattr(recording, "_reported", lambda *_: "")


@pytest.mark.usefixtures("no_report")
def test_bucket_gets_what_a_folder_gets(market, stall, run, tmp_path):
    """Between buckets and folders, either way, names and bytes are those of a run on folders; each fetched once."""
    source = upload(stall, small_tree(tmp_path / "source"))
    stall.put("in/notes.txt", b"no image")
    stall.put("in/.hidden/x.png", b"not looked at")
    assert run(source, tmp_path / "local").done == 5
    expected = of_folder(tmp_path / "local")
    summary = run()
    assert (summary.done, summary.failed, summary.skipped) == (5, [], 1)
    assert digests(stall.contents("out/")) == expected
    assert fetched(market, stall) == sorted(expected)
    assert {n for (m, name), n in market.proxy.seen.items() if m == "GET" and "/in/" in name} == {1}
    kinds = {key.rpartition(".")[2]: stall.client.head_object(Bucket=stall.name, Key=f"out/{key}") for key in expected}
    assert {kind: head["ContentType"] for kind, head in kinds.items()} == {
        "jpg": "image/jpeg",
        "png": "image/png",
        "tif": "image/tiff",
    }
    assert run(source, f"{stall.url}/from-folder").done == 5
    assert digests(stall.contents("from-folder/")) == expected
    assert run(target=tmp_path / "to-folder").done == 5
    assert of_folder(tmp_path / "to-folder") == expected


def test_only_what_changed(market, stall, run, tmp_path, monkeypatch):
    """Unchanged objects are neither fetched nor written, a changed one replaces its result, one that is gone goes."""
    source = upload(stall, small_tree(tmp_path / "source"))
    run()
    before = {key: stall.client.head_object(Bucket=stall.name, Key=key) for key in stall.keys("out/")}
    market.proxy.clear()
    with monkeypatch.context() as patch:
        patch.setattr(catalogs, "connected", None)
        summary = run()
    assert (summary.done, summary.unchanged) == (0, 5)
    assert fetched(market, stall) == []
    results = [name for method, name in market.proxy.seen if method == "PUT" and "/.refine/" not in name]
    assert results == []
    stall.put("in/b/0.jpg", write_picture(source / "b/0.jpg", picture(31, 22, seed=99)).read_bytes())
    (source / "a/1.png").unlink()
    stall.client.delete_object(Bucket=stall.name, Key="in/a/1.png")
    stall.client.delete_object(Bucket=stall.name, Key="out/b/2.tif")
    market.proxy.clear()
    summary = run(prune=True)
    assert (summary.done, summary.unchanged, summary.pruned) == (2, 2, 1)
    assert fetched(market, stall) == ["b/0.jpg", "b/2.tif"]
    assert run(source, tmp_path / "local").complete
    assert digests(stall.contents("out/")) == of_folder(tmp_path / "local")
    unchanged = [key for key in stall.keys("out/") if key.startswith("out/") and key[-5:] in ("3.png", "4.jpg")]
    assert unchanged
    for key in unchanged:
        now = stall.client.head_object(Bucket=stall.name, Key=key)
        assert (now["ETag"], now["LastModified"]) == (before[key]["ETag"], before[key]["LastModified"])


def test_fresh_machine_needs_only_the_bucket(market, stall, run, tmp_path):
    """Another machine, without the first one's ledger, does nothing again; the first one learns what it did."""
    upload(stall, small_tree(tmp_path / "source"))
    run(state="one")
    assert run(state="two").unchanged == 5
    stall.put("in/new.png", write_picture(tmp_path / "new.png", picture(9, 9)).read_bytes())
    assert (run(state="two").done, run(state="one").unchanged) == (1, 6)
    shutil.rmtree(tmp_path / "one")
    assert run(state="one").unchanged == 6
    assert not [key for key in stall.keys("out/") if key.endswith("lock.json")]


def test_faults_change_no_byte(market, stall, run, tmp_path):
    """With 20 % of all requests failing in every way, names and bytes are those of a folder, then nothing is stale."""
    source = upload(stall, small_tree(tmp_path / "source", 12))
    run(source, tmp_path / "local")
    market.proxy.share = 0.2
    summary = run()
    assert (summary.done, summary.failed) == (12, [])
    assert run(state="another").unchanged == 12
    assert sum(market.proxy.faults.values()) >= 8
    market.proxy.share = 0.0
    assert digests(stall.contents("out/")) == of_folder(tmp_path / "local")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_faults_change_no_byte_of_many(market, stall, run, tmp_path, seed, capsys):
    """The same with 200 images, their replacement, and all kinds of faults seen often."""
    source = upload(stall, small_tree(tmp_path / "source", 200))
    run(source, tmp_path / "local")
    market.proxy.share, market.proxy.seed = 0.2, seed
    assert run().done == 200
    for number in range(0, 200, 2):
        (path,) = (source / "b").glob(f"{number}.*")
        name = f"in/{path.relative_to(source)}"
        dtype, channels = ("uint16", 3) if path.suffix == ".tif" else ("uint8", 3)
        stall.put(name, write_picture(path, picture(24, 31, channels, dtype, seed=number + 500)).read_bytes())
    assert run().done == 100
    run(source, tmp_path / "local")
    assert min(market.proxy.faults[kind] for kind in ("500", "503", "reset", "cut", "lost")) > 10
    market.proxy.share = 0.0
    assert digests(stall.contents("out/")) == of_folder(tmp_path / "local")
    with capsys.disabled():
        print(f"\n{sum(market.proxy.asked.values())} requests, faults: {dict(market.proxy.faults)}")  # noqa: T201


def test_broken_object_stops_nothing(market, stall, run, tmp_path):
    """A damaged object and one that is no image are named, and all others are done."""
    upload(stall, small_tree(tmp_path / "source"))
    whole = stall.get("in/a/1.png")
    stall.put("in/half.png", whole[: len(whole) // 2])
    stall.put("in/none.jpg", b"what is this")
    summary = run()
    assert summary.done == 5
    assert sorted((c.path, c.stage) for c in summary.failed) == [("half.png", "read"), ("none.jpg", "read")]


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_store_that_is_out_stops_the_run(market, stall, tmp_path, monkeypatch, method):
    """A store that has not answered for longer than is waited for would fail all other images too: the run ends."""
    monkeypatch.setattr(s3, "PATIENCE_S", 0.0)
    data = write_picture(tmp_path / "a.png", picture(9, 9)).read_bytes()
    stall.put("in/a.png", data)
    (found,) = Bucket(stall.name, "in").listing()
    item = Restore("a.png", Spot(Bucket(stall.name, "in"), "a.png"), "a.png", len(data), 0, settings_for())
    common = Common(Engine(), Limits(), target_named(f"{stall.url}/out"))
    monkeypatch.setattr(market.proxy, "fault", lambda asked, _: "503" if asked == method else "")
    (failure,) = performed((replace(item, etag=found.etag),), common)
    assert isinstance(failure, Failure)
    assert failure.stops_run
    assert (failure.stage, failure.tries) == ("read" if method == "GET" else "write", 1)


def test_what_others_stored_is_left_alone(market, stall, run, tmp_path):
    """An object that refine did not write is never replaced; one that it wrote, and that was changed since, neither."""
    upload(stall, small_tree(tmp_path / "source"))
    stall.put("out/a/1.png", b"somebody else's")
    summary = run()
    assert summary.done == 4
    (complaint,) = summary.failed
    assert "not written by refine" in complaint.reason
    assert stall.get("out/a/1.png") == b"somebody else's"


def test_killed_before_it_was_recorded(market, stall, run, tmp_path):
    """A result that a killed run stored and did not live to record is recognised, or replaced where it differs."""
    upload(stall, small_tree(tmp_path / "source"))
    run()
    expected = digests(stall.contents("out/"))
    shutil.rmtree(tmp_path / "state")
    for key in stall.keys("out/.refine/"):
        stall.client.delete_object(Bucket=stall.name, Key=key)
    assert run().done == 5
    assert digests(stall.contents("out/")) == expected
    shutil.rmtree(tmp_path / "state")
    for key in stall.keys("out/.refine/"):
        stall.client.delete_object(Bucket=stall.name, Key=key)
    assert run(settings=settings_for(sharpen__amount=0.9)).done == 5
    assert digests(stall.contents("out/")) != expected


@pytest.mark.usefixtures("no_report")
def test_results_of_another_format_and_renditions(market, stall, run, tmp_path):
    """An object whose format is not written gets another name, and renditions come of one fetch."""
    frames = Pillow.fromarray(np.arange(300, dtype=np.uint8).reshape(15, 20) % 200)
    frames.save(tmp_path / "x.gif")
    stall.put("in/x.gif", (tmp_path / "x.gif").read_bytes())
    stall.put("in/y.png", write_picture(tmp_path / "y.png", picture(20, 30)).read_bytes())
    assert run().done == 2
    assert digests(stall.contents("out/")).keys() == {"x.png", "y.png"}
    market.proxy.clear()
    two = (Rendition("zoom", 50), Rendition("thumb", 10, "jpeg"))
    assert run(target=f"{stall.url}/two", renditions=two).done == 4
    names = {"zoom/x.png", "zoom/y.png", "thumb/x.jpg", "thumb/y.jpg"}
    assert digests(stall.contents("two/")).keys() == names
    assert market.proxy.seen["GET", f"/{stall.name}/in/y.png"] == 1


def test_manifest_of_objects(market, stall, run, tmp_path):
    """A manifest may name objects and files side by side; a row in TARGET, or of a missing object, is told."""
    stall.put("shelf/1.png", write_picture(tmp_path / "1.png", picture(12, 15)).read_bytes())
    write_picture(tmp_path / "2.png", picture(14, 11))
    lines = [
        {"id": "cup", "uri": f"{stall.url}/shelf/1.png"},
        {"id": "jug.png", "uri": "2.png"},
        {"id": "lost.png", "uri": f"{stall.url}/shelf/none.png"},
    ]
    path = tmp_path / "list.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    summary = run(path)
    assert summary.done == 2
    assert [c.path for c in summary.failed] == ["lost.png"]
    assert digests(stall.contents("out/")).keys() == {"cup.png", "jug.png"}
    path.write_text(json.dumps({"id": "a.png", "uri": f"{stall.url}/out/cup.png"}))
    with pytest.raises(JobError, match="lies in TARGET"):
        run(path)


@pytest.mark.slow
def test_large_object_is_tiled_and_stored(market, stall, run, tmp_path):
    """An object that takes many tasks gives the bytes that a file gives: stitched whole, and streamed."""
    source = tmp_path / "source"
    write_picture(source / "large.png", picture(1300, 1200, 4))
    write_picture(source / "large.tif", picture(1300, 1200, 4, "uint16"))
    upload(stall, source)
    settings = settings_for(tile=512)
    assert run(source, tmp_path / "local", settings).done == 2
    assert run(settings=settings).done == 2
    assert digests(stall.contents("out/")) == of_folder(tmp_path / "local")


def test_two_runs_notice_each_other(market, stall, run, tmp_path):
    """While one run holds the bucket, another is told who does, whatever state folder it has."""
    upload(stall, small_tree(tmp_path / "source", 1))
    with (
        lease.held(Bucket(stall.name, "out")),
        pytest.raises(JobError, match="another run is at work here"),
    ):
        run(state="another")
    assert run().done == 1


@pytest.mark.parametrize(
    ("source", "target", "terms", "said"),
    [
        ("{0}/in", "{0}/in/out", {}, "lie in one another"),
        ("{0}/in", "{0}", {}, "lie in one another"),
        ("{0}/in", "s3://no-such-bucket/x", {}, "no such bucket"),
        ("{0}/in", "{0}/out", {"keep_previous": True}, "versioning"),
        ("{0}/in", "{0}/x.zarr", {"to": "zarr"}, "written to a folder"),
    ],
    ids=["target inside", "target outside", "no bucket", "no undo in buckets", "no zarr in buckets"],
)
def test_what_cannot_be_done_is_refused(market, stall, run, source, target, terms, said):
    """What a bucket cannot do, or must not, is refused before any work."""
    stall.put("in/a.png", b"")
    with pytest.raises(JobError, match=said):
        run(source.format(stall.url), target.format(stall.url), **terms)
    assert stall.keys() == ["in/a.png"]


def test_traversal_is_refused(market, stall, run, tmp_path):
    """Keys that no result may be called by are refused, all of them told."""
    for name in ("in/a/../../b.png", "in//c.png", "in/d\\e.png"):
        stall.put(name, b"")
    with pytest.raises(
        JobError, match=r"'/c\.png' is absolute; 'a/\.\./\.\./b\.png' has a part '\.\.'; .*d.*backslash"
    ):
        run(target=tmp_path / "local")
    assert not (tmp_path / "local").exists()


def test_no_secret_is_left_behind(market, stall, run, tmp_path, caplog):
    """Neither what is kept on this machine, nor what is in the bucket, nor what is logged, holds a credential."""
    caplog.set_level("DEBUG")
    upload(stall, small_tree(tmp_path / "source", 2))
    stall.put("in/none.jpg", b"what is this")
    market.proxy.share = 0.2
    run()
    kept = [path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file()]
    kept += [*stall.contents("").values(), caplog.text.encode()]
    assert len(kept) > 8
    assert not [data for data in kept if KEY_ID.encode() in data or SECRET.encode() in data]


def test_verify_reads_a_bucket(market, stall, run, tmp_path):
    """Each object is read again, on any machine: one of other bytes and one that is gone are named."""
    upload(stall, small_tree(tmp_path / "source"))
    run()
    target = target_named(f"{stall.url}/out")
    assert verified_catalog(target, tmp_path / "another") == Verified(5, ())
    stall.put("out/a/1.png", b"others")
    stall.client.delete_object(Bucket=stall.name, Key="out/b/0.jpg")
    found = verified_catalog(target, tmp_path / "another")
    assert [(one.path, one.why.split()[-1]) for one in found.wrong] == [("a/1.png", "written"), ("b/0.jpg", "there")]


def test_papers_lie_in_the_bucket(market, stall, run, tmp_path):
    """The report shows before and after; it, the record of runs and the list of failures are in the bucket too."""
    upload(stall, small_tree(tmp_path / "source", 2))
    stall.put("in/none.jpg", b"what is this")
    summary = run()
    (page,) = (tmp_path / "state").rglob("report.html")
    assert str(page) == summary.report
    assert "cannot be shown" not in page.read_text()
    assert page.read_text().count("data:image/webp") >= 4
    assert stall.get("out/.refine/report/report.html") == page.read_bytes()
    head = stall.client.head_object(Bucket=stall.name, Key="out/.refine/report/report.html")
    assert head["ContentType"] == "text/html; charset=utf-8"
    assert json.loads(stall.get("out/.refine/quarantine.jsonl"))["path"] == "none.jpg"
    assert len(stall.keys("out/.refine/runs/")) == 1
    assert recording.last_of(target_named(f"{stall.url}/out"), tmp_path / "another").totals.runs == 1
    run(state="third")
    assert recording.last_of(target_named(f"{stall.url}/out"), tmp_path / "fourth").totals.runs == 2
