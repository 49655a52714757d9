"""A program that is run again from its edited files: what it keeps and publishes, and what a failure leaves alone."""

from __future__ import annotations

import itertools
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbws import App
from nbws.errors import DefinitionError, NbwsError
from nbws.handlers import WEBSOCKET, Key
from nbws.program import Outcome, Program
from nbws.runs import Development, developing

HEAD = "from nbws.common import *\napp = App()\n"
ECHO = "@app.ws({path!r})\ndef {name}(text: str): return {word} + text\n"
_saves = itertools.count(1)


def echo(word: str = "'one '", path: str = "/ws", name: str = "echo") -> str:
    return ECHO.format(word=word, path=path, name=name)


class Author:
    """Somebody who edits the files of a program, `web.py` being the one that is run."""

    def __init__(self, folder: Path, program: Program) -> None:
        self.folder, self.program = folder, program

    def write(self, **files: str) -> None:
        for name, text in files.items():
            path = self.folder / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            os.utime(path, ns=(0, next(_saves)))  # two writes may be closer than the clock of a file system is fine

    def save(self, **files: str) -> Outcome:
        """Write these files and have the program run again, which must succeed."""
        self.write(**files)
        outcome = self.program.run()
        if outcome.error is not None:
            raise outcome.error
        return outcome

    def fail(self, **files: str) -> BaseException:
        self.write(**files)
        error = self.program.run().error
        assert error is not None, "the run was to fail"
        return error

    @property
    def app(self) -> App:
        app = self.program.names["app"]
        assert isinstance(app, App)
        return app

    def __getitem__(self, name: str) -> Any:
        return self.program.names[name]

    def versions(self) -> dict[str, int]:
        return {path: each.version for path, each in self.app.endpoints.items()}

    def handler(self, path: str = "/ws") -> Callable[..., Any]:
        entry = self.app.table.get_live(Key(WEBSOCKET, path))
        assert entry is not None
        return entry.definition.target.message.fn

    def says(self, path: str = "/ws") -> str:
        """What the live handler of *path* answers."""
        return str(self.handler(path)(""))


@pytest.fixture
def author(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Author]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("nbws.identity._of_modules", {})  # other tests have made apps of a module of the same name
    before = set(sys.modules)
    program = Program("web", tmp_path / "web.py", [tmp_path])
    with developing(Development(runs=program)), program.installed():
        yield Author(tmp_path, program)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "") or "").startswith(str(tmp_path)):
            del sys.modules[name]
    for name in ("shop", "space"):
        sys.modules.pop(name, None)


# -- versions


def test_an_edited_handler_is_a_new_version_and_unchanged_code_is_the_same_one(author: Author) -> None:
    author.save(web=HEAD + echo() + echo(path="/other", name="other"))
    author.save(web=HEAD + "# moved\n" + echo("'two '") + echo(path="/other", name="other"))
    assert author.versions() == {"/ws": 2, "/other": 1}
    assert author.says() == "two "


def test_a_route_that_the_file_defines_no_more_retires_and_comes_back(author: Author) -> None:
    author.save(web=HEAD + echo() + echo(path="/other", name="other"))
    author.save(web=HEAD + echo())
    assert author.versions() == {"/ws": 1}
    author.save(web=HEAD + echo() + echo("'two '", path="/other", name="other"))
    assert author.versions() == {"/ws": 1, "/other": 2}


def test_a_hook_that_is_edited_alone_is_a_new_version_with_the_new_function(author: Author) -> None:
    text = HEAD + "def joined(send): return 1\n@app.ws('/ws', conn=joined)\ndef ws(text: str): pass\n"
    author.save(web=text)
    author.save(web=text.replace("return 1", "return 2"))
    assert author.versions() == {"/ws": 2}
    bound, _ = author.app.hook(Key(WEBSOCKET, "/ws"), "conn")
    assert bound is not None
    assert bound.fn(None) == 2


def test_a_model_with_other_fields_makes_a_new_version_of_its_handler(author: Author) -> None:
    text = HEAD + "@dataclass\nclass Move:\n    x: int\n@app.ws('/ws')\ndef ws(move: Move): return move\n"
    author.save(web=text)
    author.save(web=text.replace("x: int", "x: str"))
    assert author.versions() == {"/ws": 2}


