"""What an author may set on an App: one immutable record, replaced whole when `App(...)` is run again."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from nbws.errors import DefinitionError
from nbws.limits import Limits
from nbws.page import EXTENSIONS
from nbws.session_store import METHODS, SessionStore

__all__ = ["Options", "check_loop"]

# What FastHTML's constructor takes and this one has no use for: nothing is loaded from elsewhere.
_NOT_NEEDED = frozenset(
    """
surreal htmx htmx4 canonical nb_hdrs key_fname sess_cls sess_path sess_domain pico live reload_attempts
reload_interval max_part_size routes after
""".split()
)
_SEQUENCES = ("exts", "before", "middleware", "on_startup", "on_shutdown", "allowed_hosts", "allowed_origins", "redact")
_OTHER_NAMES = {"sess_https_only": "https_only"}
_NONE_IS_A_VALUE = frozenset(
    "port token secret_key max_age session_store body_wrap lifespan auto_rollback record compression".split()
)


@dataclass(frozen=True)
class Options:
    """The options of an App, `App(title="Chat", port=8000)`. Checked when they are given."""

    title: str = "nbws app"  #: of a page whose handler gives none
    exts: Sequence[str] = ("ws",)  #: of htmx, on every page; "ws" is the one that is shipped
    hdrs: Any = ()  #: what stands in the `<head>` of every page: tags, text, or a list of them
    ftrs: Any = ()  #: what stands at the end of the `<body>` of every page
    default_hdrs: bool = True  #: False leaves out htmx, the stylesheet and the page's own script
    htmlkw: Mapping[str, Any] = field(default_factory=dict)  #: attributes of `<html>`
    bodykw: Mapping[str, Any] = field(default_factory=dict)  #: attributes of `<body>`
    #: signs the ids of sessions; None derives it from the kernel, or makes one that ends with the process
    secret_key: str | None = field(default=None, repr=False)
    session_cookie: str = "session_"  #: the name of the cookie that holds a session's id
    #: seconds that a session lasts unused; None is for ever, with a cookie that ends with the browser
    max_age: int | None = 365 * 24 * 3600
    #: of that cookie; a notebook's is kept by the preview's frame in any case
    same_site: Literal["lax", "strict", "none"] = "lax"
    https_only: bool = False  #: whether browsers are to send that cookie over https alone
    session_store: SessionStore | None = None  #: where several workers share sessions; None keeps them in memory
    host: str = "127.0.0.1"  #: the address to listen on; "0.0.0.0" is every one of this machine
    #: None derives it from the kernel (5001 in a script) and takes the next where that is taken; 0 takes any
    port: int | None = None
    #: the credential that clients need: a text, True to make one, False for none; None is True in a notebook alone
    token: str | bool | None = field(default=None, repr=False)
    allowed_hosts: Sequence[str] = ()  #: host names, besides loopback, under which it may be asked for
    #: other origins, such as "https://portal.example.org", whose pages may talk to it and frame it
    allowed_origins: Sequence[str] = ()
    limits: Limits = field(default_factory=Limits)  #: what one client may cost
    #: of websocket messages; None is on where the server listens beyond loopback, and off on it
    compression: bool | None = None
    #: functions, or `Beforeware`s, that run before HTTP handlers, and answer in their place where they return something
    before: Sequence[Callable[..., Any]] = ()
    #: a function of a page's content, a tuple, that gives what goes into the `<body>`; None takes it as it is
    body_wrap: Callable[..., Any] | None = None
    middleware: Sequence[Any] = ()  #: Starlette's: `Middleware(SomeMiddleware, option=...)`
    #: status or exception class -> a function of (request, exc) that answers HTTP errors of it
    exception_handlers: Mapping[Any, Callable[..., Any]] = field(default_factory=dict)
    on_startup: Sequence[Callable[..., Any]] = ()  #: functions that run when the server starts
    on_shutdown: Sequence[Callable[..., Any]] = ()  #: functions that run when the server stops
    #: an async generator of the app: what stands before its `yield` runs at the start, and the rest at the end
    lifespan: Callable[..., Any] | None = None
    debug: bool = False  #: shows tracebacks of HTTP handlers to clients
    #: a new version that fails so many times in a row gives way to the last that worked; None leaves it
    auto_rollback: int | None = None
    #: messages that each connection keeps for `replay`; None keeps 20 in development and none otherwise, False none
    record: int | None = None
    #: where a notebook shows what handlers print: under the previews, or under the cell that defined the handler
    prints: Literal["panel", "cell"] = "panel"
    #: "kernel" runs handlers on the loop that cells run on, where they may touch widgets, and wait while a cell runs
    loop: Literal["server", "kernel"] = "server"
    #: names of fields whose values are kept and shown nowhere
    redact: Sequence[str] = ("password", "passwd", "secret", "token", "api_key", "csrf_token")

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """The options that `App(**given)` asks for. Raises DefinitionError for one that there is not."""
        known = {f.name for f in fields(cls)}
        chosen = {}
        for name, value in given.items():
            option = _OTHER_NAMES.get(name, name)
            if option in known:
                if value is not None or option in _NONE_IS_A_VALUE:
                    chosen[option] = value
            elif option not in _NOT_NEEDED and not (option == "backplane" and value is None):
                close = difflib.get_close_matches(option, known, 1)
                meant = f"; did you mean {close[0]}=?" if close else "; an attribute of <body> goes into bodykw={...}"
                raise DefinitionError(f"App has no option {name!r}{meant}")
        return cls(**chosen)

    def __post_init__(self) -> None:
        for name in _SEQUENCES:
            object.__setattr__(self, name, _as_tuple(getattr(self, name)))
        object.__setattr__(self, "allowed_hosts", tuple(_host(host) for host in self.allowed_hosts))
        object.__setattr__(self, "allowed_origins", tuple(_origin(origin) for origin in self.allowed_origins))
        object.__setattr__(self, "redact", tuple(str(name).lower() for name in self.redact))
        if self.auto_rollback is not None and not (type(self.auto_rollback) is int and self.auto_rollback > 0):
            raise DefinitionError(
                f"auto_rollback={self.auto_rollback!r} is no number of failures; give one such as 3, or None"
            )
        if self.record is not None and not (isinstance(self.record, int) and self.record >= 0):
            raise DefinitionError(
                f"record={self.record!r} is no number of messages; give one such as 20, False for none, or None"
            )
        if not (self.compression is None or isinstance(self.compression, bool)):
            raise DefinitionError(f"compression={self.compression!r} is no choice; give True, False or None")
        if self.prints not in ("panel", "cell"):
            raise DefinitionError(f"prints={self.prints!r} is no place; there is 'panel' and 'cell'")
        check_loop(self.loop)
        if not isinstance(self.limits, Limits):
            raise DefinitionError(f"limits={self.limits!r} is no Limits; give Limits(connections=100), for example")
        if self.session_store is not None and not all(hasattr(self.session_store, method) for method in METHODS):
            raise DefinitionError(
                f"session_store={self.session_store!r} is none; give an object with the methods {', '.join(METHODS)}, "
                "as nbws.session_store.SessionStore says"
            )
        if not isinstance(self.host, str):
            raise DefinitionError(f"host={self.host!r} is no address; give a text such as '127.0.0.1'")
        for middleware in self.middleware:
            if not hasattr(middleware, "cls"):
                raise DefinitionError(
                    f"middleware={middleware!r} is none; give Middleware(SomeMiddleware, option=...), of Starlette"
                )
        unknown = [e for e in self.exts if e not in EXTENSIONS]
        if unknown:
            raise DefinitionError(
                f"exts={unknown[0]!r} is not shipped; there is {', '.join(EXTENSIONS)}. "
                "Add another extension's script with hdrs=Script(src=...)"
            )
        if self.token == "":
            raise DefinitionError("token='' lets everybody in; give a long random text, True to make one, or False")
        if self.port is not None and not (isinstance(self.port, int) and 0 <= self.port < 65536):
            raise DefinitionError(f"port={self.port!r} is no port; give a number from 1 to 65535, or None")


def check_loop(loop: Any) -> None:
    """Raises DefinitionError for what is no place where a handler may run."""
    if loop not in ("server", "kernel"):
        raise DefinitionError(f"loop={loop!r} is no loop; there is 'server', and in a notebook 'kernel'")


def _host(given: Any) -> str:
    """The name that a Host header is held against."""
    host = re.sub(r"(?<=[\w.\]]):\d+$", "", str(given)).lower()
    if not re.fullmatch(r"[\w.-]+|\[[0-9a-f:.]+\]", host):
        raise DefinitionError(
            f"allowed_hosts={given!r} is no host name; list each, such as 'app.example.org', without scheme and path"
        )
    return host


def _origin(given: Any) -> str:
    """The origin that an Origin header is held against."""
    origin = str(given).lower().rstrip("/")
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[a-z0-9._~:\[\]-]+", origin):
        raise DefinitionError(
            f"allowed_origins={given!r} is no origin; list each whole, such as 'https://hub.example.org' "
            "('null' is the origin of every sandboxed page, whoever made it, and is never let in)"
        )
    return re.sub(r"(?<=^http)(://.+):80$|(?<=^https)(://.+):443$", r"\1\2", origin)


def _as_tuple(value: Any) -> tuple[Any, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, tuple | list | set | frozenset) else (value,)
