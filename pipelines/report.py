"""The report of a catalog: one page that opens from a disk, and beside it the list of all that the ledger holds.

It lies in TARGET/.refine/report, not in TARGET: a shop publishes TARGET, and what failed is nobody else's business.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pipelines.page import Compared, Pictures, Told, embedded, page, page_data, pictures
from pipelines.runs import Run, when
from pipelines.summary import byte_size, duration
from pipelines.tally import Row, Tally
from pipelines.thumbnail import Comparison, file_name, read_comparison, write_comparison
from refine.errors import RefineError
from refine.staging import publish, staged

logger = logging.getLogger(__name__)

FOLDER = "report"
"""In the own folder of a target."""
PAGE = "report.html"
ITEMS = "items.jsonl"
_THUMBS = "thumbs"
_MADE = 300
"""Pictures that are made small for a page; beyond that it shows the files themselves (measured: 0.1 s each)."""
_EMBEDDED_NBYTES = 5_000_000
"""Of pictures inside the page; those beyond lie beside it. In text they take a third more."""
_GAUGED = ("host", "system", "processor", "cores", "workers")

Look = Callable[[Row], Comparison | None]
"""Before and after of a row; None where they are too large to be read for a page. Raises RefineError or OSError."""
Since = Callable[[Row], str]
"""What has become of the source of a row since its result was made, in words; empty where it is what it was."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where the files lie, as addresses relative to the page's folder, with a slash at the end."""

    source: str | None
    """Of SOURCE; None where a browser cannot open it."""
    target: str | None
    """Of TARGET; None likewise."""


def write_report(
    own: Path, run: Run, rows: Iterable[Row], places: Places, look: Look, *, since: Since = lambda _: ""
) -> Path:
    """Write the page and the list below the own folder of a target; the path of the page.

    rows are all that the ledger has, by name. The same ledger, run and files give the same bytes. Raises
    ImageWriteError where the disk refuses.
    """
    folder = own / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    found = Tally(frozenset(run.sample))
    with staged(folder / ITEMS) as path, path.open("wb") as file:
        for row in rows:
            file.write(row.line())
            found.add(row)
    shown = _Shown(folder / _THUMBS, places, look, since)
    pairs = [_pairs(shown, *part) for part in found.pairs()]
    shown.sweep()
    data = {
        "total": found.total,
        "words": {"sides": ["before", "after"], "failures": "By reason. Nothing was moved or deleted at the source."},
        "figures": _figures(run, found),
        "decisions": found.decided(),
        "failures": found.failed(),
        "notes": found.noted(),
        "items": found.packed(ITEMS),
        "links": {"target": places.target},
        "pairs": [part for part in pairs if part["entries"] or part["told"]],
        "made": _made(run),
    }
    return _publish(folder, run, data)


