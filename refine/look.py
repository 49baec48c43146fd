"""The look of an image: its tones, in integers that can be kept and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Look:
    """Tones of an image, in integers. Full scale is 65535."""

    black: int
    """Luma that one px in 1000 lies below."""
    white: int
    """Luma that one px in 1000 lies above."""
    median: int
    """Of luma, of what is not nearly as light as the white point."""
    saturation: int
    """Difference of the largest and the smallest channel over luma, per mille, of the same px."""
    neutral: int | None = None
    """Mean luma of bright px that are nearly neutral; None where there are too few."""
    red_green: int = 0
    """Mean of their R-G."""
    blue_green: int = 0
    """Mean of their B-G."""
    highest: tuple[int, ...] = ()
    """Of each 64th of luma: the level, 0..255, that the largest channel keeps below full scale in all but one px in
    2000; -1 where there is none. Empty for the look of a set."""
    lowest: tuple[int, ...] = ()
    """The same of the smallest channel above 0; 256 where there is none."""

    def as_json(self) -> dict[str, int | list[int] | None]:
        """As JSON can hold it."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, int | list[int] | None]) -> Look:
        """The inverse of `as_json`. Raises TypeError for what is none."""
        held = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return cls(**held)  # type: ignore[arg-type]
