"""What one client may cost."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """Bounds of an app, each with its unit. `App(limits=Limits(message_bytes=64 * 1024))`."""

    message_bytes: int = 1024 * 1024  #: of one websocket message; a larger one closes its connection with 1009
    json_depth: int = 64  #: levels of nesting in a message; a deeper one is refused, its connection stays
    outbox_bytes: int = 1024 * 1024  #: queued for one client; past it the connection is closed with 1013
    inbox_messages: int = 64  #: waiting for a handler on one connection; past it nothing more is read from it
    connections: int = 1000  #: open at once; one more is refused with HTTP 503
    sessions: int = 10_000  #: kept in memory; one more, and the one that was not used for longest is forgotten
    threads: int = 40  #: worker threads for `def` handlers
    park_seconds: float = 30.0  #: a connection waits so long for a retired route to come back
    finish_seconds: float = 5.0  #: a handler may run on so long after its client has gone, or its server stops

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
                raise ValueError(f"Limits: {name} is {value!r}; give a number above 0")
