"""What code may define on an app, and what is refused at once."""

from __future__ import annotations

import functools
import re
from typing import Any

import pytest
from clients import http, running, talk, websocket

from nbws import App, DefinitionError
from nbws.common import A, Div, Form


@pytest.mark.parametrize("path", ["ws", "", "/a b", "/{", "/{a}/{a}", "/{n:nothing}", "/x?y", "/{a b}", None, 3])
def test_a_path_that_cannot_work_is_refused_where_it_is_defined(path: Any) -> None:
    app = App(port=0)
    with pytest.raises(DefinitionError, match="path"):

        @app.ws(path)
        async def ws(): ...

    if isinstance(path, str) and path:
        with pytest.raises(DefinitionError, match="path"):

            @app.get(path)
            def page(): ...

    assert len(app.endpoints) == 0


def test_a_handler_that_cannot_work_is_refused_where_it_is_defined() -> None:
    app = App(port=0)
    with pytest.raises(DefinitionError, match="msg has neither an annotation nor a reserved name; write msg: str"):
        app.ws("/ws")(lambda msg: None)
    with pytest.raises(DefinitionError, match="send sends over a websocket, and this is an HTTP handler"):
        app.get("/")(lambda send: None)
    with pytest.raises(DefinitionError, match="ws is a websocket, and this is an HTTP handler"):
        app.get("/")(lambda ws: None)
    with pytest.raises(DefinitionError, match="says nothing about what to pass"):
        app.ws("/ws")(lambda *args: None)
    with pytest.raises(DefinitionError):
        app.ws("/ws", conn=lambda who: None)(lambda: None)
    with pytest.raises(DefinitionError):
        app.on_event("start")
    assert len(app.endpoints) == 0


def test_an_annotation_that_is_not_defined_says_so() -> None:
    app = App(port=0)
    with pytest.raises(DefinitionError, match="an annotation names what is not defined"):

        @app.ws("/ws")
        async def ws(msg: Undefined): ...  # type: ignore[name-defined] # noqa: F821


def test_methods_partials_and_callable_objects_are_handlers() -> None:
    app = App(port=0)

    class Counter:
        def __init__(self) -> None:
            self.n = 0

        async def up(self, by: int):
            self.n += by
            return Div(self.n, id="n")

        async def __call__(self, by: int):
            return Div(by, id="n")

    async def scaled(factor: int, by: int):
        return Div(factor * by, id="n")

    counter = Counter()
    app.ws("/method")(counter.up)
    app.ws("/object")(counter)
    app.ws("/partial")(functools.partial(scaled, 10))

    async def ask(path: str) -> str:
        async with websocket(app, path) as client:
            return str(await client.ask(by=3))

    with running(app):
        assert [re.sub("<.*?>", "", talk(ask(f"/{p}"))) for p in ("method", "object", "partial")] == ["3", "3", "30"]


def test_a_routed_function_stands_for_its_path() -> None:
    app = App(port=0)

    @app.get("/rooms")
    def rooms():
        return "rooms"

    @app.get("/")
    def index():
        return A("rooms", href=rooms), Form(hx_post=rooms)

    with running(app), http(app) as client:
        text = client.get("/").text
    assert 'href="/rooms"' in text
    assert 'hx-post="/rooms"' in text
    assert str(app.url_path_for("rooms")) == "/rooms"
    assert rooms() == "rooms"
