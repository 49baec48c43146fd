"""The wheel that users get holds what it needs and nothing else; the tree holds nothing of the machine it grew on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

PYTHON = (sys.executable, "-P")  # -P: the current folder is not importable
MACHINE = re.compile(rb"(?<![\w.*$}\])-])/(?:root|work|home|Users|mnt|opt)/[\w.-]+")
INDEX = re.compile(
    rb"(?i)(?:https?|file)://[^\s\"'<>]*(?:pypi|pythonhosted|conda|simple/|wheels)|--(?:extra-)?index[-]url|--find-links"
)
MAX_NBYTES = 5_000_000


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """The command's standard output; what it said is shown where it fails."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=clean | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built(source: Path, target: Path, kind: str) -> Path:
    """The wheel or sdist of the tree `source`, built without a download."""
    run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", target, cwd=source)
    (file,) = target.iterdir()
    return file


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory):
    """The wheel of this checkout."""
    return built(checkout, tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the wheel installed and nothing else: it is found before any editable install."""
    target = tmp_path_factory.mktemp("installed")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index")
    run(*pip, "--target", target, wheel, cwd=target)
    return target


def files(archive: Path) -> set[str]:
    """Names of the files in a wheel."""
    with zipfile.ZipFile(archive) as opened:
        return set(opened.namelist())


def test_wheel_holds_packages_and_data(wheel, checkout):
    """The wheel holds every file of the packages, preset and network of the checkout, and no other folder of it."""
    held = files(wheel)
    assert {name.split("/")[0] for name in held if ".dist-info" not in name} == {"refine", "pipelines"}
    packages = [p for name in ("refine", "pipelines") for p in (checkout / name).rglob("*") if p.is_file()]
    modules = {p.relative_to(checkout).as_posix() for p in packages if "__pycache__" not in p.parts}
    presets = {f"refine/_data/configs/{p.name}" for p in (checkout / "configs").iterdir()}
    nets = {f"refine/_data/nets/{p.name}" for p in (checkout / "models/nets").iterdir()}
    assert {name for name in held if ".dist-info" not in name} == modules | presets | nets


def test_wheel_from_sdist_is_the_same(wheel, checkout, tmp_path):
    """The wheel built from the sdist holds the same files as the one built from the checkout."""
    archive = built(checkout, tmp_path / "sdist", "sdist")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    again = built(tmp_path / archive.name.removesuffix(".tar.gz"), tmp_path / "again", "wheel")
    assert files(again) == files(wheel)


READ_NET = """
import pathlib, sys, refine, refine.resources
assert refine.__file__.startswith(sys.argv[1]), refine.__file__
print(sorted(net.name for net in refine.resources.nets().iterdir()))
assert (refine.resources.nets() / "fast-x2.onnx").read_bytes() == pathlib.Path(sys.argv[2]).read_bytes()
assert (refine.resources.configs() / "README.md").read_text(encoding="utf-8")
"""


@pytest.mark.parametrize("form", ["installed", "wheel"])  # a folder, and a zip that is never unpacked
def test_resources_read_from(form, request, checkout, tmp_path):
    """Networks and presets are read from an installed wheel, and from inside the unopened one."""
    place = request.getfixturevalue(form)
    net = checkout / "models/nets/fast-x2.onnx"
    listed = run(*PYTHON, "-c", READ_NET, place, net, cwd=tmp_path, PYTHONPATH=str(place))
    assert "fast-x2.onnx" in listed


def test_resources_name_an_incomplete_installation(installed, tmp_path):
    """Without package data the error says what is missing and what to do."""
    (tmp_path / "refine").mkdir()
    for module in ("__init__", "errors", "resources"):
        (tmp_path / f"refine/{module}.py").write_bytes((installed / f"refine/{module}.py").read_bytes())
    (tmp_path / "refine/__init__.py").write_text("")
    script = (
        "import refine.errors as e, refine.resources as r\ntry: r.nets()\nexcept e.RefineError as error: print(error)"
    )
    assert "lacks the folder 'nets'" in run(*PYTHON, "-c", script, cwd=tmp_path, PYTHONPATH=str(tmp_path))


def test_command_answers(installed, checkout, tmp_path):
    """The installed command `refine` starts and shows its help."""
    if not (checkout / "pipelines/cli.py").exists():
        pytest.skip("the command line is not there yet")
    said = run(*PYTHON, installed / "bin/refine", "--help", cwd=tmp_path, PYTHONPATH=str(installed))
    assert "Usage: " in said


def test_version_is_said_once(installed, tmp_path):
    """The distribution's version is the one in refine/_version.py."""
    script = "import importlib.metadata as m, refine._version as v; print(m.version('refine-imaging') == v.__version__)"
    assert run(*PYTHON, "-c", script, cwd=tmp_path, PYTHONPATH=str(installed)).strip() == "True"


@pytest.fixture(scope="module")
def tracked(checkout):
    """The files that are, or would be, in the repository."""
    if not (checkout / ".git").exists():
        pytest.skip("not a git checkout, so which files are tracked is not known")
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=checkout)
    return sorted({path for name in listed.split("\0") if name and (path := checkout / name).is_file()})


def found(pattern: re.Pattern[bytes], paths: list[Path]) -> list[str]:
    """Where the pattern stands in the files."""
    return [f"{path.name}: {hit[0].decode()}" for path in paths for hit in pattern.finditer(path.read_bytes())]


def test_files_name_no_machine(tracked):
    """No file holds an absolute path of the machine it was written on."""
    assert found(MACHINE, tracked) == []


def test_files_name_no_index(tracked):
    """No file holds the address of a package index: where packages come from is the user's to say."""
    assert found(INDEX, [path for path in tracked if path != Path(__file__)]) == []


def test_files_are_small(tracked, checkout):
    """No file but a network is over 5 MB."""
    nets = checkout / "models/nets"
    large = [
        p.name for p in tracked if p.stat().st_size > MAX_NBYTES and not (p.parent == nets and p.suffix == ".onnx")
    ]
    assert large == []


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        pytest.param(MACHINE, b"open('/" + b"home/me/x.png')", id="home"),
        pytest.param(MACHINE, b"see /" + b"work/tree/a.py", id="mount"),
        pytest.param(INDEX, b"pip install --index" + b"-url x", id="index-option"),
        pytest.param(INDEX, b"https://" + b"pypi.org/x", id="index-address"),
    ],
)
def test_searches_find(pattern, line, tmp_path):
    """The two searches above find what they look for."""
    (tmp_path / "planted").write_bytes(line)
    assert found(pattern, [tmp_path / "planted"])


def test_documents_name_real_targets(checkout):
    """Every `make ...` in a document is a target of the Makefile, and the README has the two that set up."""
    targets = set(re.findall(r"^([a-z]+):", (checkout / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"demo", "test", "check", "bench", "slow", "clean"} <= targets
    for document in checkout.glob("*.md"):
        named = set(re.findall(r"`make ([a-z]+)|^\s*make ([a-z]+)", document.read_text(encoding="utf-8"), re.MULTILINE))
        assert {a or b for a, b in named} <= targets, document.name
    if not (checkout / "README.md").exists():
        pytest.skip("there is no README yet")
    readme = (checkout / "README.md").read_text(encoding="utf-8")
    assert re.search(r"make demo\b", readme)
    assert re.search(r"make test\b", readme)
