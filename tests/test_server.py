"""Starting and stopping: ports, threads, and how long each may take."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from queue import SimpleQueue

import pytest
from clients import SECONDS, Client, free_port, http, running, talk, until, websocket
from websockets.exceptions import ConnectionClosed

from nbws import App, Limits, PortTakenError, ServerStartError
from nbws.common import Div
from nbws.handlers import Key
from nbws.server import bind


def hello(**options) -> App:
    app = App(**options)

    @app.get("/")
    def index():
        return "hello"

    return app


def test_start_serves_at_once_and_stop_refuses() -> None:
    app = hello(port=0)
    app.start()
    assert app.is_running
    assert app.url == f"http://127.0.0.1:{app.port}"
    with http(app) as client:
        assert client.get("/").text == "hello"
    port = app.port
    app.stop()
    assert not app.is_running
    with pytest.raises(OSError):  # noqa: PT011
        socket.create_connection(("127.0.0.1", port or 0), timeout=1)


def test_start_and_stop_are_idempotent() -> None:
    app = hello(port=0)
    app.stop()
    app.start()
    port, threads = app.port, threading.active_count()
    app.start()
    assert (app.port, threading.active_count()) == (port, threads)
    app.stop()
    app.stop()
    assert not app.is_running


def test_starting_in_several_threads_starts_one_server() -> None:
    app = hello(port=0)
    threads = [threading.Thread(target=app.start) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    names = [t.name for t in threading.enumerate() if t.name.startswith("nbws-server")]
    app.stop()
    assert names == [f"nbws-server-{names[0].rpartition('-')[2]}"]


def test_a_stopped_app_starts_again_on_its_port() -> None:
    app = hello(port=free_port())
    for _ in range(3):
        with running(app), http(app) as client:
            assert client.get("/").text == "hello"
            assert app.port == app.options.port


def test_an_app_that_asked_for_no_port_keeps_the_one_that_it_got() -> None:
    app = hello()
    with running(app):
        port = app.port
    with running(app):
        assert app.port == port


def test_an_app_that_asked_for_any_port_keeps_the_one_that_it_got() -> None:
    app = hello(port=0)
    with running(app):
        port = app.port
    with running(app):
        assert app.port == port


def test_a_client_comes_back_to_a_restarted_server() -> None:
    app = App(port=free_port())

    @app.ws("/ws")
    async def ws(msg: str):
        return Div(msg, id="a")

    async def visit() -> None:
        async with websocket(app) as client:
            assert "one" in await client.ask(msg="one")
            await asyncio.to_thread(app.stop)
            assert await client.close_code() == 1012  # after which htmx connects again
        app.start()
        async with websocket(app) as client:
            assert "two" in await client.ask(msg="two")

    with running(app):
        talk(visit())


def test_a_taken_port_that_was_asked_for_fails_at_once_and_says_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        app = hello(port=port)
        begun = time.monotonic()
        with pytest.raises(PortTakenError, match=f"port {port} on 127.0.0.1 is taken by another program; stop it"):
            app.start()
        assert time.monotonic() - begun < 1
        assert not app.is_running
        assert app.port is None
    with running(app):
        assert app.port == port


def test_where_no_port_was_asked_for_the_next_free_one_is_taken() -> None:
    first, second = hello(), hello()
    with running(first), running(second):
        assert first.port != second.port
        assert 5001 <= (first.port or 0) < (second.port or 0) < 5051


def test_bind_tries_the_next_ports_and_says_which_were_taken() -> None:
    with bind("127.0.0.1", 0, exact=True) as taken:
        port = taken.getsockname()[1]
        with bind("127.0.0.1", port, exact=False) as sock:
            assert port < sock.getsockname()[1] <= port + 50
        with pytest.raises(PortTakenError):
            bind("127.0.0.1", port, exact=True)


def test_an_address_that_is_not_ours_is_a_server_start_error() -> None:
    with pytest.raises(ServerStartError, match=r"cannot listen on 203\.0\.113\.1:0"):
        hello(host="203.0.113.1", port=0).start()


def test_a_host_name_is_resolved() -> None:
    app = hello(host="localhost", port=0)
    with running(app), http(app) as client:
        assert app.url.startswith("http://localhost:")
        assert client.get("/").text == "hello"


def test_an_ipv6_address_is_served() -> None:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    app = hello(host="::1", port=0)
    with running(app), http(app) as client:
        assert app.url == f"http://[::1]:{app.port}"
        assert client.get("/").text == "hello"


def test_all_interfaces_are_bound_only_on_demand() -> None:
    app = hello(host="0.0.0.0", port=0)
    with running(app), http(app) as client:
        assert client.get("/").text == "hello"


def test_stop_returns_within_6_seconds_with_an_open_websocket_and_busy_handlers() -> None:
    app = App(port=0)
    entered: SimpleQueue[str] = SimpleQueue()
    left: SimpleQueue[str] = SimpleQueue()
    end = threading.Event()

    @app.ws("/idle", disconn=lambda: left.put("idle"))
    async def idle(msg: str): ...

    @app.ws("/async", disconn=lambda: left.put("async"))
    async def in_async():
        entered.put("async")
        await asyncio.Event().wait()

    @app.ws("/def", disconn=lambda: left.put("def"))
    def in_def():
        entered.put("def")
        end.wait(30)

    @app.get("/http")
    def in_http():
        entered.put("http")
        end.wait(30)

    @app.get("/stream")
    async def stream():
        yield "first"
        entered.put("stream")
        await asyncio.Event().wait()

    async def visit() -> None:
        def get(path: str) -> None:
            with http(app) as client:
                try:
                    client.get(path)
                except Exception:
                    pass

        async with websocket(app, "/idle"), websocket(app, "/async") as one, websocket(app, "/def") as two:
            await one.say()
            await two.say()
            threads = [threading.Thread(target=get, args=(path,), daemon=True) for path in ("/http", "/stream")]
            for thread in threads:
                thread.start()
            for _ in range(4):
                await asyncio.to_thread(entered.get, True, SECONDS)
            begun = time.monotonic()
            await asyncio.to_thread(app.stop)
            assert time.monotonic() - begun < 6
            assert await one.close_code() == 1012
            assert await two.close_code() == 1012

    try:
        with running(app):
            talk(visit())
        assert sorted(left.get(timeout=SECONDS) for _ in range(3)) == ["async", "def", "idle"]
        assert left.empty()
        assert not [t for t in threading.enumerate() if t.name.startswith("nbws-server")]
    finally:
        end.set()


async def refuses(app: App) -> None:
    """Wait until nobody can connect any more."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", app.port)
        except OSError:
            return
        writer.close()
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("path", ["/async", "/def", "/generator", "/async-generator"])
def test_stop_refuses_the_next_and_answers_what_has_come_before_it_closes_with_1012(path: str) -> None:
    app = App(port=0)
    entered, go_on = threading.Event(), threading.Event()
    done: SimpleQueue[str] = SimpleQueue()

    def leave():
        done.put("disconn")

    @app.ws("/async", disconn=leave)
    async def in_async(msg: str):
        entered.set()
        await asyncio.to_thread(go_on.wait, SECONDS)
        done.put(msg)
        return Div(msg * 100_000, id="a")

    @app.ws("/def", disconn=leave)
    def in_def(msg: str):
        entered.set()
        go_on.wait(SECONDS)
        done.put(msg)
        return Div(msg * 100_000, id="a")

    @app.ws("/generator", disconn=leave)
    def in_generator(msg: str):
        entered.set()
        go_on.wait(SECONDS)
        done.put(msg)
        yield Div(msg * 100_000, id="a")

    @app.ws("/async-generator", disconn=leave)
    async def in_async_generator(msg: str):
        entered.set()
        await asyncio.to_thread(go_on.wait, SECONDS)
        done.put(msg)
        yield Div(msg * 100_000, id="a")

    async def visit() -> None:
        async with websocket(app, path) as client, websocket(app, path) as idle:
            await client.say(msg="x")
            await client.say(msg="y")  # waits for the first
            assert await asyncio.to_thread(entered.wait, SECONDS)
            stopping = asyncio.create_task(asyncio.to_thread(app.stop))
            await asyncio.wait_for(refuses(app), SECONDS)
            assert await idle.close_code() == 1012, "who has asked nothing waits for nobody"
            go_on.set()
            for sign in "xy":
                assert sign * 100_000 in await client.hear()
            assert await client.close_code() == 1012
            await stopping

    with running(app):
        talk(visit())
    assert sorted(done.get(timeout=SECONDS) for _ in range(4)) == ["disconn", "disconn", "x", "y"]
    assert done.empty()
    assert not app.errors


