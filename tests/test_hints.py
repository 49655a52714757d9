"""What to do about an exception whose cause is known: each is raised here as an author would have it raised."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from nbws.hints import hint
from nbws.state import State


async def number() -> int:
    return 1


def raised_by(fn: Callable[[], Any]) -> BaseException:
    with pytest.raises(BaseException) as caught:  # noqa: PT011 (any, that is what is asked about)
        fn()
    return caught.value


def in_loop(fn: Callable[[], Any]) -> Callable[[], Any]:
    async def run() -> Any:
        result = fn()
        return await result if asyncio.iscoroutine(result) else result

    return lambda: asyncio.run(run())


def forgot_await() -> int:
    coroutine = number()
    try:
        return coroutine + 1  # type: ignore[operator]
    finally:
        coroutine.close()


def forgot_await_for_attribute() -> Any:
    coroutine = number()
    try:
        return coroutine.real  # type: ignore[attr-defined]
    finally:
        coroutine.close()


async def awaits_a_number() -> None:
    await 5  # type: ignore[misc]


def runs_a_loop() -> None:
    coroutine = number()
    try:
        asyncio.run(coroutine)
    finally:
        coroutine.close()


def changes_while_it_goes_through() -> None:
    users = {1: "a", 2: "b"}
    for user in users:
        del users[user]


count = 0


def counts() -> None:
    count += 1  # type: ignore[name-defined]  # noqa: F823, F841


def calls_itself() -> None:
    calls_itself()


@pytest.mark.parametrize(
    ("fn", "said"),
    [
        (forgot_await, "write `await`"),
        (forgot_await_for_attribute, "write `await`"),
        (in_loop(awaits_a_number), "leave it out"),
        (in_loop(runs_a_loop), "make it `async def`"),
        (asyncio.get_running_loop, "worker thread"),
        (changes_while_it_goes_through, "list(users.values())"),
        (lambda: undefined_name, "run the cell that defines `undefined_name`"),  # type: ignore[name-defined]  # noqa: F821
        (counts, "global count"),
        (lambda: __import__("no_such.module"), "%pip install no_such"),
        (lambda: State().score, "set `score` in `conn`"),
        (calls_itself, "calls itself"),
    ],
)
def test_a_known_cause_has_a_remedy(fn: Callable[[], Any], said: str) -> None:
    found = hint(raised_by(fn))
    assert found is not None
    assert said in found


@pytest.mark.parametrize("exception", [ValueError("no"), KeyError("x"), TypeError("a is no b"), AttributeError("x")])
def test_of_any_other_nothing_is_said(exception: BaseException) -> None:
    assert hint(exception) is None


def test_an_exception_without_a_text_has_none() -> None:
    class Mute(TypeError):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    assert hint(Mute()) is None
