"""XMP of a result: what its source said, put right for another size and an upright picture.

Read and written by lxml: unlike the standard library's, its trees keep prefixes, comments and unknown parts as they
stand, and libxml2 bounds depth and names. A document type is refused, so there are no entities to expand.
A packet in which nothing has to change stays byte for byte.

- tiff:Orientation becomes 1, unless nobody heeded it; pixel and image dimensions and resolution, where stated, become
  those of the result.
- Regions of faces and the like (mwg-rs) are fractions of the frame; they turn with the picture.
- Dropped: thumbnails; how the source stored its samples; unless the frame is the same, where in it the subject was.
- All else stays: titles, alternative texts, rights, develop settings, histories, unknown namespaces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from lxml import etree

from refine.exif import rational
from refine.spec import Resolution

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_ABOUT = f"{{{_RDF}}}about"
_META = "adobe:ns:meta/"
_TIFF = "http://ns.adobe.com/tiff/1.0/"
_EXIF = "http://ns.adobe.com/exif/1.0/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_REGIONS = "http://www.metadataworkinggroup.com/schemas/regions/"
_AREA = "http://ns.adobe.com/xmp/sType/Area#"
_DIMENSIONS = "http://ns.adobe.com/xap/1.0/sType/Dimensions#"

_THUMBNAILS = f"{{{_XMP}}}Thumbnails"
_SUBJECT = (f"{{{_EXIF}}}SubjectArea", f"{{{_EXIF}}}SubjectLocation")
_STORAGE = tuple(
    f"{{{_TIFF}}}{name}"
    for name in (
        "BitsPerSample",
        "Compression",
        "PhotometricInterpretation",
        "SamplesPerPixel",
        "PlanarConfiguration",
        "YCbCrSubSampling",
    )
)
_MAX_MARKS = 200_000
"""Tags and attributes of a packet. A node takes 100 times the memory of the four bytes that can make one."""
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Control characters, surrogates and non-characters."""
_HEAD = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
_TAIL = '\n<?xpacket end="w"?>'
_EMPTY = f'<x:xmpmeta xmlns:x="{_META}"><rdf:RDF xmlns:rdf="{_RDF}"/></x:xmpmeta>'

_TURNED: dict[int, Callable[[float, float], tuple[float, float]]] = {
    2: lambda x, y: (1 - x, y),
    3: lambda x, y: (1 - x, 1 - y),
    4: lambda x, y: (x, 1 - y),
    5: lambda x, y: (y, x),
    6: lambda x, y: (1 - y, x),
    7: lambda x, y: (1 - y, 1 - x),
    8: lambda x, y: (y, 1 - x),
}
"""Where a point of the stored picture comes to lie, by EXIF orientation; both as fractions of the frame."""


_Element: TypeAlias = etree._Element  # noqa: SLF001 - lxml has no other name for the type of its elements
_Place = tuple[_Element, _Element | None]
"""The element that holds a property, and the property; None where it is an attribute of it."""
Value = str | Sequence["Value"] | Mapping[str, "Value"]
"""Of a property: a text, values in order, or a structure of named values."""


