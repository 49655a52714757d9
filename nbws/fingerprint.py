"""When is code that is run again the same code? Two functions with equal fingerprints are one version.

Compared is what was written: the code, its defaults, annotations and what it closes over; not where it stands in the
cell, nor the state that it works on.
"""

from __future__ import annotations

import enum
import functools
import inspect
import textwrap
import types
import typing
from collections.abc import Hashable
from typing import Any

__all__ = ["PLAIN", "fingerprint", "source_of"]

PLAIN = (int, float, complex, bool, str, bytes, type(None), type(Ellipsis))


def fingerprint(value: Any) -> Hashable:
    """A hashable that is equal for the same code and differs for other code. Never raises."""
    return _of(value, seen=set())


def source_of(fn: Any) -> str:
    """The code of *fn* as it was written, its decorators included; "" where that cannot be found. Never raises."""
    written = getattr(fn, "__nbws_source__", None)  # what a magic has made a function of
    if isinstance(written, str):
        return written
    try:
        return textwrap.dedent(inspect.getsource(inspect.unwrap(fn)))
    except Exception:
        return ""


def _of(value: Any, seen: set[int]) -> Hashable:
    if isinstance(value, enum.Enum):
        return ("member", _class_name(type(value)), value.name)
    if isinstance(value, PLAIN):
        return (type(value).__name__, value)
    if id(value) in seen:
        return "again"
    if isinstance(value, types.CodeType):
        return _code(value, seen)
    seen = seen | {id(value)}
    if isinstance(value, types.FunctionType):
        return _function(value, seen)
    if isinstance(value, functools.partial):
        keywords = tuple((name, _of(v, seen)) for name, v in value.keywords.items())
        return ("partial", _of(value.func, seen), _of(value.args, seen), keywords)
    if isinstance(value, types.MethodType):
        return ("method", _of(value.__func__, seen))
    if isinstance(value, tuple | frozenset):
        members = tuple(_of(v, seen) for v in value)
        return (type(value).__name__, frozenset(members) if isinstance(value, frozenset) else members)
    if isinstance(value, type):
        return _class(value, seen)
    call = inspect.getattr_static(type(value), "__call__", None)
    wrapped = inspect.getattr_static(value, "__wrapped__", None)  # as functools.cache leaves it
    return ("instance", _class_name(type(value)), _of(call, seen), _of(wrapped, seen))


def _default(value: Any, seen: set[int]) -> Hashable:
    """A default is written in the signature, so what a list or a dict there holds is code and not state."""
    if type(value) not in (list, set, dict) or id(value) in seen:
        return _of(value, seen)
    seen = seen | {id(value)}
    if isinstance(value, dict):
        return ("dict", tuple((_default(k, seen), _default(v, seen)) for k, v in value.items()))
    members = tuple(_default(v, seen) for v in value)
    return (type(value).__name__, frozenset(members) if isinstance(value, set) else members)


def _code(code: types.CodeType, seen: set[int]) -> Hashable:
    return (
        code.co_name,
        code.co_code,
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_flags,
        code.co_argcount,
        code.co_posonlyargcount,
        code.co_kwonlyargcount,
        tuple(_of(constant, seen) for constant in code.co_consts),
        getattr(code, "co_exceptiontable", b""),
    )


def _function(function: types.FunctionType, seen: set[int]) -> Hashable:
    closure = []
    for cell in function.__closure__ or ():
        try:
            closure.append(_of(cell.cell_contents, seen))
        except ValueError:  # not filled yet
            closure.append("empty")
    return (
        "function",
        _of(function.__code__, seen),
        tuple(_default(v, seen) for v in function.__defaults__ or ()),
        tuple((k, _default(v, seen)) for k, v in (function.__kwdefaults__ or {}).items()),
        _annotations(function, seen),
        tuple(closure),
    )


def _annotations(owner: Any, seen: set[int]) -> Hashable:
    try:
        annotations = inspect.get_annotations(owner)
    except Exception:  # evaluated late since Python 3.14, and then a name may be missing
        return "unreadable"
    return tuple((name, _annotation(a, seen)) for name, a in annotations.items())


def _annotation(annotation: Any, seen: set[int]) -> Hashable:
    args = typing.get_args(annotation)
    if args:
        return (repr(typing.get_origin(annotation)), tuple(_annotation(a, seen) for a in args))
    return _of(annotation, seen) if isinstance(annotation, type) else repr(annotation)


def _class(cls: type, seen: set[int]) -> Hashable:
    return ("class", _class_name(cls), _annotations(cls, seen))


def _class_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
