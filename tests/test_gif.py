"""GIF: the first frame on its screen."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image as Pillow

from refine.errors import ImageReadError, LimitError
from refine.imagefile import read_image, read_spec
from refine.limits import Limits

PALETTE = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], np.uint8)
INDICES = np.random.default_rng(0).integers(0, 4, (12, 15), dtype=np.uint8)


def indexed(indices=INDICES):
    """A palette picture of Pillow's."""
    image = Pillow.frombytes("P", indices.shape[::-1], indices.tobytes())
    image.putpalette(PALETTE.tobytes())
    return image


def saved(image=None, **options):
    """A GIF that another encoder made."""
    file = io.BytesIO()
    (image or indexed()).save(file, "gif", **{"optimize": False, **options})
    return file.getvalue()


@pytest.fixture
def stored(tmp_path):
    """A function that writes bytes and gives their path."""

    def store(data):
        path = tmp_path / "image.gif"
        path.write_bytes(data)
        return path

    return store


@pytest.mark.parametrize("interlace", [0, 1])
def test_gif_looks_its_palette_up(stored, interlace):
    """Colours are those of the palette, interlaced or not, and the notes say that it was expanded."""
    found = read_image(stored(saved(interlace=interlace)))
    np.testing.assert_array_equal(found.pixels, PALETTE[INDICES])
    assert (found.spec.notes, found.spec.dtype) == (("palette expanded",), "uint8")


def test_gif_transparent_index_becomes_alpha(stored):
    """What is seen through has alpha 0, all else 255."""
    found = read_image(stored(saved(transparency=2)))
    assert found.spec.channels == 4
    np.testing.assert_array_equal(found.pixels[..., 3], np.where(INDICES == 2, 0, 255))
    np.testing.assert_array_equal(found.pixels[INDICES != 2][:, :3], PALETTE[INDICES[INDICES != 2]])


def test_gif_animation_gives_its_first_frame(stored):
    """Only the first frame is decoded, and the notes say that there are more."""
    more = [indexed(np.roll(INDICES, i, 0)) for i in range(1, 4)]
    found = read_image(stored(saved(save_all=True, append_images=more, duration=50)))
    np.testing.assert_array_equal(found.pixels, PALETTE[INDICES])
    assert found.spec.notes == ("palette expanded", "frame 1 of several")


def framed(data, screen, origin, background=3):
    """The GIF with another screen, its frame elsewhere on it."""
    at = data.index(b"\x2c", 13 + 12)
    moved = struct.pack("<HH", *origin[::-1]) + data[at + 5 :]
    return data[:6] + struct.pack("<HH", *screen[::-1]) + data[10:11] + bytes((background,)) + data[12 : at + 1] + moved


def test_gif_frame_lies_on_its_screen(stored):
    """A frame smaller than the screen lies where it says; around it is the background, or nothing."""
    found = read_image(stored(framed(saved(), (20, 30), (5, 7))))
    expected = np.full((20, 30, 3), PALETTE[3])
    expected[5:17, 7:22] = PALETTE[INDICES]
    np.testing.assert_array_equal(found.pixels, expected)
    assert found.spec.notes[-1] == "what the frame does not cover is of the background's colour"
    found = read_image(stored(framed(saved(transparency=2), (20, 30), (5, 7))))
    assert found.pixels[0, 0].tolist() == [0, 0, 0, 0]
    assert found.spec.notes[-1] == "what the frame does not cover is transparent"


def test_gif_screen_is_bounded(stored):
    """A small frame on a giant screen meets the limit."""
    with pytest.raises(LimitError, match="max_pixels"):
        read_spec(stored(framed(saved(), (60_000, 60_000), (0, 0))))
    with pytest.raises(LimitError, match="max_metadata_nbytes"):
        read_spec(stored(saved(comment=b"x" * 5000)), Limits(max_metadata_nbytes=3000))


def test_gif_damaged_is_refused(stored):
    """A file that ends early, a frame off the screen, an index without colour and no palette are refused."""
    data = saved()
    for nbytes in range(6, len(data) - 2, 5):
        with pytest.raises(ImageReadError):
            read_image(stored(data[:nbytes]))
    with pytest.raises(ImageReadError, match="outside the screen"):
        read_image(stored(framed(data, (12, 15), (0, 1))))
    start = 13 + 3 * (2 << (data[10] & 7))
    with pytest.raises(ImageReadError, match="palette is missing"):
        read_image(stored(data[:10] + bytes((data[10] & 0x7F,)) + data[11:13] + data[start:]))
    short = data[:10] + bytes((data[10] & 0xF8,)) + data[11:19] + data[start:]
    with pytest.raises(ImageReadError, match="2 colours, but index 3"):
        read_image(stored(short))
