"""The process that decodes: `python -m refine.decode_child DESCRIPTOR`, started by `refine.decoder`.

Reads requests, one JSON object a line, from stdin; answers likewise on stdout, first with `{"ready": true}`:
`{"path", "page", "limits", "pixels"}` -> `{"spec"}`, then `{"done"}` if pixels were wanted; or `{"error", "message"}`.
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
from typing import TypedDict, cast

import numpy as np

from refine.errors import ImageReadError, LimitError
from refine.imagefile import copies, read_pixels, read_spec
from refine.limits import Limits
from refine.spec import ImageSpec, Metadata, Resolution

_SET_PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of prctl(2)."""
_ROWS = 1024
"""px; rows handed over at a time."""


class Request(TypedDict):
    """One line of stdin."""

    path: str
    """Absolute."""
    page: int
    """Index of the page in its file."""
    limits: dict[str, float]
    """The fields of `Limits`."""
    pixels: bool
    """Whether pixels are wanted, or the spec alone."""


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
    for line in sys.stdin:
        _forget_warnings()
        _serve(json.loads(line), memory, reply)


def packed(spec: ImageSpec) -> dict[str, object]:
    """A spec as JSON can hold it."""
    blocks = {field.name: _text(getattr(spec.metadata, field.name)) for field in fields(spec.metadata)}
    return asdict(spec) | {"icc": _text(spec.icc), "metadata": blocks}


def unpacked(values: dict[str, object]) -> ImageSpec:
    """The spec that `packed` took apart."""
    found, blocks = values["resolution"], cast("dict[str, str | None]", values["metadata"])
    members = values | {
        "icc": _block(cast("str | None", values["icc"])),
        "resolution": Resolution(**found) if isinstance(found, dict) else None,
        "metadata": Metadata(**{name: _block(text) for name, text in blocks.items()}),
        "notes": tuple(cast("list[str]", values["notes"])),
    }
    return ImageSpec(**members)  # type: ignore[arg-type]


def _text(block: bytes | None) -> str | None:
    return None if block is None else base64.b64encode(block).decode("ascii")


def _block(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def _serve(request: Request, memory: int, reply: Callable[[Mapping[str, object]], None]) -> None:
    path, limits = Path(request["path"]), Limits(**request["limits"])  # type: ignore[arg-type]
    allowed = limits.decode_mem(0, 0)
    try:
        at_rest = _address_space()
        _allow(at_rest + allowed)
        spec = read_spec(path, limits, request["page"])
        reply({"spec": packed(spec)})
        if request["pixels"]:
            allowed = limits.decode_mem(spec.nbytes, path.stat().st_size, copies(spec))
            _allow(at_rest + allowed)
            _hand_over(path, spec, limits, memory)
            reply({"done": True})
    except ImageReadError as error:
        reply({"error": type(error).__name__, "message": str(error)})
    except MemoryError:
        why = f"decoding needs more than the {allowed / 1e6:,.0f} MB it is allowed; raise headroom_mem if you trust it"
        reply({"error": LimitError.__name__, "message": f"{path.name}: {why}"})
    finally:
        _allow(resource.RLIM_INFINITY)


def _hand_over(path: Path, spec: ImageSpec, limits: Limits, memory: int) -> None:
    """Decode, and write the pixels into the shared file: measured twice as fast as copying into a mapping of it."""
    pixels = read_pixels(path, spec, limits)
    at = 0
    for y in range(0, spec.height, _ROWS):
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
