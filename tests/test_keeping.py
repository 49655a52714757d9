"""Which values outlive an edit, decided on the code alone."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbws.keeping import Code, Edit, compare, read_code


def code(source: str, package: str = "") -> Code:
    return read_code(ast.parse(source), package)


def edit(old: str, new: str) -> Edit:
    """What the edit of a program of one module means."""
    return compare({"web": code(old)}, {"web": code(new)})["web"]


def kept_names(old: str, new: str) -> set[str]:
    statements = code(new).statements
    return {name for place in edit(old, new).kept for name in statements[place].binds}


def edit_of(module: str, old: dict[str, str], new: dict[str, str]) -> Edit:
    def read(sources: dict[str, str]) -> dict[str, Code]:
        packages = {name.rpartition(".")[0] for name in sources}
        return {
            name: code(text, name if name in packages else name.rpartition(".")[0]) for name, text in sources.items()
        }

    return compare(read(old), read(new))[module]


# -- what stays


@pytest.mark.parametrize(
    "line",
    [
        "users = {}",
        "users: dict[str, int] = {}",
        "users = rooms = {}",
        "users, (rooms, *others) = {}, ([], 1, 2)",
        "users = make(1)",
        "users = [each for each in range(3)]",
        "users = (count := 5)",
    ],
)
def test_an_assignment_that_is_written_as_before_keeps_its_value(line: str) -> None:
    old, new = f"{line}\nword = 'one'", f"# moved\n\nword = 'two'\n{line}  # and a comment"
    assert kept_names(old, new) == set(code(line).statements[0].binds)


@pytest.mark.parametrize(
    "line",
    [
        "def f(): pass",
        "import os",
        "from os import path",
        "print('x')",
        "for n in range(3): pass",
        "if True: users = {}",
        "try: users = {}\nexcept Exception: pass",
        "config.users = {}",
        "config['users'] = {}",
        "users, config.x = {}, 1",
        "count += 1",
        "users: dict",
        "del users",
        "assert users",
        "with open('x') as f: pass",
    ],
)
def test_everything_else_is_run(line: str) -> None:
    assert edit(line, line).kept == {}


def test_an_assignment_that_says_something_else_is_run() -> None:
    assert kept_names("users = {}\nword = 'a'", "users = {1: 1}\nword = 'a'") == {"word"}


def test_a_class_that_is_written_as_before_is_the_same_class() -> None:
    text = "import dataclasses\n@dataclasses.dataclass\nclass P:\n    x: int\n    def f(self): return help(self)\n"
    assert kept_names(text, text + "def help(p): return 1") == {"P"}
    assert kept_names(text, text.replace("x: int", "x: str")) == set()
    assert kept_names("class A: pass\nclass B(A): pass", "class A: x = 1\nclass B(A): pass") == set()


def test_a_name_that_several_statements_bind_is_run() -> None:
    twice = "users = {}\nusers = dict(users)\nother = 1"
    assert kept_names(twice, twice) == {"other"}
    assert kept_names("users = {}", "users = {}\nif x: users = None") == set()
    assert kept_names("users = {}\ndel users", "users = {}") == set()


# -- what it reads


def test_what_an_assignment_reads_at_once_counts_through_whatever_names() -> None:
    text = "n = 1\ndef make(size=n): return [size]\nstore = make()\nshown = store[0]\nother = 5"
    assert kept_names(text, text) == {"n", "store", "shown", "other"}
    assert kept_names(text, text.replace("n = 1", "n = 2")) == {"other"}
    assert kept_names(text, text.replace("return [size]", "return (size,)")) == {"n", "other"}


def test_what_is_read_before_it_is_bound_is_something_else() -> None:
    assert kept_names("a = [len]\nlen = 5", "len = 5\na = [len]") == {"len"}
    assert kept_names("x = 1\na = [x]\nx = 2", "x = 1\nx = 2\na = [x]") == set()


def test_what_a_function_reads_when_it_is_called_does_not_count() -> None:
    text = "def helper(): return 1\ndef make(): return helper()\nstore = make()\nlate = lambda: helper()"
    assert kept_names(text, text.replace("return 1", "return 2")) == {"store", "late"}


@pytest.mark.parametrize(
    "line",
    [
        "@word\ndef f(): pass",
        "def f(x=word): pass",
        "def f(*, x=word): pass",
        "def f(x: word): pass",
        "def f() -> word: pass",
        "async def f(x=word): pass",
        "class f(word): pass",
        "class f(metaclass=word): pass",
        "@word\nclass f: pass",
        "class f:\n    x = word",
        "class f:\n    x: word",
        "class f:\n    def g(self, x=word): pass",
        "f = lambda x=word: x",
        "f = word.thing",
        "f = [x for x in word]",
        "f = [word for x in range(3)]",
        "f = {x: 1 for y in [1] for x in y if word}",
        "f = (x for x in word)",
        "for f in word: pass",
        "if word: f = 1",
        "with word as f: pass",
        "from x import *\nf = word",
    ],
)
def test_all_that_is_read_at_once_is_seen(line: str) -> None:
    one, two = f"word = 1\n{line}\nstate = [f]", f"word = 2\n{line}\nstate = [f]"
    assert "state" in kept_names(one, one)
    assert "state" not in kept_names(one, two)


@pytest.mark.parametrize(
    "line",
    [
        "f: word = 1",
        "f = [word for word in [1]]",
        "def f(): return word",
        "f = lambda: word",
        "class f:\n    def g(self): return word",
    ],
)
def test_what_is_not_read_at_once_does_not_count(line: str) -> None:
    assert "state" in kept_names(f"word = 1\n{line}\nstate = [f]", f"word = 2\n{line}\nstate = [f]")


def test_the_first_iterable_of_a_comprehension_is_of_the_scope_around_it() -> None:
    assert kept_names("x = [1]\ny = [x for x in x]", "x = [2]\ny = [x for x in x]") == set()


def test_what_changes_an_object_counts_for_those_that_read_it_and_not_for_itself() -> None:
    for line in ("config['n'] = {}", "config.n = {}", "config.a.b()[0].n = {}", "config[0]['n'] += {}"):
        text = f"config = dict()\n{line}\nserver = start(config)\nother = {{}}"
        one, two = text.replace("n = {}", "n = 1"), text.replace("{}", "9", 1)
        assert kept_names(one, two) == {"config", "other"}, line
        assert kept_names(one, one.replace(line.replace("n = {}", "n = 1"), "")) == {"config", "other"}, line


def test_a_call_of_a_method_does_not_count() -> None:
    text = "app = App()\napp.mount({})\nstore = Store(app)\nprint(store.size({}))\nother = store"
    assert kept_names(text.format(1, 1), text.format(2, 2)) == {"app", "store", "other"}


def test_a_function_that_assigns_to_a_global_is_another_one_each_time() -> None:
    text = "n = 0\ndef count():\n    global n\n    n += 1\ntable = {'count': count}\nother = {}"
    assert kept_names(text, text) == {"n", "other"}
    assert edit(text, text).changed == set()
    assert kept_names("class A:\n    def f(self):\n        global n\n        n = 1", "n = 1") == set()


# -- imports


def test_a_name_of_an_import_does_not_count_for_another() -> None:
    text = "from os import path\nimport json\nusers = path.join('a')\ndata = json.loads('1')"
    assert kept_names(text, text.replace("import path", "import path, sep")) == {"users", "data"}
    assert kept_names(text, text.replace("from os import path", "import ntpath as path")) == {"data"}


def test_a_star_import_that_changes_may_change_whatever_is_bound_nowhere_else() -> None:
    text = "from nbws.common import *\napp = App()\nusers = dict()\nn = 1\nm = n"
    assert kept_names(text, text.replace("nbws.common", "nbws")) == {"users", "n", "m"}


def test_what_an_own_module_says_counts_for_those_that_import_it() -> None:
    sources = {"store": "def make(): return {}\ndef show(): return 1", "web": ""}
    for body in (
        "from store import make\nusers = make()",
        "from store import make as m\nusers = m()",
        "import store\nusers = store.make()",
        "import store as s\nusers = s.make()",
        "from store import *\nusers = make()",
    ):
        old = {**sources, "web": body}
        for line, stays in (("return 1", True), ("return {}", False)):
            new = {**old, "store": sources["store"].replace(line, "return 2")}
            assert bool(edit_of("web", old, new).kept) is stays, body


def test_it_counts_through_a_package_and_relative_imports() -> None:
    old = {
        "shop": "from .store import make\nfrom . import store",
        "shop.store": "def make(): return {}",
        "web": "import shop\nusers = shop.make()\nmore = shop.store.make()\nother = 1",
    }
    new = {**old, "shop.store": "def make(): return []"}
    assert edit_of("web", old, new).changed == {"users", "more"}
    assert edit_of("shop", old, new).changed == {"make", "store"}
    assert edit_of("web", old, old).changed == set()


def test_two_modules_that_import_each_other_are_compared() -> None:
    old = {"a": "import b\nfrom b import *\nx = b.y", "b": "from a import *\nimport a\ny = 1\nz = a.x"}
    assert edit_of("a", old, old).changed == set()
    assert edit_of("b", old, {**old, "b": old["b"].replace("1", "2")}).changed == {"y", "z"}


def test_a_new_module_has_nothing_to_keep() -> None:
    assert edit_of("web", {}, {"web": "users = {}"}) == Edit({}, frozenset({"users"}))


def test_the_modules_that_it_may_import_are_known_wherever_the_import_stands() -> None:
    text = "import a.b\ndef f():\n    from .c import d\nif x:\n    from ..e import *"
    assert code(text, "p.q").imports == {"a", "a.b", "p", "p.q", "p.q.c", "p.q.c.d", "p.e"}
    assert code("from ... import x", "p").imports == set()


def test_names_of_all_statements_are_read() -> None:
    text = """
