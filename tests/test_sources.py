"""Sources: what is read in place and what is ingested, pages of a file, and that a source is never another one."""

from __future__ import annotations

import hashlib
import os
import pickle
import threading
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from blobs import SRGB
from strategies_files import picture, write_picture

from pipelines import sources
from pipelines.errors import StoreError
from refine.errors import ImageReadError, LimitError
from refine.limits import SCAN_LIMITS
from refine.openimage import Storage
from refine.spec import ImageSpec
from refine.window import Window, read_mirrored

PIXELS = picture(90, 70)


def stored(path, pixels=PIXELS, **options):
    """The path of a TIFF."""
    options = {"photometric": "rgb" if pixels.ndim == 3 else "minisblack"} | options
    tifffile.imwrite(path, pixels, metadata=None, **options)
    return path


@pytest.fixture(autouse=True, scope="module")
def _no_child_left():
    yield
    found = getattr(sources._local, "decoder", None)
    if found is not None:
        found.close()
        del sources._local.decoder


@pytest.mark.parametrize(
    ("side", "storage", "kind"),
    [
        (100_000, Storage(100_000, 100_000, 2 * 10**10, 2 * 10**10, direct=True), "windows"),
        (100_000, Storage(512, 512, 2 * 512**2, 196 * 2 * 512**2), "windows"),
        (100_000, Storage(2048, 2048, 2 * 2048**2, 49 * 2 * 2048**2), "windows"),
        (4_000, Storage(8, 4_000, 2 * 8 * 4_000, 2 * 8 * 4_000), "windows"),
        (100_000, Storage(8, 100_000, 2 * 8 * 100_000, 2 * 8 * 100_000), "bands"),
        (100_000, Storage(100_000, 8, 2 * 8 * 100_000, 2 * 8 * 100_000, sideways=True), "bands"),
        (20_000, Storage(20_000, 20_000, 8 * 10**8, 8 * 10**8), "whole"),
        (20_000, Storage(10_000, 10_000, 2 * 10**8, 4 * 10**8), "whole"),
    ],
    ids=["one raw strip", "tiles", "large tiles", "strips of a small page", "strips", "on its side", "one", "four"],
)
def test_kind_follows_from_how_pixels_lie(side, storage, kind):
    """Read in place is what can be for little more than its own decoding; strips are ingested; the rest is whole."""
    assert sources._kind(ImageSpec(side, side, 1, "uint16", "tiff"), storage) == kind


@pytest.mark.parametrize("block", [1, 100, 512, 1024, 5000])
def test_amplification_is_that_of_counted_blocks(block):
    """The expected cost is what one counts for windows at every phase."""
    length, window = 50_000, sources._SIDE + 2 * sources._HALO
    counted = [((y + window - 1) // block - y // block + 1) * block for y in range(20_000, 20_000 + block)]
    storage = Storage(block, length, 1, 1)
    expected = np.mean(counted) / sources._SIDE * length / sources._SIDE
    assert sources.amplification(ImageSpec(length, length, 1, "uint8"), storage) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, "windows"),
        ({"tile": (32, 32), "compression": "zlib"}, "windows"),
        ({"rowsperstrip": 9, "compression": "lzw"}, "windows"),
        ({"planarconfig": "separate"}, "windows"),
    ],
    ids=str,
)
def test_opened_gives_windows_of_a_tiff(tmp_path, options, kind):
    """What is read in place is the picture, mirrored past its edge as an array in memory is."""
    data = np.moveaxis(PIXELS, 2, 0).copy() if "planarconfig" in options else PIXELS
    source = sources.source_of(stored(tmp_path / "a.tif", data, **options))
    assert source.kind == kind
    opened = source.opened()
    assert (opened.shape, opened.dtype) == (PIXELS.shape, PIXELS.dtype)
    window = Window(-20, 30, 50, 95)
    np.testing.assert_array_equal(read_mirrored(opened, window), read_mirrored(PIXELS, window))
    np.testing.assert_array_equal(opened[5:9], PIXELS[5:9])
    with pytest.raises(IndexError, match="step"):
        _ = opened[::2, 0:4]


def test_opened_gives_windows_of_what_is_not_read_in_place(tmp_path):
    """A PNG is whole, and its windows are right all the same."""
    source = sources.source_of(write_picture(tmp_path / "a.png", PIXELS))
    assert source.kind == "whole"
    np.testing.assert_array_equal(source.opened()[3:50, 7:60], PIXELS[3:50, 7:60])


