"""Prompts, token ids and exact counts, without the weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import BaseMessage
from typing_extensions import override

from langchain_internvl.chat_models.base import PreparedModel


class PromptMethods(PreparedModel):
    """Methods that return the exact prompt of messages and its token count."""

    def render(self, messages: LanguageModelInput, *, expand: bool = False, **kwargs: Any) -> str:
        """The exact prompt of messages, as text.

        Args:
            messages: As for `invoke`.
            expand: Write every context token of every image; False: `<image>` for each image.
            **kwargs: Settings of this call, tools too.
        """
        renderer = self._renderer(*self._read_call(kwargs))
        return renderer.to_text(renderer.prompt(self._turns(messages)), expand=expand)

    def prompt_ids(self, messages: LanguageModelInput, **kwargs: Any) -> list[int]:
        """The exact token ids of messages, images included.

        Args:
            messages: As for `invoke`.
            **kwargs: Settings of this call, tools too.
        """
        renderer = self._renderer(*self._read_call(kwargs))
        return renderer.to_ids(renderer.prompt(self._turns(messages)))

    @override
    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """The exact number of prompt tokens of messages, images and tools included."""
        # trim_messages also counts an empty list.
        return len(self.prompt_ids(messages, tools=tools)) if messages else 0

    @override
    def get_token_ids(self, text: str) -> list[int]:
        """The token ids of a text as they are in the middle of a message.

        `custom_get_token_ids`, if given, is used instead of the tokenizer.
        """
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        return self._renderer(self).tokenizer.encode_text(text)

    def get_text(self, token_ids: Sequence[int]) -> str:
        """The text of the token ids of a prompt or a reply, without special tokens."""
        table = self._renderer(self).tokenizer.token_bytes
        return b"".join(table.get(one, b"") for one in token_ids).decode("utf-8", "replace")
