"""How a file is published: whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from refine import staging
from refine.errors import ImageWriteError
from refine.staging import publish, staged


def test_publish_replaces_at_one_stroke(tmp_path):
    """The old file is there until the new one is whole, and nothing else stays in the folder."""
    path = tmp_path / "photo.png"
    publish(path, b"old")
    with staged(path) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
        assert temporary.parent == path.parent
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def test_staged_leaves_nothing_when_it_fails(tmp_path):
    """An error inside leaves the old file and no half one."""
    path = tmp_path / "photo.png"
    publish(path, b"old")

    def fail():
        with staged(path) as temporary:
            temporary.write_bytes(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_publish_says_why_it_cannot(tmp_path):
    """A folder that is not there is an ImageWriteError of one line; a name of 255 bytes is no trouble."""
    with pytest.raises(ImageWriteError, match=r"^photo\.png: cannot be stored: "):
        publish(tmp_path / "none" / "photo.png", b"x")
    publish(tmp_path / ("ä" * 125 + ".png"), b"x")


def test_publish_writes_to_disk_before_it_renames(tmp_path, monkeypatch):
    """The file is synchronised before its name changes, its folder after."""
    calls = []
    real = os.fsync
    monkeypatch.setattr(
        staging.os, "fsync", lambda fd: (calls.append(os.path.realpath(f"/proc/self/fd/{fd}")), real(fd))
    )
    publish(tmp_path / "photo.png", b"x")
    assert [Path(call).suffix for call in calls] == [".part", ""]
