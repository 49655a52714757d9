"""HTMX frames: htmx 2 and htmx 4, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbws.errors import MessageError
from nbws.messages import NOTHING, HtmxHeaders, parse, redacted_values

TEXT = st.text(st.characters(codec="utf-8"))
NUMBERS = st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def sent(**payload: Any) -> str:
    return json.dumps(payload)


def test_htmx_2_sends_fields_beside_HEADERS() -> None:
    message = parse(sent(msg="hi", HEADERS={"HX-Request": "true", "HX-Trigger": "form"}))
    assert message.fields == {"msg": "hi"}
    assert message.headers == {"hx-request": "true", "hx-trigger": "form"}


def test_a_null_header_is_one_that_was_not_sent() -> None:
    message = parse(sent(msg="hi", HEADERS={"HX-Trigger-Name": None, "HX-Target": "log"}))
    assert message.headers == {"hx-target": "log"}


def test_repeated_fields_arrive_as_an_array() -> None:
    assert parse(sent(tag=["a", "b"], HEADERS={})).fields == {"tag": ["a", "b"]}


def test_htmx_4_sends_lower_case_headers() -> None:
    message = parse(sent(headers={"HX-Request": "true", "HX-Source": "form#f"}, msg="hi"))
    assert message.fields == {"msg": "hi"}
    assert message.headers == {"hx-request": "true", "hx-source": "form#f"}


def test_htmx_4_may_nest_the_fields_in_values() -> None:
    message = parse(sent(headers={"HX-Request": "true"}, values={"msg": "hi", "tag": ["a", "b"]}))
    assert message.fields == {"msg": "hi", "tag": ["a", "b"]}


def test_a_program_may_send_fields_named_values_and_headers() -> None:
    assert parse(sent(values={"a": 1})).fields == {"values": {"a": 1}}
    assert parse(sent(headers="none")).fields == {"headers": "none"}
    assert parse(sent(headers={"a": 1}, HEADERS={})).fields == {"headers": {"a": 1}}


def test_a_message_with_no_headers_has_none() -> None:
    assert parse(sent(msg="hi")).headers == {}


def test_null_HEADERS_are_no_headers() -> None:
    message = parse(sent(msg="hi", HEADERS=None))
    assert (message.fields, message.headers) == ({"msg": "hi"}, {})


def test_the_frame_is_kept_as_it_came() -> None:
    frame = '{ "msg":"hi" }'
    assert parse(frame).raw == frame


@given(st.dictionaries(TEXT.filter(lambda k: k.lower() != "headers"), JSON))
def test_every_json_object_arrives_as_its_fields(fields: dict[str, Any]) -> None:
    assert parse(json.dumps(fields)).fields == fields


@pytest.mark.parametrize(
    ("frame", "kind"),
    [("null", "null"), ("[1]", "array"), ("5", "number"), ("1.5", "number"), ('"x"', "string"), ("true", "boolean")],
)
def test_what_is_no_object_is_refused_by_what_it_is(frame: str, kind: str) -> None:
    with pytest.raises(MessageError, match=rf"JSON {kind}, not an object.*send fields by name"):
        parse(frame)


@pytest.mark.parametrize("frame", ["", "hi", "{", '{"a":NaN}', '{"a":1e400}', '{"a":%s}' % ("9" * 5000), "\ud800"])
def test_what_is_no_json_is_refused_and_shown(frame: str) -> None:
    with pytest.raises(MessageError, match="no JSON") as refused:
        parse(frame)
    assert repr(frame[:20])[1:-1] in str(refused.value)
    assert len(str(refused.value)) < 300


@given(st.text() | JSON.map(json.dumps))
def test_no_frame_raises_anything_but_a_message_error(frame: str) -> None:
    try:
        assert isinstance(parse(frame).fields, dict)
    except MessageError:
        pass


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_a_message_may_nest_as_deep_as_the_limit_and_no_deeper(opening: str, closing: str) -> None:
    def nested(levels: int) -> str:
        return '{"a":' + opening * (levels - 1) + "1" + closing * (levels - 1) + "}"

    assert parse(nested(5), max_depth=5).fields
    with pytest.raises(MessageError, match="deeper than 5 levels"):
        parse(nested(6), max_depth=5)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_a_hundred_thousand_levels_are_refused_like_any_other_depth(opening: str) -> None:
    closing = "]" if opening == "[" else "}"
    with pytest.raises(MessageError, match="deeper than 64 levels"):
        parse('{"a":' + opening * 100_000 + "1" + closing * 100_000 + "}")


def test_htmx_headers_are_picked_out_by_name() -> None:
    frame = sent(HEADERS={"HX-Trigger": "form", "HX-Current-URL": "http://localhost/", "HX-Prompt": None, "X-Own": "1"})
    headers = HtmxHeaders.of(parse(frame).headers)
    assert headers == HtmxHeaders(trigger="form", current_url="http://localhost/")
    assert headers


def test_a_message_that_htmx_did_not_send_has_false_htmx_headers() -> None:
    assert not HtmxHeaders.of(parse(sent(msg="hi")).headers)


def test_a_hook_has_the_message_with_nothing_in_it() -> None:
    assert (NOTHING.fields, NOTHING.headers, NOTHING.raw) == ({}, {}, "")


def test_what_redacting_takes_out_is_known_as_text_at_whichever_depth() -> None:
    frame = '{"PIN": 4711, "a": [{"pin": ["x", null, {"y": "z"}]}], "b": "pin", "HEADERS": {"pin": true}}'
    assert redacted_values(frame, {"pin"}) == {"4711", "x", "z", "True"}
    assert redacted_values(frame, ()) == set()
    assert redacted_values("no json", {"pin"}) == set()
