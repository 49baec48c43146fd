"""Export as a pyramidal TIFF: its pixels, its tags, its bytes, and what is refused."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from blobs import GREY, IPTC, SRGB, XMP, exif
from omegroup import pattern, written
from PIL import Image as Pillow

from pipelines import bigtiff, omezarr
from pipelines.errors import StoreError
from refine import tiffwriter
from refine.errors import ImageWriteError
from refine.imagefile import read_image, write_pyramids
from refine.spec import ImageSpec, Metadata, Resolution


def spec_of(pixels, **more):
    """The spec of pixels (y, x, c)."""
    return ImageSpec(*pixels.shape, str(pixels.dtype), **more)


def levels(group):
    """All levels of an image group, (y, x, c)."""
    found = omezarr.pyramid(group).levels
    return [omezarr.opened(group, n)[0:h, 0:w] for n, (h, w) in enumerate(found)]


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """A grey image of 16 bits in four levels, whose tiles do not divide it."""
    pixels = pattern(1300, 2100, 1, "uint16")
    (group,) = written(tmp_path_factory.mktemp("target") / "grey.ome.zarr", [pixels], tile=1024)
    return group, pixels


@pytest.mark.parametrize("compression", ["none", "deflate", "zstd"])
def test_export_holds_every_level(target, tmp_path, compression):
    """Every level of the pyramid is in the file, pixel for pixel: the full size as page, the smaller ones below it."""
    group, pixels = target
    path = tmp_path / "grey.tif"
    bigtiff.export(group, path, spec_of(pixels), compression=compression)
    expected = levels(group)
    with tifffile.TiffFile(path) as file:
        assert len(file.pages) == 1
        (series,) = file.series
        assert [level.shape for level in series.levels] == [level.shape[:2] for level in expected]
        for found, wanted in zip(series.levels, expected, strict=True):
            np.testing.assert_array_equal(found.asarray(), wanted[..., 0])
        kinds = [(page.is_tiled, page.tile, page.is_reduced) for page in (file.pages[0], *file.pages[0].pages)]
    assert kinds == [(True, (512, 512), n > 0) for n in range(len(expected))]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 1500), (700, 513)], ids=str)
def test_export_reads_back(tmp_path, channels, dtype, height, width):
    """What was exported reads back as the same image, at any size, depth and number of channels."""
    pixels = pattern(height, width, channels, dtype)
    (group,) = written(tmp_path / "a.ome.zarr", [pixels])
    bigtiff.export(group, tmp_path / "a.tif", spec_of(pixels))
    image = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.spec.has_alpha == (channels in (2, 4))


def test_export_is_read_by_another_decoder(tmp_path):
    """Pillow, which shares no code with tifffile, reads the full size of a deflated file."""
    pixels = pattern(600, 900, 3)
    (group,) = written(tmp_path / "a.ome.zarr", [pixels])
    bigtiff.export(group, tmp_path / "a.tif", spec_of(pixels), compression="deflate")
    with Pillow.open(tmp_path / "a.tif") as theirs:
        np.testing.assert_array_equal(np.asarray(theirs), pixels)


def test_export_carries_what_travels_beside_the_pixels(target, tmp_path):
    """Profile, resolution, EXIF, XMP and IPTC are in the page; a level has the resolution of its own pixels."""
    group, pixels = target
    carried = Metadata(exif(dpi=300), XMP, IPTC)
    spec = spec_of(pixels, icc=GREY, resolution=Resolution(300, 300), metadata=carried)
    bigtiff.export(group, tmp_path / "a.tif", spec)
    found = read_image(tmp_path / "a.tif").spec
    assert (found.icc, found.resolution) == (GREY, spec.resolution)
    assert (found.metadata.xmp, found.metadata.iptc) == (XMP, IPTC)
    assert found.metadata.exif is not None
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        smaller = file.pages[0].pages[0]
        assert smaller.resolution == (150, 150)
        assert not {34675, 700, 33723} & set(smaller.tags.keys())


def test_export_gives_the_same_bytes(target, tmp_path):
    """The bytes of a file depend neither on the time, nor its name, nor the number of threads."""
    group, pixels = target
    spec = spec_of(pixels, icc=SRGB, metadata=Metadata(exif(), XMP))
    for threads, name in itertools.product((1, 3), ("a.tif", "b.tif")):
        bigtiff.export(group, tmp_path / f"{threads}{name}", spec, compression="zstd", threads=threads)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_export_pages_keeps_pages_apart(tmp_path):
    """Each page of a target is one of the file, with its own pixels, levels, profile and metadata."""
    pages = [pattern(700, 600, 3), pattern(90, 1100, 1, "uint16", seed=2), pattern(5, 4, 4, seed=3)]
    groups = written(tmp_path / "a.ome.zarr", pages)
    blocks = [Metadata(exif(dpi=300), XMP), Metadata(iptc=IPTC), Metadata(exif(order=">", dpi=72))]
    specs = [
        spec_of(page, metadata=block, icc=icc)
        for page, block, icc in zip(pages, blocks, (SRGB, None, SRGB), strict=True)
    ]
    bigtiff.export_pages(list(zip(groups, specs, strict=True)), tmp_path / "a.tif", compression="deflate")
    for index, (pixels, spec) in enumerate(zip(pages, specs, strict=True)):
        found = read_image(tmp_path / "a.tif", page=index)
        np.testing.assert_array_equal(found.pixels, pixels)
        assert found.spec.icc == spec.icc
        assert (found.spec.metadata.exif is None) == (spec.metadata.exif is None)
        assert (found.spec.metadata.xmp, found.spec.metadata.iptc) == (spec.metadata.xmp, spec.metadata.iptc)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert [len(page.pages or ()) for page in file.pages] == [1, 2, 0]


@pytest.mark.parametrize("big", [False, True])
def test_export_is_bigtiff_where_it_may_be_needed(target, tmp_path, monkeypatch, big):
    """Beyond 4 GB of tiles the file is BigTIFF; below it is plain, which more programs read."""
    group, pixels = target
    if big:
        monkeypatch.setattr(tiffwriter, "_MAX_PLAIN_NBYTES", 1_000_000)
    bigtiff.export(group, tmp_path / "a.tif", spec_of(pixels, metadata=Metadata(exif(), XMP)))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_bigtiff == big
        np.testing.assert_array_equal(file.series[0].levels[1].asarray(), levels(group)[1][..., 0])


def test_export_stores_lab_as_readers_know_it(tmp_path):
    """Lab goes through the signed encoding and comes back as it was, edges of tiles included."""
    pixels = pattern(530, 520, 3, "uint16")
    spec = spec_of(pixels, space="lab")
    (group,) = written(tmp_path / "a.ome.zarr", [pixels], space="lab")
    bigtiff.export(group, tmp_path / "a.tif", spec)
    image = read_image(tmp_path / "a.tif")
    assert image.spec.space == "lab"
    assert np.abs(image.pixels.astype(int) - pixels).max() <= 257


def test_export_of_a_damaged_image_leaves_nothing(target, tmp_path):
    """A flipped byte in a shard is an error that names it, and neither file nor rest of one is left behind."""
    _, pixels = target
    (group,) = written(tmp_path / "b.ome.zarr", [pixels], tile=1024)
    shard = omezarr.shard_path(group, 0, 1, 1)
    data = bytearray(shard.read_bytes())
    data[200] ^= 1
    shard.write_bytes(data)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(StoreError, match="0/c/0/1/1"):
        bigtiff.export(group, out / "b.tif", spec_of(pixels))
    assert list(out.iterdir()) == []


def test_export_refuses_another_spec(target, tmp_path):
    """A spec that is not the image's is refused before anything is written."""
    group, pixels = target
    with pytest.raises(StoreError, match="should be"):
        bigtiff.export(group, tmp_path / "a.tif", replace(spec_of(pixels), width=2099))
    assert list(tmp_path.iterdir()) == []


