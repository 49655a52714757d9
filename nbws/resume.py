"""What a client that was cut off may have missed, and what it says when it comes back.

The page's own script asks for it by a query parameter; any other client never sees any of this. Frames are numbered by
being counted, on both sides, so a fragment is on the wire as it is without. What is no fragment starts with a NUL.
"""

from __future__ import annotations

import json
import secrets
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["ASKS_SENT", "PARAMETER", "SAYS_SENT", "Asked", "Report", "SentLog", "answer", "greeting", "new_key"]

PARAMETER = "nbws-resume"
"""The query parameter: empty on the first connection, then `<key>.<how many frames it has received>`."""

ASKS_SENT, SAYS_SENT = b"nbws-resync", b"nbws-sent"
"""Headers of a page that is fetched anew: the keys of its connections, and how many frames each was sent before the
page was made. What comes of these later is in the page already."""

_MARK = "\0nbws"
_DIGITS = 15
"""Of a count. More than anybody receives in a lifetime, and few enough to be read at once (int() of a million takes
seconds before Python 3.11, and raises since)."""


class Asked(NamedTuple):
    """What a client says that is able to resume. *key* is None on its first connection."""

    key: str | None
    received: int

    @classmethod
    def of(cls, query: Mapping[str, list[str]]) -> Asked | None:
        """What *query* asks for; None where the client is not able to. A count that is none is one nobody has."""
        values = query.get(PARAMETER)
        if not values:
            return None
        key, _, received = values[-1].partition(".")
        count = _count(received)
        return cls(key or None, -1 if count is None else count)


class Report(NamedTuple):
    """What a client says in between: how many frames it has *received*, and whether it *asks* for an answer."""

    received: int
    asks: bool

    @classmethod
    def of(cls, frame: Any) -> Report | None:
        """What *frame* reports; None where it is a message."""
        if not isinstance(frame, str) or not frame.startswith(_MARK):
            return None
        number = frame[len(_MARK) :]
        return cls(_count(number.removesuffix("?")) or 0, number.endswith("?"))


def new_key() -> str:
    """What a client shows to be let back; nobody guesses it."""
    return secrets.token_urlsafe(18)


def greeting(key: str, *, got: int = 0, resync: bool = False) -> str:
    """The first frame for a client that is able to resume.

    *got* is how many of its frames have arrived, all in all; *resync* says that what it missed cannot be told.
    """
    return _MARK + json.dumps({"key": key, "got": got, "resync": resync})


def answer(got: int) -> str:
    """What a client gets that asks whether anybody is there: *got* as in the greeting."""
    return _MARK + json.dumps({"got": got})


def _count(digits: str) -> int | None:
    is_number = digits.isascii() and digits.isdecimal() and len(digits) <= _DIGITS
    return int(digits) if is_number else None


class SentLog:
    """The last frames that were handed to the socket, for as long as the client may not have got them.

    Bounded by *frames*, *size* in bytes and *seconds*. `count` is how many there were in all. Not thread-safe.
    """

    def __init__(self, *, frames: int, size: int, seconds: float) -> None:
        self.frames, self.size, self._seconds = frames, size, seconds
        self._log: deque[tuple[str | bytes, int, float]] = deque()
        self._bytes = 0
        self.count = 0

    def __len__(self) -> int:
        return len(self._log)

    def append(self, data: str | bytes, size: int, now: float) -> None:
        """*data*, of *size* bytes, is sent at *now*, in seconds of whichever clock."""
        self.count += 1
        self._log.append((data, size, now))
        self._bytes += size
        while len(self._log) > self.frames or self._bytes > self.size:
            self._drop()
        self.expire(now)

    def acknowledge(self, received: int) -> None:
        """The client has *received* so many frames."""
        while self._log and self.count - len(self._log) < received:
            self._drop()

    def expire(self, now: float) -> None:
        """Forget what was sent too long before *now*."""
        while self._log and now - self._log[0][2] > self._seconds:
            self._drop()

    def has_all(self, received: int) -> bool:
        """Whether all that a client who has *received* so many has missed is kept."""
        return 0 <= self.count - received <= len(self._log)

    def after(self, received: int, now: float) -> list[str | bytes] | None:
        """The frames that a client who has *received* so many has missed; None where they are not all kept."""
        self.expire(now)
        if not self.has_all(received):
            return None
        return [data for data, _, _ in self._log][len(self._log) - (self.count - received) :]

    def is_filling_up(self, received: int) -> bool:
        """Whether a client that has *received* so many has missed more than a quarter of what can be kept."""
        missed = self.count - received
        return missed > self.frames // 4 or (missed > 0 and self._bytes > self.size // 4)

    def clear(self) -> None:
        """Keep nothing. Nobody comes back."""
        self._log.clear()
        self._bytes = 0

    def _drop(self) -> None:
        self._bytes -= self._log.popleft()[1]
