"""Which cells of a notebook's file are run after a save."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nbws.errors import NbwsError
from nbws.notebook.file import Cell, cells_in, is_skipped, to_run


def notebook(*cells: tuple[str | None, str] | dict[str, Any]) -> str:
    """The file of a notebook with these cells: (id, source) for one with code."""

    def written(cell: tuple[str | None, str] | dict[str, Any]) -> dict[str, Any]:
        if isinstance(cell, dict):
            return cell
        id, source = cell
        return {"cell_type": "code", "source": source, **({"id": id} if id is not None else {})}

    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "cells": list(map(written, cells))})


def test_cells_with_code_are_run_in_order_with_their_ids_and_numbers() -> None:
    markdown = {"cell_type": "markdown", "id": "m", "source": "# Chat"}
    lines = {"cell_type": "code", "id": "c", "source": ["x = 1\n", "y = 2"]}
    assert cells_in(notebook(markdown, ("a", "one"), ("blank", " \n"), lines)) == [
        Cell("a", 1, "one"),
        Cell("c", 3, "x = 1\ny = 2"),
    ]


@pytest.mark.parametrize(
    "head",
    ["#| eval: false\n", "#| echo: true\n#|eval:  False \n", "\n#| eval: false\n", "%%ws /ws\n# | eval: false\n"],
)
def test_a_cell_that_is_not_to_be_evaluated_is_left_out(head: str) -> None:
    assert cells_in(notebook(("a", head + "1/0"))) == []


@pytest.mark.parametrize("head", ["#| eval: true\n", "# eval: false\n", "x = 1\n#| eval: false\n"])
def test_only_what_stands_at_the_head_of_a_cell_counts(head: str) -> None:
    assert len(cells_in(notebook(("a", head + "1/0")))) == 1


def test_a_cell_is_called_by_its_number_its_id_and_what_it_says_first() -> None:
    (cell,) = cells_in(notebook(("a", "#| export\n\n  x = 1\n")))
    assert str(cell) == "cell 1 (id a, 'x = 1')"
    (cell,) = cells_in(notebook(("a", "#| export\n")))
    assert str(cell) == "cell 1 (id a, '#| export')"


def test_cells_that_say_something_else_are_run_and_those_that_are_gone_are_named() -> None:
    cells = cells_in(notebook(("a", "same"), ("b", "new text"), ("d", "added")))
    changed, gone = to_run({"a": "same", "b": "old text", "c": "deleted"}, cells)
    assert [cell.id for cell in changed] == ["b", "d"]
    assert gone == ["c"]
    moved = cells_in(notebook(("b", "two"), ("a", "one")))
    assert to_run({"a": "one", "b": "two"}, moved) == ([], [])


def test_cells_without_ids_are_known_by_what_they_say_and_where_they_stand() -> None:
    before = cells_in(notebook((None, "one"), (None, "two"), (None, "three")))
    assert len({cell.id for cell in before}) == 3
    one, two, three = (cell.id for cell in before)
    after = cells_in(notebook((None, "new"), (None, "one"), (None, "two, edited"), (None, "three")), before)
    assert [cell.id for cell in after][1:] == [one, two, three]
    assert after[0].id not in (one, two, three)
    again = cells_in(notebook((None, "new"), (None, "three")), after)
    assert [cell.id for cell in again] == [after[0].id, three]


def test_two_cells_of_one_id_are_two_cells() -> None:
    assert len({cell.id for cell in cells_in(notebook(("a", "one"), ("a", "two")))}) == 2


def test_a_file_that_is_half_written_is_told_from_one_that_is_no_notebook() -> None:
    whole = notebook(("a", "one"))
    for end in (0, 1, len(whole) // 2, len(whole) - 1):
        with pytest.raises(json.JSONDecodeError):
            cells_in(whole[:end])
    for other in ("[]", "{}", '{"worksheets": []}', "5"):
        with pytest.raises(NbwsError, match="no notebook of nbformat 4"):
            cells_in(other)


def test_a_cell_is_named_by_its_number_its_id_and_its_first_line() -> None:
    assert str(Cell("4f2a", 3, "\n\n  @app.ws('/ws')\nasync def f(): ...")) == "cell 3 (id 4f2a, \"@app.ws('/ws')\")"
    assert len(str(Cell("4f2a", 3, "x" * 500))) < 100


def test_front_matter_says_that_a_notebook_is_not_to_be_run() -> None:
    def notebook(kind: str, source: str) -> str:
        return json.dumps({"cells": [{"cell_type": kind, "source": source}]})

    assert is_skipped(notebook("raw", "---\ntitle: x\nskip_exec: true\n---"))
    assert is_skipped(notebook("markdown", "# Title\n\n> what it is\n\n- skip_exec: true"))
    assert not is_skipped(notebook("raw", "---\nskip_exec: false\n---"))
    assert not is_skipped(notebook("markdown", "skip_exec: true"))
    assert not is_skipped(notebook("code", "# of code\nskip_exec: true"))
    assert not is_skipped('{"cells": []}')
