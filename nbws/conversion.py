"""An annotation -> a function that converts what arrived: strict about nonsense, lax about spelling.

A form sends text, JSON sends numbers, a checkbox sends "on": each is taken for what it plainly means, and nothing
else is. msgspec converts what has one spelling (dates, UUIDs, enums, nested types).
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import math
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union

import msgspec

from nbws.errors import MISSING

__all__ = [
    "Converter",
    "Refused",
    "converter",
    "is_list",
    "is_model",
    "model_fields",
    "plain_type",
    "spelled",
    "takes_none",
]

Converter = Callable[[Any], Any]

_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,4000}\s*")  # Python itself refuses to read 4,300 digits and more
_TRUE = frozenset(("on", "true", "yes", "1"))
_FALSE = frozenset(("off", "false", "no", "0", ""))
_LISTS: dict[Any, Callable[[list[Any]], Any]] = {
    list: list,
    set: set,
    frozenset: frozenset,
    tuple: tuple,
    Sequence: list,
}

#: Browsers send the time of <input type="time"> and "datetime-local" with no seconds, which RFC 3339 and msgspec want.
_CLOCKS = (datetime.datetime, datetime.time)


class Refused(ValueError):
    """*got* (MISSING where nothing arrived) is no *want*; *inside* is the path within the value, such as ".x"."""

    def __init__(self, got: Any, want: str, inside: str = "") -> None:
        super().__init__(got, want, inside)
        self.got, self.want, self.inside = got, want, inside


def converter(annotation: Any) -> Converter:
    """The function that turns a value into an *annotation*, or raises Refused.

    Raises TypeError where no value could ever be converted to it.
    """
    try:
        return _converter(plain_type(annotation))
    except RecursionError:
        raise TypeError(f"{spelled(annotation)} contains itself; take data: dict and read it by hand") from None


def _converter(annotation: Any) -> Converter:
    if annotation in (Any, object):
        return _as_it_is
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return _union(args)
    if is_list(annotation):
        return _list(annotation)
    if is_model(annotation):
        return _model(annotation)
    if origin is Literal:
        return _literal(args)
    return _by_msgspec(annotation)


def is_model(annotation: Any) -> bool:
    """Whether *annotation* is filled from a message's fields: a dataclass, TypedDict, NamedTuple or Struct."""
    return isinstance(annotation, type) and (
        dataclasses.is_dataclass(annotation)
        or typing.is_typeddict(annotation)
        or issubclass(annotation, msgspec.Struct)
        or (issubclass(annotation, tuple) and hasattr(annotation, "_fields"))
    )


def is_list(annotation: Any) -> bool:
    """Whether *annotation* takes repeated fields."""
    annotation = plain_type(annotation)
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return any(is_list(a) for a in typing.get_args(annotation))
    return not is_model(annotation) and (typing.get_origin(annotation) or annotation) in _LISTS


def takes_none(annotation: Any) -> bool:
    """Whether None is a value of it."""
    annotation = plain_type(annotation)
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return any(takes_none(a) for a in typing.get_args(annotation))
    if typing.get_origin(annotation) is Literal:
        return None in typing.get_args(annotation)
    return annotation in (Any, object, None, type(None))


def spelled(annotation: Any) -> str:
    """*annotation* as an author writes it."""
    annotation = plain_type(annotation)
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return " | ".join(map(spelled, typing.get_args(annotation)))
    if annotation is type(None):
        return "None"
    if typing.get_origin(annotation) is not None:
        return str(annotation).replace("typing.", "")
    return getattr(annotation, "__name__", str(annotation))


def plain_type(annotation: Any) -> Any:
    """*annotation* without what is said about it besides: an `Annotated`'s type, a `NewType`'s own."""
    if typing.get_origin(annotation) is typing.Annotated:
        return plain_type(typing.get_args(annotation)[0])
    if isinstance(annotation, typing.NewType):
        return plain_type(annotation.__supertype__)
    return annotation


def _as_it_is(value: Any) -> Any:
    return value


def _int(value: Any) -> int:
    kind = type(value)
    if kind is int:
        return value  # type: ignore[no-any-return]
    if kind is str and _INTEGER.fullmatch(value):
        return int(value)
    if kind is float and value.is_integer():  # JSON does not tell 5.0 from 5
        return int(value)
    raise Refused(value, "int")


def _float(value: Any) -> float:
    if type(value) in (int, float) or (type(value) is str and value.isascii() and "_" not in value):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            raise Refused(value, "float") from None
        if math.isfinite(number):
            return number
    raise Refused(value, "float")


def _bool(value: Any) -> bool:
    if type(value) is bool:
        return value
    if type(value) is list and value and all(type(v) is str for v in value):
        value = value[-1]  # a hidden field before the checkbox, the usual way to send "unchecked"
    if type(value) is int and value in (0, 1):
        return bool(value)
    if type(value) is str:
        word = value.strip().lower()
        if word in _TRUE or word in _FALSE:
            return word in _TRUE
    raise Refused(value, "bool")


