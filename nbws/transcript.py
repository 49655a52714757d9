"""What clients and an app said to each other: the running log of it, and the transcript that is made of that."""

from __future__ import annotations

import itertools
import json
import keyword
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from nbws.html import Safe, ft, to_xml
from nbws.messages import without_headers

__all__ = ["CLOSED", "OPENED", "RECEIVED", "SENT", "Counts", "Line", "Log", "Taker", "Transcript", "counted"]

OPENED, RECEIVED, SENT, CLOSED = "opened", "received", "sent", "closed"

_LINES = 2000
_CHARACTERS = 2**20  #: of all lines together
_LONG = 2**16  #: characters; of a frame that is longer only its length is kept


@dataclass(slots=True, eq=False)
class Line:
    """One thing that happened on one connection; or a frame that was *sent* to several, which is one line.

    *kind* is seen from the app: "opened", "received", "sent" or "closed". *data* is None where there is none, or
    where it was too long to keep; *size* says how long it was, in characters or bytes.
    """

    number: int  #: orders all lines of an app
    kind: str
    path: str  #: of the endpoint
    url: str  #: what the client asked for, path parameters filled in, with the query
    connections: list[str]
    data: str | bytes | None = None
    size: int = 0
    version: int | None = None  #: that handled it
    seconds: float | None = None  #: that its handler took; None while it runs, or where none ran
    error: str | None = None
    time: float = field(default_factory=time.time)  #: seconds since 1970

    @property
    def is_finished(self) -> bool:
        """Whether nothing of it changes any more: its handler, where it has one, has ended."""
        return self.kind != RECEIVED or self.seconds is not None

    @property
    def text(self) -> str:
        """*data* for an author to read."""
        if self.data is None:
            return f"({self.size} characters, not kept)" if self.size else ""
        if isinstance(self.data, str):
            return self.data
        return f"({len(self.data)} bytes) {self.data[:32].hex(' ')}{' …' if len(self.data) > 32 else ''}"


@dataclass(slots=True)
class Counts:
    """How many frames one connection has *received* from its client, and *sent* to it."""

    opened: float  #: seconds since 1970
    received: int = 0
    sent: int = 0


class Taker(Protocol):
    """What takes note of lines as they come."""

    def take(self, line: Line) -> None: ...
    def serves(self, session: object, path: str, html: str) -> None: ...
    def has_page_for(self, session: object, url: str) -> bool: ...
    def connects(self, connection: str, session: object, url: str, secrets: Iterable[str] = ()) -> None: ...
    def hears(self, secrets: Iterable[str]) -> None: ...


class Log:
    """The last lines of an app, within bounds: 2,000 of them, and a million characters. Callable from any thread."""

    def __init__(self, lines: int = _LINES, characters: int = _CHARACTERS) -> None:
        self.counts: dict[str, Counts] = {}  #: of the connections that are open
        self.tapes: tuple[Taker, ...] = ()  #: that take note of all that is said; replaced, never changed
        self._lines: deque[Line] = deque()
        self._most, self._left = lines, characters
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    @property
    def lines(self) -> tuple[Line, ...]:
        with self._lock:
            return tuple(self._lines)

    @property
    def newest(self) -> int:
        """The number of the last line; 0 before the first."""
        with self._lock:
            return self._lines[-1].number if self._lines else 0

    def after(self, number: int, at_most: int) -> tuple[list[Line], int]:
        """The newest lines after that of *number*, oldest first, and how many more there were."""
        found: list[Line] = []
        with self._lock:
            for line in reversed(self._lines):
                if line.number <= number or len(found) == at_most:
                    break
                found.append(line)
            newest = self._lines[-1].number if self._lines else number
        found.reverse()
        return found, max(0, newest - number - len(found))

    def opened(self, connection: str, path: str, url: str) -> None:
        self.counts[connection] = Counts(time.time())
        self._add(OPENED, path, url, connection)

    def closed(self, connection: str, path: str, url: str) -> None:
        if self.counts.pop(connection, None) is not None:
            self._add(CLOSED, path, url, connection)

    def received(self, connection: str, path: str, url: str, frame: str | bytes, version: int) -> Line:
        """A frame that a handler takes up now, without the fields that are not to be kept."""
        counts = self.counts.get(connection)
        if counts is not None:
            counts.received += 1
        return self._add(RECEIVED, path, url, connection, frame, version)

    def sent(self, connection: str, path: str, url: str, data: str | bytes) -> None:
        counts = self.counts.get(connection)
        if counts is not None:
            counts.sent += 1
        with self._lock:
            last = self._lines[-1] if self._lines else None
            if last is not None and last.kind == SENT and last.data is data and connection not in last.connections[-1:]:
                last.connections.append(connection)
                return
        self._add(SENT, path, url, connection, data)

    def _add(
        self,
        kind: str,
        path: str,
        url: str,
        connection: str,
        data: str | bytes | None = None,
        version: int | None = None,
    ) -> Line:
        size = len(data) if data is not None else 0
        kept = data if size <= _LONG else None
        with self._lock:
            line = Line(next(self._numbers), kind, path, url, [connection], kept, size, version)
            self._lines.append(line)
            for tape in self.tapes:
                tape.take(line)
            self._left -= len(kept or "")
            while len(self._lines) > self._most or self._left < 0:
                self._left += len(self._lines.popleft().data or "")
        return line


