"""Messages with media by reference, for caches and traces.

LangChain traces and caches messages before the model reads them. Megabytes of base64 would be in
every trace and cache key, and a path would be cached by its name even if the file changes. So local
media become blocks whose JSON has a hash of their bytes, and which carry the bytes as a Python
attribute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from langchain_core.messages import BaseMessage

from langchain_internvl.errors import InternVLError, MessageError
from langchain_internvl.media.images import sniff_mime_type
from langchain_internvl.media.media_store import MEDIA_STORE, PASSWORDS
from langchain_internvl.media.pixel_source import PixelSource
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.sources import (
    BytesSource,
    PathSource,
    Source,
    UrlSource,
)
from langchain_internvl.messages.blocks import MediaBlock, RefusedBlock, read_block
from langchain_internvl.messages.conversation import (
    Document,
    Image,
    Part,
    Text,
    TextFile,
    ToolCall,
    Video,
)
from langchain_internvl.messages.convert import blocks_of, place_of
from langchain_internvl.messages.text_files import read_text_file

_Content = list[str | dict[Any, Any]]


def normalise_messages(messages: Sequence[BaseMessage], policy: MediaPolicy) -> list[BaseMessage]:
    """Replace all local media in messages by references.

    Args:
        messages: Any messages; they are not changed.
        policy: Limits on files that are read.

    Returns:
        Messages with small JSON. Messages loaded from that JSON are usable in this process only,
        while the media are in its `MediaStore` (see `media.media_store`). Messages with only text
        and public URLs are returned as the same objects; the function is idempotent.

    Raises:
        MediaError: A file cannot be read, or exceeds a limit.
    """
    return [_normalise(message, number, policy) for number, message in enumerate(messages, 1)]


def _normalise(message: BaseMessage, number: int, policy: MediaPolicy) -> BaseMessage:
    if not isinstance(message, BaseMessage):
        raise MessageError(
            f"message {number} is an object of type {type(message).__name__}, not a message"
        )
    if isinstance(message.content, str):
        return message
    content: _Content = []
    changed = not isinstance(message.content, list)
    try:
        blocks = blocks_of(message, number)
    except MessageError as error:
        blocks = [RefusedBlock(error)]
    for index, block in enumerate(blocks, 1):
        new = _normal_block(block, place_of(message, number, index), policy)
        changed |= new is not block
        content.append(new)
    return message.model_copy(update={"content": content}) if changed else message


def _normal_block(
    block: str | dict[Any, Any], where: str, policy: MediaPolicy
) -> str | dict[Any, Any]:
    if isinstance(block, (str, MediaBlock, RefusedBlock)):
        return block
    try:
        parts = read_block(block, where)
        is_normal = block.get("type") in _NORMAL or len(parts) != 1
        if not is_normal and isinstance(parts[0], TextFile):
            parts = [read_text_file(parts[0], policy)]
    except InternVLError as error:
        # Raised within the run, so that the error is traced. Until then LangChain handles a plain
        # text block.
        return RefusedBlock(error)
    normal = None if is_normal else _normal_part(parts[0], policy)
    return _without_password(block) if normal is None else normal


def _without_password(block: dict[Any, Any]) -> dict[Any, Any]:
    """A block without a medium: a password has no effect on it, and is left out of traces.

    Arguments of tool calls, one level below, are the model's and stay as they are.
    """
    extras = block.get("extras")
    found = {key: value for key, value in block.items() if key != "password"}
    if isinstance(extras, dict) and "password" in extras:
        found["extras"] = {key: value for key, value in extras.items() if key != "password"}
    elif len(found) == len(block):
        return block
    return found


# Blocks whose JSON is small without changes.
_NORMAL = ("text", "text-plain", "reasoning", "thinking", "tool_use", "tool_call")


def _normal_part(part: Part | TextFile | ToolCall, policy: MediaPolicy) -> dict[str, Any] | None:
    match part:
        case Text(text, stands_alone=True):
            return {"type": "text-plain", "text": text, "mime_type": "text/plain"}
        case Text(text):
            return {"type": "text", "text": text}
        case Image():
            return _image(part, policy)[1]
        case Video():
            return _video(part, policy)
        case Document():
            known, held = _hold(part.source, policy, "application/pdf")
            fields = {**known, **_limits(part), "pages": part.pages}
            if part.password is not None:  # never itself in a trace
                fields["password_id"] = PASSWORDS.hold(part.password)
            return MediaBlock(replace(part, source=held), type="file", **fields)
        case _:
            return None


def _image(image: Image, policy: MediaPolicy) -> tuple[Image, MediaBlock]:
    known, held = _hold(image.source, policy, "image/png")
    part = replace(image, source=held)
    return part, MediaBlock(part, type="image", **known, **_limits(image))


def _limits(part: Image | Document) -> dict[str, int | None]:
    return {"min_tiles": part.min_tiles, "max_tiles": part.max_tiles}


def _video(video: Video, policy: MediaPolicy) -> MediaBlock:
    if video.source is None:
        frames = [_image(frame, policy) for frame in video.frames]
        shown = replace(video, frames=tuple(frame for frame, _ in frames))
        blocks = [block for _, block in frames]
        return MediaBlock(shown, type="video", frames=blocks, **video.settings)
    known, source = _hold(video.source, policy.for_videos(), "video/mp4", is_large=True)
    return MediaBlock(replace(video, source=source), type="video", **known, **video.settings)


def _hold(
    source: Source, policy: MediaPolicy, fallback: str, *, is_large: bool = False
) -> tuple[dict[str, Any], Source]:
    """The JSON fields that identify a medium, and an immutable source of its bytes."""
    if isinstance(source, UrlSource):
        return {"url": source.url}, source
    if is_large and isinstance(source, PathSource):
        # The file is not copied; its modification time is part of the key.
        path = source.check(policy)
        state = list(source.fingerprint() or ())
        return {"path": path, "state": state}, PathSource(Path(path))
    data = source.read(policy)
    held = BytesSource(data, source.name)
    known = {
        "id": MEDIA_STORE.hold(data, held.sha256),
        "mime_type": sniff_mime_type(data, held.jpeg_scans) or fallback,
        "size": len(data),
    }
    if isinstance(source, PixelSource) and len(data) > policy.max_bytes:
        # Limits on bytes do not apply to pixels in memory, whose PNG may be larger.
        with source.decoded(policy) as image:
            return known, PixelSource(image.copy(), source.name)
    return known, held
