"""Operators that read or write several neighbours: convolution, pooling, resizing, padding, slices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import ceil, floor

import numpy as np

from refine.footprint import Axis, Layout, Span, count, finer
from refine.site import Site

HALF = Fraction(1, 2)


def convolution(site: Site) -> list[Layout]:
    """A window of the kernel's extent, moved by the stride."""
    if site.depends(1):
        site.far("its kernel depends on the picture")
    kernel = site.numbers("kernel_shape") or [size or 1 for size in site.shape(1)[2:]]
    axes = _windows(site, kernel)
    return [(axes[0], count(site.result()[1] or 0), *axes[2:])]


def pooling(site: Site) -> list[Layout]:
    """A window of the kernel's extent, moved by the stride, channel by channel."""
    return [_windows(site, site.numbers("kernel_shape"))]


def _windows(site: Site, kernel: Sequence[int]) -> Layout:
    axes = site.axes(0)
    if site.node.op_type.startswith("Conv"):
        site.flat(axes[1:2], "mixes rows or columns that stand in the place of channels")
    strides = site.numbers("strides") or [1] * len(kernel)
    dilations = site.numbers("dilations") or [1] * len(kernel)
    after = list(axes[:2])
    for k, (axis, size) in enumerate(zip(axes[2:], site.result()[2:], strict=True)):
        extent = dilations[k] * (kernel[k] - 1) + 1
        total = max(((size or 0) - 1) * strides[k] + extent - (site.shape(0)[k + 2] or 0), 0)
        before = _before(site, k, total)
        after.append(site.moved(axis, size, Span.strided, extent, strides[k], before, size or 0))
    return tuple(after)


def _before(site: Site, k: int, total: int) -> int:
    """Padding before the first index of spatial axis k, where `total` makes the sizes come out."""
    match site.text("auto_pad", "NOTSET"):
        case "SAME_UPPER":
            return total // 2
        case "SAME_LOWER":
            return total - total // 2
        case "VALID":
            return 0
    pads = site.numbers("pads")
    return pads[k] if pads else 0


def transposed_convolution(site: Site) -> list[Layout]:
    """Every index writes a window of the kernel's extent, a stride apart."""
    if site.depends(1):
        site.far("its kernel depends on the picture")
    axes = site.axes(0)
    site.flat(axes[1:2], "mixes rows or columns that stand in the place of channels")
    kernel = site.numbers("kernel_shape") or [size or 1 for size in site.shape(1)[2:]]
    strides = site.numbers("strides") or [1] * len(kernel)
    dilations = site.numbers("dilations") or [1] * len(kernel)
    extra = site.numbers("output_padding") or [0] * len(kernel)
    after = [axes[0], count(site.result()[1] or 0)]
    for k, (axis, size) in enumerate(zip(axes[2:], site.result()[2:], strict=True)):
        extent = dilations[k] * (kernel[k] - 1) + 1
        before = _before(site, k, 0)
        if site.numbers("output_shape") or site.text("auto_pad", "NOTSET").startswith("SAME"):
            total = strides[k] * ((site.shape(0)[k + 2] or 0) - 1) + extra[k] + extent - (size or 0)
            upper = site.text("auto_pad", "NOTSET") == "SAME_UPPER"
            before = total // 2 if upper else total - total // 2
        after.append(site.moved(axis, size, Span.transposed, extent, strides[k], before, size or 0))
    return [tuple(after)]


def depth_to_space(site: Site) -> list[Layout]:
    """Channels become phases of rows and columns."""
    block = site.number("blocksize", 1)
    batch, channels, *rest = site.axes(0)
    site.flat([channels], "mixes rows or columns that stand in the place of channels")
    return [(batch, count(site.result()[1] or 0), *(finer(axis, block) for axis in rest))]


def space_to_depth(site: Site) -> list[Layout]:
    """Phases of rows and columns become channels."""
    block = site.number("blocksize", 1)
    batch, _, *rest = site.axes(0)
    sizes = site.result()
    coarse = [
        site.moved(axis, size, Span.strided, block, block, 0, size or 0)
        for axis, size in zip(rest, sizes[2:], strict=True)
    ]
    return [(batch, count(sizes[1] or 0), *coarse)]


def padding(site: Site) -> list[Layout]:
    """A shift; whatever is filled in, mirrored or repeated is spoiled."""
    pads = site.listed("pads", 1)
    chosen = site.listed("axes", 3)
    rank = len(site.axes(0))
    if pads is None or chosen is None:
        site.far("its size is not constant")
        return [site.guess()]
    places = [axis % rank for axis in chosen] or list(range(rank))
    before = dict(zip(places, pads[: len(places)], strict=True))
    return [_shifted(site, before)]


