"""Where the time of an echo goes: each piece of its way, by itself.

One connection of an app that runs here gets its messages not from the system but from this module, on the server's loop
and in small batches; the answers go nowhere. A piece is measured as what is called in that place; what remains is the
difference of two. The least of many batches counts, of CPU of the loop's thread.

What the system and uvloop take is what `message_cost` finds for a whole message, less all of these.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from peer_rounds import least, rounds
from report import Report, Table

from nbws import App
from nbws.html import TagMaker

PACKAGES = ("nbws", "picows", "uvicorn", "uvloop", "msgspec")
BATCH = 20  #: messages, few enough for the system to keep all answers, and to be handled as they come
PAUSE = 0.002  #: seconds before each batch, for what the one before has left to do
TEXT = (
    '{"msg":"hello","HEADERS":{"HX-Request":"true","HX-Trigger":"form","HX-Trigger-Name":null,'
    '"HX-Target":"form","HX-Current-URL":"http://127.0.0.1/"}}'
)
HANDSHAKE = (
    "GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

div = TagMaker("div")


def measure(quick: bool = False) -> Report:
    pieces = _pieces(20 if quick else 1000)
    whole = least(rounds(("nbws",), "echo", 50, 40 if quick else 400, 1 if quick else 4)["nbws"], "cpu")
    pieces = {"the system and uvloop: wait, receive, send": whole - sum(pieces.values()), **pieces}
    return Report(
        [],
        [
            Table(
                "Microseconds of CPU for a message at 50 connections:",
                ("piece", "µs"),
                [(name, f"{taken:.1f}") for name, taken in pieces.items()] + [("all", f"{whole:.1f}")],
            )
        ],
        "",
        PACKAGES,
    )


def _pieces(batches: int) -> dict[str, float]:
    app = App(port=0)

    @app.ws("/ws")
    async def talk(msg: str) -> Any:
        return div("Hello " + msg, id="out")

    app.start()
    assert app.port is not None
    try:
        with socket.create_connection(("127.0.0.1", app.port or 0)) as client:
            client.sendall(HANDSHAKE.format(port=app.port).encode())
            _hear(client, b"\r\n\r\n")
            for _ in range(10):  # the first is handled by the connection's own task: it finds what is live
                client.sendall(_frame(TEXT))
                _hear(client, b"Hello")
            return _measured(app, talk, client, batches)
    finally:
        app.stop()


def _hear(client: socket.socket, what: bytes) -> None:
    heard = b""
    while what not in heard:
        more = client.recv(65536)
        if not more:
            raise RuntimeError(f"the app has closed the connection after {heard[:200]!r}")
        heard += more


def _measured(app: App, handler: Any, client: socket.socket, batches: int) -> dict[str, float]:
    (connection,) = app.connections
    kept: Any = connection
    at, frame = kept._socket, _frame(TEXT)
    writer, at._writer = at._writer, _Nowhere()
    bound = app.table.get_live(connection.key).definition.target.message  # type: ignore[union-attr]
    tag, call = div("Hello hello", id="out"), None

    def answer() -> None:
        assert connection.send_here(tag)

    def run() -> None:
        running = handler("hello")
        try:
            running.send(None)
        except StopIteration:
            pass

    def of(piece: Callable[[], object]) -> float:
        return min(_batch(app, piece, client) for _ in range(batches))

    def take() -> None:
        at.data_received(frame)

    def take_many() -> None:
        """Have the task get its turn, so that the next messages are handled as they come again."""
        for _ in range(2 * BATCH):
            take()

    version = app.endpoints["/ws"].history[-1]
    whole = float("inf")
    for _ in range(batches):
        before = version.messages + 2 * BATCH
        _batch(app, take_many, client, 1)
        while version.messages < before:
            time.sleep(PAUSE)
        taken = _batch(app, take, client)
        if version.messages != before + BATCH:
            raise RuntimeError(f"{version.messages - before} of {BATCH} messages were handled as they came")
        whole = min(whole, taken)
    decoded, run_, answered = (of(each) for each in (lambda: bound.quick(TEXT, call, 100), run, answer))
    sink = at._sink
    at.deliver_to(lambda message: True)
    parsed = of(take)
    at.deliver_to(sink)
    at._writer = writer
    return {
        "from the bytes to a text: picows' parser and its callback": parsed,
        "the worker: what is live, its task and context, counting": whole - parsed - decoded - run_ - answered,
        "JSON to arguments, in one step": decoded,
        'the author\'s `Div("Hello " + msg, id="out")`': run_,
        "the answer: out of band, past the outbox, to its frame": answered,
    }


class _Nowhere:
    """In place of what writes frames: the system's part of that differs by more than all else takes."""

    is_close_frame_sent = False

    def send(self, kind: Any, data: Any) -> None:
        pass


def _batch(app: App, piece: Callable[[], object], client: socket.socket, times: int = BATCH) -> float:
    """Microseconds that *piece* takes on the server's loop, when that has been idle."""
    done: Future[float] = Future()

    def run_all() -> None:
        try:
            begin = time.thread_time_ns()
            for _ in range(times):
                piece()
            done.set_result((time.thread_time_ns() - begin) / 1000 / times)
        except BaseException as exc:
            done.set_exception(exc)

    loop = app._server.loop if app._server is not None else None
    assert loop is not None
    loop.call_soon_threadsafe(loop.call_later, PAUSE, run_all)
    taken = done.result(timeout=10)
    client.setblocking(False)
    try:
        while client.recv(1 << 20):
            pass
    except BlockingIOError:
        pass
    finally:
        client.setblocking(True)
    return taken


def _frame(text: str) -> bytes:
    """A text frame of a client, masked with zeros."""
    payload = text.encode()
    return bytes((0x81, 0xFE)) + len(payload).to_bytes(2, "big") + bytes(4) + payload
