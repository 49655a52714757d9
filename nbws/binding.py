"""A handler's signature -> a compiled binder, made once for each definition.

Parameters are told apart by reserved name, then by type, then by name. What cannot work is refused here, in the
cell that defines it, and never looked at again for a message.
"""

from __future__ import annotations

import dis
import enum
import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from nbws.conversion import (
    Converter,
    Refused,
    converter,
    is_list,
    is_model,
    is_union,
    model_fields,
    plain_type,
    spelled,
    takes_none,
)
from nbws.errors import MISSING, BindError, DefinitionError, MessageError
from nbws.messages import HtmxHeaders, Message

__all__ = ["RESERVED", "Bound", "Call", "Kind", "compile_handler"]


class Call(NamedTuple):
    """What one call of a handler can be filled from. *conn* is the websocket or the request.

    *form* is what a form has sent in the query, repeated fields as lists; None where the message has the fields.
    """

    conn: Any
    app: Any
    path: Mapping[str, Any]
    query: Mapping[str, list[str]]
    message: Message
    form: Mapping[str, Any] | None = None


def _all_fields(call: Call) -> Mapping[str, Any]:
    return call.message.fields if call.form is None else call.form


class Kind(enum.Enum):
    """How a handler is run: `def` ones in a worker thread, `async def` ones on the server's loop."""

    ASYNC = "async def"
    SYNC = "def"
    ASYNC_GENERATOR = "async generator"
    GENERATOR = "generator"


Quick = Callable[[str, Call, int], "Sequence[Any] | None"]
"""(frame, call, levels of nesting allowed) -> all arguments by place, of a frame that says plainly what is meant.

None for any other frame, and for what is in error: that takes the long way, by `parse` and `bind`, which knows all
spellings and says what is wrong. The call's own message is not looked at.
"""


@dataclass(frozen=True, slots=True)
class Bound:
    """A handler with its compiled binder: `fn(*args, **kwargs)` for `args, kwargs = bind(call)`."""

    fn: Callable[..., Any]
    name: str
    kind: Kind
    bind: Callable[[Call], tuple[list[Any], dict[str, Any]]]
    takes_binary: bool
    takes_fields: bool
    takes_raw: bool = False  #: whether a text frame that is no message is what it wants, as `data`
    quick: Quick | None = None  #: of an `async def` whose signature allows it
    waits: bool = True  #: whether it may wait for something; an `async def` in which no `await` stands does not


Source = Callable[[Call], Any]

_Sources: dict[str, Source] = {
    "send": lambda call: call.conn.send,
    "data": _all_fields,
    "ws": lambda call: call.conn,
    "session": lambda call: call.conn.session,
    "scope": lambda call: call.conn.scope,
    "app": lambda call: call.app,
    "state": lambda call: call.app.state,
    "auth": lambda call: call.conn.scope.get("auth"),
    "htmx": lambda call: HtmxHeaders.of(call.message.headers),
    "request": lambda call: call.conn,
}
_Sources |= {"sess": _Sources["session"], "req": _Sources["request"]}

RESERVED = frozenset(_Sources)
"""The names that choose an argument by themselves; of all others the annotation does."""


