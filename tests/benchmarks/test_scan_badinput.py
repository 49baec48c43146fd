"""Every odd, broken or hostile TIFF through a whole scan: right against a second decoder, or refused in one line."""

from __future__ import annotations

import csv
import shutil
import sys
import warnings
from collections import Counter
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from scanning import cluster
from tables import write_table

from pipelines import omezarr
from pipelines.cluster import Cluster
from pipelines.scan import scan
from refine.decoder import Decoder
from refine.errors import RefineError
from refine.preset import load_preset
from refine.settings import Settings
from refine.spec import ImageSpec

sys.path.insert(0, str(Path(__file__).parents[1] / "corpus"))
from report import BY_INTENT, NAMED, _tifffile_pixels, second_pixels

pytestmark = pytest.mark.bench

IDLE = Settings(load_preset("archive", {"repair.net": "", "output.dtype": "source"}))
"""A chain that does nothing: the result must have the pixels of the source."""
CMS_LEVELS = 1
"""8-bit levels by which a conversion at 16 bits and one at 8 may differ."""


def outcome(path: Path, target: Path, place: Cluster, decoder: Decoder) -> tuple[str, str]:
    """What became of one file, in a word, and what was said of it."""
    try:
        summary = scan(path, target, IDLE, place, quiet=True)
    except RefineError as error:
        said = str(error)
        return ("refused", said) if len(said.splitlines()) == 1 else ("DEFECT", f"several lines: {said!r}")
    except Exception as error:  # noqa: BLE001  that is what is looked for
        return "DEFECT", f"{type(error).__name__}: {error}"
    if summary.failed:
        said = f"{summary.failed[0].stage}: {summary.failed[0].reason}"
        return ("DEFECT" if "unexpected" in said or "\n" in said else "failed", said)
    groups = omezarr.groups(target)
    page = omezarr.opened(groups[0])[:, :]
    spec = decoder.spec(path)
    if spec.space == "cmyk":
        return _beside_littlecms(path, page, spec)
    if not np.array_equal(page, decoder.read(path).pixels):
        return "DEFECT", "its pixels are not those of our own decoder"
    return _beside(path, page, len(groups))


def _beside_littlecms(path: Path, page: np.ndarray, spec: ImageSpec) -> tuple[str, str]:
    """How a page made of CMYK compares with Pillow's decoder and littlecms at 8 bits, without its coarse tables."""
    profile = ImageCms.ImageCmsProfile(BytesIO(spec.icc))
    with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
        theirs = ImageCms.profileToProfile(
            image,
            profile,
            ImageCms.createProfile("sRGB"),
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            "RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.NOOPTIMIZE,
        )
    worst = int(np.abs(page.astype(np.int64) - np.asarray(theirs)).max())
    return ("equal (sRGB)", "") if worst <= CMS_LEVELS else ("differs", f"by up to {worst} from littlecms")


def _beside(path: Path, page: np.ndarray, count: int) -> tuple[str, str]:
    """How the first page compares with a second decoder, tifffile before Pillow; others by tifffile alone."""
    first = _tifffile_pixels(path)
    if first is not None and first[0].shape == page.shape and np.array_equal(first[0], page):
        return f"equal{' (pages)' if count > 1 else ''}", ""
    found = second_pixels(path)
    if found is None:
        return "only ours", "tifffile and Pillow refuse it"
    theirs, tolerance = found
    if theirs.shape != page.shape:
        return "differs", f"{page.shape} {page.dtype} against {theirs.shape} {theirs.dtype}"
    scaled = page >> 8 if (page.dtype, theirs.dtype) == (np.uint16, np.uint8) else page
    tolerance += scaled is not page
    visible = np.ones(page.shape[:2], bool) if page.shape[2] in (1, 3) else page[..., -1] > 0
    worst = int(np.abs(scaled.astype(np.int64) - theirs)[visible].max(initial=0))
    return ("equal", "") if worst <= tolerance else ("differs", f"by up to {worst}")


def test_scan_badinput(tmp_path: Path, checkout: Path) -> None:
    """Write the table of outcomes; none may be a defect, and what differs must be one of the cases known by name."""
    folder = checkout.parent / "shared/data/badinput"
    if not folder.exists():
        pytest.skip("the corpus is not here")
    with (folder / "manifest.tsv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["magic"].startswith("tif")]
    counts: dict[str, Counter[str]] = {}
    told = []
    with cluster() as (_, place), Decoder() as decoder:
        for number, row in enumerate(rows):
            target = tmp_path / f"{number}.zarr"
            kind, said = outcome(folder / row["file"], target, place, decoder)
            shutil.rmtree(target, ignore_errors=True)
            kind = "by intent" if kind == "refused" and BY_INTENT.search(said) else kind
            kind = "named" if kind == "differs" and row["file"].endswith(tuple(NAMED)) else kind
            counts.setdefault(row["class"], Counter())[kind] += 1
            if not kind.startswith("equal"):
                told.append(f"- {kind}: `{row['file']}`: {said.replace(str(folder), '')}")
    counts["all"] = sum(counts.values(), Counter[str]())
    kinds = sorted(counts["all"])
    table = [(name, f"{found.total()}", *(f"{found[kind]}" for kind in kinds)) for name, found in counts.items()]
    notes = (
        "Preset archive, nothing to be done: pixels of the first page must be those of tifffile or Pillow. Refused: in "
        "one line, before any work; by intent: kinds of picture that are not read, with the way out; failed: in one "
        "line, once work had begun; named: the second decoder is known to be wrong or to guess. "
        "Equal (sRGB): CMYK, which an OME-Zarr image does not hold, converted as Pillow and littlecms do it.\n\n"
        + "\n".join(sorted(told))
    )
    print(write_table("scan-badinput", "TIFFs of the corpus through a scan", ("class", "files", *kinds), table, notes))
    assert not counts["all"]["DEFECT"]
