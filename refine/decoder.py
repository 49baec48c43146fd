"""Decoding in a process of its own: a file that crashes, hangs or swells a codec harms nothing but itself."""

from __future__ import annotations

import json
import logging
import mmap
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

import numpy as np

from refine.decode_child import Request, Wanted, unpacked
from refine.errors import CrashError, DecodeMemoryError, ImageReadError, LimitError
from refine.limits import Limits
from refine.openimage import KEEP_MEM, Storage
from refine.spec import Depth, Image, ImageSpec, Pixels
from refine.tiff import Role
from refine.window import Window

logger = logging.getLogger(__name__)

_COMMAND = (sys.executable, "-P", "-m", "refine.decode_child")
"""-P: the folder the user stands in is no place to import from."""
_MAX_IMAGES = 1000
"""A child is replaced after so many: codecs leak."""
_WINDOWS = 100
"""Windows that count as one image."""
_START_S = 60.0
"""Seconds in which a child must say that it is ready (measured: 0.3)."""
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TIFFFILE_NUM_THREADS")
_ERRORS = {error.__name__: error for error in (ImageReadError, LimitError, DecodeMemoryError)}


class Decoder:
    """Reads image files in a child process, which is started on first need, kept, and replaced when it dies.

    Serves one caller at a time: give each thread its own. Close it, or use it in a `with`.
    Does not pickle; open one in each process.
    """

    def __init__(self, limits: Limits | None = None, command: Sequence[str] = _COMMAND) -> None:
        self.limits = limits or Limits()
        self._command = tuple(command)
        self._child: subprocess.Popen[bytes] | None = None
        self._served = 0.0
        self._memory = _anonymous_file("refine-pixels")
        self._complaints = _anonymous_file("refine-stderr")
        self._unread = b""
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def spec(self, path: Path, page: int = 0) -> ImageSpec:
        """What the header of a file says. Raises ImageReadError or LimitError, as `imagefile.read_spec` does."""
        with self._asked({"want": "spec"}, path, page) as child:
            return self._spec(child, path)

    def read(self, path: Path, page: int = 0) -> Image:
        """The upright pixels of a file and what is known of them.

        Raises ImageReadError or LimitError, as `imagefile.read_image` does, and ImageReadError where the child
        died or took too long.
        """
        with self._pictured(path, page) as spec:
            return Image(self._band(spec.shape, spec.dtype, 0, spec.height), spec)

    def rows(self, path: Path, band: int, page: int = 0) -> Iterator[Pixels]:
        """The upright pixels of a file, `band` rows at a time; decoded once, and never held whole in this process.

        Nothing else can be read until the iterator is used up or closed.
        """
        with self._pictured(path, page) as spec:
            for y in range(0, spec.height, band):
                yield self._band(spec.shape, spec.dtype, y, min(y + band, spec.height))

    def window(self, path: Path, window: Window, page: int = 0, *, keep_mem: int = KEEP_MEM) -> Pixels:
        """The upright pixels (y, x, c) of a window inside an image: those that `read` gives there, byte for byte.

        Of a TIFF only the strips or tiles that hold the window are decoded, and of an uncompressed strip only the
        bytes are read; of other formats the picture is decoded once and kept until another one is read, or `rest`.
        The child keeps the file open, sees when it has changed, and keeps up to `keep_mem` bytes of decoded strips or
        tiles for the next window. Raises as `read` does; what no window needs may be damaged without an error.
        """
        asked = (window.y0, window.x0, window.y1, window.x1)
        with self._asked({"want": "window", "window": asked, "keep_mem": keep_mem}, path, page) as child:
            decoding = cast("int", self._reply(child, path.name, self.limits.decode_base_s)["decoding"])
            answer = self._reply(child, path.name, self.limits.decode_s(decoding))
            height, width, channels = cast("list[int]", answer["shape"])
            return self._band((height, width, channels), cast("Depth", answer["dtype"]), 0, height)

    def storage(self, path: Path, page: int = 0) -> tuple[ImageSpec, Storage]:
        """What the header of a page says, and how its pixels lie in the file. Raises as `spec` does."""
        with self._asked({"want": "storage"}, path, page) as child:
            answer = self._reply(child, path.name, self.limits.decode_base_s)
            found = Storage(**cast("dict[str, int]", answer["storage"]))  # type: ignore[arg-type]
            return unpacked(cast("dict[str, object]", answer["spec"])), found

    def page_roles(self, path: Path) -> tuple[tuple[Role, ...], str | None]:
        """What each page of a TIFF is, and what is wrong with the chain of them, if anything is. Raises as `spec`."""
        with self._asked({"want": "pages"}, path) as child:
            answer = self._reply(child, path.name, self.limits.decode_base_s)
            return tuple(cast("list[Role]", answer["roles"])), cast("str | None", answer["broken"])

    def rest(self) -> None:
        """Have the child close the files that it keeps open for `window`, and let go of what it decoded of them."""
        if self._child is not None:
            with self._asked({"want": "rest"}, Path()) as child:
                self._reply(child, "the decoder", self.limits.decode_base_s)

    def close(self) -> None:
        """End the child and give back what was shared with it. A closed decoder reads no more."""
        self._stop()
        self._memory.close()
        self._complaints.close()

    @contextmanager
    def _asked(self, wanted: Wanted, path: Path, page: int = 0) -> Iterator[subprocess.Popen[bytes]]:
        """The child, with a request sent; what it shares inside the `with` is gone after it."""
        if not self._lock.acquire(blocking=False):
            raise RuntimeError("a Decoder serves one caller at a time: use up or close its rows() first")
        try:
            child = self._ready_child(1 / _WINDOWS if wanted["want"] == "window" else 1)
            _send(child, {**wanted, "path": str(path.absolute()), "page": page, "limits": asdict(self.limits)})
            yield child
        finally:
            os.ftruncate(self._memory.fileno(), 0)
            self._lock.release()

    @contextmanager
    def _pictured(self, path: Path, page: int) -> Iterator[ImageSpec]:
        """The spec of a file; inside the `with`, its pixels lie in the shared memory."""
        with self._asked({"want": "pixels"}, path, page) as child:
            spec = self._spec(child, path)
            self._reply(child, path.name, self.limits.decode_s(spec.height * spec.width))
            yield spec

    def _spec(self, child: subprocess.Popen[bytes], path: Path) -> ImageSpec:
        answer = self._reply(child, path.name, self.limits.decode_base_s)
        return unpacked(cast("dict[str, object]", answer["spec"]))

    def _band(self, shape: tuple[int, int, int], dtype: Depth, start: int, stop: int) -> Pixels:
        """Rows of the pixels in the shared memory, copied out."""
        _, width, channels = shape
        row_nbytes = width * channels * np.dtype(dtype).itemsize
        first = start * row_nbytes // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        stop_at = stop * row_nbytes
        # A mapping is copied in half the time of a read, and is gone again when it is closed.
        with mmap.mmap(self._memory.fileno(), stop_at - first, prot=mmap.PROT_READ, offset=first) as mapped:
            data = np.frombuffer(mapped, dtype, offset=start * row_nbytes - first)
            rows = data.reshape(stop - start, width, channels).copy()
            del data  # a mapping that is looked into cannot be closed
        return cast("Pixels", rows)

    def _ready_child(self, cost: float) -> subprocess.Popen[bytes]:
        """The child, a new one where there is none, it has ended, or it has served enough."""
        if self._child is not None and (self._child.poll() is not None or self._served >= _MAX_IMAGES):
            self._stop()
        if self._child is None:
            self._child = self._started()
            self._served = 0
            self._reply(self._child, "the decoder", _START_S)
        self._served += cost
        return self._child

    def _started(self) -> subprocess.Popen[bytes]:
        """A new child. Its own session: an interrupt at the terminal is the parent's business."""
        memory = self._memory.fileno()
        root = str(Path(__file__).parents[1])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._unread = b""
        return subprocess.Popen(
            [*self._command, str(memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            bufsize=0,
            pass_fds=(memory,),
            start_new_session=True,
            env={**os.environ, **dict.fromkeys(_ONE_THREAD, "1"), "PYTHONPATH": os.pathsep.join(paths)},
        )

    def _reply(self, child: subprocess.Popen[bytes], name: str, wait_s: float) -> dict[str, object]:
        """The child's next line. Raises what it says, or what its end or silence means."""
        assert child.stdout is not None
        deadline = time.monotonic() + wait_s
        pieces = [self._unread]
        while b"\n" not in pieces[-1]:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([child.stdout], [], [], left_s)[0]:
                self._stop()
                raise CrashError(
                    f"{name}: decoding took longer than {wait_s:g} s; if you trust it: Limits(decode_base_s=...)"
                )
            pieces.append(os.read(child.stdout.fileno(), 1 << 20))
            if not pieces[-1]:
                raise CrashError(f"{name}: {self._end()}")
        line, _, self._unread = b"".join(pieces).partition(b"\n")
        fields = cast("dict[str, object]", json.loads(line))
        if "error" in fields:
            raise _ERRORS[str(fields["error"])](fields["message"])
        return fields

    def _end(self) -> str:
        """What to say of a child that has ended of itself."""
        child, self._child = self._child, None
        assert child is not None
        _close_pipes(child)
        code = child.wait()
        self._complaints.seek(0)
        said = self._complaints.read().decode("utf-8", "replace").strip().splitlines()
        logger.debug("the decoder ended with %s: %s", code, said)
        if code < 0:
            return f"the decoder died on this file (signal {-code}, {signal.Signals(-code).name})"
        return f"the decoder ended on this file (code {code}{': ' + said[-1][:200] if said else ''})"

    def _stop(self) -> None:
        """End the child, if there is one. It holds nothing worth a farewell."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            _close_pipes(child)
            child.wait()


def _send(child: subprocess.Popen[bytes], request: Request) -> None:
    assert child.stdin is not None
    try:
        child.stdin.write(json.dumps(request).encode("ascii") + b"\n")
    except BrokenPipeError:
        return  # it has died; the missing reply says how


def _close_pipes(child: subprocess.Popen[bytes]) -> None:
    for pipe in (child.stdin, child.stdout):
        assert pipe is not None
        pipe.close()


def _anonymous_file(name: str) -> BinaryIO:
    """A file without a name: in memory where the system has such, else in the temporary folder."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create(name), "w+b", buffering=0)  # noqa: PTH123  closed by the decoder
    return cast("BinaryIO", tempfile.TemporaryFile(buffering=0))
