"""What a path and a URL say."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, quote, unquote_plus, urlencode

from starlette.routing import compile_path
from starlette.types import Scope

from nbws.errors import DefinitionError

__all__ = ["filled_path", "path_parameters", "query_of", "without"]

_PARAMETER = re.compile(r"{([a-zA-Z_][a-zA-Z0-9_]*)(:[a-zA-Z_][a-zA-Z0-9_]*)?}")


def path_parameters(path: str) -> frozenset[str]:
    """The names in *path*, such as room in `/chat/{room}`. Raises DefinitionError for what is no path."""
    if not isinstance(path, str) or not path.startswith("/"):
        raise DefinitionError(f"{path!r} is no path; it starts with '/', such as '/ws' or '/chat/{{room}}'")
    if re.search(r"[{}\s?#]", _PARAMETER.sub("", path)):
        raise DefinitionError(f"the path {path!r} does not parse; a parameter is {{name}} or {{name:int}}")
    try:
        _, _, convertors = compile_path(path)
    except (AssertionError, ValueError) as exc:
        raise DefinitionError(f"the path {path!r} does not parse: {exc}") from None
    return frozenset(convertors)


def filled_path(path: str, **values: Any) -> str:
    """*path* with its parameters filled from *values*, and the rest of them as its query."""
    names = path_parameters(path)
    filled = _PARAMETER.sub(lambda m: quote(str(values[m[1]]), safe="/" if ":path" in m[0] else ""), path)
    query = urlencode({name: value for name, value in values.items() if name not in names}, doseq=True)
    return f"{filled}?{query}" if query else filled


def query_of(scope: Scope) -> dict[str, list[str]]:
    """The query parameters of a request or handshake, each with all its values."""
    text = scope.get("query_string", b"").decode("latin-1")
    return parse_qs(text, keep_blank_values=True) if text else {}


def without(query_string: bytes, name: str) -> bytes:
    """*query_string* without its parameters of *name*; the others stay as they were written."""
    parts = query_string.split(b"&")
    return b"&".join(part for part in parts if unquote_plus(part.partition(b"=")[0].decode("latin-1")) != name)