def test_opened_serves_threads(tmp_path):
    """Threads read one opened source at once, each through a decoder of its own."""
    opened = sources.source_of(stored(tmp_path / "a.tif", tile=(16, 16))).opened()
    found = {}

    def read(number):
        found[number] = opened[number : number + 20, 0:70]

    threads = [threading.Thread(target=read, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(3):
        np.testing.assert_array_equal(found[number], PIXELS[number : number + 20])


def test_decoder_ends_with_its_thread(tmp_path):
    """Where a thread ends so does the child that read for it; another one's goes on."""
    opened = sources.source_of(stored(tmp_path / "a.tif", tile=(16, 16))).opened()
    children = []

    def read():
        np.testing.assert_array_equal(opened[0:20, 0:70], PIXELS[:20])
        children.append(sources.decoder(SCAN_LIMITS)._child)

    read()
    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    del thread
    assert children[1].returncode is not None
    assert children[0].poll() is None


def test_source_pickles_and_is_small(tmp_path):
    """A source goes to another process; without profile and metadata it is small, and reads the same."""
    path = stored(tmp_path / "a.tif", tile=(16, 16), iccprofile=SRGB)
    source = pickle.loads(pickle.dumps(sources.source_of(path)))  # noqa: S301  our own
    assert source.spec.icc == SRGB
    assert len(pickle.dumps(source.bare)) < 1500
    np.testing.assert_array_equal(source.bare.opened()[0:9, 0:9], PIXELS[:9, :9])


@pytest.mark.parametrize("how", ["touched", "longer", "replaced", "gone"])
def test_changed_source_gives_no_pixels(tmp_path, how):
    """A file that is not the one whose header was read is an error, whatever was read of it before."""
    path = stored(tmp_path / "a.tif", tile=(16, 16))
    source = sources.source_of(path)
    opened = source.opened()
    _ = opened[0:5, 0:5]
    status = path.stat()
    if how == "touched":
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    elif how == "longer":
        path.write_bytes(path.read_bytes() + b"\0")
    elif how == "replaced":
        stored(tmp_path / "b.tif", 255 - PIXELS, tile=(16, 16)).replace(path)
    else:
        path.unlink()
    with pytest.raises((StoreError, ImageReadError), match=r"^a\.tif: (was changed|cannot be read: No such file)"):
        _ = opened[0:5, 0:5]


def test_what_must_be_held_whole_is_admitted_by_size(tmp_path):
    """A PNG that is too large to be held is refused from its header, with the limit to raise; a raw TIFF is not."""
    limits = replace(SCAN_LIMITS, max_whole_nbytes=10_000)
    with pytest.raises(LimitError, match=r"^a\.png: .*max_whole_nbytes"):
        sources.source_of(write_picture(tmp_path / "a.png", PIXELS), limits=limits)
    assert sources.source_of(stored(tmp_path / "a.tif"), limits=limits).kind == "windows"


def test_pages_are_pictures_of_their_own(tmp_path):
    """Reduced copies and masks are counted, not listed; places in the file are kept."""
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(PIXELS[:20, :20], photometric="rgb", subfiletype=1, metadata=None)
        writer.write(PIXELS, photometric="rgb", metadata=None)
        writer.write(PIXELS[::2, ::2], photometric="rgb", subfiletype=1, metadata=None)
        writer.write(PIXELS[..., 0] > 9, photometric=4, subfiletype=4, metadata=None)
        writer.write(PIXELS[:50, :, 0], photometric="minisblack", subfiletype=2, metadata=None)
    found = sources.listing(path)
    assert [(spec.page, spec.shape) for spec in found.pages] == [(1, (90, 70, 3)), (4, (50, 70, 1))]
    assert found.left_out == ("1 mask left out", "2 reduced copies left out")
    assert found.damaged == ()
    np.testing.assert_array_equal(sources.source_of(path, 4).opened()[0:50, 0:70][..., 0], PIXELS[:50, :, 0])


def test_pages_of_nothing_but_a_reduced_copy(tmp_path):
    """A file whose only page says to be a copy is that picture."""
    assert [spec.shape for spec in sources.listing(stored(tmp_path / "a.tif", subfiletype=1)).pages] == [PIXELS.shape]


def test_pages_of_a_pyramid_below_its_page(tmp_path):
    """Levels that lie below a page are no pages."""
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(PIXELS, photometric="rgb", subifds=1, tile=(16, 16), metadata=None)
        writer.write(PIXELS[::2, ::2], photometric="rgb", subfiletype=1, tile=(16, 16), metadata=None)
    assert [spec.shape for spec in sources.listing(path).pages] == [PIXELS.shape]


def test_pages_name_the_one_that_is_damaged(tmp_path):
    """A page that cannot be read among good ones is one line with its number, and the good ones are there."""
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for data in (PIXELS, PIXELS.astype(np.float32), PIXELS):
            writer.write(data, photometric="rgb", metadata=None)
    found = sources.listing(path)
    assert [spec.page for spec in found.pages] == [0, 2]
    (line,) = found.damaged
    assert line.startswith("a.tif: page 2 of 3: this TIFF cannot be used: its samples are floating-point")


def test_pages_of_a_file_without_a_readable_one(tmp_path):
    """Where no page can be read, or no directory is whole, that is one line with the first reason, never no pages."""
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for _ in range(2):
            writer.write(PIXELS.astype(np.float32), photometric="rgb", metadata=None)
    with pytest.raises(
        ImageReadError, match=r"^a\.tif: none of its 2 pages can be read; page 1 of 2: .*floating-point"
    ):
        sources.listing(path)
    for name, data in (("b.tif", b"II*\0\xff\xff\xff\x7f" + bytes(99)), ("c.tif", b"II*\0\x08\0\0\0\0\0" + bytes(99))):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageReadError, match=rf"^{name[0]}\.tif: .+") as caught:
            sources.listing(tmp_path / name)
        assert len(str(caught.value).splitlines()) == 1
        assert "page 1 of 0" not in str(caught.value)


@pytest.mark.parametrize(("link", "said"), [(10**8, "leads nowhere"), (0, "leads back")])
def test_pages_say_where_their_chain_ends(tmp_path, link, said):
    """A chain of pages that is broken, or a circle, gives the pages before, and a line that says so."""
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for _ in range(3):
            writer.write(PIXELS, photometric="rgb", metadata=None)
    with tifffile.TiffFile(path) as file:
        first, second = (file.pages[n].offset for n in (0, 1))
        place = second + 2 + 12 * len(file.pages[1].tags)
    data = bytearray(path.read_bytes())
    data[place : place + 4] = (link or first).to_bytes(4, "little")
    path.write_bytes(data)
    found = sources.listing(path)
    assert [spec.page for spec in found.pages] == [0, 1]
    assert found.damaged == (f"a.tif: the link behind page 2 {said}" + found.damaged[0].partition(said)[2],)


def test_pages_are_limited(tmp_path):
    """A file of too many pages is refused by name."""
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for _ in range(3):
            writer.write(PIXELS[:4, :4], photometric="rgb", metadata=None)
    assert len(sources.listing(path, replace(SCAN_LIMITS, max_pages=3)).pages) == 3
    with pytest.raises(LimitError, match=r"^a\.tif: 3 pages.*max_pages"):
        sources.listing(path, replace(SCAN_LIMITS, max_pages=2))


def test_pages_of_other_files(tmp_path):
    """A PNG has one page; what is no image, or is not there, is an error of one line."""
    assert len(sources.listing(write_picture(tmp_path / "a.png", PIXELS)).pages) == 1
    (tmp_path / "b.tif").write_bytes(b"nothing")
    for name in ("b.tif", "none.tif"):
        with pytest.raises(ImageReadError, match=rf"^{name[0]}.*\.tif: "):
            sources.listing(tmp_path / name)


def test_digest_sees_every_byte_and_name(tmp_path):
    """The digest of a file is its SHA-256, that of a folder changes with any file and any name in it."""
    path = tmp_path / "a"
    path.mkdir()
    (path / "x").write_bytes(b"12")
    assert sources.digest(path / "x") == hashlib.sha256(b"12").hexdigest()
    before = sources.digest(path)
    sources.check_digest(path, before)
    for change in (lambda: (path / "x").write_bytes(b"13"), lambda: (path / "x").rename(path / "y")):
        change()
        with pytest.raises(StoreError, match=r"^a: was changed"):
            sources.check_digest(path, before)
        before = sources.digest(path)


def test_reading_leaves_a_source_alone(tmp_path):
    """A file that may only be read is enough."""
    path = stored(tmp_path / "a.tif", tile=(16, 16))
    path.chmod(0o400)
    before, changed = sources.digest(path), path.stat().st_mtime_ns
    source = sources.source_of(path)
    _ = source.opened()[0:90, 0:70]
    sources.check_digest(path, before)
    assert path.stat().st_mtime_ns == changed