def compile_handler(
    fn: Callable[..., Any],
    *,
    path_params: Collection[str] = (),
    types_by_name: Mapping[type, str],
    refused: Mapping[str, str] | None = None,
) -> Bound:
    """*fn* with the binder for its signature.

    *types_by_name* says which reserved name a type stands for; *refused* holds reserved names that mean nothing
    here, each with the reason. Raises DefinitionError for a signature that cannot work.
    """
    name = _name(fn)
    if not callable(fn):
        raise DefinitionError(f"{fn!r} is no function; give a function that handles a message")
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError) as exc:
        raise DefinitionError(f"{name}: its signature cannot be read ({exc}); wrap it in a def of its own") from None
    hints, given = _hints(fn, name), _given_by_partial(fn)
    positional: list[Source] = []
    by_name: list[tuple[str, Source]] = []
    quickly: list[Source | _Field | None] = []
    takes_binary = takes_fields = False
    for parameter in parameters:
        if parameter.name in given:
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise DefinitionError(
                f"{name}: {parameter} says nothing about what to pass; name the parameters "
                "(a decorator keeps those of its function with functools.wraps)"
            )
        annotation = hints.get(parameter.name, parameter.annotation)
        source, fields, binary = _source(name, parameter, annotation, path_params, types_by_name, refused or {})
        takes_fields, takes_binary = takes_fields or fields, takes_binary or binary
        quickly.append(_quick_source(parameter, annotation, source if not fields else None))
        if parameter.kind is parameter.POSITIONAL_ONLY:
            positional.append(source)
        else:
            by_name.append((parameter.name, source))

    def bind(call: Call) -> tuple[list[Any], dict[str, Any]]:
        return [source(call) for source in positional], {key: source(call) for key, source in by_name}

    data = None if "data" in given else hints.get("data")
    takes_raw = data is not None and _is_raw("data", data)
    kind = _kind(fn)
    # What wraps another function may take its arguments by name alone.
    quick = _quick(quickly) if kind is Kind.ASYNC and not hasattr(fn, "__wrapped__") else None
    return Bound(fn, name, kind, bind, takes_binary, takes_fields, takes_raw, quick, _waits(fn))


def _source(
    handler: str,
    parameter: inspect.Parameter,
    annotation: Any,
    path_params: Collection[str],
    types_by_name: Mapping[type, str],
    refused: Mapping[str, str],
) -> tuple[Source, bool, bool]:
    """(source, whether it reads the message's fields, whether it takes binary frames) of one parameter."""
    name = parameter.name
    if _is_raw(name, annotation):
        return _raw(handler, annotation), True, annotation in (bytes, bytes | None)
    reserved = _reserved_name(name, annotation, types_by_name)
    if reserved is not None:
        if reserved in refused:
            raise DefinitionError(f"{handler}: {name} {refused[reserved]}")
        return _Sources[reserved], reserved == "data", False
    if annotation is inspect.Parameter.empty:
        raise DefinitionError(
            f"{handler}: {name} has neither an annotation nor a reserved name; write {name}: str (or int, a "
            f"dataclass, ...), or use one of {', '.join(sorted(RESERVED))}"
        )
    plain = _without_none(annotation)
    if name not in path_params and (plain is dict or typing.get_origin(plain) is dict):
        return _Sources["data"], True, False
    try:
        convert = converter(annotation)
    except (TypeError, NameError) as exc:
        raise DefinitionError(f"{handler}: {name}: {exc}") from None
    if name in path_params:
        return _from_path(handler, name, annotation, convert), False, False
    if is_model(plain):
        return _from_all_fields(handler, parameter, annotation, plain), True, False
    return _from_fields(handler, parameter, annotation, convert), True, False


def _reserved_name(name: str, annotation: Any, types_by_name: Mapping[type, str]) -> str | None:
    if name == "data" and is_model(_without_none(annotation)):
        return None
    if name in RESERVED:
        return name
    annotation = _without_none(annotation)
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        for known, reserved in {HtmxHeaders: "htmx", **types_by_name}.items():
            if issubclass(annotation, known):
                return reserved
    return None


def _is_raw(name: str, annotation: Any) -> bool:
    return name == "data" and annotation in (bytes, str, bytes | None, str | None)


def _raw(handler: str, annotation: Any) -> Source:
    if annotation in (str, str | None):
        return lambda call: call.message.raw if type(call.message.raw) is str else None
    optional = annotation is not bytes

    def frame(call: Call) -> bytes | None:
        raw = call.message.raw
        if type(raw) is str:
            return None if optional else raw.encode()
        return raw  # type: ignore[return-value]

    return frame


def _from_path(handler: str, name: str, annotation: Any, convert: Converter) -> Source:
    def from_path(call: Call) -> Any:
        value = call.path[name]
        try:
            return convert(value)
        except Refused as refused:
            raise _bind_error(handler, name, annotation, refused) from None

    return from_path


def _without_none(annotation: Any) -> Any:
    """`T` for `T | None`, and any other annotation itself."""
    if is_union(annotation):
        members = [a for a in typing.get_args(annotation) if a is not type(None)]
        return members[0] if len(members) == 1 else annotation
    return annotation


