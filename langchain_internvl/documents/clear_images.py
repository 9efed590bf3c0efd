"""Middleware for agents: old images of a long conversation become their captions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables.config import run_in_executor

from langchain_internvl.documents.image_captions import (
    ImageCaptions,
    image_places,
    replace_images,
)
from langchain_internvl.errors import RequestError
from langchain_internvl.tools.task_prompts import DESCRIBE


class ClearImagesMiddleware(AgentMiddleware):
    """Shows the model captions instead of old images once a conversation is long.

    Each call of the model is counted exactly (`get_num_tokens_from_messages`, images included).
    Over `trigger_tokens`, the oldest images become text such as "[Image 1: A red circle.]", one
    after the other, until the call is within the limit; the newest `keep` stay. The agent's state
    is not changed: handles such as `image:1` still name the images, so tools can look again.

    Args:
        llm: The model that describes images and counts tokens: a `ChatInternVL`.
        trigger_tokens: Tokens of a call from which images are replaced.
        keep: Newest images that stay whatever the count.
        prompt: The question for a caption.
        max_caption_tokens: Most tokens of a caption.

    Raises:
        RequestError: A number is out of range.

    Example:
        ```python
        from langchain.agents import create_agent
        from langchain_internvl.documents import ClearImagesMiddleware

        llm = ChatInternVL(model="OpenGVLab/InternVL3-8B")
        clear = ClearImagesMiddleware(llm, trigger_tokens=6000)
        agent = create_agent(llm, tools, middleware=[clear])
        ```
    """

    def __init__(
        self,
        llm: BaseChatModel,
        *,
        trigger_tokens: int,
        keep: int = 1,
        prompt: str = DESCRIBE,
        max_caption_tokens: int = 100,
    ) -> None:
        super().__init__()
        if trigger_tokens < 1 or keep < 0:
            raise RequestError("trigger_tokens is at least 1, and keep at least 0")
        self._llm = llm
        self._trigger = trigger_tokens
        self._keep = keep
        self._captions = ImageCaptions(llm, prompt, max_caption_tokens)

    def wrap_model_call(
        self, request: ModelRequest, handler: Callable[[ModelRequest], ModelResponse]
    ) -> ModelResponse:
        """Replace old images, if the call is over the limit."""
        messages: list[BaseMessage] = list(request.messages)
        captions: dict[tuple[int, int], str] = {}
        for number, place in self._replaceable(messages):
            if self._fits(request, replace_images(messages, captions)):
                break
            captions[place] = _shown(number, self._captions.of(_block(messages, place)))
        return handler(_with(request, messages, captions))

    async def awrap_model_call(
        self, request: ModelRequest, handler: Callable[[ModelRequest], Awaitable[ModelResponse]]
    ) -> ModelResponse:
        """Replace old images without blocking the event loop; see `wrap_model_call`."""
        messages: list[BaseMessage] = list(request.messages)
        captions: dict[tuple[int, int], str] = {}
        for number, place in self._replaceable(messages):
            shown = replace_images(messages, captions)
            if await run_in_executor(None, self._fits, request, shown):
                break
            caption = await self._captions.aof(_block(messages, place))
            captions[place] = _shown(number, caption)
        return await handler(_with(request, messages, captions))

    def _replaceable(self, messages: list[BaseMessage]) -> list[tuple[int, tuple[int, int]]]:
        """Images that may be replaced: their numbers from 1, and their places."""
        places = list(enumerate(image_places(messages), 1))
        return places[: len(places) - self._keep] if self._keep else places

    def _fits(self, request: ModelRequest, messages: list[BaseMessage]) -> bool:
        system = [] if request.system_message is None else [request.system_message]
        counted = self._llm.get_num_tokens_from_messages(
            [*system, *messages], tools=request.tools or None
        )
        return counted <= self._trigger


def _block(messages: list[BaseMessage], place: tuple[int, int]) -> dict[str, Any]:
    content = messages[place[0]].content
    block = content[place[1]]
    assert isinstance(block, dict)  # noqa: S101 - it is an image block
    return block


def _shown(number: int, caption: str) -> str:
    return f"[Image {number}: {caption}]"


def _with(
    request: ModelRequest, messages: list[BaseMessage], captions: dict[tuple[int, int], str]
) -> ModelRequest:
    if not captions:
        return request
    shown: list[Any] = replace_images(messages, captions)
    return request.override(messages=shown)
