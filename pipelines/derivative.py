"""What is written down of a derivative: what it was made of and how, and the digest of each of its files.

The record is `provenance.json`, inside a folder that is the target, beside a file. It holds no time: the same source
and settings give the same bytes. `verified` compares it with what is there, and changes nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipelines import assessing, sources
from pipelines.errors import JobError, StoreError
from pipelines.naming import OWN_FOLDER
from pipelines.output import deed
from refine._version import __version__
from refine.assessment import Assessment
from refine.decide import Decision
from refine.imagefile import publish
from refine.plan import Plan

NAME = "provenance.json"
COMPANIONS = ("proof", "assembly")
"""Small pictures beside a target."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """A file that is not what was written."""

    path: str
    """Below the target."""
    why: str
    """One line."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification found."""

    checked: int
    """Files that were read."""
    wrong: tuple[Wrong, ...]
    """Those that are not as they were written, lack, or have come in."""


def provenance_path(target: Path) -> Path:
    """Where the record of a target lies: in a folder of pixels, or beside a file."""
    return target / NAME if target.suffix.lower() == ".zarr" else target.with_name(f"{target.name}.{NAME}")


def told_page(plan: Plan, decision: Decision, found: Assessment, execution_class: str) -> dict[str, object]:
    """What is said of one page: JSON values."""
    done = deed(plan, execution_class)
    return {
        "kind": "derivative",
        "decision": decision.action,
        "reasons": list(decision.reasons),
        "strengths": decision.strengths,
        "overridden": list(decision.overridden),
        "measured": assessing.measured(found),
        "steps": list(done.steps),
        "networks": [{"id": net, "sha256": digest} for net, digest in done.nets],
        "program_sha256": plan.program.digest,
        "scale": done.scale,
        "source_size": [plan.source.height, plan.source.width],
        "size": list(plan.output),
        "execution_class": execution_class,
        "version": __version__,
    }


def record(
    target: Path,
    source: Path,
    facts: Mapping[str, object],
    pages: Sequence[Mapping[str, object]],
    written: Mapping[str, str],
) -> None:
    """Write the record of a finished target, and the rest of its bag if it lies in one.

    written: SHA-256 of files below the target, as they were written. Raises StoreError where one is no longer that:
    a damage must not be recorded as what was made.
    """
    listed = [{"path": name, "nbytes": path.stat().st_size, "sha256": _digest(path)} for name, path in files(target)]
    for file in listed:
        if written.get(str(file["path"]), file["sha256"]) != file["sha256"]:
            raise StoreError(f"{file['path']}: is not what was written; run the job again, which makes it anew")
    said = {
        "kind": "derivative",
        "program": f"refine {__version__}",
        "source": {"name": source.name, "sha256": facts["source"]},
        "facts": dict(facts),
        "pages": list(pages),
        "files": listed,
    }
    publish(provenance_path(target), _bytes({**said, "sha256": _own_digest(said)}))
    if is_in_bag(target):
        _finish_bag(target)


def is_finished(target: Path, facts: Mapping[str, object]) -> bool:
    """Whether the target is there, finished, of these facts, each of its files as long as it was written."""
    found = noted(provenance_path(target))
    if found is None or found.get("facts") != json.loads(json.dumps(facts)):
        return False
    recorded = _recorded(found)
    there = {name: path.stat().st_size for name, path in files(target)}
    return recorded is not None and there == {name: nbytes for name, (nbytes, _) in recorded.items()}


def verified(target: Path) -> Verified:
    """Read every file of a target again and compare. Raises JobError where there is no record of it.

    A record that was itself changed is one of the files that are wrong; its files are compared all the same.
    """
    path = provenance_path(target)
    found = noted(path)
    recorded = None if found is None else _recorded(found)
    if found is None or recorded is None:
        lost = "is damaged" if path.exists() else "is not there"
        raise JobError(f"{target}: its record {path.name} {lost}, so nothing can be compared; run the job again")
    wrong = []
    if found.get("sha256") != _own_digest({k: v for k, v in found.items() if k != "sha256"}):
        wrong.append(Wrong(path.name, "the record itself was changed"))
    there = dict(files(target))
    wrong += [Wrong(name, "is not there") for name in recorded.keys() - there.keys()]
    wrong += [Wrong(name, "was not written by the job") for name in there.keys() - recorded.keys()]
    for name in recorded.keys() & there.keys():
        nbytes, digest = recorded[name]
        if there[name].stat().st_size != nbytes:
            wrong.append(Wrong(name, f"has {there[name].stat().st_size} bytes, was {nbytes}"))
        elif _digest(there[name]) != digest:
            wrong.append(Wrong(name, "its SHA-256 differs from what was written"))
    return Verified(len(there) + 1, tuple(sorted(wrong, key=lambda one: one.path)))


