"""Enlarge, clean and sharpen images, in the right order and with proof that nothing else changed.

>>> import numpy as np
>>> import refine
>>> refine.restore(np.zeros((40, 60, 3), np.uint8), scale=2.5).shape
(100, 150, 3)
"""

import os
from typing import TYPE_CHECKING

from refine._version import __version__
from refine.errors import RefineError

if TYPE_CHECKING:
    from refine.api import restore

# Before onnxruntime is loaded anywhere, and for all processes that this one starts: from 1.32 on it would write about
# its runs into the home folder, and send it. Whoever wants that sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = ["RefineError", "__version__", "restore"]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> object:
    # Late, for it brings onnxruntime along, which a process that only decodes has no use for.
    if name == "restore":
        from refine.api import restore  # noqa: PLC0415

        return restore
    msg = f"module 'refine' has no attribute {name!r}"
    raise AttributeError(msg)
