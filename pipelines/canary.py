"""A few results of a catalog made anew beside the old ones, so that one sees what it changes before all of them are."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from pipelines import manifest
from pipelines.catalog import Night, Terms, run
from pipelines.cluster import Cluster
from pipelines.errors import JobError
from pipelines.inventory import listing
from pipelines.items import Common
from pipelines.looking import picture
from pipelines.manifest import Manifest
from pipelines.naming import OWN_FOLDER
from pipelines.page import Compared, Told, comparison_page, embedded
from pipelines.planning import Stale
from pipelines.records import Record
from pipelines.summary import Summary, named
from pipelines.targets import target_of
from pipelines.thumbnail import comparison
from refine.decoder import Decoder
from refine.errors import RefineError
from refine.limits import Limits
from refine.session import Engine
from refine.settings import Settings

FOLDER = "canary"
"""Below the ledger's folder: the new results, and the page that shows them beside the old ones."""


def tried(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    settings: Settings,
    cluster: Cluster,
    *,
    count: int,
    terms: Terms,
    engine: Engine,
    quiet: bool = False,
) -> Summary:
    """Make `count` of the finished results that would be made anew, spread over the catalog, beside the old ones.

    They lie in TARGET/.refine/canary with a page of before and after; results and ledger stay as they are. Raises
    JobError where no finished result would be made anew.
    """
    started = time.monotonic()
    folder = Path(target)
    goes_to = target_of(target, "files")
    if goes_to.folder is None:
        raise JobError("--canary is for folders: its page shows the files of TARGET beside new ones")
    night = Night(listing(source), settings, terms, Common(engine, Limits(), goes_to))
    place = folder / OWN_FOLDER / FOLDER
    with night.planned() as plan:
        chosen = plan.spread(count, "key")
        if not chosen:
            raise JobError(f"{target}: no finished result would be made anew by these settings: nothing to try")
        told = dict.fromkeys(line for stale in chosen if stale.old for line in stale.old.told)
        plan.only(chosen)
        shutil.rmtree(place, ignore_errors=True)
        common = replace(night.common, target=target_of(place, "files"))
        apart = replace(night, common=common, terms=replace(terms, prune=False, keep_previous=False))
        with manifest.opened(place / OWN_FOLDER) as ledger:
            run(apart, replace(plan, ledger=ledger), cluster, quiet=quiet)
            pairs = list(_pairs(chosen, plan.ledger, ledger))
    night.summary.unchanged = night.summary.gone = night.summary.obsolete = 0
    night.summary.report = str(_page(pairs, folder, place, tuple(told)))
    night.summary.seconds = time.monotonic() - started
    return night.summary


def _pairs(chosen: Sequence[Stale], before: Manifest, after: Manifest) -> Iterator[tuple[Record, Record]]:
    """The records of old and new results, where both are done."""
    for stale in chosen:
        asked = (stale.source.path, stale.wanted.rendition.name)
        old, new = before.record(*asked), after.record(*asked)
        if old is not None and new is not None and old.state == new.state == "done":
            yield old, new


def _page(pairs: Sequence[tuple[Record, Record]], target: Path, place: Path, told: Sequence[str]) -> Path:
    """Write the page of old results beside new ones; where it lies."""
    path = place / "report.html"
    with Decoder() as decoder:
        compared = [one for pair in pairs if (one := _compared(*pair, target, place, decoder))]
    same = sum(old.output_sha256 == new.output_sha256 for old, new in pairs)
    lead = f"{len(pairs)} results made anew, {same} of them byte for byte as they were. What differs: {'; '.join(told)}"
    if lacking := len(pairs) - len(compared):
        lead += f". {lacking} cannot be shown: too large for a page, or not to be read any more"
    text = comparison_page(compared, f"Canary of {target.name}", told=lead)
    path.write_text(text, encoding="utf-8")
    return path


def _compared(old: Record, new: Record, target: Path, place: Path, decoder: Decoder) -> Compared | None:
    """A pair of the page; None where one of its pictures is too large for it, or cannot be read any more."""
    try:
        before, after = picture(decoder, target / old.output), picture(decoder, place / new.output)
    except (RefineError, OSError):
        return None
    if before is None or after is None:
        return None
    lines = [f"{name}: {was}, now {now}" for name, was, now in _figures(old, new) if was != now]
    same = [] if lines or old.output_sha256 != new.output_sha256 else ["byte for byte the same"]
    return Compared(
        named(old.path, old.rendition),
        embedded(comparison(before, after)),
        (_address(target / old.output, place), _address(place / new.output, place)),
        f"{after.shape[1]} x {after.shape[0]} px",
        tuple(Told(line) for line in (*same, *lines)),
    )


def _figures(old: Record, new: Record) -> Iterator[tuple[str, object, object]]:
    yield "decision", old.decision, new.decision
    yield "bytes", old.output_nbytes, new.output_nbytes
    yield "px", old.output_px, new.output_px
    for name in sorted(old.strengths.keys() | new.strengths.keys()):
        yield name, old.strengths.get(name), new.strengths.get(name)


def _address(file: Path, folder: Path) -> str:
    return quote(os.fsencode(os.path.relpath(file.absolute(), folder.absolute())))
