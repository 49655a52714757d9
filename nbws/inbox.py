"""What came from one client and waits for a handler."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from nbws.latch import Latch

__all__ = ["Inbox", "Item"]

Item = str | bytes | Latch
"""A frame, or what tells that all before it has been taken."""


class Inbox:
    """Frames in order, for one who takes them. It is full from *limit* frames on, or *size* characters and bytes, and
    keeps what is put all the same.

    On its loop only. `on_room` is called where it was full and is not any more.
    """

    __slots__ = ("_items", "_left", "_limit", "_loop", "_room", "_taker", "on_room")

    def __init__(self, limit: int, size: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: deque[Item] = deque()
        self._limit, self._left = limit, size
        self._taker: asyncio.Future[None] | None = None
        self._room: Latch | None = None  # made where somebody waits for that
        self.on_room: Callable[[], None] | None = None

    def __len__(self) -> int:
        return len(self._items)

    @property
    def is_full(self) -> bool:
        return len(self._items) >= self._limit or self._left <= 0

    def put(self, item: Item) -> None:
        self._items.append(item)
        if type(item) is not Latch:
            self._left -= len(item)  # type: ignore[arg-type]
        if self._taker is not None:
            self.poke()

    async def room(self) -> None:
        """Wait until it is not full."""
        while self.is_full:
            self._room = self._room or Latch()
            self._room.clear()
            await self._room.wait()

    def take(self) -> Item | None:
        """The next one; None where none waits."""
        items = self._items
        if not items:
            return None
        was_full = len(items) >= self._limit or self._left <= 0
        item = items.popleft()
        if type(item) is not Latch:
            self._left += len(item)  # type: ignore[arg-type]
        if was_full and len(items) < self._limit and self._left > 0:
            self._has_room()
        return item

    def filled(self) -> asyncio.Future[None]:
        """What to await for something to take, or for a `poke`. One at a time."""
        self._taker = waiter = self._loop.create_future()
        if self._items:
            self.poke()
        return waiter

    def poke(self) -> None:
        """Wake who waits for something to take."""
        waiter, self._taker = self._taker, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _has_room(self) -> None:
        if self._room is not None:
            self._room.set()
        if self.on_room is not None:
            self.on_room()
