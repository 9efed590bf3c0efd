"""What JSON a grammar lets through, to the letter."""

import json
import random

import jsonschema
import pytest
from byte_grammars import accepts, accepts_value, draw

from langchain_internvl.errors import SchemaError
from langchain_internvl.grammars.json_rules import MOST_DIGITS
from langchain_internvl.grammars.schemas import check_schema

STRING = {"type": "string"}
LENGTHS = [
    (1, 1), (0, 1), (2, 2), (0, 0), (1, None), (None, 1), (3, None), (0, 64), (64, 64), (5, 65),
    (70, None), (60, 80), (0, 300),
]  # fmt: skip


def bounded(least, most):
    bounds = {"minLength": least, "maxLength": most}
    return {**STRING, **{name: value for name, value in bounds.items() if value is not None}}


@pytest.mark.parametrize(("least", "most"), LENGTHS)
def test_lengths(least, most):
    schema = bounded(least, most)
    drawn = [draw(schema, seed, most=2500) for seed in range(25)]
    whole = [json.loads(data.decode()) for data in drawn if data is not None]
    assert len(whole) > 20
    for text in whole:
        jsonschema.validate(text, schema)
    least, most = least or 0, least + 50 if most is None else most
    assert accepts_value(schema, "é" * least)
    assert accepts_value(schema, "😀" * most)
    assert not accepts_value(schema, "x" * (least - 1)) or least == 0
    assert bounded(least, None) == schema or not accepts_value(schema, "x" * (most + 1))


def test_short_and_open_strings_escape_what_json_must():
    said = 'say "hi"\n\ttwo\\three \x1f'
    for schema in (STRING, bounded(0, 64), bounded(3, None)):
        assert accepts_value(schema, said)
    assert not accepts_value(bounded(0, 65), said)  # as the README says


@pytest.mark.parametrize("schema", [STRING, bounded(0, 20), bounded(0, 200)])
@pytest.mark.parametrize(
    "text",
    [
        '"a\nb"', '"\x00"', '"\x1f"', '"\\u0061"', '"\\ud83d"', '"\ud83d"', '"\\/"', '"\\x"', '"a',
        "a", "'a'", ' "a"', '"a" ', '""""',
    ],
)  # fmt: skip
def test_no_other_form_of_a_string(schema, text):
    assert not accepts(schema, text)


@pytest.mark.parametrize(
    "text",
    [
        "[1-9] [0-9]*", "basic_number_5 ::= {1, -1}", "basic_number_digits{1, -1}", '(", " basic_',
        "basic_escape ::= x\nbasic_escape ::= y", '[^"\\\r\n]', r'[^\"\\\r\n]',
        r"[^\0-\x1f\"\\", '"<0>"', "<0>", 'Regex("^mark0$", json_string=true)', "\\xe9 é \\",
    ],
)  # fmt: skip
def test_what_a_schema_spells_out_is_left_as_it_is(text):
    schemas = [
        ({"enum": [text, "other"]}, text),
        ({"const": {text: [text]}}, {text: [text]}),
        ({"type": "object", "properties": {text: bounded(0, 3)}}, {text: "x"}),
    ]
    for schema, value in schemas:
        data = json.dumps(value, ensure_ascii=False)
        compact = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        assert accepts(schema, data) or accepts(schema, compact)


def test_no_white_space_to_wander_in():
    schema = {
        "type": "object",
        "properties": {"a": {"type": "array", "items": {"type": "null"}}, "b": {}},
        "required": ["a", "b"],
    }
    assert accepts(schema, '{"a":[null,null],"b":[1,{"x":[],"y":2}]}')
    for text in (
        '{"a": [null],"b":1}', '{"a":[null], "b":1}', '{ "a":[null],"b":1}', '{"a":[],"b":[1, 2]}',
        '{"a":[],"b":{"x":1, "y":2}}', '{"a":[],"b":1}\n', '{"a":[],"b":{"x" :1}}',
    ):  # fmt: skip
        assert not accepts(schema, text)


def test_numbers_end():
    whole, real = {"type": "integer"}, {"type": "number"}
    assert accepts(whole, "9" * MOST_DIGITS)
    assert accepts(whole, "-" + "9" * MOST_DIGITS)
    assert not accepts(whole, "9" * (MOST_DIGITS + 1))
    assert accepts({"type": "integer", "minimum": 5}, "9" * MOST_DIGITS)
    assert not accepts({"type": "integer", "minimum": 5}, "9" * (MOST_DIGITS + 1))
    assert accepts(real, "-1.5e-10")
    for text in ("1e100", "1." + "0" * 30, "1" * 30, "01", "1.", ".5", "NaN", "Infinity", "+1"):
        assert not accepts(real, text)


