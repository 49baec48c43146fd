"""Everything refine raises on purpose.

RefineError
├── ChainError (ValueError)        steps in an order, or with a strength, that the rules refuse
├── PlanError (ValueError)         a plan that cannot run in the memory or size it was given
├── CardError (ValueError)         a network, or what its card says of it, cannot be used
├── PresetError (ValueError)       a preset file or a --set value is not understood
├── ProgramError (RuntimeError)    a chain cannot be compiled, or its program cannot be run
├── NonFiniteError (ArithmeticError)  a program gave NaN or infinity
├── ShortOfMemoryError (MemoryError)  a program did not get the memory for a block
├── ImageReadError (OSError)       a file is not an image that can be read whole and unharmed
│   ├── CrashError                 a file that ended the process that read it, or kept it for too long
│   └── LimitError                 a valid file that is over one of the limits
│       └── DecodeMemoryError (MemoryError)  a file that needs more memory to be decoded than it is allowed
└── ImageWriteError (OSError)      a result that its file format cannot hold, or that cannot be stored

A message says the rule, what came, and the way out, and names the user's thing (file, key, network).
"""

from __future__ import annotations


class RefineError(Exception):
    """The root of everything refine raises on purpose."""


class ChainError(RefineError, ValueError):
    """Steps in an order, or with a strength, that the rules refuse."""


class PlanError(RefineError, ValueError):
    """A plan that cannot run in the memory or size it was given."""


class CardError(RefineError, ValueError):
    """A network, or what its card says of it, cannot be used."""


class PresetError(RefineError, ValueError):
    """A preset file or a single setting is not understood."""


class ProgramError(RefineError, RuntimeError):
    """A chain cannot be compiled, or its program cannot be run."""


class NonFiniteError(RefineError, ArithmeticError):
    """A program gave NaN or infinity, counted before the cast to integers hid it."""


class ShortOfMemoryError(RefineError, MemoryError):
    """A program did not get the memory for a block."""


class ImageReadError(RefineError, OSError):
    """A file is not an image that can be read whole and unharmed."""


class CrashError(ImageReadError):
    """A file that ended the process that read it, or kept it for too long."""


class LimitError(ImageReadError):
    """A valid image over one of the limits; the message names the limit and its setting."""


class DecodeMemoryError(LimitError, MemoryError):
    """A file that needs more memory to be decoded than it is allowed."""


class ImageWriteError(RefineError, OSError):
    """A result that its file format cannot hold, or that cannot be stored."""
