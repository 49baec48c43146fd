"""EXIF put right in place."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from exifblock import EXIF, GPS, SIZES, Field, block, long, ratio, read, short, text
from hypothesis import given
from hypothesis import strategies as st

from refine.exif import exif_for, rational
from refine.metadata import read_exif
from refine.spec import Resolution

ORDERS = pytest.mark.parametrize("order", ["<", ">"], ids=["little-endian", "big-endian"])
MAKER_NOTE = bytes(range(1, 200)) * 3
THUMBNAIL = b"\xff\xd8" + b"secret thumbnail" * 40 + b"\xff\xd9"
PPI = Resolution(300, 300)


def camera(order: str, *, thumbnail: bytes = THUMBNAIL, orientation: int = 6) -> bytes:
    """A block as a camera writes it, with a bit of everything."""
    first = [
        text(0x10F, "Maker of cameras"),
        short(order, 0x112, orientation),
        ratio(order, 0x11A, 72, 1),
        ratio(order, 0x11B, 72, 1),
        short(order, 0x128, 2),
        text(0x131, "firmware 1.2"),
        text(0x132, "2020:02:02 02:02:02"),
        long(order, 0x100, 4000),
        long(order, 0x101, 3000),
    ]
    exif = [
        Field(0x9000, 7, b"0232"),
        Field(0x927C, 7, MAKER_NOTE),
        Field(0x9286, 7, b"JIS\0\0\0\0\0" + "日本".encode("iso2022_jp")),
        Field(0x9204, 10, struct.pack(order + "ii", -1, 3)),
        ratio(order, 0x829A, 1, 0),
        short(order, 0xA002, 4000),
        short(order, 0xA003, 3000),
        short(order, 0x9214, 100, 200, 30, 40),
        Field(0xFDE8, 12, struct.pack(order + "d", 2.5)),
        text(0xA432, "lens"),
    ]
    gps = [text(1, "N"), ratio(order, 2, 48, 1, 8, 1, 0, 0), Field(5, 1, b"\1")]
    return block(order, first, exif, gps, interop=[text(1, "R98")], thumbnail=thumbnail)


@ORDERS
def test_exif_changes_only_what_it_must(order):
    """Orientation, dimensions and resolution are the result's, thumbnail and subject are gone, all else is the same."""
    source = camera(order)
    before, after = read(source), read(exif_for(source, 5000, 70_000, PPI))
    meant = {
        ("first", 0x112): (3, 1, struct.pack(order + "H", 1)),
        ("first", 0x100): (4, 1, struct.pack(order + "I", 70_000)),
        ("first", 0x101): (4, 1, struct.pack(order + "I", 5000)),
        ("first", 0x11A): (5, 1, struct.pack(order + "II", 300, 1)),
        ("first", 0x11B): (5, 1, struct.pack(order + "II", 300, 1)),
        ("exif", 0xA002): (4, 1, struct.pack(order + "I", 70_000)),  # no longer fits a SHORT
        ("exif", 0xA003): (3, 1, struct.pack(order + "H", 5000)),
    }
    gone = {key for key in before if key[0] == "next" or key[1] == 0x9214}
    assert after == {key: value for key, value in before.items() if key not in gone} | meant
    assert gone


@ORDERS
def test_exif_moves_nothing(order):
    """A MakerNote lies where it lay: offsets in it are counted from the start of the block."""
    source = camera(order)
    result = exif_for(source, 500, 500, PPI)
    assert result.index(MAKER_NOTE) == source.index(MAKER_NOTE)


@ORDERS
def test_exif_keeps_no_byte_of_a_thumbnail(order):
    """The thumbnail is not just unlinked: it may show what was cut away."""
    result = exif_for(camera(order), 500, 500, None)
    assert b"secret" not in result
    assert len(result) < len(camera(order)) - len(THUMBNAIL)


def test_exif_zeroes_a_thumbnail_in_the_middle():
    """A thumbnail with something behind it is zeroed, so that nothing moves."""
    source = camera("<") + b"offsets in a MakerNote may lead here"
    result = exif_for(source, 500, 500, None)
    assert len(result) == len(source)
    assert b"secret" not in result
    assert result.endswith(b"may lead here")


def test_exif_that_holds_stays():
    """Where everything is right already, the bytes are the same."""
    source = camera("<", thumbnail=b"", orientation=1)
    assert exif_for(source, 3000, 4000, Resolution(72, 72)) == source


