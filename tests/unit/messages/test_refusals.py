"""Malformed content: the same typed error from every way into the model."""

import asyncio
import copy
import io
import random

import pytest
from block_shapes import (
    IMAGE_SHAPES,
    LEFT_OUT,
    PDF_SHAPES,
    REFUSED,
    TEXT_SHAPES,
    URL_SHAPES,
    VIDEO_SHAPES,
)
from golden import checkpoint_folder
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.prompt_values import ChatPromptValue
from PIL import Image
from support import FixedBackend

from langchain_internvl import ChatInternVL, MediaPolicy
from langchain_internvl.errors import InternVLError, MediaTooLargeError, MessageError


@pytest.fixture(scope="module")
def llm():
    # No media are fetched: the only allowed host is none.
    policy = MediaPolicy(allowed_hosts=("nowhere.invalid",), timeout=60)
    model = str(checkpoint_folder("internlm2"))
    return ChatInternVL(model=model, backend=FixedBackend(), media_policy=policy, max_tiles=1)


async def _astream(llm, messages):
    async for _ in llm.astream(messages):
        pass


WAYS = {
    "invoke": lambda llm, messages: llm.invoke(messages),
    "stream": lambda llm, messages: list(llm.stream(messages)),
    "ainvoke": lambda llm, messages: asyncio.run(llm.ainvoke(messages)),
    "astream": lambda llm, messages: asyncio.run(_astream(llm, messages)),
    "batch": lambda llm, messages: llm.batch([messages]),
    "generate": lambda llm, messages: llm.generate([messages]),
    "render": lambda llm, messages: llm.render(messages),
    "prompt_ids": lambda llm, messages: llm.prompt_ids(messages),
    "count": lambda llm, messages: llm.get_num_tokens_from_messages(messages),
}
MALFORMED = {
    "type of a list": [{"type": []}],
    "type of nothing": [{"type": None}],
    "v0 without data": [{"type": "image", "source_type": "url"}],
    "v0 of a wrong source": [{"type": "image", "source_type": ["url"], "url": "https://a.b/c"}],
    "text of nothing": [{"type": "text", "text": None}],
    "text of a list": [{"type": "text", "text": ["x"]}],
    "no text": [{"type": "text"}],
    "file of a number": [{"type": "file", "source_type": "base64", "data": 7}],
    "base64 of a number": [{"type": "image", "base64": 7, "mime_type": "image/png"}],
    "mime type of a list": [{"type": "file", "base64": None, "mime_type": ["a"]}],
    "url of a dict": [{"type": "image_url", "image_url": {"url": {}}}],
    "url of a list": [{"type": "image_url", "image_url": ["https://a.b/c"]}],
    "audio of nothing": [{"type": "input_audio", "input_audio": None}],
    "path of a number": [{"type": "image", "path": 7}],
    "image of a list": [{"type": "image", "image": [1, 2]}],
    "a number": [7],
    "nothing": [None],
    "a list": [["x"]],
    "content of nothing": None,
    "content of a number": 7,
    "content of a dict": {"type": "text", "text": "x"},
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED)
def test_malformed_content_is_a_message_error(llm, way, content):
    with pytest.raises(MessageError, match="message 1"):
        way(llm, [HumanMessage.model_construct(content=content)])


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(
    "calls",
    [[7], [{}], [{"name": "f"}], [{"name": "f", "args": {1, 2}, "id": "1"}], None, "calls"],
)
def test_malformed_tool_calls(llm, way, calls):
    message = AIMessage("")
    message.tool_calls = calls
    if calls == [{"name": "f", "args": {1, 2}, "id": "1"}]:
        way(llm, [message])  # what JSON does not know is written as text
    else:
        with pytest.raises(MessageError, match="message 1: malformed"):
            way(llm, [message])


@pytest.mark.parametrize("way", [way for way in WAYS if way not in {"generate", "count"}])
@pytest.mark.parametrize(
    "value",
    [7, None, [7], [None], [("user",)], [{"role": "user"}], [{"role": 7, "content": "x"}],
     [{"role": "user", "content": 7}], [("narrator", "x")]],
    ids=str,
)  # fmt: skip
def test_what_is_no_message(llm, way, value):
    with pytest.raises(MessageError):
        WAYS[way](llm, value)


def test_generate_of_what_is_no_message(llm):
    for wrong in (7, None, {"role": "user", "content": "x"}):
        with pytest.raises(MessageError, match="message 1 is an object of type"):
            llm.generate([[wrong]])


