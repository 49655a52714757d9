"""Sessions that several workers share: each is fetched from their store before it is used, and saved after."""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Protocol

import anyio.to_thread

from nbws.errors import NbwsError
from nbws.sessions import Session

__all__ = ["METHODS", "SessionStore", "Shared"]

METHODS = ("get", "set", "delete", "touch")


class SessionStore(Protocol):
    """Where several workers keep their sessions: `App(session_store=..., secret_key=...)`.

    A session is a number of JSON texts, each under its key, so that workers which write different keys at once lose
    nothing of each other's; a hash of Redis is one, or a row for each. *max_age* is in seconds, from now on; None
    keeps it for ever. Each method is an `async def`, or a `def` that is called in a worker thread.
    """

    def get(self, id: str) -> Mapping[str, bytes] | Awaitable[Mapping[str, bytes] | None] | None:
        """All that *id* has; None, or nothing, where there is none."""

    def set(
        self, id: str, values: Mapping[str, bytes], gone: Collection[str], max_age: int | None
    ) -> Awaitable[None] | None:
        """Put *values* into what *id* has, and take the keys in *gone* out of it, in one step."""

    def delete(self, id: str) -> Awaitable[None] | None:
        """Forget *id*, which need not be there."""

    def touch(self, id: str, max_age: int | None) -> Awaitable[None] | None:
        """Begin to count *max_age* anew for *id*, which need not be there."""


class Shared:
    """*session*, held in step with *store*: `async with shared:` around what reads and writes it.

    Changed on both sides, a key that was changed here is saved, and every other is as the store has it.
    """

    def __init__(self, session: Session, store: SessionStore, max_age: Callable[[], int | None]) -> None:
        self.store = store
        self._session, self._max_age = session, max_age
        self._stored: dict[str, bytes] = {}  # what the store has, as far as it is known here
        self._touched = 0.0

    async def __aenter__(self) -> None:
        await self.fetch()

    async def __aexit__(self, *_: object) -> None:
        await self.save()

    async def fetch(self) -> None:
        """Take up what others have written."""
        stored = dict(await _ask(self.store.get, self._session.id) or {})
        session, before, here = self._session, self._stored, _texts(self._session)
        for key in stored.keys() | before.keys():
            if here.get(key) == before.get(key) and stored.get(key) != before.get(key):
                if key in stored:
                    session[key] = json.loads(stored[key])
                else:
                    session.pop(key, None)
        self._stored = stored

    async def save(self) -> None:
        """Hand on what was written here. Raises NbwsError for a value that is not JSON."""
        id, max_age, here, before = self._session.id, self._max_age(), _texts(self._session), self._stored
        changed = {key: text for key, text in here.items() if before.get(key) != text}
        gone = before.keys() - here.keys()
        if not here and before:
            await _ask(self.store.delete, id)
        elif changed or gone:
            await _ask(self.store.set, id, changed, gone, max_age)
        elif here and max_age is not None and time.time() - self._touched > max_age / 10:
            await _ask(self.store.touch, id, max_age)
        else:
            return
        # A fetch may have been in between, so what was saved is noted beside what that has found.
        self._stored = {key: text for key, text in {**self._stored, **changed}.items() if key not in gone}
        self._touched = time.time()

    async def move_from(self, old: str) -> None:
        """The session has another id now than *old*: save all of it there, and forget what *old* has."""
        self._stored = {}
        await self.save()
        await _ask(self.store.delete, old)


def _texts(session: Session) -> dict[str, bytes]:
    texts = {}
    for key, value in list(session.items()):
        if not isinstance(key, str):
            raise NbwsError(f"session[{key!r}]: a store that workers share has texts for keys; write session['{key}']")
        try:
            texts[key] = json.dumps(value).encode()
        except (TypeError, ValueError, RecursionError) as exc:
            raise NbwsError(
                f"session[{key!r}] holds a {type(value).__name__} that is no JSON ({exc}); a store that workers share "
                "keeps texts, numbers, lists and dicts alone"
            ) from None
    return texts


async def _ask(method: Callable[..., Any], *args: Any) -> Any:
    if inspect.iscoroutinefunction(method):
        return await method(*args)
    result = await anyio.to_thread.run_sync(lambda: method(*args))
    return await result if inspect.isawaitable(result) else result
