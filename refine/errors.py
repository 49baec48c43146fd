"""Everything refine raises on purpose.

RefineError
├── ChainError (ValueError)        steps in an order, or with a strength, that the rules refuse
├── PlanError (ValueError)         a plan that cannot run in the memory or size it was given
├── CardError (ValueError)         a network, or what its card says of it, cannot be used
├── PresetError (ValueError)       a preset file or a --set value is not understood
├── ProgramError (RuntimeError)    a chain cannot be compiled, or its program cannot be run
├── NonFiniteError (ArithmeticError)  a program gave NaN or infinity
├── ImageReadError (OSError)       a file is not an image that can be read whole and unharmed
│   └── LimitError                 a valid file that is over one of the limits
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


class ImageReadError(RefineError, OSError):
    """A file is not an image that can be read whole and unharmed."""


class LimitError(ImageReadError):
    """A valid image over one of the limits; the message names the limit and its setting."""


class ImageWriteError(RefineError, OSError):
    """A result that its file format cannot hold, or that cannot be stored."""
