"""What an HTTP handler returned -> a response: a page, a fragment for htmx, JSON, or what it says itself."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.background import BackgroundTask, BackgroundTasks
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from nbws.html import to_xml
from nbws.options import Options
from nbws.page import Document, document

__all__ = ["FtResponse", "HtmxResponseHeaders", "HttpHeader", "PageResponse", "Redirect", "cookie", "respond"]


@dataclass(frozen=True)
class HttpHeader:
    """A response header, returned beside the content: `return Div(...), HttpHeader("x-total", "3")`."""

    k: str
    v: str


def HtmxResponseHeaders(**headers: str) -> tuple[HttpHeader, ...]:
    """htmx's response headers: `HtmxResponseHeaders(push_url="/new")` is `HX-Push-Url: /new`."""
    return tuple(HttpHeader("HX-" + name.replace("_", "-").title(), value) for name, value in headers.items())


def cookie(key: str, value: str = "", **attributes: Any) -> HttpHeader:
    """A Set-Cookie header, with the attributes of Starlette's `Response.set_cookie`, lax and for `/` by default."""
    carrier = Response()
    carrier.set_cookie(key, value, **attributes)
    return HttpHeader("set-cookie", carrier.headers["set-cookie"])


class Redirect:
    """Go to *loc*: a 303, or for a request of htmx its own redirect header."""

    def __init__(self, loc: str) -> None:
        self.loc = loc

    def __response__(self, request: Request) -> Any:
        if "hx-request" in request.headers:
            return HtmxResponseHeaders(redirect=self.loc)
        return RedirectResponse(self.loc, status_code=303)


class FtResponse:
    """Content with a status code and headers of its own."""

    def __init__(
        self,
        content: Any,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
        background: BackgroundTask | None = None,
    ) -> None:
        self.content, self.status_code = content, status_code
        self.headers, self.media_type, self.background = dict(headers or {}), media_type, background

    def __response__(self, request: Request) -> Any:
        return _html(self.content, request, self.status_code, self.headers, self.media_type, self.background)


class PageResponse(HTMLResponse):
    """A response of HTML. *document* is the page that it holds; None where that is a fragment, or no page of ours."""

    document: Document | None = None


def respond(result: Any, request: Request, status_code: int = 200) -> Response:
    """The response for *result*.

    Tags and sequences make a page, or a fragment where htmx asks; text is escaped unless it is marked safe; a
    mapping is JSON; a generator is streamed; None is an empty answer.
    """
    if hasattr(result, "__response__"):
        result = result.__response__(request)
    if isinstance(result, Response):
        return result
    if isinstance(result, types.AsyncGeneratorType):
        return StreamingResponse((to_xml(item) async for item in result), status_code, media_type="text/html")
    if isinstance(result, types.GeneratorType):  # Starlette asks a plain iterator for each item in a worker thread
        return StreamingResponse((to_xml(item) for item in result), status_code, media_type="text/html")
    if isinstance(result, Mapping) or (
        isinstance(result, list) and result and all(isinstance(item, Mapping) for item in result)
    ):
        return Response(msgspec.json.encode(result, enc_hook=str), status_code, media_type="application/json")
    if isinstance(result, bytes):
        return Response(result, status_code, media_type="application/octet-stream")
    return _html(result, request, status_code)


def _html(
    result: Any,
    request: Request,
    status_code: int,
    headers: Mapping[str, str] | None = None,
    media_type: str | None = None,
    background: BackgroundTask | None = None,
) -> Response:
    content, extras = _split(result)
    tasks = [e for e in (background, *extras) if isinstance(e, BackgroundTask)]
    page = _page(content, request)
    response = PageResponse(
        page,
        status_code,
        {"vary": "HX-Request", **(headers or {})},
        media_type,
        BackgroundTasks(tasks) if tasks else None,
    )
    if isinstance(page, Document):
        response.document = page
    for extra in extras:
        if isinstance(extra, HttpHeader):
            response.headers.append(extra.k, str(extra.v))
    return response


def _split(result: Any) -> tuple[list[Any], list[Any]]:
    """(content, headers and background tasks) of what a handler returned, one level of nesting taken away."""
    items: list[Any] = []
    for item in result if isinstance(result, tuple | list) else (result,):
        items.extend(item if isinstance(item, tuple | list) else (item,))
    extras = [i for i in items if isinstance(i, HttpHeader | BackgroundTask)]
    return [i for i in items if not isinstance(i, HttpHeader | BackgroundTask) and i is not None], extras


def _page(content: Sequence[Any], request: Request) -> str:
    if not content:
        return ""
    wants_fragment = "hx-request" in request.headers and "hx-history-restore-request" not in request.headers
    if wants_fragment or not any(_is_element(item) for item in content):
        return to_xml(*content)
    if any(getattr(item, "tag", None) == "html" for item in content):
        return "<!doctype html>\n" + to_xml(*content)
    options: Options = request.app.options
    body: Any = content
    if options.body_wrap is not None:
        body = [options.body_wrap(tuple(content))]
    return document(
        body,
        title=options.title,
        root=request.scope.get("root_path", ""),
        exts=options.exts,
        default_hdrs=options.default_hdrs,
        hdrs=options.hdrs,
        ftrs=options.ftrs,
        htmlkw=options.htmlkw,
        bodykw=options.bodykw,
        strips_token=request.scope.get("nbws.token_in_url", False),
        knows_ticket=request.scope.get("nbws.ticket_in_url", False),
        in_development=request.app.in_development,
    )


def _is_element(item: Any) -> bool:
    return hasattr(item, "__ft__") or (hasattr(item, "__html__") and not isinstance(item, str))
