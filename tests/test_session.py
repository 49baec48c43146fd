from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime as ort
import pytest
import strategies as made

from refine import session
from refine.chain import Chain
from refine.errors import ProgramError
from refine.program import Program
from refine.resample import Resample
from refine.session import Engine, execution_class
from refine.sharpen import UnsharpMask

CHAIN = Chain((Resample(), UnsharpMask(0.8)))


def small_program() -> Program:
    """A program that opens quickly."""
    return made.plan_for(made.picture(10, 10, 3), CHAIN, (25, 25)).program


@pytest.fixture
def opened(monkeypatch):
    """Starts without sessions; collects the keys of those that are opened."""
    monkeypatch.setattr(session, "_sessions", type(session._sessions)())
    honest, keys = session._opened, []

    def counted(program, engine):
        keys.append((program.digest, engine))
        return honest(program, engine)

    monkeypatch.setattr(session, "_opened", counted)
    return keys


def test_session_is_opened_once_by_many_threads(opened):
    """Threads that want one program at the same moment share one session, opened once."""
    program, gate = small_program(), threading.Barrier(8)

    def get() -> int:
        gate.wait()
        return id(session._session(program, Engine()))

    with ThreadPoolExecutor(8) as pool:
        ids = {future.result() for future in [pool.submit(get) for _ in range(8)]}
    assert len(ids) == 1
    assert opened == [(program.digest, Engine())]


def test_engines_have_sessions_of_their_own(opened):
    """One program under two numbers of threads is two sessions; asked for again, they are still there."""
    program = small_program()
    for threads in (1, 2, 1, 2):
        session._session(program, Engine(threads=threads))
    assert [engine.threads for _, engine in opened] == [1, 2]


def test_sessions_are_forgotten_oldest_first(opened):
    """Few sessions are kept: the one not used for longest goes, and opens again when it is wanted."""
    programs = [
        made.plan_for(made.picture(10, 10, 3), Chain((UnsharpMask(sigma),)), (10, 10)).program
        for sigma in (0.5, 1.0, 1.33, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
    ]
    first, *others = programs
    assert len({program.digest for program in programs}) == len(programs) == session._KEPT + 1
    for program in (first, *others[:-1], first, others[-1]):
        session._session(program, Engine())
    assert len(opened) == len(programs)
    session._session(first, Engine())
    assert len(opened) == len(programs)
    session._session(others[0], Engine())
    assert len(opened) == len(programs) + 1


def test_concurrent_runs_of_one_session_agree():
    """Two threads that run one session at once get what each would get alone."""
    pictures = [made.picture(40, 40, 3, seed=seed) for seed in range(6)]
    alone = [made.restored(pixels, CHAIN, (100, 100), tile=32, block=32) for pixels in pictures]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda p: made.restored(p, CHAIN, (100, 100), tile=32, block=32), pictures))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_unknown_provider_is_refused():
    """A provider that is not known is refused with those that are."""
    with pytest.raises(ProgramError, match="unknown provider 'tpu'; use one of cpu, cuda"):
        Engine("tpu")


@pytest.mark.skipif("CUDAExecutionProvider" in ort.get_available_providers(), reason="this onnxruntime has CUDA")
def test_absent_cuda_is_one_clear_error(opened):
    """CUDA asked for but not there is an error that names the way out; it does not fall back in silence."""
    with pytest.raises(ProgramError, match=r"provider 'cuda' is not in this onnxruntime; install .*, or use 'cpu'"):
        session._session(small_program(), Engine("cuda"))
    assert not session._sessions


def test_fallback_is_an_error(monkeypatch, opened):
    """A provider that onnxruntime lists but then drops is read back and refused."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    honest = ort.InferenceSession

    def dropped(model, options, providers):
        assert [p if isinstance(p, str) else p[0] for p in providers] == [
            "CUDAExecutionProvider",
            "CPUExecutionProvider",
        ]
        return honest(model, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(ort, "InferenceSession", dropped)
    with pytest.raises(ProgramError, match=r"asked for 'cuda', got .*CPUExecutionProvider.*fell back"):
        session._session(small_program(), Engine("cuda"))


def test_session_runs_on_what_was_asked_for():
    """The provider is read back from the session, and threads are those of the engine."""
    found = session._session(small_program(), Engine(threads=2))
    assert found.get_providers() == ["CPUExecutionProvider"]
    assert found.get_session_options().intra_op_num_threads == 2
    assert found.get_session_options().inter_op_num_threads == 1


def test_failure_names_program_and_block(capfd):
    """A program that cannot run says which program and which block, in one line."""
    with pytest.raises(ProgramError, match=r"program [0-9a-f]{12} failed on a block of \(8, 8, 3\)") as failed:
        session.run(small_program(), Engine(), np.zeros((8, 8, 3), np.uint8), {})
    assert "\n" not in str(failed.value)


def test_execution_class_names_what_bytes_depend_on():
    """Version, provider and block are in it; threads, which change no byte, are not."""
    assert execution_class(Engine(), 512) == execution_class(Engine(threads=4), 512)
    assert execution_class(Engine(), 512) != execution_class(Engine(), 256)
    assert execution_class(Engine(), 512) != execution_class(Engine("cuda"), 512)
    assert ort.__version__ in execution_class(Engine(), 512)
