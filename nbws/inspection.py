"""What the panel shows of an app, and what it can be asked to do. As values that JSON holds, whoever draws them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from nbws.connection import Connection
from nbws.dispatch import HandlerError
from nbws.endpoints import Endpoint, Endpoints
from nbws.errors import NbwsError
from nbws.handlers import WEBSOCKET
from nbws.html import Safe
from nbws.messages import without_headers
from nbws.sending import CloseCode
from nbws.speaking import Said
from nbws.transcript import RECEIVED, Line, Log

__all__ = ["Inspected", "act", "answer", "look"]

_LINES = 60  #: of the log at one look; where more has happened, the newest are shown and the others counted
_OPEN_LINES = 40  #: that are looked at again, because their handlers were running
_TEXT = 1000  #: characters of a frame; the panel is no place for more
_CONNECTIONS = 100
_ERRORS = 30
_SAID = 100
_WHO = 3  #: receivers of one line that are named


class Inspected(Protocol):
    """What the panel needs of an app."""

    name: str | None
    log: Log

    @property
    def is_running(self) -> bool: ...
    @property
    def url(self) -> str: ...
    @property
    def connections(self) -> tuple[Connection, ...]: ...
    @property
    def endpoints(self) -> Endpoints: ...
    @property
    def errors(self) -> Iterable[HandlerError]: ...
    @property
    def said(self) -> tuple[Said, ...]: ...
    @property
    def recorded_messages(self) -> int: ...
    def broadcast(self, content: Any) -> Any: ...


def answer(app: Inspected, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to one thing that a panel asks: {"act": what a button is to do}, or {"seen": what it has seen}."""
    wanted = asked.get("act")
    if isinstance(wanted, dict):
        return act(app, wanted)
    seen = asked.get("seen")
    return look(app, seen if isinstance(seen, dict) else {})


def look(app: Inspected, seen: Mapping[str, Any]) -> dict[str, Any]:
    """What is another than *seen*: {} where nothing is. Callable from any thread.

    *seen* is {"parts": {name: digest}, "log": number of the newest line, "open": numbers of lines that were not
    finished}, as the answers say; {} has seen nothing. The answer has "parts": {name: [digest, value]}, and "log":
    {"newest", "lines", "missed"}.
    """
    known = seen.get("parts", {})
    parts = {}
    for name, value in _parts(app).items():
        digest = hashlib.blake2b(json.dumps(value).encode(), digest_size=8).hexdigest()
        if known.get(name) != digest:
            parts[name] = [digest, value]
    found: dict[str, Any] = {"parts": parts} if parts else {}
    log = _log(app.log, int(seen.get("log", 0)), {int(each) for each in list(seen.get("open", ()))[:_OPEN_LINES]})
    if log is not None:
        found["log"] = log
    return found


def _parts(app: Inspected) -> dict[str, Any]:
    connections, endpoints = app.connections, app.endpoints
    live = {endpoint.path: endpoint.version for endpoint in endpoints.values() if endpoint.method == WEBSOCKET}
    return {
        "app": {
            "name": app.name or "app",
            "url": app.url if app.is_running else None,
            "connections": len(connections),
            "records": app.recorded_messages > 0,
        },
        "endpoints": [_endpoint(name, endpoint) for name, endpoint in endpoints.items()],
        "connections": [_connection(each, app.log, live) for each in connections[-_CONNECTIONS:]],
        "errors": [
            {"id": error.incident, "title": error.title, "message": error.message, "at": error.time}
            for error in list(app.errors)[-_ERRORS:]
        ],
        "said": [
            {"id": said.number, "who": str(said.speaker), "path": said.speaker.key.path, "text": said.text}
            for said in app.said[-_SAID:]
        ],
    }


def _endpoint(name: str, endpoint: Endpoint) -> dict[str, Any]:
    return {
        "name": name,
        "method": endpoint.method,
        "path": endpoint.path,
        "stale": list(endpoint.stale),
        "history": [
            {
                "number": version.number,
                "of": version.restored_from,
                "at": version.time,
                "cell": version.cell,
                "messages": version.messages,
                "errors": version.errors,
                "running": version.running,
            }
            for version in endpoint.history
        ],
    }


def _connection(connection: Connection, log: Log, live: Mapping[str, int]) -> dict[str, Any]:
    counts, pinned = log.counts.get(connection.id), connection.pinned
    return {
        "id": connection.id,
        "path": connection.address,
        "since": counts.opened if counts is not None else None,
        "received": counts.received if counts is not None else None,
        "sent": counts.sent if counts is not None else None,
        "outbox": connection.waiting_bytes,
        "version": pinned.number if pinned is not None else live.get(connection.key.path),
        "pinned": pinned is not None,
        "rooms": sorted(connection.rooms),
        "state": "cut off" if connection.is_away else "open" if connection.is_open else "closing",
    }


