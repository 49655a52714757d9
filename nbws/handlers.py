"""The immutable, versioned table of handlers, and what publishing does to it.

Publishing makes the next table and the app points at it: one assignment, so a reader that looks once sees no mixture.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from nbws.binding import Bound

__all__ = [
    "WEBSOCKET",
    "Change",
    "Definition",
    "Entry",
    "HandlerTable",
    "Hook",
    "HttpHandler",
    "Key",
    "Owner",
    "WsHandler",
    "changes",
]

WEBSOCKET = "WS"


class Key(NamedTuple):
    """What a definition is found by. *method* is WS, an HTTP method, or MOUNT, MIDDLEWARE, STARTUP, SHUTDOWN."""

    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Owner(NamedTuple):
    """Whose code defined it: ("cell", its id) or ("module", its name)."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Hook:
    """A `conn` or `disconn` function. *late* says that its module's global of that name stands for it."""

    bound: Bound
    late: bool

    def now(self) -> Callable[..., Any]:
        """The function that its name stands for at this moment."""
        fn = self.bound.fn
        if self.late and isinstance(fn, types.FunctionType):
            named = fn.__globals__.get(fn.__name__, fn)
            return named if callable(named) else fn
        return fn


@dataclass(frozen=True, slots=True)
class WsHandler:
    """What runs for one websocket path."""

    message: Bound
    hooks: Mapping[str, Hook]  #: "conn" and "disconn", where there are such


@dataclass(frozen=True, slots=True)
class HttpHandler:
    """What answers one HTTP method of one path."""

    bound: Bound
    name: str
    include_in_schema: bool = True


@dataclass(frozen=True, slots=True)
class Definition:
    """One thing that an author's code registered. Equal *fingerprint*s are the same version of it."""

    key: Key
    target: Any
    fingerprint: Hashable
    owner: Owner | None = None  #: None is owned by nobody, and retired by no re-run


@dataclass(frozen=True, slots=True)
class Entry:
    """A definition in the table. A *retired* one is remembered, so that its numbers go on when it comes back."""

    definition: Definition
    version: int
    retired: bool = False


class HandlerTable:
    """Key -> Entry. Never changes; each method that would change it gives another table."""

    __slots__ = ("_entries",)

    def __init__(self, entries: Mapping[Key, Entry] | None = None) -> None:
        self._entries: dict[Key, Entry] = dict(entries or {})

    def get(self, key: Key) -> Entry | None:
        """The entry of *key*, retired or not."""
        return self._entries.get(key)

    def __iter__(self) -> Iterator[tuple[Key, Entry]]:
        return iter(self._entries.items())

    def live(self, *methods: str) -> Iterator[tuple[Key, Entry]]:
        """The entries that are not retired, of these methods where any are named, in the order of definition."""
        for key, entry in self._entries.items():
            if not entry.retired and (not methods or key.method in methods):
                yield key, entry

    def owned_by(self, owner: Owner) -> frozenset[Key]:
        """The keys of the live entries that *owner* won last."""
        return frozenset(k for k, e in self._entries.items() if not e.retired and e.definition.owner == owner)

    def publish(self, definitions: Iterable[Definition], retire: Iterable[Key] = ()) -> HandlerTable:
        """The table with *definitions* in it, each replacing what had its key, and with *retire* retired.

        Code that is the same as before keeps its version number; its new function is taken.
        """
        entries = dict(self._entries)
        for key in retire:
            if key in entries:
                entries[key] = replace(entries[key], retired=True)
        for definition in definitions:
            before = entries.get(definition.key)
            if before is None:
                version = 1
            elif before.definition.fingerprint == definition.fingerprint:
                version = before.version
            else:
                version = before.version + 1
            entries[definition.key] = Entry(definition, version)
        return HandlerTable(entries)


class Change(NamedTuple):
    """What one publication did to one key. None stands for nothing live."""

    key: Key
    before: Entry | None
    after: Entry | None

    @property
    def is_new_version(self) -> bool:
        return self.after is not None and (self.before is None or self.before.version != self.after.version)


def changes(old: HandlerTable, new: HandlerTable) -> list[Change]:
    """The keys whose live entry is another one in *new*."""
    before, after = dict(old.live()), dict(new.live())
    return [
        Change(key, before.get(key), after.get(key))
        for key in {**before, **after}
        if before.get(key) is not after.get(key)
    ]
