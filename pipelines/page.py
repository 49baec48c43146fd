"""Pages that lie in one file: they open from a disk, ask no other address, and run nothing but their own script."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import resources
from typing import Any

from pipelines.summary import printable
from pipelines.thumbnail import Comparison, data_uri

_PARTS = resources.files("pipelines") / "report_page"
_POLICY = (
    "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; img-src data: file: 'self'; "
    "base-uri 'none'; form-action 'none'"
)


Pictures = dict[str, dict[str, object]]
"""Of a comparison, by `whole` and `detail`: size and addresses of both sides."""


@dataclass(frozen=True, slots=True)
class Told:
    """A line under a pair of pictures."""

    text: str
    """What it says."""
    style: str = ""
    """`warn` for what deserves a look."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Two pictures of a page, and what is said of them."""

    name: str
    """What they show."""
    views: Pictures
    """Its pictures, as `embedded` gives them."""
    links: tuple[str | None, str | None] = (None, None)
    """Addresses of the files themselves; None for none."""
    size: str = ""
    """Of the second, in words."""
    told: Sequence[Told] = field(default_factory=tuple)
    """What else is said."""

    def as_json(self) -> dict[str, object]:
        """As the page's script takes it."""
        return {
            "name": printable(self.name),
            "whole": self.views["whole"],
            "detail": self.views.get("detail"),
            "links": list(self.links),
            "size": self.size,
            "lines": [{"text": printable(line.text), "style": line.style} for line in self.told],
        }


def pictures(found: Comparison, address: Callable[[str, str, bytes], str]) -> Pictures:
    """The pictures of a comparison as the page takes them; address gives that of a view's side and its bytes."""
    return {
        view: {
            "height": pair.height,
            "width": pair.width,
            "before": address(view, "before", pair.before),
            "after": address(view, "after", pair.after),
        }
        for view, pair in found.views.items()
    }


def embedded(found: Comparison) -> Pictures:
    """The pictures of a comparison, inside the page."""
    return pictures(found, lambda _view, _side, webp: data_uri(webp))


def comparison_page(
    compared: Iterable[Compared],
    title: str,
    *,
    told: str = "",
    sides: tuple[str, str] = ("old", "new"),
    facts: Mapping[str, object] | None = None,
) -> str:
    """A page of pairs and nothing else: what each side is in one word, and what is known of both."""
    entries = [one.as_json() for one in compared]
    data = {
        "words": {"sides": list(sides), "failures": ""},
        "figures": [],
        "decisions": [],
        "failures": [],
        "notes": [],
        "items": None,
        "links": {"target": None},
        "pairs": [
            {"id": "pairs", "title": f"{sides[0]} beside {sides[1]}".capitalize(), "told": "", "entries": entries}
        ],
        "made": {"Facts": dict(facts)} if facts else None,
    }
    return page(title, told, data)


def page(title: str, lead: str, data: Mapping[str, Any]) -> str:
    """The page's text; data is what its script draws."""
    style, script = _part("page.css"), _part("page.js")
    policy = _POLICY.format(script=_digest(script), style=_digest(style))
    values = {
        "policy": html.escape(policy),
        "title": html.escape(printable(title)),
        "lead": html.escape(printable(lead)),
        "style": style,
        "data": _harmless(data),
        "script": script,
    }
    # In one pass: what is put in is not looked through for marks.
    return re.sub(r"\{(\w+)\}", lambda mark: values[mark[1]], _part("page.html"))


def page_data(text: str) -> dict[str, Any]:
    """What the script of a page that was written before draws. Raises ValueError where it is no page of this form."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    if found is None or f"<script>{_part('page.js')}</script>" not in text:
        raise ValueError("a page of another form")
    data: dict[str, Any] = json.loads(found[1])
    return data


def _harmless(data: Mapping[str, Any]) -> str:
    """JSON that ends no script and begins no comment, whatever a file is called."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _digest(text: str) -> str:
    return base64.b64encode(sha256(text.encode("utf-8")).digest()).decode("ascii")


def _part(name: str) -> str:
    return (_PARTS / name).read_text(encoding="utf-8")
