"""What reading a file costs beside its codec, and how many small ones a second pass through the decoder's child."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import psutil
import pytest
import tifffile
from blobs import IPTC, SRGB, XMP, exif
from skimage import data
from tables import cpu_seconds, write_table

from refine.decoder import Decoder
from refine.imagefile import Format, encode_image, read_image
from refine.spec import Image, ImageSpec, Metadata, Resolution

pytestmark = pytest.mark.bench

_SIDE, _SMALL, _COUNT = 1500, 64, 300
_CODECS: dict[Format, Callable[[Path], object]] = {
    "jpeg": lambda path: imagecodecs.jpeg8_decode(path.read_bytes()),
    "png": lambda path: imagecodecs.png_decode(path.read_bytes()),
    "tiff": lambda path: tifffile.imread(path, maxworkers=1),
    "webp": lambda path: imagecodecs.webp_decode(path.read_bytes()),
}


def photo(side: int) -> Image:
    """A photograph of that size with all the metadata there is."""
    tile = data.astronaut()
    count = -(-side // len(tile))
    pixels = np.ascontiguousarray(np.tile(tile, (count, count, 1))[:side, :side])
    carried = Metadata(exif(), XMP, IPTC)
    spec = ImageSpec(side, side, 3, "uint8", icc=SRGB, resolution=Resolution(300, 300), metadata=carried)
    return Image(pixels, spec)


def test_decode_cost(tmp_path: Path) -> None:
    """Write the table of reading and writing with metadata against the codec alone, per megapixel."""
    image, megapixels = photo(_SIDE), _SIDE * _SIDE / 1e6
    rows = []
    for kind, codec in _CODECS.items():
        path = tmp_path / f"photo.{kind}"
        path.write_bytes(encode_image(image, kind))
        bare, ours = cpu_seconds(lambda p=path, c=codec: c(p), lambda p=path: read_image(p))
        (writing,) = cpu_seconds(lambda k=kind: encode_image(image, k), rounds=3)
        each = [f"{1e3 * spent / megapixels:.1f}" for spent in (bare, ours, writing)]
        rows.append((kind, *each[:2], f"{ours / bare:.2f}", each[2]))
    header = ("format", "codec alone, ms/MP", "read_image, ms/MP", "ratio", "encode_image, ms/MP")
    notes = "RGB of 8 bits with profile, EXIF, XMP and IPTC; in one process. The files are the same for both."
    print(write_table("decode-cost", "Cost of reading a file beside its codec", header, rows, notes))


def test_small_images(tmp_path: Path) -> None:
    """Write the table of small files a second of one core through the decoder's child and back into bytes."""
    image, rows = photo(_SMALL), []
    for kind in _CODECS:
        path = tmp_path / f"small.{kind}"
        path.write_bytes(encode_image(image, kind))
        with Decoder() as decoder:
            for _ in range(20):
                decoder.read(path)
            child = psutil.Process().children()[0]
            reading = _spent(child, lambda p=path, d=decoder: d.read(p))
            both = _spent(child, lambda p=path, d=decoder, k=kind: encode_image(d.read(p), k))
        rows.append((kind, f"{1e3 * reading:.2f}", f"{1 / reading:.0f}", f"{1e3 * both:.2f}", f"{1 / both:.0f}"))
    header = ("format", "read, ms CPU", "a second and core", "read and write, ms CPU", "a second and core")
    notes = f"{_SMALL} x {_SMALL} px RGB with profile, EXIF, XMP and IPTC. CPU of both processes together."
    print(write_table("decode-small", "Small files through the decoder's child", header, rows, notes))


def _spent(child: psutil.Process, work: Callable[[], object]) -> float:
    """CPU seconds of one call, those of the child included."""

    def now() -> float:
        times = child.cpu_times()
        return time.process_time() + times.user + times.system

    start = now()
    for _ in range(_COUNT):
        work()
    return (now() - start) / _COUNT
