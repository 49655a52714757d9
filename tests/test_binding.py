"""What a handler's parameters are filled from, and what cannot work and says so where it is defined."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import inspect
import json
import types
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Generic, Literal, NamedTuple, TypedDict, TypeVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbws.binding import RESERVED, Bound, Call, Kind, binary_refused, compile_handler
from nbws.errors import MISSING, BindError, DefinitionError, MessageError
from nbws.messages import NOTHING, HtmxHeaders, Message, parse


class Socket:
    def __init__(self) -> None:
        self.session: Any = {"user": "ann"}
        self.scope: Any = {"auth": "ann", "path": "/chat"}

    def send(self, content: Any) -> None: ...


class Application:
    state = types.SimpleNamespace(n=1)


@dataclasses.dataclass
class Move:
    x: int
    y: int = 0


class Form(TypedDict):
    x: int


class Pair(NamedTuple):
    x: int


class Step(msgspec.Struct):
    x: int


class Camel(msgspec.Struct, rename="camel"):
    from_row: int


T = TypeVar("T")


@dataclasses.dataclass
class Page(Generic[T]):
    first: T


INJECTED = {Socket: "ws", Application: "app"}


def compiled(fn: Callable[..., Any], *path: str, refused: dict[str, str] | None = None) -> Bound:
    return compile_handler(fn, path_params=path, types_by_name=INJECTED, refused=refused)


def call(
    fields: dict[str, Any] | None = None,
    *,
    path: dict[str, Any] | None = None,
    query: dict[str, list[str]] | None = None,
    headers: dict[str, Any] | None = None,
    raw: str | bytes = "",
    conn: Any = None,
    app: Any = None,
) -> Call:
    return Call(conn, app, path or {}, query or {}, Message(fields or {}, headers or {}, raw))


def received(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What *fn*, a handler that returns its arguments, gets from a `call` of these arguments."""
    made = call(*args, **kwargs)
    bound = compiled(fn, *made.path)
    positional, named = bound.bind(made)
    return bound.fn(*positional, **named)


