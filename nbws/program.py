"""A program that is run again while it serves: its module, and the modules of its own that it imports.

What a save changed is run in fresh modules, as one step: `sys.modules`, the namespaces that live handlers look things
up in, and what is registered with apps are touched when all of it has ended well, and left alone otherwise.
"""

from __future__ import annotations
import __future__ as futures

import ast
import importlib
import sys
import threading
import types
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbws.handlers import Owner
from nbws.interrupts import held_back
from nbws.keeping import Code, Edit, compare, read_code
from nbws.modules import Finder, Replacement, package_of, parents_of, put_submodules_into
from nbws.runs import Identity, Run, Runs, importing_module
from nbws.saves import Mark, mark
from nbws.staging import Act, Staged

__all__ = ["Outcome", "Program"]

_SPACE = "__nbws_space__"
_FUTURES = sum(getattr(futures, name).compiler_flag for name in futures.all_feature_names)

_Slot = tuple[str, str, int]  # module, label of the statement, the how-manieth unnamed app that it makes
_Source = tuple["Mark | None", bytes]  # a file as it was read


@dataclass(frozen=True)
class Outcome:
    """What came of a run: the *error* that it ended with, or the names that were *changed*.

    Names of routed functions are left out, for what became of the routes says more.
    """

    error: BaseException | None = None
    changed: frozenset[str] = frozenset()


@dataclass
class _Body:
    """A module as it was run last."""

    name: str
    path: Path
    mark: Mark | None
    module: types.ModuleType
    code: Code = field(default_factory=lambda: Code(()))
    acts: list[list[tuple[Any, Act]]] = field(default_factory=list)  #: of each statement: (the app, what it did)
    kept: dict[str, Any] = field(default_factory=dict)  #: name -> the value that was carried over
    importer: str | None = None  #: whose body imported it first

    @property
    def names(self) -> dict[str, Any]:
        return vars(self.module)


class _Space:
    """Dies with a namespace: functions hold their globals, not the module that these were of."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names


class _ProgramRun:
    """A run of those of a program's modules that a save has changed."""

    modules_that_failed: frozenset[str] = frozenset()

    def __init__(
        self, main: str, sources: Mapping[str, _Source], edits: Mapping[str, Edit], apps: Mapping[_Slot, Identity]
    ) -> None:
        self.thread = threading.get_ident()
        self.failed = False
        self.memory: dict[Any, Any] = {}
        self.bodies: dict[str, _Body] = {}
        self.dropped: frozenset[str] = frozenset()
        self.sources, self.edits = sources, edits
        self.apps: dict[_Slot, Identity] = {}  #: of unnamed apps that the statements of this run have made or kept
        self._main = main
        self._apps_before = apps
        self._statements: list[tuple[str, str, frozenset[str]]] = []  # that run: module, label, all labels there

    @property
    def owners(self) -> frozenset[Owner]:
        return frozenset(Owner("module", name) for name in (*self.bodies, *self.dropped))

    def owner(self) -> Owner | None:
        return Owner("module", importing_module() or self._main)

    def is_apart(self, owner: Owner) -> bool:
        return False

    def next_app(self) -> Identity | None:
        """The app of the same assignment; where its name is another one now, one that no assignment has any more."""
        if not self._statements:
            return None
        module, label, labels = self._statements[-1]
        count = sum(slot[:2] == (module, label) for slot in self.apps)
        slot = (module, label, count)
        taken = set(self.apps.values())
        known = self._apps_before.get(slot)
        if known is None:
            orphans = [s for s in self._apps_before if s[0] == module and s[1] not in labels]
            known = next((self._apps_before[s] for s in orphans if self._apps_before[s] not in taken), None)
        if known is None:
            taken |= set(self._apps_before.values())
            names = (("module", module, label, str(n)) for n in range(count, count + len(taken) + 1))
            known = next(name for name in names if name not in taken)
        self.apps[slot] = known
        return known

    def keep_apps(self, module: str, label: str) -> None:
        self.apps.update({slot: app for slot, app in self._apps_before.items() if slot[:2] == (module, label)})

    @contextmanager
    def statement(self, module: str, label: str, labels: frozenset[str]) -> Iterator[list[tuple[Any, Act]]]:
        """Gives a list that holds, when the context has ended, what its code did to which app."""
        before = {app: len(staged.acts) for app, staged in self.memory.items()}
        acts: list[tuple[Any, Act]] = []
        self._statements.append((module, label, labels))
        try:
            yield acts
        finally:
            self._statements.pop()
            for app, staged in self.memory.items():
                new = staged.acts[before.get(app, 0) :]
                acts.extend((app, act) for act in new if act[0] == Owner("module", module))


