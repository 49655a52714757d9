"""One session for the pages and websockets of a browser, over a real server: its cookie, and who sees what."""

from __future__ import annotations

import json
import logging
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from clients import HEADERS, SECONDS, http, running
from itsdangerous import TimestampSigner
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware as CookieData
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.testclient import TestClient
from test_session_store import AsyncStore, Store
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from nbws import App, Limits
from nbws.common import Div, Form, Html, Safe, cookie
from nbws.session_cookie import workers_asked_for


def shop(**options: Any) -> App:
    """A page, a login and a logout, and a websocket that says what it sees and writes what it is told."""
    app = App(**{"port": 0, **options})

    @app.get("/")
    def index():
        return Div("plain")

    @app.get("/see")
    def see(session):
        return JSONResponse(dict(session))

    @app.post("/login")
    def login(session, user: str):
        session["user"] = user
        return PlainTextResponse("in")

    @app.post("/logout")
    def logout(session):
        session.clear()
        return PlainTextResponse("out")

    @app.ws("/ws")
    async def ws(session, key: str | None = None, value: str | None = None):
        if key is not None:
            session[key] = value
        return Div(Safe(json.dumps(session)), id="a")

    return app


class Socket:
    """A websocket of a browser, and what its handshake brought."""

    def __init__(self, connection: ClientConnection) -> None:
        self._socket = connection
        assert connection.response is not None
        self.brought = connection.response.headers.get_all("set-cookie")

    def ask(self, **fields: Any) -> str:
        """The answer to a form with these *fields*."""
        self._socket.send(json.dumps({**fields, "HEADERS": HEADERS}))
        return self.hear()

    def hear(self) -> str:
        """The next frame."""
        return str(self._socket.recv(timeout=SECONDS))

    def vanish(self) -> None:
        """End with a reset of the TCP connection, and no close frame."""
        self._socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.socket.close()

    def sees(self, **fields: Any) -> Any:
        """The session, as the websocket of a shop says that it sees it."""
        return json.loads(self.ask(**fields).partition(">")[2].rpartition("<")[0])


@contextmanager
def opened(app: App, browser: httpx.Client | None = None, path: str = "/ws") -> Iterator[Socket]:
    """A websocket of *app*, opened by a *browser* with its cookies."""
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items()) if browser is not None else ""
    headers = {"cookie": cookies} if cookies else None
    url = app.url.replace("http", "ws") + path
    with connect(
        url, additional_headers=headers, open_timeout=SECONDS, close_timeout=1, compression=None
    ) as connection:
        yield Socket(connection)


def brought(response: httpx.Response) -> list[str]:
    """The Set-Cookie headers of *response*."""
    return response.headers.get_list("set-cookie")


# -- what it holds, and who sees it


def test_what_pages_write_an_open_websocket_reads_with_its_next_message_and_the_other_way_round() -> None:
    app = shop()
    with running(app), http(app) as browser:
        browser.post("/login", data={"user": "ann"})
        with opened(app, browser) as socket, opened(app, browser) as other:
            assert socket.sees() == {"user": "ann"}
            browser.post("/login", data={"user": "bob"})
            assert socket.sees() == {"user": "bob"}
            socket.ask(key="colour", value="red")
            assert browser.get("/see").json() == {"user": "bob", "colour": "red"}
            other.ask(key="size", value="XL")
            assert socket.sees() == {"user": "bob", "colour": "red", "size": "XL"}
            browser.post("/logout")
            assert socket.sees() == other.sees() == {}
            browser.post("/login", data={"user": "eve"})
            assert socket.sees() == {"user": "eve"}
            with http(app) as stranger, opened(app) as strangers_socket:
                assert stranger.get("/see").json() == strangers_socket.sees() == {}


def test_every_name_of_the_session_is_the_same_object() -> None:
    found: list[Any] = []
    app = App(port=0)

    def hook(session, ws):
        found.extend((session, ws.session))

    @app.get("/")
    def index(session, sess, request, scope):
        session["n"] = 1
        found.extend((session, sess, request.session, scope["session"]))

    @app.ws("/ws", conn=hook, disconn=hook)
    def ws(session, sess, ws, scope):
        found.extend((session, sess, ws.session, scope["session"]))
        return Div(id="a")

    with running(app), http(app) as browser:
        browser.get("/")
        with opened(app, browser) as socket:
            socket.ask()
            browser.get("/")
    assert len(found) == 2 * 4 + 2 * 2 + 4
    assert all(each is found[0] for each in found)


