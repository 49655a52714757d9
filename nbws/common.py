"""The drop-in vocabulary: `from nbws.common import *` in place of `from fasthtml.common import *`."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, Optional, Union
from uuid import uuid4

from starlette.background import BackgroundTask, BackgroundTasks
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from nbws.app import App
from nbws.asgi import Beforeware
from nbws.connection import Sent
from nbws.errors import NbwsError
from nbws.html import MAKERS, NotStr, Safe, Tag, ft, ft_hx, to_xml
from nbws.limits import Limits
from nbws.messages import HtmxHeaders
from nbws.responses import FtResponse, HtmxResponseHeaders, HttpHeader, Redirect, cookie
from nbws.serving import serve
from nbws.state import State

FastHTML = App
globals().update(MAKERS)


def Form(*content: Any, enctype: str = "multipart/form-data", **attributes: Any) -> Tag:
    """A form, which can carry files."""
    return ft("form", *content, enctype=enctype, **attributes)


def Html(*content: Any, doctype: bool = True, **attributes: Any) -> Tag | Safe:
    """A whole document of one's own, with its doctype."""
    page = ft("html", *content, **attributes)
    return Safe("<!doctype html>\n") + to_xml(page) if doctype else page


def Hidden(value: Any = "", id: Any = None, **attributes: Any) -> Tag:
    """A hidden field."""
    return ft("input", type="hidden", value=value, id=id, **attributes)


def A(*content: Any, href: Any = "#", **attributes: Any) -> Tag:
    """A link; without *href* it leads nowhere, for htmx to act on."""
    return ft("a", *content, href=href, **attributes)


def Titled(title: str = "nbws app", *content: Any, cls: str = "container", **attributes: Any) -> tuple[Tag, Tag]:
    """A page's title, and its main part under a heading of the same words."""
    return ft("title", title), ft("main", ft("h1", title), *content, cls=cls, **attributes)


def Container(*content: Any, cls: str = "container", **attributes: Any) -> Tag:
    """The main part of a page, of a width that reads well."""
    return ft("main", *content, cls=cls, **attributes)


def Card(*content: Any, header: Any = None, footer: Any = None, **attributes: Any) -> Tag:
    """A framed part of a page, with a header and a footer where they are given."""
    parts = (header and ft("header", header), *content, footer and ft("footer", footer))
    return ft("article", *parts, **attributes)


def Group(*content: Any, **attributes: Any) -> Tag:
    """Fields and buttons side by side."""
    return ft("fieldset", *content, role="group", **attributes)


def Grid(*content: Any, cls: str = "grid", **attributes: Any) -> Tag:
    """Parts of a page side by side, below each other where it is narrow."""
    return ft("div", *(ft("div", part) for part in content), cls=cls, **attributes)


def CheckboxX(
    checked: bool = False, label: Any = None, value: Any = "1", id: Any = None, name: Any = None, **attributes: Any
) -> tuple[Tag, Tag]:
    """A checkbox that sends an empty field where it is not ticked, with a label where one is given."""
    name = name or id
    box = ft("input", type="checkbox", id=id, name=name, checked=checked, value=value, **attributes)
    return ft("input", type="hidden", name=name, value=""), ft("label", box, label) if label else box


def EventStream(events: Any) -> StreamingResponse:
    """A response of server-sent events."""
    return StreamingResponse(events, media_type="text/event-stream")


picolink: tuple[Tag, ...] = ()
"""Nothing: the page has its stylesheet already, and loads none from elsewhere."""


def Favicon(light_icon: str, dark_icon: str | None = None) -> tuple[Tag, ...]:
    """The icon of a page, with another for the dark theme."""
    icons = (("light", light_icon), ("dark", dark_icon or light_icon))
    return tuple(ft("link", rel="icon", href=href, media=f"(prefers-color-scheme: {theme})") for theme, href in icons)


def fast_app(
    db_file: None = None,
    render: None = None,
    *,
    static_path: str | Path | None = ".",
    hdrs: Any = (),
    **options: Any,
) -> tuple[App, Callable[..., Any]]:
    """(app, its `route`). Web files (images, styles, scripts) under *static_path* are served; None serves none."""
    if db_file is not None or render is not None:
        raise NbwsError("fast_app makes no database; open one with fastlite or sqlite3, and leave db_file out")
    app = App(hdrs=hdrs, **options)
    if static_path is not None:
        app.static_route_exts(static_path=str(static_path))
    return app, app.route


def setup_ws(app: App, f: Callable[..., Any] | None = None) -> Callable[[Any], Sent]:
    """A websocket at `/ws` on *app*, handled by *f*; gives a function that sends to every client of it."""

    def ignore() -> None:
        """The default: what clients send is not looked at."""

    app.ws("/ws")(f or ignore)

    def send(content: Any) -> Sent:
        here = [c for c in app.connections if c.key.path == "/ws"]
        others = [c for c in app.connections if c not in here]
        return app.broadcast(content, exclude=others)

    return send


__all__ = [name for name in dict(globals()) if not name.startswith("_") and name not in ("annotations", "globals")]
