"""The modules of a program's own: which they are, how they are loaded, and how some of them are imported anew."""

from __future__ import annotations

import builtins
import importlib.machinery
import importlib.util
import os
import sys
import sysconfig
import threading
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbws.errors

__all__ = ["Finder", "Replacement", "package_of", "parents_of", "put_submodules_into"]

_INSTALLED = tuple(
    Path(place).resolve()
    for place in (
        *map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib")),
        os.path.dirname(nbws.errors.__file__),
    )
)

Execute = Callable[[types.ModuleType, Path], None]


class Finder:
    """Has the modules under *roots* that are not installed, and the module *main*, run by *execute*.

    *script* is the file of *main*; None where the import system finds it.
    """

    def __init__(self, main: str, script: Path | None, roots: Iterable[Path], execute: Execute) -> None:
        self._main, self._script, self._execute = main, script, execute
        self._roots = [root.resolve() for root in roots]

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Be asked first, for as long as the context lasts."""
        sys.meta_path.insert(0, self)
        try:
            yield
        finally:
            sys.meta_path.remove(self)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name == self._main and self._script is not None:
            loader = _Loader(name, str(self._script), self._execute)
            return importlib.util.spec_from_file_location(name, self._script, loader=loader)
        for finder in sys.meta_path:
            found = finder.find_spec(name, path, target) if finder is not self else None
            if found is not None:
                break
        else:
            return None
        loaded_by = found.loader
        if type(loaded_by) is importlib.machinery.SourceFileLoader and self._is_own(name, Path(loaded_by.path)):
            found.loader = _Loader(name, loaded_by.path, self._execute)
        return found

    def _is_own(self, name: str, path: Path) -> bool:
        if name == self._main:
            return True
        path = path.resolve()
        if any(part in ("site-packages", "dist-packages") for part in path.parts):
            return False
        return any(map(path.is_relative_to, self._roots)) and not any(map(path.is_relative_to, _INSTALLED))


class _Loader(importlib.machinery.SourceFileLoader):
    """Keeps no bytecode: a save must never find that of the one before."""

    def __init__(self, name: str, path: str, execute: Execute) -> None:
        super().__init__(name, path)
        self._execute = execute

    def exec_module(self, module: types.ModuleType) -> None:
        self._execute(module, Path(os.path.abspath(self.path)))


class Replacement:
    """A context in which the modules *again* can be imported anew, by the thread that is in it.

    Other threads, such as those of handlers that import late, go on to find the modules that are live. Where `accept`
    has not been called, `sys.modules` is put back as it was at the end.
    """

    def __init__(self, again: Collection[str]) -> None:
        self._again = again
        self._is_accepted = False

    def accept(self) -> None:
        """Leave `sys.modules` as it is at the end of the context."""
        self._is_accepted = True

    def __enter__(self) -> Replacement:
        self._before = dict(sys.modules)
        self._taken = {name: self._before[name] for name in self._again if name in self._before}
        for package in {parent for name in self._again for parent in parents_of(name)}.difference(self._again):
            found = self._before.get(package)
            if found is not None and getattr(found, "__file__", None) is None:
                self._taken[package] = found
        self._thread, self._import = threading.get_ident(), builtins.__import__
        builtins.__import__ = self._import_for_thread
        for name, module in self._taken.items():
            del sys.modules[name]
            if name not in self._again:  # a package without code of its own: a copy of it takes up what is new
                sys.modules[name] = types.ModuleType(name)
                vars(sys.modules[name]).update(vars(module))
        return self

    def __exit__(self, *_: object) -> None:
        builtins.__import__ = self._import
        if not self._is_accepted:
            self._put_back()

    def _import_for_thread(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> types.ModuleType:
        if threading.get_ident() != self._thread:
            absolute = _absolute(name, level, globals)
            if absolute in self._taken:
                return self._before[absolute if fromlist else absolute.partition(".")[0]]
        return self._import(name, globals, locals, fromlist or (), level)

    def _put_back(self) -> None:
        for name, module in list(sys.modules.items()):
            is_own = isinstance(getattr(getattr(module, "__spec__", None), "loader", None), _Loader)
            if self._before.get(name) is module or not (is_own or name in self._taken):
                continue
            del sys.modules[name]
            parent, _, child = name.rpartition(".")
            holder = sys.modules.get(parent)
            if holder is not None and vars(holder).get(child) is module:
                delattr(holder, child)
        sys.modules.update(self._taken)


def put_submodules_into(package: types.ModuleType) -> None:
    """Give *package*, imported anew, those of its modules that were not: nobody else would."""
    prefix = package.__name__ + "."
    for name, module in list(sys.modules.items()):
        if name.startswith(prefix) and "." not in name[len(prefix) :]:
            vars(package).setdefault(name[len(prefix) :], module)


def package_of(module: types.ModuleType) -> str:
    """The package against which relative imports in *module* are resolved; "" where there is none."""
    return getattr(module, "__package__", None) or ""


def parents_of(name: str) -> Iterator[str]:
    """The packages that the module *name* is in, the innermost first."""
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def _absolute(name: str, level: int, names: Mapping[str, Any] | None) -> str:
    try:
        return importlib.util.resolve_name("." * level + name, (names or {}).get("__package__") or "")
    except (ImportError, ValueError):
        return name
