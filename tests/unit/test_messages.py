"""Every shape of message and content block, and what becomes of it."""

import base64
import json

import numpy as np
import pytest
from golden import GOLDEN
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
from langchain_internvl.blocks import DETAIL_TILES, read_block
from langchain_internvl.conversation import Document, Image, Text, ToolCall, Turn, Video
from langchain_internvl.errors import MediaError, MessageError, UnsupportedMediaError
from langchain_internvl.media.images import load_rgb
from langchain_internvl.media.sources import UrlSource
from langchain_internvl.messages import normalise_messages, to_turns

POLICY = MediaPolicy()
FILE = GOLDEN / "images/mode_rgba.png"
DATA = FILE.read_bytes()
BASE64 = base64.b64encode(DATA).decode()
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
    "anthropic url": {"type": "document", "source": {"type": "url", "url": URL}},
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
        "base64": base64.b64encode(b"words").decode(),
    },
    "anthropic document": {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": "words"},
    },
    "bedrock document": {"document": {"format": "txt", "name": "a", "source": {"bytes": b"words"}}},
    "mcp resource": {"type": "resource", "resource": {"uri": "file:///a", "text": "words"}},
    "string": "words",
}

LEFT_OUT = {
    "reasoning": {"type": "reasoning", "reasoning": "hm"},
    "thinking": {"type": "thinking", "thinking": "hm", "signature": "x"},
    "redacted thinking": {"type": "redacted_thinking", "data": "x"},
    "bedrock reasoning": {"type": "reasoning_content", "reasoning_content": {"text": "hm"}},
    "cache point": {"cachePoint": {"type": "default"}},
    "typed cache point": {"type": "cachePoint"},
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
}


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
    with pytest.raises(MessageError, match="here"):
        read_block(shape, "here")


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
    ],
)
def test_url_fields_never_name_local_files(shape, url):
    with pytest.raises(UnsupportedMediaError, match="url field"):
        read_block(shape(url), "here")


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


def test_tool_calls_are_read_once():
    call = {"name": "look", "args": {"where": "hier ü"}, "id": "1", "type": "tool_call"}
    expected = (ToolCall("look", '{"where": "hier ü"}'),)
    block = {"type": "tool_use", "name": "look", "input": {"where": "hier ü"}, "id": "1"}
    assert to_turns([AIMessage("", tool_calls=[call])])[0].tool_calls == expected
    assert to_turns([AIMessage([block], tool_calls=[call])])[0].tool_calls == expected
    assert to_turns([AIMessage([block])])[0].tool_calls == expected
    plain = {"type": "function_call", "name": "look", "arguments": '{"where": "hier ü"}'}
    assert to_turns([AIMessage([plain])])[0].tool_calls == expected


def test_invalid_tool_calls_keep_what_the_model_wrote():
    invalid = {"name": "look", "args": '{"where": ', "id": "1", "error": "no JSON"}
    message = AIMessage("", invalid_tool_calls=[invalid])
    assert to_turns([message])[0].tool_calls == (ToolCall("look", '{"where": '),)


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
    for shape in REFUSED.values():
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


def test_image_block_under_a_policy():
    with pytest.raises(MediaError, match="max_bytes"):
        image_block(FILE, policy=MediaPolicy(max_bytes=10))


def test_video_block():
    block = video_block([FILE, PICTURE, URL], max_tiles=3)
    (video,) = read_block(json.loads(json.dumps(block)), "here")
    assert len(video.frames) == 3
    assert video.max_tiles == 3
    for wrong in ([], "clip.mp4", b"data"):
        with pytest.raises(MediaError, match="list of frames"):
            video_block(wrong)
