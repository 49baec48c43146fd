"""The command line: every command is documented, every way out has its code, and stdout is for the result."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import click
import imagecodecs
import numpy as np
import pytest
from click.testing import CliRunner
from strategies_files import assessed_plan, picture, read_picture, small_tree, write_picture

from pipelines import cli
from refine.imagefile import read_image
from refine.preset import load_preset
from refine.settings import Settings, Size
from refine.tiles import restored_pixels

SHIPPED = ["clean-x1", "fast-x2", "fast-x4", "standard-x2", "standard-x4"]
CHEAP = ["--set", "upscale.nets=[]"]


def commands(group=cli.refine, words=()):
    """Every command with its words."""
    for name, command in group.commands.items():
        yield (*words, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))


def run(*words, cwd=None):
    """A process of the real command line."""
    words = [sys.executable, "-m", "pipelines.cli", *map(str, words)]
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd=cwd, timeout=300)


@pytest.fixture
def called(monkeypatch, capsys):
    """The command line in this process: exit code, stdout, stderr."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["refine", *map(str, words)])
        monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capsys.readouterr()
        return left.value.code or 0, said.out, said.err

    return call


@pytest.fixture
def photo(tmp_path):
    """A small picture in a file."""
    return write_picture(tmp_path / "photo.png", picture(40, 50))


@pytest.mark.parametrize(
    ("words", "command"), list(commands()), ids=lambda value: "-".join(value) if isinstance(value, tuple) else ""
)
def test_command_is_documented(words, command):
    """Every command says what it does and gives an example, and every option of it has help."""
    assert command.help
    assert f"Example: refine {words[0]}" in command.help
    undocumented = [p.name for p in command.params if isinstance(p, click.Option) and not p.help]
    assert not undocumented
    assert CliRunner().invoke(cli.refine, [*words, "--help"]).exit_code == 0


def test_restore_equals_the_plain_loop(tmp_path, photo, called):
    """`restore` writes the pixels of the plain loop, into PNG whole and into TIFF tile by tile."""
    settings = Settings(load_preset("balanced", {"upscale.nets": "[]"}), Size(exact=(90, 120)))
    plan = assessed_plan(settings, read_image(photo))
    expected = restored_pixels(read_image(photo).pixels, plan)
    for name in ("large.png", "large.tif"):
        code, out, _ = called("restore", photo, tmp_path / name, "--size", "120x90", *CHEAP)
        assert (code, out.startswith(f"{tmp_path / name}: 120 x 90 px, upscale; ")) == (0, True)
        assert np.array_equal(read_picture(tmp_path / name), expected)


def test_restore_streams_many_tiles_into_tiff(tmp_path, called):
    """A TIFF of several tiles of its file, the last ones cut off, has the pixels of the plain loop."""
    source = write_picture(tmp_path / "a.tif", picture(290, 300, 3, "uint16"))
    assert called("restore", source, tmp_path / "b.tif", "--scale", "2", *CHEAP)[0] == cli.OK
    settings = Settings(load_preset("balanced", {"upscale.nets": "[]"}), Size(scale=2))
    plan = assessed_plan(settings, read_image(source))
    assert np.array_equal(read_picture(tmp_path / "b.tif"), restored_pixels(read_image(source).pixels, plan))


def test_restore_prints_the_contract(tmp_path, photo, called):
    """With --json stdout is one value with the keys that were promised."""
    code, out, _ = called("restore", photo, tmp_path / "b.png", "--json", *CHEAP)
    said = json.loads(out)
    assert code == cli.OK
    promised = {"done", "unchanged", "failed", "quarantined", "flagged", "output_px", "seconds", "report"}
    assert promised <= said.keys()
    assert (said["done"], said["output_px"], said["report"]) == (1, 2000, None)


