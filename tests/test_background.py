"""Pictures with alpha laid on a colour: the arithmetic, what it promises, and the same pixels on every way there is."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from itertools import product

import imagecodecs
import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from inkprofile import LINEAR
from strategies_files import assessed_plan, picture, read_picture, write_picture
from test_catalog import settings_for
from test_poster import words

import refine
from pipelines import cli, feed, lazy
from pipelines.catalog import Terms, catalog
from pipelines.errors import JobError
from pipelines.identity import difference, result_facts, result_key
from pipelines.naming import Rendition, rendition, renditions
from pipelines.scan import scan
from refine.background import behind, coloured, flattened, hexed, rgb
from refine.colour import srgb_profile
from refine.errors import PlanError, PresetError
from refine.imagefile import read_image
from refine.preset import OutputSettings, load_preset
from refine.settings import Settings, Size
from refine.spec import ImageSpec
from refine.tiles import restored_pixels, restored_window
from refine.window import Window

WIDE = bytes(
    imagecodecs.cms_profile(
        "rgb", whitepoint=[0.3127, 0.329, 1.0], primaries=[0.68, 0.32, 1, 0.265, 0.69, 1, 0.15, 0.06, 1], gamma=2.2
    )
)
"""An RGB profile with the primaries of Display P3."""
GREY = bytes(imagecodecs.cms_profile("gray", gamma=2.2))
SAND = "#f5ead6"


def cutout(height, width, channels=4, dtype="uint8", seed=0, hidden=None):
    """A picture whose alpha is a soft-edged disc: opaque inside, nothing outside; hidden: the colour under nothing."""
    pixels = picture(height, width, channels, dtype, seed)
    y, x = np.mgrid[:height, :width]
    alpha = np.clip(min(height, width) * 0.4 - np.hypot(y - height / 2.1, x - width / 1.9), 0, 4) / 4
    pixels[:, :, -1] = np.round(alpha * np.iinfo(dtype).max)
    if hidden is not None:
        pixels[pixels[:, :, -1] == 0, :-1] = hidden
    return pixels


def laid(pixels, colour):
    """What is seen of straight alpha over a colour of the same depth, in float64, to the nearest level."""
    alpha = pixels[:, :, -1:] / np.iinfo(pixels.dtype).max
    return np.floor(pixels[:, :, :-1] * alpha + np.array(colour) * (1 - alpha) + 0.5).astype(pixels.dtype)


def on(settings, background):
    """The same settings with a background."""
    output = replace(settings.preset.output, background=background)
    return replace(settings, preset=replace(settings.preset, output=output))


def result_of(pixels, settings, icc=None):
    """The whole result of an array, and its plan."""
    spec = ImageSpec(*pixels.shape, dtype=pixels.dtype.name, icc=icc)
    plan = settings.plan(spec)
    return restored_pixels(pixels, plan), plan


def called(*words):
    """What a command prints that does what it is asked to."""
    done = CliRunner().invoke(cli.refine, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


@pytest.fixture
def everything_is_large(monkeypatch):
    """Make every image of more than one tile go the way of the large ones."""
    monkeypatch.setattr(feed, "BATCH_S", 0.0)


def test_flattened_is_exact_to_the_nearest_level():
    """All pairs of level and alpha of 8 bits, and many of 16, on several grounds: nearest to the true value."""
    eight = np.array(list(product(range(256), range(256))), np.uint8).reshape(256, 256, 2)
    rng = np.random.default_rng(1)
    sixteen = rng.integers(0, 65536, (200, 300, 2)).astype(np.uint16)
    for pixels, ground in product((eight, sixteen), (0, 1, 100, 254, 255)):
        top = int(np.iinfo(pixels.dtype).max)
        level = ground * (top // 255)
        made = flattened(pixels, np.full((1, 1, 1), level, pixels.dtype))
        colour, alpha = pixels[:, :, 0].astype(int), pixels[:, :, 1].astype(int)
        rest = np.abs(made[:, :, 0].astype(int) * top - (colour * alpha + level * (top - alpha)))
        assert made.shape[2] == 1
        assert rest.max() <= top // 2


def test_flattening_is_whole_numbers():
    """c alpha + b (1 - alpha), worked out in whole numbers, for all kinds of alpha."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 65536, (40, 50, 4), np.uint16)
    pixels[:5, :, 3], pixels[5:10, :, 3] = 0, 65535
    ground = (65535, 300, 1)
    colour, alpha = pixels[..., :3].astype(object), pixels[..., 3:].astype(object)
    exact = (2 * (colour * alpha + np.array(ground, object) * (65535 - alpha)) + 65535) // (2 * 65535)
    assert (flattened(pixels, np.array([[ground]], np.uint16)) == exact).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [2, 4])
