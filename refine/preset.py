"""Presets: what to do, as typed data from a TOML file and single settings put over it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Literal

from refine import resources
from refine.background import hexed, rgb
from refine.chain import Order
from refine.errors import PlanError, PresetError
from refine.finish import MediumName
from refine.spec import Depth
from refine.typed import Toml, typed

Auto = Literal["auto"] | float
"""A strength, or the word for the one that suits the image."""


@dataclass(frozen=True, slots=True)
class UpscaleSettings:
    """Which networks enlarge."""

    nets: Literal["auto", "standard"] | tuple[str, ...] = "auto"
    """By the enlargement: `auto` the fast networks, `standard` the better and dearer. Or ids, first to last; none for
    interpolation only."""


@dataclass(frozen=True, slots=True)
class ResampleSettings:
    """How the exact size is made."""

    kernel: str = "lanczos3"
    """`lanczos3` or `bicubic`."""


@dataclass(frozen=True, slots=True)
class RepairSettings:
    """What is cleaned at the size of the source, by a network that is told how bad it is."""

    net: str = "clean-x1"
    """Id of the network; empty for none."""
    noise: Auto = "auto"
    """Sigma of the source's noise, 8-bit levels, 0..50; 0 for none. `auto`: as measured."""
    quality: Auto = "auto"
    """IJG quality of the source's JPEG compression, 1..100; 100 for none. `auto`: as measured."""


@dataclass(frozen=True, slots=True)
class DenoiseSettings:
    """How much noise is taken out."""

    luma: float = 0.0
    """Sigma in 8-bit levels; 0 leaves it out."""
    chroma: float = 0.0
    """Sigma in 8-bit levels; 0 leaves it out."""


@dataclass(frozen=True, slots=True)
class SharpenSettings:
    """How edges are raised."""

    sigma: Auto = "auto"
    """px of the output, 0.2..16. `auto`: as the softness that was measured, enlarged."""
    amount: Auto = "auto"
    """0..5: 1 doubles the detail; 0 leaves the step out. `auto`: as the softness asks and the noise allows."""
    threshold: Auto = "auto"
    """Of full scale: finer detail is left alone, coarser is lessened by it. `auto`: as the noise that remains."""
    overshoot: Auto = "auto"
    """Of full scale: how far beyond the edge's own levels a result may go. `auto`: as the noise allows."""


@dataclass(frozen=True, slots=True)
class ToneSettings:
    """Final adjustments. None of them is made unless asked for."""

    black: float = 0.0
    """Luma that becomes 0, of full scale, -0.25..0.95."""
    white: float = 1.0
    """Luma that becomes 1, of full scale, 0.05..1.25."""
    gamma: float = 1.0
    """0.2..5: above 1 brightens what lies between."""
    contrast: float = 1.0
    """0.5..1.5: slope of the curve at mid grey."""
    saturation: float = 1.0
    """0..4: gain on colour; 0 makes grey."""
    match: float = 0.5
    """0..1: how far an image is brought to the look of a reference, where one is named."""


@dataclass(frozen=True, slots=True)
class FinishSettings:
    """Output sharpening: for what the result is shown on, apart from what the source needs."""

    medium: MediumName = "none"
    """What it is shown on; `none`: no output sharpening."""
    ppi: float = 300.0
    """px per inch there."""
    distance: float = 300.0
    """mm from which it is looked at."""


@dataclass(frozen=True, slots=True)
class DecideSettings:
    """The rules that turn what was measured into strengths. They count where a setting is `auto`."""

    weak: float = 8.0
    """A result may hold so many px per px of detail in the source, along a side; beyond that there is no detail."""
    too_weak: Literal["refuse", "flag"] = "refuse"
    """What becomes of an image that is too weak for its size."""
    noise_from: float = 1.5
    """Sigma of a channel, 8-bit levels: weaker noise is left."""
    grain_from: float = 0.3
    """Correlation of the noise of neighbouring pixels from which it is grain, and part of the picture."""
    quality_below: float = 90.0
    """JPEG of this quality and better is left."""
    repair_from: float = 0.5
    """Result px per source px: a smaller result is not repaired, it averages noise and blocks out."""
    plain_from: float = 1.0
    """px of the source: a picture that is so soft is enlarged by the kernel, without networks."""
    plain_half: float = 24.0
    """Noise and JPEG, 8-bit levels, at which half that softness is enough."""
    sharp_sigma: float = 0.5
    """px of the source: blur that a sharp picture shows; only what is beyond it is softness."""
    soft_from: float = 0.4
    """px of the source: less softness is left as it is."""
    soft_full: float = 0.8
    """px of the source: from here on a soft picture gets the whole amount; between the two it grows evenly."""
    halo_from: float = 20.0
    """Percent of an edge: a picture whose edges overshoot so much is sharpened no further. It takes up to twice as much
    the softer the picture is: lines beside edges that are soft pass for overshoot."""
    amount: float = 1.5
    """Amount of sharpening for a soft picture without noise."""
    half: float = 4.0
    """Noise that remains, 8-bit levels, at which the amount is half of that."""
    overshoot: float = 0.1
    """Of full scale: overshoot that is allowed there; lessened by noise as the amount is."""
    coring: float = 1.5
    """Threshold of the sharpening, as a multiple of the noise that remains."""
    quality_noise: float = 0.1
    """Noise, 8-bit levels, that each point of JPEG quality below 100 counts for."""
    left: float = 0.1
    """Share of noise and JPEG that remains where it was taken out."""
    least: float = 0.0
    """Amount for a picture that is not soft."""
    least_sigma: float = 1.0
    """px of the output: sigma for such a picture."""
    least_overshoot: float = 0.02
    """Of full scale: overshoot for such a picture."""


