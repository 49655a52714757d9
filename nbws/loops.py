"""Two loops: what runs on one of them, awaited on the other; and waiting for it in a cell, which does not await.

A cell runs on the kernel's loop. Who waits there, without awaiting, for what runs on that very loop waits for ever;
with nest_asyncio2 the loop goes on meanwhile. It is loaded, and the loop patched, when that first happens.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
import weakref
from collections.abc import Coroutine
from typing import Any, TypeVar

from nbws.errors import NbwsError

__all__ = ["Loop", "can_be_suspended", "close", "nest", "on", "share", "wait", "wait_for_thread"]

T = TypeVar("T")
Loop = asyncio.AbstractEventLoop

_shared: weakref.WeakSet[Loop] = weakref.WeakSet()


def share(loop: Loop) -> None:
    """From now on handlers run on *loop* as well, so that who blocks it has to let it go on."""
    _shared.add(loop)


async def on(loop: Loop | None, work: Coroutine[Any, Any, T]) -> T:
    """What *work* gives or raises, run on *loop*, in the caller's context; None is the caller's own.

    Cancelled with its caller.
    """
    if loop is None or loop is asyncio.get_running_loop():
        return await work

    async def outcome() -> tuple[Any, BaseException | None]:
        try:
            return await work, None
        except asyncio.CancelledError:
            raise
        except BaseException as exc:
            # As a value: a SystemExit in a task would end the loop, and with it the kernel.
            return None, exc

    run = outcome()
    try:
        future = asyncio.run_coroutine_threadsafe(run, loop)
    except RuntimeError:
        run.close()
        work.close()
        raise NbwsError("the loop that this handler runs on has been closed") from None
    result, exception = await asyncio.wrap_future(future)
    if exception is not None:
        raise exception
    return result  # type: ignore[no-any-return]


def can_be_suspended() -> bool:
    """Whether the calling code may `wait` for what runs on its own loop, which goes on meanwhile.

    So it is where a browser suspends WebAssembly (JSPI, which Chromium has since 137).
    """
    if sys.platform != "emscripten":
        return False
    from pyodide.ffi import can_run_sync

    return bool(can_run_sync())


def wait(loop: Loop, work: Coroutine[Any, Any, T]) -> T:
    """What *work* gives or raises, run on *loop*, for a caller that does not await.

    The caller is in another thread, or `can_be_suspended`. Interrupted (Ctrl+C), it cancels *work*.
    """
    if can_be_suspended():
        from pyodide.ffi import run_sync

        return run_sync(work)  # type: ignore[no-any-return]
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return _result(future)
    except BaseException:
        future.cancel()  # else a receive that nobody waits for any more takes the next message
        raise


def close(loop: Loop) -> None:
    """Cancel what *loop* still has to run, give that a second for its last steps, and close it. In its own thread."""
    try:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=1))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def nest(loop: Loop) -> None:
    """Make *loop* able to be run while it runs. Raises NbwsError where that is not possible."""
    try:
        import nest_asyncio2
    except ImportError:
        raise NbwsError(
            "this waits in a cell for a handler that runs on the same loop; pip install nest-asyncio2, or await it"
        ) from None
    try:
        nest_asyncio2.apply(loop)
    except ValueError:  # it is not one of asyncio's own
        raise NbwsError(f"this waits for what runs on the same loop, a {type(loop).__name__}; await it") from None


def wait_for_thread(thread: Any, seconds: float) -> None:
    """Wait until *thread* has ended, *seconds* at the most."""
    own = _own_shared_loop()
    if own is None:
        thread.join(seconds)
    else:
        own.run_until_complete(asyncio.to_thread(thread.join, seconds))


def _result(future: concurrent.futures.Future[T]) -> T:
    own = _own_shared_loop()
    return future.result() if own is None else own.run_until_complete(asyncio.wrap_future(future, loop=own))


def _own_shared_loop() -> Loop | None:
    """The loop that runs in this thread, able to be run within itself; None where nothing waits for it."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    if loop not in _shared:
        return None
    nest(loop)
    return loop
