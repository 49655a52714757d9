"""Pages that were served, and open ones held against what their code makes of them now."""

from __future__ import annotations

import asyncio
from typing import Any

from nbws.pages import OpenPage, Pages, Served


def served(html: str, made_by: Any = 0) -> Served:
    return Served(f"digest of {html}", html, made_by)


class Code:
    """What makes a page: `made_by` and `html` are set, `made` counts."""

    def __init__(self) -> None:
        self.made_by, self.html, self.made = 0, "one", 0

    async def render(self) -> Served | None:
        self.made += 1
        return served(self.html, self.made_by) if self.html else None

    def opened(self, has: Served | None) -> OpenPage:
        return OpenPage(has, lambda: self.made_by, self.render)


def change(page: OpenPage) -> tuple[str | None, str] | None:
    found = asyncio.run(page.change())
    return (found[0].html if found[0] else None, found[1].html) if found is not None else None


def test_a_page_is_not_made_anew_while_its_code_is_the_same() -> None:
    code = Code()
    page = code.opened(served("one"))
    code.html = "another at each request"
    assert change(page) is None
    assert code.made == 0


def test_a_page_that_comes_out_differently_is_told_once_with_what_it_was() -> None:
    code = Code()
    page = code.opened(served("one"))
    code.made_by, code.html = 1, "two"
    assert change(page) == ("one", "two")
    assert change(page) is None
    code.made_by, code.html = 2, "three"
    assert change(page) == ("two", "three")


def test_other_code_that_makes_the_same_page_is_not_told() -> None:
    code = Code()
    page = code.opened(served("one"))
    code.made_by = 1
    assert change(page) is None
    assert change(page) is None
    assert code.made == 1


def test_a_page_that_cannot_be_made_stays_until_its_code_changes_again() -> None:
    code = Code()
    page = code.opened(served("one"))
    code.made_by, code.html = 1, ""
    assert change(page) is None
    assert change(page) is None
    assert code.made == 1
    code.made_by, code.html = 2, "two"
    assert change(page) == ("one", "two")


def test_a_page_that_changes_what_it_reads_is_not_made_again_and_again() -> None:
    code = Code()
    page = code.opened(served("one"))

    async def render() -> Served:
        code.made_by += 1
        code.made += 1
        return served("one", code.made_by)

    page._render = render
    code.made_by += 1
    assert (change(page), change(page), code.made) == (None, None, 1)


def test_a_page_of_another_process_is_made_once() -> None:
    code = Code()
    page = code.opened(None)
    assert change(page) == (None, "one")
    assert change(page) is None


def test_few_pages_are_remembered_the_last_ones() -> None:
    pages = Pages()
    for n in range(40):
        pages.remember(served(str(n)))
    assert pages.get("digest of 7") is None
    assert pages.get("digest of 8") == served("8")
    large = "x" * (5 * 1024 * 1024)
    pages.remember(served(large))
    pages.remember(served(large + "y"))
    assert pages.get(f"digest of {large}") is None
    assert pages.get(f"digest of {large}y") is not None
