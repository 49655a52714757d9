"""Errors: what arrived, what was expected, what to do."""

from __future__ import annotations

from typing import Any

import pytest

from nbws import errors
from nbws.errors import MISSING, BindError, MessageError, NbwsError, PortTakenError, ServerStartError

ERRORS = [getattr(errors, name) for name in errors.__all__]


def bind_error(got: Any) -> BindError:
    return BindError("move", "x", got=got, want="int", remedy="send digits")


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_of_nbws_is_caught_as_one(error: type[Exception]) -> None:
    assert issubclass(error, NbwsError)


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.DefinitionError, TypeError),
        (errors.MessageError, ValueError),
        (errors.RenderError, TypeError),
        (errors.ServerStartError, RuntimeError),
    ],
)
def test_an_error_is_of_the_builtin_kind_that_python_would_raise(error: type, builtin: type) -> None:
    assert issubclass(error, builtin)


def test_a_bind_error_is_a_bad_message_and_a_taken_port_is_a_failed_start() -> None:
    assert issubclass(BindError, MessageError)
    assert issubclass(PortTakenError, ServerStartError)


def test_a_bind_error_reads_for_people_and_has_fields_for_programs() -> None:
    error = bind_error("ten")
    assert str(error) == "move: x is 'ten', not int; send digits"
    assert (error.handler, error.parameter, error.got, error.want, error.remedy) == (
        "move",
        "x",
        "ten",
        "int",
        "send digits",
    )


def test_what_did_not_arrive_is_missing_and_not_none() -> None:
    assert str(bind_error(MISSING)) == "move: x is missing; send digits"
    assert str(bind_error(None)) == "move: x is None, not int; send digits"


def test_a_long_value_is_shown_by_its_start() -> None:
    text = str(bind_error("a" * 10_000))
    assert "'aaaa" in text
    assert len(text) < 200
    assert text.endswith("send digits")
    assert bind_error("a" * 10_000).got == "a" * 10_000
