"""Messages as turns, and as what caching and tracing see."""

import base64
import json

import numpy as np
import pytest
from block_shapes import (
    BASE64,
    DATA,
    DATA_URL,
    FILE,
    IMAGE_SHAPES,
    LEFT_OUT,
    PICTURE,
    PIXELS,
    REFUSED,
    TEXT_SHAPES,
    URL,
    URL_SHAPES,
    WORDS,
)
from golden import GOLDEN, VIDEO
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    HumanMessageChunk,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from PIL import Image as PILImage

from langchain_internvl import MediaPolicy, image_block, video_block
from langchain_internvl.errors import (
    InternVLError,
    MediaError,
    MessageError,
    RequestError,
    UnsupportedMediaError,
)
from langchain_internvl.media.images import load_rgb
from langchain_internvl.media.media_store import MediaStore
from langchain_internvl.media.sources import UrlSource
from langchain_internvl.messages.blocks import read_block
from langchain_internvl.messages.conversation import Image, LostMedia, Text, Turn
from langchain_internvl.messages.convert import to_turns
from langchain_internvl.messages.references import normalise_messages

POLICY = MediaPolicy()

# Messages.


@pytest.mark.parametrize(
    ("message", "role"),
    [
        (SystemMessage("x"), "system"),
        (HumanMessage("x"), "user"),
        (HumanMessageChunk("x"), "user"),
        (AIMessage("x"), "assistant"),
        (AIMessageChunk("x"), "assistant"),
        (ToolMessage("x", tool_call_id="1"), "tool"),
        (FunctionMessage(name="f", content="x"), "tool"),
        (ChatMessage(role="user", content="x"), "user"),
        (ChatMessage(role="developer", content="x"), "system"),
        (ChatMessage(role="assistant", content="x"), "assistant"),
    ],
)
def test_roles(message, role):
    (turn,) = to_turns([message])
    assert (turn.role, turn.parts) == (role, (Text("x"),))
    assert turn.tool_call_id == getattr(message, "tool_call_id", None)


def test_unknown_roles_and_empty_conversations_are_refused():
    with pytest.raises(MessageError, match="'narrator'"):
        to_turns([ChatMessage(role="narrator", content="x")])
    with pytest.raises(MessageError, match="'remove'"):
        to_turns([RemoveMessage(id="1")])
    with pytest.raises(MessageError, match="no messages"):
        to_turns([])


def test_an_error_names_the_message_and_the_block():
    messages = [HumanMessage("x"), HumanMessage(["fine", {"type": "hologram"}])]
    with pytest.raises(MessageError, match=r"message 2 \(human\), block 2.*hologram"):
        to_turns(messages)


def test_empty_texts_are_no_parts():
    assert to_turns([HumanMessage("")]) == [Turn("user")]
    assert to_turns([HumanMessage([{"type": "text", "text": ""}])]) == [Turn("user")]


def test_consecutive_messages_of_one_role_stay_apart():
    turns = to_turns([HumanMessage("a"), HumanMessage("b")])
    assert [turn.parts for turn in turns] == [(Text("a"),), (Text("b"),)]


def calls_of(*messages):
    return [(call.name, call.arguments) for call in to_turns(messages)[0].tool_calls]


