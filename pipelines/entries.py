"""What the ledger says of an image that a run has worked on."""

from __future__ import annotations

from pipelines.assessing import Need
from pipelines.chances import asked_key
from pipelines.items import Failure, Receipt, Restore
from pipelines.records import Record, State


def done_record(
    item: Restore, receipt: Receipt, uri: str, seconds: float, attempts: int, notes: tuple[str, ...]
) -> Record:
    """The record of a result; uri says where the source lies, where that is not its name below SOURCE."""
    found = receipt.need or Need("", {}, {})
    return Record(
        item.path,
        item.size,
        item.mtime_ns,
        asked_key(item),
        "done",
        source_sha256=receipt.source_sha256,
        output=item.output,
        output_px=receipt.output_px,
        output_nbytes=receipt.output_nbytes,
        output_sha256=receipt.output_sha256,
        seconds=round(seconds, 4),
        attempts=attempts,
        notes=notes,
        decision=found.decision,
        strengths=found.strengths,
        measured=found.measured,
        rendition=item.rendition,
        etag=item.etag,
        output_etag=receipt.output_etag,
        uri=uri,
    )


def failed_record(item: Restore, failure: Failure, state: State, uri: str, attempts: int) -> Record:
    """The record of an image without a result."""
    return Record(
        item.path,
        item.size,
        item.mtime_ns,
        asked_key(item),
        state,
        failure.stage,
        failure.reason,
        seconds=round(failure.seconds, 4),
        attempts=attempts,
        rendition=item.rendition,
        etag=item.etag,
        uri=uri,
        kind=failure.kind,
    )