def test_what_the_body_defines_is_live_when_all_of_it_has_run(author: Author) -> None:
    author.save(web=HEAD + echo() + "assert '/ws' not in app.endpoints\n")
    assert author.versions() == {"/ws": 1}


def test_it_says_which_names_were_changed(author: Author) -> None:
    text = HEAD + "word = 'a'\nusers = {}\ndef greet(): return word\nshout = greet().upper()\n" + echo("greet()")
    author.save(web=text)
    assert author.save().changed == set()
    assert author.save(web=text.replace("'a'", "'b'")).changed == {"word"}
    assert author.save(web=text.replace("return word", "return word * 2")).changed == {"word", "greet", "shout"}
    assert author.save(web=text.replace("greet() + text", "text")).changed == {"greet", "shout"}


def test_a_startup_function_and_a_middleware_are_replaced_and_retired_with_their_code(author: Author) -> None:
    text = HEAD + "@app.on_event('startup')\ndef begin(): return {}\napp.add_middleware(CORSMiddleware, max_age={})\n"
    author.save(web=text.format(1, 1))
    author.save(web=text.format(2, 2))
    assert [entry.version for _, entry in author.app.table.live("STARTUP", "MIDDLEWARE")] == [2, 2]
    author.save(web=HEAD)
    assert list(author.app.table.live("STARTUP", "MIDDLEWARE")) == []


# -- state


def test_state_survives_an_edit(author: Author) -> None:
    text = HEAD + "users, count = {}, 0\nmessages: list = []\n" + echo("str(len(users))")
    author.save(web=text)
    users = author["users"]
    users["ann"] = 1
    author.save(web=text.replace("len(users)", "len(users) + 1"))
    assert author["users"] is users
    assert author.says() == "2"
    author.save(web=text.replace("users, count = {}, 0", "users, count = {}, 1"))
    assert author["users"] == {}


def test_a_global_that_a_handler_has_assigned_keeps_that_value(author: Author) -> None:
    text = HEAD + "count = 0\n@app.ws('/ws')\ndef up(text: str):\n    global count\n    count += 1\n"
    author.save(web=text)
    author.handler()("")
    author.handler()("")
    author.save(web=text + "word = 1\n")
    assert author["count"] == 2
    author.handler()("")
    assert author["count"] == 3


def test_a_global_that_is_assigned_while_the_edited_file_runs_is_not_lost(author: Author) -> None:
    text = HEAD + "count = 0\n@app.ws('/ws')\ndef up(text: str):\n    global count\n    count += 1\n"
    author.save(web=text)
    author.save(web=text + "import sys; app.endpoints['/ws'].history[-1].definition.target.message.fn('')\n")
    assert author["count"] == 1


def test_a_value_that_was_deleted_is_made_again(author: Author) -> None:
    author.save(web=HEAD + "users = {}\n")
    del sys.modules["web"].__dict__["users"]
    author.save(web=HEAD + "users = {}\nword = 1\n")
    assert author["users"] == {}


def test_instances_of_a_class_that_is_unchanged_stay_instances_of_it(author: Author) -> None:
    text = HEAD + "from enum import Enum\nclass Phase(Enum):\n    ON = 1\nphase = Phase.ON\nword = 'one'\n"
    author.save(web=text)
    author.save(web=text.replace("'one'", "'two'"))
    assert author["phase"] is author["Phase"].ON


def test_kept_objects_find_what_is_live_now(author: Author) -> None:
    text = HEAD + "class Room:\n    def own(self): return greet()\nroom = Room()\ntable = {'f': lambda: greet()}\n"
    author.save(web=text + "def greet(): return 'one'\n")
    for word in ("two", "three"):
        author.save(web=text + f"def greet(): return {word!r}\n")
        assert (author["room"].own(), author["table"]["f"]()) == (word, word)


