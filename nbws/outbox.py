"""What waits to be sent to one client: bounded, whatever that client does.

A client that reads more slowly than it is sent to fills its outbox. Past the bound, the policy says what gives way:
the connection (`close`), what waits longest (`drop_oldest`), or what newer fragments replace anyway (`conflate`).
"""

from __future__ import annotations

import itertools
from collections import OrderedDict, deque
from collections.abc import Iterable
from functools import lru_cache
from html.parser import HTMLParser
from typing import Literal, NamedTuple

from nbws.html import swap_of

__all__ = ["FRAME_BYTES", "Frame", "Outbox", "Overflow", "Target", "targets"]

Overflow = Literal["close", "drop_oldest", "conflate"]
Frame = tuple[str | bytes, int]  # with what it counts for, in bytes

FRAME_BYTES = 32
"""What a frame counts for at the least: a million empty ones take memory too."""


_NONE: deque[Frame] = deque(maxlen=0)
"""In place of one that takes 760 bytes, for the many connections that nothing waits for."""


class Outbox:
    """Frames in order, of *limit* bytes at the most together; one frame alone may be larger.

    `waiting_bytes` counts what was taken and is not `done` as well. Not thread-safe.
    """

    __slots__ = ("_conflates", "_frames", "dropped", "limit", "overflow", "waiting_bytes")

    def __init__(self, limit: int, overflow: Overflow = "close") -> None:
        self.limit, self.overflow = limit, overflow
        self._frames: deque[Frame] | _Conflated = _NONE  # conflated from an overflow until nothing waits any more
        self._conflates = False
        self.waiting_bytes = 0
        self.dropped = 0  #: frames that gave way so far

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, data: str | bytes, size: int) -> bool:
        """Queue *data*, of *size* bytes. False where there is no room and the connection is to be closed."""
        size = max(size, FRAME_BYTES)
        if self._frames and (self._conflates or self.waiting_bytes + size > self.limit):
            self._make_room(data, size)
            if self._frames and self.waiting_bytes + size > self.limit:
                return False
        if self._frames is _NONE:
            self._frames = deque()
        self._frames.append((data, size))
        self.waiting_bytes += size
        return True

    def take(self) -> Frame | None:
        """(the next frame, what it counts for); None where nothing waits. `done` is to follow."""
        if not self._frames:
            return None
        frame = self._frames.popleft()
        if self._conflates and not self._frames:
            self._frames, self._conflates = _NONE, False
        return frame

    def done(self, size: int) -> None:
        """A frame that was taken and counts for *size* is on its way."""
        self.waiting_bytes = max(0, self.waiting_bytes - size)

    def clear(self) -> None:
        self._frames, self._conflates = _NONE, False
        self.waiting_bytes = 0

    def _make_room(self, data: str | bytes, size: int) -> None:
        if self.overflow == "conflate":
            if not isinstance(self._frames, _Conflated):
                waiting, self._frames, self._conflates = self._frames, _Conflated(), True
                for frame in waiting:
                    self._count_dropped(self._frames.make_way_for(frame[0]))
                    self._frames.append(frame)
            self._count_dropped(self._frames.make_way_for(data))
        elif self.overflow == "drop_oldest":
            while self._frames and self.waiting_bytes + size > self.limit:
                self._count_dropped([self._frames.popleft()])

    def _count_dropped(self, frames: Iterable[Frame]) -> None:
        for _, size in frames:
            self.waiting_bytes -= size
            self.dropped += 1


class Target(NamedTuple):
    """An element in the browser that a fragment replaces: the *whole* of it, or what is in it."""

    id: str
    whole: bool


class _Conflated:
    """Frames in order, like a deque of them, that know for which targets they are the newest.

    So what a new frame replaces is found at once, however many wait.
    """

    def __init__(self) -> None:
        self._frames: OrderedDict[int, Frame] = OrderedDict()
        self._numbers = itertools.count()
        self._newest: dict[Target, int] = {}
        self._needed: dict[int, set[Target]] = {}  # for these a frame is the newest

    def __len__(self) -> int:
        return len(self._frames)

    def append(self, frame: Frame) -> None:
        number, found = next(self._numbers), _targets_of(frame[0])
        self._frames[number] = frame
        if found is not None:
            self._needed[number] = set(found)
            self._newest.update(dict.fromkeys(found, number))

    def popleft(self) -> Frame:
        number, frame = self._frames.popitem(last=False)
        for target in self._needed.pop(number, ()):
            del self._newest[target]
        return frame

    def make_way_for(self, data: str | bytes) -> list[Frame]:
        """Drop, and give, each frame for which nothing is left where *data* follows."""
        dropped = []
        for target in _targets_of(data) or ():
            # What is in an element goes with the whole of it, and not the other way round.
            for replaced in (target, Target(target.id, False)) if target.whole else (target,):
                number = self._newest.pop(replaced, None)
                if number is None:
                    continue
                self._needed[number].discard(replaced)
                if not self._needed[number]:
                    del self._needed[number]
                    dropped.append(self._frames.pop(number))
        return dropped


def _targets_of(data: str | bytes) -> frozenset[Target] | None:
    return targets(data) if isinstance(data, str) else None


@lru_cache(maxsize=16)  # a broadcast asks for each of its receivers in turn; more would hold on to long frames
def targets(html: str) -> frozenset[Target] | None:
    """The elements that *html* replaces by their ids; None where it does anything else, or it is not certain.

    Then nothing makes up for it: `hx-swap-oob="beforeend:#list"` adds, a text outside any element may be JSON.
    """
    reader = _TopLevel()
    reader.feed(html)
    reader.close()
    return frozenset(reader.targets) if reader.targets and reader.only_replaces else None


class _TopLevel(HTMLParser):
    """Reads what htmx swaps: the top-level elements."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: set[Target] = set()
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

    def handle_data(self, data: str) -> None:
        if not self._open and data.strip():
            self.only_replaces = False

    def close(self) -> None:
        super().close()
        if self._open:  # what stands in what is not known
            self.only_replaces = False

    def _note(self, attributes: dict[str, str | None]) -> None:
        swap = swap_of(attributes) or "true"
        id = attributes.get("id")
        if id and swap in _REPLACES:
            self.targets.add(Target(id, _REPLACES[swap]))
        else:
            self.only_replaces = False


_REPLACES = {"true": True, "outerHTML": True, "innerHTML": False}
"""How htmx swaps -> whether the element itself is replaced."""

_VOID = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr")
)
