"""Content blocks of every shape in use, read by one table.

| block | what becomes of it |
|---|---|
| `text`, `input_text`, `output_text`, `text-plain`, `refusal`, Bedrock `{"text": ...}` | text |
| image: LangChain v1 and v0, OpenAI `image_url` (dict or string) and `input_image`, Anthropic \
`source`, Bedrock `{"image": ...}`, Google `media`, Hugging Face and Qwen `image`, LMDeploy \
`image_data`, raw MCP `data` + `mimeType` | an image |
| video: the same shapes, `video_url`, Qwen `video` (a file or a list of frames) | a video |
| `file`, `input_file`, `document`, `media`, MCP `resource` | an image, a video, a PDF or text, \
as its MIME type says; without one a PDF |
| `reasoning`, `thinking`, `redacted_thinking` | left out: thoughts stay out of later turns |
| `tool_use`, `tool_call`, `function_call`, ... | merged with the message's `.tool_calls` |
| `cachePoint` blocks; `cache_control` and other unknown keys of a known block | ignored: they \
steer another provider and show nothing |
| `non_standard` | read as the block inside it |
| audio, files uploaded to another provider, `tool_result`, anything unknown | `MessageError` |

Of an image or video block, `max_tiles`, `min_tiles` and OpenAI's `detail` (low, medium, high: 6,
12, 24 tiles, as LMDeploy has it) are kept, wherever the shape puts them. A `url` holds data or a
public http(s) address; only `path`, `image` and `video` may name a local file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from langchain_internvl.conversation import Document, Image, Part, Text, Video
from langchain_internvl.errors import MessageError
from langchain_internvl.media.sources import (
    Base64Source,
    Source,
    decode_base64,
    to_source,
    to_url_source,
)

Block = Mapping[str, Any]
Fields = dict[str, Any]

DETAIL_TILES = {"low": 6, "medium": 12, "high": 24}
"""OpenAI's `detail` as a number of tiles (LMDeploy's reading of it)."""

TOOL_CALL_TYPES = frozenset(
    {
        "tool_use",
        "tool_call",
        "tool_call_chunk",
        "invalid_tool_call",
        "function_call",
        "server_tool_call",
        "input_json_delta",
    }
)
"""Block types that repeat what a message's `.tool_calls` holds."""


@dataclass(frozen=True)
class _Rule:
    """A shape of block: how to know it, and how to read it."""

    applies: Callable[[Block], bool]
    read: Callable[[Block, str], list[Part]]


def read_block(block: str | Block, where: str) -> list[Part]:
    """The parts that a content block stands for.

    Args:
        block: An item of a message's content.
        where: Name of its place, for error messages.

    Raises:
        MessageError: The block cannot be shown to the model.
        MediaError: Its data is malformed.
    """
    if isinstance(block, str):
        return [Text(block)]
    for rule in _RULES:
        if rule.applies(block):
            return rule.read(block, where)
    kind = block.get("type", f"with keys {sorted(block)}")
    raise MessageError(
        f"{where}: unknown content block {kind!r}; InternVL takes text, images, videos and PDFs"
    )


# How a shape is known.


def _typed(*types: str) -> Callable[[Block], bool]:
    return lambda block: block.get("type") in types


def _untyped(*keys: str) -> Callable[[Block], bool]:
    """Blocks of Bedrock and Google, which have no type and are known by a key."""
    return lambda block: "type" not in block and any(key in block for key in keys)


# How a shape is read.


def _text(block: Block, where: str) -> list[Part]:
    text = block.get("text", block.get("refusal"))
    if not isinstance(text, str):
        raise MessageError(f"{where}: a text block holds a string, not {type(text).__name__}")
    return [Text(text)]


def _nothing(_block: Block, _where: str) -> list[Part]:
    return []


def _inner(block: Block, where: str) -> list[Part]:
    return read_block(block.get("value", {}), where)


def _refuse(reason: str) -> Callable[[Block, str], list[Part]]:
    def read(_block: Block, where: str) -> list[Part]:
        raise MessageError(f"{where}: {reason}")

    return read


def _media(
    kind: str, *, urls: Iterable[str] = (), values: Iterable[str] = ()
) -> Callable[[Block, str], list[Part]]:
    """A reader of media blocks.

    Args:
        kind: "image", "video" or "file": what it is when no MIME type says otherwise.
        urls: Keys that hold a URL, or a dict of further fields.
        values: Keys that hold a Python object or a path, or a dict of further fields.
    """

    def read(block: Block, where: str) -> list[Part]:
        extras = block.get("extras")
        fields = {**(extras if isinstance(extras, Mapping) else {}), **block}
        for name, keys in (("url", urls), ("path", values)):
            for key in keys:
                inner = block.get(key)
                if isinstance(inner, Mapping):
                    fields.update(inner)
                elif inner is not None:
                    fields[name] = inner
        if isinstance(fields.get("source"), Mapping):  # Anthropic, Bedrock
            fields.update(fields["source"])
        return [_part(kind, fields, where)]

    return read


# From the collected fields of a media block to its part.


def _part(kind: str, fields: Fields, where: str) -> Part:
    mime_type = _mime_type(fields)
    family = (mime_type or "").split("/", 1)[0]
    if family in {"image", "video", "audio", "text"}:
        kind = family
    elif mime_type == "application/pdf":
        kind = "file"
    elif kind == "file" and mime_type is not None:
        raise MessageError(f"{where}: a file of type {mime_type} cannot be shown to InternVL")
    if kind == "audio":
        raise MessageError(f"{where}: {_DEAF}")
    if kind == "text" or (kind == "file" and isinstance(fields.get("text"), str)):
        return Text(_file_text(fields, where))
    max_tiles = _max_tiles(fields, where)
    if kind == "video":
        frames = fields.get("frames", fields.get("path"))
        if isinstance(frames, (list, tuple)):
            return Video(_frames(frames, where), max_tiles=max_tiles)
        return Video(source=_source(fields, where), max_tiles=max_tiles)
    if kind == "image":
        return Image(_source(fields, where), _tiles(fields, "min_tiles", where), max_tiles)
    return Document(_source(fields, where))