def noted(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None where there is none."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def note(path: Path, facts: Mapping[str, object]) -> None:
    """Write a JSON object."""
    publish(path, _bytes(facts))


def bagged(target: Path) -> Path:
    """Where a target lies in its bag.

    >>> bagged(Path("scan.zarr")).as_posix()
    'scan.zarr.bag/data/scan.zarr'
    """
    return target.with_name(f"{target.name}.bag") / "data" / target.name


def is_in_bag(target: Path) -> bool:
    """Whether a target is the payload of a bag."""
    return target.parent.name == "data" and target.parents[1].name == f"{target.name}.bag"


def _finish_bag(target: Path) -> None:
    """Write the tag files of BagIt 1.0 (RFC 8493)."""
    bag = target.parents[1]
    payload = sorted(p for p in target.parent.rglob("*") if p.is_file() and OWN_FOLDER not in p.parts)
    total = sum(p.stat().st_size for p in payload)
    _put(bag / "bagit.txt", "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n")
    _put(bag / "bag-info.txt", f"Payload-Oxum: {total}.{len(payload)}\nBag-Software-Agent: refine {__version__}\n")
    _put(bag / "manifest-sha256.txt", "".join(_manifest_line(bag, p) for p in payload))
    tags = [bag / name for name in ("bag-info.txt", "bagit.txt", "manifest-sha256.txt")]
    _put(bag / "tagmanifest-sha256.txt", "".join(_manifest_line(bag, p) for p in tags))


def _manifest_line(bag: Path, path: Path) -> str:
    # RFC 8493, 2.1.3: line breaks and percent signs in names are percent-encoded.
    name = re.sub(r"[%\r\n]", lambda found: f"%{ord(found[0]):02X}", path.relative_to(bag).as_posix())
    return f"{_digest(path)}  {name}\n"


def _put(path: Path, text: str) -> None:
    publish(path, text.encode("utf-8"))


def files(target: Path) -> Iterator[tuple[str, Path]]:
    """Every file of a target but its record and the ledger, by its name below it or beside it."""
    if target.suffix.lower() == ".zarr":
        for path in sorted(p for p in target.rglob("*") if p.is_file()):
            name = path.relative_to(target)
            if name.parts[0] != OWN_FOLDER and name.as_posix() != NAME:
                yield name.as_posix(), path
    elif target.exists():
        yield target.name, target
    tiles = target.with_name(f"{target.stem}_files")
    if target.suffix.lower() == ".dzi" and tiles.is_dir():
        for path in sorted(p for p in tiles.rglob("*") if p.is_file()):
            yield path.relative_to(target.parent).as_posix(), path
    beside = [companion(target, what) for what in COMPANIONS] + sorted(_panels(target))
    yield from ((path.name, path) for path in beside if path.exists())


def companion(target: Path, what: str) -> Path:
    """A small picture that goes with a target.

    >>> companion(Path("a/wall.tif"), "proof").as_posix()
    'a/wall.tif.proof.png'
    """
    return target.with_name(f"{target.name}.{what}.png")


def panel_path(target: Path, row: int, column: int) -> Path:
    """The file of one panel of a target that is split, by its place from 1.

    >>> panel_path(Path("wall.tif"), 1, 2).name
    'wall.panel-1-2.tif'
    """
    return target.with_name(f"{target.stem}.panel-{row}-{column}{target.suffix}")


def _panels(target: Path) -> Iterator[Path]:
    name = re.compile(rf"{re.escape(target.stem)}\.panel-\d+-\d+{re.escape(target.suffix)}")
    return (path for path in target.parent.glob("*.panel-*") if name.fullmatch(path.name))


def _recorded(found: Mapping[str, Any]) -> dict[str, tuple[int, str]] | None:
    """Bytes and SHA-256 of each file by its name, as a record has them; None where it is damaged."""
    try:
        return {str(file["path"]): (file["nbytes"], file["sha256"]) for file in found["files"]}
    except (LookupError, TypeError):
        return None


def _digest(path: Path) -> str:
    return sources.digest(path)


def _own_digest(said: Mapping[str, object]) -> str:
    return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _bytes(said: Mapping[str, object]) -> bytes:
    return json.dumps(said, indent=1, sort_keys=True).encode("utf-8") + b"\n"