@pytest.mark.parametrize("path", ["/generator", "/async-generator"])
def test_stop_sends_the_item_that_an_endless_stream_is_making_and_ends_it(path: str) -> None:
    app = App(port=0)
    making, go_on = threading.Event(), threading.Event()

    @app.ws("/generator")
    def in_generator():
        for n in itertools.count():
            yield Div(n, id="a")
            making.set()
            go_on.wait(SECONDS)

    @app.ws("/async-generator")
    async def in_async_generator():
        for n in itertools.count():
            yield Div(n, id="a")
            making.set()
            await asyncio.to_thread(go_on.wait, SECONDS)

    async def visit() -> None:
        async with websocket(app, path) as client:
            await client.say()
            assert ">0<" in await client.hear()
            assert await asyncio.to_thread(making.wait, SECONDS)
            begun = time.monotonic()
            stopping = asyncio.create_task(asyncio.to_thread(app.stop))
            await asyncio.wait_for(refuses(app), SECONDS)
            go_on.set()
            assert ">1<" in await client.hear()
            assert await client.close_code() == 1012
            await stopping
            assert time.monotonic() - begun < 4  # less than a handler in flight may take

    with running(app):
        talk(visit())
    assert not app.errors


def test_stop_waits_for_no_message_to_an_endpoint_that_is_retired() -> None:
    app = App(port=0)

    @app.ws("/ws")
    async def ws(msg: str):
        return Div(msg, id="a")

    async def visit() -> None:
        async with websocket(app) as client:
            await client.ask(msg="hi")
            app._publisher.publish([], retire=[Key("WS", "/ws")])  # as a cell does that is run again without it
            await client.say(msg="parked")
            begun = time.monotonic()
            await asyncio.to_thread(app.stop)
            assert time.monotonic() - begun < 4
            assert await client.close_code() == 1012

    with running(app):
        talk(visit())


