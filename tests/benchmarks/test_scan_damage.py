"""Two hundred damages to one finished target, one at a time: each must be found, and named by its file."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from scanning import SETTINGS, cluster, page
from tables import write_table

from pipelines.derivative import NAME, verified
from pipelines.errors import JobError
from pipelines.scan import scan

pytestmark = pytest.mark.bench

COUNT = 200
Damage = Callable[[Path, random.Random], set[str]]
"""Plants a damage in a target; gives the names of which at least one must be told."""


def flipped(target: Path, rng: random.Random) -> set[str]:
    """One bit of one file."""
    path = rng.choice(_files(target))
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return {path.relative_to(target).as_posix()}


def shortened(target: Path, rng: random.Random) -> set[str]:
    """The end of one file is lost."""
    path = rng.choice(_files(target))
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])
    return {path.relative_to(target).as_posix()}


def deleted(target: Path, rng: random.Random) -> set[str]:
    """One file is lost."""
    path = rng.choice(_files(target))
    path.unlink()
    return {path.relative_to(target).as_posix()}


def swapped(target: Path, rng: random.Random) -> set[str]:
    """Two files have one another's place."""
    one, other = rng.sample(_files(target), 2)
    while one.read_bytes() == other.read_bytes():
        one, other = rng.sample(_files(target), 2)
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)
    return {path.relative_to(target).as_posix() for path in (one, other)}


def added(target: Path, rng: random.Random) -> set[str]:
    """A file that nobody wrote: a shard beyond the image, or anything anywhere."""
    path = rng.choice(_files(target)).with_name(f"{rng.randrange(10**6, 10**7)}")
    path.write_bytes(rng.randbytes(rng.randrange(100)))
    return {path.relative_to(target).as_posix()}


KINDS: tuple[Damage, ...] = (flipped, shortened, deleted, swapped, added)


def test_scan_damage(tmp_path: Path) -> None:
    """Write the table of damages found; all of them must be."""
    source, target, kept = page(tmp_path / "page.tif", 3000, 2600), tmp_path / "page.zarr", tmp_path / "kept"
    with cluster() as (_, place):
        scan(source, target, SETTINGS, place, quiet=True)
    assert verified(target).wrong == ()
    shutil.copytree(target, kept)
    planted, found, named = Counter[str](), Counter[str](), Counter[str]()
    for seed in range(COUNT):
        rng, kind = random.Random(seed), KINDS[seed % len(KINDS)]  # noqa: S311  a test, not a secret
        expected = kind(target, rng)
        told = _told(target)
        planted[kind.__name__] += 1
        found[kind.__name__] += bool(told)
        # A damaged record names itself; of what it then says of others nothing is sure.
        named[kind.__name__] += told == expected or NAME in told & expected
        shutil.rmtree(target)
        shutil.copytree(kept, target)
    rows = [(name, f"{planted[name]}", f"{found[name]}", f"{named[name]}") for name in planted]
    total = [f"{counts.total()}" for counts in (planted, found, named)]
    notes = (
        "One damage at a time, in any file of a finished target of "
        f"{len(_files(kept))} files (shards, metadata, the record itself); named: the files that are told are those "
        "that were damaged, and no others."
    )
    print(write_table("scan-damage", "Damages that `refine verify` finds", ("kind", "planted", "found", "named"),
                      [*rows, ("all", *total)], notes))  # fmt: skip
    assert found.total() == named.total() == COUNT


def _told(target: Path) -> set[str]:
    try:
        return {one.path for one in verified(target).wrong}
    except JobError as error:
        # Without its record nothing can be compared; that is said instead, with its name.
        return {NAME} if NAME in str(error) else {str(error)}


def _files(target: Path) -> list[Path]:
    return sorted(p for p in target.rglob("*") if p.is_file() and ".refine" not in p.relative_to(target).parts)
