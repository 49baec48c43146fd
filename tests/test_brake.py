"""What stops a run in order: the time, too many failures, a disk that fills."""

from __future__ import annotations

import re
import shutil
import time
from datetime import UTC, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from strategies_files import picture, small_tree, write_picture

from pipelines import brake as brakes
from pipelines import catalog as catalogs
from pipelines.brake import Brake, Tolerance, check_space, deadline, tolerance
from pipelines.catalog import Terms, catalog
from pipelines.errors import JobError, RunError
from pipelines.summary import Complaint, Summary
from refine.preset import load_preset
from refine.settings import Settings, Size

SETTINGS = Settings(load_preset("balanced", {"upscale.nets": "[]"}), Size(scale=2))


class Usage(NamedTuple):
    """What shutil.disk_usage gives."""

    total: int
    used: int
    free: int


def failing(count, done=0):
    """A summary with failures."""
    return Summary(done=done, failed=[Complaint(str(n), "read", "x") for n in range(count)])


@pytest.mark.parametrize("text", ["", "%", "x", "-1", "1.5", "101%", "-1%", "nan", "inf", "5 %%"])
def test_wrong_tolerance_is_refused(text):
    """Only a whole number of images or a share of them is taken."""
    with pytest.raises(JobError, match="write 50 or 2%"):
        tolerance(text)


def test_deadline_is_the_next_such_time():
    """Later today, or tomorrow where it is past or now."""
    now = datetime(2026, 1, 1, 6, 0, tzinfo=UTC)
    with pytest.raises(JobError, match="write 06:00"):
        deadline("25:00", now)
    assert deadline("06:00", now).day == 2
    assert deadline("06:01", now).day == 1


def test_deadline_keeps_to_the_clock_on_the_wall(monkeypatch):
    """In a night in which clocks go on, six o'clock is an hour nearer."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        evening = datetime(2026, 3, 28, 22, 0, tzinfo=ZoneInfo("Europe/Berlin"))
        assert deadline("06:00", evening).timestamp() - evening.timestamp() == 7 * 3600
    finally:
        monkeypatch.undo()
        time.tzset()


def test_brake_counts_failures_of_this_run(tmp_path):
    """Images that stand quarantined from earlier nights do not count; as many as are allowed are not too many."""
    summary = failing(0)
    summary.quarantined = [Complaint("old", "read", "x")] * 9
    brake = Brake(tmp_path, summary, allowed=Tolerance(3))
    for count in range(4):
        summary.failed = failing(count).failed
        brake.look()
        assert not brake.is_on
    summary.failed = failing(4).failed
    brake.look()
    assert brake.reason.startswith("4 of 4 images have failed, allowed are 3")


def test_end_is_told_in_its_own_numbers(tmp_path):
    """What was under way when the brake was put on is counted; that nothing is left undone is not said."""
    summary = failing(4)
    brake = Brake(tmp_path, summary, allowed=Tolerance(3))
    brake.look()
    summary.failed, summary.done = failing(8).failed, 2
    told = "8 of 10 images have failed, allowed are 3 (--max-failures)"
    assert brake.end() == f"{told}: see to it, and start the same command again"
    summary.left = 5
    assert brake.end() == f"{told}; 5 results left undone: see to it, and start the same command again"


def test_brake_counts_a_share_of_many(tmp_path):
    """A share is taken of a hundred images and more."""
    summary = failing(9, done=90)
    brake = Brake(tmp_path, summary, allowed=tolerance("5%"))
    brake.look()
    assert not brake.is_on
    summary.done += 1
    brake.look()
    assert "9 of 100" in brake.reason


def test_brake_looks_at_the_disk(tmp_path, monkeypatch):
    """It is put on while there is still room for what is under way; between two looks the disk is left in peace."""
    free = [brakes._RESERVE_NBYTES, brakes._RESERVE_NBYTES - 1]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, free.pop(0)))
    brake = Brake(tmp_path, Summary())
    brake.look()
    brake.look()
    assert not brake.is_on
    monkeypatch.setattr(brakes, "_LOOK_S", 0.0)
    brake.look()
    assert "has 200 MB left" in brake.reason


def test_space_is_checked_before(tmp_path, monkeypatch):
    """Enough: nothing; perhaps not enough: a word; not half enough: refused with both figures."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 10**9 + brakes._RESERVE_NBYTES))
    assert check_space(tmp_path, 10**9) == ""
    assert "stops in time" in check_space(tmp_path, 2 * 10**9)
    with pytest.raises(JobError, match=r"about 2\.00 GB, .* has 1\.00 GB"):
        check_space(tmp_path, 2 * 10**9 + 1)


