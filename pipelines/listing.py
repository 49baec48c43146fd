"""What a catalog is made of: the images of a folder or of a pattern, seen but not opened.

A listing is the seam for other places: anything with these members can be a catalog's source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

from pipelines import place as places
from pipelines import tree
from pipelines.errors import JobError
from pipelines.naming import says_image
from pipelines.place import Place, place_of

_WILD = re.compile(r"[*?\[]")
_REMEDY = "rename them at the source"


@dataclass(frozen=True, slots=True)
class Listed:
    """One image of a catalog, seen but not opened."""

    path: str
    """Its name in the catalog, `/` between folders: below SOURCE, or the id of a manifest."""
    size: int
    """Bytes; -1 where there is no such file."""
    mtime_ns: int
    """When it was changed last, ns."""
    etag: str = ""
    """What an object store calls this state of it; empty for a file. Where there is one it stands for the time."""
    uri: str = ""
    """Where it lies; empty for its name below the root."""
    priority: int = 0
    """The greater, the sooner."""
    options: str = ""
    """Settings of its own, a JSON object of dotted keys with sorted names; empty for none."""
    where: str = ""
    """Where these are given, for what is said of them: a file and its line; empty for none."""


class Listing(Protocol):
    """The images of a catalog."""

    @property
    def root(self) -> str:
        """The folder, or the URL, that names are below."""
        ...

    @property
    def skipped(self) -> int:
        """Files that are no images; known once all is listed."""
        ...

    @property
    def absent(self) -> Sequence[str]:
        """Names that may stand for folders of images which cannot be reached now; known once all is listed."""
        ...

    @property
    def remedy(self) -> str:
        """What is to be done where its names cannot be those of results, one phrase."""
        ...

    def check_apart(self, target: Place) -> None:
        """Raise JobError where results could overwrite or mix with sources."""
        ...

    def listed(self) -> Iterator[Listed]:
        """The images, each once a call, in an order that does not change. Raises JobError where it cannot be listed."""
        ...


@dataclass(slots=True)
class Folder:
    """All images below a folder, or those that a pattern fits."""

    root: str
    """The folder."""
    pattern: str = ""
    """What names below it must be like; empty for any."""
    skipped: int = 0
    """Files that are no images."""
    absent: list[str] = field(default_factory=list)
    """Links that lead nowhere and have no image's name: a folder of a disk that is not mounted looks like this."""
    remedy: str = _REMEDY
    """What is to be done where its names cannot be those of results."""
    target: Path | None = None
    """Where results go, if that is a folder."""

    def check_apart(self, target: Place) -> None:
        """Raise JobError where TARGET lies in the folder, or the folder in it."""
        if isinstance(target, places.Folder):
            self.target = target.path
            tree.check_apart(Path(self.root), target.path)

    def listed(self) -> Iterator[Listed]:
        """The images, folder by folder in the order of names."""
        self.skipped = 0
        self.absent.clear()
        fits = matcher(self.pattern) if self.pattern else None
        for path, entry in tree.files(Path(self.root), self.target):
            fitting = fits is None or fits(path)
            if not fitting or not tree.is_image(entry):
                self.skipped += fitting
                if tree.leads_nowhere(entry):
                    self.absent.append(path)
                continue
            try:
                status = entry.stat()
            except OSError:
                if entry.is_symlink():
                    yield Listed(path, -1, 0)  # its image is to fail, not to count as gone
                continue  # gone since the folder was listed
            yield Listed(path, status.st_size, status.st_mtime_ns)