def test_tool_calls_are_read_once():
    arguments = {"where": "hier ü"}
    expected = [("look", '{"where": "hier ü"}')]
    call = {"name": "look", "args": arguments, "id": "1", "type": "tool_call"}
    block = {"type": "tool_use", "name": "look", "input": arguments, "id": "1"}
    nameless = {"type": "tool_use", "name": "look", "input": arguments}
    assert calls_of(AIMessage("", tool_calls=[call])) == expected
    assert calls_of(AIMessage([block], tool_calls=[call])) == expected
    assert calls_of(AIMessage([nameless], tool_calls=[call])) == expected
    delta = {"type": "input_json_delta", "partial_json": '{"where'}
    assert calls_of(AIMessage([delta], tool_calls=[call])) == expected
    assert calls_of(AIMessage([block])) == expected
    assert calls_of(AIMessage([block, {**block, "id": "2"}], tool_calls=[call])) == expected * 2
    openai = {"type": "function_call", "name": "look", "arguments": '{"where": "hier ü"}'}
    assert calls_of(AIMessage([openai])) == expected
    bedrock = {"toolUse": {"toolUseId": "1", "name": "look", "input": arguments}}
    assert calls_of(AIMessage([bedrock])) == expected
    assert calls_of(AIMessage([bedrock], tool_calls=[call])) == expected
    assert calls_of(ChatMessage(role="assistant", content=[block])) == expected
    legacy = {"function_call": {"name": "look", "arguments": '{"where": "hier ü"}'}}
    assert calls_of(AIMessage("", additional_kwargs=legacy)) == expected
    assert calls_of(AIMessage("", additional_kwargs=legacy, tool_calls=[call])) == expected


@pytest.mark.parametrize("kind", [HumanMessage, SystemMessage])
def test_only_ai_messages_call_tools(kind):
    block = {"type": "tool_use", "name": "look", "input": {}, "id": "1"}
    with pytest.raises(MessageError, match=r"message 1.*only AI messages"):
        to_turns([kind([block])])


def test_arguments_that_are_no_json_are_typed_errors():
    circular = {}
    circular["self"] = circular
    for arguments in ({(1, 2): "tuple key"}, circular):
        message = AIMessage("")
        message.tool_calls = [{"name": "look", "args": arguments, "id": "1"}]
        with pytest.raises(MessageError, match="no JSON"):
            to_turns([message])


@pytest.mark.parametrize("name", [None, ""])
def test_invalid_tool_calls_without_a_name_are_words(name):
    def invalid(args):
        return {"name": name, "args": args, "id": "1", "error": "malformed"}

    invalid_calls = [invalid("<tool_call>\nx"), invalid(None)]
    (turn,) = to_turns([AIMessage("So:", invalid_tool_calls=invalid_calls)])
    assert turn.tool_calls == ()
    assert "".join(part.text for part in turn.parts) == "So:\n<tool_call>\nx"
    (turn,) = to_turns([AIMessage("", invalid_tool_calls=[invalid("<to")])])
    assert turn.parts == (Text("<to"),)


def test_invalid_tool_calls_keep_what_the_model_wrote():
    invalid = {"name": "look", "args": '{"where": ', "id": "1", "error": "no JSON"}
    assert calls_of(AIMessage("", invalid_tool_calls=[invalid])) == [("look", '{"where": ')]


def test_json_in_tool_results():
    """Bedrock's results of tools."""
    call = {"name": "f", "args": {}, "id": "1"}
    for block in ({"json": {"a": ["é", None]}}, {"type": "json", "json": {"a": ["é", None]}}):
        messages = [AIMessage("", tool_calls=[call]), ToolMessage([block], tool_call_id="1")]
        assert to_turns(messages)[1].parts == (Text('{"a": ["é", null]}'),)


def test_images_in_tool_results():
    (turn,) = to_turns(
        [ToolMessage(["see:", {"type": "image", "base64": BASE64}], tool_call_id="1")]
    )
    assert turn.role == "tool"
    assert [type(part) for part in turn.parts] == [Text, Image]


# What caching and tracing see.


@pytest.mark.parametrize("shape", [*IMAGE_SHAPES.values()], ids=[*IMAGE_SHAPES])
def test_normal_images_are_small_json_and_carry_their_data(shape, monkeypatch):
    message = HumanMessage([shape, {"type": "text", "text": "x"}])
    before = list(message.content)
    (normal,) = normalise_messages([message], POLICY)
    block = json.loads(json.dumps(normal.content))[0]
    assert block["type"] == "image"
    assert block["id"].startswith("sha256:")
    assert len(json.dumps(block)) < 300
    for known in (normal.content[0], block):  # as it is, and made anew from a trace
        (part,) = read_block(known, "here")
        assert np.array_equal(np.asarray(load_rgb(part.source, POLICY)), PIXELS)
    monkeypatch.setattr("langchain_internvl.messages.block_fields.MEDIA_STORE", MediaStore())
    with pytest.warns(UserWarning, match="in another process: the image is a reference"):
        assert read_block(block, "in another process") == [
            LostMedia("[An image was here. It is no longer available.]", kind="image")
        ]
    assert all(new is old for new, old in zip(message.content, before, strict=True))