@dataclass(frozen=True, slots=True)
class OutputSettings:
    """What is written."""

    format: Literal["source", "jpeg", "png", "tiff", "webp", "avif", "jpegxl"] = "source"
    """`source`: as the source's, or the nearest that is written and can hold the result."""
    dtype: Literal["source"] | Depth = "source"
    """Depth of a channel."""
    quality: int = 95
    """Of JPEG, WebP, AVIF and JPEG XL, 1..100; 4:4:4 but for WebP, which has no such thing."""
    lossless: bool = False
    """Whether WebP and JPEG XL keep every value; quality means nothing then."""
    metadata: Literal["keep", "strip"] = "keep"
    """`keep`: EXIF, XMP and IPTC as far as they hold for the result, and what was done, in XMP. `strip`: none."""
    background: str = ""
    """What a picture with alpha is laid on, `#rrggbb` of sRGB or a name; empty: alpha is kept."""

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            msg = f"output.quality is 1 to 100, got {self.quality}"
            raise PresetError(msg)
        object.__setattr__(self, "background", _colour(self.background, "output.background"))


@dataclass(frozen=True, slots=True)
class PlanSettings:
    """How the work is cut."""

    tile: int = 2048
    """Side of a tile of a large image, output px."""
    block: int = 512
    """Side of what the program computes at once, output px."""
    allowed_mem: int = 1_500_000_000
    """Bytes that one task may take."""


@dataclass(frozen=True, slots=True)
class RenditionSettings:
    """One of several results of each image of a catalog."""

    name: str
    """The folder that holds it."""
    long_side: int = 0
    """Longer side, px; 0 for the size that is asked for."""
    format: str = ""
    """Of its files; empty for `output.format`."""
    background: str = ""
    """What its pictures with alpha are laid on; empty for `output.background`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "background", _colour(self.background, f"renditions.{self.name}.background"))


@dataclass(frozen=True, slots=True)
class Preset:
    """Everything that decides the pixels of a result, its size apart."""

    name: str = "balanced"
    """What it is called in reports."""
    order: Order = "checked"
    """`checked` or `as-written`."""
    steps: tuple[str, ...] = ("repair", "upscale", "resample", "denoise", "sharpen", "tone", "finish")
    """The order that `as-written` means."""
    decide: DecideSettings = field(default_factory=DecideSettings)
    """Rules for what is `auto`."""
    repair: RepairSettings = field(default_factory=RepairSettings)
    """Noise and JPEG blocks, at the source's size."""
    upscale: UpscaleSettings = field(default_factory=UpscaleSettings)
    """Networks."""
    resample: ResampleSettings = field(default_factory=ResampleSettings)
    """Exact size."""
    denoise: DenoiseSettings = field(default_factory=DenoiseSettings)
    """Noise."""
    sharpen: SharpenSettings = field(default_factory=SharpenSettings)
    """Edges."""
    tone: ToneSettings = field(default_factory=ToneSettings)
    """Final adjustments."""
    finish: FinishSettings = field(default_factory=FinishSettings)
    """The medium."""
    output: OutputSettings = field(default_factory=OutputSettings)
    """Files."""
    plan: PlanSettings = field(default_factory=PlanSettings)
    """Cutting."""
    renditions: tuple[RenditionSettings, ...] = ()
    """Results of each image of a catalog, `[renditions.NAME]`; none of them: one result."""


