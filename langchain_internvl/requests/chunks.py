"""Conversion of a backend's deltas to LangChain message chunks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import ToolCallChunk, tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from langchain_internvl.backends.base import NO_TOKEN
from langchain_internvl.errors import BackendError
from langchain_internvl.reply_text.channels import ChannelStream
from langchain_internvl.reply_text.finish_reasons import advice_about
from langchain_internvl.reply_text.reasoning import ThoughtStream

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from langchain_internvl.backends.base import Choice, Delta, Usage
    from langchain_internvl.prompting.reply_ids import ReplyIds
    from langchain_internvl.reply_text.channels import Channels
    from langchain_internvl.tool_calling.call_stream import CallPiece, CallStream

PROVIDER = "internvl"


class ChunkMaker:
    """Converts the deltas of one reply to LangChain chunks.

    Usage, model name and finish reason are in the last chunk only, because merging adds up the
    values of several chunks.

    Args:
        model: Name of the model.
        prompt_tokens: Number of tokens of the prompt.
        token_bytes: Bytes of each token id, for log probabilities.
        calls: Parser of tool calls in the answer; None: no tool calls.
        choices: Candidate replies; empty: free generation.
        channels: Delimiters of the channels of the reply; None: no channels.
        replies: Keeps the token ids of the complete reply; None: not kept.
        stop_ids: Tokens that end a reply and are no part of it.

    Attributes:
        is_done: Whether the reply is complete, even if the backend continues.
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
        replies: ReplyIds | None = None,
        stop_ids: Iterable[int] = (),
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
        # LangChain's own id is not known here while a reply streams.
        self._message_id = f"internvl-{uuid4().hex}"
        self._replies = replies
        self._no_ids = {NO_TOKEN, *stop_ids}
        self._ids: list[int] = []

    def add(self, delta: Delta) -> list[ChatGenerationChunk]:
        """The chunks of the next delta; empty if it adds nothing yet."""
        self._tokens += delta.token_id != NO_TOKEN
        self._ids += {delta.token_id} - self._no_ids
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
        elif delta.openai_logprobs:
            metadata["logprobs"] = {"content": list(delta.openai_logprobs)}
        if self.is_done:
            self._keep_ids()
            metadata["finish_reason"] = reason
            metadata["model_name"] = self._model
            if self._choices:
                metadata["choices"] = self._weigh(delta)
            metadata["model_provider"] = PROVIDER
            usage = self._usage(delta.usage)
            if usage is not None and self._thinking_tokens:
                usage["output_token_details"] = {"reasoning": self._thinking_tokens}
        parts = self._parts(text, thoughts, pieces)
        if (metadata and not parts) or (pieces and self.is_done):
            parts.append(AIMessageChunk(content="", id=self._message_id))
        if parts:
            parts[-1].response_metadata = metadata
            parts[-1].usage_metadata = usage
            parts[-1].chunk_position = "last" if self.is_done else None
        return [ChatGenerationChunk(message=one) for one in parts]

    def _parts(self, text: str, thoughts: str, pieces: Sequence[CallPiece]) -> list[AIMessageChunk]:
        """Text and thoughts, and pieces of calls, in messages of their own.

        The content blocks of a message with text, and of the last one, have its calls as if they
        were complete.
        """
        parts = []
        if text or thoughts:
            # LangChain converts it to a reasoning block in `content_blocks`.
            more = {"reasoning_content": thoughts} if thoughts else {}
            parts.append(AIMessageChunk(content=text, id=self._message_id, additional_kwargs=more))
        if pieces:
            calls = to_call_chunks(pieces, self._call_ids)
            parts.append(AIMessageChunk(content="", id=self._message_id, tool_call_chunks=calls))
        return parts

    def _keep_ids(self) -> None:
        """Keep the token ids for the prompts of later turns."""
        if self._replies is not None:
            self._replies.keep(self._message_id, self._ids)

    def _weigh(self, delta: Delta) -> dict[str, float]:
        """The probabilities of the choices, normalised to a sum of 1.

        Raises:
            BackendError: The backend returned no probabilities of choices.
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

    def _usage(self, reported: Usage | None) -> UsageMetadata | None:
        """Token counts of this package, or of the engine if it reports no token ids.

        None: unknown, for example if a text reply of a server was cut at a stop string.
        """
        prompt, reply = self._prompt_tokens, self._tokens
        if reported is not None:
            prompt, reply = prompt or reported.prompt_tokens, reply or reported.completion_tokens
        if not (prompt or reply):
            return None
        usage = UsageMetadata(input_tokens=prompt, output_tokens=reply, total_tokens=prompt + reply)
        if reported is not None and reported.cached_tokens:
            usage["input_token_details"] = {"cache_read": reported.cached_tokens}
        return usage

    def _logprob(self, delta: Delta) -> dict[str, Any]:
        """One token in the format of OpenAI's `logprobs.content`."""
        likeliest = [self._entry(top.token_id, top.logprob) for top in delta.top_logprobs]
        return {**self._entry(delta.token_id, delta.logprob), "top_logprobs": likeliest}

    def _entry(self, token_id: int, logprob: float | None) -> dict[str, Any]:
        data = self._token_bytes.get(token_id, b"")
        return {"token": data.decode("utf-8", "replace"), "bytes": list(data), "logprob": logprob}


def with_content_blocks(chunk: ChatGenerationChunk) -> ChatGenerationChunk:
    """A chunk whose content is a list of standard blocks (`output_version="v1"`).

    LangChain merges blocks by their index, and numbers those of text and thoughts from 0 itself, as
    calls are numbered: the arguments of the first call became fields of the first block. Here the
    indices of calls are texts, which are in nobody else's way.

    Args:
        chunk: The chunk, whose content is a text.
    """
    message = chunk.message
    blocks: list[Any] = message.content_blocks
    for block in blocks:
        if block["type"] == "tool_call_chunk":
            block["index"] = f"lc_tc_{block['index']}"
    metadata = {**message.response_metadata, "output_version": "v1"}
    content = {"content": blocks, "response_metadata": metadata}
    return ChatGenerationChunk(message=message.model_copy(update=content))


def to_call_chunks(pieces: Iterable[CallPiece], ids: Sequence[str] = ()) -> list[ToolCallChunk]:
    """Convert pieces of calls to chunks for LangChain's merging: at most one chunk of each call.

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
    """The complete reply with an error message in each of its invalid tool calls."""
    for generation in result.generations:
        message = generation.message
        if isinstance(message, AIMessage):
            reason = message.response_metadata.get("finish_reason")
            why = advice_about(reason) or "malformed"
            for call in message.invalid_tool_calls:
                call["error"] = f"The call is {why}."
    return result
