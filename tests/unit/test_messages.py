"""Every shape of message and content block, and what becomes of it."""

import base64
import contextlib
import json

import numpy as np
import pytest
from golden import GOLDEN
from hypothesis import given, settings
from hypothesis import strategies as st
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
from langchain_internvl.block_fields import DETAIL_TILES
from langchain_internvl.blocks import read_block
from langchain_internvl.conversation import Document, Image, Text, Turn, Video
from langchain_internvl.errors import (
    InternVLError,
    MediaError,
    MessageError,
    RequestError,
    UnsupportedMediaError,
)
from langchain_internvl.media.images import load_rgb
from langchain_internvl.media.sources import UrlSource
from langchain_internvl.messages import normalise_messages, to_turns

POLICY = MediaPolicy()
FILE = GOLDEN / "images/mode_rgba.png"
DATA = FILE.read_bytes()
BASE64 = base64.b64encode(DATA).decode()
WORDS = base64.b64encode(b"words").decode()
DATA_URL = f"data:image/png;base64,{BASE64}"
URL = "https://example.com/cat.png"
PICTURE = PILImage.open(FILE)
PIXELS = np.asarray(PICTURE.convert("RGB"))

# Shapes of an image that is at hand, by who writes them so.
IMAGE_SHAPES = {
    "langchain v1": {"type": "image", "base64": BASE64, "mime_type": "image/png"},
    "langchain v1 bare": {"type": "image", "base64": BASE64},
    "langchain v1 data url": {"type": "image", "url": DATA_URL},
    "langchain v0": {
        "type": "image",
        "source_type": "base64",
        "data": BASE64,
        "mime_type": "image/png",
    },
    "openai chat": {"type": "image_url", "image_url": {"url": DATA_URL, "detail": "auto"}},
    "openai chat string": {"type": "image_url", "image_url": DATA_URL},
    "openai responses": {"type": "input_image", "image_url": DATA_URL, "detail": "auto"},
    "openai file": {"type": "file", "file": {"filename": "a.png", "file_data": DATA_URL}},
    "anthropic": {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": BASE64},
        "cache_control": {"type": "ephemeral"},
    },
    "bedrock": {"image": {"format": "png", "source": {"bytes": DATA}}},
    "google media": {"type": "media", "mime_type": "image/png", "data": BASE64},
    "google media bytes": {"type": "media", "mime_type": "image/png", "data": DATA},
    "google inline": {"inline_data": {"mime_type": "image/png", "data": BASE64}},
    "hugging face object": {"type": "image", "image": PICTURE},
    "hugging face array": {"type": "image", "image": PIXELS},
    "hugging face path": {"type": "image", "path": str(FILE)},
    "qwen path": {"type": "image", "image": str(FILE)},
    "qwen file url": {"type": "image", "image": FILE.as_uri()},
    "pathlib": {"type": "image", "image": FILE},
    "bytes": {"type": "image", "image": DATA},
    "lmdeploy": {"type": "image_data", "image_data": {"data": PICTURE}},
    "mcp": {"type": "image", "data": BASE64, "mimeType": "image/png"},
    "mcp resource": {
        "type": "resource",
        "resource": {"uri": "file:///a", "mimeType": "image/png", "blob": BASE64},
    },
    "mcp resource by name": {
        "type": "resource",
        "resource": {"uri": "file:///a.png", "blob": BASE64},
    },
    "openai file by name": {"type": "file", "file": {"filename": "a.png", "file_data": BASE64}},
    "google inline camel": {"inlineData": {"mimeType": "image/png", "data": BASE64}},
    "wrapped data url": {
        "type": "image_url",
        "image_url": "data:image/png;base64," + base64.encodebytes(DATA).decode(),
    },
    "percent-encoded data url": {"type": "image", "url": DATA_URL.replace("=", "%3D")},
    "declared image": {"type": "image", "base64": BASE64, "mime_type": "text/plain"},
    "langchain v1 file": {"type": "file", "base64": BASE64, "mime_type": "image/png"},
    "unknown binary": {"type": "image", "base64": BASE64, "mime_type": "application/octet-stream"},
    "non-standard": {"type": "non_standard", "value": {"type": "image", "base64": BASE64}},
}

