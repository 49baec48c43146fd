"""XMP put right: what changes, and that nothing else does."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine.spec import Resolution
from refine.xmp import Packet, xmp_for

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
TIFF = "http://ns.adobe.com/tiff/1.0/"
EXIF = "http://ns.adobe.com/exif/1.0/"
NAMESPACES = f'xmlns:rdf="{RDF}" xmlns:tiff="{TIFF}" xmlns:exif="{EXIF}" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
PPI = Resolution(300, 300)


def packet(inside: str, attributes: str = "") -> bytes:
    """An XMP packet with RDF inside, and attributes."""
    return dedent(f"""\
        <?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?>
        <x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="some toolkit">
         <rdf:RDF {NAMESPACES}>
          <rdf:Description rdf:about="" {attributes}>
           {inside}
          </rdf:Description>
         </rdf:RDF>
        </x:xmpmeta>
        <?xpacket end='w'?>""").encode()


RICH = """<!-- a comment -->
   <dc:title xmlns:dc="http://purl.org/dc/elements/1.1/"><rdf:Alt>
     <rdf:li xml:lang="x-default">Grüße &amp; 日本 &#x1F600;</rdf:li><rdf:li xml:lang="de">Titel</rdf:li>
   </rdf:Alt></dc:title>
   <Iptc4xmpCore:AltTextAccessibility xmlns:Iptc4xmpCore="http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/"><rdf:Alt>
     <rdf:li xml:lang="x-default">A dog</rdf:li></rdf:Alt></Iptc4xmpCore:AltTextAccessibility>
   <xmpRights:UsageTerms xmlns:xmpRights="http://ns.adobe.com/xap/1.0/rights/">mine</xmpRights:UsageTerms>
   <odd:thing xmlns:odd="urn:odd" rdf:parseType="Resource"><odd:part odd:attribute="1"/></odd:thing>
   <exif:GPSLatitude>48,8.1N</exif:GPSLatitude>"""


def facts(data: bytes) -> list[tuple[str, dict[str, str], str]]:
    """Every element with attributes and text, by a parser that refine does not use."""
    return [(e.tag, dict(e.attrib), (e.text or "").strip()) for e in ET.fromstring(data.strip(b"\0")).iter()]  # noqa: S314


@pytest.mark.parametrize("form", ["attributes", "elements"])
def test_xmp_changes_only_what_it_must(form):
    """Orientation, dimensions and resolution are the result's in both of RDF's forms; all else is the same."""
    old = {
        "tiff:Orientation": "6",
        "tiff:ImageWidth": "40",
        "tiff:ImageLength": "30",
        "exif:PixelXDimension": "40",
        "exif:PixelYDimension": "30",
        "tiff:XResolution": "72/1",
        "tiff:YResolution": "72/1",
        "tiff:ResolutionUnit": "3",
    }
    new = dict(zip(old, ["1", "700", "500", "700", "500", "300/1", "300/1", "2"], strict=True))

    def written(values: dict[str, str]) -> bytes:
        if form == "attributes":
            return packet(RICH, " ".join(f'{name}="{value}"' for name, value in values.items()))
        return packet(RICH + "".join(f"<{name}>{value}</{name}>" for name, value in values.items()))

    result = xmp_for(written(old), 500, 700, PPI)
    assert facts(result) == facts(written(new))


def test_xmp_keeps_prefixes_and_comments():
    """Names are written as the source writes them: some readers know prefixes only."""
    result = xmp_for(packet(RICH, 'tiff:Orientation="6"'), 5, 7, None).decode()
    for part in ("<!-- a comment -->", "<odd:part", "<Iptc4xmpCore:AltText", 'xmlns:tiff="', "Grüße &amp; 日本 😀"):
        assert part in result
    assert "ns0:" not in result


def test_xmp_keeps_its_layout():
    """A value changes and nothing about it, so that two versions of a sidecar can be compared by eye."""
    source = packet("<tiff:Orientation>6</tiff:Orientation>\n   <tiff:Make>M</tiff:Make>", 'tiff:Model="m"')
    old, new = (data.partition(b"<x:")[2] for data in (source, xmp_for(source, 5, 7, None)))
    assert new.split(b"\n")[:-1] == old.replace(b">6<", b">1<").split(b"\n")[:-1]


def test_xmp_that_holds_stays():
    """Where everything is right already, the bytes are the same, padding and all."""
    source = packet(RICH, 'tiff:Orientation="1" exif:PixelXDimension="7" tiff:XResolution="300/1"') + b" " * 2000
    assert xmp_for(source, 5, 7, PPI) == source
    assert xmp_for(packet(RICH), 5, 7, PPI) == packet(RICH)


def test_xmp_is_right_at_once():
    """Applied to its own result it changes nothing."""
    once = xmp_for(packet(RICH, 'tiff:Orientation="8" exif:PixelXDimension="9"'), 5, 7, PPI)
    assert xmp_for(once, 5, 7, PPI) == once


def test_xmp_thumbnails_and_storage_are_dropped():
    """The old picture in small, and how its samples were stored, are gone, in both forms."""
    thumbs = "<xmp:Thumbnails><rdf:Alt><rdf:li rdf:parseType='Resource'>c2VjcmV0</rdf:li></rdf:Alt></xmp:Thumbnails>"
    bits = "<tiff:BitsPerSample><rdf:Seq><rdf:li>16</rdf:li></rdf:Seq></tiff:BitsPerSample>"
    result = xmp_for(packet(RICH + thumbs + bits, 'tiff:Compression="5"'), 5, 7, None)
    assert facts(result) == facts(packet(RICH))


@pytest.mark.parametrize(("turn", "frame"), [(1, (5, 7)), (1, (10, 14)), (3, (5, 7))])
def test_xmp_subject_area_is_of_its_frame(turn, frame):
    """Where the subject was is kept only in the very frame it is counted in."""
    area = "<exif:SubjectArea><rdf:Seq><rdf:li>1</rdf:li><rdf:li>2</rdf:li></rdf:Seq></exif:SubjectArea>"
    source = packet(area, f'exif:PixelXDimension="7" exif:PixelYDimension="5" tiff:Orientation="{turn}"')
    assert (b"SubjectArea" in xmp_for(source, *frame, None)) is ((turn, frame) == (1, (5, 7)))


def test_xmp_ratio_without_unit_stays():
    """XMP has no resolution without a unit, so a mere ratio leaves what is there."""
    source = packet("", 'tiff:XResolution="72/1" tiff:ResolutionUnit="2"')
    assert xmp_for(source, 5, 7, Resolution(1, 2, "none")) == source


REGION = """<mwg-rs:Regions xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/"
  xmlns:stArea="http://ns.adobe.com/xmp/sType/Area#" xmlns:stDim="http://ns.adobe.com/xap/1.0/sType/Dimensions#"
  rdf:parseType="Resource"><mwg-rs:AppliedToDimensions stDim:w="40" stDim:h="30" stDim:unit="pixel"/>
  <mwg-rs:RegionList><rdf:Bag><rdf:li><rdf:Description mwg-rs:Name="Ada" mwg-rs:Type="Face">{area}</rdf:Description>
  </rdf:li></rdf:Bag></mwg-rs:RegionList></mwg-rs:Regions>"""
ATTRIBUTES = '<mwg-rs:Area stArea:x="0.1" stArea:y="0.2" stArea:w="0.04" stArea:h="0.06" stArea:unit="normalized"/>'
ELEMENTS = """<mwg-rs:Area rdf:parseType="Resource"><stArea:x>0.1</stArea:x><stArea:y>0.2</stArea:y>
  <stArea:w>0.04</stArea:w><stArea:h>0.06</stArea:h></mwg-rs:Area>"""


def turned_by_pixels(orientation: int) -> tuple[float, float, float, float]:
    """The same rectangle found in a picture that numpy has turned as EXIF says."""
    import numpy as np  # noqa: PLC0415

    from refine.metadata import upright  # noqa: PLC0415

    picture = np.zeros((100, 100, 1), np.uint8)
    picture[17:23, 8:12] = 1
    ys, xs, _ = upright(picture, orientation).nonzero()
    y0, y1, x0, x1 = ys.min(), ys.max() + 1, xs.min(), xs.max() + 1
    return (x0 + x1) / 200, (y0 + y1) / 200, (x1 - x0) / 100, (y1 - y0) / 100


@pytest.mark.parametrize("area", [ATTRIBUTES, ELEMENTS], ids=["attributes", "elements"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_xmp_regions_turn_with_the_picture(orientation, area):
    """A face's rectangle lies where the face lies in the upright picture, and is of a frame of the new size."""
    source = packet(REGION.format(area=area), 'tiff:Orientation="1"')
    result = ET.fromstring(xmp_for(source, 80, 60, None, orientation))  # noqa: S314
    region = next(result.iter("{http://www.metadataworkinggroup.com/schemas/regions/}Area"))
    prefix = "{http://ns.adobe.com/xmp/sType/Area#}"
    found = [float(region.get(prefix + name) or region.findtext(prefix + name, "")) for name in "xywh"]
    assert found == pytest.approx(turned_by_pixels(orientation), abs=1e-6)
    frame = next(result.iter("{http://www.metadataworkinggroup.com/schemas/regions/}AppliedToDimensions"))
    prefix = "{http://ns.adobe.com/xap/1.0/sType/Dimensions#}"
    assert (frame.get(prefix + "w"), frame.get(prefix + "h")) == ("60", "80")


