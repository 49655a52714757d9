"""uvicorn in a thread of its own, on a socket that is bound where `start()` is called.

The only place where threads are crossed to start and stop it.
"""

from __future__ import annotations

import asyncio
import atexit
import errno
import ipaddress
import os
import socket
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import uvicorn

from nbws.door import http_door
from nbws.errors import PortTakenError, ServerStartError, described
from nbws.haste import Haste
from nbws.limits import Limits
from nbws.loops import close, wait_for_thread
from nbws.sockets import noting, websocket_class

__all__ = ["Server", "bind"]

START_SECONDS = 20.0  #: how long the app's own startup may take
_UNSENT_BYTES = 16 * 1024  #: kept by the system for one socket, beside what is under way
_CLEARING_SECONDS = 0.5  #: how long what was cancelled at the end has for its last steps
_NEXT_PORTS = 50  #: how many ports are tried where none was asked for


def bind(host: str, port: int, *, exact: bool) -> socket.socket:
    """A bound socket. Where not *exact*, the next ports are tried as well.

    Bound in the calling thread, so that a taken port fails the cell. Raises PortTakenError or ServerStartError.
    """
    for candidate in (port,) if exact or port == 0 else range(port, min(port + _NEXT_PORTS, 65536)):
        try:
            return _bound(host, candidate)
        except OSError as exc:
            if exc.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise ServerStartError(f"cannot listen on {host}:{candidate}: {exc.strerror or exc}") from exc
            if exact:
                raise PortTakenError(
                    f"port {candidate} on {host} is taken by another program; stop it, give App another port=, or "
                    "leave port out to take a free one"
                ) from exc
    raise PortTakenError(
        f"ports {port} to {port + _NEXT_PORTS - 1} on {host} are all taken; give App a port= of its own"
    )


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            # A port whose last owner has gone is free at once, as after a kernel restart. On Windows the option
            # means something else: two programs could share the port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        elif sys.platform == "win32":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            # Else Linux takes 4 MB for a peer that reads nothing (measured), and nobody notices for that long. What is
            # under way is not counted, so this slows down no transfer. Those that are accepted inherit it.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        sock.bind((host, port))
        sock.listen(2048)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_loopback(sock: socket.socket) -> bool:
    """Whether all who can ask are on this machine, to which nothing is faster than to send what is there."""
    return ipaddress.ip_address(sock.getsockname()[0]).is_loopback


class _Uvicorn(uvicorn.Server):
    """Says when it has started, and when it is about to stop."""

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self.is_up = threading.Event()
        self._on_stop = on_stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_stop()
        await super().shutdown(sockets)
        if self.server_state.tasks:  # that were cancelled, and have something to clear away
            await asyncio.wait(self.server_state.tasks, timeout=_CLEARING_SECONDS)


_serving: weakref.WeakSet[Server] = weakref.WeakSet()


