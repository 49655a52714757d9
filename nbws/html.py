"""Tags: Python calls that become escaped HTML at once.

    >>> Div("a < b", P("c", cls="note"), id="x")
    <div id="x">a &lt; b<p class="note">c</p></div>

A tag renders when it is called, so a list that changes later does not change it. Text is escaped unless it is
marked safe (`Safe`, or anything with `__html__`, such as FastHTML's and htpy's elements). Tags are immutable;
`tag(children, **attributes)` gives a new one with more of both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from html.parser import HTMLParser
from typing import Any, NamedTuple

import msgspec
from markupsafe import Markup, escape

from nbws.errors import RenderError

__all__ = ["Fragment", "NotStr", "Safe", "Tag", "TagMaker", "fragment", "ft", "ft_hx", "to_xml"]

try:  # what `escape` calls, which wraps each result for four times as long
    from markupsafe._speedups import _escape_inner as _escaped
except ImportError:  # markupsafe 2, or one without its C part

    def _escaped(text: str, /) -> str:
        return str(escape(text))


Safe = Markup
"""Text that is HTML already and is not escaped."""
NotStr = Markup

_VOID = frozenset(
    """
area base br col embed hr img input link meta param source track wbr
""".split()
)
_NAMED_BY_ID = frozenset(
    """
