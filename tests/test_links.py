"""Symbolic links in a catalog's source: folders behind them are listed, and what cannot be reached is not gone."""

from __future__ import annotations

from fractions import Fraction

import pytest
from strategies_files import picture, write_picture

from pipelines.catalog import Terms, catalog
from pipelines.errors import JobError
from pipelines.inventory import listing
from pipelines.place import Folder
from refine.preset import load_preset
from refine.settings import Settings, Size

SETTINGS = Settings(load_preset("balanced", {"upscale.nets": "[]"}), Size(scale=Fraction(2)))


def names(source, target=None):
    """The names that a source lists, in order, and the links that may be folders."""
    found = listing(source)
    if target is not None:
        found.check_apart(Folder(target))
    return [one.path for one in found.listed()], list(found.absent)


@pytest.fixture
def source(tmp_path):
    """A source with one picture of its own, and a disk beside it with two."""
    for number, name in enumerate(("source/a.png", "disk/b.png", "disk/deep/c.png")):
        write_picture(tmp_path / name, picture(20, 30, seed=number))
    return tmp_path / "source"


def test_linked_folders_are_listed(source):
    """A folder and a file behind a link have names as those that lie there; two links are two names."""
    (source / "disk").symlink_to(source.parent / "disk")
    (source / "other").symlink_to(source.parent / "disk" / "deep")
    (source / "z.png").symlink_to(source / "a.png")
    found = ["a.png", "z.png", "disk/b.png", "disk/deep/c.png", "other/c.png"]
    assert names(source) == (found, [])
    assert names(f"{source}/**/c.*") == (found[3:], [])


def test_links_that_lead_round_are_passed_over(source):
    """A real folder comes once along a path, by whatever name it is met again."""
    (source / "up").symlink_to(source.parent)
    (source / "self").symlink_to(source)
    (source.parent / "disk" / "deep" / "round").symlink_to(source.parent / "disk")
    (source / "loop").symlink_to("loop")
    assert names(source) == (["a.png", "up/disk/b.png", "up/disk/deep/c.png"], ["loop"])


def test_links_to_results_are_no_sources(source):
    """A link into TARGET is passed over; a linked folder that holds TARGET is refused."""
    target = source.parent / "disk" / "deep"
    (source / "results").symlink_to(target)
    assert names(source, target) == (["a.png"], [])
    (source / "disk").symlink_to(source.parent / "disk")
    with pytest.raises(JobError, match=r"TARGET .*deep lies in .*source/disk, a link to .*; name a TARGET elsewhere"):
        names(source, target)


@pytest.mark.parametrize("pattern", ["", "/**/*.png"], ids=["folder", "pattern"])
def test_image_behind_a_dead_link_is_not_gone(source, inline, pattern):
    """It fails, and its earlier result is not pruned; once it is back it is made again."""
    (source / "b.png").symlink_to(source.parent / "disk" / "b.png")
    target, terms = source.parent / "target", Terms(prune=True)
    assert catalog(f"{source}{pattern}", target, SETTINGS, inline).done == 2
    (source.parent / "disk").rename(source.parent / "away")
    told = catalog(f"{source}{pattern}", target, SETTINGS, inline, terms=terms)
    assert (told.unchanged, told.gone, told.pruned) == (1, 0, 0)
    assert [(one.path, one.reason) for one in told.failed] == [("b.png", "cannot be read: No such file or directory")]
    assert (target / "b.png").exists()
    (source.parent / "away").rename(source.parent / "disk")
    again = catalog(f"{source}{pattern}", target, SETTINGS, inline, terms=terms)
    assert (again.done + again.unchanged, again.failed) == (2, [])


@pytest.mark.parametrize("pattern", ["", "/**/*.png"], ids=["folder", "pattern"])
def test_folder_behind_a_dead_link_is_not_pruned(source, inline, pattern):
    """Results of what lay below it are counted as gone, and --prune is refused; a link without results is no matter."""
    (source / "disk").symlink_to(source.parent / "disk")
    (source / "never").symlink_to(source.parent / "never")
    write_picture(source / "e.png", picture(9, 9))
    target, terms = source.parent / "target", Terms(prune=True)
    assert catalog(f"{source}{pattern}", target, SETTINGS, inline, terms=terms).done == 4
    (source.parent / "disk").rename(source.parent / "away")
    with pytest.raises(JobError, match="disk is a link that leads nowhere, and 2 results of images below it would go"):
        catalog(f"{source}{pattern}", target, SETTINGS, inline, terms=terms)
    assert (target / "disk" / "deep" / "c.png").exists()
    assert catalog(f"{source}{pattern}", target, SETTINGS, inline).gone == 2
    (source / "disk").unlink()
    assert catalog(f"{source}{pattern}", target, SETTINGS, inline, terms=terms).pruned == 2
