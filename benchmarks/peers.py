"""Servers that do the same by other means. `python peers.py NAME PORT` serves one of PEERS, at /ws.

Each answers what htmx sends for a form, `{"msg": ..., "HEADERS": {...}}`, with a fragment that says the same, and "go"
with a fragment of 2 KB to all who are connected, in 55 paragraphs: rendered once by all but FastHTML, whose `send`
renders for each. The panel of nbws and its recorder are not at work in a script.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

LINES = [f"line {n} of a chat" for n in range(55)]
EVERYBODY = f'<div id="all" hx-swap-oob="true">{"".join(f"<p>{line} &amp; more</p>" for line in LINES)}</div>'


def picows(port: int) -> None:
    """The limit in Python: one callback, a parser and a template, and nothing else."""
    import msgspec
    import uvloop
    from picows import WSListener, WSMsgType, ws_create_server

    decode, connected = msgspec.json.Decoder().decode, set()
    everybody = EVERYBODY.encode()

    class Echo(WSListener):
        def on_ws_connected(self, transport: Any) -> None:
            connected.add(transport)

        def on_ws_disconnected(self, transport: Any) -> None:
            connected.discard(transport)

        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            if frame.msg_type == WSMsgType.TEXT:
                msg = decode(frame.get_payload_as_utf8_text())["msg"]
                if msg == "go":
                    for each in connected:
                        each.send(WSMsgType.TEXT, everybody)
                else:
                    transport.send(WSMsgType.TEXT, f'<div id="out" hx-swap-oob="true">Hello {msg}</div>')
            elif frame.msg_type == WSMsgType.CLOSE:
                transport.send_close()
                transport.disconnect()

    async def main() -> None:
        server = await ws_create_server(lambda request: Echo(), "127.0.0.1", port)
        await server.serve_forever()

    uvloop.run(main())


def websockets(port: int) -> None:
    import msgspec
    import uvloop
    from websockets.asyncio.server import broadcast, serve

    decode, connected = msgspec.json.Decoder().decode, set()

    async def talk(socket: Any) -> None:
        connected.add(socket)
        try:
            async for message in socket:
                msg = decode(message)["msg"]
                if msg == "go":
                    broadcast(connected, EVERYBODY)
                else:
                    await socket.send(f'<div id="out" hx-swap-oob="true">Hello {msg}</div>')
        finally:
            connected.discard(socket)

    async def main() -> None:
        async with serve(talk, "127.0.0.1", port, compression=None) as server:
            await server.serve_forever()

    uvloop.run(main())


def starlette(port: int) -> None:
    import msgspec
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import WebSocketRoute

    decode, connected = msgspec.json.Decoder().decode, set()

    async def talk(websocket: Any) -> None:
        await websocket.accept()
        connected.add(websocket)
        try:
            async for message in websocket.iter_text():
                msg = decode(message)["msg"]
                if msg == "go":
                    for each in connected:
                        await each.send_text(EVERYBODY)
                else:
                    await websocket.send_text(f'<div id="out" hx-swap-oob="true">Hello {msg}</div>')
        finally:
            connected.discard(websocket)

    app = Starlette(routes=[WebSocketRoute("/ws", talk)])
    uvicorn.run(app, port=port, ws="websockets-sansio", ws_per_message_deflate=False, log_level="error")


def fasthtml(port: int) -> None:
    import uvicorn
    from fasthtml.common import Div, FastHTML, P  # type: ignore[import-untyped,unused-ignore]

    app, connected = FastHTML(exts="ws"), {}

    def joined(send):  # type: ignore[no-untyped-def]  # which stands for the sender by its name alone
        connected[id(send)] = send

    def left(send):  # type: ignore[no-untyped-def]
        connected.pop(id(send), None)

    @app.ws("/ws", conn=joined, disconn=left)  # type: ignore[untyped-decorator]
    async def talk(msg: str):  # type: ignore[no-untyped-def]
        if msg != "go":
            return Div("Hello " + msg, id="out")
        for each in tuple(connected.values()):
            await each(Div(*[P(line, " & more") for line in LINES], id="all"))
        return None

    uvicorn.run(app, port=port, log_level="error")


def nbws(port: int) -> None:
    from nbws import App, Limits
    from nbws.html import TagMaker

    div, p = TagMaker("div"), TagMaker("p")
    app = App(port=port, limits=Limits(connections=20_000))

    @app.ws("/ws")
    async def talk(msg: str) -> Any:
        if msg != "go":
            return div("Hello " + msg, id="out")
        app.broadcast(div(*[p(line, " & more") for line in LINES], id="all"))
        return None

    app.run()


def nbws_on_uvicorn(port: int) -> None:
    """The same without picows."""
    import os

    os.environ["NBWS_WEBSOCKET"] = "uvicorn"
    nbws(port)


def nbws_recording(port: int) -> None:
    """The same with the last 20 messages of each connection kept, as in a notebook."""
    from nbws import App
    from nbws.html import TagMaker

    div = TagMaker("div")
    app = App(port=port, record=20)

    @app.ws("/ws")
    async def talk(msg: str) -> Any:
        return div("Hello " + msg, id="out")

    app.run()


PEERS: dict[str, Callable[[int], None]] = {
    "picows": picows,
    "websockets": websockets,
    "Starlette": starlette,
    "FastHTML": fasthtml,
    "nbws": nbws,
    "nbws, no picows": nbws_on_uvicorn,
    "nbws, recording": nbws_recording,
}


if __name__ == "__main__":
    PEERS[sys.argv[1]](int(sys.argv[2]))
