"""Finished OME-Zarr images for tests of what reads them."""

from __future__ import annotations

import numpy as np

from pipelines import omezarr
from refine.spec import ImageSpec
from refine.window import grid


def pattern(height, width, channels, dtype="uint8", seed=1):
    """Pixels (y, x, c) of smooth waves with a little noise, no two regions alike; alpha has edges."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    waves = [0.5 + 0.4 * np.sin(x / (37 + 11 * c) + y / (53 - 7 * c) + c) for c in range(channels)]
    if channels in (2, 4):
        waves[-1] = (x // 40 + y // 40) % 3 / 2
    noise = np.random.default_rng(seed).normal(0, 0.01, (height, width, channels))
    noise[..., -1] *= channels not in (2, 4)
    top = np.iinfo(dtype).max
    return np.rint(np.clip(np.stack(waves, axis=2) + noise, 0, 1) * top).astype(dtype)


def written(folder, pages, tile=512, chunk=512, **of_spec):
    """The image groups of a target that holds these pages, each (y, x, c)."""
    specs = [ImageSpec(*pixels.shape, str(pixels.dtype), **of_spec) for pixels in pages]
    groups = omezarr.create(folder, specs, tile, chunk)
    for group, pixels in zip(groups, pages, strict=True):
        pyramid = omezarr.pyramid(group)
        for window in grid(*pixels.shape[:2], tile):
            omezarr.write_tile(group, pyramid, window, pixels[window.slices])
        for level in omezarr.upper(pyramid):
            for one in level:
                omezarr.write_upper(group, pyramid, one)
    return groups
