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
from typing import Any, Literal, NamedTuple, Union

import msgspec

from nbws.errors import MISSING

__all__ = [
    "Converter",
    "Refused",
    "converter",
    "is_list",
    "is_model",
    "is_union",
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
    if is_union(annotation):
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
    cls = _class_of(annotation)
    return isinstance(cls, type) and (
        dataclasses.is_dataclass(cls)
        or typing.is_typeddict(cls)
        or issubclass(cls, msgspec.Struct)
        or (issubclass(cls, tuple) and hasattr(cls, "_fields"))
    )


def _class_of(annotation: Any) -> Any:
    """The class of a generic one that was given its types, such as `Page[int]`; any other annotation itself."""
    return typing.get_origin(annotation) or annotation


def is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (Union, types.UnionType)


def is_list(annotation: Any) -> bool:
    """Whether *annotation* takes repeated fields."""
    annotation = plain_type(annotation)
    if is_union(annotation):
        return any(is_list(a) for a in typing.get_args(annotation))
    return not is_model(annotation) and _class_of(annotation) in _LISTS


def takes_none(annotation: Any) -> bool:
    """Whether None is a value of it."""
    annotation = plain_type(annotation)
    if is_union(annotation):
        return any(takes_none(a) for a in typing.get_args(annotation))
    if typing.get_origin(annotation) is Literal:
        return None in typing.get_args(annotation)
    return annotation in (Any, object, None, type(None))


def spelled(annotation: Any) -> str:
    """*annotation* as an author writes it."""
    annotation = plain_type(annotation)
    if is_union(annotation):
        return " | ".join(map(spelled, typing.get_args(annotation)))
    if annotation is type(None):
        return "None"
    if is_model(annotation) and typing.get_args(annotation):
        return f"{spelled(_class_of(annotation))}[{', '.join(map(spelled, typing.get_args(annotation)))}]"
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
    fields, cls = _model_fields(model), _class_of(model)
    name = spelled(model)
    is_typeddict = typing.is_typeddict(cls)

    def convert(value: Any) -> Any:
        if not is_typeddict and isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise Refused(value, name)
        filled = {}
        for field in fields:
            given = value.get(field.sent_as, MISSING)
            if given is MISSING:
                given = value.get(field.sent_as.replace("_", "-"), MISSING)
            if given is None and field.null_is_default:
                continue
            if given is not MISSING:
                try:
                    filled[field.name] = field.convert(given)
                except Refused as refused:
                    raise Refused(refused.got, refused.want, f".{field.sent_as}{refused.inside}") from None
            elif field.required:
                raise Refused(MISSING, name, f".{field.sent_as}")
        try:
            return cls(**filled)
        except ValueError as exc:  # the model's own check, such as a dataclass's __post_init__
            raise Refused(dict(filled), f"{name} ({exc})") from exc

    return convert


def model_fields(model: Any) -> frozenset[str]:
    """The names of the fields that *model* is filled from, as they are sent."""
    return frozenset(field.sent_as for field in _model_fields(model))


class _ModelField(NamedTuple):
    name: str
    sent_as: str  #: the same, but for a Struct that renames it
    convert: Converter
    required: bool
    null_is_default: bool


def _model_fields(model: Any) -> list[_ModelField]:
    """The fields of *model* that its constructor takes."""
    cls, kinds, sent_as = _class_of(model), _field_types(model), {}
    if typing.is_typeddict(cls):
        required = {name: name in cls.__required_keys__ for name in kinds}
    elif dataclasses.is_dataclass(cls):
        required = {
            f.name: f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
            for f in dataclasses.fields(cls)
            if f.init
        }
        only_init = {name: kind.type for name, kind in kinds.items() if isinstance(kind, dataclasses.InitVar)}
        required |= {name: not hasattr(cls, name) for name in only_init}  # the class has its default
        kinds |= only_init
    elif issubclass(cls, msgspec.Struct):
        required = {f.name: f.required for f in msgspec.structs.fields(cls)}
        sent_as = {f.name: f.encode_name for f in msgspec.structs.fields(cls)}
    else:
        required = {name: name not in cls._field_defaults for name in cls._fields}
    found = []
    for name, needed in required.items():
        kind = kinds.get(name, Any)
        null_is_default = not needed and not takes_none(kind)
        found.append(_ModelField(name, sent_as.get(name, name), converter(kind), needed, null_is_default))
    return found


def _field_types(model: Any) -> dict[str, Any]:
    """What is annotated in *model*, with the types that it was given in the place of its type variables."""
    cls = _class_of(model)
    given = dict(zip(getattr(cls, "__parameters__", ()), typing.get_args(model), strict=False))
    return {name: _with_types(hint, given) for name, hint in typing.get_type_hints(cls).items()}


def _with_types(annotation: Any, given: Mapping[Any, Any]) -> Any:
    if isinstance(annotation, typing.TypeVar):
        return given.get(annotation, annotation)
    if isinstance(annotation, dataclasses.InitVar):
        return dataclasses.InitVar(_with_types(annotation.type, given))
    variables = getattr(annotation, "__parameters__", ()) if typing.get_origin(annotation) is not None else ()
    return annotation[tuple(given.get(each, each) for each in variables)] if given and variables else annotation


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
