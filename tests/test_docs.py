"""The code in the README and in docs/ runs, and what they link to is there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import nbws

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_a_page_runs_in_order(page: Path) -> None:
    names = {"__name__": "__main__"}
    for number, code in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)):
        exec(compile(code, f"{page.name}, block {number + 1}", "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_links_to_is_there(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_readme_names_the_commands_that_dev_py_has() -> None:
    readme = (ROOT / "README.md").read_text()
    for command in re.findall(r"^python3 dev\.py (\w+)", readme, re.MULTILINE):
        assert f'"{command}"' in (ROOT / "dev.py").read_text(), command


def test_the_page_of_the_house_names_every_module() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    modules = {path.name for path in Path(nbws.__file__).parent.rglob("*.py")} - {"__init__.py"}
    assert {name for name in modules if name not in page} == set()


def test_what_is_served_of_others_is_listed_with_its_licence() -> None:
    static = Path(nbws.__file__).parent / "static"
    listed = (static / "README.md").read_text()
    for path in static.rglob("*"):
        if path.is_file() and path.name != "README.md":
            assert path.name in listed, path.name


def test_importing_starts_nothing_and_loads_no_server_and_no_jupyter() -> None:
    import subprocess

    code = (
        "import sys, threading, nbws, nbws.common\n"
        "loaded = {'uvicorn', 'IPython', 'ipykernel', 'websockets'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
        "assert threading.active_count() == 1\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
