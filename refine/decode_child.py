"""The process that decodes: `python -m refine.decode_child DESCRIPTOR`, started by `refine.decoder`.

Reads requests, one JSON object a line, from stdin; answers likewise on stdout, first with `{"ready": true}`:
`{"path", "page", "limits", "want"}` -> what is wanted, or `{"error", "message"}`:
`spec` -> `{"spec"}`; `pixels` -> `{"spec"}`, then `{"done"}`; `window` -> `{"decoding"}` (px), then `{"shape",
"dtype"}`; `storage` -> `{"spec", "storage"}`; `pages` -> `{"roles", "broken"}`; `rest` -> `{"done"}`, nothing is open.
Pixels go into the open file DESCRIPTOR, shared with the parent, which has it cut to nothing when it has read them.
"""

from __future__ import annotations

import base64
import ctypes
import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Literal, NotRequired, TypedDict, cast

import numpy as np

from refine.errors import DecodeMemoryError, ImageReadError
from refine.imagefile import copies, one_line, read_pixels, read_spec
from refine.limits import Limits
from refine.openimage import OpenImages
from refine.spec import ImageSpec, Metadata, Pixels, Resolution
from refine.tiff import page_roles
from refine.window import Window

Reply = Callable[[Mapping[str, object]], None]
"""Sends one line to the parent."""

_SET_PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of prctl(2)."""
_ROWS = 1024
"""px; rows handed over at a time."""


class Wanted(TypedDict):
    """What is wanted of a file."""

    want: Literal["spec", "pixels", "window", "storage", "pages", "rest"]
    """What of the file: see above."""
    window: NotRequired[tuple[int, int, int, int]]
    """The fields of a `Window` of the upright picture."""
    keep_mem: NotRequired[int]
    """Bytes of decoded strips or tiles to keep for the windows to come."""


class Request(Wanted):
    """One line of stdin."""

    path: str
    """Absolute."""
    page: int
    """Index of the page in its file."""
    limits: dict[str, float]
    """The fields of `Limits`."""


def main() -> None:
    """Serve requests until stdin ends."""
    _die_with_parent()
    memory = int(sys.argv[1])
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    # Codecs print warnings. Nothing but our replies may reach the parent's pipe.
    os.dup2(2, 1)
    logging.disable()

    def reply(fields: Mapping[str, object]) -> None:
        replies.write(json.dumps(fields) + "\n")
        replies.flush()

    reply({"ready": True})
    images = OpenImages()
    for line in sys.stdin:
        _forget_warnings()
        _serve(json.loads(line), memory, reply, images)


def packed(spec: ImageSpec) -> dict[str, object]:
    """A spec as JSON can hold it."""
    blocks = {field.name: _text(getattr(spec.metadata, field.name)) for field in fields(spec.metadata)}
    return asdict(spec) | {"icc": _text(spec.icc), "metadata": blocks}


def unpacked(values: dict[str, object]) -> ImageSpec:
    """The spec that `packed` took apart."""
    found, blocks = values["resolution"], cast("dict[str, str | None]", values["metadata"])
    steps = cast("list[int] | None", values.get("quantisation"))
    members = values | {
        "icc": _block(cast("str | None", values["icc"])),
        "resolution": Resolution(**found) if isinstance(found, dict) else None,
        "metadata": Metadata(**{name: _block(text) for name, text in blocks.items()}),
        "notes": tuple(cast("list[str]", values["notes"])),
        "quantisation": None if steps is None else tuple(steps),
    }
    return ImageSpec(**members)  # type: ignore[arg-type]


def _text(block: bytes | None) -> str | None:
    return None if block is None else base64.b64encode(block).decode("ascii")


def _block(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def _serve(request: Request, memory: int, reply: Reply, images: OpenImages) -> None:
    path, limits = Path(request["path"]), Limits(**request["limits"])  # type: ignore[arg-type]
    allowed = _Allowance(limits.decode_mem(0, 0))
    try:
        match request["want"]:
            case "spec" | "pixels":
                _serve_image(request, limits, memory, reply, allowed)
            case "window":
                _serve_window(request, limits, memory, reply, images, allowed)
            case "storage":
                image = images.opened(path, limits, request["page"])
                reply({"spec": packed(image.spec), "storage": asdict(image.storage)})
            case "pages":
                with one_line(path.name):
                    roles, broken = page_roles(path, limits)
                reply({"roles": roles, "broken": broken})
            case "rest":
                images.close_all()
                reply({"done": True})
    except ImageReadError as error:
        reply({"error": type(error).__name__, "message": str(error)})
    except MemoryError:
        images.close_all()
        why = f"decoding needs more than the {allowed.nbytes / 1e6:,.0f} MB it is allowed"
        way = "if you trust it: Limits(headroom_mem=...) in Python"
        reply({"error": DecodeMemoryError.__name__, "message": f"{path.name}: {why}; {way}"})
    finally:
        _allow(resource.RLIM_INFINITY)


class _Allowance:
    """Bytes of address space beyond what was in use when the request came."""

    def __init__(self, nbytes: int) -> None:
        self._at_rest = _address_space()
        self.raised(nbytes)

    def raised(self, nbytes: int) -> None:
        """Allow so many."""
        self.nbytes = nbytes
        _allow(self._at_rest + nbytes)


def _serve_image(request: Request, limits: Limits, memory: int, reply: Reply, allowed: _Allowance) -> None:
    path = Path(request["path"])
    spec = read_spec(path, limits, request["page"])
    reply({"spec": packed(spec)})
    if request["want"] == "pixels":
        allowed.raised(limits.decode_mem(spec.nbytes, path.stat().st_size, copies(spec)))
        _hand_over(read_pixels(path, spec, limits), memory)
        reply({"done": True})


def _serve_window(
    request: Request, limits: Limits, memory: int, reply: Reply, images: OpenImages, allowed: _Allowance
) -> None:
    image = images.opened(Path(request["path"]), limits, request["page"])
    window, keep_mem = Window(*request["window"]), request["keep_mem"]
    reply({"decoding": image.decoded_px(window)})
    allowed.raised(image.decode_mem(window, keep_mem))
    pixels = image.window(window, keep_mem)
    _hand_over(pixels, memory)
    reply({"shape": pixels.shape, "dtype": str(pixels.dtype)})


def _hand_over(pixels: Pixels, memory: int) -> None:
    """Write the pixels into the shared file: measured twice as fast as copying into a mapping of it."""
    at = 0
    for y in range(0, len(pixels), _ROWS):
        rows = np.ascontiguousarray(pixels[y : y + _ROWS])  # a view, unless the picture is turned upright here
        data = rows.reshape(-1).view(np.uint8).data
        while data:  # a single call writes at most 2 GiB
            nbytes = os.pwrite(memory, data, at)
            data, at = data[nbytes:], at + nbytes


def _allow(nbytes: int) -> None:
    """Bound the address space; what is in use already stays."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    allowed = [n for n in (nbytes, hard) if n != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(allowed, default=resource.RLIM_INFINITY), hard))


def _address_space() -> int:
    """Bytes of address space in use."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def _forget_warnings() -> None:
    """Empty the file that stderr is, so that what it holds at a sudden end is about the file that caused it."""
    try:
        os.ftruncate(2, 0)
        os.lseek(2, 0, os.SEEK_SET)
    except OSError:  # stderr is a terminal or a pipe: somebody started this by hand
        return


if __name__ == "__main__":
    main()
