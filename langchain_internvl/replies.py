"""What a backend says, as LangChain's chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGenerationChunk

from langchain_internvl.backends.base import NO_TOKEN
from langchain_internvl.reasoning import ThoughtStream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_internvl.backends.base import Delta, Usage

PROVIDER = "internvl"


class ChunkMaker:
    """Makes LangChain chunks of one reply.

    Usage, the name of the model and the finish reason are in the last chunk only: merging adds
    up what several chunks say.

    Args:
        model: Name of the model.
        prompt_tokens: Number of tokens of the prompt.
        token_bytes: The bytes of each token id, for log probabilities.
    """

    def __init__(self, model: str, prompt_tokens: int, token_bytes: Mapping[int, bytes]) -> None:
        self._model = model
        self._prompt_tokens = prompt_tokens
        self._token_bytes = token_bytes
        self._tokens = 0
        self._thinking_tokens = 0
        self._thoughts = ThoughtStream()

    def add(self, delta: Delta) -> list[ChatGenerationChunk]:
        """The chunk of the next delta; none, if it has nothing to say yet."""
        self._tokens += delta.token_id != NO_TOKEN
        ends = delta.finish_reason is not None
        was_thinking = self._thoughts.is_thinking
        thoughts, text = self._thoughts.push(delta.text, last=ends)
        if was_thinking or thoughts or self._thoughts.is_thinking:
            self._thinking_tokens = self._tokens
        metadata: dict[str, Any] = {}
        usage = None
        if delta.logprob is not None:
            metadata["logprobs"] = {"content": [self._logprob(delta)]}
        elif delta.told_logprobs:
            metadata["logprobs"] = {"content": list(delta.told_logprobs)}
        if ends:
            metadata["finish_reason"] = delta.finish_reason
            metadata["model_name"] = self._model
            metadata["model_provider"] = PROVIDER
            usage = self._usage(delta.usage)
            if self._thinking_tokens:
                usage["output_token_details"] = {"reasoning": self._thinking_tokens}
        if not (text or thoughts or metadata):
            return []
        message = AIMessageChunk(
            content=text,
            # LangChain shows it as a reasoning block in `content_blocks`.
            additional_kwargs={"reasoning_content": thoughts} if thoughts else {},
            response_metadata=metadata,
            usage_metadata=usage,
            chunk_position="last" if usage else None,
        )
        return [ChatGenerationChunk(message=message)]

    def _usage(self, told: Usage | None) -> UsageMetadata:
        """What we counted; where the engine does not tell its tokens, what it counted."""
        prompt, reply = self._prompt_tokens, self._tokens
        if told is not None:
            prompt, reply = prompt or told.prompt_tokens, reply or told.completion_tokens
        usage = UsageMetadata(input_tokens=prompt, output_tokens=reply, total_tokens=prompt + reply)
        if told is not None and told.cached_tokens:
            usage["input_token_details"] = {"cache_read": told.cached_tokens}
        return usage

    def _logprob(self, delta: Delta) -> dict[str, Any]:
        """One token in the shape of OpenAI's `logprobs.content`."""
        likeliest = [self._entry(top.token_id, top.logprob) for top in delta.top_logprobs]
        return {**self._entry(delta.token_id, delta.logprob), "top_logprobs": likeliest}

    def _entry(self, token_id: int, logprob: float | None) -> dict[str, Any]:
        data = self._token_bytes.get(token_id, b"")
        return {"token": data.decode("utf-8", "replace"), "bytes": list(data), "logprob": logprob}
