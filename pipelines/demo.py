"""`make demo`: a small catalog made of real photographs, restored by the real command, and pictures to look at.

The photographs lie inside scikit-image's wheel; nothing is downloaded. The folder holds afterwards

    catalog/            what a shop or an archive would have, one broken file among it
    restored/           what `refine catalog` made of it
    contact-sheet.png   six ways to enlarge, side by side
    alpha-edges.png     the edge of a cut-out over three colours
    before-after.png    the picture of the README
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import click
import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw

from pipelines.contact_sheet import Crop, alpha_edges, before_after, contact_sheet
from pipelines.errors import JobError
from refine.colour import srgb_profile
from refine.imagefile import encode_image
from refine.spec import Depth, Image, ImageSpec, Pixels, Resolution

BROKEN = Path("archive/broken.jpg")
"""Cut off in the middle on purpose."""
MOSAIC_CELLS = 12, 16
"""Rows and columns of the mosaic: 12 megapixels."""
CELL = 250
"""Side of a cell of the mosaic, px: no divisor of a tile's, so that a seam could not hide between two cells."""
_SHOWN = {
    "contact-sheet.png": "six ways to enlarge, side by side at 1:1",
    "alpha-edges.png": "the edge of a cut-out over black, white and green",
    "before-after.png": "source, Lanczos, Refine",
    "restored": "what the command made of the files in catalog",
}
_GRAIN = 4.0
"""Sigma of the grain added to one photograph, 8-bit levels."""
_DENOISE = 6.0
"""What is denoised of it on the contact sheet, likewise: the network has raised it by then."""
_PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
"""All that are at least a cell high and wide."""
# The saucer's and the cup's rim (x0, y0, x1, y1) and the spoon's handle in coffee.png, traced by hand.
_SAUCER = (78.5, 51, 477.5, 388.5)
_RIM = (174, 19, 402, 206)
_HANDLE = ((398, 78), (400, 71), (408, 67.5), (417, 68), (422.5, 74), (423, 80), (415, 118), (400, 118))
_CUTOUT = (60, 4, 496, 400)
_SMOOTH = 8
"""The mask is drawn this many times larger and averaged: cut-out tools leave soft edges."""


@click.command()
@click.option("--to", "folder", default="demo", show_default=True, type=click.Path(path_type=Path))
def main(folder: Path) -> None:
    """Make a small catalog of real photographs, restore it, draw contact sheets. Example: make demo."""
    try:
        demonstrate(folder)
    except JobError as error:
        raise click.ClickException(str(error)) from error


def demonstrate(folder: Path) -> None:
    """Write the catalog, run the command on it, draw the pictures. Raises JobError where that goes wrong."""
    catalog, restored = folder / "catalog", folder / "restored"
    print(f"Writing a catalog of real photographs to {catalog}")
    paths = write_catalog(catalog)
    _restore(catalog, restored)
    lost = [path for path in paths if path != BROKEN and not (restored / path).is_file()]
    if lost or (restored / BROKEN).exists():
        raise JobError(f"every file but {BROKEN} should have been restored; missing: {', '.join(map(str, lost))}")
    print("\nDrawing the pictures")
    draw(folder)
    print(f"\n{len(paths) - 1} of {len(paths)} files restored; {BROKEN} is cut off on purpose and was named. Look at")
    for name, shown in _SHOWN.items():
        print(f"  {folder / name!s:32} {shown}")


