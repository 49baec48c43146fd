"""Metadata that goes with a result: what is carried over, what is stamped on."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from exifblock import Field, block, jpeg, long, ratio, segments, short, text
from hypothesis import given
from hypothesis import strategies as st

from refine.metadata import read_exif
from refine.provenance import NAMESPACE, Deed, carried, stamped, stripped
from refine.spec import Metadata, Resolution

PPI = Resolution(300, 300)
DEED = Deed(
    program="Refine",
    version="1.2.3",
    scale=2.5,
    steps=("upscale net=fast-x4", "resample 0.625", "unsharp sigma=0.8 amount=0.4"),
    nets=(("fast-x4", "f2" * 32),),
    execution_class="onnxruntime 1.32 cpu",
)
PLAIN = replace(DEED, steps=("resample 2.5",), nets=())
IPTC = b"\x1c\x02\x00\x00\x02\x00\x04\x1c\x02\x78\x00\x05title"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
TERMS = "http://cv.iptc.org/newscodes/digitalsourcetype/"
EXT = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
BADINPUT = Path(__file__).parents[2] / "shared" / "data" / "badinput"


def packet(inside: str = "", attributes: str = "") -> bytes:
    """An XMP packet."""
    return (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF[1:-1]}"><rdf:Description rdf:about="uuid:1"'
        f' xmlns:Iptc4xmpExt="{EXT}" xmlns:xmp="http://ns.adobe.com/xap/1.0/" {attributes}>{inside}'
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


def stamp(xmp: bytes | None, deed: Deed = DEED) -> ET.Element:
    """XMP with a deed stamped on, parsed."""
    made, notes = stamped(Metadata(xmp=xmp), deed)
    assert notes == ()
    return ET.fromstring(made.xmp)  # noqa: S314


def source_type(root: ET.Element) -> list[str]:
    """Every value of the IPTC property, in any form."""
    name = f"{{{EXT}}}DigitalSourceType"
    found = [e.get(f"{RDF}resource") or e.text or "" for e in root.iter(name)]
    return found + [e.get(name, "") for e in root.iter() if e.get(name)]


def test_carried_hands_each_block_to_its_rules():
    """EXIF and XMP are put right, IPTC stays byte for byte, and there is nothing to note."""
    source = Metadata(
        exif=block("<", [short("<", 0x112, 6)]),
        xmp=packet('<t:Orientation xmlns:t="http://ns.adobe.com/tiff/1.0/">6</t:Orientation>'),
        iptc=IPTC,
    )
    result, notes = carried(source, 5, 7, PPI)
    assert notes == ()
    assert read_exif(result.exif or b"").orientation == 1
    assert b">1</t:Orientation>" in (result.xmp or b"")
    assert result.iptc == IPTC


@pytest.mark.parametrize(
    ("exif", "applied", "after"),
    [(None, None, "1"), (None, 6, "1"), (None, 1, "6"), (1, 1, "1"), (6, 6, "1"), (6, None, "1")],
    ids=["as XMP says", "as TIFF says", "not turned", "EXIF says upright", "as EXIF says", "as EXIF says, not told"],
)
def test_carried_orientation_is_said_once(exif, applied, after):
    """XMP says 1 of pixels that were turned, and goes on to say 6 where it alone says so and nobody heeded it."""
    xmp = packet(attributes='xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"')
    source = Metadata(None if exif is None else block("<", [short("<", 0x112, exif)]), xmp)
    result, _ = carried(source, 5, 7, None, applied)
    assert f'tiff:Orientation="{after}"'.encode() in (result.xmp or b"")


@pytest.mark.parametrize(
    ("exif", "applied", "x"), [(6, None, "0.8"), (None, 6, "0.8"), (1, 6, "0.8"), (None, 1, "0.1")]
)
def test_carried_regions_turn_with_the_pixels(exif, applied, x):
    """Faces in XMP turn as the pixels did, which XMP itself need not know of."""
    xmp = packet(
        '<m:Regions rdf:parseType="Resource"><m:Area a:x="0.1" a:y="0.2"/></m:Regions>',
        'xmlns:m="http://www.metadataworkinggroup.com/schemas/regions/" xmlns:a="http://ns.adobe.com/xmp/sType/Area#"',
    )
    source = Metadata(None if exif is None else block("<", [short("<", 0x112, exif)]), xmp)
    result, _ = carried(source, 5, 7, None, applied)
    assert f'a:x="{x}"'.encode() in (result.xmp or b"")


def test_carried_of_nothing_is_nothing():
    """No metadata in, none out."""
    assert carried(Metadata(), 5, 7, PPI) == (Metadata(), ())


def test_carried_leaves_out_what_is_malformed_and_says_so():
    """One bad block does not take the others with it."""
    good = block("<", [text(0x10F, "Maker")])
    assert carried(Metadata(b"junk", packet(), IPTC), 5, 7, None) == (
        Metadata(None, packet(), IPTC),
        ("EXIF left out: EXIF does not begin with a TIFF header",),
    )
    result, notes = carried(Metadata(good, b"<junk>", IPTC), 5, 7, None)
    assert result == Metadata(good, None, IPTC)
    assert len(notes) == 1
    assert notes[0].startswith("XMP left out: ")


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_carried_ignores_a_resolution_that_is_none(value):
    """A resolution that means nothing leaves what the source states."""
    source = Metadata(exif=block("<", [ratio("<", 0x11A, 72, 1), ratio("<", 0x11B, 72, 1)]))
    assert carried(source, 5, 7, Resolution(value, 300)) == (source, ())


def test_stamped_leaves_other_blocks_alone():
    """Only XMP is written."""
    source = Metadata(block("<", [text(0x131, "firmware")]), None, IPTC)
    result, notes = stamped(source, DEED)
    assert (result.exif, result.iptc, notes) == (source.exif, source.iptc, ())


def test_stamped_says_all_of_a_deed():
    """Program, version, scale, steps, networks with digests and execution class stand in XMP, in order."""
    root = stamp(None)
    ours = "{" + NAMESPACE + "}"
    deed = next(root.iter(ours + "Deeds"))
    said = {e.tag.removeprefix(ours): e.text for e in deed.iter() if e.text}
    assert [e.text for e in deed.find(f".//{ours}Steps").iter(f"{RDF}li")] == list(DEED.steps)
    assert (said["Program"], said["Version"], said["Scale"]) == ("Refine", "1.2.3", "2.5")
    assert (said["Id"], said["Sha256"], said["ExecutionClass"]) == ("fast-x4", "f2" * 32, "onnxruntime 1.32 cpu")


def test_stamped_event_has_no_time():
    """The history says what, with what and by whom, but never when: output bytes hold no time."""
    event = "{http://ns.adobe.com/xap/1.0/sType/ResourceEvent#}"
    said = {e.tag.removeprefix(event): e.text for e in stamp(None).iter() if e.tag.startswith(event)}
    assert said.keys() == {"action", "softwareAgent", "changed", "parameters"}
    assert (said["action"], said["softwareAgent"]) == ("edited", "Refine 1.2.3")
    assert all(part in said["parameters"] for part in (*DEED.steps, "f2" * 32, "2.5"))


def test_stamped_comes_after_what_was_there():
    """A history is continued, a former deed kept; there is one history and one list of deeds."""
    first, _ = stamped(Metadata(), PLAIN)
    root = stamp(first.xmp)
    for name in (NAMESPACE + "}Deeds", "http://ns.adobe.com/xap/1.0/mm/}History"):
        lists = list(root.iter("{" + name))
        assert len(lists) == 1
        assert len(lists[0][0]) == 2
    steps = [e.text for e in root.iter(f"{RDF}li") if e.text and e.text.startswith(("resample", "upscale"))]
    assert steps == ["resample 2.5", "upscale net=fast-x4", "resample 0.625"]


def test_stamped_keeps_all_else():
    """CreatorTool names what made the source and stays, as does every other property, and the subject's name."""
    source = packet("<xmp:Label>blue</xmp:Label>", 'xmp:CreatorTool="Camera 1"')
    made, _ = stamped(Metadata(xmp=source), DEED)
    assert b'xmp:CreatorTool="Camera 1"' in (made.xmp or b"")
    assert b"<xmp:Label>blue</xmp:Label>" in (made.xmp or b"")
    root = ET.fromstring(made.xmp or b"")  # noqa: S314
    assert {e.get(f"{RDF}about") for e in root.iter(f"{RDF}Description")} == {"uuid:1"}