def _from_all_fields(handler: str, parameter: inspect.Parameter, annotation: Any, model: Any) -> Source:
    name, default = parameter.name, parameter.default
    convert, names = converter(model), model_fields(model)
    absent = default if default is not parameter.empty else None if model is not annotation else MISSING

    def from_all_fields(call: Call) -> Any:
        fields = {**_all_fields(call), **call.path}
        if absent is not MISSING and not any(name in fields or name.replace("_", "-") in fields for name in names):
            return absent
        try:
            return convert(fields)
        except Refused as refused:
            raise _bind_error(handler, name, annotation, refused) from None

    return from_all_fields


def _from_fields(handler: str, parameter: inspect.Parameter, annotation: Any, convert: Converter) -> Source:
    name, default = parameter.name, parameter.default
    hyphenated = name.replace("_", "-")
    header = hyphenated if name.startswith("hx_") else None
    many, nullable = is_list(annotation), takes_none(annotation)
    null_is_default = default is not parameter.empty and not nullable

    def from_fields(call: Call) -> Any:
        fields = call.message.fields
        value = fields.get(name, MISSING)
        if value is MISSING and hyphenated != name:
            value = fields.get(hyphenated, MISSING)
        if value is None and null_is_default:
            return default
        if value is MISSING:
            values = call.query.get(name) or call.query.get(hyphenated)
            if values:
                value = values if many else values[-1]
            elif header is not None and header in call.message.headers:
                value = call.message.headers[header]
            elif default is not parameter.empty:
                return default
            elif header is not None and nullable:  # htmx says null, or nothing, of what there is not
                return None
        try:
            if value is MISSING:
                raise Refused(MISSING, spelled(annotation))
            return convert(value)
        except Refused as refused:
            raise _bind_error(handler, name, annotation, refused) from None

    return from_fields


class _Field(NamedTuple):
    """A parameter that is a field of the message in just one way."""

    name: str
    annotation: Any
    has_default: bool
    convert: Converter | None  #: for text, as which forms send numbers; None where text is what is wanted


_PLAIN = (str, int, float, bool)


def _quick_source(parameter: inspect.Parameter, annotation: Any, source: Source | None) -> Source | _Field | None:
    """What gives the argument quickly: *source*, where no field is read, or a field. None where nothing does."""
    if parameter.kind is parameter.KEYWORD_ONLY:
        return None
    if source is not None:
        # What htmx says is in the message.
        return None if source is _Sources["htmx"] else source
    plain = _without_none(plain_type(annotation))
    if typing.get_origin(plain) is list and plain is annotation:
        plain = typing.get_args(plain)[0]
    # The names are those of what htmx says: fields of which it is not plain what they are.
    if plain not in _PLAIN or parameter.name in ("headers", "HEADERS", "data") or parameter.name.startswith("hx_"):
        return None
    wanted, convert = plain_type(annotation), None
    if plain is not str and typing.get_origin(wanted) is not list:
        wanted, convert = wanted | str, converter(annotation)
    return _Field(parameter.name, wanted, parameter.default is not parameter.empty, convert)


_AWAITS = frozenset(("GET_AWAITABLE", "GET_AITER"))
"""What an `await`, an `async for` or an `async with` compiles to, among others."""


def _waits(fn: Callable[..., Any]) -> bool:
    if not isinstance(fn, types.FunctionType) or not inspect.iscoroutinefunction(fn) or hasattr(fn, "__wrapped__"):
        return True
    return any(each.opname in _AWAITS for each in dis.get_instructions(fn))


