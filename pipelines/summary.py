"""What a job did, as it is told to people and to programs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Complaint:
    """One image that has no result."""

    path: str
    """Below SOURCE."""
    stage: str
    """Where it failed."""
    reason: str
    """One line."""
    rendition: str = ""
    """Which of its results; empty where there is one."""
    kind: str = ""
    """What may help: `transient`, `resource`, `poison` or `deterministic`; see `pipelines.failures`."""


@dataclass(frozen=True, slots=True)
class Remark:
    """What is to be told of one image that has its result."""

    path: str
    """Below SOURCE."""
    notes: tuple[str, ...]
    """What was changed or left out on the way, short sentences."""


@dataclass(slots=True)
class Summary:
    """What a run did. Its fields are the keys of --json."""

    done: int = 0
    """Images restored."""
    unchanged: int = 0
    """Images that were done before and are as they were."""
    kept: int = 0
    """Images that were done before in another way, and were to be left."""
    failed: list[Complaint] = field(default_factory=list)
    """Images that could not be restored."""
    quarantined: list[Complaint] = field(default_factory=list)
    """Images that ended or held up what worked on them, or were too large for it, with nothing beside them too."""
    flagged: list[dict[str, str]] = field(default_factory=list)
    """Images that were restored, but deserve a look."""
    notes: list[Remark] = field(default_factory=list)
    """What was changed or left out, of images that were restored in this run."""
    decisions: dict[str, int] = field(default_factory=dict)
    """How many images of this run were decided how."""
    gone: int = 0
    """Results whose source was gone."""
    obsolete: int = 0
    """Results of a rendition or format that was not asked for any more, at the end of the run."""
    earlier: int = 0
    """Results in TARGET, at the end of the run, of images that have failed since they were made."""
    pruned: int = 0
    """Results that were removed because their source was gone, or nothing asked for them."""
    skipped: int = 0
    """Files that are no images."""
    left: int = 0
    """Results that were not begun: the time was up, or only others were asked for."""
    output_px: int = 0
    """px made in this run."""
    seconds: float = 0.0
    """Wall time of this run."""
    report: str | None = None
    """Path of the report."""
    single: str = ""
    """Where one image was asked for: its result, size, decision and time, one line."""

    def remark(self, path: str, notes: tuple[str, ...]) -> None:
        """Take down what is to be told of an image: for the report, and a line each in the log."""
        if notes:
            self.notes.append(Remark(path, notes))
        for note in notes:
            logger.info("%s: %s", path, note)

    def decided(self, decision: str) -> None:
        """Count a decision."""
        self.decisions[decision] = self.decisions.get(decision, 0) + 1

    @property
    def complete(self) -> bool:
        """Whether every image has its result."""
        return not self.failed and not self.quarantined

    def facts(self) -> dict[str, object]:
        """As it is printed with --json."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """One line for each image without a result."""
        for complaint in self.failed:
            yield printable(f"{_name(complaint)}: {complaint.reason}")
        for complaint in self.quarantined:
            yield printable(f"{_name(complaint)}: quarantined: {complaint.reason}")

    def line(self) -> str:
        """All of it in one line.

        >>> Summary(done=3, unchanged=2, output_px=5_000_000, seconds=4).line()
        '3 done, 2 unchanged, 0 failed; 5.0 Mpx in 4.0 s (1.25 Mpx/s)'
        """
        if self.single:
            return printable(self.single)
        counts = [f"{self.done} done", f"{self.unchanged} unchanged", f"{len(self.failed)} failed"]
        if self.quarantined:
            counts.append(f"{len(self.quarantined)} quarantined")
        if self.kept:
            counts.append(f"{self.kept} left as they were made")
        if self.pruned:
            counts.append(f"{self.pruned} removed that nothing asks for any more")
        elif self.gone:
            counts.append(f"{self.gone} that SOURCE has no more (--prune removes them)")
        if self.obsolete:
            counts.append(f"{self.obsolete} of a rendition or format not asked for (--prune removes them)")
        if self.earlier:
            stay = "stays" if self.earlier == 1 else "stay"
            counts.append(f"{counted(self.earlier, 'earlier result')} {stay} of images that have failed")
        if self.left:
            counts.append(f"{self.left} left for the next run")
        if self.skipped:
            counts.append(f"{self.skipped} other files skipped")
        mpx = self.output_px / 1e6
        rate = f"{mpx:.{1 if mpx >= 1 else 3}f} Mpx in " if mpx else ""
        speed = f" ({mpx / max(self.seconds, 1e-3):.2f} Mpx/s)" if mpx else ""
        return f"{', '.join(counts)}; {rate}{self.seconds:.1f} s{speed}"


def _name(complaint: Complaint) -> str:
    return named(complaint.path, complaint.rendition)


def named(path: str, rendition: str) -> str:
    """A result in one line of text: its source, and which of its results."""
    return printable(f"{path} ({rendition})" if rendition else path)


def counted(count: int, what: str) -> str:
    """A number and what it counts.

    >>> counted(1, "tile"), counted(2, "tile")
    ('1 tile', '2 tiles')
    """
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def byte_size(nbytes: float) -> str:
    """Bytes for people, to three digits.

    >>> byte_size(1), byte_size(21_500), byte_size(999_999_999), byte_size(2.5e12)
    ('1 bytes', '21.5 kB', '1 GB', '2.5 TB')
    """
    value, unit = nbytes, "bytes"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}"


def duration(seconds: float) -> str:
    """A time for people, measured or estimated.

    >>> duration(0.04), duration(3.21), duration(41.2), duration(75), duration(7300)
    ('0.04 s', '3.2 s', '41 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 9.95:
        return f"{round(seconds, 2):.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def printable(text: str) -> str:
    r"""Text for one line of a terminal, whatever bytes a file's name has.

    >>> print(printable("a\nb\udcff"))
    a\nb\udcff
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return shown.encode("utf-8", "backslashreplace").decode("utf-8")