@ORDERS
def test_exif_is_right_at_once(order):
    """Applied to its own result it changes nothing."""
    once = exif_for(camera(order), 500, 600, Resolution(118.11, 59.055, "cm"))
    assert exif_for(once, 500, 600, Resolution(118.11, 59.055, "cm")) == once


@ORDERS
@pytest.mark.parametrize("unit", ["inch", "cm", "none"])
def test_exif_states_a_resolution_that_reads_back(order, unit):
    """Resolution and unit are those of the result, as another reader of refine sees them."""
    result = exif_for(camera(order), 500, 600, Resolution(240, 120.5, unit))
    assert read_exif(result).resolution == Resolution(240, 120.5, unit)
    assert read_exif(result).orientation == 1


def test_exif_without_resolution_leaves_it_alone():
    """None for a resolution: what the source says stays, a zero denominator too."""
    source = block("<", [ratio("<", 0x11A, 72, 0), ratio("<", 0x11B, 0, 0)])
    assert exif_for(source, 5, 5, None) == source
    assert read_exif(exif_for(source, 5, 5, PPI)).resolution == PPI


def test_exif_without_a_unit_is_per_inch():
    """The default unit is the inch: px per cm are converted, a mere ratio is not written."""
    source = block("<", [ratio("<", 0x11A, 72, 1), ratio("<", 0x11B, 72, 1)])
    result = exif_for(source, 5, 5, Resolution(100, 100, "cm"))
    assert read_exif(result).resolution == Resolution(254, 254)
    assert exif_for(source, 5, 5, Resolution(1, 2, "none")) == source


def test_exif_adds_no_tag():
    """What the source does not state is not added."""
    source = block(">", [text(0x10F, "Maker")])
    assert exif_for(source, 5, 5, PPI) == source


def test_exif_gives_shared_values_a_place_of_their_own():
    """Writers may let x and y point to one value; unequal results must not overwrite each other, nor anything else."""
    source = bytearray(block("<", [ratio("<", 0x11A, 72, 1), ratio("<", 0x11B, 72, 1), text(0x10F, "Maker of it")]))
    fields = {struct.unpack_from("<H", source, 10 + 12 * i)[0]: 10 + 12 * i for i in range(3)}
    name = struct.unpack_from("<I", source, fields[0x10F] + 8)
    struct.pack_into("<I", source, fields[0x11A] + 8, *name)
    struct.pack_into("<I", source, fields[0x11B] + 8, *name)
    result = exif_for(bytes(source), 5, 5, Resolution(300, 150))
    assert read_exif(result).resolution == Resolution(300, 150)
    assert read(result)["first", 0x10F] == read(bytes(source))["first", 0x10F]


def test_exif_that_is_cut_does_not_grow():
    """Bytes added behind a directory that is cut off would be read as its fields."""
    whole = block("<", [ratio("<", 0x11A, 72, 1), ratio("<", 0x11B, 72, 1)], [short("<", 0xA002, 7), text(0xA432, "")])
    shared = whole.replace(struct.pack("<HHI", 0x11A, 5, 1), struct.pack("<HHI", 0x11A, 3, 1))
    assert len(exif_for(shared, 5, 5, PPI)) > len(shared)
    assert len(exif_for(shared[:-5], 5, 5, PPI)) == len(shared) - 5


@pytest.mark.parametrize(
    "field",
    [
        Field(0x112, 5, struct.pack("<II", 6, 1)),
        Field(0x112, 3, struct.pack("<HH", 6, 6)),
        Field(0x112, 4, struct.pack("<I", 6)),
        Field(0x112, 2, b"6\0"),
        Field(0x112, 3, struct.pack("<H", 900)),
        Field(0x112, 99, b"\6\0", count=1),
    ],
    ids=["fraction", "two values", "LONG", "text", "out of range", "unknown type"],
)
def test_exif_orientation_is_one_whatever_it_was(field, monkeypatch):
    """An orientation of any type is 1 afterwards, or some reader would turn the picture once more."""
    monkeypatch.setitem(SIZES, 99, 1)
    result = exif_for(block("<", [field, text(0x10F, "Maker")]), 5, 5, None)
    kind, count, value = read(result)["first", 0x112]
    assert (kind in {3, 4}, count, value.rstrip(b"\0")) == (True, 1, b"\1")


def test_exif_orientation_given_twice():
    """Both are 1: readers differ in which of two they take."""
    source = block("<", [short("<", 0x112, 6), short("<", 0x112, 3)])
    result = exif_for(source, 5, 5, None)
    assert [result[10 + 12 * i + 8] for i in range(2)] == [1, 1]


