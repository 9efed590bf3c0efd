"""Python types as the schema of a reply: the value comes back, or an error that says why not."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum, Flag, IntEnum
from typing import Annotated, Generic, Literal, NamedTuple, NewType, Optional, TypeVar, Union

import pytest
from golden import PHOTOS, checkpoint_folder
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import HumanMessage
from pydantic import BaseModel, Field, RootModel
from typing_extensions import TypeAliasType, TypedDict

from langchain_internvl import ChatInternVL, image_block
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.errors import SchemaError
from langchain_internvl.tool_calling.value_types import to_value_type

QWEN2 = str(checkpoint_folder("qwen2"))
METHODS = ["json_schema", "function_calling", "json_mode"]


class Tone(Enum):
    WARM = "warm"
    COLD = "cold"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Ratio(Enum):
    HALF = 0.5
    MORE = 4.3
    WHOLE = 2.0


class Mixed(Enum):
    TEXT = "1"
    NUMBER = 1
    PART = 2.5
    NOTHING = None


class Day(Enum):
    LEAP = date(2024, 2, 29)
    NEXT = date(2024, 3, 1)


class Corner(Enum):
    TOP = (0, 0)
    BOTTOM = (1, 1)


class Access(Flag):
    READ = 1
    WRITE = 2


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = Field(ge=0, le=9)


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    tricks: list[Literal["sit", "roll"]] = Field(max_length=1)


Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    items: list[Item] = Field(max_length=1)


class Levels(RootModel[list[Level]]):
    pass


@dataclass
class Spot:
    x: int
    tone: Tone


class Pair(NamedTuple):
    a: int
    b: str


class Record(TypedDict):
    day: date
    tone: Tone


Alias = TypeAliasType("Alias", Literal["x", "y"])
UserId = NewType("UserId", int)

VALUES = [
    (Tone, "cold", Tone.COLD),
    (Level, 2, Level.HIGH),
    (Ratio, 4.3, Ratio.MORE),
    (Ratio, 2, Ratio.WHOLE),
    (Mixed, "1", Mixed.TEXT),
    (Mixed, 1, Mixed.NUMBER),
    (Mixed, 2.5, Mixed.PART),
    (Mixed, None, Mixed.NOTHING),
    (Day, "2024-02-29", Day.LEAP),
    (Corner, [1, 1], Corner.BOTTOM),
    (Access, 2, Access.WRITE),
    (Annotated[Tone, "how it feels"], "warm", Tone.WARM),
    (Literal["a", 1, True, None], True, True),
    (Literal["a", 1, True, None], 1, 1),
    (Literal["only"], "only", "only"),
    (Literal[Tone.WARM, "hot"], "warm", Tone.WARM),
    (Alias, "y", "y"),
    (Optional[Cat], None, None),  # noqa: UP045
    (Cat | None, {"kind": "cat", "lives": 3}, Cat(lives=3)),
    (Optional[Day], "2024-03-01", Day.NEXT),  # noqa: UP045
    (Union[Cat, Dog], {"kind": "dog", "tricks": ["sit"]}, Dog(tricks=["sit"])),  # noqa: UP007
    (
        Annotated[Cat | Dog, Field(discriminator="kind")],
        {"kind": "dog", "tricks": []}, Dog(tricks=[]),
    ),
    (Union[Cat, int], 7, 7),  # noqa: UP007
    (Spot, {"x": 1, "tone": "warm"}, Spot(1, Tone.WARM)),
    (Pair, [1, "b"], Pair(1, "b")),
    (Record, {"day": "2024-02-29", "tone": "cold"}, {"day": date(2024, 2, 29), "tone": Tone.COLD}),
    (list[Cat], [{"kind": "cat", "lives": 1}], [Cat(lives=1)]),
    (tuple[int, Tone], [1, "warm"], (1, Tone.WARM)),
    (dict[str, Level], {"a": 1}, {"a": Level.LOW}),
    (Page[Cat], {"items": [{"kind": "cat", "lives": 1}]}, Page[Cat](items=[Cat(lives=1)])),
    (Levels, [1, 2], Levels([Level.LOW, Level.HIGH])),
    (int, 3, 3),
    (str, "käse", "käse"),
    (bool, True, True),
    (float, 2.5, 2.5),
    (date, "2024-02-29", date(2024, 2, 29)),
    (Decimal, "2.50", Decimal("2.50")),
    (Annotated[int, Field(ge=0, le=5)], 4, 4),
    (UserId, 12, 12),
]  # fmt: skip


def scripted(*replies, **settings):
    return ChatInternVL(model=QWEN2, backend=ScriptedBackend(replies), **settings)


def written(kind, value, method):
    if method != "function_calling":
        return json.dumps(value, ensure_ascii=False)
    known = to_value_type(kind)
    arguments = value if known.is_object else {"value": value}
    call = {"name": known.name, "arguments": arguments}
    return f"<tool_call>\n{json.dumps(call)}\n</tool_call>"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("kind", "value", "expected"), VALUES, ids=str)
def test_values_of_types_come_back(kind, value, expected, method):
    llm = scripted(*[written(kind, value, method)] * 6)
    structured = llm.with_structured_output(kind, method=method)

    async def streamed():
        return [one async for one in structured.astream("?")]

    results = [
        structured.invoke("?"),
        asyncio.run(structured.ainvoke("?")),
        list(structured.stream("?"))[-1],
        asyncio.run(streamed())[-1],
    ]
    raw = llm.with_structured_output(kind, method=method, include_raw=True)
    results.append(raw.invoke("?")["parsed"])
    assert raw.invoke("?")["parsing_error"] is None
    assert results == [expected] * 5
    assert {type(one) for one in results} == {type(expected)}


@pytest.mark.parametrize("strict", [None, True, False])
@pytest.mark.parametrize("method", METHODS)
def test_all_variants_of_strict_hold_an_enum(method, strict):
    llm = scripted(written(Tone, "warm", method))
    structured = llm.with_structured_output(Tone, method=method, strict=strict)
    assert structured.invoke("?") is Tone.WARM
    assert '"enum"' in llm.backend.requests[-1].grammar.format


@pytest.mark.parametrize("kind", [Tone, Literal["a", "b"], list[Cat], Cat, int])
def test_a_stream_gives_no_half_values(kind):
    value = {Tone: "warm", int: 12, Cat: {"lives": 1}}.get(kind, "a")
    value = [{"lives": 1}] if kind == list[Cat] else value
    steps = list(scripted(json.dumps(value)).with_structured_output(kind).stream("?"))
    assert len(steps) == 1


@pytest.mark.parametrize("method", METHODS)
def test_what_is_no_value_raises_and_says_what_it_is(method):
    llm = scripted(*[written(Tone, "tepid", method)] * 2)
    with pytest.raises(OutputParserException, match="does not fit Tone"):
        llm.with_structured_output(Tone, method=method).invoke("?")
    raw = llm.with_structured_output(Tone, method=method, include_raw=True).invoke("?")
    assert raw["parsed"] is None
    assert "tepid" in str(raw["parsing_error"])


class Plain:
    """Nothing that pydantic knows."""


class Nobody(Enum):
    pass


class Objects(Enum):
    A = object()


class Alike(Enum):
    A = Decimal("1.50")
    B = "1.50"


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Nobody, "Nobody has no members"),
        (Objects, "Objects cannot be written in JSON"),
        (Alike, "JSON spells .* alike"),
        (list[Plain], "cannot be written in JSON"),
        (Literal[object()], "cannot be written in JSON"),
        (Callable[[], int], "cannot be written in JSON"),
    ],
)
def test_types_without_json_raise_at_once(kind, message):
    with pytest.raises(SchemaError, match=message):
        scripted().with_structured_output(kind)


def test_the_model_is_told_what_numbers_mean():
    llm = scripted("2")
    llm.with_structured_output(Level).invoke("?")
    assert "1: LOW, 2: HIGH" in llm.get_text(llm.backend.requests[-1].prompt_ids)


def test_tags_with_a_default_are_written_all_the_same():
    kind = Annotated[Cat | Dog, Field(discriminator="kind")]
    llm = scripted('{"kind":"cat","lives":1}')
    llm.with_structured_output(kind).invoke("?")
    schema = json.loads(llm.backend.requests[-1].grammar.schema)
    assert all("kind" in one["required"] for one in schema["$defs"].values())


def test_names_of_tools_are_plain():
    names = {to_value_type(one).name for one in (Page[Cat], list[Cat], Literal["a"], Tone, int)}
    assert names == {"Page_Cat", "answer", "Tone"}


@pytest.mark.parametrize("method", METHODS)
def test_random_weights_give_members(models, method):
    llm = models("qwen2", temperature=1.5, seed=3, max_tokens=300, max_tiles=1)
    question = {"type": "text", "text": "Which?"}
    message = HumanMessage([image_block(PHOTOS / "coffee.png"), question])
    tagged = Annotated[Cat | Dog, Field(discriminator="kind")]
    for kind, wanted in (
        (Tone, Tone), (Ratio, Ratio), (Mixed, Mixed), (Day, Day), (Corner, Corner),
        (Literal["a", 2], (str, int)), (tagged, (Cat, Dog)), (Spot, Spot), (bool, bool),
    ):  # fmt: skip
        value = llm.with_structured_output(kind, method=method).invoke([message])
        assert isinstance(value, wanted)


def test_a_key_of_a_typed_dict_with_langchains_default_may_be_absent():
    class Joke(TypedDict):
        setup: Annotated[str, ..., "question"]
        punchline: Annotated[str | None, None, "answer"]
        rating: int

    kind = to_value_type(Joke)
    assert kind.read({"setup": "Why?", "rating": 3}) == {"setup": "Why?", "rating": 3}
    with pytest.raises(ValueError, match="rating"):
        kind.read({"setup": "Why?"})


@pytest.mark.parametrize("method", METHODS)
def test_an_enum_may_have_a_description_of_its_own(method):
    kind = Annotated[Tone, Field(description="How it sounds")]
    llm = scripted(written(kind, "cold", method))
    assert llm.with_structured_output(kind, method=method).invoke("x") is Tone.COLD
    schema = to_value_type(kind).schema
    assert (schema["enum"], schema["description"]) == (["warm", "cold"], "How it sounds")
