"""A recorded session in a page of documentation: its last state for everybody, and a player where scripts run.

It is plain HTML. `bundle()` and `style()` are the script and the stylesheet, once for each page that has players.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selectolax.lexbor import LexborHTMLParser

from nbws.html import Safe, Tag, ft, to_xml
from nbws.playback import Participant, Playback
from nbws.snapshot import after_fragments, without_scripts

__all__ = ["bundle", "player", "safe_json", "still", "style"]

_STATIC = Path(__file__).parent / "static"
_IN_PAGES = ("htmx.min.js", "htmx-ext-ws.min.js", "nbws.css")  #: of nbws, what pages load and a replay needs
_POLICY = "default-src 'none'; style-src 'unsafe-inline' data:; img-src data:; font-src data:; media-src data:"
_PIXELS_OF_A_LINE = 34
_LOWEST, _HIGHEST = 140, 460  #: pixels, of a frame that no script can measure


def player(playback: Playback, facts: Mapping[str, Any] | None = None) -> str:
    """The HTML of *playback*. *facts* are those of the preview in whose place it stands, see `Preview.facts`."""
    facts = facts or {}
    sections = [_client(playback, place, each, facts.get("height")) for place, each in enumerate(playback.clients)]
    here = _run_here(facts, len(playback.clients))
    what = "A recorded session, as it looked in the end." if playback.entries else "The page, before anybody used it."
    note = ft("p", what, cls="nbws-replay-note", role="status")
    data = ft("script", Safe(safe_json(playback.document())), type="application/json", cls="nbws-replay-data")
    return to_xml(
        ft(
            "div",
            ft("div", *sections, cls="nbws-replay-clients"),
            note,
            here,
            data,
            cls="nbws-recorded",
            data_nbws_replay=True,
            data_height=facts.get("height") or "",
            role="group",
            aria_label=f"Recorded session of {playback.title}" if playback.title else "Recorded session",
        )
    )


def still(text: str, facts: Mapping[str, Any] | None = None) -> str:
    """What stands where a preview with these *facts* was, of which there is no recording."""
    return to_xml(ft("div", ft("p", text, cls="nbws-replay-note"), _run_here(facts or {}, 1), cls="nbws-recorded"))


def _run_here(facts: Mapping[str, Any], clients: int) -> Tag:
    """Where `nbwsRunHere` has its place, with what it is told of the preview."""
    return ft(
        "div",
        cls="nbws-run-here",
        hidden=True,
        data_app=facts.get("app") or "",
        data_path=facts.get("path") or "/",
        data_clients=max(facts.get("clients") or 1, clients),
    )


def bundle() -> str:
    """The script of all players of a page, with what their pages need of nbws. It loads nothing."""
    assets = {name: (_STATIC / name).read_text(encoding="utf-8") for name in _IN_PAGES}
    return f"window.nbwsReplayAssets = {safe_json(assets)};\n{(_STATIC / 'replay.js').read_text(encoding='utf-8')}"


def style() -> str:
    return (_STATIC / "replay.css").read_text(encoding="utf-8")


def safe_json(value: Any) -> str:
    """*value* as JSON that may stand in a script element."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c").replace("\u2028", "\\u2028")


def _client(playback: Playback, place: int, client: Participant, height: int | None) -> Tag:
    name = ft("p", client.name, ft("code", client.path), cls="nbws-replay-name")
    if client.page is None:
        lines = [ft("li", each, cls="nbws-replay-sent") for each in playback.heard_by(place)]
        label = f"What {client.name} was sent"
        return ft(
            "section", name, ft("ol", *lines, cls="nbws-replay-lines", aria_label=label), cls="nbws-replay-client"
        )
    last, fragments = playback.last_page(place)
    page = _inlined(without_scripts(after_fragments(last or "", fragments)))
    frame = ft(
        "iframe",
        srcdoc=page,
        sandbox="allow-same-origin",  # no script runs in it; the page around it measures and colours it
        title=f"{client.name}, in the end",
        loading="lazy",
        cls="nbws-replay-snapshot",
        style=f"height:{height or _height_of(page)}px",
    )
    return ft("section", name, frame, cls="nbws-replay-client", aria_label=client.name)


def _inlined(page: str) -> str:
    """*page* with the stylesheet of nbws in it, and forbidden to load anything."""

    def sheet(found: re.Match[str]) -> str:
        return f"<style>{(_STATIC / 'nbws.css').read_text(encoding='utf-8')}</style>"

    page = re.sub(r'<link\b[^>]*href="[^"]*/_nbws/static/nbws\.css"[^>]*>', sheet, page)
    policy = f'<meta http-equiv="Content-Security-Policy" content="{html.escape(_POLICY)}">'
    return re.sub(r"<head\b[^>]*>", lambda found: found[0] + policy, page, count=1)


def _height_of(page: str) -> int:
    """A guess, in pixels, for readers without script."""
    document = LexborHTMLParser(page)
    blocks = document.css("h1, h2, h3, p, li, tr, input, select, textarea, label, pre, hr, button, svg")
    return min(max(60 + _PIXELS_OF_A_LINE * len(blocks), _LOWEST), _HIGHEST)