class Packet:
    """A parsed XMP packet. Properties are named as lxml does, `{namespace}name`.

    Raises ValueError where it is no well-formed packet, or one made to exhaust its reader.

    >>> packet = Packet()
    >>> packet.put("{http://purl.org/dc/elements/1.1/}format", "image/png", {"dc": "http://purl.org/dc/elements/1.1/"})
    >>> packet.text("{http://purl.org/dc/elements/1.1/}format")
    'image/png'
    """

    def __init__(self, data: bytes | None = None) -> None:
        source = _EMPTY.encode() if data is None else data.strip(b"\0 \t\r\n")
        if b"<!DOCTYPE" in source:
            raise ValueError("XMP with a document type, which could name entities to expand")
        if source.count(b"<") + source.count(b"=") > _MAX_MARKS:
            raise ValueError(f"XMP of more than {_MAX_MARKS:,} tags and attributes")
        try:
            source.decode("utf-8")
            # Huge: a depth map may be one text of 10 MB. What that would let in is bounded above.
            parser = etree.XMLParser(encoding="utf-8", resolve_entities=False, no_network=True, huge_tree=True)
            root = etree.fromstring(source, parser)
        except (etree.XMLSyntaxError, UnicodeDecodeError) as error:
            raise ValueError(f"XMP is not well formed: {error}") from error
        found = next(root.iter(f"{{{_RDF}}}RDF"), None)
        if found is None:
            raise ValueError("XMP holds no RDF")
        self._root = root
        self._rdf = found
        self._places = _places(found)
        self.changed = data is None

    def data(self) -> bytes:
        """The packet as bytes: UTF-8, no padding."""
        body = str(etree.tostring(self._root, encoding="unicode", with_tail=False))
        return (_HEAD + body + _TAIL).encode("utf-8")

    def text(self, name: str) -> str | None:
        """The value of a simple property."""
        for holder, found in self._places.get(name, ()):
            if found is None:
                return str(holder.attrib[name])
            linked = found.get(f"{{{_RDF}}}resource")
            return str(linked if linked is not None else "".join(found.itertext()).strip())
        return None

    def replace(self, name: str, value: str) -> None:
        """Give a simple property a value, where it is there; everywhere it is there."""
        for holder, found in self._places.get(name, ()):
            self.changed |= _set_attribute(holder, name, value) if found is None else _set_text(found, value)

    def put(self, name: str, value: str, prefixes: dict[str, str]) -> None:
        """Give a simple property a value, whether it is there or not. prefixes: namespaces by prefix."""
        if name not in self._places:
            self._make(name, prefixes)
        self.replace(name, value)

    def drop(self, *names: str) -> None:
        """Take properties out."""
        for name in names:
            for holder, found in self._places.pop(name, ()):
                self.changed = True
                if found is None:
                    del holder.attrib[name]
                else:
                    holder.remove(found)

    def append(self, name: str, value: Value, prefixes: dict[str, str]) -> None:
        """Add a value to the end of an ordered property; the property is made where there is none."""
        found = next((element for _, element in self._places.get(name, ()) if element is not None), None)
        if found is None:
            self.drop(name)
            found = self._make(name, prefixes)
        items = next((items for kind in ("Seq", "Bag", "Alt") for items in found.findall(f"{{{_RDF}}}{kind}")), None)
        if items is None:
            _clear(found)
            items = etree.SubElement(found, f"{{{_RDF}}}Seq")
        _fill(etree.SubElement(items, f"{{{_RDF}}}li", nsmap=prefixes), value)
        self.changed = True

    def turn_regions(self, height: int, width: int, orientation: int) -> None:
        """Put the regions of the Metadata Working Group right: what frame they are of, and where in it they lie."""
        sides = {f"{{{_DIMENSIONS}}}w": str(width), f"{{{_DIMENSIONS}}}h": str(height)}
        for _, regions in self._places.get(f"{{{_REGIONS}}}Regions", ()):
            if regions is None:
                continue
            for frame in regions.iter(f"{{{_REGIONS}}}AppliedToDimensions"):
                for holder in _holders(frame):
                    self.changed |= _set_fields(holder, sides)
            for area in regions.iter(f"{{{_REGIONS}}}Area") if orientation in _TURNED else ():
                for holder in _holders(area):
                    self.changed |= _set_fields(holder, _turned(holder, orientation))

    def _make(self, name: str, prefixes: dict[str, str]) -> _Element:
        """A property that is not there yet, in a description of its own: elsewhere the prefix may mean another."""
        about = next((n.get(_ABOUT) for n in self._rdf.iterchildren("{*}*") if n.get(_ABOUT)), "")
        node = etree.SubElement(self._rdf, f"{{{_RDF}}}Description", nsmap=prefixes)
        node.set(_ABOUT, str(about))
        found = etree.SubElement(node, name)
        self._places[name] = [(node, found)]
        self.changed = True
        return found


