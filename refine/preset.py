"""Presets: what to do, as typed data from a TOML file and single settings put over it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

from refine import resources
from refine.chain import Order
from refine.errors import PresetError
from refine.spec import Depth

Toml = str | int | float | bool | list["Toml"] | dict[str, "Toml"]


@dataclass(frozen=True, slots=True)
class UpscaleSettings:
    """Which networks enlarge."""

    nets: Literal["auto"] | tuple[str, ...] = "auto"
    """`auto`: by the enlargement. Or ids, first to last; none of them for interpolation only."""


@dataclass(frozen=True, slots=True)
class ResampleSettings:
    """How the exact size is made."""

    kernel: str = "lanczos3"
    """`lanczos3` or `bicubic`."""


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

    sigma: float = 1.0
    """px of the output."""
    amount: float = 0.25
    """1 doubles the detail; 0 leaves the step out."""
    threshold: float = 0.008
    """Of full scale: finer detail is left alone."""
    overshoot: float = 0.02
    """Of full scale: how far beyond the edge's own levels a result may go."""


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

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            msg = f"output.quality is 1 to 100, got {self.quality}"
            raise PresetError(msg)


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
class Preset:
    """Everything that decides the pixels of a result, its size apart."""

    name: str = "balanced"
    """What it is called in reports."""
    order: Order = "checked"
    """`checked` or `as-written`."""
    steps: tuple[str, ...] = ("upscale", "resample", "denoise", "sharpen")
    """The order that `as-written` means."""
    upscale: UpscaleSettings = field(default_factory=UpscaleSettings)
    """Networks."""
    resample: ResampleSettings = field(default_factory=ResampleSettings)
    """Exact size."""
    denoise: DenoiseSettings = field(default_factory=DenoiseSettings)
    """Noise."""
    sharpen: SharpenSettings = field(default_factory=SharpenSettings)
    """Edges."""
    output: OutputSettings = field(default_factory=OutputSettings)
    """Files."""
    plan: PlanSettings = field(default_factory=PlanSettings)
    """Cutting."""


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
    preset = _typed(Preset, {"name": label.removesuffix(".toml"), **table}, label, "")
    assert isinstance(preset, Preset)
    return preset


def _check_setting(key: str, value: str) -> None:
    """Raise PresetError for a single setting that no preset could hold, before it is mixed with one from a file."""
    alone: dict[str, Toml] = {}
    _put(alone, key, _parsed(key, value))
    _typed(Preset, alone, "--set" if key else "a setting", "")


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


def _parsed(key: str, value: str) -> Toml:
    try:
        table = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        table = {}
    # A bare word on the command line is meant as text; so is what would smuggle in another key.
    parsed: Toml = table["value"] if set(table) == {"value"} else value
    if not key:
        msg = f"a setting is key=value with a key such as sharpen.amount, got ={value}"
        raise PresetError(msg)
    return parsed


def _put(table: dict[str, Toml], key: str, value: Toml) -> None:
    *tables, last = key.split(".")
    for name in tables:
        inner = table.setdefault(name, {})
        if not isinstance(inner, dict):
            msg = f"{key}: {name!r} is a value, not a table"
            raise PresetError(msg)
        table = inner
    table[last] = value


def _typed(kind: type, value: Toml, label: str, key: str) -> object:
    """The value as `kind`: a settings class, a literal, a tuple of texts, or a plain type."""
    if not is_dataclass(kind):
        return _plain(kind, value, label, key)
    if not isinstance(value, dict):
        msg = f"{label}: {key} is a table, got {value!r}"
        raise PresetError(msg)
    hints = get_type_hints(kind)
    for name in value:
        if name not in hints:
            raise PresetError(_unknown(label, f"{key}.{name}".lstrip("."), name, list(hints)))
    assert all(f.default is not MISSING or f.default_factory is not MISSING for f in fields(kind))
    return kind(
        **{name: _typed(hints[name], inner, label, f"{key}.{name}".lstrip(".")) for name, inner in value.items()}
    )


def _plain(kind: object, value: Toml, label: str, key: str) -> object:
    options = get_args(kind) if get_origin(kind) not in (tuple, Literal) else (kind,)
    for option in options or (kind,):
        if get_origin(option) is Literal and value in get_args(option):
            return value
        if get_origin(option) is tuple and isinstance(value, list) and all(isinstance(v, str) for v in value):
            return tuple(value)
        if option is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if isinstance(option, type) and option is not float and type(value) is option:
            return value
    msg = f"{label}: {key} is {_wanted(options or (kind,))}, got {value!r}"
    raise PresetError(msg)


def _wanted(options: tuple[object, ...]) -> str:
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    named = []
    for option in options:
        if get_origin(option) is Literal:
            named += [repr(value) for value in get_args(option)]
        else:
            named.append(words.get(option, "a list of texts") if isinstance(option, type) else "a list of texts")
    return " or ".join(named)


def _unknown(label: str, key: str, name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1, cutoff=0.4)
    nearest = ".".join([*key.split(".")[:-1], *near])
    hint = f"did you mean {nearest!r}?" if near else f"known here: {', '.join(known)}"
    return f"{label}: unknown key {key!r}; {hint}"
