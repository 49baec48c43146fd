"""onnxruntime sessions: one per process and program, opened under a lock."""

from __future__ import annotations

import platform
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from refine.errors import ProgramError, ShortOfMemoryError
from refine.program import Program
from refine.spec import Pixels

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_CUDA = {
    # One block shape a plan: no search per shape; memory grows by what is asked; no reduced precision.
    "cudnn_conv_algo_search": "HEURISTIC",
    "arena_extend_strategy": "kSameAsRequested",
    "use_tf32": "0",
}
_KEPT = 8
_NO_MEMORY = ("Failed to allocate memory", "bad_alloc", "out of memory", "BFCArena")
"""What onnxruntime says where there is not enough, its providers included."""


@dataclass(frozen=True, slots=True)
class Engine:
    """Where and how programs run."""

    provider: str = "cpu"
    """`cpu` or `cuda`."""
    threads: int = 1
    """Threads inside an operator. One per worker thread: cores are shared by processes."""

    def __post_init__(self) -> None:
        if self.provider not in PROVIDERS:
            msg = f"unknown provider {self.provider!r}; use one of {', '.join(PROVIDERS)}"
            raise ProgramError(msg)


_sessions: OrderedDict[tuple[str, Engine], ort.InferenceSession] = OrderedDict()
_lock = Lock()


def run(
    program: Program, engine: Engine, pixels: NDArray[np.generic], inputs: Mapping[str, NDArray[np.generic]]
) -> tuple[Pixels, int]:
    """Run a program on one block (y, x, c), of the type that the program was compiled for.

    Gives the result (y, x, c) and how many of its values were NaN or infinite.
    Inputs that the program does not have are left out.
    """
    fed = {name: value for name, value in inputs.items() if name in program.inputs}
    session = _session(program, engine)
    try:
        block, nonfinite = session.run(["restored", "nonfinite"], {"pixels": pixels[None], **fed})
    except Exception as error:  # onnxruntime raises its own, unnamed, classes
        if isinstance(error, MemoryError) or any(word in str(error) for word in _NO_MEMORY):
            raise ShortOfMemoryError(f"a block of {pixels.shape[1]} x {pixels.shape[0]} px got no memory") from error
        msg = f"program {program.digest[:12]} failed on a block of {pixels.shape}: {str(error).splitlines()[0]}"
        raise ProgramError(msg) from error
    return block[0], int(nonfinite)


def _session(program: Program, engine: Engine) -> ort.InferenceSession:
    key = program.digest, engine
    # Creating a session holds the GIL and its arena; two threads must not both create it.
    with _lock:
        if key not in _sessions:
            _sessions[key] = _opened(program, engine)
            if len(_sessions) > _KEPT:
                _sessions.popitem(last=False)
        _sessions.move_to_end(key)
        return _sessions[key]


def providers() -> list[str]:
    """What this onnxruntime can run on, by its own names."""
    return list(ort.get_available_providers())


def check_available(engine: Engine) -> None:
    """Raise ProgramError where this installation has no such provider: better before a job than in each image of it."""
    if PROVIDERS[engine.provider] not in providers():
        msg = f"provider {engine.provider!r} is not in this onnxruntime; install onnxruntime-gpu, or use 'cpu'"
        raise ProgramError(msg)


def _opened(program: Program, engine: Engine) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = engine.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Patterns are kept per shape, and shapes are many in a catalog.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    name = PROVIDERS[engine.provider]
    check_available(engine)
    wanted: list[str | tuple[str, dict[str, str]]] = ["CPUExecutionProvider"]
    if engine.provider == "cuda":
        wanted.insert(0, (name, _CUDA))
    session = ort.InferenceSession(program.model, options, providers=wanted)
    if name not in session.get_providers():
        msg = (
            f"asked for {engine.provider!r}, got {session.get_providers()}: onnxruntime fell back; use 'cpu' to mean it"
        )
        raise ProgramError(msg)
    return session


@lru_cache
def execution_class(engine: Engine, block: int) -> str:
    """What result bytes are promised for: onnxruntime, provider, kind of processor, compute block.

    Threads are not in it: they share out rows and change no sum.
    """
    chip = _instruction_set() if engine.provider == "cpu" else engine.provider
    return f"onnxruntime-{ort.__version__}/{engine.provider}/{platform.machine()}-{chip}/block-{block}"


def _instruction_set() -> str:
    """The widest vector instructions that onnxruntime's kernels choose between."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return platform.processor() or "unknown"
    line = next((row for row in flags.splitlines() if row.startswith(("flags", "Features"))), "")
    known = ("amx_tile", "avx512_vnni", "avx512f", "avx2", "avx", "asimd")
    return next((name for name in known if name in line.split()), "generic")
