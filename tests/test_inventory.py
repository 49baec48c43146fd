"""Sources of a catalog: patterns and manifests, their options, and the names that no run takes."""

from __future__ import annotations

import json
import sys
from fractions import Fraction

import pyarrow as pa
import pyarrow.parquet
import pytest
from strategies_files import picture, read_picture, write_picture

from pipelines.catalog import Terms, catalog
from pipelines.errors import JobError
from pipelines.inventory import listing
from pipelines.naming import Rendition
from refine.preset import load_preset
from refine.settings import Settings, Size

SETTINGS = Settings(load_preset("balanced", {"upscale.nets": "[]", "plan.block": "128"}), Size(scale=Fraction(2)))
ROWS = [
    {"id": "sku/1", "uri": "photos/one.png", "priority": 1},
    {"id": "sku/2.png", "uri": "photos/two.png", "priority": 5, "long_side": 30},
    {"id": "sku/3.png", "uri": "photos/two.png", "sharpen.amount": 0.7},
]


@pytest.fixture
def photos(tmp_path):
    """Two small pictures."""
    write_picture(tmp_path / "photos" / "one.png", picture(12, 10))
    write_picture(tmp_path / "photos" / "two.png", picture(14, 20, seed=1))
    return tmp_path


def written(folder, kind, rows=ROWS):
    """A manifest of a kind."""
    path = folder / f"list.{kind}"
    columns = list(dict.fromkeys(name for row in rows for name in row))
    match kind:
        case "csv":
            lines = [",".join(str(row.get(name, "")) for name in columns) for row in rows]
            path.write_text("\n".join([",".join(columns), *lines]) + "\n")
        case "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case "parquet":
            pa.parquet.write_table(pa.table({name: [row.get(name) for row in rows] for name in columns}), path)
    return path


def listed(source):
    """What is listed, by name."""
    return {seen.path: seen for seen in listing(source).listed()}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_manifests_say_the_same(photos, kind):
    """Ids, places, priorities and options come out of every kind of manifest alike."""
    found = listed(written(photos, kind))
    assert list(found) == ["sku/1.png", "sku/2.png", "sku/3.png"], "an id without a suffix takes that of its file"
    assert [seen.priority for seen in found.values()] == [1, 5, 0]
    assert [seen.options for seen in found.values()] == ["", '{"long_side": 30}', '{"sharpen.amount": 0.7}']
    one = (photos / "photos" / "one.png").stat()
    assert (found["sku/1.png"].size, found["sku/1.png"].mtime_ns) == (one.st_size, one.st_mtime_ns)


def test_manifest_is_restored_with_its_options(photos, inline):
    """Each image under its id, as large as its row says; only what a row changes is made again."""
    target = photos / "target"
    done = catalog(written(photos, "csv"), target, SETTINGS, inline)
    assert (done.done, done.failed) == (3, [])
    sides = {name: max(read_picture(target / "sku" / name).shape[:2]) for name in ("1.png", "2.png", "3.png")}
    assert sides == {"1.png": 24, "2.png": 30, "3.png": 40}
    rows = [ROWS[0], {**ROWS[1], "long_side": 36}, ROWS[2]]
    again = catalog(written(photos, "csv", rows), target, SETTINGS, inline)
    assert (again.done, again.unchanged) == (1, 2)
    missing = [*rows, {"id": "sku/4.png", "uri": "photos/no.png"}]
    lacking = catalog(written(photos, "csv", missing), target, SETTINGS, inline)
    assert [(one.path, "No such file" in one.reason) for one in lacking.failed] == [("sku/4.png", True)]


def test_priority_comes_first(photos, inline):
    """The greatest priority is done first, whatever the order of the manifest."""
    rows = [{"id": f"{n}.png", "uri": "photos/one.png", "priority": n % 3} for n in range(9)]
    catalog(written(photos, "jsonl", rows), photos / "target", SETTINGS, inline)
    lines = (photos / "target" / ".refine" / "journal.jsonl").read_text().splitlines()
    done = [json.loads(line)["item"]["path"] for line in lines if line.startswith('{"item"')]
    assert [int(name[0]) % 3 for name in sorted(done[:1])] == [2]
    assert {int(name[0]) % 3 for name in done[-1:]} == {0}


def test_wrong_ids_are_refused_all_at_once(photos):
    """Names that leave TARGET, hide in it, or share one result are told together, before anything is done."""
    bad = ["../up.png", "/abs.png", "a\\b.png", "a/./b.png", "line\n.png", ".refine/x.png", "twice.png", "twice.png"]
    rows = [
        {"id": name, "uri": "photos/one.png"} for name in [*bad, "Caf\u00e9.png", "cafe\u0301.PNG", "x.png", "x.png/y"]
    ]
    with pytest.raises(JobError) as refused:
        catalog(written(photos, "jsonl", rows), photos / "target", SETTINGS)
    said = str(refused.value)
    assert said.endswith("; change these ids in list.jsonl")
    parts = [
        "no result can have these names: ",
        "several sources would have one result, for names are compared whatever their case and Unicode form: ",
        "'../up.png' has a part '..'",
        "'/abs.png' is absolute",
        "'a\\\\b.png' has a backslash",
        "'a/./b.png' has a part '.'",
        "'line\\n.png' has a control character",
        "begins with .refine",
        "twice.png is listed 2 times",
        "Caf\u00e9.png from Caf\u00e9.png and cafe\u0301.PNG",
        "x.png from x.png, which is a folder",
    ]
    for part in parts:
        assert part in said
    assert not (photos / "target").exists()


