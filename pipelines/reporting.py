"""The commands `refine report` and `refine retry`: what came of the last run, and what of it is tried again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import click

from pipelines.again import unpacked
from pipelines.brake import Tolerance, tolerance
from pipelines.catalog import Terms, catalog
from pipelines.cluster import Cluster
from pipelines.options import Talk, bounded, placed, talking
from pipelines.recording import last_of, remade
from pipelines.summary import printable
from pipelines.talk import conclude, listen
from pipelines.targets import target_named
from refine.session import Engine

_file = click.Path(path_type=Path)


@click.command()
@click.argument("target")
@click.option("--state", type=_file, metavar="FOLDER", help="For the ledgers of buckets; without it, the user's own.")
@talking
def report(target: str, state: Path | None, talk: Talk) -> None:
    """Write the report of a catalog anew, from its ledger and the record of its last run; print where it is.

    Example: refine report shop
    """
    listen(talk)
    path = remade(target_named(target), state)
    click.echo(json.dumps({"report": str(path)}) if talk.as_json else printable(str(path)))


@click.command()
@click.argument("target")
@click.option("--quarantined", is_flag=True, help="Those too that ended what worked on them, or were too large for it.")
@click.option("--state", type=_file, metavar="FOLDER", help="For the ledgers of buckets; without it, the user's own.")
@bounded
@placed
@talking
def retry(
    target: str, *, quarantined: bool, state: Path | None, allowed: str | None, cluster: Cluster, talk: Talk
) -> None:
    """Try the images again that have failed, as the last run was asked to do it; nothing else is done.

    That holds for its --max-failures too, where that is a number and no other is given: a share was meant of all.
    What a run with --keep-previous keeps is added to: undo takes back the run and its retries together.

    TARGET/.refine/quarantine.jsonl lists them, each with a command that shows what is wrong with it.

    Example: refine retry shop --quarantined
    """
    listen(talk)
    run = last_of(target_named(target), state)
    wish = unpacked(run)
    only: Literal["failed", "quarantined"] = "quarantined" if quarantined else "failed"
    most = _inherited(wish.max_failures) if allowed is None else tolerance(allowed)
    terms = Terms(wish.renditions, max_failures=most, to=wish.to, state=state, retry=only)
    engine = Engine(wish.provider)
    conclude(catalog(run.source, target, wish.settings, cluster, terms=terms, engine=engine, quiet=talk.quiet), talk)


def _inherited(allowed: Tolerance | None) -> Tolerance | None:
    """What of the failures that a run allowed holds for a retry: nearly all that it tries may fail again."""
    return None if allowed is None or allowed.is_share else allowed
