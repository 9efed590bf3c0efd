"""What a backend says, as LangChain's chunks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import ToolCallChunk, tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from langchain_internvl.backends.base import NO_TOKEN
from langchain_internvl.errors import BackendError
from langchain_internvl.reply_text.channels import ChannelStream
from langchain_internvl.reply_text.reasoning import ThoughtStream

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from langchain_internvl.backends.base import Choice, Delta, Usage
    from langchain_internvl.reply_text.channels import Channels
    from langchain_internvl.tool_calling.call_stream import CallPiece, CallStream

PROVIDER = "internvl"


class ChunkMaker:
    """Makes LangChain chunks of one reply.

    Usage, the name of the model and the finish reason are in the last chunk only: merging adds
    up what several chunks say.

    Args:
        model: Name of the model.
        prompt_tokens: Number of tokens of the prompt.
        token_bytes: The bytes of each token id, for log probabilities.
        calls: Finds calls of tools in the answer; None: there can be none.
        choices: Of which the reply is one; none: it is free.
        channels: The marks of the channels that it is written in; None: it has none.

    Attributes:
        is_done: Whether the reply is complete, though the backend may go on.
    """

    def __init__(
        self,
        model: str,
        prompt_tokens: int,
        token_bytes: Mapping[int, bytes],
        calls: CallStream | None = None,
        choices: Sequence[Choice] = (),
        *,
        channels: Channels | None = None,
    ) -> None:
        self.is_done = False
        self._model = model
        self._prompt_tokens = prompt_tokens
        self._token_bytes = token_bytes
        self._tokens = 0
        self._thinking_tokens = 0
        self._thoughts = ThoughtStream() if channels is None else ChannelStream(channels)
        self._calls = calls
        self._call_ids: tuple[str, ...] = ()
        self._choices = choices

    def add(self, delta: Delta) -> list[ChatGenerationChunk]:
        """The chunk of the next delta; none, if it has nothing to say yet."""
        self._tokens += delta.token_id != NO_TOKEN
        reason = delta.finish_reason
        was_thinking = self._thoughts.is_thinking
        thoughts, text = self._thoughts.push(delta.text, last=reason is not None)
        if was_thinking or thoughts or self._thoughts.is_thinking:
            self._thinking_tokens = self._tokens
        pieces: list[CallPiece] = []
        self._call_ids = self._call_ids or delta.call_ids
        if self._calls is not None:
            text, pieces = self._calls.push(text, last=reason is not None)
            reason = "stop" if self._calls.is_stopped else reason
        self.is_done = reason is not None
        metadata: dict[str, Any] = {}
        usage: UsageMetadata | None = None
        if delta.logprob is not None:
            metadata["logprobs"] = {"content": [self._logprob(delta)]}
        elif delta.told_logprobs:
            metadata["logprobs"] = {"content": list(delta.told_logprobs)}
        if self.is_done:
            metadata["finish_reason"] = reason
            metadata["model_name"] = self._model
            if self._choices:
                metadata["choices"] = self._weigh(delta)
            metadata["model_provider"] = PROVIDER
            usage = self._usage(delta.usage)
            if usage is not None and self._thinking_tokens:
                usage["output_token_details"] = {"reasoning": self._thinking_tokens}
        if not (text or thoughts or pieces or metadata):
            return []
        message = AIMessageChunk(
            content=text,
            # LangChain shows it as a reasoning block in `content_blocks`.
            additional_kwargs={"reasoning_content": thoughts} if thoughts else {},
            tool_call_chunks=to_call_chunks(pieces, self._call_ids),
            response_metadata=metadata,
            usage_metadata=usage,
            chunk_position="last" if self.is_done else None,
        )
        return [ChatGenerationChunk(message=message)]

    def _weigh(self, delta: Delta) -> dict[str, float]:
        """The probabilities of the choices: what the model gives to each, of what it gives to all.

        Raises:
            BackendError: The backend has not weighed them.
        """
        weights = delta.choice_logprobs
        if len(weights) != len(self._choices):
            raise BackendError("this backend cannot weigh choices; use backend='transformers'")
        best = max(weights)
        self._tokens = len(self._choices[weights.index(best)].ids)
        shares = [math.exp(weight - best) for weight in weights]
        return {
            choice.text: share / sum(shares)
            for choice, share in zip(self._choices, shares, strict=True)
        }

    def _usage(self, told: Usage | None) -> UsageMetadata | None:
        """What we counted; where the engine does not tell its tokens, what it counted.

        None: nobody has counted, as where a reply of words was cut here.
        """
        prompt, reply = self._prompt_tokens, self._tokens
        if told is not None:
            prompt, reply = prompt or told.prompt_tokens, reply or told.completion_tokens
        if not (prompt or reply):
            return None
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


def to_call_chunks(pieces: Iterable[CallPiece], ids: Sequence[str] = ()) -> list[ToolCallChunk]:
    """Pieces of calls, as LangChain puts them together: one chunk of each call at a time.

    Args:
        pieces: The pieces.
        ids: The backend's own ids of the calls, which replace those of the pieces.
    """
    chunks: dict[int, ToolCallChunk] = {}
    for one in pieces:
        if one.index in chunks:
            chunks[one.index]["args"] = (chunks[one.index]["args"] or "") + one.arguments
        else:
            own = ids[one.index] if one.id and one.index < len(ids) else ""
            chunks[one.index] = tool_call_chunk(
                name=one.name, args=one.arguments, id=own or one.id, index=one.index
            )
    return list(chunks.values())


def explain_invalid_calls(result: ChatResult) -> ChatResult:
    """The same whole reply, whose invalid calls say what is wrong with them."""
    for generation in result.generations:
        message = generation.message
        if isinstance(message, AIMessage):
            reason = message.response_metadata.get("finish_reason")
            why = "cut off: raise max_tokens" if reason == "length" else "malformed"
            for call in message.invalid_tool_calls:
                call["error"] = f"The call is {why}."
    return result
