"""A poster: one picture onto paper of an exact size, tile by tile, in the colours of a printer, whole or in panels.

What it can be is told before it is made. A run that is killed goes on with the same command.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

from pipelines import assessing, derivative, omezarr, pagetasks, printfiles, proof, sources
from pipelines.cluster import Cluster
from pipelines.estimate import sheet_cost_s
from pipelines.identity import result_facts
from pipelines.ordering import Asked, Delivery
from pipelines.output import deed, described
from pipelines.pagerun import PYRAMID, Job, PageWork, Run, carried_out, check_apart
from pipelines.pagetasks import Common, shard_group
from pipelines.printfiles import Form, Prints
from pipelines.sources import Source
from pipelines.summary import Summary, byte_size, counted, duration
from pipelines.tasks import behaviour
from refine.assess import assess
from refine.assessment import Assessment
from refine.frame import Frame, frames, panels_for
from refine.imagefile import Format
from refine.ink import looked_at
from refine.limits import SCAN_LIMITS
from refine.order import Order, SheetPlan
from refine.promise import Promise, promise
from refine.session import Engine, check_available
from refine.spec import ImageSpec

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Offer:
    """What a poster will be and what it takes, before it is made."""

    promise: Promise
    """What it will be."""
    plan: SheetPlan
    """How it is made."""
    panels: tuple[int, int]
    """Rows and columns of panels."""
    worker_mem: int
    """Bytes a worker takes at most."""
    decoder_mem: int
    """Bytes its decoder takes at most."""
    disk_nbytes: int
    """Bytes that are written at most, with what lies beside the target while it is made."""
    seconds: float
    """CPU seconds on one core."""

    def facts(self) -> dict[str, object]:
        """JSON values, those of `refine plan` among them."""
        return {
            **self.promise.facts(),
            "output": list(self.plan.output),
            "tiles": self.plan.tile_count,
            "tile": self.plan.tile,
            "halo": self.plan.plan.halo,
            "exact": self.plan.plan.exact,
            "panels": list(self.panels),
            "projected_mem": self.worker_mem,
            "decoder_mem": self.decoder_mem,
            "seconds_estimate": round(self.seconds, 1),
            "bytes_estimate": self.disk_nbytes,
        }

    def lines(self) -> list[str]:
        """The same for people."""
        split = "" if self.panels == (1, 1) else f" in {self.panels[1]} x {self.panels[0]} panels"
        return [
            *self.promise.lines(),
            (
                f"work       {counted(self.plan.tile_count, 'tile')} of {self.plan.tile} px{split}, "
                f"about {duration(self.seconds)} on one core; "
                f"{self.worker_mem / 1e6:.0f} MB a worker, {self.decoder_mem / 1e6:.0f} MB its decoder; "
                f"{byte_size(self.disk_nbytes)} of disk"
            ),
        ]


@dataclass(frozen=True, slots=True)
class _Ask:
    """An order, with what it is handed over as."""

    order: Order
    delivery: Delivery
    form: Form
    name: str

    def frames(self, plan: SheetPlan) -> list[Frame]:
        delivery = self.delivery
        panels = self.panels(plan)
        return frames(
            plan.sheet, plan.ppi, panels=panels, overlap=delivery.overlap, marked=delivery.marks, name=self.name
        )

    def panels(self, plan: SheetPlan) -> tuple[int, int]:
        delivery = self.delivery
        if delivery.largest is None:
            return delivery.panels
        return min(
            (
                panels_for(plan.sheet, plan.ppi, size, delivery.overlap)
                for size in (delivery.largest, delivery.largest[::-1])
            ),
            key=lambda found: found[0] * found[1],
        )


def poster(
    photo: Path,
    target: Path,
    asked: Asked,
    cluster: Cluster | None = None,
    *,
    engine: Engine | None = None,
    repair: bool = False,
    quiet: bool = False,
) -> tuple[Summary, Offer]:
    """Make a poster of a picture: `.tif`, `.pdf`, `.png`, `.jpg` or `.zarr` by the target's name.

    repair: a finished target is read whole, and what is not as it was written is made anew.

    May be killed at any time and started again. Raises JobError, PlanError, ChainError or ImageReadError before any
    work where it cannot be done as asked, and RunError where it cannot go on; then nothing that was finished is lost.
    """
    ask = _ask(asked, target)
    check_apart(photo, target)
    common = Common(ask.order, engine or Engine())
    check_available(common.engine)
    spec, source = _picture(photo)
    offer = _offer(spec, source, ask)
    facts = result_facts(ask.order.settings(spec), behaviour(common.engine, ask.order.preset.plan.block))
    facts |= {"source": sources.digest(photo), "order": ask.order.facts(), "delivery": _delivered(ask)}
    image = target if ask.form == "zarr" else target.with_name(f".{target.name}.refine")
    tell, finish = partial(_tell, ask=ask), partial(_finish, ask=ask)
    job = Job(photo, target, image, common, (spec,), facts, tell, finish)
    summary = carried_out(job, cluster or Cluster(), repair=repair, quiet=quiet)
    if offer.promise.action == "too-weak" and not summary.failed:
        summary.flagged.append({"path": str(photo), "reason": offer.promise.reasons[0]})
    return summary, offer


def handed_over(target: Path) -> dict[str, object]:
    """What is recorded of a finished poster: its files, and the share of colours that its printer cannot make."""
    record = derivative.noted(derivative.provenance_path(target)) or {}
    (told,) = record.get("pages") or [{}]
    files = [file["path"] for file in record.get("files", ()) if target.suffix.lower() != ".zarr"] or [target.name]
    return {"files": files, "out_of_gamut": told.get("out_of_gamut")}


def offered(photo: Path, asked: Asked, target: Path | None = None) -> Offer:
    """What a poster would be, and what it would take. Raises as `poster` does, and does nothing."""
    ask = _ask(asked, target or Path("poster.tif"), exists=target is not None)
    return _offer(*_picture(photo), ask)


def _ask(asked: Asked, target: Path, *, exists: bool = True) -> _Ask:
    form = printfiles.form_of(target) if exists else "tiff"
    order = asked.order("uint16" if form in ("tiff", "zarr") else "uint8")
    return _Ask(order, asked.delivery(form == "pdf"), form, target.stem)


def _picture(photo: Path) -> tuple[ImageSpec, Source]:
    found = sources.listing(photo)
    if len(found.pages) + len(found.damaged) > 1:
        logger.warning("%s: has %d pages, of which the first is taken", photo.name, len(found.pages))
    spec = found.pages[0]
    return spec, sources.source_of(photo, spec.page)


def _offer(spec: ImageSpec, source: Source, ask: _Ask) -> Offer:
    """What is promised. What can be refused by a header is, before a pixel is read."""
    order = ask.order
    bare = order.plan(spec)
    omezarr.pyramid_of(bare.result, bare.tile)  # which refuses tiles that could not be shards
    printfiles.check_form(ask.form, bare.result, ask.frames(bare), order.preset.plan.allowed_mem)
    found = _assessed(spec, source)
    return _priced(spec, source, found, order.plan(spec, found), ask)


def _priced(spec: ImageSpec, source: Source, found: Assessment | None, plan: SheetPlan, ask: _Ask) -> Offer:
    """The offer of a plan."""
    prints = Prints(Path(ask.name), ask.form, plan.result, plan.sheet, ask.frames(plan))
    taken_in = spec.nbytes if pagetasks.is_ingested(source) else 0
    return Offer(
        promise(ask.order, spec, found, plan),
        plan,
        ask.panels(plan),
        pagetasks.worker_mem(source, plan),
        pagetasks.decoder_mem(source, plan),
        int(plan.result.nbytes * PYRAMID) + printfiles.file_nbytes(prints) + taken_in,
        sheet_cost_s(plan),
    )


def _assessed(spec: ImageSpec, source: Source) -> Assessment:
    if source.kind in ("windows", "zarr"):
        return assess(source.opened(), spec)
    return assessing.assess_file(sources.decoder(SCAN_LIMITS), source.path, spec)


def _delivered(ask: _Ask) -> dict[str, object]:
    """How it is handed over, JSON values."""
    delivery = ask.delivery
    largest = delivery.largest and [str(side) for side in delivery.largest]
    return {
        "form": ask.form,
        "panels": list(delivery.panels),
        "largest": largest,
        "overlap": str(delivery.overlap),
        "marks": delivery.marks,
        "paper_white": delivery.paper_white,
        "name": ask.name,
    }


def _tell(run: Run, work: PageWork, ask: _Ask) -> None:
    """Say what it will be. Raises JobError where the disk has no room."""
    assert isinstance(work.plan, SheetPlan)
    offer = _priced(work.spec, work.page.source, work.found, work.plan, ask)
    for line in offer.lines():
        logger.warning("%s", line)
    for reason in offer.promise.reasons:
        logger.info("%s", reason)
    run.check_room(offer.disk_nbytes)


def _finish(run: Run, ask: _Ask) -> None:
    """What comes when all shards are there: the files, the proof, and the record of it all."""
    (work,), job = run.pages, run.job
    plan, page = work.plan, work.page
    assert isinstance(plan, SheetPlan)
    assert work.found is not None
    decision = ask.order.decided(work.spec, work.found)
    offer = _priced(work.spec, page.source, work.found, plan, ask)
    share = _beyond(run, plan)
    told = {
        **derivative.told_page(plan.plan, decision, work.found, run.execution_class),
        "kind": "poster",
        "sheet": list(plan.deeds),
        "size": list(plan.output),
        "promise": offer.promise.facts(),
        "out_of_gamut": share,
    }
    omezarr.finished(page.image, told)
    run.summary.decided(decision.action)
    done = deed(plan.plan, run.execution_class)
    done = replace(done, steps=(*done.steps, *plan.deeds))
    kind: Format = ask.form if ask.form in ("tiff", "png", "jpeg") else "tiff"
    made = described(work.spec, plan.result, done, ask.order.preset, kind)
    parts = ask.frames(plan)
    prints = Prints(job.target, ask.form, made.spec, plan.sheet, parts, ask.order.preset.output.quality)
    printfiles.write(prints, omezarr.opened(page.image))
    words = _words(offer, plan, share)
    white = ask.delivery.paper_white
    proof.write_proof(derivative.companion(job.target, "proof"), page.image, plan, words, paper_white=white)
    if len(parts) > 1:
        proof.write_assembly(derivative.companion(job.target, "assembly"), page.image, plan, parts, words[:1])
    shards = {path.relative_to(job.image).as_posix(): shard.sha256 for _, shard, path in run.written(page)}
    derivative.record(job.target, job.source, job.facts, [told], shards if ask.form == "zarr" else {})
    whole = round(plan.ppi)
    rounded = (f"JPEG holds whole px per inch: it says {whole}",) if ask.form == "jpeg" and whole != plan.ppi else ()
    run.summary.remark(str(job.source), (*made.notes, *rounded))
    if share is not None:
        logger.warning("%s: %s of its colours lie beyond what the printer can make", job.target.name, _percent(share))


def _beyond(run: Run, plan: SheetPlan) -> float | None:
    """Share of the sheet whose colours the printer cannot make; None where they stay as they are."""
    if plan.press is None:
        return None
    if run.before is not None and run.before.record:
        # Tiles that are kept are not looked at again; the same tiles have the same share.
        (told,) = run.before.record["pages"]
        return cast("float", told["out_of_gamut"])
    count = sum(shard.beyond for shard in run.ledger.shards(shard_group(0, 0)))
    return round(count / looked_at(*plan.output), 5)


def _words(offer: Offer, plan: SheetPlan, share: float | None) -> Sequence[str]:
    made = offer.promise
    height, width = (side * 25.4 for side in made.inches)
    size = f"{width:.5g} x {height:.5g} mm at {made.ppi:g} ppi; {made.sheet[1]} x {made.sheet[0]} px in all"
    seen = f"from {made.distance * 0.0254:.2g} m an eye tells {made.eye_ppi:.0f} ppi apart: {made.verdict}"
    lines = [size, f"{made.honest_ppi:.0f} ppi of detail, enlarged {made.enlargement:.3g} times; {seen}"]
    if made.action == "too-weak":
        lines.append("TOO WEAK: " + made.reasons[0].removeprefix("size: "))
    if plan.press is not None and share is not None:
        lines.append(
            f"soft proof of the {plan.press.space} profile, {plan.press.intent}; {_percent(share)} out of gamut"
        )
    return lines


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 or share == 0 else "less than 0.1%"
