"""The ledger: what it says survives everything but the loss of both its files."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import manifest
from pipelines.errors import JobError
from pipelines.records import Forgotten, Gone, Record, ShardRecord, line

RECORD = Record("a/b.jpg", 10, 20, "key", "done", output="a/b.jpg", output_px=4, output_nbytes=9, seconds=0.5)
SHARD = ShardRecord("work", 0, 512, 100, "sha", 1.0)


def _is_name(text):
    try:
        return bool(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return False


records = st.builds(
    Record,
    path=st.text(st.characters(exclude_characters="\0"), min_size=1).filter(_is_name),
    size=st.integers(0, 2**62),
    mtime_ns=st.integers(-(2**62), 2**62),
    key=st.just("key"),
    state=st.sampled_from(["done", "failed", "quarantined"]),
    reason=st.text(),
)


def test_record_comes_back(tmp_path):
    """What was committed is there in the next run."""
    with manifest.opened(tmp_path) as ledger:
        ledger.commit([RECORD, SHARD])
    with manifest.opened(tmp_path) as ledger:
        assert ledger.record("a/b.jpg") == RECORD
        assert ledger.shards("work") == [SHARD]
        assert ledger.record("other") is None


def test_last_record_counts(tmp_path):
    """A later record of a path takes the place of an earlier one."""
    with manifest.opened(tmp_path) as ledger:
        ledger.commit([RECORD])
        ledger.commit([replace(RECORD, state="failed", reason="why")])
        assert [r.reason for r in ledger.records("failed")] == ["why"]
        assert not list(ledger.records("done"))


@given(st.lists(records, max_size=5))
def test_journal_rebuilds_the_index(tmp_path_factory, entries):
    """Without its index the ledger says the same, for any name a file can have."""
    folder = tmp_path_factory.mktemp("ledger")
    with manifest.opened(folder) as ledger:
        ledger.commit(entries)
        said = [ledger.record(entry.path) for entry in entries]
    for path in folder.glob("manifest.sqlite*"):
        path.unlink()
    with manifest.opened(folder) as ledger:
        assert [ledger.record(entry.path) for entry in entries] == said


@pytest.mark.parametrize("damage", [b"", b"not a database at all, not at all" * 100])
def test_damaged_index_is_rebuilt(tmp_path, damage):
    """An index that is empty or no database is set aside and built from the journal."""
    with manifest.opened(tmp_path) as ledger:
        ledger.commit([RECORD, SHARD, Forgotten("work")])
    (tmp_path / "manifest.sqlite").write_bytes(damage)
    with manifest.opened(tmp_path) as ledger:
        assert ledger.record("a/b.jpg") == RECORD
        assert ledger.shards("work") == []


def test_index_with_damaged_pages_is_rebuilt(tmp_path):
    """Damage inside the index is found when it is opened."""
    with manifest.opened(tmp_path) as ledger:
        ledger.commit([replace(RECORD, path=str(n)) for n in range(300)])
    path = tmp_path / "manifest.sqlite"
    data = bytearray(path.read_bytes())
    data[4096:] = bytes(len(data) - 4096)
    path.write_bytes(data)
    with manifest.opened(tmp_path) as ledger:
        assert all(ledger.record(str(n)) for n in range(300))


def test_lost_journal_is_rewritten(tmp_path):
    """Without its journal the ledger still knows all, and the journal is complete again."""
    with manifest.opened(tmp_path) as ledger:
        ledger.commit([RECORD, SHARD])
    (tmp_path / "journal.jsonl").unlink()
    with manifest.opened(tmp_path) as ledger:
        assert ledger.record("a/b.jpg") == RECORD
    for path in tmp_path.glob("manifest.sqlite*"):
        path.unlink()
    with manifest.opened(tmp_path) as ledger:
        assert ledger.record("a/b.jpg") == RECORD
        assert ledger.shards("work") == [SHARD]


def test_torn_line_is_cut_off(tmp_path):
    """A line that was being written when its process died is dropped, and what follows is not glued to it."""
    with manifest.opened(tmp_path) as ledger:
        ledger.commit([RECORD])
    with (tmp_path / "journal.jsonl").open("ab") as journal:
        journal.write(b'{"item": {"path": "half')
    with manifest.opened(tmp_path) as ledger:
        ledger.commit([replace(RECORD, path="next")])
    for path in tmp_path.glob("manifest.sqlite*"):
        path.unlink()
    with manifest.opened(tmp_path) as ledger:
        assert ledger.record("a/b.jpg")
        assert ledger.record("next")


def test_what_a_result_of_another_name_leaves_is_known(tmp_path):
    """The file of a result whose record tells of another now is remembered, whichever file is lost, until it goes."""

    def left(ledger):
        return [row[0] for row in ledger.index.execute("SELECT output FROM leftover ORDER BY 1")]

    with manifest.opened(tmp_path) as ledger:
        ledger.commit([RECORD, replace(RECORD, rendition="thumb", output="thumb/a/b.jpg")])
        ledger.commit(
            [replace(RECORD, output="a/b.png"), replace(RECORD, rendition="thumb", output="", state="failed")]
        )
        assert left(ledger) == [b"a/b.jpg", b"thumb/a/b.jpg"]
    (tmp_path / "manifest.sqlite").unlink()
    with manifest.opened(tmp_path) as ledger:
        assert left(ledger) == [b"a/b.jpg", b"thumb/a/b.jpg"]
    (tmp_path / "journal.jsonl").unlink()
    with manifest.opened(tmp_path) as ledger:
        assert left(ledger) == [b"a/b.jpg", b"thumb/a/b.jpg"]
    (tmp_path / "manifest.sqlite").unlink()
    with manifest.opened(tmp_path) as ledger:
        assert left(ledger) == [b"a/b.jpg", b"thumb/a/b.jpg"]
        ledger.commit([replace(RECORD, rendition="thumb", output="thumb/a/b.jpg"), Gone("a/b.jpg", left="a/b.jpg")])
        assert left(ledger) == []
        assert ledger.record("a/b.jpg").output == "a/b.png"


def test_journal_ahead_of_the_index_is_read(tmp_path):
    """A process that died between journal and index has lost nothing."""
    with manifest.opened(tmp_path) as ledger:
        ledger.commit([RECORD])
    other = replace(RECORD, path="late")
    with (tmp_path / "journal.jsonl").open("ab") as journal:
        journal.write(line(other))
    with manifest.opened(tmp_path) as ledger:
        assert ledger.record("late") == other


def test_forgotten_shard_is_gone(tmp_path):
    """One shard, or all of a work folder, can be taken back."""
    with manifest.opened(tmp_path) as ledger:
        ledger.commit([SHARD, replace(SHARD, x=0)])
        ledger.commit([Forgotten("work", 0, 512)])
        assert [shard.x for shard in ledger.shards("work")] == [0]
        ledger.commit([Forgotten("work")])
        assert ledger.shards("work") == []


def test_second_run_is_refused(tmp_path):
    """While one process holds the ledger another is told so, and by whom; when it is killed, the next one may."""
    code = "import sys; from pathlib import Path; from pipelines import manifest\n"
    code += "with manifest.opened(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(JobError, match=f"pid {holder.pid}"), manifest.opened(tmp_path):
            pass
        holder.kill()
        holder.wait()
        with manifest.opened(tmp_path) as ledger:
            ledger.commit([RECORD])