URL_SHAPES = {
    "langchain v1": {"type": "image", "url": URL},
    "langchain v0": {"type": "image", "source_type": "url", "url": URL},
    "openai chat": {"type": "image_url", "image_url": {"url": URL}},
    "openai chat string": {"type": "image_url", "image_url": URL},
    "openai responses": {"type": "input_image", "image_url": URL},
    "anthropic": {"type": "image", "source": {"type": "url", "url": URL}},
    "hugging face": {"type": "image", "image": URL},
    "google": {"type": "media", "mime_type": "image/png", "file_uri": URL},
    "google file": {"file_data": {"mime_type": "image/png", "file_uri": URL}},
    "google file camel": {"fileData": {"mimeType": "image/png", "fileUri": URL}},
}

VIDEO_SHAPES = {
    "langchain v1": {"type": "video", "base64": BASE64, "mime_type": "video/mp4"},
    "langchain v1 url": {"type": "video", "url": "https://example.com/a.mp4"},
    "qwen and lmdeploy": {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}},
    "bare string": {"type": "video_url", "video_url": "https://example.com/a.mp4"},
    "path": {"type": "video", "video": "/tmp/a.mp4"},
    "bedrock": {"video": {"format": "mp4", "source": {"bytes": DATA}}},
    "google": {"type": "media", "mime_type": "video/mp4", "data": BASE64},
    "file": {"type": "file", "mime_type": "video/mp4", "base64": BASE64},
}

PDF_SHAPES = {
    "langchain v1": {"type": "file", "base64": BASE64, "mime_type": "application/pdf"},
    "langchain v1 url": {"type": "file", "url": "https://example.com/a.pdf"},
    "langchain v0": {
        "type": "file",
        "source_type": "base64",
        "data": BASE64,
        "mime_type": "application/pdf",
    },
    "openai": {"type": "file", "file": {"filename": "a.pdf", "file_data": BASE64}},
    "openai responses": {
        "type": "input_file",
        "filename": "a.pdf",
        "file_data": f"data:application/pdf;base64,{BASE64}",
    },
    "anthropic": {
        "type": "document",
        "source": {"type": "base64", "media_type": "application/pdf", "data": BASE64},
    },
    "anthropic url": {"type": "document", "source": {"type": "url", "url": "https://a.b/c"}},
    "name of a file": {"type": "file", "file": {"filename": "a.PDF", "file_data": BASE64}},
    "bedrock": {"document": {"format": "pdf", "name": "a", "source": {"bytes": DATA}}},
    "google": {"type": "media", "mime_type": "application/pdf", "data": BASE64},
}

TEXT_SHAPES = {
    "plain": {"type": "text", "text": "words"},
    "with cache control": {"type": "text", "text": "words", "cache_control": {"type": "ephemeral"}},
    "openai responses input": {"type": "input_text", "text": "words"},
    "openai responses output": {"type": "output_text", "text": "words", "annotations": []},
    "refusal": {"type": "refusal", "refusal": "words"},
    "bedrock": {"text": "words"},
    "langchain v1 plain text": {"type": "text-plain", "text": "words", "mime_type": "text/plain"},
    "langchain v1 file": {
        "type": "file",
        "mime_type": "text/plain",
        "base64": WORDS,
    },
    "anthropic document": {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": "words"},
    },
    "bedrock document": {"document": {"format": "txt", "name": "a", "source": {"bytes": b"words"}}},
    "anthropic document in base64": {
        "type": "document",
        "source": {"type": "base64", "media_type": "text/plain", "data": WORDS},
    },
    "google media": {"type": "media", "mime_type": "text/plain", "data": WORDS},
    "google media bytes": {"type": "media", "mime_type": "text/plain", "data": b"words"},
    "google inline": {"inline_data": {"mime_type": "text/csv", "data": WORDS}},
    "openai file": {"type": "file", "file": {"file_data": f"data:text/plain;base64,{WORDS}"}},
    "openai file by name": {"type": "file", "file": {"filename": "a.txt", "file_data": WORDS}},
    "data url": {"type": "file", "url": "data:text/plain,words"},
    "data url without a type": {"type": "file", "url": "data:,words"},
    "v0 text": {"type": "file", "source_type": "text", "mime_type": "text/plain", "data": "words"},
    "mcp resource": {"type": "resource", "resource": {"uri": "file:///a", "text": "words"}},
    "mcp json": {
        "type": "resource",
        "resource": {"uri": "file:///a", "mimeType": "application/json", "text": "words"},
    },
    "mcp blob": {
        "type": "resource",
        "resource": {"uri": "file:///a", "mimeType": "text/plain", "blob": WORDS},
    },
    "string": "words",
}

