"""The command `refine report`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pipelines.options import Talk, talking
from pipelines.recording import remade
from pipelines.summary import printable
from pipelines.talk import listen
from pipelines.targets import target_named

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
