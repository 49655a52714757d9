"""Tags: what is escaped, what is safe, and what htmx needs to swap a fragment out of band."""

from __future__ import annotations

import html as entities
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import HTMLResponse, RedirectResponse, StreamingResponse

from nbws.errors import RenderError
from nbws.html import (
    A,
    Br,
    Div,
    Hr,
    Img,
    Input,
    Label,
    Li,
    NotStr,
    P,
    Safe,
    Script,
    Style,
    Table,
    Tag,
    Ul,
    fragment,
    ft,
    to_xml,
)
from nbws.responses import Redirect

TEXT = st.text(st.characters(codec="utf-8"))
VOID = {"br", "hr", "img", "input", "link", "meta"}


class TopLevel(HTMLParser):
    """The top-level elements of some HTML, as a browser sees them: (tag, attributes)."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._depth = 0
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._depth == 0:
            self.elements.append((tag, dict(attrs)))
        self._depth += tag not in VOID

    def handle_endtag(self, tag: str) -> None:
        self._depth -= tag not in VOID


def top_level(html: str) -> list[tuple[str, dict[str, str | None]]]:
    return TopLevel(html).elements


def out_of_band(html: str) -> dict[str | None, str | None]:
    """id -> hx-swap-oob of each top-level element."""
    return {attrs.get("id"): attrs.get("hx-swap-oob") for _, attrs in top_level(html)}


class Foreign:
    """An element of some other library, of which only `__html__` is known."""

    def __init__(self, html: str) -> None:
        self._html = html

    def __html__(self) -> str:
        return self._html


class StandsFor:
    """An object with `__ft__`, as FastHTML's users write them."""

    def __init__(self, content: Any) -> None:
        self._content = content

    def __ft__(self) -> Any:
        return self._content


# -- text


@given(TEXT)
def test_text_is_escaped_and_reads_as_it_was_written(text: str) -> None:
    inner = str(Div(text)).removeprefix("<div>").removesuffix("</div>")
    assert "<" not in inner
    assert entities.unescape(inner) == text


@given(TEXT)
def test_an_attribute_reads_as_it_was_written(text: str) -> None:
    assert top_level(str(Div("x", title=text))) == [("div", {"title": text})]


def test_text_is_escaped_unless_it_is_marked_safe() -> None:
    assert str(P("<b>", Safe("<i>x</i>"))) == "<p>&lt;b&gt;<i>x</i></p>"


def test_notstr_is_safe_as_in_fasthtml() -> None:
    assert str(P(NotStr("<i>x</i>"))) == "<p><i>x</i></p>"


def test_text_in_lists_generators_and_what_tags_stand_for_is_escaped() -> None:
    assert "<b" not in str(Div(["<b1>", ("<b2>",)], (t for t in ["<b3>"]), StandsFor("<b4>"), b"<b5>"))


def test_text_inside_raw_text_elements_is_escaped_where_html_reads_entities() -> None:
    assert str(ft("textarea", "</textarea><b>")) == "<textarea>&lt;/textarea&gt;&lt;b&gt;</textarea>"


def test_none_renders_as_nothing_and_numbers_as_text() -> None:
    assert str(Div(None, 0, 1.5, False)) == "<div>01.5False</div>"


def test_a_script_is_not_escaped() -> None:
    assert str(Script("if (1 < 2 && 'a') go()")) == "<script>if (1 < 2 && 'a') go()</script>"


@pytest.mark.parametrize("code", ["'</script><b>'", "'</SCRIPT >'", "'<!--<script>'", "'<!-- <SCRIPT '"])
def test_nothing_in_a_script_ends_it_or_keeps_it_from_ending(code: str) -> None:
    written = str(Script(code)).removeprefix("<script>").removesuffix("</script>")
    assert "</script" not in written.lower()
    assert not ("<!--" in written and "<script" in written.lower())


def test_an_html_comment_in_a_script_is_left_alone_where_it_does_no_harm() -> None:
    assert str(Script("x = '<!-- note -->'")) == "<script>x = '<!-- note -->'</script>"


