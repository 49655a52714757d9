"""Errors and warnings on their way to the author."""

from __future__ import annotations

import logging
import weakref

import pytest

from nbws.dispatch import HandlerError
from nbws.handlers import WEBSOCKET, Key
from nbws.reporting import TRACEBACKS_SHOWN, Reporter

CHAT, ROOM, TICK = Key(WEBSOCKET, "/chat"), Key(WEBSOCKET, "/room"), Key("TASK", "tick")


class Author:
    """What the author is shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[Key, str, int]] = []
        self.reporter = Reporter(lambda key, text, level: self.shown.append((key, text, level)))

    @property
    def texts(self) -> list[str]:
        return [text for _, text, _ in self.shown]


@pytest.fixture
def author() -> Author:
    return Author()


def error(key: Key = CHAT, version: int | None = 1, message: str = '{"msg": "hi"}') -> HandlerError:
    try:
        raise ZeroDivisionError("of the author")
    except ZeroDivisionError as exc:
        return HandlerError(exc, "chat", key, version, "c0ffee", message)


def test_an_error_is_shown_with_handler_version_message_and_traceback(author: Author) -> None:
    author.reporter.report(error(version=3))
    ((key, text, level),) = author.shown
    assert (key, level) == (CHAT, logging.ERROR)
    for part in ("chat v3 on WS /chat", "ZeroDivisionError: of the author", '{"msg": "hi"}', "Traceback", __file__):
        assert part in text


def test_a_flood_of_errors_is_shown_in_part_and_says_where_the_rest_is(author: Author) -> None:
    for _ in range(TRACEBACKS_SHOWN + 5):
        author.reporter.report(error())
    assert len(author.shown) == TRACEBACKS_SHOWN
    assert [text for text in author.texts if "app.errors" in text] == [author.texts[-1]]
    assert len(author.reporter.errors) == TRACEBACKS_SHOWN + 5


@pytest.mark.parametrize("other", [error(version=2), error(key=ROOM), error(version=None)])
def test_a_flood_hides_no_error_of_another_version_or_endpoint(author: Author, other: HandlerError) -> None:
    for _ in range(TRACEBACKS_SHOWN + 1):
        author.reporter.report(error())
    author.reporter.report(other)
    assert other.title in author.texts[-1]


def test_the_newest_errors_are_kept_and_their_number_is_bounded(author: Author) -> None:
    for number in range(5000):
        author.reporter.report(error(message=str(number)))
    kept = [int(e.message) for e in author.reporter.errors]
    assert len(kept) < 5000
    assert kept == list(range(5000 - len(kept), 5000))


def test_a_warning_is_shown_once_for_each_endpoint(author: Author) -> None:
    for key in (CHAT, CHAT, ROOM):
        author.reporter.warn(key, "<div> was sent with no id")
    author.reporter.warn(CHAT, "something else")
    assert [(key, level) for key, _, level in author.shown] == [
        (CHAT, logging.WARNING),
        (ROOM, logging.WARNING),
        (CHAT, logging.WARNING),
    ]
    assert "/chat" in author.texts[0]
    assert "<div> was sent with no id" in author.texts[0]


def test_warnings_that_are_never_the_same_come_to_an_end(author: Author) -> None:
    for number in range(5000):
        author.reporter.warn(CHAT, f"the text {number}")
    assert 0 < len(author.shown) < 5000
    author.reporter.report(error())
    assert author.shown[-1][2] == logging.ERROR


def tick_error(version: int = 1, message: str = "of the author", other_line: bool = False) -> HandlerError:
    try:
        if other_line:
            raise ZeroDivisionError(message)
        raise ZeroDivisionError(message)
    except ZeroDivisionError as exc:
        return HandlerError(exc, "tick", TICK, version, None, "(task)")


def test_a_task_that_fails_with_every_call_is_shown_once_and_counted(author: Author) -> None:
    for number in range(50):
        author.reporter.report(tick_error(message=f"cell {number}"))
    assert len(author.shown) == 1
    assert author.reporter.count == 1
    ((first, times),) = [(each.error, each.times) for each in author.reporter.listed]
    assert (str(first.exception), times) == ("cell 0", 50)
    assert len(author.reporter.errors) == 50


@pytest.mark.parametrize("other", [tick_error(version=2), tick_error(other_line=True), error()])
def test_a_task_that_fails_hides_no_other_error(author: Author, other: HandlerError) -> None:
    for each in (tick_error(), other, tick_error(), other):
        author.reporter.report(each)
    assert [each.error for each in author.reporter.listed[:2]] == [author.reporter.errors[0], other]
    assert other.title in author.texts[1]


def test_a_message_that_fails_again_is_shown_again(author: Author) -> None:
    for _ in range(5):
        author.reporter.report(error())
    assert len(author.shown) == author.reporter.count == 5
    assert [each.times for each in author.reporter.listed] == [1, 1, 1]


class Silent(Exception):
    def __str__(self) -> str:
        raise ValueError("I do not say")


def raised(exception: BaseException, *held: object) -> HandlerError:
    """The error of a handler that holds on to *held*."""
    try:
        raise exception
    except BaseException as exc:
        return HandlerError(exc, "chat", CHAT, 1, "c0ffee", "{}")


def test_an_exception_that_does_not_say_what_it_is_is_shown_by_its_kind(author: Author) -> None:
    author.reporter.report(raised(Silent()))
    assert "chat v1 on WS /chat: Silent: (its text cannot be shown: ValueError)" in author.texts[0]
    assert "raise exception" in author.texts[0]


def test_of_a_very_long_text_the_beginning_is_shown_and_the_traceback_stays(author: Author) -> None:
    author.reporter.report(raised(ValueError("x" * 1_000_000)))
    (text,) = author.texts
    assert len(text) < 20_000
    assert "raise exception" in text
    assert "characters left out" in text


def test_old_errors_hold_no_variables_of_their_handlers_and_new_ones_do(author: Author) -> None:
    class Large:
        pass

    held = [Large() for _ in range(30)]
    alive = [weakref.ref(each) for each in held]
    for each in held:
        author.reporter.report(raised(ValueError(), each))
    del held, each
    assert [ref() is not None for ref in alive] == [False] * 10 + [True] * 20
    assert all("raise exception" in error.traceback for error in author.reporter.errors)


def test_what_an_exception_came_from_lets_go_too_even_in_a_circle(author: Author) -> None:
    class Large:
        pass

    def fails(held: object) -> None:
        raise KeyError

    held = Large()
    alive = weakref.ref(held)
    try:
        fails(held)
    except KeyError as cause:
        exception = ValueError()
        exception.__cause__ = cause
        cause.__context__ = exception
    author.reporter.report(raised(exception))
    del held, exception
    for _ in range(20):
        author.reporter.report(raised(ValueError()))
    assert alive() is None