def draw(folder: Path) -> None:
    """Draw the three pictures from the catalog and its restored files."""
    catalog, cutout = folder / "catalog", Path("products/cup-cutout.png")
    cat, motorcycle = catalog / "animals/cat.jpg", catalog / "products/motorcycle.jpg"
    cup, page = catalog / "products/cup-grainy.jpg", catalog / "archive/page-grey.png"
    astronaut = catalog / "people/astronaut.jpg"
    sheet = contact_sheet(
        (
            Crop(cat, 24, 70, "cat.jpg, a clean JPEG; denoise 0"),
            Crop(motorcycle, 70, 164, "motorcycle.jpg, a clean JPEG; denoise 0"),
            Crop(page, 0, 0, "page-grey.png, a grey photo of a page; denoise 0"),
            Crop(cup, 80, 120, f"cup-grainy.jpg, grain of sigma {_GRAIN:g} added; denoise {_DENOISE:g}", _DENOISE),
        )
    )
    iio.imwrite(folder / "contact-sheet.png", np.asarray(sheet))
    edges = alpha_edges(catalog / cutout, folder / "restored" / cutout, 276, 22)
    iio.imwrite(folder / "alpha-edges.png", np.asarray(edges))
    crops = Crop(cat, 24, 76, "cat.jpg"), Crop(astronaut, 256, 98, "astronaut.jpg")
    iio.imwrite(folder / "before-after.png", np.asarray(before_after(crops, cell=220)), optimize=True)


def _restore(catalog: Path, restored: Path) -> None:
    options = ["catalog", str(catalog), str(restored), "--scale", "2", "--workers", "2"]
    print(f"One file is broken on purpose, so the next command ends with exit code 1\n\n$ refine {' '.join(options)}")
    sys.stdout.flush()
    code = subprocess.run([sys.executable, "-m", "pipelines.cli", *options], check=False).returncode
    if code != 1:
        raise JobError(f"the command should have ended with 1, for the one broken file; it ended with {code}")


def write_catalog(folder: Path, mosaic_cells: tuple[int, int] = MOSAIC_CELLS) -> list[Path]:
    """Write the catalog and return its files, relative to the folder.

    A file that is there already with the same bytes is left alone, so a second run finds nothing changed.
    Raises JobError where scikit-image is not installed.
    """
    paths = []
    for name, data in _files(_photographs(), mosaic_cells):
        path = folder / name
        if not path.is_file() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        paths.append(Path(name))
    return paths


def _photographs() -> Path:
    """The folder of photographs in scikit-image's wheel, found without importing it: it may download."""
    package = find_spec("skimage")
    if package is None or package.origin is None:
        raise JobError("the demo needs the photographs inside scikit-image; pip install 'refine-imaging[demo]'")
    return Path(package.origin).parent / "data"


