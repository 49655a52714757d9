"""What HTTP handlers return, as a browser and as htmx get it."""

from __future__ import annotations

import asyncio
import threading
from queue import SimpleQueue

from clients import SECONDS, http, running
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, PlainTextResponse

from nbws import App
from nbws.common import (
    Div,
    FtResponse,
    Html,
    HtmxResponseHeaders,
    HttpHeader,
    Link,
    Meta,
    P,
    Redirect,
    Safe,
    Script,
    Style,
    Title,
    Titled,
    cookie,
)

HTMX = {"hx-request": "true"}


def test_a_tag_is_a_whole_page_and_for_htmx_a_fragment() -> None:
    app = App(port=0, title="My app")

    @app.get("/")
    def index():
        return Div("x", id="a")

    with running(app), http(app) as client:
        page = client.get("/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.text.startswith("<!doctype html>\n<html")
        assert "<title>My app</title>" in page.text
        assert '<body><div id="a">x</div></body>' in page.text
        assert client.get("/", headers=HTMX).text == '<div id="a">x</div>'
        # htmx asks so for a page that has left its cache.
        assert "<!doctype" in client.get("/", headers={**HTMX, "hx-history-restore-request": "true"}).text
        assert "hx-request" in page.headers["vary"].lower()


def test_titled_sets_the_title_and_what_belongs_into_the_head_goes_there() -> None:
    app = App(port=0, hdrs=[Meta(name="from", content="hdrs")], ftrs=Script("last()"))

    @app.get("/")
    def index():
        return Titled("A & B", P("text")), Style("p{}"), Link(rel="icon", href="/i.png"), Meta(name="x", content="y")

    with running(app), http(app) as client:
        text = client.get("/").text
    head, _, body = text.partition("</head>")
    assert head.count("<title>") == 1
    for piece in ("<title>A &amp; B</title>", "<style>p{}</style>", '<link rel="icon"', 'name="x"', 'content="hdrs"'):
        assert piece in head
        assert piece not in body
    assert '<main class="container"><h1>A &amp; B</h1><p>text</p></main>' in body
    assert "<script>last()</script></body>" in body


def test_a_title_of_ones_own_replaces_the_apps() -> None:
    app = App(port=0, title="App")

    @app.get("/")
    def index():
        return Title("Page"), P("text")

    with running(app), http(app) as client:
        text = client.get("/").text
    assert "<title>Page</title>" in text
    assert "<title>App</title>" not in text


def test_a_document_of_ones_own_stays_as_it_is() -> None:
    app = App(port=0)

    @app.get("/")
    def index():
        return Html(P("mine"))

    with running(app), http(app) as client:
        assert client.get("/").text == "<!doctype html>\n<html><p>mine</p></html>"


def test_the_pages_html_and_body_take_attributes_and_a_wrapper() -> None:
    def wrap(content):
        return Div(*content, id="wrapper")

    app = App(port=0, htmlkw={"lang": "de"}, bodykw={"cls": "wide"}, body_wrap=wrap, default_hdrs=False)

    @app.get("/")
    def index():
        return P("x"), P("y")

    with running(app), http(app) as client:
        text = client.get("/").text
    assert '<html lang="de">' in text
    assert '<body class="wide"><div id="wrapper"><p>x</p><p>y</p></div></body>' in text
    assert "htmx" not in text


def test_text_is_escaped_unless_it_is_safe() -> None:
    app = App(port=0)

    @app.get("/text")
    def text():
        return "<b>&"

    @app.get("/safe")
    def safe():
        return Safe("<b>bold</b>")

    @app.get("/in-a-tag")
    def in_a_tag():
        return P("<script>")

    with running(app), http(app) as client:
        assert client.get("/text").text == "&lt;b&gt;&amp;"
        assert client.get("/safe").text.endswith("<b>bold</b>")
        assert "<p>&lt;script&gt;</p>" in client.get("/in-a-tag").text


def test_a_mapping_and_a_list_of_them_are_json_and_none_is_empty() -> None:
    app = App(port=0)

    @app.get("/dict")
    def one():
        return {"a": [1, None, "ü"]}

    @app.get("/list")
    def several():
        return [{"a": 1}, {"b": 2}]

    @app.get("/none")
    def none(): ...

    @app.get("/empty")
    def empty():
        return []

    @app.get("/bytes")
    def data():
        return b"\x00\xff"

    with running(app), http(app) as client:
        answer = client.get("/dict")
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {"a": [1, None, "ü"]}
        assert client.get("/list").json() == [{"a": 1}, {"b": 2}]
        for path in ("/none", "/empty"):
            assert (client.get(path).status_code, client.get(path).text) == (200, "")
        assert client.get("/bytes").content == b"\x00\xff"


def test_a_redirect_is_a_303_and_for_htmx_its_own_header() -> None:
    app = App(port=0)

    @app.route("/go", methods=["get", "post"])
    def go():
        return Redirect("/there?a=1")

    with running(app), http(app) as client:
        for method in ("get", "post"):
            answer = client.request(method, "/go")
            assert (answer.status_code, answer.headers["location"]) == (303, "/there?a=1")
        answer = client.get("/go", headers=HTMX)
        assert (answer.status_code, answer.headers["hx-redirect"], answer.text) == (200, "/there?a=1", "")


def test_responses_of_starlette_go_out_as_they_are() -> None:
    app = App(port=0)

    @app.get("/plain")
    def plain():
        return PlainTextResponse("<b>", 201, {"x-a": "1"})

    @app.get("/json")
    async def as_json():
        return JSONResponse([1])

    with running(app), http(app) as client:
        answer = client.get("/plain")
        assert (answer.status_code, answer.text, answer.headers["x-a"]) == (201, "<b>", "1")
        assert client.get("/json").json() == [1]


def test_headers_cookies_and_background_tasks_go_beside_the_content() -> None:
    app = App(port=0)
    done: SimpleQueue[str] = SimpleQueue()

    @app.get("/")
    def index():
        return (
            Div("x"),
            HttpHeader("x-total", "3"),
            HtmxResponseHeaders(push_url="/new", trigger="saved"),
            cookie("a", "1", max_age=5),
            cookie("b", "2"),
            BackgroundTask(done.put, "done"),
        )

    with running(app), http(app) as client:
        answer = client.get("/", headers=HTMX)
        assert done.get(timeout=SECONDS) == "done"
    assert answer.text == "<div>x</div>"
    assert [answer.headers[name] for name in ("x-total", "hx-push-url", "hx-trigger")] == ["3", "/new", "saved"]
    assert [c.partition(";")[0] for c in answer.headers.get_list("set-cookie")] == ["a=1", "b=2"]


def test_headers_alone_are_an_empty_answer_with_them() -> None:
    app = App(port=0)

    @app.get("/")
    def index():
        return HttpHeader("x-only", "1")

    with running(app), http(app) as client:
        answer = client.get("/")
    assert (answer.text, answer.headers["x-only"]) == ("", "1")


def test_an_ft_response_has_a_status_and_headers_of_its_own() -> None:
    app = App(port=0)
    done: SimpleQueue[str] = SimpleQueue()

    @app.get("/")
    def index():
        task = BackgroundTask(done.put, "done")
        return FtResponse((Titled("T", P("x")), HttpHeader("x-b", "2")), 404, {"x-a": "1"}, background=task)

    with running(app), http(app) as client:
        answer = client.get("/")
        assert done.get(timeout=SECONDS) == "done"
        assert client.get("/", headers=HTMX).status_code == 404
    assert (answer.status_code, answer.headers["x-a"], answer.headers["x-b"]) == (404, "1", "2")
    assert "<title>T</title>" in answer.text


def test_generators_are_streamed_item_by_item() -> None:
    app = App(port=0)
    heard = threading.Event()

    @app.get("/async")
    async def in_async():
        yield P("first")
        assert await asyncio.to_thread(heard.wait, SECONDS)
        yield "<second>"

    @app.get("/def")
    def in_def():
        yield P("first")
        assert heard.wait(SECONDS)
        yield "<second>"

    with running(app), http(app) as client:
        assert client.get("/_nbws/static/nbws.js").status_code == 200
        for path in ("/async", "/def"):
            heard.clear()
            with client.stream("GET", path) as answer:
                assert answer.headers["content-type"].startswith("text/html")
                parts = answer.iter_text()
                assert next(parts) == "<p>first</p>"
                heard.set()
                assert "".join(parts) == "&lt;second&gt;"
    assert not app.errors


def test_a_def_generator_that_waits_blocks_nobody_else() -> None:
    app = App(port=0)
    go_on = threading.Event()

    @app.get("/slow")
    def slow():
        yield "first"
        assert go_on.wait(SECONDS)
        yield "second"

    @app.get("/quick")
    async def quick():
        return "quick"

    with running(app), http(app) as client, client.stream("GET", "/slow") as answer:
        parts = answer.iter_text()
        assert next(parts) == "first"
        assert client.get("/quick").text == "quick"
        go_on.set()
        assert next(parts) == "second"


def test_a_stream_that_raises_is_reported() -> None:
    app = App(port=0)

    @app.get("/")
    async def index():
        yield "first"
        raise ValueError("half-way")

    with running(app), http(app) as client:
        try:
            text = client.get("/").text
        except Exception:
            text = ""
        assert "half-way" not in text
        assert client.get("/nowhere").status_code == 404
    assert [str(e.exception) for e in app.errors] == ["half-way"]


def test_the_vary_header_of_an_answer_tells_caches_that_htmx_gets_another() -> None:
    app = App(port=0)

    @app.get("/")
    def index():
        return P("x")

    with running(app), http(app) as client:
        assert "HX-Request" in client.get("/", headers=HTMX).headers["vary"]