def _str(value: Any) -> str:
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) in (int, float):
        return str(value)
    raise Refused(value, "str")


_SCALARS: dict[Any, Converter] = {int: _int, float: _float, bool: _bool, str: _str}


def _union(args: tuple[Any, ...]) -> Converter:
    members = [a for a in args if a is not type(None)]
    converters = [converter(a) for a in members]
    optional, takes_text = len(members) < len(args), str in members
    want = " | ".join(map(spelled, args))

    def convert(value: Any) -> Any:
        if optional and (value is None or (value == "" and not takes_text)):
            return None
        if type(value) in members:
            return converters[members.index(type(value))](value)
        for convert_member in converters:
            try:
                return convert_member(value)
            except Refused:
                continue
        raise Refused(value, want)

    return convert


def _list(annotation: Any) -> Converter:
    kind = typing.get_origin(annotation) or annotation
    args = [a for a in typing.get_args(annotation) if a is not Ellipsis]
    if kind is tuple and len(args) > 1:
        return _by_msgspec(annotation)
    convert_item, build = (converter(args[0]) if args else _as_it_is), _LISTS[kind]

    def convert(value: Any) -> Any:
        items = value if isinstance(value, list | tuple) else [value]
        result = []
        for index, item in enumerate(items):
            try:
                result.append(convert_item(item))
            except Refused as refused:
                raise Refused(refused.got, refused.want, f"[{index}]{refused.inside}") from None
        return build(result)

    return convert


def _literal(choices: tuple[Any, ...]) -> Converter:
    by_text = {str(choice): choice for choice in choices}
    want = "one of " + ", ".join(map(repr, choices))

    def convert(value: Any) -> Any:
        if type(value) in (str, int) and str(value) in by_text:
            return by_text[str(value)]
        if any(value is choice for choice in choices):
            return value
        raise Refused(value, want)

    return convert


def _model(model: Any) -> Converter:
    fields = _model_fields(model)
    name = spelled(model)

    def convert(value: Any) -> Any:
        if isinstance(value, model) if not typing.is_typeddict(model) else False:
            return value
        if not isinstance(value, Mapping):
            raise Refused(value, name)
        filled = {}
        for field, convert_field, required, null_is_default in fields:
            given = value.get(field, MISSING)
            if given is MISSING:
                given = value.get(field.replace("_", "-"), MISSING)
            if given is None and null_is_default:
                continue
            if given is not MISSING:
                try:
                    filled[field] = convert_field(given)
                except Refused as refused:
                    raise Refused(refused.got, refused.want, f".{field}{refused.inside}") from None
            elif required:
                raise Refused(MISSING, name, f".{field}")
        try:
            return model(**filled)
        except ValueError as exc:  # the model's own check, such as a dataclass's __post_init__
            raise Refused(dict(filled), f"{name} ({exc})") from exc

    return convert


def model_fields(model: Any) -> frozenset[str]:
    """The names of the fields that *model* is filled from."""
    return frozenset(name for name, *_ in _model_fields(model))


def _model_fields(model: Any) -> list[tuple[str, Converter, bool, bool]]:
    """(name, converter, required, whether null leaves the default) of each field that *model*'s constructor takes."""
    hints = typing.get_type_hints(model)
    if typing.is_typeddict(model):
        required = {name: name in model.__required_keys__ for name in hints}
    elif dataclasses.is_dataclass(model):
        required = {
            f.name: f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
            for f in dataclasses.fields(model)
            if f.init
        }
    elif issubclass(model, msgspec.Struct):
        required = {f.name: f.required for f in msgspec.structs.fields(model)}
    else:
        required = {name: name not in model._field_defaults for name in model._fields}
    kinds = {name: hints.get(name, Any) for name in required}
    return [
        (name, converter(kinds[name]), needed, not needed and not takes_none(kinds[name]))
        for name, needed in required.items()
    ]


def _by_msgspec(annotation: Any) -> Converter:
    try:
        info = msgspec.inspect.type_info(annotation)
    except TypeError as exc:
        raise TypeError(f"{spelled(annotation)} is no type that a message can hold: {exc}") from None
    want = spelled(annotation)
    if isinstance(info, msgspec.inspect.CustomType):
        return _by_calling(annotation)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        want = "one of " + ", ".join(repr(member.value) for member in annotation)

    def convert(value: Any) -> Any:
        try:
            return msgspec.convert(value, annotation, strict=False)
        except (msgspec.ValidationError, ValueError, OverflowError):
            pass
        try:
            if annotation in _CLOCKS and isinstance(value, str):
                return annotation.fromisoformat(value)
        except ValueError:
            pass
        raise Refused(value, want)

    return convert


def _by_calling(annotation: Any) -> Converter:
    """For a class that msgspec does not know: an instance is taken, text is what it is made of."""

    def convert(value: Any) -> Any:
        if isinstance(annotation, type) and isinstance(value, annotation):
            return value
        try:
            return annotation(value)
        except Exception:
            raise Refused(value, spelled(annotation)) from None

    return convert
