"""Writing AVIF: 8 bits, without chroma subsampling, with profile, EXIF and XMP. It is not read."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image as Pillow

from refine.metadata import resolution_exif
from refine.spec import Image

MAX_SIDE = 32_768
"""px; libavif refuses to decode more."""
_SPEED = 6
"""libavif's own default."""


def encoded(image: Image, quality: int) -> bytes:
    """The image as an AVIF with everything of its spec that has a place in one; grey with alpha as RGB with alpha.

    A resolution goes into EXIF, where there is none yet into one of its own.
    """
    spec = image.spec
    pixels = np.ascontiguousarray(image.pixels)
    if spec.channels == 2:
        pixels = np.ascontiguousarray(pixels[..., [0, 0, 0, 1]])
    exif = spec.metadata.exif or (resolution_exif(spec.resolution) if spec.resolution else b"")
    place = _placeholder(len(exif))
    file = io.BytesIO()
    Pillow.fromarray(pixels.squeeze(2) if spec.channels == 1 else pixels).save(
        file,
        "AVIF",
        quality=quality,
        subsampling="4:0:0" if spec.channels == 1 else "4:4:4",
        speed=_SPEED,
        max_threads=1,  # the same image, the same bytes
        icc_profile=spec.icc,
        exif=place,
        xmp=spec.metadata.xmp,
    )
    return file.getvalue().replace(place, exif, 1) if place else file.getvalue()


def _placeholder(nbytes: int) -> bytes:
    """EXIF of that length which says nothing: Pillow rewrites a block with an orientation, this one it leaves.

    Empty for a block that is too short to say anything: it is left out.
    """
    if nbytes < 14:
        return b""
    filling = bytes(i * 167 % 251 + 1 for i in range(min(nbytes - 14, 4096)))
    return b"II*\0" + struct.pack("<IHI", 8, 0, 0) + filling + bytes(nbytes - 14 - len(filling))