def test_exif_drops_how_samples_were_stored():
    """Strips, sub-images, colour maps and blocks that travel on their own are gone with their values."""
    first = [
        short("<", 0x102, 16, 16, 16),
        long("<", 0x111, 8, 9, 10),
        long("<", 0x14A, 5000, 6000),
        Field(0x2BC, 1, b"<stale xmp of the source/>"),
        Field(0x8649, 7, b"8BIM stale thumbnail resource"),
        text(0x13B, "An artist"),
    ]
    result = exif_for(block("<", first), 5, 5, PPI)
    assert list(read(result)) == [("first", 0x13B)]
    assert b"stale" not in result


@pytest.mark.parametrize(("turn", "frame"), [(1, (3000, 4000)), (1, (3000, 4001)), (6, (3000, 4000))])
def test_exif_subject_area_is_of_its_frame(turn, frame):
    """Where the subject was is kept only in the very frame it is counted in."""
    result = exif_for(camera("<", orientation=turn), *frame, None)
    assert (("exif", 0x9214) in read(result)) is ((turn, frame) == (1, (3000, 4000)))


def test_exif_survives_a_sub_directory_outside():
    """A directory or value that lies outside the block stays as it is; the rest is still put right."""
    first = [short("<", 0x112, 6), long("<", EXIF, 9_999), long("<", GPS, 0xFFFFFFFF)]
    first += [Field(0x10E, 2, b"", count=70_000), Field(0x10F, 2, b"gone", count=0xFFFFFFFF)]
    source = block("<", first)
    result = exif_for(source, 5, 5, PPI)
    assert [i for i, (a, b) in enumerate(zip(source, result, strict=True)) if a != b] == [source.index(b"\x12\1") + 8]


def test_exif_survives_a_cut_sub_directory():
    """Of a directory that is cut off, the fields that are there are put right, and none is taken out."""
    whole = block("<", [short("<", 0x112, 6)], [short("<", 0x9214, 1, 2), short("<", 0xA002, 7), text(0xA432, "")])
    cut = whole[: whole.index(struct.pack("<HH", 0xA432, 2)) + 5]
    result = exif_for(cut, 50, 60, None)
    assert result.index(struct.pack("<HHIH", 0xA002, 3, 1, 60)) == cut.index(struct.pack("<HHIH", 0xA002, 3, 1, 7))
    assert len(result) == len(cut)


def test_exif_survives_a_picture_that_is_none():
    """Where the next directory would be, there is noise: it is cut off, and the rest is put right."""
    source = bytearray(camera("<"))
    start = source.index(struct.pack("<HHI", 0x103, 3, 1)) - 2
    source[start:] = b"\xff" * (len(source) - start)
    found = read(exif_for(bytes(source), 5, 7, PPI))
    assert found == read(exif_for(camera("<", thumbnail=b""), 5, 7, PPI))


def test_exif_survives_directories_in_a_ring():
    """Directories that point at themselves or at each other are walked once."""
    for tag in (EXIF, GPS):
        source = block("<", [short("<", 0x112, 6), long("<", tag, 8)])
        assert read_exif(exif_for(source, 5, 5, PPI)).orientation == 1
    looped = bytearray(block("<", [short("<", 0x112, 6)]))
    looped[-4:] = struct.pack("<I", 8)
    assert exif_for(bytes(looped), 5, 5, PPI)[-4:] == bytes(4)


@ORDERS
def test_exif_thumbnail_that_claims_everything(order):
    """What a thumbnail says it takes up is erased only where nothing else lies."""
    source = bytearray(camera(order))
    nbytes = source.index(struct.pack(order + "HHI", 0x202, 4, 1)) + 8
    struct.pack_into(order + "I", source, nbytes, len(source) - 1)
    struct.pack_into(order + "I", source, nbytes - 12, 1)
    honest, greedy = read(exif_for(camera(order), 5, 5, PPI)), read(exif_for(bytes(source), 5, 5, PPI))
    assert greedy == honest


