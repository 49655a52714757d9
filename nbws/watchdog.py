"""Who keeps the server's loop to himself? While that goes on, nobody else is served.

A thread asks the loop for a sign of life, twenty times a second. Where none comes, it looks at what the loop's thread
is doing: at that moment the handler that blocks stands in its stack.
"""

from __future__ import annotations

import asyncio
import linecache
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FrameType

__all__ = ["Blocked", "Watchdog"]

_PAUSE = 0.05  #: seconds between a sign of life and the next question
_PATIENCE = 0.1  #: seconds without a sign, after which somebody is to blame
_AT_MOST = 2.0  #: seconds after which he is named even though he has not ended


@dataclass(frozen=True)
class Blocked:
    """A function that has kept the loop for *seconds*, or for longer still, at the line where it was found."""

    code: CodeType
    line: int  #: in its file
    source: str  #: of that line; "" where it is not known
    seconds: float
    has_ended: bool


class Watchdog:
    """Watches the loop that it is made on, in a thread. *is_authors* says whose code it may name.

    *tell* is called in that thread.
    """

    def __init__(self, is_authors: Callable[[CodeType], bool], tell: Callable[[Blocked], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._is_authors, self._tell = is_authors, tell
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, name="nbws watchdog", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(_PAUSE):
            alive, began = threading.Event(), time.monotonic()
            try:
                self._loop.call_soon_threadsafe(alive.set)
            except RuntimeError:  # the loop has been closed
                return
            if alive.wait(_PATIENCE):
                continue
            found = self._who()
            has_ended = alive.wait(_AT_MOST - _PATIENCE)
            if found is not None:
                code, line, source = found
                self._tell(Blocked(code, line, source, time.monotonic() - began, has_ended))
            while not alive.wait(1.0) and not self._stopped.is_set():  # named once
                pass

    def _who(self) -> tuple[CodeType, int, str] | None:
        """The author's outermost function in the loop's stack, and the line that it is at."""
        frame: FrameType | None = sys._current_frames().get(self._watched)
        found = None
        while frame is not None:
            if self._is_authors(frame.f_code):
                found = frame
            frame = frame.f_back
        if found is None:  # the loop waits by now, or the server's own code is slow
            return None
        source = linecache.getline(found.f_code.co_filename, found.f_lineno).strip()
        return found.f_code, found.f_lineno, source
