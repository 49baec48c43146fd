"""The key of a result: what decides its bytes, apart from the source."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from fractions import Fraction
from hashlib import sha256

from refine.card import load_card
from refine.errors import PlanError
from refine.preset import PlanSettings
from refine.settings import MAX_NETWORK_SCALE, Settings, networks
from refine.spec import ImageSpec

BEHAVIOUR = 3
"""Raised when results change in a way that no program, network, or version tells."""
_PROBED = (Fraction(1, 2), Fraction(1), Fraction(2), Fraction(4))
"""Enlargements whose programs are taken into the key where the size of a result does not follow from a scale."""


def result_key(settings: Settings, behaviour: str) -> str:
    """The key of all results of a run, hex; the same where the same bytes come out. Raises as `result_facts` does."""
    return sha256(json.dumps(result_facts(settings, behaviour), sort_keys=True).encode()).hexdigest()


def result_facts(settings: Settings, behaviour: str) -> dict[str, object]:
    """All that decides the bytes of a run's results beside the source, JSON values.

    behaviour names the execution class. The tile and the memory are not in it, for no byte depends on them. Raises
    ChainError or PlanError where the settings fit no image.
    """
    plan = PlanSettings(block=settings.preset.plan.block)
    preset = asdict(replace(settings.preset, name="", plan=plan))
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


def _networks(settings: Settings) -> set[str]:
    """Every network that some image may need."""
    repair = {settings.preset.repair.net} - {""}
    if settings.preset.upscale.nets != "auto":
        return repair | set(settings.preset.upscale.nets)
    return repair | {net for enlargement in range(1, MAX_NETWORK_SCALE + 1) for net in networks(Fraction(enlargement))}


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
