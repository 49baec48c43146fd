"""What nothing asks for any more, and what is nobody's to remove: pruning, files of others, and the care with both."""

from __future__ import annotations

import os

import pytest
from strategies_files import picture, small_tree, write_picture
from test_cataloging import contents, plain_tree, settings_for

from pipelines import departed, foreign, manifest
from pipelines.brake import Tolerance
from pipelines.catalog import Terms, catalog
from pipelines.errors import JobError, RunError
from pipelines.manifest import Manifest
from pipelines.naming import Rendition
from pipelines.preview import foreseen
from pipelines.records import Record
from pipelines.roll import Roll
from pipelines.undoing import undo

BROKEN = b"\x89PNG\r\n\x1a\nbroken"


def lose(source, numbers):
    """Take pictures of a plain tree away."""
    for number in numbers:
        next(source.rglob(f"{number}.png")).unlink()


def test_another_source_prunes_nothing_at_once(tmp_path, inline):
    """With a narrower SOURCE than the last time nothing is removed before it was run once without that wish."""
    source, target = small_tree(tmp_path / "source", 3), tmp_path / "target"
    catalog(source, target, settings_for(), inline)
    narrow, before = source / "a" / "*.png", contents(target)
    for _ in range(2):
        with pytest.raises(JobError, match=r"SOURCE was .*source the last time .*--prune would remove \d+ results"):
            catalog(narrow, target, settings_for(), inline, terms=Terms(prune=True))
    assert contents(target) == before
    catalog(narrow, target, settings_for(), inline)
    assert catalog(narrow, target, settings_for(), inline, terms=Terms(prune=True)).pruned > 0


def test_gone_sources_are_told_then_pruned(tmp_path, inline):
    """Results without a source are counted, and removed with their folders only where that is asked for."""
    source, target = small_tree(tmp_path / "source", 3), tmp_path / "target"
    catalog(source, target, settings_for(), inline)
    (source / "a" / "1.png").unlink()
    told = catalog(source, target, settings_for(), inline)
    assert (told.gone, told.pruned) == (1, 0)
    assert (target / "a" / "1.png").exists()
    gone = catalog(source, target, settings_for(), inline, terms=Terms(prune=True))
    assert (gone.gone, gone.pruned) == (1, 1)
    assert not (target / "a").exists()
    assert catalog(source, target, settings_for(), inline).gone == 0


def test_dropped_renditions_are_told_then_pruned(tmp_path, inline):
    """Results of a rendition that is not asked for stay until the second run without it, with that wish."""
    source, target = plain_tree(tmp_path / "source", 3), tmp_path / "target"
    both, one = (Rendition("zoom", 60), Rendition("thumb", 10)), (Rendition("thumb", 10),)
    catalog(source, target, settings_for(), inline, terms=Terms(both))
    with pytest.raises(JobError, match=r"the last run made renditions that this one does not, zoom: --prune would"):
        catalog(source, target, settings_for(), inline, terms=Terms(one, prune=True))
    told = catalog(source, target, settings_for(), inline, terms=Terms(one))
    assert (told.unchanged, told.gone, told.obsolete, told.pruned) == (3, 0, 3, 0)
    assert "3 of a rendition or format not asked for (--prune removes them)" in told.line()
    assert '"not asked for"' in (target / ".refine/report/report.html").read_text(encoding="utf-8")
    foretold = foreseen(source, target, settings_for(), one)
    assert (foretold.obsolete, foretold.examples["obsolete"][0]) == (3, "zoom/a/1.png")
    gone = catalog(source, target, settings_for(), inline, terms=Terms(one, prune=True))
    assert (gone.obsolete, gone.pruned) == (0, 3)
    assert '"not asked for"' not in (target / ".refine/report/report.html").read_text(encoding="utf-8")
    assert all(name.startswith("thumb/") for name in contents(target))
    assert catalog(source, target, settings_for(), inline, terms=Terms(both)).done == 3


def test_results_of_another_format_are_told_then_pruned(tmp_path, inline):
    """What a result of another format follows is counted from that run on, survives a lost index, and is removed."""
    source, target = plain_tree(tmp_path / "source", 3), tmp_path / "target"
    catalog(source, target, settings_for(), inline)
    (source / "a" / "1.png").write_bytes(b"no picture")
    told = catalog(source, target, settings_for(output__format="jpeg"), inline)
    assert (told.done, len(told.failed), told.obsolete) == (2, 1, 2)
    assert contents(target).keys() == {"a/1.png", "b/0.png", "b/0.jpg", "b/2.png", "b/2.jpg"}
    (target / "b" / "2.png").unlink()
    for path in (target / ".refine").glob("manifest.sqlite*"):
        path.unlink()
    assert catalog(source, target, settings_for(output__format="jpeg"), inline).obsolete == 1
    terms = Terms(prune=True, keep_previous=True)
    done = catalog(source, target, settings_for(output__format="jpeg"), inline, terms=terms)
    assert (done.pruned, done.obsolete, done.unchanged) == (1, 0, 2)
    assert contents(target).keys() == {"a/1.png", "b/0.jpg", "b/2.jpg"}, "what has nothing to follow it stays"
    assert undo(target).restored == 1
    assert catalog(source, target, settings_for(output__format="jpeg"), inline).obsolete == 1
    back = catalog(source, target, settings_for(), inline, terms=Terms(prune=True))
    assert (back.done, back.pruned, back.obsolete) == (2, 2, 0)
    assert contents(target).keys() == {"a/1.png", "b/0.png", "b/2.png"}
    (source / "a" / "1.png").unlink()
    assert catalog(source, target, settings_for(), inline, terms=Terms(prune=True)).pruned == 1
    assert contents(target).keys() == {"b/0.png", "b/2.png"}


