"""What refine must equal: the whole picture by np.pad, onnxruntime, scipy and float64. Shares no code with it.

Pictures here are float64 (y, x, c), full scale 1. A picture stands for an endless one, mirrored at its edges; a `Sheet`
is a piece of that, wide enough that the edges of the piece spoil nothing that is looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import ceil, floor, pi, sin
from pathlib import Path

import numpy as np
import onnxruntime as ort
from scipy import ndimage

NETS = Path(__file__).parents[1] / "models" / "nets"
LUMA = np.array([0.299, 0.587, 0.114])
FLAT_RADIUS = 3
NET_RADIUS = 12


@dataclass(frozen=True)
class Sheet:
    """A piece of an endless mirrored picture."""

    pixels: np.ndarray
    """(y, x, c), float64."""
    margin: tuple[int, int]
    """Where the picture's first pixel lies in it, px down and across."""
    size: tuple[int, int]
    """Height, width of the picture itself."""

    @classmethod
    def of(cls, picture: np.ndarray, margin: int) -> Sheet:
        """The picture with `margin` mirrored px on every side."""
        around = ((margin, margin), (margin, margin), (0, 0))
        return cls(np.pad(picture, around, mode="reflect"), (margin, margin), picture.shape[:2])

    def over(self, pixels: np.ndarray, scale: int = 1) -> Sheet:
        """New pixels in the place of these, `scale` times as many down and across."""
        y, x = self.margin
        return Sheet(pixels, (y * scale, x * scale), (self.size[0] * scale, self.size[1] * scale))

    @property
    def picture(self) -> np.ndarray:
        """What is left when the margin is cut off."""
        (y, x), (height, width) = self.margin, self.size
        return self.pixels[y : y + height, x : x + width]


@cache
def network(net: str) -> ort.InferenceSession:
    """The raw network, as its file has it."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(NETS / f"{net}.onnx", options, providers=["CPUExecutionProvider"])


def upscaled(sheet: Sheet, net: str) -> Sheet:
    """The network on the whole sheet, and what it is not allowed: to change a flat field, or to colour grey."""
    rgb = np.repeat(sheet.pixels, 3, axis=2) if sheet.pixels.shape[2] == 1 else sheet.pixels
    fed = np.ascontiguousarray(rgb.astype(np.float32).transpose(2, 0, 1)[None])
    enlarged = network(net).run(None, {network(net).get_inputs()[0].name: fed})[0][0].transpose(1, 2, 0)
    scale = enlarged.shape[0] // rgb.shape[0]
    enlarged = np.clip(enlarged, 0, 1).astype(np.float64)
    grey = (enlarged @ LUMA)[:, :, None]
    side = 2 * FLAT_RADIUS + 1
    spread = ndimage.maximum_filter(rgb, (side, side, 1)) - ndimage.minimum_filter(rgb, (side, side, 1))
    coloured = ndimage.maximum_filter(np.ptp(rgb, axis=2), 2 * NET_RADIUS + 1) > 0
    flat, coloured = (_nearest(mask, scale)[:, :, None] for mask in (spread.max(axis=2) == 0, coloured))
    result = np.where(flat, _nearest(rgb, scale), np.where(coloured, enlarged, grey))
    return sheet.over(result[:, :, : sheet.pixels.shape[2]], scale)


def _nearest(pixels: np.ndarray, scale: int) -> np.ndarray:
    return pixels.repeat(scale, axis=0).repeat(scale, axis=1)


def resampled(sheet: Sheet, size: tuple[int, int], kernel: str, margin: int, *, monotone: bool = False) -> Sheet:
    """The picture at its exact size, with `margin` px of the result round it; antialiased, clipped to 0..1.

    monotone: no result leaves the range of the pixels under the middle of its kernel, in either direction.
    """
    ratios, boxes = _ratios(sheet, size)
    return _lines(
        Sheet(in_boxes(sheet.pixels, sheet, boxes), sheet.margin, sheet.size),
        ratios,
        boxes,
        size,
        kernel,
        margin,
        monotone=monotone,
    )


def _ratios(sheet: Sheet, size: tuple[int, int]) -> tuple[list[Fraction], list[int]]:
    """Px of the picture per px of the result, and the boxes that are averaged first."""
    ratios = [Fraction(sheet.size[axis], size[axis]) for axis in (0, 1)]
    # Shrinking by 3 or more averages boxes first: as many whole px as leave 1.5x to the kernel.
    return ratios, [max(1, floor(ratio * 2 / 3)) if ratio > 2 else 1 for ratio in ratios]


def in_boxes(pixels: np.ndarray, sheet: Sheet, boxes: list[int]) -> np.ndarray:
    """The means of boxes, which begin at the picture's first pixel."""
    for axis in (0, 1):
        pixels = np.moveaxis(_boxed(np.moveaxis(pixels, axis, 0), sheet.margin[axis], boxes[axis]), 0, axis)
    return pixels


