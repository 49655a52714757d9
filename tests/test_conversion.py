"""What arrives is taken for what it plainly means, and nothing else is."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar, Union

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbws.conversion import Refused, converter, is_list, is_model, model_fields, spelled, takes_none
from nbws.errors import MISSING


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0
    tags: list[str] = dataclasses.field(default_factory=list)
    moved: bool = dataclasses.field(default=False, init=False)


@dataclasses.dataclass
class Line:
    start: Point
    points: list[Point] = dataclasses.field(default_factory=list)


class Named(TypedDict):
    name: str


class Form(Named, total=False):
    age: int


class Pair(NamedTuple):
    a: int
    b: str = "x"


class Move(msgspec.Struct):
    piece: str
    to_row: int
    fast: bool = False


class Camel(msgspec.Struct, rename="camel"):
    from_row: int
    to_row: int = 1


T = TypeVar("T")
S = TypeVar("S")


@dataclasses.dataclass
class Page(Generic[T, S]):
    first: T
    rest: list[T] = dataclasses.field(default_factory=list)
    note: Optional[S] = None  # noqa: UP045


class Held(msgspec.Struct, Generic[T]):
    value: T


UserId = NewType("UserId", int)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def is_refused(annotation: Any, value: Any) -> bool:
    try:
        converter(annotation)(value)
    except Refused:
        return True
    return False


ACCEPTED: list[tuple[Any, Any, Any]] = [
    (int, "5", 5),
    (int, 5, 5),
    (int, "-5", -5),
    (int, "+5", 5),
    (int, " 5 ", 5),
    (int, "007", 7),
    (int, 5.0, 5),
    (int, 10**30, 10**30),
    (float, "1.5", 1.5),
    (float, 2, 2.0),
    (float, "1e3", 1000.0),
    (float, " 2 ", 2.0),
    (bool, "on", True),
    (bool, "off", False),
    (bool, "true", True),
    (bool, "False", False),
    (bool, "1", True),
    (bool, "0", False),
    (bool, "", False),
    (bool, 1, True),
    (bool, True, True),
    (bool, ["off", "on"], True),
    (str, "5", "5"),
    (str, 5, "5"),
    (str, 1.5, "1.5"),
    (str, True, "true"),
    (str, "", ""),
    (int | None, "", None),
    (int | None, None, None),
    (int | None, "5", 5),
    (Optional[int], "", None),  # noqa: UP045
    (Union[int, None], "5", 5),  # noqa: UP007
    (float | None, "", None),
    (bool | None, "", None),
    (bool | None, "on", True),
    (str | None, "", ""),
    (str | None, None, None),
    (int | str, "five", "five"),
    (int | str, 5, 5),
    (int | float, "1.5", 1.5),
    (datetime.date | None, "", None),
    (list[int] | None, "", None),
    (list[int], ["1", "2"], [1, 2]),
    (list[int], "1", [1]),
    (list[str], ["a", 5], ["a", "5"]),
    (list, ["a", 5], ["a", 5]),
    (list, "a", ["a"]),
    (list[int | None], ["1", ""], [1, None]),
    (set[int], ["1", "1"], {1}),
    (frozenset[str], ["a"], frozenset("a")),
    (tuple[int, ...], ["1", "2"], (1, 2)),
    (tuple[int, str], ["1", "a"], (1, "a")),
    (Sequence[int], ["1"], [1]),
    (Colour, "red", Colour.RED),
    (Level, "2", Level.HIGH),
    (Level, 2, Level.HIGH),
    (Literal["a", 1], "1", 1),
    (Literal["a", 1], "a", "a"),
    (datetime.date, "2024-02-03", datetime.date(2024, 2, 3)),
    (datetime.datetime, "2024-02-03T04:05:06", datetime.datetime(2024, 2, 3, 4, 5, 6)),
    (datetime.datetime, "2024-02-03T04:05", datetime.datetime(2024, 2, 3, 4, 5)),
    (datetime.time, "04:05:06", datetime.time(4, 5, 6)),
    (datetime.time, "04:05", datetime.time(4, 5)),
    (uuid.UUID, "12345678-1234-5678-1234-567812345678", uuid.UUID("12345678-1234-5678-1234-567812345678")),
    (decimal.Decimal, "1.50", decimal.Decimal("1.50")),
    (Annotated[int, "a note"], "5", 5),
    (UserId, "5", 5),
    (Any, {"a": [1]}, {"a": [1]}),
    (object, None, None),
]


@pytest.mark.parametrize(("annotation", "value", "expected"), ACCEPTED)
def test_a_value_is_taken_for_what_it_plainly_means(annotation: Any, value: Any, expected: Any) -> None:
    result = converter(annotation)(value)
    assert result == expected
    assert type(result) is type(expected)


REFUSED: list[tuple[Any, Any]] = [
    *((int, v) for v in ("5.5", "five", "", "1_000", "٣", "0x5", "1e3", "5 5", "--5", "9" * 5000)),
    *((int, v) for v in (False, True, None, {"a": 1}, ["1"], [], 5.5, float("inf"), float("nan"))),
    *((float, v) for v in ("x", "", "nan", "inf", "1e999", "1_0", "٣", True, None, {}, ["1"], 10**400)),
    *((bool, v) for v in ("maybe", "2", 2, None, {}, [], 1.5, [True], ["on", 1])),
    *((str, v) for v in (None, {"a": 1}, ["a"], [])),
    *((int | None, v) for v in ("x", "5.5", False, {"a": 1}, [])),
    *((list[int], v) for v in ("", "x", ["1", "x"], {"a": 1}, [["1"]], None)),
    *((tuple[int, str], v) for v in (["1"], ["x", "a"], ["1", "a", "b"])),
    *((Colour, v) for v in ("blue", "RED", "", None, 1, [])),
    *((Level, v) for v in ("3", "x", "", None)),
    *((Literal["a", 1], v) for v in ("b", 2, None, [], True)),
    *((datetime.date, v) for v in ("today", "", "2024-02-31", None, [])),
    *((datetime.time, v) for v in ("25:00", "x", "", None)),
    *((datetime.datetime, v) for v in ("2024-02-31T00:00", "x", "", None)),
    *((uuid.UUID, v) for v in ("x", 5, None)),
    *((decimal.Decimal, v) for v in ("x", "", None)),
    *((Point, v) for v in ("x", None, [], 5)),
]


@pytest.mark.parametrize(("annotation", "value"), REFUSED)
def test_nonsense_is_refused(annotation: Any, value: Any) -> None:
    with pytest.raises(Refused) as refused:
        converter(annotation)(value)
    assert refused.value.want


@given(st.integers(-(10**50), 10**50))
def test_every_integer_arrives_as_text_and_as_json(number: int) -> None:
    assert converter(int)(str(number)) == converter(int)(number) == number


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_arrives_as_text_and_as_json(number: float) -> None:
    assert converter(float)(repr(number)) == converter(float)(number) == number


@given(st.text())
def test_every_text_is_a_str_as_it_is(text: str) -> None:
    assert converter(str)(text) == text
    assert converter(str | None)(text) == text


@given(JSON)
@pytest.mark.parametrize("annotation", dict.fromkeys(annotation for annotation, *_ in REFUSED), ids=spelled)
def test_whatever_arrives_is_converted_or_refused(annotation: Any, value: Any) -> None:
    if not is_refused(annotation, value) and annotation in (int, float, bool, str, Colour, Level, Point):
        assert type(converter(annotation)(value)) is annotation


@given(JSON)
def test_an_int_is_never_a_bool_and_never_rounded(value: Any) -> None:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        assert is_refused(int, value)


# -- models


def test_a_dataclass_is_filled_by_name_and_converted() -> None:
    assert converter(Point)({"x": "5", "tags": "a"}) == Point(5, 0, ["a"])


def test_fields_that_a_model_does_not_have_are_ignored() -> None:
    assert converter(Point)({"x": "5", "z": "?", "moved": True}) == Point(5)
    assert converter(Form)({"name": "a", "z": "?"}) == {"name": "a"}
    assert converter(Move)({"piece": "K", "to_row": "1", "z": "?"}) == Move("K", 1)


def test_a_typeddict_a_namedtuple_and_a_struct_are_filled_too() -> None:
    assert converter(Form)({"name": "a", "age": "5"}) == {"name": "a", "age": 5}
    assert converter(Pair)({"a": "1"}) == Pair(1, "x")
    assert converter(Move)({"piece": "K", "to_row": "1", "fast": "on"}) == Move("K", 1, True)


def test_a_field_may_be_spelled_with_hyphens() -> None:
    assert converter(Move)({"piece": "K", "to-row": "1"}) == Move("K", 1)


def test_a_struct_that_renames_its_fields_is_filled_by_the_names_that_it_gives_them() -> None:
    assert converter(Camel)({"fromRow": "5", "to_row": "9"}) == Camel(5)
    assert model_fields(Camel) == {"fromRow", "toRow"}
    with pytest.raises(Refused) as refused:
        converter(Camel)({"from_row": "5"})
    assert refused.value.inside == ".fromRow"


@pytest.mark.parametrize(
    ("default", "sent", "expected"), [((), {"factor": "3"}, 15), ((2,), {"factor": "3"}, 15), ((2,), {}, 10)]
)
def test_what_a_dataclass_wants_for_its_making_alone_is_filled_too(default: Any, sent: Any, expected: int) -> None:
    def scale(self: Any, factor: int) -> None:
        self.x *= factor

    wanted = ("factor", dataclasses.InitVar[int], *default)
    Scaled = dataclasses.make_dataclass("Scaled", [("x", int), wanted], namespace={"__post_init__": scale})
    assert converter(Scaled)({"x": "5", **sent}).x == expected


def test_what_a_dataclass_wants_for_its_making_alone_is_named_where_it_is_missing() -> None:
    Scaled = dataclasses.make_dataclass("Scaled", [("x", int), ("factor", dataclasses.InitVar[int])])
    with pytest.raises(Refused) as refused:
        converter(Scaled)({"x": "5"})
    assert refused.value.inside == ".factor"


def test_a_generic_model_is_filled_with_the_types_that_it_was_given() -> None:
    sent = {"first": "1", "rest": ["2", 3], "note": 4}
    assert converter(Page[int, str])(sent) == Page(1, [2, 3], "4")
    assert converter(Page[Pair, int])({"first": {"a": "1"}}) == Page(Pair(1))
    assert converter(Page[str, int])({"first": "1", "note": ""}) == Page("1", [], None)
    assert converter(Held[int])({"value": "5"}) == Held(5)
    assert converter(Held[Held[int]])({"value": {"value": "5"}}) == Held(Held(5))
    assert converter(Page)({"first": "1"}) == Page("1")
    with pytest.raises(Refused) as refused:
        converter(Page[int, str])({"first": "x"})
    assert (refused.value.inside, refused.value.want) == (".first", "int")


def test_a_generic_model_is_named_as_it_is_written() -> None:
    assert spelled(Page[int, list[str]]) == "Page[int, list[str]]"


def test_models_nest() -> None:
    line = converter(Line)({"start": {"x": "1"}, "points": [{"x": "2"}, {"x": "3", "y": "4"}]})
    assert line == Line(Point(1), [Point(2), Point(3, 4)])


def test_a_null_field_of_a_model_is_its_default_where_it_takes_no_none() -> None:
    assert converter(Point)({"x": 1, "y": None, "tags": None}) == Point(1)
    assert converter(Form)({"name": "ann", "age": None}) == {"name": "ann"}
    assert converter(Pair)({"a": 1, "b": None}) == Pair(1, "x")
    assert converter(Move)({"piece": "p", "to_row": 1, "fast": None}) == Move("p", 1)
    with pytest.raises(Refused):
        converter(Point)({"x": None})


def test_a_null_field_of_a_model_is_none_where_it_takes_that() -> None:
    Made = dataclasses.make_dataclass("Made", [("x", int | None, 5)])
    assert converter(Made)({"x": None}) == Made(None)


def test_a_default_list_is_a_new_one_for_each_message() -> None:
    first, second = converter(Point)({"x": 1}), converter(Point)({"x": 1})
    first.tags.append("a")
    assert second.tags == []


@pytest.mark.parametrize(("model", "missing"), [(Point, ".x"), (Pair, ".a"), (Move, ".piece")])
def test_a_field_that_is_missing_is_named(model: Any, missing: str) -> None:
    with pytest.raises(Refused) as refused:
        converter(model)({})
    assert refused.value.inside == missing
    assert refused.value.got is MISSING


@pytest.mark.parametrize(
    ("annotation", "value", "where", "got"),
    [
        (Point, {"x": "five"}, ".x", "five"),
        (Line, {"start": {"x": "five"}}, ".start.x", "five"),
        (Line, {"start": {"x": 1}, "points": [{"x": 1}, {"x": []}]}, ".points[1].x", []),
        (list[int], ["1", "five"], "[1]", "five"),
    ],
)
def test_a_refusal_tells_where_inside_the_value_it_was(annotation: Any, value: Any, where: str, got: Any) -> None:
    with pytest.raises(Refused) as refused:
        converter(annotation)(value)
    assert (refused.value.inside, refused.value.got, refused.value.want) == (where, got, "int")


@pytest.mark.parametrize("annotation", [Point, Form, Pair, Move, Camel, Page, Page[int, str], Held[int]])
def test_what_is_filled_from_the_fields_is_a_model(annotation: Any) -> None:
    assert is_model(annotation)
    assert not is_list(annotation)


@pytest.mark.parametrize("annotation", [int, str, dict, list[int], tuple, tuple[int, str], Point | None])
def test_what_is_one_field_is_no_model(annotation: Any) -> None:
    assert not is_model(annotation)


@pytest.mark.parametrize("annotation", [list, list[int], set[int], tuple[int, ...], list[int] | None, Sequence[str]])
def test_what_takes_repeated_fields_is_a_list(annotation: Any) -> None:
    assert is_list(annotation)


@pytest.mark.parametrize("annotation", [str, bytes, dict[str, int], int | None])
def test_what_takes_one_field_is_no_list(annotation: Any) -> None:
    assert not is_list(annotation)


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "int"),
        (int | None, "int | None"),
        (Optional[int], "int | None"),  # noqa: UP045
        (list[int], "list[int]"),
        (Point, "Point"),
        (Annotated[int, 1], "int"),
        (Literal["a"], "Literal['a']"),
    ],
)
def test_an_annotation_is_spelled_as_its_author_writes_it(annotation: Any, text: str) -> None:
    assert spelled(annotation) == text


@pytest.mark.parametrize("annotation", [Any, object, None, int | None, Annotated[int | None, "n"], Literal["a", None]])
def test_what_takes_none_is_known(annotation: Any) -> None:
    assert takes_none(annotation)


@pytest.mark.parametrize(
    "annotation", [int, str, int | str, list[int | None], Literal["a"], Point, Annotated[int, "n"]]
)
def test_what_takes_no_none_is_known(annotation: Any) -> None:
    assert not takes_none(annotation)
