"""What networks there are to train. Nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

from models.training.degrade import CLEAN, ENLARGE, REPAIR, Damage


@dataclass(frozen=True, slots=True)
class Architecture:
    """What decides the graph of a network, and what it is trained on."""

    scale: int
    """Output px per input px."""
    channels: int
    """Width, a multiple of 16: onnxruntime works on blocks of that many."""
    blocks: int
    """Residual blocks of two convolutions each."""
    unshuffle: int = 1
    """The picture is folded into channels by this factor first; then windows must start on multiples of it."""
    damage: Damage = CLEAN
    """What the training pictures suffer."""
    side: int = 48
    """px of the input: side of a training square."""

    @property
    def halo(self) -> int:
        """px of the input that a result depends on, each side."""
        return (2 * self.blocks + 2) * self.unshuffle

    @property
    def conditioned(self) -> bool:
        """Whether it is told how damaged its input is; one that sees clean pictures only has nothing to be told."""
        return self.damage.clean < 1

    @property
    def factor(self) -> int:
        """Output px per px of the body, along one axis."""
        return self.scale * self.unshuffle


NETS = {
    "fast-x2": Architecture(scale=2, channels=32, blocks=5),
    "fast-x4": Architecture(scale=4, channels=32, blocks=5, side=40),
    "standard-x2": Architecture(scale=2, channels=48, blocks=7),
    "standard-x4": Architecture(scale=4, channels=48, blocks=7, side=40),
    "text-x2": Architecture(scale=2, channels=32, blocks=5, damage=replace(CLEAN, pages=0.85)),
    "robust-x2": Architecture(scale=2, channels=32, blocks=5, damage=ENLARGE),
    "clean-x1": Architecture(scale=1, channels=48, blocks=3, unshuffle=2, damage=REPAIR, side=80),
}
"""Networks by id."""
