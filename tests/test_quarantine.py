"""Images without a result: listed with a command that shows why, and tried again when asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from strategies_files import picture, small_tree, write_picture

from pipelines import cli, reporting
from pipelines.again import unpacked
from pipelines.brake import Tolerance
from pipelines.catalog import Terms, catalog
from pipelines.errors import JobError
from pipelines.holding import held_ledger
from pipelines.naming import Rendition
from pipelines.quarantine import quoted
from pipelines.recording import last_of
from pipelines.targets import target_of
from refine.preset import load_preset
from refine.settings import Settings, Size

PRESET = {"upscale.nets": "[]", "sharpen.amount": "0.25", "output.format": '"png"', "decide.too_weak": "flag"}
SETTINGS = Settings(load_preset("crisp", PRESET), Size(long_side=60))
NAMES = ["plain.png", "it's $HOME `x`.png", "a b;c&.png", os.fsdecode(b"caf\xe9\n.png"), "-v.png"]


def listed(target):
    """The lines of the list, by path."""
    lines = (target / ".refine/quarantine.jsonl").read_bytes().splitlines()
    return {line["path"]: line for line in map(json.loads, lines)}


def typed(command, cwd):
    """What a shell says to a command."""
    refine = f'refine() {{ "{sys.executable}" -m pipelines.cli "$@"; }}\n'
    words = ["bash", "-c", refine + command]
    return subprocess.run(words, capture_output=True, check=False, cwd=cwd, timeout=300)


@pytest.fixture
def source(tmp_path):
    """Two whole pictures and some broken ones of odd names."""
    source = small_tree(tmp_path / "source", 2)
    whole = write_picture(tmp_path / "whole.png", picture(40, 50)).read_bytes()
    for name in NAMES:
        (source / name).write_bytes(whole[:-300])
    return source


@pytest.mark.parametrize(
    "text", [*NAMES, "", "\\", "$'x'", "\x01\x7f", "\U0001f600", os.fsdecode(bytes(range(1, 256)))]
)
def test_quoted_is_one_word(tmp_path, text):
    """A shell gives back the very bytes, whatever they are."""
    said = subprocess.run(["bash", "-c", f"printf %s {quoted(text)}"], capture_output=True, check=True, cwd=tmp_path)
    assert said.stdout == os.fsencode(text)
    assert quoted(text).isprintable(), "so that it can be copied from a screen"
    assert said.stderr == b""


def test_list_has_reason_limits_and_command(tmp_path, shared, source):
    """Each image without a result has a line; those that have theirs have none."""
    target = tmp_path / "target"
    summary = catalog(source, target, SETTINGS, shared)
    assert summary.done == 2
    found = listed(target)
    assert found.keys() == set(NAMES)
    for name, line in found.items():
        assert (line["state"], line["stage"], line["kind"]) == ("failed", "read", "deterministic")
        assert line["reason"].startswith("damaged PNG")
        assert line["source"] == str(source / name)
        assert line["limits"]["max_pixels"] == 200_000_000
    for path in NAMES:
        (source / path).unlink()
    write_picture(source / "plain.png", picture(9, 9))
    catalog(source, target, SETTINGS, shared, terms=Terms(prune=True))
    assert listed(target) == {}


def test_command_shows_what_is_wrong(tmp_path, shared, source):
    """Typed into a shell, anywhere, the command of each image fails with the reason that the list has."""
    target = tmp_path / "target"
    catalog(source, target, SETTINGS, shared)
    for line in listed(target).values():
        said = typed(line["command"], tmp_path)
        assert said.returncode == cli.FAILED, said.stderr
        assert said.stderr.decode().strip().endswith(line["reason"])
        assert said.stdout == b"" or b"0 done" in said.stdout


def test_command_does_what_the_catalog_does(tmp_path, shared, source):
    """With the file mended, the command's result has the bytes of the catalog's: its settings are the same."""
    target = tmp_path / "target"
    terms = Terms((Rendition("zoom", 80),))
    settings = Settings(SETTINGS.preset)
    catalog(source, target, settings, shared, terms=terms)
    line = listed(target)["plain.png"]
    assert line["rendition"] == "zoom"
    write_picture(source / "plain.png", picture(40, 50))
    command = line["command"].replace('"$(mktemp -d)/result.png"', "mine.png")
    assert command != line["command"]
    assert typed(command, tmp_path).returncode == 0
    catalog(source, target, settings, shared, terms=terms)
    assert (tmp_path / "mine.png").read_bytes() == (target / "zoom/plain.png").read_bytes()


def test_retry_does_only_what_failed(tmp_path, shared, source, monkeypatch, capsys):
    """`refine retry` takes source and settings from the last run, and leaves new and changed images alone."""
    target = tmp_path / "target"
    catalog(source, target, SETTINGS, shared)
    write_picture(source / "plain.png", picture(40, 50))
    write_picture(source / "new.png", picture(40, 50))
    monkeypatch.chdir("/")
    code, said = called(monkeypatch, capsys, "retry", target, "--json", "--scheduler", shared.address)
    assert (code, said["done"], said["left"], said["unchanged"]) == (cli.FAILED, 1, 1, 2)
    assert {complaint["path"] for complaint in said["failed"]} == set(NAMES) - {"plain.png"}
    assert not (target / "new.png").exists()
    after = catalog(source, target, SETTINGS, shared)
    assert (after.done, after.unchanged) == (1, 3), "the retried one has the key of the run, and stands"


def test_retry_of_the_quarantined(tmp_path, shared, source, monkeypatch, capsys):
    """What is quarantined stands, until it is asked for by name."""
    target = tmp_path / "target"
    catalog(source, target, SETTINGS, shared)
    with held_ledger(target_of(target), None) as ledger:
        record = ledger.record("plain.png")
        ledger.commit([replace(record, state="quarantined", kind="poison", reason="the decoder died")])
    whole = write_picture(tmp_path / "same.png", picture(40, 50)).read_bytes()
    status = (source / "plain.png").stat()
    (source / "plain.png").write_bytes(whole[: status.st_size])
    os.utime(source / "plain.png", ns=(status.st_mtime_ns, status.st_mtime_ns))
    code, said = called(monkeypatch, capsys, "retry", target, "--json", "--scheduler", shared.address)
    assert [complaint["path"] for complaint in said["quarantined"]] == ["plain.png"]
    assert listed(target)["plain.png"]["reason"] == "the decoder died"
    code, said = called(monkeypatch, capsys, "retry", target, "--quarantined", "--json", "--scheduler", shared.address)
    assert code == cli.FAILED
    assert said["quarantined"] == []
    assert listed(target)["plain.png"]["reason"].startswith("damaged PNG")


def called(monkeypatch, capsys, *words):
    """The exit code and the JSON of a command, in this process."""
    monkeypatch.setattr(sys, "argv", ["refine", *map(str, words)])
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code or 0, json.loads(capsys.readouterr().out)


def test_retry_holds_to_the_failures_that_the_run_allows(tmp_path, shared, source, monkeypatch, capsys):
    """--max-failures is the last run's number, which the record of a retry keeps; a share is for its own run."""
    target, held = tmp_path / "target", []
    catalog(source, target, SETTINGS, shared, terms=Terms(max_failures=Tolerance(20)))

    def noted(*given, terms, **others):
        held.append(terms.max_failures)
        return catalog(*given, terms=terms, **others)

    monkeypatch.setattr(reporting, "catalog", noted)
    for more in ([], [], ["--max-failures", "2.5%"], []):
        called(monkeypatch, capsys, "retry", target, "--json", "--scheduler", shared.address, *more)
    assert held == [Tolerance(20), Tolerance(20), Tolerance(2.5, is_share=True), None]


