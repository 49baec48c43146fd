"""Where the command begins: before the libraries are loaded, so that an interrupt then is one too."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130


def main() -> NoReturn:
    """Run the command line. Loading it takes a second or two; interrupted in that time, it leaves without a word."""
    signal.signal(signal.SIGINT, _leave)
    from pipelines.cli import main as run  # noqa: PLC0415  after the handler

    signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    os._exit(INTERRUPTED)
