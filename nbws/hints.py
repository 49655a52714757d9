"""What to do about an exception of a handler, where its cause is known. One sentence, or nothing."""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["hint"]


def hint(exception: BaseException) -> str | None:
    """A remedy for *exception*; None where its cause may be anything."""
    try:
        text = str(exception)
    except Exception:
        return None
    for kinds, pattern, remedy in _KNOWN:
        found = re.search(pattern, text) if isinstance(exception, kinds) else None
        if found is not None:
            return remedy(*found.groups())
    return None


_Remedy = Callable[..., str]
_KNOWN: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str, _Remedy], ...] = (
    (
        (TypeError, AttributeError, ValueError),
        r"'coroutine'|coroutine object",
        lambda: "a coroutine is there in place of its result: write `await` before the call",
    ),
    (
        TypeError,
        r"object (\w+) can't be used in 'await' expression",
        lambda kind: f"`await` stands before what is a {kind} already: leave it out",
    ),
    (
        RuntimeError,
        r"asyncio\.run\(\) cannot be called from a running event loop|This event loop is already running",
        lambda: "the handler runs on an event loop: make it `async def`, and `await` the coroutine",
    ),
    (
        RuntimeError,
        r"no running event loop|There is no current event loop",
        lambda: "a `def` handler runs in a worker thread, which has no event loop: make it `async def`",
    ),
    (
        RuntimeError,
        r"dictionary changed size during iteration|Set changed size during iteration",
        lambda: "somebody came or left meanwhile: go through a copy, such as `list(users.values())`",
    ),
    (
        NameError,
        r"name '(\w+)' is not defined",
        lambda name: f"run the cell that defines `{name}`; after a restart of the kernel none has been run",
    ),
    (
        UnboundLocalError,
        r"local variable '(\w+)'",
        lambda name: (
            f"the handler assigns `{name}`, which makes it local: write `global {name}`, or keep it in `app.state`"
        ),
    ),
    (
        ModuleNotFoundError,
        r"No module named '([\w.]+)'",
        lambda name: f"`%pip install {name.partition('.')[0]}`, if the package is called so",
    ),
    (
        AttributeError,
        r"^nothing is stored as '(\w+)'",
        lambda name: f"set `{name}` in `conn`, or read it with `state.get({name!r})`",
    ),
    (RecursionError, r"", lambda: "a function calls itself without an end, or a value contains itself"),
)
