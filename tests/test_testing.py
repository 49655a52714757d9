"""The client of an app that has no port and no browser."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import pytest
import uvicorn
from clients import running, talk, until, websocket
from kernel import Kernel

from nbws import App, Limits, NbwsError, ServerStartError
from nbws.common import A, P, Redirect, RedirectResponse, Request, Titled
from nbws.loops import close
from nbws.testing import Client, Closed, Fragment


def chat(app: App) -> App:
    @app.ws("/chat/{room}", conn=lambda ws: ws.join(ws.path_params["room"]))
    async def say(text: str, room: str) -> None:
        app.broadcast(P(text, id="out"), room=room)

    return app


def noted_life(app: App) -> list[str]:
    """Takes note of each startup and shutdown of *app*."""
    happened: list[str] = []
    app.on_event("startup")(lambda: happened.append("up"))
    app.on_event("shutdown")(lambda: happened.append("down"))
    return happened


@pytest.mark.parametrize("text", ["x" * 1000, "é" * 500])
def test_a_message_above_the_limit_closes_its_connection_under_any_server(text: str) -> None:
    app = chat(App(limits=Limits(message_bytes=1000)))

    async def visit() -> None:
        async with app.client().ws("/chat/a") as one, app.client().ws("/chat/a") as other:
            await one.send_text(text)
            await one.send_text(text + "x")
            with pytest.raises(Closed) as closed:
                await one.receive()
            assert closed.value.code == 1009
            assert "hi" in await other.ask(text="hi")

    asyncio.run(visit())


def test_two_clients_talk_with_no_port() -> None:
    app = chat(App())

    async def visit() -> None:
        async with (
            app.client().ws("/chat/a") as one,
            app.client().ws("/chat/a") as two,
            app.client().ws("/chat/b") as b,
        ):
            await one.send(text="<hi>")
            assert await one.receive() == await two.receive() == '<p id="out" hx-swap-oob="true">&lt;hi&gt;</p>'
            assert len(app.connections) == 3
            assert "b" in await b.ask(text="b")
        assert app.connections == ()

    talk(visit())
    assert not app.is_running


def test_it_sends_what_the_form_would_send() -> None:
    app = App()

    @app.ws("/ws")
    async def show(data: dict[str, Any], htmx: Any, ws: Any) -> None:
        ws.send_json([data, htmx.request])

    async def visit() -> Any:
        async with app.client().ws("/ws") as visitor:
            return json.loads(await visitor.ask(text="a", n=1))

    assert talk(visit()) == [{"text": "a", "n": 1}, "true"]


def test_text_and_bytes_go_both_ways() -> None:
    app = App()

    @app.ws("/ws")
    async def back(data: bytes, ws: Any) -> None:
        ws.send_bytes(data[::-1])

    async def visit() -> Any:
        async with app.client().ws("/ws") as visitor:
            await visitor.send_bytes(b"abc")
            return await visitor.receive()

    assert talk(visit()) == b"cba"


def test_a_fragment_is_text_that_a_notebook_shows() -> None:
    fragment = Fragment("<p>x</p>")
    assert fragment == "<p>x</p>"
    assert fragment._repr_html_() == "<p>x</p>"


def test_nothing_that_comes_is_an_error_which_names_the_last_one_of_the_app() -> None:
    app = App()

    @app.ws("/ws")
    async def broken(text: str) -> None:
        raise RuntimeError("not today")

    async def visit() -> None:
        async with app.client().ws("/ws") as visitor:
            with pytest.raises(TimeoutError, match=r"nothing came on /ws within 0.2 s; the last error.*not today"):
                await visitor.ask(0.2, text="x")

    talk(visit())


def test_what_the_app_closes_or_refuses_is_told_with_its_code() -> None:
    app = App()

    @app.ws("/ws")
    async def go(ws: Any) -> None:
        ws.send(P("bye", id="out"))
        ws.close(4001, "go")

    async def visit() -> None:
        client = app.client()
        async with client.ws("/ws") as visitor:
            assert "bye" in await visitor.ask()
            with pytest.raises(Closed, match=r"closed: 4001 \(go\)") as closed:
                await visitor.receive()
            assert closed.value.code == 4001
            with pytest.raises(Closed):
                await visitor.send(text="x")
        with pytest.raises(Closed) as refused:
            async with client.ws("/nowhere"):
                pass
        assert refused.value.code == 403

    talk(visit())


def test_what_comes_can_be_iterated_over_until_the_end() -> None:
    app = App()

    @app.ws("/ws")
    async def count(ws: Any) -> Any:
        for n in range(3):
            yield P(n, id="n")
        ws.close()

    async def visit() -> list[Any]:
        async with app.client().ws("/ws") as visitor:
            await visitor.send()
            return [fragment async for fragment in visitor]

    assert len(talk(visit())) == 3


def test_leaving_waits_for_disconn() -> None:
    app = App()
    left: list[str] = []
    app.ws("/ws", disconn=lambda ws: left.append(ws.id))(lambda: None)

    async def visit() -> None:
        async with app.client().ws("/ws"):
            assert left == []
        assert len(left) == 1

    talk(visit())


def test_requests_have_the_cookies_of_the_websockets_of_their_client_and_no_others() -> None:
    app = App()

    @app.get("/")
    def index(session: Any) -> Any:
        return Titled("x", P(session.get("user", "nobody")))

    @app.post("/login")
    def log_in(user: str, session: Any) -> Any:
        session["user"] = user
        return Redirect("/")

    @app.get("/logout")
    def log_out(session: Any) -> Any:
        session.clear()
        return RedirectResponse("/", status_code=302)

    @app.ws("/ws")
    async def who(session: Any) -> Any:
        return P(session.get("user", "nobody"), id="who")

    async def visit() -> None:
        ada, other = app.client(), app.client()
        answer = await ada.post("/login", user="ada")
        assert (answer.status_code, answer.url) == (200, "/")
        assert "<p>ada</p>" in answer.text
        assert "<p>nobody</p>" in (await other.get("/")).text
        async with ada.ws("/ws") as visitor:
            assert ">ada<" in await visitor.ask()
        assert "<p>nobody</p>" in (await ada.get("/logout")).text
        assert (await ada.get("/logout", follow=False)).headers["location"] == "/"

    talk(visit())


def test_requests_carry_queries_forms_json_and_headers() -> None:
    app = App()

    @app.route("/echo", methods=["get", "post", "put"])
    async def echo(req: Request) -> Any:
        body = (await req.body()).decode()
        return {"query": str(req.query_params), "body": body, "x": req.headers.get("x"), "method": req.method}

    async def visit() -> list[Any]:
        client = app.client()
        answers = [
            await client.get("/echo?a=1", b=[2, 3], headers={"X": "y"}),
            await client.post("/echo", {"a": "1 2"}, b="ü"),
            await client.post("/echo", json={"a": [1]}),
            await client.request("PUT", "/echo", {"a": 1}),
        ]
        return [answer.json() for answer in answers]

    assert talk(visit()) == [
        {"query": "a=1&b=2&b=3", "body": "", "x": "y", "method": "GET"},
        {"query": "", "body": "a=1+2&b=%C3%BC", "x": None, "method": "POST"},
        {"query": "", "body": '{"a": [1]}', "x": None, "method": "POST"},
        {"query": "", "body": "a=1", "x": None, "method": "PUT"},
    ]


def test_errors_of_pages_are_answered_and_streams_are_read_to_their_end() -> None:
    app = App()

    @app.get("/broken")
    def broken() -> Any:
        raise RuntimeError("x")

    @app.get("/stream")
    async def stream() -> Any:
        for n in range(3):
            yield P(n)

    async def visit() -> None:
        client = app.client()
        assert (await client.get("/broken")).status_code == 500
        assert (await client.get("/stream")).text == "<p>0</p><p>1</p><p>2</p>"
        assert (await client.get("/nowhere")).status_code == 404

    talk(visit())
    assert len(app.errors) == 1


def test_redirects_without_end_and_to_another_host_are_refused() -> None:
    app = App()
    app.get("/loop")(lambda: Redirect("/loop"))
    app.get("/away")(lambda: Redirect("http://example.org/"))

    async def visit() -> None:
        with pytest.raises(NbwsError, match="redirects without end"):
            await app.client().get("/loop")
        with pytest.raises(NbwsError, match=r"redirects to http://example.org/, which is another host"):
            await app.client().get("/away")

    talk(visit())


def test_a_path_begins_with_a_slash() -> None:
    async def visit() -> None:
        with pytest.raises(ValueError, match="'x' is no path"):
            await App().client().get("x")

    talk(visit())


def test_the_app_starts_with_its_first_client_and_stops_with_the_last() -> None:
    app = chat(App())
    happened = noted_life(app)
    ticked = asyncio.Event()

    @app.task
    async def tick() -> None:
        ticked.set()

    async def visit() -> None:
        async with app.client() as one:
            async with app.client().ws("/chat/a"):
                await asyncio.wait_for(ticked.wait(), 5)
            await one.get("/")
            assert happened == ["up"]

    talk(visit())
    assert happened == ["up", "down"]


def test_one_client_may_do_several_things_at_once_from_the_start() -> None:
    app = chat(App())
    app.get("/")(lambda: P("x"))
    happened = noted_life(app)

    async def hear(client: Client) -> Any:
        async with client.ws("/chat/a") as visitor:
            return await visitor.ask(text="x")

    async def visit() -> None:
        client = app.client()
        answers = await asyncio.gather(client.get("/"), client.get("/"), client.get("/"))
        assert [answer.status_code for answer in answers] == [200, 200, 200]
        assert all("x" in heard for heard in await asyncio.gather(hear(client), hear(client), hear(client)))

    talk(visit())
    assert happened == ["up", "down", "up", "down"]


def test_a_client_that_comes_while_the_last_one_s_app_stops_finds_it_started_anew() -> None:
    app = chat(App())
    happened = noted_life(app)
    stops, may_stop, ticks = asyncio.Event(), asyncio.Event(), asyncio.Queue[None]()

    @app.on_event("shutdown")
    async def slow() -> None:
        stops.set()
        await may_stop.wait()

    @app.task(every=0.001)
    async def tick() -> None:
        ticks.put_nowait(None)

    async def leave(client: Client) -> None:
        async with client:
            pass

    async def visit() -> None:
        leaving = asyncio.create_task(leave(app.client()))
        await stops.wait()
        coming = asyncio.create_task(app.client().connect("/chat/a"))
        await asyncio.sleep(0)
        assert happened == ["up", "down"]
        may_stop.set()
        visitor = await coming
        await leaving
        assert happened == ["up", "down", "up"]
        assert "x" in await visitor.ask(text="x")
        while not ticks.empty():
            ticks.get_nowait()
        await ticks.get()  # its tasks run
        await visitor.close()

    talk(visit())
    assert happened == ["up", "down", "up", "down"]


def test_a_client_that_gave_up_while_the_app_started_leaves_nothing_behind() -> None:
    app = App()
    happened = noted_life(app)
    starts = asyncio.Event()

    @app.on_event("startup")
    async def slow() -> None:
        starts.set()
        await asyncio.sleep(0.05)

    async def visit() -> None:
        hasty = asyncio.create_task(app.client().get("/"))
        await starts.wait()
        hasty.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hasty
        starts.clear()
        assert (await app.client().get("/nowhere")).status_code == 404
        assert starts.is_set()

    talk(visit())
    assert happened == ["up", "down", "up", "down"]


def test_what_starts_or_stops_with_a_client_may_use_one() -> None:
    app = App()
    app.get("/")(lambda: P("x"))
    said: list[int] = []

    async def ask() -> None:
        said.append((await app.client().get("/")).status_code)

    app.on_event("startup")(ask)
    app.on_event("shutdown")(ask)
    talk(app.client().get("/"))  # type: ignore[arg-type]
    assert said == [200, 200]


def test_blocking_clients_leave_in_any_order() -> None:
    app = chat(App())
    happened = noted_life(app)
    one, two = (app.client(sync=True).connect("/chat/a") for _ in range(2))
    assert "x" in one.ask(text="x")
    one.close()
    two.receive()
    assert "y" in two.ask(text="y")
    two.close()
    assert happened == ["up", "down"]
    with app.client(sync=True).ws("/chat/a") as three:
        assert "z" in three.ask(text="z")
    assert happened == ["up", "down"] * 2
    assert not any(thread.name == "nbws-client" for thread in threading.enumerate())


def test_an_app_on_the_loop_of_a_blocking_client_stays_for_one_that_awaits() -> None:
    app = chat(App())

    async def visit() -> None:
        blocking = await asyncio.to_thread(lambda: app.client(sync=True).connect("/chat/a"))
        async with app.client().ws("/chat/a") as visitor:
            await asyncio.to_thread(blocking.close)
            assert "x" in await visitor.ask(text="x")
            assert app.visits.loop is not asyncio.get_running_loop()
        assert app.visits.loop is None

    talk(visit())


def test_one_blocking_client_may_be_used_by_several_threads_from_the_start() -> None:
    app = App()
    app.get("/")(lambda: P("x"))
    happened = noted_life(app)
    client = app.client(sync=True)
    with ThreadPoolExecutor(4) as pool, client:
        answers = list(pool.map(lambda _: client.get("/").status_code, range(8)))
    assert answers == [200] * 8
    assert happened == ["up", "down"]


def test_a_client_that_nobody_closed_ends_with_its_loop() -> None:
    app = chat(App())
    happened = noted_life(app)
    left: list[Any] = []

    async def forget() -> None:
        left.append(await app.client().connect("/chat/a"))

    async def visit() -> None:
        async with app.client().ws("/chat/a") as visitor:
            assert "x" in await visitor.ask(text="x")
            await left[0].close()  # late, and no business of this visit's
            assert "y" in await visitor.ask(text="y")

    talk(forget())
    assert happened == ["up", "down"]
    talk(visit())
    assert happened == ["up", "down"] * 2
    assert app.connections == ()


def test_a_loop_that_was_closed_with_all_that_it_ran_takes_its_visit_along() -> None:
    app = chat(App())
    ticked: list[asyncio.AbstractEventLoop] = []
    app.task(every=0.001)(lambda: ticked.append(asyncio.get_running_loop()))

    async def visit() -> None:
        async with app.client().ws("/chat/b") as visitor:
            assert "x" in await visitor.ask(text="x")
            await until(lambda: ticked[-1] is asyncio.get_running_loop())

    loop = asyncio.new_event_loop()
    loop.run_until_complete(app.client().connect("/chat/a"))
    loop.close()
    talk(visit())


def test_an_app_that_does_not_start_says_why_and_may_be_mended() -> None:
    app = App()

    @app.on_event("startup")
    def broken() -> None:
        raise RuntimeError("no database")

    async def visit() -> None:
        with pytest.raises(NbwsError, match="the app did not start: RuntimeError: no database"):
            await app.client().get("/")
        app.on_event("startup")(lambda: None)

    talk(visit())


def test_where_the_app_is_served_its_handlers_run_where_they_always_do() -> None:
    app = App(port=0)
    threads = set()

    @app.ws("/ws")
    async def where() -> Any:
        threads.add(threading.current_thread().name)
        return P("x", id="x")

    async def visit() -> None:
        async with app.client().ws("/ws") as visitor:
            await visitor.ask()

    with running(app):
        talk(visit())
        with app.client(sync=True).ws("/ws") as visitor:
            visitor.ask()
        assert threads == {f"nbws-server-{app.port}"}
    with app.client(sync=True).ws("/ws") as visitor:
        visitor.ask()
    assert "nbws-client" in threads


def test_the_blocking_twin_does_all_of_it() -> None:
    app = chat(App())
    app.get("/")(lambda: Titled("x", A("y")))
    with app.client(sync=True) as client:
        assert client.get("/").status_code == 200
        assert client.post("/nowhere", {"a": 1}).status_code == 404
        assert client.request("PUT", "/").status_code == 405
        with client.ws("/chat/a") as one, app.client(sync=True).ws("/chat/a") as two:
            one.send(text="hi")
            assert one.receive() == two.receive()
            with pytest.raises(TimeoutError):
                two.receive(timeout=0.05)
            app.connections[0].close()
            assert list(one) == []
    assert app.connections == ()
    assert not any(thread.name == "nbws-client" for thread in threading.enumerate())


def test_the_blocking_twin_says_so_where_it_cannot_wait() -> None:
    app = App()

    @app.get("/")
    async def index() -> Any:
        return app.client(sync=True).get("/")

    async def visit() -> None:
        await app.client().get("/")

    talk(visit())
    assert "a blocking client cannot wait for the loop" in app.errors[0].title


def test_a_visitor_may_stay_for_cells() -> None:
    app = chat(App())
    one = app.client(sync=True).connect("/chat/a")
    assert "x" in one.ask(text="x")
    assert len(app.connections) == 1
    one.close()
    one.close()
    assert app.connections == ()

    async def visit() -> None:
        two = await app.client().connect("/chat/a")
        assert "y" in await two.ask(text="y")
        await two.close()
        assert (app.connections, app.visits.loop) == ((), None)

    talk(visit())


def test_in_a_notebook_both_work_in_a_cell_and_what_it_has_defined_is_live() -> None:
    with Kernel() as kernel:
        kernel.check("import", "from nbws.common import *\napp = App()")
        awaited = """