def test_what_is_nested_is_changed_in_place_and_need_be_no_json() -> None:
    app = App(port=0)

    @app.get("/put")
    def put(session):
        session.setdefault("cart", []).append({1, 2})
        return str(len(session["cart"]))

    @app.ws("/ws")
    async def ws(session):
        session["cart"][-1].add(3)
        return Div(len(session["cart"]), id="a")

    @app.get("/last")
    def last(session):
        return str(session["cart"][-1])

    with running(app), http(app) as browser:
        assert [browser.get("/put").text for _ in range(2)] == ["1", "2"]
        with opened(app, browser) as socket:
            assert ">2<" in socket.ask()
        assert browser.get("/last").text == "{1, 2, 3}"


def test_a_session_lives_on_when_its_handlers_are_swapped_and_its_app_is_made_again() -> None:
    app = shop(name="lives-on")
    with running(app), http(app) as client:
        client.post("/login", data={"user": "ann"})
        again = App("lives-on", port=0, title="Other")

        @again.get("/see")
        def see(session):
            return JSONResponse(["swapped", dict(session)])

        assert again is app
        assert client.get("/see").json() == ["swapped", {"user": "ann"}]
    with running(app), http(app, cookies=client.cookies) as client:
        assert client.get("/see").json() == ["swapped", {"user": "ann"}]


def test_what_a_stream_writes_while_it_is_sent_is_kept() -> None:
    app = App(port=0)

    @app.get("/")
    def index(session):
        def lines() -> Iterator[str]:
            yield "one"
            session["sent"] = True

        session["begun"] = True
        return StreamingResponse(lines())

    @app.get("/see")
    def see(session):
        return JSONResponse(dict(session))

    with running(app), http(app) as client:
        client.get("/")
        assert client.get("/see").json() == {"begun": True, "sent": True}


def test_a_handler_that_fails_keeps_what_it_wrote() -> None:
    app = shop()

    @app.ws("/fails")
    def fails(session, send):
        session["tried"] = True
        send(Div(id="a"))
        raise RuntimeError

    with running(app), http(app) as browser:
        browser.post("/login", data={"user": "ann"})
        with opened(app, browser, "/fails") as socket:
            socket.ask()
        assert browser.get("/see").json() == {"user": "ann", "tried": True}


def test_a_page_that_is_made_anew_because_its_code_changed_counts_no_visit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(App, "in_development", True)
    app = shop()
    visits = []

    @app.get("/count")
    def count(session):
        session["visits"] = session.get("visits", 0) + 1
        visits.append(session["visits"])
        return Div(session["visits"])

    def event(lines: Iterator[str]) -> str:
        return next(line for line in lines if line.startswith("event: page"))

    with running(app), http(app) as client:
        digest = client.get("/count").text.partition('data-page="')[2].partition('"')[0]
        with client.stream("GET", "/_nbws/feed", params={"page": digest, "at": "/count"}) as feed:
            lines = feed.iter_lines()
            next(lines)

            @app.get("/count")
            def again(session):
                session["visits"] = session.get("visits", 0) + 1
                visits.append(session["visits"])
                return Div("visits ", session["visits"])

            event(lines)
        assert visits == [1, 2]
        assert client.get("/see").json() == {"visits": 1}


def test_the_test_client_of_starlette_has_one_session_too() -> None:
    with TestClient(shop()) as client:
        client.post("/login", data={"user": "ann"})
        with client.websocket_connect("/ws") as socket:
            socket.send_text(json.dumps({"key": "colour", "value": "red"}))
            assert "colour" in socket.receive_text()
            assert client.get("/see").json() == {"user": "ann", "colour": "red"}


