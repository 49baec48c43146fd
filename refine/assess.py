"""Assess an image: all that is measured on it before anything is done to it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from refine.assessment import Assessment
from refine.colour import Treatment, treatment
from refine.compression import jpeg
from refine.edges import edges
from refine.match import look
from refine.noise import noise
from refine.sampling import Source, samples
from refine.spec import ImageSpec, Pixels
from refine.spectrum import resolution
from refine.tonal import tones


def assess(source: Source, spec: ImageSpec) -> Assessment:
    """What the image of these pixels (y, x, c) is like. Reads the windows of `sample_windows`, each once.

    Encodings other than grey and RGB are measured as the program sees them. Raises ImageReadError where the encoding
    is refused.
    """
    seen = treatment(spec)
    as_seen = replace(spec, channels=seen.channels, dtype=seen.dtype, space="additive", icc=None)
    found = list(samples(_Seen(source, seen), as_seen))
    compression = jpeg(spec, found)
    grainy = noise(found)
    sigma = grainy.luma.over(0.0)
    sharpness = edges(found, sigma, compression.grid)
    ends = resolution(found, sigma, compression.grid)
    tonal = tones(found, spec.height, spec.width)
    return Assessment(
        spec.height,
        spec.width,
        effective=ends.effective,
        enlarged=ends.enlarged,
        blur_sigma=sharpness.blur_sigma,
        halo=sharpness.halo,
        noise_luma=grainy.luma,
        noise_chroma=grainy.chroma,
        grain=grainy.grain,
        jpeg_quality=compression.quality,
        jpeg_grid=compression.grid,
        clipped_black=tonal.clipped_black,
        clipped_white=tonal.clipped_white,
        posterised=tonal.posterised,
        white_background=tonal.white_background,
        white_exact=tonal.white_exact,
        transparent=tonal.transparent,
        text=tonal.text,
        look=look(found),
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    """A source as the program sees it."""

    source: Source
    treatment: Treatment

    def __getitem__(self, index: tuple[slice, slice]) -> Pixels:
        return self.treatment.entered(np.ascontiguousarray(self.source[index]))
