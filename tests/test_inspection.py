"""What a panel is told, and what its buttons do."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from clients import http, running, talk, until, websocket

from nbws import App
from nbws.common import P
from nbws.inspection import answer, look


@pytest.fixture
def app() -> App:
    app = App(port=0, record=5)

    @app.ws("/ws", conn=lambda ws: ws.join("lobby"))
    async def chat(text: str) -> P:
        if text == "fail":
            raise ValueError("as asked")
        return P(text, id="out")

    return app


def do(app: App, **asked: Any) -> Any:
    return answer(app, {"act": asked})


def seen_of(found: dict[str, Any], before: dict[str, Any] | None = None) -> dict[str, Any]:
    before = before or {}
    parts = {**before.get("parts", {}), **{name: digest for name, (digest, _) in found.get("parts", {}).items()}}
    return {"parts": parts, "log": found.get("log", {}).get("newest", before.get("log", 0))}


def test_it_is_told_everything_once_and_then_what_is_another(app: App) -> None:
    async def visit() -> None:
        first = look(app, {})
        assert set(first["parts"]) == {"app", "endpoints", "connections", "errors", "said"}
        seen = seen_of(first)
        assert look(app, seen) == {}
        async with websocket(app) as client:
            await client.ask(text="hi")
            await until(lambda: app.log.lines[-2].seconds is not None)
            found = json.loads(json.dumps(look(app, seen)))
            assert set(found["parts"]) == {"app", "connections", "endpoints"}
            (connection,) = found["parts"]["connections"][1]
            assert connection["path"] == "/ws"
            assert (connection["received"], connection["sent"], connection["version"]) == (1, 1, 1)
            assert (connection["rooms"], connection["state"]) == (["lobby"], "open")
            assert [line["kind"] for line in found["log"]["lines"]] == ["opened", "received", "sent"]
            assert found["log"]["lines"][1]["text"] == '{"text": "hi"}'
            assert look(app, seen_of(found, seen)) == {}

    with running(app):
        talk(visit())


def test_of_two_thousand_messages_few_are_told_and_the_others_counted(app: App) -> None:
    for n in range(2000):
        app.log.received("one", "/ws", "/ws", json.dumps({"text": n}), 1)
    found = look(app, {})
    assert len(found["log"]["lines"]) + found["log"]["missed"] == 2000
    assert len(found["log"]["lines"]) == 60
    assert found["log"]["lines"][-1]["text"] == '{"text": 1999}'
    assert len(json.dumps(found)) < 40_000


def test_a_line_whose_handler_was_running_is_told_again_when_that_has_ended(app: App) -> None:
    line = app.log.received("one", "/ws", "/ws", "{}", 1)
    found = look(app, {})
    assert not found["log"]["lines"][0]["finished"]
    seen = {**seen_of(found), "open": [line.number]}
    assert look(app, seen) == {}
    line.seconds = 0.5
    assert look(app, seen)["log"]["lines"][0]["seconds"] == 0.5


def test_its_buttons_act_on_the_app(app: App) -> None:
    async def visit() -> None:
        async with websocket(app) as client, websocket(app) as other:
            await until(lambda: len(app.connections) == 2)
            await client.say(text="fail")
            await until(lambda: app.errors)
            (error,) = look(app, {})["parts"]["errors"][1]
            assert "as asked" in do(app, do="traceback", error=error["id"])["text"]

            @app.ws("/ws")
            async def chat(text: str) -> P:
                return P("new: ", text, id="out")

            assert "done" in do(app, do="retry", endpoint="/ws")
            assert await client.hear() == '<p id="out" hx-swap-oob="true">new: fail</p>'
            assert "+" in do(app, do="diff", endpoint="/ws", old=1, new=2)["text"]
            assert do(app, do="rollback", endpoint="/ws", to=1) == {"done": "v1 is live again, as v3"}
            assert do(app, do="send", connection=app.connections[0].id, html="<b>for you</b>")["done"]
            assert await client.hear() == "<b>for you</b>"
            assert do(app, do="send", html='<i id="x">for all</i>')["done"]
            assert "for all" in await client.hear()
            assert "for all" in await other.hear()
            assert do(app, do="close", connection=app.connections[1].id)["done"]
            assert await other.close_code() == 1000
            assert do(app, do="retire", endpoint="/ws")["done"]
            assert await client.close_code() == 1001

    with running(app):
        talk(visit())


def test_a_replay_is_shown_and_sends_nothing(app: App) -> None:
    async def visit() -> None:
        async with websocket(app) as client:
            await client.ask(text="hi")
            shown = await asyncio.to_thread(do, app, do="replay", endpoint="/ws", count=5)
            assert "the same is sent" in shown["html"]
            assert await client.ask(text="next") == '<p id="out" hx-swap-oob="true">next</p>'

    with running(app):
        talk(visit())


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"do": "explode"}, "no button 'explode'"),
        ({"do": "retry", "endpoint": "/ws"}, "no message to WS /ws has failed"),
        ({"do": "rollback", "endpoint": "/ws", "to": 9}, "no version 9"),
        ({"do": "diff", "endpoint": "/nowhere"}, "'/nowhere' is no endpoint"),
        ({"do": "close", "connection": "gone"}, "this connection has gone"),
        ({"do": "traceback", "error": "gone"}, "not kept"),
        ({"do": "replay", "endpoint": "/ws"}, "has been recorded"),
        ({}, "no button"),
    ],
)
def test_what_cannot_be_done_is_said(app: App, asked: dict[str, Any], problem: str) -> None:
    assert problem in answer(app, {"act": asked})["problem"]


def test_its_page_is_there_for_who_has_the_key_and_only_in_development(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = {"x-nbws-panel": app.panel_key}
    with running(app), http(app) as browser:
        assert browser.get("/_nbws/panel", params={"key": app.panel_key}).status_code == 404
        assert browser.post("/_nbws/panel", headers=key, json={}).status_code == 404
        monkeypatch.setattr(App, "in_development", property(lambda app: True))
        page = browser.get("/_nbws/panel", params={"key": app.panel_key})
        assert page.status_code == 200
        assert "/_nbws/static/inspector.js" in page.text
        assert set(browser.post("/_nbws/panel", headers=key, json={}).json()["parts"]) >= {"app", "endpoints"}
        answered = browser.post("/_nbws/panel", headers=key, json={"act": {"do": "retire", "endpoint": "/ws"}}).json()
        assert "retired" in answered["done"]
        for wrong in ({}, {"x-nbws-panel": "no"}, {"x-nbws-panel": ""}):
            assert browser.post("/_nbws/panel", headers=wrong, json={}).status_code == 404
            assert browser.get("/_nbws/panel", headers=wrong).status_code == 404
        assert browser.post("/_nbws/panel", headers=key, content=b"[1]").status_code == 400
        assert browser.post("/_nbws/panel", headers=key, content=b"x" * 300_000).status_code == 413


def test_without_a_notebook_the_widget_is_refused(app: App) -> None:
    with pytest.raises(Exception, match=r"app\.transcript\(\)"):
        app.inspector()
