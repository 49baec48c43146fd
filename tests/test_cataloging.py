"""A catalog that is brought up to date: what is stale and why, renditions, manifests, and the way back."""

from __future__ import annotations

import os
import sqlite3
from fractions import Fraction

import pytest
from click.testing import CliRunner
from strategies_files import picture, read_picture, small_tree, write_picture

from pipelines import identity, tasks, undoing
from pipelines.canary import tried
from pipelines.catalog import Terms, catalog
from pipelines.cataloging import undo as undo_command
from pipelines.errors import JobError
from pipelines.items import Common, Restore
from pipelines.manifest import Manifest
from pipelines.naming import Rendition
from pipelines.place import Folder, Spot
from pipelines.preview import foreseen
from pipelines.targets import Files
from pipelines.undoing import undo
from refine.limits import Limits
from refine.preset import load_preset
from refine.session import Engine
from refine.settings import Settings, Size


def settings_for(**others):
    """Twice as large without a network."""
    chosen = {"upscale.nets": "[]", "plan.tile": "256", "plan.block": "128"}
    chosen |= {key.replace("__", "."): str(value) for key, value in others.items()}
    return Settings(load_preset("balanced", chosen), Size(scale=Fraction(2)))


def plain_tree(folder, count=4):
    """Pictures that every format can hold, in two folders."""
    for number in range(count):
        path = folder / ("a" if number % 2 else "b") / f"{number}.png"
        write_picture(path, picture(20 + 3 * number, 33 - number, seed=number))
    return folder


def contents(target):
    """The bytes of every result, by name."""
    files = [p for p in target.rglob("*") if p.is_file() and ".refine" not in p.relative_to(target).parts]
    return {str(p.relative_to(target)): p.read_bytes() for p in files}


def test_renditions_come_of_one_decoding(tmp_path, inline):
    """Several results of each image, in folders of their own, each as large as it is asked; a new one alone is made."""
    source = plain_tree(tmp_path / "source", 3)
    zoom, thumb = Rendition("zoom", 60), Rendition("thumb", 10, "jpeg")
    done = catalog(source, tmp_path / "target", settings_for(), inline, terms=Terms((zoom,)))
    assert done.done == 3
    both = catalog(source, tmp_path / "target", settings_for(), inline, terms=Terms((zoom, thumb)))
    assert (both.done, both.unchanged, both.failed) == (3, 3, [])
    names = {"zoom/b/0.png", "zoom/a/1.png", "zoom/b/2.png", "thumb/b/0.jpg", "thumb/a/1.jpg", "thumb/b/2.jpg"}
    assert contents(tmp_path / "target").keys() == names
    for name in names:
        side = max(read_picture(tmp_path / "target" / name).shape[:2])
        assert side == (60 if name.startswith("zoom") else 10)


def test_log_tells_renditions_apart(tmp_path, inline, caplog):
    """What is done is told with its rendition, where there are several."""
    source = plain_tree(tmp_path / "source", 1)
    with caplog.at_level("INFO", "pipelines.feed"):
        terms = Terms((Rendition("zoom", 60), Rendition("thumb", 10)))
        catalog(source, tmp_path / "target", settings_for(), inline, terms=terms)
    said = sorted(line.partition(" done in")[0] for line in caplog.messages if " done in" in line)
    assert said == ["b/0.png (thumb):", "b/0.png (zoom):"]


def test_renditions_share_their_decoding(tmp_path, monkeypatch):
    """In one task a source is decoded and assessed once for all its renditions, and their bytes are those of one."""
    source = write_picture(tmp_path / "a.png", picture(30, 40))
    status = source.stat()
    items = [
        Restore(
            *("a.png", Spot(Folder(tmp_path), "a.png"), f"{name}/a.png", status.st_size, status.st_mtime_ns),
            *(Rendition(name, side).settings(settings_for()), name),
        )
        for name, side in (("zoom", 80), ("page", 40), ("thumb", 20))
    ]
    common = Common(Engine(), Limits(), Files(Folder(tmp_path)))
    alone = [tasks.performed((item,), common)[0].output_sha256 for item in items]
    looked = []
    assess = tasks.assess
    monkeypatch.setattr(tasks, "assess", lambda *given: (looked.append(1), assess(*given))[1])
    together = [receipt.output_sha256 for receipt in tasks.performed(tuple(items), common)]
    assert together == alone
    assert len(looked) == 1


