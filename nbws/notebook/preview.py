"""The preview: an IFrame as high as its page, over it a slim line, under it the errors of handlers."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from nbws.html import Safe, ft, to_xml
from nbws.security import TICKET

__all__ = ["MIME", "InPage", "Preview", "Previews"]

MIME = "application/vnd.nbws.preview+json"
"""The type of the output by which a saved notebook tells that it shows a preview."""

_STATIC = Path(__file__).parent.parent / "static"


class Preview:
    """What `app` and `app.preview()` show. Made for one display: its output holds a ticket, never the token."""

    def __init__(
        self,
        url: str,
        path: str,
        ticket: str | None,
        height: int | None,
        *,
        panel_key: str | None = None,
        app: str = "",
        recording: str | None = None,
    ) -> None:
        self.url, self.path, self.height = url, path, height
        self.app, self.recording = app, recording
        self._ticket = ticket
        self._panel_key = panel_key

    @property
    def src(self) -> str:
        """The address of the framed page."""
        return self._address_of(self.path)

    def _address_of(self, path: str, **query: str | None) -> str:
        given = {**query, TICKET: self._ticket}
        asked = urlencode({name: value for name, value in given.items() if value is not None})
        return f"{self.url}{path}{('&' if '?' in path else '?') if asked else ''}{asked}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        text = f"preview of {self.path} at {self.url}"
        return {"text/html": self.html(), "text/plain": text, MIME: self.facts()}

    def facts(self, clients: int = 1) -> dict[str, Any]:
        """What the docs need to know, to show something else in its place. No address, no credential."""
        told = {"app": self.app, "path": self.path, "clients": clients, "height": self.height}
        return {**told, "recording": self.recording}

    def html(self) -> str:
        """The output's HTML. Its script only draws what the framed page tells it; without it the page works too."""
        name = "nbws-" + secrets.token_hex(6)
        line = ft(
            "div",
            ft("span", cls="nbws-dot"),
            ft("code", self.path, cls="nbws-path"),
            ft("span", "connecting", cls="nbws-state", role="status"),
            ft("span", cls="nbws-version"),
            # Shown where JupyterLab has our extension, which is what can do it.
            ft("button", "beside", type="button", title="Open beside the notebook", cls="nbws-beside"),
            ft(
                "a",
                ft("span", "open in a tab "),
                "↗",
                href=self.src,
                title="Open in a tab",
                target="_blank",
                rel="noopener",
            ),
            cls="nbws-line",
        )
        frame = ft(
            "iframe",
            src=self.src,
            title=f"Preview of {self.path}",
            style=f"height:{self.height or 150}px",
            allow="clipboard-write; fullscreen; autoplay",
        )
        note = ft("div", cls="nbws-note", role="status")
        said = ft(
            "details",
            ft("summary", cls="nbws-said-head"),
            ft("pre", cls="nbws-said-lines"),
            cls="nbws-said",
            hidden=True,
        )
        boxes = [said] + [ft("div", cls=f"nbws-{what}", role="log") for what in ("notices", "errors")]
        if self._panel_key is not None:
            src = self._address_of("/_nbws/panel", key=self._panel_key)
            boxes.append(ft("details", ft("summary", "Panel"), cls="nbws-inspector", data_src=src))
        script = (_STATIC / "preview.js").read_text(encoding="utf-8")
        options = f'"{name}", {"false" if self.height else "true"}'
        return to_xml(
            ft("style", (_STATIC / "preview.css").read_text(encoding="utf-8")),
            ft("div", line, frame, note, *boxes, cls="nbws-preview", id=name),
            ft("script", f"({script.strip().rstrip(';')})({options})"),
        )

    def link(self) -> str:
        """The HTML of a link that opens the page in a tab."""
        return to_xml(ft("a", f"{self.url}{self.path} ↗", href=self.src, target="_blank", rel="noopener"))


class Previews:
    """Several clients of one page beside each other, each with a session of its own.

    A browser keeps the cookies of each host name apart, and takes `client2.localhost` for this machine, as it does
    `localhost` (RFC 6761, 6.3; Chromium and Firefox do, Safari does not).
    """

    def __init__(self, first: Preview, clients: int) -> None:
        scheme, _, rest = first.url.partition("://")
        port = rest.rpartition(":")[2]
        urls = [f"{scheme}://client{number}.localhost:{port}" for number in range(2, clients + 1)]
        self.previews = [first, *(Preview(url, first.path, first._ticket, first.height) for url in urls)]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        first = self.previews[0]
        text = f"{len(self.previews)} previews of {first.path} at {first.url}"
        return {"text/html": self.html(), "text/plain": text, MIME: first.facts(len(self.previews))}

    def html(self) -> str:
        outputs = [ft("div", Safe(each.html()), style="flex:1 1 280px;min-width:0") for each in self.previews]
        return to_xml(ft("div", *outputs, style="display:flex;flex-wrap:wrap;gap:8px;align-items:flex-start"))


class InPage:
    """What `app` and `app.preview()` show where the app runs in a page: the page opens the clients itself."""

    def __init__(self, app: int, path: str, clients: int, height: int | None) -> None:
        self.app, self.path, self.clients, self.height = app, path, clients, height

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        asked = {"app": self.app, "path": self.path, "clients": self.clients, "height": self.height}
        return {MIME: asked, "text/plain": f"the client of {self.path} is in this page"}
