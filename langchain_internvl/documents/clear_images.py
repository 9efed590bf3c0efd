"""Agent middleware that replaces the old images of a long conversation by captions."""

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
from langchain_internvl.errors import RequestError, check_chat_model
from langchain_internvl.tools.task_prompts import DESCRIBE


class ClearImagesMiddleware(AgentMiddleware):
    """Replaces old images by captions in the model's requests once a conversation is long.

    The tokens of each request are counted exactly (`get_num_tokens_from_messages`, images
    included). Above `trigger_tokens`, the oldest images become text such as "[Image 1: A red
    circle.]", one by one, until the request fits; the newest `keep` images stay. The agent's
    state does not change: handles such as `image:1` still name the images, so tools can open them.

    Args:
        llm: The model that writes captions and counts tokens: a `ChatInternVL`.
        trigger_tokens: Number of prompt tokens above which images are replaced.
        keep: Number of newest images that are never replaced.
        prompt: The prompt for a caption.
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
        check_chat_model(llm)
        if trigger_tokens < 1 or keep < 0:
            raise RequestError("trigger_tokens is at least 1, and keep at least 0")
        self._llm = llm
        self._trigger = trigger_tokens
        self._keep = keep
        self._captions = ImageCaptions(llm, prompt, max_caption_tokens)

    def wrap_model_call(
        self, request: ModelRequest, handler: Callable[[ModelRequest], ModelResponse]
    ) -> ModelResponse:
        """Replace old images, if the request is over the limit."""
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
        for number, place in await run_in_executor(None, self._replaceable, messages):
            shown = replace_images(messages, captions)
            if await run_in_executor(None, self._fits, request, shown):
                break
            caption = await self._captions.aof(_block(messages, place))
            captions[place] = _shown(number, caption)
        return await handler(_with(request, messages, captions))

    def _replaceable(self, messages: list[BaseMessage]) -> list[tuple[int, tuple[int, int]]]:
        """Images that may be replaced: number from 1, and (message index, block index)."""
        places = image_places(messages)
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
