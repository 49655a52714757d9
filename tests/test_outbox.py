"""What waits for one client: its order, its bound, and what gives way by which policy."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nbws.common import Div, Li, P, Safe, to_xml
from nbws.html import fragment
from nbws.outbox import FRAME_BYTES, Outbox, Overflow, Target, targets

POLICIES: tuple[Overflow, ...] = get_args(Overflow)


def replacing(id: str, text: object = "", size: int = 100) -> str:
    """A fragment of *size* bytes that replaces the element with this *id*."""
    start = f'<p id="{id}" hx-swap-oob="true">{text}'
    return start.ljust(size - 4) + "</p>"


def adding(id: str, text: object = "", size: int = 100) -> str:
    start = f'<div hx-swap-oob="beforeend:#{id}"><p id="{id}">{text}</p>'
    return start.ljust(size - 6) + "</div>"


def put(outbox: Outbox, *frames: str) -> list[bool]:
    return [outbox.put(frame, len(frame)) for frame in frames]


def emptied(outbox: Outbox) -> list[Any]:
    """All that waits, handed over."""
    frames = []
    while (taken := outbox.take()) is not None:
        outbox.done(taken[1])
        frames.append(taken[0])
    return frames


@pytest.mark.parametrize("policy", POLICIES)
def test_frames_leave_in_the_order_in_which_they_came(policy: Overflow) -> None:
    outbox = Outbox(10_000, policy)
    frames = [replacing("x", n) for n in range(100)]
    assert put(outbox, *frames) == [True] * 100
    assert emptied(outbox) == frames
    assert (outbox.waiting_bytes, len(outbox), outbox.dropped) == (0, 0, 0)


@pytest.mark.parametrize("policy", POLICIES)
def test_one_frame_alone_may_be_larger_than_the_bound(policy: Overflow) -> None:
    outbox = Outbox(1000, policy)
    assert put(outbox, adding("x", size=5000)) == [True]
    assert put(outbox, adding("x", size=10)) == [policy == "drop_oldest"]


@pytest.mark.parametrize("policy", POLICIES)
def test_what_was_taken_and_is_not_on_its_way_yet_counts(policy: Overflow) -> None:
    outbox = Outbox(1000, policy)
    put(outbox, adding("x", size=400), adding("x", size=400))
    taken = outbox.take()
    assert taken is not None
    assert outbox.waiting_bytes == 800
    outbox.done(taken[1])
    assert outbox.waiting_bytes == 400
    outbox.clear()
    outbox.done(taken[1])
    assert outbox.waiting_bytes == 0


@pytest.mark.parametrize("policy", POLICIES)
def test_empty_frames_fill_it_too(policy: Overflow) -> None:
    outbox = Outbox(FRAME_BYTES * 10, policy)
    assert [outbox.put("", 0) for _ in range(11)] == [True] * 10 + [policy == "drop_oldest"]
    assert len(outbox) == 10


def test_past_the_bound_close_says_no_and_keeps_what_it_has() -> None:
    outbox = Outbox(1000)
    assert put(outbox, *(replacing("x", n) for n in range(12))) == [True] * 10 + [False] * 2
    assert emptied(outbox) == [replacing("x", n) for n in range(10)]


def test_past_the_bound_drop_oldest_keeps_the_newest() -> None:
    outbox = Outbox(1000, "drop_oldest")
    assert put(outbox, *(adding("x", n) for n in range(25))) == [True] * 25
    assert outbox.dropped == 15
    assert emptied(outbox) == [adding("x", n) for n in range(15, 25)]


def test_past_the_bound_conflate_keeps_the_newest_for_each_target() -> None:
    outbox = Outbox(1000, "conflate")
    frames = [replacing(id, n) for n in range(50) for id in "abc"]
    assert all(put(outbox, *frames))
    assert emptied(outbox) == [replacing(id, 49) for id in "abc"]
    assert outbox.dropped == 147


def test_conflate_drops_nothing_that_adds_and_closes_where_that_does_not_fit() -> None:
    outbox = Outbox(1000, "conflate")
    frames = [frame for n in range(8) for frame in (replacing("x", n), adding("list", n))]
    assert all(put(outbox, *frames))
    assert put(outbox, adding("list", 8), adding("list", 9)) == [True, False]
    assert emptied(outbox) == [
        *(adding("list", n) for n in range(7)),
        replacing("x", 7),
        *(adding("list", n) for n in (7, 8)),
    ]


def test_conflate_never_drops_the_newest_of_a_target_and_closes_instead() -> None:
    outbox = Outbox(1000, "conflate")
    assert put(outbox, *(replacing(f"x{n}") for n in range(11))) == [True] * 10 + [False]
    assert len(outbox) == 10


def test_what_is_on_its_way_already_is_not_conflated() -> None:
    outbox = Outbox(300, "conflate")
    put(outbox, replacing("x", 0), replacing("y", 0))
    taken = outbox.take()
    assert taken == (replacing("x", 0), 100)
    assert all(put(outbox, replacing("x", 1), replacing("x", 2)))
    assert emptied(outbox) == [replacing("y", 0), replacing("x", 2)]


def test_a_fragment_of_several_elements_goes_when_each_of_them_is_replaced() -> None:
    outbox = Outbox(1000, "conflate")
    both = replacing("a", 0) + replacing("b", 0)
    put(outbox, both, *(adding("list", n) for n in range(7)))
    assert put(outbox, replacing("a", 1)) == [True]
    assert put(outbox, replacing("b", 1)) == [True]
    assert outbox.dropped == 1
    assert emptied(outbox) == [*(adding("list", n) for n in range(7)), replacing("a", 1), replacing("b", 1)]


def test_what_is_in_an_element_does_not_replace_the_element() -> None:
    whole = replacing("x", "whole")
    inside = '<p id="x" hx-swap-oob="innerHTML">inside'.ljust(96) + "</p>"
    filler = [adding("list", n) for n in range(8)]
    outbox = Outbox(1000, "conflate")
    assert all(put(outbox, whole, inside, *filler)), "they fill it"
    assert put(outbox, inside) == [True]  # in place of the one before
    assert emptied(outbox) == [whole, *filler, inside]
    assert all(put(outbox, whole, inside, *filler))
    assert put(outbox, whole) == [True]  # in place of both
    assert emptied(outbox) == [*filler, whole]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (P("a", id="x"), {Target("x", True)}),
        ((P("a", id="x"), P("b", id="y")), {Target("x", True), Target("y", True)}),
        (P(P("b", id="inside"), id="x"), {Target("x", True)}),
        (P("a", id="x", hx_swap_oob="outerHTML"), {Target("x", True)}),
        (P("a", id="x", hx_swap_oob="innerHTML"), {Target("x", False)}),
        (Safe("<p id=x>a</p>\n  <input id='y'>"), {Target("x", True), Target("y", True)}),
        (Safe("<p id=x><b>not closed</p>"), {Target("x", True)}),
        (Li("a", hx_swap_oob="beforeend:#list"), None),
        (Li("a", id="x", hx_swap_oob="beforeend"), None),
        (P("a", id="x", hx_swap_oob="outerHTML:.many"), None),
        (P("a", id="x", hx_swap_oob="delete"), None),
        (P("a", id="x", hx_swap_oob="morph"), None),
        ((P("a", id="x"), Li("b", hx_swap_oob="beforeend:#list")), None),
        ((P("a", id="x"), P("no id")), None),
        (P("a", id=""), None),
        (Safe("<p id=x>a</p> and text"), None),
        (Safe("<p id=x>a<p id=y>b</p>"), None),
        (Safe("<!-- only a comment -->"), None),
        ("text", None),
    ],
    ids=lambda given: str(sorted(given) if isinstance(given, set) else given),  # the same in each process
)  # fmt: skip
def test_what_a_fragment_replaces(content: Any, found: set[Target] | None) -> None:
    assert targets(fragment(content).html) == found
    assert targets(str(to_xml(content))) == found


def test_json_replaces_nothing_whatever_stands_in_it() -> None:
    assert targets(json.dumps({"n": 1, "html": "<p id=x>a</p>"})) is None
    assert targets("[1, 2]") is None
    assert targets("") is None


def test_attributes_may_be_written_as_data() -> None:
    assert targets('<li id="x" data-hx-swap-oob="beforeend:#list">a</li>') is None
    assert targets('<li id="x" data-hx-swap-oob="innerHTML">a</li>') == {Target("x", False)}


def test_a_flood_past_the_bound_costs_no_more_for_each_frame_than_before_it() -> None:
    """Where each looked at all that wait, ten times as many would take ten times as long each."""

    def seconds(waiting: int) -> float:
        outbox = Outbox(waiting * 100, "conflate")
        put(outbox, *(adding("list", n) for n in range(waiting - 5)))
        frames = [replacing("abc"[n % 3], n) for n in range(2000)]
        began = time.perf_counter()
        assert all(put(outbox, *frames))
        return time.perf_counter() - began

    assert min(seconds(5000) for _ in range(3)) < 4 * min(seconds(500) for _ in range(3)) + 0.05


class Waiting:
    """What an outbox should hold, found the long way round."""

    def __init__(self, limit: int, policy: Overflow) -> None:
        self.limit, self.policy = limit, policy
        self.frames: list[str] = []
        self.under_way: list[str] = []
        self.conflates = False

    @property
    def size(self) -> int:
        return sum(max(len(frame), FRAME_BYTES) for frame in self.frames + self.under_way)

    def fits(self, frame: str) -> bool:
        return not self.frames or self.size + max(len(frame), FRAME_BYTES) <= self.limit

    def put(self, frame: str) -> bool:
        if self.policy == "drop_oldest":
            while not self.fits(frame):
                self.frames.pop(0)
        elif self.policy == "conflate" and self.frames and (self.conflates or not self.fits(frame)):
            self.conflates = True
            every = [*self.frames, frame]
            self.frames = [each for n, each in enumerate(self.frames) if not self.is_replaced(each, every[n + 1 :])]
        if not self.fits(frame):
            return False
        self.frames.append(frame)
        return True

    @staticmethod
    def is_replaced(frame: str, later: list[str]) -> bool:
        replaced = [targets(each) or frozenset() for each in later]
        found = targets(frame)
        return found is not None and all(
            any(target in each or Target(target.id, True) in each for each in replaced) for target in found
        )

    def take(self) -> str | None:
        if not self.frames:
            return None
        frame = self.frames.pop(0)
        self.under_way.append(frame)
        self.conflates = self.conflates and bool(self.frames)
        return frame


ids = st.sampled_from("abc")
makers = st.sampled_from([replacing, adding, lambda id, text, size: f'<b id="{id}" hx-swap-oob="innerHTML">{text}</b>'])


def machine(policy: Overflow) -> type[RuleBasedStateMachine]:
    class Held(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.number = 0
            self.begin()

        def begin(self) -> None:
            self.outbox, self.model = Outbox(600, policy), Waiting(600, policy)

        def offer(self, frame: str) -> None:
            is_taken = self.outbox.put(frame, len(frame))
            assert is_taken == self.model.put(frame)
            if not is_taken:  # the connection is closed, and another one has another outbox
                self.begin()

        @rule(parts=st.lists(st.tuples(makers, ids), min_size=1, max_size=3), size=st.integers(0, 300))
        def put(self, parts: list[tuple[Callable[..., str], str]], size: int) -> None:
            self.number += 1
            frame = "".join(make(id, self.number, size) for make, id in parts)
            self.offer(frame)

        @rule(size=st.integers(0, 700))
        def put_what_is_no_html(self, size: int) -> None:
            self.number += 1
            frame = f"{self.number}".ljust(size)
            self.offer(frame)

        @rule()
        def take(self) -> None:
            taken = self.outbox.take()
            assert (taken[0] if taken is not None else None) == self.model.take()

        @precondition(lambda self: self.model.under_way)
        @rule()
        def done(self) -> None:
            self.outbox.done(max(len(self.model.under_way.pop(0)), FRAME_BYTES))

        @invariant()
        def the_same_waits_and_the_bound_is_kept(self) -> None:
            assert len(self.outbox) == len(self.model.frames)
            assert self.outbox.waiting_bytes == self.model.size
            assert len(self.outbox) <= 1 or self.outbox.waiting_bytes <= 600

        def teardown(self) -> None:
            for _ in range(len(self.model.frames) + 1):
                self.take()

    Held.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
    return Held


TestClose = machine("close").TestCase
TestDropOldest = machine("drop_oldest").TestCase
TestConflate = machine("conflate").TestCase


def test_a_fragment_of_a_page_is_what_the_browser_is_told() -> None:
    """The fragments that the tests above make are those that nbws makes."""
    assert targets(fragment(P(1, id="a")).html) == targets(replacing("a", 1))
    assert targets(fragment(Div(P(1, id="a"), hx_swap_oob="beforeend:#a")).html) == targets(adding("a", 1)) is None
