"""Conversion of turns to OpenAI's messages.

Images precede the text of their message: servers move them there, or do not document the order.
Messages with images are lists of blocks, all others plain strings, which every server accepts.

Control strings are disarmed here, because the server does the tokenization. This happens after
the texts of a message are joined: a control string may span several of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from langchain_internvl.backends.server.images import image_url_of
from langchain_internvl.errors import PromptError
from langchain_internvl.messages.conversation import Image, Instruction, Text
from langchain_internvl.prompting.control_tokens import disarm, disarm_arguments

if TYPE_CHECKING:
    from langchain_internvl.messages.conversation import Turn


def images_of(turns: Sequence[Turn]) -> list[Image]:
    """The images of a conversation, in order."""
    return [part for turn in turns for part in turn.parts if isinstance(part, Image)]


def to_messages(
    turns: Sequence[Turn], fields: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """The messages of a conversation whose images are encoded already.

    Args:
        turns: The conversation.
        fields: Further fields of the `image_url` of each image, in order.

    Raises:
        PromptError: A message that may have no images (system or assistant) has one.
    """
    messages: list[dict[str, Any]] = []
    urls = _Urls(fields)
    for is_result, group in groupby(turns, key=lambda turn: turn.role == "tool"):
        written = [message for turn in group for message in _messages(turn, urls)]
        if is_result:  # all results of a round come first, then their images
            written.sort(key=lambda message: message["role"] != "tool")
        messages += written
    return messages


class _Urls:
    """Makes the `image_url` blocks of the images in order."""

    def __init__(self, fields: Sequence[Mapping[str, Any]]) -> None:
        self._fields = iter(fields)

    def block(self, image: Image) -> dict[str, Any]:
        fields = next(self._fields, {})
        return {"type": "image_url", "image_url": {"url": image_url_of(image), **fields}}


def _messages(turn: Turn, urls: _Urls) -> list[dict[str, Any]]:
    text = _text(turn)
    images = [part for part in turn.parts if isinstance(part, Image)]
    if turn.role == "user":
        return [{"role": "user", "content": _content(images, text, urls)}]
    if turn.role == "tool":  # its images go into a user message: tool messages are text only
        result = {"role": "tool", "tool_call_id": disarm(turn.tool_call_id or "0"), "content": text}
        shown = {"role": "user", "content": _content(images, "", urls)}
        return [result, shown] if images else [result]
    if images:
        raise PromptError(
            f"a server takes no images in {turn.role} messages; put them in a human message"
        )
    message: dict[str, Any] = {"role": turn.role, "content": text}
    if turn.tool_calls:
        message["tool_calls"] = [
            {
                "id": disarm(call.id or str(number)),
                "type": "function",
                "function": {
                    "name": disarm(call.name),
                    "arguments": disarm_arguments(call.arguments or "{}"),
                },
            }
            for number, call in enumerate(turn.tool_calls)
        ]
    return [message]


def _text(turn: Turn) -> str:
    """The text of a turn; texts before and after an image are on separate lines.

    Only instructions keep their control tokens.
    """
    said: list[Text | Instruction] = []
    after_image = False
    for part in turn.parts:
        if not isinstance(part, (Text, Instruction)):
            after_image = True
            continue
        is_glued = after_image and said and not said[-1].text.endswith("\n")
        if is_glued and not part.text.startswith("\n"):
            said.append(Text("\n"))
        said.append(part)
        after_image = False
    runs = ((kind, "".join(part.text for part in parts)) for kind, parts in groupby(said, key=type))
    return "".join(text if kind is Instruction else disarm(text) for kind, text in runs)


def _content(images: Sequence[Image], text: str, urls: _Urls) -> str | list[dict[str, Any]]:
    if not images:
        return text
    blocks = [urls.block(image) for image in images]
    return [*blocks, {"type": "text", "text": text}] if text else blocks
