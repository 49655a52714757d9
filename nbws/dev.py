"""`nbws dev`: serve a program or a notebook from its file, and swap it under the open connections at each save."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import logging
import signal
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbws.app import App
from nbws.errors import NbwsError, PortTakenError
from nbws.handlers import Change, Entry, HandlerTable, HttpHandler, Key, WsHandler, changes
from nbws.program import Program
from nbws.running import find_app, go_to_notebook, sigterm_as_interrupt
from nbws.runs import Development, Runs, developing
from nbws.saves import Mark, mark, saves
from nbws.tracebacks import author_traceback

if TYPE_CHECKING:
    from nbws.notebook.file import Cell

__all__ = ["develop", "what_changed", "what_is_live"]

_LISTED = 12  #: of anything, in one line
_HALF_WRITTEN_SECONDS = 1.0  #: how long the file of a notebook may be half-written without a word


def develop(target: str, host: str | None = None, port: int | None = None) -> None:
    """Serve *target* (a script, a notebook or `module:app`) until Ctrl+C or SIGTERM. In the main thread only.

    *host* and *port* go before those of the app. Raises NbwsError where there is nothing to serve or no place for it.
    """
    if importlib.util.find_spec("watchfiles") is None:
        raise NbwsError("nbws dev needs watchfiles, which is not installed here; pip install 'nbws[watch]' installs it")
    if isinstance(sys.stdout, io.TextIOWrapper):  # it may know no arrow
        sys.stdout.reconfigure(errors="replace")
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it counts changes where the program logs INFO
    session = _notebook_session(target) if target.endswith(".ipynb") else _program_session(target)
    sys.argv = [target]
    with developing(Development(host, port, session.program)), sigterm_as_interrupt():
        try:
            session.go_on()
        except KeyboardInterrupt:
            pass
        finally:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl+C does not wait
            session.stop()


def _program_session(target: str) -> _Session:
    if target.endswith(".py"):
        script = Path(target).absolute()
        if not script.exists():
            raise NbwsError(f"there is no script {target}")
        sys.path.insert(0, str(script.parent))
        # A script may be called what a module is called that is in use, such as code.py.
        name = script.stem.replace(".", "_")
        name = f"{name}_" if name in sys.modules else name
        return _ProgramSession(script.name, Program(name, script, (script.parent, Path.cwd())), "app")
    module, _, name = target.partition(":")
    sys.path.insert(0, "")
    return _ProgramSession(module, Program(module, None, (Path.cwd(),)), name or "app")


def _notebook_session(target: str) -> _Session:
    return _NotebookSession(go_to_notebook(target))


class _Session:
    """What a program and a notebook have in common: the app that is served, and what the terminal is told."""

    program: Program | None = None

    def __init__(self, title: str, runs: Runs, app_name: str = "app") -> None:
        self._title, self._runs, self._app_name = title, runs, app_name
        self._served: App | None = None
        self._replaced: set[App] = set()
        self._has_run = False
        self._stopped = threading.Event()

    def go_on(self) -> None:
        """Run, and again after each save. Ends with KeyboardInterrupt."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop whatever serves, all at once: each may take its seconds."""
        self._stopped.set()
        stops = [threading.Thread(target=app.stop) for app in self._apps()]
        for stop in stops:
            stop.start()
        for stop in stops:
            stop.join()

    def _apps(self) -> list[App]:
        """Those that were made, but not those that others have been served in place of."""
        return [app for app in self._runs.listeners if isinstance(app, App) and app not in self._replaced]

    def _tables(self) -> dict[App, HandlerTable]:
        return {app: app.table for app in self._apps()}

    def _live(self) -> str:
        return _listed([line for app in self._apps() for line in what_is_live(app.table)])

    def _find_app(self, names: Mapping[str, Any]) -> App | None:
        """The App of the name that is asked for; where none is asked for, the only one will do."""
        return find_app(names, self._app_name)

    def _serve(self, app: App) -> None:
        """Have *app* served. Raises PortTakenError."""
        before, self._served = self._served, app
        self._replaced.discard(app)
        if before is not None and before is not app:
            _say(f"{self._title} makes another app now; the one before stops, and its connections are closed.")
            self._replaced.add(before)
            before.stop()
        if app.is_running:
            return
        try:
            app.start()
        except PortTakenError:
            raise
        except NbwsError as exc:
            if exc.__cause__ is not None:
                _warn(author_traceback(exc.__cause__).rstrip())
            _warn(f"nbws: {exc}. Save {self._title} again when that is mended.")

    def _tell_success(
        self,
        what: str,
        before: Mapping[App, HandlerTable],
        names: Iterable[str] = (),
        otherwise: str = "nothing changed",
    ) -> None:
        lines = [line for app, table in self._tables().items() for line in what_changed(before.get(app, _EMPTY), table)]
        names = _listed(sorted(names))
        told = [_listed(lines), f"changed: {names}" if names else ""]
        _say(f"{what}: {'; '.join(filter(None, told)) or otherwise}")

    def _tell_failure(self, what: str) -> None:
        if live := self._live():
            _warn(f"{what}. Nothing changed; live as before: {live}")
        elif self._has_run:
            _warn(f"{what}. Nothing changed.")
        else:
            _warn(f"{what}. Nothing is live yet; save it again when it is mended.")

    def _tell_beginning(self, files: Iterable[Path]) -> None:
        """What there is to know once it serves."""
        names = _named(files)
        self._has_run = True
        _say(f"Each save of {names} is swapped in under the open connections. Ctrl+C stops.")


