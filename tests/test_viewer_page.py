"""The page of `refine view` in a headless Chromium: what is seen, by mouse and keyboard, at two sizes, light and dark.

Screenshots are left in the tests' folder (`--basetemp` says where), to be looked at.
"""

from __future__ import annotations

import chromium
import numpy as np
import pytest
import tifffile
from omegroup import pattern, written
from PIL import Image as Pillow

from pipelines import before, omezarr, view

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium.COMMAND is None, reason="no Chromium is installed"),
]

ABOUT = {
    "decision": "Enlarge 2 times, no denoising.",
    "reasons": ["<img src=x onerror=alert(1)>", "Noise is below 1 level."],
    "measured": {"noise sigma": {"value": 0.7, "unit": "levels"}},
}


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """A target of two pages and its source, whose colours are swapped, so that one sees which layer is shown."""
    folder = tmp_path_factory.mktemp("target")
    blue = pattern(1200, 1700, 3)
    blue[..., 0] //= 8
    pages = [blue, pattern(700, 500, 4, seed=2)]
    groups = written(folder / "a.ome.zarr", pages)
    omezarr.finished(groups[0], ABOUT)
    with tifffile.TiffWriter(folder / "source.tif") as writer:
        writer.write(blue[::2, ::2, ::-1].copy(), photometric="rgb", metadata=None, tile=(64, 64))
        writer.write(pages[1][::2, ::2].copy(), photometric="rgb", metadata=None, extrasamples=["unassalpha"])
    return folder / "a.ome.zarr", folder / "source.tif"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """The browser, started once."""
    with chromium.Chromium(tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.fixture(scope="module")
def server(target):
    """The server of the target, its source beside it."""
    with view.serve(target[0], before=target[1]) as serving:
        yield serving


def seen(browser, path, **options):
    """A screenshot as pixels (y, x, 3)."""
    browser.screenshot(path, **options)
    with Pillow.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def middle(browser, path):
    """Mean colour of the left and of the right half of the stage, without its borders: two times (3,)."""
    box = browser.run("(r => [r.x, r.y, r.width, r.height])(at('stage').getBoundingClientRect())")
    x, y, width, height = map(int, box)
    stage = seen(browser, path)[y + height // 4 : y + height * 3 // 4, x : x + width]
    halves = stage[:, width // 3 : width // 2 - 30], stage[:, width // 2 + 30 : width * 2 // 3]
    return [half.mean(axis=(0, 1)) for half in halves]


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_page_shows_both_layers(browser, server, tmp_path, width, height, theme):
    """Left of the border lies the source, right of it the result, nothing beyond the screen; nobody else is asked."""
    browser.events.clear()
    browser.open(server.url, width, height, theme)
    left, right = middle(browser, tmp_path / f"page-{width}-{theme}.png")
    assert left[0] > left[2] + 40
    assert right[2] > right[0] + 40
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert all(url.startswith((server.url, "data:", "blob:")) for url in browser.requested())
    assert browser.complaints() == []
    back = seen(browser, tmp_path / f"whole-{width}-{theme}.png", whole=True)[2, 2].mean()
    assert (back > 200) == (theme == "light")


def test_page_shows_the_decision_as_text(browser, server):
    """Decision and reasons are read on the page, and what looks like markup in them is text."""
    browser.open(server.url, 1280, 800)
    told = browser.run("at('decision').innerText")
    for said in (ABOUT["decision"], *ABOUT["reasons"], "noise sigma", "0.7"):
        assert said in told
    assert browser.run("document.querySelectorAll('aside img').length") == 0


def test_controls_are_reached_and_named(browser, server):
    """Every control is reached by Tab and has a name that a screen reader says."""
    browser.open(server.url, 1280, 800)
    reached = []
    for _ in range(14):
        browser.press("Tab", 9)
        reached.append(browser.run("document.activeElement.id || document.activeElement.className"))
    assert {"page", "in", "out", "fit", "full", "split", "openseadragon-canvas"} <= set(reached)
    names = browser.run("""[...document.querySelectorAll('button, input, select, [tabindex="0"]')]
      .filter(e => e.offsetParent)
      .map(e => e.getAttribute('aria-label') || e.labels?.[0]?.innerText || e.innerText.trim())""")
    assert all(names)


def test_keys_zoom_and_move(browser, server):
    """The picture is zoomed and moved by keys alone."""
    browser.open(server.url, 1280, 800)
    zoom = "layers.after.viewportToImageZoom(viewer.viewport.getZoom())"
    first = browser.run(zoom)
    browser.run("at('in').focus()")
    browser.press("Enter", 13)
    browser.settle()
    assert browser.run(zoom) == pytest.approx(first * 1.5)
    browser.press("1", 49)
    browser.settle()
    assert browser.run(zoom) == pytest.approx(1)
    assert browser.run("at('zoom').textContent") == "100 %"
    browser.run("viewer.canvas.focus()")
    place = "viewer.viewport.getCenter().x"
    x = browser.run(place)
    browser.press("ArrowRight", 39)
    browser.settle()
    assert browser.run(place) > x
    browser.press("0", 48)
    browser.settle()
    assert browser.run(zoom) == pytest.approx(first)


def test_keys_move_the_border(browser, server, tmp_path):
    """Arrows move the border when it has the focus; `b` shows the one layer, the other, and both."""
    browser.open(server.url, 1280, 800)
    browser.run("split.focus()")
    browser.press("ArrowRight", 39)
    assert browser.run("split.value") == "51"
    browser.press("b", 66)
    assert browser.run("split.getAttribute('aria-valuetext')") == "50 per cent before, 50 per cent after"
    browser.press("b", 66)
    left, right = middle(browser, tmp_path / "before.png")
    assert left[0] > left[2]
    assert right[0] > right[2]
    browser.press("b", 66)
    left, right = middle(browser, tmp_path / "after.png")
    assert left[2] > left[0]
    assert right[2] > right[0]


def test_border_is_dragged(browser, server):
    """The border follows the mouse."""
    browser.open(server.url, 1280, 800)
    x, y, width = browser.run("(r => [r.x, r.y + r.height / 2, r.width])(at('stage').getBoundingClientRect())")
    moves = [("mousePressed", 0.5), ("mouseMoved", 0.4), ("mouseMoved", 0.25), ("mouseReleased", 0.25)]
    for kind, share in moves:
        place = {"x": x + share * width, "y": y, "button": "left", "clickCount": 1}
        browser.ask("Input.dispatchMouseEvent", type=kind, **place)
    assert browser.run("split.valueAsNumber") == 25
    assert browser.run("at('curtain').style.left") == "25%"


def test_page_selector_changes_the_picture(browser, server, tmp_path):
    """The second page is chosen, shown in its own size, and a page without a decision says so."""
    browser.open(server.url, 1280, 800)
    browser.run("(at('page').value = '1', at('page').dispatchEvent(new Event('change')))")
    browser.settle()
    browser.screenshot(tmp_path / "second.png")
    size = browser.run("[layers.after.getContentSize().x, layers.after.getContentSize().y]")
    assert size == [500, 700]
    assert "Nothing is written down" in browser.run("at('decision').innerText")


def test_page_says_when_the_source_is_too_large(browser, target, tmp_path, monkeypatch):
    """Where the source cannot be read at this zoom the page says so, shows the result alone, and compares closer."""
    monkeypatch.setattr(before, "_MAX_READ", 1)
    with view.serve(target[0], before=target[1]) as serving:
        browser.open(serving.url, 390, 844)
        assert "Zoom in to compare" in browser.run("at('status').textContent")
        assert not any("/before/" in url for url in browser.requested() if url.startswith(serving.url))
        left, right = middle(browser, tmp_path / "far.png")
        assert left[2] > left[0]
        assert right[2] > right[0]
        browser.press("1", 49)
        browser.settle()
        assert browser.run("at('status').textContent") == ""
        left, right = middle(browser, tmp_path / "near.png")
        assert left[0] > left[2]
        assert right[2] > right[0]


def test_page_says_that_tiles_are_lost(browser, tmp_path):
    """A damaged tile is told in words, beside those that are whole."""
    (group,) = written(tmp_path / "a.ome.zarr", [pattern(1000, 1000, 3)])
    shard = omezarr.shard_path(group, 0, 1, 1)
    shard.write_bytes(shard.read_bytes()[:-1])
    with view.serve(group) as serving:
        browser.open(serving.url, 1280, 800)
        browser.run("at('full').click()")
        browser.run("""new Promise(done => {
          const look = () => at('status').textContent ? done() : setTimeout(look, 30);
          look();
        })""")
        assert "1 tile could not be read" in browser.run("at('status').textContent")
