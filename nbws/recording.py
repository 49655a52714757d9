"""What was said on a connection lately and what its handlers sent for it, to be looked at and run again."""

from __future__ import annotations

import copy
import difflib
import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from nbws.html import Safe, ft, to_xml
from nbws.transcript import Line

__all__ = ["Recorded", "Replay", "Replayed", "Sending", "Watch", "copied", "watching"]

_SENT_CHARACTERS = 64 * 1024  #: kept of what one call sent
_COPY_SECONDS = 0.002  #: a state that takes longer to copy is not copied for each message

_numbers = itertools.count(1)


@dataclass(slots=True)
class Sending:
    """What a call sent in one go: *data* to its own connection, and to so many *others*."""

    data: str | bytes
    to_itself: bool = False
    others: int = 0

    @property
    def to(self) -> str:
        """In words, such as "itself and 2 others"."""
        others = f"{self.others} other{'s' if self.others > 1 else ''}" if self.others else ""
        return " and ".join(filter(None, ("itself" if self.to_itself else "", others)))


class Watch:
    """Takes note of what one call of a handler sends, in whichever thread. As a *shadow* it lets nothing out.

    *connection* is the id of the connection whose handler it is.
    """

    def __init__(self, connection: str, *, shadow: bool = False) -> None:
        self.connection, self.shadow = connection, shadow
        self.sent: list[Sending] = []
        self.is_cut = False  #: whether there was more than is kept
        self._left = _SENT_CHARACTERS
        self._lock = threading.Lock()

    def takes(self, receiver: str, data: str | bytes) -> bool:
        """Note that *data* is sent to *receiver*. Whether that is all that is to happen with it."""
        with self._lock:
            last = self.sent[-1] if self.sent else None
            if last is None or last.data is not data or (receiver == self.connection and last.to_itself):
                self._left -= len(data)
                if self._left < 0:
                    self.is_cut = True
                    return self.shadow
                last = Sending(data)
                self.sent.append(last)
            if receiver == self.connection:
                last.to_itself = True
            else:
                last.others += 1
        return self.shadow


watching: ContextVar[Watch | None] = ContextVar("nbws_watching", default=None)
"""What takes note of the sends of the running handler; None where nothing does."""


@dataclass(eq=False, slots=True)
class Recorded:
    """One message as its handler got it, fields to be redacted apart, and what the handler sent for it."""

    frame: str | bytes
    version: int
    watch: Watch
    state: Any = None  #: a copy of `ws.state` before it; None where that takes long to copy, or cannot be
    error: str | None = None
    time: float = field(default_factory=time.time)  #: seconds since 1970
    number: int = field(default_factory=lambda: next(_numbers))  #: orders the messages of all connections
    line: Line | None = None  #: of the app's log

    def failed(self, error: str) -> None:
        """Its handler raised an *error*, in words."""
        self.error = error
        if self.line is not None:
            self.line.error = self.error

    def ended(self) -> None:
        """Its handler has ended, in whichever way."""
        if self.line is not None:
            self.line.seconds = time.time() - self.time

    @property
    def sent(self) -> tuple[Sending, ...]:
        return tuple(self.watch.sent)

    def __repr__(self) -> str:
        return f"<{self.frame!r} on v{self.version}: sent {len(self.watch.sent)}>"


def copied(state: Any, seconds: float = _COPY_SECONDS) -> tuple[Any, bool]:
    """(a deep copy of *state*, whether the next one may be copied too). (None, False) where it cannot be copied."""
    began = time.perf_counter()
    try:
        found = copy.deepcopy(state)
    except Exception:
        return None, False
    return found, time.perf_counter() - began < seconds


@dataclass(frozen=True)
class Replayed:
    """One message that was run again: what was *sent* for it *before*, and what today's version sends."""

    message: str
    connection: str
    versions: tuple[int, int]  #: then and now
    before: tuple[Sending, ...]
    now: tuple[Sending, ...]
    errors: tuple[str | None, str | None] = (None, None)

    @property
    def is_same(self) -> bool:
        return _lines(self.before, self.errors[0]) == _lines(self.now, self.errors[1])

    @property
    def diff(self) -> str:
        """What is sent differently, as a unified diff of its HTML; "" where that is the same."""
        then, now = (f"v{version}" for version in self.versions)
        lines = difflib.unified_diff(
            _lines(self.before, self.errors[0]), _lines(self.now, self.errors[1]), then, now, lineterm="", n=99
        )
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"{self.message} on {self.connection}\n{self.diff or '  the same is sent'}"


