"""One message: parse -> find -> bind -> call -> render -> send.

A connection has one worker task for its whole life, which takes its messages one at a time and in order. The handler
table is read once for a message, so each is handled wholly by one version. A message whose handler waits for nothing is
handled in the step in which it comes, where the task has nothing else to do: to wake that takes as long as a handler.
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
import inspect
import secrets
import sys
import time
import traceback
import types
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import anyio

import nbws.errors
from nbws.binding import Bound, Call, Kind, binary_refused
from nbws.connection import Connection, current_connection
from nbws.errors import BindError, MessageError, NbwsError, described
from nbws.handlers import Entry, HandlerTable, Hook, Key, Version, WsHandler
from nbws.hints import hint
from nbws.html import Tag
from nbws.inbox import Inbox
from nbws.latch import Latch
from nbws.limits import Limits, Pace
from nbws.loops import Loop, on
from nbws.messages import NOTHING, Message, parse, redact, redacted_values, without_headers
from nbws.recording import Recorded, Replayed, Watch, copied, watching
from nbws.runs import has_threads
from nbws.sending import CloseCode
from nbws.speaking import Speaker, speaker
from nbws.urls import query_of

__all__ = ["Desk", "HandlerError", "Worker", "replay", "run_handler"]

_tasks: Any = asyncio.tasks  # in which nest_asyncio puts others in the place of what is there
_IN_A_ROW = 8  # messages of one connection, before the others have their turn
_CONTENT = frozenset((type(None), str, Tag, tuple, list))  # types of what a handler returns that can be sent as it is
_AT_ONCE = 32  # messages of one connection that are handled as they come, before its task has its turn
_LONG = 16 * 1024  # of a frame: longer ones are neither shown nor kept with an error; of a traceback the middle goes


@dataclass(frozen=True)
class HandlerError:
    """A handler that raised, or a message that reached none: what, where and because of which message."""

    exception: BaseException
    handler: str
    key: Key
    version: int | None
    connection: str | None  #: the id of the connection; None for an HTTP request
    message: str  #: the start of the frame, or the request line
    incident: str = field(default_factory=lambda: secrets.token_hex(4))  #: what a client may be told of it
    time: float = field(default_factory=time.time)  #: seconds since 1970

    @property
    def title(self) -> str:
        version = f" v{self.version}" if self.version is not None else ""
        return f"{self.handler}{version} on {self.key}: {described(self.exception)}"

    @property
    def traceback(self) -> str:
        """The traceback, from the author's own code on, and what to do where that is known.

        Empty for a message that was refused, which has none. Where it is very long, because the exception's text is,
        its middle is left out.
        """
        if isinstance(self.exception, MessageError):
            return ""
        own = trace = self.exception.__traceback__
        while own is not None and own.tb_frame.f_code.co_filename.startswith(_NOT_THE_AUTHORS):
            own = own.tb_next
        text = "".join(traceback.format_exception(type(self.exception), self.exception, own or trace))
        if len(text) > _LONG:
            half = _LONG // 2
            text = f"{text[:half]}\n… ({len(text) - 2 * half:,} characters left out) …\n{text[-half:]}"
        remedy = hint(self.exception)
        return f"{text}hint: {remedy}\n" if remedy is not None else text


_NOT_THE_AUTHORS = tuple(str(Path(inspect.getfile(module)).parent) for module in (nbws.errors, asyncio, anyio))


class Desk(Protocol):
    """What the worker of a connection needs of its app."""

    @property
    def table(self) -> HandlerTable: ...
    @property
    def limits(self) -> Limits: ...
    @property
    def recorded_messages(self) -> int: ...
    @property
    def redacted(self) -> Collection[str]: ...
    def hook(self, key: Key, name: str) -> tuple[Bound | None, Version | None]: ...
    def report(self, error: HandlerError, retry: Callable[[], None] | None = None) -> None: ...
    def works(self, version: Version) -> None: ...
    async def in_thread(self, function: Callable[[], Any]) -> Any: ...
    def loop_for(self, key: Key) -> Loop | None: ...


class Worker:
    """Runs what happens on one connection: `conn`, each message, `disconn`. Made and used on the connection's loop."""

    __slots__ = (
        "_at_once",
        "_call_of_none",
        "_calls",
        "_connection",
        "_context",
        "_copies_state",
        "_desk",
        "_ends",
        "_handler",
        "_inbox",
        "_is_at_home",
        "_is_immediate",
        "_is_stopped",
        "_looked_up_in",
        "_looks",
        "_loop",
        "_max_depth",
        "_pace",
        "_query",
        "_records",
        "_seen",
        "_session",
        "_shared",
        "_skips_call",
        "_task",
        "_unread",
        "_use",
        "_version",
        "_waits_for_endpoint",
    )

    def __init__(self, desk: Desk, connection: Connection, query: Mapping[str, list[str]]) -> None:
        self._desk = desk
        self._connection = connection
        self._query = query
        self._inbox = Inbox(desk.limits.inbox_messages, desk.limits.inbox_bytes)
        self._skips_call = False
        self._ends = False
        self._looks = False  # for another version, when nothing else is to be done
        self._is_stopped = False
        self._waits_for_endpoint = True
        self._calls = 0  # begun so far
        self._seen: Version | None = None  # the version that the connection's state is of
        self._copies_state = True
        self._unread = 0  # messages in a row that no handler could read
        self._pace = Pace()
        # What handles messages for as long as this table is live: to look it up for each message takes 0.4 us, to see
        # that nothing was published 0.03. By the table's stamp: a silent connection would keep what is long replaced.
        self._looked_up_in: object = None
        self._handler: WsHandler
        self._version: Version
        self._records = self._max_depth = 0
        self._is_at_home = self._is_immediate = False
        self._at_once = 0  # messages in a row that were handled as they came
        self._task: asyncio.Task[None]
        self._context = contextvars.copy_context()
        self._call_of_none = Call(connection, connection.app, connection.path_params, query, NOTHING)
        self._session: Any = None
        self._use: Callable[[], None] | None = None
        self._shared = getattr(connection.session, "shared", None)  # among workers, by a store
        self._loop = asyncio.get_running_loop()
        connection.on_new_version = self._look
        connection.on_pin = self._forget

    def start(self) -> asyncio.Task[None]:
        """Begin; the task is done when `disconn` has run."""
        run, name = self.run(), f"nbws {self._connection.id}"
        if sys.version_info >= (3, 11):
            self._task = asyncio.create_task(run, name=name, context=self._context)
        else:
            self._task = asyncio.create_task(run, name=name)
        return self._task

    async def put(self, frame: str | bytes) -> None:
        """Give it the next frame. Waits while the inbox is full, and with it the reading of the socket."""
        limit = self._desk.limits.messages_per_second
        if limit is not None:
            await asyncio.sleep(self._pace.wait(limit, time.monotonic()))
        await self._inbox.room()
        self._inbox.put(frame)

    def uses(self, session: Any, use: Callable[[], None] | None) -> None:
        """Call *use* for each message that it takes from now on, where *session* holds something that can be lost."""
        self._session, self._use = (session, use) if use is not None else (None, None)

    def take(self, frame: str | bytes) -> bool:
        """Handle *frame* at once, or put it into the inbox. Whether there is room for another.

        To a handler that is called at once everything is as in the task: the current one, and the context.
        """
        # Of many connections each object that is looked at here comes from memory and not from a cache.
        if self._connection.is_ending:
            return True
        if self._session:
            self._use()  # type: ignore[misc]
        inbox = self._inbox
        if (
            self._is_immediate
            and inbox.is_awaited
            and self._looked_up_in is self._desk.table.stamp
            and type(frame) is str
            and self._at_once != _AT_ONCE
        ):
            loop, task = self._loop, self._task
            try:
                _tasks._enter_task(loop, task)
            except RuntimeError:  # another task hands on what has come
                pass
            else:
                try:
                    if self._context.run(self._step, frame):
                        return True
                finally:
                    _tasks._leave_task(loop, task)
        inbox.put(frame)
        return not inbox.is_full

    def _step(self, frame: str) -> bool:
        """Call the handler with *frame*. False where it is for the task to do, and nothing has happened then."""
        handler, version, connection = self._handler, self._version, self._connection
        try:
            args = handler.message.quick(frame, self._call_of_none, self._max_depth)  # type: ignore[misc]
        except BaseException:  # in the task it has its place
            return False
        if args is None:
            return False
        self._at_once += 1
        version.messages += 1
        version.running += 1
        try:
            running = handler.message.fn(*args)
            try:
                running.send(None)
            except StopIteration as done:
                result = done.value
            else:
                raise AssertionError(f"{handler.message.name} waits, though no await stands in it")
            if type(result) not in _CONTENT:
                self._inbox.put_rest(partial(self._rest, frame, handler, version, result))
                return True
            if result is not None and not connection.send_here(result) and connection.is_above_high_water:
                self._inbox.put_rest(connection.drained)
            self._has_worked(version)
        except BaseException as exc:  # where nothing is awaited nobody cancels
            self._has_failed(exc, frame, handler, version)
        finally:
            version.running -= 1
        return True

    async def _rest(self, frame: str, handler: WsHandler, version: Version, result: Any) -> None:
        """What is left of a step whose handler has returned what is to be awaited."""
        version.running += 1
        try:
            await self._deliver(await _awaited(result), self._desk.in_thread)
            self._has_worked(version)
        except BaseException as exc:
            if isinstance(exc, asyncio.CancelledError) and self._is_cancelled_from_outside():
                raise
            self._has_failed(exc, frame, handler, version)
        finally:
            version.running -= 1

    @property
    def inbox(self) -> Inbox:
        """What waits for a handler."""
        return self._inbox

    async def caught_up(self) -> None:
        """Wait until what it was given so far is handled, but for messages to an endpoint that is retired."""
        self._waits_for_endpoint = False
        self._connection.poke()
        reached = Latch()
        self._inbox.mark(reached)
        await reached.wait()

    async def finish(self, task: asyncio.Task[None]) -> None:
        """No frame comes any more: wait until those that came are handled and `disconn` has run.

        A call that goes on for longer than `finish_seconds` is cancelled, and the next one gets its turn.
        """
        self._ends = True
        self._inbox.poke()  # a worker that waits for a frame
        self._connection.poke()  # and one that waits for its endpoint
        while not task.done():
            calls = self._calls
            await asyncio.wait({task}, timeout=self._desk.limits.finish_seconds)
            if not task.done() and self._calls == calls:
                self._skips_call = True
                task.cancel()

    def stop(self, task: asyncio.Task[None]) -> None:
        """Cancel what runs and take no more messages; `disconn` runs still."""
        self._is_stopped = True
        task.cancel()

    async def run(self) -> None:
        current_connection.set(self._connection)
        try:
            await self._guarded(self._run_hook("conn"))
            while not await self._guarded(self._work()):
                pass
            while self._awaits_migration():  # `disconn` is the live version's, and so must the state be that it finds
                await self._guarded(self._look_for_new_version())
        finally:
            self._connection.end()
            self._calls += 1
            await self._run_hook("disconn")

    async def _work(self) -> bool:
        """Handle what comes, until nothing comes any more; then True."""
        inbox, in_a_row = self._inbox, 0
        while True:
            self._calls += 1
            self._at_once = 0
            frame = inbox.take()
            if frame is None:
                in_a_row = 0
                if self._looks:
                    self._looks = False
                    await self._look_for_new_version()
                elif self._ends:
                    return True
                else:
                    await inbox.filled()
            elif isinstance(frame, Latch):
                frame.set()
            elif callable(frame):
                await frame()
            else:
                await self._handle(frame)
                in_a_row += 1
                if in_a_row == _IN_A_ROW:  # handlers that wait for nothing would leave nobody else a turn
                    in_a_row = 0
                    await asyncio.sleep(0)

    async def _guarded(self, step: Awaitable[Any]) -> Any:
        """Await *step*; where `finish` cancelled it, forget it and go on."""
        self._calls += 1
        try:
            return await step
        except asyncio.CancelledError:
            if not self._skips_call:
                raise
            self._skips_call = False
            if sys.version_info >= (3, 11):
                task = asyncio.current_task()
                assert task is not None
                task.uncancel()
            return None

    async def _handle(self, frame: str | bytes) -> None:
        if self._looked_up_in is not self._desk.table.stamp and not await self._look_up():
            return  # parked until the connection closed
        handler, version = self._handler, self._version
        recorded = self._recorded(frame, version) if self._records else None
        version.messages += 1
        version.running += 1
        token = watching.set(recorded.watch) if recorded is not None else None
        try:
            connection, bound, args = self._connection, handler.message, None
            if bound.quick is not None and self._is_at_home and type(frame) is str:
                args = bound.quick(frame, self._call_of_none, self._max_depth)
            if args is None:
                await self._run(frame, bound)
            else:
                result = await bound.fn(*args)
                if type(result) not in _CONTENT:
                    await self._deliver(await _awaited(result), self._desk.in_thread)
                elif result is not None and connection.send_now(result) and connection.is_above_high_water:
                    await connection.drained()
            self._has_worked(version)
        except BaseException as exc:
            if isinstance(exc, asyncio.CancelledError) and self._is_cancelled_from_outside():
                raise
            self._has_failed(exc, frame, handler, version)
            if recorded is not None:
                recorded.failed(described(exc))
        finally:
            version.running -= 1
            if recorded is not None:
                recorded.ended()
            if token is not None:
                watching.reset(token)

    def _has_worked(self, version: Version) -> None:
        version.worked += 1
        if version.worked == 1:
            self._desk.works(version)
        self._unread = 0

    def _has_failed(self, exc: BaseException, frame: str | bytes, handler: WsHandler, version: Version) -> None:
        """Tell of *exc*, which *frame* has led to."""
        _let_go(exc, frame)
        self._count_unread(exc)
        version.has_failed(is_clients=isinstance(exc, MessageError))
        self._desk.report(self._error(exc, handler.message.name, version, frame), partial(self._retry, frame))

    def _speak_as(self, bound: Bound, version: Version) -> None:
        """Let what is printed from now on, in the worker's task, be that of *bound*."""
        connection = self._connection
        speaker.set(Speaker(connection.app, connection.key, bound.name, version.number, connection.id))

    def _count_unread(self, exc: BaseException) -> None:
        """Close a connection on which nothing but what no handler can read has come for long."""
        self._unread = self._unread + 1 if isinstance(exc, MessageError) else 0
        if self._unread == self._desk.limits.invalid_messages:
            self._connection.close(CloseCode.POLICY, "too many messages that no handler can read")

    async def _run(self, frame: str | bytes, bound: Bound) -> None:
        if isinstance(frame, str):
            message = self._parsed(frame, bound)
        elif bound.takes_binary:
            message = Message({}, {}, frame)
        else:
            raise binary_refused(bound.name, len(frame))
        await self._call(bound, message, hook=False)

    def _chosen(self, entry: Entry) -> tuple[Version, WsHandler]:
        """The version that handles what comes to this connection, and its code."""
        pinned = self._connection.pinned
        if pinned is not None and pinned is not entry.current:
            return pinned, pinned.target
        return entry.current, entry.definition.target

    def _recorded(self, frame: str | bytes, version: Version) -> Recorded:
        connection, state = self._connection, None
        if self._copies_state:
            state, self._copies_state = copied(connection.state)
        kept = redact(frame, self._desk.redacted) if isinstance(frame, str) else frame
        recorded = Recorded(kept, version.number, Watch(connection.id), state)
        connection.record(recorded, self._desk.recorded_messages)
        if connection.log is not None:
            if kept is not frame and isinstance(frame, str):
                for tape in connection.log.tapes:
                    tape.hears(redacted_values(frame, self._desk.redacted))
            path, address = connection.key.path, connection.address
            recorded.line = connection.log.received(connection.id, path, address, kept, version.number)
        return recorded

    async def rehearse(self, frame: str | bytes, handler: WsHandler) -> str | None:
        """Handle *frame* and nothing else, on a shadow of a connection. Gives the error, where there is one."""
        current_connection.set(self._connection)
        try:
            await asyncio.wait_for(self._run(frame, handler.message), self._desk.limits.finish_seconds)
        except Exception as exc:
            return described(exc)
        return None

    async def _look_up(self) -> bool:
        """Find what handles messages now, and migrate to it. Waits while the endpoint is retired.

        False where that ends the connection.
        """
        while True:
            table = self._desk.table
            entry = table.get_live(self._connection.key)
            if entry is not None:
                break
            if self._ends or not self._waits_for_endpoint or not self._connection.is_open:
                return False
            await self._connection.poked()
        version, handler = self._chosen(entry)
        if version is not self._seen:
            await self._guarded(self._migrate(version, handler))  # cut short, it does not take the message with it
        self._version, self._handler = version, handler
        self._speak_as(handler.message, version)
        self._records, self._max_depth = self._desk.recorded_messages, self._desk.limits.json_depth
        # With no other loop to run on, and no store to be held in step with.
        self._is_at_home = self._shared is None and self._desk.loop_for(self._connection.key) is None
        bound = handler.message
        plain = self._is_at_home and bound.quick is not None and not bound.waits and not self._records
        self._is_immediate = plain and sys.version_info >= (3, 11)  # with tasks that are given their context
        self._looked_up_in = table.stamp
        return True

    def _parsed(self, frame: str, bound: Bound) -> Message:
        try:
            return parse(frame, self._desk.limits.json_depth)
        except MessageError:
            if bound.takes_raw:
                return Message({}, {}, frame)
            raise

    def _forget(self) -> None:
        """Look up what handles messages anew, whatever is published. On the loop."""
        self._looked_up_in = None
        self._look()

    def _look(self) -> None:
        """Have the worker look for a new version, after what it is at. On the loop."""
        if self._looked_up_in is self._desk.table.stamp:
            return  # a message came first
        self._looks = True
        self._inbox.poke()

    def _retry(self, frame: str | bytes) -> None:
        """Handle *frame* again. Callable from any thread."""
        if self._ends or not self._connection.is_open:
            raise NbwsError("the connection of the message that failed has gone, so it cannot be run again")
        self._loop.call_soon_threadsafe(self._inbox.put, frame)

    def _awaits_migration(self) -> bool:
        entry = self._desk.table.get_live(self._connection.key)
        return entry is not None and self._chosen(entry)[0] is not self._seen

    async def _look_for_new_version(self) -> None:
        entry = self._desk.table.get_live(self._connection.key)
        if entry is not None:
            await self._migrate(*self._chosen(entry))

    async def _migrate(self, new: Version, handler: WsHandler) -> None:
        """Run the swap hook of the version that took over, where the connection's state is of another one."""
        old, self._seen = self._seen, new
        hook = handler.swap
        if hook is None or old is None or old is new:
            return
        connection = self._connection
        before = connection.state
        new.running += 1
        try:
            connection.state = state = copy.deepcopy(before)
            loop = self._desk.loop_for(connection.key)
            if loop is not None:
                result = await on(loop, _called(hook, connection, state, old, new))
            else:
                result = await _awaited(hook(connection, state, old.number, new.number))
            await self._deliver(result, None)
        except BaseException as exc:
            connection.state = before
            if isinstance(exc, asyncio.CancelledError) and self._is_cancelled_from_outside():
                raise
            new.errors += 1
            name = getattr(hook, "__name__", "swap")
            self._desk.report(self._error(exc, name, new, f"(swap from v{old.number} to v{new.number})"))
        finally:
            new.running -= 1

    async def _run_hook(self, name: str) -> None:
        version = self._connection.pinned
        if version is not None:
            hook: Hook | None = version.target.hooks.get(name)
            bound = hook.bound if hook is not None else None
        else:
            bound, version = self._desk.hook(self._connection.key, name)
        if name == "conn":
            self._seen = version
        if bound is None or version is None:
            return
        version.running += 1
        self._speak_as(bound, version)
        try:
            await self._call(bound, NOTHING, hook=True)
        except BaseException as exc:
            if isinstance(exc, asyncio.CancelledError) and self._is_cancelled_from_outside():
                raise
            version.errors += 1
            self._desk.report(self._error(exc, bound.name, version, f"({name})"))
        finally:
            version.running -= 1

    async def _call(self, bound: Bound, message: Message, *, hook: bool) -> None:
        connection = self._connection
        loop = self._desk.loop_for(connection.key)
        in_thread = self._desk.in_thread if loop is None and not hook else None
        call = Call(connection, connection.app, connection.path_params, self._query, message)
        shared = self._shared
        if shared is None:
            result = await on(loop, run_handler(bound, call, in_thread))
            await on(loop, self._deliver(result, in_thread))
            return
        async with shared:
            result = await on(loop, run_handler(bound, call, in_thread))
            await shared.save()  # before the answer: who has it may ask another worker next
            await on(loop, self._deliver(result, in_thread))

    async def _deliver(self, result: Any, in_thread: InThread | None) -> None:
        connection = self._connection
        if result is None:
            return
        if isinstance(result, types.AsyncGeneratorType):
            try:
                async for item in result:
                    await connection.send(item)
                    if not connection.is_open or connection.is_ending:
                        break  # one that never waits would keep the loop from everybody
            finally:
                await result.aclose()
        elif isinstance(result, types.GeneratorType):
            if has_threads() and (in_thread is not None or asyncio.get_running_loop() is self._loop):
                await _threaded(lambda: self._pump(result), in_thread)
            else:
                await self._pump_here(result)
        else:
            await connection.send(result)

    def _pump(self, items: types.GeneratorType[Any, Any, Any]) -> None:
        for item in items:
            if not self._connection.is_open:
                items.close()
                return
            self._connection.send(item)
            self._connection.drained_from_thread()
            if self._connection.is_ending:
                items.close()
                return

    async def _pump_here(self, items: types.GeneratorType[Any, Any, Any]) -> None:
        """The same on a loop that is not to stand still while the client takes what was sent."""
        for item in items:
            await self._connection.send(item)
            await asyncio.sleep(0)  # where there are no threads, nothing else gets a turn between two items
            if not self._connection.is_open or self._connection.is_ending:
                items.close()
                return

    def _is_cancelled_from_outside(self) -> bool:
        if self._skips_call or self._is_stopped:
            return True
        if sys.version_info < (3, 11):
            return False
        task = asyncio.current_task()
        return task is None or task.cancelling() > 0

    def _error(self, exc: BaseException, handler: str, version: Version, frame: str | bytes) -> HandlerError:
        if isinstance(frame, bytes):
            shown = f"({len(frame)} bytes)"
        elif len(frame) > _LONG:
            shown = f"({len(frame)} characters)"  # to find out what may be shown of it takes as long as to handle it
        else:
            shown = without_headers(frame, self._desk.redacted)
        return HandlerError(
            exception=exc,
            handler=handler,
            key=self._connection.key,
            version=version.number,
            connection=self._connection.id,
            message=shown if len(shown) <= 500 else shown[:499] + "…",
        )