class Transcript(Sequence[Line]):
    """What was said, oldest first, up to the moment when it was taken. Renders as a table.

    Fields to be redacted have no values in it, and it holds no headers, cookies or credentials.
    """

    def __init__(self, lines: Sequence[Line]) -> None:
        self._lines = tuple(_without_headers(line) for line in lines)

    def __getitem__(self, index: Any) -> Any:
        found = self._lines[index]
        return Transcript(found) if isinstance(index, slice) else found

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def clients(self) -> Mapping[str, str]:
        """The id of each connection -> what it is called here: "client 1" and so on, as they came."""
        found: dict[str, str] = {}
        for line in self._lines:
            for connection in line.connections:
                found.setdefault(connection, f"client {len(found) + 1}")
        return found

    def to_test(self) -> str:
        """The source of a cell in which clients say what was said, and assert that the app answers what it answered.

        Each connection is a client of its own. What the app sends of its own accord, as a task does, comes in the
        test when it comes; what is different each time (an id, the time) is for its author to loosen.
        """
        names = {each: called.replace("client ", "client_") for each, called in self.clients.items()}
        opened: set[str] = set()
        body: list[str] = []
        for line in self._lines:
            for connection in line.connections:
                name = names[connection]
                if connection not in opened:
                    opened.add(connection)
                    body.append(f"{name} = await clients.enter_async_context(app.client().ws({line.url!r}))")
                if line.kind == RECEIVED:
                    body.append(f"await {name}.{_sending(line)}")
                elif line.kind == SENT:
                    body.append(f"assert await {name}.receive() == {line.data!r}" if line.data is not None
                                else f"assert len(await {name}.receive()) == {line.size}")  # fmt: skip
                elif line.kind == CLOSED:
                    body.append(f"await {name}.close()")
        said = sum(line.kind == RECEIVED for line in self._lines)
        head = f"# {counted(len(names), 'client')}, {counted(said, 'message')}; made of a transcript"
        block = "\n".join(f"    {each}" for each in body or ["pass"])
        return f"{head}\nfrom contextlib import AsyncExitStack\n\nasync with AsyncExitStack() as clients:\n{block}\n"

    def __repr__(self) -> str:
        names = self.clients
        return "\n".join(f"{_said(line, names):<24} {line.text}" for line in self._lines) or "nothing was said"

    def _repr_html_(self) -> str:
        names, rows = self.clients, []
        first = self._lines[0].time if self._lines else 0.0
        for line in self._lines:
            said = ft("td", ft("code", line.text), *([ft("b", line.error)] if line.error else []))
            rows.append(ft("tr", ft("td", f"{line.time - first:.2f} s"), ft("td", _said(line, names)), said))
        titles = ft("tr", *(ft("th", title, scope="col") for title in ("after", "who", "what")))
        table = ft("table", ft("thead", titles), ft("tbody", *rows), cls="nbws-transcript")
        return to_xml(ft("style", Safe(_STYLE)), table)


def _without_headers(line: Line) -> Line:
    if line.kind != RECEIVED or not isinstance(line.data, str):
        return line
    return replace(line, data=without_headers(line.data))


def _said(line: Line, names: Mapping[str, str]) -> str:
    called = [names[each] for each in line.connections]
    who = called[0] if len(called) == 1 else f"{len(called)} clients"
    return {OPENED: f"{who} connects", RECEIVED: f"{who} →", SENT: f"→ {who}", CLOSED: f"{who} leaves"}[line.kind]


def _sending(line: Line) -> str:
    """The call of a client that sends what *line* has received."""
    data = line.data
    if isinstance(data, bytes):
        return f"send_bytes({data!r})"
    try:
        fields = json.loads(data or "")
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        return f"send_text({data!r})"
    if all(name.isidentifier() and not keyword.iskeyword(name) and name != "self" for name in fields):
        return f"send({', '.join(f'{name}={value!r}' for name, value in fields.items())})"
    return f"send(**{fields!r})"


def counted(number: int, what: str) -> str:
    """`1 client`, `2 clients`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


_STYLE = """
.nbws-transcript :is(th, td) { text-align: left !important; vertical-align: top; white-space: nowrap; }
.nbws-transcript td:last-child { white-space: normal; }
.nbws-transcript td code { white-space: pre-wrap; overflow-wrap: anywhere; background: none; }
.nbws-transcript b { color: var(--jp-error-color1, #c62f2f); font-weight: 600; margin-left: 1ch; }
"""
