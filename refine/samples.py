"""Stored samples as pixels: fewer than 8 or 16 bits to full scale, alpha divided out."""

from __future__ import annotations

import numpy as np

from refine.spec import Depth, Pixels

_ROWS = 256
"""px; so many rows at a time, so that temporary arrays stay small."""


def depth_of(bits: int) -> Depth:
    """The depth of a picture whose samples have so many bits."""
    return "uint8" if bits <= 8 else "uint16"


def ramp(bits: int, depth: Depth) -> Pixels:
    """What each stored value becomes at full scale, to the nearest: 0 stays 0, all ones become all ones.

    >>> ramp(2, "uint8").tolist()
    [0, 85, 170, 255]
    """
    top, stored = int(np.iinfo(depth).max), (1 << bits) - 1
    values = (np.arange(stored + 1) * top * 2 + stored) // (2 * stored)
    return values.astype(np.uint8) if depth == "uint8" else values.astype(np.uint16)


def full_scale(samples: Pixels, bits: int) -> Pixels:
    """Samples of so many bits at the full scale of 8 or 16; the same array where they are that already."""
    return samples if bits in (8, 16) else ramp(bits, depth_of(bits))[samples]


def scale_note(bits: int) -> tuple[str, ...]:
    """What to say of `full_scale`, if anything."""
    return () if bits in (8, 16) else (f"{bits} bit{'s' if bits > 1 else ''} scaled to {8 if bits < 8 else 16}",)


def unmultiply(pixels: Pixels) -> None:
    """Divide alpha (the last channel) out of colour in place; where it is 0 there is no colour, and 0 is written."""
    top = np.iinfo(pixels.dtype).max
    for y in range(0, pixels.shape[0], _ROWS):
        rows = pixels[y : y + _ROWS]
        alpha = rows[..., -1:].astype(np.uint64)
        colour = (rows[..., :-1] * np.uint64(top) + alpha // 2) // np.maximum(alpha, 1)
        rows[..., :-1] = np.where(alpha == 0, 0, np.minimum(colour, top))


def lab_16(samples: Pixels, *, signed: bool) -> Pixels:
    """Lab of 8 or 16 bits, as a TIFF stores it, in the one encoding that is handed out: ICC v4, uint16.

    signed: a* and b* in two's complement (CIELab, photometric 8), L* up to all ones; otherwise the encoding of
    ICC v2 (ICCLab, photometric 9): 8 bits with an offset of 128, 16 bits with L* = 100 at 65280. 8 bits become 16
    without rounding.
    Source: TIFF 6.0, section 23, and Adobe's PageMaker 6.0 TIFF Technical Notes.
    """
    pixels = np.empty(samples.shape, np.uint16)
    for y in range(0, samples.shape[0], _ROWS):
        rows = samples[y : y + _ROWS]
        if samples.dtype == np.uint8:
            offset = np.array([0, 128, 128] if signed else [0, 0, 0], np.uint8)
            pixels[y : y + _ROWS] = (rows + offset).astype(np.uint16) * 257
        elif signed:
            pixels[y : y + _ROWS, :, 0] = rows[..., 0]
            shifted = rows[..., 1:].view(np.int16).astype(np.int64) * 257
            pixels[y : y + _ROWS, :, 1:] = np.clip((shifted + 128 >> 8) + 32_896, 0, 65_535)
        else:
            pixels[y : y + _ROWS] = np.minimum((rows.astype(np.int64) * 65_535 + 32_640) // 65_280, 65_535)
    return pixels


def lab_signed(pixels: Pixels) -> Pixels:
    """Lab as it is handed out, in the 16-bit encoding of CIELab (photometric 8): a* and b* in 256ths."""
    samples = pixels.copy()
    for y in range(0, pixels.shape[0], _ROWS):
        centred = (pixels[y : y + _ROWS, :, 1:].astype(np.int64) - 32_896) * 256
        samples[y : y + _ROWS, :, 1:] = ((centred + 128) // 257).astype(np.int16).view(np.uint16)
    return samples