def test_stamped_is_the_same_every_time():
    """The same source and deed give the same bytes, without a time or a random name."""
    source = Metadata(xmp=packet("<xmp:Label>blue</xmp:Label>"))
    made, _ = stamped(source, DEED)
    assert stamped(source, DEED)[0] == made
    assert not re.search(
        rb"\d\d:\d\d|uuid:(?!1)|20\d\d-\d\d", (made.xmp or b"").replace(b"2005/", b"").replace(b"2008-02-29", b"")
    )


def test_stamped_source_type_only_where_a_network_was_used():
    """Resizing is no algorithmic alteration in the sense of IPTC."""
    assert source_type(stamp(None)) == [TERMS + "algorithmicallyEnhanced"]
    assert source_type(stamp(None, replace(DEED, generative=True))) == [TERMS + "compositeWithTrainedAlgorithmicMedia"]
    assert source_type(stamp(None, PLAIN)) == []
    camera = packet(attributes=f'Iptc4xmpExt:DigitalSourceType="{TERMS}digitalCapture"')
    assert source_type(stamp(camera, PLAIN)) == [TERMS + "digitalCapture"]


@pytest.mark.parametrize("form", ["attribute", "element", "resource"])
@pytest.mark.parametrize(
    ("stated", "plain", "generative"),
    [
        ("digitalCapture", "algorithmicallyEnhanced", "compositeWithTrainedAlgorithmicMedia"),
        ("negativeFilm", "algorithmicallyEnhanced", "compositeWithTrainedAlgorithmicMedia"),
        ("humanEdits", "algorithmicallyEnhanced", "compositeWithTrainedAlgorithmicMedia"),
        ("algorithmicallyEnhanced", "algorithmicallyEnhanced", "compositeWithTrainedAlgorithmicMedia"),
        ("trainedAlgorithmicMedia", "trainedAlgorithmicMedia", "trainedAlgorithmicMedia"),
        ("compositeSynthetic", "compositeSynthetic", "compositeSynthetic"),
        ("termOfTheFuture", "termOfTheFuture", "termOfTheFuture"),
    ],
)
def test_stamped_source_type_is_never_weakened(stated, plain, generative, form):
    """A term that says as much or more, or that is unknown, stays; there is only ever one."""
    term = TERMS + stated
    source = {
        "attribute": packet(attributes=f'Iptc4xmpExt:DigitalSourceType="{term}"'),
        "element": packet(f"<Iptc4xmpExt:DigitalSourceType> {term} </Iptc4xmpExt:DigitalSourceType>"),
        "resource": packet(f'<Iptc4xmpExt:DigitalSourceType rdf:resource="{term}"/>'),
    }[form]
    assert [found.strip() for found in source_type(stamp(source))] == [TERMS + plain]
    made = source_type(stamp(source, replace(DEED, generative=True)))
    assert [found.strip() for found in made] == [TERMS + generative]