def refused(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> BindError:
    with pytest.raises(BindError) as error:
        received(fn, *args, **kwargs)
    return error.value


# -- by reserved name


def test_a_reserved_name_chooses_its_argument() -> None:
    def handler(send, data, ws, session, sess, scope, app, state, auth, htmx, req, request):  # type: ignore[no-untyped-def]
        return locals()

    socket, app = Socket(), Application()
    got = received(handler, {"msg": "hi"}, headers={"hx-trigger": "f"}, conn=socket, app=app)
    assert got == {
        "send": socket.send,
        "data": {"msg": "hi"},
        "ws": socket,
        "session": socket.session,
        "sess": socket.session,
        "scope": socket.scope,
        "app": app,
        "state": app.state,
        "auth": "ann",
        "htmx": HtmxHeaders(trigger="f"),
        "req": socket,
        "request": socket,
    }
    assert set(got) == RESERVED


@pytest.mark.parametrize("name", sorted(RESERVED - {"data"}))
def test_a_message_field_never_stands_in_for_a_reserved_name(name: str) -> None:
    namespace: dict[str, Any] = {}
    exec(f"def handler({name}): return {name}", namespace)
    assert received(namespace["handler"], {name: "forged"}, conn=Socket(), app=Application()) != "forged"


def test_a_reserved_name_stays_one_whatever_its_annotation() -> None:
    def handler(session: dict, app: Any, state: str, request: int) -> Any:  # type: ignore[type-arg]
        return session, app, state, request

    socket, app = Socket(), Application()
    fields = {"session": "forged", "app": "forged", "state": "forged", "request": "5"}
    assert received(handler, fields, conn=socket, app=app) == (socket.session, app, app.state, socket)


def test_a_name_that_is_only_like_a_reserved_one_is_a_field() -> None:
    def handler(s: str, sender: str, Data: str) -> Any:
        return s, sender, Data

    assert received(handler, {"s": "a", "sender": "b", "Data": "c"}) == ("a", "b", "c")


def test_auth_is_none_where_nobody_set_it() -> None:
    socket = Socket()
    socket.scope = {}
    assert received(lambda auth: auth, conn=socket) is None


# -- by type


def test_a_type_chooses_its_argument_whatever_its_name() -> None:
    def handler(a: Socket, b: Application, c: HtmxHeaders, d: dict, e: dict[str, Any]) -> Any:  # type: ignore[type-arg]
        return a, b, c, d, e

    socket, app = Socket(), Application()
    fields = {"trigger": "forged", "x": "1"}
    got = received(handler, fields, headers={"hx-trigger": "f"}, conn=socket, app=app)
    assert got == (socket, app, HtmxHeaders(trigger="f"), fields, fields)


def test_a_subclass_of_a_known_type_is_known() -> None:
    class Sub(Socket): ...

    def handler(a): ...  # type: ignore[no-untyped-def]

    handler.__annotations__ = {"a": Sub}
    socket = Sub()
    assert compiled(handler).bind(call(conn=socket)) == ([], {"a": socket})


@pytest.mark.parametrize(("model", "expected"), [(Move, Move(1)), (Form, {"x": 1}), (Pair, Pair(1)), (Step, Step(1))])
def test_a_model_is_filled_from_the_fields_and_extra_ones_are_ignored(model: Any, expected: Any) -> None:
    def handler(move):  # type: ignore[no-untyped-def]
        return move

    handler.__annotations__ = {"move": model}
    assert received(handler, {"x": "1", "other": "?"}) == expected


def test_a_struct_that_renames_its_fields_and_a_generic_dataclass_are_filled() -> None:
    def handler(camel: Camel | None, page: Page[int]) -> Any:
        return camel, page

    assert received(handler, {"fromRow": "5", "first": "1"}) == (Camel(5), Page(1))
    assert received(handler, {"from_row": "5", "first": "1"}) == (None, Page(1))
    assert str(refused(handler, {"first": "x"})).startswith("handler: page.first is 'x', not int")


def test_data_may_be_a_model() -> None:
    def handler(data: Move) -> Any:
        return data

    assert received(handler, {"x": "1"}) == Move(1)


def test_data_may_be_a_model_or_none() -> None:
    def handler(data: Move | None = None) -> Any:
        return data

    def without_default(data: Move | None) -> Any:
        return data

    for fn in (handler, without_default):
        assert received(fn, {"x": "1"}) == Move(1)
        assert received(fn, {"other": 1}) is None


def test_data_as_bytes_is_the_binary_frame() -> None:
    def handler(data: bytes) -> Any:
        return data

    assert compiled(handler).takes_binary
    assert received(handler, raw=b"\x00\xff") == b"\x00\xff"
    assert received(handler, raw="text") == b"text"


def test_data_as_bytes_or_none_is_none_for_a_text_frame() -> None:
    def handler(data: bytes | None, msg: str = "") -> Any:
        return data, msg

    assert compiled(handler).takes_binary
    assert received(handler, raw=b"\x00") == (b"\x00", "")
    assert received(handler, {"msg": "hi"}, raw='{"msg": "hi"}') == (None, "hi")


def test_data_as_str_is_the_frame_as_it_came() -> None:
    def handler(data: str) -> Any:
        return data

    assert not compiled(handler).takes_binary
    assert received(handler, {"a": 1}, raw='{"a": 1}') == '{"a": 1}'


def test_a_binary_frame_for_a_text_handler_says_what_to_add() -> None:
    error = binary_refused("chat", 5)
    assert isinstance(error, MessageError)
    assert "5 bytes" in str(error)
    assert "add data: bytes" in str(error)


# -- by name


def x_of(x: str = "default") -> str:
    return x


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ({"path": {"x": "path"}, "fields": {"x": "field"}, "query": {"x": ["query"]}}, "path"),
        ({"fields": {"x": "field"}, "query": {"x": ["query"]}}, "field"),
        ({"query": {"x": ["query"]}}, "query"),
        ({}, "default"),
        ({"fields": {"y": "other"}, "headers": {"x": "header", "hx-x": "header"}}, "default"),
    ],
)
def test_a_parameter_is_looked_up_in_path_then_field_then_query_then_default(places: Any, expected: str) -> None:
    assert received(x_of, **places) == expected


