"""What one client may cost."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from nbws.limits import Limits, Pace

NAMES = [field.name for field in dataclasses.fields(Limits) if field.name != "overflow"]
MAY_BE_OFF = ["connections_per_client", "messages_per_second"]


def test_the_defaults_are_those_of_the_contract() -> None:
    limits = Limits()
    assert limits.message_bytes == limits.outbox_bytes == 1024 * 1024
    assert limits.json_depth == 64
    assert limits.connections == 1000
    assert limits.park_seconds == 30
    assert limits.handshake_seconds == 10
    assert [getattr(limits, name) for name in MAY_BE_OFF] == [None, None]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0, -1, float("nan"), True, "64"])
def test_a_limit_is_a_number_above_0_and_the_error_names_it(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value!r}; give a number above 0"):
        Limits(**{name: value})


@pytest.mark.parametrize("name", [name for name in NAMES if name not in MAY_BE_OFF])
def test_a_limit_that_protects_the_server_cannot_be_off(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is None; give a number above 0"):
        Limits(**{name: None})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_one_limit_can_be_set_alone(name: str) -> None:
    limits = Limits(**{name: 7})  # type: ignore[arg-type]
    assert getattr(limits, name) == 7
    assert dataclasses.replace(limits, **{name: getattr(Limits(), name)}) == Limits()


@pytest.mark.parametrize("value", ["drop", "", None, 7])
def test_an_overflow_policy_is_one_of_three(value: Any) -> None:
    with pytest.raises(ValueError, match=f"overflow is {value!r}; there is close, drop_oldest, conflate"):
        Limits(overflow=value)


def test_limits_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Limits().connections = 5  # type: ignore[misc]


def test_a_pace_lets_a_second_of_messages_pass_at_once_and_then_one_at_a_time() -> None:
    pace = Pace()
    assert [pace.wait(4, now=100) for _ in range(6)] == [0, 0, 0, 0, 0.25, 0.5]
    assert pace.wait(4, now=101.5) == 0.0  # the waiting of the others is over


def test_who_was_silent_has_one_second_of_messages_and_no_more() -> None:
    pace = Pace()
    pace.wait(4, now=100)
    assert [pace.wait(4, now=1000) for _ in range(5)] == [0, 0, 0, 0, 0.25]
