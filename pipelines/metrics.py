"""A run's figures in the text format of Prometheus, for the textfile collector of its node_exporter.

Counters (`..._total`) count over all runs on a target; the other values are those of the last run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipelines import runs
from pipelines.errors import JobError
from pipelines.runs import Run
from refine.errors import ImageWriteError
from refine.staging import publish

_PREFIX = "refine_catalog"


def check_writable(path: Path) -> None:
    """Raise JobError where metrics cannot be written: better before a night's work than after it."""
    if path.suffix != ".prom":
        raise JobError(f"--metrics {path}: the collector reads files that end in .prom; name one")
    if not path.absolute().parent.is_dir():
        raise JobError(f"--metrics {path}: its folder does not exist; make it, or name another")


def write_metrics(path: Path, run: Run) -> None:
    """Write a run's metrics: the collector sees the old file or the new one. Raises ImageWriteError."""
    try:
        publish(path, text(run).encode("utf-8"))
        path.chmod(0o644)  # the collector is another user
    except OSError as error:
        if isinstance(error, ImageWriteError):
            raise
        raise ImageWriteError(f"{path.name}: cannot be stored: {error.strerror}") from error


def text(run: Run) -> str:
    """A run's metrics, a final line end included."""
    return "\n".join(_lines(run)) + "\n"


def _lines(run: Run) -> Iterator[str]:
    totals, summary = run.totals, run.summary
    target = {"target": run.target}
    by_state = [({**target, "state": state}, count) for state, count in sorted(totals.images.items())]
    yield from _metric("images_total", "counter", "Images of all runs, by what became of them.", by_state)
    last = {
        "done": summary["done"],
        "unchanged": summary["unchanged"],
        "left": summary["left"],
        **{state: len(summary[state]) for state in ("failed", "quarantined", "flagged")},
    }
    states = [({**target, "state": state}, count) for state, count in sorted(last.items())]
    yield from _metric("last_run_images", "gauge", "Images of the last run, by what became of them.", states)
    for name, kind, told, value in (
        ("runs_total", "counter", "Runs that have ended, in whatever way.", totals.runs),
        ("output_pixels_total", "counter", "Pixels that were made, over all runs.", totals.output_px),
        ("run_seconds_total", "counter", "Wall time of all runs.", totals.seconds),
        ("last_run_timestamp_seconds", "gauge", "When the last run began.", runs.when(run.started).timestamp()),
        ("last_run_duration_seconds", "gauge", "Wall time of the last run.", summary["seconds"]),
        ("last_run_output_pixels", "gauge", "Pixels that the last run made.", summary["output_px"]),
        ("last_run_whole", "gauge", "Whether the last run came to its end.", int(run.whole)),
        ("last_success_timestamp_seconds", "gauge", "When a run last left nothing without a result.", totals.succeeded),
    ):
        yield from _metric(name, kind, told, [(target, value)])


def _metric(name: str, kind: str, told: str, values: Sequence[tuple[dict[str, str], float]]) -> Iterator[str]:
    yield f"# HELP {_PREFIX}_{name} {told}"
    yield f"# TYPE {_PREFIX}_{name} {kind}"
    for labels, value in values:
        yield f"{_PREFIX}_{name}{{{_labelled(labels)}}} {value!r}"


def _labelled(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(value: str) -> str:
    r"""A label's value, in UTF-8 whatever bytes a file's name has.

    >>> print(_escaped('a"b\\c\nd'))
    a\"b\\c\nd
    """
    shown = value.encode("utf-8", "backslashreplace").decode("utf-8")
    return shown.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
