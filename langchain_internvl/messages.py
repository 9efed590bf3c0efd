"""LangChain messages to a conversation, and to messages that can be cached and traced.

With `blocks.py` the only place that knows the shapes of LangChain's messages.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.messages import AIMessage, BaseMessage, ChatMessage

from langchain_internvl.block_fields import to_video
from langchain_internvl.blocks import Block, read_block, to_json
from langchain_internvl.conversation import (
    Document,
    Image,
    Part,
    Role,
    Text,
    ToolCall,
    Turn,
    Video,
)
from langchain_internvl.errors import (
    InternVLError,
    MediaError,
    MessageError,
    UnsupportedMediaError,
)
from langchain_internvl.media.images import read_size, sniff_mime_type
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.sources import PathSource, Source, UrlSource, to_source
from langchain_internvl.media.tiling import TileLimits

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
            3]. Everything but an http(s) URL is read at once, checked to be an image, and kept
            in the block.
        max_tiles: Most tiles of this image; None: the model's setting.
        min_tiles: Fewest tiles of this image; None: the model's setting.
        policy: Limits on what is read; None: the defaults of `MediaPolicy`.

    Returns:
        A block with `url`, or with `base64` and `mime_type`.

    Raises:
        MediaError: The image cannot be read.
        RequestError: The limits of tiles are impossible.
    """
    policy = policy or MediaPolicy()
    part = Image(to_source(image, "image_block()"), min_tiles, max_tiles)
    TileLimits().narrowed(min_tiles, max_tiles)  # checks them
    if not isinstance(part.source, UrlSource):
        read_size(part.source, policy)
    return _image_block(part, policy)


def video_block(
    video: Any,
    *,
    num_frames: int | None = None,
    bound: tuple[float, float] | None = None,
    max_tiles: int | None = None,
    policy: MediaPolicy | None = None,
) -> dict[str, Any]:
    """A content block of a video.

    Args:
        video: A video file, as a path, bytes, or a data or http(s) URL; or its frames in order,
            as a list of anything that `image_block` takes or a uint8 array [frames, height,
            width, 3], which are all shown. Everything but an http(s) URL is read at once and kept
            in the block. (A large file may stay where it is: `{"type": "video", "path": ...}`.)
        num_frames: How many frames of a file are shown; None: the model's setting.
        bound: The part of a file that they are taken from, start and end in seconds.
        max_tiles: Most tiles of each frame; None: the model's `max_tiles_per_frame`.
        policy: Limits on what is read; None: the defaults of `MediaPolicy`.

    Returns:
        A block of type `video`: with `url`, with `base64` and `mime_type`, or with `frames`, a
        list of v1 image blocks.

    Raises:
        MediaError: The file or a frame cannot be read.
        MessageError: There is no frame, or `num_frames`, `bound` or `max_tiles` is impossible.
        UnsupportedMediaError: It is no file and no list of frames.
    """
    policy = policy or MediaPolicy()
    settings = {"num_frames": num_frames, "bound": bound, "max_tiles": max_tiles}
    if isinstance(video, (str, PathLike, bytes, bytearray, memoryview)):
        path = Path(video) if isinstance(video, PathLike) else video
        file = to_video({"path": path, **settings}, "video_block()")
        return _video_block(file, policy, keep_path=False)
    if not isinstance(video, (Sequence, np.ndarray)):
        raise UnsupportedMediaError(
            "video_block()", f"takes a file or a list of frames, not a {type(video).__name__}"
        )
    frames = tuple(
        Image(to_source(frame, f"video_block(), frame {number}"))
        for number, frame in enumerate(video, 1)
    )
    return _video_block(to_video({"frames": frames, **settings}, "video_block()"), policy)


def pdf_block(pdf: Any, *, policy: MediaPolicy | None = None) -> dict[str, Any]:
    """A LangChain v1 content block of a PDF, whose pages are shown as images.

    Args:
        pdf: A path, bytes, or a data or http(s) URL. Everything but an http(s) URL is read at
            once and kept in the block.
        policy: Limits on what is read; None: the defaults of `MediaPolicy`.

    Returns:
        A block of type `file` with `url`, or with `base64` and `mime_type`.

    Raises:
        MediaError: The file cannot be read, or is no PDF.
    """
    policy = policy or MediaPolicy()
    source = to_source(Path(pdf) if isinstance(pdf, PathLike) else pdf, "pdf_block()")
    if not isinstance(source, UrlSource) and b"%PDF" not in source.read(policy)[:1024]:
        raise MediaError(source.name, "is no PDF")
    return _pdf_block(source, policy)


