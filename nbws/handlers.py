"""The immutable, versioned table of handlers, and what publishing does to it.

Publishing makes the next table and the app points at it: one assignment, so a reader that looks once sees no mixture.
"""

from __future__ import annotations

import time
import types
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from nbws.binding import Bound
from nbws.reading import Reads

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
    "Place",
    "Version",
    "WsHandler",
    "changes",
    "functions_of",
]

WEBSOCKET = "WS"
_NOT_ROUTED = frozenset(("MIDDLEWARE", "EXCEPTION", "STARTUP", "SHUTDOWN", "TASK"))
VERSIONS_KEPT = 50  #: of one endpoint; more only while calls still run on them


class Key(NamedTuple):
    """What a definition is found by. *method* is WS, an HTTP method, or TASK, MOUNT, STARTUP and the like."""

    method: str
    path: str

    @property
    def is_route(self) -> bool:
        """Whether requests or websockets are routed to it."""
        return self.method not in _NOT_ROUTED

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Owner(NamedTuple):
    """Whose code defined it: ("cell", its id) or ("module", its name)."""

    kind: str
    name: str


class Place(NamedTuple):
    """Where the name of a hook stands: `names[name]`, or an attribute of what that is."""

    names: Mapping[str, Any]
    name: str
    attribute: str | None = None


@dataclass(frozen=True, slots=True)
class Hook:
    """A `conn` or `disconn` function, and the *place* of the name that it was given by; None where it has none.

    *passed_over* is what the name stood for when the function was gone back to: that is not to be taken up again.
    """

    bound: Bound
    place: Place | None = None
    passed_over: Callable[..., Any] | None = None

    def now(self) -> Callable[..., Any]:
        """The function that the name stands for at this moment; the one that is bound where that is none."""
        if self.place is None:
            return self.bound.fn
        named = self.place.names.get(self.place.name)
        if self.place.attribute is not None:
            named = getattr(named, self.place.attribute, None)
        return named if callable(named) else self.bound.fn


@dataclass(frozen=True, slots=True)
class WsHandler:
    """What runs for one websocket path."""

    message: Bound
    hooks: Mapping[str, Hook]  #: "conn" and "disconn", where there are such
    swap: Callable[..., Any] | None = None  #: called for each open connection when this version takes over
    loop: str | None = None  #: "kernel" or "server", where it runs; None is as its app says


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
    source: str = ""  #: as it was written; "" where that cannot be found
    reads: tuple[Reads, ...] = field(default=(), compare=False)  #: the globals that its functions read, as they were


class Written(NamedTuple):
    """A function as it was when it was published."""

    fn: Any  #: a function
    code: types.CodeType
    defaults: tuple[Any, ...] | None
    keyword_defaults: dict[str, Any] | None

    @classmethod
    def of(cls, fn: types.FunctionType) -> Written:
        return cls(fn, fn.__code__, fn.__defaults__, fn.__kwdefaults__)

    @property
    def is_unchanged(self) -> bool:
        return self.fn.__code__ is self.code and self.fn.__defaults__ is self.defaults

    def restored(self) -> types.FunctionType:
        fn = types.FunctionType(self.code, self.fn.__globals__, self.fn.__name__, self.defaults, self.fn.__closure__)
        fn.__kwdefaults__, fn.__annotations__ = self.keyword_defaults, self.fn.__annotations__
        return fn


def functions_of(target: Any) -> Iterator[types.FunctionType]:
    """The plain functions that a definition's *target* runs."""
    functions: list[Any] = []
    if isinstance(target, WsHandler):
        functions = [target.message.fn, target.swap, *(hook.bound.fn for hook in target.hooks.values())]
    elif isinstance(target, HttpHandler):
        functions = [target.bound.fn]
    yield from (fn for fn in functions if isinstance(fn, types.FunctionType))


def _with_functions(target: Any, functions: Mapping[int, types.FunctionType]) -> Any:
    """*target* with the function in place of each whose id is among *functions*."""

    def bound(old: Bound) -> Bound:
        return replace(old, fn=functions.get(id(old.fn), old.fn))

    if isinstance(target, HttpHandler):
        return replace(target, bound=bound(target.bound))
    hooks = {name: replace(hook, bound=bound(hook.bound)) for name, hook in target.hooks.items()}
    swap = functions.get(id(target.swap), target.swap)
    return replace(target, message=bound(target.message), hooks=hooks, swap=swap)


