"""Schemas of Python types: what they permit, the type reads."""

import datetime as dt
import enum
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Literal

import pytest
from byte_grammars import accepts, draw
from golden import checkpoint_folder
from langchain_core.tools import tool
from pydantic import (
    UUID4,
    AwareDatetime,
    BaseModel,
    FileUrl,
    FtpUrl,
    HttpUrl,
    NaiveDatetime,
    PostgresDsn,
    RedisDsn,
    StringConstraints,
    TypeAdapter,
    WebsocketUrl,
)

from langchain_internvl import ChatInternVL
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.grammars.schemas import check_schema
from langchain_internvl.tool_calling.value_types import to_value_type

QWEN2 = str(checkpoint_folder("qwen2"))


class Rating(enum.IntEnum):
    GOOD = 1
    POOR = 2


class Size(enum.Enum):
    SMALL = 1
    LARGE = "large"
    HALF = 0.5


class Day(enum.Enum):
    LEAP = dt.date(2024, 2, 29)


class Report(BaseModel):
    size: Size
    counts: dict[Size, int]
    nested: list[dict[Day, dict[Rating, Size]]] = []


Code = Annotated[str, StringConstraints(pattern="^[A-Z]{2}$")]

TYPES = [
    FileUrl, FtpUrl, HttpUrl, PostgresDsn, RedisDsn, WebsocketUrl, NaiveDatetime, AwareDatetime,
    dt.datetime, Decimal, UUID4, dict[int, bool], dict[bool, bool], dict[float, bool],
    dict[Rating, bool], dict[Size, bool], dict[Day, bool], dict[Literal[1, "x"], bool],
    dict[Code, bool], dict[dt.date, bool], Mapping[int, bool],
]  # fmt: skip


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_what_the_schema_permits_the_type_reads(kind):
    """Of some types no reply was read: each had a zone, or began with "http"."""
    value_type = to_value_type(kind)
    schema = check_schema(value_type.schema, strict=False)
    drawn = [draw(schema, seed, most=600) for seed in range(12)]
    whole = [json.loads(data.decode()) for data in drawn if data is not None]
    assert len(whole) > 3
    for value in whole:
        value_type.read(value)


KEYS = [
    (dict[Rating, int], {"2": 3}, {Rating.POOR: 3}),
    (dict[Size, int], {"1": 3, "large": 4}, {Size.SMALL: 3, Size.LARGE: 4}),
    (dict[Size, int], {"0.5": 3}, {Size.HALF: 3}),
    (dict[Day, int], {"2024-02-29": 3}, {Day.LEAP: 3}),
    (dict[Literal[1, 2], str], {"2": "b"}, {2: "b"}),
    (dict[Literal[True, "x"], str], {"true": "b"}, {True: "b"}),
    (dict[int, str], {"-12": "b"}, {-12: "b"}),
    (
        Report,
        {"size": 1, "counts": {"1": 2}, "nested": [{"2024-02-29": {"1": "large"}}]},
        Report(
            size=Size.SMALL,
            counts={Size.SMALL: 2},
            nested=[{Day.LEAP: {Rating.GOOD: Size.LARGE}}],
        ),
    ),
]


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
@pytest.mark.parametrize(("kind", "written", "value"), KEYS)
def test_keys_come_back_as_the_type_says(kind, written, value, method):
    schema = to_value_type(kind).schema
    assert accepts(schema, json.dumps(written, separators=(",", ":")))
    reply = json.dumps(written)
    if method == "function_calling":
        call = {"name": to_value_type(kind).name, "arguments": written}
        reply = f"<tool_call>\n{json.dumps(call)}\n</tool_call>"
    llm = ChatInternVL(model=QWEN2, backend=ScriptedBackend([reply]))
    assert llm.with_structured_output(kind, method=method).invoke("?") == value


def test_text_that_is_no_key_is_not_read():
    value_type = to_value_type(dict[Size, int])
    for name in ("3", "SMALL", "1.0", '"large"'):
        assert not accepts(value_type.schema, json.dumps({name: 1}, separators=(",", ":")))
        with pytest.raises(ValueError, match="should be 1, 'large' or"):
            value_type.read({name: 1})


def test_the_schema_of_other_types_is_pydantics_own():
    class Plain(BaseModel):
        day: dt.date
        names: dict[str, HttpUrl]
        at: AwareDatetime

    assert to_value_type(Plain).schema == TypeAdapter(Plain).json_schema()


@tool
def count_cats(cats: int, where: str = "here") -> str:
    """Count the cats."""
    return where


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
def test_a_tool_as_schema_gives_its_arguments(method):
    call = {"name": "count_cats", "arguments": {"cats": 2}}
    reply = f"<tool_call>\n{json.dumps(call)}\n</tool_call>"
    reply = reply if method == "function_calling" else '{"cats": 2}'
    llm = ChatInternVL(model=QWEN2, backend=ScriptedBackend([reply] * 2))
    reader = llm.with_structured_output(count_cats, method=method)
    assert reader.invoke("?") == {"cats": 2}
    assert list(reader.stream("?"))[-1] == {"cats": 2}
