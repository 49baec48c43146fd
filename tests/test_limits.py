"""Limits: at the bound a file passes, one beyond it is refused by name."""

from __future__ import annotations

import pytest

from refine.errors import ImageReadError, LimitError
from refine.limits import SCAN_LIMITS, Limits
from refine.spec import ImageSpec


@pytest.mark.parametrize(
    ("limits", "check", "field"),
    [
        (Limits(max_file_nbytes=10), lambda limits, n: limits.check_file("a.png", 10 + n), "max_file_nbytes"),
        (Limits(max_metadata_nbytes=9), lambda limits, n: limits.check_metadata("a.png", 9 + n), "max_metadata_nbytes"),
        (Limits(max_pages=7), lambda limits, n: limits.check_pages("a.png", 7 + n), "max_pages"),
        (Limits(max_whole_nbytes=9), lambda limits, n: limits.check_whole("a.png", 9 + n), "max_whole_nbytes"),
        (Limits(max_scans=7), lambda limits, n: limits.check_scans("a.png", 7 + n), "max_scans"),
        (
            Limits(max_side=5),
            lambda limits, n: limits.check_image("a.png", ImageSpec(5 + n, 1, 1, "uint8")),
            "max_side",
        ),
        (
            Limits(max_side=5),
            lambda limits, n: limits.check_image("a.png", ImageSpec(1, 5 + n, 1, "uint8")),
            "max_side",
        ),
        (
            Limits(max_pixels=6),
            lambda limits, n: limits.check_image("a.png", ImageSpec(2, 3 + n, 1, "uint8")),
            "max_pixels",
        ),
    ],
)
def test_limits_refuse_what_is_over(limits, check, field):
    """The limit itself passes; one more is a LimitError that names file, figures, the limit and a way out."""
    check(limits, 0)
    with pytest.raises(LimitError, match=rf"^a\.png: .* \({field}\); .*(refine scan|Limits\({field}=)") as caught:
        check(limits, 1)
    assert isinstance(caught.value, ImageReadError)


def test_limits_decode_s_grows_with_the_picture():
    """30 s and a second more for every 10 megapixels."""
    assert Limits().decode_s(0) == 30
    assert Limits().decode_s(50_000_000) == 35


def test_limits_decode_mem_holds_file_and_two_copies():
    """The file, the pixels as decoded and as handed over, and the headroom."""
    assert Limits(headroom_mem=100).decode_mem(1000, 50) == 2150


def test_limits_of_scans_let_archives_in():
    """A scan may have 100,000 px a side, and no more is held whole than of any image."""
    SCAN_LIMITS.check_image("a.tif", ImageSpec(100_000, 100_000, 3, "uint16"))
    assert SCAN_LIMITS.max_whole_nbytes == Limits().max_whole_nbytes
    with pytest.raises(LimitError, match="max_pixels"):
        Limits().check_image("a.tif", ImageSpec(20_000, 20_000, 3, "uint16"))


def test_limits_let_every_image_be_held_whole_that_may_come():
    """An image of the default limits' size is never refused for its bytes: the way out of one is none of the other."""
    Limits().check_whole("a.png", ImageSpec(10_000, 20_000, 4, "uint16").nbytes)