def _files(photographs: Path, mosaic_cells: tuple[int, int]) -> Iterator[tuple[str, bytes]]:
    def photo(name: str, divisor: float = 1) -> Pixels:
        return _reduced(photographs / name, divisor)

    profile = srgb_profile()
    astronaut = _encoded(photo("astronaut.png", 1.25), "jpeg", icc=profile)
    cutout = _cutout(photo("coffee.png"))
    yield "people/astronaut.jpg", astronaut
    yield "people/thumbnail-64.png", _encoded(photo("astronaut.png", 2)[22:86, 80:144], "png")
    yield "animals/cat.jpg", _encoded(photo("chelsea.png", 1.5), "jpeg")
    yield "products/motorcycle.jpg", _encoded(photo("motorcycle_left.png", 2), "jpeg")
    yield "products/cup-grainy.jpg", _encoded(_grainy(photo("coffee.png", 2)), "jpeg")
    yield "products/cup-cutout.png", _encoded(cutout, "png")
    yield "products/cup-on-white.jpg", _encoded(_on_white(cutout), "jpeg")
    yield "phone/rocket-turned.jpg", _turned(photo("rocket.jpg"))
    yield "archive/cameraman-grey.jpg", _encoded(photo("camera.png", 1.25), "jpeg")
    yield "archive/page-grey.png", _encoded(photo("page.png"), "png")
    yield "archive/retina-16-bit.tif", _encoded(_halved_in_linear_light(photo("retina.jpg")), "tiff", icc=profile)
    yield "archive/mosaic.jpg", _encoded(_mosaic(photographs, mosaic_cells), "jpeg")
    yield BROKEN.as_posix(), astronaut[: len(astronaut) // 2]


def _encoded(pixels: Pixels, kind: str, icc: bytes | None = None) -> bytes:
    depth: Depth = "uint8" if pixels.dtype == np.uint8 else "uint16"
    height, width, channels = pixels.shape
    spec = ImageSpec(height, width, channels, depth, kind, icc=icc, resolution=Resolution(300, 300))
    return encode_image(Image(pixels, spec), kind, quality=92)


def _reduced(path: Path, divisor: float) -> Pixels:
    """A photograph, antialiased: (y, x, c) 8 bit, grey or RGB."""
    with Picture.open(path) as opened:
        picture = opened if opened.mode == "L" else opened.convert("RGB")
        size = round(picture.width / divisor), round(picture.height / divisor)
        pixels: Pixels = np.asarray(picture if divisor == 1 else picture.resize(size, Picture.Resampling.LANCZOS))
    return pixels.reshape(*pixels.shape[:2], -1)


def _grainy(pixels: Pixels) -> Pixels:
    """Grain as of film: the same on all channels."""
    grain = np.random.default_rng(1).normal(0, _GRAIN, (*pixels.shape[:2], 1))
    return np.rint(np.clip(pixels + grain, 0, 255)).astype(np.uint8)


def _cutout(coffee: Pixels) -> Pixels:
    """Cup and saucer as RGBA: a soft edge, and white under what is transparent, as cut-out tools leave it."""
    height, width = coffee.shape[:2]
    mask = Picture.new("L", (width * _SMOOTH, height * _SMOOTH))
    shapes = ImageDraw.Draw(mask)
    for box in (_SAUCER, _RIM):
        shapes.ellipse([side * _SMOOTH for side in box], fill=255)
    shapes.polygon([(x * _SMOOTH, y * _SMOOTH) for x, y in _HANDLE], fill=255)
    alpha = np.asarray(mask.resize((width, height), Picture.Resampling.BOX))[:, :, None]
    x0, y0, x1, y1 = _CUTOUT
    cutout: Pixels = np.dstack([np.where(alpha == 0, np.uint8(255), coffee), alpha])
    return cutout[y0:y1, x0:x1]


def _on_white(cutout: Pixels) -> Pixels:
    alpha = cutout[:, :, 3:] / 255
    return np.rint(cutout[:, :, :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


def _turned(pixels: Pixels) -> bytes:
    """A JPEG as a telephone writes it: stored lying, with EXIF orientation 6 to turn it upright."""
    exif = Picture.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    Picture.fromarray(np.rot90(pixels)).save(out, "JPEG", quality=92, exif=exif)
    return out.getvalue()


def _halved_in_linear_light(pixels: Pixels) -> Pixels:
    """Four pixels of 8 bits averaged as light is: 16 bits, the low ones of which hold something."""
    height, width = (side // 2 for side in pixels.shape[:2])
    encoded: NDArray[np.float64] = pixels[: 2 * height, : 2 * width] / 255
    light = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    mean = light.reshape(height, 2, width, 2, -1).mean(axis=(1, 3))
    again: NDArray[np.float64] = np.where(mean <= 0.0031308, mean * 12.92, 1.055 * mean ** (1 / 2.4) - 0.055)
    return np.rint(again * 65535).astype(np.uint16)


def _mosaic(photographs: Path, cells: tuple[int, int]) -> Pixels:
    """Pieces of all photographs at their own size, taken in turn from places drawn once and for all."""
    photos = [np.broadcast_to(p, (*p.shape[:2], 3)) for p in (_reduced(photographs / n, 1) for n in _PHOTOGRAPHS)]
    places = np.random.default_rng(2)
    mosaic: Pixels = np.empty((cells[0] * CELL, cells[1] * CELL, 3), np.uint8)
    for number, (r, c) in enumerate(np.ndindex(*cells)):
        photo = photos[number % len(photos)]
        y, x = (int(places.integers(side - CELL + 1)) for side in photo.shape[:2])
        mosaic[r * CELL : (r + 1) * CELL, c * CELL : (c + 1) * CELL] = photo[y : y + CELL, x : x + CELL]
    return mosaic


if __name__ == "__main__":
    main()
