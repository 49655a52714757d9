"""What an author sees of what is live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from nbws.endpoints import Endpoints
from nbws.handlers import WEBSOCKET, Definition, HandlerTable, Key

CHAT, PAGE, FORM = Key(WEBSOCKET, "/chat"), Key("GET", "/chat"), Key("POST", "/login")


@dataclass
class Open:
    """A connection, as far as it matters here."""

    key: Key


class Live:
    """A table and the connections of it, and what is seen of them."""

    def __init__(self, *keys: Key) -> None:
        self.table = HandlerTable()
        self.connections: list[Any] = []
        self.errors: list[Any] = []
        self.define(*keys)
        self.endpoints = Endpoints(self)

    def define(self, *keys: Key, code: str = "a") -> None:
        self.table = self.table.publish(Definition(key, None, code) for key in keys)

    def retire(self, key: Key) -> None:
        self.table = self.table.publish([], [key])

    def roll_back(self, key: Key, number: int) -> None:
        self.table = self.table.roll_back(key, number)

    def retry(self, key: Key) -> None:
        raise LookupError(key)


def test_an_endpoint_is_found_by_its_path() -> None:
    live = Live(CHAT, FORM)
    endpoint = live.endpoints["/login"]
    assert (endpoint.path, endpoint.method, endpoint.version) == ("/login", "POST", 1)
    assert set(live.endpoints) == {"/chat", "/login"}
    assert len(live.endpoints) == 2


@pytest.mark.parametrize("keys", [(CHAT, PAGE), (PAGE, CHAT)])
def test_a_path_means_its_websocket_before_its_page(keys: tuple[Key, Key]) -> None:
    endpoints = Live(*keys).endpoints
    assert endpoints["/chat"].method == WEBSOCKET
    assert endpoints["GET /chat"].method == "GET"
    assert endpoints["WS /chat"].method == WEBSOCKET
    assert list(endpoints) == ["/chat", "GET /chat"]


def test_every_name_that_is_listed_finds_its_endpoint() -> None:
    live = Live(FORM, PAGE, CHAT, Key("GET", "/login"), Key("PUT", "/login"))
    found = {(endpoint.method, endpoint.path) for endpoint in live.endpoints.values()}
    assert found == {(key.method, key.path) for key, _ in live.table.live()}


def test_an_endpoint_tells_the_version_of_this_moment() -> None:
    live = Live(CHAT)
    endpoint = live.endpoints["/chat"]
    live.define(CHAT, code="b")
    assert endpoint.version == live.endpoints["/chat"].version == 2


def test_an_endpoint_that_is_retired_is_not_listed_and_says_so_itself() -> None:
    live = Live(CHAT)
    endpoint = live.endpoints["/chat"]
    assert not endpoint.is_retired
    live.retire(CHAT)
    assert endpoint.is_retired
    assert "retired" in repr(endpoint)
    assert "/chat" not in live.endpoints
    assert "WS /chat" not in live.endpoints
    live.define(CHAT)
    assert not endpoint.is_retired


def test_an_endpoint_has_its_own_connections_alone() -> None:
    live = Live(CHAT, Key(WEBSOCKET, "/other"))
    first, other, second = Open(CHAT), Open(Key(WEBSOCKET, "/other")), Open(CHAT)
    live.connections += [first, other, second]
    live.define(PAGE)
    assert live.endpoints["/chat"].connections == (first, second)
    assert live.endpoints["GET /chat"].connections == ()


def test_a_path_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(KeyError, match=r"/caht.*is no endpoint; there is /chat"):
        Live(CHAT).endpoints["/caht"]
    with pytest.raises(KeyError, match="none yet"):
        Live().endpoints["/chat"]


def test_startup_functions_and_middleware_are_no_endpoints() -> None:
    live = Live(Key("STARTUP", "m.begin"), Key("SHUTDOWN", "m.end"), Key("MIDDLEWARE", "m.C"), Key("EXCEPTION", "404"))
    assert list(live.endpoints) == []


def test_it_renders_as_a_table_whose_paths_are_escaped() -> None:
    live = Live(CHAT, Key("GET", "/<b>"))
    live.connections.append(Open(CHAT))
    html = live.endpoints._repr_html_()
    assert "<table" in html
    assert "<td>/chat</td><td>v1</td><td>1</td>" in html
    assert "<b>" not in html


def test_it_reads_as_a_list_in_plain_text() -> None:
    assert repr(Live().endpoints) == "no endpoints yet"
    assert "WS /chat v1" in repr(Live(CHAT).endpoints)