def test_retry_of_another_version_is_refused(tmp_path, shared):
    """A record whose settings mean nothing here is told in a line; so is a target that has none."""
    with pytest.raises(JobError, match="name the TARGET of one"):
        last_of(target_of(tmp_path), None)
    source, target = small_tree(tmp_path / "source", 1), tmp_path / "target"
    catalog(source, target, SETTINGS, shared)
    (path,) = (target / ".refine/runs").iterdir()
    values = json.loads(path.read_bytes())
    values["settings"]["preset"]["sharpen"]["amont"] = 1
    Path(path).write_text(json.dumps(values))
    with pytest.raises(JobError, match=r"cannot be used .*sharpen.amont"):
        unpacked(last_of(target_of(target), None))


def test_record_of_a_run_is_its_wish(tmp_path, shared):
    """What a run was asked comes back from its record as it was: settings, sizes, renditions."""
    source = small_tree(tmp_path / "source", 1)
    for number, size in enumerate((Size(), Size(scale=Fraction(5, 3)), Size(exact=(30, 40)), Size(long_side=33))):
        target = tmp_path / f"target{number}"
        settings = Settings(load_preset("archive", PRESET), size)
        catalog(source, target, settings, shared)
        wish = unpacked(last_of(target_of(target), None))
        assert wish.settings == settings
        assert (wish.renditions, wish.to, wish.provider) == ((Rendition(),), "files", "cpu")