async def replay(desk: Desk, connection: Connection, recorded: Recorded, entry: Entry) -> Replayed:
    """Handle a message of *connection* again with the code of *entry*, on a shadow that reaches nobody.

    The shadow has the state that the connection had then, or where that was not kept, has now. On its loop only.
    """
    state = recorded.state if recorded.state is not None else connection.state
    watch = Watch(connection.id, shadow=True)

    async def rehearse() -> str | None:
        watching.set(watch)
        bound = entry.definition.target.message
        speaker.set(Speaker(connection.app, connection.key, f"{bound.name} (replay)", entry.version, connection.id))
        shadow = connection.shadow(copy.deepcopy(state))
        worker = Worker(desk, shadow, query_of(connection.scope))
        return await worker.rehearse(recorded.frame, entry.definition.target)

    error = await asyncio.create_task(rehearse())  # a task of its own, so that what it sets it alone sees
    frame = recorded.frame
    return Replayed(
        message=without_headers(frame) if isinstance(frame, str) else f"({len(frame)} bytes)",
        connection=connection.id,
        versions=(recorded.version, entry.version),
        before=recorded.sent,
        now=tuple(watch.sent),
        errors=(recorded.error, error),
    )


def _let_go(exc: BaseException, frame: str | bytes) -> None:
    """Have *exc*, of which the last 200 are kept, not hold on to what came in *frame*."""
    if isinstance(exc, MessageError):
        exc.__traceback__ = exc.__context__ = None  # of nbws' own code alone
    elif len(frame) > _LONG:
        traceback.clear_frames(exc.__traceback__)
    if isinstance(exc, BindError) and len(frame) > _LONG:
        exc.got = None


