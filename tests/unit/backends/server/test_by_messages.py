"""What a server is asked by messages: nothing but OpenAI's protocol."""

import base64
import io
import json

import numpy as np
import pytest
from fault_server import FaultServer, chunk, lines, words
from golden import GOLDEN, PHOTOS, VIDEO, checkpoint_folder
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from PIL import Image
from videos import write_clip

from langchain_internvl import ChatInternVL, image_block, video_block
from langchain_internvl.backends.base import Request
from langchain_internvl.backends.server.by_messages import MessageDialect
from langchain_internvl.errors import PromptError, RequestError
from langchain_internvl.grammars.grammar import Grammar
from langchain_internvl.media.images import load_rgb
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.sources import PathSource
from langchain_internvl.messages.conversation import Text, Turn

OTHER = ({"id": "vl", "owned_by": "somebody"},)
GOOD = lines(*words("Hel", "lo"))


def text(said):
    return {"type": "text", "text": said}


@pytest.fixture
def served():
    """A server of somebody else's, and a model at it."""
    server = FaultServer(GOOD, models=OTHER)
    with server.running() as url:
        llm = ChatInternVL(model="vl", base_url=url, api_key="hush", max_retries=0)
        yield server, llm
        llm.close()


def body_of(served, messages, **settings):
    server, llm = served
    reply = llm.invoke(messages, **settings)
    assert reply.content == "Hello"
    return server.asked[-1]


def pixels(block):
    assert block["type"] == "image_url"
    head, data = block["image_url"]["url"].split(",", 1)
    assert head.startswith("data:image/")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_only_what_openais_protocol_has_and_all_servers_of_internvl_take(served):
    asked = body_of(served, "Hello", seed=-1, logprobs=True, top_logprobs=2)
    assert asked == {
        "model": "vl",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 1024,
        "temperature": 0.0,
        "top_k": 1,
        "seed": 2**63 - 1,
        "logprobs": True,
        "top_logprobs": 2,
    }


def test_sampling(served):
    asked = body_of(served, "Hello", temperature=0.7, top_p=0.9, top_k=5, repetition_penalty=1.1)
    names = ("temperature", "top_p", "top_k", "repetition_penalty")
    assert [asked[name] for name in names] == [0.7, 0.9, 5, 1.1]


def test_a_reply_is_told_as_any_other(served):
    _, llm = served
    reply = llm.invoke("Hello")
    assert reply.usage_metadata == {
        "input_tokens": 7, "output_tokens": 3, "total_tokens": 10,
        "input_token_details": {"cache_read": 4},
    }  # fmt: skip
    assert reply.response_metadata["finish_reason"] == "stop"
    chunks = list(llm.stream("Hello"))
    assert "".join(one.content for one in chunks) == "Hello"
    assert [one.usage_metadata is None for one in chunks] == [True] * (len(chunks) - 1) + [False]


@pytest.mark.parametrize("settings", [{}, {"stop": ["lo"]}])
def test_what_nobody_counted_has_no_usage(settings):
    server = FaultServer(lines(chunk({"content": "Hello"}), chunk({}, "stop")), models=OTHER)
    with server.running() as url:
        llm = ChatInternVL(model="vl", base_url=url)
        chunks = list(llm.stream("Hello", **settings))
        assert llm.invoke("Hello", **settings).usage_metadata is None
        llm.close()
    assert [one.usage_metadata for one in chunks] == [None] * len(chunks)
    assert chunks[-1].chunk_position == "last"


def test_log_probabilities_are_passed_on():
    told = {"token": "Hi", "bytes": [72, 105], "logprob": -0.5, "top_logprobs": []}
    answer = lines(chunk({"content": "Hi"}, logprobs={"content": [told]}), chunk({}, "stop"))
    with FaultServer(answer, models=OTHER).running() as url:
        llm = ChatInternVL(model="vl", base_url=url)
        reply = llm.invoke("Hello", logprobs=True)
        assert reply.response_metadata["logprobs"]["content"] == [told]
        assert "logprobs" not in llm.invoke("Hello").response_metadata
        llm.close()


def test_images_come_first_as_data(served):
    cat = PHOTOS / "chelsea.png"
    message = HumanMessage([text("What is "), image_block(cat), text("this?"), image_block(cat)])
    (asked,) = body_of(served, [message])["messages"]
    first, second, said = asked["content"]
    assert said == text("What is \nthis?")  # never glued
    assert base64.b64decode(first["image_url"]["url"].split(",")[1]) == cat.read_bytes()
    assert np.array_equal(pixels(first), pixels(second))


