"""Web files of a folder, and nothing else of it."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketClose

__all__ = ["WEB_FILES", "WebFiles"]

WEB_FILES = frozenset(
    """
avif css gif ico jpeg jpg js map mjs mp3 mp4 ogg otf pdf png svg ttf txt wav wasm webm webp woff woff2
""".split()
)
"""Endings of files that a page may load. Notebooks, sources, data and dot files are not among them."""


class WebFiles(StaticFiles):
    """Starlette's StaticFiles for files of these endings alone; it keeps requests inside the folder.

    A folder that does not exist holds no file. A websocket is refused.
    """

    def __init__(self, directory: str | Path, endings: frozenset[str] = WEB_FILES) -> None:
        super().__init__(directory=directory, check_dir=False)
        self._endings = endings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # StaticFiles fails over one, and at / it gets all that have no endpoint
            await WebSocketClose()(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    async def check_config(self) -> None: ...

    async def get_response(self, path: str, scope: Scope) -> Response:
        asked = PurePosixPath(path.replace("\\", "/"))
        if asked.suffix.lower().lstrip(".") not in self._endings or any(p.startswith(".") for p in asked.parts):
            raise HTTPException(404)
        return await super().get_response(path, scope)
