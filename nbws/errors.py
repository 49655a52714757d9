"""What can go wrong, each with what arrived, what was expected and what to do.

NbwsError
├── DefinitionError      a handler, path or option that cannot work; raised in the cell that defines it
├── MessageError         a frame that is no message
│   └── BindError        a message that does not fill a handler's parameter
├── RenderError          a value that is no HTML
└── ServerStartError     the server did not come up
    └── PortTakenError   somebody else listens on the port that was asked for
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "BindError",
    "DefinitionError",
    "MessageError",
    "NbwsError",
    "PortTakenError",
    "RenderError",
    "ServerStartError",
]


class NbwsError(Exception):
    """The base of every error that nbws raises itself."""


class DefinitionError(NbwsError, TypeError):
    """A definition that cannot work. The one that it was to replace stays as it is."""


class MessageError(NbwsError, ValueError):
    """A frame that is no message: not JSON, not an object, nested too deep."""


class BindError(MessageError):
    """A message (or a request) that does not fill a handler's parameter.

    *got* is the value that arrived, or `MISSING`; *want* says what was expected.
    """

    def __init__(self, handler: str, parameter: str, *, got: Any, want: str, remedy: str) -> None:
        self.handler, self.parameter, self.got, self.want, self.remedy = handler, parameter, got, want, remedy
        what = "is missing" if got is MISSING else f"is {_short(got)}, not {want}"
        super().__init__(f"{handler}: {parameter} {what}; {remedy}")


class RenderError(NbwsError, TypeError):
    """A value that cannot be sent as HTML."""


class ServerStartError(NbwsError, RuntimeError):
    """The server did not come up; `__cause__` holds the reason where there is one."""


class PortTakenError(ServerStartError):
    """Somebody else listens on the port that was asked for."""


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Any = _Missing()
"""Stands for a value that did not arrive, where None would be a value."""


def described(exception: BaseException, limit: int = 1000) -> str:
    """`Kind: text`, of *limit* characters of text at the most, whatever the exception does when it is asked for it."""
    try:
        text = str(exception)
    except Exception as exc:
        text = f"(its text cannot be shown: {type(exc).__name__})"
    return f"{type(exception).__name__}: {text if len(text) <= limit else f'{text[: limit - 1]}…'}"


def _short(value: Any, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
