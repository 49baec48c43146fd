"""Images that stay open: upright windows of any format, out of the file as it is now."""

from __future__ import annotations

import os

import numpy as np
import psutil
import pytest
import tifffile
from PIL import Image as Pillow
from PIL import ImageOps

from refine.errors import ImageReadError, LimitError
from refine.limits import Limits
from refine.openimage import OpenImage, OpenImages, Storage
from refine.window import Window

PIXELS = np.random.default_rng(5).integers(0, 256, (37, 53, 3), dtype=np.uint8)
LAYOUTS = ({}, {"rowsperstrip": 5}, {"tile": (16, 32)}, {"tile": (16, 16), "compression": "zlib"})


def store(path, pixels=PIXELS, orientation=1, **options):
    """The path of a TIFF with an orientation."""
    tags = [(274, 3, 1, orientation, True)]
    tifffile.imwrite(path, pixels, metadata=None, photometric="rgb", extratags=tags, **options)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("options", [*LAYOUTS, None], ids=str)
def test_window_is_upright(tmp_path, options, orientation):
    """A window of the upright picture is cut from the right place of the stored one, whichever way that lies."""
    if options is None:
        path, exif = tmp_path / "a.png", Pillow.Exif()
        exif[274] = orientation
        Pillow.fromarray(PIXELS).save(path, exif=exif)
    else:
        path = store(tmp_path / "a.tif", orientation=orientation, **options)
    with Pillow.open(path) as theirs:
        whole = np.asarray(ImageOps.exif_transpose(theirs))
    rng = np.random.default_rng(orientation)
    with OpenImage(path, Limits()) as image:
        assert image.spec.shape == whole.shape
        for _ in range(12):
            y, x = (np.sort(rng.choice(n + 1, 2, replace=False)) for n in whole.shape[:2])
            window = Window(int(y[0]), int(x[0]), int(y[1]), int(x[1]))
            np.testing.assert_array_equal(image.window(window), whole[window.slices])


@pytest.mark.parametrize(
    ("options", "orientation", "expected"),
    [
        ({}, 1, Storage(37, 53, 37 * 53 * 3, 37 * 53 * 3, direct=True)),
        ({"rowsperstrip": 5}, 1, Storage(5, 53, 5 * 53 * 3, 5 * 53 * 3, direct=True)),
        ({"rowsperstrip": 5, "compression": "zlib"}, 6, Storage(53, 5, 5 * 53 * 3, 5 * 53 * 3, sideways=True)),
        ({"tile": (16, 32), "compression": "zlib"}, 3, Storage(16, 32, 16 * 32 * 3, 2 * 16 * 32 * 3)),
    ],
    ids=["one raw strip", "raw strips", "strips on their side", "tiles upside down"],
)
def test_storage_is_that_of_the_upright_picture(tmp_path, options, orientation, expected):
    """Sides of strips and tiles are those one meets in the picture that is handed out."""
    with OpenImage(store(tmp_path / "a.tif", orientation=orientation, **options), Limits()) as image:
        assert image.storage == expected


def test_storage_of_planes(tmp_path):
    """A row of strips is one for each plane."""
    data = np.moveaxis(PIXELS, 2, 0).copy()
    path = store(tmp_path / "a.tif", data, planarconfig="separate", rowsperstrip=5, compression="lzw")
    with OpenImage(path, Limits()) as image:
        assert image.storage == Storage(5, 53, 5 * 53, 3 * 5 * 53)


@pytest.mark.parametrize("window", [Window(-1, 0, 5, 5), Window(0, 0, 38, 5), Window(3, 3, 3, 5)], ids=str)
def test_window_outside_is_refused(tmp_path, window):
    """A window that passes the edge, or is empty, is refused by name."""
    said = r"^a\.tif: has 37 x 53 px, Window.* is not inside"
    with OpenImage(store(tmp_path / "a.tif"), Limits()) as image, pytest.raises(ImageReadError, match=said):
        image.window(window)


def test_decode_mem_refuses_a_strip_that_is_too_large(tmp_path):
    """A strip that cannot be held is refused before it is decoded, and a raw one of that size is not."""
    limits, window = Limits(max_whole_nbytes=5000), Window(0, 0, 1, 1)
    with OpenImage(store(tmp_path / "a.tif"), limits) as image:
        assert image.decode_mem(window, 0) >= limits.headroom_mem
    packed, said = store(tmp_path / "b.tif", compression="zlib"), "bytes of pixels to be held.*max_whole_nbytes"
    with OpenImage(packed, limits) as image, pytest.raises(LimitError, match=said):
        image.decode_mem(window, 0)


def test_changed_file_is_opened_anew(tmp_path):
    """A file of the same length with other pixels, or another file of that name, is seen at the next window."""
    path, images, window = store(tmp_path / "a.tif"), OpenImages(), Window(3, 4, 20, 30)
    first = images.opened(path, Limits())
    assert images.opened(path, Limits()) is first
    status = path.stat()
    store(path, 255 - PIXELS)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert path.stat().st_size == status.st_size
    np.testing.assert_array_equal(images.opened(path, Limits()).window(window), 255 - PIXELS[window.slices])
    store(tmp_path / "b.tif").replace(path)
    np.testing.assert_array_equal(images.opened(path, Limits()).window(window), PIXELS[window.slices])
    path.unlink()
    with pytest.raises(ImageReadError, match=r"^a\.tif: cannot be read: No such file"):
        images.opened(path, Limits())
    images.close_all()


def test_few_files_stay_open(tmp_path):
    """Of many files the latest few are open; none after closing all."""
    paths, images = [store(tmp_path / f"{n}.tif") for n in range(9)], OpenImages()
    for path in paths:
        images.opened(path, Limits())
    assert 0 < len(_open_below(tmp_path)) <= 4
    images.close_all()
    assert _open_below(tmp_path) == []


def _open_below(folder):
    return [file.path for file in psutil.Process().open_files() if file.path.startswith(str(folder))]


def test_whole_picture_is_not_held_beside_another(tmp_path):
    """A picture that had to be decoded whole is let go of when another file is opened."""
    images, path = OpenImages(), tmp_path / "a.png"
    Pillow.fromarray(PIXELS).save(path)
    image = images.opened(path, Limits())
    image.window(Window(0, 0, 1, 1))
    assert image._whole is not None
    images.opened(store(tmp_path / "b.tif"), Limits())
    assert image._whole is None
    images.close_all()