@dataclass(eq=False, slots=True)
class Version:
    """One version of an endpoint, and what has happened on it. Only the counters and the definition change."""

    number: int  #: 1 for the first definition
    definition: Definition  #: as its code was run last
    restored_from: int | None = None  #: the version whose code a rollback published again as this one
    time: float = field(default_factory=time.time)  #: seconds since 1970, when it was published
    messages: int = 0  #: taken up so far; requests, for a page
    errors: int = 0
    running: int = 0  #: calls that have begun and not ended
    worked: int = 0  #: calls that have ended without an error
    _failures: tuple[int, int] = (0, 0)  # how many came one after the other, and what `worked` was then
    _written: tuple[Written, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.take(self.definition)

    def take(self, definition: Definition) -> None:
        """Have it run the functions of *definition* from now on, which is the same code."""
        self.definition = definition
        self._written = tuple(Written.of(fn) for fn in functions_of(self.definition.target))

    @property
    def target(self) -> Any:
        """What the definition registered, with the code that it had then: `%autoreload` changes functions in place."""
        if all(each.is_unchanged for each in self._written):
            return self.definition.target
        return _with_functions(self.definition.target, {id(each.fn): each.restored() for each in self._written})

    @property
    def source(self) -> str:
        """The handler as it was written; "" where that cannot be found."""
        return self.definition.source

    @property
    def cell(self) -> str | None:
        """The id of the cell that defined it; None where no cell did, or it has no id."""
        owner = self.definition.owner
        return owner.name if owner is not None and owner.kind == "cell" else None

    @property
    def failing(self) -> int:
        """The calls in a row that raised, up to the last one."""
        failures, worked = self._failures
        return failures if worked == self.worked else 0

    def has_failed(self, *, is_clients: bool) -> None:
        """Count a call that raised; *is_clients* where that was no fault of the code."""
        self.errors += 1
        if not is_clients:
            self._failures = (self.failing + 1, self.worked)

    @property
    def code_of(self) -> int:
        """The number of the version that this code was written as."""
        return self.restored_from or self.number

    def __repr__(self) -> str:
        restored = f", code of v{self.restored_from}" if self.restored_from else ""
        return f"<v{self.number}{restored}: {self.messages} messages, {self.errors} errors>"


@dataclass(frozen=True, slots=True)
class Entry:
    """A definition in the table. A *retired* one is remembered, so that its numbers go on when it comes back."""

    definition: Definition
    history: tuple[Version, ...]  #: oldest first; the last one is live
    retired: bool = False

    @property
    def current(self) -> Version:
        return self.history[-1]

    @property
    def version(self) -> int:
        return self.history[-1].number

    def way_back(self, limit: int) -> Version | None:
        """The last version of other code that worked, where the live one is new and failed *limit* times in a row."""
        if self.current.failing < limit or self.current.worked >= limit:
            return None
        worked = (v for v in reversed(self.history) if v.code_of != self.current.code_of and v.worked > 0)
        return next(worked, None)


class HandlerTable:
    """Key -> Entry. Never changes; each method that would change it gives another table.

    By its *stamp* a reader knows a table again without keeping it.
    """

    __slots__ = ("__weakref__", "_entries", "stamp")

    def __init__(self, entries: Mapping[Key, Entry] | None = None) -> None:
        self._entries: dict[Key, Entry] = dict(entries or {})
        self.stamp = object()

    def get(self, key: Key) -> Entry | None:
        """The entry of *key*, retired or not."""
        return self._entries.get(key)

    def get_live(self, key: Key) -> Entry | None:
        """The entry of *key*, unless it is retired."""
        entry = self._entries.get(key)
        return None if entry is None or entry.retired else entry

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
            if before is not None and before.definition.fingerprint == definition.fingerprint:
                entries[definition.key] = Entry(definition, before.history)
            else:
                entries[definition.key] = _followed_by(before, definition)
        return HandlerTable(entries)

    def roll_back(self, key: Key, number: int) -> HandlerTable:
        """The table in which version *number* of *key* is published again, as a new version.

        Raises LookupError where that version is not kept, or there is no such key.
        """
        entry = self._entries.get(key)
        found = next((v for v in entry.history if v.number == number), None) if entry is not None else None
        if entry is None or found is None:
            kept = ", ".join(f"v{v.number}" for v in entry.history) if entry is not None else "nothing"
            raise LookupError(f"{key} has no version {number!r} to go back to; kept are {kept}")
        target = found.target
        if isinstance(target, WsHandler):
            hooks = {name: replace(hook, passed_over=hook.now()) for name, hook in target.hooks.items()}
            target = replace(target, hooks=hooks)
        definition = replace(found.definition, target=target, owner=entry.definition.owner)
        return HandlerTable({**self._entries, key: _followed_by(entry, definition, restored_from=found.code_of)})


def _followed_by(before: Entry | None, definition: Definition, restored_from: int | None = None) -> Entry:
    """The entry after *before* in which *definition* is the live version. Old versions on which nothing runs go."""
    past = before.history if before is not None else ()
    version = Version(past[-1].number + 1 if past else 1, definition, restored_from)
    surplus = len(past) + 1 - VERSIONS_KEPT
    if surplus > 0:
        past = tuple(old for place, old in enumerate(past) if place >= surplus or old.running)
    return Entry(definition, (*past, version))


class Change(NamedTuple):
    """What one publication did to one key. None stands for nothing live."""

    key: Key
    before: Entry | None
    after: Entry | None

    @property
    def is_new_version(self) -> bool:
        """Whether other code is live now than was, or than was when it retired."""
        return self.after is not None and (self.before is None or self.before.current is not self.after.current)

    @property
    def migrates(self) -> bool:
        """Whether open connections may have a swap hook to run."""
        return self.is_new_version and getattr(self.after and self.after.definition.target, "swap", None) is not None

    @property
    def concerns_connections(self) -> bool:
        """Whether open connections are to be told: their endpoint has gone, is back, or may have a hook to run."""
        return self.key.method == WEBSOCKET and (self.before is None or self.after is None or self.migrates)


def changes(old: HandlerTable, new: HandlerTable) -> list[Change]:
    """The keys whose live entry is another one in *new*."""
    before, after = dict(old.live()), dict(new.live())
    return [
        Change(key, before.get(key), after.get(key))
        for key in {**before, **after}
        if before.get(key) is not after.get(key)
    ]
