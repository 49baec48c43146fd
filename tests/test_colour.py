"""Colour encodings: what goes into a program, what comes out, and what is refused."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import strategies as made
from inkprofile import LINEAR, ink_profile
from PIL import Image as PilImage
from PIL import ImageCms

from refine.chain import Chain
from refine.colour import TABLE, lab_profile, srgb_profile, treatment, working_profile
from refine.denoise import GuidedDenoise
from refine.errors import ImageReadError, PlanError
from refine.plan import planned
from refine.profile import profile
from refine.resample import Resample
from refine.sharpen import UnsharpMask
from refine.spec import ImageSpec
from refine.tiles import restored_pixels, restored_window
from refine.upscale import Upscale
from refine.window import Window, grid

WHITE = [0.3127, 0.3290, 1.0]
SRGB = [0.64, 0.33, 1.0, 0.30, 0.60, 1.0, 0.15, 0.06, 1.0]
P3 = [0.680, 0.320, 1.0, 0.265, 0.690, 1.0, 0.150, 0.060, 1.0]
ADOBE = [0.64, 0.33, 1.0, 0.21, 0.71, 1.0, 0.15, 0.06, 1.0]
FULL = Chain((Upscale("fast-x2"), Resample(), GuidedDenoise(2.0, 2.0, 3), UnsharpMask(amount=0.5)))


def matrix(primaries, gamma) -> bytes:
    """An ICC profile of RGB with these primaries and a bare power as its curve."""
    return bytes(imagecodecs.cms_profile("rgb", whitepoint=WHITE, primaries=primaries, gamma=gamma))


CASES = [
    pytest.param(ImageSpec(60, 70, 1, "uint8"), "grey", id="grey"),
    pytest.param(ImageSpec(60, 70, 3, "uint8"), "rgb", id="no-profile"),
    pytest.param(ImageSpec(60, 70, 3, "uint16", icc=matrix(P3, 2.2)), "rgb", id="display-p3"),
    pytest.param(ImageSpec(60, 70, 4, "uint8", icc=matrix(ADOBE, 2.19921875)), "rgb", id="adobe-rgb"),
    pytest.param(ImageSpec(60, 70, 3, "uint16", icc=matrix(ADOBE, 1.8)), "rgb", id="gamma-1.8"),
    pytest.param(ImageSpec(60, 70, 3, "uint16", icc=LINEAR), "linear", id="linear-rgb"),
    pytest.param(ImageSpec(60, 70, 4, "uint8", icc=LINEAR), "linear", id="linear-rgba-8"),
    pytest.param(ImageSpec(60, 70, 3, "uint16", space="lab"), "lab", id="lab"),
    pytest.param(ImageSpec(60, 70, 3, "uint8", icc=b"no profile at all"), "rgb", id="damaged-profile"),
]


@pytest.mark.parametrize(("spec", "row"), CASES)
def test_treatment_is_the_table(spec, row):
    """Each encoding falls on its line of the table."""
    assert treatment(spec).row == row
    assert row in TABLE


@pytest.mark.parametrize("row", TABLE)
def test_table_is_documented(checkout, row):
    """ARCHITECTURE.md shows the table that the code has, word for word."""
    text = (checkout / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert "| " + " | ".join(TABLE[row]) + " |" in text


@pytest.mark.parametrize(("spec", "row"), CASES)
def test_tiles_are_the_whole_in_every_encoding(spec, row):
    """Conversions look at one pixel at a time, so tiled equals whole as ever; the profile is kept."""
    pixels = made.picture(spec.height, spec.width, spec.channels, spec.dtype, seed=3)
    if row == "lab":
        pixels = treatment(spec).left(pixels, "uint16")
    plan = planned(FULL, spec, (150, 175), tile=64, block=48)
    whole = restored_window(pixels, planned(FULL, spec, (150, 175), tile=512), Window(0, 0, 150, 175))
    assert np.array_equal(restored_pixels(pixels, plan), whole)
    assert (plan.result.icc, plan.result.dtype, plan.result.channels) == (spec.icc, spec.dtype, spec.channels)
    assert whole.shape == plan.result.shape
    assert whole.dtype == plan.result.dtype


def test_linear_is_seen_with_the_curve_of_srgb():
    """A linear mid grey of 18 % is seen as the 46 % that sRGB makes of it, and comes back."""
    grey = np.full((20, 20, 3), round(0.18 * 65535), np.uint16)
    found = treatment(ImageSpec(20, 20, 3, "uint16", icc=LINEAR))
    assert abs(found.entered(grey) / 65535 - 0.4613561).max() < 1e-4
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1).repeat(3, axis=2)
    assert np.abs(found.left(found.entered(levels), "uint16").astype(int) - levels).max() <= 2


def test_lab_goes_there_and_back():
    """L*a*b* of colours that screens show comes back within a tenth, and white exactly."""
    rng = np.random.default_rng(1)
    rgb = rng.integers(0, 65536, (90, 90, 3)).astype(np.uint16)
    lab = imagecodecs.cms_transform(rgb, srgb_profile(), lab_profile(), colorspace="rgb", outcolorspace="lab")
    found = treatment(ImageSpec(90, 90, 3, "uint16", space="lab"))
    back = found.left(found.entered(lab), "uint16").astype(int) - lab
    assert np.abs(back[:, :, 0]).max() / 655.35 < 0.1
    assert np.abs(back[:, :, 1:]).max() / 257 < 0.1
    white = np.broadcast_to(np.uint16([65535, 32896, 32896]), (4, 4, 3))
    assert np.array_equal(found.left(found.entered(white), "uint16"), white)


def test_cmyk_becomes_srgb_as_littlecms_makes_it():
    """CMYK with its profile is converted like Pillow's littlecms converts it, to sRGB, and says so."""
    found = ink_profile()
    spec = ImageSpec(40, 50, 4, "uint8", icc=found, space="cmyk")
    ink = np.random.default_rng(5).integers(0, 256, (40, 50, 4)).astype(np.uint8)
    plan = planned(Chain((UnsharpMask(amount=0),)), spec, (40, 50))
    ours = restored_pixels(ink, plan)
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(_file(found)),
        ImageCms.ImageCmsProfile(_file(srgb_profile())),
        "CMYK",
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.NOOPTIMIZE,
    )
    theirs = np.asarray(ImageCms.applyTransform(PilImage.fromarray(ink, "CMYK"), transform))
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    assert (plan.result.icc, plan.result.channels, plan.result.model) == (srgb_profile(), 3, "rgb")
    assert "CMYK converted to sRGB" in plan.result.notes[-1]


