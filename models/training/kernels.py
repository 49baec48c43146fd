"""Resampling and blurring as matrices, as the benchmarks of the field define them.

A matrix works on one axis, so a picture is `rows @ picture @ columns.T`. Past its edge a picture is mirrored.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Values = NDArray[np.float64]


def cubic(x: Values) -> Values:
    """Keys' cubic with a = -0.5, which MATLAB's imresize and the benchmarks use; OpenCV's has a = -0.75."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    weights: Values = np.where(x <= 1, near, np.where(x < 2, far, 0.0))
    return weights


def lanczos(x: Values) -> Values:
    """Lanczos with three lobes."""
    weights: Values = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)
    return weights


def triangle(x: Values) -> Values:
    """Linear interpolation."""
    weights: Values = np.maximum(0.0, 1 - np.abs(x))
    return weights


def box(x: Values) -> Values:
    """The mean over the area of a px."""
    return ((x >= -0.5) & (x < 0.5)).astype(np.float64)


KERNELS: dict[str, tuple[Callable[[Values], Values], float]] = {
    "bicubic": (cubic, 2.0),
    "lanczos": (lanczos, 3.0),
    "bilinear": (triangle, 1.0),
    "area": (box, 0.5),
}
"""Name -> kernel and its radius, px."""


@lru_cache(maxsize=256)
def resize_matrix(source: int, target: int, kernel: str = "bicubic") -> Array:
    """The matrix (target, source) that resamples an axis; widened against aliasing where it shrinks."""
    function, radius = KERNELS[kernel]
    stretch = max(1.0, source / target)
    centre = (np.arange(target) + 0.5) * source / target - 0.5
    reach = int(np.ceil(radius * stretch)) + 1
    taps = np.floor(centre)[:, None].astype(np.int64) + np.arange(-reach, reach + 1)
    weights = function((taps - centre[:, None]) / stretch)
    return _scattered(taps, weights, source)


def blur_matrix(size: int, sigma: float) -> Array:
    """The matrix (size, size) of a Gaussian blur of `sigma` px."""
    reach = int(np.ceil(4 * sigma))
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / max(sigma, 1e-6)) ** 2)
    taps = np.arange(size)[:, None] + offsets
    return _scattered(taps, np.broadcast_to(weights, taps.shape), size)


def resized(picture: Array, height: int, width: int, kernel: str = "bicubic") -> Array:
    """The picture (y, x, c) at another size, not clipped."""
    rows = resize_matrix(picture.shape[0], height, kernel)
    columns = resize_matrix(picture.shape[1], width, kernel)
    return along_axes(rows, columns, picture)


def along_axes(rows: Array, columns: Array, picture: Array) -> Array:
    """`rows` applied down the picture (y, x, c), `columns` across it."""
    planes = np.matmul(np.matmul(rows, picture.transpose(2, 0, 1)), columns.T)
    return np.ascontiguousarray(planes.transpose(1, 2, 0))


def _scattered(taps: NDArray[np.int64], weights: Values, size: int) -> Array:
    """A dense matrix from the taps of each row; taps past the edge are mirrored with the edge px repeated."""
    weights = weights / weights.sum(axis=1, keepdims=True)
    inside = taps % (2 * size)
    inside = np.where(inside < size, inside, 2 * size - 1 - inside)
    matrix = np.zeros((len(taps), size))
    np.add.at(matrix, (np.arange(len(taps))[:, None], inside), weights)
    return matrix.astype(np.float32)
