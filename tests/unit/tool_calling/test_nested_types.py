"""Types inside pydantic's models: each value comes back as the type says."""

import dataclasses
import datetime as dt
import decimal
import enum
import ipaddress
import json
import pathlib
import re
import uuid
from typing import Annotated, Any, Generic, Literal, TypeVar

import pytest
from golden import checkpoint_folder
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage
from pydantic import (
    AliasChoices,
    Base64Bytes,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    Json,
    SecretStr,
    StringConstraints,
    computed_field,
    create_model,
)
from typing_extensions import NotRequired, TypedDict

from langchain_internvl import ChatInternVL
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.errors import SchemaError
from langchain_internvl.tool_calling.tool_definitions import to_json_schema

QWEN2 = str(checkpoint_folder("qwen2"))
UUID = "12345678-1234-5678-1234-567812345678"


class Day(enum.Enum):
    LEAP = dt.date(2024, 2, 29)
    NEXT = dt.date(2024, 3, 1)


class Corner(enum.Enum):
    TOP = (0, 0)
    BOTTOM = (1, 1)


class Inner(BaseModel):
    day: Day


class Tree(BaseModel):
    day: Day | None = None
    children: list["Tree"] = []


class Named(TypedDict):
    name: str
    day: NotRequired[Day]


@dataclasses.dataclass
class Spot:
    x: int
    days: list[Day]


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    date: dt.date
    pair: tuple[int, str]
    day: Day
    id: uuid.UUID
    tags: set[int]


class Alias(BaseModel):
    user_name: str = Field(alias="userName")


class Populated(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    user_name: str = Field(alias="userName")


class Choice(BaseModel):
    user_name: str = Field(validation_alias=AliasChoices("a", "b"), serialization_alias="c")


class Area(BaseModel):
    width: int
    height: int

    @computed_field
    @property
    def area(self) -> int:
        return self.width * self.height


class Noted(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"a": 1}], "x-note": 1})
    a: int = Field(json_schema_extra={"ui:widget": "slider", "order": 3})


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    day: Day


class Pet(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]


Item = TypeVar("Item")


class Box(BaseModel, Generic[Item]):
    item: Item


FIELDS = [
    (set[int], [1, 2], {1, 2}),
    (frozenset[str], ["x"], frozenset({"x"})),
    (HttpUrl, "http://a.b/", HttpUrl("http://a.b/")),
    (pathlib.Path, "/x", pathlib.Path("/x")),
    (decimal.Decimal, "1.10", decimal.Decimal("1.10")),
    (dt.datetime, "2024-01-01T10:00:00", dt.datetime(2024, 1, 1, 10)),  # noqa: DTZ001
    (dt.time, "10:00:00", dt.time(10)),
    (dt.timedelta, "PT5S", dt.timedelta(seconds=5)),
    (uuid.UUID, UUID, uuid.UUID(UUID)),
    (ipaddress.IPv4Address, "1.2.3.4", ipaddress.IPv4Address("1.2.3.4")),
    (re.Pattern, "x+", re.compile("x+")),
    (Base64Bytes, "eA==", b"x"),
    (SecretStr, "hush", SecretStr("hush")),
    (Json[dict[str, int]], '{"x": 1}', {"x": 1}),
    (tuple[int, Day], [1, "2024-02-29"], (1, Day.LEAP)),
    (tuple[int, ...], [1, 2], (1, 2)),
    (dict[int, str], {"1": "x"}, {1: "x"}),
    (dict[dt.date, int], {"2024-01-01": 1}, {dt.date(2024, 1, 1): 1}),
    (dict[str, Day], {"x": "2024-03-01"}, {"x": Day.NEXT}),
    (dict[Day, int], {"2024-03-01": 1}, {Day.NEXT: 1}),
    (Day, "2024-03-01", Day.NEXT),
    (list[Day], ["2024-03-01"], [Day.NEXT]),
    (Day | None, None, None),
    (Day | int, "2024-02-29", Day.LEAP),
    (Corner, [1, 1], Corner.BOTTOM),
    (Literal[Day.LEAP, "never"], "2024-02-29", Day.LEAP),
    (Inner, {"day": "2024-03-01"}, Inner(day=Day.NEXT)),
    (Box[Inner], {"item": {"day": "2024-03-01"}}, Box[Inner](item=Inner(day=Day.NEXT))),
    (Spot, {"x": 1, "days": ["2024-03-01"]}, Spot(1, [Day.NEXT])),
    (Named, {"name": "a", "day": "2024-03-01"}, {"name": "a", "day": Day.NEXT}),
    (Pet, {"pet": {"kind": "dog", "day": "2024-03-01"}}, Pet(pet=Dog(kind="dog", day=Day.NEXT))),
    (Annotated[str, StringConstraints(min_length=2, max_length=4, pattern="^[a-z]+$")], "abc",
     "abc"),
    (Annotated[int, Field(ge=1, le=5)], 4, 4),
    (Any, {"x": [1]}, {"x": [1]}),
]  # fmt: skip