@pytest.mark.parametrize(
    "name",
    [
        "Größe", "ße", "é1", "😀a", "中f", "\x7fa", "a\\xdfe", "\\x41", "x\\", "\\\\xdf1", 'q"e',
        "ÿÿab", "tab\tx", "\u2028a", "\ufffe1", "\U0010ffff0", "a'b", "\x00b", "a\nf", "/",
        "^mark0$", "{", "",
    ],
)  # fmt: skip
def test_names_and_values_of_any_characters(name):
    schema = {"type": "object", "properties": {name: {"const": name}}, "required": [name]}
    assert json.loads(draw(schema, 0)) == {name: name}
    assert json.loads(draw({"enum": [[name], {name: 1}]}, 0)) in ([name], {name: 1})


def test_open_objects_keep_known_names_apart():
    schema = {
        "type": "object",
        "properties": {"ab": {"type": "null"}},
        "additionalProperties": {"type": "integer"},
    }
    assert accepts(schema, '{"ab":null,"b":1}')
    assert not accepts(schema, '{"ab":1}')
    assert not accepts(schema, '{"b":null}')


def test_what_cannot_be_is_told():
    for schema in ({"type": "integer", "minimum": 5, "maximum": 2}, bounded(5, 2)):
        with pytest.raises(SchemaError, match="cannot be guaranteed"):
            draw(schema, 0)


def open_schema(chance, depth):
    """A random schema of what `random_schemas` leaves out: names that no one lists."""
    leaf = chance.choice([bounded(0, 3), {"type": "integer", "minimum": -5, "maximum": 50}, {}])
    if depth == 0:
        return leaf
    inner = open_schema(chance, depth - 1)
    names = chance.choice([{"pattern": "^[a-c]$"}, {"enum": ["x", "y"]}, {"maxLength": 2}])
    shapes = [
        {"additionalProperties": inner, "minProperties": chance.randint(0, 1), "maxProperties": 3},
        {"propertyNames": names, "additionalProperties": inner, "maxProperties": 2},
        {"properties": {"a": inner, "b": leaf}, "required": ["b"], "additionalProperties": leaf,
         "maxProperties": chance.randint(2, 4)},
    ]  # fmt: skip
    marked = [{"properties": {"t": {"const": t}, "v": inner}, "required": ["t"]} for t in "pq"]
    return chance.choice(
        [
            *({"type": "object", **shape} for shape in shapes),
            {"oneOf": [{"type": "object", **one} for one in marked]},
            {"allOf": [inner]},
            {"type": ["array", "null"], "items": inner, "minItems": 1, "maxItems": 3},
        ]
    )


def test_open_objects_of_every_kind():
    chance = random.Random(1)
    whole = 0
    for seed in range(60):
        schema = open_schema(chance, 3)
        data = draw(schema, seed, most=600)
        if data is not None:
            jsonschema.validate(json.loads(data.decode()), schema)
            whole += 1
    assert whole > 50


NAMES = [
    ({"enum": ["a", 1, None]}, {"a": 1}, ["1", "null"]),
    ({"$ref": "#/$defs/either"}, {"a": 1}, ["1"]),
    ({"anyOf": [{"enum": ["a"]}, {"pattern": "^b+$"}, {"type": "integer"}]}, {"bb": 1}, ["1", "c"]),
    ({"type": ["string", "null"], "maxLength": 1}, {"é": 1}, ["null", "éé"]),
    ({"allOf": [{"$ref": "#/$defs/either"}]}, {"a": 1}, ["1"]),
]


@pytest.mark.parametrize(("names", "good", "bad"), NAMES)
def test_names_are_strings_whatever_else_their_schema_permits(names, good, bad):
    """A number as a name, `{1: 0}`, is no JSON."""
    inner = {"type": "integer", "minimum": 0, "maximum": 9}
    schema = {"type": "object", "propertyNames": names, "additionalProperties": inner}
    schema["$defs"] = {"either": {"enum": [1, "a"]}}
    assert accepts_value(schema, good)
    for name in bad:
        assert not accepts(schema, f"{{{name}:1}}")
        assert not accepts(schema, f'{{"{name}":1}}')
    for seed in range(20):
        data = draw(schema, seed)
        if data is not None:
            jsonschema.validate(json.loads(data.decode()), schema)


def test_names_that_no_string_fits_are_left_to_the_parser():
    schema = {
        "type": "object",
        "propertyNames": {"$ref": "#/$defs/n"},
        "$defs": {"n": {"enum": [1]}},
    }
    left_out = []
    checked = check_schema(schema, strict=False, left_out=left_out)
    assert left_out == ["$.propertyNames"]
    assert "propertyNames" not in checked
