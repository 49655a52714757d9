"""The kernel that the code runs in: its key, and output that goes where it belongs."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from nbws.notebook.cells import CellEvents
from nbws.notebook.magics import register_magics
from nbws.notebook.output import route
from nbws.runs import importing_module

__all__ = ["Notebook"]


class Notebook:
    """The shell that cells run in, as an app sees it. One for each shell; `Notebook.here()` finds it."""

    _known: Notebook | None = None

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self.cells = CellEvents(shell)
        self.loop = _running_loop()  #: that cells run on; None in plain IPython
        if hasattr(shell, "register_magic_function"):  # a shell that is not IPython's own may have none
            register_magics(shell)
        route(shell, lambda whose, stream, text: whose.app.hear(whose, stream, text))

    @classmethod
    def here(cls) -> Notebook | None:
        """The notebook that the calling process is; None in a script. IPython is looked at only where it is loaded."""
        ipython = sys.modules.get("IPython")
        shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
        if shell is None:
            return None
        if cls._known is None or cls._known.shell is not shell:
            cls._known = cls(shell)
        return cls._known

    def imported_by_caller(self) -> str | None:
        """The module whose body is being imported by the calling code; None where a cell's own code calls."""
        return importing_module(self.shell.user_ns)

    def cell_names(self) -> dict[str, Any] | None:
        """The globals of cells; None where a module that is being imported calls."""
        names: dict[str, Any] = self.shell.user_ns
        return names if self.imported_by_caller() is None else None

    @property
    def session_key(self) -> bytes | None:
        """The key of the kernel's connection file, the same after a restart; None where there is no kernel."""
        kernel = getattr(self.shell, "kernel", None)
        session = getattr(kernel, "session", None)
        key = getattr(session, "key", None)
        return bytes(key) if key else None

    def parent(self) -> Any:
        """The message that the present output belongs to, for `write_under`; None where there is no kernel."""
        get_parent = getattr(self.shell, "get_parent", None)
        return get_parent() if get_parent is not None else None

    def write_under(self, parent: Any, text: str, stream: str = "stderr") -> None:
        """Print *text* under the cell that *parent* was taken in, as an error by default. Callable from any thread.

        What a thread prints lands under whichever cell ran last, so the message is made here, for that cell.
        """
        kernel = getattr(self.shell, "kernel", None)
        if not parent or kernel is None:
            print(text, file=getattr(sys, stream), end="", flush=True)
            return
        content = {"name": stream, "text": text}
        kernel.session.send(kernel.iopub_socket, "stream", content, parent=parent, ident=f"stream.{stream}".encode())

    def show(self, html: str) -> None:
        """Display *html* in the output of the running cell."""
        from IPython import display

        display.display(display.HTML(html))  # type: ignore[no-untyped-call]


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
