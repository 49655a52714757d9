"""What a cell has defined, before it is known whether the cell succeeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nbws.binding import Bound, compile_handler
from nbws.errors import DefinitionError
from nbws.handlers import WEBSOCKET, Definition, HandlerTable, HttpHandler, Key, Owner, WsHandler
from nbws.options import Options
from nbws.staging import Staged, claim, hook_of, ws_definition

CHAT, ROOM, PAGE = Key(WEBSOCKET, "/chat"), Key(WEBSOCKET, "/room"), Key("GET", "/")
CELL = """
def joined(send): return 1
def left(send): return 1
def chat(msg: str): return msg
"""


def compiled(fn: Callable[..., Any]) -> Bound:
    return compile_handler(fn, types_by_name={})


def compile_hook(key: Key, fn: Callable[..., Any]) -> Bound:
    return compiled(fn)


def ran(source: str, namespace: dict[str, Any] | None = None) -> dict[str, Any]:
    """The globals of a notebook after a cell with this source."""
    namespace = {} if namespace is None else namespace
    exec(compile(source, "<cell>", "exec", dont_inherit=True), namespace)
    return namespace


def endpoint(names: dict[str, Any], key: Key = CHAT, **hooks: str) -> Definition:
    """`@app.ws(key.path, conn=joined, ...)` over the `chat` of these globals."""
    bound = {kind: hook_of(compiled(names[name])) for kind, name in hooks.items()}
    return ws_definition(key, WsHandler(compiled(names["chat"]), bound))


def live(*definitions: Definition) -> HandlerTable:
    return HandlerTable().publish(definitions)


def hook_result(definition: Definition, kind: str = "conn") -> Any:
    return definition.target.hooks[kind].bound.fn(None)


# -- taking


def test_what_is_staged_is_taken_once() -> None:
    names = ran(CELL)
    staged, definition = Staged(), endpoint(names)
    assert staged.is_empty
    staged.add(definition)
    assert not staged.is_empty
    assert staged.take(HandlerTable(), compile_hook) == ([definition], None)
    assert staged.is_empty
    assert staged.take(live(definition), compile_hook) == ([], None)


def test_options_are_taken_once() -> None:
    options = Options(title="x")
    staged = Staged(options=options)
    assert not staged.is_empty
    assert staged.take(HandlerTable(), compile_hook) == ([], options)
    assert staged.take(HandlerTable(), compile_hook) == ([], None)


def test_of_two_definitions_of_one_path_in_one_cell_the_last_counts() -> None:
    names = ran(CELL)
    staged, last = Staged(), endpoint(names)
    staged.add(endpoint(names, conn="joined"))
    staged.add(last)
    taken, _ = staged.take(HandlerTable(), compile_hook)
    assert taken == [last]


def test_a_cell_knows_what_it_defined_after_that_was_published() -> None:
    staged = Staged()
    staged.add(endpoint(ran(CELL)))
    staged.take(HandlerTable(), compile_hook)
    assert staged.defined == {CHAT}


def test_what_is_no_websocket_is_taken_as_it_is() -> None:
    page = Definition(PAGE, object(), "code")
    staged = Staged()
    staged.add(page)
    assert staged.take(HandlerTable(), compile_hook) == ([page], None)


# -- versions


def test_the_same_cell_run_again_is_the_same_version_and_another_hook_is_another() -> None:
    def version_after(*sources: str) -> int:
        table = HandlerTable()
        for source in sources:
            table = table.publish([endpoint(ran(source), conn="joined", disconn="left")])
        entry = table.get(CHAT)
        assert entry is not None
        return entry.version

    assert version_after(CELL, CELL) == 1
    assert version_after(CELL, CELL.replace("joined(send): return 1", "joined(send): return 2")) == 2
    assert version_after(CELL, CELL.replace("left(send): return 1", "left(send): return 2")) == 2
    assert version_after(CELL, CELL.replace("return msg", "return msg + msg")) == 2


def test_a_hook_that_is_left_out_or_put_elsewhere_is_another_version() -> None:
    names = ran(CELL)
    prints = {
        endpoint(names).fingerprint,
        endpoint(names, conn="joined").fingerprint,
        endpoint(names, disconn="joined").fingerprint,
    }
    assert len(prints) == 3


# -- hooks that are defined anew, alone


def test_redefining_the_function_that_conn_names_alone_takes_effect() -> None:
    names = ran(CELL)
    owner = Owner("cell", "a")
    before = Definition(CHAT, (made := endpoint(names, conn="joined")).target, made.fingerprint, owner)
    table = live(before)
    staged = Staged.at_begin(table)
    ran("def joined(send): return 2", names)
    (taken,), _ = staged.take(table, compile_hook)
    assert hook_result(taken) == 2
    assert taken.target.message is before.target.message
    assert taken.owner == owner
    assert taken.fingerprint != before.fingerprint


def test_a_hook_that_is_run_again_unchanged_is_the_same_version_with_its_new_function() -> None:
    names = ran(CELL)
    table = live(endpoint(names, conn="joined"))
    staged = Staged.at_begin(table)
    ran("def joined(send): return 1", names)
    (taken,), _ = staged.take(table, compile_hook)
    entry = table.publish([taken]).get(CHAT)
    assert entry is not None
    assert entry.version == 1
    assert entry.definition.target.hooks["conn"].bound.fn is names["joined"]


def test_a_cell_that_touches_no_hook_publishes_nothing() -> None:
    names = ran(CELL)
    table = live(endpoint(names, conn="joined"))
    staged = Staged.at_begin(table)
    ran("other = 1", names)
    assert staged.take(table, compile_hook) == ([], None)


def test_a_hook_of_a_cell_that_failed_is_not_taken_up_by_the_next_cell() -> None:
    names = ran(CELL)
    table = live(endpoint(names, conn="joined"))
    Staged.at_begin(table)
    ran("def joined(send): return 'of the failed cell'", names)
    next_cell = Staged.at_begin(table)
    assert next_cell.take(table, compile_hook) == ([], None)


def test_a_hook_defined_below_its_endpoint_in_the_same_cell_counts() -> None:
    names = ran(CELL)
    staged = Staged()
    staged.add(endpoint(names, conn="joined"))
    ran("def joined(send): return 2", names)
    (taken,), _ = staged.take(HandlerTable(), compile_hook)
    assert hook_result(taken) == 2


def test_a_hook_of_two_endpoints_is_taken_up_by_both_and_another_endpoint_is_left_alone() -> None:
    names = ran(CELL)
    other = Key(WEBSOCKET, "/other")
    table = live(
        endpoint(names, conn="joined"), endpoint(names, ROOM, disconn="joined"), endpoint(names, other, conn="left")
    )
    staged = Staged.at_begin(table)
    ran("def joined(send): return 2", names)
    taken, _ = staged.take(table, compile_hook)
    assert {definition.key for definition in taken} == {CHAT, ROOM}


def test_a_hook_of_the_same_name_that_was_made_for_another_endpoint_is_that_ones_alone() -> None:
    names = ran(CELL)
    chat = endpoint(names, conn="joined")
    claim(chat, None)
    table, staged = live(chat), Staged()
    ran("def joined(send): return 'of the room'", names)
    room = endpoint(names, ROOM, conn="joined")
    claim(room, None)
    staged.add(room)
    assert staged.take(table, compile_hook) == ([room], None)

    next_cell = Staged.at_begin(table)
    ran("def joined(send): return 'of the room still'", names)
    taken, _ = next_cell.take(table.publish([room]), compile_hook)
    assert [definition.key for definition in taken] == [ROOM], "the name is the room's since then"


def test_a_hook_that_two_endpoints_share_is_taken_up_by_both_though_its_cell_defines_one_of_them() -> None:
    names = ran(CELL)
    chat, room = endpoint(names, conn="joined"), endpoint(names, ROOM, conn="joined")
    claim(chat, None)
    claim(room, None)
    table = live(chat, room)
    staged = Staged.at_begin(table)
    ran("def joined(send): return 2", names)
    again = endpoint(names, conn="joined")
    claim(again, chat)
    staged.add(again)
    taken, _ = staged.take(table, compile_hook)
    assert {definition.key: hook_result(definition) for definition in taken} == {CHAT: 2, ROOM: 2}


def test_a_page_of_the_same_name_is_no_hook() -> None:
    names = ran(CELL)
    chat = endpoint(names, disconn="left")
    claim(chat, None)
    table = live(chat)
    staged = Staged.at_begin(table)
    ran("def left(): return 'a page'", names)
    page = Definition(PAGE, HttpHandler(compiled(names["left"]), "left"), 1)
    claim(page, None)
    staged.add(page)
    assert staged.take(table, compile_hook) == ([page], None)


def test_an_endpoint_with_another_hook_runs_where_it_did() -> None:
    names = ran(CELL)
    hooks = {"conn": hook_of(compiled(names["joined"]))}
    table = live(ws_definition(CHAT, WsHandler(compiled(names["chat"]), hooks, loop="kernel")))
    staged = Staged.at_begin(table)
    ran("def joined(send): return 2", names)
    (taken,), _ = staged.take(table, compile_hook)
    assert hook_result(taken) == 2
    assert taken.target.loop == "kernel"


def test_a_hook_that_was_taken_up_in_the_middle_of_a_cell_is_not_taken_up_again() -> None:
    names = ran(CELL)
    table = live(endpoint(names, conn="joined"))
    staged = Staged.at_begin(table)
    ran("def joined(send): return 2", names)
    taken, _ = staged.take(table, compile_hook)
    assert staged.take(table.publish(taken), compile_hook) == ([], None)


def test_the_hooks_of_a_retired_endpoint_are_left_alone() -> None:
    names = ran(CELL)
    table = live(endpoint(names, conn="joined")).publish([], [CHAT])
    staged = Staged.at_begin(table)
    ran("def joined(send): return 2", names)
    assert staged.take(table, compile_hook) == ([], None)


def test_a_hook_that_cannot_work_is_refused_and_nothing_is_taken() -> None:
    names = ran(CELL)
    table = live(endpoint(names, conn="joined"))
    staged, room = Staged.at_begin(table), endpoint(names, ROOM)
    staged.add(room)
    ran("def joined(nonsense): return 2", names)
    with pytest.raises(DefinitionError, match="write nonsense: str"):
        staged.take(table, compile_hook)
    ran("def joined(send): return 3", names)
    taken, _ = staged.take(table, compile_hook)
    assert {definition.key for definition in taken} == {CHAT, ROOM}


def test_what_is_gone_back_to_in_a_cell_keeps_the_hook_that_it_had() -> None:
    names = ran(CELL)
    with_hook = endpoint(names, conn="joined")
    ran("def joined(send): return 2", names)
    table = live(with_hook).publish([endpoint(names)])  # the live version has no such hook
    staged = Staged.at_begin(table)
    table = table.roll_back(CHAT, 1)
    assert staged.take(table, compile_hook) == ([], None)
    assert Staged().take(table, compile_hook) == ([], None)
    ran("def joined(send): return 3", names)
    (taken,), _ = staged.take(table, compile_hook)
    assert hook_result(taken) == 3


@pytest.mark.parametrize("line", ["joined = None", "joined = 'text'", "del joined"])
def test_a_name_that_is_no_function_any_more_leaves_the_hook_as_it_was(line: str) -> None:
    names = ran(CELL)
    table = live(endpoint(names, conn="joined"))
    staged = Staged.at_begin(table)
    ran(line, names)
    assert staged.take(table, compile_hook) == ([], None)


def test_a_function_is_asked_for_by_the_name_that_its_globals_have_for_it() -> None:
    names = ran(CELL + "\ndef make():\n    def joined(send): return 1\n    return joined\nmade = make()")
    places = [hook_of(compiled(names[name])).place for name in ("joined", "made")]
    assert [place and place.name for place in places] == ["joined", "made"]
    assert hook_of(compiled(lambda send: None)).place is None


@pytest.mark.parametrize(
    "line",
    [
        "left = lambda ws: {}",
        "import functools\ndef leave(n, ws): return n\nleft = functools.partial(leave, {})",
        "class Left:\n    def __call__(self, ws): return {}\nleft = Left()",
        "def plain(f):\n    def inner(ws): return f(ws)\n    return inner\n@plain\ndef left(ws): return {}",
    ],
)
def test_a_hook_that_is_no_plain_function_is_taken_up_anew_by_its_name(line: str) -> None:
    names = ran(CELL + "\n" + line.format(1))
    handler = WsHandler(plain(names["chat"]), {"disconn": hook_of(plain(names["left"]), names)})
    table = live(ws_definition(CHAT, handler))
    for number in (2, 3):
        staged = Staged.at_begin(table)
        ran(line.format(number), names)
        (definition,), _ = staged.take(table, compile_any_hook)
        assert hook_result(definition, "disconn") == number
        table = table.publish([definition])


def test_a_method_is_taken_up_anew_with_its_object_and_not_otherwise() -> None:
    room = "class Room:\n    def enter(self, ws): return {}\nroom = Room()"
    names = ran(CELL + "\n" + room.format(1))
    hooks = {"conn": hook_of(plain(names["room"].enter), names)}
    table = live(ws_definition(CHAT, WsHandler(plain(names["chat"]), hooks)))
    assert Staged.at_begin(table).take(table, compile_any_hook) == ([], None)
    assert Staged().take(table, compile_any_hook) == ([], None)
    staged = Staged.at_begin(table)
    ran(room.format(2), names)
    (definition,), _ = staged.take(table, compile_any_hook)
    assert hook_result(definition) == 2


def plain(fn: Callable[..., Any]) -> Bound:
    return compile_handler(fn, types_by_name={})


def compile_any_hook(key: Key, fn: Callable[..., Any]) -> Bound:
    return plain(fn)