def test_write_pyramids_counts_its_tiles(tmp_path):
    """Too few tiles are an error, and nothing is published."""
    spec = ImageSpec(600, 600, 1, "uint8")
    tile = tiffwriter.encoded_tile(pattern(512, 512, 1), spec, 512, "none")
    with pytest.raises(ImageWriteError, match="4 tiles, but only 3"):
        write_pyramids(tmp_path / "a.tif", [(spec, [(600, 600), (300, 300)])], [tile] * 3, 512)
    assert list(tmp_path.iterdir()) == []


def test_export_holds_a_few_tiles(target, tmp_path, monkeypatch):
    """However many tiles an image has, a few a thread are encoded before they are written."""
    group, pixels = target
    made, most = [0], [0]

    def counted(*args):
        made[0] += 1
        return tiffwriter.encoded_tile(*args)

    def write(path, pages, tiles, tile, compression):
        for taken, _ in enumerate(tiles, 1):
            most[0] = max(most[0], made[0] - taken)

    monkeypatch.setattr(bigtiff, "encoded_tile", counted)
    monkeypatch.setattr(bigtiff, "write_pyramids", write)
    bigtiff.export(group, tmp_path / "a.tif", spec_of(pixels), threads=2)
    assert made[0] == 15 + 6 + 2 + 1
    assert most[0] <= 6