@pytest.mark.parametrize("shape", URL_SHAPES.values(), ids=URL_SHAPES)
def test_normal_urls_are_not_fetched(shape):
    (normal,) = normalise_messages([HumanMessage([shape])], POLICY)
    assert read_block(normal.content[0], "here") == [Image(UrlSource(URL))]


def test_normalising_twice_changes_nothing():
    shapes = [
        *IMAGE_SHAPES.values(),
        *URL_SHAPES.values(),
        *TEXT_SHAPES.values(),
        *LEFT_OUT.values(),
    ]
    video = {"type": "video", "video": [FILE, FILE], "max_tiles": 2}
    once = normalise_messages([HumanMessage([*shapes, video])], POLICY)
    twice = normalise_messages(once, POLICY)
    assert twice == once
    assert twice[0] is once[0]


def test_normal_messages_without_media_are_the_same_objects():
    messages = [HumanMessage("x"), HumanMessage([{"type": "text", "text": "y"}])]
    assert all(
        new is old for new, old in zip(normalise_messages(messages, POLICY), messages, strict=True)
    )


@pytest.mark.parametrize("shape", TEXT_SHAPES.values(), ids=TEXT_SHAPES)
def test_normal_texts_are_json(shape):
    (normal,) = normalise_messages([HumanMessage([shape])], POLICY)
    (block,) = json.loads(json.dumps(normal.content))
    assert read_block(block, "here") == [Text("words")]


def test_a_changed_file_changes_the_message(tmp_path):
    file = tmp_path / "a.png"
    contents = []
    for colour in ("red", "blue"):
        PILImage.new("RGB", (4, 4), colour).save(file)
        message = HumanMessage([{"type": "image", "path": str(file)}])
        contents.append(normalise_messages([message], POLICY)[0].content)
    assert contents[0] != contents[1]


def test_refused_blocks_become_texts_that_the_model_refuses():
    for shape in (shape for name, shape in REFUSED.items() if name != "broken base64"):
        (message,) = normalise_messages([HumanMessage([shape])], POLICY)
        (block,) = message.content
        assert block["type"] == "text"
        with pytest.raises(InternVLError) as direct:
            read_block(shape, "message 1 (human), block 1")
        assert str(direct.value) in block["text"]
        with pytest.raises(type(direct.value)) as raised:
            to_turns([message])
        assert str(raised.value) == str(direct.value)
        assert normalise_messages([message], POLICY)[0] is message


def test_a_missing_file_is_an_error_at_once(tmp_path):
    message = HumanMessage([{"type": "image", "path": str(tmp_path / "no.png")}])
    with pytest.raises(MediaError, match=r"no\.png: no such file"):
        normalise_messages([message], POLICY)


# Helpers.


@pytest.mark.parametrize("image", [FILE, str(FILE), DATA, DATA_URL, PICTURE, PIXELS])
def test_image_block(image):
    block = image_block(image, max_tiles=2, min_tiles=1)
    assert (block["type"], block["mime_type"]) == ("image", "image/png")
    assert (block["min_tiles"], block["max_tiles"]) == (1, 2)
    (part,) = read_block(block, "here")
    assert np.array_equal(np.asarray(load_rgb(part.source, POLICY)), PIXELS)


def test_image_block_of_a_url_is_the_url():
    assert image_block(URL) == {"type": "image", "url": URL}


def test_image_block_keeps_the_type_of_the_file():
    assert image_block(GOLDEN / "images/jpeg_plain.jpg")["mime_type"] == "image/jpeg"


@pytest.mark.parametrize("image", [b"", b"no image", DATA[:20], "/no/such.png", 7])
def test_image_block_of_what_is_no_image(image):
    with pytest.raises(MediaError):
        image_block(image)