def refresh_report(own: Path, run: Run, total: int) -> Path | None:
    """Have the page tell of a run that changed nothing; its path, or None where it must be written anew.

    total is how many results the ledger has now.
    """
    folder = own / FOLDER
    try:
        data = page_data((folder / PAGE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if data["total"] != total:
        return None
    data["figures"][0], data["made"] = _run_figures(run), _made(run)
    return _publish(folder, run, data)


def withdraw(own: Path) -> None:
    """Remove page and list, where there are any: they tell of a ledger that is another by now."""
    for name in (PAGE, ITEMS):
        (own / FOLDER / name).unlink(missing_ok=True)


def _publish(folder: Path, run: Run, data: dict[str, Any]) -> Path:
    publish(folder / PAGE, page(f"Catalog {_name(run.target)}", _lead(run), data).encode("utf-8"))
    return folder / PAGE


def _pairs(shown: _Shown, name: str, title: str, rows: list[Row], total: int) -> dict[str, Any]:
    """A part of the page with before and after: `rows` of the `total` that there are."""
    entries, lacking = shown.entries(rows)
    told = f"{len(entries):,} of {total:,}." if total > len(entries) else ""
    if lacking:
        told += f" {lacking:,} cannot be shown: too large for a page, or not to be read any more."
    if total > len(rows):
        told += " The rest is in the list below."
    return {"id": name, "title": title, "told": told.strip(), "entries": entries}


def _name(target: str) -> str:
    return target.rstrip("/").rpartition("/")[2] or target


def _lead(run: Run) -> str:
    ended = {"complete": "every image has its result", "incomplete": "some images have no result"}
    began = f"Last run {_minute(when(run.started))}"
    if run.undone:
        undone = f"Undone {_minute(datetime.fromisoformat(run.undone))}"
        was = "results are what they were before the last run with --keep-previous"
        return f"{undone}: {was}. {began}, from {run.source}"
    return f"{began}: {ended.get(run.outcome, f'stopped: {run.outcome}')}. From {run.source}"


def _minute(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def _figures(run: Run, found: Tally) -> list[dict[str, Any]]:
    # What an undone run did is history: what there is comes before it.
    of_run, of_catalog = _run_figures(run), _catalog_figures(found)
    return [of_catalog, of_run] if run.undone else [of_run, of_catalog]


def _run_figures(run: Run) -> dict[str, Any]:
    said, workers = run.summary, max(1, int(run.machine.get("workers") or 1))
    seconds, px = max(1e-3, float(said["seconds"])), float(said["output_px"])
    cards = [
        _card("done", f"{said['done']:,}", style="good" if said["done"] else ""),
        _card("unchanged", f"{said['unchanged']:,}", "neither decoded nor written"),
        _card("failed", f"{len(said['failed']):,}", style="bad" if said["failed"] else ""),
        _card("quarantined", f"{len(said['quarantined']):,}", style="bad" if said["quarantined"] else ""),
        _card("flagged", f"{len(said['flagged']):,}", "deserve a look", style="warn" if said["flagged"] else ""),
        _card("wall time", duration(seconds), f"{workers} worker{'s' if workers > 1 else ''}"),
        _card("made", f"{px / 1e6:,.1f} Mpx"),
    ]
    if said["gone"] and not said["pruned"]:
        cards.append(_card("source gone", f"{said['gone']:,}", "--prune removes these results", style="warn"))
    if obsolete := said.get("obsolete"):  # records of earlier versions have none
        cards.append(_card("not asked for", f"{obsolete:,}", "rendition or format; --prune removes them", style="warn"))
    if earlier := said.get("earlier"):
        cards.append(_card("earlier results", f"{earlier:,}", "stay of images that have failed", style="warn"))
    if said["left"]:
        cards.append(_card("left", f"{said['left']:,}", "for another run", style="warn"))
    if said["done"]:
        rate, mpx = said["done"] / seconds, px / 1e6 / seconds
        cards += [
            _card("images", f"{rate:,.2f}/s", f"{rate / workers:,.2f}/s a worker"),
            _card("pixels", f"{mpx:,.2f} Mpx/s", f"{mpx / workers:,.2f} Mpx/s a worker"),
        ]
    title, told = ("The last run, before the undo", "As it ended.") if run.undone else ("The last run", "")
    return {"id": "run", "title": title, "told": told, "cards": cards}


def _catalog_figures(found: Tally) -> dict[str, Any]:
    counts = found.states
    cards = [
        _card("results", f"{counts['done']:,}", f"{found.output_px / 1e6:,.1f} Mpx, {byte_size(found.output_nbytes)}"),
        _card("work in them", duration(found.seconds), "of one worker"),
        _card(
            "without a result", f"{found.total - counts['done']:,}", style="bad" if found.total > counts["done"] else ""
        ),
    ]
    return {"id": "catalog", "title": "The whole catalog", "told": "As the ledger has it.", "cards": cards}


def _card(label: str, value: str, note: str = "", style: str = "") -> dict[str, str]:
    return {"label": label, "value": value, "note": note, "style": style}


def _made(run: Run) -> dict[str, Any]:
    machine = {name: run.machine[name] for name in _GAUGED if name in run.machine}
    run_facts = {"source": run.source, "target": run.target, "began": run.started, "ended": run.ended}
    return {"Run": run_facts, "Machine and versions": machine | run.versions, "Settings": run.settings}


class _Shown:
    """Pictures for the page: inside it up to a size, beside it from then on; made once for each source and result."""

    def __init__(self, folder: Path, places: Places, look: Look, since: Since) -> None:
        self._folder, self._places, self._look, self._since = folder, places, look, since
        self._left, self._more = _EMBEDDED_NBYTES, _MADE
        self._used: set[str] = set()

    def entries(self, rows: Iterable[Row]) -> tuple[list[dict[str, object]], int]:
        """Rows as the page shows them, and how many of them it cannot."""
        found = [self._entry(row) for row in rows]
        return [entry for entry in found if entry], found.count(None)

    def sweep(self) -> None:
        """Remove the pictures of earlier pages."""
        for path in self._folder.glob("*"):
            if path.name not in self._used:
                path.unlink()

    def _entry(self, row: Row) -> dict[str, object] | None:
        before, after = row.source_link(self._places.source), row.link(self._places.target)
        views, is_linked = None, self._more <= 0
        if not is_linked:
            self._more -= 1
            views = self._made(row)
        # A picture of it may be there from an earlier page; a link would lead nowhere, or to another picture.
        since = self._since(row) if views is None or before is not None else ""
        before = None if since else before
        if views is None and after is not None and (since or (is_linked and before is not None)):
            views = {"whole": {"before": before, "after": after}}
        if views is None:
            return None
        told = [Told(row.flag, "warn")] if row.flag else []
        told += [Told(since, "warn")] if since else []
        told += [Told(text) for text in (*row.said, *row.record.notes)]
        size = f"{row.record.output_px / 1e6:.2f} Mpx"
        return Compared(row.shown, views, (before, after), size, told).as_json()

    def _made(self, row: Row) -> Pictures | None:
        try:
            found = self._found(row)
        except (RefineError, OSError) as error:
            logger.info("%s: is not shown in the report: %s", row.record.path, error)
            return None
        return None if found is None else self._placed(row, found)

    def _found(self, row: Row) -> Comparison | None:
        """The pictures of a row, from an earlier page where they were made for it."""
        found = read_comparison(self._folder, row.digest)
        if found is None and (found := self._look(row)) is not None:
            write_comparison(self._folder, row.digest, found)
        if found is not None:
            self._used |= {file_name(row.digest, view, side) for view in found.views for side in ("before", "after")}
        return found

    def _placed(self, row: Row, found: Comparison) -> Pictures:
        if found.nbytes <= self._left:
            self._left -= found.nbytes
            return embedded(found)
        return pictures(found, lambda view, side, _: f"{_THUMBS}/{file_name(row.digest, view, side)}")
