"""What waits for one client, and what gives way."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbws.outbox import Outbox, Overflow, targets


def waiting(box: Outbox) -> list[str]:
    found = []
    while (frame := box.take()) is not None:
        found.append(str(frame[0]))
        box.done(frame[1])
    return found


def put(box: Outbox, data: str) -> bool:
    return box.put(data, len(data))


def test_frames_come_out_in_order_and_are_counted_until_they_are_done() -> None:
    box = Outbox(100)
    assert all(put(box, text) for text in ("a", "bb"))
    assert box.waiting_bytes == 3
    frame = box.take()
    assert frame == ("a", 1)
    assert box.waiting_bytes == 3
    box.done(1)
    assert (box.waiting_bytes, waiting(box)) == (2, ["bb"])


def test_one_frame_alone_may_be_larger_than_the_bound() -> None:
    box = Outbox(3)
    assert put(box, "x" * 10)
    assert not put(box, "y")


def test_under_close_nothing_is_lost_before_it_says_so() -> None:
    box = Outbox(3)
    assert [put(box, text) for text in "abcd"] == [True, True, True, False]
    assert waiting(box) == ["a", "b", "c"]


def test_under_drop_oldest_what_waits_longest_gives_way() -> None:
    box = Outbox(3, "drop_oldest")
    assert all(put(box, text) for text in "abcde")
    assert (waiting(box), box.dropped) == (["c", "d", "e"], 2)


def test_under_conflate_the_newest_of_each_target_stays() -> None:
    score, chat = '<p id="score">{}</p>', '<p id="chat">{}</p>'
    more = '<li hx-swap-oob="beforeend:#list">{}</li>'
    frames = [score.format(1), more.format("a"), chat.format(1), score.format(2), more.format("b"), score.format(3)]
    box = Outbox(sum(map(len, frames)), "conflate")
    assert all(put(box, frame) for frame in frames)
    assert put(box, chat.format(2))
    assert waiting(box) == [more.format("a"), chat.format(1), more.format("b"), score.format(3), chat.format(2)]


@pytest.mark.parametrize(
    ("html", "ids"),
    [
        ('<p id="a">x</p>', {"a"}),
        ('<p id="a" hx-swap-oob="true"><b id="inner">x</b></p><br id="b">', {"a", "b"}),
        ('<p id="a" hx-swap-oob="innerHTML">x</p>', {"a"}),
        ('<p id="a"></p><p>no id</p>', None),
        ('<li id="a" hx-swap-oob="beforeend">x</li>', None),
        ('<li hx-swap-oob="beforeend:#a">x</li>', None),
        ("text", None),
        ("", None),
    ],
)
def test_a_fragment_replaces_what_its_outer_elements_name(html: str, ids: set[str] | None) -> None:
    assert targets(html) == ids


SENT = st.lists(st.tuples(st.sampled_from(["a", "b", "+"]), st.integers(0, 60)), max_size=40)


@given(sent=SENT, limit=st.integers(30, 300), overflow=st.sampled_from(["close", "drop_oldest", "conflate"]))
def test_order_and_bound_are_kept_and_the_newest_of_each_target_is_there(
    sent: list[tuple[str, int]], limit: int, overflow: Overflow
) -> None:
    box = Outbox(limit, overflow)
    frames = []
    for number, (target, length) in enumerate(sent):
        body = f"{number} " + "x" * length
        frame = f'<li hx-swap-oob="beforeend:#l">{body}</li>' if target == "+" else f'<p id="{target}">{body}</p>'
        if not put(box, frame):
            assert overflow == "close"
            break
        frames.append((number, target))
        assert box.waiting_bytes <= limit or len(box) == 1
    numbers = [int(re.findall(r">(\d+) ", frame)[0]) for frame in waiting(box)]
    assert numbers == sorted(set(numbers))
    assert box.waiting_bytes == 0
    if overflow == "close":
        assert numbers == [number for number, _ in frames]
    elif frames:
        assert numbers[-1] == frames[-1][0]
