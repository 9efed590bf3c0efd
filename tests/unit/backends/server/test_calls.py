"""Forced calls at a server: one JSON value, framed as the model frames its calls."""

import json

import pytest
from fault_server import FaultServer, ids, lines
from golden import checkpoint_folder

from langchain_internvl.backends.base import Delta, Request
from langchain_internvl.backends.server.backend import ServerBackend, ServerOptions
from langchain_internvl.backends.server.calls import CallFrame, call_schema
from langchain_internvl.backends.server.client import ServerAddress
from langchain_internvl.checkpoint import read_checkpoint
from langchain_internvl.prompting.tokenization import load_tokenizer
from langchain_internvl.prompting.tool_formats import HERMES, INTERNLM2

POINT = {"type": "object", "properties": {"x": {"type": "integer"}}}


def tool(name, **parameters):
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def test_one_tool_is_one_object():
    schema = json.loads(call_schema([tool("look", **POINT)], HERMES))
    assert schema["properties"] == {"name": {"const": "look"}, "arguments": POINT}
    assert schema["required"] == ["name", "arguments"]
    assert schema["additionalProperties"] is False
    assert "parameters" in json.loads(call_schema([tool("look")], INTERNLM2))["properties"]


def test_definitions_of_several_tools_stay_apart():
    own = {"properties": {"at": {"$ref": "#/$defs/Point"}}, "type": "object"}
    other = {"type": "object", "properties": {"x": {"items": {"$ref": "#/$defs/Point"}}}}
    first = tool("a", **own, **{"$defs": {"Point": POINT}})
    second = tool("b", **own, **{"$defs": {"Point": other}})
    schema = json.loads(call_schema([first, second], HERMES))
    assert schema["$defs"] == {
        "0_Point": POINT,
        "1_Point": {"type": "object", "properties": {"x": {"items": {"$ref": "#/$defs/1_Point"}}}},
    }
    at = [one["properties"]["arguments"]["properties"]["at"] for one in schema["anyOf"]]
    assert at == [{"$ref": "#/$defs/0_Point"}, {"$ref": "#/$defs/1_Point"}]


def test_a_tool_that_contains_itself_contains_no_call():
    tree = {"type": "object", "properties": {"next": {"$ref": "#"}}}
    for tools in ([tool("a", **tree)], [tool("b"), tool("a", **tree)]):
        schema = json.loads(call_schema(tools, HERMES))
        prefix = f"{len(tools) - 1}_"
        own = {"type": "object", "properties": {"next": {"$ref": f"#/$defs/{prefix}"}}}
        assert schema["$defs"] == {prefix: own}
        call = schema if len(tools) == 1 else schema["anyOf"][1]
        assert call["properties"]["arguments"] == own


def test_both_keywords_may_define_the_same_name():
    text, number = {"type": "string"}, {"type": "number"}
    both = tool("a", type="object", **{"$defs": {"A": text}, "definitions": {"A": number}},
                properties={"x": {"$ref": "#/$defs/A"}, "y": {"$ref": "#/definitions/A"},
                            "z": {"$ref": "#/properties/x"}})  # fmt: skip
    schema = json.loads(call_schema([both], HERMES))
    assert at(schema, "x") == text
    assert at(schema, "y") == number
    assert at(schema, "z") == text


def at(schema, name):
    """The schema of an argument, without references."""
    one = schema["properties"]["arguments"]["properties"][name]
    while "$ref" in one:
        _, keyword, target = one["$ref"].split("/")
        one = schema[keyword][target]
    return one


@pytest.mark.parametrize("keyword", ["const", "enum", "default", "examples", "x-other"])
def test_values_that_look_like_references_stay(keyword):
    value = {"$ref": "#"} if keyword == "const" else [{"$ref": "#/$defs/A"}, {"$id": "b"}]
    own = {"type": "object", "properties": {"$ref": {keyword: value}}}
    schema = json.loads(call_schema([tool("a", **own, **{"$defs": {"A": {}}})], HERMES))
    assert schema["properties"]["arguments"] == own


def test_references_are_found_in_every_place_of_a_schema():
    a, moved = {"$ref": "#/$defs/A"}, {"$ref": "#/$defs/0_A"}
    places = ("not", "if", "contains", "additionalProperties", "propertyNames")
    maps = ("dependencies", "dependentSchemas", "patternProperties", "properties")

    def own(one):
        lists = {"anyOf": [one, {"items": [one]}], "allOf": [{"prefixItems": [one]}]}
        return {**dict.fromkeys(places, one), **lists, **{name: {"a": one} for name in maps}}

    schema = json.loads(call_schema([tool("a", **own(a), **{"$defs": {"A": POINT}})], HERMES))
    assert schema["properties"]["arguments"] == own(moved)


def test_an_identifier_does_not_move_the_references_inside_it():
    point = {"$dynamicAnchor": "point", **POINT}
    part = {"$id": "part.json", "$anchor": "it", **point}
    schema = json.loads(call_schema([tool("a", **{
        "$id": "https://example.org/a.json", "$defs": {"A": part}, "type": "object",
        "properties": {"x": {"$ref": "part.json"}, "y": {"$ref": "part.json#it"},
                       "z": {"$ref": "a.json#/$defs/A"}},
    })], HERMES))  # fmt: skip
    assert schema["$defs"] == {"0_A": point}
    properties = schema["properties"]["arguments"]["properties"]
    assert properties == {name: {"$ref": "#/$defs/0_A"} for name in "xyz"}
    assert "$id" not in schema["properties"]["arguments"]


def framed(*deltas):
    return [(one.text, one.finish_reason) for one in CallFrame(HERMES).around(deltas)]


def test_the_frame_opens_with_the_first_text_and_closes_a_whole_reply():
    assert framed(Delta(1), Delta(2, "{"), Delta(3, "}"), Delta(4, "", "stop")) == [
        ("", None), ("<tool_call>\n{", None), ("}", None), ("\n</tool_call>", "stop"),
    ]  # fmt: skip
    assert framed(Delta(1, "{"), Delta(2, "a", "length"))[-1] == ("a", "length")


@pytest.mark.parametrize("name", ["qwen2", "internlm2"])
def test_a_server_is_asked_for_a_json_value(name):
    folder = checkpoint_folder(name)
    tokenizer = load_tokenizer(folder)
    value = tokenizer.encode_text('{"name": "look"}')
    server = FaultServer(lines(*ids(*value, tokenizer.eos_id, reason="stop")))
    with server.running() as url:
        tokens = read_checkpoint(folder), tokenizer
        backend = ServerBackend(ServerAddress(url), ServerOptions("vl"), tokens)
        request = Request([5], tools=[tool("look", **POINT)], tool_choice="required", max_tokens=99)
        said = "".join(delta.text for delta in backend.stream(request))
        backend.close()
    format_ = INTERNLM2 if name == "internlm2" else HERMES
    assert said == format_.open_call + '{"name": "look"}' + format_.close_call
    assert "tools" not in server.asked[0]
    assert server.asked[0]["response_format"]["type"] == "json_schema"
    assert server.asked[0]["ignore_eos"] is False