class Replay(Sequence[Replayed]):
    """Messages that were run again on a shadow of their connection. In a notebook: old and new side by side."""

    def __init__(self, messages: Sequence[Replayed]) -> None:
        self._messages = tuple(messages)

    def __getitem__(self, index: Any) -> Any:
        return self._messages[index]

    def __len__(self) -> int:
        return len(self._messages)

    def __repr__(self) -> str:
        return "\n\n".join(map(repr, self)) or "no messages"

    def _repr_html_(self) -> str:
        return str(to_xml(ft("style", Safe(_STYLE)), ft("div", *map(_shown, self), cls="nbws-replay")))


def _lines(sent: Sequence[Sending], error: str | None) -> list[str]:
    """The HTML that was sent, a line for each tag, so that a diff of it says something."""
    lines: list[str] = []
    for sending in sent:
        if not sending.to_itself or sending.others:
            lines.append(f"to {sending.to}:")
        data = sending.data
        text = data if isinstance(data, str) else f"({len(data)} bytes) {data[:40].hex(' ')}"
        lines += [line for line in re.split(r"\n|(?<=>)(?=<)", text) if line]
    return [*lines, *([f"raised {error}"] if error else [])]


def _shown(replayed: Replayed) -> Any:
    then, now = replayed.versions
    head = ft(
        "p",
        ft("code", replayed.message),
        f" on {replayed.connection}: ",
        ft("b", "the same is sent" if replayed.is_same else "other fragments are sent"),
    )
    old, new = _lines(replayed.before, replayed.errors[0]), _lines(replayed.now, replayed.errors[1])
    rows = []
    for left, right in _side_by_side(old, new):
        marked = (left, right) if left == right else _marked(left, right)
        rows.append(ft("tr", *(ft("td", ft("code", side)) if side is not None else ft("td") for side in marked)))
    titles = ft("tr", ft("th", f"v{then}, as it was", scope="col"), ft("th", f"v{now}, now", scope="col"))
    return head, ft("table", ft("thead", titles), ft("tbody", *(rows or [ft("tr", *[ft("td", "(nothing)")] * 2)])))


def _side_by_side(old: list[str], new: list[str]) -> Iterator[tuple[str | None, str | None]]:
    """The lines of both, each beside the one that it is like; None where there is no such line."""
    lines = list(difflib.Differ().compare(old, new))
    while lines:
        kind, text = lines[0][0], lines.pop(0)[2:]
        # Of two lines that are alike the second follows at once, and a line of hints stands between or below them.
        hinted = [line[0] for line in lines[:2]] in (["?", "+"], ["+", "?"])
        if kind == "-" and hinted:
            right = next(line for line in lines if line[0] == "+")
            lines.remove(right)
            yield text, right[2:]
        elif kind != "?":
            yield (None if kind == "+" else text), (None if kind == "-" else text)


def _marked(left: str | None, right: str | None) -> tuple[Any, Any]:
    """Both lines with what is different in them marked."""
    if left is None or right is None:
        return (None if left is None else ft("del", left)), (None if right is None else ft("ins", right))
    ones, others = (re.findall(r"\w+|\s+|.", side) for side in (left, right))
    sides: tuple[list[Any], list[Any]] = ([], [])
    for kind, a, b, c, d in difflib.SequenceMatcher(None, ones, others, autojunk=False).get_opcodes():
        mark: Callable[..., Any] = (lambda tag, text: text) if kind == "equal" else ft
        sides[0].append(mark("del", "".join(ones[a:b])) if b > a else "")
        sides[1].append(mark("ins", "".join(others[c:d])) if d > c else "")
    return sides


_STYLE = """
.nbws-replay table { table-layout: fixed; width: 100%; border-collapse: collapse; margin: 0 0 1em; }
.nbws-replay :is(th, td) { text-align: left !important; vertical-align: top; width: 50%; padding: 1px 8px; }
.nbws-replay tr { background: none !important; }
.nbws-replay td code { white-space: pre-wrap; overflow-wrap: anywhere; background: none; }
.nbws-replay del { background: #e5534b40; text-decoration: none; }
.nbws-replay ins { background: #2da44e40; text-decoration: none; }
.nbws-replay p { margin: .6em 0 .2em; overflow-wrap: anywhere; }
"""
