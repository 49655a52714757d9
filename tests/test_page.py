"""The page that a browser gets: all that it needs, and nothing from elsewhere."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import nbws
from nbws.html import Div, Link, Meta, P, Script, Style, Title
from nbws.page import STATIC, document, notice, split_head

SHIPPED = Path(nbws.__file__).parent / "static"


class Outline(HTMLParser):
    """(tag, attributes) of all elements, and the text of each by tag, under "head" and under "body"."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: dict[str, list[tuple[str, dict[str, str | None]]]] = {"": [], "head": [], "body": []}
        self.text: dict[str, str] = {}
        self._where, self._tag = "", ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[self._where].append((tag, dict(attrs)))
        self._tag = tag
        if tag in ("head", "body"):
            self._where = tag

    def handle_endtag(self, tag: str) -> None:
        if tag in ("head", "body"):
            self._where = ""

    def handle_data(self, data: str) -> None:
        self.text[self._tag] = self.text.get(self._tag, "") + data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for found in self.elements.values() for name, attrs in found if name == tag]

    def loaded(self) -> list[str]:
        """The addresses that the page loads."""
        found = self.elements["head"] + self.elements["body"]
        return [a.get("src") or a.get("href") or "" for _, a in found if a.get("src") or a.get("href")]


def page(*content: Any, title: str = "t", **options: Any) -> Outline:
    return Outline(document(content, title=title, **options))


def test_a_page_begins_with_its_doctype_and_names_its_encoding() -> None:
    html = document([P("x")], title="t")
    assert html.startswith("<!doctype html>\n<html")
    assert Outline(html).elements["head"][0] == ("meta", {"charset": "utf-8"})


def test_all_that_a_page_loads_by_itself_is_shipped() -> None:
    loaded = page(P("x")).loaded()
    assert {f"{STATIC}/htmx.min.js", f"{STATIC}/htmx-ext-ws.min.js"} <= set(loaded)
    for address in loaded:
        assert address.startswith(f"{STATIC}/")
        assert (SHIPPED / address.removeprefix(f"{STATIC}/")).is_file(), address


def test_htmx_is_loaded_before_its_extensions() -> None:
    loaded = page(P("x")).loaded()
    assert loaded.index(f"{STATIC}/htmx.min.js") < loaded.index(f"{STATIC}/htmx-ext-ws.min.js")


def test_a_page_without_extensions_loads_none() -> None:
    assert f"{STATIC}/htmx-ext-ws.min.js" not in page(P("x"), exts=()).loaded()


def test_a_page_without_default_headers_loads_nothing() -> None:
    assert page(P("x"), default_hdrs=False).loaded() == []


def test_under_a_root_path_everything_is_loaded_from_there() -> None:
    assert all(
        address.startswith(f"/user/ann/proxy/5001{STATIC}/") for address in page(root="/user/ann/proxy/5001").loaded()
    )


def test_title_and_text_are_escaped() -> None:
    outline = page("a <b>", title="</title><script>")
    assert outline.text["title"] == "</title><script>"
    assert outline.text["body"] == "a <b>"
    assert outline.named("b") == []


def test_what_belongs_into_the_head_goes_there() -> None:
    outline = page(Title("own"), P("x"), Meta(name="a"), Link(rel="b"), Style("p {}"), title="of the app")
    head = [tag for tag, _ in outline.elements["head"]]
    assert [tag for tag, _ in outline.elements["body"]] == ["p"]
    assert head.count("title") == 1
    assert outline.text["title"] == "own"
    assert {"link", "style"} <= set(head)


def test_split_head_keeps_the_order_of_both() -> None:
    title, meta, p, div = Title("t"), Meta(name="a"), P("x"), Div("y")
    assert split_head([p, title, "text", meta, div]) == ([title, meta], [p, "text", div])


def test_hdrs_come_after_what_the_page_loads_itself_and_ftrs_after_the_content() -> None:
    outline = page(P("x"), hdrs=(Script(src="/own.js"), Style("p {}")), ftrs=[Script(src="/last.js")])
    assert outline.loaded()[-2:] == ["/own.js", "/last.js"]
    assert [tag for tag, _ in outline.elements["body"]] == ["p", "script"]


def test_html_and_body_take_attributes() -> None:
    outline = page(P("x"), htmlkw={"data_theme": "dark"}, bodykw={"cls": "wide", "hx_ext": "ws"})
    assert outline.named("html") == [{"lang": "en", "data-theme": "dark"}]
    assert outline.named("body") == [{"class": "wide", "hx-ext": "ws"}]
    assert page(P("x"), htmlkw={"lang": "de"}).named("html") == [{"lang": "de"}]


def test_only_a_page_that_came_with_a_credential_is_told_to_strip_it() -> None:
    def strips(**options: Any) -> bool:
        return any("data-strips-token" in attrs for attrs in page(P("x"), **options).named("script"))

    assert strips(strips_token=True)
    assert not strips()


def test_only_a_page_that_came_with_a_ticket_talks_to_what_frames_it() -> None:
    def knows(**options: Any) -> bool:
        return any("data-knows-ticket" in attrs for attrs in page(P("x"), **options).named("script"))

    assert knows(knows_ticket=True)
    assert not knows()


@pytest.mark.parametrize("text", ["Run this cell again.", "a < b & <script>"])
def test_a_notice_says_its_text_and_needs_no_file(text: str) -> None:
    outline = Outline(notice("Run <this> cell", text))
    assert outline.loaded() == []
    assert (outline.text["title"], outline.text["h1"], outline.text["p"]) == (
        "Run <this> cell",
        "Run <this> cell",
        text,
    )
    assert outline.named("script") == []
