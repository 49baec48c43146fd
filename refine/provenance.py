"""What of a picture's metadata goes with its result, and what is written down of how the result was made.

Nothing here holds a time or a random number: the same source and the same deed give the same bytes.
Malformed metadata never stops a picture. It is left out, and a note says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from math import isfinite

from refine.exif import exif_for
from refine.metadata import read_exif
from refine.spec import Metadata, Resolution
from refine.xmp import Packet, Value, xmp_for

NAMESPACE = "urn:x-refine:1:"
"""Of our own properties in XMP. A name, not an address."""
_OURS = {"refine": NAMESPACE}
_MEDIA = {"xmpMM": "http://ns.adobe.com/xap/1.0/mm/", "stEvt": "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"}
_IPTC = {"Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"}
_HISTORY = f"{{{_MEDIA['xmpMM']}}}History"
_SOURCE_TYPE = f"{{{_IPTC['Iptc4xmpExt']}}}DigitalSourceType"
_TERMS = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_WEAKER = frozenset(
    (
        "digitalCapture",
        "computationalCapture",
        "negativeFilm",
        "positiveFilm",
        "print",
        "minorHumanEdits",
        "humanEdits",
    )
)
"""IPTC terms that a network's work makes untrue. All others, and those to come, say as much or more, and stay."""


@dataclass(frozen=True, slots=True)
class Deed:
    """What was done to a picture, as far as its pixels depend on it."""

    program: str
    """Name of the program."""
    version: str
    """Its version."""
    scale: float
    """Output px per source px."""
    steps: tuple[str, ...] = ()
    """The steps in their order, each with its strengths, as text: `unsharp sigma=0.8 amount=0.4`."""
    nets: tuple[tuple[str, str], ...] = ()
    """Id and sha256 of each network."""
    generative: bool = False
    """Whether one of them was trained to make up detail (adversarial, diffusion), not to come near the truth."""
    execution_class: str = ""
    """Within which the same source gives the same bytes."""


def carried(
    metadata: Metadata, height: int, width: int, resolution: Resolution | None, orientation: int | None = None
) -> tuple[Metadata, tuple[str, ...]]:
    """What of a source's metadata holds for an upright result of (height, width) px, and notes on what was left out.

    resolution is that of the result. It takes the place of what EXIF and XMP state, so the ppi value stays as the
    source has it unless the caller gives another one; None leaves theirs alone. orientation is the one by which the
    pixels were turned, `ImageSpec.orientation`; None: the one that EXIF states, or XMP where there is no EXIF.
    IPTC stays byte for byte. What changes in EXIF and XMP stands in `refine.exif` and `refine.xmp`. Where all holds,
    the bytes are the same.
    """
    stated = resolution if resolution and all(isfinite(r) and r > 0 for r in (resolution.x, resolution.y)) else None
    notes = []
    exif, xmp = metadata.exif, metadata.xmp
    if exif is not None:
        orientation = orientation or read_exif(exif).orientation
        try:
            exif = exif_for(exif, height, width, stated)
        except ValueError as error:
            exif = None
            notes.append(f"EXIF left out: {error}")
    if xmp is not None:
        # Few programs turn by XMP alone, and refine does not. What was not done must stay said.
        unheeded = metadata.exif is None and orientation == 1
        try:
            xmp = xmp_for(xmp, height, width, stated, orientation, keep_orientation=unheeded)
        except ValueError as error:
            xmp = None
            notes.append(f"XMP left out: {error}")
    return Metadata(exif, xmp, metadata.iptc), tuple(notes)


def stamped(metadata: Metadata, deed: Deed) -> tuple[Metadata, tuple[str, ...]]:
    """The metadata with a deed written into its XMP, and notes; an XMP packet is made where there is none.

    xmpMM:History gets an event without a time, refine:Deeds the whole deed; both after what is there already.
    xmp:CreatorTool stays: it names what made the source. Where a network was used, Iptc4xmpExt:DigitalSourceType
    says so, unless the source states a stronger term.
    """
    notes: tuple[str, ...] = ()
    try:
        packet = Packet(metadata.xmp)
    except ValueError as error:
        packet = Packet()
        notes = (f"XMP left out: {error}",)
    packet.append(_HISTORY, _event(deed), _MEDIA)
    packet.append(f"{{{NAMESPACE}}}Deeds", _record(deed), _OURS)
    if deed.nets:
        _state_source_type(packet, generative=deed.generative)
    return replace(metadata, xmp=packet.data()), notes


def stripped(metadata: Metadata) -> Metadata:
    """Nothing, for those who want it. What decides how pixels are read (ICC, resolution) is not metadata here.

    >>> stripped(Metadata(iptc=b"..."))
    Metadata(exif=None, xmp=None, iptc=None)
    """
    del metadata
    return Metadata()


def _event(deed: Deed) -> Value:
    """One line for the history that every XMP reader shows."""
    nets = [f"network {net} sha256 {digest}" for net, digest in deed.nets]
    said = {
        "action": "edited",
        "softwareAgent": f"{deed.program} {deed.version}",
        "changed": "/",
        "parameters": "; ".join([f"scale {deed.scale:.9g}", *deed.steps, *nets]),
    }
    return {f"{{{_MEDIA['stEvt']}}}{name}": value for name, value in said.items()}


def _record(deed: Deed) -> Value:
    """The deed in full, for programs. What is empty is not said."""
    nets = [{f"{{{NAMESPACE}}}Id": net, f"{{{NAMESPACE}}}Sha256": digest} for net, digest in deed.nets]
    said: dict[str, Value] = {
        "Program": deed.program,
        "Version": deed.version,
        "Scale": f"{deed.scale:.9g}",
        "ExecutionClass": deed.execution_class,
        "Steps": deed.steps,
        "Networks": nets,
    }
    return {f"{{{NAMESPACE}}}{name}": value for name, value in said.items() if value}


def _state_source_type(packet: Packet, *, generative: bool) -> None:
    """Say by IPTC's vocabulary that an algorithm altered the picture.

    Definitions of 2024-10 (cv.iptc.org/newscodes/digitalsourcetype): algorithmicallyEnhanced is a "modification or
    correction by algorithm without changing the main content of the media, initiated or configured by a human, such
    as sharpening or applying noise reduction"; compositeWithTrainedAlgorithmicMedia is an "augmentation, correction
    or enhancement using a Generative AI model".
    """
    term = "compositeWithTrainedAlgorithmicMedia" if generative else "algorithmicallyEnhanced"
    weaker = _WEAKER | {"algorithmicallyEnhanced"} if generative else _WEAKER
    stated = packet.text(_SOURCE_TYPE) or ""
    if not stated or re.split("[/:]", stated.rstrip("/"))[-1] in weaker:
        packet.put(_SOURCE_TYPE, _TERMS + term, _IPTC)
