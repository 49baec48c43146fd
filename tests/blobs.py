"""Metadata that tests put into files: a profile, an EXIF block, an XMP packet, IPTC records."""

from __future__ import annotations

import struct

from PIL import ImageCms

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY = SRGB[:16] + b"GRAY" + SRGB[20:]
"""Grey by its header, which is what is looked at."""
CMYK = SRGB[:16] + b"CMYK" + SRGB[20:]
XMP = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    b'xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="image/test"/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
IPTC = b"\x1c\x02\x05\x00\x05title\x1c\x02\x78\x00\x07caption"


def entry(tag, kind, count, value):
    """One tag of an EXIF directory, as `directory` wants it."""
    return tag, kind, count, value


def directory(at, entries, order="<"):
    """A directory that begins at `at`, its values behind it. A value is bytes, or a function of where it begins."""
    head = struct.pack(order + "H", len(entries))
    behind = at + 2 + 12 * len(entries) + 4
    values = b""
    for tag, kind, count, value in entries:
        data = value(behind + len(values)) if callable(value) else value
        here = struct.pack(order + "I", behind + len(values))
        inline = data.ljust(4, b"\0") if len(data) <= 4 else here
        values += data + bytes(len(data) % 2) if len(data) > 4 else b""
        head += struct.pack(order + "HHI", tag, kind, count) + inline
    return head + bytes(4) + values


def exif(order="<", orientation=1, dpi=300):
    """An EXIF block with a maker, a date, an exposure with a maker's note, interoperability and a place on earth."""

    def short(value):
        return struct.pack(order + "H", value)

    def ratio(*values):
        return struct.pack(f"{order}{len(values)}I", *values)

    def interoperability(at):
        return directory(at, [entry(1, 2, 4, b"R98\0")], order)

    def exposure(at):
        return directory(
            at,
            [
                entry(33434, 5, 1, ratio(1, 250)),
                entry(36867, 2, 20, b"2020:02:03 04:05:06\0"),
                entry(37386, 5, 1, ratio(50, 1)),
                entry(37500, 7, 23, b"a maker's note, opaque\0"),
                entry(40965, 4, 1, interoperability),
            ],
            order,
        )

    def place(at):
        return directory(at, [entry(1, 2, 2, b"N\0"), entry(2, 5, 3, ratio(1, 1, 2, 1, 3, 1))], order)

    entries = [
        entry(271, 2, 6, b"Maker\0"),
        entry(274, 3, 1, short(orientation)),
        entry(282, 5, 1, ratio(dpi, 1)),
        entry(283, 5, 1, ratio(dpi, 1)),
        entry(296, 3, 1, short(2)),
        entry(306, 2, 20, b"2020:02:03 04:05:06\0"),
        entry(34665, 4, 1, exposure),
        entry(34853, 4, 1, place),
    ]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return head + directory(8, entries, order)
