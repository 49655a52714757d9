"""When code that is run again is the same code."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from nbws.fingerprint import fingerprint


def ran(source: str, name: str = "f", **known: Any) -> Any:
    """What *name* is after a cell with this source has run."""
    namespace: dict[str, Any] = {"__name__": "__main__", "functools": functools, **known}
    exec(compile(source, f"<cell {id(namespace)}>", "exec", dont_inherit=True), namespace)
    return namespace[name]


def same(first: str, second: str, **known: Any) -> bool:
    return fingerprint(ran(first, **known)) == fingerprint(ran(second, **known))


CELLS = [
    "def f(msg: str): return msg",
    "async def f(msg: str): return [m for m in msg]",
    "def f(msg: str):\n    def inner(): return msg + 'x'\n    return inner()",
    "f = lambda data: data",
    "def f(msg: str, n: int = 3, *, tags: tuple = ('a', 1.5, None)): return n",
    "def f(c: str = ['a', {'b': {1, 2}}]): return c",
    "def f(data):\n    try: return data['x']\n    except KeyError: return 0",
    "def outer():\n    seen = []\n    def f(msg: str): seen.append(msg)\n    return f\nf = outer()",
    "def g(msg: str, n: int): return n\nf = functools.partial(g, n=1)",
    "class Chat:\n    def __call__(self, msg: str): return msg\nf = Chat()",
    "class Chat:\n    def on(self, msg: str): return msg\nf = Chat().on",
    "@functools.lru_cache\ndef f(msg: str): return msg",
    "class Move:\n    x: int\ndef f(move: Move, also: 'Move', more: list[Move]): return move",
    "def f(n: int): return f(n - 1)",
    "def outer():\n    def f(n: int): return f(n - 1)\n    return f\nf = outer()",
    "import enum\nclass C(enum.Enum):\n    A = 1\ndef f(c: C = C.A): return c",
]


@pytest.mark.parametrize("source", CELLS)
def test_the_same_cell_run_again_is_the_same_code(source: str) -> None:
    assert same(source, source)


@pytest.mark.parametrize("source", CELLS)
def test_where_it_stands_in_the_cell_does_not_matter(source: str) -> None:
    assert same(source, f"# a comment\n\nabove = 1\n{source}\nbelow = 2")


@pytest.mark.parametrize("source", CELLS)
def test_a_fingerprint_can_be_kept_in_a_set(source: str) -> None:
    assert fingerprint(ran(source)) in {fingerprint(ran(source))}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("def f(msg: str): return msg", "def f(msg: str): return msg + '!'"),
        ("def f(msg: str): return 1", "def f(msg: str): return True"),
        ("def f(msg: str): return 1", "def f(msg: str): return 1.0"),
        ("def f(msg: str): return msg.a", "def f(msg: str): return msg.b"),
        ("def f(msg: str): return msg", "async def f(msg: str): return msg"),
        ("def f(msg: str): return msg", "def f(text: str): return text"),
        ("def f(msg: str): return msg", "def f(msg: int): return msg"),
        ("def f(msg: str): return msg", "def f(msg: str | None): return msg"),
        ("def f(msg: list[str]): return msg", "def f(msg: list[int]): return msg"),
        ("def f(msg: str): return msg", "def f(msg: str = ''): return msg"),
        ("def f(n: int = 1): return n", "def f(n: int = 2): return n"),
        ("def f(n: int = 1): return n", "def f(n: int = True): return n"),
        ("def f(*, n: int = 1): return n", "def f(*, n: int = 2): return n"),
        ("def f(c: list = ['a']): return c", "def f(c: list = ['b']): return c"),
        ("def f(c: dict = {'a': [1]}): return c", "def f(c: dict = {'a': [2]}): return c"),
        ("def f(a: str, b: str): ...", "def f(b: str, a: str): ..."),
        ("def f(a: str, b: str): ...", "def f(a: str, *, b: str): ..."),
        ("def f(a: str): ...", "def f(a: str, /): ..."),
        ("def f(): return [1 for _ in 'a']", "def f(): return [2 for _ in 'a']"),
        ("def f():\n  def g(): return 1\n  return g()", "def f():\n  def g(): return 2\n  return g()"),
        ("def f():\n  try: x()\n  except KeyError: y()", "def f():\n  x()\n  y()"),
    ],
)
def test_other_code_is_other_code(first: str, second: str) -> None:
    assert not same(first, second)


def test_another_function_inside_a_decorator_is_other_code() -> None:
    decorator = """