@pytest.mark.parametrize("icc", [None, LINEAR], ids=["none", "of-rgb"])
def test_cmyk_without_its_profile_is_refused(icc):
    """Ink without a profile means no colour: refused in one line with the way out."""
    spec = ImageSpec(4, 4, 4, "uint8", icc=icc, space="cmyk")
    with pytest.raises(ImageReadError, match=r"CMYK needs an ICC profile .*; embed the profile"):
        _ = planned(FULL, spec, (8, 8)).program


def test_lab_in_8_bits_is_refused():
    """L*a*b* results have 16 bits."""
    with pytest.raises(PlanError, match="16 bits"):
        planned(FULL, ImageSpec(4, 4, 3, "uint16", space="lab"), (8, 8), dtype="uint8")


@pytest.mark.parametrize(("spec", "row"), CASES)
def test_nothing_to_do_changes_nothing(spec, row):
    """A chain of nothing gives every encoding back bit for bit: what need not be converted is not."""
    pixels = made.picture(spec.height, spec.width, spec.channels, spec.dtype, seed=4)
    plan = planned(Chain((Resample(), UnsharpMask(amount=0))), spec, (spec.height, spec.width))
    assert np.array_equal(restored_pixels(pixels, plan), pixels)


@pytest.mark.parametrize("icc", [None, matrix(P3, 2.2), LINEAR], ids=["srgb", "p3", "linear"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_neutral_and_white_stay_in_every_encoding(icc, dtype):
    """A neutral picture has no coloured pixel after the whole chain, and paper white stays white."""
    spec = ImageSpec(60, 60, 3, dtype, icc=icc)
    pixels = made.picture(60, 60, 1, dtype, seed=6).repeat(3, axis=2)
    pixels[:, 30:] = np.iinfo(dtype).max
    result = restored_pixels(pixels, planned(FULL, spec, (150, 150)))
    assert np.array_equal(result[:, :, 0], result[:, :, 1])
    assert np.array_equal(result[:, :, 0], result[:, :, 2])
    assert (result[:, 90:] == np.iinfo(dtype).max).all()


def test_profiles_made_here_hold_no_time():
    """The same result has the same bytes tomorrow: no date in the header of a profile."""
    for made_here in (srgb_profile(), lab_profile(), working_profile()):
        assert made_here[24:36] == bytes(12)


@pytest.mark.parametrize(
    ("icc", "linear"),
    [
        pytest.param(LINEAR, True, id="gamma-1"),
        pytest.param(matrix(SRGB, 2.2), False, id="gamma-2.2"),
        pytest.param(working_profile(), False, id="table"),
        pytest.param(srgb_profile(), False, id="parametric"),
        pytest.param(LINEAR[:200], False, id="cut"),
        pytest.param(b"", False, id="empty"),
    ],
)
def test_profile_tells_a_straight_curve(icc, linear):
    """Only a profile whose every curve is straight is linear; one that cannot be read is not."""
    assert profile(icc).linear == linear


def test_grid_of_conversions(tmp_path: Path):
    """littlecms gives a pixel the same value whatever block it comes in."""
    pixels = np.random.default_rng(2).integers(0, 65536, (70, 90, 3)).astype(np.uint16)
    found = treatment(ImageSpec(70, 90, 3, "uint16", space="lab"))
    whole = found.entered(pixels)
    for window in grid(70, 90, 23):
        assert np.array_equal(found.entered(np.ascontiguousarray(pixels[window.slices])), whole[window.slices])


def _file(data: bytes):
    from io import BytesIO  # noqa: PLC0415

    return BytesIO(data)
