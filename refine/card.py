"""Model cards: what is known of a network, read from the TOML file beside it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import Literal, get_args, get_origin, get_type_hints

import onnx

from refine import resources
from refine.errors import CardError

Kind = Literal["enlarge", "repair"]
"""What a network is for: more pixels, or better ones at the same size."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a user, a plan and a lawyer ask of a network. Its file has these keys, all but `id`, and no others."""

    id: str
    """Name of the network; its file is `<id>.onnx`."""
    kind: Kind
    """`enlarge` or `repair`."""
    summary: str
    """One sentence."""
    scale: int
    """Output px per input px."""
    halo: int
    """Input px needed round a tile. Declared here, checked against the graph."""
    multiple_of: int
    """A window must start and end on multiples of this, input px."""
    range: str
    """Type, range and encoding of the values that go in and come out."""
    planes: tuple[str, ...]
    """What the numbers of its `strength` input mean, in order; none where it has no such input."""
    mem_per_px: int
    """Peak working memory, bytes per padded input px; measured."""
    cost_s: float
    """CPU seconds per output megapixel on one core; measured, for estimates only."""
    flat_error: float
    """No phase of a flat grey field comes out further off than this at any strength, 65535ths; measured and tested."""
    licence: str
    """SPDX name of the licence of the weights."""
    data: tuple[str, ...]
    """What it learnt from: one line for each set and licence, with the works that ask to be named."""
    training: str
    """Steps, squares, loss, optimiser, seed, and what it began from."""
    machine: str
    """Where it was trained, and how long."""
    recipe: str
    """The commit of the recipe."""
    scores: Mapping[str, float] = field(hash=False)
    """dB by name of the test, as models/README.md explains them."""
    weaknesses: tuple[str, ...]
    """What it is known to get wrong."""
    generative: bool
    """Whether it was taught to make detail up that looks right. None that is shipped was."""
    sha256: str
    """Digest of the file."""


@lru_cache
def load_card(net: str, kind: Kind | None = None) -> ModelCard:
    """The card of a shipped network. Raises CardError, naming those there are, for none such or one of another kind."""
    entry = resources.nets() / f"{net}.toml"
    if not entry.is_file():
        msg = f"no network {net!r}; there are {', '.join(card_ids(kind))}"
        raise CardError(msg)
    try:
        table = tomllib.loads(entry.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{net}.toml: not a valid card: {error}; see models/README.md for what a card holds"
        raise CardError(msg) from error
    card = card_of(net, table)
    if kind not in (None, card.kind):
        msg = f"{net!r} is a network to {card.kind}, asked for one to {kind}; there are {', '.join(card_ids(kind))}"
        raise CardError(msg)
    return card


def card_of(net: str, table: Mapping[str, object]) -> ModelCard:
    """The card in a parsed file. Raises CardError for keys that are missing or unknown, and values of a wrong type."""
    wanted = {name: form for name, form in get_type_hints(ModelCard).items() if name != "id"}
    hint = "see models/README.md for what a card holds"
    if missing := [name for name in wanted if name not in table]:
        msg = f"{net}.toml: the key {missing[0]!r} is missing; {hint}"
        raise CardError(msg)
    if unknown := [name for name in table if name not in wanted]:
        msg = f"{net}.toml: unknown key {unknown[0]!r}, which nobody would read; {hint}"
        raise CardError(msg)
    values = {}
    for name, form in wanted.items():
        value = _typed(table[name], form)
        if value is None:
            msg = f"{net}.toml: {name} is {_said(form)}, got {table[name]!r}; {hint}"
            raise CardError(msg)
        values[name] = value
    return ModelCard(net, **values)  # type: ignore[arg-type]


def card_ids(kind: Kind | None = None) -> list[str]:
    """Ids of the shipped networks, or of those of a kind, sorted."""
    ids = sorted(e.name.removesuffix(".toml") for e in resources.nets().iterdir() if e.name.endswith(".toml"))
    return [net for net in ids if kind in (None, load_card(net).kind)]


@lru_cache(maxsize=8)
def load_network(net: str) -> onnx.ModelProto:
    """The graph of a shipped network, its file checked against the digest on its card. Do not change it."""
    card = load_card(net)
    try:
        data = (resources.nets() / f"{net}.onnx").read_bytes()
    except OSError as error:
        msg = f"{net}.onnx cannot be read, though it has a card: {error.strerror}; restore it"
        raise CardError(msg) from error
    found = sha256(data).hexdigest()
    if found != card.sha256:
        msg = f"{net}.onnx does not match its card: sha256 {found[:12]}... instead of {card.sha256[:12]}...; restore it"
        raise CardError(msg)
    return onnx.load_model_from_string(data)


def _typed(value: object, form: object) -> object | None:
    """The value in the form of a field, None where it is of another."""
    if form is float and type(value) is int:
        return float(value)
    if isinstance(form, type) and type(value) is form:
        return value
    if get_origin(form) is Literal and value in get_args(form):
        return value
    if get_origin(form) is tuple and isinstance(value, list) and all(isinstance(line, str) for line in value):
        return tuple(value)
    if get_origin(form) is Mapping and isinstance(value, dict):
        numbers = {name: float(one) for name, one in value.items() if type(one) in (int, float)}
        return numbers if len(numbers) == len(value) else None
    return None


def _said(form: object) -> str:
    if get_origin(form) is Literal:
        return " or ".join(repr(option) for option in get_args(form))
    plain = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    listed = "a list of texts" if get_origin(form) is tuple else "a table of numbers"
    return plain.get(form, listed) if isinstance(form, type) else listed
