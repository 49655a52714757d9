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