def _turn(message: BaseMessage, number: int) -> Turn:
    role = _role(message, number)
    parts: list[Part] = []
    calls: list[ToolCall] = []
    for place, block in enumerate(_blocks(message), 1):
        where = _place(message, number, place)
        for item in read_block(block, where):
            if not isinstance(item, ToolCall):
                parts.append(item)
            elif role == "assistant":
                calls.append(item)
            else:
                raise MessageError(f"{where}: only AI messages call tools")
    if isinstance(message, AIMessage):
        calls = _merge_calls(message, calls, f"message {number}")
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


def _merge_calls(message: AIMessage, calls: Sequence[ToolCall], where: str) -> list[ToolCall]:
    """The calls of `.tool_calls`, and those of blocks that LangChain did not repeat there."""
    try:
        told = [
            *(ToolCall(one["name"], to_json(one["args"]), one["id"]) for one in message.tool_calls),
            *(
                ToolCall(one["name"] or "", one["args"] or "", one["id"])
                for one in message.invalid_tool_calls
            ),
        ]
        legacy = message.additional_kwargs.get("function_call")  # OpenAI's, before tools
        if isinstance(legacy, Mapping) and legacy.get("name"):
            calls = [*calls, ToolCall(str(legacy["name"]), str(legacy.get("arguments") or "{}"))]
    except (RecursionError, TypeError, ValueError) as error:
        raise MessageError(f"{where}: arguments of a tool call are no JSON: {error}") from error
    ids = {call.id for call in told if call.id is not None}
    names = {call.name for call in told}
    return told + [
        call for call in calls if (call.id not in ids if call.id else call.name not in names)
    ]


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
    except InternVLError:
        return block  # the model will refuse it, in a run that can be traced
    normal = _normal_part(parts[0], policy) if len(parts) == 1 else None
    return block if normal is None else normal


def _normal_part(part: Part | ToolCall, policy: MediaPolicy) -> dict[str, Any] | None:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Image():
            return _image_block(part, policy)
        case Video():
            return _video_block(part, policy)
        case Document(source):
            return _pdf_block(source, policy)
        case _:
            return None


def _is_normal(block: Mapping[str, Any]) -> bool:
    """Whether a block needs no reading: JSON, with its data or a public URL."""
    kind = block.get("type")
    if not isinstance(kind, str):
        return False
    if kind in {"image", "video", "file"}:
        if kind == "video" and "fingerprint" in block:
            return isinstance(block.get("path"), str)
        if "base64" in block:
            return "mime_type" in block and isinstance(block["base64"], str)
        if kind == "video" and isinstance(block.get("frames"), list):
            return all(isinstance(frame, dict) and _is_normal(frame) for frame in block["frames"])
        return str(block.get("url", "")).startswith(("http://", "https://"))
    return kind in {"text", "text-plain", "reasoning", "thinking", "tool_use", "tool_call"}


def _image_block(image: Image, policy: MediaPolicy) -> dict[str, Any]:
    block = {"type": "image", **_data(image.source, policy, "image/png")}
    if image.min_tiles is not None:
        block["min_tiles"] = image.min_tiles
    if image.max_tiles is not None:
        block["max_tiles"] = image.max_tiles
    return block


def _video_block(video: Video, policy: MediaPolicy, *, keep_path: bool = True) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "video"}
    if video.source is None:
        block["frames"] = [_image_block(frame, policy) for frame in video.frames]
    elif isinstance(video.source, PathSource) and keep_path:
        # Videos are large: a file stays where it is, and is told apart by its last change.
        block["path"] = video.source.check(policy.for_videos())
        block["fingerprint"] = list(video.source.fingerprint() or ())
    else:
        block |= _data(video.source, policy.for_videos(), "video/mp4")
    settings = {name: getattr(video, name) for name in ("max_tiles", "num_frames", "bound")}
    return block | {name: value for name, value in settings.items() if value is not None}


def _pdf_block(source: Source, policy: MediaPolicy) -> dict[str, Any]:
    data = _data(source, policy, "application/pdf")
    return {"type": "file", **data, "mime_type": "application/pdf"}


def _data(source: Source, policy: MediaPolicy, fallback: str) -> dict[str, Any]:
    if isinstance(source, UrlSource):
        return {"url": source.url}
    data = source.read(policy)
    return {
        "base64": base64.b64encode(data).decode("ascii"),
        # What is broken gets a type that lets LangChain trace it; decoding it says what is wrong.
        "mime_type": sniff_mime_type(data) or fallback,
    }
