"""`serve()`: the last line of a program, which does what fits the place where it runs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any

from nbws.app import App
from nbws.errors import NbwsError

__all__ = ["find_app", "serve"]


def serve(
    appname: str | None = None,
    app: str | App = "app",
    host: str | None = None,
    port: int | None = None,
    reload: bool = False,
    **_: Any,
) -> None:
    """Serve the calling module's *app*.

    In a script this blocks until Ctrl+C. In a notebook it starts the server and returns. In a module that is
    imported it does nothing: whoever imports it decides. *reload* is taken for compatibility and does nothing.
    Raises NbwsError where there is no such app.
    """
    caller = sys._getframe(1).f_globals
    if caller.get("__name__") != "__main__":
        return
    found = _find(app, caller)
    found.configure(host=host, port=port)
    in_shell = "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None
    is_the_script = caller is vars(sys.modules["__main__"]) and not _is_run_by_runpy()
    if in_shell or not is_the_script or _loop_is_running():
        found.start()
    else:
        found.run()


def find_app(names: Mapping[str, Any], asked: str = "app") -> App | None:
    """The App of the name that is *asked* for; the only one there is, where that is `app` and no app is called so."""
    named = names.get(asked)
    if isinstance(named, App):
        return named
    apps = {id(each): each for each in names.values() if isinstance(each, App)}
    return next(iter(apps.values())) if len(apps) == 1 and asked == "app" else None


def _find(app: str | App, caller: dict[str, Any]) -> App:
    found = app if isinstance(app, App) else find_app(caller, app) or find_app(caller)
    if found is None:
        raise NbwsError(f"serve() finds no App named {app!r} here; call serve(app=...) with yours, or app.start()")
    return found


def _is_run_by_runpy() -> bool:
    """Whether another program runs this one by `runpy.run_path` or `run_module`, which stand in for `__main__`."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:  # `python -m` goes through runpy too, but not through this function of it
        if frame.f_code.co_name == "_run_module_code" and frame.f_globals.get("__name__") == "runpy":
            return True
        frame = frame.f_back
    return False


def _loop_is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