def _lines(
    sheet: Sheet,
    ratios: list[Fraction],
    boxes: list[int],
    size: tuple[int, int],
    kernel: str,
    margin: int,
    *,
    monotone: bool,
) -> Sheet:
    """The kernel, over boxes."""
    pixels = sheet.pixels
    for axis in (0, 1):
        turned = np.moveaxis(pixels, axis, 0)
        line = _line(turned, sheet.margin[axis] // boxes[axis], ratios[axis] / boxes[axis], kernel, monotone=monotone)
        made = [line(row) for row in range(-margin, size[axis] + margin)]
        pixels = np.moveaxis(np.stack(made), 0, axis)
    return Sheet(np.clip(pixels, 0, 1), (margin, margin), size)


def _boxed(pixels: np.ndarray, offset: int, box: int) -> np.ndarray:
    pixels = pixels[offset % box :]
    return pixels[: len(pixels) // box * box].reshape(-1, box, *pixels.shape[1:]).mean(axis=1)


def _line(
    pixels: np.ndarray, offset: int, ratio: Fraction, kernel: str, *, monotone: bool
) -> Callable[[int], np.ndarray]:
    """Makes a line of the result by a direct sum over what lies under its kernel."""
    stretch = max(Fraction(1), ratio)
    reach = {"lanczos3": 3, "bicubic": 2}[kernel] * stretch
    half = -(-ceil(2 * reach) // 2)

    def line(row: int) -> np.ndarray:
        centre = (row + Fraction(1, 2)) * ratio - Fraction(1, 2)
        first = floor(centre - reach) + 1
        shares = np.array([_kernel(float((first + i - centre) / stretch), kernel) for i in range(2 * half)])
        # The sheet may end where only lines are made that are not looked at.
        at = np.clip(np.arange(first, first + 2 * half) + offset, 0, len(pixels) - 1)
        total = np.tensordot(shares / shares.sum(), pixels[at], 1)
        middle = pixels[at[half - ceil(half / 3) : half + ceil(half / 3)]]
        return np.clip(total, middle.min(axis=0), middle.max(axis=0)) if monotone else total

    return line


def _kernel(x: float, name: str) -> float:
    x = abs(x)
    if name == "lanczos3":
        return 1.0 if x == 0 else 3 * sin(pi * x) * sin(pi * x / 3) / (pi * x) ** 2 if x < 3 else 0.0
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def denoised(sheet: Sheet, luma: float, chroma: float, radius: int) -> Sheet:
    """The guided filter of He et al., each plane its own guide, on luma and the two colour differences."""
    planes = sheet.pixels if sheet.pixels.shape[2] == 1 else to_planes(sheet.pixels)
    strengths = [luma, chroma, chroma][: planes.shape[2]]
    clean = [
        guided(planes[:, :, i], radius, (2 * s / 255) ** 2) if s else planes[:, :, i] for i, s in enumerate(strengths)
    ]
    result = np.stack(clean, axis=2)
    return sheet.over(result if result.shape[2] == 1 else from_planes(result))


def guided(plane: np.ndarray, radius: int, eps: float) -> np.ndarray:
    """He, Sun, Tang 2010, with the plane as its own guide; a variance has a floor of 1e-12."""

    def mean(values: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(values, 2 * radius + 1)

    average = mean(plane)
    variance = np.maximum(mean(plane**2) - average**2, 0)
    gain = variance / (variance + eps + 1e-12)
    return mean(gain) * plane + mean((1 - gain) * average)


def to_planes(rgb: np.ndarray) -> np.ndarray:
    """Luma, R - G, B - G."""
    return np.stack([rgb @ LUMA, rgb[:, :, 0] - rgb[:, :, 1], rgb[:, :, 2] - rgb[:, :, 1]], axis=2)


def from_planes(planes: np.ndarray) -> np.ndarray:
    """RGB again, by the inverse of the matrix."""
    forward = np.array([LUMA, [1, -1, 0], [0, -1, 1]])
    return planes @ np.linalg.inv(forward).T


def sharpened(sheet: Sheet, sigma: float, amount: float, threshold: float, overshoot: float) -> Sheet:
    """Unsharp mask on luma: soft threshold on the detail, and a cap beyond the neighbourhood's extrema."""
    pixels = sheet.pixels
    luma = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels @ LUMA
    reach = ceil(3 * sigma)
    detail = luma - ndimage.gaussian_filter(luma, sigma, radius=reach)
    cored = np.sign(detail) * np.maximum(np.abs(detail) - threshold, 0)
    side = 2 * max(1, round(sigma)) + 1
    low, high = ndimage.minimum_filter(luma, side) - overshoot, ndimage.maximum_filter(luma, side) + overshoot
    return sheet.over(pixels + (np.clip(luma + amount * cored, low, high) - luma)[:, :, None])


def extended(sheet: Sheet, radius: int) -> Sheet:
    """Colour under (almost) transparent pixels from the visible ones near: the nearest of a few boxes that has any."""
    colour, alpha = sheet.pixels[:, :, :-1], sheet.pixels[:, :, -1:]
    filled = None
    for step in sorted({radius, *(r for r in (2, 6) if r < radius)}, reverse=True):
        share = _mean(alpha, step)
        mean = _mean(colour * alpha, step) / np.maximum(share, 1e-6)
        filled = mean if filled is None else np.where(share > 1e-6, mean, filled)
    return sheet.over(np.where(alpha >= 1 / 32, colour, filled))


def _mean(pixels: np.ndarray, radius: int) -> np.ndarray:
    """Box mean without running sums, which leave crumbs where everything is zero."""
    box = np.full(2 * radius + 1, 1 / (2 * radius + 1))
    return ndimage.correlate1d(ndimage.correlate1d(pixels, box, axis=0), box, axis=1)


def restored(
    pixels: np.ndarray, size: tuple[int, int], steps: list[tuple], radius: int = 0, margin: int = 40
) -> np.ndarray:
    """The picture (y, x, c) in 0..1 that the steps make of integer pixels, before it is rounded.

    A step is its function's name and further arguments: ("sharpened", sigma, amount, threshold, overshoot).
    radius says how far colour is extended under alpha; 0: not at all. margin is what the steps after the
    resampling may spoil, px.
    """
    shrink = max(pixels.shape[axis] / size[axis] for axis in (0, 1))
    sheet = Sheet.of(pixels / np.iinfo(pixels.dtype).max, ceil((margin + 8) * max(shrink, 1)) + 40 + 2 * radius)
    alpha = None
    ratios, boxes = _ratios(sheet, size)
    if max(boxes) > 1 and steps[0][0] == "resampled" and pixels.shape[2] in (2, 4):
        return _shrunk(sheet, ratios, boxes, size, steps, radius, margin)
    if pixels.shape[2] in (2, 4):
        alpha = sheet.over(sheet.pixels[:, :, -1:])
        sheet = extended(sheet, radius) if radius else sheet.over(sheet.pixels[:, :, :-1])
    kernel = "lanczos3"
    for name, *arguments in steps:
        if name == "resampled":
            kernel = arguments[0]
            sheet = sheet if sheet.size == size else resampled(sheet, size, kernel, margin)
        else:
            sheet = {"upscaled": upscaled, "denoised": denoised, "sharpened": sharpened}[name](sheet, *arguments)
    if alpha is None:
        return np.clip(sheet.picture, 0, 1)
    alpha = alpha if alpha.size == size else resampled(alpha, size, kernel, 0, monotone=True)
    return np.concatenate([np.clip(sheet.picture, 0, 1), alpha.picture], axis=2)


def _shrunk(
    sheet: Sheet,
    ratios: list[Fraction],
    boxes: list[int],
    size: tuple[int, int],
    steps: list[tuple],
    radius: int,
    margin: int,
) -> np.ndarray:
    """`restored` of a cut-out that is brought to boxes first: a box has the colour of what is seen of it."""
    shares = in_boxes(sheet.pixels[:, :, -1:], sheet, boxes)
    seen = in_boxes(sheet.pixels[:, :, :-1] * sheet.pixels[:, :, -1:], sheet, boxes)
    colour = np.divide(seen, shares, out=np.zeros_like(seen), where=shares > 0)
    means = Sheet(np.concatenate([colour, shares], axis=2), sheet.margin, sheet.size)
    (_, kernel), *others = steps
    made = _lines(extended(means, radius), ratios, boxes, size, kernel, margin, monotone=False)
    for name, *arguments in others:
        made = {"denoised": denoised, "sharpened": sharpened}[name](made, *arguments)
    alpha = _lines(Sheet(shares, sheet.margin, sheet.size), ratios, boxes, size, kernel, 0, monotone=True)
    return np.concatenate([np.clip(made.picture, 0, 1), alpha.picture], axis=2)