def _log(log: Log, newest: int, unfinished: set[int]) -> dict[str, Any] | None:
    lines, missed = log.after(newest, _LINES)
    again = [line for line in log.lines if line.number in unfinished and line.is_finished] if unfinished else []
    if not lines and not again:
        return None
    return {
        "newest": lines[-1].number if lines else newest,
        "lines": [_shown(line) for line in (*again, *lines)],
        "missed": missed,
    }


def _shown(line: Line) -> dict[str, Any]:
    text = line.text
    if line.kind == RECEIVED and isinstance(line.data, str):
        text = without_headers(line.data)
    return {
        "number": line.number,
        "at": line.time,
        "kind": line.kind,
        "path": line.path,
        "who": line.connections[:_WHO],
        "more": max(0, len(line.connections) - _WHO),
        "text": text if len(text) <= _TEXT else text[: _TEXT - 1] + "…",
        "size": line.size,
        "version": line.version,
        "seconds": line.seconds,
        "error": line.error,
        "finished": line.is_finished,
    }


def act(app: Inspected, asked: Mapping[str, Any]) -> dict[str, str]:
    """Do what the author *asked* for by a button: {"do": its name, ...}.

    Gives {"done": what was done}, {"text": ...}, {"html": ...}, or {"problem": why it could not be done}. A replay
    waits for the server, so this is called from a cell or from a worker thread.
    """
    name = str(asked.get("do"))
    try:
        return _ACTIONS[name](app, asked) if name in _ACTIONS else {"problem": f"there is no button {name!r}"}
    except (LookupError, NbwsError, TimeoutError) as exc:
        return {"problem": str(exc.args[0] if isinstance(exc, LookupError) and exc.args else exc)}


def _endpoint_of(app: Inspected, asked: Mapping[str, Any]) -> Endpoint:
    return app.endpoints[str(asked.get("endpoint"))]


def _connection_of(app: Inspected, asked: Mapping[str, Any]) -> Connection:
    found = next((each for each in app.connections if each.id == asked.get("connection")), None)
    if found is None:
        raise LookupError("this connection has gone")
    return found


def _number(asked: Mapping[str, Any], name: str) -> int | None:
    value = asked.get(name)
    return int(value) if value is not None else None


def _retry(app: Inspected, asked: Mapping[str, Any]) -> dict[str, str]:
    _endpoint_of(app, asked).retry()
    return {"done": "the message that failed last runs again"}


def _replay(app: Inspected, asked: Mapping[str, Any]) -> dict[str, str]:
    return {"html": _endpoint_of(app, asked).replay(_number(asked, "count") or 1)._repr_html_()}


def _roll_back(app: Inspected, asked: Mapping[str, Any]) -> dict[str, str]:
    endpoint = _endpoint_of(app, asked).rollback(_number(asked, "to"))
    return {"done": f"v{endpoint.history[-1].restored_from} is live again, as v{endpoint.version}"}


def _retire(app: Inspected, asked: Mapping[str, Any]) -> dict[str, str]:
    _endpoint_of(app, asked).retire()
    return {"done": f"{asked.get('endpoint')} is retired; running its cell again brings it back"}


def _diff(app: Inspected, asked: Mapping[str, Any]) -> dict[str, str]:
    return {"text": _endpoint_of(app, asked).diff(_number(asked, "old"), _number(asked, "new"))}


def _close(app: Inspected, asked: Mapping[str, Any]) -> dict[str, str]:
    connection = _connection_of(app, asked)
    connection.close(CloseCode.NORMAL, "closed by its author")
    return {"done": f"{connection.id} is closed"}


def _send(app: Inspected, asked: Mapping[str, Any]) -> dict[str, str]:
    content = Safe(str(asked.get("html", "")))
    if asked.get("connection") is None:
        app.broadcast(content)
        return {"done": "sent to all"}
    connection = _connection_of(app, asked)
    connection.send(content)
    return {"done": f"sent to {connection.id}"}


def _traceback(app: Inspected, asked: Mapping[str, Any]) -> dict[str, str]:
    found = next((error for error in app.errors if error.incident == asked.get("error")), None)
    if found is None:
        raise LookupError("this error is not kept any more")
    return {"text": f"message: {found.message}\n{found.traceback}"}


_ACTIONS: dict[str, Callable[[Inspected, Mapping[str, Any]], dict[str, str]]] = {
    "retry": _retry,
    "replay": _replay,
    "rollback": _roll_back,
    "retire": _retire,
    "diff": _diff,
    "close": _close,
    "send": _send,
    "traceback": _traceback,
}