@pytest.mark.parametrize(
    "spelt", ["https://cv.iptc.org/newscodes/digitalsourcetype/print/", "digsrctype:print", "print"]
)
def test_stamped_source_type_knows_other_spellings(spelt):
    """A term may come as https, as a QCode or bare."""
    source = packet(attributes=f'Iptc4xmpExt:DigitalSourceType="{spelt}"')
    assert source_type(stamp(source)) == [TERMS + "algorithmicallyEnhanced"]


def test_stamped_on_malformed_xmp_starts_anew():
    """A packet that cannot be read is replaced by one with the deed, and a note says so."""
    made, notes = stamped(Metadata(xmp=b"<junk>"), DEED)
    assert made == stamped(Metadata(), DEED)[0]
    assert len(notes) == 1


def test_stripped_is_empty():
    """Nothing of it is left."""
    assert stripped(Metadata(b"1", b"2", b"3")) == Metadata()


BLOCKS = st.none() | st.binary(max_size=60) | st.binary(max_size=60).map(b"II*\0\x08\0\0\0\1\0".__add__)


@given(BLOCKS, BLOCKS | st.text(max_size=40).map(packet), BLOCKS, st.integers(1, 70_000), st.floats())
def test_metadata_never_stops_a_picture(exif, xmp, iptc, side, ppi):
    """Whatever stands in metadata, it is carried or left out with a note, and a deed can be stamped on it."""
    source = Metadata(exif, xmp, iptc)
    result, notes = carried(source, side, side, Resolution(ppi, 1.0))
    lost = [name for name in ("exif", "xmp", "iptc") if getattr(source, name) and getattr(result, name) is None]
    assert len(notes) >= len(lost)
    made, _ = stamped(source, DEED)
    ET.fromstring(made.xmp or b"")  # noqa: S314


