"""A ledger's journal and its objects in a bucket: another machine has what this one has, in the same order."""

from __future__ import annotations

import gzip

import pytest

from pipelines import mirror
from pipelines.bucket import Bucket
from pipelines.errors import RunError
from pipelines.mirror import Mirror


@pytest.fixture
def machine(shop, tmp_path):
    """A mirror in the folder of a machine of that name, pulled."""

    def made(name):
        (tmp_path / name).mkdir(exist_ok=True)
        found = Mirror(Bucket(shop.name), tmp_path / name)
        found.pull()
        return found

    return made


def write(machine, text):
    """Have lines come into a machine's journal, as its ledger would write them."""
    with (machine._folder / "journal.jsonl").open("ab") as file:
        file.write(text)


def lines(machine):
    """A machine's journal."""
    path = machine._folder / "journal.jsonl"
    return path.read_bytes() if path.exists() else b""


def test_fresh_machine_has_all_that_was_pushed(shop, machine):
    """Lines are stored in numbered objects, and come back in their order."""
    first = machine("one")
    for number in range(12):
        write(first, b"line %d\n" % number)
        first.push(now=True)
    first.push(now=True)
    write(first, b"not pushed\n")
    assert len(shop.keys(".refine/journal/")) == 12
    assert lines(machine("two")) == b"".join(b"line %d\n" % n for n in range(12))


def test_push_waits_for_enough(shop, machine, monkeypatch):
    """A few lines wait for others; many do not, and what waited long does not."""
    first = machine("one")
    write(first, b"a\n")
    first.push()
    assert shop.keys() == []
    write(first, b"b" * mirror.PUSH_NBYTES)
    first.push()
    assert len(shop.keys()) == 1
    monkeypatch.setattr(mirror, "PUSH_S", 0.0)
    write(first, b"c\n")
    first.push()
    assert len(shop.keys()) == 2


def test_killed_machine_keeps_what_only_it_has(machine):
    """Where nobody else has worked, lines that were not pushed count after a restart, and are pushed then."""
    first = machine("one")
    write(first, b"a\n")
    first.push(now=True)
    write(first, b"b\n")
    again = machine("one")
    assert lines(again) == b"a\nb\n"
    again.push(now=True)
    assert lines(machine("two")) == b"a\nb\n"


def test_never_pushed_lines_stay(machine):
    """A run killed before it pushed anything is not forgotten on its machine."""
    write(machine("one"), b"a\n")
    assert lines(machine("one")) == b"a\n"


def test_machines_take_turns(machine):
    """Each goes on where the other ended; what only one had, when the other went on, is dropped with the index."""
    first = machine("one")
    write(first, b"a\n")
    first.push(now=True)
    second = machine("two")
    write(second, b"b\n")
    second.push(now=True)
    write(first, b"lost\n")
    (first._folder / "manifest.sqlite").write_bytes(b"an index of lines that are dropped")
    again = machine("one")
    assert lines(again) == b"a\nb\n"
    assert not (first._folder / "manifest.sqlite").exists()
    write(again, b"c\n")
    again.push(now=True)
    assert lines(machine("two")) == b"a\nb\nc\n"


def test_two_writers_are_noticed(machine):
    """A number is taken once: a run that another one has overtaken ends."""
    first, second = machine("one"), machine("two")
    write(first, b"a\n")
    write(second, b"b\n")
    first.push(now=True)
    with pytest.raises(RunError, match="another run has written on"):
        second.push(now=True)


def test_many_objects_become_one(shop, machine, monkeypatch):
    """What counts is stored as one object, those before it go, and machines behind and ahead of it go on."""
    monkeypatch.setattr(mirror, "COMPACT_AFTER", 5)
    first, behind = machine("one"), None
    for number in range(6):
        write(first, b"line %d\n" % number)
        first.push(now=True)
        behind = behind or machine("behind")
    first.compact([b"all\n"])
    (key,) = shop.keys(".refine/journal/")
    assert gzip.decompress(shop.get(key)) == b"all\n"
    first.compact([b"not yet\n"])
    write(first, b"after\n")
    first.push(now=True)
    assert len(shop.keys(".refine/journal/")) == 2
    assert lines(machine("behind")) == lines(machine("fresh")) == b"all\nafter\n"
    assert lines(machine("one")) == b"".join(b"line %d\n" % n for n in range(6)) + b"after\n"


@pytest.mark.parametrize("loss", ["journal", "bucket", "another bucket"])
def test_what_does_not_belong_together_is_made_anew(shop, machine, loss):
    """The bucket is the truth: a folder whose journal is lost, or that is of other objects, starts from them."""
    first = machine("one")
    write(first, b"a\n")
    first.push(now=True)
    (key,) = shop.keys()
    if loss == "journal":
        (first._folder / "journal.jsonl").unlink()
    elif loss == "bucket":
        shop.client.delete_object(Bucket=shop.name, Key=key)
    else:
        shop.put(key, b"z\n")
    assert lines(machine("one")) == {"journal": b"a\n", "bucket": b"", "another bucket": b"z\n"}[loss]


def test_mirror_holds_through_faults(shop, machine):
    """With a third of the requests failing, two machines taking turns have every line, once and in order."""
    wanted = b""
    with shop.failing(0.33, seed=3) as proxy:
        for number in range(12):
            one = machine(f"machine {number % 2}")
            write(one, b"line %d\n" % number)
            one.push(now=True)
            wanted += b"line %d\n" % number
    assert sum(proxy.faults.values()) > 8
    assert lines(machine("last")) == wanted
