"""The websocket classes that a server may have: what holds of a connection on one of them holds on each."""

from __future__ import annotations

import pytest

from nbws.sockets import websocket_class

__all__ = ["KINDS", "choose"]

KINDS = {  # each with what NBWS_WEBSOCKET says, and its class
    "picows": ("picows", "PicowsAtOnce"),
    "picows, after a few": ("", "PicowsSocket"),
    "uvicorn": ("uvicorn", "UvicornSocket"),
}


def choose(kind: str, patch: pytest.MonkeyPatch) -> None:
    """Have websockets of *kind* served."""
    if kind != "uvicorn":
        pytest.importorskip("picows")
    asked, name = KINDS[kind]
    patch.setenv("NBWS_WEBSOCKET", asked)
    assert websocket_class().__name__ == name
