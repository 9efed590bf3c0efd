"""References: JSON pointers with escapes, anchors and identifiers, which a grammar follows."""

import json

import pytest
import xgrammar

from langchain_internvl.errors import SchemaError
from langchain_internvl.grammars.json_rules import json_rules
from langchain_internvl.grammars.pointers import name_references, target_of
from langchain_internvl.grammars.schemas import check_schema

# RFC 6901, section 5.
DOCUMENT = {
    "foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, 'k"l': 6,
    " ": 7, "m~n": 8,
}  # fmt: skip


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("", DOCUMENT), ("/foo", ["bar", "baz"]), ("/foo/0", "bar"), ("/", 0), ("/a~1b", 1),
        ("/c%d", 2), ("/e^f", 3), ("/g|h", 4), ("/i\\j", 5), ('/k"l', 6), ("/ ", 7), ("/m~0n", 8),
    ],
)  # fmt: skip
def test_pointers_of_the_standard(pointer, value):
    assert target_of(DOCUMENT, pointer) == value


@pytest.mark.parametrize("pointer", ["/bar", "/foo/2", "/foo/01", "/foo/-", "/foo/0/b", "/m~n"])
def test_pointers_to_nothing(pointer):
    with pytest.raises((LookupError, ValueError)):
        target_of(DOCUMENT, pointer)


X, Y = {"const": "x"}, {"const": "y"}
LEAF = {"type": "array", "minItems": 1, "maxItems": 1}


def accepts(schema, value):
    """Whether the grammar of a schema accepts a value, and only that in place of another."""
    rules = json_rules(check_schema(schema), (",", ":"))
    compiler = xgrammar.GrammarCompiler(xgrammar.TokenizerInfo(["<end>"], stop_token_ids=[0]))
    matcher = xgrammar.GrammarMatcher(compiler.compile_grammar(xgrammar.Grammar.from_ebnf(rules)))
    return matcher.accept_string(json.dumps(value, separators=(",", ":"))) and (
        matcher.is_terminated() or matcher.accept_token(0)
    )


