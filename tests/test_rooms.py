"""Who is in which room."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nbws.rooms import Rooms


def test_members_are_in_the_order_in_which_they_joined() -> None:
    rooms = Rooms[str]().join("lobby", "b").join("lobby", "a").join("den", "a")
    assert rooms.members("lobby") == ("b", "a")
    assert rooms.of("a") == {"lobby", "den"}


def test_who_joins_twice_is_in_the_room_once_and_in_the_same_place() -> None:
    rooms = Rooms[str]().join("lobby", "a").join("lobby", "b").join("lobby", "a")
    assert rooms.members("lobby") == ("a", "b")


def test_an_empty_room_does_not_exist() -> None:
    rooms = Rooms[str]().join("lobby", "a").leave("lobby", "a")
    assert "lobby" not in rooms
    assert list(rooms) == []
    assert rooms.members("lobby") == ()


def test_leaving_a_room_that_one_is_not_in_does_nothing() -> None:
    rooms = Rooms[str]().join("lobby", "a")
    assert list(rooms.leave("lobby", "b").leave("den", "a")) == ["lobby"]


def test_who_leaves_all_rooms_is_in_none_and_the_others_stay() -> None:
    rooms = Rooms[str]().join("lobby", "a").join("lobby", "b").join("den", "a").leave_all("a")
    assert rooms.of("a") == frozenset()
    assert rooms.members("lobby") == ("b",)
    assert "den" not in rooms


def test_a_picture_of_the_rooms_never_changes() -> None:
    before = Rooms[str]().join("lobby", "a")
    before.join("lobby", "b").join("den", "a").leave("lobby", "a")
    assert (list(before), before.members("lobby")) == (["lobby"], ("a",))


STEPS = st.lists(
    st.tuples(st.sampled_from(["join", "leave", "leave_all"]), st.sampled_from("xyz"), st.sampled_from("abc"))
)


@given(STEPS)
def test_rooms_in_any_order_are_what_a_dict_of_lists_would_be(steps: list[tuple[str, str, str]]) -> None:
    rooms, model = Rooms[str](), dict[str, list[str]]()
    for step, room, member in steps:
        if step == "join":
            rooms = rooms.join(room, member)
            if member not in model.setdefault(room, []):
                model[room].append(member)
        elif step == "leave":
            rooms = rooms.leave(room, member)
            model[room] = [m for m in model.get(room, []) if m != member]
        else:
            rooms = rooms.leave_all(member)
            model = {name: [m for m in members if m != member] for name, members in model.items()}
    assert {name: rooms.members(name) for name in rooms} == {n: tuple(m) for n, m in model.items() if m}
    for member in "abc":
        assert rooms.of(member) == {name for name, members in model.items() if member in members}
