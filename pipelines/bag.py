"""BagIt bags (RFC 8493): a payload folder `data`, and manifests that name each of its files with its SHA-256."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pipelines import sources
from pipelines.checked import Verified, Wrong
from pipelines.errors import JobError
from refine._version import __version__
from refine.imagefile import publish

_DECLARATION, _INFO, _MANIFEST, _TAGS = "bagit.txt", "bag-info.txt", "manifest-sha256.txt", "tagmanifest-sha256.txt"
_OXUM = re.compile(r"(?im)^Payload-Oxum\s*:\s*(\d+)\.(\d+)\s*$")


def bagged(target: Path) -> Path:
    """Where a target lies in its bag.

    >>> bagged(Path("scan.zarr")).as_posix()
    'scan.zarr.bag/data/scan.zarr'
    """
    return target.with_name(f"{target.name}.bag") / "data" / target.name


def is_in_bag(target: Path) -> bool:
    """Whether a target is the payload of a bag."""
    return target.parent.name == "data" and target.parents[1].name == f"{target.name}.bag"


def is_bag(folder: Path) -> bool:
    """Whether a folder says that it is a bag, or what was made as one has lost that."""
    return (folder / _DECLARATION).is_file() or (folder.suffix == ".bag" and (folder / "data").is_dir())


def is_closed(target: Path) -> bool:
    """Whether the bag of a target has its tag files: the last is written when all others are there."""
    return (target.parents[1] / _TAGS).is_file()


def close(target: Path) -> None:
    """Write the tag files of a target's bag: what lies in `data` now is its payload, and all of it is listed."""
    bag = target.parents[1]
    payload = list(_payload(bag))
    total = sum(path.stat().st_size for path in payload)
    _put(bag / _DECLARATION, "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n")
    _put(bag / _INFO, f"Payload-Oxum: {total}.{len(payload)}\nBag-Software-Agent: refine {__version__}\n")
    _put(bag / _MANIFEST, "".join(_line(bag, path) for path in payload))
    _put(bag / _TAGS, "".join(_line(bag, bag / name) for name in (_INFO, _DECLARATION, _MANIFEST)))


def verified(bag: Path) -> Verified:
    """Read every file that a bag's manifests name and compare; name what lacks and what they do not list.

    Raises JobError where the bag has no manifest of SHA-256.
    """
    payload = _listed(bag, _MANIFEST)
    if payload is None:
        raise JobError(f"{bag}: is a bag without a {_MANIFEST}, so nothing can be compared; start its scan again")
    tags = _listed(bag, _TAGS) or {}
    wrong = [found for name, digest in (tags | payload).items() if (found := _compared(bag, name, digest))]
    there = {path.relative_to(bag).as_posix() for path in _payload(bag)}
    wrong += [Wrong(name, "is not in the bag's manifest") for name in there - payload.keys()]
    lacking = {_DECLARATION, _INFO, _TAGS} - {path.name for path in bag.iterdir()} - tags.keys()
    wrong += [Wrong(name, "is not there") for name in lacking]
    wrong += _oxum(bag)
    return Verified(len(tags) + len(there | payload.keys()), tuple(sorted(wrong, key=lambda one: one.path)))


def _payload(bag: Path) -> Iterator[Path]:
    return (path for path in sorted((bag / "data").rglob("*")) if path.is_file())


def _compared(bag: Path, name: str, digest: str) -> Wrong | None:
    path = bag / name
    if not path.is_file():
        return Wrong(name, "is not there")
    return None if sources.digest(path) == digest else Wrong(name, "its SHA-256 differs from the bag's manifest")


def _oxum(bag: Path) -> Iterator[Wrong]:
    """The bytes and number of files that a bag speaks of, where they are others."""
    try:
        said = _OXUM.search((bag / _INFO).read_text("utf-8", "replace"))
    except OSError:
        return
    sizes = [path.stat().st_size for path in _payload(bag)]
    if said and (int(said[1]), int(said[2])) != (sum(sizes), len(sizes)):
        yield Wrong(
            _INFO, f"says {said[1]} bytes in {said[2]} files of payload, there are {sum(sizes)} in {len(sizes)}"
        )


def _listed(bag: Path, manifest: str) -> dict[str, str] | None:
    """SHA-256 of each file of a manifest by its name below the bag; None where there is no manifest."""
    try:
        lines = (bag / manifest).read_bytes().decode("utf-8", "surrogateescape").split("\n")
    except OSError:
        return None
    pairs = (line.rstrip("\r").split(maxsplit=1) for line in lines)
    return {_decoded(pair[1]): pair[0].lower() for pair in pairs if len(pair) == 2}


def _decoded(name: str) -> str:
    return re.sub(r"%(25|0[AaDd])", lambda found: chr(int(found[1], 16)), name.removeprefix("*"))


def _line(bag: Path, path: Path) -> str:
    # RFC 8493, 2.1.3: line breaks and percent signs in names are percent-encoded.
    name = re.sub(r"[%\r\n]", lambda found: f"%{ord(found[0]):02X}", path.relative_to(bag).as_posix())
    return f"{sources.digest(path)}  {name}\n"


def _put(path: Path, text: str) -> None:
    publish(path, text.encode("utf-8", "surrogateescape"))
