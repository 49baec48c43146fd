"""The key of a result: what decides its bytes, apart from the source."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from hashlib import sha256
from itertools import zip_longest
from typing import Any

from refine.card import load_card
from refine.errors import PlanError
from refine.preset import PlanSettings
from refine.settings import FAMILIES, MAX_NETWORK_SCALE, Settings, networks
from refine.spec import ImageSpec

BEHAVIOUR = 4
"""Raised when results change in a way that no program, network, or version tells."""
_PROBED = (Fraction(1, 2), Fraction(1), Fraction(2), Fraction(4))
"""Enlargements whose programs are taken into the key where the size of a result does not follow from a scale."""


def result_key(settings: Settings, behaviour: str) -> str:
    """The key of all results of a run, hex; the same where the same bytes come out. Raises as `result_facts` does."""
    return facts_key(result_facts(settings, behaviour))


def facts_key(facts: Mapping[str, object]) -> str:
    """The key of results that these facts decide, hex."""
    return sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def result_facts(settings: Settings, behaviour: str) -> dict[str, object]:
    """All that decides the bytes of a run's results beside the source, JSON values.

    behaviour names the execution class. The tile and the memory are not in it, for no byte depends on them. Raises
    ChainError or PlanError where the settings fit no image.
    """
    plan = PlanSettings(block=settings.preset.plan.block)
    preset = asdict(replace(settings.preset, name="", plan=plan))
    preset.pop("renditions")  # what a result is called decides no byte of it
    if not preset["output"]["background"]:
        del preset["output"]["background"]  # results that were made before there was one keep their key
    return {
        "preset": preset,
        "reference": settings.reference and settings.reference.as_json(),
        "size": [str(settings.size.scale), settings.size.long_side, settings.size.exact],
        "networks": {net: load_card(net).sha256 for net in sorted(_networks(settings))},
        "programs": _programs(settings),
        "class": behaviour,
        "behaviour": BEHAVIOUR,
    }


def differences(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """The names of the facts that are not the same in two runs."""
    ours = json.loads(json.dumps(now))
    return sorted(name for name in before.keys() | ours.keys() if before.get(name) != ours.get(name))


@dataclass(frozen=True, slots=True)
class Difference:
    """What sets the key of an earlier result apart from the one it would get now."""

    asked: bool
    """Whether it was asked for: only settings and size differ, and what follows from them."""
    told: tuple[str, ...]
    """What differs, in words: `sharpen.amount 0.4, now 0.6`."""


def difference(before: Mapping[str, object], now: Mapping[str, object]) -> Difference:
    """What differs between the facts of two keys. Facts that are not known count as another program's."""
    if not before:
        return Difference(asked=False, told=("made by a program that left no note of its settings",))
    ours = json.loads(json.dumps(now))
    wished = [*_wishes(before, ours)]
    others = [*_foreign(before, ours)]
    if not wished and not others:
        others = ["the programs that the same settings give"]
    return Difference(asked=not others, told=(*others, *wished))


def _wishes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What its user wants otherwise."""
    old, new = _flat(before.get("preset", {})), _flat(now.get("preset", {}))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield f"{name} {_said(old.get(name))}, now {_said(new.get(name))}"
    if before.get("size") != now.get("size"):
        yield f"size {_size(before.get('size'))}, now {_size(now.get('size'))}"
    if before.get("reference") != now.get("reference"):
        yield "the picture that tones are matched to"


def _foreign(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What has changed without being asked for."""
    old, new = before.get("networks", {}), now.get("networks", {})
    for net in sorted(old.keys() & new.keys()):
        if old[net] != new[net]:
            yield f"network {net}"
    for was, is_now in zip_longest(str(before.get("class")).split("/"), str(now.get("class")).split("/"), fillvalue=""):
        if was != is_now and not was.startswith("block-"):
            yield f"{was}, now {is_now}"
    if before.get("behaviour") != now.get("behaviour"):
        yield f"behaviour {before.get('behaviour')}, now {now.get('behaviour')}"


def _flat(table: Mapping[str, Any], above: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in table.items():
        flat |= _flat(value, f"{above}{name}.") if isinstance(value, dict) else {f"{above}{name}": value}
    return flat


def _said(value: object) -> str:
    return "none" if value is None else str(value)


def _size(size: Any) -> str:  # noqa: ANN401  as it came out of JSON
    scale, long_side, exact = size or (None, None, None)
    if exact:
        return f"{exact[1]} x {exact[0]} px"
    if long_side:
        return f"long side {long_side} px"
    return "as the source's" if scale in (None, "None") else f"scale {scale}"


def _networks(settings: Settings) -> set[str]:
    """Every network that some image may need."""
    repair = {settings.preset.repair.net} - {""}
    nets = settings.preset.upscale.nets
    if isinstance(nets, tuple):
        return repair | set(nets)
    enlargements = map(Fraction, range(1, MAX_NETWORK_SCALE + 1))
    return repair | {net for enlargement in enlargements for net in networks(enlargement, FAMILIES[nets])}


def _programs(settings: Settings) -> list[str]:
    """Digests of the programs of small, made-up images: they change when the writing of programs does."""
    size = settings.size
    if size.exact is None and size.long_side is None:
        return [settings.plan(ImageSpec(64, 64, 3, "uint8")).program.digest]
    height, width = size.exact or (size.long_side or 1, size.long_side or 1)
    digests = []
    for enlargement in _PROBED:
        spec = ImageSpec(max(1, int(height / enlargement)), max(1, int(width / enlargement)), 3, "uint8")
        try:
            digests.append(settings.plan(spec).program.digest)
        except PlanError as error:  # what does not fit one of them says nothing of the others
            digests.append(type(error).__name__)
    return digests