def test_a_malformed_conversation_leaves_the_others_of_a_batch_alone(llm):
    fine, malformed = HumanMessage("x"), HumanMessage.model_construct(content=[{"type": []}])
    first, second = llm.batch([[fine], [malformed]], return_exceptions=True)
    assert first.content == "Hello there"
    assert isinstance(second, MessageError)


@pytest.mark.parametrize("size", [(80_000_000, 1), (1, 80_000_000)])
@pytest.mark.parametrize("as_bytes", [True, False])
def test_an_image_of_one_very_long_side_is_a_typed_error(llm, size, as_bytes):
    image = Image.new("1", size)
    if as_bytes:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        image = buffer.getvalue()
    message = HumanMessage([{"type": "image", "image": image}])
    for way in ("invoke", "render", "prompt_ids"):
        if way != "render" or not as_bytes:  # a prompt's text needs no size
            with pytest.raises(MediaTooLargeError, match=r"80000000.* no side may be longer"):
                WAYS[way](llm, [message])


# Mutated blocks.

_WRONG = (
    None, True, 7, -1, 1.5, float("nan"), "", "x", "\ud800", "data:", "http://[", "a\0b", [], ["x"],
    {}, {"url": 7}, {"type": []}, {"data": None}, b"", b"\xff", (), {1: 2}, object(), "text",
    "image", "base64", "url", "id", "image/png",
)  # fmt: skip
_KEYS = (
    "type", "text", "url", "base64", "data", "source", "source_type", "mime_type", "image_url",
    "file", "image", "video", "path", "id", "extras", "value", "frames", "detail", "max_tiles",
    "input_audio", "bound", "num_frames", "format", "file_id", "name", "args", "index",
)  # fmt: skip


def mutate(value, chance):
    """A copy of a block in which something is wrong, at any depth."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        value = dict(value)
        key = chance.choice(list(value))
        match chance.randrange(4):
            case 0:
                del value[key]
            case 1:
                value[chance.choice(_KEYS)] = chance.choice(_WRONG)
            case _:
                value[key] = mutate(value[key], chance)
        return value
    if isinstance(value, list) and value and chance.random() < 0.7:
        value = list(value)
        index = chance.randrange(len(value))
        value[index] = mutate(value[index], chance)
        return value
    return copy.copy(chance.choice(_WRONG))


SHAPES = (
    [
        shape
        for table in (IMAGE_SHAPES, URL_SHAPES, VIDEO_SHAPES, PDF_SHAPES, TEXT_SHAPES, LEFT_OUT)
        for shape in table.values()
    ]
    + list(REFUSED.values())
    + [{"type": "tool_use", "name": "f", "input": {"a": 1}, "id": "1"}]
)


def outcome(way, llm, messages):
    """What comes of a conversation: a reply or the type of a typed error."""
    try:
        WAYS[way](llm, messages)
    except InternVLError as error:
        return type(error)
    return "reply"


def check_mutants(llm, seed, count):
    chance = random.Random(seed)
    seen = set()
    for _ in range(count):
        block = chance.choice(SHAPES)
        for _ in range(chance.choice((1, 1, 2, 4))):
            block = mutate(block, chance)
        kind, fields = chance.choice(
            (
                (HumanMessage, {}),
                (AIMessage, {"tool_calls": [], "invalid_tool_calls": []}),
                (ToolMessage, {"tool_call_id": "1"}),
            )
        )
        message = kind.model_construct(content=[block], **fields)
        outcomes = {
            way: outcome(way, llm, ChatPromptValue.model_construct(messages=[message]))
            if way in {"invoke", "stream", "render"}
            else outcome(way, llm, [message])
            for way in ("invoke", "stream", "ainvoke", "generate", "render", "prompt_ids", "count")
        }
        # A prompt's text needs no pixels, its ids only sizes.
        text, size = outcomes.pop("render"), {outcomes.pop("prompt_ids"), outcomes.pop("count")}
        assert len(set(outcomes.values())) == 1, (block, outcomes)
        assert len(size) == 1, (block, size)
        assert text == "reply" or {text} == size, (block, text, size)
        seen |= set(outcomes.values())
    return seen


def test_mutated_blocks_give_the_same_typed_error_everywhere(llm):
    assert {"reply", MessageError} <= check_mutants(llm, 0, 40)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_many_mutated_blocks(llm, seed):
    assert {"reply", MessageError} <= check_mutants(llm, seed, 500)
