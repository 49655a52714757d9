"""What an author may set on an App, and what is refused."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware

from nbws.errors import DefinitionError
from nbws.options import Options


def test_it_listens_on_loopback_and_trusts_nobody_else_by_default() -> None:
    options = Options()
    assert options.host == "127.0.0.1"
    assert (options.allowed_hosts, options.allowed_origins) == ((), ())
    assert not options.debug


@pytest.mark.parametrize("name", ["exts", "before", "middleware", "on_startup", "on_shutdown"])
def test_one_thing_may_stand_for_a_sequence_of_one(name: str) -> None:
    thing: Any = {"exts": "ws", "middleware": Middleware(GZipMiddleware)}.get(name, print)
    assert getattr(Options(**{name: thing}), name) == (thing,)
    assert getattr(Options(**{name: [thing, thing]}), name) == (thing, thing)
    assert getattr(Options(**{name: None}), name) == ()


@pytest.mark.parametrize(("name", "value"), [("allowed_hosts", "app.lan"), ("allowed_origins", "https://app.lan")])
def test_one_name_is_one_name_and_not_its_letters(name: str, value: str) -> None:
    assert getattr(Options(**{name: value}), name) == (value,)


@pytest.mark.parametrize("given", ["*", "*.lan", "http://app.lan", "app.lan/x", "fe80::1", "", "a@b", "a b"])
def test_what_is_no_host_name_is_refused_and_the_error_says_how_to_write_one(given: str) -> None:
    with pytest.raises(DefinitionError, match=r"is no host name; list each, such as 'app.example.org'"):
        Options(allowed_hosts=[given])


@pytest.mark.parametrize(
    "given", ["null", "*", "https://*.lan", "app.lan", "https://a/b", "https://u@a", "https://a;b"]
)
def test_what_is_no_origin_is_refused_and_null_can_never_be_let_in(given: str) -> None:
    with pytest.raises(DefinitionError, match=r"is no origin; list each whole, such as 'https://hub.example.org'"):
        Options(allowed_origins=[given])


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://Hub.example/", "https://hub.example"),
        ("http://hub.example:80", "http://hub.example"),
        ("https://hub.example:443", "https://hub.example"),
        ("https://hub.example:80", "https://hub.example:80"),
        ("http://[::1]:8888", "http://[::1]:8888"),
        ("vscode-webview://abc", "vscode-webview://abc"),
    ],
)
def test_an_origin_is_kept_as_browsers_send_it(given: str, kept: str) -> None:
    assert Options(allowed_origins=given).allowed_origins == (kept,)


def test_options_show_no_secret() -> None:
    assert "canary" not in repr(Options(token="canary", secret_key="canary"))


def test_an_extension_that_is_not_shipped_is_refused_with_what_there_is() -> None:
    with pytest.raises(DefinitionError, match=r"'sse' is not shipped; there is ws.*hdrs="):
        Options(exts=("ws", "sse"))


@pytest.mark.parametrize("port", [-1, 65536, "5001", 5001.0])
def test_what_is_no_port_is_refused(port: Any) -> None:
    with pytest.raises(DefinitionError, match="is no port; give a number"):
        Options(port=port)


@pytest.mark.parametrize("port", [None, 0, 1, 65535])
def test_a_port_is_taken_as_it_is(port: int | None) -> None:
    assert Options(port=port).port == port


def test_an_empty_token_is_refused_because_anybody_could_send_it() -> None:
    with pytest.raises(DefinitionError, match="token=''"):
        Options(token="")


def test_options_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Options().title = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("limits", {"park_seconds": 5}, "is no Limits; give Limits("),
        ("middleware", [5], "is none; give Middleware("),
        ("host", 5, "host=5 is no address"),
    ],
)
def test_an_option_of_the_wrong_kind_is_refused_with_what_to_give(option: str, value: Any, says: str) -> None:
    with pytest.raises(DefinitionError, match=re.escape(says)):
        Options(**{option: value})


def test_an_allowed_host_is_meant_without_its_port() -> None:
    assert Options(allowed_hosts=["Example.org:8000"]).allowed_hosts == ("example.org",)
