"""`nbws run`: run a script, a module or the cells of a notebook, and serve the app that they make."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import runpy
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from nbws.app import App
from nbws.errors import NbwsError
from nbws.runs import Development, developing
from nbws.serving import find_app
from nbws.tracebacks import author_traceback

if TYPE_CHECKING:
    from nbws.notebook.file import Cell
    from nbws.notebook.shell import CellShell

__all__ = ["Progress", "find_app", "go_to_notebook", "serve_target", "sigterm_as_interrupt"]

_TITLE = 40  #: characters of a cell's first line, in the bar
_ERASE = "\r\x1b[2K"
_SHOW_CURSOR = "\x1b[?25h"


def serve_target(target: str, host: str | None = None, port: int | None = None) -> None:
    """Run *target* (a script, a notebook or `module:app`), and serve its app until Ctrl+C or SIGTERM.

    *host* and *port* go before those of the app. In the main thread only. Raises NbwsError where *target* does not
    run, after its traceback was printed, or makes no app, or where there is no place to serve at.
    """
    if target.endswith(".ipynb"):
        _serve_notebook(target, host, port)
        return
    app = _app_of_script(target) if target.endswith(".py") else _app_of_module(target)
    app.configure(host=host, port=port)
    app.run()


def go_to_notebook(target: str) -> Path:
    """The notebook *target*, in whose folder the process is from now on, as a kernel would be.

    Raises NbwsError where there is none, or nothing to run cells with.
    """
    path = Path(target).absolute()
    if not path.exists():
        raise NbwsError(f"there is no notebook {target}")
    if importlib.util.find_spec("IPython") is None:
        raise NbwsError("a notebook's cells need IPython, which is not installed here; pip install 'nbws[lab]' has it")
    os.chdir(path.parent)
    sys.path.insert(0, "")
    return path


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Have SIGTERM raise KeyboardInterrupt in the main thread."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# -- a script, a module


def _app_of_script(target: str) -> App:
    """The App of a script, which is run as a module is imported: its `serve()` does nothing."""
    path = Path(target)
    if not path.exists():
        raise NbwsError(f"there is no script {target}")
    sys.path.insert(0, str(path.resolve().parent))
    with _told(target):
        names = runpy.run_path(target, run_name=path.stem)
    return _the_app(target, names, "app")


def _app_of_module(target: str) -> App:
    module, _, name = target.partition(":")
    sys.path.insert(0, "")
    try:
        with _told(target, f"{module}."):
            names = vars(importlib.import_module(module))
    except ModuleNotFoundError as exc:
        raise NbwsError(
            f"there is no module {exc.name}; TARGET is a script.py, a notebook.ipynb or module:app"
        ) from exc
    return _the_app(target, names, name or "app")


def _the_app(target: str, names: Mapping[str, Any], asked: str) -> App:
    app = find_app(names, asked)
    if app is None:
        there = sorted(name for name, value in names.items() if isinstance(value, App))
        has = f"; it has {', '.join(there)}" if there else ""
        raise NbwsError(f"{target} has no App named {asked}{has}")
    return app


@contextmanager
def _told(target: str, module: str = "") -> Iterator[None]:
    """Print the traceback of what *target* raises, and raise NbwsError in its place.

    Where *module* (with a dot at its end) or a package of it is not there, ModuleNotFoundError is raised on.
    """
    try:
        yield
    except (Exception, SystemExit) as exc:
        if isinstance(exc, ModuleNotFoundError) and exc.name and module.startswith(f"{exc.name}."):
            raise
        print(author_traceback(exc), file=sys.stderr, end="", flush=True)
        raise NbwsError(f"{target} does not run, so nothing is served") from exc


# -- a notebook


def _serve_notebook(target: str, host: str | None, port: int | None) -> None:
    path = go_to_notebook(target)
    from nbws.notebook.file import cells_in
    from nbws.notebook.shell import loop_for_cells, make_shell

    try:
        cells = cells_in(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise NbwsError(f"{path.name} cannot be read: {exc}") from exc
    sys.argv = [target]
    shell, notebook = make_shell()
    with developing(Development(host, port, follows_saves=False)), sigterm_as_interrupt():
        try:
            with loop_for_cells(shell) as loop:
                loop.run_until_complete(_run_cells(path.name, shell, cells))
                app = find_app(shell.user_ns)
                if app is None:
                    raise NbwsError(f"{path.name} makes no App named app, so nothing is served")
                if not app.is_running:
                    app.start()
                print(f"{path.name} has run, {len(cells)} cells. Ctrl+C stops.", flush=True)
                loop.run_until_complete(asyncio.Event().wait())
        except KeyboardInterrupt:
            pass
        finally:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl+C does not wait
            for each in notebook.cells.listeners:
                if isinstance(each, App):
                    each.stop()


async def _run_cells(title: str, shell: CellShell, cells: Sequence[Cell]) -> None:
    with Progress(title, len(cells)) as progress:
        for place, cell in enumerate(cells):
            progress.begins(cell)
            error = await shell.run(cell)
            if error is not None:
                left = len(cells) - place - 1
                not_run = f"the {left} cells below it were not run, and " if left > 1 else ""
                raise NbwsError(f"{title}: {cell} does not run{_where(error, cell)}; {not_run}nothing is served")
            progress.ended()


def _where(error: BaseException, cell: Cell) -> str:
    """`, line 3: x = 1 / 0`, of the cell; empty where that is not known."""
    number = error.lineno if isinstance(error, SyntaxError) else None
    frame = error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename.startswith(f"<cell {cell.number}, "):
            number = frame.tb_lineno
        frame = frame.tb_next
    lines = cell.source.splitlines()
    return f", line {number}: {lines[number - 1].strip()}" if number and number <= len(lines) else ""


class Progress:
    """A bar that tells which cell runs, out of the way of what cells print; nothing where stderr is no terminal."""

    def __init__(self, title: str, cells: int) -> None:
        self._bar: Any = None
        self._stands = False
        if sys.stderr.isatty() and cells:
            self._screen = sys.stderr
            self._bar = click.progressbar(
                length=cells, label=title, file=self._screen, show_eta=False, show_pos=True, item_show_func=_first_line
            )

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._streams = sys.stdout, sys.stderr
            sys.stdout, sys.stderr = (_Beside(stream, self) for stream in self._streams)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            sys.stdout, sys.stderr = self._streams
            self.erase()
            self._screen.write(_SHOW_CURSOR)
            self._screen.flush()
            self._bar = None

    def begins(self, cell: Cell) -> None:
        if self._bar is not None:
            self._bar.current_item = cell
            self._bar.render_progress()
            self._stands = True

    def ended(self) -> None:
        if self._bar is not None:
            self._bar.update(1)
            self._stands = True

    def erase(self) -> None:
        """Take the bar off the screen until the next cell begins."""
        if self._bar is not None and self._stands:
            self._stands = False
            self._screen.write(_ERASE)
            self._screen.flush()


def _first_line(cell: Cell | None) -> str:
    if cell is None:
        return ""
    first = cell.first_line
    return first if len(first) <= _TITLE else f"{first[: _TITLE - 1]}…"


class _Beside:
    """A stream as it was, before whose text the bar goes away."""

    def __init__(self, stream: TextIO, progress: Progress) -> None:
        self._stream, self._progress = stream, progress

    def write(self, text: str) -> int:
        self._progress.erase()
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
