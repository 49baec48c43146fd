"""The tree of a catalog: which files are images, what lies in TARGET, and what killed processes left there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from pipelines.errors import JobError
from pipelines.naming import OWN_FOLDER, says_image
from refine.errors import ImageReadError
from refine.signature import HEAD_NBYTES, image_format

_STAGED = re.compile(r"\..*\.[0-9a-f]{12}\.part", re.DOTALL)
"""Temporary names as `refine.imagefile.staged` gives them."""


def check_apart(source: Path, target: Path) -> None:
    """Raise JobError where results could overwrite or mix with sources."""
    if target.exists() and not target.is_dir():
        raise JobError(f"TARGET {target} is a file; name a folder")
    inner, outer = target.resolve(), source.resolve()
    if inner == outer or inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise JobError(f"TARGET {target} and SOURCE {source} lie in one another; name a TARGET beside SOURCE")


def files(source: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """The files of a tree by their names below it, folder by folder in order. Hidden ones are passed over."""
    for folder, entries in _folders(source):
        for entry in entries:
            yield _joined(folder, entry.name), entry


def present(target: Path) -> Iterator[tuple[str, int]]:
    """The files in TARGET with their bytes, the ledger's folder apart; what killed processes left there goes."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(target / folder) as scan:
            for entry in scan:
                if entry.is_dir(follow_symlinks=False):
                    if folder or entry.name != OWN_FOLDER:
                        waiting.append(_joined(folder, entry.name))
                elif entry.name.endswith(".part") and _STAGED.fullmatch(entry.name):
                    Path(entry.path).unlink(missing_ok=True)
                else:
                    yield _joined(folder, entry.name), entry.stat(follow_symlinks=False).st_size


def sweep(target: Path) -> int:
    """Remove what killed processes left behind below TARGET, by the names that only they give; how many files."""
    found = 0
    for folder, _, names in os.walk(target):
        own = OWN_FOLDER in Path(folder).parts
        for name in names:
            if _STAGED.fullmatch(name) or (own and name.endswith(".partial")):
                Path(folder, name).unlink(missing_ok=True)
                found += 1
    return found


def is_image(entry: os.DirEntry[str]) -> bool:
    """Whether a file says that it is an image, by its name or by its first bytes."""
    if says_image(os.path.splitext(entry.name)[1]):  # noqa: PTH122  a million times
        return True
    path = Path(entry.path)
    try:
        with path.open("rb") as file:
            image_format(file.read(HEAD_NBYTES), path.name)
    except (OSError, ImageReadError):
        return False
    return True


def _folders(source: Path) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """Folders below source, each with its files in order. Links to folders are not followed: they may lead round."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(source / folder) as scan:
                entries = sorted((e for e in scan if not e.name.startswith(".")), key=lambda e: e.name)
        except OSError as error:
            raise JobError(f"folder {folder or source}: cannot be listed: {error.strerror}") from error
        yield folder, [e for e in entries if e.is_file()]
        waiting += [_joined(folder, e.name) for e in reversed(entries) if e.is_dir(follow_symlinks=False)]


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