@app.ws("/ws")
async def echo(text: str): return P(text, id="out")
async with app.client().ws("/ws") as visitor:
    print(await visitor.ask(text="awaited"))
"""
        assert ">awaited<" in kernel.check("async", awaited).stdout
        blocking = """
app.start()
with app.client(sync=True).ws("/ws") as visitor:
    print(visitor.ask(text="blocking"))
"""
        assert ">blocking<" in kernel.check("sync", blocking).stdout
        kernel.check("sync again", 'with app.client(sync=True).ws("/ws") as visitor: visitor.ask(text="x")')


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="there Ctrl+C does not interrupt a wait for a lock")
def test_a_receive_that_was_interrupted_takes_no_later_message() -> None:
    app = chat(App())
    with app.client(sync=True).ws("/chat/a") as visitor:

        def interrupt() -> None:
            asyncio.run(until(lambda: visitor._visitor._line.from_app._waiting))
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        interrupting = threading.Thread(target=interrupt)
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            visitor.receive()
        interrupting.join()
        assert "x" in visitor.ask(text="x")
    assert app.connections == ()


# -- servers that come and go


@pytest.fixture
def served() -> Iterator[App]:
    """An app that is not served yet, and stopped at the end."""
    app = chat(App(port=0))
    app.get("/")(lambda: P(threading.current_thread().name))
    yield app
    app.stop()


def test_a_server_takes_over_from_the_clients_that_came_before_it(served: App) -> None:
    happened, ticks = noted_life(served), SimpleQueue[str]()

    @served.task(every=0.001)
    async def tick() -> None:
        ticks.put(threading.current_thread().name)

    old = served.client(sync=True).connect("/chat/a")
    assert ticks.get(timeout=5) == "nbws-client"
    served.start()
    assert happened == ["up", "down", "up"]
    with pytest.raises(Closed, match=r"1012 \(the app has a server now; connect again\)"):
        old.receive()
    new = served.client(sync=True).connect("/chat/a")
    assert "x" in new.ask(text="x")

    async def page() -> None:
        async with websocket(served, "/chat/a?nbws-resume=") as socket:
            await socket.hear()  # its key
            await asyncio.to_thread(old.close)
            assert "y" in await socket.ask(text="y")

    talk(page())
    while not ticks.empty():
        ticks.get()
    assert ticks.get(timeout=5) == f"nbws-server-{served.port}"
    assert "y" in new.receive()
    assert happened == ["up", "down", "up"]

    served.stop()
    with pytest.raises(Closed, match=r"1012 \(the server has stopped\)"):
        new.receive()
    new.close()
    with served.client(sync=True).ws("/chat/a") as last:
        assert "z" in last.ask(text="z")
    assert happened == ["up", "down"] * 3
    assert served.connections == ()


def test_what_was_sent_before_a_server_takes_over_is_answered(served: App) -> None:
    may_answer = threading.Event()

    @served.ws("/slow")
    def slow(text: str) -> Any:
        may_answer.wait(5)
        return P(text, id="out")

    client = served.client(sync=True)
    with client, client.ws("/slow") as visitor, ThreadPoolExecutor() as pool:
        visitor.send(text="1")
        visitor.send(text="2")
        starting = pool.submit(served.start)
        asyncio.run(until(lambda: served.connections[0].is_ending))
        may_answer.set()
        assert ["1" in visitor.receive(), "2" in visitor.receive()] == [True, True]
        with pytest.raises(Closed, match="1012"):
            visitor.receive()
        starting.result()


def test_a_client_goes_with_the_app_to_its_server_and_back(served: App) -> None:
    with served.client(sync=True) as client:
        assert client.get("/").status_code == 200
        assert served.visits.loop is not None
        served.start()
        assert served.visits.loop is None
        with client.ws("/chat/a") as visitor:
            assert "x" in visitor.ask(text="x")
            assert served.connections[0]._loop is served.serving_loop
        served.stop()
        assert served.serving is None
        assert client.get("/").status_code == 200


def test_a_client_in_a_cell_makes_way_for_a_server_that_the_next_one_starts() -> None:
    with Kernel() as kernel:
        kernel.check("import", "from nbws.common import *\nfrom nbws.testing import Closed\napp = App()\nlife = []")
        kernel.check("life", "@app.on_event('startup')\ndef up(): life.append('up')")
        kernel.check("death", "@app.on_event('shutdown')\nasync def down(): life.append('down')")
        kernel.check("ws", "@app.ws('/ws')\nasync def echo(text: str): return P(text, id='out')")
        kernel.check("open", "visitor = await app.client().connect('/ws')\nawait visitor.send(text='sent')")
        kernel.check("start", "app.start()\nassert life == ['up', 'down', 'up'], life")
        code = """
