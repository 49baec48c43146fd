"""Compare the decoder with two others over a folder of odd, broken and hostile files.

Run: python tests/corpus/report.py FOLDER [TABLE.md]. The folder holds `manifest.tsv` (columns class, file, pillow).
The second decoder is Pillow; where it cannot read a TIFF, tifffile's own page reader (not independent of ours). Its
pixels are compared. The third is libvips (its command `vips`, where that is installed), which only says whether it
decodes. Where both of them decode a file it is expected to decode, where both refuse it to be refused.
"""

from __future__ import annotations

import csv
import platform
import re
import shutil
import subprocess
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
BY_INTENT = re.compile(
    r"can be read$|floating|signed|bits a sample|YCbCr without|old way|with alpha; convert|render|compressed as|OS/2"
)
"""Reasons of refusals that this version means: kinds of picture it does not read, whatever others do."""
FORMATS = ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "JPEG2000"]
VIPS_S = 30
"""Seconds in which libvips must have decided."""

NAMED = {
    # Ours refuses, another decodes.
    "xcsn0g01.png": "PngSuite's own case of a wrong checksum",
    "948633673a35fcaf8e7642f084e3e661327304e9.crash": "no end mark",
    "b4ddab9f83fa1ac3c70d9cce02c312a76c87d14d.crash": "no end mark",
    "47e840fea99df0d10344f07c8cdbad739b5547c2": "a JPEG that ends in its first scan; libjpeg fills the rest",
    "5482a54657765056f1a94116a8dbffe7.jpg": "a JPEG damaged in its scan, where a marker stands that has no place there",
    "m2-3562055aecf63b573f8a18c4034a4a23.tif": "a strip that ends behind the file",
    "no_palette.gif": "no palette: any colours would be a guess, Pillow's is greys",
    # Both decode, pixels differ.
    "tbwn0g16.png": "Pillow leaves out the key colour of 16-bit grey",
    "flower-rgb-planar-16.tif": "Pillow misreads planes of 16 bits; ours equals the contiguous twin",
    "flower-separated-planar-16.tif": "Pillow misreads planes of 16 bits; ours equals the contiguous twin",
    "minisblack-2c-8b-alpha.tiff": "Pillow misreads the alpha plane; ours equals tifffile's",
    "hpredict-1c-12b.tiff": "Pillow leaves the predictor of uncompressed 12 bits",
    "lzw-rgba-4444.tif": "one level, from dividing 4-bit alpha out before or after scaling",
    "crash-74d2a78403a5a59db1fb0a2b8735ac068a75f6e3.tif": "damaged fax codes: both guess, neither refuses",
    "issue_1455_undersized.gif": "what the frame does not cover: background's colour here, index 0 in Pillow",
    # The others refuse, ours decodes.
    "apng__chunk_no_fctl.png": "a broken animation whose first picture is whole",
}
"""The end of a file's name: why the decoders differ on it."""
VERDICTS = ("decoded right", "refused right", "refused by intent", "over a limit", "disputed", "named", "wrong")


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
    expected: str
    """`decode` where the two other decoders do, `refuse` where neither does, else `unclear`; empty if not asked."""
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
    expected, second = "", "not asked"
    if not bomb and not limited:
        found = second_pixels(path)
        second = _compared(pixels, reason, found)
        voices = {found is not None, vips_decodes(path)} - {None}
        expected = "unclear" if len(voices) > 1 else "decode" if voices == {True} else "refuse"
    return Outcome(row["class"], row["file"], row["magic"], reason, limited, expected, second, seconds)


def vips_decodes(path: Path) -> bool | None:
    """Whether libvips decodes a file to its end; None where it is not installed."""
    vips = shutil.which("vips")
    if vips is None:
        return None
    command = f'ulimit -v 4000000; exec "$0" {"avg"} "$1"'
    for option in ("[fail-on=error]", ""):  # not all of its loaders know the option
        try:
            done = subprocess.run(
                ["sh", "-c", command, vips, f"{path}{option}"], capture_output=True, timeout=VIPS_S, check=False
            )
        except subprocess.TimeoutExpired:
            return False
        if b"does not support argument" not in done.stderr and b"no property named" not in done.stderr:
            return done.returncode == 0
    return False


