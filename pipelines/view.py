"""A finished target to look at: a page on this machine alone, with deep zoom, its source beside it, and its decision.

Tiles are made when they are asked for. Nothing is written, and the page needs no other address.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Self

from pipelines import omezarr, sources
from pipelines.assessing import meaning, readings
from pipelines.before import Before, Reader
from pipelines.errors import JobError
from refine.display import shown, suffix, tile_bytes
from refine.errors import RefineError
from refine.spec import ImageSpec
from refine.window import Window

logger = logging.getLogger(__name__)

TILE = 512
"""px: a chunk, which then is decoded once."""
_QUALITY = 95
"""Of JPEG: this is for judging."""
_STATIC = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/view.css": ("view.css", "text/css; charset=utf-8"),
    "/view.js": ("view.js", "text/javascript; charset=utf-8"),
    "/openseadragon.min.js": ("openseadragon/openseadragon.min.js", "text/javascript; charset=utf-8"),
}
_TILE = re.compile(r"/tiles/(\d{1,6})/(before|after)/(\d{1,2})/(\d{1,7})/(\d{1,7})")
_TYPES = {"jpg": "image/jpeg", "png": "image/png"}
_HEADERS = {
    # Whatever a picture's metadata say, the browser asks nobody but this server, and runs nothing but its scripts.
    # The hash is that of an empty style element.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; "
    "style-src 'self' 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='; img-src 'self' blob: data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_MAX_ITEMS = 20
"""Of a list that the page shows: a ledger has a hundred thousand."""
_HIDDEN = ("icc", "resolution", "space")
"""Of the attributes: what the page says of the picture itself."""


@dataclass(frozen=True, slots=True)
class Page:
    """One image of a target, and what it was made of."""

    name: str
    """As the page selector shows it."""
    spec: ImageSpec
    """Of the result."""
    levels: tuple[omezarr.LevelArray, ...]
    """The largest first."""
    about: Mapping[str, object]
    """What the job wrote into its attributes."""
    before: Before | None
    """The source, enlarged."""

    def tile(self, layer: str, level: int, row: int, column: int) -> bytes | None:
        """A tile of a layer, `before` or `after`; None where there is none.

        Raises StoreError or ImageReadError where its pixels are damaged.
        """
        if level >= len(self.levels):
            return None
        source = self.levels[level]
        window = Window(row * TILE, column * TILE, (row + 1) * TILE, (column + 1) * TILE)
        window = window.clip(Window(0, 0, *source.shape[:2]))
        if not window.area:
            return None
        if layer == "after":
            return tile_bytes(shown(source[window.slices], self.spec), _QUALITY)
        if self.before is None or level >= self.before.levels:
            return None
        return tile_bytes(self.before.window(window, level), _QUALITY)

    def suffix(self, layer: str) -> str:
        """What the tiles of a layer are."""
        return suffix(self.before.spec if layer == "before" and self.before else self.spec)


class Server:
    """Serves pages of one target on the loopback address until it is closed. Use it in a `with`."""

    def __init__(self, pages: Sequence[Page], info: Mapping[str, object], reader: Reader, port: int) -> None:
        try:
            self._server = _Server(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise JobError(f"port {port} cannot be used ({error.strerror}); name another, or 0 for any") from error
        self._reader = reader
        self._server.pages, self._server.info = pages, json.dumps(info).encode()
        self._thread = Thread(target=self._server.serve_forever, name="view", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self._server.server_port}/"

    def wait(self) -> None:
        """Return when the server is closed, which an interrupt does not do by itself."""
        self._thread.join()

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def serve(target: Path, port: int = 0, before: Path | None = None) -> Server:
    """A server on 127.0.0.1 that shows a finished target, and `before`, its source, beside it; port 0: any free one.

    A source that cannot be compared (damaged, too large to be read in place) is told on the page, and stops
    nothing. Raises StoreError where the target is none, JobError where it is a file,
    the source is not there, or the port is taken.
    """
    if target.is_file():
        raise JobError(f"{target.name}: only an OME-Zarr (.zarr) is shown; make one: refine scan SOURCE TARGET.zarr")
    if before is not None and not before.exists():
        raise JobError(f"{before}: the source is not there; name the file that {target.name} was made of, or none")
    images = omezarr.groups(target)
    reader = Reader()
    try:
        shown_beside, note = _beside(before, len(images), reader)
        pages = [
            _page(image, f"{index + 1} of {len(images)}", source, reader)
            for index, (image, source) in enumerate(zip(images, shown_beside, strict=True))
        ]
        info = {
            "title": target.absolute().name,
            "pages": [_described(page) for page in pages],
            "provenance": _trimmed(_provenance(target)),
            "note": note,
        }
        return Server(pages, info, reader, port)
    except BaseException:
        reader.close()
        raise


def _page(image: Path, name: str, source: sources.Source | None, reader: Reader) -> Page:
    pyramid = omezarr.pyramid(image)
    about = omezarr.described(image)
    spec = sources.source_of(image).spec
    size = (pyramid.height, pyramid.width)
    before = None if source is None else Before(source, size, reader)
    arrays = tuple(omezarr.LevelArray(image, pyramid, level) for level in range(len(pyramid.levels)))
    return Page(name, spec, arrays, about, before)


def _beside(before: Path | None, count: int, reader: Reader) -> tuple[list[sources.Source | None], str]:
    """The source of each page, and what the page says where they cannot be shown."""
    nothing: list[sources.Source | None] = [None] * count
    if before is None:
        return nothing, ""
    try:
        specs = reader.found(lambda: sources.listing(before).pages)
        if len(specs) != count:
            pages = "1 page" if len(specs) == 1 else f"{len(specs)} pages"
            return nothing, f"The source has {pages}, the result {count}: they are not compared."
        found = [reader.found(partial(sources.source_of, before, spec.page)) for spec in specs]
        for source in found:
            Before.check(source)
    except (RefineError, OSError) as error:
        return nothing, f"The source is not shown: {error}"
    return list(found), ""


def _provenance(target: Path) -> object:
    try:
        return json.loads((target / "provenance.json").read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        return f"provenance.json cannot be read: {error}"


def _described(page: Page) -> dict[str, object]:
    spec, before = page.spec, page.before
    depth = 8 if spec.dtype == "uint8" else 16
    found = spec.resolution
    picture = {
        "width": f"{spec.width:,} px",
        "height": f"{spec.height:,} px",
        "channels": f"{spec.model}{' and alpha' if spec.has_alpha else ''}, {depth} bit",
        "resolution": "not known"
        if found is None or found.unit == "none"
        else f"{found.x:g} x {found.y:g} px per {found.unit}",
        "ICC profile": "none" if spec.icc is None else f"{len(spec.icc):,} bytes",
        "on this page": "8 bit, sRGB" + ("" if spec.has_alpha else ", JPEG"),
    }
    if before is not None:
        picture["source"] = f"{before.spec.width:,} x {before.spec.height:,} px"
    return {
        "name": page.name,
        "width": spec.width,
        "height": spec.height,
        "tile": TILE,
        "levels": len(page.levels),
        "alpha": spec.has_alpha,
        "about": _trimmed(_worded({key: value for key, value in page.about.items() if key not in _HIDDEN})),
        "picture": picture,
        "before": None if before is None else {"levels": before.levels, "zoom": before.zoom, "note": before.note},
    }


def _worded(about: Mapping[str, object]) -> Mapping[str, object]:
    """What is known of a page, its decision in words and what was measured with units."""
    worded = {key.replace("_", " "): value for key, value in about.items()}
    if isinstance(decision := about.get("decision"), str):
        worded["decision"] = meaning(decision)
    if isinstance(measured := about.get("measured"), Mapping):
        worded["measured"] = readings(measured)
    return worded


def _trimmed(value: object) -> object:
    """JSON with long lists cut short."""
    if isinstance(value, Mapping):
        items = list(value.items())
        kept = {str(key): _trimmed(each) for key, each in items[:_MAX_ITEMS]}
        return kept | ({"...": f"{len(items) - _MAX_ITEMS} more"} if len(items) > _MAX_ITEMS else {})
    if isinstance(value, list):
        more = [f"... {len(value) - _MAX_ITEMS} more"] if len(value) > _MAX_ITEMS else []
        return [*map(_trimmed, value[:_MAX_ITEMS]), *more]
    return value


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    pages: Sequence[Page] = ()
    info = b""

    def handle_error(self, request: object, client_address: object) -> None:
        """Say what went wrong, unless it is that the browser went away."""
        error = sys.exception()
        if not isinstance(error, ConnectionError):
            logger.error("a request of the page failed", exc_info=error)
        del request, client_address


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD; what is asked for is looked up or parsed to integers, never made a path."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    server: _Server

    def do_GET(self) -> None:
        """Answer with a file of the page, its facts, or a tile."""
        port = self.server.server_port
        if self.headers.get("Host") not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            # Another name for this address: a page from elsewhere that had its name point here (DNS rebinding).
            self._answer(HTTPStatus.MISDIRECTED_REQUEST, f"ask for http://127.0.0.1:{port}/")
            return
        try:
            self._find(self.path.partition("?")[0])
        except RefineError as error:
            logger.warning("%s", error)
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))

    do_HEAD = do_GET  # noqa: N815  the name that the base class looks for

    def _find(self, path: str) -> None:
        if path in _STATIC:
            name, kind = _STATIC[path]
            self._send(HTTPStatus.OK, (resources.files("pipelines") / "viewer" / name).read_bytes(), kind)
        elif path == "/info.json":
            self._send(HTTPStatus.OK, self.server.info, "application/json")
        elif (parts := _TILE.fullmatch(path)) and int(parts[1]) < len(self.server.pages):
            page, layer = self.server.pages[int(parts[1])], parts[2]
            data = page.tile(layer, int(parts[3]), int(parts[4]), int(parts[5]))
            if data is None:
                self._answer(HTTPStatus.NOT_FOUND, "no such tile")
            else:
                self._send(HTTPStatus.OK, data, _TYPES[page.suffix(layer)])
        else:
            self._answer(HTTPStatus.NOT_FOUND, "nothing is here")

    def _answer(self, status: HTTPStatus, text: str) -> None:
        self._send(status, text.encode(), "text/plain; charset=utf-8")

    def _send(self, status: HTTPStatus, data: bytes, kind: str) -> None:
        try:
            self.send_response(status)
            for name, value in {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)
        except ConnectionError:
            # The browser no longer wants a tile that went out of view.
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name it has in the base class
        """One line a request, where debugging is on."""
        logger.debug(format, *args)
