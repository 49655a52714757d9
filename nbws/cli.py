"""The command line: thin, so that what it does is found elsewhere."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.types import StringParamType

import nbws
from nbws.errors import NbwsError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["main"]

_NO_HOST = "The address to listen on; 127.0.0.1 unless the app says otherwise."
_NO_PORT = "5001 unless the app says otherwise."


def _files(*endings: str) -> StringParamType:
    """The type of an argument that the shell completes with files that end so."""

    class Files(StringParamType):
        def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
            from click.shell_completion import CompletionItem

            begun = incomplete.rpartition("/")[2]
            prefix = incomplete[: len(incomplete) - len(begun)]
            try:
                there = sorted(Path(prefix or ".").iterdir())
            except OSError:
                return []
            shown = [path for path in there if path.name.startswith(begun) and (begun or not path.name.startswith("."))]
            folders = [CompletionItem(f"{prefix}{path.name}/") for path in shown if path.is_dir()]
            files = [CompletionItem(f"{prefix}{path.name}") for path in shown if path.name.endswith(endings)]
            return files + folders

    return Files()


_TARGET = _files(".py", ".ipynb")
_NOTEBOOK = _files(".ipynb")


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
From an idea to a server:
  nbws new hello               a project to begin with
  nbws lab hello/notebooks/hello.ipynb
  nbws test                    every notebook from here on, as a test
  nbws export chat.ipynb       the notebook's cells as a module
  nbws docs chat.ipynb         the notebook as a page that plays
  nbws run chat.ipynb          serve a notebook, a script or module:app
  nbws dev chat.py             the same, and each save is swapped in

\b
Completion in bash (zsh and fish likewise), for good in ~/.bashrc:
  eval "$(_NBWS_COMPLETE=bash_source nbws)"
""",
)
@click.version_option(nbws.__version__, prog_name="nbws")
def main() -> None:
    """Live websocket apps written in notebooks."""


@main.command()
@click.argument("target", type=_TARGET)
@click.option("--host", default=None, help=_NO_HOST)
@click.option("--port", type=click.IntRange(1, 65535), default=None, help=_NO_PORT)
def run(target: str, host: str | None, port: int | None) -> None:
    """Serve TARGET until Ctrl+C.

    TARGET is a script (chat.py), a notebook (chat.ipynb) or module:app.

    \b
    Examples
      nbws run chat.py
      nbws run notebooks/01-chat.ipynb
      nbws run shop.web:app --host 0.0.0.0 --port 80

    Of a notebook, all cells with code are run in order, without Jupyter, but for those marked
    `#| eval: false`; the first that fails ends it, and nothing is served. Then the app called
    `app` is served, or the only one that there is. `serve()` does nothing in a script here.

    Visitors see no errors of handlers, and pages do not change in place: `nbws dev` is for that.
    """
    from nbws.running import serve_target

    try:
        serve_target(target, host, port)
    except NbwsError as exc:
        raise click.ClickException(str(exc)) from exc


@main.command()
@click.argument("notebooks", nargs=-1, required=True, type=_NOTEBOOK, metavar="NOTEBOOK...")
@click.option(
    "-o", "--output", default=None, help="The module to write, such as chat.py, whatever `#| default_exp` says."
)
def export(notebooks: tuple[str, ...], output: str | None) -> None:
    """Write the cells of NOTEBOOK that are marked for it as a module.

    nbdev does it, by its own directives: comments at the very top of a cell.

    \b
      #| default_exp chat    the module's name; in one cell of the notebook
      #| export              this cell goes into the module
      #| exporti             the same, but its names are not in __all__
      #| eval: false         nbws run, nbws dev and nbdev-test leave this cell out
      #| hide                docs leave this cell out

    \b
    Examples
      nbws export notebooks/01-chat.ipynb            writes ./chat.py
      nbws export notebooks/01-chat.ipynb -o web.py

    In an nbdev project (a pyproject.toml with [tool.nbdev] above the notebook) the module goes into
    the project's package. What could not run as a module, or was left out by a slip, is named with
    its cell and its remedy, and then nothing is written.
    """
    from nbws.export import export as write_modules

    try:
        written = write_modules([Path(each) for each in notebooks], Path(output) if output is not None else None)
    except NbwsError as exc:
        raise click.ClickException(str(exc)) from exc
    for each in written:
        cells = "1 cell" if each.cells == 1 else f"{each.cells} cells"
        click.echo(f"{_from_here(each.module)}: {cells} of the {each.of} with code in {_from_here(each.notebook)}")


