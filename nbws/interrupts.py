"""Ctrl+C, and Jupyter's Stop, held back while something must not be left half done."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["held_back"]


@contextlib.contextmanager
def held_back(*, forgotten: bool = False) -> Iterator[None]:
    """Let an interrupt that comes during the block be raised at its end, or be *forgotten*.

    Only the main thread is interrupted; in another one this does nothing.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    came: list[tuple[Any, ...]] = []
    signal.signal(signal.SIGINT, lambda *arguments: came.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came and not forgotten:
            before(*came[-1])