def test_namespaces_of_runs_before_are_not_held(author: Author) -> None:
    import gc
    import weakref

    class Canary:
        pass

    author.save(web=HEAD + "word = 0\n")
    canary = Canary()
    sys.modules["web"].__dict__["canary"] = canary
    gone = weakref.ref(canary)
    del canary
    author.save(web=HEAD + "word = 1\n")
    gc.collect()
    assert gone() is None


def test_routes_that_a_kept_assignment_made_stay_as_it_made_them(author: Author) -> None:
    text = HEAD + "def heard(text: str): return 'kept ' + text\nsend = setup_ws(app, heard)\n"
    author.save(web=text)
    author.save(web=text + "word = 1\n")
    assert author.versions() == {"/ws": 1}
    author.save(web=text + echo("'other '"))
    assert author.says() == "other "
    author.save(web=text)
    assert author.says() == "kept "
    author.save(web=HEAD)
    assert author.versions() == {}


# -- failures


def test_a_file_that_does_not_run_changes_nothing(author: Author) -> None:
    text = HEAD + "word = 'one '\ndef greet(): return word\n" + echo("greet()")
    author.save(web=text)
    live = sys.modules["web"]
    edited = text.replace("'one '", "'two '").replace("return word", "return word * 2")
    for ending in ("1 / 0\n", "def (\n", "return 5\n", "import nothing_of_that_name\n", "raise SystemExit\n"):
        author.fail(web=edited + echo(path="/new", name="new") + ending)
        assert author.says() == "one "
        assert author.versions() == {"/ws": 1}
        assert sys.modules["web"] is live
    author.save(web=edited)
    assert author.says() == "two two "
    assert author.versions() == {"/ws": 1}


def test_a_definition_that_cannot_work_changes_nothing(author: Author) -> None:
    author.save(web=HEAD + "app.configure(title='one')\n" + echo())
    bad = HEAD + "app.configure(title='two')\n" + echo("'two '") + "@app.ws('/x')\ndef x(text): pass\n"
    assert isinstance(author.fail(web=bad), DefinitionError)
    assert (author.says(), author.app.options.title) == ("one ", "one")


def test_a_hook_that_is_bound_below_and_cannot_work_changes_nothing(author: Author) -> None:
    text = HEAD + "other = App()\ndef joined(send): pass\n@app.ws('/ws', conn=joined)\ndef ws(text: str): pass\n"
    author.save(web=text)
    error = author.fail(web=text + "def joined(nonsense): pass\n@other.get('/')\ndef index(): return 'x'\n")
    assert "nonsense has neither an annotation" in str(error)
    assert len(author["other"].endpoints) == 0


def test_a_subclass_of_app_is_the_one_before_where_the_run_failed(author: Author) -> None:
    text = "from nbws import App\nclass Site(App):\n    def own(self): return 'one'\napp = Site('x')\n"
    author.save(web=text)
    author.fail(web=text.replace("'one'", "'two'") + "1 / 0\n")
    assert author.app.own() == "one"  # type: ignore[attr-defined]
    author.save(web=text.replace("'one'", "'two'"))
    assert author.app.own() == "two"  # type: ignore[attr-defined]


def test_a_check_that_is_not_met_changes_nothing(author: Author) -> None:
    author.save(web=HEAD + echo())

    def check(names: Any) -> None:
        if "app" not in names:
            raise NbwsError("no app")

    author.write(web="word = 1\n")
    assert str(author.program.run(check).error) == "no app"
    assert author.says() == "one "


