"""A dict whose items are attributes too."""

from __future__ import annotations

import copy
import pickle

import pytest

from nbws.state import State


def test_an_attribute_is_an_item_and_the_reverse() -> None:
    state = State()
    state.n = 1
    state["m"] = 2
    assert (state["n"], state.m) == (1, 2)
    assert state == {"n": 1, "m": 2}
    del state.n
    assert "n" not in state


def test_a_name_that_is_not_there_raises_and_says_what_is() -> None:
    with pytest.raises(AttributeError, match=r"'name'.*there is n, m"):
        State(n=1, m=2).name
    with pytest.raises(AttributeError, match="nothing yet"):
        State().name
    with pytest.raises(AttributeError, match="name"):
        del State().name
    with pytest.raises(KeyError):
        State()["name"]


def test_a_name_that_is_not_there_has_a_default() -> None:
    assert getattr(State(), "n", 0) == 0
    assert State().get("n", 0) == 0
    assert not hasattr(State(), "n")


@pytest.mark.parametrize("name", ["items", "keys", "values", "get", "pop", "update", "copy", "clear", "__class__"])
def test_an_attribute_that_could_not_be_read_again_is_refused_and_says_what_to_write(name: str) -> None:
    state = State()
    with pytest.raises(AttributeError, match=rf"state\['{name}'\]"):
        setattr(state, name, [])
    state[name] = []
    assert state[name] == []


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda state: pickle.loads(pickle.dumps(state))])
def test_a_copy_is_a_state_of_its_own(copied: object) -> None:
    state = State(n=1)
    other = copied(state)  # type: ignore[operator]
    assert isinstance(other, State)
    other.n = 2
    assert state.n == 1


def test_a_deep_copy_shares_nothing() -> None:
    state = State(users=["ann"])
    copy.deepcopy(state).users.append("bob")
    assert state.users == ["ann"]
