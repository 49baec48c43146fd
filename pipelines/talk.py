"""What the command line says, and where: results on stdout, all else on stderr, a line at a time."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping

import click
from tqdm import tqdm

from pipelines.options import Talk
from pipelines.summary import Summary, printable

OK, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130
"""Exit codes: all done; some images failed; wrong use or a refused plan; stopped, and can be started again."""


class _Lines(logging.Handler):
    """Log lines on stderr that leave a progress bar whole."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; more only for a traceback."""
        text = self.format(record)
        shown = text if logging.getLogger("pipelines").isEnabledFor(logging.DEBUG) else text.splitlines()[0]
        tqdm.write("\n".join(printable(line) for line in shown.splitlines()), file=sys.stderr)


def listen(talk: Talk) -> None:
    """Set what of the log is shown."""
    level = logging.ERROR if talk.quiet else (logging.WARNING, logging.INFO, logging.DEBUG)[min(talk.verbose, 2)]
    for name in ("pipelines", "refine"):
        logger = logging.getLogger(name)
        logger.handlers = [_Lines()]
        logger.setLevel(level)
    if not talk.quiet:
        # How far it is must be seen without -v, too.
        logging.getLogger("pipelines.progress").setLevel(min(level, logging.INFO))


def say(text: str) -> None:
    """Say one line."""
    click.echo(f"refine: {printable(text)}", err=True)


def conclude(summary: Summary, talk: Talk, more: Mapping[str, object] | None = None) -> None:
    """Print what a job did; exit code 1 where an image has no result."""
    for line in summary.lines():
        click.echo(line, err=True)
    if talk.as_json:
        click.echo(json.dumps({**summary.facts(), **(more or {})}))
    elif not talk.quiet:
        click.echo(summary.line())
        if summary.report:
            click.echo(printable(f"report: {summary.report}"))
    if not summary.complete:
        sys.exit(FAILED)
