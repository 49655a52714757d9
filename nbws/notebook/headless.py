"""A notebook run from top to bottom in a kernel of its own, as JupyterLab would run it, and held to account."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_core.utils import ensure_async
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat.v4 import new_code_cell, new_notebook

from nbws.notebook.file import Cell

__all__ = ["NotebookFailure", "Ran", "run_notebook"]

_EXPECTED = "handler-raises"  #: the tag of a cell in which handlers may fail
_ANSWER_SECONDS = 20.0  #: that a kernel whose cell has ended may take
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
_LOADED = "__import__('sys').modules.get('nbws.notebook.kernel')"
_CHECKING = "__import__('importlib').import_module('nbws.notebook.checking')"


class NotebookFailure(AssertionError):
    """What went wrong in a notebook, told in full: the cell, the line, the traceback, what was said."""


@dataclass(frozen=True)
class Ran:
    """What came of a notebook that was run. *answer* is what was asked for at the end; None where nothing was."""

    outputs: dict[str, list[Any]]  #: by the cell's id, as nbformat has them
    counts: dict[str, int]  #: execution counts, by the cell's id
    answer: Any = None


async def run_notebook(
    path: Path,
    cells: Sequence[Cell],
    *,
    cell_seconds: int | None = 120,
    before: str = "",
    after: str = "",
    ask: str = "",
    begins: Callable[[Cell], None] = lambda cell: None,
) -> Ran:
    """Run *cells* of the notebook at *path* in one kernel, in its folder. None lets a cell take any time.

    *before* and *after* is code that runs unseen before the first cell and after the last one; *ask* is an expression,
    worth a text of JSON, that is asked once the apps have stopped. *begins* is told of each cell before it runs.

    Raises NotebookFailure for a cell that fails, and for a handler that fails unexpectedly: neither the cell that ran
    nor the one that holds the line is tagged `handler-raises`, and the cell left the error in `app.errors`.
    """
    notebook = new_notebook(cells=[_as_node(cell) for cell in cells])  # type: ignore[no-untyped-call]
    client = NotebookClient(
        notebook,
        timeout=cell_seconds,
        kernel_name="python3",  # of this environment, whatever the kernel was called where the notebook was saved
        resources={"metadata": {"path": str(path.parent)}},
        coalesce_streams=True,
        extra_arguments=["--log-level=CRITICAL"],  # each says that TCP on loopback is not encrypted, and how it ended
    )
    client.km = client.create_kernel_manager()
    client.km.client_factory = _Client
    # ipykernel's debugger says on stderr, for each kernel, that frozen modules may make it miss breakpoints.
    env = {**os.environ, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    async with client.async_setup_kernel(env=env):
        problems: list[str] = []
        answer = None
        try:
            if before:
                await _ask(client, code=before)
            for index in range(len(cells)):
                begins(cells[index])
                problems = await _run_cell(client, cells, index)
                if problems:
                    break
            else:
                if after:
                    await _ask(client, code=after)
                await _ask(client, code=f"{_LOADED} and {_CHECKING}.stop()")
                problems = await _handler_errors(client, cells, "after the last cell")
                answer = await _ask(client, ask) if ask and not problems else None
        except DeadKernelError:
            raise NotebookFailure(f"{cells[index]}: the kernel died") from None
        if problems:
            raise NotebookFailure("\n\n".join([*problems, *await _transcripts(client)]))
    nodes = list(zip(cells, client.nb.cells, strict=True))
    counts = {cell.id: node.execution_count for cell, node in nodes if node.execution_count}
    return Ran({cell.id: [dict(each) for each in node.outputs] for cell, node in nodes}, counts, answer)


class _Client(AsyncKernelClient):
    """Says with each request which cell it is of, as JupyterLab does: hot swap knows a cell by that."""

    cell: str | None = None

    def execute(
        self,
        code: str,
        silent: bool = False,
        store_history: bool = True,
        user_expressions: dict[str, Any] | None = None,
        allow_stdin: bool | None = None,
        stop_on_error: bool = True,
    ) -> str:
        content = {
            "code": code,
            "silent": silent,
            "store_history": store_history,
            "user_expressions": user_expressions or {},
            "allow_stdin": False,
            "stop_on_error": False,  # else what is asked after a cell that failed may be aborted
        }
        metadata = {} if self.cell is None else {"cellId": self.cell}
        message = self.session.msg("execute_request", content, metadata=metadata)
        self.shell_channel.send(message)
        return str(message["header"]["msg_id"])


def _kernel(client: NotebookClient) -> _Client:
    assert isinstance(client.kc, _Client)
    return client.kc


def _as_node(cell: Cell) -> Any:
    metadata = {"tags": list(cell.tags)}
    return new_code_cell(cell.source, id=cell.id, metadata=metadata)  # type: ignore[no-untyped-call]


async def _run_cell(client: NotebookClient, cells: Sequence[Cell], index: int) -> list[str]:
    """What is wrong with it; nothing where all is well."""
    cell, problems = cells[index], []
    _kernel(client).cell = cell.id
    try:
        await client.async_execute_cell(client.nb.cells[index], index)
    except CellExecutionError as exc:
        problems = [_cell_error(cell, client.nb.cells[index], exc)]
    except CellTimeoutError:
        problems = [f"{cell}: took longer than {client.timeout} s"]
        assert client.km is not None
        await ensure_async(client.km.interrupt_kernel())
    finally:
        _kernel(client).cell = None
    of_handlers = await _handler_errors(client, cells, f"while {cell} ran")
    return problems + (of_handlers if _EXPECTED not in cell.tags else [])


def _cell_error(cell: Cell, ran: Any, error: CellExecutionError) -> str:
    shown = next((each for each in ran.outputs if each.output_type == "error"), None)
    trace = _ESCAPES.sub("", "\n".join(shown.traceback if shown is not None else [str(error)]))
    numbers = re.findall(rf"(?:Cell|Input) In ?\[{ran.execution_count}\], line (\d+)", trace)
    where = _line(int(numbers[-1]), cell.source) if numbers else ""
    printed = "".join(each.text for each in ran.outputs if each.output_type == "stream")
    parts = [f"{cell}{where}\n{error.ename}: {error.evalue}", trace.rstrip()]
    return "\n\n".join([*parts, *([f"It printed:\n{printed.rstrip()}"] if printed.strip() else [])])


async def _handler_errors(client: NotebookClient, cells: Sequence[Cell], when: str) -> list[str]:
    found = await _ask(client, f"{_LOADED} and {_CHECKING}.look()") or {"errors": [], "more": 0}
    by_count = {node.execution_count: cell for node, cell in zip(client.nb.cells, cells, strict=True)}
    told = []
    for error in found["errors"]:
        cell = by_count.get(error["count"])
        if cell is not None and _EXPECTED in cell.tags:
            continue
        place = f"\n{cell}{_line(error['line'], cell.source)}" if cell is not None else ""
        text = f"A handler failed {when}: {error['title']}{place}\nmessage: {error['message']}\n\n{error['traceback']}"
        told.append(text.rstrip())
    return told + ([f"… and {found['more']} more errors of handlers"] if found["more"] else [])


async def _transcripts(client: NotebookClient) -> list[str]:
    try:
        found = await _ask(client, f"{_LOADED} and {_CHECKING}.look(transcripts=True)")
    except (DeadKernelError, TimeoutError):
        return ["What was sent and received is not known: the kernel does not answer."]
    texts = []
    for each in (found or {}).get("transcripts", []):
        name = f", app {each['app']!r}" if each["app"] else ""
        lines = [f"(… {each['left_out']} lines before)"] if each["left_out"] else []
        texts.append("\n".join([f"What was sent and received{name}:", *lines, *each["lines"]]))
    return texts


def _line(number: int, source: str) -> str:
    lines = source.splitlines()
    return f", line {number}: {lines[number - 1].strip()}" if 0 < number <= len(lines) else f", line {number}"


async def _ask(client: NotebookClient, expression: str = "''", *, code: str = "") -> Any:
    """Run *code*, and give what *expression* is worth then, unseen by the notebook; None where it cannot be told."""
    request = _kernel(client).execute(code, silent=True, store_history=False, user_expressions={"answer": expression})
    reply = await asyncio.wait_for(client.async_wait_for_reply(request), _ANSWER_SECONDS)
    answer = ((reply or {}).get("content", {}).get("user_expressions") or {}).get("answer", {})
    text = ast.literal_eval(answer["data"]["text/plain"]) if answer.get("status") == "ok" else None
    return json.loads(text) if text else None