MODELS = [
    (Tree, {"day": None, "children": [{"day": "2024-02-29", "children": []}]},
     Tree(children=[Tree(day=Day.LEAP)])),
    (Strict, {"date": "2024-01-01", "pair": [1, "x"], "day": "2024-02-29", "id": UUID,
              "tags": [1]},
     Strict(date=dt.date(2024, 1, 1), pair=(1, "x"), day=Day.LEAP, id=uuid.UUID(UUID), tags={1})),
    (Alias, {"userName": "x"}, Alias(userName="x")),
    (Populated, {"userName": "x"}, Populated(user_name="x")),
    (Choice, {"a": "x"}, Choice(a="x")),
    (Area, {"width": 2, "height": 3}, Area(width=2, height=3)),
    (Noted, {"a": 1}, Noted(a=1)),
    (Pet, {"pet": {"kind": "cat", "lives": 3}}, Pet(pet=Cat(kind="cat", lives=3))),
]  # fmt: skip

CASES = [
    *((Box[kind], {"item": told}, Box[kind].model_construct(item=value))
      for kind, told, value in FIELDS),
    *MODELS,
]  # fmt: skip


def answering(value, method):
    """A chat model whose reply is this value."""

    def reply(request):
        if method != "function_calling":
            return json.dumps(value)
        name = request.tools[0]["function"]["name"]
        return AIMessage("", tool_calls=[{"name": name, "args": value, "id": "1"}])

    return ChatInternVL(model=QWEN2, backend=ScriptedBackend(reply))


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
@pytest.mark.parametrize(("kind", "told", "value"), CASES)
def test_each_type_comes_back(kind, told, value, method):
    structured = answering(told, method).with_structured_output(kind, method=method)
    assert structured.invoke("x") == value
    *_, last = structured.stream("x")
    assert last == value


@pytest.mark.parametrize(
    "name",
    ["default", "config", "metadata", "members", "expected", "cls", "serialization", "fields",
     "choices", "ref", "type"],
)  # fmt: skip
@pytest.mark.parametrize("is_model", [True, False])
def test_fields_have_any_names(name, is_model):
    """Also those of fields of pydantic's own schemas."""
    if is_model:
        kind = create_model("Made", **{name: (list[Day], ...)})
    else:
        kind = dataclasses.make_dataclass("Made", [(name, list[Day])])
    told = {name: ["2024-02-29", "2024-03-01"]}
    value = answering(told, "json_schema").with_structured_output(kind).invoke("x")
    assert getattr(value, name) == [Day.LEAP, Day.NEXT]


def test_a_typed_dict_without_docstring_has_no_description():
    """Python finds the documentation of `dict` instead."""

    class Row(TypedDict):
        days: list[Day]

    Table = TypedDict("Table", {"first": Row, "description": str})  # noqa: UP013
    schema = to_json_schema(Table)
    assert "new empty dictionary" not in json.dumps(schema)
    assert schema["properties"]["description"] == {"type": "string"}
    told = {"first": {"days": ["2024-02-29"]}, "description": "x"}
    structured = answering(told, "json_schema").with_structured_output(Table)
    assert structured.invoke("x")["first"]["days"] == [Day.LEAP]


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_strict_raises_for_what_decoding_cannot_guarantee(method):
    for kind in (Box[set[int]], Box[HttpUrl], Noted):
        with pytest.raises(SchemaError, match=r"\$\.properties\.\w+"):
            answering({}, method).with_structured_output(kind, method=method, strict=True)


def test_a_json_schema_raises_unless_it_is_told_not_to():
    """Nothing checks its values after decoding."""
    schema = {"title": "a", "type": "object", "properties": {"a": {"uniqueItems": True}}}
    with pytest.raises(SchemaError, match="uniqueItems"):
        answering({}, "json_schema").with_structured_output(schema)
    loose = answering({"a": [1]}, "json_schema").with_structured_output(schema, strict=False)
    assert loose.invoke("x") == {"a": [1]}


@pytest.mark.parametrize(
    ("kind", "told"),
    [(Box[Day], {"item": "2024-02-28"}), (Box[Corner], {"item": [0, 1]}),
     (Box[Annotated[set[int], Field(max_length=1)]], {"item": [1, 2]}),
     (Box[HttpUrl], {"item": "no address"}), (Box[Literal[Day.LEAP]], {"item": "2024-03-01"})],
)  # fmt: skip
def test_what_does_not_fit_is_a_clear_error(kind, told):
    structured = answering(told, "json_schema").with_structured_output(kind)
    with pytest.raises(OutputParserException, match=r"does not fit Box(.|\n)*item"):
        structured.invoke("x")
    raw = answering(told, "json_schema").with_structured_output(kind, include_raw=True)
    assert isinstance(raw.invoke("x")["parsing_error"], OutputParserException)
