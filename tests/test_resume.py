"""What a client that was cut off has missed, and what it says when it comes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbws.resume import Asked, Report, SentLog, answer, greeting, new_key


def log_of(count: int, *, frames: int = 256, size: int = 10**6, seconds: float = 100.0) -> SentLog:
    log = SentLog(frames=frames, size=size, seconds=seconds)
    for number in range(1, count + 1):
        log.append(str(number), 10, now=0.0)
    return log


def test_what_comes_after_those_received_is_given_in_order() -> None:
    log = log_of(5)
    assert log.after(3, 0) == ["4", "5"]
    assert log.after(5, 0) == []
    assert log.after(0, 0) == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("received", [-1, 6, 10**9])
def test_a_count_that_cannot_be_is_none(received: int) -> None:
    assert log_of(5).after(received, 0) is None


def test_what_is_kept_is_bounded_in_number_bytes_and_time() -> None:
    assert log_of(10, frames=3).after(6, 0) is None
    assert log_of(10, frames=3).after(7, 0) == ["8", "9", "10"]
    assert log_of(10, size=30).after(6, 0) is None
    assert log_of(10, size=30).after(7, 0) == ["8", "9", "10"]
    assert log_of(10, seconds=5).after(7, 5) == ["8", "9", "10"]
    assert log_of(10, seconds=5).after(7, 5.1) is None
    assert log_of(10, seconds=5).after(10, 99) == []


def test_what_is_acknowledged_is_kept_no_longer() -> None:
    log = log_of(5)
    log.acknowledge(3)
    assert log.after(2, 0) is None
    assert log.after(3, 0) == ["4", "5"]
    log.acknowledge(1)
    log.acknowledge(99)
    assert log.after(5, 0) == []


@given(st.lists(st.one_of(st.just("send"), st.integers(0, 60)), max_size=80), st.integers(1, 20))
def test_whatever_is_sent_and_acknowledged_the_rest_is_exact_or_none(steps: list[str | int], frames: int) -> None:
    log, sent, acknowledged_up_to = SentLog(frames=frames, size=10**6, seconds=10), 0, 0
    for step in steps:
        if step == "send":
            sent += 1
            log.append(str(sent), 1, 0.0)
        else:
            log.acknowledge(int(step))
            acknowledged_up_to = max(acknowledged_up_to, min(int(step), sent))
    for received in range(sent + 1):
        expected = [str(number) for number in range(received + 1, sent + 1)]
        kept = received >= acknowledged_up_to and sent - received <= frames
        assert log.after(received, 0) == (expected if kept else None)


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ({}, None),
        ({"nbws-resume": [""]}, Asked(None, -1)),
        ({"nbws-resume": ["key.7"]}, Asked("key", 7)),
        ({"nbws-resume": ["x", "key.7"]}, Asked("key", 7)),
        ({"nbws-resume": ["key"]}, Asked("key", -1)),
        ({"nbws-resume": ["key.-7"]}, Asked("key", -1)),
        ({"nbws-resume": ["key.²"]}, Asked("key", -1)),
        ({"nbws-resume": ["key." + "9" * 99]}, Asked("key", -1)),
    ],
)
def test_what_a_client_asks_for(query: dict[str, list[str]], asked: Asked | None) -> None:
    assert Asked.of(query) == asked


def test_control_frames_are_told_from_messages() -> None:
    assert Report.of("\0nbws12") == Report(12, asks=False)
    assert Report.of("\0nbws12?") == Report(12, asks=True)
    assert Report.of("\0nbwsx") == Report(0, asks=False)
    assert Report.of('{"text": "\\u0000nbws1"}') is None
    assert Report.of(b"\0nbws1") is None
    assert greeting("k", got=2, resync=True) == '\0nbws{"key": "k", "got": 2, "resync": true}'
    assert answer(3) == '\0nbws{"got": 3}'


def test_keys_are_long_and_different() -> None:
    assert len({new_key() for _ in range(100)}) == 100
    assert len(new_key()) >= 24
