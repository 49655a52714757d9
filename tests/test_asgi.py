"""The app as ASGI on a real server: the gate, the routes, the stack around them, startup and shutdown."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import httpx
import pytest
from clients import SECONDS, free_port, http, running, talk, websocket
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.staticfiles import StaticFiles
from starlette.testclient import TestClient
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from nbws import App, Limits, ServerStartError
from nbws.common import Beforeware, Div, Redirect


def echo_app(**options: Any) -> App:
    """An app with a page at / and an echo at /ws."""
    app = App(port=0, **options)

    @app.get("/")
    def index():
        return Div("page")

    @app.ws("/ws")
    async def ws(msg: str):
        return Div(msg, id="a")

    return app


async def refusal(app: App, path: str = "/ws", **options: Any) -> int | None:
    """The HTTP status with which a websocket is refused; None where it is let in."""
    try:
        async with websocket(app, path, **options):
            return None
    except InvalidStatus as exc:
        return exc.response.status_code


# -- the gate


def test_a_foreign_host_is_refused() -> None:
    app = echo_app()
    with running(app), http(app) as client:
        for host in ("evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.nip.io", ""):
            assert client.get("/", headers={"host": host}).status_code == 403, host
            assert client.get("/_nbws/static/htmx.min.js", headers={"host": host}).status_code == 403, host


def test_loopback_hosts_and_those_allowed_are_served() -> None:
    app = echo_app(allowed_hosts=["app.example"])
    with running(app), http(app) as client:
        for host in ("localhost", f"localhost:{app.port}", "127.0.0.1", "[::1]:80", "app.example", "APP.example:443"):
            assert client.get("/", headers={"host": host}).status_code == 200


def test_a_foreign_origin_is_refused() -> None:
    app = echo_app()
    with running(app), http(app) as client:
        for origin in ("http://evil.example", "null", "http://localhost:1", "https://localhost", "", "x"):
            answer = client.get("/", headers={"origin": origin})
            assert answer.status_code == 403, origin
            assert "access-control-allow-origin" not in answer.headers
            assert client.post("/", headers={"origin": origin}).status_code == 403, origin
            assert talk(refusal(app, additional_headers={"origin": origin})) == 403, origin


def test_the_own_origin_and_those_allowed_are_served() -> None:
    app = echo_app(allowed_origins=["https://hub.example"])
    with running(app), http(app) as client:
        for origin in (app.url, "https://hub.example"):
            assert client.get("/", headers={"origin": origin}).status_code == 200
            assert talk(refusal(app, additional_headers={"origin": origin})) is None


def test_a_websocket_to_a_foreign_host_is_refused() -> None:
    app = echo_app()

    async def visit() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
        writer.write(
            b"GET /ws HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        line = await asyncio.wait_for(reader.readline(), SECONDS)
        writer.close()
        return line

    with running(app):
        assert b" 403 " in talk(visit())


def test_a_token_is_asked_for_where_the_app_has_one() -> None:
    app = echo_app(token="s3cret")
    with running(app), http(app) as client:
        assert client.get("/").status_code == 403
        assert client.get("/?token=wrong").status_code == 403
        assert client.get("/_nbws/static/htmx.min.js").status_code == 403
        assert talk(refusal(app)) == 403
        assert talk(refusal(app, "/ws?token=wrong")) == 403
        assert talk(refusal(app, "/ws?token=s3cret")) is None
        assert talk(refusal(app, additional_headers={"cookie": f"nbws-{app.port}=s3cret"})) is None


def test_the_token_in_the_url_gives_the_cookie_that_stands_for_it() -> None:
    app = echo_app(token="s3cret")
    with running(app), http(app) as client:
        answer = client.get("/?token=s3cret")
        assert answer.status_code == 200
        cookies = answer.headers.get_list("set-cookie")
        assert all("HttpOnly" in cookie for cookie in cookies)
        plain = cookies[-1].partition(";")[0]
        assert plain == f"nbws-{app.port}=s3cret"
        assert client.get("/", headers={"cookie": plain}).status_code == 200


def test_no_handler_sees_the_token() -> None:
    app = App(port=0, token="s3cret")

    @app.get("/")
    def index(request):
        return PlainTextResponse(f"{request.url} {request.query_params}")

    @app.ws("/ws")
    async def ws(ws):
        return Div(f"{ws.url} {ws.query_params}", id="a")

    async def ask() -> str:
        async with websocket(app, "/ws?token=s3cret&b=1") as client:
            return str(await client.ask())

    with running(app), http(app) as client:
        for text in (client.get("/?a=1&token=s3cret").text, talk(ask())):
            assert "s3cret" not in text
            assert "=1" in text


def test_one_connection_more_than_the_limit_is_refused_with_503_and_served_when_one_has_left() -> None:
    app = echo_app(limits=Limits(connections=2))
    left: SimpleQueue[str] = SimpleQueue()

    @app.ws("/ws", disconn=lambda ws: left.put(ws.id))
    async def ws(msg: str):
        return Div(msg, id="a")

    async def visit() -> None:
        async with websocket(app) as first, websocket(app) as second:
            await first.ask(msg="hi")
            assert await refusal(app) == 503
            await second.leave()
            await asyncio.to_thread(left.get, True, SECONDS)
            async with websocket(app) as third:
                await third.ask(msg="hi")

    with running(app):
        talk(visit())


# -- routes


def test_functions_named_after_a_method_answer_that_one_and_others_get_and_post() -> None:
    app = App(port=0)
    rt = app.route

    @rt("/named")
    def get():
        return "got"

    @rt("/named")
    def post():
        return "posted"

    @rt("/other")
    def anything():
        return "other"

    @rt
    def index():
        return "index"

    @rt
    def about():
        return "about"

    @rt("/put", methods=["put", "delete"])
    def change(request):
        return request.method

    with running(app), http(app) as client:
        assert (client.get("/named").text, client.post("/named").text) == ("got", "posted")
        assert (client.get("/other").text, client.post("/other").text) == ("other", "other")
        assert (client.get("/").text, client.get("/about").text) == ("index", "about")
        assert (client.put("/put").text, client.delete("/put").text) == ("PUT", "DELETE")
        assert client.get("/put").status_code == 405
        assert client.put("/named").status_code == 405
        assert client.get("/nowhere").status_code == 404


def test_the_methods_of_one_path_have_decorators_of_their_own() -> None:
    app = App(port=0)
    for method in ("get", "post", "put", "delete", "patch"):

        @getattr(app, method)("/it")
        def answer(request):
            return request.method.lower()

    with running(app), http(app) as client:
        for method in ("get", "post", "put", "delete", "patch"):
            assert client.request(method, "/it").text == method
        head = client.head("/it")
        assert (head.status_code, head.text) == (200, "")


def test_path_and_query_parameters_are_converted() -> None:
    app = App(port=0)

    @app.get("/rooms/{room}/{n:int}")
    def room(room: str, n: int, page: int = 1, tags: list[str] = [], wide: bool = False):  # noqa: B006
        return PlainTextResponse(repr((room, n, page, tags, wide)))

    @app.get("/by-annotation/{n}")
    def by_annotation(n: int):
        return PlainTextResponse(repr(n))

    @app.get("/files/{where:path}")
    def files(where: str):
        return PlainTextResponse(where)

    with running(app), http(app) as client:
        assert client.get("/rooms/a%20b/3").text == repr(("a b", 3, 1, [], False))
        assert client.get("/rooms/x/3?page=2&tags=p&tags=q&wide=on").text == repr(("x", 3, 2, ["p", "q"], True))
        assert client.get("/rooms/x/three").status_code == 404
        assert client.get("/by-annotation/7").text == "7"
        refused = client.get("/by-annotation/seven")
        assert refused.status_code == 400
        assert "seven" not in refused.text
        assert client.get("/files/a/b.txt").text == "a/b.txt"
    assert "n is 'seven', not int" in str(app.errors[-1].exception)


def test_form_fields_urlencoded_and_multipart_are_read() -> None:
    app = App(port=0)

    @app.post("/form")
    def form(name: str, tags: list[str], age: int | None = None, agree: bool = False):
        return PlainTextResponse(repr((name, tags, age, agree)))

    data = {"name": "Ann", "tags": ["a", "b"], "age": "", "agree": "on"}
    with running(app), http(app) as client:
        expected = repr(("Ann", ["a", "b"], None, True))
        assert client.post("/form", data=data).text == expected
        files = [("name", (None, "Ann")), ("tags", (None, "a")), ("tags", (None, "b")), ("agree", (None, "on"))]
        assert client.post("/form", files=files).text == expected
        assert client.post("/form", json={"name": "Ann", "tags": ["a", "b"], "agree": True}).text == expected
        missing = client.post("/form", data={"name": "Ann"})
        assert missing.status_code == 400
        assert app.errors[-1].incident in missing.text


@dataclass
class Search:
    text: str
    page: int = 1
    tags: list[str] = field(default_factory=list)


def test_what_a_form_sends_in_the_query_fills_a_model_and_a_dict() -> None:
    app = App(port=0)

    @app.get("/search")
    def search(search: Search, data: dict, text: str):
        return PlainTextResponse(repr((search, data, text)))

    @app.get("/optional")
    def optional(search: Search | None):
        return PlainTextResponse(repr(search))

    @app.delete("/search/{page}")
    def forget(search: Search):
        return PlainTextResponse(repr(search))

    with running(app), http(app) as client:
        sent = {"text": "a b", "page": "2", "tags": ["x", "y"]}
        found = client.get("/search?text=a+b&page=2&tags=x&tags=y")
        assert found.text == repr((Search("a b", 2, ["x", "y"]), sent, "a b"))
        assert client.get("/optional?other=1").text == "None"
        assert client.delete("/search/3?text=a").text == repr(Search("a", 3))
        assert client.request("DELETE", "/search/3?text=a", data={"text": "b"}).text == repr(Search("b", 3))
        assert client.get("/search?page=2").status_code == 400
    assert "search.text is missing" in str(app.errors[-1].exception)


def test_the_query_of_a_post_fills_single_parameters_alone() -> None:
    app = App(port=0)

    @app.post("/form")
    def form(data: dict, page: int):
        return PlainTextResponse(repr((data, page)))

    with running(app), http(app) as client:
        assert client.post("/form?page=2&text=query", data={"text": "form"}).text == repr(({"text": "form"}, 2))
        assert client.post("/form?page=2&text=query").text == repr(({}, 2))


def test_of_a_name_that_a_query_repeats_a_single_value_is_the_last() -> None:
    app = App(port=0)

    @app.get("/page")
    def page(n: int, data: dict):
        return PlainTextResponse(repr((n, data)))

    with running(app), http(app) as client:
        assert client.get("/page?n=1&n=2").text == repr((2, {"n": ["1", "2"]}))


def test_a_body_that_is_no_json_object_is_answered_with_400() -> None:
    app = App(port=0)

    @app.post("/")
    def index(name: str):
        return name

    json_type = {"content-type": "application/json"}
    with running(app), http(app) as client:
        assert client.post("/", content=b"{", headers=json_type).status_code == 400
        assert client.post("/", content=b"[1]", headers=json_type).status_code == 400
        assert client.post("/", content=b"[" * 100_000, headers=json_type).status_code == 400
        assert client.post("/", content=b"\xff\xfe", headers=json_type).status_code == 400
        broken = {"content-type": "multipart/form-data"}
        assert client.post("/", content=b"x", headers=broken).status_code == 400
        assert client.post("/", json={"name": "Ann"}).text == "Ann"


def test_a_file_is_uploaded() -> None:
    app = App(port=0)

    @app.post("/upload")
    async def upload(file: UploadFile, note: str = ""):
        return PlainTextResponse(f"{file.filename} {len(await file.read())} {note}")

    @app.post("/many")
    async def many(files: list[UploadFile]):
        return PlainTextResponse(" ".join([f"{f.filename}:{(await f.read()).decode()}" for f in files]))

    with running(app), http(app) as client:
        answer = client.post("/upload", files={"file": ("a.bin", b"\x00" * 3000)}, data={"note": "hi"})
        assert answer.text == "a.bin 3000 hi"
        sent = [("files", ("a", b"1")), ("files", ("b", b"2"))]
        assert client.post("/many", files=sent).text == "a:1 b:2"
    assert not app.errors


def test_more_specific_routes_win_whatever_the_order() -> None:
    app = App(port=0)

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("mounted")(scope, receive, send)

    app.mount("/", mounted)

    @app.get("/{path:path}")
    def rest(path: str):
        return "rest"

    @app.get("/{name}")
    def named(name: str):
        return "named"

    @app.get("/literal")
    def literal():
        return "literal"

    @app.get("/a/{x}")
    def a_x(x: str):
        return "a_x"

    @app.get("/a/{x}/c")
    def a_x_c(x: str):
        return "a_x_c"

    @app.get("/{x}/b")
    def x_b(x: str):
        return "x_b"

    @app.get("/a/b")
    def a_b():
        return "a_b"

    with running(app), http(app) as client:
        asked = ["/literal", "/other", "/a/b", "/a/z", "/z/b", "/a/z/c", "/q/w/e"]
        assert [client.get(path).text for path in asked] == [
            "literal",
            "named",
            "a_b",
            "a_x",
            "x_b",
            "a_x_c",
            "rest",
        ]


def test_a_literal_start_wins_over_a_parameter_whatever_the_order() -> None:
    app = App(port=0)

    @app.get("/{section}/{page}")
    def pages(section: str, page: str):
        return "pages"

    @app.get("/users/{name}")
    def user(name: str):
        return "user"

    @app.ws("/{anything}")
    async def anything():
        return Div("anything", id="a")

    @app.ws("/ws")
    async def ws():
        return Div("ws", id="a")

    async def ask(path: str) -> str:
        async with websocket(app, path) as client:
            return str(await client.ask())

    with running(app), http(app) as client:
        assert client.get("/users/ann").text == "user"
        assert client.get("/books/one").text == "pages"
        assert ">ws<" in talk(ask("/ws"))
        assert ">anything<" in talk(ask("/else"))


def test_a_mounted_app_and_static_files_are_served(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("static")
    app = App(port=0)
    app.mount("/static", StaticFiles(directory=tmp_path), name="static")

    inner = App(port=0)

    @inner.get("/hi")
    def hi():
        return "inner"

    app.mount("/inner", inner)
    with running(app), http(app) as client:
        assert client.get("/static/a.txt").text == "static"
        assert client.get("/static/b.txt").status_code == 404
        assert client.get("/static/../clients.py").status_code == 404
        assert client.get("/inner/hi").text == "inner"


def test_a_redefined_page_is_served_at_once() -> None:
    app = App(port=0)

    @app.get("/")
    def index():
        return "old"

    with running(app), http(app) as client:
        assert client.get("/").text == "old"

        @app.get("/")
        def index():
            return "new"

        assert client.get("/").text == "new"

        @app.get("/added")
        def added():
            return "added"

        assert client.get("/added").text == "added"


# -- the stack


def test_the_session_is_kept_across_requests_and_read_by_websockets() -> None:
    app = App(port=0)

    @app.get("/count")
    def count(session):
        session["n"] = session.get("n", 0) + 1
        return PlainTextResponse(str(session["n"]))

    @app.ws("/ws")
    async def ws(session, sess):
        return Div(session.get("n"), sess is session, id="a")

    async def ask(cookie: str) -> str:
        async with websocket(app, additional_headers={"cookie": cookie}) as client:
            return str(await client.ask())

    with running(app), http(app) as client:
        assert [client.get("/count").text for _ in range(3)] == ["1", "2", "3"]
        cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        assert ">3True<" in talk(ask(cookie))
        forged = cookie[:-3] + ("AAA" if not cookie.endswith("AAA") else "BBB")
        assert ">True<" in talk(ask(forged))
        with http(app) as stranger:
            assert stranger.get("/count").text == "1"


class Stamp:
    """An ASGI middleware."""

    def __init__(self, app: Any, value: str = "default") -> None:
        self.app, self.value = app, value

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def stamped(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-stamp", self.value.encode())]
            await send(message)

        scope["stamp"] = self.value
        await self.app(scope, receive, stamped)


@pytest.mark.parametrize("way", ["option", "added", "added while it runs"])
def test_middleware_is_around_the_routes(way: str) -> None:
    app = echo_app(middleware=[Middleware(Stamp, value="x")]) if way == "option" else echo_app()
    if way == "added":
        app.add_middleware(Stamp, value="x")

    @app.ws("/stamp")
    async def ws(scope):
        return Div(scope["stamp"], id="a")

    async def ask() -> str:
        async with websocket(app, "/stamp") as client:
            return str(await client.ask())

    with running(app), http(app) as client:
        if way == "added while it runs":
            assert "x-stamp" not in client.get("/").headers
            app.add_middleware(Stamp, value="x")
        assert client.get("/").headers["x-stamp"] == "x"
        assert ">x<" in talk(ask())


def test_before_functions_may_answer_and_skip_paths() -> None:
    def guard(session, request):
        request.scope["auth"] = session.get("name")
        if not request.scope["auth"]:
            return Redirect("/login")
        return None

    app = App(port=0, before=Beforeware(guard, skip=["/login", r"/public/.*"]))

    @app.get("/login")
    def login(session):
        session["name"] = "Ann"
        return "in"

    @app.get("/public/{page}")
    def public(page: str):
        return page

    @app.get("/")
    def index(auth):
        return auth

    with running(app), http(app) as client:
        assert client.get("/public/terms").text == "terms"
        turned = client.get("/")
        assert (turned.status_code, turned.headers["location"]) == (303, "/login")
        assert client.get("/login").text == "in"
        assert client.get("/").text == "Ann"


def test_a_plain_function_may_stand_before_all_handlers() -> None:
    seen: SimpleQueue[str] = SimpleQueue()

    async def note(request):
        seen.put(request.url.path)

    app = echo_app(before=note)
    with running(app), http(app) as client:
        assert client.get("/").status_code == 200
    assert seen.get(timeout=SECONDS) == "/"


def test_exception_handlers_answer_errors() -> None:
    def not_found(request, exc):
        return Div(f"no {request.url.path}")

    async def bad_value(request, exc):
        return PlainTextResponse("bad value", 422)

    app = App(port=0, exception_handlers={404: not_found, ValueError: bad_value})

    @app.get("/raise")
    def raises():
        raise ValueError("secret")

    @app.get("/gone")
    def gone():
        raise HTTPException(410, "gone for good")

    @app.get("/missing")
    def missing():
        raise HTTPException(404)

    @app.exception_handler(418)
    def teapot(request, exc):
        return "teapot"

    @app.get("/tea")
    def tea():
        raise HTTPException(418)

    with running(app), http(app) as client:
        answers = [client.get(path) for path in ("/nowhere", "/missing", "/raise", "/gone", "/tea")]
    assert [a.status_code for a in answers] == [404, 404, 422, 410, 418]
    assert "no /nowhere" in answers[0].text
    assert [answers[2].text, answers[3].text, answers[4].text] == ["bad value", "gone for good", "teapot"]
    assert [str(e.exception) for e in app.errors] == ["secret"]


def test_an_exception_handler_that_was_added_answers_what_a_handler_raises() -> None:
    app = App(port=0)

    @app.exception_handler(LookupError)
    def lookup(request, exc):
        return PlainTextResponse("no such thing", 404)

    @app.exception_handler(500)
    def sorry(request, exc):
        return PlainTextResponse("sorry", 503)

    @app.get("/raise/{kind}")
    def raises(kind: str):
        raise {"key": KeyError, "value": ValueError}[kind]("secret")

    with running(app), http(app) as client:
        answers = [client.get(f"/raise/{kind}") for kind in ("key", "value")]
    assert [(a.status_code, a.text) for a in answers] == [(404, "no such thing"), (503, "sorry")]
    assert [type(e.exception) for e in app.errors] == [KeyError, ValueError]


@pytest.mark.parametrize("exception", [KeyError, SystemExit, KeyboardInterrupt], ids=lambda e: e.__name__)
def test_an_http_handler_that_raises_gives_a_page_with_an_incident_and_no_text(exception: type[BaseException]) -> None:
    app = echo_app()

    @app.get("/async")
    async def in_async():
        raise exception("the password is 1234")

    @app.get("/def")
    def in_def():
        raise exception("the password is 1234")

    with running(app), http(app) as client:
        answers = [client.get(path) for path in ("/async?q=1", "/def?q=1")]
        assert client.get("/").status_code == 200
    assert len(app.errors) == 2
    for answer, error, path in zip(answers, app.errors, ("/async", "/def"), strict=True):
        assert answer.status_code == 500
        assert "1234" not in answer.text
        assert "Traceback" not in answer.text
        assert error.incident in answer.text
        assert "1234" in str(error.exception)
        assert "raise exception" in error.traceback
        assert error.message.startswith(f"GET {path}")


def test_what_cannot_be_shown_is_an_error_of_its_handler() -> None:
    app = App(port=0)

    class Broken:
        def __html__(self) -> str:
            raise RuntimeError("half a tag")

    @app.get("/")
    def index():
        return Broken()

    with running(app), http(app) as client:
        answer = client.get("/")
    assert answer.status_code == 500
    assert app.errors[0].incident in answer.text


# -- startup and shutdown


def test_startup_and_shutdown_functions_run_in_order_on_the_servers_loop() -> None:
    seen: list[str] = []

    async def up() -> None:
        asyncio.get_running_loop()
        seen.append("up")

    def down() -> None:
        seen.append("down")

    app = echo_app(on_startup=up, on_shutdown=[down])

    @app.on_event("startup")
    def also_up() -> None:
        seen.append("also up")

    @app.on_event("shutdown")
    async def also_down() -> None:
        await asyncio.sleep(0)
        seen.append("also down")

    with running(app), http(app) as client:
        assert seen == ["up", "also up"]
        assert client.get("/").status_code == 200
        seen.clear()
    assert sorted(seen) == ["also down", "down"]


@pytest.mark.parametrize("kind", ["context manager", "generator"])
def test_a_lifespan_is_around_the_servers_life(kind: str) -> None:
    seen: list[str] = []

    async def life(app: App) -> AsyncIterator[None]:
        app.state.up = True
        seen.append("up")
        yield
        seen.append("down")

    app = echo_app(lifespan=asynccontextmanager(life) if kind == "context manager" else life)
    with running(app), http(app) as client:
        assert client.get("/").status_code == 200
        assert seen == ["up"]
        assert app.state.up
    assert seen == ["up", "down"]


def test_a_startup_that_fails_is_the_cause_of_a_server_start_error() -> None:
    def up() -> None:
        raise RuntimeError("no database")

    app = echo_app(on_startup=up)
    with pytest.raises(ServerStartError, match="RuntimeError: no database") as caught:
        app.start()
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert not app.is_running


def test_a_lifespan_that_fails_is_the_cause_of_a_server_start_error() -> None:
    @asynccontextmanager
    async def life(app: App) -> AsyncIterator[None]:
        raise SystemExit("no licence")
        yield

    app = echo_app(lifespan=life)
    with pytest.raises(ServerStartError, match="no licence"):
        app.start()
    assert not app.is_running


def test_a_shutdown_that_fails_does_not_keep_the_server_up() -> None:
    def down() -> None:
        raise RuntimeError("stuck")

    app = echo_app(on_shutdown=down)
    app.start()
    app.stop()
    assert not app.is_running


# -- the page, and other servers


def test_the_page_loads_all_that_it_needs_from_the_package() -> None:
    app = echo_app()
    with running(app), http(app) as client:
        page = client.get("/").text
        for file in ("htmx.min.js", "htmx-ext-ws.min.js", "nbws.css", "nbws.js"):
            assert f'"/_nbws/static/{file}"' in page
            assert client.get(f"/_nbws/static/{file}").status_code == 200
        assert "http://" not in page
        assert "https://" not in page
        assert client.get("/_nbws/static/../app.py").status_code == 404
        assert client.get("/_nbws/static/%2e%2e/app.py").status_code == 404


def test_the_feed_of_previews_is_closed_outside_a_notebook() -> None:
    app = echo_app()
    with running(app), http(app) as client:
        assert client.get("/_nbws/feed").status_code == 404


def test_starlettes_test_client_speaks_http_and_websocket() -> None:
    app = echo_app()
    with TestClient(app) as client:
        assert "page" in client.get("/").text
        with client.websocket_connect("/ws") as ws:
            ws.send_text(json.dumps({"msg": "hi"}))
            assert ws.receive_text() == '<div id="a" hx-swap-oob="true">hi</div>'
            ws.send_json({"n": 1})
            ws.send_json({"msg": "still"})
            assert "still" in ws.receive_text()
    assert len(app.errors) == 1


def test_starlettes_test_client_works_without_a_lifespan() -> None:
    client = TestClient(echo_app())
    assert "page" in client.get("/").text
    with client.websocket_connect("/ws") as ws:
        ws.send_json({"msg": "hi"})
        assert "hi" in ws.receive_text()


PROGRAM = """
from nbws.common import *

