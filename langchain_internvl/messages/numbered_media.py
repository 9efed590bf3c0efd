"""Numbers the images and videos of a conversation, as handles such as `image:1` do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, TypeVar

from langchain_core.messages import BaseMessage

from langchain_internvl.errors import InternVLError
from langchain_internvl.messages.blocks import read_block
from langchain_internvl.messages.conversation import Image, LostMedia, Video
from langchain_internvl.messages.convert import place_of

Medium = TypeVar("Medium", Image, Video)
Place: TypeAlias = "tuple[int, int]"
"""Index of a message, and index of a block in its content, from 0."""


def numbered_media(
    messages: Sequence[BaseMessage], kind: str, type_: type[Medium]
) -> list[tuple[Place, Medium | None]]:
    """The images or videos of messages, in order; the first has number 1.

    Media that only another provider can read, or whose bytes were not stored, are None but keep
    their number. Other media are not counted, PDF pages included.

    Args:
        messages: The messages of a conversation.
        kind: "image" or "video".
        type_: The class of `kind`.
    """
    found: list[tuple[Place, Medium | None]] = []
    for at, message in enumerate(messages):
        content = [] if isinstance(message.content, str) else message.content
        for index, block in enumerate(content):
            place = at, index
            try:
                items = read_block(block, place_of(message, at + 1, index + 1))
            except InternVLError:
                if isinstance(block, Mapping) and kind in str(block.get("type")):
                    found.append((place, None))
                continue
            for item in items:
                if isinstance(item, type_):
                    found.append((place, item))
                elif isinstance(item, LostMedia) and item.kind == kind:
                    found.append((place, None))
    return found
