"""What tasks wait for until it is set."""

from __future__ import annotations

import asyncio

__all__ = ["Latch"]


class Latch:
    """An `asyncio.Event` in a tenth of its memory, of which each connection has several. On one loop only."""

    __slots__ = ("_is_set", "_waiting")

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: tuple[asyncio.Future[None], ...] = ()

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        """Let go on who waits, and who will wait."""
        self._is_set = True
        waiting, self._waiting = self._waiting, ()
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def clear(self) -> None:
        self._is_set = False

    async def wait(self) -> None:
        """Wait until it is set; who waits then goes on, though it may be cleared at once."""
        if self._is_set:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiting = (*self._waiting, waiter)
        try:
            await waiter
        finally:
            self._waiting = tuple(each for each in self._waiting if each is not waiter)
