"""What a worker does for a page: take it in, make a tile of its result, write a shard of the upper pyramid."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import cast

from pipelines import assessing, ingest, omezarr, sources
from pipelines.errors import StoreError
from pipelines.ingest import Origin
from pipelines.items import Failure, Receipt
from pipelines.omezarr import Written
from pipelines.pyramid import LevelShard
from pipelines.records import ShardRecord
from pipelines.sources import Source, decoder
from pipelines.tasks import Stage, attempted, behaviour
from refine.assess import assess
from refine.assessment import Assessment
from refine.decode_child import packed, unpacked
from refine.errors import RefineError
from refine.imagefile import publish
from refine.limits import SCAN_LIMITS, Limits
from refine.order import Order, SheetPlan
from refine.plan import RESERVED_MEM, Plan
from refine.printed import printed_window
from refine.session import Engine
from refine.settings import Settings
from refine.spec import ImageSpec, Pixels
from refine.tiles import restored_window
from refine.window import Window

_FACTS = "page.json"
_ASSESS_MEM = 150_000_000
"""Bytes that assessing takes at most, for its samples are as many px for every page; measured (scan-memory.md)."""


@dataclass(frozen=True, slots=True)
class Common:
    """What all tasks of a run share."""

    wish: Settings | Order
    """What is made of a page: a picture, or a sheet that shows it."""
    engine: Engine
    """Where programs run."""
    limits: Limits = SCAN_LIMITS
    """What a source may ask."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a source, as tasks know it."""

    number: int
    """From 0, in the order of the target."""
    source: Source
    """Without profile and metadata: those are in the work folder."""
    image: Path
    """The image group that is written."""
    work: Path
    """Where its spec, its assessment and, where it is ingested, its pixels are kept."""
    key: str
    """Digest of all that decides the result, the source included."""

    @property
    def ingested(self) -> bool:
        """Whether its pixels are decoded once before, not read in place."""
        return is_ingested(self.source)


@dataclass(frozen=True, slots=True)
class TakeIn:
    """Assess a page, after it has been decoded into its working array where it is not read in place."""

    page: Page
    """The page."""
    spec: ImageSpec
    """What its header says, profile and all."""


@dataclass(frozen=True, slots=True)
class Tile:
    """Make one tile, and write its own levels of the pyramid."""

    page: Page
    """The page."""
    window: Window
    """Output px."""


@dataclass(frozen=True, slots=True)
class Upper:
    """Write one shard of an upper level out of the level below."""

    page: Page
    """The page."""
    shard: LevelShard
    """The shard."""


Item = TakeIn | Tile | Upper


def performed(items: tuple[Item, ...], common: Common) -> tuple[Receipt | Failure, ...]:
    """Do each item; one that fails keeps no other from being done."""
    return tuple(attempted(partial(_done, item, common), item.page.source.path.name) for item in items)


def note_page(page: Page, spec: ImageSpec, found: Assessment) -> None:
    """Keep what every task of a page needs to know in its work folder."""
    page.work.mkdir(parents=True, exist_ok=True)
    facts = {"spec": packed(spec), "assessment": assessing.packed(found)}
    publish(page.work / _FACTS, json.dumps(facts).encode("ascii"))


@lru_cache(maxsize=8)
def noted_page(work: Path) -> tuple[ImageSpec, Assessment]:
    """What `note_page` kept. Raises StoreError where it is lost."""
    try:
        facts = json.loads((work / _FACTS).read_bytes())
        return unpacked(facts["spec"]), assessing.unpacked(facts["assessment"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{work.name}: what is known of the page is lost; run again") from error


def shard_group(page: int, level: int) -> str:
    """Under what name the ledger has the shards of one level."""
    return f"{page}/{level}"


def _done(item: Item, common: Common, stage: Stage) -> Receipt:
    match item:
        case TakeIn():
            stage.name = "ingest" if item.page.ingested else "assess"
            return Receipt(found=_taken_in(item.page, item.spec, common))
        case Tile():
            stage.name = "tile"
            return _made(item, common)
        case Upper():
            stage.name = "pyramid"
            pyramid = omezarr.pyramid(item.page.image)
            return _receipt(item.page, (omezarr.write_upper(item.page.image, pyramid, item.shard),))


def _taken_in(page: Page, spec: ImageSpec, common: Common) -> Assessment:
    source = page.source
    if not page.ingested:
        return assess(source.opened(), spec)
    origin = Origin(str(source.path), source.size, source.mtime_ns, page.key, "")
    if ingest.origin(page.work) != origin:
        ingest.ingest(source.path, spec, page.work, decoder(common.limits), origin)
    return ingest.assessment(page.work)


def _made(item: Tile, common: Common) -> Receipt:
    page = item.page
    plan = page_plan(page.work, common)
    source = cast("Pixels", ingest.ingested(page.work) if page.ingested else page.source.opened())
    try:
        pixels, beyond = _pixels(source, plan, item.window, common.engine)
    except ValueError as error:
        if isinstance(error, RefineError) or not page.ingested or "checksum" not in str(error):
            raise
        # Without its marker the next run looks at each shard of the working array, and decodes anew what is damaged.
        (page.work / "source.json").unlink(missing_ok=True)
        raise StoreError("the source's working array fails its checksum; run again to decode it anew") from error
    written = omezarr.write_tile(page.image, omezarr.pyramid(page.image), item.window, pixels)
    return _receipt(page, written, behaviour(common.engine, plan.block), beyond)


def _pixels(source: Pixels, plan: Plan | SheetPlan, window: Window, engine: Engine) -> tuple[Pixels, int]:
    """A tile's pixels, and how many of its colours no printer can make."""
    if isinstance(plan, SheetPlan):
        return printed_window(source, plan, window, engine)
    return restored_window(source, plan, window, engine), 0


def page_plan(work: Path, common: Common) -> Plan | SheetPlan:
    """The plan of a page, as it was assessed."""
    spec, found = noted_page(work)
    return common.wish.plan(spec, found)


def worker_mem(source: Source, plan: Plan | SheetPlan) -> int:
    """Bytes that a worker needs at most for whichever task of a page: a tile, its assessment, its ingest."""
    taken_in = ingest.projected_mem(source.spec) if is_ingested(source) else 0
    return max(plan.projected_mem, RESERVED_MEM + _ASSESS_MEM, taken_in)


def decoder_mem(source: Source, plan: Plan | SheetPlan) -> int:
    """Bytes that the worker's decoder, a process beside it, needs at most for a page."""
    spec, picture = source.spec, plan.plan if isinstance(plan, SheetPlan) else plan
    side = (min(plan.tile, length) for length in picture.output)
    read = picture.source_window(Window(0, 0, *side)).area * spec.nbytes // (spec.height * spec.width)
    return sources.decoder_mem(source, ingest.piece_nbytes(spec) if is_ingested(source) else read)


def is_ingested(source: Source) -> bool:
    """Whether a source is decoded once before, not read in place."""
    return source.kind in ("bands", "whole")


def _receipt(page: Page, written: tuple[Written, ...], execution_class: str = "", beyond: int = 0) -> Receipt:
    shards = tuple(
        ShardRecord(shard_group(page.number, w.level), w.y, w.x, w.nbytes, w.sha256, beyond=0 if w.level else beyond)
        for w in written
    )
    return Receipt(execution_class=execution_class, shards=shards)
