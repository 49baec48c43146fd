"""Metrics for Prometheus: names by its conventions, values that add up, a file that is seen whole."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from pipelines import metrics
from pipelines.errors import JobError
from pipelines.runs import Totals, ended_run
from pipelines.summary import Complaint, Summary
from refine.errors import ImageWriteError

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
SAMPLE = re.compile(r'([a-z_]+)\{((?:[a-z]+="(?:[^"\\\n]|\\[\\n"])*",?)*)\} (\S+)')
TARGET = 'shop "a"\\b\nc'


def run_of(summary, before=None, stopped=""):
    """The record of a run that began at the start of 2026."""
    asked = {"source": "photos", "root": "/photos", "target": TARGET, "settings": {}, "workers": 2}
    return ended_run(datetime(2026, 1, 1, tzinfo=UTC), summary, before=before or Totals(), stopped=stopped, **asked)


def parsed(text):
    """Kinds by name, and values by name and labels, by the grammar of the text format."""
    kinds, helped, values = {}, set(), {}
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            helped.add(line.split()[2])
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            kinds[name] = kind
        else:
            found = SAMPLE.fullmatch(line)
            assert found, line
            assert found[1] in kinds, "its type comes before a value"
            labels = dict(re.findall(r'([a-z]+)="((?:[^"\\]|\\.)*)"', found[2]))
            values[found[1], labels.get("state", "")] = float(found[3])
            assert labels["target"] == 'shop \\"a\\"\\\\b\\nc'
    assert helped == kinds.keys()
    return kinds, values


def test_names_follow_the_conventions():
    """Counters and only they end in _total, times are in seconds, and all begin with one prefix."""
    kinds, _ = parsed(metrics.text(run_of(Summary(done=3))))
    for name, kind in kinds.items():
        assert NAME.fullmatch(name)
        assert name.startswith("refine_catalog_")
        assert name.endswith("_total") == (kind == "counter")
        assert not re.search(r"_(ms|milliseconds|minutes|hours|size)\b", name)


def test_counters_add_up_and_gauges_do_not():
    """Over three runs the counters grow by what each did; a stopped run leaves the last success where it was."""
    first = run_of(Summary(done=3, unchanged=1, output_px=10, seconds=2.0))
    second = run_of(Summary(done=2, failed=[Complaint("a", "read", "x")], output_px=5, seconds=1.0), first.totals)
    third = run_of(Summary(done=1), second.totals, stopped="interrupted")
    _, values = parsed(metrics.text(third))
    assert values["refine_catalog_images_total", "done"] == 6
    assert values["refine_catalog_images_total", "failed"] == 1
    assert values["refine_catalog_last_run_images", "done"] == 1
    assert values["refine_catalog_last_run_images", "failed"] == 0
    assert values["refine_catalog_output_pixels_total", ""] == 15
    assert values["refine_catalog_run_seconds_total", ""] == 3
    assert values["refine_catalog_runs_total", ""] == 3
    assert values["refine_catalog_last_run_whole", ""] == 0
    assert values["refine_catalog_last_run_timestamp_seconds", ""] == 1767225600
    success = parsed(metrics.text(first))[1]["refine_catalog_last_success_timestamp_seconds", ""]
    assert values["refine_catalog_last_success_timestamp_seconds", ""] == success > 0


def test_file_is_replaced_at_one_stroke(tmp_path, monkeypatch):
    """A collector that looks at any time sees a whole file: the old one, until the new one is complete."""
    path = tmp_path / "refine.prom"
    metrics.write_metrics(path, run_of(Summary(done=1)))
    before = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o644

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(ImageWriteError, match="No space left"):
        metrics.write_metrics(path, run_of(Summary(done=2)))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["refine.prom"]


@pytest.mark.parametrize(("name", "said"), [("refine.txt", "end in .prom"), ("no/refine.prom", "does not exist")])
def test_wrong_file_is_refused_before_the_run(tmp_path, name, said):
    """A name that no collector reads and a folder that is not there are told at once."""
    with pytest.raises(JobError, match=re.escape(said)):
        metrics.check_writable(tmp_path / name)