assert 'sent' in await visitor.receive()
try:
    await visitor.receive()
except Closed as closed:
    print(closed.code)
await visitor.close()
visitor = await app.client().connect('/ws')
print(await visitor.ask(text='served'), life)
"""
        said = kernel.check("again", code).stdout
        assert "1012" in said
        assert ">served<" in said
        assert "['up', 'down', 'up']" in said


def test_who_blocks_the_loop_of_a_client_by_starting_a_server_is_told_so(
    served: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nest_asyncio2", None)

    async def visit() -> None:
        async with served.client().ws("/chat/a") as visitor:
            with pytest.raises(NbwsError, match="clients are open on the loop that this blocks"):
                served.start()
            assert "x" in await visitor.ask(text="x")
        served.start()

    talk(visit())
    assert served.is_running


def test_a_server_does_not_start_under_clients_whose_loop_is_blocked(
    served: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbws.visits._PATIENCE_SECONDS", 0.1)
    served.configure(limits=Limits(finish_seconds=0.1))
    is_open, may_go_on = threading.Event(), threading.Event()

    async def visit() -> None:
        visitor = await served.client().connect("/chat/a")
        is_open.set()
        may_go_on.wait(5)
        await visitor.close()

    with ThreadPoolExecutor() as pool:
        visiting = pool.submit(talk, visit())
        assert is_open.wait(5)
        with pytest.raises(ServerStartError, match=r"has not let them go for 0.1 s; close them first"):
            served.start()
        may_go_on.set()
        visiting.result()
    served.start()


def test_a_client_whose_loop_does_not_run_is_taken_over_from_at_once(served: App) -> None:
    happened, ticks = noted_life(served), SimpleQueue[str]()
    served.task(every=0.001)(lambda: ticks.put(threading.current_thread().name))
    loop = asyncio.new_event_loop()
    visitor = loop.run_until_complete(served.client().connect("/chat/a"))
    served.start()
    with pytest.raises(Closed, match="1012"):
        loop.run_until_complete(visitor.receive())
    loop.run_until_complete(visitor.close())
    close(loop)
    while not ticks.empty():
        ticks.get()
    assert ticks.get(timeout=5) == f"nbws-server-{served.port}"
    assert happened == ["up", "up"]


def test_after_a_server_that_did_not_start_clients_start_the_app_themselves(served: App) -> None:
    may_start = True

    @served.on_event("startup")
    def broken() -> None:
        if not may_start:
            raise RuntimeError("no database")

    with served.client(sync=True) as client:
        may_start = False
        with pytest.raises(ServerStartError, match="no database"):
            served.start()
        may_start = True
        with client.ws("/chat/a") as visitor:
            assert "x" in visitor.ask(text="x")


def test_under_any_server_a_client_talks_to_what_everybody_talks_to(served: App) -> None:
    happened = noted_life(served)
    server = uvicorn.Server(uvicorn.Config(served, port=0, log_config=None))
    thread = threading.Thread(target=server.run, name="anybody's")
    old = served.client(sync=True).connect("/chat/a")
    thread.start()
    try:
        with pytest.raises(Closed, match="1012"):
            old.receive()
        new = served.client(sync=True).connect("/chat/a")
        assert "x" in new.ask(text="x")
        assert happened == ["up", "down", "up"]
        old.close()
        assert "y" in new.ask(text="y")
    finally:
        server.should_exit = True
        thread.join()
    with pytest.raises(Closed, match="1012"):
        new.receive()
    new.close()
    assert happened == ["up", "down"] * 2
