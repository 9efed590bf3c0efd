"""Finds the images of messages, captions them and replaces them, for `ClearImagesMiddleware`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import run_in_executor

from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.sources import UrlSource
from langchain_internvl.messages.blocks import read_block
from langchain_internvl.messages.conversation import Image
from langchain_internvl.messages.numbered_media import Place, numbered_media
from langchain_internvl.tools.inner_runs import inner_config


def image_places(messages: Sequence[BaseMessage]) -> list[tuple[int, Place]]:
    """Numbers of images, as in handles such as `image:1`, and their positions, oldest first.

    Images that cannot be read keep their numbers and are left out.
    """
    found = numbered_media(messages, "image", Image)
    return [(number, place) for number, (place, one) in enumerate(found, 1) if one is not None]


def replace_images(
    messages: Sequence[BaseMessage], captions: dict[Place, str]
) -> list[BaseMessage]:
    """Copies of messages in which some images are replaced by captions.

    Args:
        messages: The messages; they are not modified.
        captions: Text by position, as `image_places` returns positions.
    """
    replaced = []
    for at, message in enumerate(messages):
        own = {number: text for (place, number), text in captions.items() if place == at}
        if own:
            blocks = [
                {"type": "text", "text": own[number]} if number in own else block
                for number, block in enumerate(message.content)
            ]
            message = message.model_copy(update={"content": blocks})  # noqa: PLW2901
        replaced.append(message)
    return replaced


class ImageCaptions:
    """Captions of images by a model, in a bounded cache: each is generated once.

    Args:
        llm: The model that writes captions: a `ChatInternVL`.
        prompt: The prompt for each image.
        max_tokens: Most tokens of a caption.
        most_kept: Size of the cache, in captions; the oldest caption is dropped first.
    """

    def __init__(
        self, llm: BaseChatModel, prompt: str, max_tokens: int, most_kept: int = 1024
    ) -> None:
        self._llm = llm
        self._policy: MediaPolicy = getattr(llm, "media_policy", None) or MediaPolicy()
        self._prompt = prompt
        self._settings: dict[str, Any] = {"max_tokens": max_tokens}
        self._most = most_kept
        self._kept: dict[str, str] = {}

    def of(self, block: dict[str, Any]) -> str:
        """The caption of an image block."""
        key = _key(block, self._policy)
        if key not in self._kept:
            reply = self._llm.invoke(self._question(block), _config(), **self._settings)
            self._keep(key, reply.text)
        return self._kept[key]

    async def aof(self, block: dict[str, Any]) -> str:
        """The caption of an image block, without blocking the event loop."""
        key = await run_in_executor(None, _key, block, self._policy)  # reads and hashes a file
        if key not in self._kept:
            reply = await self._llm.ainvoke(self._question(block), _config(), **self._settings)
            self._keep(key, reply.text)
        return self._kept[key]

    def _question(self, block: dict[str, Any]) -> list[HumanMessage]:
        return [HumanMessage([block, {"type": "text", "text": self._prompt}])]

    def _keep(self, key: str, text: str) -> None:
        self._kept[key] = " ".join(text.split())
        while len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]


def _config() -> RunnableConfig:
    """The config of a request for a caption, which is no answer of the agent."""
    return inner_config(None, "internvl_caption")


def _key(block: dict[str, Any], policy: MediaPolicy) -> str:
    """Identifies an image by its bytes or its URL, and by its limits of tiles.

    Not by the block: one of an object in memory has an address, which another may have later, and
    one from a trace differs in its `id` alone.
    """
    (image,) = read_block(block, "the image")
    assert isinstance(image, Image)  # noqa: S101 - see `image_places`
    source = image.source
    data = source.url.encode() if isinstance(source, UrlSource) else source.read(policy)
    tiles = f"{image.min_tiles}-{image.max_tiles}"
    return f"{hashlib.sha256(data).hexdigest()} {tiles}"