@pytest.mark.parametrize("file", ["mode_rgba.png", "mode_i16.png", "mode_cmyk.tiff",
                                  "webp_lossless.webp", "gif_animated.gif", "exif_rot6.jpg",
                                  "mode_p_transparency.png"])  # fmt: skip
def test_pictures_that_servers_read_in_their_own_ways_are_written_anew(file, served):
    path = GOLDEN / "images" / file
    (asked,) = body_of(served, [HumanMessage([image_block(path)])])["messages"]
    expected = np.asarray(load_rgb(PathSource(path), MediaPolicy()))
    (block,) = asked["content"]
    assert np.array_equal(pixels(block), expected)
    assert block["image_url"]["url"].startswith("data:image/png")


def test_a_number_of_tiles_is_a_size_that_gives_it(served):
    block = image_block(PHOTOS / "coffee.png", max_tiles=1)
    (asked,) = body_of(served, [HumanMessage([block])])["messages"]
    assert pixels(asked["content"][0]).shape == (448, 448, 3)
    wide = Image.new("RGB", (1200, 400), "red")
    (asked,) = body_of(served, [HumanMessage([image_block(wide)])], max_tiles=4)["messages"]
    assert pixels(asked["content"][0]).shape == (448, 3 * 448, 3)


def test_a_video_is_its_frames(served, tmp_path):
    shades = [
        np.full((64, 96, 3), shade, np.uint8) for shade in (10, 90, 170, 250) for _ in range(3)
    ]
    clip = write_clip(tmp_path / "clip.avi", shades, codec="ffv1", pix_fmt="bgr0")
    message = HumanMessage([video_block(clip, num_frames=4), text("What?")])
    (asked,) = body_of(served, [message])["messages"]
    *frames, said = asked["content"]
    assert said == text("What?")
    assert [int(pixels(frame).mean()) for frame in frames] == [10, 90, 170, 250]
    assert {pixels(frame).shape for frame in frames} == {(448, 448, 3)}


def test_roles_calls_and_results(served):
    messages = [
        SystemMessage("Be brief."),
        HumanMessage("Look."),
        AIMessage("", tool_calls=[{"name": "look", "args": {"n": 1}, "id": "a"},
                                  {"name": "look", "args": {"n": 2}, "id": "b"}]),
        ToolMessage("two", tool_call_id="b"),
        ToolMessage([text("one"), image_block(PHOTOS / "coffee.png")], tool_call_id="a"),
        AIMessage("Done."),
        HumanMessage("Thanks."),
    ]  # fmt: skip
    asked = body_of(served, messages)["messages"]
    roles = ["system", "user", "assistant", "tool", "tool", "user", "assistant", "user"]
    assert [one["role"] for one in asked] == roles
    assert [call["id"] for call in asked[2]["tool_calls"]] == ["a", "b"]
    assert json.loads(asked[2]["tool_calls"][1]["function"]["arguments"]) == {"n": 2}
    assert [one["tool_call_id"] for one in asked[3:5]] == ["a", "b"]
    assert asked[3]["content"] == "one"
    assert [block["type"] for block in asked[5]["content"]] == ["image_url"]
    assert all(isinstance(one["content"], str) for one in asked if one["role"] != "user")


def test_as_given_is_refused_where_a_server_moves_images(served):
    _, llm = served
    image = image_block(PHOTOS / "coffee.png")
    with pytest.raises(RequestError, match="image_order"):
        llm.invoke([HumanMessage([text("What?"), image])], image_order="as_given")
    (asked,) = body_of(served, [HumanMessage([image, text("What?")])], image_order="as_given")[
        "messages"
    ]
    assert asked["content"][-1] == text("What?")


def test_texts_around_an_image_are_not_glued(served):
    image = image_block(PHOTOS / "coffee.png")
    for before, after, joined in (("label:", "This", "label:\nThis"), ("a\n", "b", "a\nb"),
                                  ("a", "\nb", "a\nb")):  # fmt: skip
        (asked,) = body_of(served, [HumanMessage([text(before), image, text(after)])])["messages"]
        assert asked["content"][-1] == text(joined)
    (asked,) = body_of(served, [HumanMessage([text("one "), text("two")])])["messages"]
    assert asked["content"] == "one two"


def test_images_that_a_server_would_not_show_are_refused(served):
    _, llm = served
    with pytest.raises(PromptError, match="no images in system messages"):
        llm.invoke([SystemMessage([image_block(PHOTOS / "coffee.png")]), HumanMessage("x")])


