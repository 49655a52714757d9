"""`app.endpoints`: what is live, by path, as its author looks at it."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, SupportsIndex, overload

from nbws.connection import Connection
from nbws.dispatch import HandlerError
from nbws.handlers import WEBSOCKET, HandlerTable, Key, Version
from nbws.html import ft, to_xml
from nbws.recording import Replay

__all__ = ["Endpoint", "Endpoints", "Live"]


class Live(Protocol):
    """What an endpoint shows, and whom it asks to change something."""

    @property
    def table(self) -> HandlerTable: ...
    @property
    def connections(self) -> Iterable[Connection]: ...
    @property
    def errors(self) -> Iterable[HandlerError]: ...
    def roll_back(self, key: Key, number: int) -> None: ...
    def retire(self, key: Key) -> None: ...
    def retry(self, key: Key) -> None: ...
    def replay(self, key: Key, count: int) -> Replay: ...


class History(tuple[Version, ...]):
    """Versions, oldest first. Renders as a table."""

    __slots__ = ()

    @overload
    def __getitem__(self, index: SupportsIndex) -> Version: ...
    @overload
    def __getitem__(self, index: slice) -> History: ...
    def __getitem__(self, index: Any) -> Any:
        found: Any = super().__getitem__(index)
        return History(found) if isinstance(index, slice) else found

    def _repr_html_(self) -> str:
        return _table(("version", "code", "since", "cell", "messages", "errors", "running"), map(_row_of, self))


def _row_of(version: Version) -> tuple[Any, ...]:
    code = f"of v{version.restored_from}" if version.restored_from else ""
    since = time.strftime("%X", time.localtime(version.time))
    counts = (version.messages, version.errors or "", version.running or "")
    return (f"v{version.number}", code, since, version.cell or "", *counts)


class Endpoint:
    """One live endpoint. What it says is of this moment, however long it is kept. Callable from any thread."""

    def __init__(self, key: Key, live: Live) -> None:
        self.path, self.method = key.path, key.method
        self._key, self._live = key, live

    @property
    def version(self) -> int:
        """1 for the first definition, one more for each that was other code."""
        return self.history[-1].number

    @property
    def history(self) -> History:
        """The versions that are kept, oldest first; the last one is live. Fifty, and more only while they run."""
        entry = self._live.table.get(self._key)
        if entry is None:
            raise KeyError(f"{self._key} is not defined")
        return History(entry.history)

    @property
    def errors(self) -> tuple[HandlerError, ...]:
        """The last errors of its handlers, the newest last."""
        return tuple(error for error in self._live.errors if error.key == self._key)

    def diff(self, old: int | None = None, new: int | None = None) -> str:
        """What is written differently in version *new* (the live one) and *old* (the one before), as a unified diff.

        Raises LookupError for a version that is not kept.
        """
        after = self._version(new if new is not None else self.version)
        before = self._version(old if old is not None else self._before(after).number)
        lines = difflib.unified_diff(
            before.source.splitlines(),
            after.source.splitlines(),
            f"{self._key} v{before.number}",
            f"{self._key} v{after.number}",
            lineterm="",
        )
        return "\n".join(lines)

    def rollback(self, to: int | None = None) -> Endpoint:
        """Publish version *to* again, as a new version; None is the one before the code that is live.

        Connections stay open and messages in flight finish where they began, as in every swap. Raises LookupError
        where there is no such version.
        """
        number = to if to is not None else self._before(self.history[-1]).number
        self._live.roll_back(self._key, number)
        return self

    def retire(self) -> None:
        """Remove it: nobody new connects, and its open connections are closed with 1001 now."""
        self._live.retire(self._key)

    def retry(self) -> None:
        """Run the message that failed last again, on the version that is live, after what its connection has waiting.

        Raises LookupError where none has failed, NbwsError where its connection has gone.
        """
        self._live.retry(self._key)

    def replay(self, n: int = 1) -> Replay:
        """Run the last *n* recorded messages again, on the live version, and compare what is sent for them.

        Each runs on a shadow of its connection, with the state that it had then: what it sends, broadcasts, joins or
        closes goes nowhere. What the handler does otherwise, to globals, files or a database, it does. In a
        notebook the result shows old and new fragments side by side. Waits for it, so it is called from a cell or a
        thread. Raises LookupError where nothing has been recorded, NbwsError on the server's own thread.
        """
        return self._live.replay(self._key, n)

    def pin(self, connection: Connection, to: int | None) -> None:
        """Have *connection* served by version *to*, whichever is live, to compare two; None ends that.

        It changes like a swap: between two messages, with the swap hook of the version where there is one. Raises
        LookupError for a version that is not kept, or a connection of another endpoint.
        """
        if connection.key != self._key:
            raise LookupError(f"{connection!r} is no connection of {self._key}; endpoint.connections has those")
        connection.pin(self._version(to) if to is not None else None)

    @property
    def stale(self) -> tuple[str, ...]:
        """The globals that the handler reads and that are gone, or of another type than when it was defined."""
        entry = self._live.table.get(self._key)
        reads = entry.definition.reads if entry is not None else ()
        return tuple(dict.fromkeys(each.stale for each in reads if each.stale is not None))

    def _version(self, number: int) -> Version:
        found = next((version for version in self.history if version.number == number), None)
        if found is None:
            kept = ", ".join(f"v{version.number}" for version in self.history)
            raise LookupError(f"{self._key} has no version {number!r}; kept are {kept}")
        return found

    def _before(self, version: Version) -> Version:
        """The version before the code of *version* was written."""
        earlier = [each for each in self.history if each.code_of < version.code_of and each.restored_from is None]
        if not earlier:
            raise LookupError(f"{self._key} has no version before v{version.code_of}")
        return earlier[-1]

    @property
    def is_retired(self) -> bool:
        """Whether no code defines it any more. Its number goes on when it comes back."""
        return self._live.table.get_live(self._key) is None

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The live connections of this endpoint, oldest first."""
        return tuple(c for c in self._live.connections if c.key == self._key)

    def __repr__(self) -> str:
        stale = f", stale: {'; '.join(self.stale)}" if self.stale else ""
        return f"<Endpoint {self._key} v{self.version}{' (retired)' if self.is_retired else ''}{stale}>"


