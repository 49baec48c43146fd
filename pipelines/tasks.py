"""What a worker does with an item: five kinds of work, each answered by a receipt or a failure."""

from __future__ import annotations

import errno
import logging
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import cast

from pipelines import ingest, store
from pipelines.assessing import flag, need
from pipelines.checked import file_sha256
from pipelines.errors import OutageError, StoreError
from pipelines.estimate import is_small
from pipelines.failures import kind_of, pauses, reason_of
from pipelines.ingest import Origin
from pipelines.items import Common, Failure, Ingest, Item, Look, Receipt, Restore, Shard, Stitch
from pipelines.output import Output, deed, output, output_format
from pipelines.sources import decoder
from pipelines.targets import Result
from refine._version import __version__
from refine.assess import assess
from refine.assessment import Assessment
from refine.decide import Decision
from refine.errors import RefineError
from refine.plan import Plan
from refine.session import Engine, execution_class
from refine.spec import Image, ImageSpec, Metadata, Pixels
from refine.tiles import restore_tile, restored_pixels
from refine.window import Window

logger = logging.getLogger(__name__)

_STOPPING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""What the disk says when no other image can be written either."""


class _DamagedError(StoreError):
    """A shard that is lost, short, or fails its checksum."""

    def __init__(self, tiles: tuple[Window, ...]) -> None:
        first = f"first the one at row {tiles[0].y0}, column {tiles[0].x0}"
        super().__init__(f"{len(tiles)} shards are lost or damaged ({first}); they are made again by another run")
        self.tiles = tiles


def behaviour(engine: Engine, block: int) -> str:
    """The execution class of this process, with the version of refine."""
    return f"refine-{__version__}/{execution_class(engine, block)}"


def performed(items: tuple[Item, ...], common: Common) -> tuple[Receipt | Failure, ...]:
    """Do each item; one that fails keeps no other from being done.

    Renditions of one source that follow one another share one decoding and one assessment.
    """
    answers: list[Receipt | Failure] = []
    opened = _Opened()
    for item in items:
        if not (isinstance(item, Restore) and opened.is_of(item)):
            opened = _Opened()
        answers.append(attempted(partial(_done, item, common, opened), Path(_image(item).path).name))
    return tuple(answers)


@dataclass(slots=True)
class _Opened:
    """A source that was decoded and assessed for one rendition, kept for the next."""

    item: Restore | None = None
    """The rendition it was opened for."""
    source_sha256: str = ""
    """Of the file, hex."""
    image: Image | None = None
    """What it decodes to."""
    found: Assessment | None = None
    """What it is like."""

    def is_of(self, item: Restore) -> bool:
        """Whether another rendition is of this very source."""
        known = self.item
        return known is not None and (known.source, known.size, known.mtime_ns, known.etag) == (
            *(item.source, item.size, item.mtime_ns, item.etag),
        )


@dataclass(slots=True)
class Stage:
    """Where a piece of work stands: what a failure is told by."""

    name: str = "read"
    """See `Failure.stage`."""


def attempted(work: Callable[[Stage], Receipt], name: str) -> Receipt | Failure:
    """The receipt of a piece of work, or why there is nothing: tried again where the disk or the network said no."""
    started = time.perf_counter()
    waits = pauses()
    for attempt in count(1):
        stage = Stage()
        try:
            return replace(work(stage), seconds=time.perf_counter() - started, tries=attempt)
        except Exception as error:  # noqa: BLE001  One image's failure must not stop the job, whatever it is.
            failure = _failure(error, stage.name, name)
            wait_s = next(waits, None)
            if wait_s is None or failure.stops_run or failure.kind != "transient":
                return replace(failure, seconds=time.perf_counter() - started, tries=attempt)
            time.sleep(wait_s)
    raise AssertionError


def _done(item: Item, common: Common, opened: _Opened, stage: Stage) -> Receipt:
    match item:
        case Restore():
            return _restored(item, common, opened, stage)
        case Look(image=image):
            with image.source.place.fetched(image.seen) as path:
                return Receipt(file_sha256(path))
        case Ingest():
            stage.name = "ingest"
            return _ingested(item, common)
        case Shard():
            stage.name = "tile"
            return _shard(item, common)
        case Stitch():
            stage.name = "stitch"
            return _stitched(item, common)


def _restored(item: Restore, common: Common, opened: _Opened, stage: Stage) -> Receipt:
    if header := _opened(item, common, opened, stage):
        return Receipt(header=header)
    image, found = opened.image, opened.found
    assert image is not None
    assert found is not None
    stage.name = "plan"
    plan = item.settings.plan(image.spec, found)
    made = _output(plan, item, common)
    stage.name = "restore"
    pixels = restored_pixels(image.pixels, plan, common.engine)
    stage.name = "write"
    _check_unchanged(item)
    decision = item.settings.decided(image.spec, found)
    return _stored(item, common, opened.source_sha256, Result(pixels, made, item.settings, {}), plan, decision, found)


def _opened(item: Restore, common: Common, opened: _Opened, stage: Stage) -> ImageSpec | None:
    """Decode and assess a source, where that was not done for an earlier rendition.

    The header of an image that turns out to be no single task: such a one is not decoded here.
    """
    if opened.image is not None:
        return _too_much(item, opened.image.spec, common)
    common.limits.check_file(Path(item.path).name, item.size)
    with item.source.place.fetched(item.seen) as path:
        child = decoder(common.limits)
        if not item.sized and (header := _too_much(item, child.spec(path), common)):
            return header
        opened.source_sha256 = file_sha256(path)
        image = child.read(path)
    stage.name = "assess"
    opened.found = assess(image.pixels, image.spec)
    opened.image, opened.item = image, item
    return None


def _too_much(item: Restore, spec: ImageSpec, common: Common) -> ImageSpec | None:
    """The header of an image that was not sized, where it is no single task or its result cannot have its name."""
    if item.sized:
        return None
    plan = item.settings.plan(spec)
    named = common.target.format or item.settings.preset.output.format != "source"
    small = is_small(plan, item.settings.preset.plan.allowed_mem)
    if small and (named or output_format(plan, item.settings) == spec.format):
        return None
    return replace(spec, metadata=Metadata(), notes=())


def _ingested(item: Ingest, common: Common) -> Receipt:
    image = item.image
    with image.source.place.fetched(image.seen) as path:
        source_sha256 = file_sha256(path)
        came_from = Origin(image.path, image.size, image.mtime_ns, image.key, source_sha256)
        child = decoder(common.limits)
        spec = child.spec(path)
        ingest.ingest(path, spec, item.work, child, came_from)
        _check_unchanged(image)
    plan = image.settings.plan(spec, ingest.assessment(item.work))
    target = store.create(target_path(item.work), plan.result.shape, plan.result.dtype, plan.tile, store.TARGET_CHUNK)
    store.check_one_writer(target, plan.tile)
    return Receipt(source_sha256)


def _shard(item: Shard, common: Common) -> Receipt:
    plan = item.image.settings.plan(ingest.source_spec(item.work), ingest.assessment(item.work))
    source, target = ingest.ingested(item.work), store.opened(target_path(item.work), "r+")
    store.check_one_writer(target, plan.tile)
    shard = store.shard_path(target_path(item.work), item.tile, plan.tile)
    # Nothing of an earlier, perhaps damaged, shard is to be read into this one.
    shard.unlink(missing_ok=True)
    try:
        restore_tile(cast("Pixels", source), cast("Pixels", target), plan, item.tile, common.engine)
    except ValueError as error:
        if isinstance(error, RefineError) or "checksum" not in str(error):
            raise
        # The source's array is damaged: without its marker the next run decodes the file again.
        (item.work / "source.json").unlink(missing_ok=True)
        raise StoreError("the source's working array fails its checksum; run again to decode it anew") from error
    written = store.sealed(shard)
    return _receipt(plan, common, "", item.tile.area, written.nbytes, written.sha256)


def _stitched(item: Stitch, common: Common) -> Receipt:
    found = ingest.assessment(item.work)
    plan = item.image.settings.plan(ingest.source_spec(item.work), found)
    made = _output(plan, item.image, common)
    came_from = ingest.origin(item.work)
    _check_complete(item, plan)
    pixels = _Tiles(store.opened(target_path(item.work)), plan)
    source_sha256 = came_from.sha256 if came_from else ""
    decision = item.image.settings.decided(plan.source, found)
    result = Result(pixels, made, item.image.settings, {})
    return _stored(item.image, common, source_sha256, result, plan, decision, found)


def _stored(
    item: Restore, common: Common, source_sha256: str, result: Result, plan: Plan, decision: Decision, found: Assessment
) -> Receipt:
    """Store a result; its receipt, with what is told of the image beside what was written."""
    made = result.made
    px = made.spec.height * made.spec.width
    told = _described(Path(item.path).name, source_sha256, plan, decision, common)
    written = common.target.store(item.output, replace(result, told=told), item.replacing)
    receipt = _receipt(plan, common, source_sha256, px, written.nbytes, written.sha256)
    return replace(receipt, output_etag=written.etag, notes=made.notes, need=need(decision, found), flag=flag(decision))


def _described(name: str, source_sha256: str, plan: Plan, decision: Decision, common: Common) -> dict[str, object]:
    """What is said of a result where a file has no place for it."""
    done = deed(plan, execution_class(common.engine, plan.block))
    return {
        "kind": "derivative",
        "source": {"name": name, "sha256": source_sha256},
        "decision": decision.action,
        "strengths": decision.strengths,
        "steps": list(done.steps),
        "networks": [{"id": net, "sha256": digest} for net, digest in done.nets],
        "program_sha256": plan.program.digest,
        "execution_class": done.execution_class,
        "version": __version__,
    }


def _output(plan: Plan, item: Restore, common: Common) -> Output:
    return output(plan, item.settings, execution_class(common.engine, plan.block), common.target.format)


def _check_complete(item: Stitch, plan: Plan) -> None:
    """That the ledger has every tile, and the disk every shard. Raises _DamagedError."""
    recorded = {(y, x): nbytes for y, x, nbytes in item.shards}
    path = target_path(item.work)
    lacking = tuple(
        tile
        for tile in plan.tiles()
        if not store.is_whole(store.shard_path(path, tile, plan.tile), recorded.get((tile.y0, tile.x0), -1))
    )
    if lacking:
        raise _DamagedError(lacking)


class _Tiles:
    """The finished tiles of a large image, read by windows. Raises _DamagedError where a shard is not what it was."""

    def __init__(self, array: store.PixelArray, plan: Plan) -> None:
        self._array, self._plan = array, plan
        self.shape = array.shape

    def __getitem__(self, window: tuple[slice, slice]) -> Pixels:
        try:
            return self._array[window]
        except ValueError as error:  # zarr's word for a checksum that is wrong
            rows, columns = window
            asked = Window(rows.start, columns.start, rows.stop, columns.stop)
            raise _DamagedError(tuple(t for t in self._plan.tiles() if self._is_damaged(t.clip(asked)))) from error

    def _is_damaged(self, window: Window) -> bool:
        if window.area:
            try:
                self._array[window.slices]
            except ValueError:
                return True
        return False


def target_path(work: Path) -> Path:
    """The array of a work folder that tiles are written to."""
    return work / "target.zarr"


def _check_unchanged(item: Restore) -> None:
    """Raise StoreError where a file has changed since it was seen. Of an object there is a copy, which has not."""
    if item.source.local is not None and item.source.place.stat(item.source.path) != item.seen:
        raise StoreError("was changed while it was worked on; run again")


def _receipt(plan: Plan, common: Common, source: str, px: int, nbytes: int, digest: str) -> Receipt:
    return Receipt(source, px, nbytes, digest, behaviour(common.engine, plan.block))


def _image(item: Item) -> Restore:
    return item if isinstance(item, Restore) else item.image


def _failure(error: Exception, stage: str, name: str) -> Failure:
    reason = reason_of(error, name)
    if isinstance(error, OSError) and not isinstance(error, RefineError):
        reason = error.strerror or reason
    elif not isinstance(error, RefineError):
        logger.debug("%s: unexpected", name, exc_info=error)
        where = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"unexpected {type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {reason}"
    damaged = error.tiles if isinstance(error, _DamagedError) else ()
    stops_run = _number(error) in _STOPPING or isinstance(error, OutageError)
    return Failure(stage, reason[:500], stops_run, damaged, kind=kind_of(error))


def _number(error: BaseException) -> int | None:
    cause = error if isinstance(error, OSError) and error.errno is not None else error.__cause__
    return cause.errno if isinstance(cause, OSError) else None
