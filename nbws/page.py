"""The client document: the page that a browser gets, with all that it needs and nothing from elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from markupsafe import Markup

from nbws.html import Tag, ft, to_xml

__all__ = ["HEAD_TAGS", "STATIC", "Document", "document", "notice", "panel_page", "split_head"]

STATIC = "/_nbws/static"
"""Where the app serves the files of `nbws/static`."""

HEAD_TAGS = frozenset(("title", "meta", "link", "style", "base"))
"""Tags that belong into the head wherever a handler returns them."""

EXTENSIONS = {"ws": "htmx-ext-ws.min.js"}
"""htmx's extensions that the package ships, by the name that `exts=` takes."""


_DOCTYPE = Markup("<!doctype html>\n")


class Document(Markup):
    """A whole page. *digest* is the same for the same page; None where pages are not followed while they change."""

    digest: str | None = None


def split_head(items: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """(what belongs into the head, what belongs into the body) of a handler's result."""
    head: list[Any] = []
    body: list[Any] = []
    for item in items:
        (head if getattr(item, "tag", None) in HEAD_TAGS else body).append(item)
    return head, body


def document(
    content: Iterable[Any],
    *,
    title: str,
    root: str = "",
    exts: Iterable[str] = ("ws",),
    default_hdrs: bool = True,
    hdrs: Any = (),
    ftrs: Any = (),
    htmlkw: Mapping[str, Any] | None = None,
    bodykw: Mapping[str, Any] | None = None,
    strips_token: bool = False,
    knows_ticket: bool = False,
    in_development: bool = False,
) -> Document:
    """The whole page around *content*.

    *root* is the path under which the app is served. *strips_token* takes the credential out of the address bar.
    *knows_ticket* has the page talk to what frames it, where that knows the ticket of the page's URL as well.
    *in_development* has the page listen to the feed, and change in place when its code does.
    """
    head, body = split_head(content)
    if not any(getattr(item, "tag", None) == "title" for item in head):
        head.insert(0, ft("title", title))
    meta = [
        ft("meta", charset="utf-8"),
        ft("meta", name="viewport", content="width=device-width, initial-scale=1, viewport-fit=cover"),
    ]
    scripts: list[Tag] = []
    if default_hdrs:
        scripts.append(ft("link", rel="stylesheet", href=f"{root}{STATIC}/nbws.css"))
        files = ["htmx.min.js", *(EXTENSIONS[e] for e in exts)]
        scripts += [ft("script", src=f"{root}{STATIC}/{file}") for file in files]

    rest = to_xml(*scripts, hdrs, *head)
    whole_body = ft("body", *body, ftrs, **(bodykw or {}))

    def page(*own: Tag) -> Markup:
        return to_xml(ft("html", ft("head", *meta, *own, rest), whole_body, **({"lang": "en"} | dict(htmlkw or {}))))

    if not default_hdrs:
        return Document(_DOCTYPE + page())
    digest = hashlib.blake2b(page().encode(), digest_size=12).hexdigest() if in_development else None
    data = {"root": root, "strips_token": strips_token, "knows_ticket": knows_ticket, "page": digest}
    own = ft("script", src=f"{root}{STATIC}/nbws.js", **{f"data_{name}": value for name, value in data.items()})
    html = Document(_DOCTYPE + page(own))
    html.digest = digest
    return html


def notice(title: str, text: str) -> Markup:
    """A page that says one thing, such as why there is nothing to see. It needs no file."""
    style = (
        "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:34rem;padding:0 1rem;color:#24292f}"
        "h1{font-size:1.1rem}@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}}"
    )
    head = (ft("meta", charset="utf-8"), ft("title", title), ft("style", style))
    page = ft("html", ft("head", *head), ft("body", ft("h1", title), ft("p", text)), lang="en")
    return _DOCTYPE + to_xml(page)


def panel_page(root: str, address: str, key: str) -> Markup:
    """The panel as a page, for a frame under a preview. It asks at *address*, with *key*."""
    script = f'import {{ page }} from "{root}{STATIC}/inspector.js"; page(document.getElementById("panel"));'
    style = ft("style", Markup("body{margin:0;background:transparent}.nbws-panel{margin:0;border-radius:0}"))
    links = ft("link", rel="stylesheet", href=f"{root}{STATIC}/inspector.css")
    head = ft("head", ft("meta", charset="utf-8"), ft("title", "Panel of the app"), links, style)
    body = ft(
        "body", ft("div", id="panel", data_address=address, data_key=key), ft("script", Markup(script), type="module")
    )
    return _DOCTYPE + to_xml(ft("html", head, body, lang="en"))
