"""Bad networks: a TCP proxy that cuts, holds, delays and splits, and a client that comes back as a page does."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from clients import HEADERS, SECONDS
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

T = TypeVar("T")

MARK = "\0nbws"


class Resuming:
    """A client that is able to resume. What it is told of the server's frames is in `heard`, in order.

    `said` are its messages, and `got` is how many of them the server has said to have. Where the server cannot tell
    what was missed, `resyncs` is one more, and both begin anew.
    """

    def __init__(self, url: str, path: str = "/ws") -> None:
        self.url = url.replace("http://", "ws://") + path
        self.socket: ClientConnection | None = None
        self.key = ""
        self.received = self.got = self.resyncs = 0
        self.said: list[str] = []
        self.heard: list[Any] = []
        self.controls: list[Any] = []  # what was no fragment, greetings apart

    async def come(self, count: int | str | None = None, key: str | None = None) -> dict[str, Any]:
        """Connect, or come back, and send again what did not arrive. Gives the greeting.

        *count* and *key* are shown in place of the true ones.
        """
        key = self.key if key is None else key
        shown = f"{key}.{self.received if count is None else count}" if key else ""
        joint = "&" if "?" in self.url else "?"
        socket = await asyncio.wait_for(
            connect(
                f"{self.url}{joint}nbws-resume={shown}",
                compression=None,
                max_size=None,
                max_queue=None,
                ping_interval=None,
                close_timeout=1,
            ),
            SECONDS,
        )
        try:
            first = await asyncio.wait_for(socket.recv(), SECONDS)
            assert isinstance(first, str)
            assert first.startswith(MARK), first
            greeting: dict[str, Any] = json.loads(first[len(MARK) :])
            self.greeted(greeting)
            sent = self.got
            while sent < len(self.said):  # what is said meanwhile waits for its turn
                await asyncio.wait_for(socket.send(self.said[sent]), SECONDS)
                sent += 1
        except BaseException:
            _reset(socket.transport)
            raise
        self.socket = socket
        return greeting

    def greeted(self, greeting: dict[str, Any]) -> None:
        """The server has said what it knows of this client."""
        if greeting["key"] == self.key:
            assert not greeting["resync"]
        else:
            self.resyncs += greeting["resync"]
            self.key, self.received, self.said = greeting["key"], 0, []
        self.got = greeting["got"]

    async def hear(self) -> Any:
        """The next frame that is not about the resuming itself."""
        while True:
            frame = await self._frame()
            if isinstance(frame, str) and frame.startswith(MARK):
                self.controls.append(json.loads(frame[len(MARK) :]))
                continue
            self.received += 1
            self.heard.append(frame)
            return frame

    async def _frame(self) -> Any:
        assert self.socket is not None
        return await asyncio.wait_for(self.socket.recv(), SECONDS)

    async def say(self, **fields: Any) -> None:
        """Send a message, or keep it for when the client is back."""
        frame = json.dumps({**fields, "HEADERS": HEADERS})
        self.said.append(frame)
        if self.socket is not None:
            with suppress(WebSocketException, asyncio.TimeoutError):
                await asyncio.wait_for(self.socket.send(frame), SECONDS)

    async def ask(self, **fields: Any) -> Any:
        await self.say(**fields)
        return await self.hear()

    async def report(self, text: str) -> None:
        assert self.socket is not None
        await self.socket.send(MARK + text)

    def cut(self) -> None:
        """End the TCP connection with a reset: no close frame."""
        if self.socket is not None:
            _reset(self.socket.transport)
            self.socket = None

    def forget(self) -> None:
        """Talk over the present socket no more, and leave it open: to the server all is well."""
        self.socket = None

    async def leave(self) -> None:
        """Say goodbye, and end."""
        if self.socket is not None:
            await self.socket.close()
            self.socket = None


class Link:
    """One connection through the proxy."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self._writers = (near, far)
        self._flows = asyncio.Event()
        self._flows.set()
        self.delay = 0.0  #: seconds that each piece is held up
        self.pieces: random.Random | None = None  #: splits what it forwards into pieces of one to three bytes
        self.bytes_left: int | None = None  #: it ends after so many more of them, be it in the midst of a frame
        self.on_out_of_bytes: Callable[[], None] = lambda: None
        self.is_cut = False

    def reset(self) -> None:
        """Cut both ends with a reset, as a machine does that has just been started again."""
        self.is_cut = True
        for writer in self._writers:
            _reset(writer.transport)

    def finish(self) -> None:
        """End both ends of the TCP connection in good order, where the websocket has not been closed."""
        self.is_cut = True
        for writer in self._writers:
            writer.close()

    def hold(self) -> None:
        """Forward nothing any more, and close nothing: a cable that was pulled."""
        self._flows.clear()

    def release(self) -> None:
        self._flows.set()

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                if self.delay:
                    await asyncio.sleep(self.delay)
                for piece in self._split(data):
                    await self._flows.wait()
                    if self.bytes_left is not None:
                        piece = piece[: self.bytes_left]
                        self.bytes_left -= len(piece)
                    writer.write(piece)
                    await writer.drain()
                    if self.bytes_left == 0:
                        if not self.is_cut:
                            self.on_out_of_bytes()
                        self.finish()  # so that what is under way arrives
                        return
                    if self.pieces is not None:
                        await asyncio.sleep(0)
        except OSError:
            pass
        finally:
            writer.close()

    def _split(self, data: bytes) -> Iterator[bytes]:
        while data:
            size = self.pieces.randint(1, 3) if self.pieces is not None else len(data)
            yield data[:size]
            data = data[size:]


class Proxy:
    """Forwards TCP to a port of this machine. `links` are the connections through it, the newest last."""

    def __init__(self, target: int, host: str = "127.0.0.1") -> None:
        self._target, self._host = target, host
        self.links: list[Link] = []
        self.on_link: Callable[[Link], None] = lambda link: None
        self.is_closed = False  #: whether who comes is turned away
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for link in tuple(self.links):
            link.release()
            link.reset()
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self.is_closed:
            _reset(near.transport)
            return
        try:
            far_reader, far = await asyncio.open_connection(self._host, self._target)
        except OSError:
            near.close()
            return
        for writer in (near, far):
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = Link(near, far)
        self.links.append(link)
        self.on_link(link)
        try:
            await asyncio.gather(link.forward(reader, far), link.forward(far_reader, near))
        except asyncio.CancelledError:
            pass  # the proxy ends; Python 3.11 would log it
        finally:
            self.links.remove(link)


class ProxyInThread:
    """A proxy for a program that has no loop of its own to spare, such as one that drives a browser."""

    def __init__(self, proxy: Proxy, loop: asyncio.AbstractEventLoop) -> None:
        self._proxy, self._loop = proxy, loop
        self.url = proxy.url

    def do(self, act: Callable[[Proxy], T]) -> T:
        """What *act* gives, called with the proxy on its own loop."""

        async def acting() -> T:
            return act(self._proxy)

        return self._wait(acting())

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(SECONDS)


@contextmanager
def proxy_in_thread(target: int) -> Iterator[ProxyInThread]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    proxy = Proxy(target)
    found = ProxyInThread(proxy, loop)
    try:
        found._wait(proxy.__aenter__())
        found.url = proxy.url
        try:
            yield found
        finally:
            found._wait(proxy.__aexit__())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(SECONDS)
        loop.close()


def _reset(transport: Any) -> None:
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
