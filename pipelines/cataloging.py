"""The commands `refine catalog` and `refine undo`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import click

from pipelines.canary import tried
from pipelines.catalog import Terms
from pipelines.catalog import catalog as make
from pipelines.cluster import Cluster
from pipelines.errors import JobError
from pipelines.naming import renditions
from pipelines.options import Talk, placed, provider, talking, wished
from pipelines.previous import undo as put_back
from pipelines.talk import conclude, listen
from refine.session import Engine
from refine.settings import Settings

_file = click.Path(path_type=Path)


rendered = click.option(
    "--rendition",
    "rendered",
    multiple=True,
    metavar="NAME=LONGSIDE[:FORMAT]",
    help="One of several results of each image, in TARGET/NAME; give it again for another.",
)
"""Puts `rendered` into a command."""


@click.command()
@click.argument("source")
@click.argument("target", type=_file)
@rendered
@click.option("--redo", is_flag=True, help="Make anew what another network, version or processor would make otherwise.")
@click.option("--keep", is_flag=True, help="Leave such results as they are; do what is new or changed.")
@click.option("--canary", type=click.IntRange(1), metavar="N", help="Make N of them beside the old ones, to compare.")
@click.option("--prune", is_flag=True, help="Remove the results whose source is gone.")
@click.option("--keep-previous", is_flag=True, help="Keep what is replaced or removed until the next such run: undo.")
@click.option("--metrics", type=_file, metavar="FILE.prom", help="Write the run's figures there, for Prometheus.")
@wished
@placed
@provider
@talking
def catalog(  # noqa: PLR0913  one for each option
    source: str,
    target: Path,
    *,
    rendered: tuple[str, ...],
    redo: bool,
    keep: bool,
    canary: int | None,
    prune: bool,
    keep_previous: bool,
    metrics: Path | None,
    settings: Settings,
    cluster: Cluster,
    provider: str,
    talk: Talk,
) -> None:
    """Restore many images into TARGET, each under its own name; what has not changed is left alone.

    SOURCE is a folder, a pattern ('photos/**/*.jpg') or a manifest: .csv, .jsonl or .parquet with columns id, uri,
    and if you like priority and settings of single images: long_side, scale, size, sharpen.amount...

    Killed or interrupted, it goes on where it stood when it is started again. A page tells what was done.

    Example: refine catalog photos shop --long-side 1600 --workers 4
    """
    listen(talk)
    if redo + keep + (canary is not None) > 1:
        raise JobError("--canary tries, --redo makes and --keep leaves what would be made anew; give one of them")
    if canary is not None and (prune or keep_previous or metrics):
        raise JobError("--canary changes nothing in TARGET; leave out --prune, --keep-previous and --metrics")
    unasked: Literal["redo", "keep", "refuse"] = "redo" if redo else "keep" if keep else "refuse"
    terms = Terms(renditions(rendered, settings), unasked, prune, keep_previous, metrics)
    engine = Engine(provider)
    if canary is None:
        conclude(make(source, target, settings, cluster, terms=terms, engine=engine, quiet=talk.quiet), talk)
    else:
        conclude(tried(source, target, settings, cluster, canary, terms=terms, engine=engine, quiet=talk.quiet), talk)


@click.command()
@click.argument("target", type=_file)
@talking
def undo(target: Path, talk: Talk) -> None:
    """Put back what the last run with --keep-previous replaced or pruned, and take away what it added.

    Killed or interrupted, the same command finishes it.

    Example: refine undo shop
    """
    listen(talk)
    done = put_back(target)
    if talk.as_json:
        click.echo(json.dumps(asdict(done)))
    elif not talk.quiet:
        click.echo(f"{done.restored} results are what they were, {done.removed} new ones are gone")
