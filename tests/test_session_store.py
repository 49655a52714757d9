"""Sessions that workers share by a store: each worker is a `Shared` over a session of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

import pytest
from clients import talk

from nbws import App, NbwsError
from nbws.session_store import SessionStore, Shared
from nbws.sessions import Session


class Store:
    """A store in this process, which notes what it is asked."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, bytes]] = {}
        self.asked: list[tuple[Any, ...]] = []
        self.threads: set[int] = set()

    def get(self, id: str) -> Mapping[str, bytes] | None:
        self.threads.add(threading.get_ident())
        return self.kept.get(id)

    def set(self, id: str, values: Mapping[str, bytes], gone: Collection[str], max_age: int | None) -> None:
        self.asked.append(("set", id, dict(values), set(gone), max_age))
        row = {**self.kept.get(id, {}), **values}
        self.kept[id] = {key: text for key, text in row.items() if key not in gone}

    def delete(self, id: str) -> None:
        self.asked.append(("delete", id))
        self.kept.pop(id, None)

    def touch(self, id: str, max_age: int | None) -> None:
        self.asked.append(("touch", id, max_age))


class AsyncStore(Store):
    """The same one, asked as a database over the network is."""

    async def get(self, id: str) -> Mapping[str, bytes] | None:  # type: ignore[override]
        await asyncio.sleep(0)
        return super().get(id)

    async def set(self, *args: Any) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        super().set(*args)

    async def delete(self, id: str) -> None:  # type: ignore[override]
        super().delete(id)

    async def touch(self, id: str, max_age: int | None) -> None:  # type: ignore[override]
        super().touch(id, max_age)


@pytest.fixture(params=[Store, AsyncStore])
def store(request: pytest.FixtureRequest) -> Store:
    made: Store = request.param()
    return made


def worker(store: SessionStore, max_age: int | None = 60) -> tuple[Session, Shared]:
    session = Session("id")
    return session, Shared(session, store, lambda: max_age)


def in_turn(*steps: Callable[[], Awaitable[Any]]) -> None:
    async def run() -> None:
        for step in steps:
            await step()

    talk(run())


def test_what_one_worker_writes_another_reads_nested_changes_and_removals_too(store: Store) -> None:
    (one, of_one), (other, of_other) = worker(store), worker(store)

    async def visit() -> None:
        async with of_one:
            one.update(user="ann", cart=[1], gone=True)
        async with of_other:
            assert other == {"user": "ann", "cart": [1], "gone": True}
            other["cart"].append(2)
            del other["gone"]
        async with of_one:
            assert one == {"user": "ann", "cart": [1, 2]}

    talk(visit())


def test_different_keys_that_are_written_at_once_are_all_kept(store: Store) -> None:
    (one, of_one), (other, of_other) = worker(store), worker(store)

    async def visit() -> None:
        async with of_one, of_other:
            one["a"], other["b"] = 1, 2
        async with of_one, of_other:
            assert one == other == {"a": 1, "b": 2}

    talk(visit())


def test_a_fetch_takes_back_nothing_that_was_written_here_and_is_not_saved_yet(store: Store) -> None:
    (one, of_one), (other, of_other) = worker(store), worker(store)

    async def visit() -> None:
        async with of_other:
            other.update(a="theirs", b="theirs")
        async with of_one:
            one["a"] = "ours"
            await of_one.fetch()  # for another message of the same browser
            assert one == {"a": "ours", "b": "theirs"}
        async with of_other:
            assert other == {"a": "ours", "b": "theirs"}

    talk(visit())


def test_a_logout_ends_it_for_every_worker_with_what_one_did_not_know_of(store: Store) -> None:
    (one, of_one), (other, of_other) = worker(store), worker(store)

    async def visit() -> None:
        async with of_one:
            one["user"] = "ann"
        async with of_one:
            async with of_other:
                other["role"] = "admin"
            one.clear()
        assert store.kept == {}
        async with of_other:
            assert other == {}

    talk(visit())


def test_what_the_store_has_forgotten_is_over_here_too(store: Store) -> None:
    one, of_one = worker(store)

    async def visit() -> None:
        async with of_one:
            one["user"] = "ann"
        store.kept.clear()
        async with of_one:
            assert one == {}

    talk(visit())


def test_only_what_has_changed_is_saved_and_a_use_begins_the_time_anew_now_and_then(store: Store) -> None:
    session, shared = worker(store)

    async def visit() -> None:
        async with shared:
            session.update(user="ann", n=1)
        async with shared:
            session["n"] = 2
        async with shared:
            assert session["user"] == "ann"
        shared._touched -= 7
        async with shared:
            pass

    talk(visit())
    assert store.asked == [
        ("set", "id", {"user": b'"ann"', "n": b"1"}, set(), 60),
        ("set", "id", {"n": b"2"}, set(), 60),
        ("touch", "id", 60),
    ]


def test_a_session_that_holds_nothing_is_not_saved(store: Store) -> None:
    _, shared = worker(store, None)
    in_turn(shared.fetch, shared.save)
    assert store.asked == []


def test_under_another_id_all_of_it_is_there_and_the_old_one_is_gone(store: Store) -> None:
    session, shared = worker(store)

    async def visit() -> None:
        async with shared:
            session["user"] = "ann"
        session.id = "new"
        await shared.move_from("id")

    talk(visit())
    assert store.kept == {"new": {"user": b'"ann"'}}


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("when", {1, 2}, r"session\['when'\] holds a set that is no JSON"),
        (5, "five", r"session\[5\]: .* write session\['5'\]"),
    ],
)
def test_what_no_store_can_keep_is_refused_with_its_key(key: Any, value: Any, says: str) -> None:
    session, shared = worker(Store())
    session[key] = value
    with pytest.raises(NbwsError, match=says):
        in_turn(shared.save)


def test_a_store_that_is_no_coroutine_does_not_keep_the_loop_waiting() -> None:
    store = Store()
    _, shared = worker(store)
    in_turn(shared.fetch)
    assert threading.get_ident() not in store.threads


def test_what_is_no_store_is_refused_with_what_one_has() -> None:
    with pytest.raises(NbwsError, match="give an object with the methods get, set, delete, touch"):
        App(session_store={})
