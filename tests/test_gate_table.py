"""Every Host x Origin x credential x route, http and websocket, asked of a running app; the tables of the docs."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

import gate_table
import pytest
from clients import running
from gate_table import PASSES, TOKEN, Cell, app_with, asked, every_cell, expected, some_cells
from starlette.requests import HTTPConnection


def wrong_of(cells: list[Cell], in_notebook: bool) -> list[str]:
    """What the app did otherwise than the rules say."""
    reached: set[int] = set()

    def note(request: HTTPConnection) -> None:
        reached.add(int(request.headers["x-cell"]))
        assert not in_notebook or TOKEN not in f"{request.scope}{request.url}{request.cookies}"

    app = app_with(in_notebook=in_notebook, reached=note)
    with running(app):
        answers = asyncio.run(asyncio.wait_for(asked(app, cells), 100))
    assert not app.errors
    wrong, verdicts = [], Counter[str]()
    for number, (cell, answer) in enumerate(zip(cells, answers, strict=True)):
        verdict = expected(cell, asks_for_credential=in_notebook)
        verdicts[verdict] += 1
        status = (not in_notebook and cell.route.status_of_script) or cell.route.status
        if verdict == PASSES:
            has_handler = status in (200, 101) and "/_nbws/" not in cell.route.path
            is_right = answer.status == status and (number in reached) == has_handler
            is_right = is_right and (answer.verdict == PASSES or status >= 400)
        else:
            says = answer.verdict == verdict or cell.route.is_bodiless
            is_right = says and answer.status == (400 if verdict == "malformed" else 403)
            is_kept = dict(answer.headers).get("cache-control") != "no-store" and not answer.is_of_websockets
            is_right = is_right and not is_kept and number not in reached and TOKEN not in str(answer)
        if any(name.startswith("access-control-") for name, _ in answer.headers):
            is_right = False
        if not is_right:
            wrong.append(f"{cell}: {verdict}, but {answer}")
    assert min(verdicts.values()) > 10  # each verdict is seen
    return wrong


@pytest.mark.parametrize("in_notebook", [True, False], ids=["notebook", "script"])
def test_every_request_is_answered_as_the_rules_say(in_notebook: bool) -> None:
    assert wrong_of(every_cell(), in_notebook) == []


@pytest.mark.parametrize("in_notebook", [True, False], ids=["notebook", "script"])
def test_so_it_is_where_httptools_is_not_installed(in_notebook: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn.protocols.http.httptools_impl", None)
    assert wrong_of(some_cells(), in_notebook) == []


@pytest.mark.parametrize("name", gate_table.TABLES)
def test_the_tables_of_the_docs_are_those_of_the_code(name: str) -> None:
    made = gate_table.TABLES[name]()
    assert gate_table.in_docs(name) == made, "python tests/gate_table.py --write brings them up to date"