def test_stop_under_load_answers_every_message_that_a_handler_took_up() -> None:
    app = App(port=0)
    handled: Counter[str] = Counter()
    left: SimpleQueue[str] = SimpleQueue()

    @app.ws("/ws/{name}", disconn=lambda ws: left.put(ws.path_params["name"]))
    async def ws(msg: str, name: str):
        handled[name] += 1
        await asyncio.sleep(0.001)
        return Div(msg * 1000, id="a")

    async def send_on(client: Client) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await client.say(msg="hi")
                await asyncio.sleep(0)  # to hear that the connection is closed

    async def read(client: Client, heard: Counter[str], name: str, is_busy: asyncio.Event) -> None:
        async for _ in client.socket:
            heard[name] += 1
            if heard[name] > 20:
                is_busy.set()

    async def visit() -> None:
        async with contextlib.AsyncExitStack() as stack:
            names, heard, is_busy = [f"c{n}" for n in range(20)], Counter[str](), asyncio.Event()
            clients = [await stack.enter_async_context(websocket(app, f"/ws/{name}")) for name in names]
            sending = [asyncio.create_task(send_on(client)) for client in clients]
            reading = [
                asyncio.create_task(read(client, heard, name, is_busy))
                for client, name in zip(clients, names, strict=True)
            ]
            await asyncio.wait_for(is_busy.wait(), SECONDS)
            begun = time.monotonic()
            await asyncio.to_thread(app.stop)
            assert time.monotonic() - begun < 6
            assert [await client.close_code() for client in clients] == [1012] * 20
            await asyncio.gather(*sending, *reading, return_exceptions=True)
            assert heard == handled

    with running(app):
        talk(visit())
    assert sorted(left.get(timeout=SECONDS) for _ in range(20)) == sorted(handled)
    assert left.empty()
    assert not app.errors


