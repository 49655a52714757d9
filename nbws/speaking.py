"""Whose code is running: what a handler prints belongs to that handler, and to no cell that happens to run."""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from nbws.handlers import Key

__all__ = ["Said", "Speaker", "speaker"]

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Speaker:
    """A handler that is running, for *app*. *connection* is None for a request and a task."""

    app: Any
    key: Key
    handler: str
    version: int
    connection: str | None = None

    def __str__(self) -> str:
        of = f" · {self.connection}" if self.connection is not None else ""
        return f"{self.handler} v{self.version}{of}"


@dataclass(frozen=True, slots=True)
class Said:
    """What a handler printed, warned or displayed. *stream* is "stdout", "stderr" or "display"."""

    speaker: Speaker
    stream: str
    text: str
    time: float = field(default_factory=time.time)  #: seconds since 1970
    number: int = field(default_factory=lambda: next(_numbers))  #: orders what all handlers said

    def __repr__(self) -> str:
        return f"<{self.speaker}: {self.text.rstrip()}>"


speaker: ContextVar[Speaker | None] = ContextVar("nbws_speaker", default=None)
"""The handler that runs in this task or worker thread; None outside of one."""