@pytest.mark.parametrize("limits", [{"max_tiles": 0}, {"max_tiles": 1, "min_tiles": 2}])
def test_image_block_with_impossible_limits(limits):
    with pytest.raises(RequestError):
        image_block(FILE, **limits)


def test_image_block_under_a_policy():
    with pytest.raises(MediaError, match="max_bytes"):
        image_block(FILE, policy=MediaPolicy(max_bytes=10))


def test_video_block():
    block = video_block([FILE, PICTURE, URL], max_tiles=3)
    (video,) = read_block(json.loads(json.dumps(block)), "here")
    assert len(video.frames) == 3
    assert video.max_tiles == 3
    assert len(video_block(np.stack([PIXELS, PIXELS]))["frames"]) == 2
    for wrong in (3, None, {"path": "a.mp4"}):
        with pytest.raises(UnsupportedMediaError, match="list of frames"):
            video_block(wrong)
    for empty in ([], np.empty((0, 4, 4, 3), np.uint8)):
        with pytest.raises(MessageError, match="no frames"):
            video_block(empty)
    with pytest.raises(MessageError, match="all shown"):
        video_block([FILE], num_frames=3)


@pytest.mark.parametrize("video", [VIDEO, str(VIDEO), VIDEO.read_bytes()], ids=type)
def test_video_block_of_a_file(video):
    block = video_block(video, num_frames=4, bound=(1, 2.5), max_tiles=2)
    assert (block["type"], block["mime_type"]) == ("video", "video/mp4")
    assert base64.b64decode(block["base64"]) == VIDEO.read_bytes()
    (part,) = read_block(json.loads(json.dumps(block)), "here")
    assert (part.num_frames, part.bound, part.max_tiles) == (4, (1.0, 2.5), 2)


def test_video_block_of_a_url_is_the_url():
    assert video_block(URL, num_frames=3) == {"type": "video", "url": URL, "num_frames": 3}


@pytest.mark.parametrize(
    "wrong",
    [{"num_frames": 0}, {"bound": (3, 2)}, {"bound": 5}, {"bound": ("a", "b")}, {"max_tiles": 0}],
)
def test_video_block_with_impossible_settings(wrong):
    with pytest.raises(MessageError, match=next(iter(wrong))):
        video_block(VIDEO, **wrong)


def test_video_block_under_a_policy():
    with pytest.raises(MediaError, match="max_bytes"):
        video_block(VIDEO, policy=MediaPolicy(max_video_bytes=1000))
    assert video_block(VIDEO, policy=MediaPolicy(max_bytes=1000))["base64"]


def test_video_files_stay_where_they_are_and_are_told_apart_by_their_state(tmp_path):
    """Videos are too large to be cached and traced by what they hold."""
    file = tmp_path / "a.mp4"

    def normal():
        block = {"type": "video", "path": str(file), "num_frames": 3, "bound": [0, 1]}
        (message,) = normalise_messages([HumanMessage([block])], POLICY)
        assert normalise_messages([message], POLICY)[0] is message
        assert len(message.model_dump_json()) < 1000
        (part,) = read_block(message.content[0], "here")
        assert (part.num_frames, part.bound) == (3, (0.0, 1.0))
        return message.content[0]

    file.write_bytes(b"one")
    first = normal()
    assert (first["path"], first["num_frames"], first["bound"]) == (str(file), 3, (0.0, 1.0))
    assert normal() == first
    file.write_bytes(b"another")
    assert normal() != first
    with pytest.raises(MediaError, match="no such file"):
        normalise_messages([HumanMessage([{"type": "video", "path": "/no/such.mp4"}])], POLICY)


def test_videos_at_hand_are_json():
    for block in (
        {"type": "video", "video": VIDEO.read_bytes()},
        {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{WORDS}"}},
        {"video": {"format": "mp4", "source": {"bytes": b"words"}}},
    ):
        (message,) = normalise_messages([HumanMessage([block])], POLICY)
        assert message.content[0]["mime_type"] == "video/mp4"
        assert len(json.dumps(message.content)) < 300
