"""Words and tool calls of a reply, however it comes in pieces."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessageChunk

from langchain_internvl.prompting.tool_formats import HERMES, INTERNLM2
from langchain_internvl.requests.chunks import to_call_chunks
from langchain_internvl.tool_calling.call_stream import CallStream


def read(reply, tools=HERMES, cuts=(), **options):
    """What comes of a reply that arrives in pieces."""
    stream = CallStream(tools, **options)
    places = sorted({min(cut, len(reply)) for cut in cuts})
    words, merged, seen = "", None, []
    for start, end in zip([0, *places], [*places, len(reply)], strict=True):
        said, pieces = stream.push(reply[start:end], last=end == len(reply))
        words += said
        seen += pieces
        chunk = AIMessageChunk(said, tool_call_chunks=to_call_chunks(pieces))
        merged = chunk if merged is None else merged + chunk
    assert merged.content == words
    return merged, seen


def hermes(name, arguments):
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def calls(message):
    return [(call["name"], call["args"]) for call in message.tool_calls]


TEXT = 'äé "quoted" \\ {[</tool_call>]} 😀'
REPLY = (
    f"Let me see. \n{hermes('look', json.dumps({'at': TEXT, 'n': [1, {'a': {}}]}))}\nAnd \n"
    f"{hermes('go', '{}')}\n{hermes('stop', '{}')} then."
)


@settings(deadline=None)
@given(st.lists(st.integers(0, len(REPLY)), max_size=12))
def test_pieces_do_not_matter(cuts):
    message, pieces = read(REPLY, cuts=cuts)
    assert message.content == "Let me see. \nAnd \nthen."
    assert calls(message) == [
        ("look", {"at": TEXT, "n": [1, {"a": {}}]}), ("go", {}), ("stop", {}),
    ]  # fmt: skip
    assert message.invalid_tool_calls == []
    assert [piece.name for piece in pieces if piece.name] == ["look", "go", "stop"]
    assert len({call["id"] for call in message.tool_calls}) == 3
    assert all(piece.id is None for piece in pieces if piece.name is None)
    assert sorted({piece.index for piece in pieces}) == [0, 1, 2]


def test_every_character_on_its_own():
    message, pieces = read(REPLY, cuts=range(len(REPLY)))
    assert len(calls(message)) == 3
    assert len(pieces) > 40  # arguments come as they are written, not all at once


@settings(deadline=None)
@given(st.integers(1, len(REPLY) - 1))
def test_a_reply_that_is_cut_off_has_no_call_that_is_not_whole(cut):
    message, _ = read(REPLY[:cut])
    whole = [("look", {"at": TEXT, "n": [1, {"a": {}}]}), ("go", {}), ("stop", {})]
    assert calls(message) == whole[: len(message.tool_calls)]
    begun = REPLY[:cut].count("<tool_call>")
    assert len(message.tool_calls) + len(message.invalid_tool_calls) == begun
    assert len(message.invalid_tool_calls) <= 1


def test_internlm2():
    call = '<|action_start|><|plugin|>\n{"name": "look", "parameters": {"at": "é"}}<|action_end|>'
    for cuts in ((), range(len(call) + 6)):
        message, _ = read(f"I look{call}\n", INTERNLM2, cuts)
        assert message.content == "I look"
        assert calls(message) == [("look", {"at": "é"})]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"arguments": {"a": 1}, "name": "f"}', ("f", {"a": 1})),
        ('{"name": "f", "arguments": "{\\"a\\": 1}"}', ("f", {"a": 1})),
        ('{"name": "f"}', ("f", {})),
        ('{"name": "f", "arguments": null}', ("f", {})),
        (' {"name" : "f" ,"parameters":{"a":1} , "why": 2} ', ("f", {"a": 1})),
        ('{"name": "caf\\u00e9", "arguments": {}}', ("café", {})),
    ],
)
def test_other_ways_to_write_a_call(body, expected):
    for cuts in ((), range(200)):
        message, _ = read(f"<tool_call>{body}</tool_call>", cuts=cuts)
        assert calls(message) == [expected]


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("nonsense", None),
        ("", None),
        ('{"a": 1}', None),
        ("[1]", None),
        ('{"name": 3, "arguments": {}}', None),
        ('{"name": "f", "arguments": [1]}', None),
        ('{"name": "f", "arguments": {"a": 1,}}', "f"),
        ('{"name": "f", "arguments": {\'a\': 1}}', "f"),
        ('{"name": "f", "arguments": {"a": [1}}', "f"),
        ('{"name": "f", "arguments": {"a": 1', "f"),
        ('{"name": "f", "arguments": {"a": [{"b": "x\\', "f"),
        ('{"name": "f", "arguments": ' + '{"a":' * 400, "f"),
        ("[" * 3000, None),
        ('{"name": "", "arguments": {}}', None),
        ('{"arguments": {}, "name": ""}', None),
    ],
)
def test_what_is_no_call_is_an_invalid_one(body, name):
    for cuts in ((), range(120)):
        message, _ = read(f"Hm <tool_call>\n{body}\n</tool_call> so", cuts=cuts)
        assert message.tool_calls == []
        (invalid,) = message.invalid_tool_calls
        assert invalid["name"] == name
        assert invalid["args"]
        assert message.content.startswith("Hm")


def test_what_only_begins_like_a_call_is_words():
    for reply in ("a < b", "<tool", "use <tool_calls> and <b>", "<too<tool_cal"):
        message, pieces = read(reply, cuts=range(len(reply)))
        assert (message.content, pieces) == (reply, [])


@pytest.mark.parametrize("kind", ["must", "either"])
def test_a_call_that_is_cut_off_where_it_begins(kind):
    for cuts in ((), range(60)):
        for begun in ("<", " <to", "<tool_call"):
            message, _ = read(begun, cuts=cuts, **{kind: True})
            assert (message.content, message.tool_calls) == ("", [])
            (invalid,) = message.invalid_tool_calls
            assert (invalid["name"], invalid["args"][:-1]) == (None, begun.strip())
        message, _ = read(hermes("f", "{}") + "\n<tool", cuts=cuts, **{kind: True})
        assert (message.content, calls(message)) == ("", [("f", {})])
        assert len(message.invalid_tool_calls) == 1
    message, pieces = read("", **{kind: True})
    assert (message.content, pieces) == ("", [])


def test_words_right_beside_a_call_stay_apart():
    message, _ = read(f"a{hermes('f', '{}')}b")
    assert message.content == "a\nb"


def test_stop_texts_end_words_and_not_arguments():
    reply = (
        f"One. {hermes('f', json.dumps({'a': 'END'}))} Two. EN{hermes('g', '{}')}D three END four"
    )
    for cuts in ((), range(len(reply))):
        message, _ = read(reply, cuts=cuts, stop=["END"])
        assert message.content == "One. Two. EN\nD three"
        assert calls(message) == [("f", {"a": "END"}), ("g", {})]
    message, _ = read(f"One END {hermes('f', '{}')}", stop=["END"])
    assert (message.content, calls(message)) == ("One", [])


def test_an_answer_in_json_may_spell_a_call():
    reply = json.dumps({"a": hermes("f", "{}")})
    for cuts in ((), range(len(reply))):
        message, pieces = read(reply, cuts=cuts, either=True)
        assert (message.content, pieces) == (reply, [])


def test_a_call_may_come_in_pieces_where_an_answer_may():
    message, _ = read(hermes("f", "{}"), cuts=range(60), either=True)
    assert (message.content, calls(message)) == ("", [("f", {})])


@pytest.mark.parametrize("closing", ["</tool_call>", ""])
@pytest.mark.parametrize(
    ("rest", "is_call"),
    [("}", True), ("\n}\n", True), ("}}", True), ("", True), (', "id": "x"}', True),
     ('{"x": 2}}', False), ('} {"name": "a", "arguments": {"x": 2}}', False), ("} [", False),
     ("} because", False), ("};", False), ("}\n```", True), ("}\n```\n", True),
     ("}\n````", True), ("}\n```json\n{}", False), ("}\n``", False), ("} ``` so", False)],
)  # fmt: skip
def test_what_follows_arguments_is_not_dropped(rest, is_call, closing):
    """Of two objects neither is the call for certain, and the second was lost."""
    message, _ = read('<tool_call>{"name": "a", "arguments": {"x": 1}' + rest + closing)
    assert calls(message) == ([("a", {"x": 1})] if is_call else [])
    written = [(one["name"], one["args"]) for one in message.invalid_tool_calls]
    if is_call:
        assert written == []
    else:
        ((name, args),) = written
        assert name == "a"
        assert args.startswith('{"x": 1}' + rest)
    assert message.content == ""


@pytest.mark.parametrize("tools", [HERMES, INTERNLM2])
@pytest.mark.parametrize("body", [
    '{"name": "a", "arguments": {"x": "```"}}', '{"arguments": {"x": "```"}, "name": "a"}',
])  # fmt: skip
@pytest.mark.parametrize(
    ("begin", "end"), [("```json\n", "\n```"), ("```\n", "```\n"), ("", "```")]
)
def test_a_fence_around_a_call_is_none_of_it(tools, body, begin, end):
    written = f"{tools.open_call}{begin}{body}{end}{tools.close_call}"
    for pieces in ([written], list(written)):
        words, found, _ = _read_pieces(pieces, tools)
        ((name, arguments),) = found.values()
        assert (words, name, json.loads(arguments)) == ("", "a", {"x": "```"})


def _read_pieces(pieces, tools, **options):
    """Text and calls of a reply, and whether a stop string ended it."""
    stream = CallStream(tools, **options)
    words, found = "", {}
    for number, piece in enumerate(pieces, 1):
        said, calls_ = stream.push(piece, last=number == len(pieces))
        words += said
        for one in calls_:
            name, arguments = found.get(one.index, (None, ""))
            found[one.index] = one.name or name, arguments + one.arguments
        if stream.is_stopped:
            break
    return words, found, stream.is_stopped


_PARTS = (
    "<tool_call>", "</tool_call>", "<tool", "<|action_start|>", "<|plugin|>", "<|action_end|>",
    "\n", '{"name": "a", "arguments": {"x": "}"}}', '{"name": "a", "arguments": ', '{"x": 1}',
    " ", "é", "text", "STOP", "ST", '"', "\\", "}",
)  # fmt: skip


@settings(deadline=None, max_examples=400)
@given(
    parts=st.lists(st.sampled_from(_PARTS), max_size=8),
    tools=st.sampled_from([HERMES, INTERNLM2]),
    stop=st.sampled_from([(), ("STOP",), ("STOP", "ex"), ("\n",), (" t",)]),
    either=st.booleans(),
    must=st.booleans(),
)
@example(["ST", "<tool_call>", "\n"], HERMES, ("STOP",), True, False)
@example(["ST", "<tool"], HERMES, ("STOP",), False, True)
@example(["text", "<tool_call>", "</tool_call>", " ", " ", "é"], HERMES, (), False, False)
def test_pieces_of_malformed_replies_do_not_matter(parts, tools, stop, either, must):
    """A stop string that may have begun is text before a call, as text without one is."""
    reply = "".join(parts)
    options = {"stop": stop, "either": either, "must": must}
    whole = _read_pieces([reply], tools, **options)
    assert _read_pieces(list(reply) or [""], tools, **options) == whole
    assert _read_pieces(parts or [""], tools, **options) == whole