class Endpoints(Mapping[str, Endpoint]):
    """Path -> Endpoint: the websocket of a path where it has one, else its page.

    Where a path has more than one endpoint, each is found by its method too: `app.endpoints["POST /login"]`.
    """

    def __init__(self, live: Live) -> None:
        self._live = live

    def _keys(self) -> dict[str, Key]:
        found: dict[str, Key] = {}
        routes = [key for key, _ in self._live.table.live() if key.is_route]
        for key in sorted(routes, key=lambda key: {WEBSOCKET: 0, "GET": 1}.get(key.method, 2)):
            found[str(key) if key.path in found else key.path] = key
        return found

    def __getitem__(self, name: str) -> Endpoint:
        key = self._keys().get(name)
        if key is None:
            method, _, path = name.partition(" ")
            key = Key(method, path)
            if self._live.table.get_live(key) is None:
                raise KeyError(f"{name!r} is no endpoint; there is {', '.join(self._keys()) or 'none yet'}")
        return Endpoint(key, self._live)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys())

    def __len__(self) -> int:
        return len(self._keys())

    def __repr__(self) -> str:
        return "\n".join(repr(endpoint) for endpoint in self.values()) or "no endpoints yet"

    def _repr_html_(self) -> str:
        rows, stale = [], any(each.stale for each in self.values())
        for each in self.values():
            version = each.history[-1]
            cells = (each.method, each.path, f"v{version.number}", len(each.connections) or "", version.messages,
                     version.errors or "", *(("; ".join(each.stale),) if stale else ()))  # fmt: skip
            rows.append(cells)
        return _table(
            ("", "path", "version", "connections", "messages", "errors", *(("stale",) if stale else ())), rows
        )


def _table(titles: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    head = ft("thead", ft("tr", *(ft("th", title, scope="col") for title in titles)))
    body = ft("tbody", *(ft("tr", *(ft("td", cell) for cell in row)) for row in rows))
    style = ft("style", ".nbws-table :is(th, td) { text-align: left !important }")  # notebooks align to the right
    return to_xml(style, ft("table", head, body, cls="nbws-table"))