def test_new_version_redoes_nothing_unasked(tmp_path, inline, monkeypatch):
    """Many finished results that another version would make otherwise are refused, kept or done, as it is said."""
    monkeypatch.setattr("pipelines.catalog.UNASKED", 3)
    source, target = small_tree(tmp_path / "source", 5), tmp_path / "target"
    catalog(source, target, settings_for(), inline)
    monkeypatch.setattr(identity, "BEHAVIOUR", 99)
    with pytest.raises(JobError, match=r"5 finished results .* behaviour \d+, now 99; .*--canary .*--redo .*--keep"):
        catalog(source, target, settings_for(), inline)
    write_picture(source / "new.png", picture(9, 9))
    kept = catalog(source, target, settings_for(), inline, terms=Terms(unasked="keep"))
    assert (kept.done, kept.kept, kept.unchanged) == (1, 5, 0)
    assert catalog(source, target, settings_for(sharpen__amount=0.9), inline, terms=Terms(unasked="redo")).done == 6


def test_keep_keeps_whatever_has_changed(tmp_path, inline):
    """Where finished results are to be left, other settings do not make them anew either; a new source is done."""
    source, target = small_tree(tmp_path / "source", 3), tmp_path / "target"
    catalog(source, target, settings_for(), inline)
    before = contents(target)
    write_picture(source / "new.png", picture(9, 9))
    kept = catalog(source, target, settings_for(sharpen__amount=0.9), inline, terms=Terms(unasked="keep"))
    assert (kept.done, kept.kept) == (1, 3)
    assert {path: data for path, data in contents(target).items() if path in before} == before


def test_settings_of_ones_own_are_asked_for(tmp_path, inline, monkeypatch):
    """Other settings make everything anew without a question."""
    monkeypatch.setattr("pipelines.catalog.UNASKED", 1)
    source, target = small_tree(tmp_path / "source", 3), tmp_path / "target"
    catalog(source, target, settings_for(), inline)
    assert catalog(source, target, settings_for(sharpen__amount=0.9), inline).done == 3


def test_touched_sources_are_recognised(tmp_path, inline):
    """A file with another time and the same content is not made again, nor looked at twice."""
    source, target = small_tree(tmp_path / "source", 3), tmp_path / "target"
    catalog(source, target, settings_for(), inline)
    before = {p: p.stat().st_mtime_ns for p in target.rglob("*.png")}
    for path in source.rglob("*.*"):
        os.utime(path, ns=(5, 5))
    for _ in range(2):
        assert catalog(source, target, settings_for(), inline).unchanged == 3
    assert {p: p.stat().st_mtime_ns for p in target.rglob("*.png")} == before


def test_result_of_an_image_that_failed_since_is_told(tmp_path, inline):
    """What stays in TARGET of a source that is broken by now is told by every run, until it is mended or gone."""
    source, target = plain_tree(tmp_path / "source", 3), tmp_path / "target"
    assert catalog(source, target, settings_for(), inline).earlier == 0
    for name in ("b/0.png", "a/1.png"):
        (source / name).write_bytes(b"no picture")
    (target / "b/0.png").unlink()
    for _ in range(2):
        told = catalog(source, target, settings_for(), inline)
        assert (len(told.failed), told.earlier, told.obsolete) == (2, 1, 0)
        assert "1 earlier result stays of images that have failed" in told.line()
        assert '"earlier results"' in (target / ".refine/report/report.html").read_text(encoding="utf-8")
    write_picture(source / "b/0.png", picture(12, 13))
    write_picture(source / "a/1.png", picture(12, 14))
    assert catalog(source, target, settings_for(), inline).earlier == 0
    (source / "a/1.png").write_bytes(b"no picture")
    assert catalog(source, target, settings_for(), inline).earlier == 1
    (source / "a/1.png").unlink()
    assert catalog(source, target, settings_for(), inline).earlier == 0


def test_undo_puts_the_last_night_back(tmp_path, inline):
    """Replaced, pruned and renamed results are what they were, new ones are gone, and the ledger knows."""
    source, target = plain_tree(tmp_path / "source", 4), tmp_path / "target"
    catalog(source, target, settings_for(), inline)
    before = contents(target)
    write_picture(source / "a" / "1.png", picture(15, 15, seed=8))
    write_picture(source / "a" / "new.png", picture(15, 15, seed=9))
    (source / "b" / "2.png").unlink()
    terms = Terms(prune=True, keep_previous=True)
    changed = catalog(source, target, settings_for(output__quality=80, output__format="jpeg"), inline, terms=terms)
    assert (changed.done, changed.pruned) == (4, 4), "one without a source, three by jpeg"
    done = undo(target)
    assert contents(target) == before
    assert (done.restored, done.removed) == (4, 4)
    with pytest.raises(JobError, match="nothing to undo"):
        undo(target)
    with pytest.raises(JobError, match="absent: there is no such folder"):
        undo(tmp_path / "absent")
    assert catalog(source, target, settings_for(), inline).unchanged == 2


