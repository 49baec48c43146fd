"""The pixels of a sheet: tiles equal the whole, the picture is the plain loop's, and what is round it belongs there."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inkprofile import press_profile
from strategies_files import picture

from refine.assess import assess
from refine.background import coloured
from refine.errors import PlanError
from refine.ink import inked, press
from refine.length import length, paper
from refine.order import Order
from refine.plan import Plan
from refine.preset import load_preset
from refine.printed import printed_pixels, sheet_window
from refine.sheet import STRETCH, Placement, Surround
from refine.spec import ImageSpec
from refine.tiles import restored_pixels
from refine.window import Window

PRESET = load_preset("print", {"plan.tile": "512", "plan.block": "128", "repair.net": "", "upscale.nets": "[]"})


def ordered(text="70x50mm", ppi=150, **more):
    """An order of small paper."""
    return Order(paper(text), Fraction(ppi), more.pop("preset", PRESET), **more)


def planned(pixels, order, **spec):
    """The plan for a picture, and its assessment."""
    described = ImageSpec(*pixels.shape, str(pixels.dtype), **spec)
    return order.plan(described, assess(pixels, described))


def cut_into(plan, tile):
    """The same sheet in other tiles."""
    inner = replace(plan.plan, tile=tile, block=min(plan.plan.block, tile), asked=plan.sheet.spans(tile))
    return replace(plan, plan=inner)


@pytest.mark.parametrize("edge", ["picture", "mirror", "stretch", "colour"])
@pytest.mark.parametrize("mode", ["fill", "fit"])
def test_tiles_of_a_sheet_equal_the_whole(edge, mode):
    """A sheet made in tiles of any side has the bytes of one made at once, wrap and inks and all."""
    pixels = picture(61, 83, 3)
    order = ordered(
        placement=Placement(mode),
        surround=Surround(length("9mm"), length("3mm"), edge),
        press=press(press_profile(), "a.icc"),
        rim=(200, 30, 60),
    )
    plan = planned(pixels, order)
    whole = printed_pixels(pixels, cut_into(plan, 4096))
    assert whole.shape == (*plan.output, 4)
    for tile in (512, 192, 80):
        assert np.array_equal(printed_pixels(pixels, cut_into(plan, tile)), whole)


@settings(max_examples=15)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from([1, 2, 3, 4]),
    st.sampled_from(["picture", "mirror", "stretch"]),
)
def test_any_picture_in_tiles(height, width, channels, edge):
    """The same for pictures of any size, one px among them, grey, with alpha."""
    pixels = picture(height, width, channels, seed=height)
    order = ordered("30x24mm", 200, surround=Surround(length("5mm"), edge=edge), force=True)
    try:
        plan = planned(pixels, order)
    except PlanError as error:
        assert "up to 64 times" in str(error)  # noqa: PT017  the one thing that may be wrong
        return
    whole = printed_pixels(pixels, cut_into(plan, 4096))
    assert np.array_equal(printed_pixels(pixels, cut_into(plan, 96)), whole)


@settings(max_examples=40)
@given(
    st.integers(20, 200),
    st.integers(20, 200),
    st.fractions(Fraction(1, 97), Fraction(1, 2), max_denominator=97),
    st.sampled_from(["mirror", "stretch", "picture"]),
    st.sampled_from([64, 100, 512]),
)
def test_blocks_of_a_sheet_read_all_they_need(height, width, wrap, edge, tile):
    """Wherever a sheet's tiles cut the picture, what a block reads holds what its px need: all of one shape."""
    preset = replace(PRESET, plan=replace(PRESET.plan, tile=tile))
    order = ordered("67x51mm", 140, surround=Surround(wrap, edge=edge), force=True, preset=preset)
    plan = order.plan(ImageSpec(height, width, 3, "uint8"))
    shapes = set()
    for window in plan.tiles():
        wanted = plan.sheet.picture(window)
        for block in plan.plan.blocks(wanted) if wanted.area else ():
            assert block.read.contains(plan.plan.source_window(block.write))
            shapes.add((block.read.height, block.read.width))
    assert len(shapes) == 1


