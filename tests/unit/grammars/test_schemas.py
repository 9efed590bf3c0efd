"""What of a JSON schema can be guaranteed, and how it is said where something cannot."""

import json
import re
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, Field

from langchain_internvl.errors import RequestError, SchemaError
from langchain_internvl.grammars.schema_values import fits_type, multiples
from langchain_internvl.grammars.schemas import SUPPORTED, check_schema
from langchain_internvl.grammars.string_formats import FORMATS


def object_of(**properties):
    return {"type": "object", "properties": properties, "required": list(properties)}


class Kind(Enum):
    FOOD = "food"
    FUEL = "fuel"


class Item(BaseModel):
    """One line."""

    name: str = Field(description="as printed", min_length=1)
    price: Decimal
    parts: list["Item"] = Field(default=[], max_length=3)


class Cash(BaseModel):
    how: Literal["cash"]


class Card(BaseModel):
    how: Literal["card"]
    digits: Annotated[str, Field(pattern=r"^\d{4}$")]


class Receipt(BaseModel):
    shop: str
    kind: Kind
    day: date | None = None
    at: time
    items: list[Item]
    paid: Cash | Card = Field(discriminator="how")
    tags: dict[str, int]
    pair: tuple[int, str]
    host: IPv4Address
    id: UUID
    open_for: timedelta
    anything: Any


def test_models_of_pydantic_pass():
    checked = check_schema(Receipt.model_json_schema())
    text = json.dumps(checked)
    assert "description" not in text
    assert "title" not in text
    assert checked["properties"]["paid"]["anyOf"] == [
        {"$ref": "#/$defs/Cash"}, {"$ref": "#/$defs/Card"},
    ]  # fmt: skip
    assert checked["properties"]["day"]["anyOf"][0] == {
        "type": "string", "pattern": FORMATS["date"],
    }  # fmt: skip
    assert checked["$defs"]["Item"]["additionalProperties"] is False
    assert checked["properties"]["tags"]["additionalProperties"] == {"type": "integer"}


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        (object_of(a={"type": "array", "uniqueItems": True}), "$.properties.a.uniqueItems"),
        (object_of(a={"not": {}}), "$.properties.a.not"),
        ({"if": {}, "then": {}}, "$.if"),
        ({"type": "array", "items": {"contains": {}}}, "$.items.contains"),
        (
            {"type": "array", "prefixItems": [{}, {}, {"x": 1}]},
            "$.prefixItems[2].x",
        ),
        ({"anyOf": [{"type": "null"}, {"minContains": 1}]}, "$.anyOf[1].minContains"),
        ({"$defs": {"a": {"dependentRequired": {}}}}, "$.$defs.a.dependentRequired"),
        ({"type": "string", "format": "iri"}, "$.format"),
        ({"type": "string", "format": "date", "maxLength": 3}, "$.maxLength"),
        ({"type": "string", "pattern": "a", "minLength": 3}, "$.minLength"),
        ({"type": "string", "pattern": "(?=a)b"}, "$.pattern"),
        ({"type": "string", "pattern": "["}, "$.pattern"),
        ({"type": "number", "multipleOf": 0.1}, "$.multipleOf"),
        ({"type": "integer", "multipleOf": 3}, "$.multipleOf"),
        ({"type": "integer", "minLength": 3}, "$.minLength"),
        ({"type": "sting"}, "$.type"),
        ({"enum": []}, "$.enum"),
        ({"type": "integer", "enum": ["a"]}, "$.enum"),
        ({"enum": [1], "minimum": 0}, "$.minimum"),
        ({"$ref": "#/$defs/a"}, "$.$ref"),
        ({"$ref": "https://example.org/schema"}, "$.$ref"),
        ({"$defs": {"a": {}}, "$ref": "#/$defs/a", "type": "object"}, "$.type"),
        ({"anyOf": [], "type": "object"}, "$.anyOf"),
        ({"allOf": [{}, {}]}, "$.allOf"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "$.oneOf"),
        ({"type": "object", "required": ["a"]}, "$.required"),
        ({"type": "object", "minProperties": 2}, "$.minProperties"),
        ({"properties": {"a": {}}, "propertyNames": {}}, "$.propertyNames"),
        ({"type": "object", "propertyNames": {"enum": [1, 2]}}, "$.propertyNames"),
        ({"type": "object", "propertyNames": {"type": "integer"}}, "$.propertyNames"),
        ({"oneOf": [{"enum": [1, 2]}, {"const": 2.0}]}, "$.oneOf"),
        ({"oneOf": [{"const": 1}, {"type": "number"}]}, "$.oneOf"),
        ({"type": "string", "format": "uri", "pattern": "^ftp"}, "$.pattern"),
        ({"properties": {"a": False}}, "$.properties.a"),
        ({"properties": {"a": "string"}}, "$.properties.a"),
        ({"properties": []}, "$.properties"),
    ],
)
def test_what_cannot_be_guaranteed_raises_with_its_path(schema, place):
    with pytest.raises(SchemaError) as raised:
        check_schema(schema)
    assert str(raised.value).startswith(place), raised.value
    assert isinstance(raised.value, RequestError)
    assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize(
    "schema",
    [
        None,
        [],
        "object",
        {"type": object},
        {"minimum": float("nan")},
        {"properties": {"a": 1}, "required": 3},
        {"type": 3},
        {"type": "array", "minItems": "2"},
    ],
)
def test_what_is_no_schema_raises(schema):
    with pytest.raises(SchemaError):
        check_schema(schema)


