"""Compare the decoder with a second one over a folder of odd, broken and hostile files.

Run: python tests/corpus/report.py FOLDER [TABLE.md]. The folder holds `manifest.tsv` (columns class, file, pillow).
The second decoder is Pillow; where it cannot read a TIFF, tifffile's own page reader (not independent of ours).
"""

from __future__ import annotations

import csv
import platform
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import PIL
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from refine.decoder import Decoder
from refine.errors import ImageReadError, LimitError

JPEG_LEVELS = 4
"""8-bit levels by which two inverse cosine transforms and chroma upsamplings may differ."""
UNMULTIPLY_LEVELS = 1
"""8-bit levels by which dividing out alpha may differ: Pillow cuts off, we round."""
BY_INTENT = re.compile(r"; JPEG, PNG and TIFF can be read|CMYK|floating|signed|bits a sample|YCbCr|old way|0 px")
"""Reasons of refusals that this version means: kinds of picture it does not read, whatever others do."""

DISAGREEMENTS = {
    # Ours refuses, Pillow decodes.
    "xcsn0g01.png": "PngSuite's own case of a wrong checksum",
    "948633673a35fcaf8e7642f084e3e661327304e9.crash": "no end mark",
    "b4ddab9f83fa1ac3c70d9cce02c312a76c87d14d.crash": "no end mark",
    "47e840fea99df0d10344f07c8cdbad739b5547c2": "a JPEG that ends in its first scan",
    "m2-3562055aecf63b573f8a18c4034a4a23.tif": "a strip that ends behind the file",
    # Both decode, pixels differ.
    "tbwn0g16.png": "Pillow leaves out the key colour of 16-bit grey",
    "flower-rgb-planar-16.tif": "Pillow misreads planes of 16 bits; ours equals the contiguous twin",
    "minisblack-2c-8b-alpha.tiff": "Pillow misreads the alpha plane; ours equals tifffile's",
    "hpredict-1c-12b.tiff": "Pillow leaves the predictor of uncompressed 12 bits",
    "lzw-rgba-4444.tif": "one level, from dividing 4-bit alpha out before or after scaling",
    "crash-74d2a78403a5a59db1fb0a2b8735ac068a75f6e3.tif": "damaged fax codes: both guess, neither refuses",
    # Pillow refuses, ours decodes.
    "apng__chunk_no_fctl.png": "a broken animation whose first picture is whole",
}
"""The end of a file's name: why the two decoders differ on it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file."""

    group: str
    """The manifest's class."""
    file: str
    """Relative to the folder."""
    magic: str
    """jpeg, png, tiff... as the manifest has it."""
    reason: str | None
    """Why it was refused; None where it decoded."""
    limited: bool
    """Refused by a limit."""
    second: str
    """The second decoder beside ours: `same`, `differs: ...`, `refuses`; where ours refuses, `refuses too`, `by intent`
    (it decodes, but ours means not to) or `only it`; `not asked` where it might hurt us."""
    seconds: float
    """Of our decoder."""


