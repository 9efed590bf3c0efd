"""Parses content blocks of all formats in use, by one table.

| block | read as |
|---|---|
| `text`, `input_text`, `output_text`, `text-plain`, `refusal`, Bedrock `{"text": ...}` | text |
| image: LangChain v1 and v0, OpenAI `image_url` (dict or string) and `input_image`, Anthropic \
`source`, Bedrock `{"image": ...}`, Google `media`, Hugging Face and Qwen `image`, LMDeploy \
`image_data`, raw MCP `data` + `mimeType` | an image |
| video: the same shapes, `video_url`, Qwen `video` (a file or a list of frames) | a video |
| `file`, `input_file`, `document`, `media`, MCP `resource` | an image, a video, a PDF or text, \
as its MIME type or name says, else its bytes; a URL without one is a PDF |
| `reasoning`, `thinking`, `redacted_thinking` | left out: thoughts stay out of later turns |
| `tool_use`, `tool_call`, `function_call`, ... of an AI message | merged with its `.tool_calls` |
| `cachePoint` blocks; `cache_control` and other unknown keys of a known block | ignored: they \
are settings of other providers without content |
| `non_standard` | read as the block inside it |
| audio, files uploaded to another provider, `tool_result`, anything unknown | `MessageError` |

Image and video blocks keep `max_tiles` (LMDeploy's `max_dynamic_patch`), `min_tiles` and OpenAI's
`detail` (low, medium, high: 6, 12, 24 tiles as in LMDeploy) at any level of the block. A `url` is a
data URL or a public http(s) URL; only `path`, `image` and `video` may be local paths.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_internvl.errors import InternVLError, MessageError
from langchain_internvl.media.sources import to_source
from langchain_internvl.messages.block_fields import NO_AUDIO, Fields, lost_media, to_part
from langchain_internvl.messages.conversation import (
    Image,
    LostMedia,
    Part,
    Text,
    TextFile,
    ToolCall,
)

Block = Mapping[str, Any]
Item = Part | TextFile | ToolCall
_TEXTS = (Text, TextFile)


class MediaBlock(dict[str, Any]):
    """A block with a reference for caches and traces, and the medium as a Python attribute.

    Its JSON is small and can be resolved in this process only. See `references.py`.

    Args:
        part: The medium.
        **known: Fields of the block; None values are left out.
    """

    def __init__(self, part: Part, **known: Any) -> None:
        super().__init__({name: value for name, value in known.items() if value is not None})
        self.part = part


class RefusedBlock(dict[str, Any]):
    """A text block in place of an invalid block.

    LangChain inspects blocks before the model does, and fails on malformed ones with untyped
    errors.

    Args:
        error: The error of the block; raised by `read_block`.
    """

    def __init__(self, error: InternVLError) -> None:
        super().__init__(type="text", text=f"[content block that cannot be read: {error}]")
        self.error = error


@dataclass(frozen=True)
class _Rule:
    """A block format: a test for it, and its parser."""

    applies: Callable[[Block], bool]
    read: Callable[[Block, str], list[Item]]


def read_block(block: str | Block, where: str) -> list[Item]:
    """Parse a content block.

    Args:
        block: An item of a message's content.
        where: Position of the block, for error messages.

    Returns:
        Parts of the message, or a tool call of an AI message; empty for thoughts.

    Raises:
        MessageError: The block is malformed or of an unsupported kind.
        MediaError: Its data cannot be read.
    """
    if isinstance(block, str):
        return [Text(block)]
    if isinstance(block, MediaBlock):
        return [block.part]
    if isinstance(block, RefusedBlock):
        raise block.error
    if not isinstance(block, Mapping):
        raise MessageError(
            f"{where}: a content block is a string or a dictionary, not an object of type "
            f"{type(block).__name__}"
        )
    try:
        for rule in _RULES:
            if rule.applies(block):
                return rule.read(block, where)
        kind = block.get("type", f"with keys {sorted(map(str, block))}")
    except InternVLError:
        raise
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        # Blocks are arbitrary JSON: all errors from wrong types are caught here.
        raise MessageError(f"{where}: malformed content block: {error}") from error
    raise MessageError(
        f"{where}: unknown content block {kind!r}; InternVL takes text, images, videos and PDFs"
    )


# Tests for shapes.


def _typed(*types: str) -> Callable[[Block], bool]:
    return lambda block: block.get("type") in types


def _untyped(*keys: str) -> Callable[[Block], bool]:
    """A test for blocks of Bedrock and Google, which have a distinctive key instead of a type."""
    return lambda block: "type" not in block and any(key in block for key in keys)


# Readers of shapes.


def _text(block: Block, where: str) -> list[Item]:
    text = block.get("text", block.get("refusal"))
    if not isinstance(text, str):
        raise MessageError(f"{where}: a text block holds a string, not {type(text).__name__}")
    return [] if block.get("thought") is True else [Text(text)]  # Google's thoughts


def _is_json(block: Block) -> bool:
    """Whether a block is JSON, as results of tools at Bedrock have it."""
    return "json" in block and block.get("type", "json") == "json"


def _json(block: Block, _where: str) -> list[Item]:
    return [Text(to_json(block["json"]), stands_alone=True)]


def _nothing(_block: Block, _where: str) -> list[Item]:
    return []


def _inner(block: Block, where: str) -> list[Item]:
    return read_block(block.get("value", {}), where)


def _is_document_of_parts(block: Block) -> bool:
    source = block.get("source")
    is_of_parts = isinstance(source, Mapping) and source.get("type") == "content"
    return block.get("type") == "document" and is_of_parts


def _document_of_parts(block: Block, where: str) -> list[Item]:
    """Anthropic's document that is a text, or a list of texts and images."""
    return _lines(block["source"].get("content"), where)