def load_preset(name: str | Path = "balanced", settings: Mapping[str, str] | None = None) -> Preset:
    """The preset of that name in configs/, or in that file, with settings put over it.

    settings maps a dotted key to its TOML value as text: {"sharpen.amount": "0.6"}. Raises PresetError for unknown
    names and keys (naming the nearest known one) and for values of the wrong kind.
    """
    label, text = _text(name)
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        msg = f"{label}: not valid TOML: {error}"
        raise PresetError(msg) from error
    for key, value in (settings or {}).items():
        _check_setting(key, value)
        _put(table, key, _parsed(key, value))
    renditions = _renditions(table.pop("renditions", {}), label)
    preset = typed(Preset, {"name": label.removesuffix(".toml"), **table}, label, "")
    assert isinstance(preset, Preset)
    return replace(preset, renditions=renditions)


def _colour(text: str, key: str) -> str:
    """A colour in the one form for all its names: the same bytes have the same key. Empty stays empty."""
    try:
        return hexed(rgb(text)) if text else ""
    except PlanError as error:
        msg = f"{key} is a colour, or empty to keep alpha: {error}"
        raise PresetError(msg) from error


def _renditions(table: Toml, label: str) -> tuple[RenditionSettings, ...]:
    """The tables `[renditions.NAME]` of a preset."""
    if not isinstance(table, dict) or not all(isinstance(inner, dict) for inner in table.values()):
        msg = f"{label}: renditions are tables, [renditions.NAME] with long_side, format and background, got {table!r}"
        raise PresetError(msg)
    made = []
    for name, inner in table.items():
        assert isinstance(inner, dict)
        given: dict[str, Toml] = {**inner, "name": name}
        made.append(typed(RenditionSettings, given, label, f"renditions.{name}"))
    return tuple(one for one in made if isinstance(one, RenditionSettings))


def adjusted(preset: Preset, settings: Mapping[str, Toml], label: str = "a setting") -> Preset:
    """The preset with settings put over it: {"sharpen.amount": 0.6}. Raises PresetError as `load_preset` does."""
    table = _table(preset)
    for key, value in settings.items():
        _put(table, key, value)
    made = typed(Preset, table, label, "")
    assert isinstance(made, Preset)
    return replace(made, renditions=preset.renditions)


def _table(value: object) -> dict[str, Toml]:
    """A settings class as TOML would have it."""
    table: dict[str, Toml] = {}
    for one in fields(value):  # type: ignore[arg-type]
        if one.name == "renditions":
            continue
        inner = getattr(value, one.name)
        table[one.name] = _table(inner) if is_dataclass(inner) else list(inner) if isinstance(inner, tuple) else inner
    return table


def _check_setting(key: str, value: str) -> None:
    """Raise PresetError for a single setting that no preset could hold, before it is mixed with one from a file."""
    alone: dict[str, Toml] = {}
    _put(alone, key, _parsed(key, value))
    _renditions(alone.pop("renditions", {}), "--set")
    typed(Preset, alone, "--set" if key else "a setting", "")


def preset_names() -> list[str]:
    """Names of the shipped presets, sorted."""
    return sorted(e.name.removesuffix(".toml") for e in resources.configs().iterdir() if e.name.endswith(".toml"))


def _text(name: str | Path) -> tuple[str, str]:
    path = Path(name)
    if path.suffix == ".toml":
        try:
            return path.name, path.read_text(encoding="utf-8")
        except OSError as error:
            msg = f"{path.name}: the preset cannot be read: {error.strerror}"
            raise PresetError(msg) from error
        except UnicodeDecodeError as error:
            msg = f"{path.name}: a preset is a TOML file in UTF-8, this is not text"
            raise PresetError(msg) from error
    entry = resources.configs() / f"{name}.toml"
    if not entry.is_file():
        msg = f"no preset {str(name)!r}; there are {', '.join(preset_names())}, or give a file ending in .toml"
        raise PresetError(msg)
    return f"{name}.toml", entry.read_text(encoding="utf-8")


def setting_value(text: str) -> Toml:
    """What a text means as a value of TOML.

    >>> setting_value("0.5"), setting_value("auto")
    (0.5, 'auto')
    """
    try:
        table = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        table = {}
    # A bare word on the command line is meant as text; so is what would smuggle in another key.
    parsed: Toml = table["value"] if set(table) == {"value"} else text
    return parsed


def _parsed(key: str, value: str) -> Toml:
    if not key:
        msg = f"a setting is key=value with a key such as sharpen.amount, got ={value}"
        raise PresetError(msg)
    return setting_value(value)


def _put(table: dict[str, Toml], key: str, value: Toml) -> None:
    *tables, last = key.split(".")
    for name in tables:
        inner = table.setdefault(name, {})
        if not isinstance(inner, dict):
            msg = f"{key}: {name!r} is a value, not a table"
            raise PresetError(msg)
        table = inner
    table[last] = value
