from __future__ import annotations

import tomllib
from dataclasses import fields, is_dataclass, replace
from typing import get_type_hints

import pytest

from refine.errors import PresetError, RefineError
from refine.preset import Preset, load_preset, preset_names
from refine.settings import Settings
from refine.spec import ImageSpec


def keys(kind: type = Preset, stem: str = "") -> list[str]:
    """Dotted keys of all settings."""
    hints = get_type_hints(kind)
    return [
        key
        for f in fields(kind)
        for key in (keys(hints[f.name], f"{stem}{f.name}.") if is_dataclass(hints[f.name]) else [stem + f.name])
    ]


def said_keys(table: dict, stem: str = "") -> list[str]:
    """Dotted keys of a parsed file, as they stand in it."""
    return [
        key
        for name, value in table.items()
        for key in (said_keys(value, f"{stem}{name}.") if isinstance(value, dict) else [stem + name])
    ]


def documented(checkout) -> set[str]:
    """Keys in the table of configs/README.md."""
    rows = (checkout / "configs" / "README.md").read_text(encoding="utf-8").splitlines()
    return {row.split("`")[1] for row in rows if row.startswith("| `")} - set(preset_names())


def test_every_key_is_documented(checkout):
    """configs/README.md has a row for each key, and none for a key that is not there."""
    assert documented(checkout) == set(keys()) - {"name"}


@pytest.mark.parametrize("name", preset_names())
def test_shipped_presets_load_and_plan(name):
    """Every shipped preset is understood, carries its own name, and makes a plan for small and large sizes."""
    preset = load_preset(name)
    assert preset.name == name
    assert Settings(preset).plan(ImageSpec(100, 80, 3, "uint8")).output == (100, 80)


def test_balanced_is_the_default():
    """The defaults of the code are the shipped `balanced` preset."""
    assert load_preset() == load_preset("balanced") == Preset()


@pytest.mark.parametrize("name", preset_names())
def test_shipped_presets_say_every_key(name, checkout):
    """A shipped preset spells out every key, each with a comment, and its first line names it."""
    text = (checkout / "configs" / f"{name}.toml").read_text(encoding="utf-8")
    assert text.startswith(f"# configs/{name}.toml: ")
    assert list(said_keys(tomllib.loads(text))) == [key for key in keys() if key not in ("name", "renditions")]
    assert all("   # " in line for line in text.splitlines() if " = " in line)


def test_every_preset_is_listed(checkout):
    """configs/README.md says of each shipped preset what it is for."""
    text = (checkout / "configs" / "README.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` | " in text for name in preset_names())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(
            "[sharpen]\namuont = 1\n",
            "mine.toml: unknown key 'sharpen.amuont'; did you mean 'sharpen.amount'?",
            id="key",
        ),
        pytest.param("[sharpn]\namount = 1\n", "unknown key 'sharpn'; did you mean 'sharpen'?", id="table"),
        pytest.param("zzzz = 1\n", "unknown key 'zzzz'; known here: name, order", id="nothing-near"),
        pytest.param("sharpen = 3\n", "sharpen is a table, got 3", id="no-table"),
        pytest.param("[sharpen]\namount = 'much'\n", "sharpen.amount is 'auto' or a number, got 'much'", id="text"),
        pytest.param("[sharpen]\namount = true\n", "sharpen.amount is 'auto' or a number, got True", id="bool"),
        pytest.param("[output]\nquality = 90.5\n", "output.quality is a whole number, got 90.5", id="fraction"),
        pytest.param("[output]\nquality = true\n", "output.quality is a whole number, got True", id="bool-for-int"),
        pytest.param(
            "[output]\nformat = 'gif'\n", "output.format is 'source' or 'jpeg' or 'png' or 'tiff' or", id="literal"
        ),
        pytest.param("[output]\ndtype = 'uint32'\n", "output.dtype is 'source' or 'uint8' or 'uint16'", id="depth"),
        pytest.param("order = 'free'\n", "order is 'checked' or 'as-written', got 'free'", id="order"),
        pytest.param("steps = 'sharpen'\n", "steps is a list of texts, got 'sharpen'", id="text-for-list"),
        pytest.param("steps = [1]\n", "steps is a list of texts", id="list-of-numbers"),
        pytest.param(
            "[upscale]\nnets = 'fast-x2'\n", "upscale.nets is 'auto' or 'standard' or a list of texts", id="nets"
        ),
        pytest.param("[sharpen\n", "mine.toml: not valid TOML", id="syntax"),
    ],
)
def test_preset_refuses(tmp_path, text, said):
    """What is not understood is refused with file, key, what is wanted and what came."""
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PresetError) as refused:
        load_preset(path)
    assert said in str(refused.value)