# Real files, and exiftool as a witness.

MEANT = {
    *("IFD0:Orientation", "IFD0:XResolution", "IFD0:YResolution", "IFD0:ResolutionUnit"),
    *("IFD0:ImageWidth", "IFD0:ImageHeight", "ExifIFD:ExifImageWidth", "ExifIFD:ExifImageHeight"),
    *("IFD0:BitsPerSample", "IFD0:Compression", "IFD0:PhotometricInterpretation", "IFD0:SamplesPerPixel"),
    *("IFD0:PlanarConfiguration", "IFD0:SubfileType", "ExifIFD:SubjectArea"),
    *("XMP-tiff:Orientation", "XMP-tiff:XResolution", "XMP-tiff:YResolution", "XMP-tiff:ResolutionUnit"),
    *("XMP-tiff:ImageWidth", "XMP-tiff:ImageHeight", "XMP-exif:ExifImageWidth", "XMP-exif:ExifImageHeight"),
    *("XMP-tiff:BitsPerSample", "XMP-tiff:Compression", "XMP-tiff:PhotometricInterpretation"),
    *("XMP-tiff:SamplesPerPixel", "XMP-tiff:PlanarConfiguration", "XMP-tiff:YCbCrSubSampling"),
}
"""Tags that may change."""
ASIDE = ("System", "File", "SourceFile", "Composite", "ExifTool", "IFD1", "XMP-xmp:Thumbnail")
"""Groups that are about the file, computed from other tags, or gone."""


def real() -> list[Path]:
    """Real files."""
    return sorted(path for path in BADINPUT.glob("*/*") if path.suffix in {".jpg", ".tif", ".tiff", ".png", ".webp"})


def real_metadata() -> list[tuple[str, Metadata]]:
    """EXIF of JPEG files, and XMP packets wherever they are found, one file each."""
    found = {}
    for path in real():
        data = path.read_bytes()
        exif = segments(data).get("exif") if path.suffix == ".jpg" else None
        xmp = re.search(rb"<\?xpacket begin.*?<\?xpacket end=.{3}\?>", data, re.DOTALL)
        if exif or xmp:
            metadata = Metadata(exif, xmp and xmp[0])
            found[metadata] = path.name
    return [(name, metadata) for metadata, name in found.items()]


@pytest.mark.skipif(not BADINPUT.is_dir(), reason="the collection of real files is not here")
def test_carried_takes_real_files():
    """EXIF and XMP of all real files are carried over, but for those that are spoiled on purpose."""
    spoiled = ("pillow__invalid-exif.jpg", "pillow__truncated_exif_dpi.jpg", "metadata_extractor__tif__ImageTestSuite")
    metadata = real_metadata()
    assert len(metadata) > 30
    for name, source in metadata:
        result, notes = carried(source, 600, 800, PPI)
        assert not notes or name.startswith(spoiled), name
        assert carried(result, 600, 800, PPI) == (result, ()), name
        assert stamped(result, DEED)[1] == ()


def canon(order: str) -> bytes:
    """EXIF with a maker's note in the way of Canon: a directory whose offsets count from the start of the block."""

    def made(at: int) -> bytes:
        words = [b"Canon EOS 40D\0\0\0", b"Firmware Version 1.0.8\0\0", b"Ada Lovelace\0\0\0\0"]
        note, values, behind = struct.pack(order + "H", 3), b"", at + 2 + 36 + 4
        for tag, word in zip((6, 7, 9), words, strict=True):
            note += struct.pack(order + "HHII", tag, 2, len(word), behind + len(values))
            values += word
        return note + bytes(4) + values

    first = [text(0x10F, "Canon"), text(0x110, "Canon EOS 40D"), short(order, 0x112, 8)]
    first += [ratio(order, 0x11A, 72, 1), ratio(order, 0x11B, 72, 1), short(order, 0x128, 2)]
    note = made(0)
    exif = [Field(0x927C, 7, note), Field(0x9000, 7, b"0221"), long(order, 0xA002, 40), long(order, 0xA003, 30)]
    draft = block(order, first, exif, [text(1, "N"), ratio(order, 2, 48, 1, 8, 1, 0, 0)], thumbnail=b"\xff\xd8\xff\xd9")
    return draft.replace(note, made(draft.index(note)))


