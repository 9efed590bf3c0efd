"""JSON that is parsed while it streams, beside LangChain's parser of the whole text so far."""

import json
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.utils.json import parse_partial_json

from langchain_internvl.tool_calling.partial_json import PartialJson

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)


def steps_of(pieces):
    partial = PartialJson()
    steps = [json.loads(json.dumps(partial.value())) for piece in pieces if partial.push(piece)]
    return partial, steps


def expected_of(pieces):
    """Values by LangChain, as often as they change; those that lose text again are left out."""
    steps, text = [], ""
    for piece in pieces:
        text += piece
        try:
            value = parse_partial_json(text)
        except ValueError:
            continue
        if not steps or [value] != steps[-1:]:
            steps.append(value)
    return steps


@settings(max_examples=300, deadline=None)
@given(VALUES, st.booleans(), st.integers(0, 1 << 30))
def test_the_last_value_is_that_of_the_text(value, is_ascii, seed):
    text = json.dumps(value, ensure_ascii=is_ascii, indent=seed % 3 or None)
    chance = random.Random(seed)
    cuts = sorted(chance.randrange(len(text) + 1) for _ in range(len(text) // 2))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    partial, steps = steps_of(pieces)
    assert not partial.is_broken
    assert partial.has_value
    assert json.dumps(partial.value()) == json.dumps(value)
    if steps:
        assert json.dumps(steps[-1]) == json.dumps(value)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "b": [true, null, -1.5e3, "x y"], "c": {"d": {}}}',
        ' [ [ ], { } , "" , 0 , [1, 2 , 3 ] ] ',
        '{"rows": [{"name": "a", "n": 10}, {"name": "b", "n": 2.25}]}',
        '"alone"',
        "-12.5",
        "[]",
        '{"a": 1} and more',
        '{"a": 1, "a": "twice"}',
        '{"line": "one\ntwo\tthree"}',
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_each_step_is_what_langchain_parses_of_the_text_so_far(text, size):
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    partial, steps = steps_of(pieces)
    assert steps == expected_of(pieces)
    assert not partial.is_broken


def test_escapes_split_anywhere_never_shrink_the_value():
    value = {"text": 'a"b\\c\nd\u00e9\u4e2d\U0001f600\ud83dx'}
    text = json.dumps(value)
    _, steps = steps_of(text)
    assert steps[-1] == value
    texts = [step.get("text", "") for step in steps]
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Here is it: {}", None),
        ('{"a": 1, b: 2}', {"a": 1}),
        ('{"a": [1, 2}', {"a": [1, 2]}),
        ('{"a": 012}', {"a": 0}),
        ('{"a": "\\x"}', {"a": ""}),
        ('{"a" 1}', {}),
        ("[1 2]", [1]),
        ("[1,]", [1]),
        ("[truth]", []),
    ],
)
def test_what_is_no_json_keeps_the_value_before_it(text, value):
    partial, _ = steps_of(text)
    assert partial.is_broken
    assert partial.value() == value
    assert not partial.push(' "more"')


def test_values_of_different_steps_are_different_objects():
    partial = PartialJson()
    text = '{"a": [1, {"b": "xyz"}, 2], "c": []}'
    seen = [(partial.value(), json.dumps(partial.value())) for char in text if partial.push(char)]
    assert len(seen) > 5
    assert all(json.dumps(value) == then for value, then in seen)


def test_each_character_is_parsed_once(monkeypatch):
    """Counted, not timed: characters that regular expressions pass over."""
    passed = 0
    skip = PartialJson._skip

    def counting(self, pattern):
        nonlocal passed
        found = skip(self, pattern)
        passed += len(found)
        return found

    monkeypatch.setattr(PartialJson, "_skip", counting)
    rows = [{"name": f"item {number}", "price": number / 4} for number in range(500)]
    text = json.dumps({"rows": rows})
    partial = PartialJson()
    for start in range(0, len(text), 3):
        partial.push(text[start : start + 3])
    assert partial.value() == {"rows": rows}
    assert passed < 3 * len(text)
