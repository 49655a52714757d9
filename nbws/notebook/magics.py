"""`%%ws /path` makes a handler of a cell, and `%nbws` lists what is live."""

from __future__ import annotations

import ast
import io
import keyword
import re
import shlex
import tokenize
from collections.abc import Mapping
from types import FunctionType
from typing import Any

from nbws.errors import DefinitionError

__all__ = ["register_magics", "written_out"]

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


def written_out(source: str, app: str) -> str:
    """A `%%ws` cell as the definition that it makes, of the app *app* unless the cell names another one.

    Raises DefinitionError for a first line that cannot work, SyntaxError where the cell is no Python.
    """
    line, _, cell = source.partition("\n")
    line = line.removeprefix("%%ws").strip()
    path, parameters, options = _parsed(line)
    app = options.pop("app", app)
    _function(_name(path), parameters)
    body = ast.parse(f"\n{cell}").body  # its line numbers are those of the cell
    lines = ["", *cell.split("\n")]
    if _sends_its_end(body):
        at = body[-1]
        before = lines[at.lineno - 1].encode()[: at.col_offset].decode()  # ast counts in UTF-8
        lines[at.lineno - 1] = f"{before}return {lines[at.lineno - 1][len(before) :]}"
    inside = _lines_inside_strings("\n".join(lines))
    indented = [f"    {text}" if text.strip() and n not in inside else text for n, text in enumerate(lines, 1)][1:]
    hooks = "".join(f", {kind}={name}" for kind, name in options.items())
    text = "\n".join(indented).strip("\n") if body else "    pass"
    return f"@{app}.ws({path!r}{hooks})\nasync def {_name(path)}({parameters}):\n{text}\n"


def _lines_inside_strings(source: str) -> set[int]:
    """The numbers of the lines that begin inside a string: what is put before them would be in the string."""
    found: set[int] = set()
    starts: list[int] = []  # of f-strings and the like, which Python 3.12 has several tokens for
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        kind = tokenize.tok_name[token.type]
        if kind == "STRING":
            found.update(range(token.start[0] + 1, token.end[0] + 1))
        elif kind in ("FSTRING_START", "TSTRING_START"):
            starts.append(token.start[0])
        elif kind in ("FSTRING_END", "TSTRING_END"):
            found.update(range(starts.pop() + 1, token.end[0] + 1))
    return found


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
    name = _name(path)
    written = f"# %%ws {line}\n{cell}"
    file = shell.compile.cache(written)
    module = _function(name, parameters, file)
    body = ast.parse(written, file).body
    (function,) = module.body
    assert isinstance(function, ast.AsyncFunctionDef)
    if _sends_its_end(body):
        end = body[-1]
        assert isinstance(end, ast.Expr)
        body[-1] = ast.copy_location(ast.Return(end.value), end)
    function.body = body or function.body
    names: dict[str, Any] = shell.user_ns
    exec(compile(module, file, "exec", flags=shell.compile.flags, dont_inherit=True), names)
    made = names[name]
    assert isinstance(made, FunctionType)
    made.__nbws_source__ = f"%%ws {line}\n{cell}"  # type: ignore[attr-defined]
    return made


def _function(name: str, parameters: str, file: str = "<unknown>") -> ast.Module:
    """A function that does nothing. Raises DefinitionError where it cannot have these parameters."""
    try:
        return ast.parse(f"async def {name}({parameters}): pass", file)
    except SyntaxError as exc:
        raise DefinitionError(f"%%ws: ({parameters}) are no parameters: {exc.msg}; write {_USAGE}") from None


def _name(path: str) -> str:
    """What the function of *path* is called."""
    name = re.sub(r"\W+", "_", re.sub(r"\{.*?\}", "", path)).strip("_") or "index"
    return name if name.isidentifier() and not keyword.iskeyword(name) else f"ws_{name}"


def _sends_its_end(body: list[ast.stmt]) -> bool:
    """Whether the last statement is an expression whose value is sent."""
    return bool(body) and isinstance(body[-1], ast.Expr) and not _yields(body)


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