def test_opaque_stays_and_invisible_is_the_colour(channels, dtype):
    """Bit for bit, at both ends; what has no alpha is handed back as it is."""
    pixels = picture(300, 40, channels, dtype)
    level = np.arange(7, 7 + channels - 1, dtype=dtype)[None, None]
    pixels[:, :, -1] = np.iinfo(dtype).max
    assert np.array_equal(flattened(pixels, level), pixels[:, :, :-1])
    pixels[:, :, -1] = 0
    assert (flattened(pixels, level) == level).all()
    opaque = pixels[:, :, :-1]
    assert flattened(opaque, level) is opaque


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("scale", ["2", "1", "7/5", "1/3"])
def test_result_is_the_result_with_alpha_laid_on_the_colour(channels, dtype, scale):
    """Whatever is done before, in tiles and in blocks: bit for bit what keeping alpha and laying it down gives."""
    pixels = cutout(150, 190, channels, dtype)
    settings = replace(settings_for(64, plan__block=48, sharpen__amount=0.5), size=Size(scale=Fraction(scale)))
    colour = "#707070" if channels == 2 else SAND
    kept, plan = result_of(pixels, settings)
    made, laid_plan = result_of(pixels, on(settings, colour))
    ground = np.array(rgb(colour)[: channels - 1]) * (257 if dtype == "uint16" else 1)
    assert np.array_equal(made, laid(kept, ground))
    assert laid_plan.result == replace(plan.result, channels=channels - 1, notes=(f"laid on {colour}",))
    whole, _ = result_of(pixels, on(settings_for(2048, plan__block=2048, sharpen__amount=0.5), colour))
    assert scale != "2" or np.array_equal(made, whole)


def test_edges_have_no_fringe():
    """On the way from a flat thing to the background nothing is darker or brighter than both, whatever is hidden."""
    settings = settings_for(64, sharpen__amount=0.6, repair__net='""')
    made = []
    for hidden in ((0, 0, 0), (255, 255, 255), (0, 255, 0)):
        pixels = cutout(120, 120, hidden=hidden)
        pixels[pixels[:, :, 3] > 0, :3] = (150, 40, 90)
        made.append(result_of(pixels, on(settings, "#f0f0f0"))[0])
    assert np.array_equal(made[0], made[1])
    assert np.array_equal(made[0], made[2])
    low, high = np.array([150, 40, 90]), np.array([240, 240, 240])
    assert ((made[0] >= low) & (made[0] <= high)).all()
    share = (made[0].astype(float) - high) / (low - high)  # one alpha for all three channels
    assert np.ptp(share, axis=2).max() < 0.02


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_without_alpha_are_untouched(channels):
    """Same plan but for the wish, same result, same notes, same bytes."""
    pixels = picture(90, 70, channels)
    plain, plan = result_of(pixels, settings_for(64))
    made, other = result_of(pixels, on(settings_for(64), "#ff0000"))
    assert np.array_equal(plain, made)
    assert (other.result, other.behind) == (plan.result, None)


def test_grey_becomes_rgb_only_where_the_colour_asks_for_it():
    """Grey on a grey stays grey; on a colour it is R = G = B of its levels; with a profile it is refused."""
    pixels, settings = cutout(60, 80, 2), settings_for(64)
    assert result_of(pixels, on(settings, "white"))[0].shape[2] == 1
    kept, _ = result_of(pixels, settings)
    made, plan = result_of(pixels, on(settings, SAND))
    assert (plan.result.channels, plan.result.model) == (3, "rgb")
    assert np.array_equal(
        made, laid(np.concatenate([np.repeat(kept[:, :, :1], 3, axis=2), kept[:, :, 1:]], 2), rgb(SAND))
    )
    with_profile, plan = result_of(pixels, on(settings, "#808080"), icc=GREY)
    assert (plan.result.icc, with_profile.shape[2]) == (GREY, 1)
    with pytest.raises(PlanError, match=rf"the picture is grey, .*{SAND}; name a grey"):
        result_of(pixels, on(settings, SAND), icc=GREY)


