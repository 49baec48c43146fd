"""Write the small networks of this folder, each with both of torch's exporters.

The tests read what lies here and never import torch. To make the files again, in an environment of their own:

    python3 -m venv /tmp/torchenv
    /tmp/torchenv/bin/pip install torch onnx onnxscript numpy
    /tmp/torchenv/bin/python tests/graphs/make_graphs.py
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own habit)
from torch import Tensor, nn

FOLDER = Path(__file__).parent
WIDTH = 6
STEPS = {"windows": 4, "unshuffle": 4, "pooled": 4}
"""px that height and width must be multiples of."""


def conv(inputs: int, outputs: int, kernel: int = 3, **options: int) -> nn.Conv2d:
    """A convolution that keeps the size, unless `options` say otherwise."""
    return nn.Conv2d(inputs, outputs, kernel, **{"padding": kernel // 2, **options})


class Network(nn.Module):
    """Head, a body of any kind, tail."""

    def __init__(self, body: nn.Module | Callable[[Tensor], Tensor], tail: nn.Module, head: nn.Module | None = None):
        super().__init__()
        self.head = head or conv(3, WIDTH)
        self.body = body
        self.tail = tail

    def forward(self, image: Tensor) -> Tensor:
        """Features, body, picture."""
        return self.tail(self.body(self.head(image)))


class Interpolated(nn.Module):
    """Enlarged by a factor, or to a size computed from the input's."""

    def __init__(self, mode: str, *, by_size: bool):
        super().__init__()
        self.mode, self.by_size = mode, by_size

    def forward(self, image: Tensor) -> Tensor:
        """Twice as large."""
        align = None if self.mode == "nearest" else False
        if self.by_size:
            size = (2 * image.shape[2], 2 * image.shape[3])
            return F.interpolate(image, size=size, mode=self.mode, align_corners=align)
        return F.interpolate(image, scale_factor=2, mode=self.mode, align_corners=align)


class Shuffled(nn.Module):
    """Pixel shuffle by hand."""

    def forward(self, image: Tensor) -> Tensor:
        """Channels in fours become 2x2 px."""
        n, c, y, x = image.shape
        phases = image.view(n, c // 4, 2, 2, y, x)
        return phases.permute(0, 1, 4, 2, 5, 3).reshape(n, c // 4, 2 * y, 2 * x)


class ChannelNorm(nn.Module):
    """LayerNorm and a linear layer on channels that stand last."""

    def __init__(self):
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, image: Tensor) -> Tensor:
        """Each pixel apart."""
        pixels = image.permute(0, 2, 3, 1)
        return image + F.gelu(self.mix(self.norm(pixels))).permute(0, 3, 1, 2)


class WindowAttention(nn.Module):
    """Attention within windows of 4x4 px."""

    def forward(self, image: Tensor) -> Tensor:
        """Reach: the window."""
        n, c, y, x = image.shape
        cut = image.view(n, c, y // 4, 4, x // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
        mixed = torch.softmax(cut @ cut.transpose(1, 2), -1) @ cut
        return image + mixed.view(n, y // 4, x // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, y, x)


class PixelAttention(nn.Module):
    """Every pixel looks at every other."""

    def forward(self, image: Tensor) -> Tensor:
        """No finite reach."""
        pixels = image.flatten(2).transpose(1, 2)
        mixed = torch.softmax(pixels @ pixels.transpose(1, 2), -1) @ pixels
        return image + mixed.transpose(1, 2).reshape(image.shape)


class Gate(nn.Module):
    """The picture times a sigmoid of something made from it."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        """Gated."""
        return image * torch.sigmoid(self.layers(image))


def shuffle() -> nn.Module:
    """A tail of scale 2."""
    return nn.Sequential(conv(WIDTH, 12), nn.PixelShuffle(2))


def networks() -> dict[str, nn.Module]:
    """The networks, by the name of their files."""
    body = nn.Sequential(conv(WIDTH, WIDTH), nn.PReLU(), conv(WIDTH, WIDTH, dilation=2, padding=2), nn.SiLU())
    unshuffled = nn.Sequential(nn.PixelUnshuffle(2), conv(12, WIDTH))
    up = nn.ConvTranspose2d(WIDTH, 3, 4, stride=2, padding=1)
    squeeze = Gate(nn.AdaptiveAvgPool2d(1), conv(WIDTH, WIDTH, 1))
    return {
        "shuffle": Network(body, shuffle()),
        "unshuffle": Network(conv(WIDTH, WIDTH), nn.Sequential(conv(WIDTH, 48), nn.PixelShuffle(4)), unshuffled),
        "transposed": Network(Gate(conv(WIDTH, WIDTH)), up),
        "nearest": Network(Interpolated("nearest", by_size=False), conv(WIDTH, 3)),
        "bilinear_size": Network(Interpolated("bilinear", by_size=True), conv(WIDTH, 3)),
        "bicubic_size": Network(Interpolated("bicubic", by_size=True), conv(WIDTH, 3)),
        "by_hand": Network(ChannelNorm(), nn.Sequential(conv(WIDTH, 12), Shuffled())),
        "pooled": Network(nn.Sequential(nn.MaxPool2d(2), Interpolated("bilinear", by_size=False)), shuffle()),
        "windows": Network(WindowAttention(), shuffle()),
        "squeeze": Network(squeeze, shuffle()),
        "attention": Network(PixelAttention(), shuffle()),
        "instance_norm": Network(nn.InstanceNorm2d(WIDTH, affine=True), shuffle()),
    }


def export_both(name: str, network: nn.Module) -> None:
    """Write NAME-script.onnx by the old exporter and NAME-dynamo.onnx by the new, height and width open."""
    image = torch.rand(1, 3, 32, 48)
    names = {"input_names": ["image"], "output_names": ["enlarged"]}
    axes = {"image": {2: "y", 3: "x"}}
    file = str(FOLDER / f"{name}-script.onnx")
    torch.onnx.export(network, (image,), file, dynamo=False, opset_version=17, dynamic_axes=axes, **names)
    # The new exporter wants to be told what goes into height and width.
    step = STEPS.get(name, 1)
    sides = {2: torch.export.Dim("y", min=2, max=4096), 3: torch.export.Dim("x", min=2, max=4096)}
    shapes = {"image": {axis: step * side if step > 1 else side for axis, side in sides.items()}}
    program = torch.onnx.export(network, (image,), dynamo=True, opset_version=18, dynamic_shapes=shapes, **names)
    model = program.model_proto
    # Traces of the source files, with their paths.
    for node in model.graph.node:
        del node.metadata_props[:]
    del model.metadata_props[:], model.graph.value_info[:], model.graph.metadata_props[:]
    onnx.save(model, FOLDER / f"{name}-dynamo.onnx")


def main() -> None:
    """Write every network."""
    torch.manual_seed(0)
    for name, network in networks().items():
        export_both(name, network.eval())


if __name__ == "__main__":
    main()
