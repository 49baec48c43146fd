"""Model cards: what is known of a network, read from the TOML file beside it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

import onnx

from refine import resources
from refine.errors import CardError


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a user and a plan need to know of a network."""

    id: str
    """Name of the network; its file is `<id>.onnx`."""
    scale: int
    """Output px per input px."""
    halo: int
    """Input px needed round a tile. Declared here, checked against the graph."""
    multiple_of: int
    """A window must start and end on multiples of this."""
    sha256: str
    """Digest of the file."""
    mem_per_px: int
    """Peak working memory, bytes per padded input px; measured."""
    cost_s: float
    """CPU seconds per output megapixel on one core; measured, for estimates only."""
    flat_error: float
    """No phase of a flat grey field comes out further off than this, 65535ths; measured and tested."""
    licence: str
    """SPDX name of the licence of the weights."""
    summary: str
    """One sentence."""


@lru_cache
def load_card(net: str) -> ModelCard:
    """The card of a shipped network. Raises CardError naming the shipped ones where there is none such."""
    entry = resources.nets() / f"{net}.toml"
    if not entry.is_file():
        msg = f"no network {net!r}; there are {', '.join(card_ids())}"
        raise CardError(msg)
    try:
        table = tomllib.loads(entry.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{net}.toml: not a valid card: {error}; see models/README.md for what a card holds"
        raise CardError(msg) from error
    try:
        return ModelCard(id=net, **{name: table[name] for name in ModelCard.__slots__ if name != "id"})
    except KeyError as error:
        msg = f"{net}.toml: the key {error.args[0]!r} is missing; see models/README.md for what a card holds"
        raise CardError(msg) from error


def card_ids() -> list[str]:
    """Ids of the shipped networks, sorted."""
    return sorted(e.name.removesuffix(".toml") for e in resources.nets().iterdir() if e.name.endswith(".toml"))


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