def test_undo_counts_no_failure_as_a_result(tmp_path, inline):
    """An image that failed in the night, and was not there before, had no result that could be removed."""
    source, target = plain_tree(tmp_path / "source", 2), tmp_path / "target"
    catalog(source, target, settings_for(), inline)
    before = contents(target)
    (source / "broken.png").write_bytes((source / "b" / "0.png").read_bytes()[:-40])
    write_picture(source / "a" / "1.png", picture(15, 15, seed=8))
    night = catalog(source, target, settings_for(), inline, terms=Terms(keep_previous=True))
    assert (night.done, len(night.failed)) == (1, 1)
    said = CliRunner().invoke(undo_command, [str(target)])
    assert said.stdout == "results put back: 1; new ones removed: 0\n"
    assert contents(target) == before


def test_canary_shows_old_beside_new(tmp_path, inline, monkeypatch):
    """A few results are made anew beside the old ones, spread over the catalog; TARGET stays as it is."""
    monkeypatch.setattr("pipelines.catalog.UNASKED", 0)
    source, target = plain_tree(tmp_path / "source", 6), tmp_path / "target"
    catalog(source, target, settings_for(), inline)
    with pytest.raises(JobError, match="nothing to try"):
        tried(source, target, settings_for(), inline, count=2, terms=Terms(), engine=Engine(), quiet=True)
    before, journal = contents(target), (target / ".refine" / "journal.jsonl").read_bytes()
    monkeypatch.setattr(identity, "BEHAVIOUR", 99)
    other = settings_for(sharpen__amount=2)
    done = tried(source, target, other, inline, count=3, terms=Terms(), engine=Engine(), quiet=True)
    assert (done.done, done.failed) == (3, [])
    assert contents(target) == before
    made = contents(target / ".refine" / "canary")
    assert {name for name in made if name != "report.html"} == {"a/1.png", "a/5.png", "b/2.png"}
    assert all(made[name] != before[name] for name in before.keys() & made.keys())
    page = made["report.html"].decode()
    assert "sharpen.amount auto, now 2.0" in page
    assert page.count("data:image/webp;base64,") >= 6
    added = (target / ".refine" / "journal.jsonl").read_bytes().removeprefix(journal).splitlines()
    assert all(line.startswith(b'{"key"') for line in added), "only what keys mean is noted"
    with pytest.raises(JobError, match="6 finished results"):
        catalog(source, target, other, inline)


def test_plan_says_what_and_why(tmp_path, inline):
    """How many results are stale for which reason, with examples; and nothing is done."""
    source, target = plain_tree(tmp_path / "source", 8), tmp_path / "target"
    first = foreseen(source, target, settings_for(), (Rendition(),))
    assert (first.stale, first.why, target.exists()) == (8, {"new": 8}, False)
    assert first.seconds_estimate > 0
    assert first.output_px == sum(4 * (20 + 3 * n) * (33 - n) for n in range(8)), "all of so few are looked at"
    catalog(source, target, settings_for(), inline)
    os.utime(source / "a" / "1.png", ns=(5, 5))
    write_picture(source / "a" / "3.png", picture(50, 50))
    (target / "b" / "0.png").unlink()
    (source / "b" / "2.png").unlink()
    write_picture(source / "new.png", picture(9, 9))
    before = contents(target)
    found = foreseen(source, target, settings_for(), (Rendition(),))
    assert found.why == {"new": 1, "changed": 1, "touched": 1, "missing": 1}
    assert (found.unchanged, found.gone, found.unasked) == (4, 1, 0)
    assert found.examples == {
        "new": ["new.png"],
        "changed": ["a/3.png"],
        "touched": ["a/1.png"],
        "missing": ["b/0.png"],
        "gone": ["b/2.png"],
    }
    assert "gone     1 result that SOURCE has no more: b/2.png; --prune removes them" in found.lines()
    other = foreseen(source, target, settings_for(output__quality=80), (Rendition(),))
    assert other.differs == [{"count": 5, "what": ["output.quality 95, now 80"], "asked": True}]
    assert contents(target) == before
    assert any("1  result missing" in line for line in found.lines())


