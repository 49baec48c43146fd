"""onnxruntime keeps nothing of what it is used for, in no process."""

from __future__ import annotations

import os
import subprocess
import sys

import imagecodecs
import numpy as np
import pytest


def left_behind(home, code: str, **more: str) -> tuple[list[str], str]:
    """What a program leaves in an empty home folder, and says on stderr."""
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    kept = {name: value for name, value in kept.items() if not name.startswith("XDG_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**kept, "HOME": str(home), **more}, check=True, capture_output=True
    )
    return sorted(str(path.relative_to(home)) for path in home.rglob("*")), done.stderr.decode()


RESTORED = "import numpy, refine; refine.restore(numpy.zeros((9, 9, 3), 'uint8'), scale=2)"


def test_restoring_leaves_nothing_at_home(tmp_path):
    """A picture is restored without a file in the home folder, nor a word."""
    assert left_behind(tmp_path / "home", RESTORED) == ([], "")


@pytest.mark.parametrize("module", ["refine.session", "pipelines.doctor", "pipelines.cli"])
def test_wherever_one_comes_in_it_is_off(tmp_path, module):
    """Whichever module is imported first, onnxruntime is loaded with its telemetry off."""
    code = (
        f"import sys, os\nimport {module}\nassert 'onnxruntime' in sys.modules\n"
        "assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'"
    )
    assert left_behind(tmp_path / "home", code) == ([], "")


def test_workers_leave_nothing_at_home(tmp_path):
    """Nor do the processes of a cluster, and the decoders they start."""
    (tmp_path / "in").mkdir()
    for number in range(3):
        (tmp_path / "in" / f"{number}.png").write_bytes(imagecodecs.png_encode(np.full((20, 30, 3), 90, np.uint8)))
    code = (
        "import sys\nfrom pipelines.cli import refine\n"
        "if __name__ == '__main__':\n"
        f"    refine(['catalog', {str(tmp_path / 'in')!r}, {str(tmp_path / 'out')!r}, '--workers', '1', '-q'])"
    )
    assert left_behind(tmp_path / "home", code)[0] == []
    assert len(list((tmp_path / "out").glob("*.png"))) == 3


def test_whoever_wants_it_may_have_it(tmp_path):
    """A value that is set is left."""
    code = "import os, refine\nassert os.environ['ORT_DISABLE_TELEMETRY'] == '0'"
    assert left_behind(tmp_path / "home", code, ORT_DISABLE_TELEMETRY="0") == ([], "")
