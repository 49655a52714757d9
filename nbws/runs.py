"""Runs of an author's code: what a run defines is staged, and published in one step when its code has ended well.

In a notebook a run is that of a cell. Under `nbws dev` it is that of the modules that a save changed. Elsewhere there
is none, and what is defined is live at once.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Protocol

from nbws.handlers import Owner

__all__ = [
    "Development",
    "Identity",
    "Run",
    "RunListener",
    "Runs",
    "developing",
    "development",
    "has_threads",
    "importing_module",
]

Identity = tuple[str, ...]
"""What an app is known by when the code that makes it is run again."""


class Run(Protocol):
    """One run. Code belongs to it on its own thread alone, which `Runs.current` looks after."""

    failed: bool
    modules_that_failed: frozenset[str]  #: whose bodies the error of the run came out of
    memory: dict[Any, Any]  #: what each listener keeps for this run

    @property
    def owners(self) -> frozenset[Owner]:
        """Whose code is run: what these do not define again is retired at the end."""

    def owner(self) -> Owner | None:
        """Whose the calling code is; None where that cannot be known, so that nothing is ever retired."""

    def is_apart(self, owner: Owner) -> bool:
        """Whether what *owner* defines is no part of this run: a module that a cell imports."""

    def next_app(self) -> Identity | None:
        """What the unnamed app that the calling code makes now is known by; None makes a new one each time."""


class RunListener(Protocol):
    """Who is told of runs, on the run's own thread."""

    def run_begins(self, run: Run) -> None: ...
    def run_ends(self, run: Run, succeeded: bool) -> None: ...
    def check_run(self, run: Run) -> None:
        """Raises DefinitionError where what the run has defined cannot be published."""


class Runs:
    """Where runs come from. Listeners are held weakly."""

    def __init__(self) -> None:
        self._listeners: weakref.WeakSet[RunListener] = weakref.WeakSet()

    def listen(self, listener: RunListener) -> None:
        """Tell *listener* of every run from now on."""
        self._listeners.add(listener)

    @property
    def listeners(self) -> tuple[RunListener, ...]:
        return tuple(self._listeners)

    def current(self) -> Run | None:
        """The run that the calling code belongs to; None outside of one, and in another thread."""
        raise NotImplementedError


@dataclass
class Development:
    """`nbws dev`, as apps see it: where the first of them that starts is to listen, and whose runs stage.

    *host* and *port* are None where the app decides; *runs* is None where a notebook's cells are run. It also stands
    for an `nbws run` of a notebook, which does not follow saves: nobody works on what is served. *in_page* is a page of
    docs in which the app runs in the reader's browser: there are no ports and no threads.
    """

    host: str | None = None
    port: int | None = None
    runs: Runs | None = None
    follows_saves: bool = True
    in_page: bool = False
    _served: Any = field(default=None, repr=False)

    @property
    def command(self) -> str:
        return "nbws dev" if self.follows_saves else "nbws run"

    def address_of(self, app: Any) -> dict[str, Any]:
        """The options that the command line set for *app*, which is about to start."""
        if self._served is not None and self._served is not app and self._served.is_running:
            return {}
        self._served = app
        given = {"host": self.host, "port": self.port}
        return {name: value for name, value in given.items() if value is not None}


_present: Development | None = None


def development() -> Development | None:
    """The `nbws dev` that this process is; None where it is none."""
    return _present


def has_threads() -> bool:
    """Whether threads can be started. Python that is compiled to WebAssembly has none: all runs on one loop there."""
    return sys.platform != "emscripten" and not (_present is not None and _present.in_page)


@contextmanager
def developing(present: Development) -> Iterator[Development]:
    """Let this process be *present* for as long as the context lasts."""
    global _present
    before, _present = _present, present
    try:
        yield present
    finally:
        _present = before


def importing_module(cell_globals: dict[str, Any] | None = None) -> str | None:
    """The name of the module whose body is being run by the calling code; None where a cell's own code calls."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals is cell_globals:
            return None
        if frame.f_code.co_name == "<module>":
            return str(frame.f_globals.get("__name__"))
        frame = frame.f_back
    return None