def hx_trigger_of(hx_trigger: str = "default") -> str:
    return hx_trigger


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ({"fields": {"hx_trigger": "field"}, "headers": {"hx-trigger": "header"}}, "field"),
        ({"query": {"hx_trigger": ["query"]}, "headers": {"hx-trigger": "header"}}, "query"),
        ({"headers": {"hx-trigger": "header"}}, "header"),
        ({"headers": {"trigger": "other"}}, "default"),
    ],
)
def test_an_htmx_header_comes_after_field_and_query_and_before_the_default(places: Any, expected: str) -> None:
    assert received(hx_trigger_of, **places) == expected


def test_a_null_htmx_header_leaves_the_default() -> None:
    message = parse('{"HEADERS": {"HX-Trigger": null}}')
    assert compiled(hx_trigger_of).bind(Call(None, None, {}, {}, message)) == ([], {"hx_trigger": "default"})


def optional_hx_trigger_of(hx_trigger: str | None) -> str | None:
    return hx_trigger


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ('{"HEADERS": {"HX-Trigger": "form"}}', "form"),
        ('{"HEADERS": {"HX-Trigger": null}}', None),
        ('{"HEADERS": {}}', None),
        ('{"headers": {"HX-Trigger": null}}', None),
        ("{}", None),
    ],
)
def test_an_htmx_header_that_may_be_none_is_none_where_htmx_says_nothing(frame: str, expected: str | None) -> None:
    bound = compiled(optional_hx_trigger_of)
    assert bound.bind(Call(None, None, {}, {}, parse(frame))) == ([], {"hx_trigger": expected})
    assert bound.bind(call())[1] == {"hx_trigger": None}


def test_a_field_that_may_be_none_is_missing_where_it_is_absent() -> None:
    def handler(msg: str | None) -> None: ...

    assert refused(handler).got is MISSING


def test_an_htmx_header_that_may_not_be_none_is_missing_where_htmx_says_nothing() -> None:
    def handler(hx_trigger: str) -> None: ...

    assert refused(handler).got is MISSING


def test_a_cookie_never_stands_in_for_a_field() -> None:
    socket = Socket()
    socket.cookies = {"x": "cookie"}  # type: ignore[attr-defined]
    socket.scope = {"headers": [(b"cookie", b"x=cookie")]}
    headers = {"cookie": "x=cookie", "x": "header"}
    assert received(x_of, conn=socket, headers=headers) == "default"


def test_a_field_that_is_empty_is_not_one_that_is_missing() -> None:
    assert received(x_of, {"x": ""}, query={"x": ["query"]}) == ""


def test_a_null_is_the_default_of_what_takes_no_none() -> None:
    def handler(x: str = "a", n: int = 3, tags: list[str] = ["b"], on: bool = True) -> Any:  # noqa: B006
        return x, n, tags, on

    nulls = dict.fromkeys(("x", "n", "tags", "on"))
    assert received(handler, nulls, query={"n": ["7"]}) == ("a", 3, ["b"], True)


def test_a_null_is_none_for_what_takes_it_whatever_the_default() -> None:
    def handler(x: str | None = "a", y: Any = "b", z: Literal["c", None] = "c") -> Any:
        return x, y, z

    assert received(handler, dict.fromkeys("xyz")) == (None, None, None)


def test_a_field_may_be_spelled_with_hyphens() -> None:
    def handler(first_name: str) -> Any:
        return first_name

    assert received(handler, {"first-name": "ann"}) == "ann"
    assert received(handler, query={"first-name": ["ann"]}) == "ann"


