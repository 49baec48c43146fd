"""What a file is, by its first bytes. The name's ending is never believed."""

from __future__ import annotations

import re

from refine.errors import ImageReadError

HEAD_NBYTES = 512
"""Bytes of a file's beginning that `image_format` wants to see."""

READABLE = "JPEG, PNG, TIFF, WebP, JPEG 2000, GIF and BMP can be read"

_READ = (
    (re.compile(rb"\xff\xd8\xff"), "jpeg"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "png"),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), "tiff"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "webp"),
    (re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"), "jpeg2000"),
    (re.compile(rb"GIF8[79]a"), "gif"),
    (re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL), "bmp"),
)
# Raw files are TIFFs with a private reading of the pixels; these say so in their first bytes.
_RAW = re.compile(rb"II\*\0.{4}CR|IIRO|IIU\0|MMOR|FUJIFILMCCD-RAW|FOVb|\0MRM", re.DOTALL)
_KNOWN = (
    (_RAW, "a camera's raw file"),
    (re.compile(rb"\0\0\0\x0cJXL \r\n\x87\n|\xff\x0a"), "JPEG XL"),
    (re.compile(rb".{4}ftypavi[fs]", re.DOTALL), "AVIF"),
    (re.compile(rb".{4}ftyp(hei[cxms]|hev[cxms]|mif1|msf1)", re.DOTALL), "HEIC"),
    (re.compile(rb".{4}ftyp", re.DOTALL), "a video or a raw file (ISO media)"),
    (re.compile(rb"\xff\xd8"), "a JPEG whose first marker is damaged"),
    (re.compile(rb".?PNG[\r\n]", re.DOTALL), "a PNG damaged by a transfer as text"),
    (re.compile(rb"\x8aMNG"), "MNG"),
    (re.compile(rb"8BPS"), "a Photoshop document"),
    (re.compile(rb"%PDF-"), "PDF"),
    (re.compile(rb"%!PS|\xc5\xd0\xd3\xc6"), "PostScript"),
    (re.compile(rb"II\xbc[\0\x01]"), "JPEG XR"),
    (re.compile(rb"P[1-7][\s#]"), "PNM"),
    (re.compile(rb"#\?(RADIANCE|RGBE)"), "Radiance HDR"),
    (re.compile(rb"v/1\x01"), "OpenEXR"),
    (re.compile(rb"\0\0[\x01\x02]\0[^\0]\0"), "an icon"),
    (re.compile(rb"\x01\xda[\0\x01][\x01\x02]"), "SGI"),
    (re.compile(rb"DDS "), "DDS"),
    (re.compile(rb"qoif"), "QOI"),
    (re.compile(rb"gimp xcf"), "a GIMP document"),
    (re.compile(rb"SIMPLE  ="), "FITS"),
    (re.compile(rb"PK\x03\x04"), "a zip archive"),
    (re.compile(rb"\x1f\x8b"), "a gzip archive"),
    (re.compile(rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!DOCTYPE svg|<svg)", re.DOTALL), "SVG"),
    (re.compile(rb"\s*<(!doctype )?html", re.IGNORECASE), "a web page"),
)
_WAY_OUT = {
    "a camera's raw file": "develop it in a raw converter and save a 16-bit TIFF",
    "HEIC": "export it as JPEG, or convert it with `heif-convert photo.heic photo.png`",
    "AVIF": "convert it to PNG; AVIF is written but not read",
    "JPEG XL": "convert it with `djxl image.jxl image.png`; JPEG XL is written but not read",
    "a Photoshop document": "save it flattened as TIFF",
    "a GIMP document": "export it as PNG or TIFF",
    "PDF": "take its images out with `pdfimages -all`, or render its pages with `pdftoppm -tiff -r 300`",
    "PostScript": "render it with `gs -sDEVICE=png16m -r300`",
    "SVG": "it is no picture of pixels; render it at the size wanted, as with `rsvg-convert`",
    "OpenEXR": "map its tones to 16-bit integers and save a TIFF",
    "Radiance HDR": "map its tones to 16-bit integers and save a TIFF",
    "FITS": "scale it to 16-bit integers and save a TIFF",
    "PNM": "convert it to PNG or TIFF",
    "a zip archive": "unpack it first",
    "a gzip archive": "unpack it first",
}
"""What to do with a file of a kind that is not read."""
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f\x7f]")


def image_format(head: bytes, name: str) -> str:
    """`jpeg`, `png`, `tiff`, `webp`, `jpeg2000`, `gif` or `bmp`, from the first HEAD_NBYTES of a file.

    Raises ImageReadError that says what the file is instead, where that can be told, and what to do with it.
    """
    for pattern, found in _READ:
        if pattern.match(head) and not _RAW.match(head):
            return found
    what = _other(head)
    msg = f"{name}: is {what}; {_WAY_OUT.get(what, READABLE)}"
    raise ImageReadError(msg)


def _other(head: bytes) -> str:
    if not head:
        return "empty"
    for pattern, what in _KNOWN:
        if pattern.match(head):
            return what
    if not head.strip(b"\0"):
        return "all zeros at its beginning"
    return "of no known kind" if _CONTROL.search(head) else "a text file"
