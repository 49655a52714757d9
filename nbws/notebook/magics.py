"""`%%ws /path` makes a handler of a cell, and `%nbws` lists what is live."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Mapping
from types import FunctionType
from typing import Any

from nbws.errors import DefinitionError

__all__ = ["register_magics"]

_USAGE = "%%ws PATH [PARAMETERS] [--app NAME] [--conn NAME] [--disconn NAME] [--swap NAME]"
_OPTIONS = ("app", "conn", "disconn", "swap")


def register_magics(shell: Any) -> None:
    """Give *shell* the magics."""

    def ws(line: str, cell: str) -> None:
        """Make a websocket handler of the cell: its body, with the parameters of the first line.

            %%ws /chat/{room} text: str, room: str
            app.broadcast(P(text, id="said"), room=room)
            P(len(text), " characters", id="length")

        is `@app.ws("/chat/{room}")` over an `async def` with that body: it may `await`, `return` and `yield`, and the
        value of an expression at its end is sent. The app is the one of the notebook, or `--app NAME`; `--conn`,
        `--disconn` and `--swap` name functions. The cell is hot-swapped when it is run again, like any other.
        """
        names: dict[str, Any] = shell.user_ns
        path, parameters, options = _parsed(line)
        app = _app(names, options.pop("app", None))
        hooks = {kind: _named(names, name, kind) for kind, name in options.items()}
        handler = _made(shell, path, parameters, line, cell)
        app.ws(path, **hooks)(handler)

    def nbws(line: str) -> Any:
        """List the endpoints of the notebook's app, or of the one that is named: `%nbws`, `%nbws other_app`."""
        return _app(shell.user_ns, line.strip() or None).endpoints

    shell.register_magic_function(ws, "cell", "ws")
    shell.register_magic_function(nbws, "line", "nbws")


def _parsed(line: str) -> tuple[str, str, dict[str, str]]:
    """(the path, the parameters, the options) of what stands after `%%ws`."""
    options = dict(re.findall(r"\s--(\w+)[= ](\w+)", line))
    unknown = [name for name in options if name not in _OPTIONS]
    rest = re.sub(r"\s--\w+[= ]\w+", "", line).strip()
    path, _, parameters = rest.partition(" ")
    path = "".join(shlex.split(path)) if path else ""
    if unknown or not path.startswith("/"):
        got = f"--{unknown[0]}" if unknown else f"the path {path!r}" if path else "no path"
        raise DefinitionError(f"%%ws got {got}; write {_USAGE}")
    return path, parameters.strip().removeprefix("(").removesuffix(")") if parameters else "", options


def _made(shell: Any, path: str, parameters: str, line: str, cell: str) -> FunctionType:
    """The function whose body is *cell*. Its lines are those of the cell in tracebacks."""
    name = re.sub(r"\W+", "_", re.sub(r"\{.*?\}", "", path)).strip("_") or "index"
    name = name if name.isidentifier() else f"ws_{name}"
    written = f"# %%ws {line}\n{cell}"
    file = shell.compile.cache(written)
    try:
        module = ast.parse(f"async def {name}({parameters}): pass", file)
    except SyntaxError as exc:
        raise DefinitionError(f"%%ws: ({parameters}) are no parameters: {exc.msg}; write {_USAGE}") from None
    body = ast.parse(written, file).body
    (function,) = module.body
    assert isinstance(function, ast.AsyncFunctionDef)
    if body and isinstance(body[-1], ast.Expr) and not _yields(body):
        body[-1] = ast.copy_location(ast.Return(body[-1].value), body[-1])
    function.body = body or function.body
    names: dict[str, Any] = shell.user_ns
    exec(compile(module, file, "exec", flags=shell.compile.flags, dont_inherit=True), names)
    made = names[name]
    assert isinstance(made, FunctionType)
    made.__nbws_source__ = f"%%ws {line}\n{cell}"  # type: ignore[attr-defined]
    return made


def _yields(body: list[ast.stmt]) -> bool:
    """Whether *body* makes a generator of its function."""
    left: list[ast.AST] = list(body)
    while left:
        node = left.pop()
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            left.extend(ast.iter_child_nodes(node))
    return False


def _app(names: Mapping[str, Any], name: str | None) -> Any:
    """The app of this *name*, or the only one among *names*, or the one that is called `app`."""
    apps = {each: value for each, value in names.items() if _is_app(value) and not each.startswith("_")}
    if name is not None:
        if name in apps:
            return apps[name]
    elif len({id(app) for app in apps.values()}) == 1:
        return next(iter(apps.values()))
    elif "app" in apps:
        return apps["app"]
    there = ", ".join(apps) or "none; app = App() makes one"
    raise DefinitionError(f"there is no app {name!r}; there is {there}" if name else f"which app? There is {there}")


def _is_app(value: Any) -> bool:
    return all(hasattr(type(value), name) for name in ("ws", "broadcast", "endpoints", "publish"))


def _named(names: Mapping[str, Any], name: str, kind: str) -> Any:
    if name not in names:
        raise DefinitionError(f"%%ws --{kind} {name}: there is no {name}; run the cell that defines it")
    return names[name]
