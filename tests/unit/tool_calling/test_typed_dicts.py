"""TypedDicts of `typing`, on Python before 3.12 too: the same schemas and values."""

import json
import typing
from typing import Annotated, List, Literal, Optional, Union  # noqa: UP035 - users write these

import pytest
import typing_extensions
from byte_grammars import accepts_value
from golden import checkpoint_folder
from langchain_core.exceptions import OutputParserException

from langchain_internvl import ChatInternVL
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.tool_calling.tool_definitions import to_json_schema, to_openai_tool
from langchain_internvl.tool_calling.typed_dicts import adapter_of
from langchain_internvl.tool_calling.value_types import to_value_type

MODULES = [typing, typing_extensions]


def rows_of(module):
    """The same TypedDicts, made by either module."""

    class Cell(module.TypedDict):
        """A cell."""

        at: Literal[1, 2]
        note: typing_extensions.NotRequired[str]

    class Row(module.TypedDict, total=False):
        cells: typing_extensions.Required[list[Cell]]
        name: str | None

    return Cell, Row


class Tree(typing_extensions.TypedDict):
    parts: "list[Tree]"


KINDS = [
    lambda cell, row: cell,
    lambda cell, row: row,
    lambda cell, row: list[row],
    lambda cell, row: List[cell],  # noqa: UP006
    lambda cell, row: Optional[cell],  # noqa: UP045
    lambda cell, row: Union[row, int],  # noqa: UP007
    lambda cell, row: row | None,
    lambda cell, row: dict[str, tuple[cell, int]],
    lambda cell, row: Annotated[cell, "described"],
    lambda cell, row: typing_extensions.TypedDict("Table", {"rows": list[row], "best": cell}),
]


@pytest.mark.parametrize("kind", KINDS)
def test_both_modules_give_the_same_schema(kind):
    ours, theirs = (adapter_of(kind(*rows_of(module))) for module in MODULES)
    assert ours.json_schema() == theirs.json_schema()


def test_values_are_checked():
    _, row = rows_of(typing)
    kind = to_value_type(list[row])
    good = [{"cells": [{"at": 1}]}, {"cells": [], "name": None}]
    assert kind.read(good) == good
    for bad in ([{"name": "x"}], [{"cells": [{"at": 3}]}], [{"cells": [{"note": "x"}]}]):
        with pytest.raises(ValueError, match="cells"):
            kind.read(bad)


def test_structured_output_and_tools():
    cell, row = rows_of(typing)
    told = {"cells": [{"at": 2, "note": "x"}]}
    llm = ChatInternVL(
        model=str(checkpoint_folder("qwen2")),
        backend=ScriptedBackend([json.dumps(told), '{"cells": [{"at": 7}]}']),
    )
    assert llm.with_structured_output(row).invoke("x") == told
    with pytest.raises(OutputParserException, match="does not fit Row"):
        llm.with_structured_output(row).invoke("x")
    function = to_openai_tool(cell)["function"]
    assert (function["name"], function["parameters"]["required"]) == ("Cell", ["at"])


def test_types_without_typed_dicts_of_typing_are_left_alone():
    cell, row = rows_of(typing_extensions)
    for kind in (cell, list[row], Tree, int, Optional[str], typing.Callable[[int], str]):  # noqa: UP045
        assert adapter_of(kind)._type is kind


class Counted(typing_extensions.TypedDict, extra_items=int):
    name: str


class Closed(typing_extensions.TypedDict, closed=True):
    name: Annotated[str, ..., "told"]


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
def test_keys_that_a_typed_dict_does_not_name(method):
    """PEP 728: their values were dropped without a word, or could not be written at all."""
    value = {"name": "x", "cats": 2}
    call = {"name": "Counted", "arguments": value}
    calls = method == "function_calling"
    reply = f"<tool_call>\n{json.dumps(call)}\n</tool_call>" if calls else json.dumps(value)
    llm = ChatInternVL(model=str(checkpoint_folder("qwen2")), backend=ScriptedBackend([reply] * 2))
    assert llm.with_structured_output(Counted, method=method).invoke("?") == value
    if not calls:
        closed = llm.with_structured_output(Closed, method=method)
        with pytest.raises(OutputParserException, match="Extra inputs are not permitted"):
            closed.invoke("?")


def test_the_schema_permits_the_keys_of_extra_items():
    assert accepts_value(to_json_schema(Counted), {"name": "x", "cats": 2})
    assert not accepts_value(to_json_schema(Counted), {"name": "x", "cats": "two"})
    for plain in (Closed, typing_extensions.TypedDict("Plain", {"name": str})):
        assert not accepts_value(to_json_schema(plain), {"name": "x", "cats": 2})
    assert to_json_schema(Closed)["properties"]["name"]["description"] == "told"
