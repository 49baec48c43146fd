from __future__ import annotations

import io
import json

import numpy as np
import pytest
import strategies as made
from PIL import Image

from refine.chain import Chain
from refine.decode_child import packed, unpacked
from refine.jpeg import read_spec
from refine.limits import Limits
from refine.quantisation import stored_grid, table_quality, upright_table
from refine.spec import ImageSpec


def picture(channels: int) -> np.ndarray:
    """A small picture."""
    return made.picture(16, 16, channels)


def encoded(pixels: np.ndarray, quality: int | str, **options) -> bytes:
    """The picture as a JPEG that another encoder made."""
    file = io.BytesIO()
    grey = pixels.shape[2] == 1
    Image.fromarray(pixels.squeeze(2) if grey else pixels).save(file, "jpeg", quality=quality, **options)
    return file.getvalue()


def spec_of_file(data: bytes) -> ImageSpec:
    """What its markers say."""
    return read_spec(io.BytesIO(data), "some.jpg", Limits())


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": "4:4:4"}], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_read_spec_gives_the_table(channels, options):
    """The luma table is read in the order of the block's rows, as another decoder reads it."""
    data = encoded(picture(channels), 37, **options)
    assert list(spec_of_file(data).quantisation) == Image.open(io.BytesIO(data)).quantization[0]


def test_read_spec_gives_the_first_component_its_own_table():
    """The table that counts is the one that the frame names for its first component, wherever the file has it."""
    luma, chroma = list(range(1, 65)), [99] * 64
    data = encoded(picture(3), 50, qtables=[luma, chroma])
    assert list(spec_of_file(data).quantisation) == luma
    frame = data.index(b"\xff\xc0") + 12
    swapped = data[:frame] + bytes([1]) + data[frame + 1 :]
    assert list(spec_of_file(swapped).quantisation) == chroma


@pytest.mark.parametrize("cut", [1, 40, 64])
def test_read_spec_outlives_a_table_cut_short(cut):
    """A table that is not whole is none; the picture's size is known all the same."""
    data = encoded(picture(1), 50)
    at = data.index(b"\xff\xdb")
    broken = data[: at + 2] + (2 + cut).to_bytes(2, "big") + data[at + 4 : at + 4 + cut] + data[at + 69 :]
    assert spec_of_file(broken).quantisation is None
    assert spec_of_file(broken).width == 16


def test_table_travels_to_the_parent_and_into_no_result():
    """The child hands the table over; what is made of the picture was not compressed with it."""
    spec = spec_of_file(encoded(picture(3), 37))
    assert unpacked(json.loads(json.dumps(packed(spec)))) == spec
    result = made.planned(Chain(()), spec, (16, 16)).result
    assert result.quantisation is None


@pytest.mark.parametrize("quality", [1, 5, 10, 25, 49, 50, 51, 75, 90, 95, 97, 100])
def test_table_quality_of_ijg_tables(quality):
    """The tables of the usual encoder give the quality that it was asked for, to one (1 is as 2 where both clip)."""
    spec = spec_of_file(encoded(picture(3), quality))
    assert abs(table_quality(upright_table(spec)) - quality) <= 1


def test_table_quality_orders_other_tables():
    """Tables that are no multiples of the usual one are ordered as their makers name them."""
    names = ["low", "medium", "high", "maximum"]
    found = [table_quality(upright_table(spec_of_file(encoded(picture(3), name)))) for name in names]
    assert found == sorted(set(found))
    assert found[0] < 75
    assert found[-1] > 90


@pytest.mark.parametrize(
    ("orientation", "mirrored"),
    [
        (1, ()),
        (2, ("x",)),
        (3, ("y", "x")),
        (4, ("y",)),
        (5, ()),
        (6, ("x",)),
        (7, ("y", "x")),
        (8, ("y",)),
    ],
)
def test_stored_grid_is_counted_from_the_mirrored_edge(orientation, mirrored):
    """Where a picture was mirrored its last, incomplete block comes first."""
    spec = ImageSpec(21, 35, 3, "uint8", orientation=orientation)
    assert stored_grid(spec) == (5 if "y" in mirrored else 0, 3 if "x" in mirrored else 0)


def test_no_table_without_a_jpeg():
    """What is no JPEG has no table."""
    assert upright_table(made.spec_of(picture(3))) is None
