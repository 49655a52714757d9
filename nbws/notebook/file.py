"""What the file of a notebook holds, and which of its cells are to be run after a save."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbws.errors import NbwsError

__all__ = ["Cell", "cells_in", "is_skipped", "text_of", "to_run"]

_NOT_EVALUATED = re.compile(r"\s*#\s*\|\s*eval\s*:?\s*false\s*", re.IGNORECASE)
_AT_THE_HEAD = re.compile(r"\s*(#\s*\||%%\w)")
_SKIPPED = re.compile(r"^(?:- )?skip_exec\s*:\s*true\s*$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Cell:
    """A cell with code that is to be run."""

    id: str
    number: int  #: among the cells with code, from 1
    source: str
    tags: tuple[str, ...] = ()

    @property
    def first_line(self) -> str:
        """The first line that says something: a directive only where there is nothing else."""
        lines = [line.strip() for line in self.source.splitlines() if line.strip()]
        return next((line for line in lines if not line.startswith("#|")), lines[0] if lines else "")

    def __str__(self) -> str:
        first = self.first_line
        return f"cell {self.number} (id {self.id}, {first if len(first) <= 60 else first[:59] + '…'!r})"


def cells_in(text: str, before: Sequence[Cell] = ()) -> list[Cell]:
    """The cells of a notebook's file that are to be run, in order: with code, and not marked `#| eval: false`.

    Cells of a file that gives them no ids have those of the cells that they were *before*. Raises json's error for a
    file that is half-written, NbwsError for what is no notebook.
    """
    notebook = json.loads(text)
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list):
        raise NbwsError("the file is no notebook of nbformat 4; open it in JupyterLab and save it again")
    coded = [cell for cell in cells if isinstance(cell, dict) and cell.get("cell_type") == "code"]
    sources = [text_of(cell.get("source")) for cell in coded]
    ids = _unique([cell.get("id") for cell in coded]) or _ids_from(before, sources)
    found = [
        Cell(id, place + 1, source, _tags(cell))
        for place, (id, source, cell) in enumerate(zip(ids, sources, coded, strict=True))
    ]
    return [cell for cell in found if cell.source.strip() and not _is_left_out(cell.source)]


def is_skipped(text: str) -> bool:
    """Whether the front matter of a notebook's file says `skip_exec: true`, as for nbdev: it is not to be run.

    Front matter is the first cell: raw, between lines of `---`, or a title with a list under it.
    """
    cells = [cell for cell in json.loads(text).get("cells", ()) if isinstance(cell, dict)]
    if not cells or cells[0].get("cell_type") == "code":
        return False
    source = text_of(cells[0].get("source")).strip()
    is_front = source.startswith("---") if cells[0].get("cell_type") == "raw" else source.startswith("# ")
    return is_front and _SKIPPED.search(source) is not None


def to_run(ran: Mapping[str, str], cells: Sequence[Cell]) -> tuple[list[Cell], list[str]]:
    """(the cells that say something else than when they *ran* last, the ids of those that are there no more)."""
    there = {cell.id for cell in cells}
    return [cell for cell in cells if ran.get(cell.id) != cell.source], [id for id in ran if id not in there]


def text_of(value: Any) -> str:
    """A text as notebooks' files have it: whole, in lines, or None where it is empty."""
    return value if isinstance(value, str) else "".join(value or ())


def _tags(cell: Mapping[str, Any]) -> tuple[str, ...]:
    metadata = cell.get("metadata")
    tags = metadata.get("tags") if isinstance(metadata, dict) else None
    return tuple(str(tag) for tag in tags) if isinstance(tags, list) else ()


def _is_left_out(source: str) -> bool:
    """Whether one of the `#|` lines at its head says so, as for nbdev; `%%magic` may stand there too."""
    for line in source.splitlines():
        if _NOT_EVALUATED.fullmatch(line):
            return True
        if line.strip() and not _AT_THE_HEAD.match(line):
            return False
    return False


def _unique(ids: Sequence[Any]) -> list[str] | None:
    """*ids*, the later one of two that are the same with a number; None where one is missing."""
    if not all(isinstance(id, str) for id in ids):
        return None
    return [id if id not in ids[:place] else f"{id}-{place}" for place, id in enumerate(ids)]


def _ids_from(before: Sequence[Cell], sources: Sequence[str]) -> list[str]:
    """Ids for cells that have none: what says the same is the same cell, and what stands in the place of one is it."""
    ids: list[str | None] = [None] * len(sources)
    matcher = difflib.SequenceMatcher(None, [cell.source for cell in before], list(sources), autojunk=False)
    for _, start, end, at, until in matcher.get_opcodes():
        for old, new in zip(range(start, end), range(at, until), strict=False):
            ids[new] = before[old].id
    taken = {cell.id for cell in before}
    numbers = (number for number in range(1, len(sources) + len(taken) + 1) if f"cell-{number}" not in taken)
    return [id if id is not None else f"cell-{next(numbers)}" for id in ids]