def test_deep_schemas_do_not_break_it():
    schema = {"type": "null"}
    for _ in range(5000):
        schema = {"type": "array", "items": schema}
    with pytest.raises(SchemaError):
        check_schema(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
        {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
    ],
)
def test_values_without_an_end_are_refused(schema):
    with pytest.raises(SchemaError, match="has no end"):
        check_schema(schema)


def test_recursion_that_ends_is_fine():
    for schema in (
        {"type": "object", "properties": {"a": {"$ref": "#"}}},
        {"type": "array", "items": {"$ref": "#"}},
        {"anyOf": [{"type": "array", "items": {"$ref": "#"}, "minItems": 1}, {"type": "null"}]},
        {"$defs": {"a": {"type": "null"}}, **object_of(examples={"$ref": "#/$defs/a"})},
    ):
        assert check_schema(schema)


def test_lenient_leaves_out_what_cannot_be_guaranteed():
    schema = object_of(
        a={"type": "array", "uniqueItems": True, "items": {"type": "string", "format": "iri"}},
        b={"type": "string", "pattern": "(?=a)b", "minLength": 3},
        c={"oneOf": [{"type": "integer"}, {"type": "number"}]},
        d={"type": "integer", "multipleOf": 3},
    )
    checked = check_schema({**schema, "required": ["a", "z"], "not": {}}, strict=False)
    assert checked["required"] == ["a"]
    assert checked["properties"] == {
        "a": {"type": "array", "items": {"type": "string"}},
        "b": {"type": "string", "minLength": 3},
        "c": {"anyOf": [{"type": "integer"}, {"type": "number"}]},
        "d": {"type": "integer"},
    }


def test_what_is_left_out_is_told_by_its_path():
    left_out = []
    check_schema(
        object_of(
            a={"type": "array", "uniqueItems": True, "items": {"pattern": "(?=a)b"}},
            b={"type": "string", "format": "uri", "maxLength": 2083, "minLength": 1},
        ),
        strict=False,
        left_out=left_out,
    )
    assert left_out == [
        "$.properties.a.uniqueItems",
        "$.properties.a.items.pattern",
        "$.properties.b.maxLength",
    ]


def test_notes_of_vendors_and_formats_of_any_string_constrain_nothing():
    schema = {"type": "string", "format": "path", "x-order": 1, "x-enumNames": ["a"]}
    assert check_schema(schema) == {"type": "string"}


