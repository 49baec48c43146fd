"""Second chances for images in trouble: in smaller blocks, and with nothing beside them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from pipelines.items import Failure, Restore
from refine.settings import Settings

LEAST_BLOCK = 128
"""px: what is computed at once where there was not the memory for more."""
_WHOLE = ("read", "assess", "ingest")
"""Stages whose memory no block decides."""


@dataclass(frozen=True, slots=True)
class Chance:
    """An image that is to be tried again."""

    item: Restore
    """As it is to be tried."""
    alone: bool
    """Whether with nothing beside it."""

    @property
    def how(self) -> str:
        """What is different this time."""
        return "with nothing beside it" if self.alone else f"in blocks of {LEAST_BLOCK} px"


@dataclass(slots=True)
class Chances:
    """Who has had which chance in this run."""

    waiting: deque[Chance] = field(default_factory=deque)
    """To be handed out."""
    _tried: dict[tuple[str, str], int] = field(default_factory=dict)
    _alone: set[tuple[str, str]] = field(default_factory=set)

    def another(self, item: Restore, failure: Failure, attempts: int = 1) -> Chance | None:
        """The next chance of an image that has failed; None where there is none left, or none would help."""
        name = item.path, item.rendition
        self._tried[name] = self._tried.get(name, 0) + attempts
        if failure.kind not in ("resource", "poison"):
            return None
        block = min(item.settings.preset.plan.block, item.settings.preset.plan.tile)
        if failure.kind == "resource" and failure.stage not in _WHOLE and block > LEAST_BLOCK:
            return Chance(_smaller(item), alone=False)
        if name in self._alone:
            return None
        self._alone.add(name)
        return Chance(item, alone=True)

    def is_alone(self, item: Restore) -> bool:
        """Whether an image has to be worked on with nothing beside it."""
        return (item.path, item.rendition) in self._alone

    def attempts(self, item: Restore) -> int:
        """How often an image has failed so far."""
        return self._tried.get((item.path, item.rendition), 0)


def asked_key(item: Restore) -> str:
    """The key of an image as it was asked for."""
    return item.key.partition("/")[0]


def note(item: Restore) -> tuple[str, ...]:
    """What is to be told of a result that was made in smaller blocks than asked for."""
    if item.key == asked_key(item):
        return ()
    return (f"computed in blocks of {LEAST_BLOCK} px, for there was not the memory for larger ones",)


def _smaller(item: Restore) -> Restore:
    """An image to be begun anew in smaller blocks: another class of bytes, with shards of its own."""
    return replace(item, settings=_in_blocks(item.settings), key=f"{asked_key(item)}/block-{LEAST_BLOCK}")


def _in_blocks(settings: Settings) -> Settings:
    plan = replace(settings.preset.plan, block=LEAST_BLOCK)
    return replace(settings, preset=replace(settings.preset, plan=plan))
