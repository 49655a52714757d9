"""What one client may cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from nbws.outbox import Overflow

__all__ = ["Limits", "Pace"]

_MAY_BE_OFF = frozenset(("connections_per_client", "messages_per_second"))


@dataclass(frozen=True)
class Limits:
    """Bounds of an app, each with its unit. `App(limits=Limits(message_bytes=64 * 1024))`."""

    message_bytes: int = 1024 * 1024  #: of one websocket message; a larger one closes its connection with 1009
    handshake_seconds: float = 10.0  #: a client has so long to send a whole request; then its connection is closed
    header_bytes: int = 64 * 1024  #: of one request's headers; larger ones are refused with HTTP 431
    invalid_messages: int = 100  #: in a row that no handler can read; then their connection is closed with 1008
    json_depth: int = 64  #: levels of nesting in a message; a deeper one is refused, its connection stays
    outbox_bytes: int = 1024 * 1024  #: queued for one client; past it `overflow` says what gives way
    overflow: Overflow = "close"  #: with 1013; or "drop_oldest"; or "conflate": the newest of each target id stays
    stall_seconds: float = 5.0  #: a client that takes nothing for so long is closed with 1013, and aborted
    ping_seconds: float = 20.0  #: between two pings, and for an answer: a dead peer is noticed within twice that
    resume_seconds: float = 120.0  #: a client that was cut off may come back for so long, and what it missed is kept
    resume_messages: int = 256  #: fragments kept for it; one that has missed more is told to fetch its page anew
    resume_bytes: int = 1024 * 1024  #: kept for it
    inbox_messages: int = 64  #: waiting for a handler on one connection; past it nothing more is read from it
    inbox_bytes: int = 1024 * 1024  #: of these messages; past it nothing more is read either
    connections: int = 1000  #: open at once; one more is refused with HTTP 503
    connections_per_client: int | None = None  #: from one address; None is no limit, as behind a proxy all have one
    messages_per_second: float | None = None  #: of one connection, which is read no faster; None is no limit
    sessions: int = 10_000  #: kept in memory; one more, and the one that was not used for longest is forgotten
    threads: int = 40  #: worker threads for `def` handlers
    park_seconds: float = 30.0  #: a connection waits so long for a retired route to come back
    finish_seconds: float = 5.0  #: a handler may run on so long after its client has gone, or its server stops

    def __post_init__(self) -> None:
        if self.overflow not in get_args(Overflow):
            raise ValueError(f"Limits: overflow is {self.overflow!r}; there is {', '.join(get_args(Overflow))}")
        for name, value in vars(self).items():
            if name == "overflow" or (value is None and name in _MAY_BE_OFF):
                continue
            if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
                raise ValueError(f"Limits: {name} is {value!r}; give a number above 0")


class Pace:
    """Holds one stream to so many messages a second; those of one second may come at once."""

    def __init__(self) -> None:
        self._paid_until = 0.0

    def wait(self, per_second: float, now: float) -> float:
        """How many seconds the message that came *now* has to wait."""
        self._paid_until = max(self._paid_until, now) + 1 / per_second
        return max(0.0, self._paid_until - now - 1)
