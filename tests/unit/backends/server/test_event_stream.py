"""Event streams: the examples of the standard, and what servers of chat completions send."""

import asyncio
import json

import pytest
from fault_server import chunk

from langchain_internvl.backends.server.event_stream import (
    MOST_LINE_BYTES,
    EventParser,
    ServerEvent,
    read_events,
    split_lines,
)
from langchain_internvl.backends.server.events import Fault, read_event
from langchain_internvl.errors import BrokenReplyError

# HTML standard, 9.2.6, with the events of its text; those without data say nothing here.
EXAMPLES = {
    "messages": (
        (        "data: This is the first message.\n\ndata: This is the second message, it\n"
        "data: has two lines.\n\ndata: This is the third message.\n\n"),
        [("", "This is the first message."), ("", "This is the second message, it\nhas two lines."),
         ("", "This is the third message.")],
    ),
    "names": (
        "event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\nevent: add\ndata: 113411\n\n",
        [("add", "73857293"), ("remove", "2153"), ("add", "113411")],
    ),
    "three lines": ("data: YHOO\ndata: +2\ndata: 10\n\n", [("", "YHOO\n+2\n10")]),
    "comments and ids": (
        (": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event"
        "\n\n"),
        [("", "first event"), ("", "second event"), ("", " third event")],
    ),
    "no values": ("data\n\ndata\ndata\n\ndata:", []),
    "a space or none": ("data:test\n\ndata: test\n\n", [("", "test"), ("", "test")]),
    "a mark, and fields that say nothing": (
        "\ufeffdata: 1\nretry: 5\nunknown: x\nDATA: y\ndata\n\n: x\n\nevent: lost\n\ndata: 2\n\n",
        [("", "1\n"), ("", "2")],
    ),
    "a mark in the middle": ("data: 1\n\n\ufeffdata: 2\n\n", [("", "1")]),
}  # fmt: skip


def events(text, size=1 << 20):
    async def pieces(data):
        for start in range(0, len(data), size):
            yield data[start : start + size]
            yield b""

    async def read():
        return [event async for event in read_events(pieces(text.encode()))]

    return [(one.name, one.data) for one in asyncio.run(read())]


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"], ids=["LF", "CR", "CRLF"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_of_the_standard(name, end):
    text, expected = EXAMPLES[name]
    for size in (1, 2, 3, 1 << 20):
        found = events(text.replace("\n", end), size)
        assert [(event, data.rstrip("\n")) for event, data in found] == [
            (event, data.rstrip("\n")) for event, data in expected
        ]


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_lines_in_pieces(size):
    async def read(data):
        async def pieces():
            for start in range(0, len(data), size):
                yield data[start : start + size]

        return [line async for line in split_lines(pieces())]

    text = "ä\r\n\nb\u2028\x85\rc\r\r\nend"
    assert asyncio.run(read(text.encode())) == ["ä", "", "b\u2028\x85", "c", "", "end"]


PRETTY = json.dumps({"choices": [{"delta": {"content": "{\n}"}}]}, indent=1)
COMPACT = json.dumps(json.loads(PRETTY))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\n".join(f"data: {line}" for line in PRETTY.split("\n")) + "\n\n", [PRETTY]),
        (f"{PRETTY}\n", [PRETTY]),
        (f"{COMPACT}", [COMPACT]),
        (f"{COMPACT}\n{COMPACT}\n\n{PRETTY}", [COMPACT, COMPACT, PRETTY]),
        (f"data: {COMPACT}\ndata: {COMPACT}\ndata: [DONE]\n", [COMPACT, COMPACT, "[DONE]"]),
        (f"data: {COMPACT}\n{COMPACT}", [COMPACT, COMPACT]),
        (f"data: {COMPACT}\n\ndata: [DONE]", [COMPACT, "[DONE]"]),
        ("<html>\n<p>\n", []),
    ],
)
def test_what_servers_send_beside_the_standard(text, expected):
    """Whole bodies, errors without a field name, and no blank lines between events."""
    for size in (1, 7, 1 << 20):
        assert events(text, size) == [("", one) for one in expected]


