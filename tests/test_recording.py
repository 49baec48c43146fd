"""What a run leaves behind: its record, its metrics and its report, however it ended."""

from __future__ import annotations

import json
import os
import re

import pytest
from strategies_files import picture, small_tree, write_picture

from pipelines import catalog as catalogs
from pipelines import cli, recording, runs, undoing
from pipelines.catalog import Terms, catalog
from pipelines.errors import JobError, RunError
from pipelines.feed import Feed
from pipelines.page import page_data
from pipelines.place import Folder
from pipelines.targets import Files
from refine.preset import load_preset
from refine.settings import Settings, Size

SETTINGS = Settings(load_preset("balanced", {"upscale.nets": "[]"}), Size(scale=2))


def records(target):
    """The records of runs, oldest first."""
    return [json.loads(path.read_bytes()) for path in sorted((target / ".refine/runs").iterdir())]


@pytest.fixture
def source(tmp_path):
    """Five pictures and a broken one."""
    source = small_tree(tmp_path / "source")
    (source / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    return source


def test_run_leaves_record_metrics_and_report(tmp_path, shared, source):
    """Left are: what --json prints, with machine, settings and versions; metrics; a page that names the broken one."""
    target, prom = tmp_path / "target", tmp_path / "refine.prom"
    summary = catalog(source, target, SETTINGS, shared, terms=Terms(metrics=prom))
    (record,) = records(target)
    assert record["summary"] == json.loads(json.dumps(summary.facts())) | {"report": None}
    assert (record["outcome"], record["source"], record["target"]) == ("incomplete", str(source), str(target))
    assert record["settings"]["preset"]["upscale"] == {"nets": []}
    assert record["settings"]["size"]["scale"] == "2"
    assert {"refine", "python", "onnxruntime"} <= record["versions"].keys()
    assert {"host", "cores", "processor", "workers"} <= record["machine"].keys()
    # `ended` is told to the second, in which a small run has begun, too.
    assert record["started"][:15] <= record["ended"].replace("-", "").replace(":", "")[:15]
    assert 'state="failed"} 1' in prom.read_text()
    page = (target / ".refine/report/report.html").read_text(encoding="utf-8")
    assert summary.report == str(target / ".refine/report/report.html")
    assert "broken.png" in page
    assert page.count("data:image/webp") >= 2 * 5
    assert runs.last_run(target / ".refine").totals.images["done"] == 5


def test_second_run_tells_of_itself(tmp_path, shared, source, monkeypatch):
    """A run that changes nothing looks at no picture; its page says what it did, and its counters go on."""
    target = tmp_path / "target"
    catalog(source, target, SETTINGS, shared)
    monkeypatch.setattr(recording, "write_report", None)
    summary = catalog(source, target, SETTINGS, shared)
    assert summary.unchanged == 5
    assert [record["totals"]["runs"] for record in records(target)] == [1, 2]
    assert records(target)[1]["totals"]["images"]["failed"] == 2
    assert "neither decoded nor written" in (target / ".refine/report/report.html").read_text(encoding="utf-8")


def test_stopped_run_leaves_what_it_did(tmp_path, shared, source, monkeypatch):
    """A run that cannot go on has a record with its reason, and metrics that say so."""
    target, prom = tmp_path / "target", tmp_path / "refine.prom"

    def stop(feed, outcomes):
        feed.summary.done += len(outcomes)
        raise RunError("TARGET cannot be written: No space left on device")

    monkeypatch.setattr(Feed, "settle", stop)
    with pytest.raises(RunError):
        catalog(source, target, SETTINGS, shared, terms=Terms(metrics=prom))
    (record,) = records(target)
    assert record["outcome"] == "TARGET cannot be written: No space left on device"
    assert record["summary"]["done"] > 0
    assert "refine_catalog_last_run_whole" in prom.read_text()
    assert runs.last_run(target / ".refine").totals.succeeded == 0


def test_refused_run_leaves_nothing(tmp_path, shared, source, monkeypatch):
    """What is refused before it begins has no record, and does not take the place of the last run."""
    target = tmp_path / "target"

    def refused(*_):
        raise JobError("no")

    monkeypatch.setattr(catalogs.Night, "check_unasked", refused)
    with pytest.raises(JobError):
        catalog(source, target, SETTINGS, shared)
    assert runs.last_run(target / ".refine") is None
    with pytest.raises(JobError, match=r"end in \.prom"):
        catalog(source, target, SETTINGS, shared, terms=Terms(metrics=tmp_path / "a.txt"))


def test_report_says_where_a_source_is_gone(tmp_path, shared, source):
    """Once a source is deleted the page says so, though nothing is made; the result is shown all the same."""
    target = tmp_path / "target"
    catalog(source, target, SETTINGS, shared)
    page = target / ".refine/report/report.html"
    assert "source gone" not in page.read_text(encoding="utf-8")
    name = records(target)[0]["sample"][0]
    (source / name).unlink()
    assert catalog(source, target, SETTINGS, shared).gone == 1
    (entry,) = [
        one for one in page_data(page.read_text(encoding="utf-8"))["pairs"][0]["entries"] if one["name"] == name
    ]
    assert (entry["lines"][0]["text"], entry["links"][0]) == ("source gone", None)
    assert entry["links"][1].endswith(name)


def entry_of(target, name):
    """What the page of a target shows of a result."""
    page = page_data((target / ".refine/report/report.html").read_text(encoding="utf-8"))
    (entry,) = [one for one in page["pairs"][0]["entries"] if one["name"] == name]
    return entry


def notes_of(entry):
    """What is told below a pair."""
    return [line["text"] for line in entry["lines"]]


@pytest.mark.parametrize("drawn", ["before", "now"])
def test_report_shows_no_result_beside_another_source(tmp_path, shared, source, drawn):
    """A source that changed since is not shown as what a result was made from: an earlier picture is, or nothing."""
    target = tmp_path / "target"
    catalog(source, target, SETTINGS, shared)
    name = records(target)[0]["sample"][0]
    was = entry_of(target, name)
    assert "source changed since" not in notes_of(was)
    write_picture(source / name, picture(33, 44, seed=9))
    if drawn == "now":
        for path in (target / ".refine/report/thumbs").iterdir():
            path.unlink()
    recording.remade(Files(Folder(target)), None)
    entry = entry_of(target, name)
    assert notes_of(entry)[0] == "source changed since"
    assert entry["links"] == [None, was["links"][1]]
    assert entry["whole"] == (was["whole"] if drawn == "before" else {"before": None, "after": was["links"][1]})


def test_report_tells_of_no_source_that_was_only_touched(tmp_path, shared, source):
    """The same bytes with another time are the source that the result was made from."""
    target = tmp_path / "target"
    catalog(source, target, SETTINGS, shared)
    name = records(target)[0]["sample"][0]
    was = entry_of(target, name)
    os.utime(source / name, ns=(1, 1))
    recording.remade(Files(Folder(target)), None)
    assert entry_of(target, name) == was


def test_report_after_an_undo_tells_what_there_is(tmp_path, shared, source):
    """An undo leaves no page of the run that it takes back; the next page says so, and the next run is told again."""
    target = tmp_path / "target"
    catalog(source, target, SETTINGS, shared)
    write_picture(source / "new.png", picture(20, 20))
    summary = catalog(source, target, SETTINGS, shared, terms=Terms(keep_previous=True))
    assert summary.done == 1
    undoing.undo(target)
    assert [path.name for path in (target / ".refine/report").iterdir()] == ["thumbs"]
    page = recording.remade(Files(Folder(target)), None).read_text(encoding="utf-8")
    assert re.search(r"Undone 20\d\d-.* UTC: results are what they were before the last run with --keep-previous", page)
    assert "some images have no result" not in page
    data = page_data(page)
    assert data["total"] == 6
    assert [part["title"] for part in data["figures"]] == ["The whole catalog", "The last run, before the undo"]
    (source / "new.png").unlink()
    assert catalog(source, target, SETTINGS, shared).unchanged == 5
    page = (target / ".refine/report/report.html").read_text(encoding="utf-8")
    assert "Undone" not in page
    assert [part["title"] for part in page_data(page)["figures"]] == ["The last run", "The whole catalog"]


def test_report_is_made_anew(tmp_path, shared, source, monkeypatch, capsys):
    """`refine report` writes the page as the run did, byte for byte, and prints where it is."""
    target = tmp_path / "target"
    odd = source / os.fsdecode(b"caf\xe9 <b>.png")
    write_picture(source / "x.png", picture(9, 9)).rename(odd)
    page = target / ".refine/report/report.html"
    catalog(source, target, SETTINGS, shared)
    before = page.read_bytes()
    page.unlink()
    monkeypatch.setattr("sys.argv", ["refine", "report", str(target), "--json"])
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert (left.value.code or 0) == 0
    assert json.loads(capsys.readouterr().out) == {"report": str(page)}
    assert page.read_bytes() == before


def test_report_of_no_catalog_is_refused(tmp_path):
    """A folder without a run, and a record that is damaged, are told; nothing is made."""
    with pytest.raises(JobError, match="name the TARGET of one"):
        recording.remade(Files(Folder(tmp_path)), None)
    (tmp_path / ".refine/runs").mkdir(parents=True)
    (tmp_path / ".refine/runs/20260101T000000.000000Z.json").write_text('{"half": ')
    with pytest.raises(JobError, match="name the TARGET of one"):
        recording.remade(Files(Folder(tmp_path)), None)
    assert not (tmp_path / ".refine/report").exists()
