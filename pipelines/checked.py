"""What files are told by when they are compared, and what a verification found."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Wrong:
    """A file that is not what was written."""

    path: str
    """Below the target."""
    why: str
    """One line."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification found."""

    checked: int
    """Files that were read."""
    wrong: tuple[Wrong, ...]
    """Those that are not as they were written, lack, or have come in."""


def file_sha256(path: Path) -> str:
    """Digest of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