def test_repeated_fields_and_repeated_query_parameters_are_a_list() -> None:
    def handler(tag: list[int]) -> Any:
        return tag

    assert received(handler, {"tag": ["1", "2"]}) == [1, 2]
    assert received(handler, {"tag": "1"}) == [1]
    assert received(handler, query={"tag": ["1", "2"]}) == [1, 2]


def test_of_repeated_query_parameters_a_single_value_is_the_last() -> None:
    assert received(x_of, query={"x": ["a", "b"]}) == "b"


def test_values_are_converted_to_the_annotation_wherever_they_come_from() -> None:
    def handler(n: int) -> Any:
        return n

    assert received(handler, path={"n": "5"}) == 5
    assert received(handler, {"n": "5"}) == 5
    assert received(handler, query={"n": ["5"]}) == 5


def test_a_path_parameter_fills_a_field_of_a_model_and_wins() -> None:
    def handler(move: Move) -> Any:
        return move

    bound = compiled(handler, "x")
    assert bound.bind(call({"x": "9", "y": "2"}, path={"x": "1"})) == ([], {"move": Move(1, 2)})


def test_a_default_is_handed_on_as_it_is() -> None:
    marker = object()

    def handler(x: int = marker) -> Any:  # type: ignore[assignment]
        return x

    assert received(handler) is marker


def test_positional_only_and_keyword_only_parameters_are_filled() -> None:
    def handler(a: str, /, b: str, *, c: str) -> Any:
        return a, b, c

    assert received(handler, {"a": "1", "b": "2", "c": "3"}) == ("1", "2", "3")


def test_a_hook_which_has_no_message_gets_path_query_and_defaults() -> None:
    def joined(ws, room: str, name: str = "anon"):  # type: ignore[no-untyped-def]
        return room, name

    bound = compiled(joined, "room")
    _, named = bound.bind(Call("socket", None, {"room": "lobby"}, {"name": ["ann"]}, NOTHING))
    assert named == {"ws": "socket", "room": "lobby", "name": "ann"}


# -- what arrives and does not fit


def move(x: int) -> None: ...


def test_an_error_says_what_arrived_what_was_expected_and_what_to_do() -> None:
    error = refused(move, {"x": "ten"})
    assert str(error) == "move: x is 'ten', not int; send digits or annotate x: str"
    assert (error.handler, error.parameter, error.got, error.want) == ("move", "x", "ten", "int")


def test_a_missing_field_is_named_with_what_to_send_or_to_write() -> None:
    error = refused(move, {"y": "1"})
    assert str(error) == "move: x is missing; send a field named x, or give it a default: x: int = ..."
    assert error.got is MISSING


def test_repeated_fields_for_one_value_say_how_to_take_them() -> None:
    assert "annotate x: list[int]" in str(refused(move, {"x": ["1", "2"]}))


@pytest.mark.parametrize("value", [False, {"a": 1}, None, "5.5", "", 5.5])
def test_what_is_no_int_is_refused_and_shown(value: Any) -> None:
    error = refused(move, {"x": value})
    assert error.got == value
    assert repr(value) in str(error)
    assert "send digits" in str(error)


def test_an_error_inside_a_model_names_the_field() -> None:
    def handler(step: Move) -> None: ...

    assert str(refused(handler, {"x": "ten"})).startswith("handler: step.x is 'ten', not int; send digits")
    assert "step.x is missing; send a field named x" in str(refused(handler, {}))


def test_an_error_from_the_path_and_from_the_query_is_the_same_kind() -> None:
    assert refused(move, path={"x": "ten"}).got == "ten"
    assert refused(move, query={"x": ["ten"]}).got == "ten"


def test_a_bind_error_is_a_message_error() -> None:
    assert isinstance(refused(move), MessageError)


# -- what cannot work


def rejected(fn: Any, *path: str, **options: Any) -> str:
    with pytest.raises(DefinitionError) as error:
        compiled(fn, *path, **options)
    return str(error.value)


