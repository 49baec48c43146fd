"""The commands `refine catalog` and `refine undo`."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Literal

import click

from pipelines.brake import Tolerance, deadline, tolerance
from pipelines.canary import tried
from pipelines.catalog import Terms
from pipelines.catalog import catalog as make
from pipelines.cluster import Cluster
from pipelines.errors import JobError
from pipelines.naming import renditions
from pipelines.options import Talk, bounded, placed, provider, talking, wished
from pipelines.talk import conclude, listen
from pipelines.undoing import undo as put_back
from refine.session import Engine
from refine.settings import Settings

_file = click.Path(path_type=Path)


rendered = click.option(
    "--rendition",
    "rendered",
    multiple=True,
    metavar="NAME=LONGSIDE[:FORMAT[:COLOUR]]",
    help="One of several results of each image, in TARGET/NAME; give it again for another.",
)
"""Puts `rendered` into a command."""
stored_as = click.option(
    "--to", type=click.Choice(["files", "zarr"]), default="files", help="Files, or one zarr store of images."
)
"""Puts `to` into a command."""


@click.command()
@click.argument("source")
@click.argument("target")
@rendered
@click.option("--redo", is_flag=True, help="Make anew what another network, version or processor would make otherwise.")
@click.option(
    "--keep",
    is_flag=True,
    help="Leave finished results, whatever would make them anew; do changed sources.",
)
@click.option("--canary", type=click.IntRange(1), metavar="N", help="Make N of them beside the old ones, to compare.")
@click.option("--overwrite", is_flag=True, help="Replace files in TARGET, too, that no run has made.")
@click.option(
    "--prune", is_flag=True, help="Remove results that nothing asks for any more: no SOURCE, rendition or format."
)
@click.option("--keep-previous", is_flag=True, help="Keep what is replaced or removed until the next such run: undo.")
@stored_as
@click.option("--state", type=_file, metavar="FOLDER", help="For the ledgers of buckets; without it, the user's own.")
@click.option("--deadline", "by", metavar="HH:MM", help="Begin nothing that would not end by then; the rest is left.")
@bounded
@click.option("--metrics", type=_file, metavar="FILE.prom", help="Write the run's figures there, for Prometheus.")
@wished
@placed
@provider
@talking
def catalog(  # noqa: PLR0913  one for each option
    source: str,
    target: str,
    *,
    rendered: tuple[str, ...],
    redo: bool,
    keep: bool,
    canary: int | None,
    overwrite: bool,
    prune: bool,
    keep_previous: bool,
    to: Literal["files", "zarr"],
    state: Path | None,
    by: str | None,
    allowed: str | None,
    metrics: Path | None,
    settings: Settings,
    cluster: Cluster,
    provider: str,
    talk: Talk,
) -> None:
    """Restore many images into TARGET, each under its own name; what has not changed is left alone.

    SOURCE is a folder, a pattern ('photos/**/*.jpg') or a manifest: .csv, .jsonl or .parquet with columns id, uri,
    and if you like priority and settings of single images: long_side, scale, size, sharpen.amount...

    SOURCE, TARGET and uris may be in a bucket: s3://bucket/prefix; credentials and endpoint come from the environment.

    Killed or interrupted, it goes on where it stood when it is started again. A page tells what was done.

    Example: refine catalog photos shop --long-side 1600 --workers 4
    """
    listen(talk)
    if redo + keep + (canary is not None) > 1:
        raise JobError("--canary tries, --redo makes and --keep leaves what would be made anew; give one of them")
    if canary is not None and (prune or keep_previous or metrics or to == "zarr"):
        raise JobError("--canary tries some files; leave out --prune, --keep-previous, --metrics and --to zarr")
    unasked: Literal["redo", "keep", "refuse"] = "redo" if redo else "keep" if keep else "refuse"
    asked = (renditions(rendered, settings), unasked, prune, keep_previous)
    terms = Terms(*asked, *_bounds(by, allowed), metrics, to, state, overwrite)
    how = make if canary is None else partial(tried, count=canary)
    conclude(how(source, target, settings, cluster, terms=terms, engine=Engine(provider), quiet=talk.quiet), talk)


def _bounds(by: str | None, allowed: str | None) -> tuple[float | None, Tolerance | None]:
    until = None if by is None else deadline(by, datetime.now().astimezone()).timestamp()
    return until, None if allowed is None else tolerance(allowed)


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
        click.echo(f"results put back: {done.restored}; new ones removed: {done.removed}")
