"""The images of a catalog that have no result, one JSON line each, with a command that shows what is wrong with it.

The file lies beside the ledger and is written anew by every run. Nothing is moved or deleted at the source.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines.manifest import Manifest
from pipelines.place import Place, Spot, spot_of
from pipelines.records import Record
from refine.imagefile import suffix_format
from refine.limits import Limits
from refine.preset import load_preset
from refine.staging import staged

FILE = "quarantine.jsonl"
"""In the folder of the ledger."""
_SUFFIX = {"jpeg": ".jpg", "png": ".png", "tiff": ".tif", "webp": ".webp", "avif": ".avif", "jpegxl": ".jxl"}
_NOT_SET = ("name", "renditions", "output.format")
"""Of a preset: what decides no pixel, or follows from the name of a result."""


def write_quarantine(own: Path, ledger: Manifest, records: Iterable[Record], source: Place, limits: Limits) -> Path:
    """Write the file; its path. Raises ImageWriteError where the disk refuses."""
    path, facts = own / FILE, _Facts(ledger)
    with staged(path) as temporary, temporary.open("wb") as file:
        for record in records:
            told = _told(record, source, limits, facts.of(record.key))
            file.write(json.dumps(told, separators=(",", ":")).encode("ascii") + b"\n")
    return path


def command(source: Path, facts: Mapping[str, Any]) -> str:
    """What to type into a shell to see it fail: the one image, restored as the catalog would do it."""
    wanted = facts["preset"]["output"]["format"]
    own = source.suffix if suffix_format(source) else ".png"
    result = f'"$(mktemp -d)/result{own if wanted == "source" else _SUFFIX[wanted]}"'
    words = ["refine", "restore", quoted(os.fspath(source)), result, *_size(facts["size"])]
    usual = dict(_leaves(asdict(load_preset())))
    for key, value in _leaves(facts["preset"]):
        if key not in _NOT_SET and _plain(value) != _plain(usual.get(key)):
            words += ["--set", quoted(f"{key}={json.dumps(value)}")]
    return " ".join(words)


def quoted(text: str) -> str:
    r"""A word for a POSIX shell; in the form of bash where there are bytes in it that are no text.

    >>> print(quoted("a b.png"), quoted("it's"), quoted("caf\udce9\n"))
    'a b.png' 'it'"'"'s' $'caf\xe9\x0a'
    """
    if text.isprintable():
        return shlex.quote(text)
    escaped = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b"'\\" else f"\\x{byte:02x}" for byte in os.fsencode(text)
    )
    return f"$'{escaped}'"


class _Facts:
    """What keys are digests of, looked up once each."""

    def __init__(self, ledger: Manifest) -> None:
        self._ledger = ledger
        self._known: dict[str, dict[str, Any]] = {}

    def of(self, key: str) -> dict[str, Any]:
        if key not in self._known:
            if len(self._known) >= 100:
                self._known.clear()
            self._known[key] = self._ledger.facts(self._ledger.key_id(key))
        return self._known[key]


def _told(record: Record, source: Place, limits: Limits, facts: Mapping[str, Any]) -> dict[str, object]:
    spot = spot_of(record.uri) if record.uri else Spot(source, record.path)
    local = spot.local
    return {
        "path": record.path,
        "rendition": record.rendition,
        "state": record.state,
        "stage": record.stage,
        "kind": record.kind,
        "reason": record.reason,
        "attempts": record.attempts,
        "source": spot.url if local is None else os.fspath(local.absolute()),
        "limits": asdict(limits),
        # Of a bucket, or of a look that only a picture has, there is no such command: `refine retry` tries it again.
        "command": command(local.absolute(), facts) if local and facts and not facts["reference"] else None,
    }


def _size(size: tuple[str, int | None, list[int] | None]) -> list[str]:
    scale, long_side, exact = size
    if exact is not None:
        return ["--size", f"{exact[1]}x{exact[0]}"]
    if long_side is not None:
        return ["--long-side", str(long_side)]
    return [] if scale == "None" else ["--scale", scale]


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _plain(value: object) -> object:
    """A value as JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value
