"""A catalog that is brought up to date: what is stale and why, renditions, manifests, and the way back."""

from __future__ import annotations

import os
from fractions import Fraction

import pytest
from strategies_files import picture, read_picture, small_tree, write_picture

from pipelines import identity, tasks
from pipelines.catalog import Terms, catalog
from pipelines.errors import JobError
from pipelines.naming import Rendition
from pipelines.place import Folder, Spot
from pipelines.previous import undo
from pipelines.targets import Files
from refine.preset import load_preset
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


def test_renditions_come_of_one_decoding(tmp_path, shared):
    """Several results of each image, in folders of their own, each as large as it is asked; a new one alone is made."""
    source = plain_tree(tmp_path / "source", 3)
    zoom, thumb = Rendition("zoom", 60), Rendition("thumb", 10, "jpeg")
    done = catalog(source, tmp_path / "target", settings_for(), shared, terms=Terms((zoom,)))
    assert done.done == 3
    both = catalog(source, tmp_path / "target", settings_for(), shared, terms=Terms((zoom, thumb)))
    assert (both.done, both.unchanged, both.failed) == (3, 3, [])
    names = {"zoom/b/0.png", "zoom/a/1.png", "zoom/b/2.png", "thumb/b/0.jpg", "thumb/a/1.jpg", "thumb/b/2.jpg"}
    assert contents(tmp_path / "target").keys() == names
    for name in names:
        side = max(read_picture(tmp_path / "target" / name).shape[:2])
        assert side == (60 if name.startswith("zoom") else 10)


def test_renditions_share_their_decoding(tmp_path, monkeypatch):
    """In one task a source is decoded and assessed once for all its renditions, and their bytes are those of one."""
    source = write_picture(tmp_path / "a.png", picture(30, 40))
    status = source.stat()
    items = [
        tasks.Restore(
            *("a.png", Spot(Folder(tmp_path), "a.png"), f"{name}/a.png", status.st_size, status.st_mtime_ns),
            *(Rendition(name, side).settings(settings_for()), name),
        )
        for name, side in (("zoom", 80), ("page", 40), ("thumb", 20))
    ]
    common = tasks.Common(tasks.Engine(), tasks.Limits(), Files(Folder(tmp_path)))
    alone = [tasks.performed((item,), common)[0].output_sha256 for item in items]
    looked = []
    assess = tasks.assess
    monkeypatch.setattr(tasks, "assess", lambda *given: (looked.append(1), assess(*given))[1])
    together = [receipt.output_sha256 for receipt in tasks.performed(tuple(items), common)]
    assert together == alone
    assert len(looked) == 1


def test_new_version_redoes_nothing_unasked(tmp_path, shared, monkeypatch):
    """Many finished results that another version would make otherwise are refused, kept or done, as it is said."""
    monkeypatch.setattr("pipelines.catalog.UNASKED", 3)
    source, target = small_tree(tmp_path / "source", 5), tmp_path / "target"
    catalog(source, target, settings_for(), shared)
    monkeypatch.setattr(identity, "BEHAVIOUR", 99)
    with pytest.raises(JobError, match=r"5 finished results .* behaviour 3, now 99; .*--canary .*--redo .*--keep"):
        catalog(source, target, settings_for(), shared)
    write_picture(source / "new.png", picture(9, 9))
    kept = catalog(source, target, settings_for(), shared, terms=Terms(unasked="keep"))
    assert (kept.done, kept.kept, kept.unchanged) == (1, 5, 0)
    assert catalog(source, target, settings_for(sharpen__amount=0.9), shared, terms=Terms(unasked="redo")).done == 6


def test_settings_of_ones_own_are_asked_for(tmp_path, shared, monkeypatch):
    """Other settings make everything anew without a question."""
    monkeypatch.setattr("pipelines.catalog.UNASKED", 1)
    source, target = small_tree(tmp_path / "source", 3), tmp_path / "target"
    catalog(source, target, settings_for(), shared)
    assert catalog(source, target, settings_for(sharpen__amount=0.9), shared).done == 3


def test_touched_sources_are_recognised(tmp_path, shared):
    """A file with another time and the same content is not made again, nor looked at twice."""
    source, target = small_tree(tmp_path / "source", 3), tmp_path / "target"
    catalog(source, target, settings_for(), shared)
    before = {p: p.stat().st_mtime_ns for p in target.rglob("*.png")}
    for path in source.rglob("*.*"):
        os.utime(path, ns=(5, 5))
    for _ in range(2):
        assert catalog(source, target, settings_for(), shared).unchanged == 3
    assert {p: p.stat().st_mtime_ns for p in target.rglob("*.png")} == before


def test_gone_sources_are_told_then_pruned(tmp_path, shared):
    """Results without a source are counted, and removed with their folders only where that is asked for."""
    source, target = small_tree(tmp_path / "source", 3), tmp_path / "target"
    catalog(source, target, settings_for(), shared)
    (source / "a" / "1.png").unlink()
    told = catalog(source, target, settings_for(), shared)
    assert (told.gone, told.pruned) == (1, 0)
    assert (target / "a" / "1.png").exists()
    gone = catalog(source, target, settings_for(), shared, terms=Terms(prune=True))
    assert (gone.gone, gone.pruned) == (1, 1)
    assert not (target / "a").exists()
    assert catalog(source, target, settings_for(), shared).gone == 0


def test_empty_source_prunes_nothing(tmp_path, shared):
    """A source that holds no image at all is taken for a mistake."""
    source, target = small_tree(tmp_path / "source", 2), tmp_path / "target"
    catalog(source, target, settings_for(), shared)
    (tmp_path / "empty").mkdir()
    with pytest.raises(JobError, match="holds no image, and 2 results would go"):
        catalog(tmp_path / "empty", target, settings_for(), shared, terms=Terms(prune=True))
    assert len(contents(target)) == 2


def test_undo_puts_the_last_night_back(tmp_path, shared):
    """Replaced, pruned and renamed results are what they were, new ones are gone, and the ledger knows."""
    source, target = plain_tree(tmp_path / "source", 4), tmp_path / "target"
    catalog(source, target, settings_for(), shared)
    before = contents(target)
    write_picture(source / "a" / "1.png", picture(15, 15, seed=8))
    write_picture(source / "a" / "new.png", picture(15, 15, seed=9))
    (source / "b" / "2.png").unlink()
    terms = Terms(prune=True, keep_previous=True)
    changed = catalog(source, target, settings_for(output__quality=80, output__format="jpeg"), shared, terms=terms)
    assert (changed.done, changed.pruned) == (4, 1)
    done = undo(target)
    assert contents(target) == before
    assert (done.restored, done.removed) == (4, 4)
    with pytest.raises(JobError, match="nothing to undo"):
        undo(target)
    assert catalog(source, target, settings_for(), shared).unchanged == 2