def test_a_client_of_the_app_is_a_browser_with_a_session_of_its_own() -> None:
    app = shop()
    with app.client(sync=True) as browser, app.client(sync=True) as stranger, browser.ws("/ws") as socket:
        socket.send(key="colour", value="red")
        assert "red" in socket.receive()
        browser.post("/login", user="ann")
        assert browser.get("/see").json() == {"user": "ann", "colour": "red"}
        assert stranger.get("/see").json() == {}


@pytest.mark.parametrize("is_known", [False, True])
def test_a_websocket_that_was_cut_off_comes_back_to_the_session_of_its_browser(is_known: bool) -> None:
    app = shop()
    gone = threading.Event()
    app.ws("/tell", disconn=gone.set)(lambda session: Div(Safe(json.dumps(session)), id="a"))
    with running(app), http(app) as browser:
        with opened(app, path="/tell?nbws-resume=") as socket:
            key = json.loads(socket.hear().removeprefix("\0nbws"))["key"]
            (connection,) = app.connections
            connection.session["colour"] = "red"
            assert socket.sees() == {"colour": "red"}
            socket.vanish()
        if is_known:
            browser.post("/login", data={"user": "ann"})
        with opened(app, browser, path=f"/tell?nbws-resume={key}.1") as socket:
            assert json.loads(socket.hear().removeprefix("\0nbws"))["key"] == key
            assert app.connections == (connection,)
            assert socket.sees() == connection.session == ({"user": "ann"} if is_known else {"colour": "red"})
            if not is_known:
                (header,) = socket.brought
                name, _, value = header.partition(";")[0].partition("=")
                browser.cookies.set(name, value)
                assert browser.get("/see").json() == {"colour": "red"}
        assert gone.wait(SECONDS)


def test_an_author_may_have_a_session_middleware_of_their_own() -> None:
    app = shop(middleware=[Middleware(CookieData, secret_key="s", session_cookie="own")])
    with running(app), http(app) as client:
        client.post("/login", data={"user": "ann"})
        assert list(client.cookies) == ["own"]
        assert client.get("/see").json() == {"user": "ann"}


# -- the cookie


def test_the_cookie_holds_a_signed_id_and_nothing_of_what_is_remembered() -> None:
    app = shop(max_age=60, same_site="strict", session_cookie="mine", secret_key="s")
    with running(app), http(app) as client:
        (header,) = brought(client.post("/login", data={"user": "ann"}))
        pair, *attributes = header.split("; ")
        assert attributes == ["Path=/", "Max-Age=60", "HttpOnly", "SameSite=strict"]
        name, _, value = pair.partition("=")
        assert name == "mine"
        (other,) = brought(httpx.post(app.url + "/login", data={"user": "ann" * 100}))
        assert len(other) == len(header)
        assert value not in other
    with running(shop(https_only=True, max_age=None)) as app:
        (header,) = brought(httpx.post(app.url + "/login", data={"user": "ann"}))
        assert header.endswith("; Path=/; HttpOnly; SameSite=lax; Secure")


def test_nothing_written_no_cookie_and_one_cookie_is_enough() -> None:
    app = shop()
    with running(app), http(app) as client:
        assert brought(client.get("/")) == brought(client.get("/see")) == []
        assert len(brought(client.post("/login", data={"user": "ann"}))) == 1
        assert brought(client.get("/see")) == []
        assert brought(client.post("/login", data={"user": "bob"})) == []
        assert brought(client.post("/logout")) == []
        assert brought(client.post("/login", data={"user": "bob"})) == []


def test_a_websocket_brings_its_browser_an_id_so_that_pages_read_what_it_writes() -> None:
    app = shop()
    with running(app), http(app) as browser:
        with opened(app) as socket:
            (header,) = socket.brought
            name, _, value = header.partition(";")[0].partition("=")
            browser.cookies.set(name, value)
            socket.ask(key="colour", value="red")
            assert browser.get("/see").json() == {"colour": "red"}
            with opened(app, browser) as other:
                assert other.brought == []
        assert browser.get("/see").json() == {"colour": "red"}


