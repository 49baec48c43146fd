"""What the jobs raise beside refine's own errors.

RefineError
├── JobError (ValueError)      a job that cannot be started as it was asked for
├── RunError (RuntimeError)    a run that cannot go on; what is done is kept, and it can be started again
└── StoreError (OSError)       what is stored is not what was written, or cannot be read or written
    └── OutageError            a store that has not answered for longer than is waited for
"""

from __future__ import annotations

from refine.errors import RefineError


class JobError(RefineError, ValueError):
    """A job that cannot be started as it was asked for."""


class RunError(RefineError, RuntimeError):
    """A run that cannot go on; what is done is kept, and it can be started again."""


class StoreError(RefineError, OSError):
    """What is stored is not what was written, or cannot be read or written: a shard, a file, an object."""


class OutageError(StoreError):
    """A store that has not answered for longer than is waited for: no other image fares better."""
