"""The contracts of pyproject.toml hold, and each of them can break."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LINT = (sys.executable, "-c", "import sys; from importlinter.cli import lint_imports_command as run; sys.exit(run())")


def linted(folder: Path) -> subprocess.CompletedProcess[str]:
    """What import-linter says of the packages in `folder`."""
    return subprocess.run([*LINT, "--no-cache", "--no-logo"], cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def copied(checkout, tmp_path):
    """The two packages and their contracts, free to be spoilt."""
    for package in ("refine", "pipelines"):
        shutil.copytree(checkout / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "_data"))
    shutil.copy(checkout / "pyproject.toml", tmp_path)
    return tmp_path


def test_layers_hold(checkout):
    """No module imports from a layer above its own, and refine imports no cluster, store or command line."""
    verdict = linted(checkout)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        pytest.param("refine/spec.py", "import dask", "refine knows pixels only", id="dask-in-refine"),
        pytest.param("refine/window.py", "import pipelines", "refine knows pixels only", id="pipelines-in-refine"),
        pytest.param("refine/spec.py", "import refine.resources", "the layers of refine", id="upwards"),
        pytest.param("refine/placeless.py", "", "the layers of refine", id="module-without-a-layer"),
        pytest.param("pipelines/catalog.py", "import pipelines.single", "the layers of pipelines", id="job-in-job"),
        pytest.param("refine/graph.py", "import refine.imagefile", "no pixel arithmetic", id="file-in-arithmetic"),
    ],
)
def test_layers_catch(copied, module, line, broken):
    """An import that the contracts forbid is reported, under the contract it breaks."""
    for needed in ("refine/graph.py", "refine/imagefile.py", "pipelines/single.py", module):
        (copied / needed).open("a").close()
    with (copied / module).open("a") as file:
        file.write(f"\n{line}\n")
    verdict = linted(copied)
    assert verdict.returncode == 1, verdict.stdout + verdict.stderr
    assert any(row.startswith(broken) and row.endswith("BROKEN") for row in verdict.stdout.splitlines()), verdict.stdout
