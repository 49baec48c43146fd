"""What a run of a catalog would do, before it does it: how many of what, why, how long, and how much disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from pipelines.departed import some_gone, some_obsolete
from pipelines.estimate import cost_s, file_nbytes
from pipelines.output import output_format
from pipelines.place import Found, Place, Spot, place_of, spot_of
from pipelines.planning import REASONS, Planned, Stale
from pipelines.summary import counted, duration, printable
from refine.decoder import Decoder
from refine.errors import RefineError

_SAMPLE = 24
"""Sources that are looked at for their size."""
_ENOUGH = 20
"""Finished results from which recorded seconds tell more than the estimate."""
_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run would do. Its fields are the keys of --json."""

    images: int
    """Sources."""
    results: int
    """Results that there are to be."""
    unchanged: int
    """Results that stay as they are."""
    stale: int
    """Results to be made."""
    why: dict[str, int]
    """Of them, by reason."""
    examples: dict[str, list[str]]
    """Some of them, by reason; of those that are `gone` and `obsolete`, too."""
    differs: list[dict[str, object]]
    """What sets finished results apart from those of now: how many, what, and whether it was asked for."""
    unasked: int
    """Finished results that only what nobody asked for would have made anew."""
    gone: int
    """Results whose source is gone."""
    obsolete: int
    """Results of a rendition or format that is not asked for."""
    quarantined: int
    """Images that took their worker down."""
    skipped: int
    """Files that are no images."""
    output_px: int
    """px to be made, about."""
    seconds_estimate: float
    """On one core."""
    bytes_estimate: int
    """Of the results' files."""
    basis: str
    """What the estimates rest on: `recorded`, the pace of earlier results; or `estimated`."""

    def facts(self) -> dict[str, object]:
        """As it is printed with --json."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """As it is told."""
        counts = f"{counted(self.images, 'image')}, {counted(self.results, 'result')}"
        yield f"catalog  {counts}: {self.unchanged} unchanged, {self.stale} to make"
        for why, count in self.why.items():
            yield printable(f"{count:9d}  {REASONS[why]}: {self._such(why, count)}")
        for one in self.differs:
            mark = "" if one["asked"] else " (not asked for)"
            yield printable(f"differs  {one['count']}: {'; '.join(one['what'])}{mark}")  # type: ignore[arg-type]
        if self.gone:
            yield printable(
                f"gone     {counted(self.gone, 'result')} that SOURCE has no more: {self._such('gone', self.gone)}; "
                "--prune removes them"
            )
        if self.obsolete:
            what = f"of a rendition or format not asked for: {self._such('obsolete', self.obsolete)}"
            yield printable(f"obsolete {counted(self.obsolete, 'result')} {what}; --prune removes them")
        if self.quarantined:
            yield f"quarant. {counted(self.quarantined, 'image')} that took their worker down"
        if self.skipped:
            yield f"skipped  {counted(self.skipped, 'other file')}"
        px = f"{self.output_px / 1e6:.0f} Mpx"
        yield f"work     about {duration(self.seconds_estimate)} on one core ({self.basis}), {px}"
        yield f"disk     about {self.bytes_estimate / 1e9:.2f} GB of results"

    def _such(self, why: str, count: int) -> str:
        shown = self.examples.get(why, [])
        return ", ".join(shown) + (", ..." if count > len(shown) else "")


def forecast(plan: Planned, source: Place, skipped: int) -> Forecast:
    """What a run of a plan would do. Headers of a sample of its sources are read, and nothing is changed."""
    counts = plan.counts
    stale = sum(counts.values())
    quarantined = sum(1 for _ in plan.quarantined())
    px, seconds, nbytes, basis = _work(plan, source, stale)
    pairs = plan.pairs()
    return Forecast(
        images=plan.roll.images,
        results=plan.results,
        unchanged=plan.results - stale - quarantined,
        stale=stale,
        why={why: counts[why] for why in REASONS if why in counts},
        examples=_examples(plan),
        differs=[
            {"count": count, "what": list(plan.differences[pair].told), "asked": plan.differences[pair].asked}
            for pair, count in pairs.items()
        ],
        unasked=sum(count for pair, count in pairs.items() if not plan.differences[pair].asked),
        gone=plan.gone,
        obsolete=plan.obsolete,
        quarantined=quarantined,
        skipped=skipped,
        output_px=px,
        seconds_estimate=round(seconds, 3),
        bytes_estimate=nbytes,
        basis=basis,
    )


def _examples(plan: Planned) -> dict[str, list[str]]:
    """Some results of each kind; none of a kind of which there are none."""
    made = {why: [_named(one) for one in plan.spread(_EXAMPLES, why)] for why in plan.counts}
    index = plan.roll.index
    goes = {"gone": some_gone(index, _EXAMPLES), "obsolete": some_obsolete(index, _EXAMPLES)}
    return made | {why: names for why, names in goes.items() if names}


def bytes_to_write(plan: Planned, root: str) -> int:
    """Bytes by which TARGET grows in a run of a plan, about: what is made anew takes the place of what is there."""
    return max(0, _work(plan, place_of(root), sum(plan.counts.values()))[2] - plan.replaced_nbytes)


def _work(plan: Planned, source: Place, stale: int) -> tuple[int, float, int, str]:
    """px, seconds, bytes and what they rest on: a sample's, for all."""
    sampled = []
    with Decoder() as decoder:
        for one in plan.spread(_SAMPLE):
            seen = one.source
            spot = spot_of(seen.uri) if seen.uri else Spot(source, seen.path)
            try:
                with spot.place.fetched(Found(spot.path, seen.size, seen.mtime_ns, seen.etag)) as path:
                    spec = decoder.spec(path)
                made = one.wanted.settings.plan(spec)
            except RefineError:
                continue  # it will fail in the run, and takes no time there either
            nbytes = file_nbytes(made, output_format(made, one.wanted.settings))
            sampled.append((made.output[0] * made.output[1], cost_s(made), nbytes))
    if not sampled:
        return 0, 0.0, 0, "estimated"
    px, seconds, nbytes = (sum(values) / len(sampled) * stale for values in zip(*sampled, strict=True))
    pace = plan.pace()
    if pace["results"] >= _ENOUGH:
        return int(px), px * pace["seconds_px"], int(px * pace["bytes_px"]), "recorded"
    return int(px), seconds, int(nbytes), "estimated"


def _named(stale: Stale) -> str:
    return stale.wanted.rendition.output(stale.source.path)
