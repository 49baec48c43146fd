"""Files that are seen whole or not at all: written under a temporary name, then put in their place at one stroke."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refine.errors import ImageWriteError, RefineError

_NAME_LENGTH = 40
"""Characters of a file's name in that of its temporary file: names end at 255 bytes."""


def publish(path: Path, data: bytes) -> None:
    """Write a file that is seen whole or not at all, even if the machine stops: `path` is replaced at one stroke."""
    with staged(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A temporary name in the folder of `path`: published under `path` on success, removed on error.

    A process that is killed leaves a file `.<name>.<random>.part` behind, which nobody reads.
    Raises ImageWriteError where the disk refuses.
    """
    temporary = path.with_name(f".{path.name[:_NAME_LENGTH]}.{os.urandom(6).hex()}.part")
    try:
        yield temporary
        synchronise(temporary, os.O_RDWR)
        temporary.replace(path)
        synchronise(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except RefineError:
        raise
    except OSError as error:
        raise ImageWriteError(f"{path.name}: cannot be stored: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def synchronise(path: Path, flags: int) -> None:
    """Have the disk write what it holds back of a file or folder."""
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