_DEAF = "InternVL cannot hear; transcribe audio first"

_BEDROCK_FORMATS = {
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "csv": "text/csv",
    "html": "text/html",
}


def _mime_type(fields: Fields) -> str | None:
    """The MIME type, under any of its names; a data URL carries its own."""
    for key in ("mime_type", "mimeType", "media_type"):
        if isinstance(fields.get(key), str):
            return str(fields[key]).split(";", 1)[0].strip().lower()
    for key in ("url", "file_data", "file_url", "data"):
        if _is_data_url(fields.get(key)):
            return str(fields[key][5:].split(",", 1)[0].split(";", 1)[0].lower()) or None
    return _BEDROCK_FORMATS.get(str(fields.get("format")))


def _is_data_url(value: object) -> bool:
    return isinstance(value, str) and value[:5].lower() == "data:"


def _source(fields: Fields, where: str) -> Source:
    for key in ("base64", "data", "file_data", "blob", "bytes"):
        value = fields.get(key)
        if _is_data_url(value):
            return to_url_source(str(value), where)
        if isinstance(value, str):
            return Base64Source(value, where)
        if value is not None:
            return to_source(value, where)
    for key in ("url", "file_url", "file_uri", "fileUri"):
        value = fields.get(key)
        if value is not None:
            return to_url_source(_string(value, where), where)
    if fields.get("path") is not None:
        return to_source(fields["path"], where)
    if "file_id" in fields or fields.get("source_type") == "id":
        raise MessageError(
            f"{where}: the file was uploaded to another provider; pass its bytes, path or URL"
        )
    raise MessageError(f"{where}: the block has no data, url or path")


def _string(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise MessageError(f"{where}: a URL is a string, not {type(value).__name__}")
    return value


def _file_text(fields: Fields, where: str) -> str:
    """The text of a plain-text file, given as it is or in base64."""
    if isinstance(fields.get("text"), str):
        return str(fields["text"])
    data = fields.get("data")
    if isinstance(data, str) and "base64" not in {fields.get("source_type"), fields.get("type")}:
        return data
    encoded = fields.get("base64", data)
    if isinstance(encoded, str):
        return decode_base64(encoded, where).decode("utf-8", "replace")
    if isinstance(fields.get("bytes"), bytes):
        return str(fields["bytes"], "utf-8", "replace")
    raise MessageError(f"{where}: the text of a file is given in `text` or in base64")


def _frames(frames: Iterable[Any], where: str) -> tuple[Image, ...]:
    images = []
    for number, frame in enumerate(frames, 1):
        place = f"{where}, frame {number}"
        parts = (
            read_block(frame, place)
            if isinstance(frame, Mapping)
            else [Image(to_source(frame, place))]
        )
        if len(parts) != 1 or not isinstance(parts[0], Image):
            raise MessageError(f"{place}: a frame is an image")
        images.append(parts[0])
    if not images:
        raise MessageError(f"{where}: the video has no frames")
    return tuple(images)


def _max_tiles(fields: Fields, where: str) -> int | None:
    tiles = _tiles(fields, "max_tiles", where)
    detail = fields.get("detail")
    if tiles is not None or detail in {None, "auto"}:
        return tiles
    if detail not in DETAIL_TILES:
        raise MessageError(f"{where}: detail is auto, low, medium or high, not {detail!r}")
    return DETAIL_TILES[detail]


def _tiles(fields: Fields, key: str, where: str) -> int | None:
    value = fields.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise MessageError(f"{where}: {key} is a whole number from 1, not {value!r}")
    return value


_INLINE = ("inline_data", "inlineData", "file_data", "fileData")  # Google

_RULES: tuple[_Rule, ...] = (
    _Rule(_typed("text", "input_text", "output_text", "refusal"), _text),
    _Rule(_untyped("text"), _text),
    _Rule(_typed("text-plain"), _media("text")),
    _Rule(
        _typed("image", "image_url", "input_image", "image_data"),
        _media("image", urls=("image_url",), values=("image", "image_data")),
    ),
    _Rule(
        _typed("video", "video_url", "input_video"),
        _media("video", urls=("video_url",), values=("video",)),
    ),
    _Rule(_typed("file", "input_file", "document", "media"), _media("file", values=("file",))),
    _Rule(_typed("resource"), _media("file", values=("resource",))),
    _Rule(_untyped("image"), _media("image", values=("image",))),
    _Rule(_untyped("video"), _media("video", values=("video",))),
    _Rule(_untyped("document"), _media("file", values=("document",))),
    _Rule(_untyped(*_INLINE), _media("file", values=_INLINE)),
    _Rule(_typed("reasoning", "reasoning_content", "thinking", "redacted_thinking"), _nothing),
    _Rule(_typed(*TOOL_CALL_TYPES), _nothing),
    _Rule(_untyped("toolUse"), _nothing),
    _Rule(lambda block: block.get("type") == "cachePoint" or "cachePoint" in block, _nothing),
    _Rule(_typed("non_standard"), _inner),
    _Rule(_typed("audio", "input_audio", "audio_url"), _refuse(_DEAF)),
    _Rule(
        _typed("tool_result", "function_call_output"),
        _refuse("a tool's result belongs in a ToolMessage"),
    ),
)