@dataclass(slots=True)
class Objects:
    """All images below a prefix of a bucket, or those that a pattern fits, as far as their names say that they are.

    None is read to find out.
    """

    place: Place
    """The prefix."""
    pattern: str = ""
    """What names below it must be like; empty for any."""
    skipped: int = 0
    """Objects that are no images."""
    absent: Sequence[str] = ()
    """Always empty: a bucket has no links."""
    remedy: str = _REMEDY
    """What is to be done where its names cannot be those of results."""

    @property
    def root(self) -> str:
        """The URL of the prefix."""
        return self.place.url

    def check_apart(self, target: Place) -> None:
        """Raise JobError where one prefix holds the other."""
        inner, outer = f"{target.url}/", f"{self.root}/"
        if inner.startswith(outer) or outer.startswith(inner):
            raise JobError(
                f"TARGET {target.url} and SOURCE {self.root} lie in one another; name a TARGET beside SOURCE, "
                "as s3://bucket/out beside s3://bucket/in"
            )

    def listed(self) -> Iterator[Listed]:
        """The images in the order of their keys. Hidden ones are passed over, as hidden files are."""
        self.skipped = 0
        fits = matcher(self.pattern) if self.pattern else None
        for found in self.place.listing():
            if (fits and not fits(found.path)) or _is_hidden(found.path):
                continue
            if says_image(PurePosixPath(found.path).suffix):
                yield Listed(found.path, found.size, found.mtime_ns, found.etag)
            else:
                self.skipped += 1


def _is_hidden(path: str) -> bool:
    """Whether a part of a name begins with a dot; `.` and `..` are another matter, and refused later."""
    return (path.startswith(".") or "/." in path) and any(
        part.startswith(".") and part not in (".", "..") for part in path.split("/")
    )


def objects(source: str) -> Objects:
    """The images below a prefix of a bucket, or of a pattern. Raises JobError where it cannot be listed."""
    root, pattern = split_pattern(source)
    place = place_of(root)
    place.check()
    return Objects(place, pattern)


def folder_or_pattern(source: str) -> Folder:
    """The images below a folder, or of a pattern such as `photos/**/*.jpg`. Raises JobError where it is neither."""
    path = Path(source)
    if path.is_dir():
        return Folder(source)
    root, pattern = split_pattern(source)
    if not pattern and not path.exists():
        raise JobError(f"SOURCE {source} is not there; name a folder, a pattern in quotes, or a manifest")
    if not pattern:
        raise JobError(f"SOURCE {source} is no folder, pattern or manifest; for a single image use: refine restore")
    if not Path(root).is_dir():
        raise JobError(f"SOURCE {source}: there is no folder {root}")
    return Folder(root, pattern)


def split_pattern(source: str) -> tuple[str, str]:
    """The folder that a pattern starts from, and what names below it must be like; empty where it is no pattern.

    >>> split_pattern("photos/2024/**/*.jpg"), split_pattern("*.png"), split_pattern("photos")
    (('photos/2024', '**/*.jpg'), ('.', '*.png'), ('photos', ''))
    """
    parts = source.split("/")
    wild = next((number for number, part in enumerate(parts) if _WILD.search(part)), None)
    if wild is None:
        return source, ""
    return "/".join(parts[:wild]) or ("/" if source.startswith("/") else "."), "/".join(parts[wild:])


def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a name fits a pattern: `*` and `?` stay within a folder, `**` is any number of folders.

    >>> fits = matcher("**/*.jpg")
    >>> fits("a.jpg"), fits("a/b/c.jpg"), fits("a/b.png"), matcher("*/[ab]?.jpg")("x/a1.jpg")
    (True, True, False, True)
    """
    parts = pattern.split("/")
    body = "".join(
        "(?:[^/]+/)*" if part == "**" else _part(part) + ("/" if number < len(parts) - 1 else "")
        for number, part in enumerate(parts)
    )
    compiled = re.compile(body + ("[^/]+" if parts[-1] == "**" else ""), re.DOTALL)
    return lambda name: compiled.fullmatch(name) is not None


def _part(part: str) -> str:
    """One part of a pattern as a regular expression."""
    pieces = re.split(r"(\*|\?|\[!?\]?[^\]]*\])", part)
    known = {"*": "[^/]*", "?": "[^/]"}
    return "".join(
        known.get(piece) or (_class(piece) if number % 2 else re.escape(piece)) for number, piece in enumerate(pieces)
    )


def _class(piece: str) -> str:
    inner = piece[1:-1].replace("\\", "\\\\").replace("[", "\\[")
    negated = inner.startswith("!")
    return f"[{'^/' if negated else ''}{inner[1:] if negated else inner}]"
