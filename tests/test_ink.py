"""Conversions to a printer's profile: littlecms' own on the whole picture, by a second way into it too."""

from __future__ import annotations

import io

import imagecodecs
import numpy as np
import pytest
from inkprofile import ink_profile, press_profile
from PIL import Image, ImageCms
from strategies_files import picture

from refine.background import coloured
from refine.colour import srgb_profile
from refine.errors import PlanError
from refine.ink import INTENTS, Press, beyond, inked, looked_at, press, proofed
from refine.spec import ImageSpec
from refine.window import grid

WIDE = bytes(
    imagecodecs.cms_profile(
        "rgb", whitepoint=[0.3127, 0.329, 1.0], primaries=[0.68, 0.32, 1, 0.265, 0.69, 1, 0.15, 0.06, 1], gamma=2.2
    )
)
"""An RGB profile with the primaries of Display P3."""
GREY = bytes(imagecodecs.cms_profile("gray", gamma=2.2))
PROFILES = {"rgb": WIDE, "cmyk": press_profile(), "gray": GREY}


def photo(channels=3, dtype="uint16"):
    """A picture with all there is of colour in it."""
    return picture(150, 210, channels, dtype, seed=4)


def littlecms(pixels, source, space, onto, out, dtype, intent, flags):
    """The whole picture at once."""
    return imagecodecs.cms_transform(
        pixels, source, onto, colorspace=space, outcolorspace=out, outdtype=dtype, intent=intent, flags=flags
    )


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
@pytest.mark.parametrize("intent", list(INTENTS))
@pytest.mark.parametrize("black_point", [False, True])
@pytest.mark.parametrize("out", list(PROFILES))
def test_tiles_in_ink_equal_littlecms_on_the_whole(out, black_point, intent, depth):
    """Tile by tile and band by band, to the last bit, for every intent, with and without black point compensation."""
    pixels, spec = photo(), ImageSpec(150, 210, 3, "uint16", icc=WIDE)
    onto = press(PROFILES[out], "a.icc", intent, black_point=black_point)
    whole = littlecms(pixels, WIDE, "rgb", PROFILES[out], out, depth, INTENTS[intent], 0x0100 | 0x2000 * black_point)
    for window in grid(150, 210, 64):
        made = inked(pixels[window.slices], spec, onto, depth)
        assert np.array_equal(made, whole.reshape(150, 210, -1)[window.slices])


@pytest.mark.parametrize("out", ["rgb", "cmyk"])
def test_ink_equals_pillow(out):
    """Pillow has a littlecms of its own: 8 bits in, 8 bits out, no level differs."""
    pixels = photo(dtype="uint8")
    mode = {"rgb": "RGB", "cmyk": "CMYK"}[out]
    icc = PROFILES[out]
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(srgb_profile())),
        ImageCms.ImageCmsProfile(io.BytesIO(icc)),
        "RGB",
        mode,
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.NOOPTIMIZE | ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    theirs = np.asarray(ImageCms.applyTransform(Image.fromarray(pixels), transform))
    ours = inked(pixels, ImageSpec(150, 210, 3, "uint8"), press(icc, "a.icc"), "uint8")
    assert np.array_equal(ours, theirs)


