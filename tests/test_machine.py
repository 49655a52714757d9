"""Connections come and go, speak and are spoken to while cells define, break, move, retire and go back, in any order.

What is to be seen of the app is compared with the model after each step.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from machine_model import (
    BROKEN,
    ERRORS_KEPT,
    HOOKS,
    LONG,
    PARK_SECONDS,
    PATHS,
    TRACEBACKS_SHOWN,
    VERSIONS_KEPT,
    Fn,
    Frame,
    Line,
    Model,
    Refused,
    Written,
)
from machine_world import InProcess, World

CELLS = ("one", "two", None)
DOINGS = ("answer", "wait", "raise", "wait, raise", "wait", "close", "no json", "binary", "unbound")


# -- what the code in a cell may say


class Define(NamedTuple):
    path: str
    body: int
    hooks: tuple[str, ...]
    swap: int


class Hook(NamedTuple):
    """The function that `conn=` or `disconn=` names, defined anew."""

    kind: str
    code: int


class DefineBroken(NamedTuple):
    path: str


class GoBack(NamedTuple):
    path: str
    to: int  #: a place in the history, from its end; 0 is the version before the live code


class Retire(NamedTuple):
    path: str


class Publish(NamedTuple):
    pass


Statement = Define | Hook | DefineBroken | GoBack | Retire | Publish

PICKS = st.integers(0, 11)
A_PATH = st.sampled_from(PATHS)
DEFINITIONS = st.builds(
    Define,
    A_PATH,
    st.integers(0, 7),
    st.sampled_from([("conn", "disconn"), ("conn", "disconn"), ("conn",), ("disconn",), ()]),
    st.sampled_from([0, 0, 1, 2]),
)
OFTEN = ("answer", "answer", "answer", "raise", "wait")
MOODS = st.fixed_dictionaries(
    {
        "conn": st.sampled_from(OFTEN),
        "disconn": st.sampled_from(OFTEN),
        "swap": st.sampled_from(("answer", "answer", "wait", "wait", "raise", "unsendable")),
    }
)
STATEMENTS = st.one_of(
    DEFINITIONS,
    DEFINITIONS,
    st.builds(Hook, st.sampled_from(list(HOOKS)), st.integers(0, 2)),
    st.builds(Hook, st.sampled_from(list(HOOKS)), st.just(BROKEN)),
    st.builds(DefineBroken, A_PATH),
    st.builds(GoBack, A_PATH, st.integers(0, 6)),
    st.builds(Retire, A_PATH),
    st.just(Publish()),
)


class Machine(RuleBasedStateMachine):
    """Each rule tells the model and the app of one event, and the invariants compare them."""

    has_cells = True
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).steps -= 1  # invariants are looked at before the first step too
        self.world = self.new_world()
        self.model = Model(has_cells=self.has_cells)
        self.programs: dict[str | None, list[Statement]] = {}
        self.sent = 0
        if self.has_cells:
            self.begin("one")
        for kind in HOOKS:
            self.perform(Hook(kind, 0))
        for path in PATHS:
            self.perform(Define(path, 0, tuple(HOOKS), 0), in_cell=self.has_cells)
        if self.has_cells:
            self.end(succeeded=True)

    def new_world(self) -> World:
        return InProcess(has_cells=self.has_cells)

    def settle(self) -> None:
        self.model.settle()
        self.world.settle(self.is_as_expected)

    def settle_in_between(self) -> None:
        """Where others go on by themselves, they see each of the things that one step does."""
        if not self.world.has_clock:
            self.model.settle()
            self.world.settle(self.is_as_expected)

    def is_as_expected(self) -> bool:
        try:
            self.everything_is_as_the_model_says()
        except (AssertionError, RuntimeError):  # looked at while it changes
            return False
        return True

    # -- clients

    def here(self) -> list[Line]:
        """The connections whose clients may speak."""
        return [line for line in self.model.lines if line.is_open and not line.has_left]

    def blocked(self) -> list[Line]:
        return [line for line in self.model.lines if line.is_blocked]

    @precondition(lambda self: len(self.here()) < 6)
    @rule(path=A_PATH, moods=st.lists(MOODS, min_size=1, max_size=3))
    def connect(self, path: str, moods: list[dict[str, str]]) -> None:
        for each in moods:
            if path in self.model.live():
                line = self.model.connect(len(self.model.lines), path, each)
                self.world.connect(line.peer, path, each)
            else:
                assert self.world.connect(-1, path, each).was_refused
        self.settle()

    @precondition(lambda self: self.here())
    @rule(pick=PICKS, do=st.sampled_from(DOINGS))
    def send(self, pick: int, do: str) -> None:
        self.say(_one(self.here(), pick), do)
        self.settle()

    @precondition(lambda self: self.here())
    @rule(pick=PICKS, number=st.integers(2, 5))
    def send_some(self, pick: int, number: int) -> None:
        line = _one(self.here(), pick)
        for _ in range(number):
            self.say(line, "answer")
        self.settle()

    @precondition(lambda self: self.parked())
    @rule(pick=PICKS, number=st.integers(1, 3))
    def send_to_what_is_retired(self, pick: int, number: int) -> None:
        line = _one(self.parked(), pick)
        for _ in range(number):
            self.say(line, "answer")
        self.settle()

    def parked(self) -> list[Line]:
        return [line for line in self.here() if line.parked_until]

    def say(self, line: Line, do: str) -> None:
        if len(line.queue) < 40:
            self.sent += 1
            frame = Frame(self.sent, do)
            self.model.send(line, frame)
            self.world.send(self.world.peers[line.peer], frame)

    @precondition(lambda self: self.blocked())
    @rule(pick=PICKS)
    def let_go(self, pick: int) -> None:
        line = _one(self.blocked(), pick)
        self.model.let_go(line)
        self.world.let_go(line.peer)
        self.settle()

    @precondition(lambda self: self.leaving())
    @rule(pick=PICKS)
    def leave(self, pick: int) -> None:
        line = _one(self.leaving(), pick)
        self.model.leave(line)
        self.world.leave(self.world.peers[line.peer])
        self.settle()

    def leaving(self) -> list[Line]:
        """Who may leave now. When a real server sees that a client has left in the middle of a call, nobody knows."""
        return [line for line in self.here() if self.world.has_clock or not line.is_blocked]

    @precondition(lambda self: self.model.failed)
    @rule(pick=PICKS)
    def retry(self, pick: int) -> None:
        path = _one([*self.model.failed, *self.model.failed, *PATHS], pick)
        self.both(lambda: self.model.retry(path), lambda: self.world.retry(path))
        self.settle()

    # -- cells

    @precondition(lambda self: self.has_cells and self.model.run is None)
    @rule(cell=st.sampled_from(CELLS), program=st.lists(STATEMENTS, max_size=3), fails=st.sampled_from([0, 0, 0, 1]))
    def run_a_cell(self, cell: str | None, program: list[Statement], fails: int) -> None:
        self.programs[cell] = program
        self.begin(cell)
        if all(self.perform(statement, in_cell=True) for statement in program):
            self.end(succeeded=not fails)
        self.settle()

    @precondition(lambda self: self.has_cells and self.model.run is None and self.owning())
    @rule(pick=PICKS, program=st.lists(STATEMENTS, max_size=1), fails=st.sampled_from([0, 0, 0, 1]))
    def a_cell_loses_what_it_owned(self, pick: int, program: list[Statement], fails: int) -> None:
        self.run_a_cell(_one(self.owning(), pick), program, fails)

    def owning(self) -> list[str]:
        """The cells that own something that is live."""
        return [cell for cell in CELLS if cell is not None and self.model.owned_by(cell)]

    @precondition(lambda self: self.has_cells and self.model.run is None and len(self.model.live()) < len(PATHS))
    @rule(cell=st.sampled_from(CELLS), definition=DEFINITIONS, is_other_code=st.booleans())
    def what_was_retired_comes_back(self, cell: str | None, definition: Define, is_other_code: bool) -> None:
        program = []
        for path in [path for path in PATHS if path not in self.model.live()]:
            was = self.model.endpoints[path].current.written
            same = Define(path, was.body.code, tuple(was.hooks), was.swap)
            program.append(definition._replace(path=path) if is_other_code else same)
        self.run_a_cell(cell, program, 0)

    @precondition(lambda self: self.has_cells and self.model.run is None and self.programs)
    @rule(pick=PICKS)
    def run_a_cell_again(self, pick: int) -> None:
        cell = _one(list(self.programs), pick)
        self.run_a_cell(cell, self.programs[cell], 0)

    @precondition(lambda self: self.has_cells and self.model.run is None)
    @rule(cell=st.sampled_from(CELLS), statement=STATEMENTS)
    def a_cell_begins(self, cell: str | None, statement: Statement) -> None:
        self.begin(cell)
        self.a_cell_says(statement)

    @precondition(lambda self: self.model.run is not None)
    @rule(statement=STATEMENTS)
    def a_cell_says(self, statement: Statement) -> None:
        self.perform(statement, in_cell=True)
        self.settle()

    @precondition(lambda self: self.model.run is not None)
    @rule(fails=st.sampled_from([0, 0, 0, 1]))
    def a_cell_ends(self, fails: int) -> None:
        self.end(succeeded=not fails)
        self.settle()

    @rule(statement=STATEMENTS)
    def elsewhere(self, statement: Statement) -> None:
        self.perform(statement)
        self.settle()

    @precondition(lambda self: self.blocked())
    @rule(pick=PICKS, definition=DEFINITIONS, number=st.sampled_from([3, VERSIONS_KEPT + 1]))
    def many_versions_while_one_is_busy(self, pick: int, definition: Define, number: int) -> None:
        path = _one(self.blocked(), pick).path
        for n in range(number if self.world.has_clock else 3):
            self.perform(definition._replace(path=path, body=definition.body + 4 * n))
        self.settle()

    @precondition(lambda self: self.world.has_clock and self.idle())
    @rule(pick=PICKS, do=st.sampled_from(DOINGS[:6]), statement=STATEMENTS)
    def something_happens_as_a_message_is_taken_up(self, pick: int, do: str, statement: Statement) -> None:
        """In another thread, right after the first look at the table: the message may see it, but not in part."""
        line = _one(self.idle(), pick)
        before = self.model.endpoints[line.path].current
        body = before.written.body
        in_model, in_world = self.acts_of(statement, in_cell=False)
        place = self.world.elsewhere
        self.sent += 1
        frame = Frame(self.sent, do)
        outcomes: list[str] = []
        self.world.app.after_next_look = lambda: outcomes.append(_outcome(lambda: place(in_world)))
        self.world.send(self.world.peers[line.peer], frame)
        self.world.settle(self.is_as_expected)
        # By the version of before, which other code may have gone back to; and not by code that it has taken since.
        taken_by = [call[1] for call in self.world.calls[line.peer] if call[0] == "took" and call[2] == frame.n]
        is_taken_before = self.messages_of(line.path, before.number) > before.messages and taken_by in ([], [body])
        if is_taken_before:
            self.model.as_taken_up = lambda: outcomes.append(_outcome(in_model))
        self.model.send(line, frame)  # before what happens: the message was on its way already
        if not is_taken_before:
            outcomes.append(_outcome(in_model))
        self.settle()
        assert outcomes[0] == outcomes[1]

    def messages_of(self, path: str, version: int) -> int:
        """How many the app says that this version has taken."""
        return next((v.messages for v in self.world.endpoint(path).history if v.number == version), 0)

    def idle(self) -> list[Line]:
        live = self.model.live()
        return [line for line in self.here() if line.waits_for == "frame" and line.path in live]

    # -- time

    @precondition(lambda self: self.world.has_clock and self.parked() and not self.is_cutting())
    @rule(seconds=st.sampled_from([1.0, 1.0, PARK_SECONDS - 1, PARK_SECONDS + 1]))
    def time_passes(self, seconds: float) -> None:
        self.let(seconds)

    @precondition(
        lambda self: self.world.has_clock and any(line.is_blocked and line.has_left for line in self.model.lines)
    )
    @rule()
    def much_time_passes(self) -> None:
        self.let(LONG)

    def is_cutting(self) -> bool:
        """Whether a call is to be cut before long, its client having left or being about to be sent away."""
        return any(line.is_blocked and (line.has_left or line.parked_until) for line in self.model.lines)

    def let(self, seconds: float) -> None:
        self.model.let(seconds)
        assert isinstance(self.world, InProcess)
        self.world.settle(self.is_as_expected, seconds)
        self.settle()

    # -- both of them

    def begin(self, cell: str | None) -> None:
        self.model.begin_cell(cell)
        self.world.shell.begin(cell)

    def end(self, *, succeeded: bool) -> None:
        self.model.end_cell(succeeded)
        self.world.shell.end(succeeded=succeeded)

    def perform(self, statement: Statement, *, in_cell: bool = False) -> bool:
        """Whether it could be done. A cell in which it cannot be done has failed."""
        in_model, in_world = self.acts_of(statement, in_cell=in_cell)
        place = self.world.shell.act if in_cell or self.model.run is None else self.world.elsewhere
        succeeded = self.both(in_model, lambda: place(in_world))
        self.settle_in_between()
        if in_cell and not succeeded:
            self.end(succeeded=False)
        return succeeded

    def both(self, in_model: Callable[[], None], in_world: Callable[[], Any]) -> bool:
        """Whether it could be done; both must be of one opinion."""
        expected, got = _outcome(in_model), _outcome(in_world)
        assert got == expected
        return not got

    def acts_of(self, statement: Statement, *, in_cell: bool) -> tuple[Callable[[], None], Callable[[], Any]]:
        model, world = self.model, self.world
        match statement:
            case Define(path, body, kinds, swap):
                hooks = {kind: model.names[kind] for kind in kinds}
                written = Written(Fn(body, world.new_copy()), hooks, swap)
                return lambda: model.define(path, written, in_cell=in_cell), lambda: world.define(path, written)
            case Hook(kind, code):
                copy = Fn(code, world.new_copy())
                return lambda: model.names.update({kind: copy}), lambda: world.define_hook(kind, copy)
            case DefineBroken(path):
                return model.refuse, lambda: world.define_broken(path)
            case GoBack(path, to):
                history = model.endpoints[path].history
                number = None if to == 0 else 999_999 if to > len(history) else history[-to].number
                return lambda: model.roll_back(path, number), lambda: world.endpoint(path).rollback(number)
            case Retire(path):
                return lambda: model.retire(path), lambda: world.endpoint(path).retire()
            case Publish():
                return model.publish_cell if in_cell else lambda: None, world.app.publish
        raise AssertionError(statement)

    # -- what must hold

    @invariant()
    def one_step_more_has_been_made(self) -> None:
        type(self).steps += 1

    @invariant()
    def everything_is_as_the_model_says(self) -> None:
        self.each_version_has_its_number_its_code_and_its_counters()
        self.each_message_is_handled_once_in_order_and_wholly_by_the_version_that_was_current()
        self.each_client_hears_what_was_sent_to_it()
        self.each_connection_keeps_its_state_until_it_is_over()
        self.each_error_is_reported_once()
        self.hooks_are_called_once_and_versions_never_go_back_on_a_connection()

    def each_version_has_its_number_its_code_and_its_counters(self) -> None:
        expected = {
            path: (
                endpoint.retired,
                endpoint.owner,
                [(v.number, v.restored_from, v.cell, v.messages, v.errors, v.running) for v in endpoint.history],
                [(v.written.body, v.written.hooks) for v in endpoint.history],
            )
            for path, endpoint in self.model.endpoints.items()
        }
        _same(self.world.endpoints(), expected)

    def each_message_is_handled_once_in_order_and_wholly_by_the_version_that_was_current(self) -> None:
        _same(self.world.calls, {line.peer: line.calls for line in self.model.lines})

    def each_client_hears_what_was_sent_to_it(self) -> None:
        heard = {peer.number: (peer.heard, peer.close_code) for peer in self.world.peers}
        _same(heard, {line.peer: (line.heard, line.close_code) for line in self.model.lines})

    def each_connection_keeps_its_state_until_it_is_over(self) -> None:
        _same(self.world.states(), {line.peer: line.state for line in self.model.lines if not line.is_over})

    def each_error_is_reported_once(self) -> None:
        _same(self.world.told(), {line.peer: line.errors for line in self.model.lines if line.errors})
        assert list(self.world.app.errors) == self.world.app.reported[-ERRORS_KEPT:]
        if self.has_cells:
            shown = Counter(text.partition(":")[0].partition(" ")[2] for text in self.world.notebook.shown)
            due = Counter(f"v{e.version} on WS {e.path}" for line in self.model.lines for e in line.errors)
            assert shown == {title: min(times, TRACEBACKS_SHOWN) for title, times in due.items()}
        assert not self.world.warnings

    def hooks_are_called_once_and_versions_never_go_back_on_a_connection(self) -> None:
        for calls in self.world.calls.values():
            called = Counter(call[0] for call in calls)
            assert called["conn"] <= 1
            assert called["disconn"] <= 1
            numbers = [int(n) for call in calls if call[0] == "swap" for n in call[2].split(">")]
            assert numbers == sorted(numbers)
            assert all(old < new for old, new in zip(numbers[::2], numbers[1::2], strict=True))

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:  # else there is an error to be shown already
                self.come_to_an_end()
        finally:
            self.world.end()

    def come_to_an_end(self) -> None:
        if self.model.run is not None:
            self.end(succeeded=True)
        while any(not line.is_over for line in self.model.lines):
            assert self.blocked() or self.leaving(), "what goes on here?"
            for line in self.blocked():
                self.model.let_go(line)
                self.world.let_go(line.peer)
            self.settle()
            for line in self.leaving():
                self.model.leave(line)
                self.world.leave(self.world.peers[line.peer])
            self.settle()
        assert not self.world.app.connections
        self.everything_is_as_the_model_says()


class ScriptMachine(Machine):
    """The same with no cells, as in a script: what is defined is live at once, and so are functions defined anew."""

    has_cells = False


def _one(things: list[Any], pick: int) -> Any:
    return things[pick % len(things)]


def _outcome(act: Callable[[], Any]) -> str:
    """The name of what *act* raises; "" where it succeeds."""
    try:
        act()
    except Refused as refused:
        return str(refused)
    except Exception as exc:
        return type(exc).__name__
    return ""


def _same(got: dict[Any, Any], expected: dict[Any, Any]) -> None:
    wrong = [key for key in {**got, **expected} if got.get(key) != expected.get(key)]
    assert not wrong, "".join(f"\n{key}: got {got.get(key)}, expected {expected.get(key)}" for key in wrong)


def run(machine: type[Machine], steps: int) -> int:
    """The number of steps that were made, always the same ones: no fewer than *steps*."""
    machine.steps = 0
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=steps // 34 + 1,
            stateful_step_count=50,
            derandomize=True,
            phases=(Phase.generate, Phase.shrink),  # to explain a failure, all of it would be traced, for minutes
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    return machine.steps


def test_no_promise_is_broken_in_five_thousand_steps() -> None:
    assert run(Machine, 5000) >= 5000


def test_no_promise_is_broken_in_a_script() -> None:
    assert run(ScriptMachine, 1000) >= 1000
