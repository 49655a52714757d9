"""The versioned table: what publishing, retiring and coming back do to it, and never do to its readers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nbws.binding import compile_handler
from nbws.handlers import WEBSOCKET, Change, Definition, HandlerTable, Hook, Key, Owner, Place, changes

CHAT, ROOM, PAGE = Key(WEBSOCKET, "/chat"), Key(WEBSOCKET, "/room/{name}"), Key("GET", "/chat")
KEYS = [CHAT, ROOM, PAGE, Key("POST", "/chat"), Key("STARTUP", "module.begin")]
CELLS = [Owner("cell", "a"), Owner("cell", "b"), Owner("module", "a"), None]


def definition(key: Key, code: object, owner: Owner | None = None) -> Definition:
    """A definition of this code, whose target is a new function each time."""
    return Definition(key, lambda: code, code, owner)


def version(table: HandlerTable, key: Key) -> int:
    entry = table.get(key)
    assert entry is not None
    return entry.version


def live(table: HandlerTable, *methods: str) -> list[Key]:
    return [key for key, _ in table.live(*methods)]


# -- in small


def test_the_first_definition_is_version_1() -> None:
    assert version(HandlerTable().publish([definition(CHAT, "a")]), CHAT) == 1


def test_the_same_code_keeps_its_version_and_its_new_function_is_taken() -> None:
    again = definition(CHAT, "a")
    table = HandlerTable().publish([definition(CHAT, "a")]).publish([again])
    entry = table.get(CHAT)
    assert entry is not None
    assert entry.version == 1
    assert entry.definition.target is again.target


def test_other_code_is_the_next_version_and_code_of_before_is_one_more() -> None:
    table = HandlerTable()
    versions = []
    for code in "aaba":
        table = table.publish([definition(CHAT, code)])
        versions.append(version(table, CHAT))
    assert versions == [1, 1, 2, 3]


def test_what_is_retired_is_not_live_and_its_number_goes_on_when_it_comes_back() -> None:
    table = HandlerTable().publish([definition(CHAT, "a")]).publish([definition(CHAT, "b")])
    retired = table.publish([], retire=[CHAT])
    assert live(retired) == []
    assert version(retired, CHAT) == 2
    assert version(retired.publish([definition(CHAT, "b")]), CHAT) == 2
    assert version(retired.publish([definition(CHAT, "c")]), CHAT) == 3


def test_a_route_moved_from_one_cell_to_another_at_once_stays_live() -> None:
    table = HandlerTable().publish([definition(CHAT, "a", CELLS[0])])
    moved = table.publish([definition(CHAT, "a", CELLS[1])], retire=[CHAT])
    assert live(moved) == [CHAT]
    assert moved.owned_by(CELLS[0]) == frozenset()  # type: ignore[arg-type]
    assert moved.owned_by(CELLS[1]) == {CHAT}  # type: ignore[arg-type]


def test_retiring_what_is_not_there_does_nothing() -> None:
    assert live(HandlerTable().publish([], retire=[CHAT])) == []


def test_a_path_may_have_a_websocket_and_a_page() -> None:
    table = HandlerTable().publish([definition(CHAT, "a"), definition(PAGE, "a")])
    assert live(table) == [CHAT, PAGE]
    assert live(table, WEBSOCKET) == [CHAT]
    assert live(table, "GET", "POST") == [PAGE]


def test_a_redefinition_keeps_the_order_of_definition() -> None:
    table = HandlerTable().publish([definition(CHAT, "a"), definition(ROOM, "a")]).publish([definition(CHAT, "b")])
    assert live(table) == [CHAT, ROOM]


def test_a_change_names_what_was_before_and_what_is_now() -> None:
    old = HandlerTable().publish([definition(CHAT, "a"), definition(ROOM, "a")])
    new = old.publish([definition(CHAT, "b"), definition(PAGE, "a")], retire=[ROOM])
    assert changes(old, old) == []
    assert changes(old, new) == [
        Change(CHAT, old.get(CHAT), new.get(CHAT)),
        Change(ROOM, old.get(ROOM), None),
        Change(PAGE, None, new.get(PAGE)),
    ]


def test_of_the_changes_only_other_code_is_a_new_version() -> None:
    old = HandlerTable().publish([definition(CHAT, "a"), definition(ROOM, "a"), definition(PAGE, "a")])
    new = old.publish([definition(CHAT, "b"), definition(ROOM, "a")], retire=[PAGE])
    assert {change.key: change.is_new_version for change in changes(old, new)} == {
        CHAT: True,
        ROOM: False,
        PAGE: False,
    }


def test_a_key_reads_as_its_method_and_path() -> None:
    assert f"{CHAT}, {PAGE}" == "WS /chat, GET /chat"


# -- hooks


def namespace_with(source: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    return namespace


def hook(fn: Any, late: bool) -> Hook:
    place = Place(fn.__globals__, fn.__name__) if late else None
    return Hook(compile_handler(fn, types_by_name={}), place)


def test_a_late_hook_is_what_its_name_stands_for_now() -> None:
    cell = namespace_with("def joined(send): return 1")
    late, early = hook(cell["joined"], True), hook(cell["joined"], False)
    exec("def joined(send): return 2", cell)
    assert late.now()(None) == 2
    assert early.now()(None) == 1


def test_a_late_hook_whose_name_is_gone_or_no_function_stays_what_it_was() -> None:
    cell = namespace_with("def joined(send): return 1")
    late = hook(cell["joined"], True)
    cell["joined"] = "no function"
    assert late.now()(None) == 1
    del cell["joined"]
    assert late.now()(None) == 1


# -- in any order


@dataclass
class Known:
    """What a plain model of the table knows of one key."""

    version: int
    code: int
    live: bool
    owner: Owner | None
    target: Any


Picture = dict[Key, tuple[int, bool, Any]]


def picture(table: HandlerTable) -> Picture:
    """All that a reader of *table* can see."""
    return {key: (entry.version, entry.retired, entry.definition.target) for key, entry in table}


class TableMachine(RuleBasedStateMachine):
    """Cells are run in any order; the table is compared with a plain model, and the old tables with themselves."""

    @initialize()
    def empty(self) -> None:
        self.table = HandlerTable()
        self.known: dict[Key, Known] = {}
        self.read: list[tuple[HandlerTable, Picture]] = []

    def publish(self, codes: dict[Key, int], retire: set[Key] = frozenset(), owner: Owner | None = None) -> None:  # type: ignore[assignment]
        old, before = self.table, {key: known.version for key, known in self.known.items()}
        definitions = [definition(key, code, owner) for key, code in codes.items()]
        self.read.append((old, picture(old)))
        self.table = old.publish(definitions, retire)

        was_live = {key for key, known in self.known.items() if known.live}
        for key in retire & self.known.keys():
            self.known[key].live = False
        for made in definitions:
            known = self.known.get(made.key)
            code = codes[made.key]
            number = 1 if known is None else known.version + (known.code != code)
            self.known[made.key] = Known(number, code, True, owner, made.target)

        is_live = {key for key, known in self.known.items() if known.live}
        changed = {change.key: change for change in changes(old, self.table)}
        assert changed.keys() == (was_live ^ is_live) | (codes.keys() & is_live)
        for key, change in changed.items():
            assert (change.before is not None, change.after is not None) == (key in was_live, key in is_live)
        for key, number in before.items():
            assert version(self.table, key) >= number, "a version went back"

    def pick(self, data: st.DataObject, *, live: bool) -> Key:
        return data.draw(st.sampled_from([key for key, known in self.known.items() if known.live == live]))

    def has(self, *, live: bool) -> bool:
        return any(known.live == live for known in self.known.values())

    @rule(
        codes=st.dictionaries(st.sampled_from(KEYS), st.integers(0, 3)),
        retire=st.sets(st.sampled_from(KEYS)),
        owner=st.sampled_from(CELLS),
    )
    def run_a_cell(self, codes: dict[Key, int], retire: set[Key], owner: Owner | None) -> None:
        self.publish(codes, retire, owner)

    @precondition(lambda self: self.has(live=True))
    @rule(data=st.data())
    def redefine_with_the_same_code(self, data: st.DataObject) -> None:
        key = self.pick(data, live=True)
        number = version(self.table, key)
        self.publish({key: self.known[key].code})
        assert version(self.table, key) == number

    @precondition(lambda self: self.has(live=True))
    @rule(data=st.data())
    def redefine_with_other_code(self, data: st.DataObject) -> None:
        key = self.pick(data, live=True)
        number = version(self.table, key)
        self.publish({key: self.known[key].code + 1})
        assert version(self.table, key) == number + 1

    @precondition(lambda self: self.has(live=True))
    @rule(data=st.data())
    def retire(self, data: st.DataObject) -> None:
        key = self.pick(data, live=True)
        self.publish({}, {key})
        assert key not in live(self.table)

    @precondition(lambda self: self.has(live=False))
    @rule(data=st.data(), other_code=st.booleans())
    def come_back(self, data: st.DataObject, other_code: bool) -> None:
        key = self.pick(data, live=False)
        number = version(self.table, key)
        self.publish({key: self.known[key].code + other_code})
        assert key in live(self.table)
        assert version(self.table, key) == number + other_code

    @invariant()
    def the_table_is_what_the_model_says(self) -> None:
        assert picture(self.table) == {k: (m.version, not m.live, m.target) for k, m in self.known.items()}
        assert set(live(self.table)) == {key for key, known in self.known.items() if known.live}
        for owner in filter(None, CELLS):
            owned = {key for key, known in self.known.items() if known.live and known.owner == owner}
            assert self.table.owned_by(owner) == owned

    @invariant()
    def readers_of_an_old_table_see_no_change(self) -> None:
        for table, seen in self.read:
            assert picture(table) == seen


TestTableInAnyOrder = TableMachine.TestCase
TestTableInAnyOrder.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
