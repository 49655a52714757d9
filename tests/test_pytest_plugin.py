"""`nbws test` as its user meets it: notebooks on disk, real kernels, and what the terminal shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

NBWS = [sys.executable, "-c", "from nbws.cli import main; main(prog_name='nbws')"]
DIVIDE = """\
from nbws.common import *
app = App("dividing")

@app.ws("/ws")
async def divide(n: int):
    return P(1 / n, id="out")
"""
WAIT = "import asyncio\nawait visitor.send(n=0)\nwhile not app.errors:\n    await asyncio.sleep(0)"


def write(folder: Path, name: str, *cells: str | dict[str, Any]) -> None:
    """A notebook of these code cells, the first with the id c1. A cell is its source, or what it is made of."""
    made = [
        {"cell_type": "code", "id": f"c{number}", "metadata": {}, "source": "", "outputs": [], "execution_count": None}
        | (cell if isinstance(cell, dict) else {"source": cell})
        for number, cell in enumerate(cells, 1)
    ]
    notebook = {"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (folder / f"{name}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")


@dataclass
class Session:
    code: int
    text: str

    @property
    def outcomes(self) -> Mapping[str, str]:
        plain = re.findall(r"^([\w-]+)\.ipynb::cells (\w+)", self.text, re.MULTILINE)
        of_workers = re.findall(r"^\[gw\d\] \[ *\d+%\] (\w+) ([\w-]+)\.ipynb::cells", self.text, re.MULTILINE)
        return dict(plain) | {name: outcome for outcome, name in of_workers}

    def failure(self, name: str) -> str:
        """What is shown of the failure of the notebook *name*."""
        found = re.search(rf"^_+ {name}\.ipynb _+$(.*?)(?=^_{{5}}|^={{5}})", self.text, re.MULTILINE | re.DOTALL)
        assert found is not None, self.text
        return found[1]


def nbws_test(folder: Path, *arguments: str) -> Session:
    command = [*NBWS, "test", *arguments, "-v", "-p", "no:cacheprovider"]
    env = {**os.environ, "PYTEST_ADDOPTS": "", "COLUMNS": "200"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, encoding="utf-8", timeout=110)
    return Session(done.returncode, done.stdout)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """Every kind of notebook, in one session of two workers."""
    folder = tmp_path_factory.mktemp("notebooks")
    client = "visitor = await app.client().connect('/ws')"
    write(folder, "good", DIVIDE, "#| eval: false\n1 / 0", client, "assert '0.5' in await visitor.ask(n=2)")
    write(folder, "cell-fails", DIVIDE, "number = 1\nprint('so far')\nnumber / 0")
    write(folder, "handler-fails", DIVIDE, client, WAIT, "1 / 0")
    write(folder, "handler-fails-at-the-end", DIVIDE, client, "await visitor.send(n=0)")
    write(folder, "expected", DIVIDE, client, {"source": WAIT, "metadata": {"tags": ["handler-raises"]}})
    write(folder, "taken", DIVIDE, client, f"{WAIT}\nassert 'division' in str(app.errors.pop().exception)")
    asked = "assert get_ipython().get_parent()['metadata']['cellId'] == "
    write(folder, "cells-have-ids", f"{asked}'c1'", f"{asked}'c2'")
    write(folder, "skipped", {"cell_type": "raw", "source": "---\nskip_exec: true\n---"}, "1 / 0")
    write(folder, "dies", "import os\nos._exit(3)")
    (folder / "test_no_notebook.py").write_text("def test_of_python(): assert False\n")
    return nbws_test(folder, "-n", "2")


def test_each_notebook_is_a_test(ran: Session) -> None:
    assert ran.outcomes == {
        "good": "PASSED",
        "cell-fails": "FAILED",
        "handler-fails": "FAILED",
        "handler-fails-at-the-end": "FAILED",
        "expected": "PASSED",
        "taken": "PASSED",
        "cells-have-ids": "PASSED",
        "skipped": "SKIPPED",
        "dies": "FAILED",
    }
    assert ran.code == 1
    assert "test_of_python" not in ran.text


def test_a_failing_cell_is_shown_with_its_line_its_traceback_and_what_it_printed(ran: Session) -> None:
    shown = ran.failure("cell-fails")
    assert "cell 2 (id c2, 'number = 1'), line 3: number / 0\nZeroDivisionError: division by zero" in shown
    assert "----> 3 number / 0" in shown
    assert "It printed:\nso far" in shown


def test_a_failing_handler_fails_the_cell_that_ran_and_is_shown_with_what_was_said(ran: Session) -> None:
    shown = ran.failure("handler-fails")
    assert (
        "A handler failed while cell 3 (id c3, 'import asyncio') ran: divide v1 on WS /ws: ZeroDivisionError" in shown
    )
    assert "cell 1 (id c1, 'from nbws.common import *'), line 6: return P(1 / n, id=\"out\")" in shown
    assert 'message: {"n": 0}' in shown
    assert re.search(
        r"What was sent and received, app 'dividing':\nclient 1 connects\s+client 1 → +\{\"n\": 0\}", shown
    )
    assert "cell 4" not in shown


def test_a_message_that_nobody_waits_for_is_handled_before_the_notebook_passes(ran: Session) -> None:
    assert "divide v1 on WS /ws: ZeroDivisionError: division by zero" in ran.failure("handler-fails-at-the-end")


def test_a_kernel_that_dies_is_named_with_its_cell(ran: Session) -> None:
    assert "cell 1 (id c1, 'import os'): the kernel died" in ran.failure("dies")


def test_what_pytest_is_told_it_does(tmp_path: Path) -> None:
    for name in ("a-works", "b-fails", "c-fails", "d-works"):
        write(tmp_path, name, "assert False" if "fails" in name else "pass")
    assert nbws_test(tmp_path, "-x", "-k", "fails").outcomes == {"b-fails": "FAILED"}


def test_a_file_that_is_no_notebook_and_a_cell_that_takes_too_long(tmp_path: Path) -> None:
    (tmp_path / "half.ipynb").write_text('{"cells": [')
    write(tmp_path, "slow", "import time\ntime.sleep(60)")
    ran = nbws_test(tmp_path, "--cell-timeout=1", "--continue-on-collection-errors")
    assert ran.code == 1
    assert re.search(r"half\.ipynb: Expecting value: line 1 column", ran.text)
    assert "cell 1 (id c1, 'import time'): took longer than 1 s" in ran.failure("slow")


def pytest_alone(folder: Path, arguments: Sequence[str]) -> str:
    command = [sys.executable, "-m", "pytest", *arguments, "-p", "no:cacheprovider"]
    return subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", timeout=60).stdout


def test_a_pytest_that_was_not_asked_to_runs_no_notebooks(tmp_path: Path) -> None:
    write(tmp_path, "good", "pass")
    assert "good.ipynb" not in pytest_alone(tmp_path, ["--collect-only", "-q"])
    assert "good.ipynb::cells" in pytest_alone(tmp_path, ["--collect-only", "-q", "-p", "nbws.pytest_plugin"])