@pytest.mark.parametrize("icc", [srgb_profile(), WIDE, LINEAR], ids=["sRGB", "wide", "linear"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_background_is_in_the_picture_s_profile(icc, dtype):
    """Where nothing is seen of the picture there are the levels that the colour has in its profile, which is kept."""
    pixels = cutout(60, 80, 4, dtype)
    made, plan = result_of(pixels, on(settings_for(64), SAND), icc=icc)
    level = coloured(rgb(SAND), plan.result)[0, 0]
    expected = level if dtype == "uint16" else np.floor(level / 257 + 0.5)
    assert (made[0, 0] == expected).all()
    assert plan.result.icc == icc
    back = imagecodecs.cms_transform(
        np.ascontiguousarray(made[:1, :1]), icc, srgb_profile(), colorspace="rgb", outcolorspace="rgb", outdtype="uint8"
    )
    assert np.abs(np.asarray(back)[0, 0].astype(int) - rgb(SAND)).max() <= 1
    assert dtype == "uint16" or icc != srgb_profile() or tuple(made[0, 0]) == rgb(SAND)


def test_white_is_full_scale_in_every_profile():
    """A white background is white to the last level."""
    for icc, dtype in product((None, WIDE, LINEAR), ("uint8", "uint16")):
        assert (behind(rgb("white"), ImageSpec(1, 1, 4, dtype, icc=icc)) == np.iinfo(dtype).max).all()


def test_a_profile_that_nothing_can_be_turned_into_is_refused():
    """One line that says what would do, and white does."""
    broken = ImageSpec(1, 1, 4, "uint8", icc=WIDE[:128] + bytes(len(WIDE) - 128))
    with pytest.raises(PlanError, match=r"ICC profile .*name white") as refused:
        behind(rgb(SAND), broken)
    assert len(str(refused.value).splitlines()) == 1
    assert (behind(rgb("white"), broken) == 255).all()


def test_names_of_a_colour_are_one_setting():
    """What is written another way and means the same has the same bytes, and the same key."""
    for name in ("white", "White", "#FFFFFF", "ffffff"):
        assert OutputSettings(background=name).background == "#ffffff"
        assert load_preset("product", {"output.background": name}).output.background == "#ffffff"
    assert load_preset("balanced", {"output.background": ""}) == load_preset()
    assert hexed(rgb("grey")) == "#808080"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "salmon",
            "output.background is a colour, or empty to keep alpha: 'salmon' is no colour; write #336699, white",
        ),
        ("#fff", "'#fff' is no colour; write #336699, white, black or grey"),
        ("112233", "output.background is a text, got 112233; as a text it stands in quotes"),
    ],
)
def test_what_is_no_colour_is_refused(text, said):
    """The rule, what came, the way out."""
    with pytest.raises(PresetError, match=said) as refused:
        load_preset("balanced", {"output.background": text})
    assert len(str(refused.value).splitlines()) == 1


def test_key_depends_on_the_background():
    """Without one the key is what it was before there was such a setting; another one was asked for, and is told."""
    facts = [result_facts(on(settings_for(), colour), "here") for colour in ("", "#ffffff", "#f5ead6")]
    assert "background" not in facts[0]["preset"]["output"]
    assert len({result_key(on(settings_for(), colour), "here") for colour in ("", "white", "#f5ead6")}) == 3
    kept = [json.loads(json.dumps(fact)) for fact in facts]
    asked = [difference(kept[before], facts[now]) for before, now in ((0, 1), (1, 2), (2, 0))]
    assert all(one.asked for one in asked)
    assert [one.told for one in asked] == [
        ("output.background none, now #ffffff",),
        ("output.background #ffffff, now #f5ead6",),
        ("output.background #f5ead6, now none",),
    ]


