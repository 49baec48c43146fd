"""What a step of a chain is."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from enum import IntEnum
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from refine.graph import Graph, Value


class Stage(IntEnum):
    """The order things are done in: clean what would be enlarged, enlarge, clean the rest, then raise contrast."""

    REPAIR = 1
    UPSCALE = 2
    RESAMPLE = 3
    DENOISE = 4
    SHARPEN = 5
    TONE = 6
    FINISH = 7


@runtime_checkable
class Step(Protocol):
    """One operation of a chain. Frozen data; writes its nodes into a program."""

    @property
    def stage(self) -> Stage:
        """Its place in the order."""
        ...

    @property
    def is_identity(self) -> bool:
        """Whether its strength is zero: then it is not in the graph at all."""
        ...

    @property
    def structure(self) -> Hashable:
        """What decides the nodes. Two steps with one structure share a compiled program."""
        ...

    def parameters(self) -> Mapping[str, NDArray[np.float32]]:
        """The values of its runtime inputs, by the names under which `nodes` declares those it uses."""
        ...

    def nodes(self, graph: Graph, image: Value, prefix: str, channels: int) -> Value:
        """Write the step. image is (1, channels, y, x) float32, full scale = 1; so is what comes back.

        channels is 1 (grey) or 3 (RGB). Runtime inputs are declared as `prefix.name`.
        """
        ...