class Program(Runs):
    """The program that *script* is, as the module *main*, or that the module *main* is.

    Its own modules are those under *roots* that are not installed. `installed()` must be around all of its life.
    """

    def __init__(self, main: str, script: Path | None = None, roots: Iterable[Path] = ()) -> None:
        super().__init__()
        self.main, self.script = main, script
        self._roots = tuple(roots)
        self._finder = Finder(main, script, self._roots, self._execute)
        self._live: dict[str, _Body] = {}  # replaced and never changed: a handler may import late
        self._apps: dict[_Slot, Identity] = {}
        self._spaces: dict[str, weakref.WeakSet[_Space]] = {}
        self._run: _ProgramRun | None = None
        self._tried: dict[Path, Mark | None] = {}  # files that the last run read
        self._others: dict[Path, Mark | None] | None = None  # files beside them, where that run failed

    def installed(self) -> AbstractContextManager[None]:
        """Have the program's own modules imported by it."""
        return self._finder.installed()

    @property
    def names(self) -> Mapping[str, Any]:
        """The globals of the program's module, as they are live; empty before it has run."""
        body = self._live.get(self.main)
        return body.names if body is not None else {}

    @property
    def files(self) -> dict[Path, Mark | None]:
        """The files to watch, each with its mark when it was read.

        After a run that failed these are all beside it: one may mend what it failed of, though it never got to it.
        """
        files = {**{body.path: body.mark for body in self._live.values()}, **self._tried}
        if self._others is not None:
            files |= {path: self._others.get(path) for path in self._beside() if path not in files}
        return files

    def _beside(self) -> Iterator[Path]:
        folders = {path.parent for path in self._tried} | {body.path.parent for body in self._live.values()}
        return (path for folder in {*folders, *self._roots} for path in folder.glob("*.py"))

    def current(self) -> Run | None:
        run = self._run
        return run if run is not None and run.thread == threading.get_ident() else None

    # -- a run

    def run(self, check: Callable[[Mapping[str, Any]], None] = lambda names: None) -> Outcome:
        """Run what has changed since it was run last; all of it the first time.

        *check* is asked with the globals of the program's module before anything is published, and may raise.
        KeyboardInterrupt is raised on, after all has been put back.
        """
        again = self._to_run_again()
        sources, edits = self._read(again)
        run = _ProgramRun(self.main, sources, edits, self._apps)
        self._tried = {self._live[name].path: source[0] for name, source in sources.items()}
        self._others = None
        try:
            self._run = run
            for listener in self.listeners:
                listener.run_begins(run)
            with Replacement(again) as replacement:
                self._import(again, run)
                check(run.bodies[self.main].names if self.main in run.bodies else self.names)
                for listener in self.listeners:
                    listener.check_run(run)
                replacement.accept()
        except BaseException as exc:
            self._fail(run)
            if isinstance(exc, KeyboardInterrupt):
                raise
            return Outcome(exc)
        return self._publish(run)

    def _import(self, again: frozenset[str], run: _ProgramRun) -> None:
        importlib.invalidate_caches()
        importlib.import_module(self.main)
        run.dropped = self._reached(self._live) - self._reached({**self._live, **run.bodies})
        for name in sorted(again - run.dropped):
            if name not in run.bodies:  # a function imports it, or code that is not looked at here
                importlib.import_module(name)

    @held_back()
    def _publish(self, run: _ProgramRun) -> Outcome:
        for body in run.bodies.values():
            self._carry_over(body)
        for name in run.dropped:
            sys.modules.pop(name, None)
        stay = {name: body for name, body in self._live.items() if name not in run.dropped}
        self._apps = {slot: app for slot, app in self._apps.items() if slot[0] in stay.keys() - run.bodies.keys()}
        self._apps |= run.apps
        self._live = {**stay, **run.bodies}
        self._run = None
        for listener in self.listeners:
            listener.run_ends(run, True)
        for body in run.bodies.values():
            self._refresh(body)
        return Outcome(changed=frozenset().union(*(self._changed(run, body) for body in run.bodies.values())))

    def _fail(self, run: _ProgramRun) -> None:
        self._run = None
        run.failed = True
        for listener in self.listeners:
            listener.run_ends(run, False)
        self._others = {path: mark(path) for path in self._beside()}

    def _carry_over(self, body: _Body) -> None:
        """Take what handlers have assigned to kept names since they were carried over."""
        old = self._live[body.name].names if body.kept else {}
        for name, value in body.kept.items():
            now = old.get(name, value)
            if now is not value and body.names.get(name) is value:
                body.names[name] = now

    def _refresh(self, body: _Body) -> None:
        """Let the code of earlier runs, that kept values and messages in flight hold, find what is live now."""
        names = {name: value for name, value in body.names.items() if not name.startswith("__")}
        for space in tuple(self._spaces[body.name]):
            if space.names is not body.names:
                space.names.update(names)

    def _changed(self, run: _ProgramRun, body: _Body) -> frozenset[str]:
        edit = run.edits.get(body.name)
        if edit is None:
            return frozenset()
        did = (each for each, acts in zip(body.code.statements, body.acts, strict=True) if acts and not each.may_stay)
        return (edit.changed & body.code.names).difference(*(each.binds for each in did))

    # -- what is to be run

    def _to_run_again(self) -> frozenset[str]:
        """The modules whose files are other ones now, and those that import them; with a module its packages too.

        Were a package left as it is, importing its module anew would put that into the package that is live.
        """
        if self.main not in self._live:
            return frozenset([self.main])
        now = {name: mark(body.path) for name, body in self._live.items()}
        found = {name for name, body in self._live.items() if now[name] not in (None, body.mark)}
        while True:
            parents = {parent for name in found for parent in parents_of(name)} & self._live.keys()
            importers = {name for name, body in self._live.items() if self._imports(body) & (found | parents)}
            if parents | importers <= found:
                return frozenset(found | ({self.main} if found else set()))
            found |= parents | importers

    def _imports(self, body: _Body) -> frozenset[str]:
        loaded = {name for name, each in self._live.items() if each.importer == body.name}
        return body.code.imports | loaded

    def _reached(self, bodies: Mapping[str, _Body]) -> frozenset[str]:
        """Those of *bodies* that the program's module leads to by what is written, or that are written nowhere."""
        written = frozenset().union(*(body.code.imports for body in self._live.values()))
        reached: set[str] = set()
        waiting = [self.main, *(self._live.keys() - written)]
        while waiting:
            name = waiting.pop()
            if name in bodies and name not in reached:
                reached.add(name)
                waiting += [*bodies[name].code.imports, *parents_of(name)]
        return frozenset(reached)

    def _read(self, again: frozenset[str]) -> tuple[dict[str, _Source], dict[str, Edit]]:
        """The files of the modules that are to be run again, and what their edits mean.

        One that cannot be read or parsed fails when it is run.
        """
        old = {name: body.code for name, body in self._live.items()}
        new, sources = dict(old), {}
        for name in again & old.keys():
            body = self._live[name]
            found = mark(body.path)  # before it is read: what is written meanwhile is another state
            try:
                sources[name] = (found, body.path.read_bytes())
                with _no_warnings():  # they come when it is run
                    tree = _parsed(sources[name][1], body.path)
                new[name] = read_code(tree, package_of(body.module))
            except (OSError, SyntaxError, ValueError):
                continue
        edits = compare(old, new)
        return sources, {name: edits[name] for name in sources}

    # -- the body of a module

    def _execute(self, module: types.ModuleType, path: Path) -> None:
        """Run the body of one of the program's own modules, keeping of the last run what may be kept."""
        name, names = module.__name__, vars(module)
        run = self._run if self.current() is not None else None
        source = run.sources.get(name) if run is not None else None
        if source is None:
            source = (mark(path), path.read_bytes())
        body = _Body(name, path, source[0], module)
        if run is not None:
            self._tried[path] = body.mark
        tree = _parsed(source[1], path)
        whole = compile(tree, str(path), "exec", dont_inherit=True)  # all of its syntax errors before any of it runs
        body.code = read_code(tree, package_of(module))
        body.importer = self._live[name].importer if name in self._live else importing_module()
        space = names[_SPACE] = _Space(names)
        self._spaces.setdefault(name, weakref.WeakSet()).add(space)
        put_submodules_into(module)
        names["__doc__"] = ast.get_docstring(tree, clean=False)
        if run is not None:
            run.bodies[name] = body
            self._execute_in_run(run, body, tree)
            return
        # A function has imported it, late, such as a handler.
        exec(whole, names)
        body.acts = [[] for _ in tree.body]
        self._live = {**self._live, name: body}

    def _execute_in_run(self, run: _ProgramRun, body: _Body, tree: ast.Module) -> None:
        edit, old = run.edits.get(body.name, Edit()), self._live.get(body.name)
        labels = frozenset(statement.label for statement in body.code.statements)
        codes = _compiled_apart(tree, body.path)
        for place, (code, statement) in enumerate(zip(codes, body.code.statements, strict=True)):
            place_before = edit.kept.get(place)
            with run.statement(body.name, statement.label, labels) as acts:
                if old is None or place_before is None or not _can_stay(statement.binds, old.names):
                    exec(code, body.names)
                else:
                    kept = {name: old.names[name] for name in statement.binds}
                    body.kept.update(kept)
                    body.names.update(kept)
                    run.keep_apps(body.name, statement.label)
                    for app, act in old.acts[place_before]:
                        staged: Staged = run.memory.setdefault(app, Staged())
                        staged.do_again(act)
            body.acts.append(acts)


def _can_stay(names: Iterable[str], old: Mapping[str, Any]) -> bool:
    """Whether the old values are there, and none is a module, which may have been imported anew."""
    return all(name in old and not isinstance(old[name], types.ModuleType) for name in names)


@contextmanager
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _compiled_apart(tree: ast.Module, path: Path) -> list[types.CodeType]:
    """The code of each statement, which the `from __future__ import` of those before it apply to."""
    codes, flags = [], 0
    with _no_warnings():  # they came when the whole was compiled
        for node in tree.body:
            codes.append(compile(ast.Module([node], []), str(path), "exec", flags, dont_inherit=True))
            flags |= codes[-1].co_flags & _FUTURES
    return codes


def _parsed(source: bytes, path: Path) -> ast.Module:
    # Not ast.parse, which would stand in the traceback of a syntax error.
    tree = compile(source, str(path), "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
    assert isinstance(tree, ast.Module)
    return tree
