"""What a TOML table means as a settings class: frozen data whose fields say what may stand there."""

from __future__ import annotations

from dataclasses import is_dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Literal, get_args, get_origin, get_type_hints

from refine.errors import PresetError

Toml = str | int | float | bool | list["Toml"] | dict[str, "Toml"]


_hints = lru_cache(get_type_hints)
"""Of the settings' classes: a manifest may have a hundred thousand sets of options."""


def typed(kind: type, value: Toml, label: str, key: str) -> object:
    """The value as `kind`: a settings class, a literal, a tuple of texts, or a plain type.

    label names the file, key the place in it. Raises PresetError for what is unknown there or of the wrong kind.
    """
    if not is_dataclass(kind):
        return _plain(kind, value, label, key)
    if not isinstance(value, dict):
        msg = f"{label}: {key} is a table, got {value!r}"
        raise PresetError(msg)
    hints = _hints(kind)
    for name in value:
        if name not in hints:
            raise PresetError(_unknown(label, f"{key}.{name}".lstrip("."), name, list(hints)))
    return kind(
        **{name: typed(hints[name], inner, label, f"{key}.{name}".lstrip(".")) for name, inner in value.items()}
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
    quotes = f"; as a text it stands in quotes: '\"{value}\"'" if kind is str and type(value) in (int, float) else ""
    msg = f"{label}: {key} is {_wanted(options or (kind,))}, got {value!r}{quotes}"
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