def test_half_sent_handshakes_end_after_their_time() -> None:
    app = hello(port=0)
    with running(app):
        address = ("127.0.0.1", app.port or 0)
        halves = [socket.create_connection(address, timeout=SECONDS) for _ in range(20)]
        for sock in halves:
            sock.sendall(b"GET /ws HTTP/1.1\r\nHost: loc")
        with http(app) as client:
            assert client.get("/").text == "hello"
        begun = time.monotonic()
        app.stop()
        assert time.monotonic() - begun < 6
        for sock in halves:
            sock.close()


def test_two_apps_serve_side_by_side() -> None:
    one, two = hello(port=0), App(port=0)

    @two.get("/")
    def index():
        return "two"

    with running(one), running(two), http(one) as first, http(two) as second:
        assert (first.get("/").text, second.get("/").text) == ("hello", "two")


def test_an_app_may_be_stopped_by_a_handler_of_its_own() -> None:
    app = App(port=0, limits=Limits(finish_seconds=1))

    @app.ws("/ws")
    def ws():
        app.stop()

    @app.ws("/async")
    async def in_async():
        app.stop()

    async def visit(path: str) -> None:
        async with websocket(app, path) as client:
            await client.say()
            assert await client.close_code() == 1012

    for path in ("/ws", "/async"):
        with running(app):
            talk(visit(path))
    assert not app.errors


def test_start_in_a_running_loop_works() -> None:
    app = hello(port=0)

    async def start() -> None:
        app.start()
        assert app.is_running
        app.stop()

    talk(start())


def test_a_process_that_ends_stops_its_server_and_runs_its_shutdown_functions(tmp_path: Path) -> None:
    program = f"""
from nbws import App
app = App(port=0)
@app.on_event('shutdown')
def end(): open({str(tmp_path / "ended")!r}, 'w').close()
app.start()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
    assert (tmp_path / "ended").exists()


@pytest.mark.skipif(not Path("/proc/self/fd").exists() or not hasattr(os, "fork"), reason="looks at Linux's /proc")
def test_a_forked_child_holds_no_socket_of_the_server_nor_do_its_children() -> None:
    app = App(port=0)
    app.ws("/ws")(lambda: None)

    def sockets(process: int | str) -> set[str]:
        found = set()
        for fd in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(os.readlink(fd))
        return {link for link in found if link.startswith("socket:")}

    async def visit() -> None:
        before = sockets("self")
        app.start()
        async with websocket(app):
            own = sockets("self") - before
            assert len(own) >= 3, "the server listens, and both ends of the connection are in this process"
            child = os.fork()
            if child == 0:
                try:
                    os.execvp("sleep", ["sleep", "60"])
                finally:
                    os._exit(1)
            forked = os.fork()
            if forked == 0:
                signal.pause()
                os._exit(0)
            try:
                server = app._server
                assert server is not None
                ends = [
                    server._sock,
                    *(p.transport.get_extra_info("socket") for p in server._uvicorn.server_state.connections),
                ]
                served = {f"socket:[{os.fstat(end.fileno()).st_ino}]" for end in ends}
                assert len(served) == 2
                await until(lambda: not sockets(forked) & served)
                await until(lambda: Path(f"/proc/{child}/comm").read_text() == "sleep\n")
                assert not sockets(child) & own
            finally:
                for pid in (child, forked):
                    os.kill(pid, signal.SIGKILL)
                    await asyncio.to_thread(os.waitpid, pid, 0)
        app.stop()

    talk(visit())


def test_an_app_that_blocks_a_thread_is_known_to_run_and_stopped_from_another() -> None:
    app = App(port=0)
    is_up, life = threading.Event(), list[str]()
    app.on_event("startup")(lambda: life.append("up"))
    app.on_event("shutdown")(lambda: life.append("down"))
    app.task(is_up.set)

    @app.get("/")
    async def where() -> str:
        return threading.current_thread().name

    blocked = threading.Thread(target=app.run, name="blocked")
    blocked.start()
    assert is_up.wait(5)
    assert app.is_running
    app.start()  # it serves already
    assert "blocked" in app.client(sync=True).get("/").text
    assert life == ["up"]
    app.stop()
    blocked.join(5)
    assert (blocked.is_alive(), app.is_running, life) == (False, False, ["up", "down"])