def _shifted(site: Site, before: dict[int, int]) -> Layout:
    return tuple(
        axis
        if size == site.shape(0)[k] and not before.get(k)
        else site.moved(axis, size, Span.shifted, before.get(k, 0), size or 0)
        for k, (axis, size) in enumerate(zip(site.axes(0), site.result(), strict=True))
    )


def slicing(site: Site) -> list[Layout]:
    """Every step-th index from the first."""
    firsts, chosen, steps = site.listed("starts", 1), site.listed("axes", 3), site.listed("steps", 4)
    rank = len(site.axes(0))
    if firsts is None or chosen is None or steps is None:
        site.far("where it cuts is not constant")
        return [site.guess()]
    places = [axis % rank for axis in chosen] or list(range(len(firsts)))
    axes = list(site.axes(0))
    for place, first, step in zip(places, firsts, steps or [1] * len(firsts), strict=True):
        whole, size = site.shape(0)[place] or 0, site.result()[place]
        start = min(max(first + whole, 0) if first < 0 else first, whole)
        if step < 1:
            site.flat([axes[place]], "turns rows or columns round")
        elif start or step > 1 or size != whole:
            axes[place] = site.moved(axes[place], size, Span.strided, 1, step, -start, size or 0)
    return [tuple(axes)]


def resizing(site: Site) -> list[Layout]:
    """Resize and Upsample: nearest neighbour, linear, cubic."""
    sizes = site.result()
    scales = _scales(site)
    return [
        tuple(
            axis if size == site.shape(0)[k] else _sampled(site, axis, size or 0, scales[k])
            for k, (axis, size) in enumerate(zip(site.axes(0), sizes, strict=True))
        )
    ]


def _scales(site: Site) -> list[Fraction]:
    """New indices for each old one, axis by axis: as written, or from the sizes."""
    scales = [Fraction(new or 1, old or 1) for old, new in zip(site.shape(0), site.result(), strict=True)]
    written = site.data(1 if site.node.op_type == "Upsample" or site.opset < 11 else 2)
    if written is None or not written.size:
        return scales
    chosen = [axis % len(scales) for axis in site.numbers("axes")] or list(range(len(scales)))
    for axis, value in zip(chosen, written.reshape(-1).tolist(), strict=True):
        scales[axis] = Fraction(float(value)).limit_denominator(1000)
    return scales


def _sampled(site: Site, axis: Axis, size: int, by: Fraction) -> Axis:
    old = site.node.op_type == "Upsample" or site.opset < 11
    mode = site.text("mode", "nearest")
    coordinates = "asymmetric" if old else site.text("coordinate_transformation_mode", "half_pixel")
    if coordinates in ("align_corners", "tf_crop_and_resize"):
        site.flat([axis], f"{coordinates} puts its samples where the size of the picture says")
    elif mode != "nearest" and not _weights_recur(by):
        site.flat([axis], f"at scale {by} its weights are rounded in another way at every position")
    add = 0 if coordinates == "asymmetric" else HALF
    take = HALF if add and coordinates != "tf_half_pixel_for_nn" else 0

    def place(index: int) -> Fraction:
        return (index + add) / by - take

    shrink = max(1 / by, Fraction(1)) if site.number("antialias", 0) else Fraction(1)
    nearest = "either" if old else site.text("nearest_mode", "round_prefer_floor")
    first, last = _taps(mode, nearest, shrink)
    return site.moved(axis, size, Span.sampled, by, lambda j: first(place(j)), lambda j: last(place(j)), size)


Tap = Callable[[Fraction], int]


def _taps(mode: str, nearest: str, shrink: Fraction) -> tuple[Tap, Tap]:
    """First and last index that are read for a place between indices."""
    reach = {"linear": 1, "cubic": 2}.get(mode)
    if reach is not None:
        # A tap at exactly `reach` has weight 0.
        return lambda place: floor(place - reach * shrink) + 1, lambda place: ceil(place + reach * shrink) - 1
    either: dict[str, tuple[Tap, Tap]] = {
        "floor": (floor, floor),
        "ceil": (ceil, ceil),
        "round_prefer_floor": (lambda place: ceil(place - HALF),) * 2,
        "round_prefer_ceil": (lambda place: floor(place + HALF),) * 2,
    }
    return either.get(nearest, (floor, ceil))


def _weights_recur(by: Fraction) -> bool:
    """Whether float32 gives the places of a resize without rounding, so that a tile gets the weights of the whole.

    At scale 3 it does not: two thirds of the values of a tile come out different, by up to 5e-5 of full scale.
    """
    indices = np.arange(1 << 15, dtype=np.float32) + np.float32(0.5)
    exact = indices.astype(np.float64) * by.denominator / by.numerator
    return bool(np.array_equal(indices / np.float32(by), exact))
