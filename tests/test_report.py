"""The page of a catalog's report: what it tells, of how many images, and what no file name can do to it."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image as Pillow
from strategies_files import picture

from pipelines import report
from pipelines.page import Compared, comparison_page, embedded
from pipelines.records import Record
from pipelines.report import Places, refresh_report, write_report
from pipelines.runs import Totals, ended_run
from pipelines.summary import Complaint, Summary
from pipelines.tally import Row
from pipelines.thumbnail import comparison
from refine.errors import ImageReadError

HOSTILE = [
    "</script><script>alert(1)</script>.png",
    "<img src=x onerror=alert(1)>.png",
    "\"'&amp;{title}{data}.png",
    "a b?c#d%41.png",
    "line\nbreak\u2028.png",
    os.fsdecode(b"caf\xe9.png"),
    "../up.png",
]
PLACES = Places("../../../photos/", "../../")


def done(path, **values):
    """A record of a result."""
    told = {"output": path, "output_px": 4_000_000, "output_nbytes": 900_000, "decision": "both", "seconds": 1.5}
    digests = {"source_sha256": path.encode("utf-8", "surrogateescape").hex(), "output_sha256": "b" * 64}
    return Record(path, 1, 1, "key", "done", **{**told, **digests, **values})


def failed(path, reason="damaged PNG", state="failed"):
    """A record of an image without a result."""
    return Record(path, 1, 1, "key", state, "read", reason)


def run_of(records, **summary):
    """The record of a run with these results."""
    told = Summary(done=len(records), output_px=9_000_000, seconds=3.0, **summary)
    told.failed = [Complaint(r.path, r.stage, r.reason) for r in records if r.state == "failed"]
    asked = {"source": "photos", "root": "/photos", "target": "/shop/large", "settings": {"preset": {"name": "x"}}}
    return ended_run(datetime(2026, 1, 2, tzinfo=UTC), told, **asked, workers=2, before=Totals())


def looked(row):
    """Small pictures, others for each name."""
    seed = len(row.record.path)
    return comparison(picture(30, 40, 3, seed=seed), picture(60, 80, 3, seed=seed))


def written(folder, records, look=looked, run=None):
    """The text of a page, and what its script draws."""
    path = write_report(folder, run or run_of(records), map(Row, records), PLACES, look)
    return path, path.read_text(encoding="utf-8"), drawn(path.read_text(encoding="utf-8"))


def drawn(text):
    """The data of a page, by a parser of HTML that refine does not use."""

    class Found(HTMLParser):
        inside, data = False, ""

        def handle_starttag(self, tag, attrs):
            self.inside = tag == "script" and ("id", "data") in attrs

        def handle_data(self, data):
            if self.inside:
                self.data += data
                self.inside = False

    found = Found()
    found.feed(text)
    return json.loads(found.data)


def listed(data):
    """The list inside a page."""
    return json.loads(gzip.decompress(base64.b64decode(data["items"]["packed"])))


def opened(uri):
    """The pixels of a picture inside a page."""
    head, _, body = uri.partition(",")
    assert head == "data:image/webp;base64"
    with Pillow.open(io.BytesIO(base64.b64decode(body))) as found:
        return np.asarray(found.convert("RGB")).astype(int)


def test_page_names_every_image_and_every_reason(tmp_path):
    """Failures are grouped by reason, numbers apart; each image is in the list, and in the file beside the page."""
    records = [done(f"a/{n}.png") for n in range(5)]
    records += [failed(f"b/{n}.png", f"ends after {n} of 90 rows") for n in range(3)]
    records += [failed("c.png", "the decoder died", "quarantined"), done("d.png", notes=("palette expanded",))]
    path, text, data = written(tmp_path, records)
    assert [(group["what"], group["count"], group["tag"]) for group in data["failures"]] == [
        ("ends after … of … rows", 3, "read"),
        ("the decoder died", 1, "quarantined, read"),
    ]
    assert data["failures"][0]["paths"] == ["b/0.png", "b/1.png", "b/2.png"]
    assert data["notes"][0]["what"] == "palette expanded"
    assert data["decisions"] == [{"what": "both (enlarged, then sharpened)", "count": 6}]
    found = listed(data)
    assert [row[0] for row in found["rows"]] == [record.path for record in records]
    reasons = {row[0]: found["reasons"][row[3]]["text"] for row in found["rows"]}
    assert reasons["b/1.png"] == "ends after 1 of 90 rows"
    beside = [json.loads(line) for line in (path.parent / "items.jsonl").read_text().splitlines()]
    assert [line["path"] for line in beside] == [record.path for record in records]
    assert beside[5] == {"path": "b/0.png", "state": "failed", "stage": "read", "reason": "ends after 0 of 90 rows"}
    assert "some images have no result" in text


def test_page_asks_no_other_address(tmp_path):
    """No address of a network is in the page, and its policy forbids them; all it runs is its one script."""
    _, text, _ = written(tmp_path, [done("a.png")])
    assert not re.search(r"(?i)(https?:)?//[a-z0-9-]+\.[a-z]", text)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1].replace("&#x27;", "'")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "http" not in policy


@pytest.mark.parametrize("name", HOSTILE)
def test_page_takes_any_name(tmp_path, name):
    """Whatever a file is called, the page has one script, one place for data, and the name as text."""
    _, text, data = written(tmp_path, [done(name), failed(name + "x", reason=name)])
    assert text.count("<script") == 2
    assert "<img" not in text
    assert "{title}" not in text.replace("\\u007b", "").split("</title>")[0]
    shown = listed(data)["rows"][0][0]
    assert shown == data["pairs"][0]["entries"][0]["name"]
    assert "\n" not in shown
    assert shown.encode("utf-8")


def test_links_lead_to_the_files(tmp_path):
    """The addresses of source and result, decoded as a browser decodes them, are the paths of the files."""
    for name in HOSTILE[:6]:
        _, _, data = written(tmp_path, [done(name)])
        for folder, link in zip(("../../../photos/", "../../"), data["pairs"][0]["entries"][0]["links"], strict=True):
            path, mark, _ = link.partition("?")
            assert (mark, "#" in path) == ("", False)
            raw = re.sub(rb"%([0-9A-F]{2})", lambda m: bytes([int(m[1], 16)]), path.encode("ascii"))
            assert raw == os.fsencode(folder + name)


def test_page_is_the_same_again(tmp_path):
    """The same ledger and run give the same bytes, in another folder and another order of work too."""
    records = [done(f"{n}.png") for n in range(60)]
    run = run_of(records)
    first, text, _ = written(tmp_path / "a", records, run=run)
    _, again, _ = written(tmp_path / "b", records, run=run)
    assert text == again
    assert (first.parent / "items.jsonl").read_bytes() == (tmp_path / "b/report/items.jsonl").read_bytes()
    _, third, _ = written(tmp_path / "a", records, look=None, run=run)
    assert text == third, "pictures of the page before are taken again, unlooked"


def test_damaged_thumbnail_is_made_again(tmp_path):
    """A picture that a power cut left short is not shown; those of images that are gone are removed."""
    path, text, _ = written(tmp_path, [done("a.png"), done("b.png")])
    thumbs = path.parent / "thumbs"
    assert len(list(thumbs.iterdir())) == 4
    for file in thumbs.iterdir():
        file.write_bytes(file.read_bytes()[:-5])
    assert written(tmp_path, [done("a.png"), done("b.png")])[1] == text
    written(tmp_path, [done("b.png")])
    assert len(list(thumbs.iterdir())) == 2


def test_page_is_bounded_for_a_hundred_thousand_images(tmp_path):
    """With 100,000 images, 1 % of them failed and many flagged, the page stays below 15 MB and has all failures."""
    rng = np.random.default_rng(0)
    names = [f"shop/{n % 977:03d}/{rng.integers(1 << 60):x}.jpg" for n in range(100_000)]
    records = [
        failed(name, f"reason {n}") if n % 100 == 0 else done(name, decision="too-weak" if n % 20 == 7 else "both")
        for n, name in enumerate(names)
    ]
    path, text, data = written(tmp_path, records, look=lambda _: None)
    assert len(text) < 15_000_000
    assert data["failures"][0]["count"] == 1000
    found = listed(data)["rows"]
    assert sum(data["items"]["states"][row[1]] == "failed" for row in found) == 1000
    assert len(found) > 50_000
    with (path.parent / "items.jsonl").open() as lines:
        assert sum(1 for _ in lines) == 100_000


def test_every_flagged_image_is_shown(tmp_path, monkeypatch):
    """Flagged results come first; beyond what is made small, the page shows the files themselves."""
    monkeypatch.setattr(report, "_MADE", 5)
    monkeypatch.setattr(report, "_EMBEDDED_NBYTES", 3 * looked(Row(done("000.png"))).nbytes)
    records = [done(f"{n:03d}.png", decision="too-weak" if n % 2 else "both") for n in range(40)]
    _, _, data = written(tmp_path, records)
    part = data["pairs"][0]
    assert part["id"] == "flagged"
    assert [entry["name"] for entry in part["entries"]] == [f"{n:03d}.png" for n in range(1, 40, 2)]
    addresses = [entry["whole"]["after"].partition("/")[0].partition(":")[0] for entry in part["entries"]]
    assert addresses[0] == "data"
    assert "thumbs" in addresses
    assert addresses[5:] == [".."] * 15
    assert all("too little detail" in entry["lines"][0]["text"] for entry in part["entries"])


def test_images_that_cannot_be_shown_are_told(tmp_path):
    """A source that is gone or too large stops no report; the page says how many are not shown."""

    def look(row):
        if row.record.path == "a.png":
            raise ImageReadError("a.png: is gone")
        return None if row.record.path == "b.png" else looked(row)

    _, _, data = written(tmp_path, [done("a.png"), done("b.png"), done("c.png")], look)
    assert "2 cannot be shown" in data["pairs"][0]["told"]
    assert [entry["name"] for entry in data["pairs"][0]["entries"]] == ["c.png"]


def test_source_that_is_gone_is_told(tmp_path, monkeypatch):
    """A result whose source is gone is shown alone, or beside an earlier picture of it; no link leads nowhere."""

    def look(row):
        if row.record.path == "gone.png":
            raise ImageReadError("gone.png: cannot be read")
        return looked(row)

    records = [done("gone.png"), done("late.png"), done("there.png")]
    run = run_of(records, gone=2)
    options = {"since": lambda row: "" if row.record.path == "there.png" else "source gone"}
    text = write_report(tmp_path, run, map(Row, records), PLACES, look, **options).read_text(encoding="utf-8")
    cards = {card["label"]: card["value"] for card in drawn(text)["figures"][0]["cards"]}
    assert cards["source gone"] == "2"
    gone, late, there = drawn(text)["pairs"][0]["entries"]
    assert gone["whole"] == {"before": None, "after": "../../gone.png"}
    assert late["whole"]["before"].startswith("data:")
    for entry, links in ((gone, [None, "../../gone.png"]), (late, [None, "../../late.png"])):
        assert (entry["links"], entry["lines"][0]) == (links, {"text": "source gone", "style": "warn"})
    assert there["links"][0] == "../../../photos/there.png"
    assert "source gone" not in [line["text"] for line in there["lines"]]
    monkeypatch.setattr(report, "_MADE", 0)
    text = write_report(tmp_path, run, map(Row, records), PLACES, look, **options).read_text(encoding="utf-8")
    befores = [entry["whole"]["before"] for entry in drawn(text)["pairs"][0]["entries"]]
    assert befores == [None, None, "../../../photos/there.png"]


def test_sample_is_of_this_run_first(tmp_path):
    """What this run made is shown before all else; the rest of the sample is drawn by name."""
    records = [done(f"{n:03d}.png") for n in range(200)]
    run = run_of(records)
    run.sample.extend(["007.png", "150.png"])
    _, _, data = written(tmp_path, records, run=run)
    names = [entry["name"] for entry in data["pairs"][0]["entries"]]
    assert {"007.png", "150.png"} <= set(names)
    assert len(names) == 48
    assert names == sorted(names)


def test_refresh_tells_of_the_new_run_only(tmp_path):
    """A run that changed nothing changes what the page says of it, and nothing else; another ledger is not taken."""
    records = [done("a.png"), failed("b.png")]
    _, _, before = written(tmp_path, records)
    later = run_of(records)
    later.summary["done"], later.summary["unchanged"] = 0, 17
    assert refresh_report(tmp_path, later, 3) is None
    path = refresh_report(tmp_path, later, 2)
    after = drawn(path.read_text(encoding="utf-8"))
    assert [card["value"] for card in after["figures"][0]["cards"] if card["label"] == "unchanged"] == ["17"]
    for name in ("failures", "pairs", "items", "decisions", "notes"):
        assert after[name] == before[name]
    path.write_text("<html>somebody's page</html>")
    assert refresh_report(tmp_path, later, 2) is None


def test_both_sides_have_one_scale():
    """Whole and in part, left and right show the same place at the same scale; the part is the result, px for px."""
    large = np.zeros((900, 1200, 3), np.uint8)
    large[500:800, 100:400] = picture(300, 300)
    small = np.asarray(Pillow.fromarray(large).resize((400, 300), Pillow.Resampling.BOX))
    found = comparison(small, large)
    pictures = embedded(found)
    for view, size in (("whole", (360, 480)), ("detail", (480, 480))):
        before, after = (opened(pictures[view][side]) for side in ("before", "after"))
        assert before.shape == after.shape == (*size, 3)
        assert (pictures[view]["height"], pictures[view]["width"]) == size
        # Neighbours that differ by a shift of few px would differ by far more in this pattern.
        assert np.abs(before - after).mean() < 12
    after = opened(pictures["detail"]["after"])
    there = after.max(axis=2) > 60
    y, x = 500 - there.any(axis=1).argmax(), 100 - there.any(axis=0).argmax()
    assert np.abs(large[y : y + 480, x : x + 480].astype(int) - after).mean() < 4


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 700, 3), (700, 1, 2), (480, 480, 4), (481, 30, 3)])
def test_comparison_of_any_size(shape):
    """One pixel, one row, grey, with alpha: every picture has its comparison, and the same bytes each time."""
    before, after = picture(*shape), picture(*shape, seed=3)
    found = comparison(before, after)
    assert found == comparison(before, after)
    assert max(found.whole.height, found.whole.width) == min(480, max(shape[:2]))
    assert (found.detail is None) == (max(shape[:2]) <= 480)


def test_comparison_page_is_of_the_same_kind():
    """A page of pairs alone: two words for its sides, no list, no other address."""
    pair = Compared("<b>.png", embedded(comparison(picture(8, 8), picture(8, 8, seed=1))))
    text = comparison_page([pair], "Canary <1>", told="20 of 100", sides=("old", "new"), facts={"network": ["a", "b"]})
    data = drawn(text)
    assert data["words"]["sides"] == ["old", "new"]
    assert data["pairs"][0]["entries"][0]["name"] == "<b>.png"
    assert "<b>" not in text
    assert "Canary &lt;1&gt;" in text