def test_face_is_the_plain_loop_s():
    """What is seen from the front is the picture enlarged as a whole, its middle."""
    pixels = picture(61, 83, 3)
    plan = planned(pixels, ordered(surround=Surround(length("9mm"), edge="mirror")))
    inner = plan.plan
    expected = restored_pixels(pixels, Plan(inner.chain, inner.source, inner.output, inner.dtype, 4096, 128))
    part = plan.sheet.part
    assert part.height < inner.output[0] or part.width < inner.output[1]
    assert np.array_equal(printed_pixels(pixels, plan)[plan.sheet.front.slices], expected[part.slices])


def test_mirror_is_a_mirror():
    """What goes round the frame is the face, folded over at its edge; at a corner over both."""
    pixels = picture(61, 83, 3)
    plan = planned(pixels, ordered(surround=Surround(length("9mm"), edge="mirror")))
    made = printed_pixels(pixels, plan)
    margin, face = plan.sheet.margin, made[plan.sheet.front.slices]
    assert np.array_equal(made, np.pad(face, ((margin, margin), (margin, margin), (0, 0)), mode="symmetric"))


def test_stretch_stretches_the_rim():
    """Along a wrap the outermost eighth of it is seen, mirrored, eight times as long; linear in between."""
    pixels = picture(61, 83, 1)
    plan = planned(pixels, ordered(surround=Surround(length("9mm"), edge="stretch")))
    made, sheet = printed_pixels(pixels, plan)[..., 0].astype(float), plan.sheet
    face = made[sheet.front.slices]
    depth = np.arange(sheet.margin) + 0.5
    below = np.stack([np.interp(depth / STRETCH, np.arange(len(face)) + 0.5, column[::-1]) for column in face.T], 1)
    found = made[sheet.front.y1 :, sheet.front.x0 : sheet.front.x1]
    assert np.abs(found - below).max() <= 0.5 + 1e-6


def test_rim_and_free_paper_have_their_colours():
    """Paper that the picture leaves free is white or as it was asked for; what goes round it may differ."""
    pixels = picture(40, 90, 3)
    surround = Surround(length("5mm"), edge="colour")
    plan = planned(
        pixels, ordered(placement=Placement("fit"), surround=surround, background=(250, 240, 230), rim=(10, 20, 30))
    )
    made, sheet = printed_pixels(pixels, plan), plan.sheet
    free = made[sheet.front.slices].copy()
    free[sheet.placed.within(sheet.front).slices] = np.array([250, 240, 230]) * 257
    assert (free == np.array([250, 240, 230]) * 257).all()
    made[sheet.front.slices] = np.array([10, 20, 30]) * 257
    assert (made == np.array([10, 20, 30]) * 257).all()


