"""What the jobs raise beside refine's own errors.

RefineError
├── JobError (ValueError)      a job that cannot be started as it was asked for
├── RunError (RuntimeError)    a run that cannot go on; what is done is kept, and it can be started again
└── StoreError (OSError)       a working array that is not what was written
"""

from __future__ import annotations

from refine.errors import RefineError


class JobError(RefineError, ValueError):
    """A job that cannot be started as it was asked for."""


class RunError(RefineError, RuntimeError):
    """A run that cannot go on; what is done is kept, and it can be started again."""


class StoreError(RefineError, OSError):
    """A working array that is not what was written: a shard is lost, short or damaged."""