def twice(fn):
    @functools.wraps(fn)
    def decorated(*args): return fn(*args), fn(*args)
    return decorated

@twice
def f(msg: str): return %s
"""
    assert same(decorator % "msg", decorator % "msg")
    assert not same(decorator % "msg", decorator % "msg + msg")


@pytest.mark.parametrize("decorator", ["@functools.lru_cache", "@functools.cache"])
def test_another_function_inside_a_decorator_of_functools_is_other_code(decorator: str) -> None:
    assert not same(f"{decorator}\ndef f(msg: str): return 1", f"{decorator}\ndef f(msg: str): return 2")


def test_a_partial_of_other_code_or_with_other_arguments_is_other_code() -> None:
    cell = "def g(a: str, n: int): return {}\nf = functools.partial(g, n={})"
    assert not same(cell.format("a", 1), cell.format("n", 1))
    assert not same(cell.format("a", 1), cell.format("a", 2))


@pytest.mark.parametrize("base", ["", "class Sub(Chat): pass\nChat = Sub"])
def test_a_callable_object_is_its_class_wherever_the_call_is_inherited_from(base: str) -> None:
    cell = "class Chat:\n    def __call__(self, msg: str): return {}\n{}\nf = Chat()"
    assert same(cell.format(1, base), cell.format(1, base))
    assert not same(cell.format(1, base), cell.format(2, base))


def test_another_value_closed_over_is_other_code() -> None:
    cell = "def outer(greeting):\n    def f(msg: str): return greeting + msg\n    return f\nf = outer({!r})"
    assert not same(cell.format("hi "), cell.format("hello "))


def test_state_that_is_closed_over_is_not_code() -> None:
    cell = "def outer(users):\n    def f(msg: str): users.append(msg)\n    return f\nf = outer({})"
    assert same(cell.format("[]"), cell.format("['ann']"))


def test_a_mutable_default_is_compared_as_it_was_written_and_not_as_it_is_now() -> None:
    cell = "def f(msg: str, seen: list = []): seen.append(msg)"
    first = ran(cell)
    written = fingerprint(first)
    first("hi")
    assert written == fingerprint(ran(cell))


def test_globals_are_read_late_and_are_no_part_of_it() -> None:
    assert same("LIMIT = 1\ndef f(n: int): return n < LIMIT", "LIMIT = 2\ndef f(n: int): return n < LIMIT")


def test_a_model_with_other_fields_makes_other_code_of_its_handler() -> None:
    cell = "class Move:\n    x: {}\ndef f(move: {}): return move"
    for annotation in ("Move", "list[Move]", "Move | None"):
        assert not same(cell.format("int", annotation), cell.format("str", annotation))


def test_another_member_of_an_enum_as_default_is_other_code() -> None:
    cell = "import enum\nclass C(enum.Enum):\n    A = 1\n    B = 2\ndef f(c: C = C.{}): return c"
    assert not same(cell.format("A"), cell.format("B"))


def test_any_object_has_a_fingerprint() -> None:
    class Odd:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

        def __eq__(self, other: object) -> bool:
            raise RuntimeError

        __hash__ = None  # type: ignore[assignment]

    holds_itself: list[Any] = []
    holds_itself.append(holds_itself)

    def f(a: Any = Odd(), b: Any = holds_itself) -> None: ...  # noqa: B008

    for thing in (f, Odd(), Odd, holds_itself, print, len, str.upper, object(), type, iter([]), fingerprint):
        assert hash(fingerprint(thing)) == hash(fingerprint(thing))