@pytest.mark.parametrize("whole", [False, True])
def test_a_page_that_opens_websockets_brings_an_id_before_they_open_and_takes_no_room(whole: bool) -> None:
    app = shop()

    @app.get("/chat")
    def chat():
        page = Div(Form(ws_send=True), hx_ext="ws", ws_connect="/ws")
        return Html(page) if whole else page

    with running(app), http(app) as browser:
        assert len(brought(browser.get("/chat"))) == 1
        assert len(app._asgi._cookies.sessions) == 0
        assert brought(browser.get("/chat")) == []
        with opened(app, browser) as one, opened(app, browser) as other:
            assert one.brought == other.brought == []
            one.ask(key="colour", value="red")
            assert other.sees() == {"colour": "red"}
        assert browser.get("/see").json() == {"colour": "red"}


@pytest.mark.parametrize(
    "forge",
    [
        lambda value: value[:-2] + ("A" if value[-2] != "A" else "B") + value[-1],  # the last one has bits to spare
        lambda value: value[1:],
        lambda value: value.partition(".")[0],
        lambda value: TimestampSigner("guessed", salt="nbws.session").sign(value.partition(".")[0]).decode(),
        lambda value: "",
        lambda value: "\xff.\xff.\xff",
        lambda value: "....",
    ],
)
def test_an_id_that_the_app_has_not_signed_leads_nowhere_and_is_not_taken(forge: Any) -> None:
    app = shop(secret_key="s")
    with running(app), http(app) as client:
        client.post("/login", data={"user": "ann"})
        header = {"cookie": f"session_={forge(client.cookies['session_'])}".encode("latin-1")}
        assert httpx.get(app.url + "/see", headers=header).json() == {}
        (given,) = brought(httpx.post(app.url + "/login", data={"user": "eve"}, headers=header))
        assert given.partition(".")[0] != "session_=" + client.cookies["session_"].partition(".")[0]
        assert client.get("/see").json() == {"user": "ann"}


def test_a_cookie_of_the_same_name_that_is_none_of_ours_hides_none_and_of_two_the_newer_counts() -> None:
    app = shop(secret_key="s")
    with running(app), http(app) as ann, http(app) as bob:
        ann.post("/login", data={"user": "ann"})
        bob.post("/login", data={"user": "bob"})
        older = ann.cookies["session_"]
        signer = app._asgi._cookies._signer
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(signer, "get_timestamp", lambda: int(time.time()) + 5)
            newer = signer.sign(bob.cookies["session_"].partition(".")[0]).decode()
        for values, user in ((("planted", older, "x.y.z"), "ann"), ((older, newer), "bob"), ((newer, older), "bob")):
            header = {"cookie": "; ".join(f"session_={value}" for value in values)}
            assert httpx.get(app.url + "/see", headers=header).json() == {"user": user}


def test_a_cookie_of_starlettes_middleware_with_the_same_key_is_none_of_ours() -> None:
    app = shop(secret_key="s")
    old = App(port=0, middleware=[Middleware(CookieData, secret_key="s", session_cookie="session_")])

    @old.get("/login")
    def login(session):
        session["user"] = "ann"

    with running(old), http(old) as client:
        client.get("/login")
    with running(app), http(app, cookies=client.cookies) as client:
        assert len(brought(client.post("/login", data={"user": "ann"}))) == 1


def test_after_a_restart_everybody_begins_anew_under_the_id_that_they_have() -> None:
    with running(shop(secret_key="s")) as before, http(before) as client:
        client.post("/login", data={"user": "ann"})
    app = shop(secret_key="s")
    with running(app), http(app, cookies=client.cookies) as client:
        with opened(app, client) as one, opened(app, client) as other:
            assert one.brought == []
            assert one.sees() == {}
            one.ask(key="user", value="ann again")
            assert other.sees() == {"user": "ann again"}
        assert client.get("/see").json() == {"user": "ann again"}


def test_with_another_secret_key_the_sessions_of_the_old_one_are_gone_for_open_websockets_too() -> None:
    app = shop(name="another-key", secret_key="one")
    with running(app), http(app) as client:
        client.post("/login", data={"user": "ann"})
        with opened(app, client) as socket:
            App("another-key", port=0, secret_key="two")
            assert socket.sees() == {}
            assert client.get("/see").json() == {}
            App("another-key", port=0, secret_key="one")
            assert client.get("/see").json() == {}


