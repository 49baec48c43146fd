"""A draw that names alone decide: the same catalog gives the same sample, whatever the order it comes in."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Generic, TypeVar

SAMPLE = 48
"""How many are drawn: what somebody may look through."""

Value = TypeVar("Value")


@dataclass(slots=True)
class Draw(Generic[Value]):
    """Some of many, in memory that does not grow with them."""

    size: int = SAMPLE
    """How many."""
    _kept: list[tuple[int, int, bytes, int, Value]] = field(default_factory=list)
    """A heap, whose first would be the first to go."""
    _seen: int = 0

    def take(self, name: bytes, value: Value, *, first: bool = False) -> None:
        """Have one take part; first: before all that are not."""
        self._seen += 1
        rank = int.from_bytes(sha256(name).digest()[:8], "big")
        if len(self._kept) == self.size and (int(first), -rank) < self._kept[0][:2]:
            return
        entry = (int(first), -rank, name, self._seen, value)
        if len(self._kept) < self.size:
            heapq.heappush(self._kept, entry)
        else:
            heapq.heappushpop(self._kept, entry)

    def drawn(self) -> list[Value]:
        """Those that were drawn, by name, in the order they came where names are the same."""
        return [value for *_, value in sorted(self._kept, key=lambda entry: entry[2:4])]
