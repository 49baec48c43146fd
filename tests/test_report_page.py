"""The page of a report in a headless Chromium, from a disk: what is seen and reached, at two sizes, light and dark.

Screenshots are left in the tests' folder (`--basetemp` says where), to be looked at.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import chromium
import numpy as np
import pytest
from PIL import Image as Pillow
from strategies_files import picture

from pipelines.records import Record
from pipelines.report import Places, write_report
from pipelines.runs import Totals, ended_run
from pipelines.summary import Complaint, Summary
from pipelines.tally import Row
from pipelines.thumbnail import comparison
from refine.errors import ImageReadError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium.COMMAND is None, reason="no Chromium is installed"),
]

SETTLED = """(async () => {
  await drawnAll;
  for (const image of document.images) image.loading = 'eager';
  const loaded = (image) => image.complete || new Promise((done) => { image.onload = image.onerror = done; });
  await Promise.all(Array.from(document.images, loaded));
})()"""
ODD = "</script><img src=x onerror=alert(1)>.png"


def look(row):
    """Red before, blue after, so that one sees which side is shown."""
    red, blue = np.zeros((300, 400, 3), np.uint8), picture(600, 800) // 8
    red[..., 0], blue[..., 2] = 220, 220
    return comparison(red, blue)


def kinds(row):
    """A wide white picture; a cut-out of that shape; nothing for one whose source is gone."""
    if row.record.path == "gone.png":
        raise ImageReadError("gone.png: cannot be read")
    white = np.full((100, 300, 4), 255, np.uint8)
    white[10:90, 10:290, 3] = 0
    shown = white if row.record.path == "cut.png" else np.ascontiguousarray(white[..., :3])
    return comparison(shown, shown)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The address of a page with every part that there is."""
    own = tmp_path_factory.mktemp("target") / ".refine"
    values = {"output_px": 480_000, "output_nbytes": 90_000, "seconds": 1.5, "source_sha256": "a"}
    records = [
        Record(f"shop/{n:03d}.png", 1, 1, "k", "done", output=f"shop/{n:03d}.png", decision=decision, **values)
        for n, decision in enumerate(["too-weak", "both", "minimal"] * 60)
    ]
    records += [Record(f"z/{n}.png", 1, 1, "k", "failed", "read", f"ends after {n} of 90 rows") for n in range(70)]
    records += [Record(ODD, 1, 1, "k", "quarantined", "read", "the decoder died on this file")]
    told = Summary(done=180, failed=[Complaint(r.path, r.stage, r.reason) for r in records[180:250]], seconds=60.0)
    asked = {"source": "photos", "root": "/photos", "target": "/large", "settings": {"preset": {"a": [1, 2]}}}
    run = ended_run(datetime(2026, 1, 2, tzinfo=UTC), told, workers=2, before=Totals(), **asked)
    path = write_report(own, run, map(Row, records), Places("../../../photos/", "../../"), look)
    return path.as_uri()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """The browser, started once."""
    with chromium.Chromium(tmp_path_factory.mktemp("profile")) as one:
        yield one


def opened(browser, page, width=1280, theme="light"):
    """Show the page."""
    browser.events.clear()
    browser.open(page, width, 844, theme, settled=SETTLED)


