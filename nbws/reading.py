"""What a function reads: the globals that its code names, and all that it reaches through them.

A handler looks its helpers up late, as Python does, so a helper that is defined anew in another cell changes what a
page shows although the page's own code is the same. `reach` tells whether that may be so.
"""

from __future__ import annotations

import dis
import functools
import inspect
import sys
import sysconfig
import types
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nbws.fingerprint import PLAIN, fingerprint

__all__ = ["Reads", "globals_read", "reach", "reads_of"]

_MEMBERS = 1000  #: of one container that are looked at; of a larger one only how many it has
_THINGS = 5000  #: looked at in all


class Reads(NamedTuple):
    """A global among *names* that a function reads, and of which kind it was when the function was defined."""

    names: Mapping[str, Any]
    name: str
    kind: str

    @property
    def stale(self) -> str | None:
        """What has become of it that the function may not expect; None where it is of its kind still."""
        if self.name not in self.names:
            return f"{self.name} is gone"
        kind = _kind(self.names[self.name])
        # What is filled in later is often None at first.
        return None if self.kind in ("None", kind) else f"{self.name} was {self.kind} and is {kind} now"


def reads_of(*functions: Callable[..., Any]) -> tuple[Reads, ...]:
    """The globals that *functions* read, as they are now."""
    found = []
    for function in functions:
        own = _function_of(function)
        for name, value in globals_read(function).items():
            assert own is not None
            found.append(Reads(own.__globals__, name, _kind(value)))
    return tuple(found)


def _kind(value: Any) -> str:
    """The type of *value*, as far as it matters to code that uses it."""
    if value is None:
        return "None"
    if _is(value, types.ModuleType):
        return "a module"
    if _is(value, (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial)):
        return "a function or class"
    if _is(value, (int, float)) and not _is(value, bool):
        return "a number"
    return f"of type {type(value).__name__}"


def globals_read(function: Callable[..., Any]) -> dict[str, Any]:
    """Name -> value of the globals that the code of *function* names and that are there; {} for what has no code."""
    own = _function_of(function)
    if own is None:
        return {}
    return {name: own.__globals__[name] for name in sorted(_names_of(own.__code__)) if name in own.__globals__}


def reach(*functions: Callable[..., Any]) -> Hashable:
    """A hashable that is another one when something that *functions* reach was defined anew, or says something else.

    Followed are functions, classes, modules and plain data of the author; a library's are taken as they are. Of an
    object its class counts, and which object it is; not what is in it. Never raises.
    """
    found: list[Hashable] = []
    seen: set[int] = set()
    todo: list[Any] = list(functions)
    while todo and len(found) < _THINGS:
        value = todo.pop()
        if _is(value, PLAIN):
            found.append((type(value).__name__, value))
        elif id(value) not in seen:
            seen.add(id(value))
            try:
                said, leads_to = _look_at(value)
                found.append(said)
                todo.extend(leads_to)
            except Exception:  # an author's class may do anything, even when it is only looked at
                found.append(id(value))
    return tuple(found)


def _look_at(value: Any) -> tuple[Hashable, Iterable[Any]]:
    """(what it is, what it leads to)."""
    if _is(value, functools.partial):
        return "partial", (value.func, value.args, value.keywords)
    if _is(value, types.MethodType):
        return "method", (value.__func__, value.__self__)
    if _is(value, staticmethod | classmethod):
        return "method", (value.__func__,)
    if _is(value, property):
        return "property", (value.fget,)
    if _is(value, types.FunctionType):
        if _is_library(value.__module__):
            return ("library", value.__module__, value.__qualname__), ()
        return ("function", fingerprint(value)), _read_by(value)
    if _is(value, type):
        name = (value.__module__, value.__qualname__)
        return ("class", *name), () if _is_library(value.__module__) else _made_of(value)
    if _is(value, tuple | list | set | frozenset):
        small = len(value) <= _MEMBERS
        members = sorted(value, key=repr) if _is(value, set | frozenset) and small else value
        return (type(value).__name__, len(value)), members if small else ()
    if _is(value, dict):
        small = len(value) <= _MEMBERS
        return ("dict", len(value)), [each for item in value.items() for each in item] if small else ()
    return ("object", id(value)), (type(value), *_wrapped(value))


def _is(value: Any, kind: Any) -> bool:
    """As isinstance, which asks the object itself for its class; an author's may do anything then."""
    return issubclass(type(value), kind)


def _read_by(function: types.FunctionType) -> Iterator[Any]:
    for name, value in globals_read(function).items():
        if _is(value, types.ModuleType):
            yield from _read_of_module(function.__code__, value)
        else:
            yield name
            yield value
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            pass
    yield from _wrapped(function)


def _read_of_module(code: types.CodeType, module: types.ModuleType) -> Iterator[Any]:
    if not _is_library(module.__name__):
        names = vars(module)
        for name in sorted(_all_names(code)):
            if name in names:
                yield name
                yield names[name]


def _made_of(cls: type) -> Iterator[Any]:
    yield from cls.__bases__
    for name, value in vars(cls).items():
        if isinstance(value, types.FunctionType | staticmethod | classmethod | property) or (
            isinstance(value, PLAIN) and not name.startswith("__")
        ):
            yield name
            yield value


def _wrapped(value: Any) -> Iterator[Any]:
    """What `functools.wraps` and `functools.cache` have left of the function inside."""
    wrapped = inspect.getattr_static(value, "__wrapped__", None)
    if wrapped is not None:
        yield wrapped


def _function_of(value: Any) -> types.FunctionType | None:
    while _is(value, functools.partial):
        value = value.func
    if _is(value, types.MethodType):
        value = value.__func__
    if not _is(value, types.FunctionType | type):
        value = inspect.getattr_static(type(value), "__call__", None)
    return value if _is(value, types.FunctionType) else None


@functools.lru_cache(maxsize=1000)
def _names_of(code: types.CodeType) -> frozenset[str]:
    """The globals that *code*, and the functions inside it, name."""
    own = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return frozenset(own.union(*(_names_of(inner) for inner in _inner(code))))


def _all_names(code: types.CodeType) -> set[str]:
    return set(code.co_names).union(*(_all_names(inner) for inner in _inner(code)))


def _inner(code: types.CodeType) -> list[types.CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]


_LIBRARIES = tuple(
    str(Path(place).resolve())
    for place in {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    if place
)
_OWN = __name__.partition(".")[0]


def _is_library(module: str | None) -> bool:
    """Whether *module* is no code of the author's: installed, built in, or this package."""
    top = (module or "").partition(".")[0]
    if top in ("", "__main__"):
        return False
    return top == _OWN or top in sys.builtin_module_names or _is_installed(module or "", sys.modules)


def _is_installed(module: str, modules: Mapping[str, types.ModuleType]) -> bool:
    file = getattr(modules.get(module), "__file__", None)
    if module not in modules or file is None:
        return False
    return str(Path(file).resolve()).startswith(_LIBRARIES)