@pytest.fixture(scope="session")
def exiftool() -> str:
    """The path of exiftool."""
    found = shutil.which("exiftool")
    if found is None:
        pytest.skip("exiftool is not installed (Debian: libimage-exiftool-perl)")
    return found


def seen(exiftool: str, path: Path) -> tuple[dict[str, object], list[object]]:
    """Tags and warnings of exiftool, unknown ones included."""
    run = subprocess.run(
        [exiftool, "-j", "-a", "-U", "-G1", "-struct", path], capture_output=True, check=False, timeout=60
    )
    tags = json.loads(run.stdout)[0]
    warnings = [value for key, value in tags.items() if key in {"ExifTool:Warning", "ExifTool:Error"}]
    return {key: value for key, value in tags.items() if not key.startswith(ASIDE)}, warnings


def check_witness(exiftool: str, folder: Path, source: Metadata) -> None:
    """Let exiftool compare a source with what is carried over of it."""
    before, after = folder / "before.jpg", folder / "after.jpg"
    result, notes = carried(source, 600, 800, PPI)
    if notes:
        return
    before.write_bytes(jpeg(source.exif, source.xmp))
    after.write_bytes(jpeg(result.exif, result.xmp))
    (old, warned), (new, warns) = seen(exiftool, before), seen(exiftool, after)
    changed = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    assert changed <= MEANT
    assert set(map(str, warns)) <= set(map(str, warned))
    assert new.get("IFD0:Orientation", "Horizontal (normal)") == "Horizontal (normal)"


@pytest.mark.slow
@pytest.mark.parametrize("order", ["<", ">"], ids=["little-endian", "big-endian"])
def test_witness_reads_a_makers_note_as_before(exiftool, tmp_path, order):
    """Exiftool finds in the result what it found in the source, inside a maker's note too."""
    source = Metadata(exif=canon(order))
    check_witness(exiftool, tmp_path, source)
    tags, warnings = seen(exiftool, tmp_path / "after.jpg")
    assert tags["Canon:OwnerName"] == "Ada Lovelace"
    assert tags["IFD0:XResolution"] == 300
    assert tags["ExifIFD:ExifImageWidth"] == 800
    assert not warnings


@pytest.mark.slow
@pytest.mark.skipif(not BADINPUT.is_dir(), reason="the collection of real files is not here")
def test_witness_sees_only_meant_changes(exiftool, tmp_path):
    """Of every real block of EXIF and XMP, only tags that are meant to change do, and no warning is new."""
    for name, source in real_metadata():
        if max(map(len, (source.exif or b"", source.xmp or b""))) < 65_000:
            try:
                check_witness(exiftool, tmp_path, source)
            except AssertionError as error:
                raise AssertionError(name) from error


@pytest.mark.slow
def test_witness_reads_the_stamp(exiftool, tmp_path):
    """Exiftool reads the deed, finds nothing to object to, and knows the IPTC term."""
    result, _ = stamped(Metadata(xmp=packet("<xmp:Label>blue</xmp:Label>", 'xmp:CreatorTool="Camera 1"')), DEED)
    path = tmp_path / "after.jpg"
    path.write_bytes(jpeg(xmp=result.xmp))
    tags, warnings = seen(exiftool, path)
    assert not warnings
    assert tags["XMP-xmpMM:History"][0]["SoftwareAgent"] == "Refine 1.2.3"
    assert tags["XMP-refine:Deeds"][0]["Networks"] == [{"Id": "fast-x4", "Sha256": "f2" * 32}]
    assert tags["XMP-iptcExt:DigitalSourceType"] == TERMS + "algorithmicallyEnhanced"
    assert tags["XMP-xmp:CreatorTool"] == "Camera 1"
