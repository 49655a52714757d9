"""Notebooks as tests: `nbws test`, or `pytest -p nbws.pytest_plugin`.

Each notebook is one test: its cells run in order, in one kernel. No entry point loads this, so that a pytest which was
not asked to run notebooks neither collects them nor imports anything of nbws.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from nbws.errors import NbwsError
from nbws.notebook.file import cells_in, is_skipped

__all__ = ["Notebook", "NotebookFile"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("nbws", "notebooks").addoption(
        "--cell-timeout",
        type=int,
        default=120,
        metavar="SECONDS",
        help="how long a cell of a notebook may take; 0 is for ever (default: 120)",
    )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    return NotebookFile.from_parent(parent, path=file_path) if file_path.suffix == ".ipynb" else None


class NotebookFile(pytest.File):
    """An .ipynb file. It is one test, so that -k, -x and the workers of pytest-xdist take notebooks as wholes."""

    def collect(self) -> Iterable[pytest.Item]:
        try:
            text = self.path.read_text(encoding="utf-8")
            cells_in(text)
            skipped = is_skipped(text)
        except (ValueError, NbwsError) as exc:
            raise self.CollectError(f"{self.path}: {exc}") from exc
        notebook = Notebook.from_parent(self, name="cells")
        if skipped:
            notebook.add_marker(pytest.mark.skip(reason="its front matter says skip_exec"))
        language = json.loads(text).get("metadata", {}).get("kernelspec", {}).get("language", "python")
        if language != "python":
            notebook.add_marker(pytest.mark.skip(reason=f"its language is {language}"))
        return [notebook]


class Notebook(pytest.Item):
    """The cells of one notebook."""

    def runtest(self) -> None:
        try:
            from nbws.notebook.headless import run_notebook
        except ImportError as exc:
            raise NbwsError(f"{exc}; pip install 'nbws[test]' installs what runs notebooks") from exc
        cells = cells_in(self.path.read_text(encoding="utf-8"))
        asyncio.run(run_notebook(self.path, cells, cell_seconds=self.config.getoption("--cell-timeout") or None))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if type(excinfo.value).__name__ == "NotebookFailure" or isinstance(excinfo.value, NbwsError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, 0, self.path.name
