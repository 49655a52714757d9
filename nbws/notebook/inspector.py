"""The panel as a widget of the notebook. What it shows comes from a thread of its own, so also while a cell runs."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget

from nbws.inspection import answer, look

if TYPE_CHECKING:
    from nbws.inspection import Inspected

__all__ = ["Inspector"]

_STATIC = Path(__file__).parent.parent / "static"
_PAUSE = 0.3  #: seconds between two looks
_UNSEEN_SECONDS = 300.0  #: a view says that it is there once a minute, unless the kernel is busy


class Inspector(anywidget.AnyWidget):
    """A panel of *app*, in as many views as it is displayed in."""

    _esm = _STATIC / "inspector.js"
    _css = _STATIC / "inspector.css"

    def __init__(self, app: Inspected) -> None:
        super().__init__()
        self._app = app
        self._lock = threading.Lock()
        self._seen: dict[str, Any] = {}
        self._wanted_until = 0.0  # the monotonic clock's
        self._looking: threading.Thread | None = None
        self.on_msg(self._asked)

    def _asked(self, _: Any, content: Any, __: Any) -> None:
        """A view says that it is there, or that a button was pressed. On the kernel's main thread."""
        if not isinstance(content, dict):
            return
        if "act" in content:
            self.send({"id": content.get("id"), "answer": answer(self._app, content)})
            return
        with self._lock:
            self._wanted_until = time.monotonic() + _UNSEEN_SECONDS
            seen = content.get("seen")
            self._seen = seen if isinstance(seen, dict) else {}
            if self._looking is None or not self._looking.is_alive():
                self._looking = threading.Thread(target=self._look, name="nbws panel", daemon=True)
                self._looking.start()

    def _look(self) -> None:
        while time.monotonic() < self._wanted_until and self.comm is not None:
            with self._lock:
                found = look(self._app, self._seen)
                if found:
                    self._note(found)
            if found:
                self.send({"look": found})
            time.sleep(_PAUSE)

    def _note(self, found: dict[str, Any]) -> None:
        """Every view has seen *found* from now on."""
        parts = {
            **self._seen.get("parts", {}),
            **{name: digest for name, (digest, _) in found.get("parts", {}).items()},
        }
        log = found.get("log")
        open_lines = set(self._seen.get("open", ()))
        if log is not None:
            finished = {line["number"] for line in log["lines"] if line["finished"]}
            running = {line["number"] for line in log["lines"] if not line["finished"]}
            open_lines = (open_lines | running) - finished
        newest = log["newest"] if log is not None else self._seen.get("log", 0)
        self._seen = {"parts": parts, "log": newest, "open": sorted(open_lines)[-40:]}