def _compared(
    ours: NDArray[np.generic] | None, reason: str | None, found: tuple[NDArray[np.generic], int] | None
) -> str:
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
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as image:
            image.load()
            return _plain(image)
    except Exception:  # noqa: BLE001  whatever a second decoder raises, it refuses
        return _tifffile_pixels(path)


def _plain(image: Image.Image) -> tuple[NDArray[np.generic], int]:
    tolerance = JPEG_LEVELS if image.format == "JPEG" or image.info.get("compression") in ("jpeg", "tiff_jpeg") else 0
    if image.mode in ("La", "RGBa") or (image.format == "TIFF" and image.mode in ("RGBA", "LA")):
        tolerance += UNMULTIPLY_LEVELS
    if image.format == "GIF" and image.mode == "L":
        image = image.convert("RGB")  # a palette of greys in order
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


def verdict(outcome: Outcome) -> str:
    """One of VERDICTS.

    `disputed`: ours and Pillow refuse what libvips decodes. `named`: one of NAMED, with its reason there.
    """
    refused = outcome.reason is not None
    if outcome.limited:
        return "over a limit"
    if refused and outcome.second in ("refuses too", "not asked"):
        return "disputed" if outcome.expected == "unclear" else "refused right"
    if outcome.second == "by intent":
        return "refused by intent"
    if outcome.second == "same":
        return "decoded right"
    return "named" if outcome.file.endswith(tuple(NAMED)) else "wrong"


def table(found: list[Outcome]) -> str:
    """The verdicts by class, and every one that is not plain by its file, as Markdown."""
    columns = ("class", "files", "to decode", "to refuse", "unclear", *VERDICTS)
    lines = [
        f"Pixels compared with Pillow {PIL.__version__} (tifffile {tifffile.__version__} where Pillow reads no such",
        f"TIFF); imagecodecs {imagecodecs.__version__}, Python {platform.python_version()}, {platform.machine()}.",
        "To decode, to refuse: what Pillow (or tifffile) and libvips agree on; unclear where they do not; bombs are",
        f"not given to them. Pixels are equal; JPEG within {JPEG_LEVELS} levels, divided-out alpha within",
        f"{UNMULTIPLY_LEVELS}, 16 bits against 8 within 1, colour under alpha 0 not. By intent: floating point,",
        "signed, 24 and 32 bits, YCbCr without JPEG, JPEG in the old way, CMYK with alpha: refused with the way out.",
        "Disputed: ours and Pillow refuse what libvips decodes.",
        "",
        f"| {' | '.join(columns)} |",
        "|---" * len(columns) + "|",
    ]
    for group in [*sorted({o.group for o in found}), "all"]:
        members = [o for o in found if group in (o.group, "all")]
        expected = Counter(o.expected for o in members)
        seen = Counter(verdict(o) for o in members)
        counts = [len(members), *(expected[e] for e in ("decode", "refuse", "unclear")), *(seen[v] for v in VERDICTS)]
        lines.append(f"| {group} | {' | '.join(map(str, counts))} |")
    lines += ["", f"Slowest file: {max(o.seconds for o in found):.1f} s.", ""]
    for kind in ("wrong", "named", "disputed", "over a limit", "refused by intent"):
        lines += [f"## {kind.capitalize()}", ""]
        lines += [_line(o) for o in found if verdict(o) == kind] or ["None."]
        lines.append("")
    return "\n".join(lines[:-1]) + "\n"


def _line(outcome: Outcome) -> str:
    said = "" if outcome.reason is None else outcome.reason.split(": ", 1)[-1]
    why = next((why for end, why in NAMED.items() if outcome.file.endswith(end)), "")
    how = outcome.second if outcome.second.startswith("differs") or outcome.second == "refuses" else ""
    return f"- `{outcome.file}`: {'; '.join(filter(None, (how, said, why)))}"


def main() -> None:
    """Print the table, or write it."""
    found = list(outcomes(Path(sys.argv[1])))
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text("# Odd, broken and hostile files\n\n" + table(found), encoding="utf-8")
    else:
        sys.stdout.write(table(found))


if __name__ == "__main__":
    main()