InThread = Callable[[Callable[[], Any]], Awaitable[Any]]


async def _called(hook: Callable[..., Any], connection: Connection, state: Any, old: Version, new: Version) -> Any:
    """What a swap hook returns."""
    return await _awaited(hook(connection, state, old.number, new.number))


async def run_handler(bound: Bound, call: Call, in_thread: InThread | None) -> Any:
    """What the handler returns for *call*: a value, or a generator of values that has not begun.

    A `def` handler runs by *in_thread*, or on the loop where that is None.
    """
    args, kwargs = bound.bind(call)
    if bound.kind is Kind.ASYNC:
        result = await bound.fn(*args, **kwargs)
    elif bound.kind is Kind.SYNC:
        result = await _threaded(lambda: bound.fn(*args, **kwargs), in_thread)
    else:
        result = bound.fn(*args, **kwargs)
    return await _awaited(result)


async def _awaited(result: Any) -> Any:
    while inspect.isawaitable(result):
        result = await result
    return result


async def _threaded(function: Callable[[], Any], in_thread: InThread | None) -> Any:
    """What *function* returns or raises, run by *in_thread*; here and now where that is None."""
    if in_thread is None:
        return function()

    def outcome() -> tuple[Any, BaseException | None]:
        try:
            return function(), None
        except BaseException as exc:
            # As a value: a GeneratorExit in a future would close the coroutine that waits for it, not raise there.
            return None, exc

    result, exception = await in_thread(outcome)
    if exception is not None:
        raise exception
    return result