def _search_result(block: Block, where: str) -> list[Item]:
    """Anthropic's search result: its title, its source and its texts, on lines of their own."""
    about = [block[name] for name in ("title", "source") if block.get(name)]
    found = _lines(block.get("content"), where)
    return [*_lines([*about, ""], where), *found] if about else found


def _lines(content: Any, where: str) -> list[Item]:
    """Texts and images of a list of blocks, each text on a line of its own.

    Raises:
        MessageError: It is no text and no list, or has other parts than texts and images.
    """
    if not isinstance(content, (str, list, tuple)):
        raise MessageError(
            f"{where}: content is a text or a list of blocks, not {type(content).__name__}"
        )
    items: list[Item] = []
    for one in [content] if isinstance(content, str) else content:
        for item in read_block(one, where):
            if not isinstance(item, (*_TEXTS, Image)):
                raise MessageError(f"{where}: a document's content has texts and images only")
            if isinstance(item, _TEXTS) and items and isinstance(items[-1], _TEXTS):
                items.append(Text("\n"))
            items.append(replace(item, stands_alone=True) if isinstance(item, Text) else item)
    return items


def _refuse(reason: str) -> Callable[[Block, str], list[Item]]:
    def read(_block: Block, where: str) -> list[Item]:
        raise MessageError(f"{where}: {reason}")

    return read


def _call(block: Block, _where: str) -> list[Item]:
    """A tool call; nameless pieces of a streamed call repeat `.tool_calls` and are dropped."""
    fields = block.get("toolUse", block)
    if not fields.get("name"):
        return []
    arguments: Any = next(
        (fields[key] for key in ("args", "input", "arguments") if key in fields), {}
    )
    identifier = next(
        (fields[key] for key in ("call_id", "toolUseId", "id") if fields.get(key)), None
    )
    text = arguments if isinstance(arguments, str) else to_json(arguments)
    return [ToolCall(str(fields["name"]), text, None if identifier is None else str(identifier))]


def to_json(value: object) -> str:
    """The arguments of a call as JSON; values that JSON cannot express become strings."""
    return json.dumps(value, ensure_ascii=False, default=str)


def _media(
    kind: str, *, urls: Iterable[str] = (), values: Iterable[str] = (), dicts: Iterable[str] = ()
) -> Callable[[Block, str], list[Item]]:
    """A parser of media blocks.

    Args:
        kind: "image", "video" or "file": the kind unless a MIME type says otherwise.
        urls: Keys of a URL, or of a dictionary of further fields.
        values: Keys of a Python object or a path, or of a dictionary of further fields.
        dicts: Keys of a dictionary of further fields. Like those under a URL these are untrusted,
            so local paths in them are ignored.
    """
    local = {"path", "frames", *values}

    def read(block: Block, where: str) -> list[Item]:
        if "type" not in block and "text" in block:
            raise MessageError(f"{where}: a block holds text or a medium, not both")
        extras = block.get("extras")
        fields: Fields = {**(extras if isinstance(extras, Mapping) else {}), **block}
        for key in (*urls, *values, *dicts, "source"):
            inner = fields.get(key)
            if isinstance(inner, Mapping):
                fields.pop(key)
                fields |= {
                    name: value
                    for name, value in inner.items()
                    if name != "type" and (key in values or name not in local)
                }
                fields.setdefault("source_type", inner.get("type"))  # Anthropic's `source`
            elif inner is not None and key in urls:
                fields["url"] = inner
            elif inner is not None and key in values:
                fields["path"] = inner
        frames = fields.get("frames", fields.get("path"))
        if kind == "video" and isinstance(frames, (list, tuple)):
            try:
                fields["frames"] = read_frames(frames, where)
            except _LostFrameError:
                return [lost_media("video", where)]
        elif fields.pop("frames", None) is not None:
            raise MessageError(f"{where}: frames are a list of images, and make a video")
        return [to_part(kind, fields, where)]

    return read