@pytest.mark.parametrize("moment", ["before any", "taken away", "half put back", "all put back"])
def test_interrupted_undo_is_finished(tmp_path, inline, monkeypatch, moment):
    """An undo that is killed is finished by the same call; until then no run may begin."""
    source, target = plain_tree(tmp_path / "source", 4), tmp_path / "target"
    catalog(source, target, settings_for(), inline)
    before = contents(target)
    write_picture(source / "a" / "1.png", picture(15, 15, seed=8))
    write_picture(source / "new.png", picture(15, 15, seed=9))
    catalog(source, target, settings_for(output__format="jpeg"), inline, terms=Terms(keep_previous=True))
    calls = {"before any": 0, "taken away": 1, "half put back": 4, "all put back": 6}[moment]
    monkeypatch.setattr(undoing, "_AT_ONCE", 1)
    commit, made = Manifest.commit, []

    def killed(ledger, entries):
        if len(made) == calls:
            raise KeyboardInterrupt
        made.append(commit(ledger, entries))

    monkeypatch.setattr(Manifest, "commit", killed)
    with pytest.raises(KeyboardInterrupt):
        undo(target)
    monkeypatch.setattr(Manifest, "commit", commit)
    with pytest.raises(JobError, match="finish it first: refine undo"):
        catalog(source, target, settings_for(), inline)
    undo(target)
    assert contents(target) == before
    assert not (target / ".refine" / "previous").exists()


def test_interrupted_night_is_undone_as_one(tmp_path, inline):
    """A run that goes on where one was interrupted adds to what that one put aside: one undo takes back both."""
    source, target = plain_tree(tmp_path / "source", 4), tmp_path / "target"
    catalog(source, target, settings_for(), inline)
    before = contents(target)
    for seed in (8, 9):
        write_picture(source / "a" / "1.png", picture(15, 15, seed=seed))
        write_picture(source / f"new{seed}.png", picture(15, 15, seed=seed))
        catalog(source, target, settings_for(), inline, terms=Terms(keep_previous=True))
        if seed == 8:  # as a run leaves it that did not come to its end
            with sqlite3.connect(target / ".refine" / "previous" / "previous.sqlite") as index:
                index.execute("DELETE FROM state")
            index.close()
    undo(target)
    assert contents(target) == before


def test_later_run_is_not_undone_by_halves(tmp_path, inline):
    """Where a run without --keep-previous came after, what was kept no longer fits, and undo says so."""
    source, target = plain_tree(tmp_path / "source", 3), tmp_path / "target"
    catalog(source, target, settings_for(), inline)
    for seed, keep in ((8, True), (9, False)):
        write_picture(source / "a" / "1.png", picture(15, 15, seed=seed))
        catalog(source, target, settings_for(), inline, terms=Terms(keep_previous=keep))
    with pytest.raises(JobError, match="a later run has changed results"):
        undo(target)


@pytest.mark.parametrize("ended", [True, False], ids=["finished", "interrupted"])
def test_night_and_its_retry_are_undone_together(tmp_path, inline, ended):
    """A retry adds to what the night before it keeps, ended or not: one undo takes back both, and what goes on."""
    source, target = plain_tree(tmp_path / "source", 4), tmp_path / "target"
    catalog(source, target, settings_for(), inline)
    before = contents(target)
    whole = write_picture(tmp_path / "whole.png", picture(15, 15, seed=8)).read_bytes()
    for name in ("a/1.png", "new.png"):
        (source / name).write_bytes(whole[:-40])
    write_picture(source / "b" / "2.png", picture(15, 15, seed=9))
    night = Terms(keep_previous=True)
    assert len(catalog(source, target, settings_for(), inline, terms=night).failed) == 2
    if not ended:  # as a run leaves it that did not come to its end
        with sqlite3.connect(target / ".refine" / "previous" / "previous.sqlite") as index:
            index.execute("DELETE FROM state")
        index.close()
    for name in ("a/1.png", "new.png"):
        (source / name).write_bytes(whole)
    assert catalog(source, target, settings_for(), inline, terms=Terms(retry="failed")).done == 2
    if not ended:
        write_picture(source / "a" / "3.png", picture(15, 15, seed=7))
        assert catalog(source, target, settings_for(), inline, terms=night).done == 1
    assert contents(target).keys() == before.keys() | {"new.png"}
    undo(target)
    assert contents(target) == before


def test_touched_source_waits_for_a_word_too(tmp_path, inline, monkeypatch):
    """A touched file whose result another version would make otherwise keeps that result until it is asked for."""
    source, target = plain_tree(tmp_path / "source", 2), tmp_path / "target"
    catalog(source, target, settings_for(), inline)
    monkeypatch.setattr(identity, "BEHAVIOUR", 99)
    monkeypatch.setattr("pipelines.catalog.UNASKED", 0)
    for path in source.rglob("*.png"):
        os.utime(path, ns=(5, 5))
    assert catalog(source, target, settings_for(), inline).done == 0
    with pytest.raises(JobError, match="2 finished results"):
        catalog(source, target, settings_for(), inline)
