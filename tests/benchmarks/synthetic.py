"""Catalogs of a million images, made of hard links, and of ten million that are only listed."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

from pipelines import manifest
from pipelines.identity import result_key
from pipelines.listing import Listed
from pipelines.naming import OWN_FOLDER
from pipelines.planning import block
from pipelines.records import Record
from pipelines.tasks import behaviour
from refine.preset import load_preset
from refine.session import Engine
from refine.settings import Settings, Size

SETTINGS = Settings(load_preset("balanced", {"upscale.nets": "[]", "plan.block": "128"}), Size(scale=Fraction(2)))
FOLDER = 1000
"""Images in one folder."""
LINKS = 20_000
"""Names of one file: some file systems take no more than 65,000."""


def name(number: int) -> str:
    """The name of an image."""
    return f"{number // (FOLDER * FOLDER):03}/{number // FOLDER % FOLDER:03}/{number % FOLDER:03}.png"


def linked(folder: Path, file: Path, count: int) -> None:
    """A tree of `count` names of copies of a file."""
    held = folder.with_name(folder.name + ".held")
    for number in range(count):
        path = folder / name(number)
        if number % FOLDER == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        if number % LINKS == 0:
            held.unlink(missing_ok=True)
            held.write_bytes(file.read_bytes())
        os.link(held, path)
    held.unlink()


def write_ledger(source: Path, target: Path, record: Record, count: int) -> None:
    """A ledger that has all of a tree as done, as that one record says."""
    key = result_key(SETTINGS, behaviour(Engine(), block(SETTINGS)))
    with manifest.opened(target / OWN_FOLDER) as ledger:
        numbers = iter(range(count))
        while some := list(islice(numbers, 5000)):
            ledger.commit(_done(source, record, name(number), key) for number in some)


def _done(source: Path, record: Record, path: str, key: str) -> Record:
    status = (source / path).stat()
    return replace(record, path=path, output=path, size=status.st_size, mtime_ns=status.st_mtime_ns, key=key)


@dataclass
class Synthetic:
    """A source that is only listed."""

    count: int
    root: str = "."
    skipped: int = 0
    remedy: str = "they are made up"

    def check_apart(self, target: Path) -> None:
        """It lies nowhere."""

    def listed(self) -> Iterator[Listed]:
        """Its images."""
        for number in range(self.count):
            yield Listed(name(number), 100_000 + number % 50_000, 1_700_000_000_000_000_000 + number)


def peak_mem() -> int:
    """Most bytes that this process has had at once."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
