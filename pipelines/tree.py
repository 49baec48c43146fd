"""The tree of a catalog: which files are images, what lies in TARGET, and what killed processes left there."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from pipelines.errors import JobError
from pipelines.naming import OWN_FOLDER, says_image
from refine.errors import ImageReadError
from refine.signature import HEAD_NBYTES, image_format

_STAGED = re.compile(r"\..*\.[0-9a-f]{12}\.part", re.DOTALL)
"""Temporary names as `refine.imagefile.staged` gives them."""
_Identity = tuple[int, int]
"""Device and inode: what a folder is, by whatever name."""


def check_apart(source: Path, target: Path) -> None:
    """Raise JobError where results could overwrite or mix with sources."""
    if target.exists() and not target.is_dir():
        raise JobError(f"TARGET {target} is a file; name a folder")
    inner, outer = target.resolve(), source.resolve()
    if inner == outer or inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise JobError(f"TARGET {target} and SOURCE {source} lie in one another; name a TARGET beside SOURCE")


def files(source: Path, target: Path | None = None) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """The files of a tree by their names below it, folder by folder in order. Hidden ones are passed over.

    Links are followed, but never into target; one that leads nowhere is a file that cannot be read. Raises JobError
    where a folder cannot be listed, or a linked one holds target.
    """
    for folder, entries in _folders(source, target):
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


def leads_nowhere(entry: os.DirEntry[str]) -> bool:
    """Whether a file is a link to nothing that can be reached now: a disk that is not mounted, say."""
    return entry.is_symlink() and _linked(entry) is None


def _folders(source: Path, target: Path | None) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """Folders below source, each with its files in order. Those below a link come with what tells a way round."""
    waiting: list[tuple[str, frozenset[_Identity]]] = [("", frozenset())]
    while waiting:
        folder, above = waiting.pop()
        try:
            with os.scandir(source / folder) as scan:
                entries = sorted((e for e in scan if not e.name.startswith(".")), key=lambda e: e.name)
        except OSError as error:
            raise JobError(f"folder {folder or source}: cannot be listed: {error.strerror}") from error
        yield folder, [e for e in entries if (_is_linked_file(e) if e.is_symlink() else e.is_file())]
        waiting += _below(source, folder, reversed(entries), above, target)


def _below(
    source: Path, folder: str, entries: Iterable[os.DirEntry[str]], above: frozenset[_Identity], target: Path | None
) -> Iterator[tuple[str, frozenset[_Identity]]]:
    """The folders among the entries of one that are to be listed, each with what tells a way round."""
    for entry in entries:
        is_link = entry.is_symlink()
        if not (_is_linked_folder(entry) if is_link else entry.is_dir()):
            continue
        name = _joined(folder, entry.name)
        if not above and not is_link:
            yield name, above  # without a link there is no way round: no folder need be asked who it is
        elif (way := _way(source, name, above)) and not (is_link and _is_of(source / name, target)):
            yield name, way


def _way(source: Path, name: str, above: frozenset[_Identity]) -> frozenset[_Identity]:
    """The folders from source to one below it, itself among them; none where it is no folder, or leads round."""
    here = _identity(source / name)
    if here is None:
        return frozenset()
    if not above:
        folders = [source, *(source / folder for folder in PurePosixPath(name).parents)]
        above = frozenset(known for folder in folders if (known := _identity(folder)))
    return frozenset() if here in above else above | {here}


def _identity(path: Path) -> _Identity | None:
    """What a folder is; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None


def _is_of(folder: Path, target: Path | None) -> bool:
    """Whether a linked folder is target or in it: results are no sources. Raises JobError where it holds target."""
    if target is None:
        return False
    inner, outer = folder.resolve(), target.resolve()
    if inner != outer and outer.is_relative_to(inner):
        raise JobError(
            f"TARGET {target} lies in {folder}, a link to {inner}; name a TARGET elsewhere, or remove the link"
        )
    return inner.is_relative_to(outer)


def _linked(entry: os.DirEntry[str]) -> os.stat_result | None:
    """What a link leads to; None for nothing that can be reached."""
    try:
        return entry.stat()
    except OSError:
        return None


def _is_linked_folder(entry: os.DirEntry[str]) -> bool:
    status = _linked(entry)
    return status is not None and stat.S_ISDIR(status.st_mode)


def _is_linked_file(entry: os.DirEntry[str]) -> bool:
    """Whether a link is to be taken for a file: it leads to one, or nowhere."""
    status = _linked(entry)
    return status is None or stat.S_ISREG(status.st_mode)


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
