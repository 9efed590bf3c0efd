"""Content blocks of streamed replies with thoughts, text and tool calls, however they arrive."""

import json

import pytest
from langchain_core.language_models.chat_model_stream import ChatModelStream
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool

from langchain_internvl import ChatInternVL
from langchain_internvl.backends.base import Delta
from langchain_internvl.backends.scripted import ScriptedBackend

pytestmark = pytest.mark.filterwarnings("ignore:.*version=.v3.*")

CALLS = [("weather", {"city": "Oslo"}), ("weather", {"city": "Paris", "days": 3})]
FRAMES = "".join(
    f"\n<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"
    for name, arguments in CALLS
)
REPLY = f"<think>\nTwo cities.\n</think>\n\nI look.{FRAMES}\nThat is all."
HALF = REPLY.index("sl", REPLY.index("Oslo") - 3)

PIECES = {
    "one": [REPLY],
    "letters": list(REPLY),
    "text and the beginning of a call": [REPLY[:HALF], REPLY[HALF:]],
    "the last call ends the reply": [REPLY[: REPLY.index("3}")], REPLY[REPLY.index("3}") :]],
}


@tool
def weather(city: str, days: int = 1) -> str:
    """Report the weather of a city."""
    return f"It rains in {city} on {days} days."


def calling(pieces, **settings):
    last = len(pieces) - 1
    deltas = [Delta(7, one, "stop" if n == last else None) for n, one in enumerate(pieces)]
    backend = ScriptedBackend([deltas])
    return ChatInternVL(model="nano", backend=backend, **settings).bind_tools([weather])


def merged(llm):
    whole, *others = llm.stream("x")
    for chunk in others:
        whole += chunk
    return whole


async def amerged(llm):
    chunks = [chunk async for chunk in llm.astream("x")]
    return sum(chunks[1:], chunks[0])


def summary(blocks):
    """Thoughts, text and calls of content blocks; anything else in them fails."""
    thoughts, text, calls = "", "", []
    for block in blocks:
        fields = {key: one for key, one in block.items() if key not in {"id", "index"}}
        match fields.pop("type"):
            case "reasoning":
                thoughts += fields.pop("reasoning")
            case "text":
                text += fields.pop("text")
            case "tool_call":
                calls.append((fields.pop("name"), fields.pop("args")))
        assert not fields
    return thoughts, text, calls


EXPECTED = ("Two cities.", "I look.\nThat is all.", CALLS)


@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES)
class TestHoweverTheyArrive:
    def test_blocks_of_streams(self, pieces):
        whole = merged(calling(pieces, output_version="v1"))
        assert summary(whole.content) == EXPECTED
        assert [(one["name"], one["args"]) for one in whole.tool_calls] == CALLS

    async def test_blocks_of_asynchronous_streams(self, pieces):
        assert summary((await amerged(calling(pieces, output_version="v1"))).content) == EXPECTED

    def test_blocks_of_replies(self, pieces):
        reply = calling(pieces, output_version="v1").invoke("x")
        assert summary(reply.content) == EXPECTED
        assert not any("index" in block for block in reply.content)

    @pytest.mark.parametrize("version", [None, "v1"])
    def test_streams_of_events(self, pieces, version):
        stream = calling(pieces, output_version=version).stream_events("x", version="v3")
        assert isinstance(stream, ChatModelStream)
        assert summary(stream.output.content) == EXPECTED
        assert [(one["name"], one["args"]) for one in stream.output.tool_calls] == CALLS

    def test_text_without_a_version(self, pieces):
        whole = merged(calling(pieces))
        assert whole.content == EXPECTED[1]
        assert summary(whole.content_blocks) == EXPECTED


def test_usage_and_metadata_are_those_of_the_reply():
    whole = merged(calling(PIECES["letters"], output_version="v1"))
    reply = calling(PIECES["letters"], output_version="v1").invoke("x")
    assert whole.usage_metadata == reply.usage_metadata
    assert whole.response_metadata == reply.response_metadata
    assert reply.response_metadata["finish_reason"] == "stop"


def test_later_turns_read_the_blocks():
    whole = merged(calling(PIECES["one"], output_version="v1"))
    llm = ChatInternVL(model="nano", backend=ScriptedBackend([]))
    plain = calling(PIECES["one"]).invoke("x")
    question = HumanMessage("x")
    assert llm.render([question, whole, question]) == llm.render([question, plain, question])