class _ProgramSession(_Session):
    def __init__(self, title: str, program: Program, app_name: str) -> None:
        super().__init__(title, program, app_name)
        self.program = self._program = program

    def go_on(self) -> None:
        with self._program.installed():
            self._run([])
            for saved in saves(lambda: self._program.files, self._stopped):
                self._run(saved)

    def _run(self, saved: Sequence[Path]) -> None:
        before = self._tables()
        outcome = self._program.run(self._check)
        error = outcome.error
        if error is not None:
            self._refuse_what_is_not_there(error)
            if isinstance(error, _NoApp):
                self._tell_failure(str(error))
            else:
                _warn(author_traceback(error).rstrip())
                self._tell_failure(f"{_named(saved) or self._title} does not run")
            return
        app = self._find_app(self._program.names)
        assert app is not None  # else _check had refused
        self._serve(app)
        if self._has_run:
            self._tell_success(_named(saved), before, outcome.changed)
        elif app.is_running:
            self._tell_beginning(self._program.files)

    def _check(self, names: Mapping[str, Any]) -> None:
        if self._find_app(names) is None:
            raise _NoApp(f"{self._title} has no App named {self._app_name!r}")

    def _refuse_what_is_not_there(self, error: BaseException) -> None:
        """A module that is named on the command line, and not there, is not waited for."""
        if self._program.script is None and isinstance(error, ModuleNotFoundError) and not self._has_run:
            main = f"{self._program.main}."
            if error.name is not None and main.startswith(f"{error.name}."):
                raise NbwsError(
                    f"there is no module {error.name}; TARGET is a script.py, a notebook.ipynb or module:app"
                )


class _NoApp(NbwsError):
    """The program has nothing to serve."""


