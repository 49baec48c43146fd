"""Why work fails, and what may help: each failure is of one of four kinds, and each kind has its own way.

| kind | what it is | what becomes of it |
|---|---|---|
| transient | the disk or the network said no | tried again where it failed, after growing pauses |
| resource | there was not the memory for it | begun anew in smaller blocks, then with nothing beside it |
| poison | it ended its decoder or its worker, or never came back | once more with nothing beside it |
| deterministic | the image or the settings are at fault | nothing: it would fail again |

What is poison or too large with nothing beside it is quarantined: it stands until its file or its settings change.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Literal

from refine.errors import CrashError, RefineError

Kind = Literal["transient", "resource", "poison", "deterministic"]

TRIES = 5
"""How often a disk or a network may refuse before an item fails."""
_PAUSE_S, _MAX_PAUSE_S = 0.2, 5.0
"""Before the second try, doubled before each further one; and the longest."""


def kind_of(error: BaseException) -> Kind:
    """The kind of a failure.

    >>> kind_of(TimeoutError("no answer")), kind_of(MemoryError()), kind_of(ValueError("no"))
    ('transient', 'resource', 'deterministic')
    """
    if isinstance(error, CrashError):
        return "poison"
    if isinstance(error, MemoryError):
        return "resource"
    return "transient" if _may_pass(error) else "deterministic"


def reason_of(error: BaseException, name: str) -> str:
    r"""What an error says of a file of that name, in one line; the name, which may have several, is left out.

    >>> reason_of(ValueError("a\nb.png: damaged\nat 3"), "a\nb.png")
    'damaged'
    """
    said = str(error).strip().removeprefix(f"{name}: ").splitlines()
    return said[0] if said else ""


def pauses() -> Iterator[float]:
    """Seconds to wait before each further try. They grow, and differ, so that workers do not come back all at once."""
    pause = _PAUSE_S
    for _ in range(TRIES - 1):
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311  no secret
        pause = min(2 * pause, _MAX_PAUSE_S)


def _may_pass(error: BaseException) -> bool:
    """Whether trying again may help: the disk or the network said no, not the image."""
    if isinstance(error, RefineError):
        return isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, RefineError)
    return isinstance(error, OSError) and not isinstance(error, FileNotFoundError | PermissionError)
