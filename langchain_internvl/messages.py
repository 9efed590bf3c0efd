"""LangChain messages to a conversation, and to messages that can be cached and traced.

With `blocks.py` the only place that knows the shapes of LangChain's messages.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage

from langchain_internvl.blocks import TOOL_CALL_TYPES, Block, read_block
from langchain_internvl.conversation import (
    Image,
    Part,
    Role,
    Text,
    ToolCall,
    Turn,
    Video,
)
from langchain_internvl.errors import MediaError, MessageError
from langchain_internvl.media.images import sniff_mime_type
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.sources import Source, UrlSource, to_source

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "human": "user",
    "user": "user",
    "ai": "assistant",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}


def to_turns(messages: Sequence[BaseMessage]) -> list[Turn]:
    """The conversation that LangChain messages stand for.

    Every message becomes one turn; consecutive messages of one role stay apart.

    Raises:
        MessageError: There is no message, or one holds something that cannot be shown.
        MediaError: Data of a block is malformed.
    """
    if not messages:
        raise MessageError("there are no messages to answer")
    return [_turn(message, number) for number, message in enumerate(messages, 1)]


def normalise_messages(messages: Sequence[BaseMessage], policy: MediaPolicy) -> list[BaseMessage]:
    """The same messages with all local media as LangChain v1 blocks that hold the data.

    Caching and tracing see messages before the model does. They need JSON, a MIME type, and the
    content of a file rather than its name. Blocks that are plain text, v1 base64 or a public URL
    are kept as they are, so doing it twice changes nothing.

    Args:
        messages: Any messages; they are not changed.
        policy: Limits on files that are read.
    """
    return [_normalise(message, number, policy) for number, message in enumerate(messages, 1)]


def image_block(
    image: Any,
    *,
    max_tiles: int | None = None,
    min_tiles: int | None = None,
    policy: MediaPolicy | None = None,
) -> dict[str, Any]:
    """A LangChain v1 content block of an image.

    Args:
        image: A path, bytes, a data or http(s) URL, a PIL image or a uint8 array [height, width,
            3]. Everything but an http(s) URL is read at once and kept in the block.
        max_tiles: Most tiles of this image; None: the model's setting.
        min_tiles: Fewest tiles of this image; None: the model's setting.
        policy: Limits on what is read; None: the defaults of `MediaPolicy`.

    Returns:
        A block with `url`, or with `base64` and `mime_type`.

    Raises:
        MediaError: The image cannot be read.
    """
    part = Image(to_source(image, "image_block()"), min_tiles, max_tiles)
    return _image_block(part, policy or MediaPolicy())


def video_block(
    video: Sequence[Any],
    *,
    max_tiles: int | None = None,
    policy: MediaPolicy | None = None,
) -> dict[str, Any]:
    """A content block of a video given as its frames.

    Args:
        video: The frames in order, each anything that `image_block` takes; used as they are.
        max_tiles: Most tiles of each frame; None: the model's `max_tiles_per_frame`.
        policy: Limits on what is read; None: the defaults of `MediaPolicy`.

    Returns:
        A block of type `video` with `frames`, a list of v1 image blocks.

    Raises:
        MediaError: A frame cannot be read, or there is none.
    """
    if isinstance(video, (str, bytes)) or not video:
        raise MediaError("video_block()", "takes a list of frames; take them from the file first")
    frames = tuple(
        Image(to_source(frame, f"video_block(), frame {number}"))
        for number, frame in enumerate(video, 1)
    )
    return _video_block(Video(frames, max_tiles=max_tiles), policy or MediaPolicy())


def _turn(message: BaseMessage, number: int) -> Turn:
    role = _role(message, number)
    blocks = _blocks(message)
    parts: list[Part] = []
    for place, block in enumerate(blocks, 1):
        parts.extend(read_block(block, _place(message, number, place)))
    calls = _tool_calls(message, blocks) if isinstance(message, AIMessage) else ()
    return Turn(role, tuple(part for part in parts if part != Text("")), tuple(calls))


def _role(message: BaseMessage, number: int) -> Role:
    name = message.role if isinstance(message, ChatMessage) else message.type
    role = _ROLES.get(name.removesuffix("MessageChunk").lower())
    if role is None:
        raise MessageError(
            f"message {number}: role {name!r} is unknown; InternVL takes system, human, ai and tool"
        )
    return role


def _blocks(message: BaseMessage) -> list[str | Block]:
    content = message.content
    return [content] if isinstance(content, str) else list(content)


def _place(message: BaseMessage, number: int, place: int) -> str:
    return f"message {number} ({message.type}), block {place}"


def _tool_calls(message: AIMessage, blocks: Iterable[str | Block]) -> Iterable[ToolCall]:
    """The calls of an AI message: `.tool_calls`, and blocks that LangChain did not repeat there."""
    for call in message.tool_calls:
        yield ToolCall(call["name"], _to_json(call["args"]))
    for invalid in message.invalid_tool_calls:
        yield ToolCall(invalid["name"] or "", invalid["args"] or "")
    known = {call["id"] for call in (*message.tool_calls, *message.invalid_tool_calls)}
    names = {call["name"] for call in message.tool_calls}
    for block in blocks:
        if isinstance(block, str) or block.get("type") not in TOOL_CALL_TYPES:
            continue
        identifier = block.get("call_id", block.get("id"))
        name = block.get("name")
        repeated = identifier in known if identifier is not None else name in names
        if name and not repeated:
            arguments = block.get("args", block.get("input", block.get("arguments", {})))
            yield ToolCall(
                str(name), arguments if isinstance(arguments, str) else _to_json(arguments)
            )


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _normalise(message: BaseMessage, number: int, policy: MediaPolicy) -> BaseMessage:
    if isinstance(message.content, str):
        return message
    content: list[str | dict[Any, Any]] = []
    changed = False
    for place, block in enumerate(message.content, 1):
        new = _normal_block(block, _place(message, number, place), policy)
        changed |= new is not block
        content.append(new)
    return message.model_copy(update={"content": content}) if changed else message


def _normal_block(
    block: str | dict[Any, Any], where: str, policy: MediaPolicy
) -> str | dict[Any, Any]:
    if isinstance(block, str) or _is_normal(block):
        return block
    try:
        parts = read_block(block, where)
    except MessageError:
        return block  # the model will refuse it, in a run that can be traced
    match parts:
        case [Text(text)]:
            return {"type": "text", "text": text}
        case [Image() as image]:
            return _image_block(image, policy)
        case [Video(frames=frames) as video] if frames:
            return _video_block(video, policy)
        case _:
            return block


def _is_normal(block: Mapping[str, Any]) -> bool:
    """Whether a block needs no reading: JSON, with its data or a public URL."""
    kind = block.get("type")
    if kind in {"image", "video", "file"}:
        if "base64" in block:
            return "mime_type" in block and isinstance(block["base64"], str)
        if kind == "video" and isinstance(block.get("frames"), list):
            return all(isinstance(frame, dict) and _is_normal(frame) for frame in block["frames"])
        return str(block.get("url", "")).startswith(("http://", "https://"))
    return kind in {"text", "text-plain", "reasoning", "thinking", "tool_use", "tool_call"}


def _image_block(image: Image, policy: MediaPolicy) -> dict[str, Any]:
    block = {"type": "image", **_data(image.source, policy)}
    if image.min_tiles is not None:
        block["min_tiles"] = image.min_tiles
    if image.max_tiles is not None:
        block["max_tiles"] = image.max_tiles
    return block


def _video_block(video: Video, policy: MediaPolicy) -> dict[str, Any]:
    block: dict[str, Any] = {
        "type": "video",
        "frames": [_image_block(frame, policy) for frame in video.frames],
    }
    if video.max_tiles is not None:
        block["max_tiles"] = video.max_tiles
    return block


def _data(source: Source, policy: MediaPolicy) -> dict[str, Any]:
    if isinstance(source, UrlSource):
        return {"url": source.url}
    data = source.read(policy)
    return {
        "base64": base64.b64encode(data).decode("ascii"),
        # A broken image gets a type that lets LangChain trace it; decoding it says what is wrong.
        "mime_type": sniff_mime_type(data) or "image/png",
    }
