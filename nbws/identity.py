"""Which app does `App(...)` mean? Run again it is the same one, so its port, connections and handlers stay.

An app is known by its name where it has one, else by its cell and the how-manieth it is in a run of that cell; under
`nbws dev` by the module and the name that it is assigned to. With neither it is a new one each time. An app that a
module makes is never one that a cell made.
"""

from __future__ import annotations

import importlib
import sys
import weakref
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from nbws.runs import Identity, Runs, development

if TYPE_CHECKING:
    from nbws.notebook.kernel import Notebook

__all__ = ["Identity", "identity_of_new_app", "is_importing", "known_app", "remember", "runs_here", "this_notebook"]

_of_cells: dict[Identity, Any] = {}
_of_modules: weakref.WeakValueDictionary[Identity, Any] = weakref.WeakValueDictionary()


def this_notebook() -> Notebook | None:
    """The notebook of this process; None in a script, where Jupyter's side is not even imported."""
    if "IPython" not in sys.modules:
        return None
    from nbws.notebook.kernel import Notebook

    return Notebook.here()


def runs_here() -> Runs | None:
    """Whose runs stage what code in this process defines; None in a script, where it is live at once."""
    present = development()
    if present is not None and present.runs is not None:
        return present.runs
    notebook = this_notebook()
    return notebook.cells if notebook is not None else None


def identity_of_new_app(name: str | None) -> Identity | None:
    """What the app that the calling code makes is known by; None where it is a new one each time.

    Counts the unnamed apps of a run, so it is called once for each.
    """
    if name is None:
        runs = runs_here()
        run = runs.current() if runs is not None else None
        return run.next_app() if run is not None else None
    notebook = this_notebook()
    module = notebook.imported_by_caller() if notebook is not None else _calling_module()
    return ("name", name) if module is None else ("module", module, name)


def known_app(identity: Identity | None) -> Any:
    """The app of *identity*; None where there is none yet."""
    return _registry(identity).get(identity) if identity is not None else None


def remember(identity: Identity | None, app: Any) -> None:
    if identity is not None:
        _registry(identity)[identity] = app


def is_importing(module: str) -> bool:
    """Whether the body of *module* is being run, for the first time or again."""
    spec = getattr(sys.modules.get(module), "__spec__", None)
    return bool(getattr(spec, "_initializing", False)) or module in getattr(importlib, "_RELOADING", ())


def _registry(identity: Identity) -> MutableMapping[Identity, Any]:
    return _of_modules if identity[0] == "module" else _of_cells


def _calling_module() -> str:
    frame = sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] == "nbws":
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", "__main__"))
