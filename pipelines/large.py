"""Images too large for one task, on their way from ingest over tiles to their file."""

from __future__ import annotations

import logging
import shutil
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from pipelines import ingest, store
from pipelines.estimate import cost_s
from pipelines.items import Failure, Ingest, Item, Look, Receipt, Restore, Shard, Stitch
from pipelines.manifest import Manifest
from pipelines.records import Forgotten, ShardRecord
from pipelines.tasks import target_path
from refine.plan import Plan
from refine.window import Window

logger = logging.getLogger(__name__)

_AT_ONCE = 3
"""Large images under way: enough that one's tiles fill the wait for another's ingest; each holds disk."""
_REPAIRS = 2
"""How often damaged shards of one image are made again before it fails."""


@dataclass(slots=True)
class LargeImage:
    """One image under way."""

    item: Restore
    """The image."""
    plan: Plan
    """Its tiles."""
    work: Path
    """Its work folder."""
    missing: dict[tuple[int, int], Window] = field(default_factory=dict)
    """Tiles that have no good shard yet, by their first row and column."""
    seconds: float = 0.0
    """Work that was put in, the work of earlier runs included."""
    repairs: int = 0
    """How often shards were found damaged."""

    @property
    def tiles(self) -> list[Item]:
        """The tasks of the tiles that are missing."""
        return [Shard(self.item, self.work, tile) for tile in self.missing.values()]

    def stitch(self, manifest: Manifest) -> Stitch:
        """The task that makes the file."""
        shards = tuple((s.y, s.x, s.nbytes) for s in manifest.shards(self.work.name))
        return Stitch(self.item, self.work, shards)

    @property
    def note(self) -> str:
        """Where it stands, for the progress line."""
        return f"{Path(self.item.path).name}: {self.plan.tile_count - len(self.missing)}/{self.plan.tile_count} tiles"


class LargeImages:
    """All large images of a run: what of them can be handed out now, and what their receipts lead to."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder = folder
        self._manifest = manifest
        self._waiting: deque[LargeImage] = deque()
        self._open: dict[tuple[str, str], LargeImage] = {}
        self._ready: deque[Item] = deque()

    def add(self, item: Restore, plan: Plan) -> None:
        """Take an image in; it is begun when there is room."""
        self._waiting.append(LargeImage(item, plan, self._folder / work_name(item)))

    def __bool__(self) -> bool:
        """Whether any image is not settled yet."""
        return bool(self._waiting or self._open)

    def next(self) -> Item | None:
        """A task that can run now."""
        while not self._ready and self._waiting and len(self._open) < _AT_ONCE:
            self._begin(self._waiting.popleft())
        return self._ready.popleft() if self._ready else None

    def task_s(self, item: Item) -> float:
        """Seconds that a task of an image under way should take."""
        assert not isinstance(item, Restore | Look)
        plan = self._open[_name(item.image)].plan
        return cost_s(plan) / plan.tile_count

    @property
    def note(self) -> str:
        """Where the images under way stand."""
        return ", ".join(image.note for image in self._open.values())

    def took(self, item: Item, receipt: Receipt) -> LargeImage | None:
        """Note a receipt, in the ledger too; the image, where this was its last."""
        assert not isinstance(item, Restore | Look)
        image = self._open.get(_name(item.image))
        if image is None:
            return None  # it has failed in the meantime
        image.seconds += receipt.seconds
        match item:
            case Ingest():
                self._ready.extend(image.tiles)
            case Shard(tile=tile):
                shard = ShardRecord(
                    image.work.name, tile.y0, tile.x0, receipt.output_nbytes, receipt.output_sha256, receipt.seconds
                )
                self._manifest.commit([shard])
                image.missing.pop((tile.y0, tile.x0), None)
                if not image.missing:
                    self._ready.append(image.stitch(self._manifest))
            case Stitch():
                return image
        return None

    def failed(self, item: Item, failure: Failure) -> LargeImage | None:
        """The image that has failed; nothing where it can be mended, or has failed already."""
        assert not isinstance(item, Restore | Look)
        image = self._open.get(_name(item.image))
        if image is None:
            return None
        if failure.damaged and image.repairs < _REPAIRS:
            logger.warning("%s: %d damaged shards are made again", item.image.path, len(failure.damaged))
            image.repairs += 1
            self._manifest.commit([Forgotten(image.work.name, tile.y0, tile.x0) for tile in failure.damaged])
            image.missing = {(tile.y0, tile.x0): tile for tile in failure.damaged}
            self._ready.extend(image.tiles)
            return None
        return image

    def settle(self, image: LargeImage) -> None:
        """Take an image out: its file, or its failure, is in the ledger, and its work folder goes."""
        self._ready = deque(i for i in self._ready if isinstance(i, Restore) or _name(i.image) != _name(image.item))
        self._open.pop(_name(image.item), None)
        self._manifest.commit([Forgotten(image.work.name)])
        shutil.rmtree(image.work, ignore_errors=True)

    def _begin(self, image: LargeImage) -> None:
        """Hand out what is still to do of an image, after a look at what an earlier run left."""
        self._open[_name(image.item)] = image
        image.missing = {(tile.y0, tile.x0): tile for tile in image.plan.tiles()}
        if ingest.origin(image.work) is None or not _fits(image):
            if self._manifest.shards(image.work.name):
                self._manifest.commit([Forgotten(image.work.name)])
            self._ready.append(Ingest(image.item, image.work))
            return
        for shard in self._manifest.shards(image.work.name):
            tile = image.missing.get((shard.y, shard.x))
            path = target_path(image.work)
            if tile and store.is_whole(store.shard_path(path, tile, image.plan.tile), shard.nbytes):
                del image.missing[shard.y, shard.x]
                image.seconds += shard.seconds
        logger.info("%s: %d of %d tiles are still to do", image.item.path, len(image.missing), image.plan.tile_count)
        self._ready.extend(image.tiles or [image.stitch(self._manifest)])


def work_name(item: Restore) -> str:
    """The name of an image's work folder: another source, rendition or settings, another name."""
    seen = f"{item.path}\0{item.rendition}\0{item.size}\0{item.mtime_ns}\0{item.etag}\0{item.key}"
    return sha256(seen.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def sweep_work(folder: Path, goes_on: Callable[[ingest.Origin], bool]) -> int:
    """Remove the work folders that no image of this run will go on with; how many."""
    gone = 0
    for work in folder.glob("*"):
        came_from = ingest.begun(work)
        if came_from is None or not goes_on(came_from):
            shutil.rmtree(work, ignore_errors=True)
            gone += 1
    return gone


def _name(item: Restore) -> tuple[str, str]:
    return item.path, item.rendition


def _fits(image: LargeImage) -> bool:
    """Whether the target array that is there has this plan's tiles as its shards."""
    try:
        array = store.opened(target_path(image.work))
        store.check_one_writer(array, image.plan.tile)
    except (OSError, ValueError):
        return False
    return bool(tuple(array.shape[:2]) == image.plan.output)
