"""Export as Deep Zoom: its levels and tiles against the image, and going on after a kill."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from omegroup import pattern, written
from PIL import Image as Pillow

from pipelines import deepzoom, omezarr
from pipelines.deepzoom import DeepZoom, Row
from pipelines.errors import JobError, StoreError
from refine.spec import ImageSpec

SPACE = "{http://schemas.microsoft.com/deepzoom/2008}"


def spec_of(pixels):
    """The spec of pixels (y, x, c)."""
    return ImageSpec(*pixels.shape, str(pixels.dtype))


def stitched(path, level, size, *, overlap, tile):
    """A level put together from its tiles as a viewer does it; checks that overlaps show the same pixels."""
    height, width = size
    picture = None
    for file in sorted((path.with_name(f"{path.stem}_files") / str(level)).iterdir()):
        column, row = map(int, file.stem.split("_"))
        with Pillow.open(file) as opened:
            found = np.asarray(opened).astype(int)
        found = found.reshape(*found.shape[:2], -1)
        if picture is None:
            picture = np.full((height, width, found.shape[2]), -1)
        top, left = max(row * tile - overlap, 0), max(column * tile - overlap, 0)
        bottom, right = min((row + 1) * tile + overlap, height), min((column + 1) * tile + overlap, width)
        assert found.shape[:2] == (bottom - top, right - left), file
        picture[top:bottom, left:right] = found
    return picture


def contents(folder):
    """Every file below a folder: its bytes."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """A picture with alpha, whose tiles are PNG and so exact, and its pixels."""
    pixels = pattern(1100, 1530, 4)
    (group,) = written(tmp_path_factory.mktemp("target") / "a.ome.zarr", [pixels])
    return group, pixels


def test_export_holds_every_level(target, tmp_path):
    """Each level, put together, is that of the pyramid; below its last one it goes on down to one pixel."""
    group, pixels = target
    path = tmp_path / "a.dzi"
    deepzoom.export(group, path, spec_of(pixels))
    image = ET.parse(path).getroot()  # noqa: S314  our own file
    size = image.find(f"{SPACE}Size")
    assert image.tag == f"{SPACE}Image"
    assert image.attrib == {"Format": "png", "Overlap": "1", "TileSize": "510"}
    assert size.attrib == {"Height": "1100", "Width": "1530"}
    own = omezarr.pyramid(group).levels
    alpha = omezarr.opened(group, len(own) - 1)[0 : own[-1][0], 0 : own[-1][1]][..., 3]
    for level in reversed(range(12)):
        height, width = -(-1100 // 2 ** (11 - level)), -(-1530 // 2 ** (11 - level))
        found = stitched(path, level, (height, width), overlap=1, tile=510)
        if 11 - level < len(own):
            wanted = omezarr.opened(group, 11 - level)[0:height, 0:width]
            np.testing.assert_array_equal(found, wanted)
        else:
            alpha = np.pad(alpha, [(0, side % 2) for side in alpha.shape], mode="edge")
            alpha = np.floor(alpha.reshape(height, 2, width, 2).mean(axis=(1, 3)) + 0.5)
            np.testing.assert_array_equal(found[..., 3], alpha)
    assert found.shape[:2] == (1, 1)
    assert sorted(p.name for p in (tmp_path / "a_files").iterdir()) == sorted(map(str, range(12)))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 1030), (510, 511), (512, 2)], ids=str)
def test_export_of_odd_sizes(tmp_path, height, width):
    """Sizes of one pixel, of one tile, and just beyond one have all their tiles."""
    pixels = pattern(height, width, 2)
    (group,) = written(tmp_path / "a.ome.zarr", [pixels])
    deepzoom.export(group, tmp_path / "a.dzi", spec_of(pixels))
    levels = DeepZoom(group, tmp_path / "a.dzi", spec_of(pixels)).levels
    found = stitched(tmp_path / "a.dzi", levels - 1, (height, width), overlap=1, tile=510)
    np.testing.assert_array_equal(found, pixels)
    assert stitched(tmp_path / "a.dzi", 0, (1, 1), overlap=1, tile=510).shape == (1, 1, 2)


@pytest.mark.parametrize("channels", [1, 3])
def test_export_scales_16_bits(tmp_path, channels):
    """Opaque pictures of 16 bits become JPEG of 8, near the values divided by 257."""
    pixels = pattern(300, 560, channels, "uint16")
    (group,) = written(tmp_path / "a.ome.zarr", [pixels])
    deepzoom.export(group, tmp_path / "a.dzi", spec_of(pixels))
    found = stitched(tmp_path / "a.dzi", 10, (300, 560), overlap=1, tile=510)
    assert next((tmp_path / "a_files/10").iterdir()).suffix == ".jpg"
    assert np.abs(found - pixels / 257).mean() < 3


def test_export_goes_on_after_a_kill(target, tmp_path, monkeypatch):
    """After an end in the middle, only what is missing or torn is written, and the result is that of one run."""
    group, pixels = target
    spec = spec_of(pixels)
    deepzoom.export(group, tmp_path / "whole.dzi", spec)
    plan = DeepZoom(group, tmp_path / "cut.dzi", spec)
    rows = deepzoom.begin(plan)
    for row in rows[:4]:
        deepzoom.write_row(plan, row)
    torn = plan.folder / str(rows[1].level) / f"0_{rows[1].index}.png"
    torn.write_bytes(torn.read_bytes()[:-1])
    (plan.folder / str(rows[2].level) / f"1_{rows[2].index}.png").unlink()
    assert not plan.path.exists()
    done = []
    write_row = deepzoom.write_row
    monkeypatch.setattr(deepzoom, "write_row", lambda plan, row: (done.append(row), write_row(plan, row)))
    deepzoom.export(group, plan.path, spec)
    assert set(done) == {rows[1], rows[2], *rows[4:]}
    assert contents(plan.folder) == contents(tmp_path / "whole_files")
    assert plan.path.read_bytes() == (tmp_path / "whole.dzi").read_bytes()


def test_begin_forgets_another_plan(target, tmp_path):
    """Rows that were made with other settings are made anew."""
    group, pixels = target
    plan = DeepZoom(group, tmp_path / "a.dzi", spec_of(pixels), quality=50)
    row = deepzoom.begin(plan)[-1]
    deepzoom.write_row(plan, row)
    assert row not in deepzoom.begin(plan)
    assert row in deepzoom.begin(DeepZoom(group, tmp_path / "a.dzi", spec_of(pixels), quality=60))


def test_finish_refuses_what_is_incomplete(target, tmp_path):
    """The `.dzi` is not written while a row is missing."""
    group, pixels = target
    plan = DeepZoom(group, tmp_path / "a.dzi", spec_of(pixels))
    deepzoom.begin(plan)
    deepzoom.write_row(plan, Row(0, 0))
    with pytest.raises(StoreError, match="rows of tiles are missing"):
        deepzoom.finish(plan)
    assert not plan.path.exists()


def test_export_of_what_is_there_does_nothing(target, tmp_path, monkeypatch):
    """The same again writes no tile, even where the first run ended before it had cleaned up; another is refused."""
    group, pixels = target
    plan = DeepZoom(group, tmp_path / "a.dzi", spec_of(pixels))
    with monkeypatch.context() as patched:
        patched.setattr(deepzoom.shutil, "rmtree", lambda *_, **__: None)
        deepzoom.export(group, plan.path, plan.spec)
    first = contents(tmp_path)
    assert any("progress" in name for name in first)
    monkeypatch.setattr(deepzoom, "write_row", None)
    deepzoom.export(group, plan.path, plan.spec)
    assert contents(tmp_path) == {name: data for name, data in first.items() if "progress" not in name}
    with pytest.raises(JobError, match="is there already"):
        deepzoom.export(group, plan.path, plan.spec, quality=50)


@pytest.mark.parametrize("there", ["a.dzi", "a_files/0/0_0.png"])
def test_export_overwrites_nothing(target, tmp_path, there):
    """What lies at the target already is neither changed nor mixed with new tiles."""
    group, pixels = target
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / there).write_bytes(b"mine")
    with pytest.raises(JobError, match="is there already"):
        deepzoom.export(group, tmp_path / "a.dzi", spec_of(pixels))
    assert contents(tmp_path) == {there: b"mine"}


def test_export_refuses_other_names_and_specs(target, tmp_path):
    """A name without `.dzi`, and a spec that is not the image's, are refused before anything is written."""
    group, pixels = target
    with pytest.raises(JobError, match=r"ends in \.dzi"):
        deepzoom.export(group, tmp_path / "a.jpg", spec_of(pixels))
    with pytest.raises(StoreError, match="should be"):
        deepzoom.export(group, tmp_path / "a.dzi", spec_of(pixels[1:]))
    assert list(tmp_path.iterdir()) == []