def test_missing_presets_are_named(tmp_path):
    """An unknown name is refused with the names there are, a missing file with its name."""
    with pytest.raises(PresetError, match="no preset 'poster9'; there are archive, balanced, crisp, "):
        load_preset("poster9")
    with pytest.raises(PresetError, match=r"gone\.toml: the preset cannot be read"):
        load_preset(tmp_path / "gone.toml")


@pytest.mark.parametrize("name", ["", ".", "../balanced", "balanced.TOML", "a/b"])
def test_odd_names_are_refused(name):
    """No name is ever looked up outside the folder of presets."""
    with pytest.raises(RefineError):
        load_preset(name)


def test_binary_file_is_refused(tmp_path):
    """A file that is not text is refused like any other that is not a preset."""
    path = tmp_path / "photo.toml"
    path.write_bytes(b"\xff\xd8\xff\xe0\x00")
    with pytest.raises(PresetError):
        load_preset(path)


SET = [
    pytest.param({"sharpen.amount": "0.6"}, ("sharpen", "amount", 0.6), id="number"),
    pytest.param({"sharpen.amount": "1"}, ("sharpen", "amount", 1.0), id="whole-number-for-number"),
    pytest.param({"sharpen.amount": "auto"}, ("sharpen", "amount", "auto"), id="auto"),
    pytest.param({"decide.too_weak": "flag"}, ("decide", "too_weak", "flag"), id="rule"),
    pytest.param({"output.format": "png"}, ("output", "format", "png"), id="bare-word"),
    pytest.param({"output.format": '"png"'}, ("output", "format", "png"), id="quoted"),
    pytest.param({"upscale.nets": '["fast-x4"]'}, ("upscale", "nets", ("fast-x4",)), id="list"),
    pytest.param({"upscale.nets": "[]"}, ("upscale", "nets", ()), id="empty-list"),
    pytest.param({"plan.allowed_mem": "2_000_000"}, ("plan", "allowed_mem", 2_000_000), id="underscores"),
]


@pytest.mark.parametrize(("given", "expected"), SET)
def test_settings_go_over_the_preset(given, expected):
    """A setting changes its key and no other."""
    table, key, value = expected
    base = load_preset("balanced")
    wanted = replace(base, **{table: replace(getattr(base, table), **{key: value})})
    assert load_preset("balanced", given) == wanted


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        pytest.param({"sharpen.amuont": "1"}, "did you mean 'sharpen.amount'?", id="key"),
        pytest.param({"": "1"}, "a setting is key=value", id="no-key"),
        pytest.param({"sharpen": "1"}, "sharpen is a table", id="table"),
        pytest.param({"output.quality": "0"}, "output.quality is 1 to 100, got 0", id="quality"),
        pytest.param({"order.sub": "1"}, "order is 'checked' or 'as-written'", id="below-a-value"),
        pytest.param({"sharpen.amount": ""}, "sharpen.amount is 'auto' or a number, got ''", id="no-value"),
        pytest.param({"sharpen..amount": "1"}, "unknown key", id="empty-part"),
        pytest.param({"sharpen.amount": "1\nsigma = 9"}, "sharpen.amount is 'auto' or a number", id="two-lines"),
    ],
)
def test_settings_refuse(settings, said):
    """A setting that is not understood is refused like a key in a file."""
    with pytest.raises(PresetError) as refused:
        load_preset("balanced", settings)
    assert said in str(refused.value)
