"""Pieces of work as they travel: small descriptions to workers, receipts or failures back. No pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.assessing import Need
from pipelines.failures import Kind
from pipelines.place import Found, Spot
from pipelines.records import ShardRecord
from pipelines.targets import Target
from pipelines.travel import Travelling
from refine.assessment import Assessment
from refine.limits import Limits
from refine.session import Engine
from refine.settings import Settings
from refine.spec import ImageSpec
from refine.window import Window


@dataclass(frozen=True, slots=True)
class Common:
    """What all items of a run share."""

    engine: Engine
    """Where programs run."""
    limits: Limits
    """What a source may ask."""
    target: Target
    """Where results go."""


@dataclass(frozen=True, slots=True)
class Restore(Travelling):
    """One rendition of a whole image, from file to file."""

    path: str
    """The source's name in the catalog, and in the ledger."""
    source: Spot
    """Where it lies."""
    output: str
    """Where its result goes, below the target."""
    size: int
    """Bytes of the source when it was seen."""
    mtime_ns: int
    """When the source was changed last, ns, when it was seen."""
    settings: Settings
    """What is done, and how large it becomes."""
    rendition: str = ""
    """Which of the results of this source; empty where there is one."""
    key: str = ""
    """Digest of all that decides the result apart from the source."""
    etag: str = ""
    """What an object store called this state of the source; empty for a file."""
    replacing: str = ""
    """What an object store called the result that an earlier run stored; empty for none, and for a file."""
    sized: bool = True
    """Whether its header was read before: it is small, and its result has this name. Else the task looks first."""

    @property
    def seen(self) -> Found:
        """The source, as it was seen."""
        return Found(self.source.path, self.size, self.mtime_ns, self.etag)


@dataclass(frozen=True, slots=True)
class Look:
    """A source that was touched: its digest tells whether its content is what it was."""

    images: tuple[Restore, ...]
    """What would be made of it."""

    @property
    def image(self) -> Restore:
        """The first of them."""
        return self.images[0]


@dataclass(frozen=True, slots=True)
class Ingest:
    """Decode a large source into the working array of its work folder."""

    image: Restore
    """The image."""
    work: Path
    """The work folder."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One tile of a large image, from its working array to the target's."""

    image: Restore
    """The image."""
    work: Path
    """The work folder."""
    tile: Window
    """Output px."""


@dataclass(frozen=True, slots=True)
class Stitch:
    """The finished tiles of a large image into its file."""

    image: Restore
    """The image."""
    work: Path
    """The work folder."""
    shards: tuple[tuple[int, int, int], ...]
    """y, x of every tile and the bytes of its shard's file, as the ledger has them."""


Item = Restore | Look | Ingest | Shard | Stitch


@dataclass(frozen=True, slots=True)
class Receipt(Travelling):
    """What was written. No pixels."""

    source_sha256: str = ""
    """Of the source file, hex; empty where it was not read."""
    output_px: int = 0
    """px written."""
    output_nbytes: int = 0
    """Bytes of the file written."""
    output_sha256: str = ""
    """Of the file written, hex."""
    execution_class: str = ""
    """What the bytes are promised for."""
    seconds: float = 0.0
    """Wall time of the work."""
    tries: int = 1
    """How often the disk was asked."""
    notes: tuple[str, ...] = ()
    """What was changed or left out on the way from the source's file to the result's."""
    need: Need | None = None
    """What the image was found to be like, and what was decided; of whole images and their stitching only."""
    flag: str = ""
    """Why the result deserves a look; empty where it does not."""
    found: Assessment | None = None
    """What a page of a scan is like, of the task that takes it in."""
    shards: tuple[ShardRecord, ...] = ()
    """What a task of a scan wrote."""
    output_etag: str = ""
    """What an object store calls what was written; empty for a file."""
    header: ImageSpec | None = None
    """Of an image that was not sized before, and needs another name or more than one task: nothing was written."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why nothing was written."""

    stage: str
    """`read`, `assess`, `plan`, `restore`, `write`, or the work of a large image: `ingest`, `tile`, `stitch`."""
    reason: str
    """One line."""
    stops_run: bool = False
    """No other image could be written either."""
    damaged: tuple[Window, ...] = ()
    """Tiles whose shards are not what was written: to be made again."""
    seconds: float = 0.0
    """Wall time until it failed."""
    tries: int = 1
    """How often it was tried."""
    kind: Kind = "deterministic"
    """What may help; see `pipelines.failures`."""