def test_files_of_others_are_not_replaced(tmp_path, inline):
    """What lies in TARGET and was made by no run is named, and stays, unless it is to be replaced."""
    source, target = plain_tree(tmp_path / "source", 3), tmp_path / "target"
    theirs = write_picture(target / "a" / "1.png", picture(5, 5))
    (target / "readme.txt").write_text("no result has this name", encoding="utf-8")
    data = theirs.read_bytes()
    said = (
        r"TARGET holds 1 file that no run has made, by the names of results: a/1\.png; move them away, or .*--overwrite"
    )
    for _ in range(2):
        with pytest.raises(JobError, match=said):
            catalog(source, target, settings_for(), inline)
        with pytest.raises(JobError, match=said):
            foreseen(source, target, settings_for(), (Rendition(),))
        assert theirs.read_bytes() == data
    assert catalog(source, target, settings_for(), inline, terms=Terms(overwrite=True)).done == 3
    assert theirs.read_bytes() != data
    assert catalog(source, target, settings_for(), inline).unchanged == 3
    write_picture(target / "b" / "0.jpg", picture(5, 5))
    with pytest.raises(JobError, match=r"b/0\.jpg"):
        catalog(source, target, settings_for(output__format="jpeg"), inline)


def test_what_a_killed_run_stored_is_its_own(tmp_path, inline, monkeypatch):
    """A result that was stored and not recorded is made again unasked, but not what came there before."""
    source, target = plain_tree(tmp_path / "source", 4), tmp_path / "target"
    commit = Manifest.commit

    def killed(ledger, entries):
        entries = list(entries)
        if any(isinstance(entry, Record) for entry in entries):
            raise KeyboardInterrupt
        commit(ledger, entries)

    monkeypatch.setattr(Manifest, "commit", killed)
    with pytest.raises(KeyboardInterrupt):
        catalog(source, target, settings_for(), inline)
    monkeypatch.setattr(Manifest, "commit", commit)
    stored = sorted(contents(target))
    assert stored, "some results are there that the ledger does not know"
    os.utime(target / stored[0], ns=(5, 5))
    with pytest.raises(JobError, match="TARGET holds 1 file that no run has made"):
        catalog(source, target, settings_for(), inline)
    (target / stored[0]).unlink()
    assert catalog(source, target, settings_for(), inline).done == 4
    assert not (target / ".refine" / "begun").exists()


def test_stopped_run_has_recorded_all(tmp_path, inline):
    """A run that too many failures stop ends in order: what comes to TARGET after it is somebody else's."""
    source, target = plain_tree(tmp_path / "source", 4), tmp_path / "target"
    (source / "a" / "1.png").write_bytes(BROKEN)
    with pytest.raises(RunError, match="failed"):
        catalog(source, target, settings_for(), inline, terms=Terms(max_failures=Tolerance(0)))
    assert not (target / ".refine" / "begun").exists()


def test_many_results_are_not_pruned_at_once(tmp_path, inline, monkeypatch):
    """Where most of SOURCE is missing, --prune removes nothing before a run without it has told how many that is."""
    monkeypatch.setattr("pipelines.catalog.MANY", 3)
    source, target = plain_tree(tmp_path / "source", 5), tmp_path / "target"
    catalog(source, target, settings_for(), inline)
    lose(source, range(4))
    for _ in range(2):
        with pytest.raises(JobError, match=r"SOURCE has 1 image and --prune would remove 4 results .* without --prune"):
            catalog(source, target, settings_for(), inline, terms=Terms(prune=True))
    assert len(contents(target)) == 5
    assert catalog(source, target, settings_for(), inline).gone == 4
    assert catalog(source, target, settings_for(), inline, terms=Terms(prune=True)).pruned == 4


def test_source_may_be_said_in_another_way(tmp_path, inline, monkeypatch):
    """A relative SOURCE is the one of the last night, and prunes."""
    source, target = plain_tree(tmp_path / "source", 3), tmp_path / "target"
    monkeypatch.chdir(tmp_path)
    catalog("source", target, settings_for(), inline)
    (source / "a" / "1.png").unlink()
    assert catalog("./source", target, settings_for(), inline, terms=Terms(prune=True)).pruned == 1