def test_exif_survives_thumbnails_in_a_ring():
    """A chain of pictures that ends in itself is cut like any other."""
    source = bytearray(camera("<"))
    start = source.index(struct.pack("<HHI", 0x103, 3, 1)) - 2
    struct.pack_into("<I", source, start + 2 + 36, start)
    assert exif_for(bytes(source), 5, 5, PPI) == exif_for(camera("<"), 5, 5, PPI)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "TIFF header"),
        (b"II+\0" + bytes(40), "TIFF header"),
        (b"Exif\0\0II*\0" + bytes(40), "TIFF header"),
        (b"II*\0" + struct.pack("<IH", 8, 4) + bytes(20), "cut off"),
        (b"II*\0" + struct.pack("<I", 5000) + bytes(20), "cut off"),
        (b"MM\0*" + struct.pack(">I", 3) + bytes(20), "cut off"),
        (b"II*\0" + struct.pack("<IH", 8, 501) + bytes(12 * 501 + 4), "more than 500 entries"),
    ],
    ids=["empty", "BigTIFF", "with its container's mark", "truncated", "outside", "in the header", "too many"],
)
def test_exif_malformed_is_refused(data, why):
    """A block whose first directory cannot be read is a ValueError that says why, and nothing else."""
    with pytest.raises(ValueError, match=why):
        exif_for(data, 5, 5, PPI)


def test_exif_of_16_mb_is_put_right():
    """Size costs memory, not order: a MakerNote of 16 MB stays, and every field may claim all of it."""
    note = bytes(16 << 20)
    greedy = [Field(0xC000 + i, 7, b"\x10\0\0\0", count=(16 << 20) - 4096) for i in range(300)]
    source = block("<", [short("<", 0x112, 6), *greedy], [Field(0x927C, 7, note)], thumbnail=THUMBNAIL)
    result = exif_for(source, 5, 5, PPI)
    assert read_exif(result).orientation == 1
    assert len(result) > 16 << 20


FIELDS = st.builds(
    Field,
    st.sampled_from([0x100, 0x111, 0x112, 0x117, 0x11A, 0x11B, 0x128, 0x14A, 0x9214, 0xA002, 0xA003, 0xA005, 0xFFFF]),
    st.sampled_from([1, 2, 3, 4, 5, 7, 12]),
    st.binary(max_size=12),
    st.none() | st.integers(0, 2**32 - 1),
)


@given(
    st.sampled_from("<>"),
    st.lists(FIELDS, min_size=1, max_size=6),
    st.lists(FIELDS, max_size=6),
    st.binary(max_size=30),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8),
    st.integers(0, 400),
)
def test_exif_never_fails_otherwise(order, first, exif, thumbnail, spoiled, kept):
    """Whatever is spoiled in a block, it is put right for good or refused with ValueError."""
    data = bytearray(block(order, first, exif, thumbnail=thumbnail))
    for at, value in spoiled:
        data[at % len(data)] = value
    cut = bytes(data[: max(kept, 20)])
    try:
        once = exif_for(cut, 5, 70_000, PPI)
    except ValueError:
        return
    assert read_exif(once).orientation == 1
    exif_for(once, 5, 70_000, PPI)


@given(st.integers(8, 80), st.integers(8, 80), st.integers(2, 3))
def test_exif_overlapping_directories_are_refused_or_put_right(exif, gps, fields):
    """Directories laid over each other, which only malice does, spoil nothing but themselves."""
    entries = [short("<", 0x9214, 1), short("<", 0x112, 6), short("<", 0x102, 3)][:fields]
    source = block("<", [*entries, long("<", EXIF, exif), long("<", GPS, gps)])
    try:
        once = exif_for(source, 5, 70_000, PPI)
    except ValueError as error:
        assert "overlap" in str(error)  # noqa: PT017 - refusing is one of two good ends
    else:
        assert read_exif(once).orientation == 1


@given(st.binary(max_size=200), st.sampled_from([b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]))
def test_exif_takes_random_bytes(data, head):
    """Random bytes give a block or a ValueError."""
    try:
        result = exif_for(head + data, 5, 5, PPI)
    except ValueError:
        return
    assert read_exif(result).orientation == 1


@given(st.floats(1e-8, 1e12, allow_nan=False))
def test_rational_is_near(value):
    """Both numbers fit 32 bits, and their quotient is as near as a ten-thousandth allows; in the large, a whole."""
    top, bottom = rational(value)
    assert 0 < top < 2**32
    assert 0 < bottom < 2**32
    if value < 2**32 - 1:
        assert abs(top / bottom - value) <= (5e-5 if value < 400_000 else 0.5)


def test_exif_field_helper_is_honest():
    """The tests' own reader sees a change of one byte."""
    source = camera("<")
    other = replace(Field(0x9000, 7, b"0232"), values=b"0233")
    assert read(source) != read(source.replace(b"0232", other.values))