def outcomes(folder: Path) -> Iterator[Outcome]:
    """Every file of the manifest, decoded by ours and by a second decoder."""
    with (folder / "manifest.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    with Decoder() as decoder:
        for row in rows:
            yield _outcome(decoder, folder / row["file"], row)


def _outcome(decoder: Decoder, path: Path, row: dict[str, str]) -> Outcome:
    start = time.monotonic()
    pixels, reason, limited = None, None, False
    try:
        pixels = decoder.read(path).pixels
    except ImageReadError as error:
        reason, limited = str(error), isinstance(error, LimitError)
    seconds = time.monotonic() - start
    bomb = "Bomb" in row["pillow"] or row["pillow"] == "BIG"
    second = "not asked" if bomb or limited else _compared(pixels, reason, path)
    return Outcome(row["class"], row["file"], row["magic"], reason, limited, second, seconds)


def _compared(ours: NDArray[np.generic] | None, reason: str | None, path: Path) -> str:
    found = second_pixels(path)
    if ours is None:
        return "refuses too" if found is None else "by intent" if BY_INTENT.search(reason or "") else "only it"
    if found is None:
        return "refuses"
    theirs, tolerance = found
    if ours.shape[2] == 2 and theirs.shape[2] == 4:
        theirs = theirs[..., [0, 3]]  # Pillow makes RGBA of 16-bit grey with alpha
    if ours.dtype == np.uint16 and theirs.dtype == np.uint8:
        ours = (ours >> 8).astype(np.uint8)
        tolerance += 1
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return f"differs: {ours.shape} {ours.dtype} against {theirs.shape} {theirs.dtype}"
    visible = np.ones(ours.shape[:2], bool) if ours.shape[2] in (1, 3) else ours[..., -1] > 0
    worst = int(np.abs(ours.astype(np.int64) - theirs)[visible].max(initial=0))
    return "same" if worst <= tolerance else f"differs: by up to {worst}"


def second_pixels(path: Path) -> tuple[NDArray[np.generic], int] | None:
    """Pixels (y, x, c) of a second decoder, and how much they may differ; None where it refuses."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=["JPEG", "PNG", "TIFF"]) as image:
            image.load()
            return _plain(image)
    except Exception:  # noqa: BLE001  whatever a second decoder raises, it refuses
        return _tifffile_pixels(path)


def _plain(image: Image.Image) -> tuple[NDArray[np.generic], int]:
    tolerance = JPEG_LEVELS if image.format == "JPEG" or image.info.get("compression") in ("jpeg", "tiff_jpeg") else 0
    if image.mode in ("La", "RGBa") or (image.format == "TIFF" and image.mode in ("RGBA", "LA")):
        tolerance += UNMULTIPLY_LEVELS
    bits = image.tag_v2.get(258) if isinstance(image, TiffImageFile) else None
    image = ImageOps.exif_transpose(image)
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode in ("1", "La", "RGBa"):
        image = image.convert({"1": "L", "La": "LA", "RGBa": "RGBA"}[image.mode])
    elif "transparency" in image.info and image.mode in ("L", "RGB"):
        image = image.convert("LA" if image.mode == "L" else "RGBA")
    pixels = np.asarray(image)
    if image.mode.startswith("I") and bits == (12,):
        pixels = np.rint(pixels / 4095 * 65535)  # Pillow hands 12 bits out as they are
    return np.atleast_3d(pixels.astype(np.uint16) if image.mode.startswith("I") else pixels), tolerance


def _tifffile_pixels(path: Path) -> tuple[NDArray[np.generic], int] | None:
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            pixels = np.atleast_3d(page.asarray(maxworkers=1))
            if page.photometric == 3 and pixels.size:
                return (page.colormap[:, pixels[..., 0]] // 256).transpose(1, 2, 0).astype(np.uint8), 0
            pixels = np.moveaxis(pixels, 0, 2) if page.planarconfig == 2 else pixels
            stored, top = 2**page.bitspersample - 1, 255 if page.bitspersample <= 8 else 65535
            scaled = np.rint(pixels / stored * top)
            scaled = top - scaled if page.photometric == 0 else scaled
            if page.extrasamples[:1] == (1,):
                scaled[..., :-1] = np.rint(scaled[..., :-1] * top / np.maximum(scaled[..., -1:], 1)).clip(0, top)
            return (scaled.astype(np.uint8 if top == 255 else np.uint16), 0) if pixels.size else None
    except Exception:  # noqa: BLE001  whatever a second decoder raises, it refuses
        return None


def table(found: list[Outcome]) -> str:
    """The outcomes by class, and every disagreement by name, as Markdown."""
    columns = ("class", "files", "decoded", "refused", "over a limit", "same pixels", "differ", "only ours",
               "only the other", "by intent", "both refuse", "not asked")  # fmt: skip
    lines = [
        f"Decoded by ours and by Pillow {PIL.__version__} (tifffile {tifffile.__version__} where Pillow reads no such",
        f"TIFF); imagecodecs {imagecodecs.__version__}, Python {platform.python_version()}, {platform.machine()}.",
        f"Pixels compared exactly; JPEG within {JPEG_LEVELS} levels, divided-out alpha within {UNMULTIPLY_LEVELS},",
        "16 bits against 8 within 1, colour under alpha 0 not at all. By intent: the other decodes CMYK, floating",
        "point, signed, 24 and 32 bits, YCbCr without JPEG or JPEG in the old way; this version refuses those.",
        "",
        f"| {' | '.join(columns)} |",
        "|---" * len(columns) + "|",
    ]
    groups = sorted({o.group for o in found})
    for group in [*groups, "all"]:
        members = [o for o in found if group in (o.group, "all")]
        lines.append(f"| {group} | {' | '.join(map(str, _counts(members)))} |")
    lines += ["", f"Slowest file: {max(o.seconds for o in found):.1f} s.", "", "## Where the two disagree", ""]
    odd = [o for o in found if o.second.startswith("differs") or o.second in ("refuses", "only it")]
    lines += [
        f"- `{o.file}`: {o.second}{': ' + o.reason.split(': ', 1)[-1] if o.reason else ''} ({_why(o)})" for o in odd
    ]
    return "\n".join(lines) + "\n"


def _why(outcome: Outcome) -> str:
    return next((why for end, why in DISAGREEMENTS.items() if outcome.file.endswith(end)), "not looked into")


def _counts(members: list[Outcome]) -> list[int]:
    seen = Counter(o.second.split(":")[0] for o in members)
    refused = [o for o in members if o.reason is not None]
    kinds = ("same", "differs", "refuses", "only it", "by intent", "refuses too", "not asked")
    return [
        len(members),
        len(members) - len(refused),
        len(refused),
        sum(o.limited for o in refused),
        *(seen[kind] for kind in kinds),
    ]


def main() -> None:
    """Print the table, or write it."""
    found = list(outcomes(Path(sys.argv[1])))
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text("# Odd, broken and hostile files\n\n" + table(found), encoding="utf-8")
    else:
        sys.stdout.write(table(found))


if __name__ == "__main__":
    main()