@main.command()
@click.argument("notebook", type=_NOTEBOOK)
@click.option("-o", "--output", default=None, help="The page to write; NOTEBOOK's name with .html otherwise.")
@click.option("--run/--no-run", default=True, help="Run the cells, or take the outputs that are saved in NOTEBOOK.")
@click.option("--cell-timeout", type=int, default=120, metavar="SECONDS", help="For a cell; 0 is for ever. (120)")
@click.option(
    "--pyodide", metavar="DIR", default=None, help="Let readers run the app: a folder of Pyodide, or its URL."
)
@click.option("--with", "packages", metavar="PACKAGE", multiple=True, help="A package that it imports; with --pyodide.")
def docs(
    notebook: str,
    output: str | None,
    run: bool,
    cell_timeout: int,
    pyodide: str | None,
    packages: tuple[str, ...],
) -> None:
    """Write NOTEBOOK as one page of HTML in which its previews can be played.

    \b
    Examples
      nbws docs notebooks/01-chat.ipynb                writes ./01-chat.html
      nbws docs notebooks/01-chat.ipynb -o chat.html
      nbws docs notebooks/01-chat.ipynb --pyodide package    after `npm pack pyodide`, unpacked

    Its cells are run from top to bottom, headless. In the place of each preview stands the page as
    it looked in the end; with script it plays what clients said and what they were answered: those
    of the notebook's own cells (`app.client()`), or a session that was recorded in JupyterLab with
    `app.record("01-chat")`, which lies beside the notebook as 01-chat.replay.json.

    The page loads nothing from anywhere and works from a file. `#| hide`, `#| hide_input` and
    `#| eval: false` do what they do for nbdev. No credential, cookie or redacted field is in it.

    With --pyodide its players have a button that runs the app itself, in the reader's browser, by
    what is in the folder run-here beside the page.
    """
    from nbws.docs import check_installed

    try:
        check_installed("nbws docs")
        from nbws.docs_page import write_page

        to = Path(output) if output is not None else None
        seconds = cell_timeout or None
        page, written = write_page(
            Path(notebook), to, run=run, cell_seconds=seconds, pyodide=pyodide, packages=packages
        )
    except NbwsError as exc:
        raise click.ClickException(str(exc)) from exc
    for warning in page.warnings:
        click.echo(f"{_from_here(Path(notebook).absolute())}: {warning}", err=True)
    previews = "1 preview" if page.players == 1 else f"{page.players} previews"
    click.echo(f"{_from_here(written)}: {page.title}, {previews}, {len(page.html.encode()) // 1024} KB")
    if pyodide is not None:
        folder = written.parent / "run-here"
        size = sum(file.stat().st_size for file in folder.iterdir())
        click.echo(f"{_from_here(folder)}: what its app runs with, {size / 1e6:.1f} MB")