def test_a_style_is_not_escaped_and_cannot_end_early() -> None:
    assert str(Style("a > b {}")) == "<style>a > b {}</style>"
    assert str(Style("</style><b>")).count("</style") == 1


# -- elements and attributes


def test_a_tag_called_again_adds_children_and_attributes() -> None:
    assert str(Div("a", id="x")(P("b"), cls="c")) == '<div id="x" class="c">a<p>b</p></div>'


@pytest.mark.parametrize("first", ["a<", Safe("<i>a</i>"), P("a<"), ["a<", P("b")], Foreign("<i>a</i>"), None])
def test_children_added_later_render_as_they_would_have_at_once(first: Any) -> None:
    for second in ("b<", Safe("<i>b</i>"), P("b<"), ["b<", P("c")], None):
        assert str(Div(first)(second)) == str(Div(first, second))


def test_a_tag_never_changes() -> None:
    items = [Li("a")]
    ul = Ul(items, id="u")
    before = str(ul)
    items.append(Li("b"))
    ul(Li("c"), cls="more")
    assert str(ul) == before


def test_a_void_element_has_no_closing_tag() -> None:
    assert str(Div(Br(), Hr(), Img(src="a.png"))) == '<div><br><hr><img src="a.png"></div>'


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"cls": "a"}, {"class": "a"}),
        ({"klass": "a"}, {"class": "a"}),
        ({"_class": "a"}, {"class": "a"}),
        ({"fr": "a"}, {"for": "a"}),
        ({"_for": "a"}, {"for": "a"}),
        ({"hx_swap_oob": "true"}, {"hx-swap-oob": "true"}),
        ({"data_hx_boost": True}, {"data-hx-boost": "true"}),
        ({"ws_send": True}, {"ws-send": None}),
        ({"disabled": False, "title": None}, {}),
        ({"target_id": "list"}, {"hx-target": "#list"}),
        ({"cls": ["a", "b"]}, {"class": "a b"}),
        ({"style": {"color": "red", "margin": 0}}, {"style": "color:red; margin:0"}),
        ({"hx_vals": {"a": 'x"y'}}, {"hx-vals": '{"a": "x\\"y"}'}),
        ({"hx_on__after_request": "f()"}, {"hx-on--after-request": "f()"}),
        ({"_": "on click log 1"}, {"_": "on click log 1"}),
        ({"@click": "f()"}, {"@click": "f()"}),
        ({"tabindex": 0}, {"tabindex": "0"}),
    ],
)
def test_attributes_have_their_html_names(given: dict[str, Any], expected: dict[str, str | None]) -> None:
    assert top_level(str(Div(**given))) == [("div", expected)]


def test_a_dict_among_the_children_adds_attributes() -> None:
    assert str(Div({"data-x": 1}, "text")) == '<div data-x="1">text</div>'


def test_a_form_field_takes_its_name_from_its_id_as_in_fasthtml() -> None:
    assert top_level(str(Input(id="msg"))) == [("input", {"id": "msg", "name": "msg"})]
    assert top_level(str(Input(id="msg", name="text"))) == [("input", {"id": "msg", "name": "text"})]
    assert top_level(str(Div(id="msg"))) == [("div", {"id": "msg"})]


def test_a_tag_stands_for_its_id_in_another_ones_attribute() -> None:
    box = Div(id="a&b")
    assert top_level(str(P(hx_target=box))) == [("p", {"hx-target": "#a&b"})]
    assert top_level(str(Label(fr=box))) == [("label", {"for": "a&b"})]


def test_a_routed_function_stands_for_its_path_in_an_attribute() -> None:
    def rooms() -> None: ...

    rooms.route_path = "/rooms"  # type: ignore[attr-defined]
    assert str(A("rooms", href=rooms)) == '<a href="/rooms">rooms</a>'


