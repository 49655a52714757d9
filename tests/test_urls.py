"""What a path and a URL say."""

from __future__ import annotations

import pytest

from nbws.errors import DefinitionError
from nbws.urls import filled_path, path_parameters, query_of


def test_the_parameters_of_a_path_are_those_in_braces() -> None:
    assert path_parameters("/chat/{room}/{number:int}") == {"room", "number"}
    assert path_parameters("/") == frozenset()


@pytest.mark.parametrize(
    "path", ["chat", "", "/chat/{room", "/chat/room}", "/{}", "/{a b}", "/{x:nothing}", "/{a}/{a}", "/a?b", "/a b", 3]
)
def test_what_is_no_path_is_refused_by_name(path: object) -> None:
    with pytest.raises(DefinitionError, match="path"):
        path_parameters(path)  # type: ignore[arg-type]


def test_a_path_is_filled_and_what_is_left_is_its_query() -> None:
    assert filled_path("/chat/{room}", room="a b/c", page=2) == "/chat/a%20b%2Fc?page=2"
    assert filled_path("/files/{name:path}", name="a/b.txt") == "/files/a/b.txt"
    assert filled_path("/") == "/"


def test_a_query_keeps_repeated_and_blank_values() -> None:
    assert query_of({"query_string": b"a=1&a=2&b="}) == {"a": ["1", "2"], "b": [""]}
    assert query_of({}) == {}