def _quick(sources: Sequence[Source | _Field | None]) -> Quick | None:
    """Reads a frame and converts it in one step, and passes over what nobody asks for, such as htmx's headers.

    What msgspec takes strictly `conversion` takes just so. A frame of htmx 4, with its lower-case headers, goes the
    long way, as its fields may be elsewhere.
    """
    if None in sources:
        return None
    fields = [source for source in sources if isinstance(source, _Field)]
    types: list[Any] = [
        (f.name, f.annotation | msgspec.UnsetType, msgspec.UNSET) if f.has_default else (f.name, f.annotation)
        for f in fields
    ]
    types.append(("headers", msgspec.Raw | msgspec.UnsetType, msgspec.UNSET))
    decode = msgspec.json.Decoder(msgspec.defstruct("Fields", types, kw_only=True, gc=False)).decode
    as_tuple, absent = msgspec.structs.astuple, msgspec.UNSET
    may_lack = any(field.has_default for field in fields)
    places = iter(range(len(fields)))
    plan = [(next(places), None) if isinstance(source, _Field) else (0, source) for source in sources]
    is_plain = all(source is None for _, source in plan)
    numbers = [(place, field.convert) for place, field in enumerate(fields) if field.convert is not None]

    def converted(values: list[Any]) -> list[Any]:
        for place, convert in numbers:
            if type(values[place]) is str:
                values[place] = convert(values[place])
        return values

    def quick(frame: str, call: Call, max_depth: int) -> Sequence[Any] | None:
        # An object takes five characters for a level, so most frames are seen to be flat enough at a glance.
        is_flat = len(frame) < 5 * max_depth and "[" not in frame
        if not is_flat and frame.count("{") + frame.count("[") > max_depth:
            return None
        try:
            values: Sequence[Any] = as_tuple(decode(frame))
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            return None
        if values[-1] is not absent or (may_lack and absent in values[:-1]):
            return None
        if numbers:
            try:
                values = converted(list(values))
            except Refused:
                return None
        if is_plain:
            return values[:-1]
        return [values[place] if source is None else source(call) for place, source in plan]

    return quick


_HOW_TO_SEND = {
    "int": "send digits",
    "float": "send a number",
    "bool": "send on, true or 1",
    "str": "send text",
}


def _bind_error(handler: str, name: str, annotation: Any, refused: Refused) -> BindError:
    where = name + refused.inside
    if refused.got is MISSING:
        field = where.rpartition(".")[2]
        default = f", or give it a default: {name}: {spelled(annotation)} = ..." if not refused.inside else ""
        remedy = f"send a field named {field}{default}"
    else:
        remedy = _HOW_TO_SEND.get(refused.want, f"send {refused.want}")
        if isinstance(refused.got, list) and not refused.inside:
            remedy = f"annotate {name}: list[{refused.want}] for repeated fields"
        elif isinstance(refused.got, str) and not refused.inside:
            remedy += f" or annotate {name}: str"
    return BindError(handler, where, got=refused.got, want=refused.want, remedy=remedy)


def binary_refused(handler: str, size: int) -> MessageError:
    """What to report when a binary frame of *size* bytes reaches a handler that takes text."""
    return MessageError(
        f"{handler}: a binary frame of {size} bytes arrived, and it takes text; add data: bytes to take binary frames"
    )


def _hints(fn: Callable[..., Any], name: str) -> dict[str, Any]:
    target = _code_of(fn)
    try:
        return typing.get_type_hints(inspect.unwrap(target), include_extras=True)
    except NameError as exc:
        raise DefinitionError(f"{name}: an annotation names what is not defined: {exc}; define it first") from None
    except TypeError as exc:
        raise DefinitionError(f"{name}: an annotation cannot be read: {exc}") from None


def _kind(fn: Callable[..., Any]) -> Kind:
    target = _code_of(fn)
    if inspect.isasyncgenfunction(target):
        return Kind.ASYNC_GENERATOR
    if inspect.iscoroutinefunction(target):
        return Kind.ASYNC
    return Kind.GENERATOR if inspect.isgeneratorfunction(target) else Kind.SYNC


def _name(fn: Any) -> str:
    target = _unpartial(fn)
    return getattr(target, "__name__", None) or type(target).__name__


def _unpartial(fn: Any) -> Any:
    while isinstance(fn, functools.partial):
        fn = fn.func
    return fn


def _given_by_partial(fn: Any) -> frozenset[str]:
    """The parameters that a partial gives by keyword: defaults to Python, and the author's own to us."""
    given: set[str] = set()
    while isinstance(fn, functools.partial):
        given |= fn.keywords.keys()
        fn = fn.func
    return frozenset(given)


def _code_of(fn: Any) -> Any:
    """The function that runs when *fn* is called, be it a partial or an object with `__call__`."""
    target = _unpartial(fn)
    return target if inspect.isroutine(target) or isinstance(target, type) else type(target).__call__
