"""An IPython shell in this process, that runs the cells of a notebook as Jupyter does and shows no outputs."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import IPython
import traitlets
from IPython.core.compilerop import CachingCompiler
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from nbws.notebook.file import Cell
from nbws.notebook.kernel import Notebook
from nbws.tracebacks import author_traceback

__all__ = ["CellShell", "loop_for_cells", "make_shell"]

# As in ipykernel, a task that a cell starts goes on to belong to that cell.
_parent: ContextVar[dict[str, Any] | None] = ContextVar("nbws_parent", default=None)
_requests = itertools.count(1)


class _Compiler(CachingCompiler):
    """Names the code of a cell after the cell. Each run has a name of its own: tracebacks show what did run."""

    cell = "cell"

    def get_code_name(self, raw_code: str, transformed_code: str, number: int) -> str:
        return f"<{type(self).cell}, run {number}>"


class _NoDisplay(DisplayHook):
    def write_output_prompt(self) -> None:
        """What a cell's last expression is, is not shown."""

    def write_format_data(self, format_dict: Any, md_dict: Any = None) -> None:
        """The same."""

    def finish_displayhook(self) -> None:
        """The same."""


class _NoPublisher(DisplayPublisher):
    def publish(self, *args: Any, **kwargs: Any) -> None:
        """What a cell displays is not shown."""


class CellShell(InteractiveShell):
    """The shell. One for a process, as `get_ipython()` is."""

    displayhook_class = traitlets.Type(_NoDisplay)
    display_pub_class = traitlets.Type(_NoPublisher)
    compiler_class = traitlets.Type(_Compiler)
    shows_errors = True

    def get_parent(self) -> dict[str, Any] | None:
        """The request that the running code belongs to, in the form of a Jupyter message."""
        return _parent.get()

    def enable_gui(self, gui: Any = None) -> None:
        """`%matplotlib` finds no window system here, and needs none."""

    def showtraceback(self, exc_tuple: Any = None, *args: Any, **kwargs: Any) -> None:
        error = exc_tuple[1] if exc_tuple is not None else sys.exc_info()[1]
        if self.shows_errors and error is not None and not isinstance(error, KeyboardInterrupt):
            print(author_traceback(error, (IPython, traitlets)), file=sys.stderr, end="", flush=True)

    def showsyntaxerror(self, *args: Any, **kwargs: Any) -> None:
        self.showtraceback()

    async def run(self, cell: Cell) -> BaseException | None:
        """Run *cell*, and give the error that it ended with. Raises KeyboardInterrupt where it was interrupted."""
        _Compiler.cell = f"cell {cell.number}"
        request = {"header": {"msg_id": f"nbws-{next(_requests)}"}, "metadata": {"cellId": cell.id}}
        token = _parent.set(request)
        try:
            result = await self._run(cell.source)
        finally:
            _parent.reset(token)
        error: BaseException | None = result.error_before_exec or result.error_in_exec
        if isinstance(error, KeyboardInterrupt):
            raise error
        return error

    async def _run(self, source: str) -> Any:
        """IPython's result. A cell that awaits is awaited on the running loop, the way ipykernel does it."""
        try:
            transformed, failure = self.transform_cell(source), None  # type: ignore[no-untyped-call]
        except Exception:
            transformed, failure = source, sys.exc_info()
        if not self.should_run_async(source, transformed_cell=transformed, preprocessing_exc_tuple=failure):
            return self.run_cell(source, store_history=True)  # type: ignore[no-untyped-call]
        result = None
        try:
            result = await asyncio.ensure_future(
                self.run_cell_async(
                    source, store_history=True, transformed_cell=transformed, preprocessing_exc_tuple=failure
                )
            )
        finally:
            self.events.trigger("post_execute")
            self.events.trigger("post_run_cell", result)
        return result


def make_shell() -> tuple[CellShell, Notebook]:
    """The shell of this process, and the notebook that apps find themselves in."""
    config = Config()
    config.HistoryManager.enabled = False  # what an author types is kept, and these cells are not typed
    shell = CellShell.instance(config=config)
    notebook = Notebook.here()
    assert notebook is not None
    return shell, notebook


@contextmanager
def loop_for_cells(shell: CellShell) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that goes on between cells, as in a kernel: tasks that cells have started go on with it.

    At the end they are cancelled, within a second.
    """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield loop
    finally:
        shell.shows_errors = False  # those of cells that are cancelled
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=1))
        asyncio.set_event_loop(None)
        loop.close()