def test_a_parameter_with_neither_annotation_nor_reserved_name_says_what_to_write() -> None:
    def chat(msg, send): ...  # type: ignore[no-untyped-def]

    text = rejected(chat)
    assert text.startswith("chat: msg has neither an annotation nor a reserved name; write msg: str")
    assert all(name in text for name in RESERVED)


def test_a_default_does_not_stand_in_for_an_annotation() -> None:
    def chat(msg="hi"): ...  # type: ignore[no-untyped-def]

    assert "write msg: str" in rejected(chat)


def test_a_path_parameter_needs_an_annotation_too() -> None:
    def chat(room): ...  # type: ignore[no-untyped-def]

    assert "write room: str" in rejected(chat, "room")


def test_star_arguments_say_to_name_the_parameters() -> None:
    def chat(*args: Any, **kwargs: Any) -> None: ...

    text = rejected(chat)
    assert text.startswith("chat: *args")
    assert "name the parameters" in text


def test_an_annotation_that_is_not_defined_is_named() -> None:
    def chat(move: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    text = rejected(chat)
    assert "Nowhere" in text
    assert "define it first" in text


def test_what_is_no_function_is_refused() -> None:
    assert "'chat' is no function" in rejected("chat")


def test_a_reserved_name_that_means_nothing_here_says_why() -> None:
    def page(send): ...  # type: ignore[no-untyped-def]

    assert rejected(page, refused={"send": "is for websockets"}) == "page: send is for websockets"


def test_a_type_that_no_message_can_hold_is_refused_in_the_definition() -> None:
    def chat(x: "5"): ...  # type: ignore[no-untyped-def]  # noqa: UP037

    assert rejected(chat).startswith("chat: ")


# -- what a handler may be


def test_the_kind_of_a_handler_tells_how_it_is_run() -> None:
    def plain(): ...  # type: ignore[no-untyped-def]
    async def coroutine(): ...  # type: ignore[no-untyped-def]
    def generator() -> Iterator[int]:
        yield 1

    async def async_generator() -> AsyncIterator[int]:
        yield 1

    kinds = [compiled(fn).kind for fn in (plain, coroutine, generator, async_generator)]
    assert kinds == [Kind.SYNC, Kind.ASYNC, Kind.GENERATOR, Kind.ASYNC_GENERATOR]


def test_a_partial_is_a_handler_of_the_kind_of_its_function() -> None:
    async def chat(prefix: str, msg: str) -> str:
        return prefix + msg

    bound = compiled(functools.partial(chat, "> "))
    assert (bound.kind, bound.name) == (Kind.ASYNC, "chat")
    assert bound.bind(call({"msg": "hi"})) == ([], {"msg": "hi"})


def test_what_a_partial_gives_by_keyword_is_not_asked_of_the_client() -> None:
    async def chat(msg: str, prefix: str, room: str) -> tuple[str, ...]:
        return msg, prefix, room

    @functools.wraps(chat)
    async def wrapped(*args: Any, **kwargs: Any) -> Any: ...

    sent = {"msg": "hi", "prefix": "forged", "room": "forged"}
    for partial in (
        functools.partial(chat, prefix="> ", room="lobby"),
        functools.partial(functools.partial(chat, room="lobby"), prefix="> "),
        functools.update_wrapper(functools.partial(chat, prefix="> ", room="lobby"), chat),
        functools.partial(wrapped, prefix="> ", room="lobby"),
    ):
        assert compiled(partial, "room").bind(call(sent, path={"room": "path"})) == ([], {"msg": "hi"})


def test_what_a_partial_gives_needs_no_annotation_and_may_have_a_reserved_name() -> None:
    def chat(msg: str, users, send):  # type: ignore[no-untyped-def]
        return msg, users, send

    assert received(functools.partial(chat, users={}, send=print), {"msg": "hi", "users": "forged"}) == (
        "hi",
        {},
        print,
    )


def test_a_plain_message_for_a_partial_is_taken_quickly() -> None:
    async def chat(msg: str, prefix: str) -> tuple[str, str]:
        return msg, prefix

    bound = compiled(functools.partial(chat, prefix="> "))
    assert bound.quick is not None
    args = bound.quick('{"msg": "hi", "prefix": "forged"}', call(), 64)
    assert args == ("hi",)
    assert asyncio.run(bound.fn(*args)) == ("hi", "> ")


def test_a_method_and_a_callable_object_are_handlers() -> None:
    class Chat:
        def on(self, msg: str) -> str:
            return f"on {msg}"

        async def __call__(self, msg: str) -> str:
            return f"call {msg}"

    assert received(Chat().on, {"msg": "hi"}) == "on hi"
    assert compiled(Chat()).kind is Kind.ASYNC
    assert compiled(Chat()).bind(call({"msg": "hi"})) == ([], {"msg": "hi"})


def test_a_decorator_with_wraps_keeps_the_parameters_of_its_function() -> None:
    def handler(n: int) -> int:
        return n

    @functools.wraps(handler)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        return handler(*args, **kwargs) + 1

    assert received(decorated, {"n": "1"}) == 2


def test_the_signature_is_not_looked_at_again_for_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    bound = compiled(x_of)

    def looked_at(*args: Any) -> None:
        raise AssertionError("the signature was read for a message")

    monkeypatch.setattr(inspect, "signature", looked_at)
    assert bound.bind(call({"x": "1"})) == ([], {"x": "1"})


def test_only_a_handler_that_reads_fields_is_said_to() -> None:
    def reads(msg: str) -> None: ...
    def does_not(ws, room: str): ...  # type: ignore[no-untyped-def]

    assert compiled(reads).takes_fields
    assert not compiled(does_not, "room").takes_fields


# -- or none


def test_a_model_or_none_is_filled_by_type_and_none_where_nothing_of_it_came() -> None:
    def handler(move: Move | None) -> Any:
        return move

    assert received(handler, {"x": "1"}) == Move(1)
    assert received(handler, {"other": 1}) is None
    assert refused(handler, {"y": 1}).parameter == "move.x"


def test_a_type_that_stands_for_a_reserved_name_may_be_optional() -> None:
    def handler(socket: Socket | None = None, fields: dict[str, Any] | None = None) -> Any:
        return socket, fields

    socket = Socket()
    assert received(handler, {"a": 1}, conn=socket) == (socket, {"a": 1})


# -- the quick way


async def one(msg: str) -> None: ...
async def several(n: int, msg: str, share: float, on: bool) -> None: ...
async def with_defaults(n: int = 5, msg: str | None = None, tags: list[str] = []) -> None: ...  # noqa: B006
async def with_lists(tags: list[str], numbers: list[int]) -> None: ...
async def with_others(send, room: str, ws: Socket, first_name: str, state, n: int | None) -> None: ...  # type: ignore[no-untyped-def]
async def with_none(ws: Socket) -> None: ...


QUICK = (one, several, with_defaults, with_lists, with_others, with_none)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from(["", "5", "5.5", "on", "true", "1e3", "\ud800", "ü", "\x00"]),
)
values = st.one_of(scalars, st.lists(scalars, max_size=3), st.dictionaries(st.text(max_size=3), scalars, max_size=2))
names = [
    "n",
    "msg",
    "share",
    "on",
    "tags",
    "numbers",
    "first_name",
    "first-name",
    "HEADERS",
    "headers",
    "values",
    "room",
]
messages = st.dictionaries(st.sampled_from(names), values, max_size=8)
frames = st.one_of(
    messages.map(json.dumps),
    messages.map(lambda fields: json.dumps({**fields, "HEADERS": {"HX-Trigger": "form", "HX-Prompt": None}})),
    messages.map(lambda fields: json.dumps({"headers": {"HX-Trigger": "form"}, "values": fields, **fields})),
    st.tuples(messages.map(json.dumps), st.integers(0, 40), st.text(max_size=2)).map(
        lambda cut: cut[0][: cut[1]] + cut[2] + cut[0][cut[1] :]
    ),
)