@pytest.mark.parametrize("name", ["anyOf", "oneOf", "allOf"])
def test_lenient_keeps_what_stands_beside_a_choice(name):
    options = [{"if": {"required": ["a"]}, "then": {"required": ["b"]}}, {"required": ["b"]}]
    own = object_of(a={"type": "string", "maxLength": 5})
    closed = {**own, "additionalProperties": False}
    for beside, left in (
        (own, closed),
        ({"type": "integer", "minimum": 3}, {"type": "integer", "minimum": 3}),
        ({"enum": ["x"], "type": "string"}, {"enum": ["x"]}),
        ({"type": "array", "items": own}, {"type": "array", "items": closed}),
    ):
        assert check_schema({**beside, name: options}, strict=False) == left


def test_lenient_keeps_choices_within_a_type():
    options = [object_of(a={"const": 1}), object_of(b={"const": 2})]
    checked = check_schema({"type": "object", "anyOf": options}, strict=False)
    assert checked == check_schema({"anyOf": options})
    assert check_schema({"type": "string", "anyOf": options}, strict=False) == {"type": "string"}


def test_the_message_names_what_is_guaranteed():
    with pytest.raises(SchemaError, match="use one of") as raised:
        check_schema({"uniqueItems": True})
    assert all(name in str(raised.value) for name in SUPPORTED)


def test_objects_are_closed_once_they_name_properties():
    for schema, extra in (
        ({"type": "object"}, True),
        ({"type": "object", "properties": {}}, False),
        ({"type": "object", "properties": {"a": {}}}, False),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": True}, True),
    ):
        assert check_schema(schema)["additionalProperties"] is extra


def test_the_schema_itself_is_not_changed():
    schema = Receipt.model_json_schema()
    before = json.dumps(schema)
    check_schema(schema, strict=False)
    assert json.dumps(schema) == before


def test_multiples():
    assert multiples({"multipleOf": 5, "minimum": 1, "maximum": 15}) == [5, 10, 15]
    assert multiples({"multipleOf": 5, "exclusiveMinimum": -5, "exclusiveMaximum": 5}) == [0]
    assert multiples({"multipleOf": 5, "minimum": 1, "maximum": 10**9}) is None
    assert check_schema({"type": "integer", "multipleOf": 4, "minimum": 1, "maximum": 9}) == {
        "enum": [4, 8]
    }


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, [10**25], {"a": [2**64]}])
def test_whole_numbers_beyond_64_bits(value):
    for schema, place in (({"enum": [1, value]}, r"\$.enum"), ({"const": value}, r"\$.const")):
        with pytest.raises(SchemaError, match=place + ".*64 bits"):
            check_schema(schema)
    assert check_schema({"enum": [1, value]}, strict=False) == {"enum": [1]}
    assert check_schema({"type": "integer", "const": value}, strict=False) == {"type": "integer"}
    fitting = {"enum": [2**63 - 1, -(2**63), 1e30, True]}
    assert check_schema(fitting) == fitting


