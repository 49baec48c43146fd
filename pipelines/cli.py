"""The command line: parse, one call, print."""

from __future__ import annotations

import json
import logging
import signal
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NoReturn

import click

from pipelines import assessing, sources
from pipelines import graph as graphs
from pipelines import scan as scans
from pipelines.cataloging import catalog, rendered, stored_as, undo
from pipelines.cluster import Cluster
from pipelines.derivative import verified
from pipelines.doctor import findings
from pipelines.errors import JobError, RunError
from pipelines.estimate import cost_s, file_nbytes
from pipelines.naming import renditions
from pipelines.options import Talk, placed, provider, repairing, talking, wished, wished_with
from pipelines.output import output_format
from pipelines.posting import poster
from pipelines.preview import foreseen
from pipelines.reporting import report, retry
from pipelines.single import restore_file
from pipelines.summary import duration, printable
from pipelines.talk import FAILED, INTERRUPTED, OK, WRONG, conclude, listen, say
from pipelines.targets import target_named
from pipelines.verifying import is_catalog, verified_catalog
from pipelines.view import serve
from refine._version import __version__
from refine.assess import assess as assessed
from refine.card import card_ids, load_card
from refine.decoder import Decoder
from refine.errors import ImageReadError, RefineError
from refine.limits import SCAN_LIMITS
from refine.plan import Plan
from refine.session import Engine
from refine.settings import Settings

logger = logging.getLogger("pipelines.cli")  # also where it is run as a script

_file = click.Path(path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="refine")
def refine() -> None:
    """Enlarge, clean and sharpen images of any size.

    Example: refine restore small.jpg large.jpg --scale 2
    """


@refine.command()
@click.argument("source", type=_file)
@click.argument("target", type=_file)
@click.option("--overwrite", is_flag=True, help="Write TARGET even where there is such a file already.")
@wished
@talking
def restore(source: Path, target: Path, *, overwrite: bool, settings: Settings, talk: Talk) -> None:
    """Restore one image in this process.

    Example: refine restore cup.png large.png --scale 2 --sharpen 0.6
    """
    listen(talk)
    conclude(restore_file(source, target, settings, overwrite=overwrite, quiet=talk.quiet), talk)


@refine.command()
@click.argument("source", type=_file)
@click.argument("target", type=_file)
@click.option("--bagit", is_flag=True, help="Put the result into a BagIt bag: TARGET.bag.")
@repairing
@wished_with("archive")
@placed
@provider
@talking
def scan(
    source: Path,
    target: Path,
    *,
    bagit: bool,
    repair: bool,
    settings: Settings,
    cluster: Cluster,
    provider: str,
    talk: Talk,
) -> None:
    """Restore a scan of any size into an OME-Zarr (.zarr), BigTIFF (.tif) or Deep Zoom (.dzi); SOURCE is only read.

    Killed or interrupted, it goes on where it stood when it is started again.

    Example: refine scan map.tif map.zarr --workers 4
    """
    listen(talk)
    engine, quiet = Engine(provider), talk.quiet
    done = scans.scan(source, target, settings, cluster, engine=engine, bagged=bagit, repair=repair, quiet=quiet)
    conclude(done, talk)


refine.add_command(poster)
refine.add_command(catalog)
refine.add_command(undo)
refine.add_command(report)
refine.add_command(retry)


@refine.command()
@click.argument("target")
@click.option("--state", type=_file, metavar="FOLDER", help="For the ledgers of buckets; without it, the user's own.")
@talking
def verify(target: str, state: Path | None, talk: Talk) -> None:
    """Read a finished target again and name every file that is not as it was written. Changes nothing.

    TARGET is that of a scan or a poster, a bag, or that of a catalog: a folder, a zarr store, or s3://bucket/prefix.
    A scan or poster makes what is wrong anew when it is started again with --repair, a catalog where it is deleted.

    Example: refine verify map.zarr
    """
    listen(talk)
    place = target_named(target)
    of_catalog = is_catalog(place, state)
    found = verified_catalog(place, state) if of_catalog else verified(Path(target))
    if talk.as_json:
        click.echo(json.dumps({"checked": found.checked, "wrong": [asdict(one) for one in found.wrong]}))
    else:
        for one in found.wrong:
            click.echo(printable(f"{one.path}: {one.why}"))
        click.echo(f"{found.checked} files checked, {len(found.wrong)} wrong")
        if found.wrong and not of_catalog:
            click.echo("start the command that made it again with --repair: it makes anew what is wrong, and no more")
    if found.wrong and of_catalog and not talk.quiet:
        say("delete these from TARGET, where they are still there, and run the catalog again: it makes them anew")
    if found.wrong:
        sys.exit(FAILED)


