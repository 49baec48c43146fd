"""One look for a set: what an image's tones are like, and the adjustment that brings them nearer to another's.

Meant for pictures of one kind taken in one manner, such as a catalog: it moves tones, and knows nothing of content.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import log
from statistics import median_low

import numpy as np
from numpy.typing import NDArray

from refine.errors import ChainError
from refine.look import Look
from refine.sampling import Sample
from refine.tonal import FULL, LEVEL, channels, opaque
from refine.tone import Tone

LOWEST_GAIN, HIGHEST_GAIN = 0.8, 1.25
"""How far the white point and contrast may go in one adjustment."""
CONTENT = 0.1
"""How far the median and saturation may go: they are of what is pictured as much as of how. With 0.25, black caps
and grey ones met halfway, and peppers among potatoes went pale."""
DARKEST_SHIFT = 0.03
"""How far the black point may go, of full scale: further, what is dark becomes milky, or blots."""
STRONGEST_CAST = 0.05
"""The same for a cast, of full scale."""

_ENOUGH = 256
"""px. Fewer make no look."""
_PLENTY = 1 << 18
"""px. Of more, every second row and column says as much of tones, and takes a quarter of the time."""
_TAIL = 1000
"""One pixel in so many lies below the black and above the white point; no more than that may be newly clipped."""
_BACKGROUND = 16
"""Px of luma within a 16th of the white point are background or blown, and say nothing about what is pictured."""
_BRIGHT = FULL // 2
"""Neutral px are looked for above this luma."""
_NEUTRAL = 10
"""A px is nearly neutral when its channels differ by no more than a tenth of its luma."""
_ANCHORED = 0.4
"""Neutrals so near white that less of a cast than this is added to them are a background or its rim, and stay."""
_SHIFT = 10
"""Luma >> _SHIFT is its bin, of 64."""
_BINS = (FULL >> _SHIFT) + 1
_COLOURFUL = 20
"""Per mille. A saturation below it is noise, with nothing to be multiplied."""
_STEPS = 16
"""Parts in which an adjustment is taken back until it clips no more than it may."""

_END = 0.75 / 255
"""Of full scale: nearer than half a level to an end, a channel is rounded to it in 8 bits, and counts as clipped; a
quarter more is what the middle of a bin may be wrong by."""

_Counts = NDArray[np.int64]
_Plane = NDArray[np.int32]


def look(samples: Sequence[Sample]) -> Look | None:
    """The look of an image from its samples; None where fewer than 256 px are opaque."""
    lumas, largest, smallest, casts = _planes(_thinned(samples))
    if lumas.size < _ENOUGH:
        return None
    counts = np.bincount(lumas, minlength=FULL + 1)
    white = FULL - _point(counts[::-1], lumas.size // _TAIL)
    pictured = _BACKGROUND * lumas <= (_BACKGROUND - 1) * white
    # What is flat all over is pictured after all.
    inner = np.bincount(lumas[pictured], minlength=FULL + 1) if pictured.any() else counts
    spread = int((largest - smallest)[pictured].sum(dtype=np.int64))
    neutral, red_green, blue_green = _cast(lumas, largest, smallest, casts)
    bins = lumas >> _SHIFT
    tail = np.bincount(bins, minlength=_BINS) // (2 * _TAIL)
    above, below = _free(bins, largest), _free(bins, FULL - smallest)
    return Look(
        black=_point(counts, lumas.size // _TAIL),
        white=white,
        median=_point(inner, int(inner.sum()) // 2),
        saturation=1000 * spread // max(1, int(lumas[pictured].sum(dtype=np.int64))),
        neutral=neutral,
        red_green=red_green,
        blue_green=blue_green,
        highest=_edges(above, tail),
        lowest=tuple(255 - level for level in _edges(below, tail)),
    )


def median_look(looks: Sequence[Look]) -> Look:
    """The look of a set of at least one: the lower median of every number, of casts where there are any."""
    cast = [one for one in looks if one.neutral is not None]
    return Look(
        black=median_low(one.black for one in looks),
        white=median_low(one.white for one in looks),
        median=median_low(one.median for one in looks),
        saturation=median_low(one.saturation for one in looks),
        neutral=median_low(one.neutral or 0 for one in cast) if cast else None,
        red_green=median_low(one.red_green for one in cast) if cast else 0,
        blue_green=median_low(one.blue_green for one in cast) if cast else 0,
    )


def towards(own: Look, reference: Look, strength: float) -> Tone:
    """The adjustment that brings an image of the look `own` nearer to the reference; strength 0 none, 1 all the way.

    Contrast and the white point change by 0.8 to 1.25 times at most, median and saturation by a tenth, the black point
    by 0.03 and casts by 0.05 of full scale. A white point at full scale stays there, and with it a white background.
    Each part is taken back as far as it would clip more than one px in 1000 that is not clipped yet.
    Raises ChainError for another strength.
    """
    if not 0 <= strength <= 1:
        msg = f"match: strength must lie between 0 and 1, got {strength}"
        raise ChainError(msg)
    tone = Tone()
    for part in _PARTS:
        wanted = part(tone, own, reference, strength)
        steps = (_between(tone, wanted, (_STEPS - taken) / _STEPS) for taken in range(_STEPS + 1))
        tone = next((step for step in steps if not _clips(step, own)), tone)
    return tone


def _free_tone(own: Look, reference: Look, strength: float) -> Tone:
    """What `towards` would do if clipping were no matter."""
    tone = Tone()
    for part in _PARTS:
        tone = part(tone, own, reference, strength)
    return tone


def explained(own: Look, reference: Look, strength: float) -> str:
    """What `towards` does, how far it was to go, and what held it back, in one sentence."""
    tone, free = towards(own, reference, strength), _free_tone(own, reference, strength)
    said = [
        _told("contrast", f"x{_gain(tone):.2f}", f"x{_gain(free):.2f}"),
        _told("median", f"{_moved(own.median, tone)}", f"{_moved(own.median, free)}"),
        _told("saturation", f"x{tone.saturation:.2f}", f"x{free.saturation:.2f}"),
        _told("cast", _cast_said(tone), _cast_said(free)),
    ]
    return (
        f"tones: tone.match {strength:g} of the way to the reference (median {round(own.median / LEVEL)} of 255 to "
        f"{round(reference.median / LEVEL)}), within bounds (contrast {LOWEST_GAIN:g} to {HIGHEST_GAIN:g}, median and "
        f"saturation {CONTENT:.0%}, cast {STRONGEST_CAST:.0%} of full scale): {', '.join(said)}"
    )


def _told(name: str, got: str, free: str) -> str:
    return f"{name} {got}" if got == free else f"{name} {got} ({free} would clip colours)"


def _gain(tone: Tone) -> float:
    return 1 / (tone.white - tone.black)


def _cast_said(tone: Tone) -> str:
    return f"{100 * tone.red_green:+.1f} % red {100 * tone.blue_green:+.1f} % blue"


def _moved(luma: int, tone: Tone) -> int:
    """What becomes of a luma, level of 8 bits."""
    return round(float(tone.curve(np.array([luma / FULL])).luma[0]) * 255)


def _thinned(samples: Sequence[Sample]) -> Sequence[Sample]:
    """The samples, or every second row and column of them where there is plenty."""
    if sum(sample.luma.size for sample in samples) <= _PLENTY:
        return samples

    def thin(plane: _Plane | None) -> _Plane | None:
        return None if plane is None else plane[::2, ::2]

    return [
        replace(
            sample,
            luma=sample.luma[::2, ::2],
            red_green=thin(sample.red_green),
            blue_green=thin(sample.blue_green),
            alpha=thin(sample.alpha),
        )
        for sample in samples
    ]


def _planes(samples: Sequence[Sample]) -> tuple[_Plane, _Plane, _Plane, tuple[_Plane, _Plane]]:
    """Luma, largest and smallest channel, R-G and B-G of all opaque px."""
    columns: list[list[_Plane]] = [[], [], [], [], []]
    for sample in samples:
        mask = opaque(sample)
        luma = sample.luma.ravel() if mask is None else sample.luma[mask]
        colours = [plane.ravel() for plane in channels(sample, mask)]
        values = (luma, np.maximum.reduce(colours), np.minimum.reduce(colours))
        middle = colours[len(colours) // 2]
        for column, plane in zip(columns, (*values, colours[0] - middle, colours[-1] - middle), strict=True):
            column.append(plane)
    luma, largest, smallest, red, blue = (np.concatenate([np.zeros(0, np.int32), *column]) for column in columns)
    return luma, largest, smallest, (red, blue)


def _cast(
    lumas: _Plane, largest: _Plane, smallest: _Plane, casts: tuple[_Plane, _Plane]
) -> tuple[int | None, int, int]:
    """Mean luma, R-G and B-G of bright, nearly neutral px that are not clipped."""
    chosen = (lumas >= _BRIGHT) & (largest < FULL) & (_NEUTRAL * (largest - smallest) <= lumas)
    count = int(chosen.sum())
    if count < max(_ENOUGH, lumas.size // 100):
        return None, 0, 0
    mean, red, blue = (int(plane[chosen].sum(dtype=np.int64)) // count for plane in (lumas, *casts))
    return mean, red, blue


def _point(counts: _Counts, below: int) -> int:
    """The first index with more than so many px up to it."""
    return int(np.searchsorted(np.cumsum(counts), below, side="right"))


def _free(bins: _Plane, values: _Plane) -> _Counts:
    """How many px have each bin and each level of 8 bits, (bins, 256), but those of level 255: they are clipped."""
    rounded = (values + LEVEL // 2) // LEVEL
    counts = np.bincount(bins * 256 + rounded, minlength=_BINS * 256).reshape(_BINS, 256)
    counts[:, -1] = 0
    return counts


def _edges(counts: _Counts, tail: _Counts) -> tuple[int, ...]:
    """Of each bin, the highest level with no more than `tail` px above it; -1 where there is no px."""
    above = np.cumsum(counts[:, ::-1], axis=1)[:, ::-1]
    return tuple(int(level) for level in (above > tail[:, None]).sum(axis=1) - 1)


def _levels(tone: Tone, own: Look, reference: Look, strength: float) -> Tone:
    """Black and white points moved; the white point only where it is not full scale."""
    if own.white <= own.black or reference.white <= reference.black:
        return tone
    black, white = own.black / FULL, own.white / FULL
    to_black = black + _within(strength * (reference.black / FULL - black), DARKEST_SHIFT)
    to_white = white if own.white == FULL else white + strength * (reference.white / FULL - white)
    gain = _bounded((to_white - to_black) / (white - black))
    top = _bounded(white + (1 - to_white) / gain)
    # No farther than the contrast allows, and never beyond what a tone can do.
    return replace(tone, black=max(top - 1 / gain, -0.25), white=top)


def _brightness(tone: Tone, own: Look, reference: Look, strength: float) -> Tone:
    """The median moved, by gamma."""
    wanted = own.median * (1 + _within(strength * (reference.median / max(1, own.median) - 1), CONTENT)) / FULL
    found = (own.median / FULL - tone.black) / (tone.white - tone.black)
    if not (0.02 < found < 0.98 and 0.02 < wanted < 0.98):
        return tone
    return replace(tone, gamma=min(max(log(found) / log(wanted), 2 / 3), 1.5))


def _neutrality(tone: Tone, own: Look, reference: Look, strength: float) -> Tone:
    """The cast of what is nearly neutral moved."""
    if own.neutral is None or reference.neutral is None:
        return tone
    luma = np.array([own.neutral / FULL])
    weight = float(tone.curve(luma).weight[0])
    if weight < _ANCHORED:
        return tone
    return replace(
        tone,
        red_green=_within(strength * (reference.red_green - own.red_green) / FULL / weight, STRONGEST_CAST),
        blue_green=_within(strength * (reference.blue_green - own.blue_green) / FULL / weight, STRONGEST_CAST),
    )


def _colour(tone: Tone, own: Look, reference: Look, strength: float) -> Tone:
    """Saturation moved. Levels have moved it already: a black point that falls raises luma and not its differences."""
    if min(own.saturation, reference.saturation) < _COLOURFUL:
        return tone
    found = own.median / FULL
    raised = (found - tone.black) / found if found > tone.black else 1.0
    wanted = 1 + _within(strength * (reference.saturation / own.saturation - 1), CONTENT)
    return replace(tone, saturation=_bounded(wanted * raised))


_PARTS: tuple[Callable[[Tone, Look, Look, float], Tone], ...] = (_levels, _brightness, _neutrality, _colour)
"""What an adjustment is made of, in the order in which each builds on the ones before."""


def _between(one: Tone, other: Tone, share: float) -> Tone:
    """The tone at that share of the way, to four places: what follows from it is then the same on every machine."""
    values = ((getattr(one, name), getattr(other, name)) for name in Tone.__dataclass_fields__)
    return Tone(*(round(a + share * (b - a), 4) for a, b in values))


def _clips(tone: Tone, own: Look) -> bool:
    """Whether it clips more of an image than it may: in some bin of luma, the channels next to the ends leave 0..1."""
    centres = (np.arange(_BINS) + 0.5) / _BINS
    for levels, sign in ((own.highest, 1), (own.lowest, -1)):
        ends = np.array(levels) / 255
        held = (ends >= 0) & (ends <= 1)
        luma, end = centres[held], ends[held]
        luma = np.minimum(luma, end) if sign > 0 else np.maximum(luma, end)
        shape = tone.curve(luma)
        green = -0.299 * tone.red_green - 0.114 * tone.blue_green
        cast = max(sign * (green + shift) for shift in (0.0, tone.red_green, tone.blue_green))
        moved = shape.luma + shape.colour * (end - luma) + sign * cast * shape.weight
        if ((moved > 1 - _END) if sign > 0 else (moved < _END)).any():
            return True
    return False


def _bounded(gain: float) -> float:
    return min(max(gain, LOWEST_GAIN), HIGHEST_GAIN)


def _within(shift: float, most: float) -> float:
    return min(max(shift, -most), most)
