"""How much detail the pixels hold: where the spectrum ends, and how many times the picture has been enlarged before.

Enlarging leaves a lattice: new pixels between the old ones are smoother than those near them, so how often a pixel is
rougher than its neighbours repeats with the scale. See A. C. Gallagher, Detection of linear and cubic interpolation
in JPEG compressed images, CRV 2005; B. Mahdian and S. Saic, Blind authentication using periodic properties of
interpolation, TIFS 3(3), 2008. Instead of variances, pixels are counted: counts are integers, and a few strong edges
cannot outweigh the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, log, sqrt

import numpy as np
from numpy.typing import NDArray

from refine.assessment import UNKNOWN, Confidence, Estimate
from refine.lines import LEVEL, Lines, View, views
from refine.sampling import Sample

SMALLEST = 64
"""px. A side shorter than this tells nothing; also the length of the lines whose spectrum is taken."""
PIECE = 1024
"""px. Longest piece of a profile that is searched in one go."""
BINS = 4096
"""A lattice is searched at k / BINS cycles a px."""
LOWEST = round(0.08 * BINS)
"""Below this the contents of pictures repeat, lines of text for one."""
BAND = 256
"""Bins over which the background of a lattice is taken."""
SLACK = 12
"""Bins by which the frequencies of x and y may differ: sizes are rounded to whole px."""
SURE, FAIR, FAINT = 25.0, 14.0, 9.5
"""Strength of a lattice, as a multiple of what no lattice gives. Kodak and training crops as they are stay below 14
away from multiples of 1/8; pictures shrunk from JPEG files come to 20. A FAINT one counts with a STEEP_LOSS only."""
LEAST_LOSS, STEEP_LOSS = 6.0, 14.5
"""dB, by which an enlargement lowers the spectrum from inside to outside its band. 1 / f^2 falls by 6 dB an octave;
the weakest enlargement, bilinear 1.3x, by 7 dB in less; Lanczos, which leaves the weakest lattice, by 15 and more."""
FULL = 0.95
"""Share from which a spectrum counts as full: what has been enlarged 1.2 times or more ends below, or has a lattice."""
CRISP = 0.3
"""Least share of the power promised that makes a full spectrum certain: halved training crops keep 0.5 and more."""
SCALES = 1.15, 4.6
"""Scales that are told apart from their harmonics."""
QUIET = 1.5
"""8-bit levels of noise, above which a lattice may drown: that there is none then says nothing."""
ROUNDING_RGB = 0.0372
"""Variance of rounding in the luma of three rounded channels, (8-bit levels)^2: (.299^2 + .587^2 + .114^2) / 12."""
TRACE = 8.0
"""Strength from which it is no longer said that there is none."""
LIMIT = 0.01
"""Share of the power (0.1 of the contrast, the usual limit of resolution) at which detail counts as gone."""

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Resolution:
    """What the pixels hold."""

    effective: Estimate = UNKNOWN
    """Where the spectrum ends, as a share of what the pixels could hold. 1 / enlarged, or less: where detail has a
    tenth of the contrast that pictures have at that frequency (power as 1 / f^2), or sinks into rounding."""
    enlarged: Estimate = UNKNOWN
    """How many times it has been enlarged already; 1 not at all."""


@dataclass(frozen=True, slots=True)
class _Lattice:
    """How strongly roughness repeats at k / BINS cycles a px, along both axes alike; 1 is what chance gives."""

    fine: Floats
    """(axis, frequency), of what changes from px to px. A lattice of any scale shows here."""
    coarse: Floats
    """The same of what changes over several px, where only scales above 2 leave anything."""

    def at(self, bin_: int, *, coarse: bool = False) -> float:
        """Strength within SLACK of a frequency: the geometric mean of both axes."""
        near = (self.coarse if coarse else self.fine)[:, max(bin_ - SLACK, 0) : bin_ + SLACK + 1]
        return sqrt(float(np.prod(near.max(1))))

    def joint(self) -> Floats:
        """Strength at all frequencies, fine or coarse; 0 where pictures repeat by themselves."""
        joint: Floats = np.sqrt(np.prod(_dilated(np.maximum(self.fine, self.coarse)), axis=0))
        joint[:LOWEST] = 0
        return joint

    def free(self) -> bool:
        """Whether there is not even a trace."""
        return float(self.joint().max()) < TRACE

    def least(self, bin_: int) -> float:
        """Strength along the weaker axis."""
        near = np.maximum(self.fine, self.coarse)[:, bin_ - SLACK : bin_ + SLACK + 1]
        return float(near.max(1).min())

    def frequency(self, bin_: int) -> float:
        """Cycles a px of the peak near a bin: the geometric mean of both axes."""
        first = bin_ - SLACK
        near = np.maximum(self.fine, self.coarse)[:, first : bin_ + SLACK + 1]
        return sqrt(float(np.prod((first + near.argmax(1)) / BINS)))


def resolution(samples: Sequence[Sample], noise_sigma: float, jpeg_grid: tuple[int, int] | None) -> Resolution:
    """Where the spectrum of an image ends, and how many times it has been enlarged.

    noise_sigma: of the luma, 8-bit levels. jpeg_grid: first corner of the blocks of a JPEG, None where there are none;
    with blocks, a lattice at a multiple of 1/8 is theirs unless it is much stronger than the other multiples.
    Scales from 1.2 to 5 are found; a picture blurred, sharpened or compressed hard since may keep its secret: none.
    """
    along, down = views(samples, SMALLEST)
    if not along or not down:
        return Resolution()
    spectra = [_power(lines) for lines in (along, down)]
    if any(len(s) == 0 for s in spectra):
        return Resolution()
    power = np.sqrt(spectra[0] * spectra[1])
    lattice = _Lattice(*_ripples(along, down))
    blocks = jpeg_grid is not None or max(lattice.at(BINS * k // 8) for k in (1, 2, 3)) >= TRACE
    quiet = noise_sigma <= QUIET
    rounding = 1 / 12 if samples[0].red_green is None else ROUNDING_RGB
    end, least = _end(power, noise_sigma**2 + rounding)
    scale = _repeated(along, down)
    if scale.value is None:
        scale = _scale(lattice, power, end, known=jpeg_grid is not None)
    if scale.value is None and quiet and not blocks and lattice.free():
        scale = _never(end, least)
    return Resolution(_effective(end, least, scale, blocks=blocks, quiet=quiet), scale)


def _effective(end: Estimate, least: float, scale: Estimate, *, blocks: bool, quiet: bool) -> Estimate:
    """The end of the spectrum, or of the band that an enlargement leaves."""
    if scale.value is not None and scale.value > 1:
        return Estimate(min(round(1 / scale.value, 2), end.over(1)), scale.confidence)
    if end.value is None:
        return UNKNOWN
    # What JPEG adds fills the end of a spectrum that was empty: blurred by 1.5 px and compressed at 80 it seems to
    # end a third higher than it does.
    if blocks and (end.value < 1 or least < CRISP):
        return UNKNOWN
    return Estimate(end.value, "sure" if end.confidence == "sure" and quiet and not blocks else "fair")


def _never(end: Estimate, least: float) -> Estimate:
    """1 where there is no lattice and the spectrum is full; an enlargement shrunk or blurred since has neither."""
    if end.value is None or end.value < FULL:
        return UNKNOWN
    return Estimate(1.0, "sure" if least >= CRISP else "fair")


def _repeated(along: Sequence[View], down: Sequence[View]) -> Estimate:
    """The scale of an enlargement by repeating pixels, where columns and rows are exact copies."""
    scales = [s for s in (_copies(along), _copies(down)) if s]
    if len(scales) < 2:
        return UNKNOWN
    return Estimate(round(sqrt(scales[0] * scales[1]), 2), "sure")


def _copies(lines: Sequence[View]) -> float | None:
    found = []
    for view in lines:
        changed = view.lines[:, 1:] != view.lines[:, :-1]
        if view.seen is not None:
            changed &= view.seen[:, 1:]
        steps = np.diff(np.flatnonzero(changed.any(0)))
        scale = _regular(steps)
        if len(steps) >= 16 and scale is None:
            return None
        if scale:
            found.append(scale)
    return float(np.median(found)) if found else None


def _regular(steps: NDArray[np.intp]) -> float | None:
    """Mean distance of changes, px, where they lie on a lattice of more than 1 px."""
    steps = steps[steps <= 16]
    if len(steps) < 16:
        return None
    scale = float(np.median(np.add.reduceat(steps, np.arange(0, len(steps) - 7, 8))[: len(steps) // 8])) / 8
    if scale < 1.1:
        return None
    place = np.cumsum(steps)
    for _ in range(2):
        # One px of the original to a step, unless two alike lay side by side.
        number = np.cumsum(np.where(steps <= ceil(scale), 1, np.rint(steps / scale)))
        scale = float(place[-1] / number[-1])
    off = place - number * scale
    return scale if np.ptp(off) < 2 else None


def _ripples(along: Sequence[View], down: Sequence[View]) -> tuple[Floats, Floats]:
    fine, coarse = (np.stack([_ripple(lines, kind) for lines in (along, down)]) for kind in (_fine, _coarse))
    return fine, coarse


def _fine(lines: Lines) -> Lines:
    """Third differences. Odd, as an even one is blind to 2x, whose two kinds of px mirror each other."""
    d = lines
    for _ in range(3):
        d = d[:, 1:] - d[:, :-1]
    return d


def _coarse(lines: Lines) -> Lines:
    """Third differences over 2 px, summed over 2: (1 - z^2)^3 (1 + z), at most 16 times the largest value."""
    d = lines
    for _ in range(3):
        d = d[:, 2:] - d[:, :-2]
    return d[:, 1:] + d[:, :-1]


def _ripple(lines: Sequence[View], kind: Callable[[Lines], Lines]) -> Floats:
    """Strength of the repetition of roughness at k / BINS, k = 0..BINS/2, in multiples of what chance gives."""
    profiles: dict[tuple[int, int], Counts] = {}
    for view in lines:
        rough = np.abs(kind(view.lines))
        more = rough[:, 1:-1] * 2 > rough[:, :-2] + rough[:, 2:]
        if view.seen is not None:
            reach = view.lines.shape[1] - more.shape[1]
            for k in range(reach + 1):
                more &= view.seen[:, k : k + more.shape[1]]
        counts = np.add.reduce(more, axis=0, dtype=np.int64)
        key = (view.start, len(counts))
        profiles[key] = profiles.get(key, 0) + counts
    power = np.zeros(BINS // 2 + 1)
    for counts in profiles.values():
        for piece in np.array_split(counts, ceil(len(counts) / PIECE)):
            power += _periodogram(piece)
    strength: Floats = np.sqrt(power / np.maximum(_background(power), 1e-9))
    return strength


def _background(power: Floats) -> Floats:
    """The median around each frequency: roughness of coarse detail is not white."""
    bands = power[: BINS // 2].reshape(-1, BAND)
    return np.interp(np.arange(len(power)), (np.arange(len(bands)) + 0.5) * BAND, np.median(bands, axis=1))


def _periodogram(counts: Counts) -> Floats:
    smooth = np.convolve(np.pad(counts, 8, mode="reflect"), np.ones(17), "valid")
    window = np.hanning(len(counts) + 2)[1:-1]
    rest = (counts * 17 - smooth) * window
    return np.abs(np.fft.rfft(rest, BINS)) ** 2 / len(counts)


def _dilated(strength: Floats) -> Floats:
    """The largest within SLACK bins, along the last axis."""
    padded = np.pad(strength, ((0, 0), (SLACK, SLACK)))
    widest: Floats = np.lib.stride_tricks.sliding_window_view(padded, 2 * SLACK + 1, axis=1).max(-1)
    return widest


def _power(lines: Sequence[View]) -> Floats:
    """Power of luma at k / SMALLEST cycles a px, k = 1..SMALLEST/2, (8-bit levels)^2; empty where no line is visible.

    Of differences, divided by their gain: a spectrum that falls by 60 dB would leak into its own end.
    """
    hann = np.hanning(SMALLEST + 2)[1:-1]
    total, number = np.zeros(SMALLEST // 2 + 1, np.int64), 0
    for view in lines:
        every = view.lines[::2]
        steps = every[:, 1:] - every[:, :-1]
        for x in range(0, steps.shape[1] - SMALLEST + 1, SMALLEST // 2):
            part = steps[:, x : x + SMALLEST]
            if view.seen is not None:
                part = part[view.seen[::2, x : x + SMALLEST + 1].all(1)]
            waves = np.fft.rfft(part * hann, axis=1)
            # Rounded before they are added, so that the sum does not depend on its order.
            total += np.rint(waves.real**2 + waves.imag**2).astype(np.int64).sum(0)
            number += len(part)
    if number == 0:
        return np.zeros(0)
    gain = (2 * np.sin(np.pi * np.arange(1, SMALLEST // 2 + 1) / SMALLEST)) ** 2
    power: Floats = total[1:] / (number * float((hann**2).sum()) * LEVEL**2) / gain
    return power


def _end(power: Floats, noise: float) -> tuple[Estimate, float]:
    """Where the spectrum ends, as a share of the highest frequency, and the least share of what was promised."""
    f = np.arange(1, len(power) + 1) / SMALLEST
    promise = float(np.mean(power[1:4] * f[1:4] ** 2)) / f**2
    if promise[1] * 0.1 < noise:
        return UNKNOWN, 0.0
    left = np.maximum(power - noise, 0) / promise
    least = float(left[4:].min())
    for k in range(4, len(power)):
        if left[k] < LIMIT:
            # No further down than a tenth of the limit: what lies below is rounding.
            # The first may end even before that; no further up than it was looked at.
            before, here = log(max(left[k - 1] / LIMIT, 1)), log(max(left[k] / LIMIT, 0.1))
            share = 2 * (f[k - 1] + before / (before - here) / SMALLEST)
            return Estimate(round(share, 2), "fair"), least
        if power[k] < 2 * noise:
            # Noise is reached first. Within 3 times the limit, the two are less than 15 % apart for a Gaussian.
            return (Estimate(round(2 * f[k], 2), "fair") if left[k] < 3 * LIMIT else UNKNOWN), least
    return Estimate(1.0, "sure" if least >= CRISP else "fair"), least


def _scale(lattice: _Lattice, power: Floats, end: Estimate, *, known: bool) -> Estimate:
    """How many times the image has been enlarged, by its lattice and what its spectrum has lost."""
    bin_, lone = _peak(lattice), False
    if bin_ is None and not known:
        bin_, lone = _lone_eighth(lattice), True
    if bin_ is None:
        return UNKNOWN
    strength = max(lattice.at(bin_), lattice.at(bin_, coarse=True))
    scale, clear = _reading(lattice, bin_)
    if (
        not scale
        or _octave(power, scale) < (LEAST_LOSS if strength >= FAIR else STEEP_LOSS)
        or not _agrees(scale, strength, end)
    ):
        return UNKNOWN
    confidence: Confidence = "sure" if clear and not lone and strength >= SURE else "fair"
    return Estimate(round(scale, 2), confidence)


def _agrees(scale: float, strength: float, end: Estimate) -> bool:
    """Whether the spectrum ends where an enlargement of that scale leaves it to: 1.1 to 1.95 times the band."""
    if not SCALES[0] <= scale <= SCALES[1]:
        return False
    if end.value is None:
        return True
    if scale < 2:
        return end.value * scale >= 0.75
    # Networks and bilinear leave something beyond, but then a strong lattice with it.
    return end.value * scale < 2 or strength >= SURE


def _peak(lattice: _Lattice) -> int | None:
    """The bin of the lattice; None where there is none, or none but that of JPEG blocks."""
    eighths = [lattice.at(BINS * k // 8) for k in range(1, 5)]
    wide = [lattice.at(BINS * k // 8, coarse=True) for k in range(1, 4)]
    # Blocks repeat at all multiples of 1/8; 4x at 1/4 and 1/2 only, 2x at 1/2 only. Coarse detail of blocks is strong
    # at 1/2 for other reasons, and is not asked there.
    if wide[1] >= FAIR and wide[1] > 3 * max(eighths[0], eighths[2], wide[0], wide[2]):
        return BINS // 4
    if eighths[3] >= FAIR and eighths[3] > 1.6 * max(eighths[:3]) and wide[1] < FAIR:
        return BINS // 2
    joint = _between_eighths(lattice.joint())
    bin_ = int(np.argmax(joint))
    # Beside blocks stand the sums and differences of their frequencies.
    needed = FAINT if max(eighths) < FAIR else SURE
    if joint[bin_] < needed or lattice.least(bin_) < 0.75 * needed:
        return None
    # 3.4x and more is at times stronger at twice its frequency.
    first = (BINS - bin_) // 2
    if first < 0.3 * BINS and lattice.at(first, coarse=True) > max(FAIR, 0.25 * joint[bin_], lattice.at(first)):
        return first
    return bin_


def _lone_eighth(lattice: _Lattice) -> int | None:
    """The bin of 3/8 (8/5x, 8/3x) or 1/4 (4/3x) where it outweighs what unknown blocks would show beside it."""
    both = [max(lattice.at(BINS * k // 8), lattice.at(BINS * k // 8, coarse=True)) for k in (1, 2, 3)]
    for k, others in ((3, both[:2]), (2, both[::2])):
        if both[k - 1] >= max(SURE, 3 * max(others)):
            return BINS * k // 8
    return None


def _between_eighths(joint: Floats) -> Floats:
    """Without what lies near the multiples of 1/8, where the blocks of JPEG repeat."""
    kept = joint.copy()
    for k in range(1, 5):
        kept[BINS * k // 8 - 3 * SLACK : BINS * k // 8 + 3 * SLACK + 1] = 0
    return kept


def _reading(lattice: _Lattice, bin_: int) -> tuple[float, bool]:
    """Scale for a lattice at a bin, 0 where it is unclear which, and whether it is clear.

    Scales s and s / (s - 1) repeat alike. Above 2, coarse detail repeats as well: of the band that is left, up to
    0.5 / s, f pairs with its image at 1 / s - f. How strongly, next to fine detail, tells the two apart, less so near
    2: of 30 training pictures enlarged by three kernels, 1.7x gave up to 0.47, 2.3x from 0.37, 3x from 0.5.
    """
    f = lattice.frequency(bin_)
    if f >= 0.43:
        # Both are within 14 % of 2.
        return 2.0, f > 0.494
    ratio = lattice.at(bin_, coarse=True) / max(lattice.at(bin_), 1e-9)
    low, high = (0.15, 0.28) if f < 0.29 else (0.42, 0.48) if f < 0.405 else (0.3, 0.6)
    if low <= ratio <= high:
        return 0.0, False
    return (1 / f if ratio > high else 1 / (1 - f)), f < 0.405 or not low <= ratio <= 1


def _octave(power: Floats, scale: float) -> float:
    """By how much power falls from inside to outside the band that an enlargement leaves, dB."""
    f = np.log(np.arange(1, len(power) + 1) / SMALLEST)
    edge = 0.5 / scale

    def level(shares: tuple[float, ...]) -> float:
        at = np.log(np.minimum(edge * np.array(shares), 0.5))
        return float(np.mean(np.interp(at, f, 10 * np.log10(np.maximum(power, 1e-9)))))

    return level((0.6, 0.7, 0.8)) - level((1.2, 1.4, 1.6))