@refine.command()
@click.argument("target", type=_file)
@click.option("--source", type=_file, help="The original, to compare with.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1; without it any free one.")
@talking
def view(target: Path, source: Path | None, port: int, talk: Talk) -> None:
    """Show a finished scan in the browser, from this machine to this machine only. Ends with Ctrl-C.

    Example: refine view map.zarr --source map.tif
    """
    listen(talk)
    with serve(target, port, source) as server:
        click.echo(json.dumps({"url": server.url}) if talk.as_json else server.url)
        server.wait()


@refine.command()
@click.argument("images", type=_file, nargs=-1, required=True)
@wished
@talking
def assess(images: tuple[Path, ...], settings: Settings, talk: Talk) -> None:
    """Measure what images are like, and say what they need. Nothing is changed.

    Without a size they are judged as they are; with one, for the result of that size.

    Example: refine assess scan.tif cup.jpg --long-side 2000
    """
    listen(talk)
    weakly = replace(settings, preset=replace(settings.preset, decide=replace(settings.preset.decide, too_weak="flag")))
    found, failed = [], False
    with Decoder() as decoder:
        for image in images:
            try:
                spec = decoder.spec(image)
                measured = assessing.assess_file(decoder, image, spec)
                found.append(assessing.facts(str(image), spec, measured, weakly.decided(spec, measured)))
            except ImageReadError as error:
                failed = True
                say(str(error).splitlines()[0])
                continue
            if not talk.as_json:
                click.echo("\n".join(printable(line) for line in assessing.told(found[-1])))
    if talk.as_json:
        click.echo(json.dumps(found))
    if failed:
        sys.exit(FAILED)


@refine.command()
@click.argument("source")
@click.argument("target", required=False)
@click.option("--explain", is_flag=True, help="Say why, with what was measured; of one image.")
@click.option("--graph", type=_file, help="Write the Dask graph of one image to this file, in Graphviz's language.")
@rendered
@stored_as
@wished
@talking
def plan(
    source: str,
    target: str | None,
    *,
    explain: bool,
    graph: Path | None,
    rendered: tuple[str, ...],
    to: Literal["files", "zarr"],
    settings: Settings,
    talk: Talk,
) -> None:
    """Show what would be done to an image, or with TARGET what a catalog's run would do and why; and do nothing.

    Example: refine plan map.tif --scale 2 --tile 1024; refine plan photos shop --long-side 1600
    """
    listen(talk)
    if target is not None:
        if explain or graph:
            raise JobError("--explain and --graph are of one image; leave out TARGET or them")
        told = foreseen(source, target, settings, renditions(rendered, settings), to)
        click.echo(json.dumps(told.facts()) if talk.as_json else "\n".join(told.lines()))
        return
    if rendered or to == "zarr":
        raise JobError("--rendition and --to are for a catalog; name its TARGET too")
    _plan_image(Path(source), settings, talk, explain=explain, graph=graph)


def _plan_image(source: Path, settings: Settings, talk: Talk, *, explain: bool, graph: Path | None) -> None:
    # A scan's limits: it may be planned as one, and only samples of it are read.
    with Decoder(SCAN_LIMITS) as decoder:
        spec = decoder.spec(source)
        settings.plan(spec)  # what is refused by its header is refused before a pixel is read
        place = sources.source_of(source)
        in_place = place.kind == "windows"
        found = assessed(place.opened(), spec) if in_place else assessing.assess_file(decoder, source, spec)
    made = settings.plan(spec, found)
    facts = _plan_facts(made, output_format(made, settings))
    facts["assessment"] = stated = assessing.facts(str(source), spec, found, settings.decided(spec, found))
    if graph is not None:
        try:
            graph.write_text(graphs.dot(made), encoding="utf-8")
        except OSError as error:
            raise JobError(f"{graph.name}: the graph cannot be written: {error.strerror}; name another file") from error
    click.echo(json.dumps(facts) if talk.as_json else _plan_text(made, facts))
    if explain and not talk.as_json:
        click.echo("\n".join(assessing.told(stated)))


