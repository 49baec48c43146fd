"""The command `refine report`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pipelines.options import Talk, talking
from pipelines.recording import remade
from pipelines.summary import printable
from pipelines.talk import listen

_file = click.Path(path_type=Path)


@click.command()
@click.argument("target", type=_file)
@talking
def report(target: Path, talk: Talk) -> None:
    """Write the report of a catalog anew, from its ledger and the record of its last run; print where it is.

    Example: refine report shop
    """
    listen(talk)
    path = remade(target)
    click.echo(json.dumps({"report": str(path)}) if talk.as_json else printable(str(path)))
