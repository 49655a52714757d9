"""The sessions of browsers: one live mapping for each, which its pages and its websockets share."""

from __future__ import annotations

import contextlib
import copy
import secrets
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

__all__ = ["PROCESS", "Session", "Sessions", "reading"]

PROCESS = secrets.token_hex(4)
"""What the ids of sessions begin with that this process has begun."""

reading: ContextVar[Callable[[], None] | None] = ContextVar("nbws_reading_session", default=None)
"""Told when the code of a request asks for its session; None where nobody wants to know."""


class Session(dict[str, Any]):
    """What the pages and websockets of one browser remember: the same object in all of them, while it lives.

    A dict, usable from any thread: what different writers set under different keys is all kept. What a value holds
    may be changed in place. `clear()` logs out everywhere.
    """

    __slots__ = ("__weakref__", "id", "is_to_be_renewed", "shared", "used")

    def __init__(self, id: str | None = None) -> None:
        super().__init__()
        self.id = id  #: what its cookie holds, signed; None until something is to be remembered
        self.used = time.time()  #: seconds since 1970
        self.is_to_be_renewed = False
        self.shared: contextlib.AbstractAsyncContextManager[Any] | None = None  #: keeps it in step with other workers

    def renew(self) -> None:
        """Have the browser's next HTTP response bring it another id, after which the old one is nobody's.

        For the handler of a login: an id that somebody else knows, or has slipped in, is worth nothing then. What it
        holds stays, and so do open websockets.
        """
        self.is_to_be_renewed = True

    def mark_accessed(self) -> None:
        """Called by Starlette for each `request.session`."""
        told = reading.get()
        if told is not None:
            told()

    def __deepcopy__(self, memo: dict[int, Any]) -> Session:
        """The same for nobody: no browser reads or writes it. Values that cannot be copied are the same objects."""
        found = Session()
        for key, value in list(self.items()):
            try:
                found[key] = copy.deepcopy(value, memo)
            except Exception:  # a lock, a file, a connection
                found[key] = value
        return found


class Sessions:
    """The sessions of an app, in memory. Callable from any thread.

    One that holds nothing takes no room. Of those that hold something *limit* are kept, and those besides that an
    open websocket or a running request uses; the least recently used goes first. One that was not used for *max_age*
    seconds is empty again; None is for ever. *clock* gives seconds since 1970.
    """

    def __init__(
        self, limit: Callable[[], int], max_age: Callable[[], float | None], clock: Callable[[], float] | None = None
    ) -> None:
        self._limit, self._max_age, self._clock = limit, max_age, clock or (lambda: time.time())
        self._lock = threading.Lock()
        self._alive: weakref.WeakValueDictionary[str, Session] = weakref.WeakValueDictionary()
        self._kept: OrderedDict[str, Session] = OrderedDict()  # the least recently used first

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._kept)

    def find(self, id: str) -> Session:
        """The session of *id*, used now; an empty one of that id where nothing is remembered."""
        with self._lock:
            session = self._alive.get(id)
            if session is None:
                session = self._alive[id] = self._new(id)
        self.use(session)
        return session

    def begin(self) -> Session:
        """A session with an id of its own."""
        session = self._new(None)
        self.give_id(session)
        return session

    def give_id(self, session: Session) -> None:
        """Give *session* a new id; one that it had is nobody's from now on."""
        with self._lock:
            if session.id is not None and self._alive.get(session.id) is session:
                del self._alive[session.id]
                self._kept.pop(session.id, None)
            session.id = PROCESS + secrets.token_urlsafe(24)
            session.is_to_be_renewed = False
            self._alive[session.id] = session

    def use(self, session: Session) -> None:
        """Note that *session* is used now, after having emptied it where that comes too late."""
        with self._lock:
            if session.id is None or self._alive.get(session.id) is not session or session.shared is not None:
                return  # nobody's, or kept in a store that knows better who used it when
            if self._is_over(session):
                session.clear()
            session.used = self._clock()
            if session:
                self._kept[session.id] = session
                self._kept.move_to_end(session.id)
            else:
                self._kept.pop(session.id, None)
            while self._kept and (len(self._kept) > self._limit() or self._is_over(next(iter(self._kept.values())))):
                self._kept.popitem(last=False)

    def forget_all(self) -> None:
        """Empty all of them; no id leads to one any more."""
        with self._lock:
            forgotten = list(self._alive.values())
            self._alive.clear()
            self._kept.clear()
        for session in forgotten:
            session.clear()

    def _new(self, id: str | None) -> Session:
        session = Session(id)
        session.used = self._clock()
        return session

    def _is_over(self, session: Session) -> bool:
        max_age = self._max_age()
        return max_age is not None and self._clock() - session.used > max_age