@given(frame=frames, query=st.sampled_from([{}, {"n": ["7"], "msg": ["asked"]}]))
@settings(max_examples=400, deadline=None)
def test_what_is_taken_quickly_is_just_what_the_long_way_makes_of_it(frame: str, query: dict[str, list[str]]) -> None:
    socket, app = Socket(), Application()
    for fn in QUICK:
        bound = compiled(fn, "room")
        assert bound.quick is not None
        quickly = bound.quick(frame, Call(socket, app, {"room": "lobby"}, query, NOTHING), 64)
        if quickly is None:
            continue
        positional, named = bound.bind(Call(socket, app, {"room": "lobby"}, query, parse(frame)))
        slowly = [*positional, *named.values()]
        assert list(quickly) == slowly
        assert [*map(type, quickly)] == [*map(type, slowly)]


@pytest.mark.parametrize("frame", ['{"msg": "hi", "n": null}', '{"msg": "hi", "tags": null}'])
def test_a_null_that_is_the_default_goes_the_long_way(frame: str) -> None:
    async def handler(msg: str | None, n: int = 5, tags: list[str] = []) -> None: ...  # noqa: B006

    bound = compiled(handler)
    assert bound.quick is not None
    assert bound.quick(frame, call(), 64) is None
    assert bound.bind(Call(None, None, {}, {}, parse(frame)))[1] == {"msg": "hi", "n": 5, "tags": []}


