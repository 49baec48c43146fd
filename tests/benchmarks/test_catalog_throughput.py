"""What an image of 800 px costs to be made 2000 px: in a catalog, in a plain loop of the same steps, in the program."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tables import write_table
from trial import DATA

from pipelines.catalog import catalog
from pipelines.cluster import Cluster
from refine.assess import assess
from refine.decoder import Decoder
from refine.imagefile import encode_image
from refine.preset import load_preset
from refine.session import Engine
from refine.settings import Settings, Size
from refine.spec import Image as Picture
from refine.tiles import restored_pixels

pytestmark = pytest.mark.bench

COUNT = 48
"""Photographs: Kodak's, twice."""
SETTINGS = Settings(load_preset("balanced"), Size(long_side=2000))


def photographs(folder: Path) -> list[Path]:
    """JPEG files of 800 px on the longer side."""
    folder.mkdir()
    originals = sorted((DATA / "eval" / "kodak").glob("*.png"))
    for number in range(COUNT):
        with Image.open(originals[number % len(originals)]) as opened:
            picture = opened.convert("RGB")
        size = [round(800 * side / max(picture.size)) for side in picture.size]
        picture.resize((size[0], size[1]), Image.Resampling.LANCZOS).save(folder / f"{number}.jpg", quality=92)
    return sorted(folder.glob("*.jpg"))


def spent(work: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds, those of processes that ended in it included, and wall seconds."""
    before, wall = os.times(), time.perf_counter()
    work()
    after = os.times()
    return sum(after[:4]) - sum(before[:4]), time.perf_counter() - wall


@pytest.mark.skipif(not (DATA / "eval").is_dir(), reason="the evaluation pictures are not here")
def test_catalog_throughput(tmp_path: Path) -> None:
    """Write the table of a catalog beside a plain loop of its steps and beside the program alone."""
    files = photographs(tmp_path / "source")
    engine, planned = Engine(), []

    def loop() -> None:
        with Decoder() as decoder:
            for file in files:
                image = decoder.read(file)
                plan = SETTINGS.plan(image.spec, assess(image.pixels, image.spec))
                made = restored_pixels(image.pixels, plan, engine)
                data = encode_image(Picture(made, plan.result), "jpeg", quality=SETTINGS.preset.output.quality)
                (tmp_path / f"loop-{file.name}").write_bytes(data)
                planned.append((image.pixels, plan, made.shape))

    def program() -> None:
        for pixels, plan, _ in planned:
            restored_pixels(pixels, plan, engine)

    one = spent(lambda: catalog(tmp_path / "source", tmp_path / "one", SETTINGS, Cluster(workers=1), quiet=True))
    two = spent(lambda: catalog(tmp_path / "source", tmp_path / "two", SETTINGS, Cluster(workers=2), quiet=True))
    plain = spent(loop)
    bare = spent(program)
    assert len(list((tmp_path / "two").glob("*.jpg"))) == COUNT
    works = (("program alone", bare), ("plain loop: read, assess, plan, restore, encode, write", plain),
             ("catalog, 1 worker", one), ("catalog, 2 workers", two))  # fmt: skip
    rows = [
        (
            *(name, f"{cpu / COUNT:.2f}", f"{cpu / plain[0]:.2f}", f"{COUNT / cpu:.2f}", f"{COUNT / wall:.2f}"),
            f"{cpu / COUNT * 1e6 / 3600:.0f}",
        )
        for name, (cpu, wall) in works
    ]
    px = np.mean([shape[0] * shape[1] for *_, shape in planned]) / 1e6
    header = ("work", "CPU s an image", "of the loop's", "images a CPU s", "images a s by the clock",
              "core hours for 10^6")  # fmt: skip
    notes = f"{COUNT} photographs (JPEG 92) of 800 px become 2000 px, {px:.2f} Mpx, JPEG 95, preset `balanced`. The "
    notes += "catalog's figures hold the start of the cluster, and the page with its pictures."
    print(write_table("catalog-throughput", "From 800 px to 2000 px", header, rows, notes))
