"""A source too large for one task: decoded once into a working array, from which tiles read their windows."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from pipelines import store
from pipelines.errors import StoreError
from refine.decode_child import packed, unpacked
from refine.decoder import Decoder
from refine.imagefile import publish
from refine.plan import RESERVED_MEM
from refine.spec import ImageSpec
from refine.window import grid

SHARD = 512
"""px of a shard of the source; also the rows that are held at once."""
_ARRAY, _MARKER = "source.zarr", "source.json"


@dataclass(frozen=True, slots=True)
class Origin:
    """What a working array was made of. Written when the array is complete, and only then."""

    path: str
    """The source, below SOURCE."""
    size: int
    """Bytes of the source."""
    mtime_ns: int
    """When the source was changed last, ns."""
    key: str
    """Digest of all that decides the result apart from the source."""
    sha256: str
    """Of the source file, hex."""


def projected_mem(spec: ImageSpec) -> int:
    """Bytes that a worker needs at most while it takes a source in: three bands of rows, one shard encoded."""
    row_nbytes = spec.nbytes // spec.height
    shard_nbytes = SHARD * SHARD * row_nbytes // spec.width
    return RESERVED_MEM + 3 * SHARD * row_nbytes + 4 * shard_nbytes


def ingest(source: Path, spec: ImageSpec, work: Path, decoder: Decoder, origin: Origin) -> None:
    """Decode `source` into the working array of a work folder, band by band, then mark the array complete."""
    (work / _MARKER).unlink(missing_ok=True)
    array = store.create(work / _ARRAY, spec.shape, spec.dtype, SHARD, store.SOURCE_CHUNK)
    y = 0
    for rows in decoder.rows(source, SHARD, spec.page):
        if rows.shape[1:] != spec.shape[1:] or rows.dtype != spec.dtype or y + len(rows) > spec.height:
            raise StoreError(f"{source.name}: was another image when its header was read; run again")
        # Shard by shard: a whole band at once would be encoded, and held, at once.
        for shard in grid(len(rows), spec.width, SHARD):
            array[shard.shift(y, 0).slices] = rows[shard.slices]
        y += len(rows)
    if y != spec.height:
        raise StoreError(f"{source.name}: gave {y} of {spec.height} rows; run again")
    marker = {"origin": asdict(origin), "spec": packed(spec)}
    publish(work / _MARKER, json.dumps(marker).encode("ascii"))


def origin(work: Path) -> Origin | None:
    """What the working array of a work folder was made of; None where it is not complete."""
    try:
        return Origin(**_marker(work)["origin"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


@lru_cache(maxsize=8)
def source_spec(work: Path) -> ImageSpec:
    """The spec of the source of a work folder: profile and metadata are read once a process, not sent to each task.

    Raises StoreError where the folder's array is not complete.
    """
    try:
        return unpacked(_marker(work)["spec"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _incomplete(work) from error


def ingested(work: Path) -> store.PixelArray:
    """The working array of a work folder. Raises StoreError where it is not complete."""
    if origin(work) is None:
        raise _incomplete(work)
    return store.opened(work / _ARRAY)


def _marker(work: Path) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads((work / _MARKER).read_bytes()))


def _incomplete(work: Path) -> StoreError:
    return StoreError(f"{work.name}: the source's working array is not complete; run again")


def file_sha256(path: Path) -> str:
    """Digest of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
