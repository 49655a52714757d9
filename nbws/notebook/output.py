"""What handlers print, warn and display, kept out of whichever cell happens to run.

The streams of the kernel stay the objects that they are, of the class that they are, because ipykernel looks for that;
and IPython puts a `write` of its own in place for each cell. What a thread prints that a handler has started itself is
not caught: it does not know whose it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from nbws.speaking import Speaker, speaker

__all__ = ["Hear", "route"]

Hear = Callable[[Speaker, str, str], None]
"""Takes (whose, "stdout", "stderr" or "display", the text)."""


def route(shell: Any, hear: Hear) -> None:
    """Hand what handlers say to *hear* from now on. Does nothing where there is no kernel."""
    if getattr(shell, "kernel", None) is None:
        return
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if hasattr(stream, "set_parent"):  # a stream of ipykernel
            _route_stream(stream, name, hear)
    shell.display_pub.publish = _displayed(shell.display_pub.publish, hear)


class _Write:
    """What `stream.write` is: *inner* for cells, as somebody has put it there; *hear* for handlers."""

    def __init__(self, inner: Callable[..., Any], name: str, hear: Hear) -> None:
        self.inner, self._name, self._hear = inner, name, hear

    def __call__(self, text: str, *arguments: Any, **options: Any) -> Any:
        whose = speaker.get()
        if whose is None or not isinstance(text, str):
            return self.inner(text, *arguments, **options)
        self._hear(whose, self._name, text)
        return len(text)


def _route_stream(stream: Any, name: str, hear: Hear) -> None:
    """Give *stream* a `write` that stays when another one is set: that is what it writes with for cells then."""
    held = {"inner": stream.write}

    def get(_: Any) -> _Write:
        return _Write(held["inner"], name, hear)

    def set(_: Any, write: Callable[..., Any]) -> None:
        held["inner"] = write.inner if isinstance(write, _Write) else write

    vars(stream).pop("write", None)
    kind = type(stream)
    stream.__class__ = type(kind.__name__, (kind,), {"write": property(get, set), "__module__": kind.__module__})


def _displayed(publish: Callable[..., Any], hear: Hear) -> Callable[..., Any]:
    def publish_or_hear(data: Any, *arguments: Any, **options: Any) -> Any:
        whose = speaker.get()
        if whose is None:
            return publish(data, *arguments, **options)
        hear(whose, "display", str(data.get("text/plain", f"({', '.join(data)})")) + "\n")
        return None

    return publish_or_hear
