"""Failures: each is of one kind, and each kind has its own way."""

from __future__ import annotations

import numpy as np
import pytest
from strategies_files import picture, write_picture

from pipelines import failures, place
from pipelines.chances import LEAST_BLOCK, Chances, asked_key, note
from pipelines.errors import StoreError
from pipelines.failures import kind_of, pauses
from pipelines.items import Common, Failure, Restore
from pipelines.place import Folder, Spot
from pipelines.targets import Files
from pipelines.tasks import performed
from refine import session
from refine.errors import (
    CrashError,
    DecodeMemoryError,
    ImageReadError,
    ImageWriteError,
    LimitError,
    PlanError,
    ShortOfMemoryError,
)
from refine.limits import Limits
from refine.preset import load_preset
from refine.session import Engine
from refine.settings import Settings, Size

SETTINGS = Settings(load_preset("balanced", {"upscale.nets": "[]"}), Size(scale=2))


def caused(error, cause):
    """An error with a cause."""
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        pytest.param(OSError(5, "Input/output error"), "transient", id="disk"),
        pytest.param(ConnectionResetError("reset"), "transient", id="network"),
        pytest.param(TimeoutError("slow"), "transient", id="timeout"),
        pytest.param(caused(ImageWriteError("a"), OSError(5, "no")), "transient", id="wrapped"),
        pytest.param(FileNotFoundError(2, "gone"), "deterministic", id="gone"),
        pytest.param(PermissionError(13, "no"), "deterministic", id="permission"),
        pytest.param(ImageReadError("damaged"), "deterministic", id="damaged"),
        pytest.param(LimitError("too large"), "deterministic", id="limit"),
        pytest.param(StoreError("was changed"), "deterministic", id="changed"),
        pytest.param(PlanError("too weak"), "deterministic", id="plan"),
        pytest.param(ZeroDivisionError("bug"), "deterministic", id="bug"),
        pytest.param(MemoryError(), "resource", id="memory"),
        pytest.param(np.exceptions.AxisError(3, 2), "deterministic", id="array"),
        pytest.param(ShortOfMemoryError("block"), "resource", id="block"),
        pytest.param(DecodeMemoryError("decoder"), "resource", id="decoder"),
        pytest.param(CrashError("died"), "poison", id="crash"),
    ],
)
def test_failure_has_one_kind(error, kind):
    """What is tried again at once, in smaller blocks, alone, or not at all."""
    assert kind_of(error) == kind


def test_pauses_grow_and_differ(monkeypatch):
    """Each pause is at least half, and at most all, of twice the one before, up to a bound; there are few of them."""
    monkeypatch.setattr(failures, "_MAX_PAUSE_S", 1.0)
    for seen in (list(pauses()) for _ in range(50)):
        assert len(seen) == failures.TRIES - 1
        for number, pause in enumerate(seen):
            full = min(0.2 * 2**number, 1.0)
            assert full / 2 <= pause <= full
    assert len({tuple(pauses()) for _ in range(20)}) == 20


def item_of(folder, name="a.png"):
    """A picture that is to be restored."""
    path = write_picture(folder / name, picture(8, 8))
    status = path.stat()
    return Restore(name, Spot(Folder(folder), name), name, status.st_size, status.st_mtime_ns, SETTINGS, key="ab")


@pytest.mark.parametrize(("error", "tries"), [(OSError(5, "no"), 5), (MemoryError(), 1), (ImageReadError("no"), 1)])
def test_only_the_transient_is_tried_again_at_once(tmp_path, monkeypatch, error, tries):
    """A disk that says no is asked five times; what would fail again is not."""
    monkeypatch.setattr(failures, "_PAUSE_S", 0)
    asked = []

    def refusing(*_):
        asked.append(1)
        raise error

    monkeypatch.setattr(place, "publish", refusing)
    target = Files(Folder(tmp_path / "out"))
    (failure,) = performed((item_of(tmp_path),), Common(Engine(), Limits(), target))
    assert (len(asked), failure.tries, failure.stage, failure.kind) == (tries, tries, "write", kind_of(error))


@pytest.mark.parametrize("said", ["Failed to allocate memory for requested buffer of size 9", "std::bad_alloc"])
def test_program_without_memory_is_told_apart(monkeypatch, said):
    """What onnxruntime says of memory is an error of that kind, and any other of its errors is not."""

    class Refusing:
        def run(self, *_):
            raise RuntimeError(said)

    monkeypatch.setattr(session, "_session", lambda *_: Refusing())
    program = type("Program", (), {"digest": "d", "inputs": {}})()
    with pytest.raises(ShortOfMemoryError, match="8 x 9 px"):
        session.run(program, Engine(), np.zeros((9, 8, 3), np.uint8), {})


def test_want_of_memory_leads_to_smaller_blocks_then_alone(tmp_path):
    """First in smaller blocks, as another class of bytes, then alone, then no more."""
    chances, item = Chances(), item_of(tmp_path)
    failure = Failure("restore", "no memory", kind="resource")
    first = chances.another(item, failure)
    assert (first.alone, first.item.settings.preset.plan.block) == (False, LEAST_BLOCK)
    assert first.item.key != item.key
    assert asked_key(first.item) == item.key
    assert (note(item), len(note(first.item))) == ((), 1)
    second = chances.another(first.item, failure)
    assert (second.alone, second.item) == (True, first.item)
    assert chances.is_alone(item)
    assert chances.another(second.item, failure) is None
    assert chances.attempts(item) == 3


def test_poison_is_alone_once(tmp_path):
    """What ended its decoder goes alone, unchanged, and then no more; so does what could not be decoded in memory."""
    for stage, kind in (("read", "poison"), ("restore", "poison"), ("read", "resource"), ("ingest", "resource")):
        chances, item = Chances(), item_of(tmp_path)
        chance = chances.another(item, Failure(stage, "died", kind=kind))
        assert (chance.alone, chance.item) == (True, item)
        assert chances.another(item, Failure(stage, "died", kind=kind)) is None


def test_other_failures_have_no_second_chance(tmp_path):
    """What is wrong with the image stays wrong; what the disk said was asked often enough."""
    for kind in ("deterministic", "transient"):
        assert Chances().another(item_of(tmp_path), Failure("read", "no", kind=kind)) is None