def stage(browser, path):
    """Mean colours of the left and the right part of the first pair."""
    browser.run("document.querySelector('.stage').scrollIntoView({block: 'center'})")
    box = browser.run("(r => [r.x, r.y, r.width, r.height])(document.querySelector('.stage').getBoundingClientRect())")
    browser.screenshot(path)
    x, y, width, height = map(int, box)
    with Pillow.open(path) as found:
        seen = np.asarray(found.convert("RGB")).astype(int)[y + height // 3 : y + height // 2, x : x + width]
    halves = seen[:, width // 4 : width // 2 - 40], seen[:, width // 2 + 40 : width * 3 // 4]
    return [half.mean(axis=(0, 1)) for half in halves]


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_page_opens_from_a_disk(browser, page, tmp_path, width, theme):
    """Before is left and after right, nothing lies beyond the screen, nobody is asked, and nothing is complained of."""
    opened(browser, page, width, theme)
    left, right = stage(browser, tmp_path / f"page-{width}-{theme}.png")
    assert left[0] > left[2] + 60
    assert right[2] > right[0] + 60
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert all(url.startswith(("file:", "data:")) for url in browser.requested())
    assert browser.complaints() == []
    browser.run("scrollTo(0, 0)")
    browser.screenshot(tmp_path / f"whole-{width}-{theme}.png", whole=True)
    back = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (int(back.split("(")[1].split(",")[0]) > 200) == (theme == "light")


def test_keys_move_the_border(browser, page, tmp_path):
    """With the focus on a pair the arrows move its border, End shows all before, and a reader is told."""
    opened(browser, page)
    browser.run("document.querySelector('.stage input').focus()")
    browser.press("ArrowRight", 39)
    assert browser.run("document.activeElement.getAttribute('aria-valuetext')").startswith("51 per cent before")
    browser.press("End", 35)
    left, right = stage(browser, tmp_path / "before.png")
    assert left[0] > left[2]
    assert right[0] > right[2]
    browser.press("Home", 36)
    left, right = stage(browser, tmp_path / "after.png")
    assert left[2] > left[0]
    assert right[2] > right[0]


def test_finger_moves_the_border(browser, page):
    """A touch in a pair moves its border to that place."""
    opened(browser, page, 390)
    browser.run("document.querySelector('.stage').scrollIntoView({block: 'center'})")
    x, y, width = browser.run(
        "(r => [r.x, r.y + r.height / 2, r.width])(document.querySelector('.stage').getBoundingClientRect())"
    )
    browser.ask("Emulation.setTouchEmulationEnabled", enabled=True)
    for kind, share in (("touchStart", 0.5), ("touchMove", 0.4), ("touchMove", 0.2), ("touchEnd", None)):
        points = [] if share is None else [{"x": x + share * width, "y": y}]
        browser.ask("Input.dispatchTouchEvent", type=kind, touchPoints=points)
    browser.ask("Emulation.setTouchEmulationEnabled", enabled=False)
    assert abs(browser.run("document.querySelector('.stage input').valueAsNumber") - 20) <= 4


def test_every_control_has_a_name(browser, page):
    """What can have the focus says what it is."""
    opened(browser, page)
    names = browser.run("""[...document.querySelectorAll('button, input, select, a, summary')]
      .filter(e => e.offsetParent)
      .map(e => e.getAttribute('aria-label') || e.textContent.trim())""")
    assert len(names) > 40
    assert all(names)


def rows(browser):
    """The names in the list that are seen."""
    return browser.run("[...document.querySelectorAll('tbody td:first-child')].map(e => e.innerText)")


def put(browser, selector, value):
    """Type or choose a value."""
    browser.run(f"""(e => {{ e.value = {value!r}; e.dispatchEvent(new Event('input'));
      e.dispatchEvent(new Event('change')); }})(document.querySelector({selector!r}))""")


def test_list_is_searched_and_paged(browser, page):
    """All images are in the list, fifty a page; a word, a state or a decision narrows it."""
    opened(browser, page)
    place = "document.querySelector('#items output').innerText"
    assert browser.run(place) == "1 to 50 of 251"
    browser.run("[...document.querySelectorAll('#items button')].find(b => b.innerText === 'On').click()")
    assert browser.run(place) == "51 to 100 of 251"
    put(browser, "#items input", "AFTER 7 OF")
    assert rows(browser) == ["z/7.png"]
    put(browser, "#items input", "")
    put(browser, "#items select", "flag")
    assert browser.run(place) == "1 to 50 of 60"
    put(browser, "#items select", browser.run("document.querySelector('#items option:nth-child(4)').value"))
    assert rows(browser) == [ODD]


def test_reason_leads_to_its_images(browser, page):
    """The button under a reason lists its images, whatever numbers are in what was said of each."""
    opened(browser, page)
    assert "ends after … of … rows" in browser.run("document.querySelector('#failures summary').innerText")
    browser.run(
        "(d => { d.open = true; d.querySelector('button').click(); })(document.querySelector('#failures details'))"
    )
    assert browser.run("document.querySelector('#items output').innerText") == "1 to 50 of 70"
    assert all(name.startswith("z/") for name in rows(browser))


def test_more_pairs_come_when_asked_for(browser, page):
    """Twelve pairs are shown at first, the flagged ones before the sample, and the rest when asked for."""
    opened(browser, page)
    assert browser.run("document.querySelectorAll('#flagged figure').length") == 12
    for _ in range(4):
        browser.run("document.querySelector('#flagged .bar:last-child button').click()")
    assert browser.run("document.querySelectorAll('#flagged figure').length") == 60
    assert browser.run("document.querySelector('#flagged .bar:last-child button').hidden")


def test_whole_and_part_are_switched_for_all(browser, page):
    """One button changes what all pairs show, and says that it is pressed."""
    opened(browser, page)
    source = "document.querySelector('#sample img').src.length"
    before = browser.run(source)
    browser.run("document.querySelector('[data-view=whole]').click()")
    assert browser.run(source) != before
    pressed = browser.run("[...document.querySelectorAll('[data-view]')].map(e => e.getAttribute('aria-pressed'))")
    assert pressed == ["false", "true"] * 2


def test_chequers_lie_under_what_is_transparent_only(browser, tmp_path):
    """Beside and under an opaque picture there are none; one without a source is shown alone, with nothing to drag."""
    records = [
        Record(name, 1, 1, "k", "done", output=name, decision="both", output_px=30_000, source_sha256=name)
        for name in ("cut.png", "gone.png", "white.png")
    ]
    asked = {"source": "photos", "root": "/photos", "target": "/large", "settings": {}}
    run = ended_run(datetime(2026, 1, 2, tzinfo=UTC), Summary(done=3), workers=2, before=Totals(), **asked)
    places, gone = Places("../../../photos/", "../../"), {"is_gone": lambda row: row.record.path == "gone.png"}
    Pillow.new("RGB", (300, 100), "white").save(tmp_path / "gone.png")
    own = tmp_path / ".refine"
    opened(browser, write_report(own, run, map(Row, records), places, kinds, **gone).as_uri())
    found = {}
    for number, name in enumerate(("cut", "gone", "white")):
        of_it = f"document.querySelectorAll('.stage')[{number}]"
        browser.run(f"{of_it}.scrollIntoView({{block: 'center'}})")
        box = browser.run(f"(r => [r.x, r.y, r.width, r.height])({of_it}.getBoundingClientRect())")
        browser.screenshot(tmp_path / f"{name}.png")
        x, y, width, height = map(int, box)
        with Pillow.open(tmp_path / f"{name}.png") as seen:
            found[name] = np.asarray(seen.convert("L"))[y + 4 : y + height - 4, x + 4 : x + width // 2 - 30]
    for name, part in found.items():
        middle = len(part) // 2
        assert len(np.unique(part[: middle // 3])) == 1, f"{name}: beside the picture"
        assert len(np.unique(part[middle - 20 : middle + 20, 80:])) == (2 if name == "cut" else 1), name
    dragged = "[...document.querySelectorAll('.stage')].map(stage => stage.querySelectorAll('input').length)"
    assert browser.run(dragged) == [1, 0, 1]


def test_page_needs_no_server(page):
    """The address that the tests open is that of a file."""
    assert page.startswith("file:///")
    assert Path(page.removeprefix("file://")).is_file()
