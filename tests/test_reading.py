"""What a function reads: the globals that it names, and all that it reaches."""

from __future__ import annotations

import functools
import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from nbws.reading import globals_read, reach


def module(source: str, name: str = "authors") -> dict[str, Any]:
    """The names that *source* defines, as a cell or a module of an author's does."""
    names: dict[str, Any] = {"__name__": name}
    exec(textwrap.dedent(source), names)
    return names


def again(names: dict[str, Any], source: str) -> None:
    exec(textwrap.dedent(source), names)


CALLS = """
import functools
limit = 3
names = ["a"]
def helper(): return limit
class Board:
    size = 4
    def cells(self): return detail()
def detail(): return 1
board = Board()
def page():
    def row(): return helper()
    return [row(), len(names), board.cells()]
"""


def test_it_names_the_globals_that_its_code_names_those_of_inner_functions_too() -> None:
    names = module(CALLS)
    assert set(globals_read(names["page"])) == {"helper", "names", "board"}
    assert globals_read(names["helper"]) == {"limit": 3}
    assert globals_read(functools.partial(names["helper"])) == {"limit": 3}
    assert globals_read(names["board"].cells)["detail"] is names["detail"]
    assert globals_read(len) == {}


@pytest.mark.parametrize(
    "change",
    [
        "limit = 4",
        "names.append('b')",
        "def helper(): return limit + 1",
        "def detail(): return 2",
        "class Board:\n    size = 5\n    def cells(self): return detail()\nboard = Board()",
        "board = Board()",
        "Board.cells = lambda self: 7",
        "Board.size = 9",
        "del helper",
        "def page(): return 2",
    ],
)
def test_another_definition_of_what_it_reaches_is_told(change: str) -> None:
    names = module(CALLS)
    before = reach(names["page"])
    again(names, change)
    assert reach(names["page"]) != before


@pytest.mark.parametrize(
    "change",
    [
        "other = 1",
        "def helper(): return limit",
        "def unrelated(): return limit",
        "names = ['a']",
        "board.cells_alive = 7",
        "def page():\n    def row(): return helper()\n    return [row(), len(names), board.cells()]",
    ],
)
def test_the_same_again_and_what_it_does_not_reach_are_not(change: str) -> None:
    names = module(CALLS)
    before = reach(names["page"])
    again(names, change)
    assert reach(names["page"]) == before


def test_it_goes_through_decorators_closures_partials_and_methods() -> None:
    for wrapped in (
        "def wrap(f):\n    import functools\n    @functools.wraps(f)\n    def inner(): return f()\n    return inner",
        "import functools\nwrap = functools.cache",
        "import functools\nwrap = functools.partial",
        "class wrap:\n  def __init__(self, f): self.__wrapped__ = f\n  def __call__(self): return self.__wrapped__()",
    ):
        names = module(wrapped + "\nword = 'one'\n@wrap\ndef page(): return word")
        before = reach(names["page"])
        again(names, "word = 'two'")
        assert reach(names["page"]) != before, wrapped


def test_modules_of_the_author_are_followed_and_libraries_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rules.py").write_text("limit = 3\ndef rule(): return limit\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    names = module("import rules, json\ndef page(): return rules.rule(), json.dumps({})")
    try:
        before = reach(names["page"])
        sys.modules["rules"].limit = 4  # type: ignore[attr-defined]
        assert reach(names["page"]) != before
        before = reach(names["page"])
        monkeypatch.setattr(json, "dumps", functools.wraps(json.dumps)(lambda *_: ""))
        assert reach(names["page"]) == before
    finally:
        sys.modules.pop("rules")


def test_it_ends_where_definitions_go_round_and_with_large_data() -> None:
    names = module("data = list(range(10**6))\ndef a(): return b(), data\ndef b(): return a()\ndata.append(data)")
    before = reach(names["a"])
    assert before == reach(names["a"])
    names["data"].append(1)
    assert reach(names["a"]) != before


def test_an_object_that_may_not_be_looked_at_is_only_that_object() -> None:
    class Shy:
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(name)

    names = module("def page(): return shy")
    names["shy"] = Shy()
    before = reach(names["page"])
    assert reach(names["page"]) == before
    names["shy"] = Shy()
    assert reach(names["page"]) != before
