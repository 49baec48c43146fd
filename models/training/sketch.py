"""Drawn pages: what photographs lack. Text, line art, halftone and paper, made anew for every draw."""

from __future__ import annotations

import string

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = NDArray[np.uint8]
Cover = NDArray[np.float32]

LETTERS = string.ascii_letters * 3 + string.digits * 2 + ".,;:!?()&%$/-+"
OVERSAMPLING = 2
"""Lines and dots are drawn this much larger and averaged, for smooth edges."""


def page(rng: np.random.Generator, side: int) -> Picture:
    """A square (side, side, 3) of print: letters or lines on paper, a third of them screened to dots."""
    paper, ink = _colours(rng)
    cover = _letters(rng, side) if rng.random() < 0.6 else _lines(rng, side)
    if rng.random() < 0.3:
        cover = np.maximum(cover, _dots(rng, side) * float(rng.uniform(0.3, 1.0)))
    sheet = paper + _fibre(rng, side) * float(rng.uniform(0, 6)) * (rng.random() < 0.5)
    drawn = sheet * (1 - cover[..., None]) + ink * cover[..., None]
    return np.clip(np.rint(drawn), 0, 255).astype(np.uint8)


def _colours(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Paper and ink: mostly near white and near black, sometimes any two colours, sometimes swapped."""
    if rng.random() < 0.7:
        paper = 255 - rng.uniform(0, 45) * rng.uniform(0.2, 1.0, 3) * (rng.random() < 0.6)
        ink = rng.uniform(0, 70) * rng.uniform(0.5, 1.0, 3)
    else:
        paper, ink = rng.uniform(0, 255, 3), rng.uniform(0, 255, 3)
    return (ink, paper) if rng.random() < 0.15 else (paper, ink)


def _letters(rng: np.random.Generator, side: int) -> Cover:
    """Lines of random words in one or two sizes of type, a little askew."""
    canvas = Image.new("L", (2 * side, 2 * side))
    draw = ImageDraw.Draw(canvas)
    y = 0.0
    size = float(rng.uniform(10, 40))
    while y < 2 * side:
        size = float(np.clip(size * rng.choice([1.0, 1.0, 1.0, 1.6, 0.6]), 8, 64))
        text = " ".join("".join(rng.choice(list(LETTERS), int(rng.integers(1, 9)))) for _ in range(2 * side // 30 + 1))
        draw.text((float(rng.uniform(-8, 4)), y), text, fill=255, font=ImageFont.load_default(size))
        y += size * float(rng.uniform(1.1, 1.6))
    return _cut(rng, canvas, side)


def _lines(rng: np.random.Generator, side: int) -> Cover:
    """Lines, rings, boxes and a hatching, as in drawings, charts and labels."""
    canvas = Image.new("L", (2 * side * OVERSAMPLING,) * 2)
    draw = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(6, 24))):
        ends = [float(v) for v in rng.uniform(0, canvas.width, 4)]
        box = [min(ends[0], ends[2]), min(ends[1], ends[3]), max(ends[0], ends[2]), max(ends[1], ends[3])]
        width = int(rng.integers(1, 5)) * OVERSAMPLING
        shape = rng.integers(4)
        if shape == 0:
            draw.ellipse(box, outline=255, width=width)
        elif shape == 1:
            draw.rectangle(box, outline=255, width=width, fill=int(rng.choice([0, 0, 90, 255])))
        else:
            draw.line(ends, fill=255, width=width)
    if rng.random() < 0.4:
        step = int(rng.integers(3, 12)) * OVERSAMPLING
        for x in range(0, canvas.width, step):
            draw.line([x, 0, x, canvas.height], fill=255, width=max(1, step // 3))
    return _cut(rng, canvas.reduce(OVERSAMPLING), side)


def _cut(rng: np.random.Generator, canvas: Image.Image, side: int) -> Cover:
    """The middle of the canvas, turned by a few degrees or by any angle."""
    angle = float(rng.normal(0, 2)) if rng.random() < 0.8 else float(rng.uniform(0, 360))
    turned = canvas.rotate(angle, resample=Image.Resampling.BICUBIC)
    first = side // 2
    return np.asarray(turned.crop((first, first, first + side, first + side)), np.float32) / np.float32(255)


def _dots(rng: np.random.Generator, side: int) -> Cover:
    """A halftone screen over a soft gradient: dots that grow with the tone."""
    pitch, angle = float(rng.uniform(3, 9)), float(rng.uniform(0, np.pi))
    y, x = np.mgrid[:side, :side].astype(np.float32)
    across = (x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / pitch)
    down = (y * np.cos(angle) - x * np.sin(angle)) * (2 * np.pi / pitch)
    tone = 0.5 + 0.45 * np.sin((x * rng.normal() + y * rng.normal()) / side * 3 + rng.uniform(0, 6))
    screen = 0.5 + 0.25 * (np.cos(across) + np.cos(down))
    # About one px of ramp stands in for the antialiasing of the scanner.
    cover: Cover = np.clip((screen - 1 + tone) * pitch / 2 + 0.5, 0, 1).astype(np.float32)
    return cover


def _fibre(rng: np.random.Generator, side: int) -> Cover:
    """Grain of paper: noise, smoothed a little, of about unit spread, the same in all channels."""
    grain = rng.standard_normal((side, side, 1)).astype(np.float32)
    rows = grain + np.roll(grain, 1, 0)
    return (rows + np.roll(rows, 1, 1)) / np.float32(2)