def test_undo_gives_back_what_an_image_had_before_it_failed(tmp_path, inline):
    """The earlier result of an image that failed, was mended and made with --keep-previous comes back."""
    source, target = plain_tree(tmp_path / "source", 3), tmp_path / "target"
    catalog(source, target, settings_for(), inline)
    before = contents(target)
    (source / "a" / "1.png").write_bytes(BROKEN)
    assert catalog(source, target, settings_for(), inline).earlier == 1
    write_picture(source / "a" / "1.png", picture(15, 15, seed=8))
    catalog(source, target, settings_for(), inline, terms=Terms(keep_previous=True))
    assert contents(target) != before
    undo(target)
    assert contents(target) == before
    (source / "a" / "1.png").write_bytes(BROKEN)
    assert catalog(source, target, settings_for(), inline).earlier == 1


def test_what_failed_before_it_went_is_pruned_with_the_same_care(tmp_path, inline, monkeypatch):
    """A disk that first gives errors and then nothing takes no results along: they count as those of other sources."""
    monkeypatch.setattr("pipelines.catalog.MANY", 3)
    source, target = plain_tree(tmp_path / "source", 5), tmp_path / "target"
    catalog(source, target, settings_for(), inline)
    for path in source.rglob("*.png"):
        path.write_bytes(BROKEN)
    assert catalog(source, target, settings_for(), inline).earlier == 5
    lose(source, range(4))
    with pytest.raises(JobError, match="--prune would remove 4 results"):
        catalog(source, target, settings_for(), inline, terms=Terms(prune=True))
    found = foreseen(source, target, settings_for(), (Rendition(),))
    assert (found.gone, found.obsolete, len(found.examples["gone"])) == (4, 0, 3)
    lose(source, [4])
    with pytest.raises(JobError, match="SOURCE holds no image, and 5 results would go"):
        catalog(source, target, settings_for(), inline, terms=Terms(prune=True))
    assert len(contents(target)) == 5


def test_gone_source_takes_no_other_images_result(tmp_path, inline):
    """What a.tif left in the place of the result of a.png, which is gone, stays though a.tif has failed since."""
    source, target, wish = tmp_path / "source", tmp_path / "target", settings_for(output__format="jpeg")
    for name in ("a.png", "z.png"):
        write_picture(source / name, picture(20, 20, seed=1))
    catalog(source, target, wish, inline)
    (source / "a.png").unlink()
    write_picture(source / "a.tif", picture(21, 21, seed=2))
    catalog(source, target, wish, inline)
    (source / "a.tif").write_bytes(b"II*\0broken")
    assert catalog(source, target, wish, inline).earlier == 1
    catalog(source, target, wish, inline, terms=Terms(prune=True))
    assert contents(target).keys() == {"a.jpg", "z.jpg"}


def test_what_was_pruned_was_no_warning(tmp_path, inline, monkeypatch):
    """That many results were removed last night is no consent to as many tonight."""
    monkeypatch.setattr("pipelines.catalog.MANY", 3)
    source, target = plain_tree(tmp_path / "source", 12), tmp_path / "target"
    catalog(source, target, settings_for(), inline)
    lose(source, range(7))
    catalog(source, target, settings_for(), inline)
    assert catalog(source, target, settings_for(), inline, terms=Terms(prune=True)).pruned == 7
    lose(source, range(7, 11))
    with pytest.raises(JobError, match="--prune would remove 4 results"):
        catalog(source, target, settings_for(), inline, terms=Terms(prune=True))


def test_refused_run_leaves_files_of_others_alone(tmp_path, inline):
    """A run that was refused has stored nothing: what comes to TARGET after it is still somebody else's."""
    source, target = plain_tree(tmp_path / "source", 3), tmp_path / "target"
    catalog(source, target, settings_for(), inline)
    (tmp_path / "empty").mkdir()
    with pytest.raises(JobError, match="holds no image"):
        catalog(tmp_path / "empty", target, settings_for(), inline, terms=Terms(prune=True))
    assert not (target / ".refine" / "begun").exists()


def test_plan_of_many_is_not_looked_through_for_each(tmp_path):
    """No query of what departs, or of whose a file is, scans one table for each row of another."""
    with manifest.opened(tmp_path) as ledger:
        Roll(ledger.index, tmp_path)
        queries = {name: text for module in (departed, foreign) for name, text in vars(module).items()
                   if isinstance(text, str) and "SELECT" in text and not name.startswith(("__", "_LEFT"))}  # fmt: skip
        assert len(queries) > 6
        for name, text in queries.items():
            plan = [row[3] for row in ledger.index.execute(f"EXPLAIN QUERY PLAN {text}", {"first": b"", "last": b""})]
            inner = [step for step in plan if step.startswith("SCAN") and "LEFT-JOIN" in step]
            assert not inner, (name, plan)


def test_empty_source_prunes_nothing(tmp_path, inline):
    """A source that holds no image at all is taken for a mistake."""
    source, target = small_tree(tmp_path / "source", 2), tmp_path / "target"
    catalog(source, target, settings_for(), inline)
    (tmp_path / "empty").mkdir()
    with pytest.raises(JobError, match="holds no image, and 2 results would go"):
        catalog(tmp_path / "empty", target, settings_for(), inline, terms=Terms(prune=True))
    assert len(contents(target)) == 2
