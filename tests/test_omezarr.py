"""OME-Zarr targets: valid, the same whoever writes them in whatever order, and never damaged without an error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
import zarr
from strategies_files import picture
from zarr.codecs import BloscCodec, Crc32cCodec, TransposeCodec

from pipelines import omezarr
from pipelines.errors import JobError, StoreError
from refine.errors import PlanError
from refine.spec import ImageSpec, Resolution
from refine.window import Window, grid

TILE, CHUNK = 64, 16
SIZES = [(1, 1), (513, 1), (100, 700), (150, 131)]
KINDS = [(1, "uint16"), (2, "uint8"), (3, "uint8"), (3, "uint16"), (4, "uint16")]


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch):
    """Hundreds of small shards wait long for a disk; what it is asked is the matter of the test that is killed."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


def spec_of(pixels, **kept):
    """What is known of some pixels."""
    return ImageSpec(*pixels.shape, str(pixels.dtype), **kept)


def written(folder, pixels, tile=TILE, chunk=CHUNK, backwards=False, **kept):  # noqa: FBT002  a test reads better so
    """A finished image, and its records."""
    (image,) = omezarr.create(folder, [spec_of(pixels, **kept)], tile, chunk)
    pyramid = omezarr.pyramid(image)
    step = -1 if backwards else 1
    records = []
    for window in list(grid(*pixels.shape[:2], tile))[::step]:
        records += omezarr.write_tile(image, pyramid, window, pixels[window.slices])
    for level in omezarr.upper(pyramid):
        records += [omezarr.write_upper(image, pyramid, one) for one in level[::step]]
    return image, records


