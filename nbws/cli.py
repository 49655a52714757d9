"""The command line: thin, so that what it does is found elsewhere."""

from __future__ import annotations

import importlib
import importlib.util
import runpy
import subprocess
import sys
from pathlib import Path

import click

import nbws
from nbws.app import App
from nbws.errors import NbwsError

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(nbws.__version__, prog_name="nbws")
def main() -> None:
    """Live websocket apps written in notebooks."""


@main.command()
@click.argument("target")
@click.option("--host", default=None, help="The address to listen on; 127.0.0.1 unless the app says otherwise.")
@click.option("--port", type=click.IntRange(1, 65535), default=None, help="5001 unless the app says otherwise.")
def run(target: str, host: str | None, port: int | None) -> None:
    """Serve TARGET, a script such as chat.py or module:app, until Ctrl+C."""
    app = _find(target)
    app.configure(host=host, port=port)
    try:
        app.run()
    except NbwsError as exc:
        raise click.ClickException(str(exc)) from exc


@main.command()
@click.argument("target")
@click.option("--host", default=None, help="The address to listen on; 127.0.0.1 unless the app says otherwise.")
@click.option("--port", type=click.IntRange(1, 65535), default=None, help="5001 unless the app says otherwise.")
def dev(target: str, host: str | None, port: int | None) -> None:
    """Serve TARGET, and swap each save of it in under the open connections.

    TARGET is a script (chat.py), a notebook (chat.ipynb) or module:app.

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
@click.argument("notebook", type=click.Path(path_type=Path), required=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def lab(notebook: Path | None, arguments: tuple[str, ...]) -> None:
    """Open JupyterLab, on NOTEBOOK where one is named. ARGUMENTS go to JupyterLab."""
    if importlib.util.find_spec("jupyterlab") is None:
        raise click.ClickException("JupyterLab is not installed here; pip install 'nbws[lab]' installs it")
    if notebook is not None and not notebook.exists():
        raise click.ClickException(f"there is no notebook {notebook}")
    opened = [str(notebook)] if notebook is not None else []
    sys.exit(subprocess.call([sys.executable, "-m", "jupyterlab", *opened, *arguments]))


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[PATHS] [PYTEST ARGUMENTS]")
def test(arguments: tuple[str, ...]) -> None:
    """Run notebooks as tests: those in PATHS, or all below this folder.

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


def _find(target: str) -> App:
    """The App that *target* names. A script is run as a module is imported: its `serve()` does nothing."""
    if target.endswith(".py"):
        if not Path(target).exists():
            raise click.ClickException(f"there is no script {target}")
        sys.path.insert(0, str(Path(target).resolve().parent))
        found = runpy.run_path(target, run_name=Path(target).stem)
        name = "app"
    else:
        module, _, name = target.partition(":")
        sys.path.insert(0, "")
        try:
            found = vars(importlib.import_module(module))
        except ModuleNotFoundError as exc:
            raise click.ClickException(f"there is no module {exc.name}; TARGET is a script.py or module:app") from exc
    app = found.get(name or "app")
    if not isinstance(app, App):
        raise click.ClickException(f"{target} has no App named {name or 'app'}")
    return app