app = App()

@app.get("/")
def index(request: Request):
    return Div("page")

@app.ws("/ws")
async def ws(msg: str):
    return Div(msg, id="a")

serve()
"""


def test_the_app_runs_under_another_uvicorn(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    port = free_port()

    async def visit() -> None:
        command = [sys.executable, "-m", "uvicorn", "program:app", "--port", str(port)]
        server = await asyncio.create_subprocess_exec(
            *command, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        try:
            assert server.stdout is not None
            while b"Uvicorn running" not in await asyncio.wait_for(server.stdout.readline(), SECONDS * 2):
                assert not server.stdout.at_eof()
            async with httpx.AsyncClient(trust_env=False) as client:
                assert "page" in (await client.get(f"http://127.0.0.1:{port}/")).text
            async with connect(f"ws://127.0.0.1:{port}/ws") as ws:
                await ws.send('{"msg": "hi"}')
                assert await asyncio.wait_for(ws.recv(), SECONDS) == '<div id="a" hx-swap-oob="true">hi</div>'
        finally:
            server.terminate()
            await server.wait()

    talk(visit())


def test_a_request_type_chooses_the_request() -> None:
    app = App(port=0)

    @app.get("/")
    async def index(r: Request):
        return PlainTextResponse(r.url.path)

    with running(app), http(app) as client:
        assert client.get("/").text == "/"
