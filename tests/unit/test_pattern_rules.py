"""Patterns as grammars: strings that match, and no others."""

import json
import re

import pytest
import torch

from langchain_internvl.backends.transformers.grammars import Grammars
from langchain_internvl.errors import BackendError, SchemaError
from langchain_internvl.grammar import json_grammar
from langchain_internvl.pattern_rules import pattern_rules
from langchain_internvl.schemas import check_schema
from langchain_internvl.string_formats import FORMATS

END = 256
BYTES = {**{byte: bytes([byte]) for byte in range(256)}, END: b""}
GRAMMARS = Grammars(BYTES)


def grammar_of(pattern):
    return json_grammar(check_schema({"type": "string", "pattern": pattern}))


def draw(pattern, seed, most=300):
    """A string that the grammar of a pattern lets through, byte by byte; None if it got long."""
    state = GRAMMARS.follow(grammar_of(pattern), [END])
    chance = torch.Generator().manual_seed(seed)
    data = b""
    for _ in range(most):
        odds = state.allow(torch.zeros(END + 1)).softmax(-1)
        token = int(torch.multinomial(odds, 1, generator=chance))
        state.accept(token)
        if token == END:
            return json.loads(data.decode())
        data += BYTES[token]
    return None


def accepts(pattern, text):
    state = GRAMMARS.follow(grammar_of(pattern), [END])
    try:
        for byte in json.dumps(text, ensure_ascii=False).encode():
            state.accept(byte)
        state.accept(END)
    except BackendError:
        return False
    return True


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
    drawn = [draw(pattern, seed) for seed in range(12)]
    texts = [text for text in drawn if text is not None]
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
    assert [text for text in good if not accepts(pattern, text)] == []
    assert [text for text in bad if accepts(pattern, text)] == []


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