@main.command()
@click.argument("target", type=_TARGET)
@click.option("--host", default=None, help=_NO_HOST)
@click.option("--port", type=click.IntRange(1, 65535), default=None, help=_NO_PORT)
def dev(target: str, host: str | None, port: int | None) -> None:
    """Serve TARGET, and swap each save of it in under the open connections.

    TARGET is a script (chat.py), a notebook (chat.ipynb) or module:app.

    \b
    Examples
      nbws dev chat.py
      nbws dev notebooks/01-chat.ipynb --port 8000

    \b
    On each save
      - connections stay open, and the next message goes to the new code;
      - `users = {}` and the like keep their values where their text and what they
        are made of is unchanged; everything else of the file is run again;
      - a route that the file has no more retires; its connections wait 30 s for it;
      - a file that does not run changes nothing: what was live goes on.

    Modules that a script imports are watched too, as far as they are the program's own.
    Of a notebook, the cells that were changed are run again, in order. `serve()` and what
    is under `if __name__ == "__main__"` do nothing in a script here. Pages change in place
    and show errors of handlers, so this is not for the public.
    """
    from nbws.dev import develop

    try:
        develop(target, host, port)
    except NbwsError as exc:
        raise click.ClickException(str(exc)) from exc


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("notebook", type=_NOTEBOOK, required=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def lab(notebook: str | None, arguments: tuple[str, ...]) -> None:
    """Open JupyterLab, on NOTEBOOK where one is named. ARGUMENTS go to JupyterLab.

    \b
    Examples
      nbws lab notebooks/01-chat.ipynb
      nbws lab chat.ipynb --no-browser --port=9000
    """
    if importlib.util.find_spec("jupyterlab") is None:
        raise click.ClickException("JupyterLab is not installed here; pip install 'nbws[lab]' installs it")
    if notebook is not None and not Path(notebook).exists():
        raise click.ClickException(f"there is no notebook {notebook}")
    opened = [notebook] if notebook is not None else []
    sys.exit(subprocess.call([sys.executable, "-m", "jupyterlab", *opened, *arguments]))


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[PATHS] [PYTEST ARGUMENTS]")
def test(arguments: tuple[str, ...]) -> None:
    """Run notebooks as tests: those in PATHS, or all below this folder.

    \b
    Examples
      nbws test
      nbws test notebooks/01-chat.ipynb -v

    Each notebook is one test. Its cells run in order, in a kernel of its own; cells marked
    `#| eval: false` are left out. It fails where a cell fails, and where a handler does:
    unless the cell is tagged `handler-raises`, or takes the error out of `app.errors`. What was
    sent and received is printed then. Everything else goes to pytest: -k, -x, -n 4, -v.
    """
    try:
        import nbclient  # noqa: F401
        import pytest
    except ImportError as exc:
        raise click.ClickException(f"{exc.name} is not installed here; pip install 'nbws[test]' installs it") from exc
    places = [each for each in arguments if not each.startswith("-") and Path(each.partition("::")[0]).exists()]
    only_notebooks = ["-p", "nbws.pytest_plugin", "-o", "python_files="]
    # What nbws imports itself (anyio) brings a pytest plugin, which is told to have come too late.
    quiet = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    sys.exit(pytest.main([*only_notebooks, *quiet, *arguments, *([] if places else ["."])]))


@main.command()
@click.argument("name", metavar="NAME")
def new(name: str) -> None:
    """Lay out a project called NAME in a folder of that name.

    \b
    It has
      notebooks/NAME.ipynb   a small chat: what you work on
      NAME/                  the package that `nbws export` writes from it
      tests/                 a test of the package, with no port and no browser
      docs/                  a first page of documentation
      pyproject.toml         what pip, pytest and nbdev want to know

    \b
    It works at once
      nbws new hello && cd hello
      nbws run notebooks/hello.ipynb
      pip install -e '.[dev]' && pytest && nbws test
    """
    from nbws.layout import lay_out

    try:
        folder = lay_out(Path(name))
    except NbwsError as exc:
        raise click.ClickException(str(exc)) from exc
    notebook = f"notebooks/{folder.name.lower().replace('-', '_')}.ipynb"
    click.echo(
        f"{_from_here(folder)} is laid out. Next:\n"
        f"  cd {_from_here(folder)}\n"
        f"  nbws lab {notebook}    # work on it\n"
        f"  nbws run {notebook}    # serve it\n"
        f"  nbws export {notebook} # write its package; then `pip install -e '.[dev]'` and `pytest` test that"
    )


def _from_here(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
