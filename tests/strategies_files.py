"""Pictures made of numbers, and small trees of their files."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import tifffile

from refine.assess import assess


def picture(height, width, channels=3, dtype="uint8", seed=0):
    """A picture (y, x, c) with edges, ramps and grain; no two tiles of it are alike."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    planes = [
        0.5 + 0.3 * np.sin(x / (5 + 3 * c) + y / 17) + 0.15 * ((x // 23 + y // (19 + c)) % 2) for c in range(channels)
    ]
    values = np.stack(planes, 2) + rng.normal(0, 0.02, (height, width, channels))
    full = np.iinfo(dtype).max
    return np.clip(np.round(values * full), 0, full).astype(dtype)


def write_picture(path, pixels):
    """Write a picture by an encoder that refine does not choose, by the suffix of its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    squeezed = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    match path.suffix:
        case ".jpg":
            path.write_bytes(imagecodecs.jpeg8_encode(squeezed, level=95))
        case ".png":
            path.write_bytes(imagecodecs.png_encode(squeezed))
        case _:
            tifffile.imwrite(path, pixels, photometric="rgb" if pixels.shape[2] >= 3 else "minisblack")
    return path


def read_picture(path):
    """The pixels of a file, by a decoder that refine does not choose."""
    decode = {".jpg": imagecodecs.jpeg8_decode, ".png": imagecodecs.png_decode}.get(Path(path).suffix)
    return tifffile.imread(path) if decode is None else decode(Path(path).read_bytes())


def small_tree(folder, count=5):
    """A tree with `count` small pictures of several kinds, in two folders."""
    kinds = [(".jpg", 3, "uint8"), (".png", 4, "uint8"), (".tif", 3, "uint16"), (".png", 1, "uint8")]
    for number in range(count):
        suffix, channels, dtype = kinds[number % len(kinds)]
        pixels = picture(20 + 3 * (number % 40), 33 - number % 30, channels, dtype, seed=number)
        write_picture(folder / ("a" if number % 2 else "b") / f"{number}{suffix}", pixels)
    return folder


def assessed_plan(settings, image):
    """The plan of an image, as the jobs make it: by what is measured on it."""
    return settings.plan(image.spec, assess(image.pixels, image.spec))