def test_restore_lays_arrays_and_files(tmp_path):
    """The function and the command give the plain loop's pixels; a JPEG is made, and its file says what was done."""
    pixels = cutout(120, 90, hidden=(0, 0, 0))
    source = write_picture(tmp_path / "cup.png", pixels)
    settings = on(settings_for(2048), "#ffffff")
    expected = restored_pixels(pixels, assessed_plan(settings, read_image(source)))
    wish = {"upscale.nets": "[]", "plan.block": "128", "output.background": "#ffffff"}
    assert np.array_equal(refine.restore(pixels, scale=2, settings=wish), expected)
    chosen = [word for key, value in wish.items() for word in ("--set", f"{key}={value}")]
    for name in ("cup.jpg", "cup-2.png", "cup.tif"):
        said = called("restore", source, tmp_path / name, "--scale", "2", *chosen, "--json")
        assert json.loads(said)["notes"][0]["notes"] == ["laid on #ffffff"]
    assert np.array_equal(read_picture(tmp_path / "cup-2.png"), expected)
    assert np.array_equal(read_picture(tmp_path / "cup.tif"), expected)
    found = read_image(tmp_path / "cup.jpg")
    assert (found.spec.channels, found.pixels[:16, :16].min()) == (3, 255)
    assert np.abs(found.pixels.astype(int) - expected).mean() < 3
    assert b"flatten background=#ffffff" in found.spec.metadata.xmp


def test_plan_explains_the_background(tmp_path):
    """`--explain` has a line for it where there is alpha, and none where there is not."""
    for name, pixels, times in (("cup.png", cutout(40, 50), 1), ("photo.png", picture(40, 50), 0)):
        source = write_picture(tmp_path / name, pixels)
        said = called("plan", source, "--explain", "--set", "output.background=white")
        line = "  - background: output.background was set to #ffffff: the picture is laid on it, alpha goes"
        assert said.splitlines().count(line) == times


def cutouts(folder):
    """A small folder of cut-outs, one of many tiles, grey and 16 bit, and a photograph."""
    write_picture(folder / "large.png", cutout(300, 220, hidden=(9, 9, 9)))
    write_picture(folder / "deep.png", cutout(50, 70, 4, "uint16"))
    write_picture(folder / "grey.png", cutout(60, 40, 2))
    write_picture(folder / "photo.png", picture(60, 40))
    return folder


def plain(path, settings):
    """The plain loop's pixels of a file."""
    image = read_image(path)
    return restored_pixels(image.pixels, assessed_plan(settings, image))


@pytest.mark.usefixtures("everything_is_large")
def test_catalog_lays_small_and_large_images(tmp_path, shared):
    """Of one task, of many tasks, as PNG and as JPEG: the plain loop's pixels, no alpha, and a note of it."""
    source, settings = cutouts(tmp_path / "source"), on(settings_for(128), SAND)
    assert catalog(source, tmp_path / "target", settings, shared).done == 4
    for path in source.iterdir():
        expected = plain(path, settings)
        assert expected.shape[2] == 3
        assert np.array_equal(np.atleast_3d(read_picture(tmp_path / "target" / path.name)), expected)
    terms = Terms((Rendition("page", 250, "jpeg"),))
    eight = on(replace(settings_for(128, output__dtype="uint8"), size=Size()), "#ffffff")
    summary = catalog(source, tmp_path / "shop", eight, shared, terms=terms)
    assert (summary.done, summary.failed) == (4, [])
    assert sorted(one.path for one in summary.notes if "laid on #ffffff" in one.notes) == [
        "deep.png",
        "grey.png",
        "large.png",
    ]
    for name in ("large", "deep", "grey"):
        assert read_picture(tmp_path / "shop" / "page" / f"{name}.jpg")[:8, :8].min() == 255


def test_one_rendition_lies_on_a_colour_of_its_own(tmp_path, inline):
    """A page in JPEG on white, beside a PNG that keeps its alpha; a preset says it as the command line does."""
    source, said = cutouts(tmp_path / "source"), rendition("page=250:jpeg:white")
    base = replace(settings_for(128, output__dtype="uint8"), size=Size())
    summary = catalog(source, tmp_path / "shop", base, inline, terms=Terms((Rendition("zoom", 300), said)))
    assert (summary.done, summary.failed) == (8, [])
    assert read_picture(tmp_path / "shop" / "zoom" / "large.png").shape[2] == 4
    assert read_picture(tmp_path / "shop" / "page" / "large.jpg")[:8, :8].min() == 255
    preset = tmp_path / "own.toml"
    preset.write_text('[renditions.page]\nlong_side = 250\nformat = "jpeg"\nbackground = "#FFFFFF"\n', encoding="utf-8")
    assert renditions((), Settings(load_preset(preset))) == (said,)
    with pytest.raises(JobError, match=r"rendition page: 'mauve' is no colour; write #336699"):
        rendition("page=250:jpeg:mauve")
    preset.write_text('[renditions.page]\nbackground = "mauve"\n', encoding="utf-8")
    with pytest.raises(PresetError, match=r"renditions\.page\.background is a colour, or empty"):
        load_preset(preset)


