"""A recording of an app: which clients are in it, with which pages, and what it never holds."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nbws.asgi
from nbws import App
from nbws.common import Button, Form, Input, P, Titled
from nbws.playback import Playback
from nbws.tape import documentation


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def counting_app(**options: Any) -> App:
    app = App(title="Count", **options)
    said: list[str] = []

    @app.get("/")
    def index(session: Any) -> Any:
        session["visits"] = session.get("visits", 0) + 1
        form = Form(Input(id="text"), Button("Say"), ws_send=True)
        return Titled("Count", P(*said, id="said"), P(session["visits"], id="visits"), form, ws_connect="/ws")

    @app.ws("/ws")
    async def say(text: str) -> None:
        said.append(text)
        app.broadcast(P(*said, id="said"))

    return app


async def two_talk(app: App) -> None:
    async with app.client().ws("/ws") as ada, app.client().ws("/ws") as bob:
        await ada.send(text="hi")
        await bob.receive()
        await bob.send(text="ho")
        await ada.receive()


def test_what_clients_say_is_on_record_each_with_the_page_that_it_saw(tmp_path: Path) -> None:
    app = counting_app()
    with app.record("count") as tape:
        asyncio.run(two_talk(app))
    asyncio.run(two_talk(app))  # after its end
    session = Playback.loads((tmp_path / "count.replay.json").read_text("utf-8"))
    assert session == tape.playback()
    assert [(entry.kind, entry.clients) for entry in session.entries] == [
        ("opened", (0,)),
        ("opened", (1,)),
        ("received", (0,)),
        ("sent", (0, 1)),
        ("received", (1,)),
        ("sent", (0, 1)),
        ("closed", (1,)),
        ("closed", (0,)),
    ]
    assert session.title == "Count"
    for client in session.clients:
        assert client.path == "/"
        assert client.page is not None
        assert '<p id="said"></p>' in client.page
        assert "nbws.js" not in client.page


def test_to_show_its_page_leaves_no_trace_in_the_session_of_a_client() -> None:
    app = counting_app()

    async def visit() -> str:
        client = app.client()
        async with client.ws("/ws"):
            return (await client.get("/")).text

    with app.record("count"):
        assert '<p id="visits">1</p>' in asyncio.run(visit())


def test_a_page_that_does_not_come_holds_up_no_client_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nbws.asgi, "_PAGE_SECONDS", 0.05)
    app = App("slow page of tapes")

    @app.get("/")
    async def index() -> Any:
        await asyncio.Event().wait()

    @app.ws("/ws")
    async def say(text: str) -> Any:
        return P(text, id="said")

    async def visit() -> str:
        async with app.client().ws("/ws") as visitor:
            return str(await visitor.ask(text="hi"))

    with app.record("slow") as tape:
        assert "hi" in asyncio.run(visit())
    assert [each.page for each in tape.playback().clients] == [None]


def test_a_client_that_has_loaded_a_page_is_on_record_with_that_one() -> None:
    app = counting_app()

    async def visit() -> None:
        client = app.client()
        for _ in range(3):
            await client.get("/?from=home")
        async with client.ws("/ws"):
            pass

    with app.record("count") as tape:
        asyncio.run(visit())
    (client,) = tape.playback().clients
    assert client.path == "/?from=home"
    assert '<p id="visits">3</p>' in (client.page or "")


def test_a_client_that_comes_again_has_the_page_of_then_and_is_the_same_client() -> None:
    app = counting_app()

    async def visit() -> None:
        client = app.client()
        await client.get("/")
        for text in ("first", "second"):
            async with client.ws("/ws") as visitor:
                await visitor.ask(text=text)

    with app.record("count") as tape:
        asyncio.run(visit())
    session = tape.playback()
    assert len(session.clients) == 1
    page, fragments = session.last_page(0)
    assert '<p id="said">first</p>' in (page or "")
    assert fragments == ['<p id="said" hx-swap-oob="true">firstsecond</p>']


def test_begun_again_with_the_same_name_it_is_a_new_one() -> None:
    app = counting_app()
    first = app.record("count")
    second = app.record("count")
    asyncio.run(two_talk(app))
    assert (first.is_running, second.is_running) == (False, True)
    assert (first.playback().messages, second.playback().messages) == (0, 2)
    assert app.tapes == [second]
    assert "2 clients, 2 messages" in repr(second)


def test_where_nobody_has_connected_nothing_is_written_and_it_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counting_app().record("count").save()
    assert list(tmp_path.iterdir()) == []
    assert "Nobody has connected since app.record('count'), so nothing is saved." in capsys.readouterr().out


def test_a_session_in_which_nobody_said_anything_replaces_no_other_as_run_all_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app = counting_app()

    async def only_look() -> None:
        async with app.client().ws("/ws"):
            pass

    with app.record("count"):
        asyncio.run(only_look())
    assert Playback.loads((tmp_path / "count.replay.json").read_text("utf-8")).messages == 0
    with app.record("count"):
        asyncio.run(two_talk(app))
    with app.record("count"):
        asyncio.run(only_look())
    assert Playback.loads((tmp_path / "count.replay.json").read_text("utf-8")).messages == 2
    assert "Nobody has said anything since app.record('count'), so count.replay.json is as" in capsys.readouterr().out


def test_a_cell_that_fails_writes_nothing(tmp_path: Path) -> None:
    app = counting_app()

    def fail() -> None:
        with app.record("count"):
            asyncio.run(two_talk(app))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []
    assert app.log.tapes == ()


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a b"])
def test_what_is_no_name_of_a_file_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no name of a recording"):
        counting_app().record(name)


def test_no_token_cookie_or_redacted_field_is_on_record_not_even_where_the_app_repeats_it() -> None:
    app = App("canary of tapes", token="token-canary-0123", secret_key="key-canary", redact=("pin", "password"))
    seen: list[str] = []

    @app.get("/")
    def index(request: Any) -> Any:
        cookies = "; ".join(request.cookies.values())
        seen.append(cookies)
        return Titled("x", P(cookies, app.token, "key-canary"), Input(name="pin", value="pin-canary"), ws_connect="/ws")

    @app.ws("/ws")
    async def login(password: str, ws: Any) -> Any:
        seen.append(ws.cookies["taste"])
        return P(f"your password is {password}", *ws.cookies.values(), id="out")

    @app.get("/taste")
    def taste() -> Any:
        from nbws.common import cookie

        return "ok", cookie("taste", "cookie-canary")

    async def visit() -> None:
        client = app.client()
        await client.get("/taste")
        await client.get("/")
        await client.get("/")
        async with client.ws("/ws?pin=query-canary") as visitor:
            assert "password-canary" in await visitor.ask(password="password-canary")

    with app.record("canary") as tape:
        asyncio.run(visit())
    assert any("cookie-canary" in each for each in seen)
    text = tape.playback().dumps()
    session_cookie = seen[-2].split("; ")[-1]
    assert "canary" not in text.replace('"canary"', "")
    assert session_cookie not in text
    assert "your password is (redacted)" in text


def test_there_is_a_bound_and_the_recording_says_that_it_was_cut() -> None:
    app = App("bounds of tapes")

    @app.ws("/ws")
    async def ws(n: int, send: Any) -> None:
        for number in range(n):
            await send(P("x" * 1000, number, id="out"))

    async def visit() -> None:
        async with app.client().ws("/ws") as visitor:
            await visitor.send(n=600)
            for _ in range(600):
                await visitor.receive()

    with app.record("long") as tape:
        asyncio.run(visit())
    session = tape.playback()
    assert session.is_cut
    assert 500 < len(session.entries) < 530
    assert len(session.dumps()) < 2**20


@pytest.fixture
def _docs_are_made() -> Iterator[None]:
    documentation.begin()
    yield
    documentation.is_made = False


@pytest.mark.usefixtures("_docs_are_made")
def test_while_docs_are_made_every_app_is_on_record_and_no_file_is_written(tmp_path: Path) -> None:
    app = counting_app()
    asyncio.run(two_talk(app))
    with app.record("count"):
        asyncio.run(two_talk(app))
    everything, named = app.tapes
    assert (everything.name, everything.playback().messages) == (None, 4)
    assert (named.name, named.playback().messages) == ("count", 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("_docs_are_made")
def test_a_page_that_shows_ids_of_connections_is_the_same_at_each_build() -> None:
    def built() -> str:
        documentation.begin()
        app = App(title="Ids")

        @app.ws("/ws")
        async def say(text: str, ws: Any) -> Any:
            return P(ws.id, ": ", text, id="said")

        async def visit() -> None:
            async with app.client().ws("/ws") as visitor:
                await visitor.ask(text="hi")

        asyncio.run(visit())
        return re.sub(r'"at": [\d.]+', "", app.tapes[0].playback().dumps())

    assert built() == built()