CHUNK = '{"choices": []}'
BOOM = '{"message":"boom"}'
LONG_BOOM = '{\n  "message": "[boom}\\"",\n  "code": 500\n}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # The name belongs to the data after it, unless a blank line comes first.
        (f"data: {CHUNK}\nevent: error\ndata: {BOOM}", [("", CHUNK), ("error", BOOM)]),
        (f"data: {CHUNK}\nevent: error\n{BOOM}", [("", CHUNK), ("error", BOOM)]),
        (f"{CHUNK}\nevent: error\n{BOOM}\ndata: [DONE]",
         [("", CHUNK), ("error", BOOM), ("", "[DONE]")]),
        (f"event: a\ndata: {CHUNK}\nid: 1\nevent: b\n: ping\ndata: {BOOM}\n\ndata: 1",
         [("a", CHUNK), ("b", BOOM), ("", "1")]),
        (f"data: {BOOM}\nevent: error\n\ndata: {CHUNK}\n\n", [("error", BOOM), ("", CHUNK)]),
        (f"data: {BOOM}\nevent: error", [("error", BOOM)]),
        (f"event: error\n\ndata: {CHUNK}", [("", CHUNK)]),
        # JSON of several lines ends with its last bracket, or where a field begins.
        (f"{LONG_BOOM}\ndata: [DONE]\n\n", [("", LONG_BOOM), ("", "[DONE]")]),
        (f"{LONG_BOOM}\nevent: error\ndata: {BOOM}", [("", LONG_BOOM), ("error", BOOM)]),
        (f"{LONG_BOOM}\n{LONG_BOOM}\n{BOOM}\n", [("", LONG_BOOM), ("", LONG_BOOM), ("", BOOM)]),
        ('{"message":\ndata: [DONE]', [("", '{"message":'), ("", "[DONE]")]),
        ('{"message":\nevent: x\ndata: [DONE]', [("", '{"message":'), ("x", "[DONE]")]),
        (f"data: {LONG_BOOM}\ndata: {CHUNK}\n\n", [("", LONG_BOOM), ("", CHUNK)]),
        ("data: {\ndata: }\ndata: [\n: ping\ndata: ]\ndata: [DONE]",
         [("", "{\n}"), ("", "[\n]"), ("", "[DONE]")]),
        (f"data: no\n{BOOM}", [("", "no"), ("", BOOM)]),
    ],
)  # fmt: skip
def test_names_and_ends_of_events_without_blank_lines(text, expected):
    for size in (1, 7, 1 << 20):
        assert events(text, size) == expected


def test_events_called_errors_are_errors():
    for data, status, said in (
        ("no luck", 500, "no luck"),
        ('"no luck"', 500, '"no luck"'),
        ('{"error": {"message": "no", "code": 400}}', 400, "no"),
        ('{"code": 429, "reason": "busy"}', 429, '{"code": 429, "reason": "busy"}'),
        (json.dumps({"choices": []}), 500, '{"choices": []}'),
    ):
        assert read_event(ServerEvent("error", data)) == Fault(status, said)
    with pytest.raises(BrokenReplyError, match="cannot be read as JSON"):
        read_event(ServerEvent("", "no luck"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"error: {BOOM}\n\n", [("error", BOOM)]),
        (f"data: {CHUNK}\nerror:{BOOM}", [("", CHUNK), ("error", BOOM)]),
        (f"data: {CHUNK}\n\nerror: {BOOM}\n\ndata: [DONE]",
         [("", CHUNK), ("error", BOOM), ("", "[DONE]")]),
        ("error: none\ndata: 1\n\n", [("", "1")]),
    ],
)  # fmt: skip
def test_a_field_of_the_name_error_is_an_error(text, expected):
    """As llama.cpp sends it in the middle of a stream."""
    assert events(text) == expected


@pytest.mark.parametrize("data", ['{"type": "ping"}', "{}", "2026-11-29 12:00"])
def test_events_of_other_names_say_nothing(data):
    for name in ("ping", "heartbeat"):
        event = read_event(ServerEvent(name, data))
        assert not event.says_something
        assert event.finish_reason is None
    with pytest.raises(BrokenReplyError):
        read_event(ServerEvent("message", data))
    named = chunk({"content": "12"}, "stop").removeprefix("data: ")
    assert read_event(ServerEvent("completion", named)).delta == {"content": "12"}
    assert read_event(ServerEvent("failure", '{"error": "no"}')) == Fault(500, "no")


@pytest.mark.parametrize("choices", [{}, {"choices": None}, {"choices": []}])
def test_token_counts_need_no_choices(choices):
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    event = read_event(ServerEvent("", json.dumps({**choices, "usage": usage})))
    assert (event.usage, event.says_something) == (usage, False)
    with pytest.raises(BrokenReplyError, match="no choices"):
        read_event(ServerEvent("", '{"usage": null}'))


def test_an_empty_finish_reason_is_none():
    sent = chunk({"content": "1"}, "").removeprefix("data: ")
    assert read_event(ServerEvent("", sent)).finish_reason is None


def test_an_event_of_many_lines_is_bounded():
    parser, line = EventParser(), "data: " + "x" * (MOST_LINE_BYTES // 4)
    assert [parser.push(line) for _ in range(4)] == [None] * 4
    with pytest.raises(BrokenReplyError, match="an event of more than 16 MiB"):
        parser.push(line)


def test_a_chunk_may_begin_with_a_byte_order_mark():
    ((name, data),) = events("\ufeff" + chunk({"content": "12"}))
    assert read_event(ServerEvent(name, data)).delta == {"content": "12"}