def _after_fork() -> None:
    """In a forked child: hold no socket of a server, or its clients would wait for the child to end too."""
    for server in tuple(_serving):
        server.let_go()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Server:
    """One running server. `port` is what it listens on; `stop` may be called from any thread but its own."""

    def __init__(
        self,
        app: Callable[..., Any],
        sock: socket.socket,
        *,
        host: str,
        limits: Limits,
        compression: bool | None,
        startup_error: Callable[[], BaseException | None],
        on_stop: Callable[[], None],
    ) -> None:
        self.host = host  # as the author wrote it
        self.port = sock.getsockname()[1]
        self._sock = sock
        self._limits = limits
        self._startup_error = startup_error
        self._failure: BaseException | None = None
        config = uvicorn.Config(
            app,
            http=http_door(limits),
            h11_max_incomplete_event_size=limits.header_bytes,
            ws=websocket_class(),
            ws_max_size=limits.message_bytes,
            ws_ping_interval=limits.ping_seconds,
            ws_ping_timeout=limits.ping_seconds,
            ws_per_message_deflate=not _is_loopback(sock) if compression is None else compression,
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_graceful_shutdown=max(1, round(limits.finish_seconds)),
        )
        config.load()
        config.loaded_app = app  # where the root logger logs everything, uvicorn puts one around it that logs headers
        self._uvicorn = _Uvicorn(config, on_stop)
        self.loop: asyncio.AbstractEventLoop | None = None  #: None before it serves, and in `block`
        self._haste: Haste | None = None
        _serving.add(self)
        self._has_left: threading.Event | None = None  # set when `block` has ended; None in a thread of its own
        self._thread = threading.Thread(target=self._run, name=f"nbws-server-{self.port}", daemon=True)

    def start(self) -> None:
        """Serve from a thread, and return when connections are taken. Raises ServerStartError."""
        self._thread.start()
        is_up = False
        try:
            is_up = self._await_start()
        finally:
            if not is_up:  # it failed, or the cell was interrupted
                self._uvicorn.should_exit = True
                self._sock.close()
        if not is_up:
            cause = self._startup_error() or self._failure
            what = described(cause) if cause else f"no answer after {START_SECONDS:g} s"
            raise ServerStartError(f"the server did not start: {what}") from cause
        # A kernel that shuts down or restarts runs these: clients get 1012, shutdown functions their turn.
        atexit.register(self.stop)

    def _await_start(self) -> bool:
        for _ in range(round(START_SECONDS / 0.05)):
            if self._uvicorn.is_up.wait(0.05):
                return self._thread.is_alive() and self._startup_error() is None
            if not self._thread.is_alive():
                return False
        return False

    def block(self) -> None:
        """Serve in this thread, the main one, until Ctrl+C, SIGTERM or `stop`. Raises ServerStartError."""
        self._thread, self._has_left = threading.current_thread(), threading.Event()
        try:
            self._uvicorn.run(sockets=[self._sock])
        except KeyboardInterrupt:
            pass
        except SystemExit:
            cause = self._startup_error()
            what = described(cause) if cause is not None else "no reason is known"
            raise ServerStartError(f"the server did not start: {what}") from cause
        finally:
            self._has_left.set()

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive() and not self._uvicorn.should_exit

    def hurry(self) -> None:
        """Have what runs in other threads give way soon, for a moment: clients wait for what was published now."""
        if self._haste is not None:
            self._haste.hurry()

    def stop(self) -> None:
        """Refuse new connections, let handlers in flight send their replies, close with 1012. Returns within 6 s."""
        atexit.unregister(self.stop)
        self._uvicorn.should_exit = True
        if threading.current_thread() is self._thread:
            return
        if self._has_left is not None:
            self._has_left.wait(self._limits.finish_seconds + 1)
        else:
            wait_for_thread(self._thread, self._limits.finish_seconds + 1)

    def let_go(self) -> None:
        """Put the null device in the place of each socket, for this process.

        They are not closed: what their owners close later would be whatever has the number then.
        """
        sockets: list[Any] = [self._sock]
        for protocol in tuple(self._uvicorn.server_state.connections):
            transport: Any = getattr(protocol, "transport", None)
            sockets.append(transport.get_extra_info("socket") if transport is not None else None)
        null = os.open(os.devnull, os.O_RDWR)
        for sock in sockets:
            if sock is not None and sock.fileno() >= 0:
                os.dup2(null, sock.fileno(), inheritable=False)
        os.close(null)

    def _run(self) -> None:
        make_loop = self._uvicorn.config.get_loop_factory() or asyncio.new_event_loop
        loop = self.loop = make_loop()
        haste = self._haste = Haste(loop)  # the main thread may compute
        self._uvicorn.config.ws_protocol_class = noting(websocket_class(), haste.note)
        try:
            # Not asyncio.run, which nest_asyncio replaces in many a notebook.
            loop.run_until_complete(self._uvicorn.serve(sockets=[self._sock]))
        except BaseException as exc:
            self._failure = exc
        finally:
            haste.end()
            close(loop)
