"""Errors and warnings on their way to the author: kept, counted, and shown not too often."""

from __future__ import annotations

import logging
import secrets
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any

from nbws.dispatch import HandlerError
from nbws.handlers import HandlerTable, HttpHandler, Key, WsHandler
from nbws.speaking import Said, Speaker

__all__ = ["Listed", "Reporter"]

TRACEBACKS_SHOWN = 20  #: of one version of one handler; the next ones are kept, and not shown
_KEPT = 200
_WITH_VALUES = 20  #: of those that are kept, the newest ones, hold the local variables of their handlers
_LISTED = 3
_WARNINGS_KEPT = 1000
_NOTICES_KEPT = 3
_SAID_KEPT = 500
_SAID_SHOWN = 30  #: of them, in the previews
_SAID_CHARACTERS = 2000  #: of one text; more of it is not kept


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened by itself and that the author is to know."""

    text: str
    id: str = field(default_factory=lambda: secrets.token_hex(4))


@dataclass(frozen=True, slots=True)
class Listed:
    """An error as a preview lists it, and how many times it came."""

    error: HandlerError
    times: int = 1

    def is_again(self, error: HandlerError) -> bool:
        """Whether *error* says nothing new: a task has failed at the same place again."""
        return not error.key.is_route and _place(error) == _place(self.error)


def _place(error: HandlerError) -> tuple[Any, ...]:
    trace = traceback.walk_tb(error.exception.__traceback__)
    lines = [(frame.f_code, line) for frame, line in trace]
    return error.key, error.version, type(error.exception), lines


def _let_go(exception: BaseException | None) -> None:
    """Have *exception*, and what it was raised from, hold no local variables any more; the lines stay known."""
    seen: set[int] = set()
    while exception is not None and id(exception) not in seen:
        seen.add(id(exception))
        traceback.clear_frames(exception.__traceback__)
        exception = exception.__cause__ or exception.__context__


class Reporter:
    """Hands *write* (key, text, level of logging) what the author is to see. Callable from any thread.

    A task that fails does so again with each call, many times a second: what says nothing new is counted, not shown.
    """

    def __init__(self, write: Callable[[Key, str, int], None]) -> None:
        self.errors: deque[HandlerError] = deque(maxlen=_KEPT)
        self.said: deque[Said] = deque(maxlen=_SAID_KEPT)
        self.notices: deque[Notice] = deque(maxlen=_NOTICES_KEPT)
        self.listed: tuple[Listed, ...] = ()  #: the last three, the newest last
        self.count = 0  #: of all that were new so far
        self._lock = threading.Lock()
        self._write = write
        self._shown: Counter[tuple[Key, int | None]] = Counter()
        self._warned: set[tuple[Key, Hashable]] = set()

    def report(self, error: HandlerError) -> None:
        self.errors.append(error)
        if len(self.errors) > _WITH_VALUES:
            _let_go(self.errors[-1 - _WITH_VALUES].exception)
        with self._lock:
            known = next((each for each in self.listed if each.is_again(error)), None)
            if known is not None:
                again = replace(known, times=known.times + 1)
                self.listed = tuple(again if each is known else each for each in self.listed)
                return
            self.listed = (*self.listed, Listed(error))[-_LISTED:]
        self.count += 1
        version = (error.key, error.version)
        self._shown[version] += 1
        if self._shown[version] > TRACEBACKS_SHOWN:
            return
        text = f"{error.title}\n  message: {error.message}\n{error.traceback}"
        if self._shown[version] == TRACEBACKS_SHOWN:
            text += "(more of them are in app.errors, and not shown)\n"
        self._write(error.key, text, logging.ERROR)

    def hear(self, whose: Speaker, stream: str, text: str) -> None:
        """Keep what a handler printed. A print() writes its text and its end apart; they are one."""
        last = self.said[-1] if self.said else None
        if last is not None and last.speaker == whose and last.stream == stream and not last.text.endswith("\n"):
            self.said.pop()
            text = last.text + text
        if len(text) > _SAID_CHARACTERS:
            text = text[:_SAID_CHARACTERS] + "…\n"
        self.said.append(Said(whose, stream, text))

    def notify(self, key: Key, text: str) -> None:
        """Tell the author *text*, once."""
        self.notices.append(Notice(text))
        self._write(key, f"nbws: {text}\n", logging.WARNING)

    def notify_once(self, key: Key, about: Hashable, text: str) -> None:
        """The same, where nothing has been said *about* this yet."""
        with self._lock:
            if (key, about) in self._warned or len(self._warned) >= _WARNINGS_KEPT:
                return
            self._warned.add((key, about))
        self.notify(key, text)

    def warn(self, key: Key, problem: str) -> None:
        """The same problem of the same endpoint is shown once."""
        if (key, problem) not in self._warned and len(self._warned) < _WARNINGS_KEPT:
            self._warned.add((key, problem))
            self._write(key, f"nbws warning: {key.path}: {problem}\n", logging.WARNING)

    def state(self, table: HandlerTable) -> dict[str, Any]:
        """What previews show of it, beside the versions of *table*: what JSON holds.

        An error is listed until a later version of what failed has worked.
        """
        listed = [each for each in self.listed if not _is_mended(each.error, table)]
        return {
            "endpoints": [
                {"method": key.method, "path": key.path, "version": entry.version}
                for key, entry in table.live()
                if isinstance(entry.definition.target, WsHandler | HttpHandler)
            ],
            "errors": [
                {"id": e.incident, "title": e.title, "message": e.message, "text": e.traceback, "times": each.times}
                for each in listed
                for e in [each.error]
            ],
            "error_count": self.count if len(listed) == len(self.listed) else len(listed),
            "said": [
                {"id": each.number, "who": str(each.speaker), "path": each.speaker.key.path, "text": each.text}
                for each in list(self.said)[-_SAID_SHOWN:]
            ],
            "notices": [{"id": notice.id, "text": notice.text} for notice in self.notices],
        }


def _is_mended(error: HandlerError, table: HandlerTable) -> bool:
    entry = table.get_live(error.key)
    return entry is not None and entry.version > (error.version or 0) and entry.current.worked > 0
