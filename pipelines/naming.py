"""Names in a catalog: what a source's results are called, and which names no result may have."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import cast, get_args

from pipelines.errors import JobError
from refine.background import hexed, rgb
from refine.errors import PlanError
from refine.imagefile import Format, suffix_format
from refine.settings import Settings, Size

OWN_FOLDER = ".refine"
"""In TARGET: the ledger, and the working arrays of large images."""
_SUFFIX = {"jpeg": ".jpg", "png": ".png", "tiff": ".tif", "webp": ".webp", "avif": ".avif", "jpegxl": ".jxl"}
_OTHER_IMAGES = frozenset(
    (
        *(".bmp", ".dib", ".gif", ".j2c", ".j2k", ".jp2", ".jpc", ".jpf", ".jpx"),
        *(".heic", ".heif", ".jxr", ".pbm", ".pgm", ".pnm", ".ppm", ".psb", ".psd", ".tga"),
        *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2"),
    )
)
"""Suffixes of images beside those of formats that are written. The first line is read; the others are listed as
failed, for they are part of the catalog."""
_RENDITION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Rendition:
    """One of several results of each source."""

    name: str = ""
    """The folder of TARGET that holds it; empty for TARGET itself, where there is one result a source."""
    long_side: int | None = None
    """Longer side, px; None for the size of the settings."""
    format: str = ""
    """Of the file; empty for that of the settings."""
    background: str = ""
    """What pictures with alpha are laid on, `#rrggbb`; empty for that of the settings."""

    def __post_init__(self) -> None:
        if self.name and not _RENDITION.fullmatch(self.name):
            raise JobError(f"a rendition is named by letters, digits, - and _, got {self.name!r}")
        if self.format and self.format not in get_args(Format):
            known = ", ".join(get_args(Format))
            raise JobError(f"rendition {self.name}: format {self.format!r} is not written; use {known}")
        if self.long_side is not None and self.long_side < 1:
            raise JobError(f"rendition {self.name}: a long side is 1 px or more, got {self.long_side}")
        try:
            object.__setattr__(self, "background", hexed(rgb(self.background)) if self.background else "")
        except PlanError as error:
            raise JobError(f"rendition {self.name}: {error}") from error

    def settings(self, base: Settings) -> Settings:
        """The settings of this rendition, from those of the run."""
        made = base
        if self.long_side is not None:
            made = replace(made, size=Size(long_side=self.long_side))
        output = made.preset.output
        if self.format:
            output = replace(output, format=cast("Format", self.format))
        if self.background:
            output = replace(output, background=self.background)
        return made if output is made.preset.output else replace(made, preset=replace(made.preset, output=output))

    def output(self, name: str) -> str:
        """Where a result of that name lies, below TARGET.

        >>> Rendition("thumb").output("a/b.jpg"), Rendition().output("a/b.jpg")
        ('thumb/a/b.jpg', 'a/b.jpg')
        """
        return f"{self.name}/{name}" if self.name else name


def rendition(text: str) -> Rendition:
    """A rendition as it is written on the command line: NAME=LONGSIDE[:FORMAT[:COLOUR]].

    >>> rendition("thumb=320:jpeg:white")
    Rendition(name='thumb', long_side=320, format='jpeg', background='#ffffff')
    """
    name, equals, wish = text.partition("=")
    side, _, rest = wish.partition(":")
    file_format, _, background = rest.partition(":")
    if not (name and equals and side.isascii() and side.isdigit()):
        such = "zoom=2400 or page=1600:jpeg:white"
        raise JobError(f"--rendition takes NAME=LONGSIDE[:FORMAT[:COLOUR]], got {text!r}; e.g. {such}")
    named = {"jpg": "jpeg", "tif": "tiff", "jxl": "jpegxl"}.get(file_format, file_format)
    return Rendition(name, int(side), named, background)


def renditions(asked: Sequence[str], settings: Settings) -> tuple[Rendition, ...]:
    """The results of each source: those of the command line, or else of the preset, or else one.

    Raises JobError where two of them would share a folder, or where a size is given for all of them beside theirs.
    """
    named = settings.preset.renditions
    made = tuple(rendition(text) for text in asked) or tuple(
        Rendition(one.name, one.long_side or None, one.format, one.background) for one in named
    )
    folders = [one.name.lower() for one in made]
    if twice := next((name for name in folders if folders.count(name) > 1), None):
        raise JobError(f"two renditions are called {twice!r}; name each once, whatever its case")
    if made and all(one.long_side for one in made) and settings.size != Size():
        raise JobError("renditions have sizes of their own; leave out --scale, --long-side and --size")
    return made or (Rendition(),)


def output_name(path: str, format: str) -> str:  # noqa: A002  the word of ImageSpec
    """The name of a source's result: its own, with another suffix only where the format changes.

    >>> output_name("a/b.jpeg", "jpeg"), output_name("a/b.png", "jpeg"), output_name("a/b.PNG", "source")
    ('a/b.jpeg', 'a/b.jpg', 'a/b.PNG')
    """
    pure = Path(path)
    if format == "source" or suffix_format(pure) == format:
        return path
    return str(pure.with_suffix(_SUFFIX[format]))


def with_suffix_of(name: str, place: str) -> str:
    """A name that says what it is: with the suffix of the place of its file where it has none of an image.

    >>> with_suffix_of("sku-1.5", "photos/15.JPG"), with_suffix_of("a.png", "photos/15.jpg")
    ('sku-1.5.JPG', 'a.png')
    """
    suffix = os.path.splitext(place)[1]  # noqa: PTH122  a million times
    lacking = name and says_image(suffix) and not says_image(os.path.splitext(name)[1])  # noqa: PTH122
    return name + suffix if lacking else name


@lru_cache(maxsize=1024)
def says_image(suffix: str) -> bool:
    """Whether a suffix is that of an image, read or not.

    >>> says_image(".JPG"), says_image(".heic"), says_image(".txt")
    (True, True, False)
    """
    return suffix.lower() in _OTHER_IMAGES or suffix_format(Path(f"x{suffix}")) is not None


def folded(name: str) -> str:
    """The same for all names that some file system takes for one: whatever its case and its Unicode form.

    >>> folded("Caf\N{LATIN CAPITAL LETTER E WITH ACUTE}.jpg") == folded("cafe\N{COMBINING ACUTE ACCENT}.JPG")
    True
    """
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def stem(name: str) -> str:
    """A name without its suffix, folded: names with different ones get results of different names, in every format."""
    head, dot, tail = name.rpartition(".")
    return folded(head if dot and head and "/" not in tail and not head.endswith("/") else name)


def fault(path: str) -> str:
    """What is wrong with an id of a manifest as the name of a result; empty where it is fine.

    >>> fault("a/../../b.jpg"), fault("/a.jpg"), fault("a/b.jpg")
    ("has a part '..'", 'is absolute', '')
    """
    parts = path.split("/")
    odd = next((part for part in parts if part in ("", ".", "..")), None)
    rules = (
        (not path, "is empty"),
        (not path.isprintable() and any(unicodedata.category(c) == "Cc" for c in path), "has a control character"),
        ("\\" in path, "has a backslash"),
        (path.startswith("/") or path[1:2] == ":", "is absolute"),
        (odd is not None, f"has a part {odd!r}"),
        (parts[0] == OWN_FOLDER, f"begins with {OWN_FOLDER}, where the ledger is"),
        (max(map(_nbytes, parts)) > 240 or _nbytes(path) > 1024, "is longer than a file system allows"),
    )
    return next((why for wrong, why in rules if wrong), "")


def _nbytes(name: str) -> int:
    return len(name.encode("utf-8", "surrogatepass"))
