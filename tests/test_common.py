"""The drop-in vocabulary: what `from nbws.common import *` gives, on a running app."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from clients import http, running, talk, websocket
from starlette.responses import PlainTextResponse
from websockets.exceptions import InvalidStatus

import nbws.common
from nbws import App, Limits, NbwsError
from nbws.common import (
    H1,
    A,
    Button,
    Div,
    Favicon,
    Form,
    Hidden,
    Html,
    Input,
    Li,
    P,
    Titled,
    Ul,
    fast_app,
    setup_ws,
    to_xml,
)

USED_IN_THE_SEED = """
FastHTML App serve fast_app setup_ws Titled Redirect Request Response FileResponse HTMLResponse JSONResponse
StaticFiles UploadFile Middleware Mount Route WebSocket HTTPException Beforeware HttpHeader HtmxHeaders NotStr Safe
Div Form Input Ul Li P H1 A Button Script Style Link Meta Title Table Tr Td Span Img Label Select Option Textarea
Hidden Html Favicon BackgroundTask cookie to_xml ft dataclass Path partial datetime asyncio json os
""".split()


def test_a_star_import_gives_the_vocabulary_and_nothing_private() -> None:
    space: dict[str, object] = {}
    exec("from nbws.common import *", space)
    assert [name for name in USED_IN_THE_SEED if name not in space] == []
    assert [name for name in nbws.common.__all__ if name.startswith("_")] == []
    assert "annotations" not in nbws.common.__all__


def test_a_star_import_leaves_builtins_alone() -> None:
    import builtins

    assert [name for name in nbws.common.__all__ if hasattr(builtins, name)] == []


def test_a_page_of_the_vocabulary_is_served() -> None:
    app = App(port=0)

    @app.get("/")
    def index():
        return Titled(
            "Title",
            Div(id="notifications"),
            Form(Input(id="msg"), Hidden("1", id="n"), Button("Go"), id="form", ws_send=True),
            Ul(*[Li(n) for n in range(2)]),
            hx_ext="ws",
            ws_connect="/ws",
        )

    with running(app), http(app) as client:
        text = client.get("/").text
    assert '<input id="msg" name="msg">' in text
    assert re.search(r"<form [^>]*\bws-send\b", text)
    assert 'enctype="multipart/form-data"' in text
    assert 'hx-ext="ws" ws-connect="/ws"' in text
    assert '<input type="hidden" value="1" id="n" name="n">' in text
    assert "<ul><li>0</li><li>1</li></ul>" in text
    assert "<title>Title</title>" in text


def test_the_page_of_titled_is_styled_with_no_network() -> None:
    app, rt = fast_app(port=0, static_path=None)

    @rt("/")
    def get():
        return Titled("T")

    with running(app), http(app) as client:
        text = client.get("/").text
        (sheet,) = re.findall(r'<link rel="stylesheet" href="([^"]+)"', text)
        assert client.get(sheet).headers["content-type"].startswith("text/css")
    assert not re.search(r"(src|href)=\"(https?:)?//", text)


def test_small_tags_do_what_they_say() -> None:
    assert str(A("x")) == '<a href="#">x</a>'
    assert str(A("x", href="/y", cls="z")) == '<a href="/y" class="z">x</a>'
    assert str(Html(P("x"), lang="de")) == '<!doctype html>\n<html lang="de"><p>x</p></html>'
    assert str(Html(P("x"), doctype=False)) == "<html><p>x</p></html>"
    assert str(Div(H1("a"))("b", id="c")) == '<div id="c"><h1>a</h1>b</div>'
    assert to_xml(Favicon("/l.png", "/d.png")).count("prefers-color-scheme") == 2
    assert 'action="/x"' in str(Form(action="/x"))


def test_fast_app_gives_an_app_and_its_route() -> None:
    app, rt = fast_app(port=0, static_path=None, hdrs=(H1("head"),), limits=Limits(connections=3), pico=False)

    @rt("/named")
    def post(name: str):
        return name

    @rt
    def index():
        return PlainTextResponse("index")

    assert app.limits.connections == 3
    with running(app), http(app) as client:
        assert client.post("/named", data={"name": "Ann"}).text == "Ann"
        assert client.get("/").text == "index"


def test_fast_app_makes_no_database_and_says_so() -> None:
    with pytest.raises(NbwsError, match="fast_app makes no database"):
        fast_app("data.db")
    with pytest.raises(NbwsError, match="fast_app makes no database"):
        fast_app(db_file="data.db")


def test_fast_app_serves_web_files_and_nothing_else_of_a_folder(tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "sub").mkdir(parents=True)
    (site / ".hidden").mkdir()
    served = {"a.css": "p{}", "sub/b.JS": "1", "pic.svg": "<svg/>", "c d.txt": "text"}
    kept = {
        "app.py": "secret",
        "nb.ipynb": "secret",
        ".env": "secret",
        ".dot.txt": "secret",
        ".hidden/a.txt": "secret",
        "data.db": "secret",
        "data.json": "secret",
        "plain": "secret",
        "page.html": "secret",
    }
    for name, text in (served | kept).items():
        (site / name).write_text(text)
    (tmp_path / "outside.txt").write_text("secret")
    (site / "link.txt").symlink_to(tmp_path / "outside.txt")
    app, rt = fast_app(port=0, static_path=site)

    @rt("/a.txt")
    def get():
        return "route"

    traversals = [
        "/../outside.txt",
        "/%2e%2e/outside.txt",
        "/sub/..%2f..%2foutside.txt",
        "/..%5coutside.txt",
        "//etc/x.txt",
    ]
    with running(app), http(app) as client:
        for name, text in served.items():
            assert client.get(f"/{name}").text == text
        for name in kept:
            answer = client.get(f"/{name}")
            assert (answer.status_code, "secret" in answer.text) == (404, False), name
        for path in [*traversals, "/link.txt"]:
            answer = client.get(path)
            assert (answer.status_code, "secret" in answer.text) == (404, False), path
        assert client.get("/sub").status_code == 404
        assert client.get("/").status_code == 404
        assert client.post("/a.css").status_code == 405
        assert client.get("/a.txt").text == "route"


def test_a_traversal_that_no_client_normalises_is_refused(tmp_path: Path) -> None:
    import socket

    site = tmp_path / "site"
    site.mkdir()
    (tmp_path / "outside.txt").write_text("secret")
    app, _ = fast_app(port=0, static_path=site)
    with running(app):
        for path in ("/../outside.txt", "/x/../../outside.txt", f"/{tmp_path}/outside.txt", "/\\..\\outside.txt"):
            with socket.create_connection(("127.0.0.1", app.port or 0), timeout=5) as sock:
                sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
                answer = sock.makefile("rb").read()
            assert answer.split(b" ", 2)[1] in (b"404", b"400"), path
            assert b"secret" not in answer


def test_fast_app_serves_the_folder_it_runs_in_and_it_need_not_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.css").write_text("p{}")
    monkeypatch.chdir(tmp_path)
    app, _ = fast_app(port=0)
    with running(app), http(app) as client:
        assert client.get("/a.css").text == "p{}"
    app, _ = fast_app(port=0, static_path=tmp_path / "nowhere")
    with running(app), http(app) as client:
        assert client.get("/a.css").status_code == 404


def test_a_websocket_with_no_endpoint_is_refused_beside_web_files(caplog: pytest.LogCaptureFixture) -> None:
    app, _ = fast_app(port=0)

    async def visit() -> None:
        with pytest.raises(InvalidStatus, match="403"):
            async with websocket(app, "/nowhere"):
                pass

    with running(app):
        talk(visit())
    assert "Traceback" not in caplog.text


def test_setup_ws_gives_a_function_that_sends_to_every_client() -> None:
    app, _ = fast_app(port=0, static_path=None)
    send = setup_ws(app)

    @app.ws("/other")
    async def other(msg: str):
        return Div(msg, id="a")

    async def visit() -> None:
        async with websocket(app) as one, websocket(app) as two, websocket(app, "/other") as stranger:
            await one.say(anything="goes")
            await stranger.ask(msg="there")
            assert len(app.endpoints["/ws"].connections) == 2
            send(Div("hello", id="a"))
            await send(Div("again", id="a"))
            for client in (one, two):
                assert "hello" in await client.hear()
                assert "again" in await client.hear()
            assert "mine" in await stranger.ask(msg="mine")

    with running(app):
        talk(visit())
    assert not app.errors


def test_setup_ws_takes_a_handler() -> None:
    app = App(port=0)

    async def handle(msg: str, send):
        await send(Div(msg, id="a"))

    setup_ws(app, handle)

    async def visit() -> None:
        async with websocket(app) as client:
            assert "hi" in await client.ask(msg="hi")

    with running(app):
        talk(visit())


def test_the_vocabulary_loads_without_jupyter() -> None:
    code = "import nbws.common, sys; assert not {'IPython', 'ipykernel', 'jupyter_client'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20)