LEFT_OUT = {
    "reasoning": {"type": "reasoning", "reasoning": "hm"},
    "thinking": {"type": "thinking", "thinking": "hm", "signature": "x"},
    "redacted thinking": {"type": "redacted_thinking", "data": "x"},
    "bedrock reasoning": {"type": "reasoning_content", "reasoning_content": {"text": "hm"}},
    "cache point": {"cachePoint": {"type": "default"}},
    "typed cache point": {"type": "cachePoint"},
    "google thought": {"text": "hm", "thought": True},
    "bedrock reasoning content": {"reasoningContent": {"reasoningText": {"text": "hm"}}},
}

REFUSED = {
    "audio v1": {"type": "audio", "base64": BASE64, "mime_type": "audio/wav"},
    "audio openai": {"type": "input_audio", "input_audio": {"data": BASE64, "format": "wav"}},
    "audio file": {"type": "file", "base64": BASE64, "mime_type": "audio/mpeg"},
    "audio google": {"type": "media", "mime_type": "audio/wav", "data": BASE64},
    "word file": {"type": "file", "base64": BASE64, "mime_type": "application/msword"},
    "uploaded image": {"type": "image", "file_id": "file-123"},
    "uploaded file": {"type": "file", "file": {"file_id": "file-123"}},
    "v0 id": {"type": "image", "source_type": "id", "id": "file-123"},
    "tool result": {"type": "tool_result", "tool_use_id": "a", "content": "b"},
    "empty image": {"type": "image"},
    "empty video": {"type": "video", "video": []},
    "unknown type": {"type": "hologram", "data": BASE64},
    "unknown untyped": {"smell": "rose"},
    "text of a number": {"type": "text", "text": 7},
    "text without text": {"type": "text"},
    "url of a number": {"type": "image", "url": 7},
    "broken detail": {"type": "image", "base64": BASE64, "detail": "huge"},
    "broken max_tiles": {"type": "image", "base64": BASE64, "max_tiles": 0},
    "boolean max_tiles": {"type": "image", "base64": BASE64, "max_tiles": True},
    "nested non-standard": {"type": "non_standard", "value": {"type": "hologram"}},
    "empty non-standard": {"type": "non_standard"},
    "word document of bedrock": {"document": {"format": "docx", "source": {"bytes": DATA}}},
    "bedrock s3": {"image": {"format": "png", "source": {"s3Location": {"uri": "s3://a/b"}}}},
    "text and image in one": {"text": "look", "inline_data": {"data": BASE64}},
    "text by url": {"type": "file", "mime_type": "text/plain", "url": "https://a.b/c.txt"},
    "resource of a string": {"type": "resource", "resource": "/etc/hostname"},
    "file of a string": {"type": "file", "file": "/etc/hostname"},
    # Malformed ones.
    "keys of two types": {1: 2, "a": 3},
    "type of a list": {"type": ["image"]},
    "type of a dict": {"type": {}},
    "non-standard of nothing": {"type": "non_standard", "value": None},
    "non-standard of a list": {"type": "non_standard", "value": [1]},
    "detail of a list": {"type": "image", "base64": BASE64, "detail": []},
    "source of a type of a dict": {
        "type": "document",
        "source": {"type": {}, "media_type": "text/plain", "data": {}},
    },
    "data of a number": {"type": "image", "data": 7},
    "broken base64": {"type": "image", "base64": "a"},
    "frames of a string": {"type": "video", "frames": "0"},
    "frames of an image": {"type": "image", "frames": [BASE64]},
    "frame of a frame": {"type": "video", "frames": [{"type": "video", "frames": []}]},
}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(
        ["image", "text", "http://[", "file://[", "~nobody/x", "data:",
         "data:image/png;base64,%", "a\0b"]
    ),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["type", "text", "image", "image_url", "video", "url", "data", "base64", "source",
             "path", "mime_type", "media_type", "format", "bytes", "file", "frames", "value",
             "name", "id", "input", "detail", "max_tiles", "extras", "file_data", "inline_data"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=8,
)  # fmt: skip
BLOCKS = st.builds(
    lambda kind, rest: {**rest, **({} if kind is None else {"type": kind})},
    st.none() | st.sampled_from(
        ["text", "image", "image_url", "video", "file", "document", "media", "resource",
         "non_standard", "tool_use", "text-plain", "image_data", "input_file"]
    ) | JSON,
    st.dictionaries(st.text(max_size=3) | st.sampled_from(
        ["text", "image", "image_url", "video", "video_url", "url", "data", "base64", "source",
         "path", "mime_type", "file", "document", "resource", "value", "frames", "detail",
         "inline_data", "file_data", "toolUse", "extras", "max_tiles", "name", "input"]
    ), JSON, max_size=4),
)  # fmt: skip


