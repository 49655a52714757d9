"""What cells and modules define on an App: its decorators, and what else says how it is to be served."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, TypeVar

from nbws.binding import Bound, Kind
from nbws.errors import DefinitionError
from nbws.fingerprint import fingerprint, source_of
from nbws.handlers import WEBSOCKET, Definition, HttpHandler, Key, WsHandler
from nbws.options import check_loop
from nbws.publishing import Publisher
from nbws.reading import reads_of
from nbws.staging import check_swap_hook, hook_of, ws_definition
from nbws.static_files import WEB_FILES, WebFiles
from nbws.tasks import TASK, TaskHandler
from nbws.urls import filled_path, path_parameters

__all__ = ["Defining", "full_name"]

F = TypeVar("F", bound=Callable[..., Any])

METHODS = ("get", "post", "put", "delete", "patch", "head", "options")


class Defining:
    """The part of an `App` that definitions are written with. Each goes to its publisher, staged or live at once."""

    _publisher: Publisher

    def _compile(self, key: Key, fn: Callable[..., Any]) -> Bound:
        """*fn* as what handles *key*, or is a hook of it. Raises DefinitionError."""
        raise NotImplementedError

    def ws(
        self,
        path: str,
        conn: Callable[..., Any] | None = None,
        disconn: Callable[..., Any] | None = None,
        swap: Callable[..., Any] | None = None,
        name: str | None = None,
        loop: Literal["server", "kernel"] | None = None,
    ) -> Callable[[F], F]:
        """A websocket endpoint: the decorated function handles each message that comes to *path*.

        *conn* and *disconn* run when a client has connected and when it has gone. Run again, the definition is
        swapped under the connections that are open. `swap(ws, state, old, new)` then runs once for each of these,
        with a copy of `ws.state` and the two version numbers: what it makes of the copy is the new state, and what
        it returns is sent; if it raises, the connection keeps its state. *loop* says where its functions run, as in
        `App(loop=)`; None is as the app says.

        Raises DefinitionError for what cannot work, and then leaves the working one alone.
        """
        path_parameters(path)
        if swap is not None:
            check_swap_hook(swap)
        if loop is not None:
            check_loop(loop)
        given_hooks = {kind: hook for kind, hook in (("conn", conn), ("disconn", disconn)) if hook is not None}

        def define(fn: F) -> F:
            key = Key(WEBSOCKET, path)
            names = self._publisher.names_of_cells()
            hooks = {kind: hook_of(self._compile(key, hook), names) for kind, hook in given_hooks.items()}
            self._publisher.define(ws_definition(key, WsHandler(self._compile(key, fn), hooks, swap, loop)))
            _mark_routed(fn, path)
            return fn

        return define

    def route(
        self,
        path: str | Callable[..., Any] | None = None,
        methods: str | Sequence[str] | None = None,
        name: str | None = None,
        include_in_schema: bool = True,
    ) -> Any:
        """An HTTP route. `@app.route` alone takes the path from the function's name, `index` being `/`.

        A function named after a method (`get`, `post`) answers that one; any other answers GET and POST, or
        *methods*.
        """

        def define(fn: F, path: str | None = None) -> F:
            own_name = getattr(fn, "__name__", type(fn).__name__)
            at = path or ("/" if own_name == "index" else f"/{own_name}")
            chosen = methods or ((own_name,) if own_name in METHODS else ("get", "post"))
            bound = self._compile(Key("GET", at), fn)
            handler = HttpHandler(bound, name or own_name, include_in_schema)
            for method in (chosen,) if isinstance(chosen, str) else chosen:
                key = Key(method.upper(), at)
                self._publisher.define(
                    Definition(key, handler, fingerprint(fn), source=source_of(fn), reads=reads_of(fn))
                )
            _mark_routed(fn, at)
            return fn

        if callable(path):
            return define(path)
        return lambda fn: define(fn, path)

    def get(self, path: Any = None, **options: Any) -> Any:
        """`route` for GET alone, with the same options: `@app.get`, or `@app.get("/rooms")`."""
        return self.route(path, "get", **options)

    def post(self, path: Any = None, **options: Any) -> Any:
        """`route` for POST alone."""
        return self.route(path, "post", **options)

    def put(self, path: Any = None, **options: Any) -> Any:
        """`route` for PUT alone."""
        return self.route(path, "put", **options)

    def delete(self, path: Any = None, **options: Any) -> Any:
        """`route` for DELETE alone."""
        return self.route(path, "delete", **options)

    def patch(self, path: Any = None, **options: Any) -> Any:
        """`route` for PATCH alone."""
        return self.route(path, "patch", **options)

    def mount(self, path: str, app: Any, name: str | None = None) -> None:
        """Serve any ASGI *app* under *path*, such as Starlette's StaticFiles. Mounting again replaces it."""
        at = path.rstrip("/")
        if at:
            path_parameters(at)
        self._publisher.define(Definition(Key("MOUNT", at), (app, name), id(app)))

    def static_route_exts(self, prefix: str = "/", static_path: str = ".", exts: Iterable[str] = WEB_FILES) -> None:
        """Serve files of *static_path* under *prefix* that end in one of *exts*: images, styles, scripts, media."""
        self.mount(prefix, WebFiles(static_path, frozenset(exts)))

    def static_route(self, ext: str, prefix: str = "/", static_path: str = ".") -> None:
        """Serve files of *static_path* under *prefix* that end in *ext*, such as ".css"."""
        self.static_route_exts(prefix, static_path, (ext.lstrip("."),))

    def add_middleware(self, middleware_class: Any, *args: Any, **kwargs: Any) -> None:
        """Put an ASGI middleware around the routes. A cell that is run again replaces those that it added."""
        code = (fingerprint(middleware_class), fingerprint(args), fingerprint(tuple(kwargs.items())))
        key = self._publisher.next_key("MIDDLEWARE", full_name(middleware_class), code)
        self._publisher.define(Definition(key, (middleware_class, args, kwargs), code))

    def task(self, fn: F | None = None, *, every: float | None = None) -> Any:
        """Background work: the decorated function runs on the server's loop while the app serves.

        With *every*, again and again with so many seconds from start to start; a call that takes longer leaves out
        the ones it missed. Without it, once, for as long as it likes. It may take `app` and `state`. Other code under
        the same name replaces it, its cell owns it, and `stop()` cancels it; what it raises is reported like a
        handler's, and the next call comes all the same.
        """
        if every is not None and not every > 0:
            raise DefinitionError(f"every={every!r} is no interval; give seconds above 0, or leave it out to run once")

        def define(fn: F) -> F:
            key = Key(TASK, getattr(fn, "__name__", type(fn).__name__))
            bound = self._compile(key, fn)
            if bound.kind not in (Kind.ASYNC, Kind.SYNC) or bound.takes_fields:
                raise DefinitionError(
                    f"{bound.name}: a task is a def or async def that takes `app`, `state` or nothing"
                )
            self._publisher.define(
                Definition(key, TaskHandler(bound, every), (fingerprint(fn), every), source=source_of(fn))
            )
            return fn

        return define if fn is None else define(fn)

    def exception_handler(self, what: int | type[Exception]) -> Callable[[F], F]:
        """Answer HTTP errors of this status or class with what the decorated function of (request, exc) returns."""

        def define(fn: F) -> F:
            self._publisher.define(Definition(Key("EXCEPTION", str(what)), (what, fn), fingerprint(fn)))
            return fn

        return define

    def on_event(self, event: str) -> Callable[[F], F]:
        """Run the decorated function when the server starts ("startup") or stops ("shutdown")."""
        if event not in ("startup", "shutdown"):
            raise DefinitionError(f"{event!r} is no event; there is 'startup' and 'shutdown'")

        def define(fn: F) -> F:
            code = fingerprint(fn)
            self._publisher.define(Definition(self._publisher.next_key(event.upper(), full_name(fn), code), fn, code))
            return fn

        return define

    def configure(self, **options: Any) -> None:
        """Set these options of the constructor, and leave the others as they are. None leaves an option too."""
        changed = {name: value for name, value in options.items() if value is not None}
        if changed:
            self._publisher.set_options(replace(self._publisher.options_to_be, **changed))

    def publish(self) -> None:
        """Make what this cell has defined so far live now, before the cell has ended. Retires nothing yet."""
        self._publisher.publish_staged()


def full_name(thing: Any) -> str:
    """What a class or function is called, and where it is defined."""
    return f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', type(thing).__qualname__)}"


def _mark_routed(fn: Any, path: str) -> None:
    """Lets a routed function stand for its path: `A("rooms", href=rooms)`, or `rooms.to(page=2)` with parameters."""
    try:
        fn.route_path, fn.to = path, partial(filled_path, path)
    except (AttributeError, TypeError):  # a bound method, a builtin
        pass
