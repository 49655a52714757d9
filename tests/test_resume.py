"""What a client has missed, what it says when it comes back, and what of that is nonsense."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nbws.resume import PARAMETER, Asked, Report, SentLog, answer, greeting, new_key


def asked(value: str) -> Asked | None:
    return Asked.of({PARAMETER: [value]})


def test_a_client_that_asks_for_nothing_is_not_able_to_resume() -> None:
    assert Asked.of({}) is None
    assert Asked.of({"x": ["1"]}) is None
    assert Asked.of({PARAMETER: []}) is None


def test_an_empty_parameter_is_a_first_connection() -> None:
    asked_for = asked("")
    assert asked_for is not None
    assert asked_for.key is None


def test_a_client_that_comes_back_shows_its_key_and_what_it_has_received() -> None:
    key = new_key()
    assert asked(f"{key}.17") == (key, 17)
    assert asked(f"{key}.0") == (key, 0)
    assert Asked.of({PARAMETER: ["old.1", f"{key}.2"]}) == (key, 2)


NO_COUNTS = ["", "-1", "+1", "1.5", "x", " 1", "1 ", "1_0", "٣", "²", "0x1", "1e3", "9" * 16, "9" * 5000]


@pytest.mark.parametrize("count", NO_COUNTS, ids=ascii)
def test_a_count_that_is_none_is_one_that_nobody_has(count: str) -> None:
    log = SentLog(frames=10, size=100, seconds=10)
    for n in range(3):
        log.append(f"{n}", 1, 0)
    asked_for = asked(f"key.{count}")
    assert asked_for is not None
    assert asked_for.key == "key"
    assert log.after(asked_for.received, 0) is None


@given(st.text())
def test_any_text_can_be_asked_for(value: str) -> None:
    asked_for = asked(value)
    assert asked_for is not None
    assert asked_for.key is None or value.startswith(asked_for.key)
    assert -1 <= asked_for.received < 10**15


def test_a_frame_of_the_client_is_a_report_only_with_the_mark_before_it() -> None:
    assert Report.of("\0nbws5") == (5, False)
    assert Report.of("\0nbws5?") == (5, True)
    for message in ("", "5", "nbws5", "\0", "\0nbw", "\0NBWS5", '{"msg": "\\u0000nbws5"}', b"\0nbws5", b""):
        assert Report.of(message) is None, message


@pytest.mark.parametrize("count", NO_COUNTS, ids=ascii)
def test_a_report_of_nonsense_reports_nothing(count: str) -> None:
    assert Report.of(f"\0nbws{count}") == (0, False)


@given(st.text())
def test_any_text_can_be_reported(text: str) -> None:
    report = Report.of(f"\0nbws{text}")
    assert report is not None
    assert 0 <= report.received < 10**15
    assert report.asks == text.endswith("?")


def test_a_greeting_holds_the_key_what_has_arrived_and_whether_the_page_is_to_be_fetched() -> None:
    assert greeting("k", got=3, resync=True).startswith("\0nbws{")
    assert json.loads(greeting("k", got=3, resync=True)[5:]) == {"key": "k", "got": 3, "resync": True}
    assert json.loads(greeting("k")[5:]) == {"key": "k", "got": 0, "resync": False}
    assert json.loads(answer(4)[5:]) == {"got": 4}


def test_keys_are_long_different_and_fit_into_a_url() -> None:
    keys = {new_key() for _ in range(1000)}
    assert len(keys) == 1000
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{20,}", key) for key in keys)


def log_of(*frames: str, count: int = 256, size: int = 1 << 20, seconds: float = 120) -> SentLog:
    log = SentLog(frames=count, size=size, seconds=seconds)
    for frame in frames:
        log.append(frame, len(frame), 0)
    return log


def test_what_was_missed_is_told_in_order() -> None:
    log = log_of("a", "b", "c")
    assert log.after(0, 0) == ["a", "b", "c"]
    assert log.after(2, 0) == ["c"]
    assert log.after(3, 0) == []


def test_a_count_beyond_what_was_sent_is_nothing_that_can_be_told() -> None:
    log = log_of("a")
    assert log.after(2, 0) is None
    assert log.after(10**14, 0) is None
    assert SentLog(frames=1, size=1, seconds=1).after(1, 0) is None


def test_what_was_acknowledged_is_kept_no_longer() -> None:
    log = log_of("a", "b", "c")
    log.acknowledge(2)
    assert (log.after(2, 0), log.after(1, 0)) == (["c"], None)
    log.acknowledge(1)
    assert log.after(2, 0) == ["c"]
    log.acknowledge(99)
    assert (log.after(3, 0), len(log)) == ([], 0)


def test_the_oldest_go_where_there_are_too_many_too_much_or_it_is_too_long_ago() -> None:
    assert log_of("a", "b", "c", count=2).after(1, 0) == ["b", "c"]
    assert log_of("a", "b", "c", count=2).after(0, 0) is None
    assert log_of("aa", "bb", "cc", size=4).after(1, 0) == ["bb", "cc"]
    assert log_of("aa", "bb", "cc", size=4).after(0, 0) is None
    log = log_of("a", seconds=10)
    log.append("b", 1, 10)
    assert log.after(0, 10) == ["a", "b"]
    assert (log.after(0, 10.1), log.after(1, 20), log.after(1, 20.1), log.after(2, 99)) == (None, ["b"], None, [])


def test_a_frame_that_is_too_large_alone_is_not_kept_and_the_next_ones_are() -> None:
    log = log_of("x" * 11, "b", size=10)
    assert (log.after(0, 0), log.after(1, 0)) == (None, ["b"])


def test_a_cleared_log_holds_on_to_nothing() -> None:
    log = log_of("a", "b")
    log.clear()
    assert (len(log), log.after(0, 0), log.after(2, 0)) == (0, None, [])


class SentLogAgainstAll(RuleBasedStateMachine):
    """A log beside a list of all that was ever sent."""

    FRAMES, SIZE, SECONDS = 5, 40, 10.0

    def __init__(self) -> None:
        super().__init__()
        self.log = SentLog(frames=self.FRAMES, size=self.SIZE, seconds=self.SECONDS)
        self.sent: list[tuple[str, float]] = []
        self.acknowledged, self.now = 0, 100.0

    @rule(size=st.integers(0, 45))
    def send(self, size: int) -> None:
        frame = f"{len(self.sent)}".ljust(size)
        self.sent.append((frame, self.now))
        self.log.append(frame, len(frame), self.now)

    @rule(seconds=st.floats(0, 8))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        received = data.draw(st.integers(0, len(self.sent)))
        self.acknowledged = max(self.acknowledged, received)
        self.log.acknowledge(received)

    @rule(received=st.integers(-2, 60))
    def come_back(self, received: int) -> None:
        told = self.log.after(received, self.now)
        if not 0 <= received <= len(self.sent):
            assert told is None
            return
        missed = self.sent[received:]
        within_bounds = len(missed) <= self.FRAMES and sum(len(frame) for frame, _ in missed) <= self.SIZE
        is_recent = all(self.now - at <= self.SECONDS for _, at in missed)
        if within_bounds and is_recent and received >= self.acknowledged:
            assert told == [frame for frame, _ in missed]
        else:
            assert told is None

    @invariant()
    def it_counts_and_keeps_its_bounds(self) -> None:
        assert self.log.count == len(self.sent)
        assert len(self.log) <= self.FRAMES
        assert self.log._bytes == sum(size for _, size, _ in self.log._log) <= self.SIZE


SentLogAgainstAll.TestCase.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
TestSentLogAgainstAll = SentLogAgainstAll.TestCase
