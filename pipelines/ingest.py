"""A source too large for one task: decoded once into a working array, from which tiles read their windows.

The array is filled slab by slab: rows of shards, columns for a picture stored on its side. A journal beside it has a
line for each finished slab, with length and digest of its shards; a later call keeps those that it finds whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from pipelines import assessing, store
from pipelines.checked import file_sha256
from pipelines.errors import StoreError
from refine.assess import assess
from refine.assessment import Assessment
from refine.decode_child import packed, unpacked
from refine.decoder import Decoder
from refine.imagefile import publish
from refine.openimage import Storage
from refine.plan import RESERVED_MEM
from refine.sampling import Source
from refine.spec import ImageSpec
from refine.window import Window, grid

SHARD = 512
"""px of a shard of the source; also the rows of a slab."""
_ARRAY, _MARKER, _JOURNAL = "source.zarr", "source.json", "source.journal"
_UPWARDS = (3, 4, 6, 7)
"""EXIF orientations whose first stored row is the last one, or the last column, of the upright picture."""
_PIECE_NBYTES = 32 << 20
"""Bytes of a slab that are read at a time."""


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
    """Bytes that a worker needs at most while it takes a source in: three pieces of a slab, one shard encoded."""
    return RESERVED_MEM + 3 * piece_nbytes(spec) + 4 * SHARD * SHARD * spec.nbytes // (spec.height * spec.width)


def piece_nbytes(spec: ImageSpec) -> int:
    """Bytes of the largest window that is read at a time while a source is taken in."""
    return SHARD * min(_piece_side(spec), max(spec.height, spec.width)) * spec.nbytes // (spec.height * spec.width)


def ingest(source: Path, spec: ImageSpec, work: Path, decoder: Decoder, origin: Origin) -> None:
    """Decode `source` into the working array of a work folder, slab by slab, assess it, and mark it complete.

    What an earlier call with the same origin has finished is kept, if its files are what they were; the slab in which
    that call ended is made again. A strip or tile is decoded once, whatever the slabs; a picture that must be decoded
    whole, once in each call. Raises StoreError where the source changes meanwhile.
    """
    (work / _MARKER).unlink(missing_ok=True)
    array, finished = _begun(work, spec, origin)
    intake = _Intake(source, spec, decoder.storage(source, spec.page)[1], decoder, work / _ARRAY, array)
    status = source.stat()
    for slab in slabs(spec, intake.storage):
        if (slab.y0, slab.x0) not in finished:
            shards = intake.taken(slab)
            if (source.stat().st_size, source.stat().st_mtime_ns) != (status.st_size, status.st_mtime_ns):
                raise StoreError(f"{source.name}: was changed while it was worked on; run again")
            _append(work / _JOURNAL, {"slab": [slab.y0, slab.x0], "shards": shards})
    decoder.rest()
    found = assess(cast("Source", array), spec)
    marker = {"origin": asdict(origin), "spec": packed(spec), "assessment": assessing.packed(found)}
    publish(work / _MARKER, json.dumps(marker).encode("ascii"))


def slabs(spec: ImageSpec, storage: Storage) -> list[Window]:
    """The windows in which an image is taken in, in the order of its file.

    Each holds whole shards, and strips from edge to edge of the stored picture.
    """
    if storage.sideways:
        found = [Window(0, x, spec.height, min(x + SHARD, spec.width)) for x in range(0, spec.width, SHARD)]
    else:
        found = [Window(y, 0, min(y + SHARD, spec.height), spec.width) for y in range(0, spec.height, SHARD)]
    return found[::-1] if spec.orientation in _UPWARDS else found


def begun(work: Path) -> Origin | None:
    """What the working array of a work folder is being made of, complete or not; None where there is none."""
    lines = _lines(work / _JOURNAL)
    try:
        return Origin(**lines[0]["origin"])
    except (LookupError, TypeError):
        return None


def _begun(work: Path, spec: ImageSpec, origin: Origin) -> tuple[store.PixelArray, set[tuple[int, int]]]:
    """The working array, and the corners of the slabs that are whole in it; a new array where there is none to keep."""
    journal, header = work / _JOURNAL, {"origin": asdict(origin), "shape": [*spec.shape], "dtype": spec.dtype}
    lines = _lines(journal)
    if not lines or lines[0] != header:
        journal.unlink(missing_ok=True)
        array = store.create(work / _ARRAY, spec.shape, spec.dtype, SHARD, store.SOURCE_CHUNK)
        _append(journal, header)
        return array, set()
    array = store.opened(work / _ARRAY, "r+")
    kept = [line for line in lines[1:] if all(_is_same(work, *shard) for shard in line["shards"])]
    # Without the lines that do not hold, and without half a line at its end.
    publish(journal, b"".join(_line(line) for line in [header, *kept]))
    return array, {(line["slab"][0], line["slab"][1]) for line in kept}


@dataclass(frozen=True, slots=True)
class _Intake:
    """One image on its way into its working array."""

    source: Path
    spec: ImageSpec
    storage: Storage
    decoder: Decoder
    path: Path
    """Of the array."""
    array: store.PixelArray

    def taken(self, slab: Window) -> list[list[int | str]]:
        """Decode a slab and write its shards; first row and column, bytes and digest of each."""
        keep_mem = kept_mem(self.spec, self.storage)
        written = list[list[int | str]]()
        for piece in _pieces(slab, self.spec, self.storage):
            pixels = self.decoder.window(self.source, piece, self.spec.page, keep_mem=keep_mem)
            if pixels.shape[2] != self.spec.channels or pixels.dtype != self.spec.dtype:
                raise StoreError(f"{self.source.name}: was another image when its header was read; run again")
            # Shard by shard: a whole piece at once would be encoded, and held, at once.
            for inner in grid(piece.height, piece.width, SHARD):
                place = inner.shift(piece.y0, piece.x0)
                shard = store.shard_path(self.path, place, SHARD)
                # Nothing of an earlier, perhaps damaged, shard is to be read into this one.
                shard.unlink(missing_ok=True)
                self.array[place.slices] = pixels[inner.slices]
                made = store.sealed(shard)
                written.append([place.y0, place.x0, made.nbytes, made.sha256])
        return written


def kept_mem(spec: ImageSpec, storage: Storage) -> int:
    """Bytes of strips or tiles that the decoder keeps while an image is taken in, so that none is decoded twice."""
    if storage.direct:
        return 0
    length, rows = (spec.width, storage.width) if storage.sideways else (spec.height, storage.height)
    # One that reaches out of a slab waits for the next; where slabs are read in pieces, all of them wait.
    several = len(_pieces(slabs(spec, storage)[0], spec, storage)) > 1
    return storage.row_nbytes * min(-(-length // rows), 1 + several * -(-SHARD // rows))


def _pieces(slab: Window, spec: ImageSpec, storage: Storage) -> list[Window]:
    """The windows in which a slab is read: of whole shards, and of few bytes."""
    step = _piece_side(spec)
    if storage.sideways:
        return [Window(y, slab.x0, min(y + step, slab.y1), slab.x1) for y in range(slab.y0, slab.y1, step)]
    return [Window(slab.y0, x, slab.y1, min(x + step, slab.x1)) for x in range(slab.x0, slab.x1, step)]


def _piece_side(spec: ImageSpec) -> int:
    """px along a slab that are read at a time."""
    shard_nbytes = SHARD * SHARD * spec.nbytes // (spec.height * spec.width)
    return SHARD * max(1, _PIECE_NBYTES // shard_nbytes)


def _is_same(work: Path, y: int, x: int, nbytes: int, sha256: str) -> bool:
    """Whether a shard's file is the one that was written."""
    shard = store.shard_path(work / _ARRAY, Window(y, x, y + SHARD, x + SHARD), SHARD)
    return store.is_whole(shard, nbytes) and file_sha256(shard) == sha256


def _append(journal: Path, fields: Mapping[str, object]) -> None:
    """Add a line, and have the disk write it."""
    with journal.open("ab") as file:
        file.write(_line(fields))
        file.flush()
        os.fsync(file.fileno())


def _line(fields: Mapping[str, object]) -> bytes:
    return json.dumps(fields).encode("ascii") + b"\n"


def _lines(journal: Path) -> list[dict[str, Any]]:
    """The lines of a journal up to one that was not finished."""
    try:
        text = journal.read_bytes()
    except OSError:
        return []
    found = list[dict[str, Any]]()
    for line in text.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


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


@lru_cache(maxsize=8)
def assessment(work: Path) -> Assessment:
    """What the source of a work folder is like. Raises StoreError where the folder's array is not complete."""
    try:
        return assessing.unpacked(_marker(work)["assessment"])
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
