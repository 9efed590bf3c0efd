"""Arguments of a call are an object, whatever else their schema lets through."""

import json

import pytest
from byte_grammars import accepts_value

from langchain_internvl.errors import SchemaError
from langchain_internvl.grammars.argument_schemas import check_arguments
from langchain_internvl.tool_calling.response_format import read_response_format
from langchain_internvl.tool_calling.structured_output import ask_for

A = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
NULL = {"type": "null"}
OTHERS = (None, 3, "x", [], [{"a": 1}], True)


@pytest.mark.parametrize(
    "schema",
    [
        {"title": "X"},
        {},
        {"minLength": 3},
        {"properties": {"a": {}}},
        {**A, "type": ["object", "null"]},
        {"type": ["array", "object"], "items": {}, "minItems": 2},
        {"anyOf": [A, NULL]},
        {"anyOf": [{"type": "array"}, {"anyOf": [NULL, A]}]},
        {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, A, NULL]}}, "$ref": "#/$defs/a"},
        {"$defs": {"a": A}, "$ref": "#/$defs/a"},
        {"$defs": {"a": A}, "anyOf": [{"$ref": "#/$defs/a"}, NULL]},
        {"enum": [3, {"a": 1}]},
        {"const": {"a": 1}},
    ],
)
def test_only_objects_are_left(schema):
    checked = check_arguments(schema)
    assert accepts_value(checked, {"a": 1})
    assert not any(accepts_value(checked, value) for value in OTHERS)
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    form = read_response_format({"tools": [tool]})
    assert not schema or form.callable["f"] == checked


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array"},
        {"type": ["string", "null"]},
        {"anyOf": [NULL, {"type": "string"}]},
        {"$defs": {"a": {"enum": [1, 2]}}, "$ref": "#/$defs/a"},
        {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, NULL]}}, "$ref": "#/$defs/a"},
        {"const": "x"},
    ],
)
def test_no_objects_no_arguments(schema):
    for strict in (True, False):
        with pytest.raises(SchemaError, match="are an object"):
            check_arguments(schema, strict=strict)
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    with pytest.raises(SchemaError, match="are an object"):
        read_response_format({"tools": [tool]})
    with pytest.raises(SchemaError, match="method='json_schema'"):
        read_response_format(ask_for(schema, "function_calling", strict=None))


def test_an_object_that_ended_in_something_else_has_no_end():
    schema = {
        "type": ["object", "null"],
        "properties": {"next": {"$ref": "#"}},
        "required": ["next"],
    }
    with pytest.raises(SchemaError, match="has no end"):
        check_arguments(schema)


def test_a_record_by_reference_may_be_asked_for_as_a_call():
    schema = {"title": "R", "$defs": {"a": {**A, "type": ["object", "null"]}}, "$ref": "#/$defs/a"}
    form = read_response_format(ask_for(schema, "function_calling", strict=None))
    assert json.loads(json.dumps(form.callable["R"]))["type"] == "object"