def test_what_a_form_sends_is_taken_quickly() -> None:
    frame = json.dumps({"msg": "hi", "HEADERS": {"HX-Request": "true", "HX-Trigger-Name": None}})
    quick = compiled(one).quick
    assert quick is not None
    assert quick(frame, call(), 64) == ("hi",)


def test_what_a_form_sends_as_text_is_taken_quickly_for_the_number_that_it_is() -> None:
    quick = compiled(several).quick
    assert quick is not None
    assert list(quick('{"n":"5","msg":"6","share":"0.5","on":"on"}', call(), 64) or ()) == [5, "6", 0.5, True]
    assert quick('{"n":"5.5","msg":"6","share":"0.5","on":"on"}', call(), 64) is None


@pytest.mark.parametrize(
    "frame",
    [
        "no json",
        "[]",
        "{}",
        '{"msg": 5}',
        '{"msg": "hi", "headers": {"HX-Request": "true"}}',
        '{"msg": "hi", "deep": ' + "[" * 64 + "]" * 64 + "}",
        '{"msg": "hi", "deep": ' + '{"a":' * 64 + "1" + "}" * 65,
        '{"msg": "hi", "deep": ' + '[{"a":' * 40 + "1" + "}]" * 40 + "}",
    ],
)
def test_what_is_not_plain_goes_the_long_way(frame: str) -> None:
    quick = compiled(one).quick
    assert quick is not None
    assert quick(frame, call(), 64) is None


def _called_by_name(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    async def call(**arguments: Any) -> None: ...

    return call


async def _takes_htmx(htmx: HtmxHeaders, msg: str) -> None: ...
async def _takes_a_header(hx_trigger: str) -> None: ...
async def _takes_a_model(move: Move) -> None: ...
async def _takes_all(data: dict) -> None: ...  # type: ignore[type-arg]
async def _by_name_alone(*, msg: str) -> None: ...
def _in_a_thread(msg: str) -> None: ...


@pytest.mark.parametrize(
    "fn",
    [_takes_htmx, _takes_a_header, _takes_a_model, _takes_all, _by_name_alone, _in_a_thread, _called_by_name(one)],
)
def test_a_signature_that_reads_more_of_a_message_has_no_quick_way(fn: Callable[..., Any]) -> None:
    assert compiled(fn).quick is None
