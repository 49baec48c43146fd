"""The networks: 3x3 convolutions, ReLU, residual blocks, no operation over the whole picture."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.training.architecture import Architecture


class Convolution(nn.Module):
    """A 3x3 convolution whose kernel is held as a matrix (target, 9 source), for an optimiser that learns matrices."""

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        usual = nn.Conv2d(source, target, 3)
        self.weight = nn.Parameter(usual.weight.detach().flatten(1).clone())
        self.bias = nn.Parameter(usual.bias.detach().clone())  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        """(n, source, y, x) to (n, target, y, x), zeros beyond the edge."""
        kernel = self.weight.unflatten(1, (-1, 3, 3)).contiguous(memory_format=torch.channels_last)
        return functional.conv2d(x, kernel, self.bias, padding=1)


class Block(nn.Module):
    """x + conv(relu(conv(x))). The second convolution starts at zero: a deep network starts as a shallow one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a = Convolution(channels, channels)
        self.b = Convolution(channels, channels)
        for start in self.b.parameters():
            nn.init.zeros_(start)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, y, x) in and out."""
        residual: Tensor = self.b(functional.relu(self.a(x)))
        return x + residual


class Net(nn.Module):
    """Picture (n, 3, y, x) in 0..1 and strength (n, 2) to picture (n, 3, scale y, scale x), not clipped.

    A strength is added behind the first convolution as one number per channel. That is what constant planes beside
    the picture come to, without the borders that zero padding gives them.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        width = architecture.channels
        self.head = Convolution(3 * architecture.unshuffle**2, width)
        self.strength = nn.Linear(2, width, bias=False) if architecture.conditioned else None
        self.body = nn.Sequential(*(Block(width) for _ in range(architecture.blocks)))
        self.tail = Convolution(width, 3 * architecture.factor**2)
        if self.strength is not None:
            nn.init.zeros_(self.strength.weight)
        for start in self.tail.parameters():
            nn.init.normal_(start, std=1e-3)

    def features(self, image: Tensor, strength: Tensor) -> Tensor:
        """What the tail sees, (n, channels, y, x) of the body."""
        folded = functional.pixel_unshuffle(image, self.architecture.unshuffle)
        head: Tensor = self.head(folded)
        if self.strength is not None:
            head = head + self.strength(strength)[:, :, None, None]
        body: Tensor = self.body(head)
        return body

    def forward(self, image: Tensor, strength: Tensor) -> Tensor:
        """The enlarged or repaired picture: the source, repeated, plus what the network predicts."""
        net = self.architecture
        folded = functional.pixel_unshuffle(image, net.unshuffle)
        skip = folded.repeat_interleave(net.scale**2, dim=1)
        return functional.pixel_shuffle(self.tail(self.features(image, strength)) + skip, net.factor)


def parameters(net: nn.Module) -> int:
    """Number of weights."""
    return sum(p.numel() for p in net.parameters())


def matrices(net: nn.Module) -> list[nn.Parameter]:
    """The kernels of the body: those that are learnt as matrices."""
    return [p for name, p in net.named_parameters() if name.startswith("body.") and p.ndim == 2]


def kernels(weights: Mapping[str, Tensor]) -> dict[str, NDArray[np.float32]]:
    """Weights as files hold them: a convolution's kernel as (target, source, 3, 3)."""
    shaped = {
        name: value.unflatten(1, (-1, 3, 3)) if value.ndim == 2 and not name.startswith("strength") else value
        for name, value in weights.items()
    }
    return {name: value.detach().contiguous().numpy() for name, value in shaped.items()}


def warm_started(net: Net, weights: Mapping[str, Tensor]) -> list[str]:
    """Take over the weights of a network of the same kind, as wide or narrower, as deep or shallower.

    The new network starts as a function equal to the old one: channels that are new have no say in the old ones, and
    new blocks add nothing, until they are learnt (net2net, Chen and others, ICLR 2016). Gives the names of the weights
    that were not found, or belong to another scale.
    """
    state = net.state_dict()
    fitting = {
        name: _grown(state[name], value, name)
        for name, value in weights.items()
        if name in state and _fits(state[name], value, name)
    }
    net.load_state_dict({**state, **fitting})
    return sorted(set(state) - set(fitting))


def _fits(new: Tensor, old: Tensor, name: str) -> bool:
    """Whether older weights fill the first channels of newer ones; of the tail, whose targets are px, all of them."""
    if name.startswith("tail"):
        return len(old) == len(new) and old.numel() <= new.numel()
    if name.startswith(("head", "strength")) and old.numel() * len(new) != new.numel() * len(old):
        return False  # other sources: the picture is folded otherwise
    return len(old) <= len(new) and old.numel() <= new.numel()


def _grown(new: Tensor, old: Tensor, name: str) -> Tensor:
    """`new` with `old` in its first channels; what is new among the sources has no say in the old targets."""
    if new.ndim == 1:
        return torch.cat([old, new[len(old) :]])
    taps = 1 if name.startswith("strength") else 9
    grown = new.reshape(len(new), -1, taps).clone()
    given = old.reshape(len(old), -1, taps)
    grown[: len(old)] = 0
    grown[: len(old), : given.shape[1]] = given
    return grown.reshape(new.shape)


def seeded(architecture: Architecture, seed: int) -> Net:
    """A new network whose first weights depend on the seed alone."""
    torch.manual_seed(seed)
    return Net(architecture)