class _NotebookSession(_Session):
    def __init__(self, path: Path) -> None:
        from nbws.notebook.shell import make_shell

        self._shell, notebook = make_shell()
        super().__init__(path.name, notebook.cells)
        self._path = path
        self._mark: Mark | None = None
        self._cells: list[Cell] = []
        self._ran: dict[str, str] = {}  # cell id -> what ran; "" where it failed

    def go_on(self) -> None:
        from nbws.notebook.shell import loop_for_cells

        with loop_for_cells(self._shell) as loop:
            try:
                loop.run_until_complete(self._run_on())
            finally:
                self._stopped.set()

    async def _run_on(self) -> None:
        await self._run()
        following = saves(lambda: {self._path: self._mark}, self._stopped)
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(None, next, following, None):
            await self._run()

    async def _run(self) -> None:
        from nbws.notebook.file import Cell, to_run

        cells = await self._read()
        if cells is None:
            return
        before = self._tables()
        changed, gone = to_run(self._ran, cells)
        self._cells = cells
        for cell in changed:
            error = await self._shell.run(cell)
            if self._stopped.is_set():
                return
            self._ran[cell.id] = cell.source if error is None else ""
            if error is not None:
                self._serve_what_there_is()
                self._tell_failed_cell(cell, changed)
                return
        for id in gone:
            await self._shell.run(Cell(id, 0, "pass"))  # the cell without what it defined
            del self._ran[id]
        is_served = self._serve_what_there_is()
        if is_served is None:
            self._tell_failure(f"{self._title} makes no App named 'app'")
        elif not self._has_run and is_served:
            self._tell_beginning([self._path])
        elif self._has_run:
            numbers = _listed([str(cell.number) for cell in changed])
            if numbers:
                self._tell_success(f"{self._title}, cell {numbers}", before, otherwise="no endpoint changed")
            else:
                self._tell_success(self._title, before)

    async def _read(self) -> list[Cell] | None:
        """The cells of the file; None, and a word about it, where it is no notebook now."""
        from nbws.notebook.file import cells_in

        end = time.monotonic() + _HALF_WRITTEN_SECONDS
        while True:
            self._mark = mark(self._path)
            try:
                return cells_in(self._path.read_text(encoding="utf-8"), self._cells)
            except (OSError, ValueError) as exc:
                if time.monotonic() > end:
                    self._tell_failure(f"{self._title} cannot be read: {exc}")
                    return None
            except NbwsError as exc:
                self._tell_failure(f"{self._title}: {exc}")
                return None
            await asyncio.sleep(0.05)

    def _serve_what_there_is(self) -> bool | None:
        """Start the app that the notebook has made, unless it did; whether one serves, None where none was made."""
        app = self._find_app(self._shell.user_ns)
        if app is not None:
            self._serve(app)
        return any(each.is_running for each in self._tables()) or (False if app is not None else None)

    def _tell_failed_cell(self, cell: Cell, changed: Sequence[Cell]) -> None:
        left = [str(each.number) for each in changed[changed.index(cell) + 1 :]]
        what = f"{self._title}: {cell} does not run"
        if left:
            what += f"; cell {_listed(left)} {'was' if len(left) == 1 else 'were'} not run"
        _warn(f"{what}. Live: {self._live() or 'nothing yet'}")


# -- what is said

_EMPTY = HandlerTable()
_KINDS = {"TASK": "task", "MOUNT": "mount", "MIDDLEWARE": "middleware", "EXCEPTION": "exception handler"}


def what_changed(old: HandlerTable, new: HandlerTable) -> list[str]:
    """What an author calls the differences between two tables: `WS /chat v2 → v3`."""
    return [line for change in changes(old, new) if (line := _told(change, old)) is not None]


def what_is_live(table: HandlerTable) -> list[str]:
    """The endpoints that are live, with their versions."""
    return [f"{key} v{entry.version}" for key, entry in table.live() if _is_endpoint(entry)]


def _told(change: Change, old: HandlerTable) -> str | None:
    name = _name(change.key)
    if change.after is None:
        return f"retired {name}"
    if change.before is None:
        return f"new {name}" if old.get(change.key) is None else f"{name} is back as v{change.after.version}"
    if not change.is_new_version or not (_is_endpoint(change.after) or change.key.method == "TASK"):
        return None
    return f"{name} v{change.before.version} → v{change.after.version}"


def _is_endpoint(entry: Entry) -> bool:
    return isinstance(entry.definition.target, WsHandler | HttpHandler)


def _name(key: Key) -> str:
    if key.is_route and key.method != "MOUNT":
        return str(key)
    # The path of what has none says whose it is, and the how-manieth.
    own = key.path.rpartition("/")[2].rpartition("#")[0].rpartition(".")[2] or key.path or "/"
    return f"{_KINDS.get(key.method, key.method.lower())} {own}"


def _listed(items: Sequence[str]) -> str:
    shown = ", ".join(items[:_LISTED])
    return f"{shown} and {len(items) - _LISTED} more" if len(items) > _LISTED else shown


def _named(files: Iterable[Path]) -> str:
    """*files* by their paths from here, where they are below."""
    here = Path.cwd()
    return _listed([str(path.relative_to(here)) if path.is_relative_to(here) else path.name for path in files])


def _say(text: str) -> None:
    print(text + "\n", end="", flush=True)  # one write, or what handlers print may stand in between


def _warn(text: str) -> None:
    print(text + "\n", end="", file=sys.stderr, flush=True)
