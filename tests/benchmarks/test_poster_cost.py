"""What posters take: time, CPU seconds a megapixel, peak memory against the plan; from 24 x 36 inches to a banner."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
import skimage
from inkprofile import press_profile
from scanning import cluster, measured
from tables import write_table

from pipelines import poster as posters
from pipelines.ordering import Asked, asked_for
from pipelines.poster import offered, poster

pytestmark = pytest.mark.bench

DATA = Path(__file__).parents[3] / "shared" / "data" / "samples" / "pages"
PRINT = DATA / "INPUT_0017.tif"
"""A photograph of a printed page, 3.0 Mpx of RGB with a scanner's profile of 669 kB."""
PAGE = DATA / "OCR-D-IMG-bengel_abriss01_1751-0007.jpg"
"""A photograph of a book, 4.6 Mpx, JPEG."""
EYE = Path(skimage.__file__).parent / "data" / "retina.jpg"
"""A photograph through an eye's lens, 2.0 Mpx, JPEG."""
NETS = ("fast-x4", "fast-x2")


def asked(size: str, ppi: int, **others: object) -> Asked:
    """An order as the command line gives it."""
    usual: dict[str, object] = {
        "size": size, "ppi": str(ppi), "fill": False, "fit": False, "anchor": "centre", "crop": None, "turn": "auto",
        "border": None, "bleed": None, "wrap": None, "edge": None, "safe": None, "background": None, "medium": None,
        "distance": None, "profile": None, "intent": "relative", "no_black_point": False, "depth": None, "panels": None,
        "panel_size": None, "overlap": None, "marks": None, "paper_white": False, "force": True, "preset": "print",
        "net": (), "tile": None, "put": (),
    }  # fmt: skip
    return asked_for(usual | others)


def row(name: str, photo: Path, order: Asked, target: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Make one poster and tell what it took."""
    said: list[str] = []
    monkeypatch.setattr(posters.logger, "warning", lambda line, *facts: said.append(line % facts))
    offer = offered(photo, order, target)
    with cluster() as (client, place):
        started = time.monotonic()
        spent = measured(client, lambda: poster(photo, target, order, place, quiet=True))
        wall = time.monotonic() - started
    px = offer.plan.output[0] * offer.plan.output[1] / 1e6
    (told,) = [line for line in said if line.startswith("work")]
    worker, decoder = map(int, re.search(r"(\d+) MB a worker, (\d+) MB its decoder", told).groups())
    assert max(spent.peaks) / 1e6 <= worker
    assert max(spent.children) / 1e6 <= decoder
    return (
        name,
        f"{offer.promise.enlargement:.3g}",
        ", ".join(card.id for card in offer.plan.plan.chain.cards) or "none",
        f"{px:,.0f}",
        f"{wall:.0f}",
        f"{spent.cpu_s / px:.2f}",
        f"{offer.seconds / px:.2f}",
        ", ".join(f"{peak / 1e6:.0f}" for peak in sorted(spent.peaks)),
        f"{worker}",
        f"{max(spent.children) / 1e6:.0f} of {decoder}",
        f"{spent.driver / 1e6:.0f}",
    )


CASES = [
    ("24 x 36 in, 300 ppi, TIFF", PRINT, "24x36in", 300, {}, "a.tif"),
    ("the same, by networks", PRINT, "24x36in", 300, {"net": NETS}, "a.tif"),
    ("the same, in CMYK", PRINT, "24x36in", 300, {"net": NETS, "profile": True}, "a.tif"),
    ("the same, PDF, bleed and marks", PRINT, "24x36in", 300, {"net": NETS, "profile": True, "bleed": "3mm"}, "a.pdf"),
    ("24 x 36 in from a book, JPEG", PAGE, "24x36in", 300, {}, "a.tif"),
    ("20 x 20 in from an eye, JPEG", EYE, "20x20in", 300, {"net": NETS}, "a.tif"),
    ("A4, 300 ppi", PRINT, "A4", 300, {"net": ("fast-x2",)}, "a.tif"),
    ("A1, 360 ppi", PRINT, "A1", 360, {"net": ("fast-x2",)}, "a.tif"),
    ("banner, 2.65 x 3.79 m, 300 ppi", PRINT, "31300x44740px", 300, {"net": ("fast-x2",)}, "a.tif"),
]
"""Name, picture, paper, ppi, what else is ordered, target."""


def test_poster_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the table, case by case."""
    if not PRINT.exists():
        pytest.skip("the photographs are not there")
    (tmp_path / "ink.icc").write_bytes(press_profile())
    rows: list[tuple[str, ...]] = []
    for name, photo, size, ppi, others, target in CASES:
        more = {key: tmp_path / "ink.icc" if key == "profile" else value for key, value in others.items()}
        rows.append(row(name, photo, asked(size, ppi, **more), tmp_path / target, monkeypatch))
        for path in tmp_path.glob("a.*"):
            path.unlink()
        header = ("poster", "times", "networks", "Mpx", "wall, s", "CPU, s/Mpx", "told, s/Mpx", "peaks, MB", "told, MB",
                  "decoder, MB", "driver, MB")  # fmt: skip
        notes = (
            "Preset print, tiles of 2048 px, 16 bit (the PDF: 8), two fresh workers; other programs run beside it. "
            "Peaks: resident memory (VmHWM) of each worker over the whole run, beside what was told before its first "
            "tile. CPU: of the workers and their decoders; the driver, which writes the file, is not in it. The "
            "picture of the first rows has 3.0 Mpx and a profile of 669 kB. Networks are named but in the first and "
            "fifth row, where the picture was found too soft for them. The banner is too weak, and was meant."
        )
        print(write_table("poster-cost", "What posters take", header, rows, notes))
