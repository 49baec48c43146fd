"""What a verification found: values that whoever compares files gives."""

from __future__ import annotations

from dataclasses import dataclass


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