@pytest.mark.parametrize("shape", IMAGE_SHAPES.values(), ids=IMAGE_SHAPES)
def test_images_at_hand(shape):
    (part,) = read_block(shape, "here")
    assert isinstance(part, Image)
    assert np.array_equal(np.asarray(load_rgb(part.source, POLICY)), PIXELS)


@pytest.mark.parametrize("shape", URL_SHAPES.values(), ids=URL_SHAPES)
def test_images_elsewhere(shape):
    assert read_block(shape, "here") == [Image(UrlSource(URL))]


@pytest.mark.parametrize("shape", VIDEO_SHAPES.values(), ids=VIDEO_SHAPES)
def test_videos(shape):
    (part,) = read_block(shape, "here")
    assert isinstance(part, Video)
    assert part.source is not None


@pytest.mark.parametrize("shape", PDF_SHAPES.values(), ids=PDF_SHAPES)
def test_pdfs(shape):
    (part,) = read_block(shape, "here")
    assert isinstance(part, Document)


@pytest.mark.parametrize("shape", TEXT_SHAPES.values(), ids=TEXT_SHAPES)
def test_texts(shape):
    assert read_block(shape, "here") == [Text("words")]


@pytest.mark.parametrize("shape", LEFT_OUT.values(), ids=LEFT_OUT)
def test_what_is_left_out(shape):
    assert read_block(shape, "here") == []


@pytest.mark.parametrize("shape", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_shown_is_refused_and_says_where(shape):
    def show():
        for part in read_block(shape, "here"):
            part.source.read(POLICY)

    with pytest.raises(InternVLError, match="here"):
        show()


def test_blocks_inside_themselves_are_refused():
    block = {"type": "non_standard"}
    block["value"] = block
    with pytest.raises(MessageError, match="malformed"):
        read_block(block, "here")


@given(block=BLOCKS)
@settings(max_examples=400)
def test_no_block_at_all_is_an_untyped_error(block):
    """Whatever JSON comes: parts, or a typed error; and the same in a message."""
    for read in (
        lambda: read_block(block, "here"),
        lambda: normalise_messages([HumanMessage.model_construct(content=[block])], POLICY),
    ):
        with contextlib.suppress(InternVLError):
            read()


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "/etc/passwd", "C:\\secret.png", "ftp://a/b"]
)
@pytest.mark.parametrize(
    "shape",
    [
        lambda url: {"type": "image", "url": url},
        lambda url: {"type": "image_url", "image_url": url},
        lambda url: {"type": "image_url", "image_url": {"url": url}},
        lambda url: {"type": "input_image", "image_url": url},
        lambda url: {"type": "video_url", "video_url": {"url": url}},
        lambda url: {"type": "image", "source": {"type": "url", "url": url}},
        lambda url: {"type": "file", "url": url},
        lambda url: {"file_data": {"file_uri": url}},
    ],
)
def test_url_fields_never_name_local_files(shape, url):
    with pytest.raises(UnsupportedMediaError, match="url field"):
        read_block(shape(url), "here")


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image_url", "image_url": {"path": str(FILE)}},
        {"type": "video_url", "video_url": {"frames": [str(FILE)]}},
        {"type": "image", "source": {"path": str(FILE)}},
        {"type": "resource", "resource": {"path": str(FILE), "mimeType": "image/png"}},
        {"type": "image_data", "image_data": {"path": str(FILE)}},
        {"file_data": {"path": str(FILE), "mime_type": "image/png"}},
    ],
)
def test_dicts_that_anybody_may_have_written_name_no_local_files_either(block):
    with pytest.raises(MessageError, match="no data, url or path"):
        read_block(block, "here")