def test_an_interrupt_is_raised_on_and_changes_nothing(author: Author) -> None:
    author.save(web=HEAD + echo())
    author.write(web=HEAD + echo("'two '") + "raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        author.program.run()
    assert author.says() == "one "


def test_what_a_thread_of_the_body_defines_is_live_at_once(author: Author) -> None:
    define = "import threading\ndef define():\n    @app.get('/t')\n    def t(): return 'x'\n"
    author.save(web=HEAD)
    author.fail(web=HEAD + define + "t = threading.Thread(target=define); t.start(); t.join()\n1 / 0\n")
    assert author.versions() == {"/t": 1}


# -- apps


def test_an_app_that_is_made_again_is_the_same_app_with_the_new_options(author: Author) -> None:
    author.save(web=HEAD + echo())
    app = author.app
    author.save(web=HEAD.replace("App()", "App(title='new')") + echo())
    assert (author.app is app, app.options.title) == (True, "new")


def test_options_that_were_set_by_a_line_that_is_gone_are_those_of_the_app_again(author: Author) -> None:
    author.save(web=HEAD + "app.configure(title='set')\n")
    author.save(web=HEAD)
    assert author.app.options.title == "nbws app"


def test_an_app_whose_name_is_changed_is_the_same_one(author: Author) -> None:
    author.save(web=HEAD + echo())
    app = author.app
    author.save(web=(HEAD + echo()).replace("app", "site"))
    assert author["site"] is app
    author.save(web=(HEAD + echo()).replace("app", "site").replace("App()", "App(title='x')"))
    assert author["site"] is app


def test_an_app_that_is_put_before_another_is_a_new_one(author: Author) -> None:
    author.save(web=HEAD)
    app = author.app
    author.save(web=HEAD.replace("app = ", "first = App()\napp = ").replace("app = App()", "app = App(title='x')"))
    assert (author.app is app, author["first"] is app) == (True, False)


def test_two_apps_of_one_line_and_those_of_a_maker_are_told_apart(author: Author) -> None:
    text = HEAD + "def make(n): return App(title=str(n))\na, b = App(), App()\nc = make(1)\nd = make({})\n"
    author.save(web=text.format(2))
    before = [author[name] for name in "abcd"]
    assert len(set(before)) == 4
    author.save(web=text.format(3).replace("App(), App()", "App(), App(title='x')"))
    assert [author[name] for name in "abcd"] == before


def test_an_app_with_a_name_is_known_by_it(author: Author) -> None:
    author.save(web="from nbws import App\napp = App('chat')\n")
    app = author.app
    author.save(web="from nbws import App\nif True: app = App('chat', title='x')\n")
    assert author.app is app


def test_apps_know_that_their_author_is_at_work(author: Author) -> None:
    author.save(web=HEAD + "assert app.in_development and not app.in_notebook\n")
    with developing(None):  # type: ignore[arg-type]
        assert not author.app.in_development


# -- modules of its own


def test_a_helper_that_is_edited_is_run_again_with_what_imports_it_and_nothing_else(author: Author) -> None:
    ran = "import builtins; builtins.ran.append(__name__)\n"
    import builtins

    builtins.ran = []  # type: ignore[attr-defined]
    author.save(
        web=HEAD + ran + "import middle, other\n" + echo("middle.low.word()"),
        middle=ran + "import low\n",
        low=ran + "def word(): return 'one '\n",
        other=ran + "users = {}\n",
    )
    author["other"].users["ann"] = 1
    builtins.ran.clear()  # type: ignore[attr-defined]
    assert author.save(low=ran + "def word(): return 'two '\n").changed == {"word"}
    assert builtins.ran == ["web", "middle", "low"]  # type: ignore[attr-defined]
    assert author.says() == "two "
    assert author.versions() == {"/ws": 1}
    assert author["other"].users == {"ann": 1}
    del builtins.ran  # type: ignore[attr-defined]


def test_a_helper_that_does_not_run_changes_nothing(author: Author) -> None:
    author.save(
        web=HEAD + "import helper\nfrom helper import word\n" + echo("word()"), helper="def word(): return 'one '\n"
    )
    live = sys.modules["helper"]
    for text in ("def word(): return 'two '\n1 / 0\n", "def (\n", ""):
        author.fail(helper=text)
        assert author.says() == "one "
        assert sys.modules["helper"] is live
        assert author["helper"] is live
    author.save(helper="def word(): return 'three '\n")
    assert author.says() == "three "


def test_state_of_a_helper_survives_and_what_a_changed_helper_made_is_made_again(author: Author) -> None:
    helper = "users = {}\ndef make(): return []\ndef show(): return 1\n"
    author.save(web=HEAD + "from helper import users, make, show\nstore = make()\n", helper=helper)
    author["users"]["ann"] = 1
    author["store"].append(1)
    author.save(helper=helper.replace("return 1", "return 2"))
    assert (author["users"], author["store"], author["show"]()) == ({"ann": 1}, [1], 2)
    author.save(helper=helper.replace("return []", "return ['new']"))
    assert (author["users"], author["store"]) == ({"ann": 1}, ["new"])


def test_routes_belong_to_the_module_that_defined_them(author: Author) -> None:
    web = "from nbws.common import *\nfrom base import app\nimport routes\n"
    author.save(web=web + echo(), base=HEAD, routes="from base import *\n" + echo(path="/r", name="r"))
    author.save(web=web + echo("'two '"))
    assert author.versions() == {"/ws": 2, "/r": 1}
    author.save(routes="from base import *\n")
    assert author.versions() == {"/ws": 2}
    author.save(routes="from base import *\n" + echo(path="/r", name="r"))
    assert author.versions() == {"/ws": 2, "/r": 1}
    author.save(base=HEAD + "word = 1\n")
    assert author.versions() == {"/ws": 2, "/r": 1}


def test_a_module_that_the_program_imports_no_more_takes_its_routes_along(author: Author) -> None:
    web = "from nbws.common import *\nfrom base import app\n"
    routes = "from base import *\nimport low\n" + echo(path="/r", name="r")
    author.save(web=web + "import routes\n", base=HEAD, routes=routes, low="word = 1\n")
    assert author.versions() == {"/r": 1}
    author.save(web=web)
    assert author.versions() == {}
    assert not {"routes", "low"} & sys.modules.keys()
    author.save(web=web + "import routes\n")
    assert author.versions() == {"/r": 1}


def test_modules_that_import_each_other_are_run_again_together(author: Author) -> None:
    author.save(
        web=HEAD + "word = 'one '\nimport routes\n", routes="from web import *\nimport web\n" + echo("web.word")
    )
    app = author.app
    assert author.says() == "one "
    author.save(web=HEAD + "word = 'two '\nimport routes\n")
    assert (author.app is app, author.says(), author.versions()) == (True, "two ", {"/ws": 1})


def test_a_module_that_is_new_or_was_missing_is_taken_up(author: Author) -> None:
    author.save(web=HEAD + echo())
    before = author.program.files
    error = author.fail(web=HEAD + "import late\n" + echo("late.word"))
    assert isinstance(error, ModuleNotFoundError)
    assert set(before) == {author.folder / "web.py"}
    author.write(late="word = 'late '\n")
    assert author.program.files[author.folder / "late.py"] is None, "it is watched, and not read so far"
    author.save()
    assert author.says() == "late "


def test_packages_and_relative_imports(author: Author) -> None:
    author.save(
        web=HEAD
        + "import shop.desk\nfrom shop import store, price\n"
        + echo("shop.desk.word() + store.name + price()"),
        **{
            "shop/__init__": "from .price import price\n",
            "shop/desk": "from . import store\ndef word(): return 'desk ' + store.name\n",
            "shop/store": "name = 'a '\nusers = {}\n",
            "shop/price": "def price(): return '1'\n",
        },
    )
    assert author.says() == "desk a a 1"
    author["store"].users["ann"] = 1
    live = sys.modules["shop"], sys.modules["shop.store"]
    author.fail(**{"shop/store": "name = 'b '\nusers = {}\n1 / 0\n"})
    assert author.says() == "desk a a 1"
    assert (sys.modules["shop"], sys.modules["shop.store"]) == live
    assert live[0].store is live[1]
    author.save(**{"shop/store": "name = 'b '\nusers = {}\n"})
    assert author.says() == "desk b b 1"
    assert author["store"].users == {"ann": 1}
    author.save(**{"shop/price": "def price(): return '2'\n"})
    assert author.says() == "desk b b 2"


def test_a_package_without_a_file_of_its_own(author: Author) -> None:
    author.save(
        web=HEAD + "import space.low, space.other\n" + echo("space.low.word"),
        **{"space/low": "word = 'one '\n"},
        **{"space/other": ""},
    )
    live = author["space"]
    author.fail(**{"space/low": "word = 'two '\n1 / 0\n"})
    assert (author.says(), live.low.word) == ("one ", "one ")
    author.save(**{"space/low": "word = 'two '\n"})
    assert author.says() == "two "
    assert author["space"].other is live.other


def test_a_module_that_a_handler_imports_late_is_run_again_too(author: Author) -> None:
    text = HEAD + "@app.ws('/ws')\ndef echo(text: str):\n    from late import word\n    return word\n"
    author.save(web=text, late="word = 'one'\n")
    assert author.says() == "one"
    author.save(late="word = 'two'\n")
    assert author.says() == "two"
    assert isinstance(author.fail(late="word = 'three'\n1 / 0\n"), ZeroDivisionError)
    assert author.says() == "two"


def test_a_plugin_that_is_imported_by_its_name_is_run_again_with_its_program(author: Author) -> None:
    web = (
        "from nbws.common import *\nfrom base import app\nimport importlib\nplugin = importlib.import_module('plug')\n"
    )
    author.save(web=web, base=HEAD, plug="from base import *\n" + echo())
    author.save(plug="from base import *\n" + echo("'two '"))
    assert author.says() == "two "
    assert author["plugin"] is sys.modules["plug"]
    author.save(web=web + "word = 1\n")
    assert author.says() == "two "


def test_a_late_import_of_another_thread_finds_what_is_live_while_a_save_is_run(author: Author) -> None:
    text = (
        HEAD
        + "import helper\ndef late():\n    import helper\n    from helper import word\n    return helper.word + word\n"
    )
    author.save(web=text, helper="word = 'one '\n")
    said: list[str] = []
    thread = threading.Thread(target=lambda late=author["late"]: said.append(late()))
    import builtins

    builtins.meanwhile = lambda: (thread.start(), thread.join(5))  # type: ignore[attr-defined]
    author.save(helper="word = 'two '\nmeanwhile()\n")
    del builtins.meanwhile  # type: ignore[attr-defined]
    assert said == ["one one "]
    assert author["late"]() == "two two "


def test_what_is_installed_is_imported_as_ever(author: Author) -> None:
    (author.folder / "site-packages").mkdir()
    (author.folder / "site-packages" / "installed_of_test.py").write_text("users = []\n")
    sys.path.insert(0, str(author.folder / "site-packages"))
    try:
        author.save(web=HEAD + "import installed_of_test\n")
        assert set(author.program.files) == {author.folder / "web.py"}
        installed = author["installed_of_test"]
        author.save(web=HEAD + "import installed_of_test, json\n")
        assert author["installed_of_test"] is installed
    finally:
        sys.path.remove(str(author.folder / "site-packages"))


# -- files


def test_a_file_that_is_read_once_more_for_nothing_runs_again_and_changes_nothing(author: Author) -> None:
    text = HEAD + "runs = globals().get('runs', [])\nruns.append(1)\n" + echo()
    author.save(web=text)
    author.save(web=text)
    assert author["runs"] == [1, 1]
    assert author.versions() == {"/ws": 1}
    author.save()
    assert author["runs"] == [1, 1], "where no file was saved there is nothing to run"


def test_futures_and_docstrings_are_those_of_the_file(author: Author) -> None:
    author.save(
        web='"""A chat."""\nfrom __future__ import annotations\n' + HEAD + "def f(x: Later): pass\nclass Later: pass\n"
    )
    assert author["__doc__"] == "A chat."
    assert author["f"].__annotations__ == {"x": "Later"}


def test_a_warning_of_the_compiler_comes_once_for_each_run(author: Author) -> None:
    text = HEAD + "x = '\\d'\ny = x is 'd'\n"
    for _ in range(2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            author.save(web=text)
        assert len(caught) == len({str(each.message) for each in caught}) == 2


def test_an_error_is_raised_from_the_line_that_it_stands_in(author: Author) -> None:
    error = author.fail(web=HEAD + "\n\n1 / 0\n")
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    assert trace is not None
    assert (trace.tb_lineno, trace.tb_frame.f_code.co_filename) == (5, str(author.folder / "web.py"))