@refine.group()
def models() -> None:
    """The networks that come with it.

    Example: refine models list
    """


@models.command(name="list")
@talking
def models_list(talk: Talk) -> None:
    """List the networks.

    Example: refine models list --json
    """
    cards = [load_card(net) for net in card_ids()]
    if talk.as_json:
        click.echo(json.dumps([asdict(card) for card in cards]))
        return
    for card in cards:
        kind = f"{card.kind} x{card.scale}" if card.scale > 1 else card.kind
        click.echo(f"{card.id:12} {kind}, halo {card.halo} px, {card.cost_s:.2f} s/Mpx, {card.licence}")
        click.echo(f"{'':12} {card.summary}")


@models.command(name="show")
@click.argument("net")
@talking
def models_show(net: str, talk: Talk) -> None:
    """Show the card of a network: what it learnt from, what it scores, what it gets wrong.

    Example: refine models show fast-x2
    """
    card = asdict(load_card(net))
    if talk.as_json:
        click.echo(json.dumps(card))
        return
    for name, value in card.items():
        lines = value if isinstance(value, tuple) else [value]
        lines = [f"{test} {score:.3f}" for test, score in value.items()] if isinstance(value, dict) else lines
        for number, line in enumerate(lines):
            click.echo(f"{'' if number else name:12} {line}")


@refine.command()
@talking
def doctor(talk: Talk) -> None:
    """Check this installation.

    Example: refine doctor
    """
    found = findings()
    if talk.as_json:
        click.echo(json.dumps([asdict(finding) for finding in found]))
    else:
        for finding in found:
            click.echo(f"{'ok   ' if finding.good else 'WRONG'} {finding.what}: {printable(finding.said)}")
    if not all(finding.good for finding in found):
        sys.exit(FAILED)


def main() -> NoReturn:
    """Run the command line; every way out has its exit code, and no traceback is shown unless -vv asks for it."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        refine.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        say("interrupted; what is recorded is kept, what was under way is done again: start the same command again")
        sys.exit(INTERRUPTED)
    except RefineError as error:
        logger.debug("raised here", exc_info=True)
        say(str(error))
        sys.exit(INTERRUPTED if isinstance(error, RunError) else WRONG)
    except Exception as error:  # A user gets a line, not a traceback
        logger.debug("raised here", exc_info=True)
        said = str(error).strip().splitlines()
        say(f"unexpected {type(error).__name__}: {said[0] if said else ''}; run it with -vv to see where")
        sys.exit(WRONG)
    sys.exit(OK)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _plan_facts(made: Plan, file_format: str) -> dict[str, Any]:
    return {
        "output": list(made.output),
        "format": file_format,
        "tiles": made.tile_count,
        "tile": made.tile,
        "halo": made.halo,
        "exact": made.exact,
        "projected_mem": made.projected_mem,
        "seconds_estimate": round(cost_s(made), 3),
        "bytes_estimate": file_nbytes(made, file_format),
        "block": made.block,
        "why": [*made.program.before.why, *made.program.after.why],
    }


def _plan_text(made: Plan, facts: dict[str, Any]) -> str:
    height, width = made.output
    exact = "tiles give the bytes of the whole" if made.exact else f"approximate: {facts['why']}"
    return "\n".join(
        [
            f"output   {width} x {height} px, from {made.source.width} x {made.source.height}",
            f"decision {facts['assessment']['decision']}",
            f"steps    {', '.join(type(step).__name__ for step in made.chain.active) or 'none'}",
            f"tiles    {made.tile_count} of {min(made.tile, max(height, width))} px, blocks of {made.block} px",
            f"halo     {made.halo} px of the source; {exact}",
            f"memory   {made.projected_mem / 1e6:.0f} MB a task",
            f"work     about {duration(facts['seconds_estimate'])} on one core",
        ]
    )


if __name__ == "__main__":
    main()
