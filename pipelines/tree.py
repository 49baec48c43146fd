"""The tree of a catalog: which files are images, and what their results are called."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipelines.errors import JobError
from refine.errors import ImageReadError
from refine.imagefile import suffix_format
from refine.signature import HEAD_NBYTES, image_format

OWN_FOLDER = ".refine"
"""In TARGET: the ledger, and the working arrays of large images."""
_OTHER_IMAGES = frozenset(
    (
        *(".bmp", ".dib", ".gif", ".j2c", ".j2k", ".jp2", ".jpc", ".jpf", ".jpx"),
        *(".heic", ".heif", ".jxr", ".pbm", ".pgm", ".pnm", ".ppm", ".psb", ".psd", ".tga"),
        *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2"),
    )
)
"""Suffixes of images beside those of formats that are written. The first line is read; the others are listed as
failed, for they are part of the catalog."""
_SUFFIX = {"jpeg": ".jpg", "png": ".png", "tiff": ".tif", "webp": ".webp", "avif": ".avif", "jpegxl": ".jxl"}
_LISTED = 20
"""Clashing names that are told; more would fill the screen."""
_STAGED = re.compile(r"\..*\.[0-9a-f]{12}\.part", re.DOTALL)
"""Temporary names as `refine.imagefile.staged` gives them."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """An image of the tree, seen but not opened."""

    path: str
    """Below SOURCE, `/` between folders."""
    size: int
    """Bytes."""
    mtime_ns: int
    """When it was changed last, ns."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What a tree holds."""

    images: int
    """Files that are images, or say so."""
    skipped: int
    """Other files."""


def check_apart(source: Path, target: Path) -> None:
    """Raise JobError where results could overwrite or mix with sources."""
    if not source.is_dir():
        raise JobError(f"SOURCE {source} is no folder; for a single image use: refine restore")
    if target.exists() and not target.is_dir():
        raise JobError(f"TARGET {target} is a file; name a folder")
    inner, outer = target.resolve(), source.resolve()
    if inner == outer or inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise JobError(f"TARGET {target} and SOURCE {source} lie in one another; name a TARGET beside SOURCE")


def survey(source: Path, format: str) -> Survey:  # noqa: A002  the word of ImageSpec
    """Count a tree. Raises JobError, listing them, where several files would have one result."""
    images = skipped = 0
    clashes: list[str] = []
    for folder, files in _folders(source):
        names: dict[str, list[str]] = defaultdict(list)
        for entry in files:
            if _is_image(entry):
                images += 1
                path = _joined(folder, entry.name)
                names[output_name(path, format)].append(path)
            else:
                skipped += 1
        clashes += [f"{output} from {' and '.join(paths)}" for output, paths in names.items() if len(paths) > 1]
    if clashes:
        more = f"; and {len(clashes) - _LISTED} more" if len(clashes) > _LISTED else ""
        listed = "; ".join(clashes[:_LISTED])
        raise JobError(
            f"several files would have one result: {listed}{more}; rename them, or keep output.format = source"
        )
    return Survey(images, skipped)


def source_files(source: Path) -> Iterator[SourceFile]:
    """The images of a tree, folder by folder in the order of names. Hidden files and folders are passed over."""
    for folder, files in _folders(source):
        for entry in files:
            if _is_image(entry):
                try:
                    status = entry.stat()
                except FileNotFoundError:
                    continue  # gone since the folder was listed
                yield SourceFile(_joined(folder, entry.name), status.st_size, status.st_mtime_ns)


def output_name(path: str, format: str) -> str:  # noqa: A002  the word of ImageSpec
    """The name of a source's result: its own, with another suffix only where the format changes.

    >>> output_name("a/b.jpeg", "jpeg"), output_name("a/b.png", "jpeg"), output_name("a/b.PNG", "source")
    ('a/b.jpeg', 'a/b.jpg', 'a/b.PNG')
    """
    pure = PurePosixPath(path)
    if format == "source" or suffix_format(Path(path)) == format:
        return path
    return str(pure.with_suffix(_SUFFIX[format]))


@dataclass(slots=True)
class Names:
    """Which image has which result's name, where a result cannot have its source's. Asked folder by folder."""

    source: Path
    """The tree."""
    folder: str = ""
    """The one that is at hand."""
    taken: dict[str, str] = field(default_factory=dict)
    """Result's name: image."""

    def owner(self, path: str, name: str) -> str:
        """The image whose result is called `name`: `path`, which has it from now on, or one that has it already."""
        if name == path:
            return path
        folder = str(PurePosixPath(path).parent)
        if folder != self.folder:
            self.folder, self.taken = folder, {}
        if (self.source / name).is_file():
            return name
        return self.taken.setdefault(name, path)


def sweep(target: Path) -> int:
    """Remove what killed processes left behind below TARGET, by the names that only they give; how many files."""
    found = 0
    for folder, _, names in os.walk(target):
        own = folder.startswith(str(target / OWN_FOLDER))
        for name in names:
            if _STAGED.fullmatch(name) or (own and name.endswith(".partial")):
                Path(folder, name).unlink(missing_ok=True)
                found += 1
    return found


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


def _is_image(entry: os.DirEntry[str]) -> bool:
    """Whether a file says that it is an image, by its name or by its first bytes."""
    path = Path(entry.path)
    if suffix_format(path) or path.suffix.lower() in _OTHER_IMAGES:
        return True
    try:
        with path.open("rb") as file:
            image_format(file.read(HEAD_NBYTES), path.name)
    except (OSError, ImageReadError):
        return False
    return True