def test_inks_mean_the_colour():
    """Back through the profile, lighter greys, where its tables are fine enough, are those of the picture."""
    grey = np.linspace(30_000, 60_000, 40).astype(np.uint16).reshape(1, 40, 1).repeat(3, 2)
    made = inked(grey, ImageSpec(1, 40, 3, "uint16"), press(press_profile(), "a.icc", black_point=False), "uint16")
    spec = ImageSpec(1, 40, 4, "uint16", space="cmyk", icc=press_profile())
    shown = proofed(made, spec).astype(int)
    assert np.abs(shown - (grey // 257).astype(int)).max() <= 8


@pytest.mark.parametrize("channels", [1, 3])
def test_what_has_no_profile_is_srgb(channels):
    """RGB and grey without a profile become what sRGB would."""
    pixels = photo(channels)
    onto = press(press_profile(), "a.icc")
    bare = inked(pixels, ImageSpec(150, 210, channels, "uint16"), onto, "uint8")
    rgb = inked(
        pixels.repeat(4 - channels, 2)[:, :, :3], ImageSpec(150, 210, 3, "uint16", icc=srgb_profile()), onto, "uint8"
    )
    assert np.array_equal(bare, rgb)


def test_counts_of_tiles_add_up():
    """The colours out of gamut are counted at the same px whatever the tiles, and not all px are looked at."""
    pixels, spec, onto = photo(), ImageSpec(150, 210, 3, "uint16", icc=WIDE), press(srgb_profile(), "s.icc")
    whole = beyond(pixels, spec, onto, 0, 0)
    assert 0 < whole < looked_at(150, 210) == 19 * 27
    for side in (7, 32, 100):
        windows = grid(150, 210, side)
        assert whole == sum(beyond(pixels[w.slices], spec, onto, w.y0, w.x0) for w in windows)


def test_what_is_beyond_is_what_littlecms_marks():
    """The count agrees with littlecms' own alarm for all but colours at the very border of the gamut."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.mgrid[0:256:4, 0:256:4]
    flags = ImageCms.Flags.GAMUTCHECK | ImageCms.Flags.SOFTPROOFING | ImageCms.Flags.NOOPTIMIZE
    wide, small = (ImageCms.ImageCmsProfile(io.BytesIO(icc)) for icc in (WIDE, press_profile()))
    marked = ImageCms.buildProofTransform(wide, wide, small, "RGB", "RGB", 1, 1, flags)
    plain = ImageCms.buildTransform(wide, wide, "RGB", "RGB", 1, ImageCms.Flags.NOOPTIMIZE)
    alarmed = [np.asarray(ImageCms.applyTransform(Image.fromarray(pixels), t)) for t in (marked, plain)]
    theirs = (np.abs(alarmed[0].astype(int) - alarmed[1]).max(2) > 30).mean()
    onto = press(press_profile(), "a.icc", black_point=False)
    spec = ImageSpec(64, 64, 3, "uint8", icc=WIDE)
    spread = pixels.repeat(8, 0).repeat(8, 1)
    ours = beyond(spread, spec, onto, 0, 0) / looked_at(512, 512)
    assert abs(ours - theirs) < 0.1


def test_colours_are_found_in_the_picture_s_encoding():
    """White is white, a grey picture has grey beside it, and another profile other numbers for the same colour."""
    assert coloured((255, 255, 255), ImageSpec(1, 1, 3, "uint8", icc=WIDE)).tolist() == [[[65535] * 3]]
    assert coloured((255, 0, 0), ImageSpec(1, 1, 3, "uint8")).tolist() == [[[65535, 0, 0]]]
    assert coloured((9, 9, 9), ImageSpec(1, 1, 1, "uint8")).tolist() == [[[9 * 257]]]
    red = coloured((255, 0, 0), ImageSpec(1, 1, 3, "uint8", icc=WIDE))[0, 0]
    assert 0 < red[1] < red[0] < 65535
    with pytest.raises(PlanError, match="picture is grey, but the colour beside it is not: #ff0000"):
        coloured((255, 0, 0), ImageSpec(1, 1, 1, "uint8"))


@pytest.mark.parametrize(
    ("icc", "said"),
    [
        pytest.param(b"", "is no ICC profile", id="empty"),
        pytest.param(b"\0" * 500, "is no ICC profile", id="zeros"),
        pytest.param(ink_profile(), "nothing can be turned into it", id="only-the-way-in"),
        pytest.param(bytes(imagecodecs.cms_profile("lab4")), "counts in Lab", id="lab"),
        pytest.param(press_profile()[:400], "nothing can be turned into it", id="cut-off"),
    ],
)
def test_press_refuses(icc, said):
    """What nothing can be printed through is refused in one line."""
    with pytest.raises(PlanError, match=said) as refused:
        press(icc, "a.icc")
    assert len(str(refused.value).splitlines()) == 1


def test_paper_white_is_seen():
    """The paper of a profile whose white is no white is shown in its colour only where that is asked for."""
    paper = bytearray(press_profile())
    at = paper.index(b"XYZ ", 200) + 8
    paper[at : at + 12] = np.array([0.85 * 63190, 0.85 * 65536, 0.6 * 54061], ">i4").tobytes()
    spec = ImageSpec(1, 1, 4, "uint8", space="cmyk", icc=bytes(paper))
    blank = np.zeros((1, 1, 4), np.uint8)
    assert proofed(blank, spec).min() >= 254
    assert proofed(blank, spec, paper_white=True)[0, 0, 2] < 230


def test_a_press_says_what_it_is():
    """Channels and space come from the profile."""
    assert (Press(press_profile()).space, Press(press_profile()).channels) == ("CMYK", 4)
    assert (Press(GREY).space, Press(GREY).channels) == ("GRAY", 1)