def test_catalog_notices_the_background(tmp_path, shared):
    """Set it, and all is made anew, as asked for; the same in other words, and nothing is."""
    source, target = cutouts(tmp_path / "source"), tmp_path / "target"
    assert catalog(source, target, settings_for(512), shared).done == 4
    assert catalog(source, target, on(settings_for(512), "white"), shared).done == 4
    assert catalog(source, target, on(settings_for(512), "#FFFFFF"), shared).unchanged == 4
    assert catalog(source, target, settings_for(512), shared).done == 4
    assert read_picture(target / "large.png").shape[2] == 4


def test_a_jpeg_of_a_cutout_is_refused_with_the_way_out(tmp_path, shared):
    """Each in one line that names the setting; the photograph is made."""
    terms = Terms((Rendition("page", 250, "jpeg"),))
    settings = replace(settings_for(output__dtype="uint8"), size=Size())
    summary = catalog(cutouts(tmp_path / "source"), tmp_path / "shop", settings, shared, terms=terms)
    assert (summary.done, len(summary.failed)) == (1, 3)
    assert all("--set output.background=#ffffff, or use PNG" in one.reason for one in summary.failed)


@pytest.mark.usefixtures("everything_is_large")
def test_zarr_scan_and_notebook_agree(tmp_path, shared):
    """A catalog's store, a scan and a dask.array hold the plain loop's pixels."""
    source = cutouts(tmp_path / "source")
    settings = on(settings_for(512), SAND)
    assert catalog(source, tmp_path / "shop.zarr", settings, shared, terms=Terms(to="zarr")).failed == []
    for path in source.iterdir():
        stored = zarr.open_group(tmp_path / "shop.zarr", mode="r")[f"images/{path.name}"]
        assert np.array_equal(np.moveaxis(stored["0"][:], 0, 2), plain(path, settings))
    large = source / "large.png"
    assert scan(large, tmp_path / "large.tif", settings, shared, quiet=True).done == 1
    assert np.array_equal(read_picture(tmp_path / "large.tif"), plain(large, settings))
    told = json.loads((tmp_path / "large.tif.provenance.json").read_text())["pages"][0]
    assert told["steps"][-1] == f"flatten background={SAND}"
    assert np.array_equal(lazy.restored(large, settings, tile=512).compute(), plain(large, settings))


def test_windows_are_parts_of_the_whole():
    """Any window of the result is that part of it."""
    pixels = cutout(150, 190)
    whole, plan = result_of(pixels, on(settings_for(64), SAND))
    for window in (Window(0, 0, 17, 380), Window(100, 250, 101, 251), Window(131, 7, 290, 133)):
        assert np.array_equal(restored_window(pixels, plan, window), whole[window.slices])


def test_posters_have_a_background_of_their_own(tmp_path):
    """A preset's is refused there, in a line that says what is meant instead."""
    with pytest.raises(PlanError, match=r"name it with --background, and leave output\.background out"):
        words(put=("output.background=#ffffff",)).order("uint8")
    (tmp_path / "shop.toml").write_text('[output]\nbackground = "white"\n')
    with pytest.raises(PlanError, match=r"--set output\.background= does"):
        words(preset=str(tmp_path / "shop.toml"), put=()).order("uint8")
    plain = words(preset=str(tmp_path / "shop.toml"), put=("output.background=",)).order("uint8")
    assert plain.preset.output.background == ""


def test_settings_say_the_background_once():
    """A decision has the reason where the picture has alpha."""
    settings = Settings(load_preset("product", {"output.background": "grey"}))
    told = settings.decided(ImageSpec(60, 80, 4, "uint8"), None).reasons
    assert [line for line in told if "#808080" in line] == [told[-1]]
    assert not any("background" in line for line in settings.decided(ImageSpec(60, 80, 3, "uint8"), None).reasons)