def test_many_wrong_ids_are_counted(photos):
    """Of a thousand wrong names the first are told, and how many more there are."""
    rows = [{"id": f"../{n:04}.png", "uri": "photos/one.png"} for n in range(1000)]
    with pytest.raises(JobError, match=r"'\.\./0019.png' has a part '\.\.'; and 980 more"):
        catalog(written(photos, "jsonl", rows), photos / "target", SETTINGS)


def test_renditions_of_one_format_clash(photos):
    """Two sources that one rendition gives one name are refused, though another rendition keeps them apart."""
    write_picture(photos / "photos" / "one.tif", picture(9, 9))
    terms = Terms((Rendition("zoom", 40), Rendition("thumb", 8, "jpeg")))
    with pytest.raises(JobError, match=r"one\.jpg from one\.png and one\.tif"):
        catalog(photos / "photos", photos / "target", SETTINGS, terms=terms)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("id,url\na,b\n", "no uri in: id, url", id="no uri"),
        pytest.param("id,uri,sharpness\na.png,b,3\n", "column 'sharpness' is none of", id="no setting"),
        pytest.param(
            "id,uri,sharpen.amout\na.png,photos/one.png,3\n",
            r"did you mean 'sharpen\.amount'",
            id="typing",
        ),
        pytest.param(
            "id,uri,priority\na.png,b,soon\n",
            "line 2: a priority is a whole number, got 'soon'; write 0",
            id="priority",
        ),
        pytest.param(
            "id,uri,plan.block\na.png,photos/one.png,64\n",
            "line 2: plan.block is that of the",
            id="block",
        ),
        pytest.param("id,uri,size\na,p\na.png,photos/one.png,30\n", "line 3: size is 30; write width x", id="size"),
        pytest.param("id,uri,size,scale\n\na,p,3x4,5\n", "line 3: a size is a scale, .* one of them", id="sizes"),
        pytest.param("id,uri,output.quality\na,p,101\n", "line 2: output.quality is 1 to 100, got 101", id="range"),
        pytest.param("id,uri,upscale.nets\na,p,\"['no']\"\n", "line 2: no network 'no'", id="network"),
        pytest.param('id,uri\n"a.png,b\n', "list.csv, line", id="quote"),
        pytest.param("id,uri\na.png,target/b.png\n", "lies in TARGET", id="in target"),
    ],
)
def test_wrong_manifests_are_refused(photos, text, said):
    """A manifest that cannot be meant is refused with its row, the rule and the way out."""
    (photos / "list.csv").write_text(text)
    with pytest.raises(JobError, match=said):
        catalog(photos / "list.csv", photos / "target", SETTINGS)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_wrong_option_is_told_with_its_place(photos, kind):
    """A setting that is none is told in one line, with that of the manifest on which it stands, once."""
    rows = [*ROWS, {"id": "sku/4.png", "uri": "photos/two.png", "sharpen.amuont": 0.7}]
    place = {"csv": "line 5", "jsonl": "line 4", "parquet": "row 4"}[kind]
    with pytest.raises(JobError) as refused:
        catalog(written(photos, kind, rows), photos / "target", SETTINGS)
    wanted = "unknown key 'sharpen.amuont'; did you mean 'sharpen.amount'?"
    assert str(refused.value) == f"list.{kind}, {place}: {wanted}"


def test_size_is_given_once(photos):
    """A size of an image's own and one of a rendition are refused together, with the line of the first."""
    with pytest.raises(JobError, match=r"^list\.csv, line 3: gives long_side, and so do renditions"):
        catalog(written(photos, "csv"), photos / "target", SETTINGS, terms=Terms((Rendition("zoom", 40),)))


def test_parquet_needs_its_extra(photos, monkeypatch):
    """Without pyarrow a Parquet manifest is refused with what to install."""
    path = written(photos, "parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(JobError, match=r"refine-imaging\[parquet\]"):
        listed(path)


def test_pattern_lists_what_fits(tmp_path):
    """`*` stays in a folder, `**` goes through any number of them; names are kept below the fixed part."""
    for name in ("a.jpg", "x/b.jpg", "x/y/c.jpg", "x/d.png", "x/e.txt"):
        write_picture(tmp_path / name, picture(4, 4)) if not name.endswith("txt") else (tmp_path / name).write_text("")
    assert set(listed(f"{tmp_path}/**/*.jpg")) == {"a.jpg", "x/b.jpg", "x/y/c.jpg"}
    assert set(listed(f"{tmp_path}/x/*.jpg")) == {"b.jpg"}
    assert set(listed(f"{tmp_path}/*/[bd].*")) == {"x/b.jpg", "x/d.png"}
    assert set(listed(f"{tmp_path}/x/**")) == {"b.jpg", "y/c.jpg", "d.png"}
