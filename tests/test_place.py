"""Folders as places, and which place a user's words name."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pipelines.errors import JobError, StoreError
from pipelines.place import Folder, Found, place_of


def test_folder_lists_what_lies_below(tmp_path):
    """Files come folder by folder in the order of names, with size and time; links to folders are not followed."""
    for name in ("b/two.png", "a.png", "b/.hidden/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "round").symlink_to(tmp_path)
    found = list(Folder(tmp_path).listing())
    assert [(f.path, f.size) for f in found] == [("a.png", 5), ("b/.hidden/x", 11), ("b/two.png", 9)]
    assert found[0].mtime_ns == (tmp_path / "a.png").stat().st_mtime_ns
    assert list(Folder(tmp_path).listing("nowhere")) == []


def test_folder_notices_a_change(tmp_path):
    """A file that has another size or time than when it was found is not handed out."""
    place = Folder(tmp_path)
    found = place.publish("deep/in/x.bin", b"12345")
    with place.fetched(found) as path:
        assert path.read_bytes() == b"12345"
    os.utime(tmp_path / "deep/in/x.bin", ns=(0, 7))
    with pytest.raises(StoreError, match=r"deep/in/x\.bin: was changed"):
        place.fetched(found)
    place.remove("deep/in/x.bin")
    place.remove("deep/in/x.bin")
    assert place.stat("deep/in/x.bin") is None
    assert place.stat("deep/in/x.bin/below") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("s3://AKIA:hunter2@shop/in", "credentials into the environment"),
        ("ftp://host/in", "is not read or written"),
        ("s3:///in", "names no bucket"),
    ],
    ids=["secret in the URL", "another protocol", "no bucket"],
)
def test_place_refuses(text, said):
    """What cannot be kept or written safely is refused, and a secret is not repeated."""
    with pytest.raises(JobError, match=said) as caught:
        place_of(text)
    assert "hunter2" not in str(caught.value)


def test_place_without_s3fs_names_the_extra():
    """Where s3fs is missing, the error says how to get it."""
    code = "import sys; sys.modules['s3fs'] = None; from pipelines.place import place_of; place_of('s3://shop/in')"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'refine-imaging[s3]'" in found.stderr.splitlines()[-1]


def test_place_of_a_path_is_a_folder(tmp_path):
    """A plain path, and a file URL, is a folder."""
    assert place_of(str(tmp_path)) == place_of(f"file://{tmp_path}") == Folder(tmp_path)
    assert Found("x", 1) == Found("x", 1, 0, "")
