"""Writing JPEG XL: 8 and 16 bits, lossless or not, with EXIF and XMP. It is not read.

The codec takes no ICC profile: it says sRGB, so only pictures that are in sRGB can be written.
"""

from __future__ import annotations

import io
import struct

import imagecodecs
import numpy as np
from PIL import Image as Pillow
from PIL import ImageCms

from refine.metadata import resolution_exif
from refine.spec import Image, ImageSpec

MAX_SIDE = 262_144
"""px; the bound of the format's level 5, which decoders need not pass."""
_GRID = 17
"""Levels of each channel at which a profile is compared with sRGB."""
_SRGB_LEVELS = 1
"""8-bit levels by which a profile may differ from sRGB and still be it."""
_EFFORT = 4
"""Of 9: measured a third of the default's time for 3 % more bytes."""


def is_srgb(spec: ImageSpec) -> bool:
    """Whether the colours are those of sRGB: no profile, or one that gives the same values."""
    if spec.icc is None:
        return True
    mode = "L" if spec.model == "grey" else "RGB"
    levels = np.linspace(0, 255, _GRID).round().astype(np.uint8)
    samples = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(_GRID, -1, 3)
    samples = np.ascontiguousarray(samples[..., 0]) if mode == "L" else samples
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(spec.icc))
        transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
        found = np.asarray(ImageCms.applyTransform(Pillow.fromarray(samples), transform))
    except (ImageCms.PyCMSError, OSError):
        return False
    expected = samples[..., None] if mode == "L" else samples
    return int(np.abs(found.astype(int) - expected).max()) <= _SRGB_LEVELS


def encoded(image: Image, quality: int, *, lossless: bool) -> bytes:
    """The image as a JPEG XL with EXIF and XMP. A resolution goes into EXIF, of its own where there is none."""
    spec = image.spec
    pixels = np.ascontiguousarray(image.pixels)
    data = imagecodecs.jpegxl_encode(
        pixels.squeeze(2) if spec.channels == 1 else pixels,
        effort=_EFFORT,
        distance=0.0 if lossless else _distance(quality),
        lossless=lossless,
        usecontainer=True,
        numthreads=1,
    )
    exif = spec.metadata.exif or (resolution_exif(spec.resolution) if spec.resolution else None)
    boxes = [bytes(data)]
    if exif is not None:
        boxes.append(_box(b"Exif", bytes(4) + exif))
    if spec.metadata.xmp is not None:
        boxes.append(_box(b"xml ", spec.metadata.xmp))
    return b"".join(boxes)


def _distance(quality: int) -> float:
    """Butteraugli distance of a JPEG-like quality, as libjxl's own tools have it."""
    if quality >= 30:
        return 0.1 + (100 - quality) * 0.09
    return 53 / 3000 * quality**2 - 23 / 20 * quality + 25


def _box(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", 8 + len(payload)) + kind + payload