def halves(pixels):
    """The next level, in floats: of visible pixels weighted with alpha, of others the mean."""
    height, width, channels = pixels.shape
    padded = np.full((height + height % 2, width + width % 2, channels), np.nan)
    padded[:height, :width] = pixels
    four = padded.reshape(len(padded) // 2, 2, -1, 2, channels).transpose(0, 2, 1, 3, 4).reshape(-1, 4, channels)
    mean = np.nanmean(four, axis=1)
    if channels in (2, 4):
        alpha = np.nan_to_num(four[:, :, -1:])
        visible = alpha.sum(axis=1)[:, 0] > 0
        total = (np.nan_to_num(four[visible, :, :-1]) * alpha[visible]).sum(axis=1)
        mean[visible, :-1] = total / alpha[visible].sum(axis=1)
    return np.floor(mean + 0.5).reshape(-1, padded.shape[1] // 2, channels)


def levels_of(folder):
    """All levels (y, x, c) as zarr alone reads them, by the paths that the metadata name."""
    group = zarr.open_group(folder, mode="r")
    paths = [dataset["path"] for dataset in group.attrs["ome"]["multiscales"][0]["datasets"]]
    return [np.moveaxis(group[path][:], 0, 2) for path in paths]


def files_of(folder):
    """Digest of every file, by its name."""
    return {str(f.relative_to(folder)): sha256(f.read_bytes()).hexdigest() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("channels", "dtype"), KINDS)
def test_levels_are_those_of_the_whole_image(tmp_path, size, channels, dtype):
    """zarr reads every level as halving the whole image, in floats, gives it."""
    pixels = picture(*size, channels, dtype)
    if channels in (2, 4):
        pixels[: size[0] // 2, :, -1] = 0
        pixels[size[0] // 2 :, size[1] // 3 :, -1] = np.iinfo(dtype).max
    folder, _ = written(tmp_path / "a.ome.zarr", pixels, 128, 64)
    expected, found = pixels, levels_of(folder)
    assert max(found[-1].shape[:2]) <= 64
    for level, there in enumerate(found):
        assert there.dtype == pixels.dtype
        assert np.array_equal(there, expected)
        assert np.array_equal(omezarr.opened(folder, level)[:, :], expected)
        expected = halves(expected)


def test_levels_of_real_chunks(tmp_path):
    """With chunks of 512 px as in every real job: three levels, the last a second pass."""
    pixels = picture(700, 1100, 3, "uint16")
    folder, records = written(tmp_path / "a", pixels, 512, 512)
    assert [(r.level, r.y, r.x) for r in records[-3:]] == [(1, 0, 0), (1, 0, 512), (2, 0, 0)]
    for found, expected in zip(levels_of(folder), (pixels, halves(pixels), halves(halves(pixels))), strict=True):
        assert np.array_equal(found, expected)


def test_pixels_do_not_depend_on_the_tile(tmp_path):
    """Whatever the tile, every level has the same pixels."""
    pixels = picture(141, 90, 4, "uint8")
    one, *others = [levels_of(written(tmp_path / str(t), pixels, t)[0]) for t in (16, 64, 256)]
    for other in others:
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_bytes_do_not_depend_on_the_order(tmp_path):
    """Tiles written in the opposite order, and twice, give the same files and the same records."""
    pixels = picture(150, 131, 3)
    one, records = written(tmp_path / "a", pixels)
    other, backwards = written(tmp_path / "b", pixels, backwards=True)
    again, _ = written(tmp_path / "b", pixels)
    assert other == again
    assert files_of(one) == files_of(other)
    assert sorted(records, key=repr) == sorted(backwards, key=repr)


def test_each_shard_has_one_writer_and_a_record(tmp_path):
    """There are no other files than the recorded shards, once each, of the recorded length and digest."""
    folder, records = written(tmp_path / "a", picture(300, 170, 1, "uint16"))
    pyramid = omezarr.pyramid(folder)
    names = [f"{r.level}/c/0/{r.y // pyramid.side(r.level)}/{r.x // pyramid.side(r.level)}" for r in records]
    assert len(set(names)) == len(names)
    shards = {name: digest for name, digest in files_of(folder).items() if not name.endswith("zarr.json")}
    assert shards == dict(zip(names, (r.sha256 for r in records), strict=True))
    assert [(folder / name).stat().st_size for name in names] == [r.nbytes for r in records]


def test_metadata_are_what_zarr_would_write(tmp_path):
    """zarr itself, asked for such an array, writes the same metadata."""
    for channels, dtype, shuffle in [(3, "uint8", "bitshuffle"), (1, "uint16", "shuffle")]:
        (image,) = omezarr.create(tmp_path / dtype, [ImageSpec(150, 70, channels, dtype)], TILE, CHUNK)
        zarr.create_array(
            tmp_path / "other" / dtype,
            shape=(channels, 150, 70),
            dtype=dtype,
            shards=(channels, TILE, TILE),
            chunks=(channels, CHUNK, CHUNK),
            filters=[TransposeCodec(order=(1, 2, 0))],
            compressors=[BloscCodec(cname="zstd", clevel=1, shuffle=shuffle), Crc32cCodec()],
            fill_value=0,
            dimension_names=("c", "y", "x"),
        )
        ours, theirs = (json.loads((f / "zarr.json").read_text()) for f in (image / "0", tmp_path / "other" / dtype))
        assert ours == theirs


def checked_image(attributes, arrays):
    """Check an image's metadata against what OME-NGFF 0.5 demands; arrays are zarr's, by their paths."""
    ome = attributes["ome"]
    assert ome["version"] == "0.5"
    (multiscale,) = ome["multiscales"]
    axes = multiscale["axes"]
    assert [(axis["name"], axis["type"]) for axis in axes] == [("c", "channel"), ("y", "space"), ("x", "space")]
    sizes = []
    for dataset in multiscale["datasets"]:
        array = arrays[dataset["path"]]
        assert array.ndim == len(axes)
        assert array.metadata.dimension_names == ("c", "y", "x")
        kinds = [transformation["type"] for transformation in dataset["coordinateTransformations"]]
        assert kinds in (["scale"], ["scale", "translation"])
        assert all(len(t[t["type"]]) == len(axes) for t in dataset["coordinateTransformations"])
        sizes.append(array.shape)
    assert sizes == sorted(sizes, reverse=True)
    for channel in ome["omero"]["channels"]:
        assert len(bytes.fromhex(channel["color"])) == 3
        assert {"min", "max", "start", "end"} == channel["window"].keys()
    assert len(ome["omero"]["channels"]) == sizes[0][0]


def test_metadata_are_valid(tmp_path):
    """One image, and several pages, are what OME-NGFF 0.5 demands."""
    specs = [ImageSpec(100, 90, c, d, resolution=Resolution(300, 300)) for c, d in KINDS]
    for number, spec in enumerate(specs):
        (image,) = omezarr.create(tmp_path / str(number), [spec], TILE, CHUNK)
        group = zarr.open_group(image, mode="r")
        checked_image(group.attrs, dict(group.arrays()))
    images = omezarr.create(tmp_path / "pages", specs, TILE, CHUNK)
    root = zarr.open_group(tmp_path / "pages", mode="r")
    assert root.attrs["ome"] == {"version": "0.5", "bioformats2raw.layout": 3}
    assert root["OME"].attrs["ome"] == {"version": "0.5", "series": ["0", "1", "2", "3", "4"]}
    assert images == [tmp_path / "pages" / name for name in root["OME"].attrs["ome"]["series"]]
    for image in images:
        checked_image(root[image.name].attrs, dict(root[image.name].arrays()))


def test_metadata_pass_a_validator(tmp_path):
    """A validator of others, where it is installed, finds nothing wrong."""
    models = pytest.importorskip("ome_zarr_models", reason="ome-zarr-models is not installed")
    specs = [ImageSpec(100, 90, c, d, resolution=Resolution(300, 150, "cm")) for c, d in KINDS]
    for number, spec in enumerate(specs):
        (image,) = omezarr.create(tmp_path / str(number), [spec], TILE, CHUNK)
        found = models.open_ome_zarr(zarr.open_group(image, mode="r"), version="0.5")
        assert type(found).__name__ == "Image"
    omezarr.create(tmp_path / "pages", specs, TILE, CHUNK)
    found = models.v05.BioFormats2Raw.from_zarr(zarr.open_group(tmp_path / "pages", mode="r"))
    assert found.image_paths == ["0", "1", "2", "3", "4"]


def test_another_reader_opens_it(tmp_path):
    """ome-zarr-py, where it is installed, finds the levels and the colours."""
    reader = pytest.importorskip("ome_zarr.reader", reason="ome-zarr is not installed")
    io = pytest.importorskip("ome_zarr.io", reason="ome-zarr is not installed")
    pixels = picture(100, 90, 3, "uint16")
    folder, _ = written(tmp_path / "a.ome.zarr", pixels)
    (node,) = reader.Reader(io.parse_url(folder))()
    assert [level.shape for level in node.data] == [(3, 100, 90), (3, 50, 45), (3, 25, 23), (3, 13, 12)]
    assert np.array_equal(np.moveaxis(np.asarray(node.data[0]), 0, 2), pixels)
    assert node.metadata["channel_names"] == ["Red", "Green", "Blue"]
    assert node.metadata["contrast_limits"] == [[0, 65535]] * 3


@pytest.mark.parametrize(
    ("resolution", "unit", "pixel"),
    [
        (Resolution(300, 600), "micrometer", [25_400 / 600, 25_400 / 300]),
        (Resolution(100, 100, "cm"), "micrometer", [100, 100]),
        (Resolution(2, 1, "none"), None, [2, 1]),
        (Resolution(0, 0), None, [1, 1]),
        (None, None, [1, 1]),
    ],
    ids=["inch", "cm", "ratio only", "nonsense", "unknown"],
)
def test_pixels_have_their_size(tmp_path, resolution, unit, pixel):
    """A level's pixel is 2^n times as large as the file's resolution says, and lies where those below it lie."""
    (image,) = omezarr.create(tmp_path / "a", [ImageSpec(100, 90, 1, "uint8", resolution=resolution)], TILE, CHUNK)
    (multiscale,) = zarr.open_group(image, mode="r").attrs["ome"]["multiscales"]
    assert [axis.get("unit") for axis in multiscale["axes"]] == [None, unit, unit]
    for level, dataset in enumerate(multiscale["datasets"]):
        scale, *moved = dataset["coordinateTransformations"]
        assert scale["scale"] == [1, *(side * 2**level for side in pixel)]
        centres = np.arange(2**level).mean()
        translation = moved[0]["translation"] if moved else [0, 0, 0]
        assert translation == pytest.approx([0, *(side * centres for side in pixel)])


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        (ImageSpec(9, 9, 1, "uint16"), ["Grey FFFFFF"]),
        (ImageSpec(9, 9, 2, "uint8"), ["Grey FFFFFF"]),
        (ImageSpec(9, 9, 3, "uint8"), ["Red FF0000", "Green 00FF00", "Blue 0000FF"]),
        (ImageSpec(9, 9, 4, "uint16"), ["Red FF0000", "Green 00FF00", "Blue 0000FF"]),
        (ImageSpec(9, 9, 3, "uint16", space="lab"), ["L* FFFFFF"]),
    ],
    ids=["grey", "grey and alpha", "RGB", "RGB and alpha", "Lab"],
)
def test_viewers_show_the_channels_right(tmp_path, spec, shown):
    """Each channel has its colour over the whole depth; alpha and a*, b* are there, and not shown."""
    (image,) = omezarr.create(tmp_path / "a", [spec], TILE, CHUNK)
    omero = zarr.open_group(image, mode="r").attrs["ome"]["omero"]
    assert [f"{c['label']} {c['color']}" for c in omero["channels"] if c["active"]] == shown
    assert all(c["window"]["end"] == np.iinfo(spec.dtype).max for c in omero["channels"])
    assert omero["rdefs"]["model"] == ("greyscale" if spec.channels < 3 else "color")


def test_create_again_keeps_what_is_there(tmp_path):
    """Laid out again, also after it was finished, nothing changes."""
    pixels = picture(100, 90, 3)
    folder, _ = written(tmp_path / "a", pixels, icc=b"profile", resolution=Resolution(300, 300))
    omezarr.finished(folder, {"deed": ["upscaled"], "icc": "other"})
    before = files_of(folder)
    written(tmp_path / "a", pixels, icc=b"profile", resolution=Resolution(300, 300))
    assert files_of(folder) == before


def test_create_goes_on_where_it_was_stopped(tmp_path):
    """Whichever of the files of metadata are lacking, they are written again."""
    specs = [ImageSpec(40, 30, 1, "uint8"), ImageSpec(70, 30, 3, "uint16")]
    omezarr.create(tmp_path / "a", specs, 16, CHUNK)
    whole = files_of(tmp_path / "a")
    for name in whole:
        (tmp_path / "a" / name).unlink()
        omezarr.create(tmp_path / "a", specs, 16, CHUNK)
        assert files_of(tmp_path / "a") == whole


@pytest.mark.parametrize(
    ("change", "tile"),
    [
        ({"height": 101}, TILE),
        ({"channels": 4}, TILE),
        ({"dtype": "uint16"}, TILE),
        ({"icc": b"other"}, TILE),
        ({"resolution": Resolution(72, 72)}, TILE),
        ({}, 2 * TILE),
    ],
    ids=["size", "channels", "depth", "profile", "resolution", "tile"],
)
def test_create_refuses_another_image(tmp_path, change, tile):
    """Where another image lies, nothing is written, and the reason is said."""
    spec = ImageSpec(100, 90, 3, "uint8")
    omezarr.create(tmp_path / "a", [spec], TILE, CHUNK)
    before = files_of(tmp_path / "a")
    for specs in ([replace(spec, **change)], [spec, replace(spec, **change)]):
        with pytest.raises(JobError, match=r"^a: holds another image \(.*zarr.json differs\); name another"):
            omezarr.create(tmp_path / "a", specs, tile, CHUNK)
    assert files_of(tmp_path / "a") == before


def test_create_refuses_damaged_metadata(tmp_path):
    """Half a file of metadata is not taken for the same."""
    omezarr.create(tmp_path / "a", [ImageSpec(9, 9, 1, "uint8")], TILE, CHUNK)
    (tmp_path / "a" / "0" / "zarr.json").write_text('{"zarr_format": 3, ')
    with pytest.raises(JobError, match=r"0/zarr.json differs"):
        omezarr.create(tmp_path / "a", [ImageSpec(9, 9, 1, "uint8")], TILE, CHUNK)


def test_create_refuses_what_cannot_be_shown(tmp_path):
    """Tiles without a pyramid are refused before anything is written."""
    with pytest.raises(PlanError, match="power of two, got 48"):
        omezarr.create(tmp_path / "a", [ImageSpec(9, 9, 4, "uint8")], 48, CHUNK)
    assert not (tmp_path / "a").exists()


def test_inks_are_no_alpha(tmp_path):
    """Each level of an image of inks is the plain mean of the one below: black ink weighs nothing."""
    spec = ImageSpec(TILE + 7, TILE, 4, "uint8", space="cmyk", icc=b"inks")
    (image,) = omezarr.create(tmp_path / "a", [spec], TILE, CHUNK)
    pyramid = omezarr.pyramid(image)
    assert pyramid.inks
    pixels = np.random.default_rng(2).integers(0, 256, spec.shape, np.uint8)
    for tile in pyramid.shards(0):
        omezarr.write_tile(image, pyramid, tile.window, pixels[tile.window.slices])
    wide = np.pad(pixels, ((0, 1), (0, 0), (0, 0)), mode="edge").astype(int)
    mean = (wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2] + 2) // 4
    assert np.array_equal(omezarr.opened(image, 1)[:, :], mean)


def test_finished_adds_to_what_is_kept(tmp_path):
    """The job's attributes stand beside profile and resolution, which stay; a later call replaces them."""
    spec = ImageSpec(9, 9, 1, "uint8", icc=b"\0profile", resolution=Resolution(300, 200, "cm"))
    (image,) = omezarr.create(tmp_path / "a", [spec], TILE, CHUNK)
    kept = {"icc": "AHByb2ZpbGU=", "resolution": {"x": 300, "y": 200, "unit": "cm"}, "space": "additive"}
    assert omezarr.described(image) == kept
    for added in ({"decision": "upscale"}, {"reasons": ["soft"], "icc": None}):
        omezarr.finished(image, added)
        assert omezarr.described(image) == {**added, **kept}
    assert zarr.open_group(image, mode="r").attrs["ome"]["version"] == "0.5"


def test_missing_is_all_then_nothing(tmp_path):
    """Of an empty image all tiles and upper shards are missing, of a finished one none."""
    pixels = picture(300, 170, 1)
    (image,) = omezarr.create(tmp_path / "a", [spec_of(pixels)], TILE, CHUNK)
    pyramid = omezarr.pyramid(image)
    empty = omezarr.missing(image, pyramid, [])
    assert empty.tiles == list(grid(300, 170, TILE))
    assert empty.upper == omezarr.upper(pyramid)
    assert [[one.level for one in level] for level in empty.upper] == [[3], [4], [5]]
    _, records = written(tmp_path / "a", pixels)
    found = omezarr.missing(image, pyramid, [(r.level, r.y, r.x, r.nbytes) for r in records])
    assert found.tiles == []
    assert not any(found.upper)


def test_missing_finds_each_lost_or_short_shard(tmp_path):
    """Any shard that is gone or short is missing: a tile for those that it writes, itself for an upper one."""
    pixels = picture(150, 131, 3)
    folder, records = written(tmp_path / "a", pixels)
    pyramid, before = omezarr.pyramid(folder), files_of(folder)
    known = [(r.level, r.y, r.x, r.nbytes) for r in records]
    for number, record in enumerate(records):
        side = pyramid.side(record.level)
        path = omezarr.shard_path(folder, record.level, record.y // side, record.x // side)
        path.unlink() if number % 2 else path.write_bytes(path.read_bytes()[:-1])
        found = omezarr.missing(folder, pyramid, known)
        uppers = [one for level in found.upper for one in level]
        assert len(found.tiles) + len(uppers) == 1
        for tile in found.tiles:
            assert (tile.y0 >> record.level, tile.x0 >> record.level) == (record.y, record.x)
            omezarr.write_tile(folder, pyramid, tile, pixels[tile.slices])
        for one in uppers:
            omezarr.write_upper(folder, pyramid, one)
        assert files_of(folder) == before


def test_lost_shard_below_stops_the_level_above(tmp_path):
    """An upper level is not made of a lost shard, which zarr alone would read as black."""
    folder, _ = written(tmp_path / "a", picture(150, 131, 1))
    pyramid = omezarr.pyramid(folder)
    omezarr.shard_path(folder, pyramid.own - 1, 1, 1).unlink()
    with pytest.raises(StoreError, match=r"2/c/0/1/1 is lost; run the job again"):
        omezarr.write_upper(folder, pyramid, omezarr.upper(pyramid)[0][0])


def test_nothing_of_a_damaged_shard_is_read(tmp_path):
    """A tile written over damaged shards gives the files of an undisturbed run."""
    pixels = picture(100, 90, 1)
    folder, _ = written(tmp_path / "a", pixels)
    before = files_of(folder)
    for path in folder.glob("[01]/c/0/*/*"):
        path.write_bytes(b"\xff" * 100)
    written(tmp_path / "a", pixels)
    assert files_of(folder) == before


@pytest.mark.parametrize(
    "tile", [Window(0, 0, TILE // 2, TILE), Window(8, 0, 72, TILE)], ids=["a part of a tile", "off the grid"]
)
def test_write_tile_refuses_what_is_no_tile(tmp_path, tile):
    """Two tasks never write into one shard: what is no tile is refused before a byte is written."""
    (image,) = omezarr.create(tmp_path / "a", [ImageSpec(150, 131, 1, "uint8")], TILE, CHUNK)
    with pytest.raises(PlanError, match="is no tile"):
        omezarr.write_tile(image, omezarr.pyramid(image), tile, np.zeros((tile.height, tile.width, 1), np.uint8))
    assert not (image / "0" / "c").exists()


def test_opened_gives_any_window(tmp_path):
    """Windows across shards, to the edge, and empty ones, are those of the pixels; a worker may be sent the array."""
    pixels = picture(150, 131, 3, "uint16")
    folder, _ = written(tmp_path / "a", pixels)
    array = omezarr.opened(folder)
    assert (array.shape, array.dtype) == ((150, 131, 3), np.uint16)
    for window in [np.s_[60:70, 120:131], np.s_[149:150, 0:131], np.s_[5:5, 0:9], np.s_[:, -20:], np.s_[0:999, 63:65]]:
        assert np.array_equal(array[window], pixels[window])


@pytest.mark.parametrize("made", ["nothing", "another program's", "text"])
def test_opened_refuses_what_was_not_written_here(tmp_path, made):
    """A folder with no image, or another's, is an error of one line."""
    if made == "another program's":
        zarr.create_array(tmp_path / "a" / "0", shape=(3, 50, 50), dtype="uint8", chunks=(1, 50, 50))
    elif made == "text":
        (tmp_path / "a" / "0").mkdir(parents=True)
        (tmp_path / "a" / "0" / "zarr.json").write_text("[1, 2]")
    with pytest.raises(StoreError, match=r"run the job again|no OME-Zarr image that refine wrote"):
        omezarr.opened(tmp_path / "a")


def test_opened_names_the_levels_there_are(tmp_path):
    """A level beyond the last is refused."""
    folder, _ = written(tmp_path / "a", picture(40, 30, 1))
    with pytest.raises(StoreError, match="has levels 0 to 2, asked for 3"):
        omezarr.opened(folder, 3)


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from pipelines import omezarr
from refine.window import grid
folder, pixels, at = Path(sys.argv[1]), np.load(sys.argv[2]), int(sys.argv[3])
synchronise, count = os.fsync, iter(range(10**6))
def fsync(descriptor):
    if next(count) == at:
        os.kill(os.getpid(), signal.SIGKILL)
    synchronise(descriptor)
os.fsync = fsync
pyramid = omezarr.pyramid(folder)
for tile in grid(*pixels.shape[:2], pyramid.tile):
    for record in omezarr.write_tile(folder, pyramid, tile, pixels[tile.slices]):
        print(record.level, record.y, record.x, record.nbytes, flush=True)
"""


@pytest.mark.parametrize("at", [0, 1, 13, 22], ids=["at once", "in the first tile", "in a later one", "later still"])
def test_killed_in_the_middle_goes_on(tmp_path, checkout, at):
    """After SIGKILL at any moment, what is missing is written, and the files are those of an undisturbed run."""
    pixels = picture(150, 131, 3)
    whole, _ = written(tmp_path / "whole", pixels)
    (image,) = omezarr.create(tmp_path / "killed", [spec_of(pixels)], TILE, CHUNK)
    np.save(tmp_path / "pixels.npy", pixels)
    command = [sys.executable, "-c", KILLED, image, tmp_path / "pixels.npy", str(at)]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    known = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    pyramid = omezarr.pyramid(image)
    todo = omezarr.missing(image, pyramid, known)
    assert len(todo.tiles) == 9 - len(known) // 3
    for tile in todo.tiles:
        omezarr.write_tile(image, pyramid, tile, pixels[tile.slices])
    for level in todo.upper:
        for one in level:
            omezarr.write_upper(image, pyramid, one)
    litter = list(image.rglob("*.part"))
    # Level 0 and one of the smaller ones are written at once.
    assert len(litter) <= 2
    for path in litter:
        path.unlink()
    assert files_of(image) == files_of(whole)
