"""Live websocket apps written in notebooks.

`App` is the whole of it; `nbws.common` is the drop-in vocabulary, for `from nbws.common import *`.
Importing starts nothing: no server, no thread, no hook in the kernel.
"""

from nbws.app import App
from nbws.connection import Connection
from nbws.errors import (
    BindError,
    DefinitionError,
    MessageError,
    NbwsError,
    PortTakenError,
    RenderError,
    ServerStartError,
)
from nbws.limits import Limits

__version__ = "0.1.0"

__all__ = [
    "App",
    "BindError",
    "Connection",
    "DefinitionError",
    "Limits",
    "MessageError",
    "NbwsError",
    "PortTakenError",
    "RenderError",
    "ServerStartError",
    "__version__",
]


def load_ipython_extension(shell: object) -> None:
    """`%load_ext nbws`: the magics `%%ws` and `%nbws`, which the first `App` of a notebook brings as well."""
    from nbws.notebook.magics import register_magics

    register_magics(shell)
