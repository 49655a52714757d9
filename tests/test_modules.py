"""Which modules are a program's own, and what is left of an import that is taken back."""

from __future__ import annotations

import importlib
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbws.modules import Finder, Replacement, package_of, parents_of, put_submodules_into


class Loaded:
    """Modules under *folder*, and the names of those that were found to be a program's own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.own = folder, list[str]()

    def write(self, files: dict[str, str]) -> None:
        """Write these modules; a name is the path of its file without its end."""
        for name, text in files.items():
            path = self.folder / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        importlib.invalidate_caches()

    def execute(self, module: types.ModuleType, path: Path) -> None:
        self.own.append(module.__name__)
        exec(compile(path.read_text(), str(path), "exec"), vars(module))


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loaded]:
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield Loaded(tmp_path)
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_modules_under_the_roots_are_a_programs_own_and_installed_ones_are_not(loaded: Loaded, tmp_path: Path) -> None:
    loaded.write({"own_here": "", "lib/python/site_packages_here": ""})
    installed = tmp_path / ".venv" / "lib" / "site-packages"
    installed.mkdir(parents=True)
    (installed / "installed_here.py").write_text("")
    sys.path.append(str(installed))
    try:
        with Finder("main_here", None, [tmp_path], loaded.execute).installed():
            import colorsys  # noqa: F401 - of the standard library, and nothing has imported it so far

            for name in ("own_here", "installed_here", "lib.python.site_packages_here"):
                importlib.import_module(name)
    finally:
        sys.path.remove(str(installed))
    assert loaded.own == ["own_here", "lib.python.site_packages_here"]


def test_the_main_module_is_its_own_wherever_it_is(loaded: Loaded, tmp_path: Path) -> None:
    (tmp_path / "my-chat.py").write_text("word = __name__")
    with Finder("my_chat", tmp_path / "my-chat.py", [], loaded.execute).installed():
        assert importlib.import_module("my_chat").word == "my_chat"
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("nothing_here")
    assert not any(isinstance(finder, Finder) for finder in sys.meta_path)


def test_no_bytecode_of_a_programs_own_modules_is_kept(loaded: Loaded, tmp_path: Path) -> None:
    loaded.write({"own_here": ""})
    with Finder("main_here", None, [tmp_path], loaded.execute).installed():
        importlib.import_module("own_here")
    assert not (tmp_path / "__pycache__").exists()


def test_what_is_imported_anew_stays_where_it_is_accepted_and_is_taken_back_where_not(loaded: Loaded) -> None:
    loaded.write({"low_here": "word = 1", "new_here": "", "space_here/low": "", "space_here/new": ""})
    names = ("low_here", "space_here.low")
    with Finder("main_here", None, [loaded.folder], loaded.execute).installed():
        live = [importlib.import_module(name) for name in (*names, "space_here")]

        def again(accepts: bool) -> list[types.ModuleType]:
            with Replacement(names) as replacement:
                fresh = [importlib.import_module(name) for name in names]
                importlib.import_module("new_here")
                importlib.import_module("space_here.new")
                assert live[2].low is live[1], "what is live is not touched"
                assert not hasattr(live[2], "new")
                if accepts:
                    replacement.accept()
            return fresh

        fresh = again(accepts=False)
        assert [sys.modules[name] for name in (*names, "space_here")] == live
        assert fresh[0] is not live[0]
        assert "new_here" not in sys.modules
        fresh = again(accepts=True)
        assert [sys.modules[name] for name in names] == fresh
        assert sys.modules["space_here"].low is fresh[1]
        assert "new_here" in sys.modules


def test_other_threads_find_what_is_live_meanwhile(loaded: Loaded) -> None:
    loaded.write({"low_here": "word = 1", "shop_here/__init__": "", "shop_here/desk": "word = 1"})
    with Finder("main_here", None, [loaded.folder], loaded.execute).installed():
        importlib.import_module("low_here")
        importlib.import_module("shop_here.desk")
        found: dict[str, Any] = {}
        late = "import low_here\nfrom low_here import word\nimport shop_here.desk\nfrom shop_here import desk\n"
        with Replacement(["low_here", "shop_here", "shop_here.desk"]):
            loaded.write({"low_here": "word = 2", "shop_here/desk": "word = 2"})
            assert importlib.import_module("low_here").word == 2
            thread = threading.Thread(target=exec, args=(late, found))
            thread.start()
            thread.join(5)
        assert (found["low_here"].word, found["word"]) == (1, 1)
        assert (found["shop_here"].desk.word, found["desk"].word) == (1, 1)


def test_a_package_that_is_imported_anew_has_the_modules_that_are_not(loaded: Loaded) -> None:
    loaded.write({"shop_here/__init__": "", "shop_here/desk": ""})
    desk = importlib.import_module("shop_here.desk")
    package = types.ModuleType("shop_here")
    put_submodules_into(package)
    assert package.desk is desk
    assert (package_of(desk), package_of(package)) == ("shop_here", "")
    assert list(parents_of("a.b.c")) == ["a.b", "a"]