class _LostFrameError(MessageError):
    """A frame of a video refers to an image that is no longer in memory."""


def read_frames(frames: Iterable[Any], where: str) -> tuple[Image, ...]:
    """The frames of a video.

    Args:
        frames: Image blocks, or anything that `image_block` takes.
        where: Position of the video, for error messages.

    Raises:
        MediaError: Data of a frame is malformed.
        MessageError: A frame is not an image.
    """
    images = []
    frames = list(frames)
    _check_animation(frames, where)
    for number, frame in enumerate(frames, 1):
        place = f"{where}, frame {number}"
        items: list[Item] = (
            read_block(frame, place)
            if isinstance(frame, Mapping)
            else [Image(to_source(frame, place))]
        )
        if any(isinstance(item, LostMedia) for item in items):
            raise _LostFrameError(f"{place}: the frame is no longer available")
        if len(items) != 1 or not isinstance(items[0], Image):
            raise MessageError(f"{place}: a frame is an image")
        images.append(items[0])
    return tuple(images)


def _check_animation(frames: Sequence[Any], where: str) -> None:
    """Refuse an animation's one Pillow object in place of its frames.

    `list(PIL.ImageSequence.Iterator(image))` is the same object again and again, at its last frame.

    Raises:
        MessageError: An object with several frames occurs more than once.
    """
    known: set[int] = set()
    for number, frame in enumerate(frames, 1):
        if getattr(frame, "is_animated", False):
            if id(frame) in known:
                raise MessageError(
                    f"{where}, frame {number}: the same Pillow object again, which shows one frame "
                    "of an animation at a time; copy each: [frame.copy() for frame in "
                    "ImageSequence.Iterator(image)]"
                )
            known.add(id(frame))


_INLINE = ("inline_data", "inlineData", "file_data", "fileData")  # Google

_RULES: tuple[_Rule, ...] = (
    _Rule(_typed("text", "input_text", "output_text", "refusal"), _text),
    _Rule(_typed("text-plain"), _media("text")),
    _Rule(
        _typed("image", "image_url", "input_image", "image_data"),
        _media("image", urls=("image_url",), values=("image",), dicts=("image_data",)),
    ),
    _Rule(
        _typed("video", "video_url", "input_video"),
        _media("video", urls=("video_url",), values=("video",)),
    ),
    _Rule(_is_document_of_parts, _document_of_parts),
    _Rule(_typed("search_result"), _search_result),
    _Rule(_typed("file", "input_file", "document", "media"), _media("file", dicts=("file",))),
    _Rule(_typed("resource"), _media("file", dicts=("resource",))),
    _Rule(_untyped("image_url"), _media("image", urls=("image_url",))),
    _Rule(_untyped("image"), _media("image", values=("image",))),
    _Rule(_untyped("video"), _media("video", values=("video",))),
    _Rule(_untyped("document"), _media("file", dicts=("document",))),
    _Rule(_untyped(*_INLINE), _media("file", dicts=_INLINE)),
    _Rule(_untyped("text"), _text),
    _Rule(_is_json, _json),
    _Rule(_typed("reasoning", "reasoning_content", "thinking", "redacted_thinking"), _nothing),
    _Rule(_untyped("reasoningContent"), _nothing),
    _Rule(_typed("function_call_signature"), _nothing),  # Google's, of its own thoughts
    _Rule(
        _typed(
            "tool_use",
            "tool_call",
            "tool_call_chunk",
            "invalid_tool_call",
            "function_call",
            "server_tool_call",
            "input_json_delta",
        ),
        _call,
    ),
    _Rule(_untyped("toolUse"), _call),
    _Rule(lambda block: block.get("type") == "cachePoint" or "cachePoint" in block, _nothing),
    _Rule(_typed("non_standard"), _inner),
    _Rule(_typed("audio", "input_audio", "audio_url"), _refuse(NO_AUDIO)),
    _Rule(
        _typed("tool_result", "function_call_output"),
        _refuse("a tool's result belongs in a ToolMessage"),
    ),
)
