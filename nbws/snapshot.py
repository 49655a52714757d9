"""What a page looked like in the end: HTML with the fragments that its websockets brought, swapped in as htmx does."""

from __future__ import annotations

import re
from collections.abc import Iterable

from selectolax.lexbor import LexborHTMLParser, LexborNode

__all__ = ["after_fragments", "external_addresses", "without_scripts"]

_CONTENT_STYLES = frozenset(("innerHTML", "beforebegin", "afterbegin", "beforeend", "afterend", "textContent"))
_SCHEME = re.compile(r"^(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)


def after_fragments(page: str, fragments: Iterable[str]) -> str:
    """*page* as a browser has it once htmx has swapped in *fragments*, in order. Scripts do not run."""
    document = LexborHTMLParser(page)
    for fragment in fragments:
        for element in _elements(LexborHTMLParser(fragment, is_fragment=True, fragment_tag="template")):
            _swap(document, element)
    return document.html or ""


def without_scripts(page: str) -> str:
    """*page* with nothing in it that would run or be fetched by running."""
    document = LexborHTMLParser(page)
    for script in document.css("script, noscript, link[rel~='preload'], link[rel~='modulepreload']"):
        script.decompose()
    return document.html or ""


def external_addresses(page: str) -> list[str]:
    """The addresses of other hosts from which *page* would load something. Links do not count."""
    document = LexborHTMLParser(page)
    found = [node.attributes.get(name) for name in ("src", "poster", "data") for node in document.css(f"[{name}]")]
    found += [node.attributes.get("href") for node in document.css("link[href]")]
    return sorted({each for each in found if each and _SCHEME.match(each)})


def _elements(parsed: LexborHTMLParser) -> list[LexborNode]:
    """The elements at the top: as in htmx's ws extension, text beside them is lost."""
    found: list[LexborNode] = []
    node = parsed.root
    while node is not None:
        if node.is_element_node:
            found.append(node)
        node = node.next
    return found


def _swap(document: LexborHTMLParser, element: LexborNode) -> None:
    asked = next((element.attributes.get(name) for name in _OOB if name in element.attributes), None) or "true"
    id = element.attributes.get("id")
    style, colon, selector = asked.partition(":")
    if not colon:
        selector = f'[id="{_escaped(id)}"]' if id else ""
    if style == "true":
        style = "outerHTML"
    for name in _OOB:
        if name in element.attributes:
            del element.attrs[name]
    if not selector:
        return
    try:
        targets = document.css(selector)
    except Exception:  # a selector of htmx's own, such as `closest form`, finds nothing out of band either
        return
    for target in targets:
        _place(target, element, style)


def _place(target: LexborNode, element: LexborNode, style: str) -> None:
    if style == "none":
        return
    if style == "delete":
        target.decompose()
    elif style == "outerHTML":
        target.insert_before(element.clone())
        target.decompose()
    else:  # what is no swap of the element itself takes what is in it
        parts = _children(element.clone())
        if style in ("beforebegin", "beforeend"):
            for part in parts:
                target.insert_before(part) if style == "beforebegin" else target.insert_child(part)
        elif style == "afterend":
            for part in reversed(parts):
                target.insert_after(part)
        elif style == "afterbegin":
            first = target.first_child
            for part in parts:
                first.insert_before(part) if first is not None else target.insert_child(part)
        else:
            for old in _children(target):
                old.remove()
            for part in parts:
                target.insert_child(part)


_OOB = ("hx-swap-oob", "data-hx-swap-oob")


def _children(node: LexborNode) -> list[LexborNode]:
    found: list[LexborNode] = []
    child = node.first_child
    while child is not None:
        found.append(child)
        child = child.next
    return found


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\a ")