def test_restore_of_a_broken_file_fails_in_one_line(tmp_path, photo, called):
    """A damaged image: exit code 1, its name and reason on stderr, and no result."""
    photo.write_bytes(photo.read_bytes()[:-300])
    code, out, err = called("restore", photo, tmp_path / "b.png", "--json")
    assert code == cli.FAILED
    assert json.loads(out)["failed"][0]["stage"] == "read"
    assert err.startswith(f"{photo}: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "b.png").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["b.gif"], "names no format"),
        (["."], "is a folder; name a file in it, such as photo.png"),
        (
            ["b.png", "--sharpen", "0.2", "--set", "sharpen.amount=0.6"],
            "and --sharpen are both",
        ),
        (["b.png", "--set", "plan.tile=64", "--set", "plan.tile=32"], "are both for plan.tile; leave one of them out"),
        (["photo.png"], "never overwritten"),
        (["no/b.png"], "does not exist"),
        (["b.png", "--scale", "x"], "is no number"),
        (["b.png", "--size", "10"], "is no size"),
        (["b.png", "--scale", "2", "--long-side", "9"], "give one of them"),
        (["b.png", "--scale", "40"], "too weak for this size"),
        (["b.png", "--set", "sharpen"], "key=value"),
        (["b.png", "--set", "sharpen.amont=1"], "did you mean 'sharpen.amount'"),
        (["b.png", "--preset", "none"], "no preset 'none'"),
        (["b.png", "--net", "none"], "no network 'none'"),
        (["b.tif", "--set", "output.format=png"], "drop one"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_use_is_one_line_and_code_2(tmp_path, photo, called, monkeypatch, words, said):
    """What cannot be done as asked is refused before anything is written, with the way out, and no traceback."""
    monkeypatch.chdir(tmp_path)
    code, out, err = called("restore", photo, *words)
    assert (code, out) == (cli.WRONG, "")
    assert said in err
    assert "Traceback" not in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photo.png"]


def test_an_existing_target_is_kept_unless_it_is_meant(tmp_path, photo, called):
    """Another original in the place of TARGET is refused, untouched; with --overwrite it is written."""
    other = write_picture(tmp_path / "precious.png", picture(9, 12))
    before = other.read_bytes()
    code, out, err = called("restore", photo, other, *CHEAP)
    assert (code, out, other.read_bytes()) == (cli.WRONG, "", before)
    assert "or mean it with --overwrite" in err
    assert called("restore", photo, other, "--overwrite", *CHEAP)[0] == cli.OK
    assert other.read_bytes() != before
    assert called("restore", photo, photo, "--overwrite", *CHEAP)[0] == cli.WRONG


@pytest.mark.parametrize("command", ["restore", "scan"])
def test_a_missing_source_is_wrong_use(tmp_path, called, command):
    """A source that is not there is wrong use in every command, and nothing is made."""
    code, out, err = called(command, tmp_path / "none.png", tmp_path / "b.tif")
    assert (code, out, err.count("\n")) == (cli.WRONG, "", 1)
    assert "none.png" in err


def test_too_large_a_picture_names_a_way_that_is_there(tmp_path, called):
    """A file over the limits of `restore` is sent to the command whose limits hold it."""
    source = tmp_path / "wide.png"
    source.write_bytes(imagecodecs.png_encode(np.zeros((1, 65_501), np.uint8)))
    code, _, err = called("restore", source, tmp_path / "b.tif")
    assert (code, "`refine scan` takes such a file" in err) == (cli.FAILED, True)


def test_what_the_format_cannot_hold_is_refused_before_decoding(tmp_path, called):
    """A cut-out that is to be a JPEG is refused by its header: that its pixels are damaged is not even seen."""
    source = write_picture(tmp_path / "cutout.png", picture(40, 50, 4))
    data = bytearray(source.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    source.write_bytes(data)
    code, _, err = called("restore", source, tmp_path / "b.jpg")
    assert (code, "JPEG holds no alpha; lay it on a colour with --set output.background=#ffffff" in err) == (
        cli.FAILED,
        True,
    )


def test_plan_prints_the_contract_and_writes_nothing(tmp_path, called):
    """`plan` tells tiles, halo and memory, draws the graph if asked, and restores nothing."""
    source = write_picture(tmp_path / "a.png", picture(300, 200))
    words = ["plan", source, "--scale", "2", "--tile", "256", *CHEAP]
    code, out, _ = called(*words, "--json", "--graph", tmp_path / "plan.dot")
    said = json.loads(out)
    promised = {"output", "tiles", "tile", "halo", "exact", "projected_mem", "seconds_estimate", "bytes_estimate"}
    assert (code, promised <= said.keys()) == (0, True)
    assert (said["output"], said["tiles"], said["tile"], said["exact"]) == ([600, 400], 6, 256, True)
    assert (tmp_path / "plan.dot").read_text().count("-> stitch") == 6
    assert "6 of 256 px" in called(*words)[1]


def test_plan_over_its_memory_is_refused(photo, called):
    """A plan that does not fit its memory is refused with code 2."""
    code, _, err = called("plan", photo, "--set", "plan.allowed_mem=1000")
    assert (code, "allow at least" in err) == (cli.WRONG, True)


def test_models_and_doctor_say_what_is_there(called):
    """The networks are listed, and the doctor finds nothing wrong."""
    code, out, _ = called("models", "list", "--json")
    assert (code, [card["id"] for card in json.loads(out)]) == (0, SHIPPED)
    code, out, _ = called("doctor", "--json")
    assert code == cli.OK
    assert all(finding["good"] for finding in json.loads(out))


def test_unexpected_error_is_one_line(photo, called, monkeypatch):
    """Even a bug is one line for the user, who is told how to see more."""

    def broken(*_, **__):
        raise ZeroDivisionError("bug\nsecond line")

    monkeypatch.setattr(cli, "restore_file", broken)
    code, out, err = called("restore", photo, "b.png")
    assert (code, out) == (cli.WRONG, "")
    assert err == "refine: unexpected ZeroDivisionError: bug; run it with -vv to see where\n"


def test_catalog_runs_from_a_shell(tmp_path):
    """The real thing, in its own process with its own cluster: codes 1 and 0, JSON alone on stdout, names of bytes."""
    source = small_tree(tmp_path / "source", 2)
    odd = source / os.fsdecode(b"caf\xe9\n.png")
    odd.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    words = ["catalog", source, tmp_path / "target", "--scale", "2", "--workers", "1", "--json", *CHEAP]
    first = run(*words)
    assert first.returncode == cli.FAILED, first.stderr
    assert json.loads(first.stdout)["done"] == 2
    assert [line for line in first.stderr.splitlines() if line.startswith(r"caf\udce9\n.png: ")]
    assert "Traceback" not in first.stderr
    odd.unlink()
    second = run(*words)
    assert second.returncode == cli.OK, second.stderr
    assert (json.loads(second.stdout)["unchanged"], second.stderr) == (2, "")


def test_poster_tells_before_and_after(tmp_path, photo, called, shared):
    """`--plan` does nothing but tell; the run's JSON has the same promise, the files and the colours beyond reach."""
    order = ["--size", "60x48mm", "--ppi", "72", *CHEAP, "--json"]
    code, out, _ = called("poster", photo, *order, "--plan")
    promised = json.loads(out)
    assert (code, promised["output"], promised["verdict"]) == (0, [136, 170], promised["verdict"])
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]
    code, out, err = called("poster", photo, tmp_path / "a.tif", *order, "--scheduler", shared.address)
    made = json.loads(out)
    assert (code, made["done"]) == (0, 1)
    assert made["poster"]["honest_ppi"] == promised["honest_ppi"]
    assert made["poster"]["files"] == ["a.tif", "a.tif.proof.png"]
    assert made["poster"]["out_of_gamut"] is None
    assert "verdict" in err


@pytest.mark.parametrize(
    ("order", "said"),
    [
        pytest.param(["--size", "huge"], "no size of paper", id="size"),
        pytest.param(["--size", "A4", "--profile", "no.icc"], "no.icc: the profile cannot be read", id="profile"),
        pytest.param(["--size", "1x1m", "--ppi", "1200"], "up to 64 times", id="reach"),
        pytest.param(["--size", "A4", "--ppi", "72"], "too weak for this paper", id="weak"),
        pytest.param(["--size", "60x48mm", "--ppi", "72"], "needs a TARGET", id="target"),
    ],
)
def test_poster_refuses_in_one_line(photo, called, order, said):
    """Exit code 2, one line on stderr, nothing on stdout."""
    target = [] if said == "needs a TARGET" else [photo.with_name("a.tif")]
    code, out, err = called("poster", photo, *target, *order)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1
