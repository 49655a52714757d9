"""Sessions in memory: one mapping for each browser, and how long it lasts. No browser, no socket."""

from __future__ import annotations

import copy
import gc
import threading
from concurrent.futures import ThreadPoolExecutor

from nbws.sessions import Session, Sessions


class Clock:
    """Seconds, which pass when a test says so."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def sessions(limit: int = 100, max_age: float | None = None, clock: Clock | None = None) -> Sessions:
    return Sessions(lambda: limit, lambda: max_age, clock or Clock())


def written(kept: Sessions, **values: object) -> str:
    """The id of a session that holds *values*, and that nobody uses any more."""
    session = kept.begin()
    session.update(values)
    kept.use(session)
    assert session.id is not None
    return session.id


def test_one_id_is_one_mapping_for_as_long_as_somebody_uses_it() -> None:
    kept = sessions()
    ours = kept.begin()
    assert ours.id is not None
    theirs = kept.find(ours.id)
    assert theirs is ours
    theirs["user"] = "ann"
    theirs.setdefault("cart", []).append(1)
    assert ours == {"user": "ann", "cart": [1]}
    ours.clear()
    assert theirs == {}


def test_what_was_written_is_kept_when_nobody_uses_it_any_more() -> None:
    kept = sessions()
    id = written(kept, user="ann")
    gc.collect()
    assert kept.find(id) == {"user": "ann"}


def test_an_id_that_nothing_is_known_of_begins_empty_and_all_that_come_with_it_meet() -> None:
    kept = sessions()
    one, other = kept.find("of-an-earlier-process"), kept.find("of-an-earlier-process")
    assert one == {}
    assert one is other


def test_a_session_that_holds_nothing_takes_no_room() -> None:
    kept = sessions()
    for _ in range(10):
        kept.begin()
        kept.find("some-id")
    id = written(kept, user="ann")
    assert len(kept) == 1
    session = kept.find(id)
    session.clear()
    kept.use(session)
    assert len(kept) == 0


def test_the_one_that_was_not_used_for_longest_makes_room() -> None:
    kept = sessions(limit=3)
    first, second, third = (written(kept, n=n) for n in range(3))
    kept.find(first)
    fourth = written(kept, n=3)
    assert len(kept) == 3
    assert [kept.find(id).get("n") for id in (first, second, third, fourth)] == [0, None, 2, 3]


def test_one_that_a_websocket_has_does_not_make_room_for_others() -> None:
    kept = sessions(limit=3)
    of_websocket = kept.find(written(kept, user="ann"))
    for n in range(10):
        written(kept, n=n)
    assert len(kept) == 3
    assert of_websocket.id is not None
    assert kept.find(of_websocket.id) is of_websocket
    assert of_websocket == {"user": "ann"}


def test_what_was_not_used_for_max_age_is_over_for_whoever_has_it_still() -> None:
    clock = Clock()
    kept = sessions(max_age=60, clock=clock)
    session = kept.find(written(kept, user="ann"))
    other = written(kept, user="bob")
    clock.now += 60
    kept.use(session)
    assert session == {"user": "ann"}
    clock.now += 1
    assert kept.find(other) == {}
    clock.now += 60
    kept.use(session)
    assert session == {}


def test_what_is_over_takes_no_room_once_another_is_used() -> None:
    clock = Clock()
    kept = sessions(max_age=60, clock=clock)
    for n in range(5):
        written(kept, n=n)
    clock.now += 61
    written(kept, user="ann")
    assert len(kept) == 1


def test_without_max_age_a_session_lasts() -> None:
    clock = Clock()
    kept = sessions(clock=clock)
    id = written(kept, user="ann")
    clock.now += 10 * 365 * 24 * 3600
    assert kept.find(id) == {"user": "ann"}


def test_a_new_id_leads_to_the_same_mapping_and_the_old_one_to_nothing() -> None:
    kept = sessions()
    session = kept.find(written(kept, user="ann"))
    old = session.id
    kept.give_id(session)
    assert session.id != old
    assert old is not None
    assert kept.find(old) == {}
    assert session.id is not None
    assert kept.find(session.id) is session
    assert session == {"user": "ann"}


def test_ids_are_long_and_no_two_are_the_same() -> None:
    ids = {sessions().begin().id for _ in range(100)}
    assert len(ids) == 100
    assert all(id is not None and len(id) >= 40 for id in ids)


def test_to_forget_all_empties_those_too_that_are_in_use() -> None:
    kept = sessions()
    session = kept.find(written(kept, user="ann"))
    other = written(kept, user="bob")
    kept.forget_all()
    assert (session, kept.find(other), len(kept)) == ({}, {}, 0)
    session["user"] = "eve"
    kept.use(session)
    assert len(kept) == 0  # no id leads to it


def test_writers_in_many_threads_lose_nothing_of_each_others_keys() -> None:
    kept = sessions()
    id = written(kept, began=True)
    together = threading.Barrier(8)

    def write(writer: int) -> None:
        together.wait(5)
        for n in range(200):
            session = kept.find(id)
            session[f"{writer}-{n}"] = n
            kept.use(session)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(8)))
    assert len(kept.find(id)) == 1 + 8 * 200


def test_a_deep_copy_is_nobodys_and_shares_what_cannot_be_copied() -> None:
    kept = sessions()
    session = kept.begin()
    lock = threading.Lock()
    session.update(cart=[1], lock=lock)
    found = copy.deepcopy({"state": session})["state"]
    found["cart"].append(2)
    found.renew()
    kept.use(found)
    assert isinstance(found, Session)
    assert (session["cart"], found["lock"], session.is_to_be_renewed, len(kept)) == ([1], lock, False, 0)