def test_markup_in_an_attribute_cannot_leave_it() -> None:
    assert top_level(str(Div(title=Safe('a" onclick="evil()')))) == [("div", {"title": 'a" onclick="evil()'})]


@pytest.mark.parametrize("name", ["on click", 'x"', "x>", "x=y", "a/b", ""])
def test_what_is_no_attribute_name_is_refused(name: str) -> None:
    with pytest.raises(RenderError, match="is no attribute name"):
        Div(**{name: "1"})


@pytest.mark.parametrize("name", ["div onload=x", "a>b", ""])
def test_what_is_no_tag_name_is_refused(name: str) -> None:
    with pytest.raises(RenderError, match="is no tag name"):
        ft(name)


def test_an_attribute_is_found_by_its_python_and_its_html_name() -> None:
    tag = Div(cls="a", hx_get="/x")
    assert (tag.get("cls"), tag.get("class"), tag.get("hx_get"), tag.get("nothing", "?")) == ("a", "a", "/x", "?")


def test_any_capitalised_name_is_a_tag() -> None:
    from nbws.html import SlButton

    assert str(SlButton("Save")) == "<sl-button>Save</sl-button>"


def test_a_name_that_is_no_tag_is_no_attribute_of_the_module() -> None:
    import nbws.html

    with pytest.raises(AttributeError, match="nothing_here"):
        nbws.html.nothing_here


def test_a_tag_renders_as_a_cells_last_expression() -> None:
    assert Div("x")._repr_html_() == "<div>x</div>"


def test_equal_html_is_an_equal_tag() -> None:
    assert Div("x", id="a") == Div("x", id="a")
    assert Div("x") != Div("y")
    assert len({Div("x"), Div("x"), Div("y")}) == 2


def test_to_xml_gives_html_that_is_safe() -> None:
    html = to_xml(P("a<"), "b<", [P("c")])
    assert html == "<p>a&lt;</p>b&lt;<p>c</p>"
    assert str(Div(html)) == f"<div>{html}</div>"


# -- fragments


def test_each_top_level_element_with_an_id_is_marked_for_htmx() -> None:
    html, problems = fragment((Div(P("inner", id="inner"), id="a"), [Input(id="b")], Ul(id="c")))
    assert out_of_band(html) == {"a": "true", "b": "true", "c": "true"}
    assert html.count("hx-swap-oob") == 3
    assert problems == ()


def test_what_the_author_says_about_the_swap_is_kept() -> None:
    html, problems = fragment(Div("x", id="log", hx_swap_oob="beforeend"))
    assert out_of_band(html) == {"log": "beforeend"}
    assert problems == ()
    assert fragment(Li("x", hx_swap_oob="beforeend:#list")).problems == ()


@pytest.mark.parametrize(
    "content",
    [
        Li("x", id="a", data_hx_swap_oob="beforeend:#list"),
        [Li("x", id="a", data_hx_swap_oob="beforeend:#list")],
        Foreign('<li id="a" data-hx-swap-oob="beforeend:#list">x</li>'),
    ],
)
def test_the_data_spelling_of_a_swap_of_ones_own_is_one(content: Any) -> None:
    html, problems = fragment(content)
    assert html == '<li id="a" data-hx-swap-oob="beforeend:#list">x</li>'
    assert problems == ()
    assert fragment(Li("x", data_hx_swap_oob="beforeend:#list")).problems == ()


@pytest.mark.parametrize("name", ["hx-swap-oob", "data-hx-swap-oob"])
@pytest.mark.parametrize(("swap", "fix"), [("true", "outerHTML:#list"), ("innerHTML", "innerHTML:#list")])
def test_a_swap_that_names_no_target_is_reported_with_the_fix_where_there_is_no_id(
    name: str, swap: str, fix: str
) -> None:
    tag = Li("x", {name: swap})
    assert tag.swapped() is None
    for content in (tag, [tag], Foreign(str(tag))):
        html, (problem,) = fragment(content)
        assert html == str(tag)
        assert f"<li> was sent with hx-swap-oob='{swap}', which names no target" in problem
        assert f"hx_swap_oob='{fix}'" in problem