def test_a_renewed_session_has_another_id_with_the_next_response_and_the_old_one_is_nobodys() -> None:
    app = shop()

    @app.post("/login")
    def login(session, user: str):
        session.renew()
        session["user"] = user

    @app.get("/begin")
    def begin(session):
        session["colour"] = "red"

    with running(app), http(app) as browser:
        browser.get("/begin")
        stolen = dict(browser.cookies)
        with opened(app, browser) as socket:
            assert socket.sees() == {"colour": "red"}
            assert len(brought(browser.post("/login", data={"user": "ann"}))) == 1
            assert browser.cookies["session_"] != stolen["session_"]
            assert browser.get("/see").json() == socket.sees() == {"colour": "red", "user": "ann"}
        with http(app, cookies=stolen) as thief:
            assert thief.get("/see").json() == {}
            thief.post("/login", data={"user": "eve"})
        assert browser.get("/see").json() == {"colour": "red", "user": "ann"}


def test_a_browser_that_comes_often_enough_is_never_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    app = shop(max_age=100)
    now = time.time()
    with running(app), http(app) as client:
        client.post("/login", data={"user": "ann"})
        first = client.cookies["session_"]
        for later, brings in ((5, 0), (15, 1), (20, 0), (110, 1)):
            monkeypatch.setattr(time, "time", lambda later=later: now + later)
            response = client.get("/see")
            assert (response.json(), len(brought(response))) == ({"user": "ann"}, brings), later
        assert client.cookies["session_"].partition(".")[0] == first.partition(".")[0]
        monkeypatch.setattr(time, "time", lambda: now + 215)
        assert client.get("/see").json() == {}


def test_messages_keep_a_session_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    app = shop(max_age=100)
    now = time.time()
    with running(app), http(app) as client:
        client.post("/login", data={"user": "ann"})
        with opened(app, client) as socket:
            for later in (90, 180, 270):
                monkeypatch.setattr(time, "time", lambda later=later: now + later)
                assert socket.sees() == {"user": "ann"}
            monkeypatch.setattr(time, "time", lambda: now + 371)
            assert socket.sees() == {}


def test_as_many_are_kept_as_the_limit_says() -> None:
    app = shop(limits=Limits(sessions=2))
    with running(app):
        clients = [http(app) for _ in range(3)]
        for n, client in enumerate(clients):
            client.post("/login", data={"user": str(n)})
        assert [client.get("/see").json() for client in clients] == [{}, {"user": "1"}, {"user": "2"}]
        for client in clients:
            client.close()


def test_an_answer_that_was_made_by_the_session_varies_with_the_cookie() -> None:
    app = shop()

    @app.get("/both")
    def both(session):
        session["n"] = 1
        return Div("x"), cookie("theme", "dark")

    with running(app), http(app) as client:
        assert client.get("/").headers["vary"] == "HX-Request"
        answer = client.get("/both")
        assert answer.headers["vary"] == "HX-Request, Cookie"
        assert [header.partition("=")[0] for header in brought(answer)] == ["theme", "session_"]


# -- several workers


@pytest.mark.parametrize("kind", [Store, AsyncStore])
def test_two_workers_with_one_store_have_one_session_for_pages_and_open_websockets(kind: type[Store]) -> None:
    store = kind()

    one, other = (shop(secret_key="s", session_store=store) for _ in range(2))
    with running(one), running(other), http(one) as client:
        client.post("/login", data={"user": "ann"})
        with http(other, cookies=client.cookies) as of_other:
            assert of_other.get("/see").json() == {"user": "ann"}
            with opened(other, client) as socket:
                assert socket.sees() == {"user": "ann"}
                socket.ask(key="colour", value="red")
                assert client.get("/see").json() == of_other.get("/see").json() == {"user": "ann", "colour": "red"}
                client.post("/logout")
                assert socket.sees() == of_other.get("/see").json() == {}
                assert store.kept == {}


def test_a_session_that_is_renewed_moves_in_its_store() -> None:
    store = Store()
    app = shop(session_store=store)

    @app.post("/renew")
    def renew(session):
        session.renew()

    with running(app), http(app) as client:
        client.post("/login", data={"user": "ann"})
        (old,) = store.kept
        client.post("/renew")
        assert client.get("/see").json() == {"user": "ann"}
        assert list(store.kept.values()) == [{"user": b'"ann"'}]
        assert old not in store.kept


