"""What a run on a catalog leaves behind beside its results: its record, its metrics, and its report."""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import get_args

from pipelines import departed
from pipelines.again import Wish, packed
from pipelines.cluster import Cluster
from pipelines.draw import Draw
from pipelines.errors import JobError
from pipelines.holding import held_ledger, ledger_folder
from pipelines.looking import CatalogLook, places
from pipelines.manifest import Manifest
from pipelines.metrics import check_writable, write_metrics
from pipelines.papers import fetch_last_run, leave_papers
from pipelines.place import absolute, place_of
from pipelines.quarantine import write_quarantine
from pipelines.records import Record, State
from pipelines.report import FOLDER, PAGE, refresh_report, write_report
from pipelines.runs import Run, Totals, ended_run, last_run, now, write_run
from pipelines.summary import Summary
from pipelines.tally import Row
from pipelines.targets import Target
from refine.api import cores
from refine.decoder import Decoder
from refine.errors import RefineError
from refine.limits import Limits


@dataclass(frozen=True, slots=True)
class Asked:
    """A run, as it was asked for."""

    source: str
    """SOURCE."""
    root: str
    """The folder, or the URL, that names of sources are below."""
    target: Target
    """TARGET."""
    own: Path
    """The folder of this machine that is not for results."""
    wish: Wish
    """What is done."""
    limits: Limits
    """What a source may ask."""
    cluster: Cluster
    """Where."""
    metrics: Path | None = None
    """File for the metrics; None for none."""


@contextmanager
def recorded(asked: Asked, ledger: Manifest, summary: Summary, drawn: Draw[str]) -> Iterator[None]:
    """A run that goes on inside the `with`; after it, however it ended, its record and metrics, and the report.

    The run fills in the summary, and draws the images that its report shows.
    What is refused there with JobError has not begun, and leaves nothing. Raises JobError where metrics cannot be
    written: before the run.
    """
    if asked.metrics is not None:
        check_writable(asked.metrics)
    began, started = now(), time.monotonic()
    afar = asked.target.folder is None
    try:
        yield
    except JobError:
        raise
    except BaseException as error:
        summary.seconds = time.monotonic() - started
        with suppress(RefineError, OSError):  # a full disk, for one; what stopped the run is what is told
            _leave(asked, ledger, summary, drawn, began, stopped=_line(error))
            if afar:
                leave_papers(asked.own, asked.target.place)
        raise
    summary.seconds = time.monotonic() - started
    before = last_run(asked.own)
    run = _leave(asked, ledger, summary, drawn, began)
    summary.report = str(_reported(asked, ledger, run, before))
    if afar:
        leave_papers(asked.own, asked.target.place)


def last_of(target: Target, state: Path | None) -> Run:
    """The record of the last run on a target. Raises JobError where there is none."""
    own = ledger_folder(target, state)
    if target.folder is None:
        fetch_last_run(own, target.place)
    run = last_run(own)
    if run is None:
        raise JobError(f"{target.place.url}: no run of `refine catalog` has ended here; name the TARGET of one")
    return run


def remade(target: Target, state: Path | None) -> Path:
    """The report of a target, written anew; the path of its page.

    Raises JobError where TARGET holds no catalog, or another run is at work there.
    """
    own, run = ledger_folder(target, state), last_of(target, state)
    with held_ledger(target, state) as ledger:
        page = _written(target, own, ledger, run)
        if target.folder is None:
            leave_papers(own, target.place)
        return page


def _leave(
    asked: Asked, ledger: Manifest, summary: Summary, drawn: Draw[str], began: datetime, *, stopped: str = ""
) -> Run:
    """Write the record of a run, its metrics, and what has no result."""
    before = last_run(asked.own)
    summary.earlier = departed.earlier(ledger.index)
    run = ended_run(
        began,
        summary,
        source=absolute(asked.source),
        root=absolute(asked.root),
        target=absolute(asked.target.place.url),
        settings=packed(asked.wish),
        workers=asked.cluster.workers or cores(),
        before=Totals() if before is None else before.totals,
        stopped=stopped,
        sample=drawn.drawn(),
    )
    write_run(asked.own, run)
    write_quarantine(asked.own, ledger, _without_result(ledger), place_of(asked.root), asked.limits)
    if asked.metrics is not None:
        write_metrics(asked.metrics, run)
    return run


def _reported(asked: Asked, ledger: Manifest, run: Run, before: Run | None) -> Path:
    """The report after a run; where it changed nothing in the ledger, only what the page says of the run is new."""
    # What is left may have another source by now than the page shows.
    settled = not run.summary["done"] and not run.summary["left"]
    if settled and before is not None and before.whole and not before.undone:
        names = ("failed", "quarantined", "flagged", "gone")
        if all(before.summary[name] == run.summary[name] for name in names) and not run.summary["pruned"]:
            page = refresh_report(asked.own, run, ledger.count())
            if page is not None:
                return page
    return _written(asked.target, asked.own, ledger, run)


def _written(target: Target, own: Path, ledger: Manifest, run: Run) -> Path:
    source = place_of(run.root)
    where = places(source, target, own / FOLDER / PAGE)
    with Decoder() as decoder:
        look = CatalogLook(source, target, decoder)
        return write_report(own, run, _rows(ledger), where, look, since=look.since)


def _rows(ledger: Manifest) -> Iterator[Row]:
    """All that the ledger holds, by name."""
    states = (ledger.records(state) for state in get_args(State))
    return map(Row, heapq.merge(*states, key=lambda record: (os.fsencode(record.path), record.rendition)))


def _without_result(ledger: Manifest) -> Iterator[Record]:
    return chain(ledger.records("failed"), ledger.records("quarantined"))


def _line(error: BaseException) -> str:
    """What stopped a run, in one line."""
    said = str(error).strip().splitlines()
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return said[0] if said else type(error).__name__