def test_xmp_orientation_of_exif_goes_first():
    """Pixels are turned as EXIF says; what XMP says counts where there is no EXIF."""
    source = packet(REGION.format(area=ATTRIBUTES), 'tiff:Orientation="3"')
    assert b'stArea:x="0.9"' in xmp_for(source, 80, 60, None)
    assert b'stArea:x="0.1"' in xmp_for(source, 80, 60, None, 1)
    assert b'stArea:x="0.8"' in xmp_for(source, 80, 60, None, 6)


BOMB = b"""<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><x>&b;</x>"""


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not well formed"),
        (b"<x:xmpmeta", "not well formed"),
        (packet("<tiff:Make>"), "not well formed"),
        (packet("")[:-60], "not well formed"),
        (packet("").replace(b"some toolkit", b"\xff\xfe"), "not well formed"),
        (packet("").decode().encode("utf-16"), "not well formed"),
        (b"<html/>", "no RDF"),
        (BOMB, "document type"),
        (b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>', "document type"),
        (packet("<a/>" * 200_000), "more than 200,000"),
        (packet("<a>" * 5000 + "</a>" * 5000), "depth"),
    ],
    ids=["empty", "cut", "unclosed", "truncated", "Latin", "UTF-16", "HTML", "entities", "outside", "many", "deep"],
)
def test_xmp_malformed_is_refused(data, why):
    """What is no packet, or one made to exhaust its reader, is a ValueError that says why."""
    with pytest.raises(ValueError, match=why):
        xmp_for(data, 5, 7, PPI)


