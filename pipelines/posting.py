"""The command `refine poster`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pipelines.cluster import Cluster
from pipelines.errors import JobError
from pipelines.options import Talk, placed, provider, repairing, talking
from pipelines.ordering import Asked, ordered
from pipelines.poster import handed_over, offered
from pipelines.poster import poster as make
from pipelines.summary import printable
from pipelines.talk import conclude, listen
from refine.session import Engine

_file = click.Path(path_type=Path)


@click.command()
@click.argument("photo", type=_file)
@click.argument("target", type=_file, required=False)
@click.option("--plan", "plan_only", is_flag=True, help="Say what it would be and take, and do nothing.")
@repairing
@ordered
@placed
@provider
@talking
def poster(
    photo: Path,
    target: Path | None,
    *,
    plan_only: bool,
    repair: bool,
    asked: Asked,
    cluster: Cluster,
    provider: str,
    talk: Talk,
) -> None:
    """Print PHOTO on paper of an exact size: TARGET is a .tif, .pdf, .png, .jpg or .zarr. A proof lies beside it.

    Killed or interrupted, it goes on where it stood when it is started again.

    Example: refine poster photo.jpg poster.pdf --size 24x36in --bleed 3mm --profile paper.icc
    """
    listen(talk)
    if plan_only:
        offer = offered(photo, asked, target)
        if talk.as_json:
            click.echo(json.dumps(offer.facts()))
        else:
            click.echo("\n".join(printable(line) for line in offer.lines()))
        return
    if target is None:
        raise JobError("a poster needs a TARGET: poster.tif, .pdf, .png, .jpg or .zarr; or ask for its --plan only")
    summary, offer = make(photo, target, asked, cluster, engine=Engine(provider), repair=repair, quiet=talk.quiet)
    conclude(summary, talk, {"poster": {**offer.facts(), **(handed_over(target) if summary.complete else {})}})
