"""IPython's cell events -> begin and end of a cell's run, with whether it succeeded.

The events do not come in plain pairs, and each trap here was seen: the cell that registers a hook gets no
`pre_run_cell`; blank cells give `post` without `pre`; `%%capture` runs a cell in a cell, and the outer one reports
success although the inner failed; a task of one cell runs during another; a thread inherits the parent of whichever
cell runs. So runs are stacked for each thread, an inner failure fails the outer one, and code belongs to a run only
on the run's own thread and under the run's own parent message.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass, field
from typing import Any

from nbws.handlers import Owner
from nbws.runs import Identity, Runs, importing_module

__all__ = ["CellEvents", "CellRun", "modules_in"]


@dataclass(eq=False)
class CellRun:
    """One run of one cell, the cells inside it included."""

    cell: str | None  #: the cell's id; None under nbclient and in plain IPython
    parent: str | None  #: the id of the message that asked for it
    thread: int
    infos: list[Any]  #: IPython's ExecutionInfo of the cell, and of those that run inside it
    names: dict[str, Any]  #: the globals of cells
    failed: bool = False
    apps_made: int = 0  #: unnamed apps that the cell has made so far
    modules_that_failed: frozenset[str] = frozenset()  #: whose bodies the error of the cell came out of
    memory: dict[Any, Any] = field(default_factory=dict)  #: what each listener keeps for this run

    @property
    def owners(self) -> frozenset[Owner]:
        return frozenset([Owner("cell", self.cell)] if self.cell is not None else [])

    def owner(self) -> Owner | None:
        module = importing_module(self.names)
        if module is not None:
            return Owner("module", module)
        return Owner("cell", self.cell) if self.cell is not None else None

    def is_apart(self, owner: Owner) -> bool:
        # Running the cell again does not run a module again that was imported, so what such a module has defined
        # does not wait for the cell to succeed; only for its own body.
        return owner.kind == "module"

    def next_app(self) -> Identity | None:
        if self.cell is None or importing_module(self.names) is not None:
            return None
        self.apps_made += 1
        return ("cell", self.cell, str(self.apps_made))


class CellEvents(Runs):
    """The cell events of one shell. Registers its hooks when it is made, and never raises into the shell."""

    def __init__(self, shell: Any) -> None:
        super().__init__()
        self._shell = weakref.ref(shell)
        self._runs: dict[int, CellRun] = {}
        shell.events.register("pre_run_cell", self._before)
        shell.events.register("post_run_cell", self._after)
        self._adopt_running_cell(shell)

    def current(self) -> CellRun | None:
        """The run that the calling code belongs to; None outside of one, in another thread or in a task of another."""
        run = self._runs.get(threading.get_ident())
        if run is None or run.parent != self._parent_id():
            return None
        return run

    def _adopt_running_cell(self, shell: Any) -> None:
        """The cell in which the hooks are registered began without them."""
        result = getattr(shell.displayhook, "exec_result", None)
        info = getattr(result, "info", None)
        if info is not None and not info.silent:
            self._begin(info)

    def _before(self, info: Any) -> None:
        run = self._runs.get(threading.get_ident())
        if run is not None and run.parent == self._parent_id() and run.parent is not None:
            run.infos.append(info)
        elif run is not None and run.parent is None and run.infos:
            run.infos.append(info)  # plain IPython has no messages to tell a cell in a cell from the next one
        else:
            self._begin(info)

    def _begin(self, info: Any) -> None:
        parent = self._parent()
        metadata = parent.get("metadata") or {}
        cell = metadata.get("cellId") if parent else getattr(info, "cell_id", None)
        names = getattr(self._shell(), "user_ns", {})
        run = CellRun(cell, self._parent_id(), threading.get_ident(), [info], names)
        self._runs[run.thread] = run
        for listener in self.listeners:
            listener.run_begins(run)

    def _after(self, result: Any) -> None:
        run = self._runs.get(threading.get_ident())
        if run is None:
            return
        info = getattr(result, "info", None)
        known = next((i for i, each in enumerate(run.infos) if each is info), None)
        if known is None:
            if info is not None and (not info.raw_cell or info.raw_cell.isspace()):
                return  # a blank cell, which began without an event
            known = len(run.infos) - 1  # interrupted so early or late that IPython made a new record, or none
            run.failed = True
        if result is None or not result.success or known < len(run.infos) - 1:
            run.failed = True
        run.modules_that_failed |= modules_in(getattr(result, "error_in_exec", None))
        del run.infos[known:]
        if not run.infos:
            del self._runs[run.thread]
            for listener in self.listeners:
                listener.run_ends(run, not run.failed)

    def _parent(self) -> dict[str, Any]:
        shell = self._shell()
        get_parent = getattr(shell, "get_parent", None)
        return (get_parent() if get_parent is not None else None) or {}

    def _parent_id(self) -> str | None:
        header = self._parent().get("header") or {}
        return header.get("msg_id")


def modules_in(error: BaseException | None) -> frozenset[str]:
    """The modules whose bodies *error* was raised through."""
    found = set()
    trace = error.__traceback__ if error is not None else None
    while trace is not None:
        if trace.tb_frame.f_code.co_name == "<module>":
            found.add(str(trace.tb_frame.f_globals.get("__name__")))
        trace = trace.tb_next
    return frozenset(found)