def test_alpha_is_laid_over_the_background():
    """A cut-out lies on the paper: transparent px show the background, opaque ones the picture."""
    pixels = picture(61, 83, 4)
    pixels[..., 3] = 0
    plan = planned(pixels, ordered(background=(1, 2, 3)))
    assert (printed_pixels(pixels, plan) == np.array([1, 2, 3]) * 257).all()
    pixels[..., 3] = 255
    opaque = printed_pixels(pixels, planned(pixels, ordered(background=(1, 2, 3))))
    assert np.array_equal(opaque, printed_pixels(pixels, planned(pixels, ordered())))
    assert plan.result.channels == 3
    assert "flattened onto the background" in plan.result.notes


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_sixteen_bit_throughout(dtype):
    """8 bits are those of the 16 to the nearest: nothing is rounded twice before."""
    pixels = picture(61, 83, 3, dtype)
    fine = printed_pixels(pixels, planned(pixels, ordered(depth="uint16")))
    coarse = printed_pixels(pixels, planned(pixels, ordered(depth="uint8")))
    assert len(np.unique(fine)) > 2000
    assert np.array_equal(coarse, (fine.astype(np.uint32) * 255 + 32767) // 65535)


def test_ink_is_that_of_the_whole_sheet():
    """Turned into ink tile by tile, a sheet is littlecms' conversion of the sheet in one piece."""
    pixels = picture(61, 83, 3)
    plain = planned(pixels, ordered())
    onto = press(press_profile(), "a.icc")
    plan = planned(pixels, ordered(press=onto, depth="uint8"))
    whole = sheet_window(pixels, cut_into(plain, 4096), Window(0, 0, *plain.output))
    assert np.array_equal(printed_pixels(pixels, plan), inked(whole, plain.opaque, onto, "uint8"))
    assert plan.result.icc == press_profile()
    assert plan.result.space == "cmyk"


def test_a_profile_that_is_kept_is_kept_byte_for_byte():
    """Without a printer's profile the picture's own goes along; RGB without one is said to be sRGB."""
    icc = press_profile()  # any bytes of a profile will do where nothing is converted
    rgb = icc[:16] + b"RGB " + icc[20:]
    pixels = picture(61, 83, 3)
    assert planned(pixels, ordered(), icc=rgb).result.icc == rgb
    bare = planned(pixels, ordered()).result
    assert bare.icc is not None
    assert "no profile: taken for sRGB, and said to be" in bare.notes


def test_crop_sees_what_lies_round_it():
    """A crop is a window of the enlarged picture: its edge px are those of the picture uncropped."""
    pixels = picture(90, 120, 3)
    whole = planned(pixels, ordered("120x90px", 72, placement=Placement()))
    cropped = planned(pixels, ordered("60x40px", 72, placement=Placement(crop=Window(20, 30, 60, 90))))
    assert (cropped.plan.output, cropped.sheet.part) == (whole.plan.output, Window(20, 30, 60, 90))
    expected = printed_pixels(pixels, replace(whole, plan=replace(whole.plan, chain=cropped.plan.chain)))
    assert np.array_equal(printed_pixels(pixels, cropped), expected[20:60, 30:90])


@pytest.mark.parametrize(
    ("order", "said"),
    [
        pytest.param({"ppi": 0}, "1 to 4800 px per inch", id="no-ppi"),
        pytest.param({"ppi": 100_000}, "1 to 4800 px per inch", id="too-fine"),
        pytest.param({"text": "1x1m", "ppi": 1200}, "up to 64 times", id="beyond-reach"),
        pytest.param({"text": "1x1m", "ppi": 20}, "too weak for this paper: .*--force", id="too-weak"),
        pytest.param({"text": "90x90m", "ppi": 600}, "up to 1000000 px a side", id="too-large"),
        pytest.param({"distance": Fraction(0)}, "25 mm to 1 km", id="no-distance"),
        pytest.param({"preset": load_preset("print", {"plan.allowed_mem": "100000000"})}, "needs .* MB", id="memory"),
    ],
)
def test_orders_that_cannot_be_are_refused(order, said):
    """One line each, that says what is wrong and what would do."""
    with pytest.raises(PlanError, match=said) as refused:
        ordered(**order).plan(ImageSpec(60, 80, 3, "uint8"))
    assert len(str(refused.value).splitlines()) == 1


def test_force_means_it():
    """What is too weak is made where that is meant, and is called so."""
    spec = ImageSpec(60, 80, 3, "uint8")
    order = ordered("1x1m", 20, force=True)
    assert order.decided(spec, None).action == "too-weak"
    assert order.plan(spec).output == (787, 787)


def test_facts_tell_orders_apart():
    """Every wish that changes bytes changes the facts; the name of a paper does not."""
    facts = [
        ordered(**wish).facts()
        for wish in (
            {},
            {"ppi": 301},
            {"text": "70x51mm"},
            {"depth": "uint8"},
            {"background": (1, 1, 1)},
            {"press": press(press_profile(), "a.icc")},
            {"press": press(press_profile(), "a.icc", "perceptual")},
            {"placement": Placement("fit")},
            {"surround": Surround(bleed=Fraction(1, 8))},
            {"medium": "canvas"},
        )
    ]
    assert len({str(fact) for fact in facts}) == len(facts)
    assert ordered("7x5cm").facts() == ordered("70x50mm").facts()


def test_background_is_in_the_picture_s_encoding():
    """The numbers of a colour are those of the picture's profile."""
    spec = ImageSpec(61, 83, 3, "uint8")
    plan = ordered(background=(10, 200, 30)).plan(spec)
    assert plan.background == tuple(coloured((10, 200, 30), spec)[0, 0])
