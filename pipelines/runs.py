"""The records of runs: what was asked for, by which program on which machine, and what came of it; one file a run."""

from __future__ import annotations

import json
import logging
import os
import platform
import socket
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipelines.summary import Summary
from refine._version import __version__
from refine.api import cores
from refine.errors import RefineError
from refine.staging import publish

logger = logging.getLogger(__name__)

FOLDER = "runs"
"""In the own folder of a target."""
_LIBRARIES = ("onnxruntime", "numpy", "imagecodecs", "dask", "distributed", "zarr")
_COUNTED = ("done", "unchanged", "failed", "quarantined")
_STAMP = "%Y%m%dT%H%M%S.%fZ"
"""UTC, to the microsecond: names sort by time."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What all runs on a target did together: counters that only grow."""

    runs: int = 0
    """Runs that ended, in whatever way."""
    images: dict[str, int] = field(default_factory=dict)
    """Images, by what became of them."""
    output_px: int = 0
    """px made."""
    seconds: float = 0.0
    """Wall time."""
    succeeded: float = 0.0
    """When a run last left no image without a result, s since 1970; 0 where none has."""

    def with_run(self, summary: Summary, ended: datetime, *, whole: bool) -> Totals:
        """These and one run more; whole: it came to its end."""
        counts = _counts(summary)
        return Totals(
            self.runs + 1,
            {state: self.images.get(state, 0) + counts[state] for state in _COUNTED},
            self.output_px + summary.output_px,
            round(self.seconds + summary.seconds, 3),
            ended.timestamp() if whole and summary.complete else self.succeeded,
        )


@dataclass(frozen=True, slots=True)
class Run:
    """One run, as its file has it: JSON values only."""

    started: str
    """When, UTC; the name of its file."""
    ended: str
    """When, UTC, ISO 8601."""
    outcome: str
    """How it ended: `complete`, `incomplete` (images failed), or the line that it was stopped with."""
    source: str
    """SOURCE, as it was given."""
    root: str
    """The folder that names of sources are below."""
    target: str
    """TARGET, as an absolute path or an address."""
    settings: dict[str, Any]
    """What was asked for."""
    machine: dict[str, Any]
    """Where it ran: host, system, processor, cores, workers."""
    versions: dict[str, str]
    """Of what it ran with."""
    summary: dict[str, Any]
    """What --json prints."""
    sample: list[str] = field(default_factory=list)
    """Images of this run that its report shows, in the order of their names."""
    totals: Totals = field(default_factory=Totals)
    """This run and all before it."""
    undone: str = ""
    """When the last night that can be undone was, after this run, UTC, ISO 8601; empty where it was not."""

    @property
    def whole(self) -> bool:
        """Whether it came to its end."""
        return self.outcome in ("complete", "incomplete")


def now() -> datetime:
    """The time, UTC."""
    return datetime.now(UTC)


def stamp(when: datetime) -> str:
    """A time as it names a run.

    >>> stamp(datetime(2026, 1, 2, 3, 4, 5, 600, UTC))
    '20260102T030405.000600Z'
    """
    return when.strftime(_STAMP)


def when(started: str) -> datetime:
    """The time that names a run."""
    return datetime.strptime(started, _STAMP).replace(tzinfo=UTC)


def ended_run(  # noqa: PLR0913  one for each thing that is told
    started: datetime,
    summary: Summary,
    *,
    source: str,
    root: str,
    target: str,
    settings: Mapping[str, Any],
    workers: int,
    before: Totals,
    stopped: str = "",
    sample: list[str] | None = None,
) -> Run:
    """The record of a run that ends now; stopped: the line that it was stopped with, if it was."""
    ended = now()
    outcome = stopped or ("complete" if summary.complete else "incomplete")
    return Run(
        stamp(started),
        ended.isoformat(timespec="seconds"),
        outcome,
        source,
        root,
        target,
        dict(settings),
        {**machine(), "workers": workers},
        versions(),
        summary.facts(),
        sorted(sample or []),
        before.with_run(summary, ended, whole=not stopped),
    )


def machine() -> dict[str, Any]:
    """Where this process runs."""
    return {
        "host": socket.gethostname(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": cores(),
        "memory_nbytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def versions() -> dict[str, str]:
    """Of refine, of Python, and of the libraries that results or their making depend on."""
    return {
        "refine": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
    }


def write_run(own: Path, run: Run) -> Path:
    """Write a run's file below the own folder of a target; its path. Raises ImageWriteError where the disk refuses."""
    folder = own / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run.started}.json"
    publish(path, (json.dumps(asdict(run), indent=1) + "\n").encode("ascii"))
    return path


def last_run(own: Path) -> Run | None:
    """The newest run's record that can be read; None where there is none."""
    return next(_runs(own), None)


def mark_undone(own: Path) -> None:
    """Note in the last run's record that results are no longer what it left. Raises as `write_run` does."""
    run = last_run(own)
    if run is not None:
        write_run(own, replace(run, undone=now().isoformat(timespec="seconds")))


def _runs(own: Path) -> Iterator[Run]:
    for path in sorted((own / FOLDER).glob("*.json"), reverse=True):
        try:
            values = json.loads(path.read_bytes())
            yield Run(**{**values, "totals": Totals(**values["totals"])})
        except (OSError, ValueError, TypeError, KeyError, RefineError) as error:
            logger.warning("%s: no record of a run, passed over: %s", path.name, error)


def _counts(summary: Summary) -> dict[str, int]:
    return {
        "done": summary.done,
        "unchanged": summary.unchanged,
        "failed": len(summary.failed),
        "quarantined": len(summary.quarantined),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