button form frame iframe input map meta object param select textarea
""".split()
)
_ALIASES = {"cls": "class", "klass": "class", "_class": "class", "htmlClass": "class"} | dict.fromkeys(
    ("fr", "_for", "htmlFor"), "for"
)
_RAW = frozenset(("script", "style"))
_JSON_ATTRIBUTES = frozenset(("hx-vals", "hx-headers", "hx-request"))
_BAD_NAME = re.compile(r"[\s\"'<>/=\x00-\x1f\x7f]")


class Tag(msgspec.Struct, eq=False, gc=False):  # a Struct is made in a third of the time
    """One rendered element. `tag`, `attrs` and `id` tell what it is; `str()` and `__html__` give the HTML."""

    tag: str
    attrs: dict[str, str | bool]
    _start: str  # '<div id="x"', without its '>'
    _inner: str

    @property
    def id(self) -> str | None:
        value = self.attrs.get("id")
        return value if isinstance(value, str) else None

    def get(self, name: str, default: Any = None) -> Any:
        """The value of an attribute, by its Python or its HTML name."""
        return self.attrs.get(_attribute_name(name), default)

    def __call__(self, *children: Any, **attributes: Any) -> Tag:
        """A new tag with these children after the present ones, and these attributes over them."""
        given = _mappings(children)
        attrs = self.attrs | _attributes(self.tag, given, attributes) if attributes or given else self.attrs
        inner = f"{self._inner}{_content(self.tag, children, given)}"  # `+` of a Markup escapes
        return Tag(self.tag, attrs, _start(self.tag, attrs), inner)

    def __html__(self) -> str:
        if self.tag in _VOID:
            return self._start + ">"
        return f"{self._start}>{self._inner}</{self.tag}>"

    __str__ = __repr__ = _repr_html_ = __html__

    def out_of_band(self) -> str:
        """The HTML as htmx 2 and htmx 4 both swap it out of band: by its id, unless it says otherwise itself."""
        return self.swapped() or self.__html__()

    def swapped(self) -> str | None:
        """The same; None where htmx would show it nowhere, as it has no id and does not say where it goes."""
        attrs = self.attrs
        id = attrs.get("id")
        if not id or id is True or "hx-swap-oob" in attrs or "data-hx-swap-oob" in attrs:
            return self.__html__() if _is_swappable(attrs) else None
        oob = f'{self._start} hx-swap-oob="true">'
        return oob if self.tag in _VOID else f"{oob}{self._inner}</{self.tag}>"

    def __eq__(self, other: object) -> bool:
        return self.__html__() == other.__html__() if isinstance(other, Tag) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.__html__())


class TagMaker:
    """The constructor of one kind of tag: `TagMaker("div")("text", id="x")`."""

    __slots__ = ("tag",)

    def __init__(self, tag: str) -> None:
        if not tag or _BAD_NAME.search(tag):
            raise RenderError(f"{tag!r} is no tag name; letters, digits and hyphens make one")
        self.tag = tag

    def __call__(self, *children: Any, **attributes: Any) -> Tag:
        tag = self.tag
        given: Sequence[Mapping[str, Any]] = ()
        if len(children) == 1 and type(children[0]) is str and tag not in _RAW:
            inner = _escaped(children[0])
        else:
            given = _mappings(children)
            inner = _content(tag, children, given)
        if not attributes and not given:
            return Tag(tag, {}, f"<{tag}", inner)
        attrs = _attributes(tag, given, attributes)
        return Tag(tag, attrs, _start(tag, attrs), inner)

    def __repr__(self) -> str:
        return f"<{self.tag}> tag"


def ft(tag: str, *children: Any, **attributes: Any) -> Tag:
    """An element of any name: `ft("sl-button", "Save", variant="primary")`."""
    return TagMaker(tag)(*children, **attributes)


ft_hx = ft


def to_xml(*content: Any) -> Markup:
    """The HTML of tags, text and sequences of them, as a page or a fragment holds it."""
    return Markup(_render(content))


class Fragment(NamedTuple):
    """What goes over a websocket: *html*, and a sentence for each top-level piece that htmx will not show."""

    html: str
    problems: tuple[str, ...]


def fragment(content: Any) -> Fragment:
    """*content* with its top-level elements marked so that htmx 2 and htmx 4 swap each out of band.

    Raises RenderError for what is no HTML, such as a dict.
    """
    if type(content) is Tag:
        html = content.swapped()
        if html is not None:
            return Fragment(html, ())
        return Fragment(content.__html__(), (_lost(content.tag, content.attrs),))
    parts: list[str] = []
    problems: list[str] = []
    for item in _top_level(content):
        if isinstance(item, Tag):
            parts.append(item.out_of_band())
            if not _is_swappable(item.attrs):
                problems.append(_lost(item.tag, item.attrs))
        elif hasattr(item, "__html__"):
            scanned = _mark_top_level(str(item.__html__()))
            parts.append(scanned.html)
            problems.extend(scanned.problems)
        else:
            parts.append(_render(item))
            if item.strip():
                problems.append(_bare_text(item))
    return Fragment("".join(parts), tuple(problems))


def swap_of(attrs: Mapping[str, Any]) -> Any:
    """What an element says itself of how it is swapped out of band, in either spelling; None or "" where nothing."""
    return attrs.get("hx-swap-oob") or attrs.get("data-hx-swap-oob")


def _is_swappable(attrs: Mapping[str, Any]) -> bool:
    id = attrs.get("id")
    if id and id is not True:
        return True
    # Without "style:target" htmx looks for the element's own id, whatever the style (`oobSwap` in htmx 2).
    own = swap_of(attrs)
    return isinstance(own, str) and own.find(":") > 0


def _lost(tag: str, attrs: Mapping[str, Any]) -> str:
    own = swap_of(attrs)
    if own and isinstance(own, str):
        own = own.unescape() if isinstance(own, Markup) else own
        style = "outerHTML" if own == "true" else own.strip(":")
        return (
            f"<{tag}> was sent with hx-swap-oob={own!r}, which names no target, and with no id, so htmx shows it "
            f"nowhere; give it the id of the element that it is for, or hx_swap_oob='{style}:#list' to name that"
        )
    return (
        f"<{tag}> was sent with no id, so htmx shows it nowhere; give it the id of the element that it replaces, "
        f"or hx_swap_oob='beforeend:#list' to add to one"
    )


def _bare_text(text: str) -> str:
    shown = text if len(text) <= 40 else text[:39] + "…"
    return f"the text {shown!r} was sent outside any element, so htmx shows it nowhere; send Div(text, id=...)"


def _top_level(content: Any) -> Iterator[Any]:
    """The items of nested sequences, in order; `__ft__` is asked for what it stands for."""
    if content is None or content is False:
        return
    if isinstance(content, Tag | str):
        yield content
    elif hasattr(content, "__ft__"):
        yield from _top_level(content.__ft__())
    elif hasattr(content, "__html__"):
        yield content
    elif isinstance(content, Mapping):
        keys = ", ".join(map(repr, list(content)[:3]))
        raise RenderError(f"a dict ({keys}) is no HTML; send a tag, text, or ws.send_json(...) for a program to read")
    elif isinstance(content, bytes):
        yield _text_of(content)
    elif isinstance(content, Iterable):
        for item in content:
            yield from _top_level(item)
    else:
        _refuse_what_is_no_content(content)
        yield str(content)


def _text_of(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise RenderError(
            f"{len(data)} bytes that are no UTF-8 are no HTML; send them as a binary frame with ws.send_bytes(...)"
        ) from None


def _refuse_what_is_no_content(value: Any) -> None:
    name = getattr(value, "__qualname__", type(value).__name__)
    if hasattr(value, "__await__"):
        raise RenderError(f"a coroutine ({name}) is no HTML; write `await {name}(...)`")
    if hasattr(value, "__anext__"):
        raise RenderError(
            f"an async generator ({name}) is no HTML; return it from the handler, or send each of its items"
        )
    if hasattr(value, "__response__"):
        raise RenderError(
            f"{name} answers a request, and cannot be part of what is shown; return it from an HTTP handler"
        )
    if hasattr(value, "raw_headers") and hasattr(value, "status_code"):  # Starlette's, of which nothing is known here
        raise RenderError(
            f"{name} answers a request, and cannot be part of what is shown; return it alone from an HTTP handler, and "
            "for a websocket the tags that are to be shown, or Safe(html)"
        )


def _render(child: Any) -> str:
    kind = type(child)
    if kind is str:
        return _escaped(child)
    if kind is Tag:
        return child.__html__()  # type: ignore[no-any-return]
    if child is None:
        return ""
    if kind is tuple or kind is list:
        return "".join(map(_render, child))
    if kind is Markup:
        return child  # type: ignore[no-any-return]
    if hasattr(child, "__ft__"):
        return _render(child.__ft__())
    if hasattr(child, "__html__"):
        return str(child.__html__())
    if isinstance(child, bytes):
        return _escaped(_text_of(child))
    if isinstance(child, Iterable) and not isinstance(child, str | Mapping):
        return "".join(map(_render, child))
    _refuse_what_is_no_content(child)
    return escape(str(child))


_NO_MAPPINGS = frozenset((str, Tag, tuple, list, Markup, int, float, type(None)))
"""Types of children of which that is known; to ask whether anything else is a Mapping takes a while."""


def _mappings(children: tuple[Any, ...]) -> list[Mapping[str, Any]]:
    """Those of *children* that are no content, but attributes."""
    return [c for c in children if type(c) not in _NO_MAPPINGS and isinstance(c, Mapping)]


def _content(tag: str, children: tuple[Any, ...], mappings: Sequence[Mapping[str, Any]]) -> str:
    if tag in _RAW:
        # Raw text in HTML: nothing is escaped there. The closing tag ends it, and "<!--" before "<script" keeps a
        # script from ending (HTML standard, 4.12.1.3 and 13.1.2).
        code = "".join(str(c) for c in children if c is not None and not isinstance(c, Mapping))
        if tag == "script" and "<script" in code.lower():
            code = code.replace("<!--", r"\u003C!--")
        return re.sub(rf"</(?={tag})", r"<\\/", code, flags=re.IGNORECASE)
    if mappings:
        children = tuple(c for c in children if not isinstance(c, Mapping))
    if len(children) == 1:
        return _render(children[0])
    return "".join(map(_render, children))


def _start(tag: str, attrs: dict[str, str | bool]) -> str:
    start = f"<{tag}"
    for name, value in attrs.items():
        start += f" {name}" if value is True else f' {name}="{value}"'
    return start


def _attributes(tag: str, mappings: Sequence[Mapping[str, Any]], attributes: dict[str, Any]) -> dict[str, str | bool]:
    """Attributes under their HTML names, values escaped; what stands as itself goes over the *mappings*."""
    result: dict[str, str | bool] = {}
    for given in (*mappings, attributes) if mappings else (attributes,):
        for name, value in given.items():
            if value is None or value is False:
                continue
            if name == "target_id":
                result["hx-target"] = f"#{escape(value)}"
                continue
            html_name = _attribute_name(name)
            if type(value) is str:
                escaped = _escaped(value)
                result[html_name] = value if escaped is value else Markup(escaped)
            else:
                result[html_name] = _attribute_value(html_name, value)
    if "id" in result and tag in _NAMED_BY_ID and "name" not in result:
        result["name"] = result["id"]
    return result


@lru_cache(maxsize=4096)
def _attribute_name(name: str) -> str:
    if _BAD_NAME.search(name) or not name:
        raise RenderError(f"{name!r} is no attribute name; it may hold no space, quote, '<', '>', '/' or '='")
    if name in _ALIASES:
        return _ALIASES[name]
    if name == "_" or not re.fullmatch(r"\w+", name):
        return name
    return name.lstrip("_").replace("_", "-")


def _attribute_value(name: str, value: Any) -> str | bool:
    if value is True:
        # htmx reads the value: an empty one is another swap
        return "true" if name.startswith(("hx-", "data-hx-")) else True
    if isinstance(value, Tag):  # stands for its id, which is escaped already
        return f"#{value.id}" if name == "hx-target" else value.id or ""
    if hasattr(value, "__html__"):
        return str(value.__html__()).replace('"', "&#34;")
    if name in _JSON_ATTRIBUTES and isinstance(value, Mapping):
        value = json.dumps(value)
    elif isinstance(value, Mapping):
        value = "; ".join(f"{k}:{v}" for k, v in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        value = " ".join(map(str, value))
    elif callable(value):
        value = getattr(value, "route_path", value)  # a routed function stands for its path
    return escape(str(value))


class _TopLevel(HTMLParser):
    """Finds where the top-level elements and texts of some foreign HTML start."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=False)
        self._line_starts = [0, *(m.end() for m in re.finditer("\n", html))]
        self._open: list[str] = []
        self.insert_at: list[int] = []
        self.problems: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._seen(tag, dict(attrs))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._seen(tag, dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if not self._open and data.strip():
            self.problems.append(_bare_text(data))

    def _seen(self, tag: str, attrs: dict[str, str | None]) -> None:
        if self._open:
            return
        if not _is_swappable(attrs):
            self.problems.append(_lost(tag, attrs))
        elif "hx-swap-oob" not in attrs and "data-hx-swap-oob" not in attrs:
            line, column = self.getpos()
            self.insert_at.append(self._line_starts[line - 1] + column + 1 + len(tag))


def _mark_top_level(html: str) -> Fragment:
    found = _TopLevel(html)
    parts: list[str] = []
    last = 0
    for position in found.insert_at:
        parts += html[last:position], ' hx-swap-oob="true"'
        last = position
    return Fragment("".join((*parts, html[last:])), tuple(found.problems))


_NAMES = """
A Abbr Address Area Article Aside Audio B Base Bdi Bdo Blockquote Body Br Button Canvas Caption Cite Code Col
Colgroup Data Datalist Dd Del Details Dfn Dialog Div Dl Dt Em Embed Fieldset Figcaption Figure Footer H1 H2 H3
H4 H5 H6 Head Header Hgroup Hr I Iframe Img Input Ins Kbd Label Legend Li Link Main Map Mark Math Menu Meta
Meter Nav Noscript Object Ol Optgroup Option Output P Param Picture Pre Progress Q Rp Rt Ruby S Samp Script
Search Section Select Slot Small Source Span Strong Style Sub Summary Sup Svg Table Tbody Td Template Textarea
Tfoot Th Thead Time Title Tr Track U Ul Var Video Wbr
""".split()

MAKERS: dict[str, Callable[..., Tag]] = {name: TagMaker(name.lower()) for name in _NAMES}
"""The plain tags by their Python names; `nbws.common` hands them on."""


def __getattr__(name: str) -> TagMaker:
    """Any capitalised name is a tag: `from nbws.html import SlButton` makes `<sl-button>`."""
    if name in MAKERS:
        return MAKERS[name]  # type: ignore[return-value]
    if not name[:1].isupper():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return TagMaker(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).replace("_", "-").lower())
