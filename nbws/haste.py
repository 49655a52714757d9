"""How soon code that computes in another thread gives way to a server that has a message to handle.

Python has a thread run on for 5 ms when another one waits (`sys.setswitchinterval`), and a server waits for each
message: beside a cell that computes, an answer takes 5 ms and more. With a short interval it takes less than one; but
then the cell gives way to whatever thread waits, and many messages leave it little time.

What a cell has published is waited for too, however many messages come: the kernel goes on with the cell's end for some
milliseconds, and the first message should not have to.
"""

from __future__ import annotations

import asyncio
import sys
import threading

__all__ = ["Haste"]

SHORT_SECONDS = 0.0002  #: the interval while there is traffic
HOLD_SECONDS = 0.25  #: after the last message, until the interval is what it was
MOST_MESSAGES = 100  #: in that time; more are many enough for each of their turns to handle several
HURRY_SECONDS = 0.05  #: after something was published


class Haste:
    """Shortens the interpreter's switch interval while messages come to one loop. On its thread, but for `hurry`.

    What the interval was is put back; where somebody else has changed it meanwhile, theirs stays.
    """

    _lock = threading.Lock()
    _in_haste = 0  # of all loops of the process
    _before = 0.0  # the interval, when there was no haste

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._messages = 0  # since the last look
        self._is_in_haste = self._hurries = False
        self._timer: asyncio.TimerHandle | None = None

    def note(self) -> None:
        """A message has come."""
        self._messages += 1
        if self._timer is None:
            self._begin()

    def hurry(self) -> None:
        """Something was published, and who sends a message next waits for it. Callable from any thread."""
        with Haste._lock:
            if self._hurries:
                return
            self._hurries = True
        self._count(1)
        try:
            self._loop.call_soon_threadsafe(self._loop.call_later, HURRY_SECONDS, self._calm_down)
        except RuntimeError:  # the loop has ended
            self._calm_down()

    def end(self) -> None:
        """The loop ends."""
        self._calm_down()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._set(False)

    def _begin(self) -> None:
        self._set(True)
        self._timer = self._loop.call_later(HOLD_SECONDS, self._look)

    def _look(self) -> None:
        messages, self._messages = self._messages, 0
        self._set(0 < messages <= MOST_MESSAGES)
        self._timer = self._loop.call_later(HOLD_SECONDS, self._look) if messages else None

    def _set(self, is_in_haste: bool) -> None:
        if is_in_haste == self._is_in_haste:
            return
        self._is_in_haste = is_in_haste
        self._count(1 if is_in_haste else -1)

    def _calm_down(self) -> None:
        if self._hurries:
            self._hurries = False
            self._count(-1)

    def _count(self, more: int) -> None:
        with Haste._lock:
            Haste._in_haste += more
            if more > 0 and Haste._in_haste == 1:
                Haste._before = sys.getswitchinterval()
                sys.setswitchinterval(min(Haste._before, SHORT_SECONDS))
            elif Haste._in_haste == 0 and _is_about(sys.getswitchinterval(), min(Haste._before, SHORT_SECONDS)):
                sys.setswitchinterval(Haste._before)


def _is_about(one: float, other: float) -> bool:
    return abs(one - other) < 2e-6  # Python keeps whole microseconds, rounded down
