"""What is written down of a derivative: what it was made of and how, and the digest of each of its files.

The record is `provenance.json`, inside a folder that is the target, beside a file. It holds no time: the same source
and settings give the same bytes. `verified` compares it with what is there, and changes nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipelines import assessing, bag, sources
from pipelines.checked import Verified, Wrong
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
STRANGE = "was not written by the job"
"""What is said of a file that no record has."""


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
    """Write the record of a finished target.

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


def is_finished(target: Path, facts: Mapping[str, object]) -> bool:
    """Whether the target is there, finished, of these facts, each of its files as long as it was written."""
    found = noted(provenance_path(target))
    if found is None or found.get("facts") != json.loads(json.dumps(facts)):
        return False
    listed = recorded(found)
    there = {name: path.stat().st_size for name, path in files(target)}
    return listed is not None and there == {name: nbytes for name, (nbytes, _) in listed.items()}


def verified(target: Path) -> Verified:
    """Read every file of a target, or of a bag, again and compare. Raises JobError where there is no record of it.

    A record that was itself changed is one of the files that are wrong; its files are compared all the same.
    """
    if bag.is_bag(target):
        return bag.verified(target)
    path = provenance_path(target)
    found = noted(path)
    listed = None if found is None else recorded(found)
    if found is None or listed is None:
        raise JobError(_unrecorded(target, path))
    wrong = [] if is_whole(found) else [Wrong(path.name, "the record itself was changed")]
    there = dict(files(target))
    if there and listed and not there.keys() & listed.keys():
        raise JobError(
            f"{target.name}: its record is of files with other names ({min(listed, key=len)}, {len(listed)} in all):"
            " it was copied or renamed; give all that belongs to it the old name again"
        )
    wrong += [Wrong(name, "is not there") for name in listed.keys() - there.keys()]
    wrong += [Wrong(name, STRANGE) for name in there.keys() - listed.keys()]
    for name in listed.keys() & there.keys():
        nbytes, digest = listed[name]
        if there[name].stat().st_size != nbytes:
            wrong.append(Wrong(name, f"has {there[name].stat().st_size} bytes, was {nbytes}"))
        elif _digest(there[name]) != digest:
            wrong.append(Wrong(name, "its SHA-256 differs from what was written"))
    return Verified(len(there) + 1, tuple(sorted(wrong, key=lambda one: one.path)))


def _unrecorded(target: Path, record: Path) -> str:
    """Why nothing can be compared, and what can be done."""
    if record.exists():
        return (
            f"{target}: its record {record.name} is damaged, so nothing can be compared; start its job again with "
            "--repair, which makes all of it anew"
        )
    if whole := _part_of(target):
        return f"{target}: is a part of {whole}, whose record has all its files; verify that: {whole}"
    if not target.exists() and not any(_panels(target)):
        return f"{target}: is not there; name the TARGET of a catalog, of a finished scan or poster, or a bag"
    return (
        f"{target}: is no TARGET of a catalog, for it has no ledger, nor of a finished scan or poster, for it has no "
        f"record {record.name}; if it was copied, copy that too"
    )


def _part_of(path: Path) -> Path | None:
    """The target that a file is a panel or companion of, if that has a record."""
    names = (
        re.sub(rf"\.({'|'.join(COMPANIONS)})\.png$", "", path.name),
        re.sub(r"\.panel-\d+-\d+(\.[^.]+)$", r"\1", path.name),
    )
    beside = [path.with_name(name) for name in names if name != path.name]
    return next((one for one in (*beside, *path.parents) if one.name and provenance_path(one).is_file()), None)


def is_target(folder: Path) -> bool:
    """Whether a folder is a target, finished or begun, or holds the tiles of one, or is a bag: nothing may come in."""
    stem = folder.name.removesuffix("_files")
    tiled = stem != folder.name and folder.with_name(f"{stem}.dzi").is_file()
    begun = any((folder / name).is_file() for name in ("zarr.json", NAME, f"{OWN_FOLDER}/run.json"))
    return tiled or begun or bag.is_bag(folder)


def is_whole(record: Mapping[str, Any]) -> bool:
    """Whether a record is as it was written, by its own digest."""
    return record.get("sha256") == _own_digest({k: v for k, v in record.items() if k != "sha256"})


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


def recorded(found: Mapping[str, Any]) -> dict[str, tuple[int, str]] | None:
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
