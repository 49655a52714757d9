"""What docs/hot-swap.md promises, as a model that knows no asyncio, no table and no sockets.

`Model` is told what happens to an app, and says what is to be seen of it then: the versions with their counters, what
was called on each connection and in which order, what each client heard, which errors the author was told of.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

PATHS = ("/a", "/b")
HOOKS = {"conn": "joined", "disconn": "left"}  #: the name in the notebook that each hook is given by
BROKEN = -1  #: the code of a function that is no hook: its signature says nothing about a parameter
VERSIONS_KEPT = 50
TRACEBACKS_SHOWN = 20  #: of one version
ERRORS_KEPT = 200
PARK_SECONDS = 30.0
LONG = 10_000.0  #: seconds in which whatever has an end comes to it
CLOSED_BY_HANDLER = 4001
RETIRED = 1001


class Fn(NamedTuple):
    """A function of the notebook. Equal *code* is the same code; *copy* tells apart each time that it was run."""

    code: int
    copy: int


@dataclass(frozen=True)
class Written:
    """What one `@app.ws` says."""

    body: Fn
    hooks: dict[str, Fn]
    swap: int  #: the code of its swap hook; 0 is none
    passed_over: dict[str, Fn] = field(default_factory=dict)  #: what hooks' names stood for when it was gone back to

    @property
    def code(self) -> Any:
        return self.body.code, {kind: fn.code for kind, fn in self.hooks.items()}, self.swap


@dataclass
class Version:
    number: int
    written: Written
    restored_from: int | None
    cell: str | None
    messages: int = 0
    errors: int = 0
    running: int = 0

    @property
    def code_of(self) -> int:
        return self.restored_from or self.number


@dataclass
class Endpoint:
    history: list[Version]
    retired: bool = False
    owner: str | None = None

    @property
    def current(self) -> Version:
        return self.history[-1]


class Frame(NamedTuple):
    """What a client sends; *do* says what the handler makes of it, or what is wrong with it."""

    n: int
    do: str

    @property
    def data(self) -> str | bytes:
        if self.do == "binary":
            return str(self.n).encode()
        if self.do == "no json":
            return f"no json {self.n}"
        return json.dumps({"do": self.do, "n": "ten" if self.do == "unbound" else self.n})

    @property
    def shown(self) -> str:
        """As an error tells of it."""
        return self.data if isinstance(self.data, str) else f"({len(self.data)} bytes)"


_REFUSED = {"binary": "MessageError", "no json": "MessageError", "unbound": "BindError"}
_LOOK = "look"  # another version may be live
_END = "end"  # nothing more comes


class Error(NamedTuple):
    """An error as the author is told of it."""

    path: str
    version: int
    handler: str
    kind: str
    message: str


class Cut(Exception):
    """A call was cancelled: its client has gone, and it took too long."""


@dataclass(eq=False)
class Line:
    """A connection, from its first message to its last."""

    peer: int
    path: str
    moods: dict[str, str]  #: what `conn`, `disconn` and the swap hook do on it
    seen: Version
    is_open: bool = True  #: whether it can be sent anything
    has_left: bool = False  #: no more frames come
    is_over: bool = False
    queue: deque[Any] = field(default_factory=deque)
    waits_for: str = ""
    parked_until: float | None = None
    state: list[str] = field(default_factory=list)
    calls: list[Any] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)
    errors: list[Error] = field(default_factory=list)
    close_code: int | None = None
    life: Generator[str, None, None] | None = None

    @property
    def is_blocked(self) -> bool:
        """Whether a call on it waits to be let go on."""
        return self.waits_for == "go"

    def hear(self, text: str) -> None:
        if self.is_open and not self.has_left:
            self.heard.append(text)

    def close(self, code: int) -> None:
        if self.is_open and not self.has_left:
            self.close_code = code
        self.is_open = False


@dataclass
class Run:
    """A run of a cell, not ended yet."""

    cell: str | None
    staged: dict[str, Written] = field(default_factory=dict)
    defined: set[str] = field(default_factory=set)
    before: dict[tuple[str, str], Fn] = field(default_factory=dict)  #: what the hooks' names stood for


class Refused(Exception):
    """What the code in a cell gets for something that cannot work; the name of the error."""


class Model:
    def __init__(self, *, has_cells: bool) -> None:
        self.has_cells = has_cells
        self.endpoints: dict[str, Endpoint] = {}
        self.names = {kind: Fn(0, kind_number) for kind_number, kind in enumerate(HOOKS)}
        self.lines: list[Line] = []
        self.failed: dict[str, tuple[Line, Frame]] = {}  #: the message that failed last
        self.run: Run | None = None
        self.now = 0.0
        self.as_taken_up: Callable[[], None] | None = None  #: happens when the next message is taken up

    # -- what is live

    def live(self) -> list[str]:
        return [path for path, endpoint in self.endpoints.items() if not endpoint.retired]

    def owned_by(self, cell: str | None) -> set[str]:
        return {path for path in self.live() if cell is not None and self.endpoints[path].owner == cell}

    def publish(self, written: dict[str, tuple[Written, str | None]], retire: Iterable[str] = ()) -> None:
        """Replace what is live, in one step."""
        before = {path: self.endpoints[path].current for path in self.live()}
        for path in retire:
            self.endpoints[path].retired = True
        for path, (code, owner) in written.items():
            endpoint = self.endpoints.setdefault(path, Endpoint([]))
            if endpoint.history and endpoint.current.written.code == code.code:
                endpoint.current.written, endpoint.current.cell = code, owner
            else:
                self._append(endpoint, code, owner)
            endpoint.retired, endpoint.owner = False, owner
        self._tell(before)

    def roll_back(self, path: str, to: int | None) -> None:
        endpoint = self.endpoints[path]
        number = to
        if number is None:
            code_of = endpoint.current.code_of
            earlier = [v.number for v in endpoint.history if v.number < code_of and v.restored_from is None]
            if not earlier:
                raise Refused("LookupError")
            number = earlier[-1]
        found = next((v for v in endpoint.history if v.number == number), None)
        if found is None:
            raise Refused("LookupError")
        before = {path: self.endpoints[path].current for path in self.live()}
        # What is gone back to is whole: the names of its hooks may stand for others by now.
        whole = replace(found.written, passed_over=dict(self.names))
        self._append(endpoint, whole, endpoint.owner, restored_from=found.code_of)
        endpoint.retired = False
        self._tell(before)

    def retire(self, path: str) -> None:
        self.publish({}, [path])
        for line in self.lines:
            if line.path == path and not line.is_over:
                line.close(RETIRED)

    def _append(self, endpoint: Endpoint, code: Written, owner: str | None, restored_from: int | None = None) -> None:
        past = endpoint.history
        number = past[-1].number + 1 if past else 1
        kept = [v for v in past if v.running or v.number > number - VERSIONS_KEPT]
        endpoint.history = [*kept, Version(number, code, restored_from, owner)]

    def _tell(self, before: dict[str, Version]) -> None:
        for path, endpoint in self.endpoints.items():
            was, now = before.get(path), None if endpoint.retired else endpoint.current
            for line in self.lines:
                if line.path != path or line.is_over or was is now:
                    continue
                if now is None:
                    line.parked_until = line.parked_until or self.now + PARK_SECONDS
                    continue
                line.parked_until = None
                if now.written.swap:
                    line.queue.append(_LOOK)

    # -- cells

    def begin_cell(self, cell: str | None) -> None:
        self.run = Run(cell)
        for path in self.live():
            hooks = self.endpoints[path].current.written.hooks
            self.run.before |= {(path, kind): self.names[kind] for kind in hooks}

    def define(self, path: str, written: Written, *, in_cell: bool) -> None:
        if any(fn.code == BROKEN for fn in written.hooks.values()):
            raise Refused("DefinitionError")
        if in_cell and self.run is not None:
            self.run.staged[path] = written
            self.run.defined.add(path)
        else:
            self.publish({path: (written, None)})

    def refuse(self) -> None:
        raise Refused("DefinitionError")

    def publish_cell(self) -> None:
        if self.run is not None:
            self.publish(self._take(self.run))

    def end_cell(self, succeeded: bool) -> None:
        run, self.run = self.run, None
        assert run is not None
        if not succeeded:
            return
        try:
            taken = self._take(run)
        except Refused:
            return  # a hook that was defined anew and is none: nothing of the cell goes live
        gone = self.owned_by(run.cell) - run.defined
        self.publish({path: each for path, each in taken.items() if path not in gone}, gone)

    def _take(self, run: Run) -> dict[str, tuple[Written, str | None]]:
        """What goes live of *run* now: what it has defined, and what has a hook that it has defined anew, alone."""
        taken = {}
        for path in dict.fromkeys([*self.live(), *run.staged]):
            staged = run.staged.get(path)
            written = staged or self.endpoints[path].current.written
            anew = {}
            for kind, fn in written.hooks.items():
                now, known = self.names[kind], {fn, written.passed_over.get(kind)}
                if now not in known and (staged or now != run.before.get((path, kind))):
                    anew[kind] = now
            if any(fn.code == BROKEN for fn in anew.values()):
                raise Refused("DefinitionError")
            if staged or anew:
                owner = run.cell if staged else self.endpoints[path].owner
                taken[path] = (replace(written, hooks={**written.hooks, **anew}), owner)
        for path, (written, _) in taken.items():
            run.before |= {(path, kind): self.names[kind] for kind in written.hooks}
        run.staged = {}
        return taken

    # -- connections

    def connect(self, peer: int, path: str, moods: dict[str, str]) -> Line:
        line = Line(peer, path, moods, self.endpoints[path].current)
        self.lines.append(line)
        line.life = self._life(line)
        return line

    def send(self, line: Line, frame: Frame) -> None:
        line.queue.append(frame)

    def retry(self, path: str) -> None:
        if path not in self.failed:
            raise Refused("LookupError")
        line, frame = self.failed[path]
        if line.has_left or not line.is_open or line.is_over:
            raise Refused("NbwsError")
        line.queue.append(frame)

    def let_go(self, line: Line) -> None:
        line.waits_for = ""

    def leave(self, line: Line) -> None:
        """Its client has gone. What has come is handled, then the connection ends."""
        line.has_left = True
        line.queue.append(_END)

    def let(self, seconds: float) -> None:
        """Time passes. Who has left keeps no call for long; `seconds` less than LONG cut none."""
        self.now += seconds
        for line in self.lines:
            if line.parked_until is not None and line.parked_until <= self.now and not line.is_over:
                line.parked_until = None
                line.close(RETIRED)
        self.settle()
        while seconds >= LONG and any(line.is_blocked and line.has_left for line in self.lines):
            for line in self.lines:
                if line.is_blocked and line.has_left:
                    line.waits_for = ""
                    self._step(line, cut=True)
            self.settle()

    def settle(self) -> None:
        """Let everything happen that waits for nothing."""
        while any(self._go_on(line) for line in self.lines if not line.is_over):
            pass

    def _go_on(self, line: Line) -> bool:
        went_on = False
        while not line.is_over:
            if line.waits_for == "go":
                stuck = True
            elif line.waits_for == "frame":
                stuck = not line.queue
            elif line.waits_for == "endpoint":
                stuck = self.endpoints[line.path].retired and line.is_open and not line.has_left
            else:
                stuck = False
            if not stuck:
                self._step(line)
            elif not line.is_open and not line.has_left:
                self.leave(line)  # a client that is told to close does so
            else:
                break
            went_on = True
        return went_on

    def _step(self, line: Line, *, cut: bool = False) -> None:
        assert line.life is not None
        try:
            line.waits_for = line.life.throw(Cut()) if cut else next(line.life)
        except StopIteration:
            line.is_over, line.waits_for, line.parked_until = True, "", None

    # -- what happens on a connection; what is yielded is what it waits for

    def _life(self, line: Line) -> Generator[str, None, None]:
        yield from self._call_hook(line, "conn")
        while True:
            while not line.queue:
                yield "frame"
            item = line.queue.popleft()
            if item == _END:
                break
            endpoint = self.endpoints[line.path]
            if item == _LOOK:
                if not endpoint.retired:
                    yield from self._migrate(line, endpoint.current, endpoint.current.written)
                continue
            while endpoint.retired and line.is_open and not line.has_left:
                yield "endpoint"
            if endpoint.retired:
                continue  # its client has gone, and so has what would answer it
            version, written = endpoint.current, endpoint.current.written
            act, self.as_taken_up = self.as_taken_up, None
            if act is not None:
                act()
            yield from self._migrate(line, version, written)
            yield from self._handle(line, version, written, item)
        while not self.endpoints[line.path].retired and line.seen is not self.endpoints[line.path].current:
            current = self.endpoints[line.path].current
            yield from self._migrate(line, current, current.written)
        line.is_open = False
        yield from self._call_hook(line, "disconn")

    def _handle(self, line: Line, version: Version, written: Written, frame: Frame) -> Generator[str, None, None]:
        fn, do = written.body, frame.do
        kind = ("async", "def", "async generator", "generator")[fn.code % 4]
        version.messages += 1
        if do in _REFUSED:
            self._fail(line, version, "handle", _REFUSED[do], frame)
            return
        line.calls.append(("took", fn, frame.n, tuple(line.state)))
        line.state = [*line.state, str(frame.n)][-4:]
        if do == "close":
            line.close(CLOSED_BY_HANDLER)
        line.hear(f"{fn.code}/{frame.n}/begins")
        if kind.endswith("generator") and not line.is_open:
            return  # nobody is there to hear what comes next
        if do.startswith("wait") and kind.startswith("async"):
            version.running += 1
            try:
                yield "go"
            except Cut:
                return
            finally:
                version.running -= 1
        if do.endswith("raise"):
            self._fail(line, version, "handle", "Boom", frame)
            return
        line.calls.append(("done", fn, frame.n))
        line.hear(f"{fn.code}/{frame.n}/ends")

    def _migrate(self, line: Line, version: Version, written: Written) -> Generator[str, None, None]:
        old, line.seen = line.seen, version
        swap, mood = written.swap, line.moods["swap"]
        if not swap or old is version:
            return
        what = f"{old.number}>{version.number}"
        line.calls.append(("swap", swap, what, tuple(line.state)))
        before, line.state = line.state, [*line.state, what][-4:]  # while the hook is at it, it is the copy
        if mood == "wait":
            version.running += 1
            try:
                yield "go"
            except Cut:
                line.state = before
                return
            finally:
                version.running -= 1
        if mood in ("raise", "unsendable"):
            line.state = before
            told = f"(swap from v{old.number} to v{version.number})"
            self._fail(line, version, "migrate", "Boom" if mood == "raise" else "RenderError", told)
            return
        line.hear(f"swap {what}")

    def _call_hook(self, line: Line, kind: str) -> Generator[str, None, None]:
        if not self.has_cells:  # a function that was defined anew is taken up when a hook is called
            try:
                self.publish(self._take(Run(None)))
            except Refused:
                pass  # one that is none leaves the working one alone
        version = self.endpoints[line.path].current
        if kind == "conn":
            line.seen = version
        fn = version.written.hooks.get(kind)
        if fn is None:
            return
        line.calls.append((kind, fn, tuple(line.state)))
        line.state = [*line.state, kind][-4:]
        if line.moods[kind] == "wait":
            version.running += 1
            try:
                yield "go"
            except Cut:
                return
            finally:
                version.running -= 1
        if line.moods[kind] == "raise":
            self._fail(line, version, HOOKS[kind], "Boom", f"({kind})")
            return
        line.hear(f"{kind} {fn.code}")

    def _fail(self, line: Line, version: Version, handler: str, kind: str, what: Frame | str) -> None:
        version.errors += 1
        if isinstance(what, Frame):
            self.failed[line.path] = (line, what)
            what = what.shown
        line.errors.append(Error(line.path, version.number, handler, kind, what))