@pytest.mark.parametrize("html", ["<li hx-swap-oob>x</li>", "<li hx-swap-oob='' id=''>x</li>"])
def test_an_empty_swap_is_as_none_is(html: str) -> None:
    _, (problem,) = fragment(Foreign(html))
    assert "<li> was sent with no id" in problem


@pytest.mark.parametrize(
    "content",
    [
        Div("x"),
        (Div("x"),),
        Div("x", id=""),
        Div("x", id=True),
        Foreign("<div>x</div>"),
        Foreign("<div id>x</div>"),
        Foreign("<div id=''>x</div>"),
        StandsFor(Div("x")),
    ],
)
def test_a_top_level_element_with_no_id_is_reported_with_the_fix(content: Any) -> None:
    html, (problem,) = fragment(content)
    assert "x</div>" in html
    assert "<div>" in problem
    assert "give it the id" in problem


@pytest.mark.parametrize("content", ["a < b", ["a < b"], b"a < b", StandsFor("a < b")])
def test_top_level_text_is_escaped_and_reported_with_the_fix(content: Any) -> None:
    html, (problem,) = fragment(content)
    assert html == "a &lt; b"
    assert "'a < b'" in problem
    assert "send Div(text, id=...)" in problem


@pytest.mark.parametrize("render", [fragment, P, lambda data: to_xml([data])])
def test_bytes_that_are_no_text_are_refused_with_the_way_to_send_them(render: Any) -> None:
    with pytest.raises(RenderError, match=r"2 bytes that are no UTF-8 .* ws\.send_bytes") as error:
        render(b"\x00\xff")
    assert error.value.__suppress_context__


@pytest.mark.parametrize("render", [fragment, P])
@pytest.mark.parametrize(
    "response", [HTMLResponse("x"), RedirectResponse("/"), StreamingResponse(iter("x")), Redirect("/")]
)
def test_what_answers_a_request_is_refused_as_content(render: Any, response: Any) -> None:
    with pytest.raises(RenderError, match=r"Re\w+ answers a request, and cannot be part of what is shown; return it"):
        render(response)


def test_a_response_of_a_websocket_handler_says_what_to_return_instead() -> None:
    with pytest.raises(RenderError, match=r"HTMLResponse .* for a websocket the tags .*, or Safe\(html\)"):
        fragment([HTMLResponse("x")])


def test_top_level_text_of_foreign_html_is_reported() -> None:
    _, (problem,) = fragment(Safe("hello<p id=a>x</p>"))
    assert "'hello'" in problem


def test_blank_text_between_elements_is_no_problem() -> None:
    assert fragment(["\n", Div(id="a"), Safe("\n <p id='b'></p> \n")]).problems == ()


def test_a_number_is_shown_as_the_text_that_it_is() -> None:
    html, (problem,) = fragment(5)
    assert html == "5"
    assert "the text '5'" in problem


def test_nothing_to_show_is_an_empty_fragment() -> None:
    assert fragment(None) == ("", ())
    assert fragment([None, (), [None]]) == ("", ())


def test_a_generator_inside_what_is_sent_is_a_sequence() -> None:
    assert out_of_band(fragment(P(id=name) for name in "ab").html) == {"a": "true", "b": "true"}


@pytest.mark.parametrize("content", [{"msg": 1}, [{"msg": 1}], StandsFor({"msg": 1})])
def test_a_dict_is_no_html_and_the_error_says_what_to_send(content: Any) -> None:
    with pytest.raises(RenderError, match=r"'msg'.*no HTML.*send_json"):
        fragment(content)