def test_a_value_that_a_store_cannot_keep_is_an_error_of_its_handler() -> None:
    app = shop(session_store=Store())

    @app.get("/page")
    def page(session):
        session["when"] = {1}

    @app.ws("/set")
    async def of_websocket(session, send):
        session["when"] = {1}
        send(Div(id="a"))
        return Div(id="not sent")

    with running(app), http(app) as client:
        assert client.get("/page").status_code == 500
        with opened(app, path="/set") as socket:
            assert 'id="a"' in socket.ask()
            app.endpoints["/set"].retire()
            with pytest.raises(ConnectionClosed):
                socket.hear()
        assert ["session['when'] holds a set" in str(error.exception) for error in app.errors] == [True, True]


@pytest.mark.parametrize(
    ("argv", "environ", "count"),
    [
        (["/venv/bin/uvicorn", "m:app", "--workers", "2"], {}, 2),
        (["/venv/lib/python3/site-packages/uvicorn/__main__.py", "m:app", "--workers=3"], {}, 3),
        (["C:\\venv\\Scripts\\uvicorn.exe", "m:app", "--workers", "2"], {}, 2),
        (["/venv/bin/uvicorn", "m:app"], {"WEB_CONCURRENCY": "4"}, 4),
        (["/venv/bin/uvicorn", "m:app", "--workers", "1"], {"WEB_CONCURRENCY": "4"}, 1),
        (["/venv/bin/uvicorn", "m:app"], {}, 1),
        (["/venv/bin/gunicorn", "-w", "2", "-k", "uvicorn.workers.UvicornWorker", "m:app"], {}, 2),
        (["/venv/bin/gunicorn", "-w4", "m:app"], {}, 4),
        (["/venv/bin/gunicorn", "m:app"], {"GUNICORN_CMD_ARGS": "--workers=2"}, 2),
        (["/venv/bin/hypercorn", "-w", "2", "m:app"], {"WEB_CONCURRENCY": "4"}, 2),
        (["/venv/bin/granian", "--interface", "asgi", "--workers", "2", "m:app"], {}, 2),
        (["chat.py", "--workers", "5"], {"WEB_CONCURRENCY": "4"}, 1),
        ([], {}, 1),
    ],
)
def test_how_many_workers_a_command_asks_for(argv: list[str], environ: dict[str, str], count: int) -> None:
    assert workers_asked_for(argv, environ) == count


@pytest.mark.parametrize("store", [None, Store()])
def test_sessions_in_the_memory_of_several_workers_are_warned_about_once(
    store: Store | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sys.argv", ["/venv/bin/uvicorn", "m:app", "--workers", "2"])
    with TestClient(shop(session_store=store)) as client:
        client.get("/see")
        assert caplog.messages == []
        for _ in range(2):
            client.post("/login", data={"user": "ann"})
    assert [record.name for record in caplog.records] == ([] if store else ["nbws"])
    assert all("several workers" in text and "session_store=" in text for text in caplog.messages)


@pytest.mark.parametrize("key", ["s", "of the other process"])
def test_a_session_that_another_process_has_begun_meanwhile_is_warned_about_once(
    key: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def header(process: str, later: float) -> dict[str, str]:
        from hashlib import sha256

        signer = TimestampSigner(key, salt="nbws.session", key_derivation="hmac", digest_method=sha256)
        with monkeypatch.context() as patched:
            patched.setattr(signer, "get_timestamp", lambda: int(time.time() + later))
            return {"cookie": f"session_={signer.sign(process + 'x' * 32).decode()}"}

    caplog.set_level(logging.WARNING, "nbws")
    with TestClient(shop(secret_key="s")) as client:
        client.get("/see")
        client.get("/see", headers=header("another1", -5))  # before this one was started
        assert caplog.messages == []
        for _ in range(2):
            client.get("/see", headers=header("another1", 5))
    (text,) = caplog.messages
    assert "another process has begun" in text
    assert "secret_key=" in text