try: pass
except ValueError as error: pass
match x:
    case {"a": one, **rest}: pass
    case [two, *three] | P(four): pass
    case five: pass
"""
    assert set.union(*(set(s.binds) for s in code(text).statements)) == {
        *("error", "one", "rest", "two", "three", "four", "five")
    }


# -- a property: where code has no side effects, nobody can tell that a value was kept

NAMES = "abcd"
reads = st.sampled_from(NAMES)
numbers = st.integers(0, 2)
values = st.one_of(
    numbers.map(str),
    reads.map(lambda name: f"({name}, 0)"),
    st.tuples(reads, numbers).map(lambda each: f"[{each[0]} for x in range({each[1]})]"),
    reads.map(lambda name: f"call({name})"),
)
lines = st.one_of(
    st.tuples(reads, values).map(lambda each: f"{each[0]} = {each[1]}"),
    st.tuples(reads, numbers).map(lambda each: f"def {each[0]}(x={each[1]}): return (x, {each[1]})"),
    st.tuples(reads, values).map(lambda each: f"def {each[0]}(x={each[1]}): return x"),
    st.tuples(reads, values).map(lambda each: f"if True: {each[0]} = {each[1]}"),
    st.tuples(reads, reads, values).map(lambda each: f"{each[0]}, {each[1]} = {each[2]}, 7"),
    st.tuples(reads, values).map(lambda each: f"class {each[0]}: x = {each[1]}"),
)
programs = st.lists(lines, max_size=6).map("\n".join)
edits = st.lists(lines, min_size=1, max_size=6).flatmap(  # two programs that have lines in common
    lambda some: st.tuples(*2 * [st.lists(st.sampled_from(some), max_size=6).map("\n".join)])
)


def call(value: Any) -> Any:
    return value() if callable(value) and not isinstance(value, type) else value


def plain(value: Any) -> Any:
    """*value* in a form in which what two runs of one code make is equal."""
    if isinstance(value, type):
        return ("class", value.__name__, plain(value.__dict__.get("x")))
    if callable(value):
        return ("function", value.__name__, value.__code__.co_code, plain(value.__defaults__))
    return tuple(map(plain, value)) if isinstance(value, tuple | list) else value


def ran(source: str) -> dict[str, Any] | None:
    names: dict[str, Any] = {"call": call, **dict.fromkeys(NAMES, 0)}
    try:
        exec(source, names)
    except TypeError:  # an instance is made of a function, say
        return None
    return {name: plain(value) for name, value in names.items() if name in NAMES}


@settings(deadline=None)
@given(edits)
def test_a_value_that_is_kept_is_the_one_that_a_new_run_would_make(edit: tuple[str, str]) -> None:
    old, new = edit
    before, after = ran(old), ran(new)
    if before is None or after is None:
        return
    for name in kept_names(old, new):
        assert before[name] == after[name]


@settings(deadline=None)
@given(programs)
def test_where_nothing_is_edited_nothing_changes(source: str) -> None:
    assert edit(source, source).changed == set()
    assert all(place == before for place, before in edit(source, source).kept.items())