def xmp_for(
    data: bytes,
    height: int,
    width: int,
    resolution: Resolution | None,
    orientation: int | None = None,
    *,
    keep_orientation: bool = False,
) -> bytes:
    """The packet put right for an upright result of (height, width) px. Resolution None leaves it as it stands.

    orientation is the one by which the pixels were turned; None: the one that the packet states. keep_orientation:
    what the packet states of it was not heeded and still holds. Raises ValueError where the packet cannot be read.
    """
    packet = Packet(data)
    turn = orientation or _integer(packet.text(f"{{{_TIFF}}}Orientation")) or 1
    frame = tuple(_integer(packet.text(f"{{{_EXIF}}}Pixel{side}Dimension")) for side in "YX")
    packet.drop(_THUMBNAILS, *_STORAGE, *(() if (turn, frame) == (1, (height, width)) else _SUBJECT))
    packet.turn_regions(height, width, turn)
    if not keep_orientation:
        packet.replace(f"{{{_TIFF}}}Orientation", "1")
    for name, value in {"ImageWidth": width, "ImageLength": height}.items():
        packet.replace(f"{{{_TIFF}}}{name}", str(value))
    for name, value in {"PixelXDimension": width, "PixelYDimension": height}.items():
        packet.replace(f"{{{_EXIF}}}{name}", str(value))
    # XMP knows no ratio without a unit: what it says of resolution then stays.
    if resolution is not None and resolution.unit != "none":
        for name, density in {"XResolution": resolution.x, "YResolution": resolution.y}.items():
            packet.replace(f"{{{_TIFF}}}{name}", "{}/{}".format(*rational(density)))
        packet.replace(f"{{{_TIFF}}}ResolutionUnit", {"inch": "2", "cm": "3"}[resolution.unit])
    return packet.data() if packet.changed else data


def _places(rdf: _Element) -> dict[str, list[_Place]]:
    """Where each property stands. One walk, for a packet may have a hundred thousand of them."""
    places: dict[str, list[_Place]] = {}
    for holder in rdf.iterchildren("{*}*"):
        for name in holder.attrib:
            places.setdefault(str(name), []).append((holder, None))
        for found in holder.iterchildren("{*}*"):
            places.setdefault(str(found.tag), []).append((holder, found))
    return places


def _set_attribute(holder: _Element, name: str, value: str) -> bool:
    """Give a property that stands as an attribute a value; whether it had another one."""
    other = bool(holder.get(name) != value)
    holder.set(name, value)
    return other


def _set_text(element: _Element, value: str) -> bool:
    """Give a property that stands as an element a value; whether it had another one."""
    other = bool(len(element) or element.attrib or (element.text or "").strip() != value)
    if other:
        _clear(element)
        element.text = value
    return other


def _set_fields(holder: _Element, values: dict[str, str]) -> bool:
    """Give fields of a structure values, where they are there; whether one had another value."""
    attributes = [_set_attribute(holder, name, value) for name, value in values.items() if name in holder.attrib]
    elements = [_set_text(found, value) for name, value in values.items() for found in holder.findall(name)]
    return any(attributes + elements)


def _holders(structure: _Element) -> list[_Element]:
    """The elements that may hold the fields of a structure."""
    return [structure, *structure.findall(f"{{{_RDF}}}Description")]


def _fill(element: _Element, value: Value) -> None:
    """Write a value into an empty element."""
    if isinstance(value, str):
        element.text = _NOT_XML.sub("\ufffd", value)
    elif isinstance(value, Mapping):
        element.set(f"{{{_RDF}}}parseType", "Resource")
        for name, part in value.items():
            _fill(etree.SubElement(element, name), part)
    else:
        items = etree.SubElement(element, f"{{{_RDF}}}Seq")
        for part in value:
            _fill(etree.SubElement(items, f"{{{_RDF}}}li"), part)


def _clear(element: _Element) -> None:
    """Empty an element, and keep the white space behind it."""
    tail = element.tail
    element.clear()
    element.tail = tail


def _turned(holder: _Element, orientation: int) -> dict[str, str]:
    """The fields of a rectangle, given by its middle and sides, or of a circle or point, in the upright picture."""
    x, y, width, height = (_fraction(holder, name) for name in "xywh")
    if x is None or y is None:
        return {}
    if orientation > 4:
        width, height = height, width
    new = dict(zip("xywh", (*_TURNED[orientation](x, y), width, height), strict=True))
    return {
        f"{{{_AREA}}}{name}": f"{value:.6f}".rstrip("0").rstrip(".") for name, value in new.items() if value is not None
    }


def _fraction(holder: _Element, name: str) -> float | None:
    """A number between 0 and 1."""
    found = holder.get(f"{{{_AREA}}}{name}", holder.findtext(f"{{{_AREA}}}{name}"))
    try:
        value = float(found or "")
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


def _integer(text: str | None) -> int | None:
    """A whole number of up to nine digits."""
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 10 else None