def test_the_system_text_is_sent_if_it_is_known(served):
    server, llm = served
    named = llm.model_copy(update={"chat_template": "internvl2_5"})
    named.invoke("Hello")
    system, user = server.asked[-1]["messages"]
    assert system["role"] == "system"
    assert system["content"].startswith("你是书生·万象")
    assert user["content"] == "Hello"
    for setting, roles in ((None, ["user"]), ("Own.", ["system", "user"])):
        named.invoke("Hello", default_system=setting)
        assert [one["role"] for one in server.asked[-1]["messages"]] == roles


def test_the_system_text_of_a_checkpoint_at_hand():
    server = FaultServer(GOOD, models=OTHER)
    with server.running() as url:
        folder = str(checkpoint_folder("qwen2"))
        llm = ChatInternVL(model=folder, served_model="vl", base_url=url)
        llm.invoke("Hello")
        assert server.asked[-1]["model"] == "vl"
        assert server.asked[-1]["messages"][0]["content"].endswith("人工智能助手。")
        llm.close()


TURNS = (Turn("user", (Text("Hello"),)),)


def test_a_schema_is_a_response_format():
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    request = Request((), turns=TURNS, grammar=Grammar("{}", json.dumps(schema)))
    sent = MessageDialect().body(request)["response_format"]
    assert sent["type"] == "json_schema"
    assert sent["json_schema"]["schema"] == schema


def test_a_grammar_that_no_server_takes_is_refused():
    with pytest.raises(RequestError, match="one JSON value"):
        MessageDialect().body(Request((), turns=TURNS, grammar=Grammar('{"type": "or"}')))


def test_calls_come_in_pieces_and_are_written_as_words():
    """As the reply of a model that writes them itself, so that one parser reads both."""

    def piece(index, name=None, arguments=None):
        return {"index": index, "function": {"name": name, "arguments": arguments}}

    answer = lines(
        chunk({"content": "I look."}),
        chunk({"tool_calls": [piece(0, "look", "")]}),
        chunk({"tool_calls": [piece(0, None, '{"n":')]}),
        chunk({"tool_calls": [piece(0, None, " 1}"), piece(1, "say", '{"x": "<b>"}')]}),
        chunk({}, "tool_calls"),
    )
    with FaultServer(answer, models=OTHER).running() as url:
        llm = ChatInternVL(model="vl", base_url=url)
        reply = llm.invoke("Hello")
        llm.close()
    assert reply.content == (
        'I look.\n<tool_call>\n{"name": "look", "arguments": {"n": 1}}\n</tool_call>\n'
        '<tool_call>\n{"name": "say", "arguments": {"x": "<b>"}}\n</tool_call>'
    )
    assert reply.response_metadata["finish_reason"] == "stop"


def test_a_photograph_of_a_phone_is_turned_if_asked(served):
    path = GOLDEN / "images/exif_rot6.jpg"
    (asked,) = body_of(served, [HumanMessage([image_block(path)])], exif_transpose=True)["messages"]
    upright = load_rgb(PathSource(path), MediaPolicy(), exif_transpose=True)
    assert np.array_equal(pixels(asked["content"][0]), np.asarray(upright))


@pytest.mark.parametrize("mode", ["RGB", "I;16", "RGBA"])
def test_what_is_sent_is_opaque(served, mode):
    values = {
        "RGB": (np.uint8, (9, 9, 9)),
        "I;16": (np.uint16, 9),
        "RGBA": (np.uint8, (9, 9, 9, 0)),
    }
    kind, value = values[mode]
    buffer = io.BytesIO()
    key = {} if mode == "RGBA" else {"transparency": value}
    Image.fromarray(np.full((8, 8, np.size(value)), value, kind).squeeze()).save(
        buffer, "PNG", **key
    )
    message = [HumanMessage([image_block(buffer.getvalue())])]
    for options, expected in (({}, 9), ({"white_background": True}, 255)):
        (asked,) = body_of(served, message, **options)["messages"]
        url = asked["content"][0]["image_url"]["url"]
        sent = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
        assert sent.mode == "RGB"
        assert not sent.has_transparency_data
        assert sent.getpixel((4, 4)) == (expected,) * 3


def test_the_video_of_a_path(served):
    block = {"type": "video", "path": str(VIDEO), "num_frames": 2}
    (asked,) = body_of(served, [HumanMessage([block])])["messages"]
    assert len(asked["content"]) == 2


def test_half_characters_are_joined_or_marked():
    halves = [{"content": "\ud83d"}, {"content": "\ude00 a \ud800 b \udfff"}, {"content": "\ud83d"}]
    with FaultServer(lines(*map(chunk, halves), chunk({}, "stop")), models=OTHER).running() as url:
        llm = ChatInternVL(model="vl", base_url=url)
        assert llm.invoke("x").content == "\U0001f600 a \ufffd b \ufffd\ufffd"
        llm.close()
