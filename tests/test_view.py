"""The server behind the page: what it answers, and what it refuses."""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
from pathlib import Path

import numpy as np
import pytest
import tifffile
from omegroup import pattern, written
from PIL import Image as Pillow

from pipelines import omezarr, view
from pipelines.errors import JobError, StoreError
from refine.spec import Resolution

STATIC = Path(view.__file__).parent / "viewer"
ABOUT = {"decision": "enlarge 2 times", "reasons": ["<b>sharp</b>"], "measured": {"noise": 0.5}}


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """A target of two pages, its second one with alpha, and the source they were made of."""
    folder = tmp_path_factory.mktemp("target")
    pages = [pattern(900, 1300, 3, "uint16"), pattern(300, 200, 4, seed=2)]
    groups = written(folder / "a.ome.zarr", pages, resolution=Resolution(300, 300))
    omezarr.finished(groups[0], ABOUT)
    provenance = {"sha256": "ab" * 32, "tiles": list(range(1000)), "of": {str(n): n for n in range(30)}}
    (folder / "a.ome.zarr/provenance.json").write_text(json.dumps(provenance))
    with tifffile.TiffWriter(folder / "source.tif") as writer:
        writer.write(pages[0][::2, ::2].copy(), photometric="rgb", metadata=None, tile=(64, 64))
        writer.write(pages[1][::2, ::2].copy(), photometric="rgb", metadata=None, extrasamples=["unassalpha"])
    return folder / "a.ome.zarr", folder / "source.tif", pages


@pytest.fixture(scope="module")
def server(target):
    """The server of that target, its source beside it."""
    with view.serve(target[0], before=target[1]) as serving:
        yield serving


def answer(server, path, method="GET", **headers):
    """Status, headers and body of a request that goes out as it is written here."""
    connection = http.client.HTTPConnection("127.0.0.1", int(server.url.rstrip("/").rpartition(":")[2]), timeout=30)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        found = connection.getresponse()
        return found.status, dict(found.getheaders()), found.read()
    finally:
        connection.close()


def picture(server, path):
    """The pixels (y, x, c) of a tile."""
    status, _, body = answer(server, path)
    assert status == 200, body
    with Pillow.open(io.BytesIO(body)) as opened:
        found = np.asarray(opened)
    return found.reshape(*found.shape[:2], -1).astype(int)


def test_serve_listens_on_this_machine_alone(server):
    """The address is 127.0.0.1, and nothing else is bound."""
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", server.url)
    assert server._server.socket.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize("path", ["/", "/view.css", "/view.js", "/openseadragon.min.js", "/info.json"])
def test_page_comes_with_a_policy(server, path):
    """Each part of the page is there, and says that the browser may ask nobody else."""
    status, headers, body = answer(server, path)
    assert status == 200
    assert int(headers["Content-Length"]) == len(body) > 0
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self';")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_page_names_no_other_address():
    """Our own files name no address at all, and the viewer's name nothing that it fetches by itself."""
    for name in ("index.html", "view.css", "view.js"):
        assert not re.search(r"(?i)(https?:)?//[a-z0-9.]+\.[a-z]", (STATIC / name).read_text(encoding="utf-8"))
    vendored = (STATIC / "openseadragon/openseadragon.min.js").read_text(encoding="utf-8")
    named = set(re.findall(r"https?://([a-z.]+)", vendored))
    # Names of formats, the homepage, and the default of a tile source that is not used.
    assert named <= {"iiif.io", "library.stanford.edu", "openseadragon.github.io", "schemas.microsoft.com",
                     "tile.openstreetmap.org"}  # fmt: skip


def test_viewer_is_small_and_says_its_version():
    """The vendored library is under 600 kB, with its licence and the version that its own first line names."""
    folder = STATIC / "openseadragon"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 600_000
    version = (folder / "openseadragon.min.js").read_text(encoding="utf-8").split()[2]
    assert f"OpenSeadragon {version}," in (folder / "README.md").read_text(encoding="utf-8")
    assert "Redistribution and use" in (folder / "LICENSE.txt").read_text(encoding="utf-8")


def test_info_says_what_there_is(server):
    """The page is told sizes, levels, the decision and the provenance, long lists cut short."""
    info = json.loads(answer(server, "/info.json")[2])
    assert [(p["width"], p["height"], p["levels"], p["alpha"]) for p in info["pages"]] == [
        (1300, 900, 3, False),
        (200, 300, 1, True),
    ]
    assert info["pages"][0]["about"] == ABOUT
    assert info["pages"][1]["about"] == {}
    assert info["pages"][0]["before"]["levels"] == 3
    assert "2 times by bilinear interpolation" in info["pages"][0]["before"]["note"]
    assert info["provenance"]["sha256"] == "ab" * 32
    assert info["provenance"]["tiles"][-1] == "... 980 more"
    assert len(info["provenance"]["of"]) == 21


@pytest.mark.parametrize("level", [0, 1, 2])
def test_tiles_are_those_of_the_pyramid(server, target, level):
    """The tiles of a level, put together, are its pixels in 8 bits, as near as JPEG keeps them."""
    array = omezarr.opened(target[0] / "0", level)
    height, width, _ = array.shape
    for y in range(0, height, 512):
        for x in range(0, width, 512):
            wanted = array[y : min(y + 512, height), x : min(x + 512, width)] / 257
            found = picture(server, f"/tiles/0/after/{level}/{y // 512}/{x // 512}")
            assert found.shape == wanted.shape
            assert np.abs(found - wanted).mean() < 3