def test_xmp_of_16_mb_is_read():
    """One long text is no attack: depth maps travel so."""
    source = packet(f"<odd:map xmlns:odd='urn:odd'>{'A' * (16 << 20)}</odd:map>", 'tiff:Orientation="6"')
    result = xmp_for(source, 5, 7, None)
    assert len(result) > 16 << 20
    assert b'tiff:Orientation="1"' in result


def test_xmp_is_utf_8_whatever_it_says():
    """A declaration of another encoding is of a time before the packet was put in its file."""
    source = b'<?xml version="1.0" encoding="iso-8859-1"?>' + packet(RICH, 'tiff:Orientation="6"')
    assert "Grüße" in xmp_for(source, 5, 7, None).decode()


def test_xmp_repeated_properties_are_all_put_right():
    """Packets in many descriptions, with a property in two of them, are right in both."""
    parts = b'<rdf:Description rdf:about="" tiff:Orientation="6"/>' * 2
    source = packet("").replace(b"</rdf:RDF>", parts + b"</rdf:RDF>")
    assert xmp_for(source, 5, 7, None).count(b'tiff:Orientation="1"') == 2


def test_xmp_bom_and_padding_are_not_content():
    """A byte order mark before and zeros behind a packet, as TIFF and old programs have them, are no fault."""
    source = b"\xef\xbb\xbf" + packet("", 'tiff:Orientation="6"') + bytes(20)
    assert b'tiff:Orientation="1"' in xmp_for(source, 5, 7, None)


def test_packet_without_wrapper_gets_one():
    """Bare RDF is read, and written with the wrapper by which scanners find a packet."""
    bare = f'<rdf:RDF {NAMESPACES}><rdf:Description tiff:Orientation="6"/></rdf:RDF>'.encode()
    result = xmp_for(bare, 5, 7, None)
    assert result.startswith('<?xpacket begin="\ufeff"'.encode())
    assert result.endswith(b'<?xpacket end="w"?>')


def test_packet_append_to_an_odd_history():
    """A property that is no list, as text or attribute, makes way for a list: RDF allows no second one."""
    name = f"{{{TIFF}}}History"
    for source in (packet("<tiff:History>odd</tiff:History>"), packet("", 'tiff:History="odd"'), packet("")):
        found = Packet(source)
        found.append(name, {f"{{{TIFF}}}part": "new"}, {"tiff": TIFF})
        assert found.data().count(b"<rdf:li") == 1
        assert b"odd" not in found.data()
        again = Packet(found.data())
        again.append(name, "text", {"tiff": TIFF})
        assert again.data().count(b"<rdf:li") == 2
        assert again.data().count(b"<tiff:History") == 1


@given(st.text(max_size=40))
def test_packet_takes_any_text(text):
    """Whatever a text holds, the packet stays well formed, and reads back but for what XML cannot hold."""
    found = Packet()
    found.append("{urn:x}list", [text], {"x": "urn:x"})
    back = ET.fromstring(found.data())  # noqa: S314
    item = next(e for e in back.iter(f"{{{RDF}}}li") if not len(e))
    if text.isprintable():
        assert (item.text or "") == text


MARKUP = ["<rdf:Description", ' tiff:Orientation="6"', ' rdf:about=""', ">", "/>", "</rdf:Description>", "<", "<?x?>"]
TEXTS = ["<tiff:Orientation>", "6", "</tiff:Orientation>", "<!--", "-->", "<![CDATA[", "]]>", "&amp;", "&x;", "\ufffe"]
PIECES = st.sampled_from([*MARKUP, *TEXTS])


@given(st.lists(PIECES, max_size=12), st.binary(max_size=20))
def test_xmp_never_fails_otherwise(pieces, junk):
    """Any text gives a packet or a ValueError."""
    for data in (packet("".join(pieces)), junk, packet("")[: len(junk) * 20] + junk):
        try:
            result = xmp_for(data, 5, 7, PPI)
        except ValueError as error:
            assert "XMP" in str(error)  # noqa: PT017
        else:
            assert xmp_for(result, 5, 7, PPI) == result
