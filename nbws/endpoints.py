"""`app.endpoints`: what is live, by path, as its author looks at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from nbws.connection import Connection
from nbws.handlers import WEBSOCKET, Entry, HandlerTable, Key
from nbws.html import ft, to_xml

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Endpoint", "Endpoints"]

_NOT_ROUTES = frozenset(("MIDDLEWARE", "EXCEPTION", "STARTUP", "SHUTDOWN"))


class Endpoint:
    """One live endpoint. What it says is of this moment, however long it is kept."""

    def __init__(self, key: Key, entry: Callable[[], Entry | None], connections: Callable[[], Iterable[Connection]]):
        self.path, self.method = key.path, key.method
        self._key, self._entry, self._connections = key, entry, connections

    @property
    def version(self) -> int:
        """1 for the first definition, one more for each that was other code."""
        entry = self._entry()
        if entry is None:
            raise KeyError(f"{self._key} is not defined")
        return entry.version

    @property
    def is_retired(self) -> bool:
        """Whether no code defines it any more. Its number goes on when it comes back."""
        entry = self._entry()
        return entry is None or entry.retired

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The live connections of this endpoint, oldest first."""
        return tuple(c for c in self._connections() if c.key == self._key)

    def __repr__(self) -> str:
        return f"<Endpoint {self._key} v{self.version}{' (retired)' if self.is_retired else ''}>"


class Endpoints(Mapping[str, Endpoint]):
    """Path -> Endpoint: the websocket of a path where it has one, else its page.

    Where a path has more than one endpoint, each is found by its method too: `app.endpoints["POST /login"]`.
    """

    def __init__(self, table: Callable[[], HandlerTable], connections: Callable[[], Iterable[Connection]]) -> None:
        self._table, self._connections = table, connections

    def _keys(self) -> dict[str, Key]:
        found: dict[str, Key] = {}
        routes = [key for key, _ in self._table().live() if key.method not in _NOT_ROUTES]
        for key in sorted(routes, key=lambda key: {WEBSOCKET: 0, "GET": 1}.get(key.method, 2)):
            found[str(key) if key.path in found else key.path] = key
        return found

    def __getitem__(self, name: str) -> Endpoint:
        key = self._keys().get(name)
        if key is None:
            method, _, path = name.partition(" ")
            key = Key(method, path)
            entry = self._table().get(key)
            if entry is None or entry.retired:
                raise KeyError(f"{name!r} is no endpoint; there is {', '.join(self._keys()) or 'none yet'}")
        return Endpoint(key, lambda: self._table().get(key), self._connections)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys())

    def __len__(self) -> int:
        return len(self._keys())

    def __repr__(self) -> str:
        return "\n".join(repr(endpoint) for endpoint in self.values()) or "no endpoints yet"

    def _repr_html_(self) -> str:
        rows = [
            ft(
                "tr",
                *(ft("td", cell) for cell in (e.method, e.path, f"v{e.version}", len(e.connections) or "")),
            )
            for e in self.values()
        ]
        head = ft("tr", *(ft("th", title) for title in ("", "path", "version", "connections")))
        return to_xml(ft("table", ft("thead", head), ft("tbody", *rows)))