def test_tiles_with_alpha_are_exact(server, target):
    """A page with alpha comes as PNG, pixel for pixel."""
    np.testing.assert_array_equal(picture(server, "/tiles/1/after/0/0/0"), target[2][1])


def test_before_lies_over_after(server):
    """The source's tiles have the size of the result's, and show the same things at the same places."""
    for page, row, column in ((0, 0, 0), (0, 1, 2), (1, 0, 0)):
        after = picture(server, f"/tiles/{page}/after/0/{row}/{column}")
        before = picture(server, f"/tiles/{page}/before/0/{row}/{column}")
        assert after.shape == before.shape
        # Colour under invisible pixels is nobody's.
        seen = [tile[..., :3] * (tile[..., 3:] if tile.shape[2] == 4 else 1) for tile in (after, before)]
        assert np.corrcoef(seen[0].ravel(), seen[1].ravel())[0, 1] > 0.98


@pytest.mark.parametrize(
    "path",
    [
        "/tiles/0/after/0/2/0",
        "/tiles/0/after/0/0/3",
        "/tiles/0/after/3/0/0",
        "/tiles/2/after/0/0/0",
        "/tiles/0/middle/0/0/0",
        "/tiles/0/after/0/-1/0",
        "/tiles/0/after/0/0/0/",
        "/tiles/0/after/0/0/99999999999999999999",
        "/tiles/0/after/0/0/%30",
        "/tiles/0/after/0/../zarr.json",
        "/../../etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "//etc/passwd",
        "/viewer/view.js",
        "/openseadragon/README.md",
        "/zarr.json",
        "/provenance.json",
        "",
        "/\\..\\view.py",
    ],
)
def test_nothing_else_is_found(server, path):
    """What is no tile and no part of the page is not found, however it is spelled."""
    assert answer(server, path or "*")[0] == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1:1", ""])
def test_other_names_are_refused(server, host):
    """A request that names this server otherwise is answered with nothing: a name may be made to point here."""
    status, _, body = answer(server, "/info.json", Host=host)
    assert status == 421
    assert b"pages" not in body


def test_localhost_is_this_server(server):
    """The name that browsers resolve themselves is accepted, with the port."""
    assert answer(server, "/", Host=f"localhost:{server.url.rstrip('/').rpartition(':')[2]}")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_is_written(server, method):
    """There is no way to send anything; HEAD is GET without a body."""
    assert answer(server, "/info.json", method)[0] == 501
    status, headers, body = answer(server, "/info.json", "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 0


def test_damaged_tile_is_an_error_of_one_line(tmp_path, caplog):
    """A shard that is damaged is an error of its tile, told in the answer and the log; other tiles are shown."""
    (group,) = written(tmp_path / "a.ome.zarr", [pattern(300, 900, 3)])
    shard = omezarr.shard_path(group, 0, 0, 1)
    shard.write_bytes(shard.read_bytes()[:-1])
    caplog.set_level("WARNING", logger="pipelines")
    with view.serve(group) as serving:
        status, _, body = answer(serving, "/tiles/0/after/0/0/1")
        assert (status, b"0/c/0/0/1" in body, body.count(b"\n")) == (500, True, 0)
        assert answer(serving, "/tiles/0/after/0/0/0")[0] == 200
    assert "0/c/0/0/1" in caplog.text


def test_source_that_cannot_be_compared_stops_nothing(target, tmp_path):
    """A source that is no image, or of another number of pages is told on the page, and the result is shown."""
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"II*\0 no more")
    one = tmp_path / "one.tif"
    tifffile.imwrite(one, np.zeros((9, 9), np.uint8), metadata=None)
    for source, said in ((broken, "The source"), (one, "has 1 page")):
        with view.serve(target[0], before=source) as serving:
            info = json.loads(answer(serving, "/info.json")[2])
            assert said in info["note"]
            assert [page["before"] for page in info["pages"]] == [None, None]
            assert answer(serving, "/tiles/0/before/0/0/0")[0] == 404
            assert answer(serving, "/tiles/0/after/0/0/0")[0] == 200


def test_serve_refuses_what_is_no_target(tmp_path):
    """A folder that is no OME-Zarr of ours, and one that is not there, are refused in a line that names them."""
    (tmp_path / "empty").mkdir()
    for name in ("empty", "gone"):
        with pytest.raises(StoreError, match=f"^{name}: "):
            view.serve(tmp_path / name)


def test_serve_refuses_what_it_cannot_show(target, tmp_path):
    """A source that is not there, and a result of another form, are refused before anything is served."""
    with pytest.raises(JobError, match=r"gone\.tif: the source is not there; name the file"):
        view.serve(target[0], before=tmp_path / "gone.tif")
    (tmp_path / "a.dzi").write_text("<Image/>")
    with pytest.raises(JobError, match=r"a\.dzi: only an OME-Zarr \(\.zarr\) is shown; make one: refine scan"):
        view.serve(tmp_path / "a.dzi")


def test_serve_says_that_a_port_is_taken(target):
    """A port that another program has is refused with a way out."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(JobError, match=r"cannot be used.*name another"):
            view.serve(target[0], port=taken.getsockname()[1])


def test_serve_writes_nothing(target, server):
    """Looking at a target changes no file of it."""
    state = {path: path.stat().st_mtime_ns for path in target[0].rglob("*")}
    for path in ("/", "/info.json", "/tiles/0/after/0/0/0", "/tiles/0/before/0/0/0"):
        assert answer(server, path)[0] == 200
    assert {path: path.stat().st_mtime_ns for path in target[0].rglob("*")} == state