@pytest.mark.parametrize(
    ("html", "marked"),
    [
        ("<div id=a>x</div>", {"a": "true"}),
        ("<DIV\n id=a>x</DIV>\r\n<p\tid='b'>y</p>", {"a": "true", "b": "true"}),
        ("<p title='a>b' id=a>x</p><p id=b></p>", {"a": "true", "b": "true"}),
        ("<!-- <p id=no> --><p id=a>x</p>", {"a": "true"}),
        ("<br id=a><input id=b><p id=c></p>", {"a": "true", "b": "true", "c": "true"}),
        ('<svg id="a"><path id="no" d="M0"/></svg><p id="b"></p>', {"a": "true", "b": "true"}),
        ("<p id=a hx-swap-oob=beforeend>x</p>", {"a": "beforeend"}),
        ("<p id=a>é<b id=no>ü</b></p>\n\n<p id=b>é</p>", {"a": "true", "b": "true"}),
        ("<script id=a>'<p id=no>'</script><p id=b></p>", {"a": "true", "b": "true"}),
        ("<tr id=a><td>1</td></tr><tr id=b><td>2</td></tr>", {"a": "true", "b": "true"}),
    ],
)
def test_foreign_html_is_marked_at_its_top_level_alone(html: str, marked: dict[str, str]) -> None:
    result, problems = fragment(Foreign(html))
    assert out_of_band(result) == marked
    assert result.replace(' hx-swap-oob="true"', "") == html
    assert problems == ()


def elements() -> st.SearchStrategy[list[Tag]]:
    attrs = st.fixed_dictionaries({}, optional={"id": st.sampled_from("abc"), "title": TEXT, "hx_swap_oob": TEXT})
    makers = st.sampled_from([Div, P, Ul, Input, Br, Table])
    leaf = st.builds(lambda make, attrs, text: make(text, **attrs), makers, attrs, TEXT)
    nested = st.recursive(
        leaf, lambda inner: st.builds(lambda a, children: Div(*children, **a), attrs, st.lists(inner, max_size=3))
    )
    return st.lists(nested, max_size=4)


@given(elements())
def test_foreign_html_is_marked_as_our_own_tags_are(tags: list[Tag]) -> None:
    own, foreign = fragment(tags), fragment([Foreign(str(tag)) for tag in tags])
    assert top_level(own.html) == top_level(foreign.html)
    assert own.problems == foreign.problems


@given(elements())
def test_marking_adds_nothing_but_the_mark(tags: list[Tag]) -> None:
    for (tag, attrs), (tag_sent, sent) in zip(top_level(to_xml(tags)), top_level(fragment(tags).html), strict=True):
        assert tag_sent == tag
        assert sent == attrs or (sent == attrs | {"hx-swap-oob": "true"} and attrs["id"])


def test_htpy_elements_are_children_and_fragments() -> None:
    htpy = pytest.importorskip("htpy")
    assert str(Div(htpy.b["x<"], id="q")) == '<div id="q"><b>x&lt;</b></div>'
    html, problems = fragment([htpy.div(id="a")["<x>"], htpy.fragment[htpy.p(id="b"), htpy.p(id="c")]])
    assert out_of_band(html) == {"a": "true", "b": "true", "c": "true"}
    assert "&lt;x&gt;" in html
    assert problems == ()
    assert len(fragment(htpy.div["x"]).problems) == 1


@pytest.fixture
def fasthtml() -> Any:
    return pytest.importorskip("fasthtml.common")


def test_fasthtml_elements_are_children_and_fragments(fasthtml: Any) -> None:
    assert "".join(str(Div(fasthtml.B("x<"))).split()) == "<div><b>x&lt;</b></div>"
    html, problems = fragment([fasthtml.Div("<x>", id="a"), (fasthtml.P("y", id="b"),)])
    assert out_of_band(html) == {"a": "true", "b": "true"}
    assert "&lt;x&gt;" in html
    assert problems == ()
    assert len(fragment(fasthtml.Div("x")).problems) == 1


def test_an_object_that_stands_for_a_fasthtml_element_is_marked(fasthtml: Any) -> None:
    html, problems = fragment(StandsFor(fasthtml.Div("x", id="a")))
    assert out_of_band(html) == {"a": "true"}
    assert problems == ()