def test_values_of_types():
    kinds = ("object", "array", "string", "integer", "number", "boolean", "null")
    for value, fitting in (
        ({}, "object"), ([], "array"), ("", "string"), (True, "boolean"), (None, "null"),
        (1, "integer number"), (2.0, "integer number"), (0.5, "number"),
    ):  # fmt: skip
        assert [kind for kind in kinds if fits_type(value, kind)] == fitting.split()


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date", ["2024-02-29", "2000-02-29", "1999-12-31"],
         ["2023-02-29", "1900-02-29", "2024-04-31", "2024-13-01", "24-01-01", "0000-01-01"]),
        ("time", ["23:59:59", "00:00:00.5Z", "12:00:00+02:00"], ["24:00:00", "12:60:00", "1:00"]),
        ("date-time", ["2024-02-29T12:00:00Z"], ["2024-02-29 12:00:00Z", "2024-02-29T12:00:00"]),
        ("duration", ["P3D", "PT5M", "P1DT2H3M4.5S", "PT0.5S"], ["P", "PT", "3D", "P1DT"]),
        ("date-time-local", ["2024-02-29T12:00:00"], ["2024-02-29T12:00:00Z"]),
        ("email", ["a@b.org", "a.b+c@mail.example-x.com", "Ann.Lee@Example.ORG"],
         ["a@b", "@b.org", "a b@c.org"]),
        ("ipv4", ["0.0.0.0", "255.255.255.255"], ["256.0.0.1", "1.2.3", "01.2.3.4"]),
        ("ipv6", ["fe80:0:0:0:0:0:0:1", "fe80::1", "::", "::1", "2001:DB8::8:0:1",
                  "1:2:3:4:5:6:7::"],
         ["1:2:3", ":::", "1::2::3", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8::", "12345::", ":1"]),
        ("uri", ["https://example.org/a?b=c", "http://a.b.example.com:80/", "https://GitHub.com/A",
                 "http://localhost:11434/v1", "http://192.168.0.1:65535", "https://e.org/a%20b#c?d"],
         ["b.org", "//x", "http://a.org:65536", "https://e.org/a b", "https://e.org/%2", "http://"]),
        ("uuid", ["123e4567-e89b-12d3-a456-426614174000", "0190A3D2-7B1C-7CDE-8F00-0123456789AB"],
         ["123e4567"]),
        ("uuid4", ["123e4567-e89b-42d3-a456-426614174000"],
         ["123e4567-e89b-12d3-a456-426614174000"]),
        ("hostname", ["a-b.example.org"], ["-a.org", "a..org"]),
    ],
)  # fmt: skip
def test_formats(name, good, bad):
    assert all(re.search(FORMATS[name], text) for text in good)
    assert not any(re.search(FORMATS[name], text) for text in bad)


def test_leap_years_as_python_counts_them():
    for year in range(1000, 10000):
        is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        assert bool(re.search(FORMATS["date"], f"{year}-02-29")) is is_leap


def test_many_references_take_no_time():
    """Each level names the next ten times: followed one by one there are ten to the thirtieth."""
    levels = {
        f"l{level}": object_of(
            **{f"p{one}": {"$ref": f"#/$defs/l{level + 1}"} for one in range(10)}
        )
        for level in range(30)
    }
    levels["l30"] = {"type": "null"}
    assert check_schema({"$defs": levels, "$ref": "#/$defs/l0"})


def test_names_of_many_references_are_refused():
    """Each level names the next twice: copied one by one there are two to the fortieth."""
    levels = {
        f"l{level}": {"anyOf": [{"$ref": f"#/$defs/l{level + 1}"}] * 2} for level in range(40)
    }
    levels["l40"] = {"enum": ["a"]}
    for first, is_refused in (("l0", True), ("l36", False)):
        schema = {
            "$defs": levels,
            "type": "object",
            "propertyNames": {"$ref": f"#/$defs/{first}"},
            "additionalProperties": {"type": "null"},
        }
        if is_refused:
            with pytest.raises(SchemaError, match=r"propertyNames: over 1000 references"):
                check_schema(schema)
        else:
            assert check_schema(schema)


@pytest.mark.parametrize(
    "options",
    [
        [{"const": "a", "title": "first"}, {"const": "b", "title": "second"}],
        [{"enum": [1, 2]}, {"const": 3}, {"type": "null"}, {"type": "string"}],
        [{"const": True}, {"const": 1}],
        [
            {"type": "object", "properties": {"k": {"const": 1}}, "required": ["k"]},
            {"type": "object", "properties": {"k": {"const": 2}}, "required": ["k"]},
            {"const": "none"},
        ],
    ],
)
def test_one_of_options_that_exclude_each_other(options):
    """Constants with titles are how labelled enums are written."""
    assert len(check_schema({"oneOf": options})["anyOf"]) == len(options)
