"""What waits to be sent to one client: bounded, whatever that client does.

A client that reads more slowly than it is sent to fills its outbox. Past the bound, the policy says what gives way:
the connection (`close`), what waits longest (`drop_oldest`), or what newer fragments replace anyway (`conflate`).
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from html.parser import HTMLParser
from typing import Literal

__all__ = ["Outbox", "Overflow", "targets"]

Overflow = Literal["close", "drop_oldest", "conflate"]


class Outbox:
    """Frames in order, of *limit* bytes at the most together; one frame alone may be larger.

    `waiting_bytes` counts what was taken and is not `done` as well. Not thread-safe.
    """

    def __init__(self, limit: int, overflow: Overflow = "close") -> None:
        self.limit, self._overflow = limit, overflow
        self._frames: deque[tuple[str | bytes, int]] = deque()
        self.waiting_bytes = 0
        self.dropped = 0  #: frames that gave way so far

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, data: str | bytes, size: int) -> bool:
        """Queue *data*, of *size* bytes. False where there is no room and the connection is to be closed."""
        if self._frames and self.waiting_bytes + size > self.limit and not self._make_room(size):
            return False
        self._frames.append((data, size))
        self.waiting_bytes += size
        return True

    def take(self) -> tuple[str | bytes, int] | None:
        """(the next frame, its size); None where nothing waits. `done` is to follow."""
        return self._frames.popleft() if self._frames else None

    def done(self, size: int) -> None:
        """A frame of *size* that was taken is on its way."""
        self.waiting_bytes = max(0, self.waiting_bytes - size)

    def clear(self) -> None:
        self._frames.clear()
        self.waiting_bytes = 0

    def _make_room(self, size: int) -> bool:
        if self._overflow == "close":
            return False
        if self._overflow == "conflate":
            self._conflate()
        while self._frames and self.waiting_bytes + size > self.limit:
            self.waiting_bytes -= self._frames.popleft()[1]
            self.dropped += 1
        return True

    def _conflate(self) -> None:
        """Drop each frame whose targets newer frames replace."""
        kept: deque[tuple[str | bytes, int]] = deque()
        replaced: set[str] = set()
        for data, size in reversed(self._frames):
            found = targets(data) if isinstance(data, str) else None
            if found is not None and found <= replaced:
                self.waiting_bytes -= size
                self.dropped += 1
                continue
            kept.appendleft((data, size))
            replaced |= found or set()
        self._frames = kept


@lru_cache(maxsize=4096)
def targets(html: str) -> frozenset[str] | None:
    """The ids of the elements that *html* replaces; None where it adds to something, or replaces nothing by id."""
    reader = _TopLevel()
    reader.feed(html)
    reader.close()
    return frozenset(reader.ids) if reader.ids and reader.only_replaces else None


class _TopLevel(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.only_replaces = True
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if not self._open:
            self._note(dict(attrs))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if not self._open:
            self._note(dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def _note(self, attributes: dict[str, str | None]) -> None:
        swap, id = attributes.get("hx-swap-oob") or "true", attributes.get("id")
        if id is None or swap not in ("true", "outerHTML", "innerHTML"):
            self.only_replaces = False
        else:
            self.ids.add(id)


_VOID = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr")
)