def test_full_disk_is_refused_before_a_run(tmp_path, shared, monkeypatch):
    """A catalog that cannot fit is not begun."""
    source = small_tree(tmp_path / "source")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 1000))
    with pytest.raises(JobError, match="make room"):
        catalog(source, tmp_path / "target", SETTINGS, shared)
    assert not list((tmp_path / "target").rglob("*.png"))


def test_filling_disk_stops_the_run_in_order(tmp_path, shared, monkeypatch):
    """What was under way is finished and recorded; the next run does the rest, with the same bytes."""
    source = tmp_path / "source"
    for number in range(40):
        write_picture(source / f"{number:02d}.png", picture(30, 30, seed=number))
    real, asked = shutil.disk_usage, []

    def filling(path):
        asked.append(path)
        return real(path) if len(asked) < 3 else Usage(0, 0, 0)

    monkeypatch.setattr(brakes, "_LOOK_S", 0.0)
    monkeypatch.setattr(shutil, "disk_usage", filling)
    with pytest.raises(RunError, match=r"the disk of TARGET has 0 MB left.*start the same command again"):
        catalog(source, tmp_path / "target", SETTINGS, shared)
    made = {p.name for p in (tmp_path / "target").glob("*.png")}
    assert 0 < len(made) < 40
    monkeypatch.setattr(shutil, "disk_usage", real)
    summary = catalog(source, tmp_path / "target", SETTINGS, shared)
    assert (summary.done, summary.unchanged) == (40 - len(made), len(made))


def test_too_many_failures_stop_the_run(tmp_path, shared):
    """A catalog of broken files is not gone through to its end; what was done is kept."""
    source = tmp_path / "source"
    for number in range(60):
        write_picture(source / f"{number:02d}.png", picture(9, 9))
        (source / f"{number:02d}.jpg").write_bytes(b"\xff\xd8broken")
    with pytest.raises(RunError, match="allowed are 5") as stopped:
        catalog(source, tmp_path / "target", SETTINGS, shared, terms=Terms(max_failures=Tolerance(5)))
    made = len(list((tmp_path / "target").glob("*.png")))
    failed, tried = map(int, re.findall(r"\d+", str(stopped.value))[:2])
    assert tried - failed == made < 60, "what was under way when it stopped is counted"
    whole = catalog(source, tmp_path / "target", SETTINGS, shared, terms=Terms(max_failures=Tolerance(60)))
    assert whole.done + whole.unchanged == 60


def test_time_that_is_up_leaves_the_rest(tmp_path, shared):
    """Nothing is begun that would not end in time: what is left is counted, and the next run does it."""
    source = tmp_path / "source"
    for number in range(12):
        write_picture(source / f"{number:02d}.png", picture(30, 30, seed=number))
    summary = catalog(source, tmp_path / "target", SETTINGS, shared, terms=Terms(until=time.time() - 1))
    assert (summary.done, summary.left, summary.complete) == (0, 12, True)
    assert "12 left for the next run" in summary.line()
    summary = catalog(source, tmp_path / "target", SETTINGS, shared, terms=Terms(until=time.time() + 3600))
    assert (summary.done, summary.left) == (12, 0)


@pytest.mark.parametrize(("until", "first"), [(None, 3), (3600.0, 1)])
def test_little_is_begun_before_the_pace_is_known(tmp_path, inline, monkeypatch, until, first):
    """Where a time is to be kept, one image tells how slow the machine is before there are several in a task."""
    source, sizes, streamed = tmp_path / "source", [], catalogs.streamed
    for number in range(24):
        write_picture(source / f"{number:02d}.png", picture(30, 30, seed=number))

    def noted(client, batches, work):
        return streamed(client, (sizes.append(len(batch)) or batch for batch in batches), work)

    monkeypatch.setattr(catalogs, "streamed", noted)
    terms = Terms(until=until and time.time() + until)
    assert catalog(source, tmp_path / "target", SETTINGS, inline, terms=terms).done == 24
    assert (sizes[0], max(sizes)) == (first, 3)


def test_time_is_reckoned_by_what_is_under_way(tmp_path):
    """Work that would end after the time is not in time, by a clock that the test turns."""
    brake = Brake(tmp_path, Summary(), until=1000.0, clock=lambda: 900.0)
    assert brake.has_time(100)
    assert not brake.has_time(100.5)
    assert Brake(tmp_path, Summary()).has_time(1e9)