ROOT = "https://example.org/schemas/root.json"
SCHEMAS = {
    "slash": {"$defs": {"a/b": X}, "items": {"$ref": "#/$defs/a~1b"}},
    "tilde": {"$defs": {"a~b": X}, "items": {"$ref": "#/$defs/a~0b"}},
    "tilde one": {"$defs": {"~1": X, "/": Y}, "items": {"$ref": "#/$defs/~01"}},
    "space": {"$defs": {"a b": X}, "items": {"$ref": "#/$defs/a%20b"}},
    "percent": {"$defs": {"a%20b": X, "a b": Y}, "items": {"$ref": "#/$defs/a%2520b"}},
    "encoded slash": {"$defs": {"a/b": X}, "items": {"$ref": "#/$defs/a%7E1b"}},
    "unicode": {"$defs": {"größe": X}, "items": {"$ref": "#/$defs/gr%C3%B6%C3%9Fe"}},
    "unicode as it is": {"$defs": {"größe": X}, "items": {"$ref": "#/$defs/größe"}},
    "no name": {"$defs": {"": X}, "items": {"$ref": "#/$defs/"}},
    "a taken name": {"$defs": {"a_1b": Y, "a/b": X}, "items": {"$ref": "#/$defs/a~1b"}},
    "definitions": {"definitions": {"a/b": X}, "items": {"$ref": "#/definitions/a~1b"}},
    "definitions in definitions": {
        "$defs": {"a": {"$defs": {"b": X}}}, "items": {"$ref": "#/$defs/a/$defs/b"},
    },
    "an option that becomes another keyword": {
        "$defs": {"a": {"allOf": [X]}}, "items": {"$ref": "#/$defs/a/allOf/0"},
    },
    "a property": {
        "$defs": {"a": {"type": "object", "properties": {"b": X}}},
        "items": {"$ref": "#/$defs/a/properties/b"},
    },
    "an annotation": {"x-shared": {"a": X}, "items": {"$ref": "#/x-shared/a"}},
    "a chain": {
        "$defs": {"a/": {"$ref": "#/$defs/b~0"}, "b~": X}, "items": {"$ref": "#/$defs/a~1"},
    },
    "an anchor": {"$defs": {"a": {"$anchor": "it", **X}}, "items": {"$ref": "#it"}},
    "an old anchor": {"definitions": {"a": {"$id": "#it", **X}}, "items": {"$ref": "#it"}},
    "its own name": {"$id": ROOT, "$defs": {"a": X}, "items": {"$ref": f"{ROOT}#/$defs/a"}},
    "a relative name": {"$id": ROOT, "$defs": {"a": X}, "items": {"$ref": "root.json#/$defs/a"}},
    "a part with a name": {
        "$id": ROOT, "$defs": {"a": {"$id": "part.json", **X}}, "items": {"$ref": "part.json"},
    },
    "an anchor in a part": {
        "$id": ROOT, "items": {"$ref": "/schemas/part.json#it"},
        "$defs": {"a": {"$id": "part.json", "$defs": {"b": {"$anchor": "it", **X}}}},
    },
    "inside a part": {
        "$id": ROOT, "items": {"$ref": "part.json"}, "$defs": {"b": Y, "a": {
            "$id": "part.json", "$defs": {"b": X}, "$ref": "#/$defs/b"}},
    },
    "a part that means the root": {
        "$defs": {"b": X, "a": {"$id": "urn:part", "$ref": "#/$defs/b"}},
        "items": {"$ref": "urn:part"},
    },
    "a urn": {"$id": "urn:x:y", "$defs": {"a/b": X}, "items": {"$ref": "#/$defs/a~1b"}},
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_grammar_follows_every_reference(name):
    schema = {**LEAF, **SCHEMAS[name]}
    before = json.dumps(schema)
    assert accepts(schema, ["x"])
    assert not accepts(schema, ["y"])
    assert json.dumps(schema) == before


def test_a_definition_with_a_usable_name_keeps_it():
    """However it is referred to."""
    names = ("s.json#/$defs/b", "#it", "#/%24defs/b", "s.json#/definitions/c", "#/$defs/d~1")
    schema = {
        "$id": "https://example.org/s.json",
        "$defs": {"b": {"$anchor": "it", **X}, "d/": Y},
        "definitions": {"c": dict(X)},
        "prefixItems": [{"$ref": name} for name in names],
    }
    name_references(schema)
    assert [one["$ref"] for one in schema["prefixItems"]] == [
        "#/$defs/b", "#/$defs/b", "#/$defs/b", "#/definitions/c", "#/$defs/d_1",
    ]  # fmt: skip
    assert list(schema["$defs"]) == ["b", "d/", "d_1"]


def test_references_may_recur():
    tree = {"type": "object", "required": ["v"], "properties": {
        "v": {"type": "integer"}, "next": {"$ref": "#/$defs/a~1b"}}}  # fmt: skip
    for schema in (
        {"$defs": {"a/b": tree}, "$ref": "#/$defs/a~1b"},
        {"$id": ROOT, "$defs": {"a/b": tree}, "$ref": "root.json#/$defs/a~1b"},
        {**tree, "$defs": {"a/b": {"$ref": "#"}}},
    ):
        assert accepts(schema, {"v": 1, "next": {"v": 2, "next": {"v": 3}}})
        assert not accepts(schema, {"v": 1, "next": {"v": 2, "next": {}}})


def test_values_that_look_like_references_are_values():
    value = {"$ref": "#/nowhere"}
    for schema in ({"const": value}, {"enum": [value, 1]}):
        assert accepts(schema, value)
    schema = {"type": "object", "properties": {"$ref": X}, "default": value, "examples": [value]}
    assert accepts(schema, {"$ref": "x"})


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("#/$defs/b", "there is no"), ("#/$defs/a/0", "there is no"),
        ("#/$defs/a~2", "there is no"), ("#nowhere", "there is no"),
        ("other.json", "copy what it names into"), (7, "is no text"),
        ("https://example.org/a#/b", "copy what it names into"),
    ],
)  # fmt: skip
def test_references_to_nothing_are_refused_with_their_place(reference, said):
    schema = {"$defs": {"a": X}, "type": "array", "items": {"$ref": reference}}
    with pytest.raises(SchemaError, match=said) as caught:
        check_schema(schema, strict=False)
    assert str(caught.value).startswith("$.items.$ref: ")
    with pytest.raises(SchemaError, match="no URI"):
        check_schema({"$id": ROOT, "$ref": "http://["})
