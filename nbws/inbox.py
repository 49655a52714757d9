"""What came from one client and waits for a handler."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from nbws.latch import Latch

__all__ = ["Inbox", "Item", "Rest"]

Rest = Callable[[], Awaitable[object]]
Item = str | bytes | Latch | Rest
"""A frame; what is set when all before it has been taken; or what is to be called and awaited before all after it."""


class Inbox:
    """Frames in order, for one who takes them. From *most* or *most_bytes* on it is full, and takes more even so.

    On its loop only. `on_room` is called where it was full and is not any more.
    """

    __slots__ = (
        "_bytes",
        "_items",
        "_loop",
        "_most",
        "_most_bytes",
        "_room",
        "_taker",
        "is_awaited",
        "is_full",
        "on_room",
    )

    def __init__(self, most: int, most_bytes: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: list[Item] = []  # few, of which a deque takes ten times the memory
        self._most, self._most_bytes = most, most_bytes
        self._bytes = 0
        self.is_full = False
        self.is_awaited = False  #: whether somebody waits for the next one, and was not woken yet
        self._taker: asyncio.Future[None] | None = None  # then
        self._room: Latch | None = None  # made where somebody waits for that
        self.on_room: Callable[[], None] | None = None

    def __len__(self) -> int:
        return len(self._items)

    def put(self, frame: str | bytes) -> None:
        self._items.append(frame)
        self._bytes += len(frame)
        if len(self._items) >= self._most or self._bytes >= self._most_bytes:
            self.is_full = True
        if self.is_awaited:
            self.poke()

    def mark(self, reached: Latch) -> None:
        """Have *reached* taken after what waits now."""
        self._items.append(reached)
        self.poke()

    def put_rest(self, rest: Rest) -> None:
        """Have *rest* called and awaited, after what waits now."""
        self._items.append(rest)
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
        item = items.pop(0)
        if isinstance(item, (str, bytes)):
            self._bytes -= len(item)
            if self.is_full and len(items) < self._most and self._bytes < self._most_bytes:
                self.is_full = False
                self._has_room()
        return item

    def filled(self) -> asyncio.Future[None]:
        """What to await for something to take, or for a `poke`. One at a time."""
        self._taker = waiter = self._loop.create_future()
        self.is_awaited = True
        if self._items:
            self.poke()
        return waiter

    def poke(self) -> None:
        """Wake who waits for something to take."""
        waiter, self._taker, self.is_awaited = self._taker, None, False
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _has_room(self) -> None:
        if self._room is not None:
            self._room.set()
        if self.on_room is not None:
            self.on_room()
