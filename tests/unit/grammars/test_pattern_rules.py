"""Patterns as grammars: strings that match, and no others."""

import json
import re

import pytest
from byte_grammars import accepts_value, draw

from langchain_internvl.errors import SchemaError
from langchain_internvl.grammars.pattern_rules import pattern_rules
from langchain_internvl.grammars.string_formats import FORMATS


def schema_of(pattern):
    return {"type": "string", "pattern": pattern}


@pytest.mark.parametrize(
    "pattern",
    [
        r"^\d+$", r"^\s\w$", 'a"b', "^a|b$", "[^a]", r"^[^@\s]+@x$", "^é+$", "^$", "", "a{2,}",
        r"^\/a$", r"^[\w.-]{1,5}\-$", r"\t", r"^a(\.[0-9]{1,6})?Z$", r"^\S{2}\D\W.$",
        r"^[^\d\s]{3}$", "^(ab|c(d|e){2}|)$", "^(?:x+?y)*$", '^[\\\\"\n]{3}$', "^[😀-😎é]{2}$",
        "[^\x00-\x7f]{3}", r"^\[\]\{\}\-\^$", r"^[\]a-]+$", *FORMATS.values(),
    ],
)  # fmt: skip
def test_what_is_let_through_matches(pattern):
    drawn = [draw(schema_of(pattern), seed) for seed in range(12)]
    texts = [json.loads(data.decode()) for data in drawn if data is not None]
    assert texts
    assert all(re.search(pattern, text) for text in texts)


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (r"^a(\.[0-9]{1,6})?Z$", ["aZ", "a.7Z"], ["a7Z", "a.Z", "a.1234567Z"]),
        (r"^[^,]+$", ["ü", '"\\\n', "\U0001f600"], ["", "a,b"]),
        ("^(red|green)$", ["red", "green"], ["re", "redgreen", ""]),
        ("^.$", ["a", "\t"], ["\n", "\u2028", "ab"]),
    ],
)
def test_what_matches_is_let_through_and_nothing_else(pattern, good, bad):
    schema = schema_of(pattern)
    assert [text for text in good if not accepts_value(schema, text)] == []
    assert [text for text in bad if accepts_value(schema, text)] == []


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(?=a)b", "lookaround"), ("(?<!a)b", "lookaround"), (r"(a)\1", "a reference"),
        ("(?i)ab", "flags"), ("(?i:a)b", "flags"), (r"\bfoo", "an anchor inside"),
        ("a(^b)", "an anchor inside"), (r"^[^\W]$", "what is not"),
        (r"[^\x00-\U0010ffff]", "class"),
        ("(a)(?(1)b|c)", "groupref_exists"), ("[", "no regular expression"),
    ],
)  # fmt: skip
def test_what_no_grammar_can_follow_is_refused(pattern, reason):
    with pytest.raises(SchemaError, match=reason) as raised:
        pattern_rules(pattern, "$.properties.a.pattern")
    assert str(raised.value).startswith("$.properties.a.pattern")
