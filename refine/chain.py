"""A chain: steps in an order that makes sense."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from refine.card import ModelCard, load_card
from refine.errors import ChainError
from refine.repair import Repair
from refine.resample import Resample
from refine.step import Stage, Step
from refine.upscale import Upscale

Order = Literal["checked", "as-written"]
ORDERS: tuple[Order, ...] = ("checked", "as-written")

_WHY = {
    Stage.REPAIR: "its network knows noise and JPEG blocks as the source has them",
    Stage.UPSCALE: "what was done before it is enlarged with the picture",
    Stage.RESAMPLE: "strengths are meant for the pixels of the final size",
    Stage.DENOISE: "noise that was sharpened is detail to every filter",
    Stage.SHARPEN: "final adjustments move the levels that its strengths are meant for",
    Stage.TONE: "a medium is suited with the tones that are shown on it",
}


@dataclass(frozen=True, slots=True)
class Chain:
    """Steps, applied first to last. A step of strength zero is not compiled.

    >>> from refine.sharpen import UnsharpMask
    >>> Chain((UnsharpMask(), Upscale("fast-x2")), order="as-written").scale
    2
    """

    steps: tuple[Step | Resample, ...]
    """At most one Resample; networks before it, for a tile's phase is known in px of the source only."""
    order: Order = "checked"
    """`checked` refuses any order but that of `Stage`; `as-written` means it."""

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            msg = f"order is {' or '.join(ORDERS)}, got {self.order!r}"
            raise ChainError(msg)
        resamples = [i for i, step in enumerate(self.active) if isinstance(step, Resample)]
        if len(resamples) > 1:
            msg = f"a chain resamples once, to its exact size; got {len(resamples)} resample steps: keep the last"
            raise ChainError(msg)
        late = self.active[resamples[0] :] if resamples else ()
        if found := next((step for step in late if isinstance(step, Upscale | Repair)), None):
            msg = f"{found.stage.name.lower()} stands after resample, but a network works on whole px: resample last"
            raise ChainError(msg)
        if self.order == "checked":
            self._check_order()

    def _check_order(self) -> None:
        for before, after in pairwise(self.active):
            if before.stage > after.stage:
                msg = (
                    f"{after.stage.name.lower()} stands after {before.stage.name.lower()}, but belongs before it: "
                    f"{_WHY[after.stage]}; reorder the steps, or mean it with order = 'as-written'"
                )
                raise ChainError(msg)

    @property
    def active(self) -> tuple[Step | Resample, ...]:
        """The steps that do something."""
        return tuple(s for s in self.steps if isinstance(s, Resample) or not s.is_identity)

    @property
    def scale(self) -> int:
        """The whole factor by which its networks enlarge."""
        return prod(step.scale for step in self.active if isinstance(step, Upscale))

    @property
    def cards(self) -> tuple[ModelCard, ...]:
        """The cards of its networks, first to last."""
        return tuple(load_card(step.net) for step in self.active if isinstance(step, Upscale | Repair))

    @property
    def kernel(self) -> str | None:
        """The kernel it resamples with; None where it has no Resample and so can make whole factors only."""
        return next((step.kernel for step in self.active if isinstance(step, Resample)), None)

    @property
    def structure(self) -> Hashable:
        """What decides its program. Chains that differ in strengths only share one."""
        return tuple("resample" if isinstance(s, Resample) else s.structure for s in self.active)

    def parameters(self) -> Mapping[str, NDArray[np.float32]]:
        """Values of the runtime inputs of all its steps: strengths, thresholds, kernels."""
        return {
            f"{prefix(i)}.{name}": value
            for i, step in enumerate(self.active)
            if not isinstance(step, Resample)
            for name, value in step.parameters().items()
        }


def prefix(position: int) -> str:
    """What the runtime inputs of the active step at `position` are named after."""
    return f"step{position}"
