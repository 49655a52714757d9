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

__all__ = ["PARAMETER", "Asked", "SentLog", "acknowledged", "greeting", "new_key"]

PARAMETER = "nbws-resume"
"""The query parameter: empty on the first connection, then `<key>.<how many frames it has received>`."""

_MARK = "\0nbws"


class Asked(NamedTuple):
    """What a client says that is able to resume. *key* is None on its first connection."""

    key: str | None
    received: int

    @classmethod
    def of(cls, query: Mapping[str, list[str]]) -> Asked | None:
        """What *query* asks for; None where the client is not able to. Nonsense is a key that nobody has."""
        values = query.get(PARAMETER)
        if not values:
            return None
        key, _, received = values[-1].partition(".")
        return cls(key or None, int(received) if received.isascii() and received.isdecimal() else 0)


def new_key() -> str:
    """What a client shows to be let back; nobody guesses it."""
    return secrets.token_urlsafe(18)


def greeting(key: str, *, got: int = 0, resync: bool = False) -> str:
    """The first frame for a client that is able to resume.

    *got* is how many of its frames have arrived, all in all; *resync* says that what it missed cannot be told.
    """
    return _MARK + json.dumps({"key": key, "got": got, "resync": resync})


def acknowledged(frame: Any) -> int | None:
    """How many frames the client says to have received; None where *frame* is a message."""
    if not isinstance(frame, str) or not frame.startswith(_MARK):
        return None
    number = frame[len(_MARK) :]
    return int(number) if number.isascii() and number.isdecimal() else 0


class SentLog:
    """The last frames that were handed to the socket, for as long as the client may not have got them.

    Bounded by *frames*, *size* in bytes and *seconds*. `count` is how many there were in all.
    """

    def __init__(self, *, frames: int, size: int, seconds: float) -> None:
        self.frames, self._size, self._seconds = frames, size, seconds
        self._log: deque[tuple[str | bytes, int, float]] = deque()
        self._bytes = 0
        self.count = 0

    def append(self, data: str | bytes, size: int, now: float) -> None:
        """*data*, of *size* bytes, is sent at *now*, in seconds of whichever clock."""
        self.count += 1
        self._log.append((data, size, now))
        self._bytes += size
        while len(self._log) > self.frames or self._bytes > self._size:
            self._drop()
        self._expire(now)

    def acknowledge(self, received: int) -> None:
        """The client has *received* so many frames."""
        while self._log and self.count - len(self._log) < received:
            self._drop()

    def after(self, received: int, now: float) -> list[str | bytes] | None:
        """The frames that a client who has *received* so many has missed; None where they are not all kept."""
        self._expire(now)
        missed = self.count - received
        if not 0 <= missed <= len(self._log):
            return None
        return [data for data, _, _ in self._log][len(self._log) - missed :]

    def _expire(self, now: float) -> None:
        while self._log and now - self._log[0][2] > self._seconds:
            self._drop()

    def _drop(self) -> None:
        self._bytes -= self._log.popleft()[1]
