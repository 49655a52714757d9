"""A traceback as its author wants it: the author's own frames, and nothing of what ran them."""

from __future__ import annotations

import importlib
import inspect
import runpy
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import nbws.errors

__all__ = ["author_traceback"]

_RUNNERS = ("<frozen importlib", "<frozen runpy", runpy.__file__)


def author_traceback(exception: BaseException, machinery: Sequence[ModuleType] = ()) -> str:
    """The traceback of *exception* without the frames of nbws, of what imports and of the *machinery* packages."""
    told = traceback.TracebackException.from_exception(exception)
    folders = tuple(str(Path(inspect.getfile(module)).parent) for module in (nbws.errors, importlib, *machinery))
    for part in _parts(told, set()):
        own = [frame for frame in part.stack if not frame.filename.startswith((*_RUNNERS, *folders))]
        part.stack = traceback.StackSummary.from_list(own)
    return "".join(told.format())


def _parts(told: traceback.TracebackException, seen: set[int]) -> Iterator[traceback.TracebackException]:
    """*told*, and what it was raised from."""
    if id(told) in seen:
        return
    seen.add(id(told))
    yield told
    for other in (told.__cause__, told.__context__, *(getattr(told, "exceptions", None) or ())):
        if other is not None:
            yield from _parts(other, seen)