def test_frames_of_a_video():
    frames = [FILE, DATA, {"type": "image", "base64": BASE64, "max_tiles": 3}]
    (video,) = read_block({"type": "video", "video": frames, "max_tiles": 2}, "here")
    assert [frame.max_tiles for frame in video.frames] == [None, None, 3]
    assert video.max_tiles == 2
    with pytest.raises(MessageError, match="here, frame 2: a frame is an image"):
        read_block({"type": "video", "frames": [{"image": FILE}, {"text": "no"}]}, "here")


@pytest.mark.parametrize(("detail", "tiles"), [*DETAIL_TILES.items(), ("auto", None)])
@pytest.mark.parametrize(
    "shape",
    [
        lambda detail: {"type": "image_url", "image_url": {"url": DATA_URL, "detail": detail}},
        lambda detail: {"type": "input_image", "image_url": DATA_URL, "detail": detail},
        lambda detail: {"type": "image", "base64": BASE64, "extras": {"detail": detail}},
    ],
)
def test_detail_is_a_number_of_tiles(shape, detail, tiles):
    assert DETAIL_TILES == {"low": 6, "medium": 12, "high": 24}
    (part,) = read_block(shape(detail), "here")
    assert part.max_tiles == tiles


def test_tiles_of_a_block():
    block = {"type": "image", "base64": BASE64, "max_tiles": 4, "min_tiles": 2, "detail": "low"}
    (part,) = read_block(block, "here")
    assert (part.min_tiles, part.max_tiles) == (2, 4)


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
    assert to_turns([message]) == [Turn(role, (Text("x"),))]


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


def test_invalid_tool_calls_keep_what_the_model_wrote():
    invalid = {"name": "look", "args": '{"where": ', "id": "1", "error": "no JSON"}
    assert calls_of(AIMessage("", invalid_tool_calls=[invalid])) == [("look", '{"where": ')]


def test_images_in_tool_results():
    (turn,) = to_turns(
        [ToolMessage(["see:", {"type": "image", "base64": BASE64}], tool_call_id="1")]
    )
    assert turn.role == "tool"
    assert [type(part) for part in turn.parts] == [Text, Image]


# What caching and tracing see.


@pytest.mark.parametrize("shape", [*IMAGE_SHAPES.values()], ids=[*IMAGE_SHAPES])
def test_normal_images_are_json_with_their_data(shape):
    message = HumanMessage([shape, {"type": "text", "text": "x"}])
    before = list(message.content)
    (normal,) = normalise_messages([message], POLICY)
    block = json.loads(json.dumps(normal.content))[0]
    assert block["type"] in {"image", "file"}
    assert block["mime_type"]
    assert "base64" in block
    (part,) = read_block(block, "here")
    assert np.array_equal(np.asarray(load_rgb(part.source, POLICY)), PIXELS)
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


def test_refused_blocks_are_left_for_the_model_to_refuse():
    for shape in (shape for name, shape in REFUSED.items() if name != "broken base64"):
        message = HumanMessage([shape])
        assert normalise_messages([message], POLICY)[0].content == [shape]


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
    for wrong in ("clip.mp4", b"data", FILE, 3, None):
        with pytest.raises(UnsupportedMediaError, match="list of frames"):
            video_block(wrong)
    for empty in ([], np.empty((0, 4, 4, 3), np.uint8)):
        with pytest.raises(MediaError, match="no frames"):
            video_block(empty)
